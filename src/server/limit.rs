//! How often a source may ask: token buckets, one for each source, bounded in number; and how much
//! it may have under way at once.
//!
//! Pure: the caller says what time it is on the boot clock. A full bucket is forgotten first, so
//! forgetting never gives anybody more than his share at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// Sources remembered at once.
const MAX_SOURCES: usize = 65_536;

/// Buckets of one kind of call.
#[derive(Debug)]
pub struct Limit<S> {
    /// One token comes back in this time.
    every: Duration,
    /// Tokens of a source that has rested.
    burst: u32,
    sources: HashMap<S, Bucket>,
}

/// When the bucket will be full again says how many tokens are in it.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Duration,
}

impl<S: Hash + Eq> Limit<S> {
    /// `count` calls in each `period`, and as many at once after a rest.
    pub fn new(count: u32, period: Duration) -> Self {
        let burst = count.max(1);
        Self { every: period / burst, burst, sources: HashMap::new() }
    }

    /// Takes a token, or says how long to wait for the next one.
    pub fn take(&mut self, source: S, now: Duration) -> Result<(), Duration> {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, bucket| bucket.full_at > now);
            if self.sources.len() >= MAX_SOURCES {
                // Every remembered source is busy: the newcomer waits, the others keep theirs.
                return Err(self.every);
            }
        }
        let bucket = self.sources.entry(source).or_insert(Bucket { full_at: now });
        let full_at = bucket.full_at.max(now) + self.every;
        let window = self.every * self.burst;
        if full_at > now + window {
            return Err(full_at - (now + window));
        }
        bucket.full_at = full_at;
        Ok(())
    }
}

impl<S: Hash + Eq> Limit<S> {
    /// Puts a token back that was not needed after all.
    pub fn give_back(&mut self, source: &S) {
        if let Some(bucket) = self.sources.get_mut(source) {
            bucket.full_at = bucket.full_at.saturating_sub(self.every);
        }
    }
}

/// Places for work under way: so many over all, and fewer for each source.
#[derive(Debug, Clone)]
pub struct Places<S> {
    over_all: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<S, usize>>>,
    of_one: usize,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place<S: Hash + Eq> {
    places: Places<S>,
    source: S,
    _permit: OwnedSemaphorePermit,
}

impl<S: Hash + Eq + Clone> Places<S> {
    pub fn new(over_all: usize, of_one: usize) -> Self {
        Self {
            over_all: Arc::new(Semaphore::new(over_all)),
            taken: Arc::default(),
            of_one: of_one.max(1),
        }
    }

    /// A place, unless all are taken or `source` has its share.
    pub fn enter(&self, source: S) -> Option<Place<S>> {
        let permit = self.over_all.clone().try_acquire_owned().ok()?;
        {
            let mut taken = self.taken();
            let count = taken.get(&source).copied().unwrap_or(0);
            if count >= self.of_one {
                return None;
            }
            taken.insert(source.clone(), count + 1);
        }
        Some(Place { places: self.clone(), source, _permit: permit })
    }
}

impl<S> Places<S> {
    fn taken(&self) -> MutexGuard<'_, HashMap<S, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Hash + Eq> Drop for Place<S> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        match taken.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let mut limit = Limit::new(6, seconds(60));
        for _ in 0..6 {
            limit.take("a", seconds(100)).unwrap();
        }
        assert_eq!(limit.take("a", seconds(100)), Err(seconds(10)));
        assert_eq!(limit.take("a", seconds(109)), Err(seconds(1)));
        limit.take("a", seconds(110)).unwrap();
        assert!(limit.take("a", seconds(110)).is_err());
    }

    #[test]
    fn sources_do_not_share() {
        let mut limit = Limit::new(1, seconds(60));
        limit.take("a", seconds(0)).unwrap();
        assert!(limit.take("a", seconds(1)).is_err());
        limit.take("b", seconds(1)).unwrap();
    }

    #[test]
    fn memory_is_bounded_and_rested_sources_are_forgotten_first() {
        let mut limit = Limit::new(1, seconds(10));
        for source in 0..MAX_SOURCES {
            limit.take(source, seconds(0)).unwrap();
        }
        assert!(limit.take(usize::MAX, seconds(5)).is_err());
        limit.take(usize::MAX, seconds(10)).unwrap();
        assert_eq!(limit.sources.len(), 1);
    }

    #[test]
    fn a_token_given_back_may_be_taken_again() {
        let mut limit = Limit::new(2, seconds(60));
        limit.take("a", seconds(0)).unwrap();
        limit.take("a", seconds(0)).unwrap();
        limit.give_back(&"a");
        limit.take("a", seconds(0)).unwrap();
        assert!(limit.take("a", seconds(0)).is_err());
        limit.give_back(&"nobody");
    }

    #[test]
    fn a_source_has_its_share_of_the_places_and_leaves_the_rest_to_others() {
        let places = Places::new(3, 2);
        let first = places.enter("a").unwrap();
        let _second = places.enter("a").unwrap();
        assert!(places.enter("a").is_none());
        let _third = places.enter("b").unwrap();
        assert!(places.enter("c").is_none(), "all are taken");
        drop(first);
        let _fourth = places.enter("a").unwrap();
        assert_eq!(places.taken().len(), 2);
    }
}
