//! Is this attestation key in the TPM of that endorsement key? TPM2_MakeCredential in software.
//!
//! A secret is encrypted to the endorsement key, with the Name of the attestation key mixed in. A
//! TPM decrypts it only if it holds both keys, so whoever gives the secret back has them. A
//! [`ProvedKey`] by activation comes from [`Activation::prove`] and from nowhere else.
//!
//! TPM 2.0 Library, Part 1, §24 (credential protection), §11.4.10 (KDFa, KDFe), annexes B and C.

use std::fmt;

use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::crypto;
use assay_evidence::crypto::EncryptError;
use assay_evidence::crypto::Random;
use zeroize::Zeroizing;

use crate::ak::AttestationKey;
use crate::ak::ProvedKey;
use crate::endorsement::Endorsement;
use crate::error::Error;
use crate::structures::name::Name;
use crate::structures::public::Public;

mod kdf;

/// What the agent hands to TPM2_ActivateCredential: contents without their outer sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// TPMS_ID_OBJECT: TPM2B(HMAC) ‖ encrypted identity.
    pub blob: Vec<u8>,
    /// OAEP ciphertext, or the ephemeral point as TPM2B(x) ‖ TPM2B(y).
    pub secret: Vec<u8>,
}

/// An open challenge. It can be answered once.
pub struct Activation {
    key: AttestationKey,
    endorsement: Public,
    secret: Zeroizing<[u8; SECRET_SIZE]>,
}

impl Activation {
    /// Makes a challenge that only a TPM with both keys can answer.
    pub fn challenge(
        endorsement: &Endorsement,
        key: &AttestationKey,
        random: &mut dyn Random,
    ) -> Result<(Credential, Activation), Error> {
        let mut secret = Zeroizing::new([0; SECRET_SIZE]);
        random.fill(secret.as_mut_slice()).map_err(|_| EncryptError::Random)?;
        let ek = endorsement.public();
        let credential = make_credential(ek, &key.name(), secret.as_slice(), random)?;
        Ok((credential, Activation { key: key.clone(), endorsement: ek.clone(), secret }))
    }

    /// The secret came back: the key is in the TPM. A wrong answer ends the challenge too.
    pub fn prove(self, answer: &[u8]) -> Result<ProvedKey, Error> {
        if !crypto::constant_time_eq(self.secret.as_slice(), answer) {
            return Err(Error::Activation);
        }
        Ok(ProvedKey::activated(self.key, &self.endorsement))
    }

    pub fn attestation_key(&self) -> &AttestationKey {
        &self.key
    }
}

impl fmt::Debug for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Activation({})", self.key.name())
    }
}

/// TPM2_MakeCredential. Hash and cipher are those of the endorsement key, never of the other.
fn make_credential(
    ek: &Public,
    ak_name: &Name,
    value: &[u8],
    random: &mut dyn Random,
) -> Result<Credential, Error> {
    let hash = ek.area().name_algorithm;
    let symmetric = ek.area().symmetric.ok_or(Error::EkTemplate)?;
    let (seed, secret) = seed(ek.key(), hash, random)?;
    let blob = identity_object(hash, symmetric.key_bits, &seed, ak_name, value)?;
    Ok(Credential { blob, secret })
}

/// The half of TPM2_MakeCredential that chance has no part in: the TPMS_ID_OBJECT that hides
/// `value` from everybody who does not have the seed (Part 1, §24.4 and §24.5).
pub fn identity_object(
    hash: HashAlgorithm,
    key_bits: u16,
    seed: &[u8],
    ak_name: &Name,
    value: &[u8],
) -> Result<Vec<u8>, Error> {
    let cipher_key = kdf::a(hash, seed, "STORAGE", ak_name.as_bytes(), usize::from(key_bits))?;
    let mut identity = Zeroizing::new(sized(value)?);
    crypto::aes_cfb_encrypt_once(&cipher_key, &mut identity)?;

    let mac_key = kdf::a(hash, seed, "INTEGRITY", &[], 8 * hash.size())?;
    let mac = crypto::hmac(hash, &mac_key, &[&identity, ak_name.as_bytes()])
        .ok_or(EncryptError::Unsupported)?;
    Ok([sized(mac.as_bytes())?.as_slice(), &identity].concat())
}

/// A seed that only the endorsement key's TPM can recover, and what it recovers it from.
fn seed(
    ek: &PublicKey,
    hash: HashAlgorithm,
    random: &mut dyn Random,
) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), Error> {
    match ek {
        PublicKey::Rsa { .. } => {
            let mut seed = Zeroizing::new(vec![0; hash.size()]);
            random.fill(&mut seed).map_err(|_| EncryptError::Random)?;
            // The label includes its terminating NUL (Part 1, annex B.4).
            let secret = crypto::oaep_encrypt(ek, hash, b"IDENTITY\0", &seed)?;
            Ok((seed, secret))
        }
        PublicKey::Ec { .. } => {
            let agreed = crypto::ecdh_ephemeral(ek, random)?;
            let (x, y) = agreed.ephemeral.coordinates().ok_or(EncryptError::Key)?;
            let (peer_x, _) = ek.coordinates().ok_or(EncryptError::Key)?;
            let seed = kdf::e(hash, &agreed.shared, "IDENTITY", x, peer_x)?;
            Ok((seed, [sized(x)?, sized(y)?].concat()))
        }
    }
}

/// A TPM2B: 16-bit size and contents.
fn sized(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let length = u16::try_from(bytes.len()).map_err(|_| Error::Malformed { place: "length" })?;
    Ok([&length.to_be_bytes(), bytes].concat())
}

/// Safe for every endorsement key: no longer than its smallest name hash.
const SECRET_SIZE: usize = 32;
