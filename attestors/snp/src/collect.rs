//! A report of the guest that this runs in, by configfs-tsm (feature `attest`).
//!
//! The older way, the ioctl of `/dev/sev-guest`, is not taken: it would need unsafe code, and every
//! kernel since 6.7 has this one.

use assay_tsm::Provider;
use assay_tsm::Request;
use assay_tsm::Tsm;

use crate::report::REPORT_SIZE;

/// What a guest shows: a report, and the certificates that its host handed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// 1184 bytes.
    pub report: Vec<u8>,
    /// The host's table; nothing where the host has none.
    pub host_certificates: Option<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    #[error("no report from the kernel")]
    Tsm(#[from] assay_tsm::Error),
    #[error("the reports of this machine are made by {0:?}")]
    Provider(Provider),
    #[error("a report of {found} bytes where 1184 and zero padding may stand")]
    Size { found: usize },
}

/// Asks for a report over this data at the kernel's own privilege level, or at the one given.
pub fn collect(
    tsm: &Tsm,
    report_data: &[u8; 64],
    vmpl: Option<u8>,
) -> Result<Collected, CollectError> {
    let request = Request { report_data, privilege_level: vmpl, service: None };
    let found = tsm.collect(&request)?;
    if found.provider != Provider::SevGuest {
        return Err(CollectError::Provider(found.provider));
    }
    let size = found.report.len();
    let (report, padding) =
        found.report.split_at_checked(REPORT_SIZE).ok_or(CollectError::Size { found: size })?;
    if padding.iter().any(|&byte| byte != 0) {
        return Err(CollectError::Size { found: size });
    }
    Ok(Collected { report: report.to_vec(), host_certificates: found.auxiliary })
}
