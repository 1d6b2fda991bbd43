//! Which nonces were handed out, to whom, and what became of them.
//!
//! A challenge is used once because its state machine is consumed. The ledger adds what one
//! machine cannot see: that a nonce in somebody's evidence is another exchange's, or a used one,
//! so that the refusal can say so; and that an accepted quote voids the older open challenges of
//! its node, so that counters are compared in the order in which they were asked for.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use assay_evidence::binding::NonceState;
use assay_evidence::nonce::Nonce;
use assay_evidence::reason::Reason;

use crate::exchange::NodeId;
use crate::exchange::Refused;

/// The ledger of a server; a clone is the same ledger. Times are boot time.
#[derive(Debug, Clone)]
pub struct NonceLedger(Arc<Mutex<Pages>>);

#[derive(Debug)]
struct Pages {
    by_nonce: HashMap<[u8; 32], Line>,
    /// In the order of issue.
    order: VecDeque<[u8; 32]>,
    /// Open challenges of each node.
    open: HashMap<NodeId, Vec<[u8; 32]>>,
    limit: usize,
}

#[derive(Debug)]
struct Line {
    node: NodeId,
    issued: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Consumed,
    /// A younger challenge of the same node was answered first.
    Voided,
}

/// An open challenge; dropped unanswered, it is closed.
#[derive(Debug)]
pub(super) struct Ticket {
    ledger: NonceLedger,
    nonce_sha256: [u8; 32],
}

/// How long an issued nonce is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
const MAX_NONCES: usize = 65_536;
/// Open challenges of one node at a time: as many as a server runs exchanges. A lower number
/// would let a stranger who shows a copied EK certificate shut the node out.
const MAX_OPEN: usize = 256;

impl Default for NonceLedger {
    fn default() -> Self {
        Self::new(MAX_NONCES)
    }
}

impl NonceLedger {
    /// A ledger of at most `limit` nonces.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Pages {
            by_nonce: HashMap::new(),
            order: VecDeque::new(),
            open: HashMap::new(),
            limit,
        })))
    }

    /// Nonces remembered now.
    pub fn len(&self) -> usize {
        self.pages().by_nonce.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn issue(
        &self,
        nonce: &Nonce,
        node: &NodeId,
        now: Duration,
    ) -> Result<Ticket, Refused> {
        let nonce_sha256 = nonce.sha256();
        let mut pages = self.pages();
        pages.forget_until(now.saturating_sub(REMEMBERED));
        if pages.order.len() >= pages.limit && !pages.forget_oldest_closed() {
            let limit = pages.limit;
            return Err(Refused::new(Reason::OverLimit, "challenges", limit, "fewer open ones"));
        }
        let open = pages.open.entry(node.clone()).or_default();
        if open.len() >= MAX_OPEN {
            return Err(Refused::new(
                Reason::OverLimit,
                "challenges.node",
                open.len(),
                format!("fewer than {MAX_OPEN} open ones of one node"),
            ));
        }
        open.push(nonce_sha256);
        pages.order.push_back(nonce_sha256);
        let line = Line { node: node.clone(), issued: now, state: State::Open };
        pages.by_nonce.insert(nonce_sha256, line);
        drop(pages);
        Ok(Ticket { ledger: self.clone(), nonce_sha256 })
    }

    /// What the ledger knows of a nonce that is not the one expected.
    pub(super) fn state(&self, nonce: &Nonce) -> NonceState {
        match self.pages().by_nonce.get(&nonce.sha256()).map(|line| line.state) {
            Some(State::Open) => NonceState::OpenElsewhere,
            Some(State::Consumed | State::Voided) => NonceState::Consumed,
            None => NonceState::Unknown,
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // Nothing in here panics between two writes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The challenge was answered well: it is consumed, and every older open challenge of the same
    /// node is void.
    pub(super) fn accept(self) -> Result<(), Refused> {
        let mut pages = self.ledger.pages();
        let line = pages.by_nonce.get(&self.nonce_sha256);
        let Some((node, issued, State::Open)) =
            line.map(|line| (line.node.clone(), line.issued, line.state))
        else {
            let found = "answered after a younger challenge of the same node";
            let expected = "the youngest challenge of the node";
            return Err(Refused::new(Reason::ChallengeUnknown, "challenge", found, expected));
        };
        pages.close(&self.nonce_sha256, State::Consumed);
        let open = pages.open.get(&node).cloned().unwrap_or_default();
        for nonce in open {
            if pages.by_nonce.get(&nonce).is_some_and(|line| line.issued <= issued) {
                pages.close(&nonce, State::Voided);
            }
        }
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut pages = self.ledger.pages();
        if pages.by_nonce.get(&self.nonce_sha256).is_some_and(|line| line.state == State::Open) {
            pages.close(&self.nonce_sha256, State::Consumed);
        }
    }
}

impl Pages {
    fn close(&mut self, nonce: &[u8; 32], state: State) {
        let Some(line) = self.by_nonce.get_mut(nonce) else { return };
        line.state = state;
        if let Some(open) = self.open.get_mut(&line.node) {
            open.retain(|other| other != nonce);
            if open.is_empty() {
                self.open.remove(&line.node);
            }
        }
    }

    fn forget_until(&mut self, end: Duration) {
        while let Some(oldest) = self.order.front().copied() {
            if self.by_nonce.get(&oldest).is_some_and(|line| line.issued >= end) {
                break;
            }
            self.order.pop_front();
            self.forget(&oldest);
        }
    }

    /// Makes room by forgetting early what is closed: an error then gets a plainer word, no more.
    fn forget_oldest_closed(&mut self) -> bool {
        let closed = self.order.iter().position(|nonce| {
            self.by_nonce.get(nonce).is_none_or(|line| line.state != State::Open)
        });
        let Some(nonce) = closed.and_then(|index| self.order.remove(index)) else { return false };
        self.forget(&nonce);
        true
    }

    fn forget(&mut self, nonce: &[u8; 32]) {
        self.close(nonce, State::Voided);
        self.by_nonce.remove(nonce);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::NodeKind;

    fn nonce(byte: u8) -> Nonce {
        Nonce::from_bytes([byte; 32])
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(NodeKind::TpmEk, name.as_bytes())
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_nonce_is_open_then_consumed_then_forgotten() {
        let ledger = NonceLedger::default();
        assert_eq!(ledger.state(&nonce(1)), NonceState::Unknown);
        let ticket = ledger.issue(&nonce(1), &node("a"), at(0)).unwrap();
        assert_eq!(ledger.state(&nonce(1)), NonceState::OpenElsewhere);
        ticket.accept().unwrap();
        assert_eq!(ledger.state(&nonce(1)), NonceState::Consumed);
        let _later = ledger.issue(&nonce(2), &node("a"), at(601)).unwrap();
        assert_eq!(ledger.state(&nonce(1)), NonceState::Unknown);
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn an_accepted_quote_voids_older_challenges_of_its_node_alone() {
        let ledger = NonceLedger::default();
        let older = ledger.issue(&nonce(1), &node("a"), at(1)).unwrap();
        let accepted = ledger.issue(&nonce(2), &node("a"), at(2)).unwrap();
        let younger = ledger.issue(&nonce(3), &node("a"), at(3)).unwrap();
        let other = ledger.issue(&nonce(4), &node("b"), at(1)).unwrap();
        accepted.accept().unwrap();
        assert_eq!(older.accept().unwrap_err().reason(), Reason::ChallengeUnknown);
        younger.accept().unwrap();
        other.accept().unwrap();
    }

    #[test]
    fn a_challenge_that_nobody_answers_does_not_stay_open() {
        let ledger = NonceLedger::default();
        drop(ledger.issue(&nonce(1), &node("a"), at(0)).unwrap());
        assert_eq!(ledger.state(&nonce(1)), NonceState::Consumed);
        assert!(ledger.pages().open.is_empty());
    }

    #[test]
    fn the_ledger_is_bounded_over_all_and_for_each_node() {
        let ledger = NonceLedger::new(10);
        let mut open = Vec::new();
        for i in 0..10 {
            open.push(ledger.issue(&nonce(i), &node("a"), at(0)).unwrap());
        }
        let refused = ledger.issue(&nonce(10), &node("b"), at(0)).unwrap_err();
        assert_eq!(refused.reason(), Reason::OverLimit, "all of them are open");
        open.remove(0).accept().unwrap();
        open.push(ledger.issue(&nonce(11), &node("b"), at(0)).unwrap());
        assert_eq!(ledger.len(), 10);

        let roomy = NonceLedger::default();
        let issue = |i: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&i.to_be_bytes());
            roomy.issue(&Nonce::from_bytes(bytes), &node("a"), at(0))
        };
        let open: Vec<_> = (0..MAX_OPEN).map(|i| issue(i).unwrap()).collect();
        assert_eq!(issue(MAX_OPEN).unwrap_err().reason(), Reason::OverLimit);
        drop(open);
        issue(MAX_OPEN).unwrap();
    }
}
