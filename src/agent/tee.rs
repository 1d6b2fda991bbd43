//! The report of a confidential machine's processor in the agent's hands.
//!
//! A machine has it where its kernel offers configfs-tsm (6.7 and later); what the report must say
//! is the exchange's to know. Everything here blocks.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use assay_tsm::Collected;
use assay_tsm::Provider;
use assay_tsm::Request;
use assay_tsm::Tsm;

use crate::envelope::Item;
use crate::envelope::MediaType;

/// Where Linux shows the boot log of a TD, as ACPI describes it.
const CCEL: &str = "/sys/firmware/acpi/tables/data/CCEL";
/// ATTESTATION_REPORT; what a kernel gives beyond it is padding.
const SNP_REPORT: usize = 1_184;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeeError {
    #[error("no report of the processor")]
    Tsm(#[from] assay_tsm::Error),
    #[error("`{}`: its reports are made by `{provider:?}`, which this agent does not know", folder.display())]
    Provider { folder: PathBuf, provider: Provider },
    #[error("the processor's reports are made by `{found:?}` now, by `{before:?}` before")]
    Changed { found: Provider, before: Provider },
    #[error("a report of {found} bytes, where {SNP_REPORT} and zero padding may stand")]
    Size { found: usize },
}

/// A processor that gives reports.
#[derive(Debug)]
pub struct HostTee {
    tsm: Tsm,
    provider: Provider,
    ccel: PathBuf,
}

impl HostTee {
    /// What this machine has. A folder that was configured has to be there; Linux's own need not.
    pub fn find(folder: Option<&Path>) -> Result<Option<Self>, TeeError> {
        let tsm = folder.map_or_else(Tsm::system, Tsm::at);
        if folder.is_none() && !tsm.is_offered() {
            return Ok(None);
        }
        let provider = match tsm.provider() {
            Ok(provider) => provider,
            // The kernel has configfs-tsm and no driver behind it: an ordinary machine.
            Err(error) if folder.is_none() => {
                tracing::info!(%error, "this machine gives no reports of its processor");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        match provider {
            Provider::SevGuest | Provider::TdxGuest => {
                tracing::info!(?provider, "reports of the processor are shown");
                Ok(Some(Self { tsm, provider, ccel: PathBuf::from(CCEL) }))
            }
            provider if folder.is_none() => {
                tracing::warn!(?provider, "the reports of this machine are of no known kind");
                Ok(None)
            }
            provider => Err(TeeError::Provider { folder: tsm.folder().to_path_buf(), provider }),
        }
    }

    /// Kinds of evidence that it gives.
    pub fn kinds(&self) -> Vec<MediaType> {
        match self.provider {
            Provider::TdxGuest => {
                let ccel = self.ccel.exists().then_some(MediaType::Ccel);
                std::iter::once(MediaType::TdxQuote).chain(ccel).collect()
            }
            _ => vec![MediaType::SnpReport, MediaType::SnpHostCerts],
        }
    }

    /// A report over this data, and what came with it, as far as they are wanted.
    pub fn collect(
        &self,
        report_data: &[u8; 64],
        wanted: &[MediaType],
    ) -> Result<Vec<Item>, TeeError> {
        if !self.kinds().iter().any(|kind| wanted.contains(kind)) {
            return Ok(Vec::new());
        }
        let request = Request { report_data, privilege_level: None, service: None };
        let Collected { provider, report, auxiliary, .. } = self.tsm.collect(&request)?;
        if provider != self.provider {
            let before = self.provider.clone();
            return Err(TeeError::Changed { found: provider, before });
        }
        let mut items = match provider {
            Provider::TdxGuest => vec![item(MediaType::TdxQuote, report)],
            _ => vec![item(MediaType::SnpReport, unpadded(report)?)],
        };
        items.extend(auxiliary.map(|table| item(MediaType::SnpHostCerts, table)));
        items.retain(|item| wanted.contains(&item.media_type));
        Ok(items)
    }

    /// The boot log of a TD, as far as a server takes one.
    pub fn ccel(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.ccel)?.take(MediaType::Ccel.limit()).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn item(media_type: MediaType, bytes: Vec<u8>) -> Item {
    Item { media_type, bytes }
}

/// The verifier takes a report of its exact length.
fn unpadded(mut report: Vec<u8>) -> Result<Vec<u8>, TeeError> {
    let found = report.len();
    let padded = report.get(SNP_REPORT..).is_some_and(|rest| rest.iter().all(|&byte| byte == 0));
    if !padded {
        return Err(TeeError::Size { found });
    }
    report.truncate(SNP_REPORT);
    Ok(report)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_that_was_named_has_to_be_there() {
        let refused = HostTee::find(Some(Path::new("/nowhere/tsm"))).unwrap_err();
        assert!(matches!(refused, TeeError::Tsm(assay_tsm::Error::NotOffered { .. })), "{refused}");
    }

    #[test]
    fn a_report_is_cut_to_its_length_where_zeros_follow_and_nothing_else() {
        let report = vec![7; SNP_REPORT];
        assert_eq!(unpadded([&report[..], &[0; 9]].concat()).unwrap(), report);
        assert_eq!(unpadded(report.clone()).unwrap(), report);
        for odd in [[&report[..], &[1]].concat(), vec![7; SNP_REPORT - 1], Vec::new()] {
            assert!(matches!(unpadded(odd), Err(TeeError::Size { .. })));
        }
    }
}
