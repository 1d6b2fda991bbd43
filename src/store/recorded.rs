//! The token between record and signature.

use crate::store::Committed;

/// An intent whose record is durable. Made by the store after the commit, by nobody else:
/// ```compile_fail,E0451
/// # fn forge(intent: u8) -> assay::store::Recorded<u8> {
/// assay::store::Recorded { intent, seq: 0, leaf: [0; 32] }
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Recorded<I> {
    intent: I,
    seq: u64,
    leaf: [u8; 32],
}

impl<I> Recorded<I> {
    /// `intents` in the order in which their records were committed.
    pub(super) fn after(committed: &Committed, intents: Vec<I>) -> Vec<Self> {
        committed
            .records
            .clone()
            .zip(&committed.leaves)
            .zip(intents)
            .map(|((seq, leaf), intent)| Self { intent, seq, leaf: *leaf })
            .collect()
    }

    /// The number of the record.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    pub fn leaf(&self) -> &[u8; 32] {
        &self.leaf
    }

    pub fn intent(&self) -> &I {
        &self.intent
    }

    /// Spends the token.
    pub fn into_intent(self) -> I {
        self.intent
    }
}
