//! RSASSA-PSS with the two salts that TPMs make; no library of the house verifies the longer.
//!
//! The TPM 2.0 Library (Part 1, annex B.7) tells a TPM to use the longest salt unless it follows
//! FIPS 186, where the salt is as long as the digest; so genuine TPMs make either. Only public
//! values are handled here: nothing has to take a constant time.
//!
//! Every other salt length is refused, as no TPM makes one.

use crate::crypto;
use crate::digest::HashAlgorithm;

/// Whether `signature` is one over `message` with a salt as long as the digest, or of
/// emLen − hLen − 2 bytes (RFC 8017 §8.1.2 and §9.1.2).
pub(crate) fn verifies(
    hash: HashAlgorithm,
    modulus: &[u8],
    exponent: u64,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let whole = modulus.first().is_some_and(|top| top & 0x80 != 0) && modulus.len() <= MAX_MODULUS;
    if !whole || !modulus.len().is_multiple_of(8) || signature.len() != modulus.len() {
        return false;
    }
    power(signature, exponent, modulus)
        .and_then(|encoded| is_encoding_of(hash, message, &encoded))
        .unwrap_or(false)
}

/// EMSA-PSS-VERIFY where emBits is one less than a multiple of eight.
fn is_encoding_of(hash: HashAlgorithm, message: &[u8], encoded: &[u8]) -> Option<bool> {
    let (masked, rest) = encoded.split_at_checked(encoded.len().checked_sub(hash.size() + 1)?)?;
    let (seed, trailer) = rest.split_at_checked(hash.size())?;
    let mut block = masked.to_vec();
    for (counter, part) in (0u32..).zip(block.chunks_mut(hash.size())) {
        let mask = crypto::hash(hash, &[seed, &counter.to_be_bytes()])?;
        part.iter_mut().zip(mask.as_bytes()).for_each(|(byte, mask)| *byte ^= mask);
    }
    // emBits cuts the top bit off: it is clear before the mask and ignored behind it.
    let unused = masked.first()? & 0x80;
    block.iter_mut().take(1).for_each(|first| *first &= 0x7f);
    let padding = block.iter().position(|&byte| byte != 0)?;
    let (end, salt) = block.get(padding..)?.split_first()?;
    let digest = crypto::hash(hash, &[message])?;
    let expected = crypto::hash(hash, &[&[0; 8], digest.as_bytes(), salt])?;
    Some(
        trailer == [0xbc]
            && unused == 0
            && *end == 0x01
            && (padding == 0 || salt.len() == hash.size())
            && seed == expected.as_bytes(),
    )
}

/// base^exponent mod modulus, big-endian; nothing if the base is not below the modulus or the
/// modulus is even.
fn power(base: &[u8], exponent: u64, modulus: &[u8]) -> Option<Vec<u8>> {
    let field = Montgomery::new(limbs(modulus))?;
    let base = limbs(base);
    if !is_below(&base, &field.modulus) || exponent == 0 {
        return None;
    }
    let base = field.multiply(&base, &field.square);
    let mut result = base.clone();
    // The highest bit is the first factor; each further bit squares, and multiplies if it is set.
    for bit in (0..exponent.ilog2()).rev() {
        result = field.multiply(&result, &result);
        if exponent >> bit & 1 == 1 {
            result = field.multiply(&result, &base);
        }
    }
    let mut one = vec![0; field.modulus.len()];
    one.first_mut().into_iter().for_each(|limb| *limb = 1);
    let plain = field.multiply(&result, &one);
    Some(plain.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect())
}

/// Multiplication modulo an odd number without division (Montgomery, 1985). Limbs are little-endian.
struct Montgomery {
    modulus: Vec<u64>,
    /// −modulus⁻¹ mod 2⁶⁴.
    inverse: u64,
    /// R² mod modulus, R being 2 to the number of bits.
    square: Vec<u64>,
}

impl Montgomery {
    fn new(modulus: Vec<u64>) -> Option<Montgomery> {
        let low = *modulus.first()?;
        if low & 1 == 0 {
            return None;
        }
        // Newton: each step doubles the number of right bits, and an odd number is its own inverse
        // modulo 8.
        let mut inverse = low;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(low.wrapping_mul(inverse)));
        }
        // R − modulus is R mod modulus, because the top bit is set. With n limbs, n doublings give
        // 2ⁿ·R, and six squarings (2ˣ·R to 2²ˣ·R) then 2⁶⁴ⁿ·R, which is R².
        let mut square: Vec<u64> = modulus.iter().map(|limb| !limb).collect();
        add_one(&mut square);
        for _ in 0..modulus.len() {
            double(&mut square, &modulus);
        }
        let mut field = Montgomery { modulus, inverse: inverse.wrapping_neg(), square };
        for _ in 0..6 {
            field.square = field.multiply(&field.square, &field.square);
        }
        Some(field)
    }

    /// left · right / R mod modulus.
    fn multiply(&self, left: &[u64], right: &[u64]) -> Vec<u64> {
        let mut sum = vec![0; self.modulus.len() + 2];
        for &limb in left {
            add_product(&mut sum, limb, right);
            let low = sum.first().copied().unwrap_or(0);
            add_product(&mut sum, low.wrapping_mul(self.inverse), &self.modulus);
            // The lowest limb is zero now.
            sum.rotate_left(1);
        }
        let over = sum.iter().skip(self.modulus.len()).any(|&limb| limb != 0);
        sum.truncate(self.modulus.len());
        if over || !is_below(&sum, &self.modulus) {
            subtract(&mut sum, &self.modulus);
        }
        sum
    }
}

/// sum += factor · number; the sum is wide enough for the carry.
fn add_product(sum: &mut [u64], factor: u64, number: &[u64]) {
    let mut carry = 0;
    for (place, &limb) in sum.iter_mut().zip(number.iter().chain(&[0, 0])) {
        let wide = u128::from(factor) * u128::from(limb) + u128::from(*place) + u128::from(carry);
        (*place, carry) = halves(wide);
    }
}

fn add_one(number: &mut [u64]) {
    for limb in number {
        let (next, over) = limb.overflowing_add(1);
        *limb = next;
        if !over {
            return;
        }
    }
}

fn double(number: &mut [u64], modulus: &[u64]) {
    let mut carry = 0;
    for limb in number.iter_mut() {
        let next = *limb >> 63;
        *limb = *limb << 1 | carry;
        carry = next;
    }
    if carry == 1 || !is_below(number, modulus) {
        subtract(number, modulus);
    }
}

fn subtract(number: &mut [u64], less: &[u64]) {
    let mut borrow = false;
    for (limb, &less) in number.iter_mut().zip(less) {
        let (first, under) = limb.overflowing_sub(less);
        let (second, again) = first.overflowing_sub(u64::from(borrow));
        *limb = second;
        borrow = under || again;
    }
}

fn is_below(left: &[u64], right: &[u64]) -> bool {
    left.iter().rev().lt(right.iter().rev())
}

/// Low and high half.
fn halves(wide: u128) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, low @ ..] = wide.to_be_bytes();
    (u64::from_be_bytes(low), u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// The length is a multiple of eight.
fn limbs(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().rev().map(|limb| u64::from_be_bytes(*limb)).collect()
}

/// RSA-8192, the largest key that is accepted at all.
const MAX_MODULUS: usize = 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::crypto::SignatureScheme;
    use crate::key::PublicKey;

    /// vectors/pss: made by `vectors/pss/make` with OpenSSL.
    fn read(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/pss");
        std::fs::read(format!("{folder}/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn key(bits: usize) -> (PublicKey, Vec<u8>, u64) {
        let key = PublicKey::from_spki(&read(&format!("{bits}.spki"))).unwrap();
        let PublicKey::Rsa { modulus, exponent } = key.clone() else { unreachable!() };
        (key, modulus, exponent)
    }

    const MESSAGE: &[u8] = b"what a TPM says";

    fn accepted(bits: usize, hash: HashAlgorithm, name: &str) -> bool {
        let (key, modulus, exponent) = key(bits);
        let signature = read(&format!("{bits}-{hash}-{name}"));
        let own = verifies(hash, &modulus, exponent, MESSAGE, &signature);
        let by = |scheme| crypto::verify_signature(scheme, &key, MESSAGE, &signature).is_ok();
        assert_eq!(own, by(SignatureScheme::RsaPssOfTpm(hash)), "{bits} {hash} {name}");
        // A second opinion on the salt that a library knows.
        let known = own && name == "digest" && hash != HashAlgorithm::Sha1;
        assert_eq!(by(SignatureScheme::RsaPss(hash)), known, "{bits} {hash} {name}");
        own
    }

    #[test]
    fn a_salt_of_the_digests_length_and_the_longest_are_genuine() {
        use HashAlgorithm::Sha1;
        use HashAlgorithm::Sha256;
        use HashAlgorithm::Sha384;
        use HashAlgorithm::Sha512;
        for hash in [Sha1, Sha256, Sha384, Sha512] {
            assert!(accepted(2048, hash, "digest"));
            assert!(accepted(2048, hash, "longest"));
        }
        assert!(accepted(3072, Sha384, "longest"));
        assert!(accepted(4096, Sha512, "longest"));
    }

    #[test]
    fn any_other_salt_is_refused() {
        for name in ["0", "20", "221"] {
            assert!(!accepted(2048, HashAlgorithm::Sha256, name));
        }
    }

    #[test]
    fn no_other_signature_message_hash_or_key_is_accepted() {
        let (_, modulus, exponent) = key(2048);
        let genuine = read("2048-sha256-longest");
        let hash = HashAlgorithm::Sha256;
        let mut changed = genuine.clone();
        for place in 0..changed.len() {
            changed[place] ^= 1 << (place % 8);
            assert!(!verifies(hash, &modulus, exponent, MESSAGE, &changed), "{place}");
            changed[place] ^= 1 << (place % 8);
        }
        assert!(!verifies(hash, &modulus, exponent, b"what a TPM said", &genuine));
        assert!(!verifies(HashAlgorithm::Sha384, &modulus, exponent, MESSAGE, &genuine));
        assert!(!verifies(hash, &modulus, 3, MESSAGE, &genuine));
        assert!(!verifies(hash, &modulus, 0, MESSAGE, &genuine));
        assert!(!verifies(hash, &modulus[1..], exponent, MESSAGE, &genuine));
        assert!(!verifies(hash, &modulus, exponent, MESSAGE, &genuine[1..]));
        // A number that is not below the modulus is no signature, whatever it is modulo that.
        assert!(!verifies(hash, &modulus, exponent, MESSAGE, &modulus));
        let mut even = modulus.clone();
        even[255] &= 0xfe;
        assert!(!verifies(hash, &even, exponent, MESSAGE, &genuine));
    }

    #[test]
    fn powers_are_those_of_numbers_small_enough_to_compute() {
        let wide = |number: u64, size: usize| {
            let mut bytes = vec![0; size];
            bytes[size - 8..].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        // 2^64 − 59 is prime, so Fermat knows the answer; and one that can be multiplied out.
        let prime = u64::MAX - 58;
        assert_eq!(power(&wide(7, 8), prime - 1, &wide(prime, 8)), Some(wide(1, 8)));
        let expected = u64::try_from(u128::from(u32::MAX).pow(3) % u128::from(prime)).unwrap();
        let found = power(&wide(u64::from(u32::MAX), 8), 3, &wide(prime, 8));
        assert_eq!(found, Some(wide(expected, 8)));
    }
}
