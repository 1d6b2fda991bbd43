//! The store as its callers see it, on a real file.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crash;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::appraisal::CustodyClass;
use crate::appraisal::StandingRow;
use crate::records::Actor;
use crate::records::Admin;
use crate::records::Data;
use crate::records::IssueX509;
use crate::records::Ref;
use crate::records::Subject;
use crate::spiffe::EntryParams;
use crate::spiffe::Instance;
use crate::spiffe::Selector;

struct House {
    folder: TempDir,
    clock: Clock,
}

impl House {
    fn new() -> Self {
        let private = PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        Self { folder, clock: Clock::manual(Time::from_unix_s(1_000_000)) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("assay.db")
    }

    fn try_open(&self) -> Result<Store, StoreError> {
        Store::open(&self.path(), &trust_domain(), self.clock.clone())
    }

    fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    /// As an intruder or another program would.
    fn by_hand(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn node_row(node_id: &str, eks: &[u8]) -> NodeRow {
    let first_seen = Time::from_unix_s(5);
    NodeRow {
        ek_spki_sha256: eks.iter().map(|ek| [*ek; 32]).collect(),
        ..NodeRow::new(node_id.to_owned(), NodeKind::TpmEk, Admission::Admitted, first_seen)
    }
}

fn spiffe_id(node_id: &str) -> SpiffeId {
    trust_domain().node(node_id).unwrap()
}

fn entry(id: &str, path: &str) -> Entry {
    let params = EntryParams {
        id: EntryId::parse(id).unwrap(),
        spiffe_id: trust_domain().member(path).unwrap(),
        parent_id: spiffe_id("00"),
        selectors: BTreeSet::from([Selector::parse("unix:uid:1000").unwrap()]),
        x509_svid_ttl: Duration::from_secs(60),
        jwt_svid_ttl: Duration::ZERO,
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        hint: String::new(),
        instance: Instance::Shared,
        admit_unattested: false,
        jwt_include_jti: false,
    };
    Entry::new(params, &trust_domain(), Time::from_unix_s(0), 77).unwrap()
}

fn put(id: &str, path: &str, revision: Option<i64>) -> Change {
    Change::Entry { entry: entry(id, path), revision }
}

fn standing(node_id: &str, quoted: Moment) -> Standing {
    let row = StandingRow {
        node: spiffe_id(node_id),
        appraisal_id: "a1".to_owned(),
        quoted_at: quoted.wall,
        expires_at: quoted.wall + Duration::from_secs(180),
        reset_count: 1,
        profile_id: "p".to_owned(),
        profile_serial: 1,
        profile_sha256: [1; 32],
        policy_sha256: [2; 32],
        revocation_sequence: 0,
        selectors: BTreeSet::from([Selector::parse("assay:tpm:class:software").unwrap()]),
    };
    Standing::restored(row, quoted)
}

fn note(text: &str) -> Draft {
    Draft {
        subject: Subject::TrustDomain,
        actor: Actor::Server,
        refs: Vec::new(),
        data: Data::Admin(Admin {
            act: "note",
            arguments: BTreeMap::from([("text".to_owned(), text.to_owned())]),
        }),
    }
}

/// An intent as the CA has them.
#[derive(Debug)]
struct Issuance(u8);

impl Intent for Issuance {
    fn draft(&self) -> Draft {
        Draft {
            subject: Subject::Id(trust_domain().member("/web").unwrap()),
            actor: Actor::Spiffe(spiffe_id("00")),
            refs: vec![Ref::Entry(EntryId::parse("web").unwrap()), Ref::Standing("a1".to_owned())],
            data: Data::IssueX509(IssueX509 {
                serial: Serial::from_random([self.0; 16]),
                tbs_sha256: [0; 32],
                spki_sha256: [0; 32],
                not_before: Time::from_unix_s(0),
                not_after: Time::from_unix_s(2_000_000),
                entry_revision: Some(1),
                node: Some(spiffe_id("00")),
                instance: None,
                grant: "workload",
                custody: CustodyClass::Software,
                authority: "a".to_owned(),
            }),
        }
    }
}

// --- opening --------------------------------------------------------------------------------

#[tokio::test]
async fn an_opened_store_says_what_it_found() {
    let house = House::new();
    let store = house.open();
    assert!(store.found().created && !store.found().recovered);
    assert_eq!((store.found().records, store.found().newest), (0, None));
    let changes = vec![Change::Node(node_row("00", &[1])), put("web", "/web", None)];
    store.commit(changes, vec![note("a"), note("b")]).await.unwrap();
    store.close().await.unwrap();
    assert!(!house.folder.path().join("assay.db-wal").exists(), "the log is emptied at the end");

    let again = house.open();
    let found = again.found();
    assert!(!found.created && !found.recovered);
    assert_eq!((found.records, found.nodes, found.entries, found.authorities), (2, 1, 1, 0));
    assert_eq!(found.newest, Some(house.clock.now()));
    assert_eq!(again.origin(), store.origin(), "the server keeps its id");
    assert!(
        found.to_string().ends_with("2 records, 1 nodes, 1 entries, 0 authorities, 0 standings")
    );
}

#[tokio::test]
async fn a_store_has_one_trust_domain_and_one_process() {
    let house = House::new();
    let store = house.open();
    assert!(matches!(house.try_open().unwrap_err(), StoreError::InUse(_)));
    store.close().await.unwrap();
    let other = TrustDomain::parse("other.org").unwrap();
    let refused = Store::open(&house.path(), &other, house.clock.clone()).unwrap_err();
    assert!(matches!(refused, StoreError::TrustDomain { .. }), "{refused}");
    house.open();
}

#[tokio::test]
async fn nobody_else_can_read_the_store() {
    let house = House::new();
    let folder = house.folder.path().join("state");
    let path = folder.join("assay.db");
    let open = || Store::open(&path, &trust_domain(), house.clock.clone());
    let store = open().unwrap();
    store.commit(Vec::new(), vec![note("a")]).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder), 0o700);
    for name in ["assay.db", "assay.db-wal", "assay.db-shm", "assay.db.lock"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    store.close().await.unwrap();

    let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
    set(&folder, 0o750).unwrap();
    assert!(matches!(open().unwrap_err(), StoreError::Mode { found: 0o750, .. }));
    set(&folder, 0o700).unwrap();
    set(&path, 0o640).unwrap();
    assert!(matches!(open().unwrap_err(), StoreError::Mode { found: 0o640, .. }));
    set(&path, 0o600).unwrap();
    assert!(open().is_ok());
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let house = House::new();
    house.by_hand().execute("CREATE TABLE song (title TEXT)", []).unwrap();
    let private = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(house.path(), private).unwrap();
    assert!(matches!(house.try_open().unwrap_err(), StoreError::Foreign(_)));

    std::fs::write(house.path(), "these are not the bytes of a database, however long they go on")
        .unwrap();
    assert!(matches!(house.try_open().unwrap_err(), StoreError::Engine { .. }));
}

#[tokio::test]
async fn a_closed_store_answers_that_it_is() {
    let house = House::new();
    let store = house.open();
    let other = store.clone();
    store.close().await.unwrap();
    let refused = other.commit(Vec::new(), vec![note("a")]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Closed));
    assert_eq!(refused.reason(), Reason::StoreUnavailable);
    assert!(matches!(other.records(0, 1).await.unwrap_err(), StoreError::Closed));
}

// --- commits --------------------------------------------------------------------------------

#[tokio::test]
async fn a_commit_happens_as_a_whole_or_not_at_all() {
    let house = House::new();
    let store = house.open();
    let stale = NodeRow { revision: 4, ..node_row("01", &[2]) };
    let changes = vec![Change::Node(node_row("00", &[1])), Change::Node(stale)];
    let refused = store.commit(changes, vec![note("a")]).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Conflict { table: "node", expected: 4, found: 0, .. }),
        "{refused}"
    );
    assert_eq!(store.node("00").await.unwrap(), None);
    assert_eq!(store.recount().await.unwrap(), 0);

    let committed =
        store.commit(vec![Change::Node(node_row("00", &[1]))], vec![note("b")]).await.unwrap();
    assert_eq!((committed.records, committed.revisions), (0..1, vec![1]));
    let read = store.node("00").await.unwrap().unwrap();
    assert_eq!(read, NodeRow { revision: 1, ..node_row("00", &[1]) });
}

#[tokio::test]
async fn too_much_at_once_is_refused() {
    let house = House::new();
    let store = house.open();
    let many = std::iter::repeat_with(|| note("a")).take(2_001).collect();
    let refused = store.commit(Vec::new(), many).await.unwrap_err();
    assert!(matches!(refused, StoreError::OverLimit { found: 2_001, limit: 2_000, .. }));
    assert_eq!(refused.reason(), Reason::OverLimit);
    let long = store.commit(Vec::new(), vec![note(&"x".repeat(70_000))]).await.unwrap_err();
    assert!(matches!(long, StoreError::Record(RecordError::TooLong(_))));
    let large = vec![0; MAX_BLOB_BYTES + 1];
    assert!(matches!(Blob::new("m", large, Keep::Full), Err(StoreError::OverLimit { .. })));
}

/// Every session adds one to what it read. If any write were lost, the sum would be short.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_change_one_node_never_undo_each_other() {
    let house = House::new();
    let store = house.open();
    store.commit(vec![Change::Node(node_row("00", &[]))], Vec::new()).await.unwrap();
    let mut sessions = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        sessions.spawn(async move {
            for _ in 0..10 {
                // 16 tries are plenty for two sessions of a node; here are eight.
                while let Err(error) = store
                    .amend_node::<StoreError>("00", |row| {
                        let clock = row.counters.map_or(0, |counters| counters.clock);
                        row.counters =
                            Some(Counters { reset_count: 0, restart_count: 0, clock: clock + 1 });
                        Ok(vec![note("quote")])
                    })
                    .await
                {
                    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
                }
            }
        });
    }
    sessions.join_all().await;
    let row = store.node("00").await.unwrap().unwrap();
    assert_eq!(row.counters.unwrap().clock, 80);
    assert_eq!(row.revision, 81);
    assert_eq!(store.recount().await.unwrap(), 80, "a lost try leaves no record");
}

#[tokio::test]
async fn of_two_sessions_that_read_the_same_row_one_wins() {
    let house = House::new();
    let store = house.open();
    store.commit(vec![Change::Node(node_row("00", &[]))], Vec::new()).await.unwrap();
    let read = store.node("00").await.unwrap().unwrap();
    let serials =
        |byte: u8| Serials { next: Some(Serial::from_random([byte; 16])), ..Serials::default() };
    let first = NodeRow { serials: serials(1), ..read.clone() };
    let second = NodeRow { serials: serials(2), ..read };
    let (first, second) = tokio::join!(
        store.commit(vec![Change::Node(first)], vec![note("first")]),
        store.commit(vec![Change::Node(second)], vec![note("second")]),
    );
    assert!(first.is_ok());
    assert!(matches!(second, Err(StoreError::Conflict { expected: 1, found: 2, .. })));
    assert_eq!(store.recount().await.unwrap(), 1);
    let missing = store.amend_node::<StoreError>("01", |_| Ok(Vec::new())).await.unwrap_err();
    assert!(matches!(missing, StoreError::Missing { table: "node", .. }));
}

/// While somebody else holds the file, commits queue up; then one flush carries all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_is_flushed_together() {
    let house = House::new();
    let store = house.open();
    store.commit(Vec::new(), vec![note("warm")]).await.unwrap();
    let before = store.tally();
    let holder = house.by_hand();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let store = store.clone();
        waiting.spawn(async move { store.commit(Vec::new(), vec![note("x")]).await.unwrap() });
    }
    while store.tally().queued - before.queued < 200 {
        tokio::task::yield_now().await;
    }
    holder.execute_batch("ROLLBACK").unwrap();
    let mut numbers: Vec<_> =
        waiting.join_all().await.into_iter().flat_map(|committed| committed.records).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..201).collect::<Vec<u64>>());
    let after = store.tally();
    assert_eq!(after.commits - before.commits, 200);
    assert!(after.transactions - before.transactions <= 3, "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_commit_takes_no_neighbour_with_it() {
    let house = House::new();
    let store = house.open();
    let holder = house.by_hand();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Vec::new();
    for i in 0..20 {
        let store = store.clone();
        let revision = if i % 2 == 0 { 0 } else { 9 };
        let row = NodeRow { revision, ..node_row(&format!("{i:02}"), &[]) };
        waiting.push(tokio::spawn(async move {
            store.commit(vec![Change::Node(row)], vec![note("x")]).await
        }));
    }
    while store.tally().queued < 20 {
        tokio::task::yield_now().await;
    }
    holder.execute_batch("ROLLBACK").unwrap();
    for (i, waiting) in waiting.into_iter().enumerate() {
        assert_eq!(waiting.await.unwrap().is_ok(), i % 2 == 0, "{i}");
    }
    assert_eq!(store.recount().await.unwrap(), 10);
    assert_eq!(store.nodes(None, 100).await.unwrap().len(), 10);
    assert_eq!((store.tally().commits, store.tally().refused), (10, 10));
}

/// A disk that is full undoes the whole transaction, not one part of it. Then nobody in it may be
/// told that he was heard, and the numbers go on without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_undone_accepts_nobody() {
    let house = House::new();
    let store = house.open();
    store.commit(Vec::new(), vec![note("before")]).await.unwrap();
    let holder = house.by_hand();
    holder
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON blob
             BEGIN SELECT raise(ROLLBACK, 'as a full disk does'); END;
             BEGIN IMMEDIATE",
        )
        .unwrap();
    let blob = || Change::Blob(Blob::new("m", vec![1], Keep::Full).unwrap());
    let commit = |changes: Vec<Change>| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(changes, vec![note("x")]).await })
    };
    let mut waiting: Vec<_> = (0..10).map(|_| commit(Vec::new())).collect();
    waiting.push(commit(vec![blob()]));
    waiting.extend((0..10).map(|_| commit(Vec::new())));
    let expected = 1 + waiting.len() as u64;
    while store.tally().queued < expected {
        tokio::task::yield_now().await;
    }
    holder.execute_batch("ROLLBACK").unwrap();
    let mut accepted = 0;
    for waiting in waiting {
        match waiting.await.unwrap() {
            Ok(_) => accepted += 1,
            Err(error) => assert_eq!(error.reason(), Reason::StoreUnavailable, "{error}"),
        }
    }
    assert!(accepted <= 20);
    assert_eq!(store.recount().await.unwrap(), 1 + accepted);
    holder.execute_batch("DROP TRIGGER full").unwrap();
    let committed = store.commit(vec![blob()], vec![note("after")]).await.unwrap();
    assert_eq!(committed.records.start, 1 + accepted);
}

#[tokio::test]
async fn followers_are_woken_by_what_moved() {
    let house = House::new();
    let store = house.open();
    let mut follower = store.subscribe();
    store.commit(vec![put("web", "/web", None)], Vec::new()).await.unwrap();
    assert!(follower.has_changed().unwrap());
    assert_eq!(follower.borrow_and_update().entries_revision, 1);
    store.commit(vec![Change::Node(node_row("00", &[]))], Vec::new()).await.unwrap();
    assert!(!follower.has_changed().unwrap());
    let banned = NodeRow { revision: 1, banned: true, ..node_row("00", &[]) };
    store.commit(vec![Change::Node(banned)], Vec::new()).await.unwrap();
    let expected = Sequences { entries_revision: 1, deny_sequence: 1, ..Sequences::default() };
    assert_eq!(*follower.borrow_and_update(), expected);
    store.close().await.unwrap();
    assert_eq!(house.open().sequences(), expected, "they survive");
}

// --- serials and records --------------------------------------------------------------------

#[tokio::test]
async fn a_serial_is_recorded_once_for_ever() {
    let house = House::new();
    let store = house.open();
    let recorded = store.record(vec![Issuance(1), Issuance(2)]).await.unwrap();
    let numbers: Vec<_> = recorded.iter().map(|one| (one.seq(), one.intent().0)).collect();
    assert_eq!(numbers, [(0, 1), (1, 2)]);
    let serial = Serial::from_random([2; 16]);
    let taken =
        |error: StoreError| matches!(error, StoreError::SerialTaken { serial: s } if s == serial);
    assert!(taken(store.record(vec![Issuance(3), Issuance(2)]).await.unwrap_err()));
    assert!(taken(store.record(vec![Issuance(2), Issuance(2)]).await.unwrap_err()));
    assert_eq!(store.recount().await.unwrap(), 2, "a refused one is not half recorded");
    assert!(store.record(vec![Issuance(3)]).await.is_ok());
    store.close().await.unwrap();

    let store = house.open();
    assert!(taken(store.record(vec![Issuance(2)]).await.unwrap_err()));
    let issued = store.issued(&serial).await.unwrap().unwrap();
    assert_eq!((issued.seq, issued.node), (1, Some(spiffe_id("00"))));
    assert_eq!(issued.entry, Some(EntryId::parse("web").unwrap()));
    assert_eq!(issued.subject, "spiffe://example.org/web");
    assert_eq!(store.issued(&Serial::from_random([9; 16])).await.unwrap(), None);
    let node = spiffe_id("00");
    let of_node = |now| store.issued_to_node(&node, now, 10);
    assert_eq!(of_node(Time::from_unix_s(1_999_999)).await.unwrap().len(), 3);
    assert_eq!(of_node(Time::from_unix_s(2_000_000)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn records_are_found_by_number_by_subject_and_by_what_they_refer_to() {
    let house = House::new();
    let store = house.open();
    let leaf = *store.record(vec![Issuance(1)]).await.unwrap()[0].leaf();
    store.commit(Vec::new(), vec![note("a")]).await.unwrap();
    let _ = store.record(vec![Issuance(2)]).await.unwrap();

    let numbers = |records: Vec<Record>| records.iter().map(|r| r.seq).collect::<Vec<_>>();
    assert_eq!(numbers(store.records(1, 10).await.unwrap()), [1, 2]);
    assert_eq!(numbers(store.records(0, 1).await.unwrap()), [0]);
    let first = store.record_at(0).await.unwrap().unwrap();
    assert_eq!((first.leaf, first.body.kind()), (leaf, "issue-x509"));
    assert_eq!(first.body.server_id(), store.origin().server_id);
    assert_eq!(store.record_at(3).await.unwrap(), None);

    let by_ref = |kind, id, before| store.records_by_ref(kind, id, before, 10);
    assert_eq!(numbers(by_ref(RefKind::Entry, "web", None).await.unwrap()), [2, 0]);
    assert_eq!(numbers(by_ref(RefKind::Entry, "web", Some(2)).await.unwrap()), [0]);
    assert_eq!(numbers(by_ref(RefKind::Standing, "web", None).await.unwrap()), [0_u64; 0]);
    assert_eq!(numbers(by_ref(RefKind::Standing, "a1", None).await.unwrap()), [2, 0]);
    let by_subject = |subject| store.records_by_subject(subject, None, 10);
    assert_eq!(numbers(by_subject("spiffe://example.org").await.unwrap()), [1]);
    assert_eq!(numbers(by_subject("spiffe://example.org/web").await.unwrap()), [2, 0]);
}

#[tokio::test]
async fn a_record_that_was_tampered_with_is_told() {
    let house = House::new();
    let store = house.open();
    store.commit(Vec::new(), vec![note("paid"), note("b"), note("c")]).await.unwrap();
    assert_eq!(store.recount().await.unwrap(), 3);
    let intruder = house.by_hand();
    intruder
        .execute_batch(
            "DROP TRIGGER record_change; DROP TRIGGER record_removal;
             UPDATE record SET body = CAST(replace(CAST(body AS TEXT), 'paid', 'free') AS BLOB)
             WHERE seq = 0",
        )
        .unwrap();
    let refused = store.record_at(0).await.unwrap_err().to_string();
    assert!(refused.contains("record 0"), "{refused}");
    assert!(store.recount().await.is_err());
    intruder
        .execute_batch(
            "UPDATE record SET body = CAST(replace(CAST(body AS TEXT), 'free', 'paid') AS BLOB)
             WHERE seq = 0",
        )
        .unwrap();
    assert!(store.recount().await.is_ok());
    intruder.execute_batch("DELETE FROM record WHERE seq = 1").unwrap();
    let refused = store.recount().await.unwrap_err().to_string();
    assert!(refused.contains("record 1 is missing"), "{refused}");
}

// --- nodes ----------------------------------------------------------------------------------

#[tokio::test]
async fn every_member_of_a_node_is_kept() {
    let house = House::new();
    let store = house.open();
    let serial = |byte| Serial::from_random([byte; 16]);
    let row = NodeRow {
        ek_certs: vec![vec![0x30, 0]],
        ek_root: Some([7; 32]),
        class: Some(assay_tpm::endorsement::TpmClass::Software),
        device: Some(TpmDevice {
            manufacturer: "id:00001014".to_owned(),
            model: "swtpm".to_owned(),
            version: "id:20191023".to_owned(),
        }),
        firmware_version: Some(u64::MAX),
        ak_name: Some(vec![0, 11]),
        ak_public: Some(vec![1]),
        owner: "ops".to_owned(),
        labels: BTreeMap::from([("rack".to_owned(), "7".to_owned())]),
        profile: Some("p".to_owned()),
        no_sha1: true,
        counters: Some(Counters { reset_count: 1, restart_count: 2, clock: u64::MAX }),
        serials: Serials {
            active: Some(serial(1)),
            next: Some(serial(2)),
            replaced: vec![Replaced { serial: serial(3), since: Time::from_unix_ms(1) }],
        },
        svid_key_in_tpm: true,
        banned: true,
        flag: Some(Flag::CloneSuspected),
        agent_version: "0.1.0".to_owned(),
        last_quoted_at: Some(Time::from_unix_ms(9)),
        logs: BTreeMap::from([("tcg-eventlog".to_owned(), "00".to_owned())]),
        ..node_row("00", &[1, 2])
    };
    store.commit(vec![Change::Node(row.clone())], Vec::new()).await.unwrap();
    let read = store.node("00").await.unwrap().unwrap();
    assert_eq!(read, NodeRow { revision: 1, ..row });
}

#[tokio::test]
async fn an_ek_belongs_to_one_node() {
    let house = House::new();
    let store = house.open();
    store.commit(vec![Change::Node(node_row("00", &[1, 2]))], Vec::new()).await.unwrap();
    let of = |ek: u8| {
        let store = &store;
        async move { store.node_by_ek(&[ek; 32]).await.unwrap().map(|row| row.node_id) }
    };
    assert_eq!(of(1).await.as_deref(), Some("00"));
    assert_eq!(of(2).await.as_deref(), Some("00"));
    assert_eq!(of(3).await, None);
    let thief = vec![Change::Node(node_row("01", &[3, 2]))];
    let refused = store.commit(thief.clone(), Vec::new()).await.unwrap_err();
    assert!(matches!(refused, StoreError::EkTaken { node_id } if node_id == "00"));
    assert_eq!(of(3).await, None);

    let delete = |revision| Change::DeleteNode { node_id: "00".to_owned(), revision };
    let stale = store.commit(vec![delete(2)], Vec::new()).await.unwrap_err();
    assert!(matches!(stale, StoreError::Conflict { .. }));
    store.commit(vec![delete(1)], Vec::new()).await.unwrap();
    assert_eq!(of(1).await, None);
    let gone = store.commit(vec![delete(1)], Vec::new()).await.unwrap_err();
    assert!(matches!(gone, StoreError::Missing { .. }));
    store.commit(thief, Vec::new()).await.unwrap();
    assert_eq!(of(2).await.as_deref(), Some("01"));
    let back = store.commit(vec![Change::Node(node_row("00", &[1]))], Vec::new()).await.unwrap();
    assert_eq!(back.revisions, [3], "a tombstone's numbers go on");
}

#[tokio::test]
async fn an_ek_can_be_admitted_before_its_node_is_seen() {
    let house = House::new();
    let store = house.open();
    let admission = EkAdmission {
        kind: NodeKind::TpmEk,
        spki_sha256: [1; 32],
        owner: "ops".to_owned(),
        labels: BTreeMap::from([("rack".to_owned(), "7".to_owned())]),
        faces: vec![assay_evidence::binding::Face::Native],
        profile: None,
        no_sha1: true,
        class: Some(assay_tpm::endorsement::TpmClass::Discrete),
        admitted_at: house.clock.now(),
    };
    store.commit(vec![Change::AdmitEk(admission.clone())], Vec::new()).await.unwrap();
    let ek = store.ek(&[1; 32]).await.unwrap().unwrap();
    assert_eq!((ek.node_id, ek.admission), (None, Some(admission.clone())));
    assert_eq!(store.ek(&[2; 32]).await.unwrap(), None);

    let row = node_row("00", &[1]).admitted_by(&admission);
    assert!(row.no_sha1 && row.class_asserted);
    store.commit(vec![Change::Node(row)], Vec::new()).await.unwrap();
    let ek = store.ek(&[1; 32]).await.unwrap().unwrap();
    assert_eq!(ek.node_id.as_deref(), Some("00"));
    assert_eq!(store.ek_admissions(10).await.unwrap(), std::slice::from_ref(&admission));

    let retract = || vec![Change::RetractEk { spki_sha256: [1; 32] }];
    store.commit(retract(), Vec::new()).await.unwrap();
    assert_eq!(store.ek(&[1; 32]).await.unwrap().unwrap().admission, None);
    assert_eq!(store.ek_admissions(10).await.unwrap(), []);
    let gone = store.commit(retract(), Vec::new()).await.unwrap_err();
    assert!(matches!(gone, StoreError::Missing { table: "ek", .. }));
}

#[tokio::test]
async fn banned_nodes_are_denied_until_they_are_not() {
    let house = House::new();
    let store = house.open();
    let row =
        |revision, banned| vec![Change::Node(NodeRow { revision, banned, ..node_row("00", &[]) })];
    let denied = || async {
        let deny = store.deny_set().await.unwrap();
        (deny.denial(&spiffe_id("00"), &spiffe_id("00")).is_some(), deny.sequence)
    };
    store.commit(row(0, false), Vec::new()).await.unwrap();
    assert_eq!(denied().await, (false, 0));
    store.commit(row(1, true), Vec::new()).await.unwrap();
    assert_eq!(denied().await, (true, 1));
    store.commit(row(2, true), Vec::new()).await.unwrap();
    assert_eq!(denied().await, (true, 1), "nothing changed");
    store.commit(row(3, false), Vec::new()).await.unwrap();
    assert_eq!(denied().await, (false, 2));
    store.commit(row(4, true), Vec::new()).await.unwrap();
    let delete = Change::DeleteNode { node_id: "00".to_owned(), revision: 5 };
    store.commit(vec![delete], Vec::new()).await.unwrap();
    assert_eq!(denied().await, (false, 4));
}

#[tokio::test]
async fn nodes_that_wait_for_an_operator_are_bounded_and_the_most_silent_goes_first() {
    let house = House::new();
    let store = house.open();
    let pending = |n: u32, revision| {
        let first_seen = Time::from_unix_s(5);
        let id = format!("{n:032x}");
        let mut ek = [0; 32];
        ek[..4].copy_from_slice(&n.to_be_bytes());
        Change::Node(NodeRow {
            revision,
            ek_spki_sha256: vec![ek],
            ..NodeRow::new(id, NodeKind::TpmEk, Admission::Pending, first_seen)
        })
    };
    let known = async |n: u32| store.node(&format!("{n:032x}")).await.unwrap().is_some();
    for batch in 0..10 {
        let changes = (0..1_000).map(|n| pending(batch * 1_000 + n, 0)).collect();
        store.commit(changes, Vec::new()).await.unwrap();
        house.clock.advance(Duration::from_secs(1));
    }
    // The first of all speaks again; the second one's EK was entered by an operator.
    store.commit(vec![pending(0, 1)], Vec::new()).await.unwrap();
    let admission = EkAdmission {
        kind: NodeKind::TpmEk,
        spki_sha256: [[0, 0, 0, 1].as_slice(), &[0; 28]].concat().try_into().unwrap(),
        owner: String::new(),
        labels: BTreeMap::new(),
        faces: vec![assay_evidence::binding::Face::Native],
        profile: None,
        no_sha1: false,
        class: None,
        admitted_at: house.clock.now(),
    };
    store.commit(vec![Change::AdmitEk(admission.clone())], Vec::new()).await.unwrap();
    store.commit(vec![pending(10_000, 0), pending(10_001, 0)], Vec::new()).await.unwrap();
    assert!(known(0).await && !known(1).await && !known(2).await && known(3).await);
    assert!(known(10_000).await && known(10_001).await);
    let ek = store.ek(&admission.spki_sha256).await.unwrap().unwrap();
    assert_eq!((ek.node_id, ek.admission), (None, Some(admission)));
    // It may come again, and a node that is admitted makes room.
    store.commit(vec![pending(1, 0)], Vec::new()).await.unwrap();
    assert!(known(1).await && !known(3).await);
    let Change::Node(row) = pending(4, 1) else { panic!() };
    let admitted = Change::Node(NodeRow { admission: Admission::Admitted, ..row });
    store.commit(vec![admitted, pending(2, 0)], Vec::new()).await.unwrap();
    assert!(known(4).await && known(5).await);
    store.close().await.unwrap();
    let store = house.open();
    store.commit(vec![pending(3, 0)], Vec::new()).await.unwrap();
    assert_eq!(store.node(&format!("{:032x}", 5)).await.unwrap(), None, "counted again at start");
}

#[tokio::test]
async fn a_ban_is_found_by_every_ek_that_the_machine_showed() {
    let house = House::new();
    let store = house.open();
    let row = NodeRow { claimed_eks: vec![[2; 32]], ..node_row("00", &[1]) };
    store.commit(vec![Change::Node(row)], Vec::new()).await.unwrap();
    let ids = async |claimed: &[[u8; 32]], newcomer: Option<[u8; 32]>| {
        let kin = store.kin(claimed, newcomer.as_ref()).await.unwrap();
        kin.into_iter().map(|row| row.node_id).collect::<Vec<_>>()
    };
    // Another EK of a node in good standing says nothing against a newcomer.
    assert_eq!(ids(&[[3; 32]], Some([2; 32])).await, [""; 0]);
    assert_eq!(ids(&[[1; 32]], None).await, ["00"]);

    let row = store.node("00").await.unwrap().unwrap();
    assert_eq!(row.claimed_eks, [[2; 32]]);
    let flagged = NodeRow { flag: Some(Flag::CloneSuspected), ..row };
    store.commit(vec![Change::Node(flagged)], Vec::new()).await.unwrap();
    assert_eq!(ids(&[], Some([2; 32])).await, ["00"]);
    let row = store.node("00").await.unwrap().unwrap();
    let banned = NodeRow { flag: None, banned: true, ..row };
    store.commit(vec![Change::Node(banned)], Vec::new()).await.unwrap();
    assert_eq!(ids(&[], Some([2; 32])).await, ["00"]);
    assert_eq!(ids(&[], None).await, [""; 0], "an operator let this EK in");
    let delete = Change::DeleteNode { node_id: "00".to_owned(), revision: 3 };
    store.commit(vec![delete], Vec::new()).await.unwrap();
    assert_eq!(ids(&[[1; 32]], Some([2; 32])).await, [""; 0]);
}

// --- standings ------------------------------------------------------------------------------

#[tokio::test]
async fn a_standing_survives_a_restart_and_ends_when_it_would_have() {
    let house = House::new();
    let store = house.open();
    let given = standing("00", house.clock.moment());
    store.commit(vec![Change::Standing(given.clone())], vec![note("a")]).await.unwrap();
    store.close().await.unwrap();
    house.clock.advance(Duration::from_secs(100));
    let store = house.open();
    assert_eq!(store.found().standings, 1);
    let [restored] = &store.standings().await.unwrap()[..] else { panic!("one") };
    assert_eq!(restored.row(), given.row());
    assert!(restored.is_fresh(house.clock.moment()));
    house.clock.advance(Duration::from_secs(80));
    assert!(!restored.is_fresh(house.clock.moment()));
    assert_eq!(store.standing(&spiffe_id("01")).await.unwrap().map(|_| ()), None);
}

#[tokio::test]
async fn a_clock_set_back_after_the_opening_restores_no_younger_standing() {
    let house = House::new();
    let store = house.open();
    let quoted = house.clock.moment();
    let given = vec![Change::Standing(standing("00", quoted))];
    store.commit(given, vec![note("a")]).await.unwrap();
    store.close().await.unwrap();
    house.clock.advance(Duration::from_secs(100));
    let store = house.open();
    house.clock.advance(Duration::from_secs(70));
    house.clock.set_wall(quoted.wall);
    let restored = store.standing(&spiffe_id("00")).await.unwrap().unwrap();
    assert!(restored.is_fresh(house.clock.moment()));
    house.clock.advance(Duration::from_secs(10));
    assert!(!restored.is_fresh(house.clock.moment()));
}

#[tokio::test]
async fn the_later_quote_wins_whichever_session_ends_last() {
    let house = House::new();
    let store = house.open();
    let early = standing("00", house.clock.moment());
    house.clock.advance(Duration::from_secs(60));
    let late = standing("00", house.clock.moment());
    let put = |standing: &Standing| vec![Change::Standing(standing.clone())];
    store.commit(put(&late), Vec::new()).await.unwrap();
    let refused = store.commit(put(&early), Vec::new()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { table: "standing", .. }));
    let kept = store.standing(&spiffe_id("00")).await.unwrap().unwrap();
    assert_eq!(kept.row(), late.row());
    store.commit(put(&late), Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_voided_standing_is_gone() {
    let house = House::new();
    let store = house.open();
    let put = || Change::Standing(standing("00", house.clock.moment()));
    let void = |node| Change::VoidStanding {
        node: spiffe_id(node),
        reason: Reason::AppraisalContraindicated,
    };
    store.commit(vec![put()], Vec::new()).await.unwrap();
    store.commit(vec![void("01")], Vec::new()).await.unwrap();
    assert_eq!(store.standings().await.unwrap().len(), 1);
    store.commit(vec![void("00")], Vec::new()).await.unwrap();
    assert_eq!(store.standings().await.unwrap().len(), 0);
    store.commit(vec![put()], Vec::new()).await.unwrap();
    assert_eq!(store.standings().await.unwrap().len(), 1, "a new quote gives a new standing");
}

#[tokio::test]
async fn a_start_with_the_clock_set_back_voids_what_it_would_revive() {
    let house = House::new();
    let start = house.clock.now();
    let store = house.open();
    let given = vec![Change::Standing(standing("00", house.clock.moment()))];
    store.commit(given, Vec::new()).await.unwrap();
    house.clock.advance(Duration::from_secs(3_600));
    store.commit(Vec::new(), vec![note("an hour later")]).await.unwrap();
    store.close().await.unwrap();

    house.clock.set_wall(start + Duration::from_secs(10));
    let store = house.open();
    assert_eq!(store.found().clock_behind, Some(Duration::from_secs(3_590)));
    assert_eq!(store.found().standings, 0);
    assert!(store.found().to_string().ends_with("clock 3590 s behind the newest record"));
    assert_eq!(store.standings().await.unwrap().len(), 0);
    let told = store.record_at(1).await.unwrap().unwrap();
    assert_eq!(told.body.datum("act").unwrap(), "standings-void");
    assert_eq!(told.body.datum("arguments").unwrap()["voided"], "1");
    store.close().await.unwrap();

    // The newest record now bears the wrong time; what was voided stays so.
    let store = house.open();
    assert_eq!(store.found().clock_behind, None);
    assert_eq!(store.standings().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_clock_five_seconds_behind_is_no_reason() {
    let house = House::new();
    let store = house.open();
    let now = house.clock.now();
    let given = vec![Change::Standing(standing("00", house.clock.moment()))];
    store.commit(given, vec![note("a")]).await.unwrap();
    store.close().await.unwrap();
    house.clock.set_wall(now - Duration::from_millis(5_000));
    let store = house.open();
    assert_eq!((store.found().clock_behind, store.found().standings), (None, 1));
    store.close().await.unwrap();
    house.clock.set_wall(now - Duration::from_millis(5_001));
    let store = house.open();
    assert_eq!(store.found().clock_behind, Some(Duration::from_millis(5_001)));
}

// --- entries, authorities, blobs ------------------------------------------------------------

#[tokio::test]
async fn entries_are_numbered_and_none_is_there_twice() {
    let house = House::new();
    let store = house.open();
    let created = store.commit(vec![put("web", "/web", None)], Vec::new()).await.unwrap();
    assert_eq!((&created.revisions[..], created.sequences.entries_revision), (&[1][..], 1));
    let web = EntryId::parse("web").unwrap();
    let read = store.entry(&web).await.unwrap().unwrap();
    assert_eq!((read.revision(), read.x509_svid_ttl()), (1, Duration::from_secs(60)));
    assert_eq!(read.selectors(), entry("web", "/web").selectors());

    let refused = async |change| store.commit(vec![change], Vec::new()).await.unwrap_err();
    assert!(matches!(refused(put("web", "/other", None)).await, StoreError::Conflict { .. }));
    assert!(matches!(
        refused(put("copy", "/web", None)).await,
        StoreError::Similar { id } if id == web
    ));
    assert!(matches!(refused(put("web", "/web", Some(2))).await, StoreError::Conflict { .. }));
    assert_eq!(store.sequences().entries_revision, 1, "a refusal moves nothing");

    store.commit(vec![put("web", "/web2", Some(1))], Vec::new()).await.unwrap();
    store.commit(vec![put("copy", "/web", None)], Vec::new()).await.unwrap();
    let (entries, revision) = store.entries().await.unwrap();
    let ids: Vec<_> = entries.iter().map(|e| (e.id().as_str(), e.revision())).collect();
    assert_eq!((&ids[..], revision), (&[("copy", 1), ("web", 2)][..], 3));

    let delete = |revision| Change::DeleteEntry { id: web.clone(), revision };
    assert!(matches!(refused(delete(Some(1))).await, StoreError::Conflict { .. }));
    store.commit(vec![delete(None)], Vec::new()).await.unwrap();
    assert!(matches!(refused(delete(None)).await, StoreError::Missing { table: "entry", .. }));
    assert_eq!(store.entry(&web).await.unwrap(), None);
    let again = store.commit(vec![put("web", "/web2", None)], Vec::new()).await.unwrap();
    assert_eq!((&again.revisions[..], again.sequences.entries_revision), (&[4][..], 5));
}

#[tokio::test]
async fn authorities_move_the_bundle() {
    let house = House::new();
    let store = house.open();
    let row = |revision, state| AuthorityRow {
        authority_id: "a".to_owned(),
        revision,
        server_id: String::new(),
        kind: AuthorityKind::X509,
        spki_sha256: [1; 32],
        public: vec![0x30, 0],
        not_before: Time::from_unix_s(0),
        not_after: Time::from_unix_s(9),
        state,
        tainted: false,
        custody: CustodyClass::Software,
    };
    let commit = async |change| store.commit(vec![change], Vec::new()).await;
    commit(Change::Authority(row(0, AuthorityState::Prepared))).await.unwrap();
    let stale = commit(Change::Authority(row(0, AuthorityState::Active))).await.unwrap_err();
    assert!(matches!(stale, StoreError::Conflict { table: "authority", .. }));
    commit(Change::Authority(row(1, AuthorityState::Active))).await.unwrap();
    let (rows, sequence) = store.authorities().await.unwrap();
    let expected = AuthorityRow {
        server_id: store.origin().server_id.clone(),
        ..row(2, AuthorityState::Active)
    };
    assert_eq!((rows, sequence), (vec![expected], 2));
    let retire = |revision| Change::RetireAuthority { authority_id: "a".to_owned(), revision };
    assert!(matches!(commit(retire(1)).await.unwrap_err(), StoreError::Conflict { .. }));
    commit(retire(2)).await.unwrap();
    assert_eq!(store.authorities().await.unwrap(), (Vec::new(), 3));
}

#[tokio::test]
async fn evidence_of_one_node_is_bounded_and_the_oldest_goes_first() {
    let house = House::new();
    let store = house.open();
    let mib = 1_024 * 1_024;
    let put = async |byte: u8, size: usize, keep, node: &str| {
        house.clock.advance(Duration::from_secs(1));
        let blob = Blob::new("m", vec![byte; size], keep).unwrap().of_node(node);
        let sha256 = *blob.sha256();
        store.commit(vec![Change::Blob(blob)], Vec::new()).await.unwrap();
        sha256
    };
    let kept = async |sha256| store.blob(&sha256).await.unwrap().unwrap().bytes.is_some();
    let full = put(1, 20 * mib, Keep::Full, "00").await;
    let old = put(2, 20 * mib, Keep::Routine, "00").await;
    let forever = put(3, 40 * mib, Keep::Forever, "00").await;
    let other = put(4, 60 * mib, Keep::Routine, "01").await;
    let young = put(5, 24 * mib, Keep::Routine, "00").await;
    assert!(kept(full).await && kept(old).await && kept(young).await, "64 MiB are allowed");
    put(6, 1, Keep::Routine, "00").await;
    assert!(!kept(old).await, "the oldest routine evidence goes");
    assert!(kept(full).await && kept(young).await && kept(forever).await && kept(other).await);
    let large = put(7, 60 * mib, Keep::Full, "00").await;
    assert!(kept(large).await && !kept(young).await && !kept(full).await);
    // What was let go counts no more, and may come again.
    put(1, 20 * mib, Keep::Full, "01").await;
    assert!(kept(full).await && !kept(other).await && kept(large).await);
}

#[tokio::test]
async fn blobs_are_found_by_their_hash_and_thinned_as_promised() {
    let house = House::new();
    let store = house.open();
    let put = async |bytes: &[u8], keep| {
        let blob = Blob::new("application/vnd.assay.tpm-quote", bytes.to_vec(), keep).unwrap();
        let sha256 = *blob.sha256();
        store.commit(vec![Change::Blob(blob)], Vec::new()).await.unwrap();
        sha256
    };
    let bytes = async |sha256| store.blob(&sha256).await.unwrap().unwrap().bytes;
    let quote = put(b"quote", Keep::Routine).await;
    let full = put(b"full", Keep::Full).await;
    let custody = put(b"custody", Keep::Forever).await;
    let raised = put(b"both", Keep::Routine).await;
    put(b"both", Keep::Full).await;
    put(b"both", Keep::Routine).await;
    assert_eq!(bytes(quote).await.as_deref(), Some(&b"quote"[..]));
    assert_eq!(store.blob(&[0; 32]).await.unwrap(), None);

    // However little is promised, what a standing may rest on is not touched.
    let none = Retention { routine: Duration::ZERO, full: Duration::ZERO };
    house.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(store.thin(&none).await.unwrap(), Thinned::default());

    house.clock.advance(Duration::from_secs(6 * 86_400));
    let again = put(b"again", Keep::Routine).await;
    let thinned = store.thin(&Retention::default()).await.unwrap();
    assert_eq!(thinned, Thinned { blobs: 1, bytes: 5, more: false });
    let stored = store.blob(&quote).await.unwrap().unwrap();
    assert_eq!((stored.bytes, stored.size), (None, 5), "what it was stays known");
    assert!(bytes(again).await.is_some() && bytes(raised).await.is_some());

    house.clock.advance(Duration::from_secs(400 * 86_400));
    assert_eq!(store.thin(&Retention::default()).await.unwrap().blobs, 3);
    assert!(bytes(full).await.is_none() && bytes(raised).await.is_none());
    assert!(bytes(custody).await.is_some());
    put(b"quote", Keep::Routine).await;
    assert!(bytes(quote).await.is_some(), "what comes again is kept again");
}
