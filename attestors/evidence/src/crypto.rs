//! The only file of the house that names a crypto library.
//!
//! ring does whatever it can; aws-lc-rs does what ring lacks (P-521, other hash and curve pairs,
//! SHA-1 signatures of old CAs, RSA-OAEP with a label, AES-CFB) or does several times slower
//! (P-384, SHA-1; with it all hashes). Callers say what they want in our own words and see neither.
//!
//! Nothing here decides which algorithms are good enough; that is asked before, by name.

use std::fmt;

use aws_lc_rs::agreement;
use aws_lc_rs::cipher;
use aws_lc_rs::digest;
use aws_lc_rs::rsa as aws_rsa;
use aws_lc_rs::signature as aws;
use ring::hmac as ring_hmac;
use ring::rand::SecureRandom;
use ring::signature as ring_signature;
use ring::signature::KeyPair as _;
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::digest::HashAlgorithm;
use crate::key::Curve;
use crate::key::PublicKey;
use crate::key::put_padded;
use crate::pss;

// --- randomness -----------------------------------------------------------------------------

/// Where random bytes come from; injected, so that a test can fix them.
pub trait Random {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes to be had")]
pub struct RandomError;

/// The operating system's generator.
#[derive(Debug)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    pub fn new() -> SystemRandom {
        SystemRandom(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> SystemRandom {
        SystemRandom::new()
    }
}

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.0.fill(bytes).map_err(|_| RandomError)
    }
}

// --- hashes ---------------------------------------------------------------------------------

pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    fixed(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    fixed(&digest::SHA256, bytes)
}

pub fn sha384(bytes: &[u8]) -> [u8; 48] {
    fixed(&digest::SHA384, bytes)
}

pub fn sha512(bytes: &[u8]) -> [u8; 64] {
    fixed(&digest::SHA512, bytes)
}

/// SHA-256 of what comes in pieces: files, evidence as it streams in.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl Sha256 {
    pub fn new() -> Sha256 {
        Sha256(digest::Context::new(&digest::SHA256))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256::new()
    }
}

/// The digest of the parts one after another; nothing for SM3, which no library here computes.
pub fn hash(algorithm: HashAlgorithm, parts: &[&[u8]]) -> Option<Digest> {
    let mut context = digest::Context::new(aws_digest(algorithm)?);
    for part in parts {
        context.update(part);
    }
    Digest::new(algorithm, context.finish().as_ref())
}

/// HMAC over the parts one after another; nothing for SM3.
pub fn hmac(algorithm: HashAlgorithm, key: &[u8], parts: &[&[u8]]) -> Option<Digest> {
    let ring_algorithm = match algorithm {
        HashAlgorithm::Sha1 => ring_hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        HashAlgorithm::Sha256 => ring_hmac::HMAC_SHA256,
        HashAlgorithm::Sha384 => ring_hmac::HMAC_SHA384,
        HashAlgorithm::Sha512 => ring_hmac::HMAC_SHA512,
        HashAlgorithm::Sm3_256 => return None,
    };
    let mut context = ring_hmac::Context::with_key(&ring_hmac::Key::new(ring_algorithm, key));
    for part in parts {
        context.update(part);
    }
    Digest::new(algorithm, context.sign().as_ref())
}

/// For secrets: takes the same time wherever the first difference is.
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok()
}

fn aws_digest(algorithm: HashAlgorithm) -> Option<&'static digest::Algorithm> {
    Some(match algorithm {
        HashAlgorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        HashAlgorithm::Sha256 => &digest::SHA256,
        HashAlgorithm::Sha384 => &digest::SHA384,
        HashAlgorithm::Sha512 => &digest::SHA512,
        HashAlgorithm::Sm3_256 => return None,
    })
}

fn fixed<const N: usize>(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(digest::digest(algorithm, bytes).as_ref());
    out
}

// --- signatures -----------------------------------------------------------------------------

/// How a signature is made and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureScheme {
    /// r ‖ s, each padded to the field.
    EcdsaFixed(HashAlgorithm),
    /// ECDSA-Sig-Value in DER, as X.509 has it.
    EcdsaDer(HashAlgorithm),
    RsaPkcs1(HashAlgorithm),
    /// MGF1 with the same hash, salt as long as the digest.
    RsaPss(HashAlgorithm),
    /// The same, or with the longest salt that fits: what TPMs make.
    RsaPssOfTpm(HashAlgorithm),
}

impl SignatureScheme {
    pub const fn hash(self) -> HashAlgorithm {
        match self {
            SignatureScheme::EcdsaFixed(hash)
            | SignatureScheme::EcdsaDer(hash)
            | SignatureScheme::RsaPkcs1(hash)
            | SignatureScheme::RsaPss(hash)
            | SignatureScheme::RsaPssOfTpm(hash) => hash,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    #[error("the signature does not verify")]
    Invalid,
    #[error("this key does not sign by this scheme")]
    KeyType,
    #[error("a combination of key, hash and scheme that is not supported")]
    Unsupported,
}

pub fn verify_signature(
    scheme: SignatureScheme,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    match (scheme, key) {
        (SignatureScheme::EcdsaFixed(hash), PublicKey::Ec { curve, point }) => {
            verify_ecdsa_fixed(*curve, hash, point, message, signature)
        }
        (SignatureScheme::EcdsaDer(hash), PublicKey::Ec { curve, point }) => {
            let algorithm = ecdsa_der(*curve, hash).ok_or(SignatureError::Unsupported)?;
            aws_verify(algorithm, point, message, signature)
        }
        (SignatureScheme::RsaPkcs1(hash), PublicKey::Rsa { modulus, exponent }) => {
            let algorithm: &'static dyn aws::VerificationAlgorithm = match hash {
                HashAlgorithm::Sha1 => &aws::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
                HashAlgorithm::Sha256 => &aws::RSA_PKCS1_2048_8192_SHA256,
                HashAlgorithm::Sha384 => &aws::RSA_PKCS1_2048_8192_SHA384,
                HashAlgorithm::Sha512 => &aws::RSA_PKCS1_2048_8192_SHA512,
                HashAlgorithm::Sm3_256 => return Err(SignatureError::Unsupported),
            };
            verify_rsa(algorithm, modulus, *exponent, message, signature)
        }
        (SignatureScheme::RsaPss(hash), PublicKey::Rsa { modulus, exponent }) => {
            verify_pss(hash, modulus, *exponent, message, signature)
        }
        (SignatureScheme::RsaPssOfTpm(hash), PublicKey::Rsa { modulus, exponent }) => {
            // The library first; only what it refuses is tried with the salt that it does not know.
            verify_pss(hash, modulus, *exponent, message, signature).or_else(|error| {
                let verified = pss::verifies(hash, modulus, *exponent, message, signature);
                if verified { Ok(()) } else { Err(error) }
            })
        }
        _ => Err(SignatureError::KeyType),
    }
}

/// The same by a key that somebody pinned: RSA from 1024 bits.
pub(crate) fn verify_signature_by_root(
    scheme: SignatureScheme,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let (SignatureScheme::RsaPkcs1(hash), PublicKey::Rsa { modulus, exponent }) = (scheme, key)
    else {
        return verify_signature(scheme, key, message, signature);
    };
    let algorithm: &'static dyn aws::VerificationAlgorithm = match hash {
        HashAlgorithm::Sha1 => &aws::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        HashAlgorithm::Sha256 => &aws::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        HashAlgorithm::Sha512 => &aws::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        _ => return verify_signature(scheme, key, message, signature),
    };
    verify_rsa(algorithm, modulus, *exponent, message, signature)
}

/// The everyday case, P-256 with SHA-256, goes to ring with nothing in between.
fn verify_ecdsa_fixed(
    curve: Curve,
    hash: HashAlgorithm,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    match (curve, hash) {
        (Curve::P256, HashAlgorithm::Sha256) => {
            let key = ring_signature::UnparsedPublicKey::new(
                &ring_signature::ECDSA_P256_SHA256_FIXED,
                point,
            );
            key.verify(message, signature).map_err(|_| SignatureError::Invalid)
        }
        (Curve::P384, HashAlgorithm::Sha384) => {
            aws_verify(&aws::ECDSA_P384_SHA384_FIXED, point, message, signature)
        }
        _ => {
            // Only the DER form exists for mixed pairs, so r ‖ s is rewritten.
            let algorithm = ecdsa_der(curve, hash).ok_or(SignatureError::Unsupported)?;
            if signature.len() != 2 * curve.field_size() {
                return Err(SignatureError::Invalid);
            }
            let (r, s) = signature.split_at(curve.field_size());
            aws_verify(algorithm, point, message, &crate::key::ecdsa_sig_value(r, s))
        }
    }
}

fn ecdsa_der(curve: Curve, hash: HashAlgorithm) -> Option<&'static dyn aws::VerificationAlgorithm> {
    Some(match (curve, hash) {
        (Curve::P256, HashAlgorithm::Sha1) => &aws::ECDSA_P256_SHA1_ASN1,
        (Curve::P256, HashAlgorithm::Sha256) => &aws::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, HashAlgorithm::Sha384) => &aws::ECDSA_P256_SHA384_ASN1,
        (Curve::P256, HashAlgorithm::Sha512) => &aws::ECDSA_P256_SHA512_ASN1,
        (Curve::P384, HashAlgorithm::Sha256) => &aws::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, HashAlgorithm::Sha384) => &aws::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, HashAlgorithm::Sha512) => &aws::ECDSA_P384_SHA512_ASN1,
        (Curve::P521, HashAlgorithm::Sha1) => &aws::ECDSA_P521_SHA1_ASN1,
        (Curve::P521, HashAlgorithm::Sha256) => &aws::ECDSA_P521_SHA256_ASN1,
        (Curve::P521, HashAlgorithm::Sha384) => &aws::ECDSA_P521_SHA384_ASN1,
        (Curve::P521, HashAlgorithm::Sha512) => &aws::ECDSA_P521_SHA512_ASN1,
        _ => return None,
    })
}

fn verify_rsa(
    algorithm: &'static dyn aws::VerificationAlgorithm,
    modulus: &[u8],
    exponent: u64,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let key = crate::key::rsa_public_key(modulus, exponent);
    aws_verify(algorithm, &key, message, signature)
}

fn verify_pss(
    hash: HashAlgorithm,
    modulus: &[u8],
    exponent: u64,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    let algorithm: &'static dyn aws::VerificationAlgorithm = match hash {
        HashAlgorithm::Sha256 => &aws::RSA_PSS_2048_8192_SHA256,
        HashAlgorithm::Sha384 => &aws::RSA_PSS_2048_8192_SHA384,
        HashAlgorithm::Sha512 => &aws::RSA_PSS_2048_8192_SHA512,
        HashAlgorithm::Sha1 | HashAlgorithm::Sm3_256 => return Err(SignatureError::Unsupported),
    };
    verify_rsa(algorithm, modulus, exponent, message, signature)
}

fn aws_verify(
    algorithm: &'static dyn aws::VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    aws::UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .map_err(|_| SignatureError::Invalid)
}

pub fn is_on_curve(curve: Curve, point: &[u8]) -> bool {
    let peer = agreement::UnparsedPublicKey::new(ecdh(curve), point);
    agreement::ParsedPublicKey::try_from(peer).is_ok()
}

// --- software keys --------------------------------------------------------------------------

/// A P-256 key in memory, for what needs no hardware: tests, TLS keys, workload keys.
pub struct SoftwareKey {
    pair: ring_signature::EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SoftwareKeyError {
    #[error("no random bytes to be had")]
    Random,
    #[error("not a P-256 key in PKCS #8")]
    Malformed,
    #[error("the key did not sign")]
    Sign,
}

impl SoftwareKey {
    /// Key generation asks the operating system itself; ring lets nobody stand between.
    pub fn generate() -> Result<SoftwareKey, SoftwareKeyError> {
        let pkcs8 = ring_signature::EcdsaKeyPair::generate_pkcs8(
            &ring_signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &ring::rand::SystemRandom::new(),
        )
        .map_err(|_| SoftwareKeyError::Random)?;
        SoftwareKey::from_pkcs8(pkcs8.as_ref())
    }

    pub fn from_pkcs8(der: &[u8]) -> Result<SoftwareKey, SoftwareKeyError> {
        let pair = ring_signature::EcdsaKeyPair::from_pkcs8(
            &ring_signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            der,
            &ring::rand::SystemRandom::new(),
        )
        .map_err(|_| SoftwareKeyError::Malformed)?;
        Ok(SoftwareKey { pair, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    pub fn pkcs8_der(&self) -> &Zeroizing<Vec<u8>> {
        &self.pkcs8
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey::Ec { curve: Curve::P256, point: self.pair.public_key().as_ref().to_vec() }
    }

    /// ECDSA with SHA-256, in DER.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SoftwareKeyError> {
        let signature = self
            .pair
            .sign(&ring::rand::SystemRandom::new(), message)
            .map_err(|_| SoftwareKeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The same as r ‖ s, as COSE and JOSE write it.
    pub fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, SoftwareKeyError> {
        let random = ring::rand::SystemRandom::new();
        let pair = ring_signature::EcdsaKeyPair::from_pkcs8(
            &ring_signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &self.pkcs8,
            &random,
        );
        let pair = pair.map_err(|_| SoftwareKeyError::Malformed)?;
        let signature = pair.sign(&random, message).map_err(|_| SoftwareKeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareKey({})", hex::encode(self.public_key().spki_sha256()))
    }
}

// --- encryption to a TPM --------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    #[error("not a key that can be encrypted to")]
    Key,
    #[error("a hash or key size that is not supported")]
    Unsupported,
    #[error("no random bytes to be had")]
    Random,
}

/// RSAES-OAEP with the same hash for MGF1; the padding's own randomness is the library's.
pub fn oaep_encrypt(
    key: &PublicKey,
    hash: HashAlgorithm,
    label: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, EncryptError> {
    let algorithm = match hash {
        HashAlgorithm::Sha1 => &aws_rsa::OAEP_SHA1_MGF1SHA1,
        HashAlgorithm::Sha256 => &aws_rsa::OAEP_SHA256_MGF1SHA256,
        HashAlgorithm::Sha384 => &aws_rsa::OAEP_SHA384_MGF1SHA384,
        HashAlgorithm::Sha512 => &aws_rsa::OAEP_SHA512_MGF1SHA512,
        HashAlgorithm::Sm3_256 => return Err(EncryptError::Unsupported),
    };
    let key =
        aws_rsa::PublicEncryptingKey::from_der(&key.to_spki()).map_err(|_| EncryptError::Key)?;
    let key = aws_rsa::OaepPublicEncryptingKey::new(key).map_err(|_| EncryptError::Key)?;
    let mut out = vec![0; key.ciphertext_size()];
    let length = key
        .encrypt(algorithm, plaintext, &mut out, Some(label))
        .map_err(|_| EncryptError::Key)?
        .len();
    out.truncate(length);
    Ok(out)
}

/// AES-CFB with full-block feedback and a zero IV, for keys that are used once.
pub fn aes_cfb_encrypt_once(key: &[u8], data: &mut [u8]) -> Result<(), EncryptError> {
    let algorithm = match key.len() {
        16 => &cipher::AES_128,
        32 => &cipher::AES_256,
        _ => return Err(EncryptError::Unsupported),
    };
    let key =
        cipher::UnboundCipherKey::new(algorithm, key).map_err(|_| EncryptError::Unsupported)?;
    let key = cipher::EncryptingKey::cfb128(key).map_err(|_| EncryptError::Unsupported)?;
    let iv = cipher::EncryptionContext::Iv128([0u8; 16].into());
    key.less_safe_encrypt(data, iv).map(drop).map_err(|_| EncryptError::Unsupported)
}

/// What an ephemeral Diffie-Hellman exchange with a public key gives.
pub struct Agreed {
    pub ephemeral: PublicKey,
    /// x-coordinate of the shared point, padded to the field.
    pub shared: Zeroizing<Vec<u8>>,
}

pub fn ecdh_ephemeral(peer: &PublicKey, random: &mut dyn Random) -> Result<Agreed, EncryptError> {
    let PublicKey::Ec { curve, point } = peer else {
        return Err(EncryptError::Key);
    };
    let private = ephemeral_key(*curve, random)?;
    let public = private.compute_public_key().map_err(|_| EncryptError::Key)?;
    let ephemeral = PublicKey::Ec { curve: *curve, point: public.as_ref().to_vec() };
    let peer = agreement::UnparsedPublicKey::new(ecdh(*curve), point.as_slice());
    let shared = agreement::agree(&private, peer, EncryptError::Key, |z| {
        let mut padded = Zeroizing::new(vec![0; curve.field_size()]);
        put_padded(z, &mut padded).ok_or(EncryptError::Key)?;
        Ok(padded)
    })?;
    Ok(Agreed { ephemeral, shared })
}

/// A scalar is drawn until it lies below the group order. On P-521 the top seven bits are cut
/// first, so that half of the draws succeed on the worst curve and all but 2^-32 on the others.
fn ephemeral_key(
    curve: Curve,
    random: &mut dyn Random,
) -> Result<agreement::PrivateKey, EncryptError> {
    let mut scalar = Zeroizing::new(vec![0; curve.field_size()]);
    for _ in 0..MAX_DRAWS {
        random.fill(&mut scalar).map_err(|_| EncryptError::Random)?;
        if let (Curve::P521, Some(first)) = (curve, scalar.first_mut()) {
            *first &= 1;
        }
        if let Ok(key) = agreement::PrivateKey::from_private_key(ecdh(curve), &scalar) {
            return Ok(key);
        }
    }
    Err(EncryptError::Random)
}

fn ecdh(curve: Curve) -> &'static agreement::Algorithm {
    match curve {
        Curve::P256 => &agreement::ECDH_P256,
        Curve::P384 => &agreement::ECDH_P384,
        Curve::P521 => &agreement::ECDH_P521,
    }
}

const MAX_DRAWS: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_software_key_signs_what_its_public_key_verifies() {
        let key = SoftwareKey::generate().unwrap();
        let signature = key.sign(b"message").unwrap();
        let scheme = SignatureScheme::EcdsaDer(HashAlgorithm::Sha256);
        let public = key.public_key();
        assert_eq!(verify_signature(scheme, &public, b"message", &signature), Ok(()));
        assert_eq!(
            verify_signature(scheme, &public, b"massage", &signature),
            Err(SignatureError::Invalid)
        );
        assert_eq!(
            verify_signature(
                SignatureScheme::RsaPkcs1(HashAlgorithm::Sha256),
                &public,
                b"message",
                &signature
            ),
            Err(SignatureError::KeyType)
        );
        let again = SoftwareKey::from_pkcs8(key.pkcs8_der()).unwrap();
        assert_eq!(again.public_key(), public);
        assert!(!format!("{key:?}").contains(&hex::encode(&key.pkcs8_der()[36..60])));
    }

    #[test]
    fn both_sides_of_an_exchange_agree_on_every_curve() {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let mut random = SystemRandom::new();
            let host = ephemeral_key(curve, &mut random).unwrap();
            let point = host.compute_public_key().unwrap().as_ref().to_vec();
            let peer = PublicKey::Ec { curve, point };
            assert_eq!(peer.fault(), None);
            let agreed = ecdh_ephemeral(&peer, &mut random).unwrap();
            let PublicKey::Ec { point, .. } = &agreed.ephemeral else { unreachable!() };
            let back = agreement::agree(
                &host,
                agreement::UnparsedPublicKey::new(ecdh(curve), point),
                (),
                |z| Ok(z.to_vec()),
            );
            assert_eq!(back.unwrap(), *agreed.shared);
        }
    }

    #[test]
    fn a_point_off_the_curve_is_seen() {
        let key = SoftwareKey::generate().unwrap().public_key();
        let PublicKey::Ec { curve, mut point } = key else { unreachable!() };
        assert!(is_on_curve(curve, &point));
        point[64] ^= 1;
        assert!(!is_on_curve(curve, &point));
        assert!(!is_on_curve(curve, &[0; 65]));
    }

    #[test]
    fn a_random_source_that_gives_only_zeros_ends_in_an_error() {
        struct Zeros;
        impl Random for Zeros {
            fn fill(&mut self, _: &mut [u8]) -> Result<(), RandomError> {
                Ok(())
            }
        }
        let peer = SoftwareKey::generate().unwrap().public_key();
        assert_eq!(ecdh_ephemeral(&peer, &mut Zeros).err(), Some(EncryptError::Random));
    }

    /// NIST SP 800-38A, F.3.13, with the published IV folded away: CFB's first block under a zero
    /// IV is the block cipher itself, so FIPS 197 C.1 is the vector.
    #[test]
    fn cfb_of_zeros_is_the_block_cipher_of_zeros() {
        let mut data = [0; 16];
        aes_cfb_encrypt_once(&[0; 16], &mut data).unwrap();
        assert_eq!(hex::encode(data), "66e94bd4ef8a2c3b884cfa59ca342b2e");
        assert!(aes_cfb_encrypt_once(&[0; 15], &mut data).is_err());
    }
}
