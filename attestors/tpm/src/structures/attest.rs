//! TPMS_ATTEST: what a TPM signs, borrowed from the bytes it came in.
//!
//! Parsing accepts any magic and any type, because these are judged only after the signature: a
//! fault of an earlier stage is told first.

use assay_evidence::Reader;
use serde::Serialize;

use crate::error::Error;
use crate::structures::selection::Selections;

/// Part 2, §10.12.12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attest<'a> {
    pub magic: u32,
    pub kind: u16,
    pub qualified_signer: &'a [u8],
    pub extra_data: &'a [u8],
    pub clock: ClockInfo,
    pub firmware_version: u64,
    pub attested: Attested<'a>,
    raw: &'a [u8],
}

/// Part 2, §10.11.1 TPMS_CLOCK_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClockInfo {
    // In the order in which progress is judged.
    pub reset_count: u32,
    pub restart_count: u32,
    /// Milliseconds of being powered.
    pub clock: u64,
    /// The TPM vouches that the clock never ran backwards.
    pub safe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attested<'a> {
    /// Part 2, §10.12.1 TPMS_QUOTE_INFO.
    Quote { selections: Selections, pcr_digest: &'a [u8] },
    /// Part 2, §10.12.3 TPMS_CERTIFY_INFO.
    Certify { name: &'a [u8], qualified_name: &'a [u8] },
    /// Part 2, §10.12.5 TPMS_CREATION_INFO.
    Creation { name: &'a [u8], creation_hash: &'a [u8] },
    /// Any other statement; its body is not looked at.
    Other,
}

impl<'a> Attest<'a> {
    pub fn parse(raw: &'a [u8]) -> Result<Attest<'a>, Error> {
        let mut reader = Reader::new(raw);
        let magic = reader.u32()?;
        let kind = reader.u16()?;
        let qualified_signer = reader.sized16(MAX_NAME)?;
        let extra_data = reader.sized16(MAX_DATA)?;
        let clock = reader.u64()?;
        let clock = ClockInfo {
            reset_count: reader.u32()?,
            restart_count: reader.u32()?,
            clock,
            safe: match reader.u8()? {
                0 => false,
                1 => true,
                // TPMI_YES_NO has two values (Part 2, §9.2).
                _ => return Err(Error::Malformed { place: "clock" }),
            },
        };
        let firmware_version = reader.u64()?;
        let attested = match kind {
            QUOTE => Attested::Quote {
                selections: Selections::read(&mut reader)?,
                pcr_digest: reader.sized16(MAX_DIGEST)?,
            },
            CERTIFY => Attested::Certify {
                name: reader.sized16(MAX_NAME)?,
                qualified_name: reader.sized16(MAX_NAME)?,
            },
            CREATION => Attested::Creation {
                name: reader.sized16(MAX_NAME)?,
                creation_hash: reader.sized16(MAX_DIGEST)?,
            },
            _ => {
                reader.take(reader.rest().len())?;
                Attested::Other
            }
        };
        reader.finish()?;
        Ok(Attest {
            magic,
            kind,
            qualified_signer,
            extra_data,
            clock,
            firmware_version,
            attested,
            raw,
        })
    }

    /// The signed bytes, as received.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }
}

impl ClockInfo {
    /// Whether this is later than `earlier` on the same TPM, or the same moment.
    pub fn not_before(&self, earlier: &ClockInfo) -> bool {
        let progress = |at: &ClockInfo| (at.reset_count, at.restart_count, at.clock);
        progress(self) >= progress(earlier)
    }
}

impl Serialize for ClockInfo {
    /// The clock passes 2^53 in principle, so it is written as a string.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("ClockInfo", 4)?;
        out.serialize_field("reset_count", &self.reset_count)?;
        out.serialize_field("restart_count", &self.restart_count)?;
        out.serialize_field("clock", &self.clock.to_string())?;
        out.serialize_field("safe", &self.safe)?;
        out.end()
    }
}

/// TPM_GENERATED_VALUE (Part 2, §6.2): a TPM refuses to sign with a restricted key whatever
/// begins with it from outside, so a statement that begins with it was made inside.
pub const MAGIC: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_* (Part 2, §6.9).
pub const QUOTE: u16 = 0x8018;
pub const CERTIFY: u16 = 0x8017;
pub const CREATION: u16 = 0x801a;

/// TPM2B_NAME holds an algorithm number and a digest.
const MAX_NAME: usize = 66;
/// TPM2B_DATA holds a TPMT_HA.
const MAX_DATA: usize = 66;
const MAX_DIGEST: usize = 64;
