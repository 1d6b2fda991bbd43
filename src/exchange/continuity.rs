//! Whether the one who speaks now can be the one who spoke before: counters of the TPM, and serial
//! numbers of the agent's certificate. Both tell two machines with one identity apart.

use std::time::Duration;

use assay_evidence::time::Time;

use crate::exchange::Refused;
use crate::spiffe::Serial;
use crate::store::Counters;
use crate::store::Flag;
use crate::store::Serials;

/// What a certificate's serial means on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SerialUse {
    Active,
    /// The successor, used for the first time: make it the active one.
    FirstUse,
    /// Replaced a moment ago; still good.
    Fading,
    /// Replaced, and on a connection that was opened while the successor was long in use: two
    /// agents speak.
    Clone,
    /// Replaced, on a connection that is older: not good, but no clone.
    Replaced,
    /// Never this node's, or no longer remembered.
    Unknown,
}

/// How long a replaced serial is still accepted after its successor's first use.
const FADING: Duration = Duration::from_secs(30);

/// Refuses counters that went back. With a live standing somebody else spoke for this node
/// meanwhile; without one the TPM may have been cleared.
///
/// Only evidence whose challenge is younger than the one `before` came from may be judged so: an
/// accepted quote voids older open challenges ([`crate::exchange::NonceLedger`]).
pub(super) fn demand_progress(
    now: Counters,
    before: Option<Counters>,
    live_standing: bool,
) -> Result<(), Refused> {
    let Some(before) = before.filter(|before| now < *before) else { return Ok(()) };
    let flag = if live_standing { Flag::CloneSuspected } else { Flag::ClockRegression };
    let expected = format!("not before {}", written(before));
    Err(Refused::flagged(flag, "tpm.counters", written(now), &expected))
}

fn written(counters: Counters) -> String {
    let Counters { reset_count, restart_count, clock } = counters;
    format!("reset {reset_count}, restart {restart_count}, clock {clock} ms")
}

/// Judges the serial of an agent's certificate on a connection opened at `opened`, at `now`.
/// Certificates that are not ours in serial length are `Unknown` to the caller already.
pub fn judge_serial(serials: &Serials, serial: &Serial, opened: Time, now: Time) -> SerialUse {
    if serials.active.as_ref() == Some(serial) {
        return SerialUse::Active;
    }
    if serials.next.as_ref() == Some(serial) {
        return SerialUse::FirstUse;
    }
    let Some(replaced) = serials.replaced.iter().find(|replaced| replaced.serial == *serial) else {
        return SerialUse::Unknown;
    };
    let end = replaced.since + FADING;
    if opened > end {
        SerialUse::Clone
    } else if now <= end {
        SerialUse::Fading
    } else {
        SerialUse::Replaced
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use assay_evidence::reason::Reason;

    use super::*;
    use crate::store::Replaced;

    fn counters(reset_count: u32, restart_count: u32, clock: u64) -> Counters {
        Counters { reset_count, restart_count, clock }
    }

    #[test]
    fn counters_may_stand_or_rise_by_their_weight() {
        let before = Some(counters(5, 2, 1_000));
        for now in [counters(5, 2, 1_000), counters(5, 3, 0), counters(6, 0, 0)] {
            demand_progress(now, before, true).unwrap();
        }
        demand_progress(counters(0, 0, 0), None, true).unwrap();
    }

    #[test]
    fn counters_that_went_back_mean_a_clone_only_beside_a_live_standing() {
        let before = Some(counters(5, 2, 1_000));
        for now in [counters(5, 2, 999), counters(5, 1, 9_999), counters(4, 9, 9_999)] {
            let refused = demand_progress(now, before, true).unwrap_err();
            assert_eq!(refused.reason(), Reason::CloneSuspected);
            assert_eq!(refused.flag(), Some(Flag::CloneSuspected));
            let refused = demand_progress(now, before, false).unwrap_err();
            assert_eq!(refused.reason(), Reason::ClockRegression);
            assert_eq!(refused.flag(), Some(Flag::ClockRegression));
        }
    }

    #[test]
    fn a_replaced_serial_fades_and_then_betrays_a_clone() {
        let serial = |byte| Serial::from_random([byte; 16]);
        let at = Time::from_unix_s;
        let serials = Serials {
            active: Some(serial(2)),
            next: Some(serial(3)),
            replaced: vec![Replaced { serial: serial(1), since: at(100) }],
        };
        assert_eq!(judge_serial(&serials, &serial(2), at(0), at(500)), SerialUse::Active);
        assert_eq!(judge_serial(&serials, &serial(3), at(400), at(500)), SerialUse::FirstUse);
        assert_eq!(judge_serial(&serials, &serial(1), at(50), at(130)), SerialUse::Fading);
        assert_eq!(judge_serial(&serials, &serial(1), at(129), at(130)), SerialUse::Fading);
        assert_eq!(judge_serial(&serials, &serial(1), at(50), at(131)), SerialUse::Replaced);
        assert_eq!(judge_serial(&serials, &serial(1), at(131), at(131)), SerialUse::Clone);
        assert_eq!(judge_serial(&serials, &serial(9), at(0), at(0)), SerialUse::Unknown);
    }
}
