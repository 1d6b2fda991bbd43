//! A bounded memory of what holds for ever: chains whose signatures were verified once.
//!
//! The key is a hash of everything that the value depends on ([`input_hash`]), so a hit and a miss
//! give the same answer. What is refused is never kept, and what depends on the time has no place
//! here. The oldest value leaves first.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::crypto;

#[derive(Debug)]
pub struct Remembered<V> {
    most: usize,
    kept: Mutex<Kept<V>>,
}

#[derive(Debug)]
struct Kept<V> {
    values: HashMap<[u8; 32], Arc<V>>,
    order: VecDeque<[u8; 32]>,
}

impl<V> Remembered<V> {
    /// Keeps at most so many values.
    pub fn new(most: usize) -> Remembered<V> {
        let kept = Kept { values: HashMap::new(), order: VecDeque::new() };
        Remembered { most, kept: Mutex::new(kept) }
    }

    pub fn recall(&self, input: &[u8; 32]) -> Option<Arc<V>> {
        self.kept().values.get(input).cloned()
    }

    pub fn keep(&self, input: [u8; 32], value: V) -> Arc<V> {
        let value = Arc::new(value);
        let mut kept = self.kept();
        if kept.values.insert(input, Arc::clone(&value)).is_none() {
            kept.order.push_back(input);
        }
        if kept.order.len() > self.most
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.values.remove(&oldest);
        }
        value
    }

    pub fn len(&self) -> usize {
        self.kept().values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value is put in whole or not at all, so a panic elsewhere spoils nothing.
    fn kept(&self) -> MutexGuard<'_, Kept<V>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One hash over byte strings of any number and length, each told from the next.
pub fn input_hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = crypto::Sha256::new();
    for part in parts {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leaves_first_and_no_more_is_kept_than_said() {
        let remembered = Remembered::new(2);
        for n in [1, 2, 1, 3] {
            remembered.keep([n; 32], n);
        }
        assert_eq!(remembered.len(), 2);
        assert_eq!(remembered.recall(&[1; 32]), None);
        assert_eq!(remembered.recall(&[3; 32]).as_deref(), Some(&3));
    }

    #[test]
    fn parts_are_told_from_each_other() {
        assert_ne!(input_hash(&[b"ab", b"c"]), input_hash(&[b"a", b"bc"]));
        assert_ne!(input_hash(&[b"a"]), input_hash(&[b"a", b""]));
    }
}
