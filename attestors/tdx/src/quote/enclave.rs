//! The report of an SGX enclave, here of the quoting enclave (Intel SDM vol. 3D, REPORT).

use assay_evidence::Reader;

use crate::error::Error;
use crate::quote::u16_le;

/// What a QE identity is compared with. 384 bytes without the MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnclaveReport {
    /// Offset 16.
    pub miscselect: [u8; 4],
    /// Offset 48.
    pub attributes: [u8; 16],
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
        // MRENCLAVE changes with each build; the identity names the signer. Then reserved bytes.
        reader.take(32 + 32)?;
        let mrsigner = reader.array()?;
        reader.take(96)?;
        let isv_prod_id = u16_le(&mut reader)?;
        let isv_svn = u16_le(&mut reader)?;
        reader.take(60)?;
        let report_data = reader.array()?;
        reader.finish()?;
        Ok(EnclaveReport { miscselect, attributes, mrsigner, isv_prod_id, isv_svn, report_data })
    }

    /// ATTRIBUTES bit 1: the enclave's memory can be read, so its key is nobody's.
    pub const fn debug(&self) -> bool {
        let [first, ..] = self.attributes;
        first & 2 != 0
    }
}
