//! The one thread that writes: what is queued becomes one transaction and one flush.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use assay_evidence::time::Time;
use rusqlite::Connection;
use rusqlite::params;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::store::Change;
use crate::store::Committed;
use crate::store::Keep;
use crate::store::Sealed;
use crate::store::Sequences;
use crate::store::StoreError;
use crate::store::Tally;
use crate::store::Thinned;
use crate::store::sqlite::apply::Head;
use crate::store::sqlite::apply::Writing;
use crate::store::sqlite::folder::Lock;

pub enum Request {
    Commit(Box<Work>),
    Thin { bounds: [(Keep, Time); 2], reply: Reply<Thinned> },
    Close,
}

pub struct Work {
    pub changes: Vec<Change>,
    pub records: Vec<Sealed>,
    pub now: Time,
    pub bytes: usize,
    pub reply: Reply<Committed>,
    /// Given back when the work is dropped.
    pub room: OwnedSemaphorePermit,
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Default)]
pub struct Cells {
    queued: AtomicU64,
    transactions: AtomicU64,
    commits: AtomicU64,
    refused: AtomicU64,
}

pub struct Writer {
    connection: Connection,
    server_id: String,
    head: Head,
    sequences: watch::Sender<Sequences>,
    tally: Arc<Cells>,
    /// Declared last: let go after the connection is closed.
    _lock: Lock,
}

impl Writer {
    pub fn new(
        connection: Connection,
        server_id: String,
        tally: Arc<Cells>,
        lock: Lock,
    ) -> Result<(Self, watch::Receiver<Sequences>), StoreError> {
        let head = Head::read(&connection)?;
        let (sequences, receiver) = watch::channel(head.sequences);
        Ok((Self { connection, server_id, head, sequences, tally, _lock: lock }, receiver))
    }

    /// Until `Close` or until nobody can ask any more.
    pub fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut next = Some(first);
            let mut group = Vec::new();
            let mut bytes = 0;
            while let Some(Request::Commit(work)) = next {
                bytes += work.bytes;
                group.push(*work);
                let full = group.len() >= MAX_GROUP || bytes >= MAX_GROUP_BYTES;
                next = if full { None } else { requests.try_recv().ok() };
            }
            if !group.is_empty() {
                self.commit(group);
            }
            match next {
                Some(Request::Thin { bounds, reply }) => {
                    let _ = reply.send(self.thin(bounds));
                }
                Some(Request::Close) => break,
                Some(Request::Commit(_)) | None => {}
            }
        }
    }

    /// The group in one transaction. Nobody is answered before the flush.
    fn commit(&mut self, group: Vec<Work>) {
        let before = self.head.clone();
        let mut outcomes = Vec::with_capacity(group.len());
        let done = self.transact(&group, &mut outcomes);
        match &done {
            Ok(()) => {
                self.tally.transactions.fetch_add(1, Ordering::Relaxed);
                self.sequences.send_if_modified(|sequences| {
                    let moved = *sequences != self.head.sequences;
                    *sequences = self.head.sequences;
                    moved
                });
            }
            Err(_) => self.head = before,
        }
        outcomes.resize_with(group.len(), || Err(StoreError::Closed));
        for (work, outcome) in group.into_iter().zip(outcomes) {
            // A refusal stands on its own feet; an acceptance only if the transaction does.
            let answer = match (outcome, &done) {
                (Ok(committed), Ok(())) => Ok(committed),
                (Ok(_) | Err(StoreError::Closed), Err(error)) => Err(error.clone()),
                (Err(error), _) => Err(error),
            };
            let count = if answer.is_ok() { &self.tally.commits } else { &self.tally.refused };
            count.fetch_add(1, Ordering::Relaxed);
            drop(work.room);
            let _ = work.reply.send(answer);
        }
    }

    fn transact(
        &mut self,
        group: &[Work],
        outcomes: &mut Vec<Result<Committed, StoreError>>,
    ) -> Result<(), StoreError> {
        self.run_sql("BEGIN IMMEDIATE", "begin to write")?;
        for work in group {
            self.run_sql("SAVEPOINT work", "begin a commit")?;
            let mut head = self.head.clone();
            let outcome = Writing::new(&self.connection, work.now, &self.server_id, &mut head)
                .carry_out(&work.changes, &work.records);
            // A full disk rolls back the whole transaction, not this part of it.
            if self.connection.is_autocommit() {
                return Err(match outcome {
                    Err(error) => error,
                    Ok(_) => StoreError::Damaged("the transaction ended early".to_owned()),
                });
            }
            match outcome {
                Ok(_) => self.head = head,
                Err(_) => self.run_sql("ROLLBACK TO work", "take a refused commit back")?,
            }
            self.run_sql("RELEASE work", "end a commit")?;
            outcomes.push(outcome);
        }
        self.run_sql("COMMIT", "commit")
    }

    /// A statement that begins or ends something; if it fails, all of the transaction is undone.
    fn run_sql(&self, sql: &str, doing: &'static str) -> Result<(), StoreError> {
        let done = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map_err(StoreError::engine(doing));
        if done.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        done.map(|_| ())
    }

    fn thin(&mut self, bounds: [(Keep, Time); 2]) -> Result<Thinned, StoreError> {
        let mut thinned = Thinned::default();
        let transaction = self.connection.transaction()?;
        for (keep, before) in bounds {
            let mut find = transaction.prepare_cached(
                "SELECT rowid, size FROM blob
                 WHERE keep = ?1 AND stored_at < ?2 AND bytes IS NOT NULL LIMIT ?3",
            )?;
            let mut drop_bytes =
                transaction.prepare_cached("UPDATE blob SET bytes = NULL WHERE rowid = ?1")?;
            let found = find
                .query_map(params![keep.rank(), before.unix_ms(), MAX_THINNED], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
                })?
                .collect::<Result<Vec<_>, _>>()?;
            thinned.more |= i64::try_from(found.len()).is_ok_and(|found| found == MAX_THINNED);
            for (rowid, size) in found {
                drop_bytes.execute([rowid])?;
                thinned.blobs += 1;
                thinned.bytes += u64::try_from(size).unwrap_or(0);
            }
        }
        transaction.commit()?;
        self.tally.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(thinned)
    }
}

impl Cells {
    pub fn count_queued(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Tally {
        Tally {
            queued: self.queued.load(Ordering::Relaxed),
            transactions: self.transactions.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// How much one flush may carry: enough to be worth it, little enough that nobody waits long.
const MAX_GROUP: usize = 256;
const MAX_GROUP_BYTES: usize = 8 * 1_024 * 1_024;
const MAX_THINNED: i64 = 500;
