//! CoRIM (draft-ietf-rats-corim): reference values as others exchange them, in CBOR.
//!
//! The subset is reference triples of CoMIDs, with digests and integrity registers, bare
//! (`#6.501`) or in COSE_Sign1. [`read`] takes those of anybody into a draft; [`write`] gives those
//! of a profile, in which our own reader finds components, variants and rules again. What a CoRIM
//! cannot say of a profile, and what a draft cannot say of a CoRIM, is listed.
//!
//! A measurement is one object with its digests by algorithm, so each row of a set is one, keyed by
//! `component/variant/register/class` and its place.

use std::collections::BTreeMap;

use assay_evidence::PublicKey;
use assay_evidence::cbor::Cbor;
use assay_evidence::cbor::CborError;
use assay_evidence::cbor::Kind;
use assay_evidence::cbor::Length;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;

use crate::reference::import::ImportError;
use crate::reference::import::Imported;
use crate::reference::profile::Root;

mod key;
mod read;
mod sign;
mod write;

pub use write::Exported;
pub use write::write;

/// Whose signature stands on what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// No signature at all.
    Not,
    /// There is one, and no key was given to verify it by.
    Unverified,
    /// SHA-256 of the public key.
    By([u8; 32]),
}

/// Reads a CoRIM. With `keys` it has to be signed by one of them.
pub fn read(bytes: &[u8], keys: &[PublicKey]) -> Result<Imported, ImportError> {
    if bytes.len() > MAX_CORIM {
        let (what, found) = ("bytes", bytes.len());
        return Err(ImportError::TooMany { what, found, max: MAX_CORIM });
    }
    let (signed, payload) = sign::open(bytes, keys)?;
    read::payload(payload, &signed)
}

/// The COSE_Sign1 around a CoRIM; `signer` is the name in its metadata.
pub use sign::seal;

/// A CoRIM of ours says so, and which registers its numbers mean.
fn profile_uri(root: Root) -> String {
    format!("{PROFILE}{}", root.name())
}

fn malformed(what: &str, error: CborError) -> ImportError {
    ImportError::Malformed(format!("{what}: {error}"))
}

/// The pairs of a map of whole numbers: `each` reads the value that stands behind the key.
fn map<'a>(
    cbor: &mut Cbor<'a>,
    what: &'static str,
    each: &mut dyn FnMut(i64, &mut Cbor<'a>) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let length = cbor.map().map_err(|error| malformed(what, error))?;
    let mut seen = Vec::new();
    let mut index = 0_u64;
    while cbor.more(length, index) {
        let key = cbor.integer().map_err(|error| malformed(what, error))?;
        if seen.contains(&key) || seen.len() > MAX_KEYS {
            return Err(ImportError::Malformed(format!("{what}: key {key} once more")));
        }
        seen.push(key);
        each(key, cbor)?;
        index = index.saturating_add(1);
    }
    Ok(())
}

fn list<'a>(
    cbor: &mut Cbor<'a>,
    what: &'static str,
    each: &mut dyn FnMut(u64, &mut Cbor<'a>) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let length = cbor.array().map_err(|error| malformed(what, error))?;
    let mut index = 0_u64;
    while cbor.more(length, index) {
        each(index, cbor)?;
        index = index.saturating_add(1);
    }
    Ok(())
}

/// An array of exactly `count`.
fn tuple(cbor: &mut Cbor<'_>, what: &'static str, count: u64) -> Result<(), ImportError> {
    match cbor.array().map_err(|error| malformed(what, error))? {
        Length::Definite(found) if found == count => Ok(()),
        found => Err(ImportError::Malformed(format!("{what}: {found:?} items, expected {count}"))),
    }
}

fn skip(cbor: &mut Cbor<'_>, what: &'static str) -> Result<(), ImportError> {
    cbor.skip().map_err(|error| malformed(what, error))
}

/// IANA "Named Information Hash Algorithm Registry".
const fn algorithm_id(algorithm: HashAlgorithm) -> Option<u64> {
    match algorithm {
        HashAlgorithm::Sha256 => Some(1),
        HashAlgorithm::Sha384 => Some(7),
        HashAlgorithm::Sha512 => Some(8),
        HashAlgorithm::Sha1 | HashAlgorithm::Sm3_256 => None,
    }
}

/// Digests of one object, each algorithm once. Those that never decide are counted in `weak`.
fn digests(
    cbor: &mut Cbor<'_>,
    weak: &mut usize,
) -> Result<BTreeMap<HashAlgorithm, Digest>, ImportError> {
    const WHAT: &str = "digests";
    let mut found = BTreeMap::new();
    list(cbor, WHAT, &mut |_, cbor| {
        tuple(cbor, "digest", 2)?;
        let algorithm = match cbor.kind() {
            Some(Kind::Text) => {
                let name = cbor.text().map_err(|error| malformed(WHAT, error))?;
                NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
            }
            _ => {
                let id = cbor.unsigned().map_err(|error| malformed(WHAT, error))?;
                HashAlgorithm::ALL.into_iter().find(|one| algorithm_id(*one) == Some(id))
            }
        };
        let bytes = cbor.bytes().map_err(|error| malformed(WHAT, error))?;
        let Some(algorithm) = algorithm else {
            *weak = weak.saturating_add(1);
            return Ok(());
        };
        let digest = Digest::new(algorithm, bytes).ok_or_else(|| {
            ImportError::Malformed(format!("a digest of {algorithm} with {} bytes", bytes.len()))
        })?;
        match found.insert(algorithm, digest) {
            None => Ok(()),
            Some(_) => Err(ImportError::Malformed(format!("two digests of {algorithm}"))),
        }
    })?;
    Ok(found)
}

const NAMES: [(&str, HashAlgorithm); 3] = [
    ("sha-256", HashAlgorithm::Sha256),
    ("sha-384", HashAlgorithm::Sha384),
    ("sha-512", HashAlgorithm::Sha512),
];
const PROFILE: &str = "urn:x-assay:reference-values:1:";
const MAX_CORIM: usize = 16 * 1_024 * 1_024;
/// No map of the format has half as many.
const MAX_KEYS: usize = 64;
/// `tagged-unsigned-corim-map`, `tagged-concise-mid-tag`, URI.
const TAG_CORIM: u64 = 501;
const TAG_COMID: u64 = 506;
const TAG_URI: u64 = 32;

#[cfg(test)]
mod tests;
