//! Endorsements in one signed file, for sites without a way out and for auditors years later.
//!
//! A DSSE envelope, as profiles have it, around canonical JSON: when it was made, and each entry
//! with its subject, its hash, its dates and its bytes, in the order of subjects. The same entries
//! at the same time give the same payload. The signature says who put them together; whether each
//! holds is asked of the vendor's signature in it, at the time when it was fetched.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::Finding;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SoftwareKey;
use serde::Deserialize;
use serde_json::json;

use crate::canonical;
use crate::endorsement::Cache;
use crate::endorsement::CacheError;
use crate::endorsement::Entry;
use crate::endorsement::Roots;
use crate::endorsement::Subject;
use crate::endorsement::cache::Wire;
use crate::endorsement::cache::write_whole;
use crate::reference::signature;

/// Entries that hold, and when they were put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    made_at: Time,
    /// In the order of subjects.
    entries: Vec<Arc<Entry>>,
}

/// A bundle and whose signature it carries: SHA-256 of the public key.
#[derive(Debug)]
pub struct Opened {
    pub bundle: Bundle,
    pub signer: [u8; 32],
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub entries: Vec<Arc<Entry>>,
    /// Of these a newer one was there, and stays.
    pub older: Vec<Subject>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    #[error("{found} bytes where a bundle may have {max}")]
    Size { found: usize, max: usize },
    #[error("not a bundle of endorsements: {0}")]
    Malformed(String),
    #[error("the bundle's signature does not count: {0}")]
    Signature(String),
    #[error("`{subject}` in the bundle does not hold")]
    Unfit { subject: Subject, findings: Vec<Finding> },
    #[error("the bundle is of {made_at}, one of {last} by the same key was imported before")]
    Older { made_at: Time, last: Time },
    #[error("the bundle is of {made_at}, which is yet to come at {now}")]
    Future { made_at: Time, now: Time },
    #[error("the bundle cannot be signed: {0}")]
    Sign(String),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl BundleError {
    /// All that is wrong, most decisive first; nothing where the fault is not the bundle's.
    pub fn findings(&self) -> Vec<Finding> {
        let one = |code, found: String, expected: String| {
            vec![Finding::new(code, "bundle", found, expected, "docs/guides/endorsements.md")]
        };
        match self {
            BundleError::Size { found, max } => one(
                Reason::EvidenceTooLarge,
                format!("{found} bytes"),
                format!("at most {max} bytes"),
            ),
            BundleError::Malformed(fault) => {
                one(Reason::BundleMalformed, fault.clone(), "a bundle of endorsements".into())
            }
            BundleError::Signature(fault) => one(
                Reason::BundleSignatureInvalid,
                fault.clone(),
                "a signature by the given key".into(),
            ),
            BundleError::Unfit { findings, .. } => findings.clone(),
            BundleError::Older { made_at, last } => one(
                Reason::BundleOlder,
                format!("made at {made_at}"),
                format!("made at {last} or later"),
            ),
            BundleError::Future { made_at, now } => {
                one(Reason::BundleOlder, format!("made at {made_at}"), format!("made before {now}"))
            }
            BundleError::Sign(_) | BundleError::Cache(_) => Vec::new(),
        }
    }
}

impl Bundle {
    pub fn of(mut entries: Vec<Arc<Entry>>, made_at: Time) -> Result<Bundle, BundleError> {
        entries.sort_by_key(|entry| entry.subject().to_string());
        entries.dedup_by(|left, right| left.subject() == right.subject());
        if entries.len() > MAX_ENTRIES {
            return Err(BundleError::Malformed(format!("more than {MAX_ENTRIES} entries")));
        }
        Ok(Bundle { made_at, entries })
    }

    pub fn made_at(&self) -> Time {
        self.made_at
    }

    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    pub fn find(&self, subject: &Subject) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| entry.subject() == subject)
    }

    /// The one way to write it.
    pub fn payload(&self) -> Vec<u8> {
        let entries: Vec<_> = self.entries.iter().map(|entry| entry.to_json()).collect();
        let value = json!({ "schema": SCHEMA, "made_at": self.made_at, "entries": entries });
        // Strings only: there is no number that readers could disagree on.
        canonical::write(&value).unwrap_or_default()
    }

    /// The envelope as text.
    pub fn sign(&self, key: &SoftwareKey) -> Result<String, BundleError> {
        let text = signature::sign(PAYLOAD_TYPE, &self.payload(), key)
            .map_err(|error| BundleError::Sign(error.to_string()))?;
        match text.len() > MAX_BUNDLE {
            true => Err(BundleError::Size { found: text.len(), max: MAX_BUNDLE }),
            false => Ok(text),
        }
    }

    /// Opens an envelope that one of `keys` signed, and verifies each entry again.
    pub fn open(envelope: &[u8], keys: &[PublicKey], roots: &Roots) -> Result<Opened, BundleError> {
        let text = text(envelope)?;
        signature::unverified(WHAT, PAYLOAD_TYPE, text).map_err(malformed)?;
        let (payload, signer) = signature::opened(WHAT, PAYLOAD_TYPE, text, keys)
            .map_err(|error| BundleError::Signature(error.to_string()))?;
        Ok(Opened { bundle: Bundle::parse(&payload, roots)?, signer })
    }

    /// The same whoever signed it: each entry is held against its vendor, and nobody vouches for
    /// their being the newest.
    pub fn open_unsigned(envelope: &[u8], roots: &Roots) -> Result<Bundle, BundleError> {
        let text = text(envelope)?;
        let payload = signature::unverified(WHAT, PAYLOAD_TYPE, text).map_err(malformed)?;
        Bundle::parse(&payload, roots)
    }

    fn parse(payload: &[u8], roots: &Roots) -> Result<Bundle, BundleError> {
        let malformed = |fault: &str| BundleError::Malformed(fault.to_owned());
        let wire: WireBundle = serde_json::from_slice(payload).map_err(self::malformed)?;
        if wire.schema != SCHEMA {
            return Err(malformed("another schema"));
        }
        if wire.entries.len() > MAX_ENTRIES {
            return Err(malformed("too many entries"));
        }
        let made_at = wire.made_at;
        let mut parts = Vec::new();
        for entry in wire.entries {
            let part = entry.parts().ok_or_else(|| malformed("an entry that is not its hash's"))?;
            if part.2 > made_at {
                return Err(malformed("an entry that was fetched after the bundle was made"));
            }
            parts.push(part);
        }
        let issuers: BTreeMap<String, Vec<u8>> = parts
            .iter()
            .filter(|(subject, ..)| matches!(subject, Subject::SnpIssuer { .. }))
            .map(|(subject, body, _)| (subject.to_string(), body.clone()))
            .collect();
        let mut entries = Vec::new();
        for (subject, body, fetched_at) in parts {
            let issuer = subject.issuer().and_then(|issuer| issuers.get(&issuer.to_string()));
            let entry = Entry::verify(subject, body, fetched_at, roots, issuer.map(Vec::as_slice))
                .map_err(|unfit| BundleError::Unfit {
                    subject: unfit.subject,
                    findings: unfit.findings,
                })?;
            entries.push(Arc::new(entry));
        }
        let bundle = Bundle::of(entries, made_at)?;
        // Order, duplicates, dates that are not those of the bytes, another spelling.
        match bundle.payload() == payload {
            true => Ok(bundle),
            false => Err(malformed("not as a bundle is written")),
        }
    }
}

impl Opened {
    /// Puts the entries into a cache. A bundle that was made before the last one of its signer is
    /// an old one played again, and refused unless `allow_older`.
    pub fn import(
        &self,
        cache: &Cache,
        now: Time,
        allow_older: bool,
    ) -> Result<Imported, BundleError> {
        let made_at = self.bundle.made_at;
        if made_at > now + MAX_AHEAD {
            return Err(BundleError::Future { made_at, now });
        }
        // Two imports at once are one after the other, for the record as for the entries.
        let importing = cache.folder().join(IMPORTING);
        let failed = |source| CacheError::Write { path: importing.clone(), source };
        let alone = File::options().create(true).append(true).open(&importing).map_err(failed)?;
        alone.lock().map_err(failed)?;
        let mut signers = Signers::read(cache.folder())?;
        let last = signers.last(&self.signer).filter(|last| made_at < *last);
        if let (Some(last), false) = (last, allow_older) {
            return Err(BundleError::Older { made_at, last });
        }
        let mut imported = Imported { entries: Vec::new(), older: Vec::new() };
        // Issuers first: a certificate that comes after its issuer is read again below it.
        let (issuers, others): (Vec<_>, Vec<_>) = self
            .bundle
            .entries
            .iter()
            .partition(|entry| matches!(entry.subject(), Subject::SnpIssuer { .. }));
        for entry in issuers.into_iter().chain(others) {
            match cache.keep(Entry::clone(entry)) {
                Ok(entry) => imported.entries.push(entry),
                Err(CacheError::Older { subject }) => imported.older.push(subject),
                Err(error) => return Err(error.into()),
            }
        }
        if last.is_none() {
            signers.note(&self.signer, made_at);
            let path = cache.folder().join(SIGNERS);
            signers.write(&path).map_err(|source| CacheError::Write { path, source })?;
        }
        Ok(imported)
    }
}

/// When the newest bundle of each signer was made, as far as it was imported here.
#[derive(Debug, Default)]
struct Signers(BTreeMap<String, Time>);

impl Signers {
    fn read(folder: &Path) -> Result<Signers, CacheError> {
        let path = folder.join(SIGNERS);
        let unread = |fault: String| CacheError::Signers { path: path.clone(), fault };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Signers)
                .map_err(|error| unread(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Signers::default()),
            Err(error) => Err(unread(error.to_string())),
        }
    }

    fn last(&self, signer: &[u8; 32]) -> Option<Time> {
        self.0.get(&hex::encode(signer)).copied()
    }

    fn note(&mut self, signer: &[u8; 32], made_at: Time) {
        self.0.insert(hex::encode(signer), made_at);
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(&self.0)?;
        write_whole(path, &path.with_extension("unfinished"), &text).map(|_| ())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBundle {
    schema: String,
    made_at: Time,
    entries: Vec<Wire>,
}

fn text(envelope: &[u8]) -> Result<&str, BundleError> {
    if envelope.len() > MAX_BUNDLE {
        return Err(BundleError::Size { found: envelope.len(), max: MAX_BUNDLE });
    }
    std::str::from_utf8(envelope).map_err(|_| BundleError::Malformed("not text".to_owned()))
}

fn malformed(error: impl std::fmt::Display) -> BundleError {
    BundleError::Malformed(error.to_string())
}

/// SHA-256 of an envelope: what an answer about a bundle is about.
pub fn id(envelope: &[u8]) -> [u8; 32] {
    crypto::sha256(envelope)
}

pub const PAYLOAD_TYPE: &str = "application/vnd.assay.endorsement-bundle+json";
const SCHEMA: &str = "endorsement-bundle/1";
const WHAT: &str = "bundle";
const SIGNERS: &str = "signers.json";
const IMPORTING: &str = "import.lock";
/// Promises of docs/reference/limits.md.
const MAX_ENTRIES: usize = 16_384;
pub const MAX_BUNDLE: usize = 128 * 1024 * 1024;
/// A clock may be that wrong.
const MAX_AHEAD: Duration = Duration::from_secs(86_400);
