//! RSA with keys from a seed and signatures without randomness, for vectors that come out the same
//! at each run. Slow, not constant in time, and the seed is public: for nothing else.

use assay_evidence::crypto;
use num_bigint::BigUint;

use super::der::bits;
use super::der::octets;
use super::der::oid;
use super::der::sequence;
use super::der::tlv;
use super::der::unsigned;

#[derive(Clone, Copy)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha384,
}

impl Hash {
    pub fn oid(self) -> &'static [u64] {
        match self {
            Hash::Sha1 => &[1, 3, 14, 3, 2, 26],
            Hash::Sha256 => &[2, 16, 840, 1, 101, 3, 4, 2, 1],
            Hash::Sha384 => &[2, 16, 840, 1, 101, 3, 4, 2, 2],
        }
    }

    /// The signature algorithm over this hash, RFC 8017 A.2.4.
    pub fn pkcs1(self) -> &'static [u64] {
        match self {
            Hash::Sha1 => &[1, 2, 840, 113_549, 1, 1, 5],
            Hash::Sha256 => &[1, 2, 840, 113_549, 1, 1, 11],
            Hash::Sha384 => &[1, 2, 840, 113_549, 1, 1, 12],
        }
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => crypto::sha1(message).to_vec(),
            Hash::Sha256 => crypto::sha256(message).to_vec(),
            Hash::Sha384 => crypto::sha384(message).to_vec(),
        }
    }
}

pub struct RsaKey {
    n: BigUint,
    d: BigUint,
}

/// Numbers from a name, as many as are asked for.
struct Seed {
    name: String,
    count: u64,
}

impl Seed {
    fn number(&mut self, bits: u64) -> BigUint {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) * 8 < bits {
            let text = format!("assay certificate zoo: {} {}", self.name, self.count);
            bytes.extend(crypto::sha256(text.as_bytes()));
            self.count += 1;
        }
        BigUint::from_bytes_be(&bytes) >> (bytes.len() as u64 * 8 - bits)
    }

    /// With both highest bits set, so that the product of two has all its bits.
    fn prime(&mut self, bits: u64) -> BigUint {
        loop {
            let mut candidate = self.number(bits);
            for bit in [0, bits - 1, bits - 2] {
                candidate.set_bit(bit, true);
            }
            if is_prime(&candidate) {
                return candidate;
            }
        }
    }

    /// As the flawed library made them: k·M + (65537^a mod M), with M the product of the first 126
    /// primes.
    fn flawed_prime(&mut self) -> BigUint {
        let product = small_primes().take(126).fold(BigUint::from(1u8), |m, p| m * p);
        loop {
            let power = BigUint::from(E).modpow(&self.number(62), &product);
            let mut k = self.number(1024 - product.bits());
            k.set_bit(1023 - product.bits(), true);
            let candidate = k * &product + power;
            if candidate.bits() == 1024 && candidate.bit(1022) && is_prime(&candidate) {
                return candidate;
            }
        }
    }
}

impl RsaKey {
    pub fn generate(name: &str, bits: u64) -> RsaKey {
        let mut seed = Seed { name: name.into(), count: 0 };
        RsaKey::from_primes(&seed.prime(bits / 2), &seed.prime(bits / 2))
    }

    pub fn generate_flawed(name: &str) -> RsaKey {
        let mut seed = Seed { name: name.into(), count: 0 };
        RsaKey::from_primes(&seed.flawed_prime(), &seed.flawed_prime())
    }

    fn from_primes(p: &BigUint, q: &BigUint) -> RsaKey {
        let one = BigUint::from(1u8);
        let order = (p - &one) * (q - &one);
        RsaKey { n: p * q, d: BigUint::from(E).modinv(&order).unwrap() }
    }

    pub fn spki(&self, algorithm: &[u64]) -> Vec<u8> {
        let parameters = tlv(5, &[]);
        spki(&sequence(&[&oid(algorithm), &parameters]), &self.n, E)
    }

    pub fn spki_with(&self, exponent: u32) -> Vec<u8> {
        spki(&rsa_encryption(), &self.n, exponent)
    }

    pub fn even_spki(&self) -> Vec<u8> {
        spki(&rsa_encryption(), &(&self.n - 1u8), E)
    }

    /// RSASSA-PKCS1-v1_5, RFC 8017 §8.2.1.
    pub fn sign(&self, hash: Hash, message: &[u8]) -> Vec<u8> {
        let algorithm = sequence(&[&oid(hash.oid()), &tlv(5, &[])]);
        let info = sequence(&[&algorithm, &octets(&hash.digest(message))]);
        let filling = vec![0xff; self.size() - info.len() - 3];
        self.power(&[&[0, 1], &filling[..], &[0], &info].concat())
    }

    /// RSASSA-PSS, RFC 8017 §8.1.1 and §9.1.1, with a salt of fixed bytes.
    pub fn sign_pss(&self, hash: Hash, message: &[u8], salt: usize) -> Vec<u8> {
        let salt = vec![0x5a; salt];
        let digest = hash.digest(&[&[0; 8][..], &hash.digest(message), &salt].concat());
        let filling = vec![0; self.size() - salt.len() - digest.len() - 2];
        let mut block = [&filling[..], &[1], &salt].concat();
        let mask = (0u32..).flat_map(|n| hash.digest(&[&digest[..], &n.to_be_bytes()].concat()));
        for (byte, mask) in block.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        block[0] &= 0x7f;
        self.power(&[&block[..], &digest, &[0xbc]].concat())
    }

    fn power(&self, block: &[u8]) -> Vec<u8> {
        let number = BigUint::from_bytes_be(block).modpow(&self.d, &self.n).to_bytes_be();
        [vec![0; self.size() - number.len()], number].concat()
    }

    fn size(&self) -> usize {
        usize::try_from(self.n.bits().div_ceil(8)).unwrap()
    }
}

fn rsa_encryption() -> Vec<u8> {
    sequence(&[&oid(&[1, 2, 840, 113_549, 1, 1, 1]), &tlv(5, &[])])
}

fn spki(algorithm: &[u8], modulus: &BigUint, exponent: u32) -> Vec<u8> {
    let exponent = BigUint::from(exponent).to_bytes_be();
    let key = sequence(&[&unsigned(&modulus.to_bytes_be()), &unsigned(&exponent)]);
    sequence(&[algorithm, &bits(0, &key)])
}

/// Miller and Rabin's test by the first 24 primes.
fn is_prime(candidate: &BigUint) -> bool {
    let zero = BigUint::from(0u8);
    if small_primes().take(300).any(|p| candidate % p == zero) {
        return false;
    }
    let one = BigUint::from(1u8);
    let last = candidate - &one;
    let twos = last.trailing_zeros().unwrap();
    let odd = &last >> twos;
    small_primes().take(24).all(|base| {
        let mut power = BigUint::from(base).modpow(&odd, candidate);
        if power == one {
            return true;
        }
        (0..twos).any(|_| {
            let found = power == last;
            power = &power * &power % candidate;
            found
        })
    })
}

fn small_primes() -> impl Iterator<Item = u32> {
    (2..).filter(|&n: &u32| (2..).take_while(|d| d * d <= n).all(|d| n % d != 0))
}

const E: u32 = 65_537;
