//! How much a device signs, measured once and kept, so that more than that is refused early and
//! never done elsewhere instead.
//!
//! What is measured is a key made for it on the same device, which is then thrown away: an issuing
//! key signs nothing but what was recorded.

use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

use crate::keys::KeysError;

/// Signing times of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    median_us: u64,
    p95_us: u64,
}

impl Capacity {
    /// Signs a few times and looks at the clock.
    pub fn measure(
        mut sign: impl FnMut(&[u8]) -> Result<(), KeysError>,
    ) -> Result<Self, KeysError> {
        let mut times = Vec::with_capacity(SIGNATURES.into());
        for i in 0..SIGNATURES {
            let start = Instant::now();
            sign(&[i])?;
            times.push(start.elapsed());
        }
        Ok(Self::from_times(times))
    }

    fn from_times(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        // Nearest rank, so that a single slow signature of few is not averaged away.
        let rank = |percent: usize| (times.len() * percent).div_ceil(100).saturating_sub(1);
        let us = |percent| {
            let time = times.get(rank(percent)).copied().unwrap_or_default();
            u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
        };
        Self { median_us: us(50), p95_us: us(95) }
    }

    pub fn median(&self) -> Duration {
        Duration::from_micros(self.median_us)
    }

    pub fn p95(&self) -> Duration {
        Duration::from_micros(self.p95_us)
    }

    /// Half of what the slow signatures would allow: what may be promised for good.
    pub fn signatures_per_second(&self) -> f64 {
        0.5 / self.p95().as_secs_f64()
    }
}

const SIGNATURES: u8 = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_promise_is_half_of_what_the_slow_signatures_allow() {
        let times = (1..=16).map(|i| Duration::from_millis(i * 10)).collect();
        let capacity = Capacity::from_times(times);
        assert_eq!(capacity.median(), Duration::from_millis(80));
        assert_eq!(capacity.p95(), Duration::from_millis(160));
        assert!((capacity.signatures_per_second() - 3.125).abs() < 1e-9);
    }

    #[test]
    fn sixteen_signatures_are_made_and_a_fault_ends_it() {
        let mut count = 0;
        Capacity::measure(|_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(count, 16);
        assert!(Capacity::measure(|_| Err(KeysError::Closed)).is_err());
    }
}
