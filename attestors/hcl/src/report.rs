//! The bytes of NV index 0x01400001.
//!
//! ```text
//! "HCLA" ‖ version ‖ size of all ‖ request type ‖ status ‖ 12 reserved          32 bytes
//! hardware report: SNP 1184, or TDREPORT 1024 and zeros                        1184 bytes
//! data size ‖ version ‖ report type (2 SNP, 4 TDX) ‖ hash type ‖ var-data size   20 bytes
//! var-data, then zeros to the end of the index
//! ```
//!
//! All numbers little-endian.

use assay_evidence::Reader;
use assay_evidence::crypto;
use assay_evidence::key::PublicKey;
use assay_evidence::reader::ReadError;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeStruct;

use crate::error::Fault;
use crate::var_data::VarData;

/// The parts of a report. Nothing here is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HclReport<'a> {
    pub hardware: Hardware<'a>,
    /// The JSON text as it came; its hash is what counts.
    pub raw_var_data: &'a [u8],
    pub var_data: VarData,
}

/// What the processor signed, or made a MAC over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware<'a> {
    /// 1184 bytes, for the SNP verifier.
    SnpReport(&'a [u8]),
    /// 1024 bytes; only its own machine can check it.
    TdReport(&'a [u8]),
}

/// A report whose var-data is what its report data names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    hardware: &'static str,
    report_data: [u8; 64],
    var_data: VarData,
}

impl<'a> HclReport<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<HclReport<'a>, Fault> {
        if bytes.len() > MAX_REPORT {
            return Err(Fault::Size { found: bytes.len(), max: MAX_REPORT });
        }
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let signature: [u8; 4] = r.array()?;
        if signature != *b"HCLA" {
            let found = hex::encode(signature);
            return Err(Fault::Field { field: "signature", found, expected: "HCLA" });
        }
        one_of("version", u32_le(r)?, &[1, 2], "1 or 2")?;
        let size = u32_le(r)?;
        one_of("request type", u32_le(r)?, &[2], "2")?;
        one_of("status", u32_le(r)?, &[0], "0")?;
        zeros("reserved", r.take(12)?)?;
        let hardware = r.take(HARDWARE)?;
        let data_size = u32_le(r)?;
        one_of("data version", u32_le(r)?, &[1], "1")?;
        let kind = u32_le(r)?;
        // 1 is SHA-256, the only one that is in use.
        one_of("hash type", u32_le(r)?, &[1], "1")?;
        let length = u32_le(r)?;
        let raw_var_data = r.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        // The three sizes say the same thing.
        let fixed = DATA_HEADER.checked_add(length);
        one_of("data size", data_size, fixed.as_slice(), "that of the data")?;
        let whole = fixed.and_then(|data| data.checked_add(HEADER_AND_HARDWARE));
        one_of("size", size, whole.as_slice(), "that of the report")?;
        if reader.rest().iter().any(|&byte| byte != 0) {
            return Err(Fault::Trailing);
        }
        let hardware = match kind {
            2 => Hardware::SnpReport(hardware),
            4 => {
                let (report, padding) = hardware
                    .split_at_checked(TD_REPORT)
                    .ok_or(ReadError::Short { needed: TD_REPORT, left: hardware.len() })?;
                zeros("padding of the TDREPORT", padding)?;
                Hardware::TdReport(report)
            }
            other => {
                let (field, expected) = ("report type", "2 (SNP) or 4 (TDX)");
                return Err(Fault::Field { field, found: other.to_string(), expected });
            }
        };
        Ok(HclReport { hardware, raw_var_data, var_data: VarData::parse(raw_var_data)? })
    }

    /// The same, if the report that it carries is over exactly this var-data. Whether that report
    /// is genuine is for its own verifier to say, which must be told to expect this report data.
    pub fn bound(self) -> Result<Bound, Fault> {
        let mut expected = [0; 64];
        let (hash, _zeros) = expected.split_at_mut(32);
        hash.copy_from_slice(&crypto::sha256(self.raw_var_data));
        let found = self.hardware.report_data();
        if found != Some(&expected[..]) {
            return Err(Fault::Unbound {
                found: hex::encode(found.unwrap_or_default()),
                expected: hex::encode(expected),
            });
        }
        if let Some(fault) = self.var_data.ak().fault() {
            return Err(Fault::KeyWeak(fault));
        }
        let hardware = match self.hardware {
            Hardware::SnpReport(_) => "snp",
            Hardware::TdReport(_) => "tdx",
        };
        Ok(Bound { hardware, report_data: expected, var_data: self.var_data })
    }
}

impl<'a> Hardware<'a> {
    /// REPORT_DATA: SNP ABI rev. 1.58, ATTESTATION_REPORT, offset 0x50; Intel TDX Module ABI,
    /// REPORTMACSTRUCT, offset 128.
    fn report_data(&self) -> Option<&'a [u8]> {
        match self {
            Hardware::SnpReport(report) => report.get(0x50..0x90),
            Hardware::TdReport(report) => report.get(128..192),
        }
    }
}

impl Bound {
    /// What the hardware report, or the TD quote beside it, must say for the binding to count.
    pub fn report_data(&self) -> &[u8; 64] {
        &self.report_data
    }

    /// The attestation key of the vTPM (`HCLAkPub`).
    pub fn ak(&self) -> &PublicKey {
        self.var_data.ak()
    }

    pub fn var_data(&self) -> &VarData {
        &self.var_data
    }
}

/// `hardware_report`, `var_data_bound`, `key_ids`, `vm_configuration`, `user_data`, and what the
/// binding does not give: `measures` and `freshness`.
impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut written = serializer.serialize_struct("Bound", 7)?;
        written.serialize_field("hardware_report", self.hardware)?;
        written.serialize_field("var_data_bound", &true)?;
        written.serialize_field("key_ids", &self.var_data.key_ids())?;
        written.serialize_field("vm_configuration", self.var_data.vm_configuration())?;
        written.serialize_field("user_data", &self.var_data.user_data().map(hex::encode))?;
        written.serialize_field("measures", "paravisor")?;
        written.serialize_field("freshness", "tpm-quote")?;
        written.end()
    }
}

fn one_of(
    field: &'static str,
    found: u32,
    allowed: &[u32],
    expected: &'static str,
) -> Result<(), Fault> {
    if allowed.contains(&found) {
        return Ok(());
    }
    Err(Fault::Field { field, found: found.to_string(), expected })
}

fn zeros(field: &'static str, bytes: &[u8]) -> Result<(), Fault> {
    if bytes.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    Err(Fault::Field { field, found: hex::encode(bytes), expected: "zeros" })
}

fn u32_le(reader: &mut Reader<'_>) -> Result<u32, ReadError> {
    reader.array().map(u32::from_le_bytes)
}

const HARDWARE: usize = 1184;
const TD_REPORT: usize = 1024;
const DATA_HEADER: u32 = 20;
const HEADER_AND_HARDWARE: u32 = 32 + 1184;
/// A promise of docs/reference/limits.md; real indexes have 2048 or 2600 bytes.
const MAX_REPORT: usize = 16 * 1024;
