//! Time and randomness come from here and nowhere else.
//!
//! Two readings: wall time for what is written into certificates and records, and boot time
//! (CLOCK_BOOTTIME: monotonic, counts suspend) for ages, so that setting the wall clock back
//! prolongs nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use assay_evidence::time::Time;

/// Reads the machine's clocks, or a hand-set pair of them in tests.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    Machine,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    wall_ms: AtomicI64,
    boot_ms: AtomicI64,
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub wall: Time,
    pub boot: Duration,
}

/// A length of time as people write it in configuration: `90s`, `5m`, `1h`, `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let refused = || format!("a duration is a whole number and s, m, h or d, found `{text}`");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text.strip_prefix(digits) {
            Some("s") => 1,
            Some("m") => 60,
            Some("h") => 3_600,
            Some("d") => 86_400,
            _ => return Err(refused()),
        };
        let seconds = digits.parse::<u32>().map_err(|_| refused())?;
        Ok(Self(Duration::from_secs(u64::from(seconds) * unit)))
    }
}

impl Clock {
    /// Both clocks at once.
    pub fn moment(&self) -> Moment {
        Moment { wall: self.now(), boot: self.boot() }
    }

    pub fn machine() -> Self {
        Self(Source::Machine)
    }

    /// A clock that stands still until it is moved; for tests.
    pub fn manual(start: Time) -> Self {
        Self(Source::Manual(Arc::new(Manual {
            wall_ms: AtomicI64::new(start.unix_ms()),
            boot_ms: AtomicI64::new(0),
        })))
    }

    /// Wall time.
    pub fn now(&self) -> Time {
        match &self.0 {
            Source::Machine => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Time::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Manual(manual) => Time::from_unix_ms(manual.wall_ms.load(Ordering::SeqCst)),
        }
    }

    /// Time since boot, suspend included; never goes back.
    pub fn boot(&self) -> Duration {
        match &self.0 {
            Source::Machine => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::new(
                    u64::try_from(now.tv_sec).unwrap_or(0),
                    u32::try_from(now.tv_nsec).unwrap_or(0),
                )
            }
            Source::Manual(manual) => Duration::from_millis(
                u64::try_from(manual.boot_ms.load(Ordering::SeqCst)).unwrap_or(0),
            ),
        }
    }

    /// Moves a manual clock forward; the machine's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            manual.wall_ms.fetch_add(ms, Ordering::SeqCst);
            manual.boot_ms.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// Sets the wall reading of a manual clock, as an operator's mistake would.
    pub fn set_wall(&self, to: Time) {
        if let Source::Manual(manual) = &self.0 {
            manual.wall_ms.store(to.unix_ms(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_set_back_does_not_move_boot_time() {
        let clock = Clock::manual(Time::from_unix_s(1_000));
        clock.advance(Duration::from_secs(5));
        clock.set_wall(Time::from_unix_s(10));
        assert_eq!(clock.now(), Time::from_unix_s(10));
        assert_eq!(clock.boot(), Duration::from_secs(5));
    }

    #[test]
    fn durations_need_a_number_and_a_unit() {
        let span = |text: &str| Span::try_from(text.to_owned());
        assert_eq!(span("90s"), Ok(Span(Duration::from_secs(90))));
        assert_eq!(span("5m"), Ok(Span(Duration::from_secs(300))));
        assert_eq!(span("90d"), Ok(Span(Duration::from_secs(90 * 86_400))));
        for text in ["", "90", "s", "-1s", "1.5h", "1w", "1 h", "99999999999s"] {
            assert!(span(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_machine_clock_runs() {
        let clock = Clock::machine();
        let (wall, boot) = (clock.now(), clock.boot());
        assert!(wall > Time::from_unix_s(1_700_000_000));
        assert!(clock.boot() >= boot);
    }
}
