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
mod enclave;

pub use body::Body;
pub use body::Extended;
pub use body::Preserved;
pub use body::TdAttributes;
pub(crate) use enclave::EnclaveReport;

/// A quote in its parts, borrowed from the bytes received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    version: u16,
    body_type: u16,
    body: Body,
    signed: &'a [u8],
    signature: &'a [u8],
    attestation_key: &'a [u8],
    qe_report: &'a [u8],
    qe_signature: &'a [u8],
    qe_authentication: &'a [u8],
    pck_chain_pem: &'a [u8],
    padding: usize,
}

impl<'a> Quote<'a> {
    /// One quote, and behind it nothing but zeros.
    pub fn parse(bytes: &'a [u8]) -> Result<Quote<'a>, Error> {
        if bytes.len() > MAX_QUOTE {
            return Err(Error::QuoteTooLarge { found: bytes.len(), max: MAX_QUOTE });
        }
        let mut reader = Reader::new(bytes);
        let version = header(&mut reader)?;
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
        let signed = consumed(bytes, reader)?;

        let length = size(&mut reader)?;
        let authentication = reader.take(length)?;
        // What a kernel's fixed buffer leaves behind the quote; any other byte is one added.
        let padding = reader.rest();
        if let Some(at) = padding.iter().position(|&byte| byte != 0) {
            return Err(Error::TrailingBytes { left: padding.len(), at });
        }

        let mut reader = Reader::new(authentication);
        let signature = reader.take(SIGNATURE)?;
        let attestation_key = reader.take(KEY)?;
        let mut reader = certification(reader, QE_REPORT_CERTIFICATION, "certification data")?;
        let qe_report = reader.take(EnclaveReport::SIZE)?;
        let qe_signature = reader.take(SIGNATURE)?;
        let length = usize::from(u16_le(&mut reader)?);
        if length != QE_AUTHENTICATION {
            return Err(Error::malformed("QE authentication data", length, QE_AUTHENTICATION));
        }
        let qe_authentication = reader.take(length)?;
        let reader = certification(reader, PCK_CHAIN_CERTIFICATION, "PCK certification data")?;
        Ok(Quote {
            version,
            body_type,
            body,
            signed,
            signature,
            attestation_key,
            qe_report,
            qe_signature,
            qe_authentication,
            pck_chain_pem: reader.rest(),
            padding: padding.len(),
        })
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

    /// Header and body as they came: what the attestation key signed.
    pub fn signed(&self) -> &'a [u8] {
        self.signed
    }

    /// Zeros behind the quote.
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// r ‖ s.
    pub fn signature(&self) -> &'a [u8] {
        self.signature
    }

    /// x ‖ y of the P-256 key that the quoting enclave made.
    pub fn attestation_key(&self) -> &'a [u8] {
        self.attestation_key
    }

    /// The report of the quoting enclave, which the PCK signed.
    pub fn qe_report(&self) -> &'a [u8] {
        self.qe_report
    }

    pub fn qe_signature(&self) -> &'a [u8] {
        self.qe_signature
    }

    pub fn qe_authentication(&self) -> &'a [u8] {
        self.qe_authentication
    }

    /// PCK certificate, its CA and the root, as text.
    pub fn pck_chain_pem(&self) -> &'a [u8] {
        self.pck_chain_pem
    }
}

/// The header, 48 bytes; its version is all that the rest depends on.
fn header(reader: &mut Reader<'_>) -> Result<u16, Error> {
    let version = u16_le(reader)?;
    if version != 4 && version != 5 {
        return Err(Error::QuoteVersion { found: version });
    }
    let key_type = u16_le(reader)?;
    if key_type != ECDSA_P256 {
        return Err(Error::malformed("attestation key type", key_type, ECDSA_P256));
    }
    let tee = u32_le(reader)?;
    if tee != TEE_TDX {
        return Err(Error::malformed("TEE type", format!("{tee:#x}"), format!("{TEE_TDX:#x}")));
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

/// Type and size of one certification data, which must fill what is left to the byte.
fn certification<'a>(
    mut reader: Reader<'a>,
    kind: u16,
    place: &'static str,
) -> Result<Reader<'a>, Error> {
    let found = u16_le(&mut reader)?;
    if found != kind {
        return Err(Error::malformed(place, format!("type {found}"), format!("type {kind}")));
    }
    let length = size(&mut reader)?;
    if length != reader.rest().len() {
        return Err(Error::malformed(place, length, reader.rest().len()));
    }
    Ok(reader)
}

fn consumed<'a>(bytes: &'a [u8], reader: Reader<'a>) -> Result<&'a [u8], Error> {
    let length = bytes.len().saturating_sub(reader.rest().len());
    Ok(Reader::new(bytes).take(length)?)
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
const SIGNATURE: usize = 64;
const KEY: usize = 64;
const QE_AUTHENTICATION: usize = 32;
/// Certification data that holds the QE's report and, inside, the next certification data.
const QE_REPORT_CERTIFICATION: u16 = 6;
/// Certification data that holds the PCK chain as PEM.
const PCK_CHAIN_CERTIFICATION: u16 = 5;
