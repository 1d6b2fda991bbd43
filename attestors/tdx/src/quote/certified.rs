//! What stands behind the body of any quote: its signature, the attestation key, the report of the
//! quoting enclave that vouches for that key, and the PCK chain that vouches for the enclave.
//!
//! The same for trust domains (version 4 and 5) and enclaves (version 3), but for one envelope:
//! from version 4 on the QE's report is certification data of its own.

use assay_evidence::Reader;

use super::enclave::EnclaveReport;
use super::size;
use super::u16_le;
use crate::error::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified<'a> {
    signed: &'a [u8],
    signature: &'a [u8],
    attestation_key: &'a [u8],
    qe_report: &'a [u8],
    qe_signature: &'a [u8],
    qe_authentication: &'a [u8],
    pck_chain_pem: &'a [u8],
    padding: usize,
}

impl<'a> Certified<'a> {
    /// `reader` stands behind the body.
    pub(super) fn parse(bytes: &'a [u8], reader: Reader<'a>) -> Result<Certified<'a>, Error> {
        Certified::parts(bytes, reader, |reader| {
            certification(reader, QE_REPORT_CERTIFICATION, "certification data")
        })
    }

    /// The QE's report follows the attestation key without an envelope.
    pub(super) fn parse_bare(bytes: &'a [u8], reader: Reader<'a>) -> Result<Certified<'a>, Error> {
        Certified::parts(bytes, reader, Ok)
    }

    fn parts(
        bytes: &'a [u8],
        mut reader: Reader<'a>,
        open: impl FnOnce(Reader<'a>) -> Result<Reader<'a>, Error>,
    ) -> Result<Certified<'a>, Error> {
        let signed = consumed(bytes, &reader)?;
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
        let mut reader = open(reader)?;
        let qe_report = reader.take(EnclaveReport::SIZE)?;
        let qe_signature = reader.take(SIGNATURE)?;
        let length = usize::from(u16_le(&mut reader)?);
        if length != QE_AUTHENTICATION {
            return Err(Error::malformed("QE authentication data", length, QE_AUTHENTICATION));
        }
        let qe_authentication = reader.take(length)?;
        let reader = certification(reader, PCK_CHAIN_CERTIFICATION, "PCK certification data")?;
        Ok(Certified {
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

fn consumed<'a>(bytes: &'a [u8], reader: &Reader<'a>) -> Result<&'a [u8], Error> {
    let length = bytes.len().saturating_sub(reader.rest().len());
    Ok(Reader::new(bytes).take(length)?)
}

const SIGNATURE: usize = 64;
const KEY: usize = 64;
const QE_AUTHENTICATION: usize = 32;
/// Certification data that holds the QE's report and, inside, the next certification data.
const QE_REPORT_CERTIFICATION: u16 = 6;
/// Certification data that holds the PCK chain as PEM.
const PCK_CHAIN_CERTIFICATION: u16 = 5;
