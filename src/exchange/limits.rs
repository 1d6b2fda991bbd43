//! What an exchange may take of frames, bytes, time and memory.
//!
//! Every number here is a promise of docs/reference/limits.md with a test beside its use.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One message of either side.
pub const MAX_FRAME: usize = 1_024 * 1_024;
/// The first message of an agent.
pub const MAX_HELLO: usize = 256 * 1_024;
/// All items of one exchange together.
pub const MAX_EVIDENCE: u64 = 80 * 1_024 * 1_024;
/// Bytes of evidence that one exchange keeps in memory; what goes beyond is hashed and let go.
pub(super) const MAX_KEPT: u64 = 1_024 * 1_024;
/// Bytes of evidence that all exchanges of a server keep in memory together.
pub(super) const MAX_KEPT_OVER_ALL: u64 = 256 * 1_024 * 1_024;

pub(super) const MAX_CERTIFICATE: usize = 16 * 1_024;
pub(super) const MAX_CHAIN: usize = 8;
/// The certificate of an attestation key, and its chain.
pub(super) const MAX_AK_CERTIFICATES: usize = 1 + MAX_CHAIN;
/// EK certificates of one TPM: one for each template it has.
pub(super) const MAX_EK_CERTIFICATES: usize = 8;
/// A TPMT_PUBLIC; an RSA-4096 one has less.
pub(super) const MAX_PUBLIC: usize = 1_024;
pub(super) const MAX_BANKS: usize = 16;
pub(super) const MAX_KINDS: usize = 32;
pub(super) const MAX_WORD: usize = 64;
pub(super) const MAX_ITEMS: usize = 16;
pub(super) const MAX_BINDING_INPUT: usize = 2_048;
/// A credential's secret is as long as a digest of the EK's name algorithm at most.
pub(super) const MAX_ACTIVATED: usize = 64;
/// Protobuf fields in one message: a frame of empty fields would decode to much more memory
/// than it has bytes.
pub(super) const MAX_FIELDS: usize = 256;

/// From the challenge to the quote.
pub(super) const QUOTE_WITHIN: Duration = Duration::from_secs(60);
/// From the challenge to the last byte of the logs.
const LOGS_WITHIN: Duration = Duration::from_secs(300);
/// What a standing must still be good for once its evidence is in.
const LOGS_BEFORE_END: Duration = Duration::from_secs(30);

/// From the challenge to the last byte of the logs: 300 s, but 30 s before a standing of
/// `max_age` would end; where it lasts less than a minute, half of it.
pub(super) fn logs_within(max_age: Duration) -> Duration {
    LOGS_WITHIN.min(max_age.saturating_sub(LOGS_BEFORE_END).max(max_age / 2))
}

/// Memory that all exchanges of a server share for evidence; a clone is the same purse.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Purse>);

#[derive(Debug)]
struct Purse {
    used: AtomicU64,
    limit: u64,
}

/// What one exchange took of the [`Budget`]; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Budget,
    taken: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_KEPT_OVER_ALL)
    }
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Purse { used: AtomicU64::new(0), limit }))
    }

    /// Bytes in use now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Acquire)
    }

    pub(super) fn lease(&self) -> Lease {
        Lease { budget: self.clone(), taken: 0 }
    }
}

impl Lease {
    /// Takes `bytes` more; false, and nothing taken, when the exchange or all of them together
    /// would have more than they may.
    #[must_use]
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let own = self.taken.saturating_add(bytes);
        if own > MAX_KEPT {
            return false;
        }
        let purse = &self.budget.0;
        let taken = purse.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= purse.limit)
        });
        if taken.is_ok() {
            self.taken = own;
        }
        taken.is_ok()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.taken, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_exchange_took_comes_back_when_it_ends() {
        let budget = Budget::new(1_000);
        let mut one = budget.lease();
        let mut other = budget.lease();
        assert!(one.take(700));
        assert!(!other.take(301), "beyond the purse");
        assert!(other.take(300));
        assert_eq!(budget.used(), 1_000);
        drop(one);
        assert_eq!(budget.used(), 300);
        assert!(other.take(700));
    }

    #[test]
    fn one_exchange_keeps_no_more_than_its_share() {
        let mut lease = Budget::default().lease();
        assert!(lease.take(MAX_KEPT));
        assert!(!lease.take(1));
        assert!(!lease.take(u64::MAX));
    }

    #[test]
    fn logs_leave_a_standing_some_life() {
        let within = |max_age| logs_within(Duration::from_secs(max_age)).as_secs();
        assert_eq!(within(180), 150);
        assert_eq!(within(86_400), 300);
        assert_eq!(within(40), 20);
    }
}
