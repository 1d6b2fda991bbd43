//! How often a source may ask: token buckets, one for each source, bounded in number.
//!
//! Pure: the caller says what time it is on the boot clock. A full bucket is forgotten first, so
//! forgetting never gives anybody more than his share at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

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
}
