//! The registration entries and the denials in force, as snapshots that follow the store.
//!
//! A call takes one snapshot and decides by it to its end. The store says by a number when there
//! is a newer one; it is read again then, once for all who wait.

use std::sync::Arc;

use assay_evidence::time::Time;
use tokio::sync::Mutex;

use crate::appraisal::DenySet;
use crate::spiffe::Entry;
use crate::spiffe::SpiffeId;
use crate::store::Store;
use crate::store::StoreError;

/// All entries at one revision, ascending by id.
#[derive(Debug, Default)]
pub struct Entries {
    pub all: Vec<Entry>,
    pub revision: u64,
}

/// Snapshots of what operators registered and denied.
#[derive(Debug, Default)]
pub struct Registry {
    entries: Mutex<Option<Arc<Entries>>>,
    deny: Mutex<Option<Arc<DenySet>>>,
}

impl Registry {
    pub async fn entries(&self, store: &Store) -> Result<Arc<Entries>, StoreError> {
        let mut held = self.entries.lock().await;
        let newest = store.sequences().entries_revision;
        if let Some(entries) = held.as_ref().filter(|entries| entries.revision >= newest) {
            return Ok(entries.clone());
        }
        let (all, revision) = store.entries().await?;
        let entries = Arc::new(Entries { all, revision });
        *held = Some(entries.clone());
        Ok(entries)
    }

    pub async fn deny(&self, store: &Store) -> Result<Arc<DenySet>, StoreError> {
        let mut held = self.deny.lock().await;
        let newest = store.sequences().deny_sequence;
        if let Some(deny) = held.as_ref().filter(|deny| deny.sequence >= newest) {
            return Ok(deny.clone());
        }
        let deny = Arc::new(store.deny_set().await?);
        *held = Some(deny.clone());
        Ok(deny)
    }
}

impl Entries {
    /// Whether an entry in force makes this identity an administrator.
    pub fn admin(&self, id: &SpiffeId, now: Time) -> bool {
        self.all.iter().any(|e| e.admin() && e.spiffe_id() == id && !e.expired(now))
    }
}
