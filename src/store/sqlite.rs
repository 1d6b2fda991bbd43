//! The store in one SQLite file: write-ahead log, flushed at each transaction.
//!
//! One thread writes: it takes what is queued, puts it into one transaction and flushes once for
//! all of it (group commit); each commit is a savepoint of its own, so one that is refused takes
//! no other with it. A few connections read; each read sees one snapshot.

mod apply;
mod folder;
mod reads;
mod schema;
mod writer;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;

use assay_evidence::crypto::Random;
use assay_evidence::crypto::SystemRandom;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::TransactionBehavior;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::records::Actor;
use crate::records::Admin;
use crate::records::Data;
use crate::records::Draft;
use crate::records::Origin;
use crate::records::Subject;
use crate::spiffe::TrustDomain;
use crate::store::Change;
use crate::store::Committed;
use crate::store::Found;
use crate::store::Retention;
use crate::store::Sealed;
use crate::store::Sequences;
use crate::store::StoreError;
use crate::store::Tally;
use crate::store::Thinned;

pub use apply::IssuedRow;
pub use reads::Reads;

#[derive(Clone)]
pub struct Sqlite(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<writer::Request>,
    /// Room in the queue, in KiB of what the requests hold.
    room: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    readers: Arc<Semaphore>,
    sequences: watch::Receiver<Sequences>,
    tally: Arc<writer::Cells>,
    found: Found,
}

impl Sqlite {
    pub fn open(
        path: &Path,
        trust_domain: &TrustDomain,
        clock: &Clock,
    ) -> Result<(Self, Origin), StoreError> {
        let lock = folder::lock(path)?;
        let place = folder::prepare(path)?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let migrated = schema::migrate(&mut connection, path, clock.now())?;
        let origin = Origin {
            server_id: server_id(&connection)?,
            trust_domain: own(&connection, trust_domain)?,
        };
        let clock_behind = void_if_behind(&mut connection, &origin, clock.now())?;
        let found = reads::Reads::new(&connection).found(
            path,
            place.created,
            place.recovered,
            migrated,
            clock_behind,
        )?;

        let tally = Arc::new(writer::Cells::default());
        let (queue, requests) = mpsc::channel(QUEUE);
        let (writer, sequences) =
            writer::Writer::new(connection, origin.server_id.clone(), tally.clone(), lock)?;
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(StoreError::io(path))?;
        let shared = Shared {
            queue,
            room: Arc::new(Semaphore::new(QUEUE_KIB)),
            writer: Mutex::new(Some(thread)),
            path: path.to_owned(),
            idle: Mutex::new(Vec::new()),
            readers: Arc::new(Semaphore::new(READERS)),
            sequences,
            tally,
            found,
        };
        Ok((Self(Arc::new(shared)), origin))
    }

    pub fn found(&self) -> &Found {
        &self.0.found
    }

    pub fn subscribe(&self) -> watch::Receiver<Sequences> {
        self.0.sequences.clone()
    }

    pub fn tally(&self) -> Tally {
        self.0.tally.read()
    }

    pub async fn commit(
        &self,
        changes: Vec<Change>,
        records: Vec<Sealed>,
        now: Time,
    ) -> Result<Committed, StoreError> {
        for (what, found) in
            [("changes in a commit", changes.len()), ("records in a commit", records.len())]
        {
            if found > MAX_PER_COMMIT {
                return Err(StoreError::OverLimit { what, found, limit: MAX_PER_COMMIT });
            }
        }
        let bytes = changes.iter().map(weight).sum::<usize>()
            + records.iter().map(|record| record.body.bytes().len()).sum::<usize>();
        if bytes > MAX_COMMIT_BYTES {
            let what = "bytes in a commit";
            return Err(StoreError::OverLimit { what, found: bytes, limit: MAX_COMMIT_BYTES });
        }
        let (reply, answer) = oneshot::channel();
        let room = self.room(bytes);
        self.send(async {
            let room = room.await?;
            let work = writer::Work { changes, records, now, bytes, reply, room };
            Ok(writer::Request::Commit(Box::new(work)))
        })
        .await?;
        self.0.tally.count_queued();
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub async fn thin(&self, retention: Retention, now: Time) -> Result<Thinned, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = writer::Request::Thin { bounds: retention.bounds(now), reply };
        self.send(async { Ok(request) }).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.room.close();
        // Wait for the readers and close their connections first: the last connection to go
        // empties the write-ahead log.
        let every = u32::try_from(READERS).unwrap_or(u32::MAX);
        if let Ok(permits) = self.0.readers.acquire_many(every).await {
            self.0.readers.close();
            self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
            permits.forget();
        }
        let _ = self.0.queue.send(writer::Request::Close).await;
        let thread = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                return Err(StoreError::Closed);
            }
        }
        Ok(())
    }

    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reads<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit =
            self.0.readers.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let shared = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            let idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => connect(&shared.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
            };
            let result = connection
                .unchecked_transaction()
                .map_err(StoreError::engine("begin to read"))
                .and_then(|snapshot| read(&Reads::new(&snapshot)));
            shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            result
        });
        done.await.map_err(|_| StoreError::Closed)?
    }

    /// Room for what a request holds, until it is written.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, StoreError> {
        let kib = u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX);
        self.0.room.clone().acquire_many_owned(kib).await.map_err(|_| StoreError::Closed)
    }

    /// Queues the request once it can be made; waits a bounded time.
    async fn send(
        &self,
        request: impl Future<Output = Result<writer::Request, StoreError>>,
    ) -> Result<(), StoreError> {
        let queued = async {
            let request = request.await?;
            self.0.queue.send(request).await.map_err(|_| StoreError::Closed)
        };
        let waited = Duration::from_secs(QUEUE_WAIT_S);
        tokio::time::timeout(waited, queued).await.map_err(|_| StoreError::Busy(QUEUE_WAIT_S))?
    }
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let opening = StoreError::engine("open the file");
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&opening)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(&opening)?;
    connection.set_prepared_statement_cache_capacity(64);
    if access == OpenFlags::SQLITE_OPEN_READ_WRITE {
        // FULL: the log is flushed at each commit, or `Recorded` would promise too much.
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
            PRAGMA journal_size_limit = 67108864;";
        connection.execute_batch(pragmas).map_err(&opening)?;
    } else {
        connection
            .execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;")
            .map_err(&opening)?;
    }
    Ok(connection)
}

/// The id of this server, made at the first opening.
fn server_id(connection: &Connection) -> Result<String, StoreError> {
    if let Some(id) = schema::meta(connection, "server_id")? {
        return Ok(id);
    }
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::Damaged("the system gives no random bytes".to_owned()))?;
    let id = hex::encode(bytes);
    schema::set_meta(connection, "server_id", &id)?;
    Ok(id)
}

/// One trust domain for the whole life of a store: its records say so.
fn own(connection: &Connection, trust_domain: &TrustDomain) -> Result<TrustDomain, StoreError> {
    match schema::meta(connection, "trust_domain")? {
        Some(found) if found == trust_domain.as_str() => {}
        Some(found) => {
            return Err(StoreError::TrustDomain { found, expected: trust_domain.clone() });
        }
        None => schema::set_meta(connection, "trust_domain", trust_domain.as_str())?,
    }
    Ok(trust_domain.clone())
}

/// A clock behind the newest record may be one that was set back to make old standings count
/// again: they are voided for good, not for this start alone, or a second start would revive them.
fn void_if_behind(
    connection: &mut Connection,
    origin: &Origin,
    now: Time,
) -> Result<Option<Duration>, StoreError> {
    let Some(newest) = reads::Reads::new(connection).newest()? else { return Ok(None) };
    let behind = newest.since(now);
    if behind <= MAX_BEHIND {
        return Ok(None);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut head = apply::Head::read(&transaction)?;
    let mut writing = apply::Writing::new(&transaction, now, &origin.server_id, &mut head);
    let voided = writing.void_every_standing(Reason::ClockBehind)?;
    let arguments = [
        ("reason", Reason::ClockBehind.code().to_owned()),
        ("behind_ms", behind.as_millis().to_string()),
        ("voided", voided.to_string()),
    ];
    let draft = Draft {
        subject: Subject::TrustDomain,
        actor: Actor::Server,
        refs: Vec::new(),
        data: Data::Admin(Admin {
            act: "standings-void",
            arguments: arguments.map(|(name, value)| (name.to_owned(), value)).into(),
        }),
    };
    writing.append(&Sealed::new(draft, origin, now)?)?;
    transaction.commit()?;
    Ok(Some(behind))
}

/// What a change holds in memory while it is queued, roughly.
fn weight(change: &Change) -> usize {
    match change {
        Change::Blob(blob) => blob.bytes.len() + 1_024,
        Change::Node(row) => row.ek_certs.iter().map(Vec::len).sum::<usize>() + 4_096,
        _ => 1_024,
    }
}

/// How far a clock may be behind the newest record before old standings mean nothing.
const MAX_BEHIND: Duration = Duration::from_secs(5);
const READERS: usize = 4;
const QUEUE: usize = 1_024;
const QUEUE_KIB: usize = 256 * 1_024;
const QUEUE_WAIT_S: u64 = 10;
const MAX_PER_COMMIT: usize = 2_000;
/// The most evidence one exchange may bring (80 MiB), and its rows.
const MAX_COMMIT_BYTES: usize = 96 * 1_024 * 1_024;
