//! `--endorsements` of the offline commands: a cache or a bundle instead of single files.
//!
//! Nobody has to vouch for a bundle here: whatever comes out of it is held against its vendor by
//! the verifier, at the time that is asked about. The key of a bundle matters where it is imported,
//! for there it decides what a server believes to be the newest.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use assay_snp::Product;
use assay_snp::Report;
use assay_tdx::Quote;
use assay_tdx::endorsement::TcbUpdate;

use crate::cli::endorsement;
use crate::cli::input::Inputs;
use crate::cli::output::Failure;
use crate::endorsement::Bundle;
use crate::endorsement::Cache;
use crate::endorsement::Entry;
use crate::endorsement::Subject;
use crate::endorsement::bundle::MAX_BUNDLE;

pub enum Source {
    Cache(Cache),
    Bundle(Bundle),
}

/// What there is for one report.
#[derive(Default)]
pub struct OfReport {
    pub vek: Option<Vec<u8>>,
    pub issuer: Option<Vec<u8>>,
    pub crl: Option<Vec<u8>>,
}

impl Source {
    /// A folder is a cache, a file is a bundle.
    pub fn open(inputs: &Inputs, path: &Path, extra: Option<&PathBuf>) -> Result<Source, Failure> {
        let roots = endorsement::roots(inputs, extra)?;
        if path.is_dir() {
            return Ok(Source::Cache(endorsement::open(path, roots)?));
        }
        let max = u64::try_from(MAX_BUNDLE).unwrap_or(u64::MAX);
        let text = inputs.read_up_to(path, max)?;
        match Bundle::open_unsigned(&text, &roots) {
            Ok(bundle) => Ok(Source::Bundle(bundle)),
            Err(error) => match super::carry::refused(&error, &text) {
                Ok(answer) => {
                    let message = error.to_string();
                    Err(Failure { answer: Some(Box::new(answer)), ..Failure::refused(message) })
                }
                Err(failure) => Err(failure),
            },
        }
    }

    /// Whatever there is; what is missing is the verifier's to tell. A report of version 2 names no
    /// product: each is tried.
    pub fn of_report(&self, report: &[u8]) -> OfReport {
        let Ok(report) = Report::parse(report) else { return OfReport::default() };
        let products = match report.cpuid {
            Some(_) => vec![None],
            None => Product::ALL.into_iter().map(Some).collect(),
        };
        let wanted = products
            .into_iter()
            .filter_map(|product| assay_snp::endorsement::wants(&report, product));
        let mut found = OfReport::default();
        for wanted in wanted {
            let (product, kind) = (wanted.product, wanted.kind);
            let vek = wanted.chip.and_then(|chip| self.find(&Subject::SnpVcek { product, chip }));
            let hidden = report.cpuid.is_some() && vek.is_none();
            if vek.is_none() && !hidden {
                continue;
            }
            found.vek = vek;
            found.issuer = self.find(&Subject::SnpIssuer { product, kind });
            found.crl = self.find(&Subject::SnpCrl { product, kind });
        }
        found
    }

    /// The collateral for a quote; the early one where there is no other.
    pub fn of_quote(&self, quote: &[u8]) -> Option<Vec<u8>> {
        let quote = Quote::parse(quote).ok()?;
        [TcbUpdate::Standard, TcbUpdate::Early].into_iter().find_map(|update| {
            let wanted = assay_tdx::endorsement::wants(&quote, update).ok()?;
            self.find(&Subject::TdxCollateral(wanted))
        })
    }

    fn find(&self, subject: &Subject) -> Option<Vec<u8>> {
        let entry: Option<Arc<Entry>> = match self {
            Source::Cache(cache) => cache.find(subject),
            Source::Bundle(bundle) => bundle.find(subject).cloned(),
        };
        entry.map(|entry| entry.body().to_vec())
    }
}
