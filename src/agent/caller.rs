//! A workload that calls: the process at the other end of the socket and its facts of this moment.
//!
//! Reading /proc, digesting executables and asking for user names block, so that is done on the
//! blocking pool, a few at once and fewer for one user: an executable on a file system that hangs
//! holds up its own user alone.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

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
    /// Whether the executable was digested, so far as it can be.
    pub digested: bool,
}

/// Reads the facts of callers.
#[derive(Debug)]
pub struct Callers {
    digests: Arc<ExecutableDigests>,
    at_once: Arc<Semaphore>,
    of_user: Mutex<BTreeMap<u32, Arc<Semaphore>>>,
}

/// Processes looked at, at once.
const AT_ONCE: usize = 8;
const AT_ONCE_OF_USER: usize = 2;
/// An executable that cannot be read within this time is not read.
const READ: Duration = Duration::from_secs(10);

impl Callers {
    /// Executables longer than `longest` bytes have no digest.
    pub fn new(longest: u64, clock: Clock) -> Self {
        Self {
            digests: Arc::new(ExecutableDigests::new(longest, clock)),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            of_user: Mutex::default(),
        }
    }

    /// The facts as they are now. The executable is digested only if an entry asks for that:
    /// nobody may make the agent read files that no entry is about.
    pub async fn read(&self, peer: &Arc<Peer>, digest: bool) -> Result<Caller, WorkloadError> {
        let pid = peer.pid();
        let late = WorkloadError::Unsteady { pid };
        tokio::time::timeout(READ, self.read_in_turn(peer, digest)).await.unwrap_or(Err(late))
    }

    async fn read_in_turn(
        &self,
        peer: &Arc<Peer>,
        digested: bool,
    ) -> Result<Caller, WorkloadError> {
        let pid = peer.pid();
        // Neither is ever closed.
        let closed = |_| WorkloadError::Gone { pid };
        let own = self.of_user(peer.uid()).acquire_owned().await.map_err(closed)?;
        let place = Arc::clone(&self.at_once).acquire_owned().await.map_err(closed)?;
        let (peer, digests) = (Arc::clone(peer), Arc::clone(&self.digests));
        let read = move || {
            // Held as long as the file system takes, also after we stopped waiting.
            let _held = (own, place);
            let facts = Facts::read(&peer, digested.then_some(&*digests))?;
            let selectors = facts.selectors();
            Ok(Caller { peer, facts, selectors, digested })
        };
        let read = tokio::task::spawn_blocking(read).await;
        // The blocking pool is going down with the process.
        read.unwrap_or(Err(WorkloadError::Gone { pid }))
    }

    fn of_user(&self, uid: u32) -> Arc<Semaphore> {
        let mut of_user = self.of_user.lock().unwrap_or_else(PoisonError::into_inner);
        of_user.retain(|known, own| *known == uid || Arc::strong_count(own) > 1);
        let own = of_user.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE_OF_USER)));
        Arc::clone(own)
    }
}
