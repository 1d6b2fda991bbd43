//! What this host's workloads may have: registration entries, and the SVIDs issued for them.
//!
//! An SVID is kept by (entry, instance). `shared` entries have one for all processes that match,
//! asked for before anybody needs it; `process` entries have one for each process, asked for when
//! it calls and forgotten when it ends. Nothing here talks to the server: what is missing or past
//! its half-life is listed by [`Identities::due`], and whoever waits is told by a counter.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use assay_evidence::time::Time;
use tokio::sync::Notify;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::agent::caller::Caller;
use crate::agent::host::HostState;
use crate::clock::Clock;
use crate::spiffe::Bundle;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::Instance;
use crate::spiffe::SpiffeId;
use crate::workload::Peer;

/// SVIDs kept; also bounds what callers can make the agent ask for.
pub const MOST_HELD: usize = 2_048;
/// Of them, or asked for, for processes of one user.
pub const MOST_OF_USER: usize = 512;
/// SVIDs of `shared` entries asked for ahead of need.
const MOST_PREFETCHED: usize = 1_000;
/// Pause after an entry's SVID could not be had: doubled each time.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);

/// Whose SVID it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub entry: EntryId,
    pub instance: Whose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    Shared,
    Process { pid: u32, start_time: u64 },
}

/// An SVID with its key.
pub struct Held {
    pub id: SpiffeId,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// Hex.
    pub serial: String,
    pub not_after: Time,
    pub hint: String,
    /// PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
    pub entry_revision: i64,
    /// Since boot.
    pub renew_at: Duration,
    /// The process, where the SVID is one process's own.
    pub peer: Option<Arc<Peer>>,
}

/// An SVID to ask the server for.
#[derive(Debug, Clone)]
pub struct Due {
    pub slot: Slot,
    pub entry: Arc<Entry>,
    pub peer: Option<Arc<Peer>>,
}

/// What a caller may have now.
#[derive(Debug)]
pub enum Answer {
    /// No entry matches.
    NoIdentity,
    /// Entries match; `held` are those SVIDs that are there.
    Identities { held: Vec<Arc<Held>>, missing: usize, bundle: Arc<Bundle> },
    /// The agent does not know yet what this host may have.
    NotYet,
}

#[derive(Debug)]
pub struct Identities {
    clock: Clock,
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
    /// Woken when something may have become due.
    due: Notify,
}

#[derive(Debug)]
struct Table {
    state: HostState,
    bundle: Option<Arc<Bundle>>,
    /// Absent until the server has told.
    entries: Option<BTreeMap<EntryId, Arc<Entry>>>,
    ask_for_digests: bool,
    held: BTreeMap<Slot, Arc<Held>>,
    /// Asked for by callers, not there yet.
    wanted: BTreeMap<Slot, Option<Arc<Peer>>>,
    failed: BTreeMap<Slot, Failure>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    pause: Duration,
    until: Duration,
}

impl Identities {
    pub fn new(clock: Clock) -> Self {
        let table = Table {
            state: HostState::Starting,
            bundle: None,
            entries: None,
            ask_for_digests: false,
            held: BTreeMap::new(),
            wanted: BTreeMap::new(),
            failed: BTreeMap::new(),
        };
        let changes = watch::Sender::new(0);
        Self { clock, table: Mutex::new(table), changes, due: Notify::new() }
    }

    /// A counter that moves whenever an answer may have become another.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns when something may have become due.
    pub async fn woken(&self) {
        self.due.notified().await;
    }

    pub fn state(&self) -> HostState {
        self.table().state.clone()
    }

    /// True if it is a change.
    pub fn set_state(&self, state: HostState) -> bool {
        let changed = {
            let mut table = self.table();
            // Whoever is going down goes down.
            let changed = table.state != state && table.state != HostState::Stopping;
            if changed {
                table.state = state;
            }
            changed
        };
        if changed {
            self.tell();
        }
        changed
    }

    pub fn bundle(&self) -> Option<Arc<Bundle>> {
        self.table().bundle.clone()
    }

    /// True if it is a change.
    pub fn set_bundle(&self, bundle: Bundle) -> bool {
        let bundle = Arc::new(bundle);
        let changed = self.table().bundle.replace(Arc::clone(&bundle)) != Some(bundle);
        if changed {
            self.tell();
        }
        changed
    }

    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.table().entries.iter().flat_map(|entries| entries.values().cloned()).collect()
    }

    /// Takes the whole set of entries of this host; SVIDs of others are dropped. True if it is a
    /// change.
    pub fn set_entries(&self, entries: Vec<Entry>) -> bool {
        {
            let mut table = self.table();
            let entries: BTreeMap<_, _> =
                entries.into_iter().map(|entry| (entry.id().clone(), Arc::new(entry))).collect();
            if table.entries.as_ref() == Some(&entries) {
                return false;
            }
            table.held.retain(|slot, _| entries.contains_key(&slot.entry));
            table.wanted.retain(|slot, _| entries.contains_key(&slot.entry));
            table.failed.clear();
            table.ask_for_digests = entries.values().any(|entry| asks_for_digest(entry));
            table.entries = Some(entries);
        }
        self.tell();
        true
    }

    /// Whether an entry asks what executables are: by a selector, or to record it of a process.
    pub fn ask_for_digests(&self) -> bool {
        self.table().ask_for_digests
    }

    /// The entries that match a caller, oldest first; nothing where they are not known yet.
    pub fn matching(&self, caller: &Caller) -> Option<Vec<Arc<Entry>>> {
        let now = self.clock.now();
        let table = self.table();
        let entries = table.entries.as_ref()?.values();
        let mut matching: Vec<_> = entries
            .filter(|entry| entry.matches(&caller.selectors) && !entry.expired(now))
            .cloned()
            .collect();
        matching.sort_by_key(|entry| (entry.created_at(), entry.id().clone()));
        Some(matching)
    }

    /// What `caller` may have, and a wish for what is missing.
    pub fn answer(&self, caller: &Caller) -> Answer {
        let Some(matching) = self.matching(caller) else { return Answer::NotYet };
        if matching.is_empty() {
            return Answer::NoIdentity;
        }
        let now = self.clock.now();
        let mut held = Vec::new();
        let mut missing = 0;
        let mut table = self.table();
        let Some(bundle) = table.bundle.clone() else { return Answer::NotYet };
        for entry in matching {
            let (instance, peer) = match entry.instance() {
                Instance::Shared => (Whose::Shared, None),
                Instance::Process => (Whose::of(&caller.peer), Some(Arc::clone(&caller.peer))),
            };
            let slot = Slot { entry: entry.id().clone(), instance };
            match table.held.get(&slot) {
                Some(found) if found.serves(&entry, now) => held.push(Arc::clone(found)),
                _ => {
                    missing += 1;
                    if table.may_want(&slot, peer.as_deref()) {
                        table.wanted.insert(slot, peer);
                        self.due.notify_one();
                    }
                }
            }
        }
        Answer::Identities { held, missing, bundle }
    }

    /// What to ask the server for now, at most `most`: first what somebody waits for.
    pub fn due(&self, most: usize) -> Vec<Due> {
        let (now, boot) = (self.clock.now(), self.clock.boot());
        let mut table = self.table();
        if table.forget_ended(now) {
            self.changes.send_modify(|count| *count += 1);
        }
        let Some(entries) = table.entries.as_ref() else { return Vec::new() };
        let may_try =
            |slot: &Slot| table.failed.get(slot).is_none_or(|failure| failure.until <= boot);
        let mut due = BTreeMap::new();
        let full = table.held.len() >= MOST_HELD;
        let mut add = |slot: &Slot, peer: &Option<Arc<Peer>>| {
            let Some(entry) = entries.get(&slot.entry) else { return };
            // What could not be kept is not asked for.
            if full && !table.held.contains_key(slot) {
                return;
            }
            if due.len() < most && may_try(slot) && !due.contains_key(slot) {
                let (entry, peer) = (Arc::clone(entry), peer.clone());
                due.insert(slot.clone(), Due { slot: slot.clone(), entry, peer });
            }
        };
        for (slot, peer) in &table.wanted {
            add(slot, peer);
        }
        for (slot, held) in &table.held {
            let changed =
                entries.get(&slot.entry).is_some_and(|e| e.revision() != held.entry_revision);
            if changed || held.renew_at <= boot || held.not_after <= now {
                add(slot, &held.peer);
            }
        }
        let shared = entries.values().filter(|entry| entry.instance() == Instance::Shared);
        for entry in shared.filter(|entry| !entry.expired(now)).take(MOST_PREFETCHED) {
            let slot = Slot { entry: entry.id().clone(), instance: Whose::Shared };
            if !table.held.contains_key(&slot) {
                add(&slot, &None);
            }
        }
        due.into_values().collect()
    }

    /// How long until something becomes due by itself.
    pub fn next_due(&self) -> Duration {
        let boot = self.clock.boot();
        let table = self.table();
        let retry = |slot: &Slot| table.failed.get(slot).map(|failure| failure.until);
        let renewals = table
            .held
            .iter()
            .map(|(slot, held)| held.renew_at.max(retry(slot).unwrap_or_default()));
        let missing = table.failed.keys().filter(|slot| !table.held.contains_key(slot));
        let next = renewals.chain(missing.filter_map(retry)).min().unwrap_or(Duration::MAX);
        next.saturating_sub(boot).clamp(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// Keeps a new SVID in place of the old one.
    pub fn hold(&self, slot: Slot, held: Held) {
        {
            let mut table = self.table();
            let known = table.entries.as_ref().is_some_and(|e| e.contains_key(&slot.entry));
            if known && table.held.len() >= MOST_HELD && !table.held.contains_key(&slot) {
                table.fail(&slot, self.clock.boot());
                return;
            }
            table.wanted.remove(&slot);
            table.failed.remove(&slot);
            if !known {
                return;
            }
            table.held.insert(slot, Arc::new(held));
        }
        self.tell();
    }

    /// Notes that `slot` could not be had, so that it is left alone for a while.
    pub fn fail(&self, slot: &Slot) {
        self.table().fail(slot, self.clock.boot());
    }

    /// Drops a slot: the process ended or no longer matches.
    pub fn drop_slot(&self, slot: &Slot) {
        let mut table = self.table();
        table.wanted.remove(slot);
        table.failed.remove(slot);
        table.held.remove(slot);
    }

    /// Everything is due again at once: another key signs from now on, or the clock jumped.
    pub fn retry_now(&self) {
        self.table().failed.clear();
        self.due.notify_one();
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
        self.due.notify_one();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Whether one more may be asked for by a caller: processes of one user get a quarter of the
    /// places, so that a user who starts them without end keeps out himself and nobody else.
    fn may_want(&self, slot: &Slot, peer: Option<&Peer>) -> bool {
        if self.wanted.len() >= MOST_HELD || self.wanted.contains_key(slot) {
            return false;
        }
        let Some(peer) = peer.filter(|_| !self.held.contains_key(slot)) else { return true };
        let wanted = self.wanted.values().flatten();
        let held = self.held.values().filter_map(|held| held.peer.as_ref());
        wanted.chain(held).filter(|other| other.uid() == peer.uid()).count() < MOST_OF_USER
    }

    /// Always noted, or what fails would be due again at once: where there is no more room, the one
    /// that is tried again soonest is forgotten.
    fn fail(&mut self, slot: &Slot, boot: Duration) {
        if self.failed.len() >= MOST_HELD && !self.failed.contains_key(slot) {
            let soonest = self.failed.iter().min_by_key(|(_, failure)| failure.until);
            if let Some(soonest) = soonest.map(|(slot, _)| slot.clone()) {
                self.failed.remove(&soonest);
            }
        }
        let failure = self.failed.entry(slot.clone());
        let failure = failure
            .and_modify(|failure| failure.pause = (failure.pause * 2).min(PAUSE_LONGEST))
            .or_insert(Failure { pause: PAUSE_FIRST, until: boot });
        failure.until = boot + failure.pause;
    }

    /// Forgets processes that ended, and SVIDs of entries that ran out; true if any of those.
    fn forget_ended(&mut self, now: Time) -> bool {
        let ended = |peer: &Option<Arc<Peer>>| peer.as_ref().is_some_and(|peer| !peer.is_alive());
        self.wanted.retain(|_, peer| !ended(peer));
        self.held.retain(|_, held| !ended(&held.peer));
        let expired: BTreeSet<_> = self
            .entries
            .iter()
            .flat_map(|entries| entries.values())
            .filter(|entry| entry.expired(now))
            .map(|entry| entry.id().clone())
            .collect();
        let before = self.held.len();
        self.wanted.retain(|slot, _| !expired.contains(&slot.entry));
        self.held.retain(|slot, _| !expired.contains(&slot.entry));
        let ran_out = self.held.len() != before;
        let (wanted, held) = (&self.wanted, &self.held);
        self.failed.retain(|slot, _| {
            slot.instance == Whose::Shared || wanted.contains_key(slot) || held.contains_key(slot)
        });
        ran_out
    }
}

fn asks_for_digest(entry: &Entry) -> bool {
    let mut selectors = entry.selectors().iter();
    entry.instance() == Instance::Process
        || selectors.any(|s| s.kind() == "unix" && s.value().starts_with("sha256:"))
}

impl Whose {
    pub fn of(peer: &Peer) -> Self {
        Self::Process { pid: peer.pid(), start_time: peer.start_time() }
    }
}

impl Held {
    /// Still valid, and of the identity the entry names.
    fn serves(&self, entry: &Entry, now: Time) -> bool {
        now < self.not_after && self.id == *entry.spiffe_id()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
