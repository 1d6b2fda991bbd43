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

pub mod bundle;
mod cache;
mod entry;
mod fetch;
mod https;
mod line;
mod service;
mod subject;
mod vendor;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_snp::endorsement::Wanted as SnpWanted;
use assay_snp::report::SigningKey;
use assay_tdx::endorsement::Wanted as TdxWanted;

use crate::clock::Clock;
use crate::endorsement::fetch::Fetcher;
use crate::endorsement::fetch::Need;

pub use bundle::Bundle;
pub use bundle::BundleError;
pub use cache::Cache;
pub use cache::CacheError;
pub use cache::Room;
pub use entry::Entry;
pub use entry::Roots;
pub use entry::Unfit;
pub use https::CaError;
pub use service::BaseUrl;
pub use service::Service;
pub use service::UrlError;
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
    /// Nothing is fetched from a vendor whose service is `None`.
    pub amd: Option<Service>,
    pub intel: Option<Service>,
    /// Authorities for the services' TLS certificates; the system's where it is `None`.
    pub ca: Option<PathBuf>,
    /// How long one request may take.
    pub request_within: Duration,
    /// How long somebody who asks waits for an answer that is under way.
    pub patience: Duration,
    /// For how long what failed is not asked for again.
    pub after_failure: Duration,
    /// Lists and collateral of this age are fetched again, while they are still good.
    pub renew_after: Duration,
}

impl Config {
    /// The cache alone: nothing is fetched.
    pub fn offline(folder: impl Into<PathBuf>) -> Config {
        Config {
            folder: folder.into(),
            room: Room::default(),
            operator_roots: Vec::new(),
            amd: None,
            intel: None,
            ca: None,
            request_within: Duration::from_secs(15),
            patience: Duration::from_secs(20),
            after_failure: Duration::from_secs(60),
            renew_after: Duration::from_secs(86_400),
        }
    }

    /// The vendors' own services.
    pub fn online(folder: impl Into<PathBuf>) -> Config {
        let (amd, intel) = (Some(Service::amd()), Some(Service::intel()));
        Config { amd, intel, ..Config::offline(folder) }
    }
}

/// One for a process; a clone is the same one.
#[derive(Clone)]
pub struct Endorsements(Arc<Shared>);

struct Shared {
    cache: Arc<Cache>,
    clock: Clock,
    fetcher: Fetcher,
    renew_after: Duration,
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Reports and quotes that endorsements were wanted for.
    pub asked: u64,
    /// Endorsements that came out of the cache.
    pub kept: u64,
    pub requests_amd: u64,
    pub requests_intel: u64,
    /// Answers with status 429.
    pub too_many: u64,
    /// Fetched, and did not verify.
    pub unfit: u64,
    /// Not fetched.
    pub failed: u64,
}

impl Counts {
    /// Requests for 1000 reports and quotes: what a vendor's service sees of this server.
    pub fn requests_per_1000(&self) -> u64 {
        let requests = self.requests_amd.saturating_add(self.requests_intel);
        requests.saturating_mul(1_000) / self.asked.max(1)
    }
}

/// The room cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Ca(#[from] CaError),
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
    #[error("`{subject}` is not in the cache, and nothing is fetched from its vendor here")]
    Absent { subject: Subject },
    #[error("`{subject}` ended at {until}, and there is no newer one: {}", told(cause.as_deref()))]
    Ended { subject: Subject, until: Time, cause: Option<Box<Unavailable>> },
    #[error("`{subject}` was asked for and has not come within {within:?}; it may the next time")]
    Pending { subject: Subject, within: Duration },
    #[error("`{subject}`: its service wants to be left alone for {} s", wait.as_secs())]
    Resting { subject: Subject, wait: Duration },
    #[error("`{subject}`: too much is being fetched already")]
    Crowded { subject: Subject },
    #[error("`{subject}`: its service answered with status {status}")]
    Answered { subject: Subject, status: u16 },
    #[error("`{subject}`: its service is out of reach: {fault}")]
    Unreachable { subject: Subject, fault: String },
    #[error("`{subject}`: its service sent something else: {fault}")]
    Malformed { subject: Subject, fault: String },
    #[error(
        "`{subject}`: what its service sent does not hold: {}",
        findings.first().map_or("no reason", |finding| finding.code.code())
    )]
    Unfit { subject: Subject, findings: Vec<Finding> },
    #[error("the cache of endorsements failed: {0}")]
    Internal(String),
}

fn told(cause: Option<&Unavailable>) -> String {
    cause.map_or_else(|| "nothing is fetched here".to_owned(), Unavailable::to_string)
}

impl Unavailable {
    pub fn reason(&self) -> Reason {
        Reason::EndorsementUnavailable
    }

    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Unavailable::Absent { subject }
            | Unavailable::Ended { subject, .. }
            | Unavailable::Pending { subject, .. }
            | Unavailable::Resting { subject, .. }
            | Unavailable::Crowded { subject }
            | Unavailable::Answered { subject, .. }
            | Unavailable::Unreachable { subject, .. }
            | Unavailable::Malformed { subject, .. }
            | Unavailable::Unfit { subject, .. } => Some(subject),
            Unavailable::Internal(_) => None,
        }
    }

    /// Worth asking for again in a while.
    pub fn may_pass(&self) -> bool {
        match self {
            Unavailable::Pending { .. }
            | Unavailable::Resting { .. }
            | Unavailable::Crowded { .. }
            | Unavailable::Unreachable { .. } => true,
            Unavailable::Answered { status, .. } => *status == 429 || *status >= 500,
            Unavailable::Ended { cause, .. } => {
                cause.as_ref().is_some_and(|cause| cause.may_pass())
            }
            _ => false,
        }
    }

    pub fn finding(&self) -> Finding {
        let subject = self.subject().map_or_else(String::new, Subject::to_string);
        let expected = format!("`{subject}` from its vendor or from a bundle");
        let source = "docs/guides/endorsements.md";
        Finding::new(self.reason(), "endorsements", self.to_string(), expected, source)
    }
}

impl Endorsements {
    /// Opens the cache; asks nobody anything yet.
    pub fn open(config: Config, clock: Clock) -> Result<Endorsements, OpenError> {
        let roots = Roots::with_operator_roots(config.operator_roots.clone());
        let cache = Arc::new(Cache::open(&config.folder, Arc::new(roots), config.room)?);
        let fetcher = Fetcher::new(&config, Arc::clone(&cache), clock.clone())?;
        let renew_after = config.renew_after;
        Ok(Endorsements(Arc::new(Shared { cache, clock, fetcher, renew_after })))
    }

    /// What it takes to verify the report that `wanted` was read from. A host's own table of
    /// certificates is the caller's to look at first.
    ///
    /// `source` is who showed the report, as it is counted: what is asked for on the word of
    /// evidence that is not verified yet is bounded for each source, and waits behind those who
    /// ask for less. Of what is proved already, take what an attacker has the fewest of: a node
    /// whose TPM is known, before an address.
    ///
    /// A list that cannot be had is said in `missing`: whether a chain is good without is for the
    /// policy.
    pub async fn snp(
        &self,
        wanted: &SnpWanted,
        source: &str,
    ) -> Result<SnpEndorsements, Unavailable> {
        let now = self.asked();
        let (product, kind) = (wanted.product, wanted.kind);
        let roots = self.0.cache.roots();
        let issuer = Subject::SnpIssuer { product, kind };
        let chain = match roots.need_no_issuer(product, kind) {
            true => None,
            false => match self.current(issuer, source, Duration::ZERO).await {
                Ok(chain) => Some(chain),
                Err(_) if roots.know_issuer(product, kind) => None,
                Err(unavailable) => return Err(unavailable),
            },
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
        let found: Vec<_> = chain.iter().chain(&vek).chain(&crl).collect();
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
        let now = self.asked();
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

    pub fn counts(&self) -> Counts {
        self.0.fetcher.counted().read()
    }

    /// What is in force now, or overdue by no more than `grace`: kept, or fetched.
    async fn current(
        &self,
        subject: Subject,
        source: &str,
        grace: Duration,
    ) -> Result<Arc<Entry>, Unavailable> {
        let now = self.0.clock.now();
        let kept = self.on_disk(subject.clone()).await;
        if let Some(entry) = &kept
            && entry.is_current(now, Duration::ZERO)
        {
            self.0.fetcher.counted().kept.fetch_add(1, Ordering::Relaxed);
            if entry.is_renewable() && now.since(entry.fetched_at()) >= self.0.renew_after {
                // Nobody waits for it, and whether it comes is seen the next time.
                let _ = self.0.fetcher.start(&subject, source, Need::Renewal);
            }
            return Ok(Arc::clone(entry));
        }
        let need = if kept.is_some() { Need::Renewal } else { Need::First };
        match (self.0.fetcher.fetch(&subject, source, need).await, kept) {
            (Ok(entry), _) if entry.is_current(now, grace) => Ok(entry),
            (Ok(entry), _) => {
                Err(Unavailable::Ended { subject, until: entry.dates().1, cause: None })
            }
            (Err(_), Some(entry)) if entry.is_current(now, grace) => Ok(entry),
            (Err(cause), Some(entry)) => {
                // That nothing is fetched is what the error says by itself.
                let cause = match cause {
                    Unavailable::Absent { .. } => None,
                    cause => Some(Box::new(cause)),
                };
                Err(Unavailable::Ended { subject, until: entry.dates().1, cause })
            }
            (Err(unavailable), None) => Err(unavailable),
        }
    }

    fn asked(&self) -> Time {
        self.0.fetcher.counted().asked.fetch_add(1, Ordering::Relaxed);
        self.0.clock.now()
    }

    async fn on_disk(&self, subject: Subject) -> Option<Arc<Entry>> {
        let shared = Arc::clone(&self.0);
        let reading = tokio::task::spawn_blocking(move || shared.cache.find(&subject));
        reading.await.ok().flatten()
    }
}

impl fmt::Debug for Endorsements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endorsements").field("folder", &self.0.cache.folder()).finish()
    }
}
