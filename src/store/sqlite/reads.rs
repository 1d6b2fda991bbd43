//! What is asked of the store; each call sees one snapshot.

use std::path::Path;
use std::time::Duration;

use assay_evidence::time::Time;
use rusqlite::Connection;
use rusqlite::Params;
use rusqlite::Row;
use rusqlite::params;
use serde::de::DeserializeOwned;

use crate::appraisal::Deny;
use crate::appraisal::DenySet;
use crate::appraisal::StandingRow;
use crate::records::Body;
use crate::records::Record;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;
use crate::store::AuthorityRow;
use crate::store::EkAdmission;
use crate::store::EkRow;
use crate::store::Found;
use crate::store::Issued;
use crate::store::Keep;
use crate::store::NodeRow;
use crate::store::StoreError;
use crate::store::StoredBlob;
use crate::store::sqlite::apply;
use crate::store::sqlite::schema;

pub struct Reads<'a> {
    connection: &'a Connection,
}

impl<'a> Reads<'a> {
    pub fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    pub fn node(&self, node_id: &str) -> Result<Option<NodeRow>, StoreError> {
        let sql = "SELECT row, revision FROM node WHERE node_id = ?1 AND deleted = 0";
        self.one(sql, [node_id], node)
    }

    pub fn nodes(&self, after: &str, limit: usize) -> Result<Vec<NodeRow>, StoreError> {
        let sql = "SELECT row, revision FROM node WHERE node_id > ?1 AND deleted = 0
                   ORDER BY node_id LIMIT ?2";
        self.all(sql, params![after, page(limit)], node)
    }

    pub fn node_by_ek(&self, spki_sha256: &[u8; 32]) -> Result<Option<NodeRow>, StoreError> {
        let sql = "SELECT node.row, node.revision FROM ek JOIN node ON node.node_id = ek.node_id
                   WHERE ek.spki_sha256 = ?1 AND ek.deleted = 0 AND node.deleted = 0";
        self.one(sql, [spki_sha256], node)
    }

    pub fn ek(&self, spki_sha256: &[u8; 32]) -> Result<Option<EkRow>, StoreError> {
        let sql = "SELECT node.node_id, ek.admission, ek.first_seen
                   FROM ek LEFT JOIN node ON node.node_id = ek.node_id AND node.deleted = 0
                   WHERE ek.spki_sha256 = ?1 AND ek.deleted = 0";
        self.one(sql, [spki_sha256], |row| {
            let admission: Option<String> = row.get(1)?;
            Ok(EkRow {
                spki_sha256: *spki_sha256,
                node_id: row.get(0)?,
                admission: admission.as_deref().map(|text| json("ek", text)).transpose()?,
                first_seen: Time::from_unix_ms(row.get(2)?),
            })
        })
    }

    /// One node for each of `claimed` that belongs to one; with `newcomer`, also those under a ban
    /// or a flag that once showed it beside their own EK.
    pub fn kin(
        &self,
        claimed: &[[u8; 32]],
        newcomer: Option<&[u8; 32]>,
    ) -> Result<Vec<NodeRow>, StoreError> {
        let mut kin = Vec::new();
        for ek in claimed {
            kin.extend(self.node_by_ek(ek)?);
        }
        let Some(ek) = newcomer else { return Ok(kin) };
        let sql = "SELECT node.row, node.revision FROM claimed_ek AS claimed
                   JOIN node ON node.node_id = claimed.node_id
                   WHERE claimed.spki_sha256 = ?1 AND node.deleted = 0
                       AND (banned = 1 OR json_extract(node.row, '$.flag') IS NOT NULL)
                   ORDER BY node.node_id LIMIT 1";
        kin.extend(self.one(sql, [ek], node)?);
        Ok(kin)
    }

    pub fn ek_admissions(&self, limit: usize) -> Result<Vec<EkAdmission>, StoreError> {
        let sql = "SELECT admission FROM ek WHERE admission IS NOT NULL AND deleted = 0
                   ORDER BY spki_sha256 LIMIT ?1";
        self.all(sql, [page(limit)], |row| json("ek", &row.get::<_, String>(0)?))
    }

    pub fn entries(&self) -> Result<(Vec<Entry>, u64), StoreError> {
        let sql = "SELECT row, revision FROM entry WHERE deleted = 0 ORDER BY id";
        Ok((self.all(sql, [], entry)?, self.sequence(apply::ENTRIES)?))
    }

    pub fn entry(&self, id: &EntryId) -> Result<Option<Entry>, StoreError> {
        let sql = "SELECT row, revision FROM entry WHERE id = ?1 AND deleted = 0";
        self.one(sql, [id.as_str()], entry)
    }

    pub fn standings(&self) -> Result<Vec<StandingRow>, StoreError> {
        let sql = "SELECT row FROM standing WHERE deleted = 0 ORDER BY node";
        self.all(sql, [], standing)
    }

    pub fn standing(&self, node: &SpiffeId) -> Result<Option<StandingRow>, StoreError> {
        let sql = "SELECT row FROM standing WHERE node = ?1 AND deleted = 0";
        self.one(sql, [node.to_string()], standing)
    }

    pub fn authorities(&self) -> Result<(Vec<AuthorityRow>, u64), StoreError> {
        let sql = "SELECT row, revision, server_id FROM authority WHERE deleted = 0
                   ORDER BY authority_id";
        let rows = self.all(sql, [], |row| {
            let authority: AuthorityRow = json("authority", &row.get::<_, String>(0)?)?;
            Ok(AuthorityRow { revision: row.get(1)?, server_id: row.get(2)?, ..authority })
        })?;
        Ok((rows, self.sequence(apply::BUNDLE)?))
    }

    pub fn deny_set(&self, trust_domain: &TrustDomain) -> Result<DenySet, StoreError> {
        let sql = "SELECT node_id, updated_at FROM node WHERE banned = 1 AND deleted = 0
                   ORDER BY node_id";
        let banned: Vec<(String, i64)> = self.all(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let changed_at = banned.iter().map(|(_, at)| Time::from_unix_ms(*at)).max();
        let denials = banned
            .iter()
            .map(|(node_id, _)| trust_domain.node(node_id).map(Deny::Node))
            .collect::<Result<_, _>>()
            .map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok(DenySet::new(denials, self.sequence(apply::DENY)?, changed_at))
    }

    pub fn records(&self, from: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT seq, body, leaf FROM record WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
        self.all(sql, params![bound(Some(from)), page(limit)], record)
    }

    pub fn records_by(
        &self,
        kind: &str,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT record.seq, body, leaf FROM record_index AS i
                   JOIN record ON record.seq = i.seq
                   WHERE i.kind = ?1 AND i.id = ?2 AND i.seq < ?3
                   ORDER BY i.seq DESC LIMIT ?4";
        self.all(sql, params![kind, id, bound(before), page(limit)], record)
    }

    pub fn recount(&self) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare("SELECT seq, body, leaf FROM record")?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let found = record(row)?.seq;
            if found != count {
                return Err(StoreError::Damaged(format!("record {count} is missing")));
            }
            count += 1;
        }
        Ok(count)
    }

    /// `ts` of the newest record.
    pub fn newest(&self) -> Result<Option<Time>, StoreError> {
        let sql = "SELECT seq, body, leaf FROM record ORDER BY seq DESC LIMIT 1";
        Ok(self.one(sql, [], record)?.map(|record| record.body.ts()))
    }

    pub fn blob(&self, sha256: &[u8; 32]) -> Result<Option<StoredBlob>, StoreError> {
        let sql = "SELECT media_type, size, keep, stored_at, bytes FROM blob WHERE sha256 = ?1";
        self.one(sql, [sha256], |row| {
            let rank: i64 = row.get(2)?;
            let keep = Keep::ALL.into_iter().find(|keep| keep.rank() == rank);
            Ok(StoredBlob {
                media_type: row.get(0)?,
                size: unsigned(row.get(1)?)?,
                keep: keep.ok_or_else(|| StoreError::Damaged(format!("keep {rank}")))?,
                stored_at: Time::from_unix_ms(row.get(3)?),
                bytes: row.get(4)?,
            })
        })
    }

    pub fn issued(&self, serial: &Serial) -> Result<Option<Issued>, StoreError> {
        let sql = "SELECT serial, not_after, subject, node, entry, seq FROM issued
                   WHERE serial = ?1";
        self.one(sql, [serial.as_bytes()], issued)
    }

    pub fn issued_to_node(
        &self,
        node: &SpiffeId,
        now: Time,
        limit: usize,
    ) -> Result<Vec<Issued>, StoreError> {
        let sql = "SELECT serial, not_after, subject, node, entry, seq FROM issued
                   WHERE node = ?1 AND not_after > ?2 ORDER BY not_after LIMIT ?3";
        self.all(sql, params![node.to_string(), now.unix_ms(), page(limit)], issued)
    }

    pub fn found(
        &self,
        path: &Path,
        created: bool,
        recovered: bool,
        migrated: (u32, u32),
        clock_behind: Option<Duration>,
    ) -> Result<Found, StoreError> {
        let count = |sql| self.connection.query_row(sql, [], |row| row.get(0));
        Ok(Found {
            path: path.to_owned(),
            created,
            migrated,
            records: unsigned(count("SELECT coalesce(max(seq) + 1, 0) FROM record")?)?,
            newest: self.newest()?,
            nodes: unsigned(count("SELECT count(*) FROM node WHERE deleted = 0")?)?,
            entries: unsigned(count("SELECT count(*) FROM entry WHERE deleted = 0")?)?,
            authorities: unsigned(count("SELECT count(*) FROM authority WHERE deleted = 0")?)?,
            standings: unsigned(count("SELECT count(*) FROM standing WHERE deleted = 0")?)?,
            clock_behind,
            recovered,
        })
    }

    fn sequence(&self, key: &str) -> Result<u64, StoreError> {
        schema::meta(self.connection, key)?
            .map_or(Ok(0), |text| text.parse())
            .map_err(|_| StoreError::Damaged(format!("meta `{key}` is no number")))
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(read).transpose()
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }
}

fn node(row: &Row<'_>) -> Result<NodeRow, StoreError> {
    let node: NodeRow = json("node", &row.get::<_, String>(0)?)?;
    Ok(NodeRow { revision: row.get(1)?, ..node })
}

fn entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    let mut entry: Entry = json("entry", &row.get::<_, String>(0)?)?;
    entry.revision = row.get(1)?;
    Ok(entry)
}

fn standing(row: &Row<'_>) -> Result<StandingRow, StoreError> {
    json("standing", &row.get::<_, String>(0)?)
}

/// A record is compared with its leaf each time it is read.
fn record(row: &Row<'_>) -> Result<Record, StoreError> {
    let seq = unsigned(row.get(0)?)?;
    let damaged = |why: String| StoreError::Damaged(format!("record {seq}: {why}"));
    let bytes: Vec<u8> = row.get(1)?;
    let body = Body::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
    let leaf: [u8; 32] = row.get(2)?;
    if body.leaf() != leaf {
        return Err(damaged("the body is not what the leaf was made of".to_owned()));
    }
    Ok(Record { seq, body, leaf })
}

fn issued(row: &Row<'_>) -> Result<Issued, StoreError> {
    let serial: [u8; 16] = row.get(0)?;
    let damaged = |_| StoreError::Damaged(format!("issued {}", hex::encode(serial)));
    let node: Option<String> = row.get(3)?;
    let entry: Option<String> = row.get(4)?;
    Ok(Issued {
        serial: Serial::from_certificate(&serial).ok_or(()).map_err(damaged)?,
        not_after: Time::from_unix_ms(row.get(1)?),
        subject: row.get(2)?,
        node: node.map(|id| SpiffeId::parse(&id).map_err(|_| damaged(()))).transpose()?,
        entry: entry.map(|id| EntryId::parse(&id).map_err(|_| damaged(()))).transpose()?,
        seq: unsigned(row.get(5)?)?,
    })
}

fn json<T: DeserializeOwned>(table: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(format!("{table}: {error}")))
}

fn unsigned(n: i64) -> Result<u64, StoreError> {
    u64::try_from(n).map_err(|_| StoreError::Damaged(format!("a number below zero: {n}")))
}

fn page(limit: usize) -> i64 {
    i64::try_from(limit.min(MAX_PAGE)).unwrap_or(0)
}

fn bound(seq: Option<u64>) -> i64 {
    seq.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX))
}

/// No answer holds more rows, whatever is asked; entries and standings are bounded by what may be
/// stored.
const MAX_PAGE: usize = 1_000;
