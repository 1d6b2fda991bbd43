//! The nodes that this server knows, each with its row, its standing and its lock.
//!
//! Rows and standings live in the store; here are the copies that calls decide by. Every change
//! of a row goes through the node's lock and the store first, so the copy is never ahead of what
//! a crash would leave. A node is remembered only where the store has a row of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use tokio::sync::watch;
use tonic::Status;

use crate::appraisal::Standing;
use crate::records::Draft;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::store::Admission;
use crate::store::Change;
use crate::store::NodeRow;
use crate::store::Replaced;
use crate::store::Store;
use crate::store::StoreError;

/// Serials remembered as replaced; older ones are unknown and as useless.
const MAX_REPLACED: usize = 16;
/// `Watch` streams of one node: an agent has one, two while it changes channels.
const MAX_WATCHERS: usize = 16;

#[derive(Debug)]
pub struct Nodes {
    known: Mutex<HashMap<String, Arc<Node>>>,
    /// What policy allows today; a standing from before may have been given more.
    max_age: Duration,
}

/// One node at work.
#[derive(Debug)]
pub struct Node {
    pub id: SpiffeId,
    /// Held while evidence is judged and while the row is changed.
    lock: tokio::sync::Mutex<()>,
    view: Mutex<View>,
    signal: watch::Sender<Signal>,
}

/// What calls decide by.
#[derive(Debug, Clone)]
pub struct View {
    pub row: NodeRow,
    pub standing: Option<Standing>,
    /// The last evidence was contraindicated: a whole attestation must come next.
    pub must_reattest: bool,
}

/// What `Watch` is woken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signal {
    /// Rises when the agent should refresh at once.
    pub refresh: u64,
    /// The agent's calls end with this until it attests again.
    pub ended: Option<Reason>,
}

impl Nodes {
    pub fn new(max_age: Duration) -> Self {
        Self { known: Mutex::default(), max_age }
    }

    /// The node of this id, if the store has a row of it.
    pub async fn node(
        &self,
        store: &Store,
        id: &SpiffeId,
    ) -> Result<Option<Arc<Node>>, StoreError> {
        let Some(node_id) = id.node_id() else { return Ok(None) };
        let known = self.known().get(node_id).cloned();
        if let Some(node) = known {
            // One that waits for an operator may have given way to others meanwhile.
            let pending = node.with(|view| view.row.admission == Admission::Pending);
            if !pending || store.node(node_id).await?.is_some() {
                return Ok(Some(node));
            }
            self.forget(id);
            return Ok(None);
        }
        let Some(row) = store.node(node_id).await? else { return Ok(None) };
        let standing = store.standing(id).await?;
        let standing = standing.map(|standing| standing.at_most(self.max_age));
        let view = View { row, standing, must_reattest: false };
        let mut known = self.known();
        let node = known.entry(node_id.to_owned()).or_insert_with(|| Arc::new(Node::new(id, view)));
        Ok(Some(node.clone()))
    }

    /// Forgets a node whose row is deleted; what still holds it is told to stop.
    pub fn forget(&self, id: &SpiffeId) {
        let removed = id.node_id().and_then(|node_id| self.known().remove(node_id));
        if let Some(node) = removed {
            node.end(Reason::NotAttested);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Node>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn new(id: &SpiffeId, view: View) -> Self {
        Self {
            id: id.clone(),
            lock: tokio::sync::Mutex::new(()),
            view: Mutex::new(view),
            signal: watch::Sender::new(Signal::default()),
        }
    }

    /// A copy of what is known now.
    pub fn view(&self) -> View {
        self.look().clone()
    }

    pub fn standing(&self) -> Option<Standing> {
        self.look().standing.clone()
    }

    /// Reads without copying the row.
    pub fn with<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.look())
    }

    /// Nobody else judges evidence of this node or changes its row while the guard lives.
    pub async fn lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.lock.lock().await
    }

    /// `None` when more watch this node than agents of one machine have a use for.
    pub fn subscribe(&self) -> Option<watch::Receiver<Signal>> {
        (self.signal.receiver_count() < MAX_WATCHERS).then(|| self.signal.subscribe())
    }

    /// Commits `row` and what goes with it, then shows it. The caller holds the lock.
    pub async fn commit(
        &self,
        store: &Store,
        row: NodeRow,
        mut changes: Vec<Change>,
        records: Vec<Draft>,
    ) -> Result<(), StoreError> {
        changes.insert(0, Change::Node(row.clone()));
        let committed = match store.commit(changes, records).await {
            Err(conflict @ StoreError::Conflict { .. }) => {
                // The copy is behind: somebody's change went around it. The next try must not
                // fail for the same reason.
                self.catch_up(store).await?;
                return Err(conflict);
            }
            done => done?,
        };
        let revision = committed.revisions.first().copied().unwrap_or(row.revision);
        self.look().row = NodeRow { revision, ..row };
        Ok(())
    }

    /// Reads the row again after a commit that went another way. The caller holds the lock.
    pub async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let node_id = self.id.node_id().unwrap_or_default();
        if let Some(row) = store.node(node_id).await? {
            self.look().row = row;
        }
        Ok(())
    }

    /// Row and standing as the store has them. A standing that is the one known already keeps its
    /// time on the boot clock.
    async fn catch_up(&self, store: &Store) -> Result<(), StoreError> {
        self.reload(store).await?;
        let stored = store.standing(&self.id).await?;
        let mut view = self.look();
        let name = |standing: &Option<Standing>| {
            standing.as_ref().map(|standing| standing.row().appraisal_id.clone())
        };
        if name(&stored) != name(&view.standing) {
            view.must_reattest |= stored.is_none();
            view.standing = stored;
        }
        Ok(())
    }

    /// Shows a standing that has been committed, and lets the agent's calls go on.
    pub fn stand(&self, standing: Standing) {
        {
            let mut view = self.look();
            view.standing = Some(standing);
            view.must_reattest = false;
        }
        self.signal.send_modify(|signal| signal.ended = None);
    }

    /// No standing from now on; `Watch` ends with `reason`.
    pub fn fall(&self, reason: Reason) {
        {
            let mut view = self.look();
            view.standing = None;
            view.must_reattest = true;
        }
        self.end(reason);
    }

    /// Asks the agent to refresh at once.
    pub fn call_for_refresh(&self) {
        self.signal.send_modify(|signal| signal.refresh += 1);
    }

    fn end(&self, reason: Reason) {
        self.signal.send_modify(|signal| signal.ended = Some(reason));
    }

    fn look(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `act` to its end even when the call that wants it is cancelled: what was queued at the
/// store happens then as well, and the copies here must show it.
pub async fn undivided<T: Send + 'static>(
    act: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::spawn(act).await;
    done.unwrap_or_else(|_| Err(Status::internal("a task of the server ended early")))
}

/// `row` after the first use of `serial`, its `next` one: the serials before it fade from `now`.
pub fn succeed(row: &mut NodeRow, now: Time) {
    let Some(next) = row.serials.next.take() else { return };
    if let Some(before) = row.serials.active.replace(next) {
        row.serials.replaced.push(Replaced { serial: before, since: now });
    }
    let surplus = row.serials.replaced.len().saturating_sub(MAX_REPLACED);
    row.serials.replaced.drain(..surplus);
}

/// `row` once `serial` was issued. One that was issued before and never used is replaced at once:
/// its holder did not live to use it.
pub fn issued(row: &mut NodeRow, serial: Serial, now: Time) {
    if let Some(unused) = row.serials.next.replace(serial) {
        row.serials.replaced.push(Replaced { serial: unused, since: now });
        let surplus = row.serials.replaced.len().saturating_sub(MAX_REPLACED);
        row.serials.replaced.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn an_act_goes_on_when_its_call_is_cancelled() {
        let (go, going) = tokio::sync::oneshot::channel::<()>();
        let (done, seen) = tokio::sync::oneshot::channel();
        let call = undivided(async move {
            going.await.unwrap();
            done.send("done").unwrap();
            Ok(())
        });
        tokio::select! {
            biased;
            _ = call => unreachable!("nothing let it go"),
            () = std::future::ready(()) => {}
        }
        go.send(()).unwrap();
        assert_eq!(seen.await.unwrap(), "done");
    }
}
