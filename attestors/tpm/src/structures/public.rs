//! TPMT_PUBLIC: the public area of an RSA or ECC key, read and written.
//!
//! The bytes are kept as they came, because the Name is a hash over them. Other object types and
//! curves are refused: no evidence is made with them here.

use std::fmt;

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reader;
use serde::Serialize;
use serde::Serializer;

use crate::error::Error;
use crate::structures::name::Name;
use crate::structures::signature;
use crate::structures::signature::SigningScheme;

/// Part 2, §12.2.4.
#[derive(Clone, PartialEq, Eq)]
pub struct Public {
    raw: Vec<u8>,
    name: Name,
    area: Area,
}

/// What a public area says, apart from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    pub name_algorithm: HashAlgorithm,
    pub attributes: Attributes,
    pub auth_policy: Vec<u8>,
    pub symmetric: Option<Symmetric>,
    pub scheme: Option<Scheme>,
    pub key: PublicKey,
}

/// TPMT_SYM_DEF_OBJECT that is not NULL (Part 2, §11.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symmetric {
    pub algorithm: u16,
    pub key_bits: u16,
    pub mode: u16,
}

/// TPMT_RSA_SCHEME or TPMT_ECC_SCHEME that is not NULL (Part 2, §11.2.4.2 and §11.2.5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Signing(SigningScheme),
    /// A scheme that makes no signatures we verify, by its number.
    Other(u16),
}

/// Kind and size of a key, as a template fixes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// With the default exponent, 65537.
    Rsa {
        bits: u16,
    },
    Ecc(Curve),
}

/// TPMA_OBJECT (Part 2, §8.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    pub const FIXED_TPM: u32 = 1 << 1;
    pub const ST_CLEAR: u32 = 1 << 2;
    pub const FIXED_PARENT: u32 = 1 << 4;
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub const USER_WITH_AUTH: u32 = 1 << 6;
    pub const ADMIN_WITH_POLICY: u32 = 1 << 7;
    pub const NO_DA: u32 = 1 << 10;
    pub const ENCRYPTED_DUPLICATION: u32 = 1 << 11;
    pub const RESTRICTED: u32 = 1 << 16;
    pub const DECRYPT: u32 = 1 << 17;
    pub const SIGN: u32 = 1 << 18;

    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

impl Shape {
    pub(crate) fn fits(self, key: &PublicKey) -> bool {
        match (self, key) {
            (Shape::Rsa { bits }, PublicKey::Rsa { modulus, exponent }) => {
                modulus.len() * 8 == usize::from(bits) && *exponent == 65_537
            }
            (Shape::Ecc(wanted), PublicKey::Ec { curve, .. }) => wanted == *curve,
            _ => false,
        }
    }

    /// A key of this shape that nobody has, where only the shape matters.
    pub(crate) fn stand_in(self) -> PublicKey {
        match self {
            Shape::Rsa { bits } => {
                PublicKey::Rsa { modulus: vec![0xff; usize::from(bits / 8)], exponent: 65_537 }
            }
            Shape::Ecc(curve) => {
                let mut point = vec![0; 1 + 2 * curve.field_size()];
                point.iter_mut().take(1).for_each(|form| *form = 4);
                PublicKey::Ec { curve, point }
            }
        }
    }
}

impl Area {
    /// The TPMT_PUBLIC from which a TPM makes a key like this: `unique` stands in place of the
    /// modulus, or of both coordinates.
    pub(crate) fn input(self, unique: &[u8]) -> Option<Vec<u8>> {
        let (places, size) = match &self.key {
            PublicKey::Rsa { modulus, .. } => (1, 2 + modulus.len()),
            PublicKey::Ec { curve, .. } => (2, 2 * (2 + curve.field_size())),
        };
        let mut raw = Public::from_area(self).ok()?.raw;
        raw.truncate(raw.len().checked_sub(size)?);
        for _ in 0..places {
            put_sized(&mut raw, unique).ok()?;
        }
        Some(raw)
    }
}

impl Public {
    /// A TPMT_PUBLIC and nothing behind it.
    pub fn parse(raw: &[u8]) -> Result<Public, Error> {
        let mut reader = Reader::new(raw);
        let object_type = reader.u16()?;
        let name_algorithm = hash(&mut reader)?;
        let attributes = Attributes(reader.u32()?);
        let auth_policy = reader.sized16(MAX_DIGEST)?.to_vec();
        let symmetric = symmetric(&mut reader)?;
        let (scheme, key) = match object_type {
            RSA => rsa(&mut reader)?,
            ECC => ecc(&mut reader)?,
            id => return Err(Error::UnknownAlgorithm { place: "public area", id }),
        };
        reader.finish()?;
        let area = Area { name_algorithm, attributes, auth_policy, symmetric, scheme, key };
        Public::named(raw.to_vec(), area)
    }

    /// A TPM2B_PUBLIC or a TPMT_PUBLIC: files hold either.
    pub fn parse_file(bytes: &[u8]) -> Result<Public, Error> {
        let mut reader = Reader::new(bytes);
        match reader.sized16(MAX_PUBLIC) {
            Ok(inner) if reader.is_empty() => Public::parse(inner),
            _ => Public::parse(bytes),
        }
    }

    /// Writes the area as a TPM would, coordinates at the width of the field.
    pub fn from_area(area: Area) -> Result<Public, Error> {
        let mut raw = Vec::with_capacity(512);
        let rsa = matches!(area.key, PublicKey::Rsa { .. });
        put16(&mut raw, if rsa { RSA } else { ECC });
        put16(&mut raw, area.name_algorithm.tpm_id());
        raw.extend_from_slice(&area.attributes.0.to_be_bytes());
        put_sized(&mut raw, &area.auth_policy)?;
        match area.symmetric {
            None => put16(&mut raw, NULL),
            Some(Symmetric { algorithm, key_bits, mode }) => {
                [algorithm, key_bits, mode].into_iter().for_each(|word| put16(&mut raw, word));
            }
        }
        match area.scheme {
            None => put16(&mut raw, NULL),
            Some(Scheme::Signing(scheme)) => {
                put16(&mut raw, scheme_id(scheme));
                put16(&mut raw, scheme.hash().tpm_id());
            }
            Some(Scheme::Other(_)) => return Err(Error::Malformed { place: "scheme" }),
        }
        match &area.key {
            PublicKey::Rsa { modulus, exponent } => {
                let bits = u16::try_from(modulus.len() * 8);
                put16(&mut raw, bits.map_err(|_| Error::Malformed { place: "RSA key" })?);
                let exponent = match exponent {
                    65_537 => 0,
                    other => u32::try_from(*other)
                        .map_err(|_| Error::Malformed { place: "RSA exponent" })?,
                };
                raw.extend_from_slice(&exponent.to_be_bytes());
                put_sized(&mut raw, modulus)?;
            }
            PublicKey::Ec { curve, .. } => {
                put16(&mut raw, curve.tpm_id());
                put16(&mut raw, NULL);
                let (x, y) =
                    area.key.coordinates().ok_or(Error::Malformed { place: "ECC point" })?;
                put_sized(&mut raw, x)?;
                put_sized(&mut raw, y)?;
            }
        }
        Public::named(raw, area)
    }

    /// The bytes of the TPMT_PUBLIC as they came.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub fn name(&self) -> Name {
        self.name
    }

    pub fn area(&self) -> &Area {
        &self.area
    }

    pub fn attributes(&self) -> Attributes {
        self.area.attributes
    }

    pub fn key(&self) -> &PublicKey {
        &self.area.key
    }

    /// The SubjectPublicKeyInfo of this key, rebuilt from the public area.
    pub fn spki_der(&self) -> Vec<u8> {
        self.area.key.to_spki()
    }

    fn named(raw: Vec<u8>, area: Area) -> Result<Public, Error> {
        let name = Name::of(area.name_algorithm, &raw)
            .ok_or(Error::UnknownAlgorithm { place: "name", id: area.name_algorithm.tpm_id() })?;
        Ok(Public { raw, name, area })
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Public({})", self.name)
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attributes({self})")
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// TPMS_RSA_PARMS without the symmetric part, and TPM2B_PUBLIC_KEY_RSA (Part 2, §12.2.3.5).
fn rsa(reader: &mut Reader<'_>) -> Result<(Option<Scheme>, PublicKey), Error> {
    let scheme = match reader.u16()? {
        NULL => None,
        RSAES => Some(Scheme::Other(RSAES)),
        signature::RSASSA => Some(Scheme::Signing(SigningScheme::Rsassa(hash(reader)?))),
        signature::RSAPSS => Some(Scheme::Signing(SigningScheme::Rsapss(hash(reader)?))),
        OAEP => {
            hash(reader)?;
            Some(Scheme::Other(OAEP))
        }
        id => return Err(Error::UnknownAlgorithm { place: "RSA scheme", id }),
    };
    let key_bits = usize::from(reader.u16()?);
    let exponent = match reader.u32()? {
        0 => 65_537,
        other => u64::from(other),
    };
    let modulus = reader.sized16(MAX_RSA)?;
    // A modulus of the stated size has its top bit set.
    if modulus.len() * 8 != key_bits || modulus.first().is_none_or(|top| top & 0x80 == 0) {
        return Err(Error::Malformed { place: "RSA modulus" });
    }
    Ok((scheme, PublicKey::rsa(modulus, exponent)))
}

/// TPMS_ECC_PARMS without the symmetric part, and TPMS_ECC_POINT (Part 2, §12.2.3.6).
fn ecc(reader: &mut Reader<'_>) -> Result<(Option<Scheme>, PublicKey), Error> {
    let scheme = match reader.u16()? {
        NULL => None,
        signature::ECDSA => Some(Scheme::Signing(SigningScheme::Ecdsa(hash(reader)?))),
        id @ (ECDH | ECMQV | SM2 | ECSCHNORR) => {
            hash(reader)?;
            Some(Scheme::Other(id))
        }
        ECDAA => {
            hash(reader)?;
            reader.u16()?;
            Some(Scheme::Other(ECDAA))
        }
        id => return Err(Error::UnknownAlgorithm { place: "ECC scheme", id }),
    };
    let id = reader.u16()?;
    let curve = Curve::from_tpm_id(id).ok_or(Error::UnknownCurve { id })?;
    // No command uses it, and every TPM has NULL here.
    if reader.u16()? != NULL {
        return Err(Error::Malformed { place: "key derivation" });
    }
    let (x, y) = (reader.sized16(curve.field_size())?, reader.sized16(curve.field_size())?);
    let key = PublicKey::ec(curve, x, y).ok_or(Error::Malformed { place: "ECC point" })?;
    Ok((scheme, key))
}

fn symmetric(reader: &mut Reader<'_>) -> Result<Option<Symmetric>, Error> {
    match reader.u16()? {
        NULL => Ok(None),
        algorithm @ (AES | SM4 | CAMELLIA) => {
            Ok(Some(Symmetric { algorithm, key_bits: reader.u16()?, mode: reader.u16()? }))
        }
        id => Err(Error::UnknownAlgorithm { place: "symmetric algorithm", id }),
    }
}

fn hash(reader: &mut Reader<'_>) -> Result<HashAlgorithm, Error> {
    let id = reader.u16()?;
    HashAlgorithm::from_tpm_id(id).ok_or(Error::UnknownAlgorithm { place: "public area", id })
}

const fn scheme_id(scheme: SigningScheme) -> u16 {
    match scheme {
        SigningScheme::Rsassa(_) => signature::RSASSA,
        SigningScheme::Rsapss(_) => signature::RSAPSS,
        SigningScheme::Ecdsa(_) => signature::ECDSA,
    }
}

fn put16(out: &mut Vec<u8>, word: u16) {
    out.extend_from_slice(&word.to_be_bytes());
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Error> {
    put16(out, u16::try_from(bytes.len()).map_err(|_| Error::Malformed { place: "length" })?);
    out.extend_from_slice(bytes);
    Ok(())
}

/// TPM_ALG_ID, TCG Algorithm Registry rev. 1.34, table 3.
const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const NULL: u16 = 0x0010;
pub(crate) const AES: u16 = 0x0006;
const SM4: u16 = 0x0013;
const CAMELLIA: u16 = 0x0026;
pub(crate) const CFB: u16 = 0x0043;
const RSAES: u16 = 0x0015;
const OAEP: u16 = 0x0017;
const ECDH: u16 = 0x0019;
const ECDAA: u16 = 0x001a;
const SM2: u16 = 0x001b;
const ECSCHNORR: u16 = 0x001c;
const ECMQV: u16 = 0x001d;

const MAX_DIGEST: usize = 64;
const MAX_RSA: usize = 512;
/// Everything of an RSA-4096 public area, with room to spare.
const MAX_PUBLIC: usize = 1024;
