//! Changes and records as statements, inside the transaction of the writer.

use assay_evidence::crypto;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;
use serde::Serialize;

use crate::appraisal::Standing;
use crate::records::Data;
use crate::records::Draft;
use crate::records::RefKind;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::Serial;
use crate::store::Admission;
use crate::store::AuthorityRow;
use crate::store::Blob;
use crate::store::Change;
use crate::store::Committed;
use crate::store::EkAdmission;
use crate::store::MAX_NODE_BYTES;
use crate::store::NodeRow;
use crate::store::Sealed;
use crate::store::Sequences;
use crate::store::StoreError;
use crate::store::sqlite::schema;

/// What the writer knows by heart between transactions.
#[derive(Debug, Clone)]
pub struct Head {
    pub sequences: Sequences,
    nodes: usize,
    /// Of them, those that wait for an operator.
    pending: usize,
    entries: usize,
}

/// What the store itself must know of an issuance.
pub struct IssuedRow {
    serial: Serial,
    not_after: Time,
    node: Option<String>,
    entry: Option<String>,
}

/// One commit being written.
pub struct Writing<'a> {
    connection: &'a Connection,
    now: Time,
    server_id: &'a str,
    head: &'a mut Head,
}

/// Where a row is: its revision, and whether it counts.
#[derive(Clone, Copy)]
struct At {
    revision: i64,
    deleted: bool,
}

impl Head {
    pub fn read(connection: &Connection) -> Result<Self, StoreError> {
        let number = |sql| {
            let n: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            u64::try_from(n).map_err(|_| StoreError::Damaged(format!("{sql} gives {n}")))
        };
        let sequence = |key: &'static str| {
            schema::meta(connection, key)?
                .map_or(Ok(0), |text| text.parse())
                .map_err(|_| StoreError::Damaged(format!("meta `{key}` is no number")))
        };
        Ok(Self {
            sequences: Sequences {
                entries_revision: sequence(ENTRIES)?,
                bundle_sequence: sequence(BUNDLE)?,
                deny_sequence: sequence(DENY)?,
                records: number("SELECT coalesce(max(seq) + 1, 0) FROM record")?,
            },
            nodes: size(number("SELECT count(*) FROM node WHERE deleted = 0")?),
            pending: size(number("SELECT count(*) FROM node WHERE pending = 1 AND deleted = 0")?),
            entries: size(number("SELECT count(*) FROM entry WHERE deleted = 0")?),
        })
    }
}

impl IssuedRow {
    pub fn of(draft: &Draft) -> Option<Self> {
        let Data::IssueX509(issue) = &draft.data else { return None };
        let entry = draft.refs.iter().find(|reference| reference.kind() == RefKind::Entry);
        Some(Self {
            serial: issue.serial,
            not_after: issue.not_after,
            node: issue.node.as_ref().map(ToString::to_string),
            entry: entry.map(|reference| reference.id()),
        })
    }
}

impl<'a> Writing<'a> {
    pub fn new(
        connection: &'a Connection,
        now: Time,
        server_id: &'a str,
        head: &'a mut Head,
    ) -> Self {
        Self { connection, now, server_id, head }
    }

    pub fn carry_out(
        &mut self,
        changes: &[Change],
        records: &[Sealed],
    ) -> Result<Committed, StoreError> {
        let before = self.head.sequences;
        let revisions =
            changes.iter().map(|change| self.change(change)).collect::<Result<_, _>>()?;
        let leaves = records.iter().map(|record| self.append(record)).collect::<Result<_, _>>()?;
        let after = self.head.sequences;
        for (key, before, after) in [
            (ENTRIES, before.entries_revision, after.entries_revision),
            (BUNDLE, before.bundle_sequence, after.bundle_sequence),
            (DENY, before.deny_sequence, after.deny_sequence),
        ] {
            if before != after {
                schema::set_meta(self.connection, key, &after.to_string())?;
            }
        }
        let records = before.records..after.records;
        Ok(Committed { records, leaves, revisions, sequences: after })
    }

    /// The next record; its leaf.
    pub fn append(&mut self, record: &Sealed) -> Result<[u8; 32], StoreError> {
        let seq = integer(self.head.sequences.records);
        let leaf = record.body.leaf();
        self.run(
            "INSERT INTO record (seq, body, leaf) VALUES (?1, ?2, ?3)",
            params![seq, record.body.bytes(), leaf],
        )?;
        let subject = ("subject", record.subject.clone());
        let refs = record.body.refs().iter().map(|found| (found.kind().as_str(), found.id()));
        for (kind, id) in refs.chain([subject]) {
            self.run(
                "INSERT OR IGNORE INTO record_index (kind, id, seq) VALUES (?1, ?2, ?3)",
                params![kind, id, seq],
            )?;
        }
        if let Some(issued) = &record.issued {
            self.spend_serial(issued, &record.subject, seq)?;
        }
        self.head.sequences.records += 1;
        Ok(leaf)
    }

    // INVARIANT: a serial is recorded once for ever, whatever the random source did.
    fn spend_serial(&self, issued: &IssuedRow, subject: &str, seq: i64) -> Result<(), StoreError> {
        let rows = self.run(
            "INSERT OR IGNORE INTO issued (serial, not_after, subject, node, entry, seq)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                issued.serial.as_bytes(),
                issued.not_after.unix_ms(),
                subject,
                issued.node,
                issued.entry,
                seq
            ],
        )?;
        if rows == 0 { Err(StoreError::SerialTaken { serial: issued.serial }) } else { Ok(()) }
    }

    /// The new revision of the row.
    fn change(&mut self, change: &Change) -> Result<i64, StoreError> {
        match change {
            Change::Node(row) => self.node(row),
            Change::DeleteNode { node_id, revision } => self.delete_node(node_id, *revision),
            Change::AdmitEk(admission) => self.admit_ek(admission),
            Change::RetractEk { spki_sha256 } => self.retract_ek(spki_sha256),
            Change::Standing(standing) => self.standing(standing),
            Change::VoidStanding { node, reason } => self.void_standing(&node.to_string(), *reason),
            Change::Entry { entry, revision } => self.entry(entry, *revision),
            Change::DeleteEntry { id, revision } => self.delete_entry(id, *revision),
            Change::Authority(row) => self.authority(row),
            Change::RetireAuthority { authority_id, revision } => {
                self.retire_authority(authority_id, *revision)
            }
            Change::Blob(blob) => self.blob(blob),
        }
    }

    fn node(&mut self, row: &NodeRow) -> Result<i64, StoreError> {
        let at = self.at("SELECT revision, deleted FROM node WHERE node_id = ?1", &row.node_id)?;
        let revision = next("node", &row.node_id, at, row.revision)?;
        if row.revision == 0 {
            grow("nodes", &mut self.head.nodes, MAX_NODES)?;
        }
        let (was_banned, was_pending): (bool, bool) = self
            .connection
            .prepare_cached(
                "SELECT banned = 1, pending = 1 FROM node WHERE node_id = ?1 AND deleted = 0",
            )?
            .query_row([&row.node_id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .unwrap_or_default();
        let pending = row.admission == Admission::Pending;
        if pending && !was_pending && self.head.pending >= MAX_PENDING {
            self.drop_pending()?;
        }
        self.head.pending =
            self.head.pending.saturating_sub(was_pending.into()) + usize::from(pending);
        self.run(
            "INSERT INTO node
                 (node_id, banned, pending, row, revision, updated_at, server_id, deleted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)
             ON CONFLICT (node_id) DO UPDATE SET banned = excluded.banned,
                 pending = excluded.pending, row = excluded.row,
                 revision = excluded.revision, updated_at = excluded.updated_at,
                 server_id = excluded.server_id, deleted = 0",
            params![
                row.node_id,
                row.banned,
                pending,
                json(row)?,
                revision,
                self.now.unix_ms(),
                self.server_id
            ],
        )?;
        if was_banned != row.banned {
            self.head.sequences.deny_sequence += 1;
        }
        for ek in &row.ek_spki_sha256 {
            self.own_ek(ek, &row.node_id)?;
        }
        for ek in &row.claimed_eks {
            self.run(
                "INSERT OR IGNORE INTO claimed_ek (spki_sha256, node_id) VALUES (?1, ?2)",
                params![ek, row.node_id],
            )?;
        }
        Ok(revision)
    }

    /// The node that has waited in silence for longest is as if it had never been: nothing was
    /// ever granted to it, so nobody who follows this store needs its tombstone, and tombstones of
    /// strangers would have no bound.
    fn drop_pending(&mut self) -> Result<(), StoreError> {
        let node_id: Option<String> = self
            .connection
            .prepare_cached(
                "SELECT node_id FROM node WHERE pending = 1 AND deleted = 0 AND banned = 0
                 ORDER BY updated_at, rowid LIMIT 1",
            )?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(node_id) = node_id else {
            let found = self.head.pending + 1;
            return Err(StoreError::OverLimit { what: "pending nodes", found, limit: MAX_PENDING });
        };
        self.run("DELETE FROM ek WHERE node_id = ?1 AND admission IS NULL", [&node_id])?;
        self.run("UPDATE ek SET node_id = NULL WHERE node_id = ?1", [&node_id])?;
        self.run("DELETE FROM claimed_ek WHERE node_id = ?1", [&node_id])?;
        self.run("DELETE FROM node WHERE node_id = ?1", [&node_id])?;
        self.head.nodes = self.head.nodes.saturating_sub(1);
        self.head.pending = self.head.pending.saturating_sub(1);
        Ok(())
    }

    /// The EK is this node's from now on, unless it is another's.
    fn own_ek(&self, ek: &[u8; 32], node_id: &str) -> Result<(), StoreError> {
        let owner: Option<String> = self
            .connection
            .prepare_cached(
                "SELECT node.node_id FROM ek JOIN node ON node.node_id = ek.node_id
                 WHERE ek.spki_sha256 = ?1 AND node.deleted = 0",
            )?
            .query_row([ek], |row| row.get(0))
            .optional()?;
        match owner {
            Some(owner) if owner == node_id => return Ok(()),
            Some(node_id) => return Err(StoreError::EkTaken { node_id }),
            None => {}
        }
        self.run(
            "INSERT INTO ek
                 (spki_sha256, node_id, first_seen, revision, updated_at, server_id, deleted)
             VALUES (?1, ?2, ?3, 1, ?3, ?4, 0)
             ON CONFLICT (spki_sha256) DO UPDATE SET node_id = excluded.node_id,
                 revision = ek.revision + 1, updated_at = excluded.updated_at,
                 server_id = excluded.server_id, deleted = 0",
            params![ek, node_id, self.now.unix_ms(), self.server_id],
        )?;
        Ok(())
    }

    fn delete_node(&mut self, node_id: &str, revision: i64) -> Result<i64, StoreError> {
        let at = self.at("SELECT revision, deleted FROM node WHERE node_id = ?1", node_id)?;
        let next = next("node", node_id, at, present("node", node_id, at, Some(revision))?)?;
        let (banned, pending): (bool, bool) = self
            .connection
            .prepare_cached("SELECT banned, pending FROM node WHERE node_id = ?1")?
            .query_row([node_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.run(
            "UPDATE node SET deleted = 1, revision = ?2, updated_at = ?3, server_id = ?4
             WHERE node_id = ?1",
            params![node_id, next, self.now.unix_ms(), self.server_id],
        )?;
        self.head.nodes = self.head.nodes.saturating_sub(1);
        self.head.pending = self.head.pending.saturating_sub(pending.into());
        self.head.sequences.deny_sequence += u64::from(banned);
        Ok(next)
    }

    fn admit_ek(&self, admission: &EkAdmission) -> Result<i64, StoreError> {
        self.run(
            "INSERT INTO ek
                 (spki_sha256, admission, first_seen, revision, updated_at, server_id, deleted)
             VALUES (?1, ?2, ?3, 1, ?3, ?4, 0)
             ON CONFLICT (spki_sha256) DO UPDATE SET admission = excluded.admission,
                 revision = ek.revision + 1, updated_at = excluded.updated_at,
                 server_id = excluded.server_id, deleted = 0",
            params![admission.spki_sha256, json(admission)?, self.now.unix_ms(), self.server_id],
        )?;
        self.ek_revision(&admission.spki_sha256)
    }

    fn retract_ek(&self, spki_sha256: &[u8; 32]) -> Result<i64, StoreError> {
        let rows = self.run(
            "UPDATE ek SET admission = NULL, deleted = (node_id IS NULL),
                 revision = revision + 1, updated_at = ?2, server_id = ?3
             WHERE spki_sha256 = ?1 AND admission IS NOT NULL",
            params![spki_sha256, self.now.unix_ms(), self.server_id],
        )?;
        if rows == 0 {
            return Err(StoreError::Missing { table: "ek", id: hex::encode(spki_sha256) });
        }
        self.ek_revision(spki_sha256)
    }

    fn ek_revision(&self, spki_sha256: &[u8; 32]) -> Result<i64, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT revision FROM ek WHERE spki_sha256 = ?1")?;
        Ok(statement.query_row([spki_sha256], |row| row.get(0))?)
    }

    fn standing(&self, standing: &Standing) -> Result<i64, StoreError> {
        let row = standing.row();
        let node = row.node.to_string();
        let found: Option<(i64, i64, bool)> = self
            .connection
            .prepare_cached("SELECT revision, quoted_at, deleted FROM standing WHERE node = ?1")?
            .query_row([&node], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        // Two sessions of one node: the later quote wins, in whichever order they end.
        if let Some((_, found, false)) = found
            && found > row.quoted_at.unix_ms()
        {
            let expected = row.quoted_at.unix_ms();
            return Err(StoreError::Conflict { table: "standing", id: node, expected, found });
        }
        let revision = found.map_or(1, |(revision, ..)| revision + 1);
        self.run(
            "INSERT INTO standing (node, appraisal_id, quoted_at, expires_at, row, voided,
                 revision, updated_at, server_id, deleted)
             VALUES (?1, ?2, ?3, ?4, ?5, NULL, ?6, ?7, ?8, 0)
             ON CONFLICT (node) DO UPDATE SET appraisal_id = excluded.appraisal_id,
                 quoted_at = excluded.quoted_at, expires_at = excluded.expires_at,
                 row = excluded.row, voided = NULL, revision = excluded.revision,
                 updated_at = excluded.updated_at, server_id = excluded.server_id, deleted = 0",
            params![
                node,
                row.appraisal_id,
                row.quoted_at.unix_ms(),
                row.expires_at.unix_ms(),
                json(row)?,
                revision,
                self.now.unix_ms(),
                self.server_id
            ],
        )?;
        Ok(revision)
    }

    fn void_standing(&self, node: &str, reason: Reason) -> Result<i64, StoreError> {
        self.run(
            "UPDATE standing SET deleted = 1, voided = ?2, revision = revision + 1,
                 updated_at = ?3, server_id = ?4
             WHERE node = ?1 AND deleted = 0",
            params![node, reason.code(), self.now.unix_ms(), self.server_id],
        )?;
        Ok(self
            .at("SELECT revision, deleted FROM standing WHERE node = ?1", node)?
            .map_or(0, |at| at.revision))
    }

    /// How many there were.
    pub fn void_every_standing(&self, reason: Reason) -> Result<usize, StoreError> {
        self.run(
            "UPDATE standing SET deleted = 1, voided = ?1, revision = revision + 1,
                 updated_at = ?2, server_id = ?3
             WHERE deleted = 0",
            params![reason.code(), self.now.unix_ms(), self.server_id],
        )
    }

    fn entry(&mut self, entry: &Entry, expected: Option<i64>) -> Result<i64, StoreError> {
        let id = entry.id().as_str();
        let at = self.at("SELECT revision, deleted FROM entry WHERE id = ?1", id)?;
        let revision = next("entry", id, at, expected.unwrap_or(0))?;
        let likeness = likeness(entry);
        let similar: Option<String> = self
            .connection
            .prepare_cached(
                "SELECT id FROM entry WHERE likeness = ?1 AND deleted = 0 AND id <> ?2",
            )?
            .query_row(params![likeness, id], |row| row.get(0))
            .optional()?;
        if let Some(similar) = similar {
            let id =
                EntryId::parse(&similar).map_err(|error| StoreError::Damaged(error.to_string()))?;
            return Err(StoreError::Similar { id });
        }
        if expected.is_none() {
            grow("entries", &mut self.head.entries, MAX_ENTRIES)?;
        }
        self.head.sequences.entries_revision += 1;
        self.run(
            "INSERT INTO entry
                 (id, likeness, row, changed, revision, updated_at, server_id, deleted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)
             ON CONFLICT (id) DO UPDATE SET likeness = excluded.likeness, row = excluded.row,
                 changed = excluded.changed, revision = excluded.revision,
                 updated_at = excluded.updated_at, server_id = excluded.server_id, deleted = 0",
            params![
                id,
                likeness,
                json(entry)?,
                integer(self.head.sequences.entries_revision),
                revision,
                self.now.unix_ms(),
                self.server_id
            ],
        )?;
        Ok(revision)
    }

    fn delete_entry(&mut self, id: &EntryId, expected: Option<i64>) -> Result<i64, StoreError> {
        let id = id.as_str();
        let at = self.at("SELECT revision, deleted FROM entry WHERE id = ?1", id)?;
        let revision = next("entry", id, at, present("entry", id, at, expected)?)?;
        self.head.entries = self.head.entries.saturating_sub(1);
        self.head.sequences.entries_revision += 1;
        self.run(
            "UPDATE entry SET deleted = 1, changed = ?2, revision = ?3, updated_at = ?4,
                 server_id = ?5
             WHERE id = ?1",
            params![
                id,
                integer(self.head.sequences.entries_revision),
                revision,
                self.now.unix_ms(),
                self.server_id
            ],
        )?;
        Ok(revision)
    }

    fn authority(&mut self, row: &AuthorityRow) -> Result<i64, StoreError> {
        let id = &row.authority_id;
        let at = self.at("SELECT revision, deleted FROM authority WHERE authority_id = ?1", id)?;
        let revision = next("authority", id, at, row.revision)?;
        self.head.sequences.bundle_sequence += 1;
        self.run(
            "INSERT INTO authority
                 (authority_id, row, revision, updated_at, server_id, deleted)
             VALUES (?1, ?2, ?3, ?4, ?5, 0)
             ON CONFLICT (authority_id) DO UPDATE SET row = excluded.row,
                 revision = excluded.revision, updated_at = excluded.updated_at,
                 server_id = excluded.server_id, deleted = 0",
            params![id, json(row)?, revision, self.now.unix_ms(), self.server_id],
        )?;
        Ok(revision)
    }

    fn retire_authority(&mut self, id: &str, expected: i64) -> Result<i64, StoreError> {
        let at = self.at("SELECT revision, deleted FROM authority WHERE authority_id = ?1", id)?;
        let revision = next("authority", id, at, present("authority", id, at, Some(expected))?)?;
        self.head.sequences.bundle_sequence += 1;
        self.run(
            "UPDATE authority SET deleted = 1, revision = ?2, updated_at = ?3, server_id = ?4
             WHERE authority_id = ?1",
            params![id, revision, self.now.unix_ms(), self.server_id],
        )?;
        Ok(revision)
    }

    /// Put again, a blob is kept as long as the longest of its reasons asks.
    fn blob(&self, blob: &Blob) -> Result<i64, StoreError> {
        self.run(
            "INSERT INTO blob (sha256, media_type, size, keep, stored_at, bytes, node)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (sha256) DO UPDATE SET keep = max(blob.keep, excluded.keep),
                 stored_at = max(blob.stored_at, excluded.stored_at),
                 node = iif(blob.bytes IS NULL, excluded.node, blob.node),
                 bytes = coalesce(blob.bytes, excluded.bytes)",
            params![
                blob.sha256,
                blob.media_type,
                i64::try_from(blob.bytes.len()).unwrap_or(i64::MAX),
                blob.keep.rank(),
                self.now.unix_ms(),
                blob.bytes,
                blob.node
            ],
        )?;
        if let Some(node) = &blob.node {
            self.trim(node, &blob.sha256)?;
        }
        Ok(0)
    }

    /// Drops the bytes of a node's oldest evidence where more is kept than may be, routine before
    /// full, and what came just now not at all; an eighth more than needed, so that this is seldom.
    fn trim(&self, node: &str, newest: &[u8; 32]) -> Result<(), StoreError> {
        let kept: Option<i64> = self
            .connection
            .prepare_cached("SELECT bytes FROM kept WHERE node = ?1")?
            .query_row([node], |row| row.get(0))
            .optional()?;
        let limit = i64::try_from(MAX_NODE_BYTES).unwrap_or(i64::MAX);
        let Some(kept) = kept.filter(|kept| *kept > limit) else { return Ok(()) };
        self.run(
            "UPDATE blob SET bytes = NULL WHERE rowid IN (
                 SELECT rowid FROM (
                     SELECT rowid,
                         sum(size) OVER (ORDER BY keep, stored_at, rowid) - size AS before
                     FROM blob
                     WHERE node = ?1 AND bytes IS NOT NULL AND keep < 2 AND sha256 <> ?3)
                 WHERE before < ?2)",
            params![node, kept - (limit - limit / 8), newest],
        )?;
        Ok(())
    }

    fn at(&self, sql: &str, id: &str) -> Result<Option<At>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let read = |row: &rusqlite::Row<'_>| Ok(At { revision: row.get(0)?, deleted: row.get(1)? });
        Ok(statement.query_row([id], read).optional()?)
    }

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        Ok(self.connection.prepare_cached(sql)?.execute(params)?)
    }
}

/// Compare and set: the revision after `expected`, if that is where the row is. A row that is not
/// there, or no more, is at 0; a tombstone's numbers go on.
fn next(table: &'static str, id: &str, at: Option<At>, expected: i64) -> Result<i64, StoreError> {
    let found = at.filter(|at| !at.deleted).map_or(0, |at| at.revision);
    if found != expected {
        return Err(StoreError::Conflict { table, id: id.to_owned(), expected, found });
    }
    Ok(at.map_or(0, |at| at.revision) + 1)
}

/// The revision that is expected of a row that must be there.
fn present(
    table: &'static str,
    id: &str,
    at: Option<At>,
    expected: Option<i64>,
) -> Result<i64, StoreError> {
    match at.filter(|at| !at.deleted) {
        Some(at) => Ok(expected.unwrap_or(at.revision)),
        None => Err(StoreError::Missing { table, id: id.to_owned() }),
    }
}

fn grow(what: &'static str, count: &mut usize, limit: usize) -> Result<(), StoreError> {
    if *count >= limit {
        return Err(StoreError::OverLimit { what, found: *count + 1, limit });
    }
    *count += 1;
    Ok(())
}

/// Two entries with the same SPIFFE ID, parent and selectors are one entry twice.
fn likeness(entry: &Entry) -> [u8; 32] {
    let mut text = format!("{}\n{}", entry.spiffe_id(), entry.parent_id());
    for selector in entry.selectors() {
        // Selectors hold no control characters, so the line break divides.
        text.push('\n');
        text.push_str(&selector.to_string());
    }
    crypto::sha256(text.as_bytes())
}

fn json(row: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(row).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

pub const ENTRIES: &str = "entries_revision";
pub const BUNDLE: &str = "bundle_sequence";
pub const DENY: &str = "deny_sequence";
const MAX_NODES: usize = 500_000;
/// Nodes that wait for an operator: enough for a rollout, too few to crowd out what was admitted.
const MAX_PENDING: usize = 10_000;
const MAX_ENTRIES: usize = 500_000;
