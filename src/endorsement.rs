//! What vendors say of their hardware: asked for once, verified, kept on disk, and handed to
//! whoever verifies evidence.
//!
//! A report of a confidential guest is worth nothing without the certificate of its chip (AMD) or
//! the collateral of its platform (Intel), and those are at the vendors' services, which answer
//! slowly and refuse those who ask often. So: the cache first; one request for each subject however
//! many ask; a pace for each service; nothing kept that does not verify.
//!
//! What this deliberately does not do: it judges no evidence. What is wanted was read from evidence
//! that nobody has verified, and what is handed out is verified again by whoever uses it. And it is
//! not on the way of a verdict: verifiers take bytes and open no connection.

mod cache;
mod entry;
mod subject;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_snp::endorsement::Wanted as SnpWanted;
use assay_snp::report::SigningKey;
use assay_tdx::endorsement::Wanted as TdxWanted;

use crate::clock::Clock;

pub use cache::Cache;
pub use cache::CacheError;
pub use cache::Room;
pub use entry::Entry;
pub use entry::Roots;
pub use entry::Unfit;
pub use subject::Subject;
pub use subject::UnknownSubject;

/// Where endorsements are kept, and where those come from that are not.
#[derive(Debug, Clone)]
pub struct Config {
    /// The disk cache.
    pub folder: PathBuf,
    pub room: Room,
    /// Further roots, for test hardware.
    pub operator_roots: Vec<Certificate>,
}

/// One for a process; a clone is the same one.
#[derive(Clone)]
pub struct Endorsements(Arc<Shared>);

struct Shared {
    cache: Cache,
    clock: Clock,
}

/// What [`assay_snp::verify()`] takes beside a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpEndorsements {
    /// The certificate of the chip's key; nothing where it is its owner's to show (VLEK, a hidden
    /// chip).
    pub vek: Option<Vec<u8>>,
    /// Files of certificates above it; none where those are built in.
    pub chain: Vec<Vec<u8>>,
    /// The revocation list of the root, in force.
    pub crl: Option<Vec<u8>>,
    /// The oldest of them.
    pub fetched_at: Time,
    /// The first end of any of them; nothing if there are none.
    pub valid_until: Option<Time>,
    /// What ends soon.
    pub warnings: Vec<Finding>,
    /// Why there is no list, where there is none.
    pub missing: Option<Unavailable>,
}

/// What [`assay_tdx::verify()`] takes beside a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxEndorsements {
    /// JSON, as `assay_tdx::Collateral` parses it.
    pub collateral: Vec<u8>,
    pub fetched_at: Time,
    pub valid_until: Time,
    /// What ends soon.
    pub warnings: Vec<Finding>,
}

/// An endorsement that cannot be had now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    #[error("`{subject}` is not in the cache, and nothing is fetched here")]
    Absent { subject: Subject },
    #[error("`{subject}` ended at {until}, and there is no newer one")]
    Ended { subject: Subject, until: Time },
}

impl Unavailable {
    pub fn reason(&self) -> Reason {
        Reason::EndorsementUnavailable
    }

    pub fn subject(&self) -> &Subject {
        match self {
            Unavailable::Absent { subject } | Unavailable::Ended { subject, .. } => subject,
        }
    }

    pub fn finding(&self) -> Finding {
        let expected = format!("`{}` from its vendor or from a bundle", self.subject());
        let source = "docs/guides/endorsements.md";
        Finding::new(self.reason(), "endorsements", self.to_string(), expected, source)
    }
}

impl Endorsements {
    /// Opens the cache; asks nobody anything yet.
    pub fn open(config: Config, clock: Clock) -> Result<Endorsements, CacheError> {
        let roots = match config.operator_roots.is_empty() {
            true => Roots::vendors(),
            false => Roots::with_operator_roots(config.operator_roots),
        };
        let cache = Cache::open(&config.folder, Arc::new(roots), config.room)?;
        Ok(Endorsements(Arc::new(Shared { cache, clock })))
    }

    /// What it takes to verify the report that `wanted` was read from. A host's own table of
    /// certificates is the caller's to look at first.
    ///
    /// `source` is who showed the report, as it is counted: what is asked for on the word of
    /// evidence that is not verified yet is bounded for each source.
    ///
    /// A list that cannot be had is said in `missing`: whether a chain is good without is for the
    /// policy.
    pub async fn snp(
        &self,
        wanted: &SnpWanted,
        source: &str,
    ) -> Result<SnpEndorsements, Unavailable> {
        let now = self.0.clock.now();
        let (product, kind) = (wanted.product, wanted.kind);
        let mut found = Vec::new();
        let chain = match self.0.cache.roots().know_issuer(product, kind) {
            true => None,
            false => {
                let subject = Subject::SnpIssuer { product, kind };
                Some(self.current(subject, source, Duration::ZERO).await?)
            }
        };
        let vek = match wanted.chip.clone().filter(|_| kind == SigningKey::Vcek) {
            Some(chip) => {
                let subject = Subject::SnpVcek { product, chip };
                Some(self.current(subject, source, Duration::ZERO).await?)
            }
            None => None,
        };
        let list = Subject::SnpCrl { product, kind };
        let (crl, missing) = match self.current(list, source, Duration::ZERO).await {
            Ok(list) => (Some(list), None),
            Err(unavailable) => (None, Some(unavailable)),
        };
        found.extend(chain.iter().chain(&vek).chain(&crl).cloned());
        let body = |entry: &Arc<Entry>| entry.body().to_vec();
        Ok(SnpEndorsements {
            vek: vek.as_ref().map(body),
            chain: chain.as_ref().map(body).into_iter().collect(),
            crl: crl.as_ref().map(body),
            fetched_at: found.iter().map(|entry| entry.fetched_at()).min().unwrap_or(now),
            valid_until: found.iter().map(|entry| entry.dates().1).min(),
            warnings: found.iter().filter_map(|entry| entry.ending(now)).collect(),
            missing,
        })
    }

    /// The collateral for the quote that `wanted` was read from; overdue by at most `grace`, which
    /// is the policy's ([`assay_tdx::TdxPolicy::collateral_grace`]). `source` as for a report.
    pub async fn tdx(
        &self,
        wanted: &TdxWanted,
        source: &str,
        grace: Duration,
    ) -> Result<TdxEndorsements, Unavailable> {
        let now = self.0.clock.now();
        let entry = self.current(Subject::TdxCollateral(*wanted), source, grace).await?;
        Ok(TdxEndorsements {
            collateral: entry.body().to_vec(),
            fetched_at: entry.fetched_at(),
            valid_until: entry.dates().1,
            warnings: entry.ending(now).into_iter().collect(),
        })
    }

    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// What is in force now, or overdue by no more than `grace`.
    async fn current(
        &self,
        subject: Subject,
        _source: &str,
        grace: Duration,
    ) -> Result<Arc<Entry>, Unavailable> {
        let now = self.0.clock.now();
        let kept = self.on_disk(subject.clone(), now).await;
        match kept {
            Some(entry) if entry.is_current(now, grace) => Ok(entry),
            Some(entry) => Err(Unavailable::Ended { subject, until: entry.dates().1 }),
            None => Err(Unavailable::Absent { subject }),
        }
    }

    /// What the cache has; what is overdue in memory may have been replaced on disk.
    async fn on_disk(&self, subject: Subject, now: Time) -> Option<Arc<Entry>> {
        let shared = Arc::clone(&self.0);
        let reading = tokio::task::spawn_blocking(move || {
            let found = shared.cache.find(&subject)?;
            match found.is_current(now, Duration::ZERO) {
                true => Some(found),
                false => shared.cache.read_again(&subject),
            }
        });
        reading.await.ok().flatten()
    }
}

impl fmt::Debug for Endorsements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endorsements").field("folder", &self.0.cache.folder()).finish()
    }
}
