//! The tables, and how an older store becomes one of today.
//!
//! Rows are kept as JSON beside the columns that are asked for; a new member of a row needs no
//! migration. Every table whose rows change has `revision`, `updated_at` (unix ms), `server_id`
//! and `deleted` (a tombstone), so that several servers can follow each other.

use std::path::Path;

use assay_evidence::time::Time;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::TransactionBehavior;
use rusqlite::params;

use crate::store::StoreError;

/// Step n brings a store from version n to n + 1. Steps are never edited once released.
const STEPS: [&str; 2] = [FIRST, SECOND];

const FIRST: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE node (
    node_id    TEXT PRIMARY KEY,
    banned     INTEGER NOT NULL,
    row        TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    server_id  TEXT NOT NULL,
    deleted    INTEGER NOT NULL
) STRICT;
CREATE INDEX node_banned ON node (node_id) WHERE banned = 1 AND deleted = 0;

CREATE TABLE ek (
    spki_sha256 BLOB PRIMARY KEY,
    node_id     TEXT,
    admission   TEXT,
    first_seen  INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    server_id   TEXT NOT NULL,
    deleted     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE standing (
    node         TEXT PRIMARY KEY,
    appraisal_id TEXT NOT NULL,
    quoted_at    INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    row          TEXT NOT NULL,
    voided       TEXT,
    revision     INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    server_id    TEXT NOT NULL,
    deleted      INTEGER NOT NULL
) STRICT;

CREATE TABLE entry (
    id         TEXT PRIMARY KEY,
    likeness   BLOB NOT NULL,
    row        TEXT NOT NULL,
    changed    INTEGER NOT NULL,
    revision   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    server_id  TEXT NOT NULL,
    deleted    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX entry_likeness ON entry (likeness) WHERE deleted = 0;
CREATE INDEX entry_changed ON entry (changed);

CREATE TABLE authority (
    authority_id TEXT PRIMARY KEY,
    row          TEXT NOT NULL,
    revision     INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    server_id    TEXT NOT NULL,
    deleted      INTEGER NOT NULL
) STRICT;

CREATE TABLE blob (
    sha256     BLOB PRIMARY KEY,
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL,
    keep       INTEGER NOT NULL,
    stored_at  INTEGER NOT NULL,
    bytes      BLOB
) STRICT;
CREATE INDEX blob_kept ON blob (keep, stored_at) WHERE bytes IS NOT NULL;

CREATE TABLE record (
    seq  INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    leaf BLOB NOT NULL
) STRICT;
CREATE TRIGGER record_number BEFORE INSERT ON record
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq) + 1, 0) FROM record)
    BEGIN SELECT raise(ABORT, 'a record takes the next number'); END;
CREATE TRIGGER record_change BEFORE UPDATE ON record
    BEGIN SELECT raise(ABORT, 'a record is never changed'); END;
CREATE TRIGGER record_removal BEFORE DELETE ON record
    BEGIN SELECT raise(ABORT, 'a record is never removed'); END;

CREATE TABLE record_index (
    kind TEXT NOT NULL,
    id   TEXT NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (kind, id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE issued (
    serial    BLOB PRIMARY KEY,
    not_after INTEGER NOT NULL,
    subject   TEXT NOT NULL,
    node      TEXT,
    entry     TEXT,
    seq       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX issued_node ON issued (node, not_after);
";

/// Which nodes wait for an operator, and since when nothing was heard of them. Which EKs nodes
/// showed beside their own. Whose evidence a blob is, and how much of each node's is kept (`keep` 2
/// is for ever, and not counted).
const SECOND: &str = "
ALTER TABLE node ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
UPDATE node SET pending = json_extract(row, '$.admission') = 'pending';
CREATE INDEX node_pending ON node (updated_at) WHERE pending = 1 AND deleted = 0;

CREATE TABLE claimed_ek (
    spki_sha256 BLOB NOT NULL,
    node_id     TEXT NOT NULL,
    PRIMARY KEY (spki_sha256, node_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX claimed_ek_node ON claimed_ek (node_id);

ALTER TABLE blob ADD COLUMN node TEXT;
CREATE INDEX blob_node ON blob (node, keep, stored_at) WHERE bytes IS NOT NULL;

CREATE TABLE kept (
    node  TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER kept_new AFTER INSERT ON blob
    WHEN NEW.node IS NOT NULL AND NEW.bytes IS NOT NULL AND NEW.keep < 2
    BEGIN
        INSERT INTO kept (node, bytes) VALUES (NEW.node, NEW.size)
            ON CONFLICT (node) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
CREATE TRIGGER kept_change AFTER UPDATE OF node, keep, bytes ON blob
    BEGIN
        UPDATE kept SET bytes = bytes - OLD.size
            WHERE node = OLD.node AND OLD.bytes IS NOT NULL AND OLD.keep < 2;
        INSERT INTO kept (node, bytes) SELECT NEW.node, NEW.size
            WHERE NEW.node IS NOT NULL AND NEW.bytes IS NOT NULL AND NEW.keep < 2
            ON CONFLICT (node) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
";

/// Brings the store to the newest version in one transaction; the versions before and after.
pub fn migrate(
    connection: &mut Connection,
    path: &Path,
    now: Time,
) -> Result<(u32, u32), StoreError> {
    migrate_by(connection, path, now, &STEPS)
}

fn migrate_by(
    connection: &mut Connection,
    path: &Path,
    now: Time,
    steps: &[&str],
) -> Result<(u32, u32), StoreError> {
    let migrating = StoreError::engine("bring the schema up to date");
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&migrating)?;
    let count = "SELECT count(*) FROM sqlite_schema WHERE name = ?1 OR ?1 IS NULL";
    let tables = |name: Option<&str>| {
        transaction.query_row(count, [name], |row| row.get::<_, i64>(0)).map_err(&migrating)
    };
    if tables(Some("schema_version"))? == 0 {
        if tables(None)? > 0 {
            return Err(StoreError::Foreign(path.to_owned()));
        }
        let table = "CREATE TABLE schema_version (
            version INTEGER PRIMARY KEY, reached_at INTEGER NOT NULL) STRICT";
        transaction.execute(table, []).map_err(&migrating)?;
    }
    let found: u32 = transaction
        .query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |row| row.get(0))
        .map_err(&migrating)?;
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (step, version) in steps.iter().zip(1..).skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(&migrating)?;
        let reached = "INSERT INTO schema_version (version, reached_at) VALUES (?1, ?2)";
        transaction.execute(reached, params![version, now.unix_ms()]).map_err(&migrating)?;
    }
    transaction.commit().map_err(&migrating)?;
    Ok((found, known))
}

pub fn meta(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

pub fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO meta (key, value) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?;
    statement.execute([key, value])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn migrated(connection: &mut Connection, steps: &[&str]) -> Result<(u32, u32), StoreError> {
        migrate_by(connection, Path::new("x.db"), Time::from_unix_s(1), steps)
    }

    #[test]
    fn an_older_store_goes_forward_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert_eq!(migrated(&mut connection, &[FIRST]).unwrap(), (0, 1));
        set_meta(&connection, "a", "1").unwrap();
        let next = [FIRST, "ALTER TABLE meta ADD COLUMN note TEXT"];
        assert_eq!(migrated(&mut connection, &next).unwrap(), (1, 2));
        assert_eq!(migrated(&mut connection, &next).unwrap(), (2, 2));
        assert_eq!(meta(&connection, "a").unwrap().as_deref(), Some("1"));
    }

    #[test]
    fn a_newer_store_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrated(&mut connection, &[FIRST, SECOND, "SELECT 1"]).unwrap();
        let refused = migrated(&mut connection, &STEPS).unwrap_err();
        assert!(matches!(refused, StoreError::Newer { found: 3, known: 2 }), "{refused}");
    }

    #[test]
    fn somebody_elses_database_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute("CREATE TABLE song (title TEXT)", []).unwrap();
        let refused = migrated(&mut connection, &STEPS).unwrap_err();
        assert!(matches!(refused, StoreError::Foreign(_)), "{refused}");
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrated(&mut connection, &[FIRST]).unwrap();
        let broken = [FIRST, "CREATE TABLE extra (a TEXT); CREATE TABLE meta (a TEXT);"];
        assert!(migrated(&mut connection, &broken).is_err());
        assert_eq!(migrated(&mut connection, &[FIRST]).unwrap(), (1, 1));
        assert!(connection.execute("SELECT a FROM extra", []).is_err());
    }

    #[test]
    fn the_database_itself_keeps_records_whole() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrated(&mut connection, &STEPS).unwrap();
        let insert = |seq: i64| {
            let statement = "INSERT INTO record (seq, body, leaf) VALUES (?1, x'00', x'00')";
            connection.execute(statement, [seq])
        };
        assert!(insert(1).is_err(), "the first is 0");
        assert!(insert(0).is_ok());
        assert!(insert(2).is_err(), "a gap");
        assert!(insert(1).is_ok());
        assert!(connection.execute("UPDATE record SET body = x'01' WHERE seq = 0", []).is_err());
        assert!(connection.execute("DELETE FROM record WHERE seq = 1", []).is_err());
    }
}
