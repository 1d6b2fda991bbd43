//! A workload that calls: the process at the other end of the socket and its facts of this moment.
//!
//! Reading /proc, digesting executables and asking for user names block, so that is done on the
//! blocking pool, a few at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::spiffe::Selector;
use crate::workload::ExecutableDigests;
use crate::workload::Facts;
use crate::workload::Peer;
use crate::workload::WorkloadError;

/// A process and what it may be matched by.
#[derive(Debug, Clone)]
pub struct Caller {
    pub peer: Arc<Peer>,
    pub facts: Facts,
    pub selectors: BTreeSet<Selector>,
}

/// Reads the facts of callers.
#[derive(Debug)]
pub struct Callers {
    digests: Arc<ExecutableDigests>,
    at_once: Semaphore,
}

const AT_ONCE: usize = 8;

impl Callers {
    /// Executables longer than `longest` bytes have no digest.
    pub fn new(longest: u64, clock: Clock) -> Self {
        let digests = Arc::new(ExecutableDigests::new(longest, clock));
        Self { digests, at_once: Semaphore::new(AT_ONCE) }
    }

    /// The facts as they are now.
    pub async fn read(&self, peer: &Arc<Peer>) -> Result<Caller, WorkloadError> {
        // Never closed; an error would let one more in and nothing else.
        let _permit = self.at_once.acquire().await;
        let (peer, digests) = (Arc::clone(peer), Arc::clone(&self.digests));
        let pid = peer.pid();
        let read = move || {
            let facts = Facts::read(&peer, &digests)?;
            let selectors = facts.selectors();
            Ok(Caller { peer, facts, selectors })
        };
        let read = tokio::task::spawn_blocking(read).await;
        // The blocking pool is going down with the process.
        read.unwrap_or(Err(WorkloadError::Gone { pid }))
    }
}
