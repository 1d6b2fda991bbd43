//! The report of an SGX enclave (Intel SDM vol. 3D, REPORT): of the quoting enclave in each quote,
//! and the body of a version 3 quote, which is an enclave's own.

use assay_evidence::Reader;

use super::Certified;
use super::bounded;
use super::header;
use crate::error::Error;
use crate::quote::u16_le;

/// A quote of an SGX enclave, version 3 (Intel SGX ECDSA QuoteGenReference, appendix A.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclaveQuote<'a> {
    report: EnclaveReport,
    certified: Certified<'a>,
}

impl<'a> EnclaveQuote<'a> {
    /// One quote, and behind it nothing but zeros.
    pub fn parse(bytes: &'a [u8]) -> Result<EnclaveQuote<'a>, Error> {
        let mut reader = bounded(bytes)?;
        header(&mut reader, &[3], TEE_SGX)?;
        let report = EnclaveReport::parse(reader.take(EnclaveReport::SIZE)?)?;
        let certified = Certified::parse_bare(bytes, reader)?;
        Ok(EnclaveQuote { report, certified })
    }

    pub fn report(&self) -> &EnclaveReport {
        &self.report
    }

    pub fn certified(&self) -> &Certified<'a> {
        &self.certified
    }
}

/// 384 bytes without the MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclaveReport {
    /// Offset 16.
    pub miscselect: [u8; 4],
    /// Offset 48.
    pub attributes: [u8; 16],
    /// Offset 64: changes with each build; a QE identity names the signer alone.
    pub mrenclave: [u8; 32],
    /// Offset 128.
    pub mrsigner: [u8; 32],
    /// Offset 256.
    pub isv_prod_id: u16,
    /// Offset 258.
    pub isv_svn: u16,
    /// Offset 320.
    pub report_data: [u8; 64],
}

impl EnclaveReport {
    pub const SIZE: usize = 384;

    pub fn parse(bytes: &[u8]) -> Result<EnclaveReport, Error> {
        let mut reader = Reader::new(bytes);
        // CPU SVN: the PCK certificate says what the platform's is.
        reader.take(16)?;
        let miscselect = reader.array()?;
        reader.take(28)?;
        let attributes = reader.array()?;
        let mrenclave = reader.array()?;
        reader.take(32)?;
        let mrsigner = reader.array()?;
        reader.take(96)?;
        let isv_prod_id = u16_le(&mut reader)?;
        let isv_svn = u16_le(&mut reader)?;
        reader.take(60)?;
        let report_data = reader.array()?;
        reader.finish()?;
        Ok(EnclaveReport {
            miscselect,
            attributes,
            mrenclave,
            mrsigner,
            isv_prod_id,
            isv_svn,
            report_data,
        })
    }

    /// ATTRIBUTES bit 1: the enclave's memory can be read, so its key is nobody's.
    pub const fn debug(&self) -> bool {
        let [first, ..] = self.attributes;
        first & 2 != 0
    }
}

/// Reserved in version 3, which is older than any other TEE.
const TEE_SGX: u32 = 0;
