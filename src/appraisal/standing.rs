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
/// assay::appraisal::Standing { row, ends_boot: std::time::Duration::MAX }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Standing {
    row: StandingRow,
    /// CLOCK_BOOTTIME of this machine at which it ends. Not of the quote, which may lie before
    /// this boot, where no reading of that clock exists.
    ends_boot: Duration,
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
            ends_boot: quoted.boot.saturating_add(max_age),
        })
    }

    /// The door from the store, and for it alone. What is left of it on the boot clock is what
    /// the wall clock leaves it now; it is never extended.
    pub(crate) fn restored(row: StandingRow, now: Moment) -> Self {
        let age = now.wall.since(row.quoted_at);
        let left = row.expires_at.since(row.quoted_at).saturating_sub(age);
        Self { ends_boot: now.boot.saturating_add(left), row }
    }

    /// Cut to the length that today's policy allows; never made longer.
    pub fn at_most(mut self, max_age: Duration) -> Self {
        let cut = self.row.expires_at.since(self.row.quoted_at).saturating_sub(max_age);
        if !cut.is_zero() {
            self.row.expires_at = self.row.quoted_at + max_age;
            self.ends_boot = self.ends_boot.saturating_sub(cut);
        }
        self
    }

    /// Whether it counts at `now`: by the wall clock not before the quote and not after its end,
    /// and by the boot clock not after its end.
    // INVARIANT: moving the wall clock, either way, never prolongs a standing.
    pub fn is_fresh(&self, now: Moment) -> bool {
        now.wall + SKEW >= self.row.quoted_at
            && now.wall < self.row.expires_at
            && now.boot < self.ends_boot
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
    fn a_standing_older_than_this_boot_ends_as_it_would_have_whatever_the_wall_clock_says() {
        let clock = Clock::manual(Time::from_unix_s(10_000));
        // The machine booted just now; 170 of the 180 s are gone.
        let quoted_at = Time::from_unix_s(10_000 - 170);
        let standing = Standing::restored(row(quoted_at), clock.moment());
        assert!(standing.is_fresh(clock.moment()));
        clock.advance(Duration::from_secs(10));
        clock.set_wall(quoted_at);
        assert!(!standing.is_fresh(clock.moment()));
    }

    #[test]
    fn a_standing_is_cut_to_what_policy_allows_today_and_never_made_longer() {
        let clock = Clock::manual(Time::from_unix_s(10_000));
        let restored = || {
            let quoted_at = clock.now() - Duration::from_secs(20);
            Standing::restored(row(quoted_at), clock.moment())
        };
        let (cut, same) = (restored().at_most(Duration::from_secs(60)), restored());
        let same = same.at_most(Duration::from_secs(600));
        let over = restored().at_most(Duration::from_secs(20));
        assert_eq!(cut.expires_at(), clock.now() + Duration::from_secs(40));
        assert!(!over.is_fresh(clock.moment()));
        clock.advance(Duration::from_secs(40));
        clock.set_wall(Time::from_unix_s(10_000));
        assert!(!cut.is_fresh(clock.moment()));
        assert!(same.is_fresh(clock.moment()));
        assert_eq!(same.row().expires_at, Time::from_unix_s(10_000 + 160));
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
