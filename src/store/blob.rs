//! Evidence as bytes, found by its hash; thinned, never changed.

use std::time::Duration;

use assay_evidence::crypto;
use assay_evidence::time::Time;

use crate::store::StoreError;

/// The largest item of evidence there is: an IMA list.
pub const MAX_BLOB_BYTES: usize = 64 * 1_024 * 1_024;
/// Bytes kept of one node's evidence, whatever is promised; what is beyond goes from the oldest on.
pub const MAX_NODE_BYTES: usize = 64 * 1_024 * 1_024;

/// For how long the bytes are kept, as [`Retention`] states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// A refresh that changed nothing; logs, while nothing judges them.
    Routine,
    /// The full set at a change of verdict, profile or boot.
    Full,
    /// Proof of where an issuing key lives, public parts of attestation keys.
    Forever,
}

/// A blob on its way into the store; hashed when it is made.
#[derive(Debug, Clone)]
pub struct Blob {
    pub(super) sha256: [u8; 32],
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) keep: Keep,
    pub(super) node: Option<String>,
}

/// A blob as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    pub media_type: String,
    pub size: u64,
    pub keep: Keep,
    /// When it was last put.
    pub stored_at: Time,
    /// `None` once they were thinned.
    pub bytes: Option<Vec<u8>>,
}

/// What was promised about keeping evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Never less than two days, whatever is said: standings rest on it.
    pub routine: Duration,
    pub full: Duration,
}

/// What a round of thinning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thinned {
    pub blobs: u64,
    pub bytes: u64,
    /// There is more to thin.
    pub more: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self { routine: Duration::from_secs(7 * DAY_S), full: Duration::from_secs(400 * DAY_S) }
    }
}

impl Blob {
    pub fn new(media_type: &str, bytes: Vec<u8>, keep: Keep) -> Result<Self, StoreError> {
        if bytes.len() > MAX_BLOB_BYTES {
            return Err(StoreError::OverLimit {
                what: "bytes in a blob",
                found: bytes.len(),
                limit: MAX_BLOB_BYTES,
            });
        }
        let (sha256, media_type) = (crypto::sha256(&bytes), media_type.to_owned());
        Ok(Self { sha256, media_type, bytes, keep, node: None })
    }

    /// Evidence of this node, and counted as such: of one node, [`MAX_NODE_BYTES`] are kept.
    pub fn of_node(self, node_id: &str) -> Self {
        Self { node: Some(node_id.to_owned()), ..self }
    }

    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

impl Keep {
    pub(super) const ALL: [Self; 3] = [Self::Routine, Self::Full, Self::Forever];

    /// How it is stored; larger is longer.
    pub(super) fn rank(self) -> i64 {
        match self {
            Self::Routine => 0,
            Self::Full => 1,
            Self::Forever => 2,
        }
    }
}

impl Retention {
    /// Blobs of each kind that were last put before these times may go.
    pub(super) fn bounds(&self, now: Time) -> [(Keep, Time); 2] {
        let shortest = Duration::from_secs(2 * DAY_S);
        [
            (Keep::Routine, now - self.routine.max(shortest)),
            (Keep::Full, now - self.full.max(shortest)),
        ]
    }
}

const DAY_S: u64 = 86_400;
