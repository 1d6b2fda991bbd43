//! Standing: the part of an affirming appraisal that lasts, survives a restart and reaches other
//! servers. Two doors only: an affirming [`Appraisal`], or a row that the store kept of one.

use std::collections::BTreeSet;
use std::time::Duration;

use assay_evidence::time::Time;
use serde::Deserialize;
use serde::Serialize;

use crate::appraisal::Appraisal;
use crate::appraisal::ProfileName;
use crate::appraisal::Verdict;
use crate::clock::Moment;
use crate::spiffe::Selector;
use crate::spiffe::SpiffeId;

/// How far the quote may seem to lie in the future, for clocks of several servers.
const SKEW: Duration = Duration::from_secs(5);

/// A node's affirming appraisal while it lasts.
///
/// It cannot be forged: the fields are private and no constructor is public.
/// ```compile_fail,E0451
/// # fn forge(row: assay::appraisal::StandingRow) -> assay::appraisal::Standing {
/// assay::appraisal::Standing { row, quoted_boot: std::time::Duration::ZERO }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Standing {
    row: StandingRow,
    /// CLOCK_BOOTTIME of this machine when the quote was asked for.
    quoted_boot: Duration,
}

/// A standing as the store keeps it: plain data that means nothing until the store restores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingRow {
    pub node: SpiffeId,
    pub appraisal_id: String,
    pub quoted_at: Time,
    pub expires_at: Time,
    pub reset_count: u32,
    pub profile_id: String,
    pub profile_serial: u64,
    #[serde(with = "hex::serde")]
    pub profile_sha256: [u8; 32],
    #[serde(with = "hex::serde")]
    pub policy_sha256: [u8; 32],
    pub revocation_sequence: u64,
    pub selectors: BTreeSet<Selector>,
}

impl Standing {
    /// The door from an appraisal; `None` unless it is affirming. `quoted` is when the challenge
    /// was sent, on both clocks.
    pub fn from(
        appraisal: &Appraisal,
        quoted: Moment,
        max_age: Duration,
        revocation_sequence: u64,
    ) -> Option<Self> {
        if appraisal.verdict() != Verdict::Affirming {
            return None;
        }
        let ProfileName { id, serial, sha256 } = appraisal.profile().clone();
        Some(Self {
            row: StandingRow {
                node: appraisal.node().clone(),
                appraisal_id: appraisal.id().to_owned(),
                quoted_at: appraisal.quoted_at(),
                expires_at: appraisal.quoted_at() + max_age,
                reset_count: appraisal.reset_count(),
                profile_id: id,
                profile_serial: serial,
                profile_sha256: sha256,
                policy_sha256: *appraisal.policy_sha256(),
                revocation_sequence,
                selectors: appraisal.selectors().clone(),
            },
            quoted_boot: quoted.boot,
        })
    }

    /// The door from the store, and for it alone. Its age on the boot clock is what the wall
    /// clock says it is now; it is never extended.
    pub(crate) fn restored(row: StandingRow, now: Moment) -> Self {
        let age = now.wall.since(row.quoted_at);
        Self { quoted_boot: now.boot.saturating_sub(age), row }
    }

    /// Whether it counts at `now`: by the wall clock not before the quote and not after its end,
    /// and by the boot clock not older than its length.
    // INVARIANT: moving the wall clock, either way, never prolongs a standing.
    pub fn is_fresh(&self, now: Moment) -> bool {
        let length = self.row.expires_at.since(self.row.quoted_at);
        now.wall + SKEW >= self.row.quoted_at
            && now.wall < self.row.expires_at
            && now.boot.saturating_sub(self.quoted_boot) < length
    }

    pub fn row(&self) -> &StandingRow {
        &self.row
    }

    pub fn node(&self) -> &SpiffeId {
        &self.row.node
    }

    pub fn selectors(&self) -> &BTreeSet<Selector> {
        &self.row.selectors
    }

    pub fn expires_at(&self) -> Time {
        self.row.expires_at
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::Clock;

    pub(crate) fn row(quoted_at: Time) -> StandingRow {
        StandingRow {
            node: SpiffeId::parse("spiffe://example.org/spire/agent/assay/00").unwrap(),
            appraisal_id: "a1".to_owned(),
            quoted_at,
            expires_at: quoted_at + Duration::from_secs(180),
            reset_count: 1,
            profile_id: "p".to_owned(),
            profile_serial: 1,
            profile_sha256: [0; 32],
            policy_sha256: [0; 32],
            revocation_sequence: 0,
            selectors: BTreeSet::new(),
        }
    }

    #[test]
    fn a_standing_ends_with_its_age() {
        let clock = Clock::manual(Time::from_unix_s(10_000));
        let standing = Standing::restored(row(clock.now()), clock.moment());
        assert!(standing.is_fresh(clock.moment()));
        clock.advance(Duration::from_secs(179));
        assert!(standing.is_fresh(clock.moment()));
        clock.advance(Duration::from_secs(1));
        assert!(!standing.is_fresh(clock.moment()));
    }

    #[test]
    fn setting_the_wall_clock_back_prolongs_nothing() {
        let clock = Clock::manual(Time::from_unix_s(10_000));
        let standing = Standing::restored(row(clock.now()), clock.moment());
        clock.advance(Duration::from_secs(200));
        clock.set_wall(Time::from_unix_s(10_010));
        assert!(!standing.is_fresh(clock.moment()));
    }

    #[test]
    fn a_quote_from_the_future_does_not_count() {
        let clock = Clock::manual(Time::from_unix_s(10_000));
        clock.advance(Duration::from_secs(1_000));
        let early = Standing::restored(row(clock.now() + Duration::from_secs(5)), clock.moment());
        assert!(early.is_fresh(clock.moment()));
        let later = Standing::restored(row(clock.now() + Duration::from_secs(6)), clock.moment());
        assert!(!later.is_fresh(clock.moment()));
    }
}
