//! The store: what a server knows and must not forget.
//!
//! Every change goes through [`Store::commit`]: any number of changes and records in one
//! transaction, all or nothing, durable when it returns. Rows that two sessions may change carry a
//! revision and are changed only by whom has read the newest one. Records are numbered without a
//! gap and never changed.
//!
//! It decides nothing about what it keeps, with three exceptions that no caller can be trusted to
//! remember: a serial is never recorded twice, an EK belongs to one node, and a standing is never
//! replaced by an older one.

mod authority;
mod blob;
mod change;
mod error;
mod files_judged;
mod hexadecimal;
mod node;
mod recorded;
mod sqlite;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use assay_evidence::time::Time;
use tokio::sync::watch;

use crate::appraisal::DenySet;
use crate::appraisal::Standing;
use crate::clock::Clock;
use crate::clock::Moment;
use crate::records::Body;
use crate::records::Draft;
use crate::records::Intent;
use crate::records::Origin;
use crate::records::Record;
use crate::records::RecordError;
use crate::records::RefKind;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;

pub use authority::AuthorityKind;
pub use authority::AuthorityRow;
pub use authority::AuthorityState;
pub use blob::Blob;
pub use blob::Keep;
pub use blob::MAX_BLOB_BYTES;
pub use blob::MAX_NODE_BYTES;
pub use blob::Retention;
pub use blob::StoredBlob;
pub use blob::Thinned;
pub use change::Change;
pub use error::StoreError;
pub use files_judged::FilesJudged;
pub use node::Admission;
pub use node::AffirmedBy;
pub use node::Counters;
pub use node::EkAdmission;
pub use node::EkRow;
pub use node::Flag;
pub use node::NodeKind;
pub use node::NodeRow;
pub use node::Replaced;
pub use node::Serials;
pub use node::TpmDevice;
pub use recorded::Recorded;

/// A handle to the one store of this process; cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    origin: Origin,
    clock: Clock,
    /// When it was opened. The wall clock was held against the newest record then; what it says
    /// later may be less.
    opened: Moment,
}

/// Where the rows are. PostgreSQL joins here.
#[derive(Clone)]
enum Backend {
    Sqlite(sqlite::Sqlite),
}

/// Numbers that rise with each change of a kind; followers compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sequences {
    pub entries_revision: u64,
    pub bundle_sequence: u64,
    /// Bans and quarantines: `rev_seq`.
    pub deny_sequence: u64,
    /// How many records there are; also the number of the next.
    pub records: u64,
}

/// What came of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The numbers of the records, in the order given; empty if there were none.
    pub records: Range<u64>,
    pub leaves: Vec<[u8; 32]>,
    /// The new revision for each change, in the order given; 0 where the row has none.
    pub revisions: Vec<i64>,
    /// As they were when this was committed.
    pub sequences: Sequences,
}

/// What an opened store found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub created: bool,
    /// Schema version before and after opening.
    pub migrated: (u32, u32),
    pub records: u64,
    /// `ts` of the newest record.
    pub newest: Option<Time>,
    pub nodes: u64,
    pub entries: u64,
    pub authorities: u64,
    /// Standings that may be restored; none if the clock is behind.
    pub standings: u64,
    /// By how much the clock is behind the newest record, where that is more than 5 s. All
    /// standings were voided then (`clock-behind`).
    pub clock_behind: Option<Duration>,
    /// The last process did not close the store: its log was replayed.
    pub recovered: bool,
}

/// A serial that was recorded, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub serial: Serial,
    pub not_after: Time,
    pub subject: String,
    pub node: Option<SpiffeId>,
    pub entry: Option<EntryId>,
    /// The record that says so.
    pub seq: u64,
}

/// How often the writer has committed, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Calls of [`Store::commit`] that were queued.
    pub queued: u64,
    /// Transactions, each with one flush to the disk.
    pub transactions: u64,
    /// Calls that were carried out.
    pub commits: u64,
    pub refused: u64,
}

impl Store {
    /// Opens or makes the store at `path`; its folder is made with mode 0700 and must be so.
    /// Blocks; call it before serving. Refuses a store of another trust domain, of a newer
    /// version, or one that another process has open.
    pub fn open(path: &Path, trust_domain: &TrustDomain, clock: Clock) -> Result<Self, StoreError> {
        let (sqlite, origin) = sqlite::Sqlite::open(path, trust_domain, &clock)?;
        let opened = clock.moment();
        Ok(Self { backend: Backend::Sqlite(sqlite), origin, clock, opened })
    }

    /// What was there when it was opened.
    pub fn found(&self) -> &Found {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.found(),
        }
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// All of it in one transaction, or nothing: `changes` in order, then `records` in order.
    /// Once this returns `Ok`, no crash undoes it. If the caller goes away while it waits, the
    /// commit may still happen.
    pub async fn commit(
        &self,
        changes: Vec<Change>,
        records: Vec<Draft>,
    ) -> Result<Committed, StoreError> {
        let now = self.clock.now();
        let sealed = records
            .into_iter()
            .map(|draft| Sealed::new(draft, &self.origin, now))
            .collect::<Result<Vec<_>, _>>()?;
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.commit(changes, sealed, now).await,
        }
    }

    /// Records what will be signed, and only then hands it back as signable.
    pub async fn record<I: Intent>(&self, intents: Vec<I>) -> Result<Vec<Recorded<I>>, StoreError> {
        self.record_with(Vec::new(), intents).await
    }

    /// As [`Self::record`], with changes that hold only if the records do, and the reverse.
    pub async fn record_with<I: Intent>(
        &self,
        changes: Vec<Change>,
        intents: Vec<I>,
    ) -> Result<Vec<Recorded<I>>, StoreError> {
        let drafts = intents.iter().map(Intent::draft).collect();
        let committed = self.commit(changes, drafts).await?;
        Ok(Recorded::after(&committed, intents))
    }

    /// Reads the node, lets `amend` change it, and commits it with the records `amend` gives;
    /// again from the start if another session was faster. `amend` may refuse with an error of
    /// its own.
    pub async fn amend_node<E: From<StoreError>>(
        &self,
        node_id: &str,
        mut amend: impl FnMut(&mut NodeRow) -> Result<Vec<Draft>, E>,
    ) -> Result<Committed, E> {
        let mut tries = 0;
        loop {
            let mut row = self
                .node(node_id)
                .await?
                .ok_or_else(|| StoreError::Missing { table: "node", id: node_id.to_owned() })?;
            let drafts = amend(&mut row)?;
            tries += 1;
            match self.commit(vec![Change::Node(row)], drafts).await {
                Err(StoreError::Conflict { .. }) if tries < MAX_AMEND_TRIES => {}
                done => return Ok(done?),
            }
        }
    }

    pub async fn node(&self, node_id: &str) -> Result<Option<NodeRow>, StoreError> {
        let node_id = node_id.to_owned();
        self.read(move |reads| reads.node(&node_id)).await
    }

    /// Nodes after `after` (a node id) in the order of their ids, at most `limit`.
    pub async fn nodes(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<NodeRow>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.read(move |reads| reads.nodes(&after, limit)).await
    }

    /// The node that this EK belongs to, whichever of the node's EKs it is.
    pub async fn node_by_ek(&self, spki_sha256: &[u8; 32]) -> Result<Option<NodeRow>, StoreError> {
        let ek = *spki_sha256;
        self.read(move |reads| reads.node_by_ek(&ek)).await
    }

    /// Nodes whose ban or flag holds for a machine that shows these EKs: those that `claimed`, the
    /// EKs it showed beside its own, belong to; and for a `newcomer`, whose own EK no operator has
    /// let in, a node that was refused after showing that EK as one of its own.
    pub async fn kin(
        &self,
        claimed: &[[u8; 32]],
        newcomer: Option<&[u8; 32]>,
    ) -> Result<Vec<NodeRow>, StoreError> {
        let (claimed, newcomer) = (claimed.to_vec(), newcomer.copied());
        if claimed.is_empty() && newcomer.is_none() {
            return Ok(Vec::new());
        }
        self.read(move |reads| reads.kin(&claimed, newcomer.as_ref())).await
    }

    /// What is known of an EK: its node, and whether an operator entered it.
    pub async fn ek(&self, spki_sha256: &[u8; 32]) -> Result<Option<EkRow>, StoreError> {
        let ek = *spki_sha256;
        self.read(move |reads| reads.ek(&ek)).await
    }

    /// EKs that operators entered, at most `limit`.
    pub async fn ek_admissions(&self, limit: usize) -> Result<Vec<EkAdmission>, StoreError> {
        self.read(move |reads| reads.ek_admissions(limit)).await
    }

    /// All entries, ascending by id, and the revision of the whole they are at.
    pub async fn entries(&self) -> Result<(Vec<Entry>, u64), StoreError> {
        self.read(move |reads| reads.entries()).await
    }

    pub async fn entry(&self, id: &EntryId) -> Result<Option<Entry>, StoreError> {
        let id = id.clone();
        self.read(move |reads| reads.entry(&id)).await
    }

    /// The standings that are left from before, restored at this moment. Empty after a start with
    /// the clock behind. Whether one still counts, `is_fresh` says.
    pub async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
        let now = self.restoring();
        let rows = self.read(move |reads| reads.standings()).await?;
        Ok(rows.into_iter().map(|row| Standing::restored(row, now)).collect())
    }

    pub async fn standing(&self, node: &SpiffeId) -> Result<Option<Standing>, StoreError> {
        let now = self.restoring();
        let node = node.clone();
        let row = self.read(move |reads| reads.standing(&node)).await?;
        Ok(row.map(|row| Standing::restored(row, now)))
    }

    /// Now, by which standings are restored: a wall clock that was set back since the opening
    /// makes none of them younger.
    fn restoring(&self) -> Moment {
        let now = self.clock.moment();
        let since = now.boot.saturating_sub(self.opened.boot);
        Moment { wall: now.wall.max(self.opened.wall + since), ..now }
    }

    /// Authorities of the trust domain and the bundle sequence they are at.
    pub async fn authorities(&self) -> Result<(Vec<AuthorityRow>, u64), StoreError> {
        self.read(move |reads| reads.authorities()).await
    }

    /// Every denial in force: today the banned nodes.
    pub async fn deny_set(&self) -> Result<DenySet, StoreError> {
        let trust_domain = self.origin.trust_domain.clone();
        self.read(move |reads| reads.deny_set(&trust_domain)).await
    }

    pub async fn record_at(&self, seq: u64) -> Result<Option<Record>, StoreError> {
        let mut found = self.records(seq, 1).await?;
        Ok(found.pop().filter(|record| record.seq == seq))
    }

    /// Records from number `from` on, ascending, at most `limit`.
    pub async fn records(&self, from: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.read(move |reads| reads.records(from, limit)).await
    }

    /// Records that refer to this, newest first, older than `before`, at most `limit`.
    pub async fn records_by_ref(
        &self,
        kind: RefKind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let id = id.to_owned();
        self.read(move |reads| reads.records_by(kind.as_str(), &id, before, limit)).await
    }

    /// Records about this SPIFFE ID, newest first, older than `before`, at most `limit`.
    pub async fn records_by_subject(
        &self,
        subject: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let subject = subject.to_owned();
        self.read(move |reads| reads.records_by("subject", &subject, before, limit)).await
    }

    /// Reads the whole log and compares each number and each leaf with what it must be; the count
    /// of records on success.
    pub async fn recount(&self) -> Result<u64, StoreError> {
        self.read(move |reads| reads.recount()).await
    }

    pub async fn blob(&self, sha256: &[u8; 32]) -> Result<Option<StoredBlob>, StoreError> {
        let sha256 = *sha256;
        self.read(move |reads| reads.blob(&sha256)).await
    }

    /// Who got this serial.
    pub async fn issued(&self, serial: &Serial) -> Result<Option<Issued>, StoreError> {
        let serial = *serial;
        self.read(move |reads| reads.issued(&serial)).await
    }

    /// Serials for a node that have not expired at `now`, at most `limit`.
    pub async fn issued_to_node(
        &self,
        node: &SpiffeId,
        now: Time,
        limit: usize,
    ) -> Result<Vec<Issued>, StoreError> {
        let node = node.clone();
        self.read(move |reads| reads.issued_to_node(&node, now, limit)).await
    }

    /// Drops the bytes of blobs that have been kept for as long as was promised; what they were
    /// stays known. At most 1,000 a call: call again while `more`.
    pub async fn thin(&self, retention: &Retention) -> Result<Thinned, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.thin(*retention, self.clock.now()).await,
        }
    }

    /// The sequences as last committed.
    pub fn sequences(&self) -> Sequences {
        *self.subscribe().borrow()
    }

    /// Wakes its holder after each commit that moved a sequence.
    pub fn subscribe(&self) -> watch::Receiver<Sequences> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.subscribe(),
        }
    }

    pub fn tally(&self) -> Tally {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.tally(),
        }
    }

    /// Commits what is queued, closes the file, waits until that is done. Later calls through any
    /// clone answer `Closed`.
    pub async fn close(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&sqlite::Reads<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.read(read).await,
        }
    }
}

/// A draft with its body made, and what the store itself must know of it.
struct Sealed {
    body: Body,
    subject: String,
    issued: Option<sqlite::IssuedRow>,
}

impl Sealed {
    fn new(draft: Draft, origin: &Origin, now: Time) -> Result<Self, RecordError> {
        let body = draft.seal(origin, now)?;
        let subject = draft.subject.text(&origin.trust_domain);
        let issued = sqlite::IssuedRow::of(&draft);
        Ok(Self { body, subject, issued })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.found().path).finish_non_exhaustive()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.created, self.recovered) {
            (true, _) => "created",
            (false, true) => "recovered after an unclean stop",
            (false, false) => "opened",
        };
        write!(
            f,
            "{} {state}: {} records, {} nodes, {} entries, {} authorities, {} standings",
            self.path.display(),
            self.records,
            self.nodes,
            self.entries,
            self.authorities,
            self.standings
        )?;
        if let (from, to) = self.migrated
            && from != to
            && !self.created
        {
            write!(f, "; schema {from} migrated to {to}")?;
        }
        match self.clock_behind {
            Some(by) => write!(f, "; clock {} s behind the newest record", by.as_secs()),
            None => Ok(()),
        }
    }
}

const MAX_AMEND_TRIES: u32 = 16;
