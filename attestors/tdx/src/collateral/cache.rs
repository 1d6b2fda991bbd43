//! What was verified once need not be verified again: bounded, keyed by hash.
//!
//! Only what holds is kept, so nobody fills these places with what does not. Dates are no part of
//! what is kept; they are asked at each use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use assay_evidence::Certificate;
use assay_evidence::crypto;

use crate::collateral::Collateral;
use crate::collateral::VerifiedCollateral;
use crate::error::Faults;

/// Collateral by the hash of its bundle and of the roots it was believed under.
#[derive(Debug)]
pub struct CollateralCache {
    bundles: Recent<VerifiedCollateral>,
}

impl CollateralCache {
    /// For at most `capacity` bundles: one per kind of processor and renewal.
    pub fn new(capacity: usize) -> CollateralCache {
        CollateralCache { bundles: Recent::new(capacity) }
    }

    /// The bundle as believed under the pinned root and the given ones.
    pub fn verified(
        &self,
        json: &[u8],
        extra_roots: &[Certificate],
    ) -> Result<Arc<VerifiedCollateral>, Faults> {
        let mut key = crypto::Sha256::new();
        key.update(&crypto::sha256(json));
        for root in extra_roots {
            key.update(&root.sha256());
        }
        let key = key.finish();
        if let Some(found) = self.bundles.find(&key) {
            return Ok(found);
        }
        let verified = Arc::new(Collateral::parse(json)?.verify(extra_roots)?);
        self.bundles.keep(key, verified.clone());
        Ok(verified)
    }

    /// How many bundles it holds now.
    pub fn len(&self) -> usize {
        self.bundles.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for CollateralCache {
    fn default() -> CollateralCache {
        CollateralCache::new(DEFAULT_BUNDLES)
    }
}

/// The values used last, at most so many.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    capacity: usize,
    kept: Mutex<Kept<V>>,
}

#[derive(Debug)]
struct Kept<V> {
    uses: u64,
    values: BTreeMap<[u8; 32], (u64, Arc<V>)>,
}

impl<V> Recent<V> {
    pub fn new(capacity: usize) -> Recent<V> {
        Recent { capacity, kept: Mutex::new(Kept { uses: 0, values: BTreeMap::new() }) }
    }

    pub fn find(&self, key: &[u8; 32]) -> Option<Arc<V>> {
        let mut kept = self.lock();
        kept.uses = kept.uses.saturating_add(1);
        let now = kept.uses;
        let (used, value) = kept.values.get_mut(key)?;
        *used = now;
        Some(value.clone())
    }

    pub fn keep(&self, key: [u8; 32], value: Arc<V>) {
        if self.capacity == 0 {
            return;
        }
        let mut kept = self.lock();
        kept.uses = kept.uses.saturating_add(1);
        let now = kept.uses;
        if kept.values.len() >= self.capacity && !kept.values.contains_key(&key) {
            let oldest = kept.values.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.and_then(|oldest| kept.values.remove(&oldest));
        }
        kept.values.insert(key, (now, value));
    }

    pub fn len(&self) -> usize {
        self.lock().values.len()
    }

    /// A thread that panicked while it held the lock left whole entries behind: they are only ever
    /// put in at once.
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept<V>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A promise of docs/reference/limits.md.
const DEFAULT_BUNDLES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_longest_goes_first() {
        let recent = Recent::new(2);
        recent.keep([1; 32], Arc::new(1));
        recent.keep([2; 32], Arc::new(2));
        assert_eq!(recent.find(&[1; 32]).as_deref(), Some(&1));
        recent.keep([3; 32], Arc::new(3));
        assert_eq!(recent.find(&[2; 32]), None);
        assert_eq!(recent.find(&[1; 32]).as_deref(), Some(&1));
        assert_eq!(recent.find(&[3; 32]).as_deref(), Some(&3));
        assert_eq!(recent.len(), 2);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let recent = Recent::new(0);
        recent.keep([1; 32], Arc::new(1));
        assert_eq!(recent.find(&[1; 32]), None);
    }
}
