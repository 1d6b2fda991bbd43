//! A TD quote as bytes: what was signed, by which key, and how far that key is said to be Intel's.
//!
//! Versions 4 and 5 (Intel TDX DCAP Quoting Library API, rev. 0.9, appendix A). All numbers are
//! little-endian. The signed bytes are kept as they came; nothing is ever encoded again. There is
//! no slack: sizes are exact, and only zeros may stand behind the quote, because Linux hands out
//! its whole buffer.
//!
//! Nothing here is verified; every value is a claim until `verify` has walked to a pinned root.

use assay_evidence::Reader;
use assay_evidence::reader::ReadError;

use crate::error::Error;

mod body;
mod certified;
mod enclave;

pub use body::Body;
pub use body::Extended;
pub use body::Preserved;
pub use body::TdAttributes;
pub use certified::Certified;
pub use enclave::EnclaveQuote;
pub use enclave::EnclaveReport;

/// A quote in its parts, borrowed from the bytes received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    version: u16,
    body_type: u16,
    body: Body,
    certified: Certified<'a>,
}

impl<'a> Quote<'a> {
    /// One quote, and behind it nothing but zeros.
    pub fn parse(bytes: &'a [u8]) -> Result<Quote<'a>, Error> {
        let mut reader = bounded(bytes)?;
        let version = header(&mut reader, &[4, 5], TEE_TDX)?;
        let body_type = match version {
            4 => TD_1_0,
            _ => {
                let kind = u16_le(&mut reader)?;
                let expected = Body::size(kind).ok_or_else(|| {
                    Error::malformed("body type", kind, "2 (TD 1.0), 3 (TD 1.5) or 4 (TD 1.5ex)")
                })?;
                let found = size(&mut reader)?;
                if found != expected {
                    return Err(Error::malformed("body size", found, expected));
                }
                kind
            }
        };
        let body = Body::parse(&mut reader, body_type)?;
        let certified = Certified::parse(bytes, reader)?;
        Ok(Quote { version, body_type, body, certified })
    }

    pub fn version(&self) -> u16 {
        self.version
    }

    /// 2, 3 or 4; a version 4 quote always has the TD 1.0 body.
    pub fn body_type(&self) -> u16 {
        self.body_type
    }

    pub fn body(&self) -> &Body {
        &self.body
    }

    /// What vouches for the body.
    pub fn certified(&self) -> &Certified<'a> {
        &self.certified
    }

    /// Header and body as they came: what the attestation key signed.
    pub fn signed(&self) -> &'a [u8] {
        self.certified.signed()
    }
}

/// The version of whatever claims to be a quote.
pub fn version(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_le_bytes)
}

fn bounded(bytes: &[u8]) -> Result<Reader<'_>, Error> {
    match bytes.len() > MAX_QUOTE {
        true => Err(Error::QuoteTooLarge { found: bytes.len(), max: MAX_QUOTE }),
        false => Ok(Reader::new(bytes)),
    }
}

/// The header, 48 bytes; its version is all that the rest depends on.
fn header(reader: &mut Reader<'_>, versions: &[u16], expected: u32) -> Result<u16, Error> {
    let version = u16_le(reader)?;
    if !versions.contains(&version) {
        return Err(Error::QuoteVersion { found: version });
    }
    let key_type = u16_le(reader)?;
    if key_type != ECDSA_P256 {
        return Err(Error::malformed("attestation key type", key_type, ECDSA_P256));
    }
    let tee = u32_le(reader)?;
    if tee != expected {
        return Err(Error::malformed("TEE type", format!("{tee:#x}"), format!("{expected:#x}")));
    }
    // Reserved (once QE and PCE SVN); covered by the signature, without a meaning.
    reader.take(4)?;
    let vendor: [u8; 16] = reader.array()?;
    if vendor != INTEL_QE {
        return Err(Error::malformed("QE vendor", hex::encode(vendor), hex::encode(INTEL_QE)));
    }
    // User data of the quoting enclave's platform: signed, without a meaning for a verifier.
    reader.take(20)?;
    Ok(version)
}

fn size(reader: &mut Reader<'_>) -> Result<usize, Error> {
    let size = u32_le(reader)?;
    usize::try_from(size).map_err(|_| Error::QuoteTooLarge { found: usize::MAX, max: MAX_QUOTE })
}

pub(crate) fn u16_le(reader: &mut Reader<'_>) -> Result<u16, ReadError> {
    reader.array().map(u16::from_le_bytes)
}

pub(crate) fn u32_le(reader: &mut Reader<'_>) -> Result<u32, ReadError> {
    reader.array().map(u32::from_le_bytes)
}

/// Eight times the largest buffer that a platform is known to hand out; a promise of
/// docs/reference/limits.md.
pub const MAX_QUOTE: usize = 64 * 1024;
/// Body type of every version 4 quote, though only version 5 writes it down.
const TD_1_0: u16 = 2;
/// ECDSA over P-256 with SHA-256.
const ECDSA_P256: u16 = 2;
const TEE_TDX: u32 = 0x81;
const INTEL_QE: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];
