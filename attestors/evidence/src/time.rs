//! An instant in UTC, to the millisecond, as a plain value.
//!
//! Verifiers are told the time; nothing in this crate can find it out. The written form is RFC 3339
//! with milliseconds and `Z`, the one form of every record and every JSON answer.

use std::fmt;
use std::ops::Add;
use std::ops::Sub;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970-01-01T00:00:00Z; negative before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    pub const fn from_unix_ms(ms: i64) -> Time {
        Time(ms)
    }

    pub const fn from_unix_s(s: i64) -> Time {
        Time(s.saturating_mul(1000))
    }

    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded towards the past, as certificates want them.
    pub const fn unix_s(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        let ms = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// Any offset is read and turned into UTC; digits beyond the millisecond are cut off.
    pub fn parse_rfc3339(text: &str) -> Result<Time, TimeError> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimeError(text.into()))?;
        let ms = parsed.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(ms).map(Time).map_err(|_| TimeError(text.into()))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a time as RFC 3339 writes it")]
pub struct TimeError(String);

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Time, TimeError> {
        Time::parse_rfc3339(text)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = i128::from(self.0)
            .checked_mul(1_000_000)
            .and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
        let Some(t) = date else {
            // Outside the years 0 to 9999 there is no RFC 3339 form; say the number instead.
            return write!(f, "unix-ms:{}", self.0);
        };
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            t.millisecond()
        )
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a time too far away to write is still after every other.
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(whole_ms(span)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, span: Duration) -> Time {
        Time(self.0.saturating_sub(whole_ms(span)))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse_rfc3339(&text).map_err(serde::de::Error::custom)
    }
}

fn whole_ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_written_form_has_milliseconds_and_a_z() {
        assert_eq!(Time::from_unix_ms(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Time::from_unix_ms(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!(
            Time::from_unix_s(253_402_300_799).to_string(),
            "9999-12-31T23:59:59.000Z",
            "the end date of an EK certificate that never expires"
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        for ms in [0, 1, -1, 1_763_991_234_567, -62_000_000_000_000] {
            let t = Time::from_unix_ms(ms);
            assert_eq!(t.to_string().parse::<Time>().unwrap(), t);
        }
        let offset = Time::parse_rfc3339("2026-11-24T14:00:00+01:00").unwrap();
        assert_eq!(offset.to_string(), "2026-11-24T13:00:00.000Z");
        assert!(Time::parse_rfc3339("2026-11-24").is_err());
        assert!(Time::parse_rfc3339("").is_err());
    }

    #[test]
    fn arithmetic_saturates_and_never_panics() {
        let end = Time::from_unix_ms(i64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Time::from_unix_s(i64::MAX), end);
        assert_eq!(end.since(Time::from_unix_ms(i64::MIN)), Duration::from_millis(i64::MAX as u64));
        assert_eq!(Time::from_unix_ms(5).since(Time::from_unix_ms(7)), Duration::ZERO);
        assert_eq!(Time::from_unix_ms(-1).unix_s(), -1);
        let _ = end.to_string();
    }
}
