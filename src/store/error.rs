//! Why the store did not do what it was asked.

use std::path::PathBuf;
use std::sync::Arc;

use assay_evidence::reason::Reason;

use crate::records::RecordError;
use crate::spiffe::EntryId;
use crate::spiffe::Serial;
use crate::spiffe::TrustDomain;

#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    // --- at opening
    #[error("`{path}` has mode {found:04o}, expected {expected:04o}")]
    Mode { path: PathBuf, found: u32, expected: u32 },
    #[error("`{path}` belongs to uid {found}, expected {expected}")]
    Owner { path: PathBuf, found: u32, expected: u32 },
    #[error("`{0}` is in use by another process")]
    InUse(PathBuf),
    #[error("`{0}` is a database, but not one of ours")]
    Foreign(PathBuf),
    #[error("the store has schema {found}, this program knows up to {known}")]
    Newer { found: u32, known: u32 },
    #[error("the store belongs to trust domain `{found}`, expected `{expected}`")]
    TrustDomain { found: String, expected: TrustDomain },
    #[error("`{path}` cannot be opened")]
    Io { path: PathBuf, source: Arc<std::io::Error> },
    // --- at a commit
    #[error("{table} `{id}` is at revision {found}, expected {expected}")]
    Conflict { table: &'static str, id: String, expected: i64, found: i64 },
    #[error("{table} `{id}` is not there")]
    Missing { table: &'static str, id: String },
    #[error("the EK belongs to node `{node_id}` already")]
    EkTaken { node_id: String },
    #[error("entry `{id}` has the same SPIFFE ID, parent and selectors")]
    Similar { id: EntryId },
    #[error("serial {serial} was recorded before")]
    SerialTaken { serial: Serial },
    #[error("{what}: at most {limit}, found {found}")]
    OverLimit { what: &'static str, found: usize, limit: usize },
    #[error("the record cannot be made")]
    Record(#[from] RecordError),
    // --- at any time
    #[error("the queue of the store stayed full for {0} s")]
    Busy(u64),
    #[error("the store is closed")]
    Closed,
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
    #[error("the database did not {doing}")]
    Engine { doing: &'static str, source: Arc<rusqlite::Error> },
}

impl StoreError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::OverLimit { .. } | Self::Record(_) => Reason::OverLimit,
            Self::Busy(_) | Self::Closed | Self::Engine { .. } | Self::Io { .. } => {
                Reason::StoreUnavailable
            }
            _ => Reason::Internal,
        }
    }

    /// Names what the database was asked to do.
    pub(super) fn engine(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Engine { doing, source: Arc::new(source) }
    }

    pub(super) fn io(path: &std::path::Path) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source: Arc::new(source) }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        Self::engine("carry out a statement")(source)
    }
}
