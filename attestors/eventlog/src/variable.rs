//! UEFI variables as they are measured, and the signature lists inside them.
//!
//! These are shapes only. That a variable says what it says counts only where the digest of its
//! event binds it.

use std::fmt;

use assay_evidence::Reader;
use assay_evidence::crypto;
use assay_evidence::reader::ReadError;
use serde::Serialize;
use serde::Serializer;

use crate::log::little32;

/// UEFI_VARIABLE_DATA (PFP 1.05, §10.4.2.6): vendor GUID, name length in characters u64, data
/// length u64, name in UTF-16LE without NUL, data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    pub vendor: Guid,
    pub name: String,
    pub data: &'a [u8],
    /// Bytes behind the structure: none, but in logs of an old shim.
    pub rest: &'a [u8],
}

/// A GUID in the byte order of EFI: its first three groups are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

/// One entry of an EFI_SIGNATURE_LIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    #[serde(rename = "type")]
    pub kind: SignatureKind,
    pub owner: Guid,
    /// Of a certificate its SHA-256; of a SHA-256 entry the digest itself; else of what it holds.
    #[serde(serialize_with = "in_hex")]
    pub sha256: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignatureKind {
    X509,
    Sha256,
    Other(Guid),
}

impl<'a> Variable<'a> {
    pub fn parse(bytes: &'a [u8]) -> Option<Variable<'a>> {
        let mut reader = Reader::new(bytes);
        let vendor = Guid(reader.array().ok()?);
        let name_length = little_size(&mut reader)?;
        let data_length = little_size(&mut reader)?;
        let name = reader.take(name_length.checked_mul(2)?).ok()?;
        let name = utf16(name)?;
        let data = reader.take(data_length).ok()?;
        Some(Variable { vendor, name, data, rest: reader.rest() })
    }

    pub fn is(&self, vendor: Guid, name: &str) -> bool {
        self.vendor == vendor && self.name == name
    }
}

fn little_size(reader: &mut Reader<'_>) -> Option<usize> {
    let size = reader.array().map(u64::from_le_bytes).ok()?;
    usize::try_from(size).ok()
}

/// UTF-16LE; nothing if it is none.
pub(crate) fn utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(pairs.iter().map(|pair| u16::from_le_bytes(*pair)))
        .collect::<Result<String, _>>()
        .ok()
}

/// EFI_SIGNATURE_LISTs one after another (UEFI 2.10, §32.4.1): type GUID, list size u32, header
/// size u32, entry size u32, the header, then entries of owner GUID and data. Nothing if any of
/// them does not fit.
pub fn signature_lists(bytes: &[u8]) -> Option<Vec<Signature>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while !reader.is_empty() {
        one_list(&mut reader, &mut found).ok()??;
    }
    Some(found)
}

fn one_list(reader: &mut Reader<'_>, found: &mut Vec<Signature>) -> Result<Option<()>, ReadError> {
    let kind = SignatureKind::from(Guid(reader.array()?));
    let sizes = [little32(reader)?, little32(reader)?, little32(reader)?];
    let [list, header, entry] = sizes.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    let Some(body) = list.checked_sub(LIST_HEADER) else { return Ok(None) };
    let mut body = Reader::new(reader.take(body)?);
    body.take(header)?;
    // An entry without data would let a list of nothing but owners be as long as it likes.
    if entry <= OWNER {
        return Ok(None);
    }
    while !body.is_empty() {
        let mut entry = Reader::new(body.take(entry)?);
        let owner = Guid(entry.array()?);
        let Some(sha256) = kind.sha256(entry.rest()) else { return Ok(None) };
        found.push(Signature { kind, owner, sha256 });
    }
    Ok(Some(()))
}

/// The certificate of an authority event: EFI_SIGNATURE_DATA (owner, certificate) as firmware and
/// newer shims measure it, or the bare certificate of older ones. DER of such sizes begins `30 8x`.
pub(crate) fn authority_certificate(data: &[u8]) -> (Option<Guid>, &[u8]) {
    let der = |bytes: &[u8]| matches!(bytes, [0x30, 0x81..=0x83, ..]);
    if der(data) {
        return (None, data);
    }
    match data.split_first_chunk::<OWNER>() {
        Some((owner, rest)) if !rest.is_empty() => (Some(Guid(*owner)), rest),
        _ => (None, data),
    }
}

impl SignatureKind {
    fn sha256(self, data: &[u8]) -> Option<[u8; 32]> {
        match self {
            SignatureKind::Sha256 => data.try_into().ok(),
            SignatureKind::X509 | SignatureKind::Other(_) => Some(crypto::sha256(data)),
        }
    }
}

impl From<Guid> for SignatureKind {
    fn from(guid: Guid) -> SignatureKind {
        match guid {
            CERT_X509 => SignatureKind::X509,
            CERT_SHA256 => SignatureKind::Sha256,
            other => SignatureKind::Other(other),
        }
    }
}

impl fmt::Display for SignatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignatureKind::X509 => f.write_str("x509"),
            SignatureKind::Sha256 => f.write_str("sha256"),
            SignatureKind::Other(guid) => guid.fmt(f),
        }
    }
}

impl Serialize for SignatureKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Guid {
    /// From the five groups as they are written.
    const fn new(a: u32, b: u16, c: u16, d: [u8; 8]) -> Guid {
        let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
        Guid([a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d0, d1, d2, d3, d4, d5, d6, d7])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d @ ..] = self.0;
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let (b, c) = (u16::from_le_bytes([b0, b1]), u16::from_le_bytes([c0, c1]));
        let (head, tail) = d.split_at_checked(2).unwrap_or((&d, &[]));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{}-{}", hex::encode(head), hex::encode(tail))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn in_hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

const LIST_HEADER: usize = 28;
const OWNER: usize = 16;

/// EFI_GLOBAL_VARIABLE: SecureBoot, PK, KEK.
pub const GLOBAL: Guid =
    Guid::new(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
/// EFI_IMAGE_SECURITY_DATABASE_GUID: db, dbx, dbt, dbr.
pub const SECURITY_DATABASE: Guid =
    Guid::new(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
/// SHIM_LOCK_GUID: SbatLevel, MokList and its kin.
pub const SHIM_LOCK: Guid =
    Guid::new(0x605d_ab50, 0xe046, 0x4300, [0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23]);
const CERT_X509: Guid =
    Guid::new(0xa5c0_59a1, 0x94e4, 0x4aa7, [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);
const CERT_SHA256: Guid =
    Guid::new(0xc1c4_1626, 0x504c, 0x4092, [0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28]);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(kind: Guid, header: &[u8], entries: &[&[u8]]) -> Vec<u8> {
        let entry = 16 + entries[0].len();
        let size = 28 + header.len() + entry * entries.len();
        let numbers = [size, header.len(), entry].map(|n| u32::try_from(n).unwrap().to_le_bytes());
        let mut bytes = [&kind.0[..], &numbers.concat(), header].concat();
        for data in entries {
            bytes.extend_from_slice(&[7; 16]);
            bytes.extend_from_slice(data);
        }
        bytes
    }

    #[test]
    fn guids_are_written_as_people_write_them() {
        assert_eq!(GLOBAL.to_string(), "8be4df61-93ca-11d2-aa0d-00e098032b8c");
        assert_eq!(SHIM_LOCK.to_string(), "605dab50-e046-4300-abb6-3dd810dd8b23");
    }

    #[test]
    fn every_list_and_every_entry_is_read() {
        let bytes = [
            list(CERT_SHA256, &[], &[&[1; 32], &[2; 32]]),
            list(CERT_X509, &[9; 3], &[b"certificate"]),
        ]
        .concat();
        let found = signature_lists(&bytes).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[1].sha256, [2; 32]);
        assert_eq!(found[2].sha256, crypto::sha256(b"certificate"));
        assert_eq!(signature_lists(&[]), Some(vec![]));
    }

    #[test]
    fn a_list_that_does_not_fit_is_none() {
        let bytes = list(CERT_SHA256, &[], &[&[1; 32], &[2; 32]]);
        for end in 1..bytes.len() {
            assert_eq!(signature_lists(&bytes[..end]), None, "{end}");
        }
        assert_eq!(signature_lists(&list(CERT_SHA256, &[], &[&[1; 31]])), None);
        // Sizes: too small a list, an entry without data.
        for (place, value) in [(16, 27), (24, 16), (24, 0), (20, 0xff)] {
            let mut bytes = bytes.clone();
            bytes[place..place + 4].copy_from_slice(&u32::to_le_bytes(value));
            assert_eq!(signature_lists(&bytes), None, "{place}");
        }
    }
}
