//! What the TDX module says of a trust domain: the report body of a quote.
//!
//! Three layouts, each the one before with more behind it: TD 1.0 (584 bytes), TD 1.5 (648) and
//! TD 1.5 extended (885). Sources: Intel TDX Module ABI, TDREPORT_STRUCT; TDX DCAP Quoting Library
//! API, appendix A.3.

use assay_evidence::Reader;
use serde::Serialize;
use serde::Serializer;

use crate::error::Error;

/// Offsets are those of the TD 1.0 body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// 0x00: SVNs of the TDX module and what it loaded, at the TD's launch.
    pub tee_tcb_svn: [u8; 16],
    /// 0x10: measurement of the TDX module.
    pub mrseam: [u8; 48],
    /// 0x40: its signer; zero for Intel's own.
    pub mrsignerseam: [u8; 48],
    /// 0x70
    pub seam_attributes: [u8; 8],
    /// 0x78
    pub td_attributes: TdAttributes,
    /// 0x80
    pub xfam: [u8; 8],
    /// 0x88: measurement of the TD's initial memory.
    pub mrtd: [u8; 48],
    /// 0xb8
    pub mrconfigid: [u8; 48],
    /// 0xe8
    pub mrowner: [u8; 48],
    /// 0x118
    pub mrownerconfig: [u8; 48],
    /// 0x148: run-time measurement registers.
    pub rtmr: [[u8; 48]; 4],
    /// 0x208
    pub report_data: [u8; 64],
    /// TD 1.5 and later.
    pub preserved: Option<Preserved>,
    /// TD 1.5 extended.
    pub extended: Option<Extended>,
}

/// What TD 1.5 adds: the TCB may have changed under a running TD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preserved {
    /// 0x248: SVNs of the TDX module that runs now.
    pub tee_tcb_svn2: [u8; 16],
    /// 0x258: measurement of the bound service TDs; zero if there are none.
    pub mrservicetd: [u8; 48],
}

/// What TD 1.5 extended adds. Only the part that decides anything is kept by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// 0x289: unlike that of any other TD, also after a relaunch.
    pub td_id: [u8; 32],
    /// Service TDs at the TD's start.
    pub initial_service_td: [u8; 48],
    /// Service TDs bound now.
    pub current_service_td: [u8; 48],
}

impl Body {
    /// Bytes of each body type that a quote of version 5 may name.
    pub(crate) const fn size(kind: u16) -> Option<usize> {
        match kind {
            2 => Some(584),
            3 => Some(648),
            4 => Some(885),
            _ => None,
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>, kind: u16) -> Result<Body, Error> {
        Ok(Body {
            tee_tcb_svn: reader.array()?,
            mrseam: reader.array()?,
            mrsignerseam: reader.array()?,
            seam_attributes: reader.array()?,
            td_attributes: TdAttributes(reader.array().map(u64::from_le_bytes)?),
            xfam: reader.array()?,
            mrtd: reader.array()?,
            mrconfigid: reader.array()?,
            mrowner: reader.array()?,
            mrownerconfig: reader.array()?,
            rtmr: [reader.array()?, reader.array()?, reader.array()?, reader.array()?],
            report_data: reader.array()?,
            preserved: match kind {
                3 | 4 => {
                    Some(Preserved { tee_tcb_svn2: reader.array()?, mrservicetd: reader.array()? })
                }
                _ => None,
            },
            extended: match kind {
                4 => Some(Extended::parse(reader)?),
                _ => None,
            },
        })
    }

    /// Another TD stands behind this one and may act on it: migrate it, for instance.
    pub fn has_service_td(&self) -> bool {
        self.td_attributes.service_td_extension()
            || self.preserved.is_some_and(|td| td.mrservicetd != [0; 48])
            || self.extended.is_some_and(|td| td.current_service_td != [0; 48])
    }
}

impl Extended {
    fn parse(reader: &mut Reader<'_>) -> Result<Extended, Error> {
        // Which of the VMs of a partitioned TD this is.
        reader.take(1)?;
        let td_id = reader.array()?;
        // Identity of attached devices.
        reader.take(48)?;
        let initial_service_td = reader.array()?;
        // Attributes, SVNs and FMSPC of the service TD's first platform.
        reader.take(8 + 44)?;
        let current_service_td = reader.array()?;
        // Its attributes now.
        reader.take(8)?;
        Ok(Extended { td_id, initial_service_td, current_service_td })
    }
}

/// ATTRIBUTES of a TD (Intel TDX Module ABI, table "ATTRIBUTES"), as the 64-bit number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdAttributes(pub u64);

impl TdAttributes {
    /// The host may read the TD's memory and registers.
    pub const fn debug(self) -> bool {
        self.bit(0)
    }

    pub const fn service_td_extension(self) -> bool {
        self.bit(17)
    }

    /// A host that takes pages away cannot make the guest run its exception handler.
    pub const fn sept_ve_disable(self) -> bool {
        self.bit(28)
    }

    pub const fn migratable(self) -> bool {
        self.bit(29)
    }

    /// Protection keys for supervisor pages.
    pub const fn pks(self) -> bool {
        self.bit(30)
    }

    pub const fn key_locker(self) -> bool {
        self.bit(31)
    }

    pub const fn perfmon(self) -> bool {
        self.bit(63)
    }

    /// Bits that no published table gives a meaning: what they open is not known.
    pub const fn unknown(self) -> u64 {
        self.0 & !KNOWN
    }

    const fn bit(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }
}

impl Serialize for TdAttributes {
    /// The eight bytes in the order in which they stand in the quote.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.to_le_bytes()))
    }
}

/// DEBUG 0, ICSSD 16, SERVTD_EXT 17, LASS 27, SEPT_VE_DISABLE 28, MIGRATABLE 29, PKS 30, KL 31,
/// TPA 62, PERFMON 63.
const KNOWN: u64 =
    1 | 1 << 16 | 1 << 17 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 31 | 1 << 62 | 1 << 63;
