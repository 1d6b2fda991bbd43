//! Public keys as values: what a certificate or a TPM public area says, with nothing but the key.
//!
//! Here is also the answer to whether a key may carry trust at all ([`PublicKey::fault`]). Using a
//! key is the business of `crypto`.

use serde::Serialize;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::crypto;
use crate::der;
use crate::der::BIT_STRING;
use crate::der::SEQUENCE;
use crate::der::without_leading_zeros;

/// The NIST curves that TPMs and their vendors sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Curve {
    #[serde(rename = "p256")]
    P256,
    #[serde(rename = "p384")]
    P384,
    #[serde(rename = "p521")]
    P521,
}

impl Curve {
    /// Bytes of one coordinate.
    pub const fn field_size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    /// TPM_ECC_CURVE, TCG Algorithm Registry rev. 1.34, table 4.
    pub const fn from_tpm_id(id: u16) -> Option<Curve> {
        Some(match id {
            0x0003 => Curve::P256,
            0x0004 => Curve::P384,
            0x0005 => Curve::P521,
            _ => return None,
        })
    }

    pub const fn tpm_id(self) -> u16 {
        match self {
            Curve::P256 => 0x0003,
            Curve::P384 => 0x0004,
            Curve::P521 => 0x0005,
        }
    }
}

/// A public key, free of the container it came in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// Modulus big-endian without leading zeros; exponent as a number.
    Rsa { modulus: Vec<u8>, exponent: u64 },
    /// Uncompressed point, 04 ‖ x ‖ y, coordinates padded to the field.
    Ec { curve: Curve, point: Vec<u8> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    #[error("not a SubjectPublicKeyInfo")]
    Malformed,
    #[error("a key of a kind that is not known here")]
    Unsupported,
}

/// Why a well-formed key must not be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    #[error("an RSA modulus of {0} bits, 2048 to 8192 expected")]
    Modulus(usize),
    #[error("an RSA exponent of {0}, odd and at least 65537 expected")]
    Exponent(u64),
    #[error("an even RSA modulus")]
    EvenModulus,
    #[error("a point that is not on its curve")]
    OffCurve,
    #[error("an RSA modulus of the family that CVE-2017-15361 (ROCA) factors")]
    Roca,
}

impl PublicKey {
    pub fn rsa(modulus: &[u8], exponent: u64) -> PublicKey {
        PublicKey::Rsa { modulus: without_leading_zeros(modulus).to_vec(), exponent }
    }

    /// Nothing if a coordinate is wider than the field; shorter ones are padded.
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Option<PublicKey> {
        let mut point = vec![0; 1 + 2 * curve.field_size()];
        let (head, coordinates) = point.split_first_mut()?;
        *head = 4;
        let (left, right) = coordinates.split_at_mut(curve.field_size());
        put_padded(x, left)?;
        put_padded(y, right)?;
        Some(PublicKey::Ec { curve, point })
    }

    pub fn coordinates(&self) -> Option<(&[u8], &[u8])> {
        match self {
            PublicKey::Ec { curve, point } => {
                point.get(1..).and_then(|both| both.split_at_checked(curve.field_size()))
            }
            PublicKey::Rsa { .. } => None,
        }
    }

    /// RFC 5280 §4.1.2.7. An RSA key counts as one whatever scheme its identifier names (real EK
    /// certificates say RSAES-OAEP), and nothing may stand behind the structure.
    pub fn from_spki(der: &[u8]) -> Result<PublicKey, KeyError> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Malformed)?;
        if !rest.is_empty() {
            return Err(KeyError::Malformed);
        }
        PublicKey::from_parsed_spki(&info)
    }

    pub(crate) fn from_parsed_spki(info: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, KeyError> {
        let algorithm = info.algorithm.algorithm.to_id_string();
        match algorithm.as_str() {
            RSA_ENCRYPTION | RSAES_OAEP | RSASSA_PSS => rsa_from_der(&info.subject_public_key.data),
            EC_PUBLIC_KEY => {
                let parameters = info.algorithm.parameters.as_ref().ok_or(KeyError::Malformed)?;
                let named = parameters.as_oid().map_err(|_| KeyError::Unsupported)?;
                let curve = curve_from_oid(&named.to_id_string()).ok_or(KeyError::Unsupported)?;
                let point = info.subject_public_key.data.as_ref();
                if point.len() != 1 + 2 * curve.field_size() || point.first() != Some(&4) {
                    return Err(KeyError::Unsupported);
                }
                Ok(PublicKey::Ec { curve, point: point.to_vec() })
            }
            _ => Err(KeyError::Unsupported),
        }
    }

    /// The one DER form of this key; RSA keys always as rsaEncryption.
    pub fn to_spki(&self) -> Vec<u8> {
        match self {
            PublicKey::Rsa { modulus, exponent } => {
                spki(RSA_IDENTIFIER, &rsa_public_key(modulus, *exponent))
            }
            PublicKey::Ec { curve, point } => {
                let identifier = match curve {
                    Curve::P256 => P256_IDENTIFIER,
                    Curve::P384 => P384_IDENTIFIER,
                    Curve::P521 => P521_IDENTIFIER,
                };
                spki(identifier, point)
            }
        }
    }

    pub fn spki_sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.to_spki())
    }

    /// Whether anything signed by or sent to this key may be believed. It costs a curve equation or
    /// a few small divisions of the modulus; a certificate asks it once.
    pub fn fault(&self) -> Option<KeyFault> {
        match self {
            PublicKey::Rsa { modulus, exponent } => {
                let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
                let bits = (modulus.len() * 8).saturating_sub(zeros);
                if !(2048..=8192).contains(&bits) {
                    return Some(KeyFault::Modulus(bits));
                }
                if modulus.last().is_none_or(|byte| byte % 2 == 0) {
                    return Some(KeyFault::EvenModulus);
                }
                if *exponent < 65_537 || exponent % 2 == 0 {
                    return Some(KeyFault::Exponent(*exponent));
                }
                looks_like_roca(modulus).then_some(KeyFault::Roca)
            }
            PublicKey::Ec { curve, point } => {
                (!crypto::is_on_curve(*curve, point)).then_some(KeyFault::OffCurve)
            }
        }
    }
}

/// Generators of the flawed library make primes of the form k·M + (65537^a mod M), so the modulus
/// lies in the subgroup that 65537 spans modulo every small prime of M. An ordinary modulus does
/// so by chance once in 2^27.8.
fn looks_like_roca(modulus: &[u8]) -> bool {
    ROCA_PRIMES.iter().all(|&prime| {
        let residue =
            modulus.iter().fold(0, |carry: u32, &byte| (carry * 256 + u32::from(byte)) % prime);
        let mut power = 1;
        for _ in 0..prime {
            if power == residue {
                return true;
            }
            power = power * (65_537 % prime) % prime;
        }
        false
    })
}

fn rsa_from_der(der: &[u8]) -> Result<PublicKey, KeyError> {
    use x509_parser::public_key::PublicKey as Parsed;
    // The parser reads the key behind an rsaEncryption identifier only, so it gets one.
    let info = spki(RSA_IDENTIFIER, der);
    let (_, info) = SubjectPublicKeyInfo::from_der(&info).map_err(|_| KeyError::Malformed)?;
    let Ok(Parsed::RSA(key)) = info.parsed() else {
        return Err(KeyError::Malformed);
    };
    let exponent = without_leading_zeros(key.exponent);
    let mut wide = [0; 8];
    put_padded(exponent, &mut wide).ok_or(KeyError::Unsupported)?;
    Ok(PublicKey::rsa(key.modulus, u64::from_be_bytes(wide)))
}

fn curve_from_oid(oid: &str) -> Option<Curve> {
    Some(match oid {
        "1.2.840.10045.3.1.7" => Curve::P256,
        "1.3.132.0.34" => Curve::P384,
        "1.3.132.0.35" => Curve::P521,
        _ => return None,
    })
}

/// Writes an unsigned number right-aligned; nothing if it is wider than the place.
pub(crate) fn put_padded(number: &[u8], place: &mut [u8]) -> Option<()> {
    let number = without_leading_zeros(number);
    let start = place.len().checked_sub(number.len())?;
    let (zeros, digits) = place.split_at_mut(start);
    zeros.fill(0);
    digits.copy_from_slice(number);
    Some(())
}

/// RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER } (RFC 8017 A.1.1)
pub(crate) fn rsa_public_key(modulus: &[u8], exponent: u64) -> Vec<u8> {
    let exponent = der::unsigned_integer(&exponent.to_be_bytes());
    der::element(SEQUENCE, &[der::unsigned_integer(modulus), exponent].concat())
}

/// ECDSA-Sig-Value ::= SEQUENCE { r INTEGER, s INTEGER } (RFC 3279 §2.2.3)
pub fn ecdsa_sig_value(r: &[u8], s: &[u8]) -> Vec<u8> {
    der::element(SEQUENCE, &[der::unsigned_integer(r), der::unsigned_integer(s)].concat())
}

fn spki(identifier: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = der::element(BIT_STRING, &[&[0], key].concat());
    der::element(SEQUENCE, &[identifier, &bits].concat())
}

const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const RSAES_OAEP: &str = "1.2.840.113549.1.1.7";
const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";

/// AlgorithmIdentifier { rsaEncryption, NULL }
const RSA_IDENTIFIER: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// AlgorithmIdentifier { id-ecPublicKey, namedCurve }
const P256_IDENTIFIER: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
const P384_IDENTIFIER: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x22,
];
const P521_IDENTIFIER: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x23,
];

/// The odd primes up to 167, all of which divide M for 2048-bit keys of the flawed library. Those
/// that fewest residues pass come first, so that an ordinary modulus costs one or two divisions.
const ROCA_PRIMES: [u32; 38] = [
    97, 37, 79, 11, 61, 73, 127, 151, 13, 17, 19, 53, 71, 103, 107, 109, 157, 3, 5, 7, 23, 29, 31,
    41, 43, 47, 59, 67, 83, 89, 101, 113, 131, 137, 139, 149, 163, 167,
];
