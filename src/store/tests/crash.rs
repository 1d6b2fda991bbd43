//! `kill -9` in the middle of writing, again and again.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use super::*;

const FOLDER: &str = "ASSAY_STORE_CRASH_FOLDER";
const ROUNDS: u64 = 20;
/// Sessions that write at the same time.
const SESSIONS: u8 = 8;

/// Each of the child's commits changes a node and writes two records, one of them an issuance.
/// After each kill: everything the child was told is durable is there, nothing is there by half,
/// no number is missing, no serial is free again.
#[test]
fn a_killed_process_loses_nothing_it_was_told_is_kept() {
    let house = House { clock: Clock::machine(), ..House::new() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut told = 0;
    let mut last_told = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "--nocapture",
                "store::tests::crash::writes_until_killed",
            ])
            .env(FOLDER, house.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Another moment each time, from the first commits on.
        let wanted = 1 + round * 13 % 97;
        let mut hear = |line: String| {
            let Some(line) = line.strip_prefix("kept ") else { return 0 };
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap());
            let (session, step) = (numbers.next().unwrap(), numbers.next().unwrap());
            last_told.insert(session, step);
            1
        };
        let mut heard = 0;
        while heard < wanted {
            heard += hear(lines.next().expect("the child goes on").unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died.
        heard += lines.map_while(Result::ok).map(&mut hear).sum::<u64>();
        told += heard;

        let store = house.open();
        assert!(store.found().recovered, "round {round}");
        let records = runtime.block_on(store.recount()).unwrap();
        assert_eq!(records, store.found().records);
        assert!(records >= 2 * told, "round {round}: {records} records, told of {told} commits");
        let mut steps = 0;
        for node in runtime.block_on(store.nodes(None, 100)).unwrap() {
            let step = node.counters.unwrap().clock;
            let session: u64 = node.node_id.parse().unwrap();
            let said = last_told.get(&session).copied().unwrap_or(0);
            assert!(step >= said, "round {round}: session {session} at {step}, told of {said}");
            assert_eq!(node.revision, i64::try_from(step).unwrap());
            let serial = node.serials.active.unwrap();
            let issued = runtime.block_on(store.issued(&serial)).unwrap().unwrap();
            let record = runtime.block_on(store.record_at(issued.seq)).unwrap().unwrap();
            assert_eq!(record.body.datum("serial").unwrap(), &serial.to_string());
            steps += step;
        }
        assert_eq!(records, 2 * steps, "round {round}: rows and records moved together");
        runtime.block_on(store.close()).unwrap();
    }
    println!("{ROUNDS} kills, {told} commits told of, {} records", house.open().found().records);
}

#[test]
#[ignore = "the child of the test above"]
fn writes_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let path = Path::new(&folder).join("assay.db");
    let store = Store::open(&path, &trust_domain(), Clock::machine()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut sessions = tokio::task::JoinSet::new();
        for session in 0..SESSIONS {
            let store = store.clone();
            sessions.spawn(async move {
                loop {
                    step(&store, session).await;
                }
            });
        }
        sessions.join_all().await;
    });
}

async fn step(store: &Store, session: u8) {
    let node_id = format!("{session:02}");
    let mut row =
        store.node(&node_id).await.unwrap().unwrap_or_else(|| node_row(&node_id, &[session]));
    let step = row.counters.map_or(0, |counters| counters.clock) + 1;
    let mut bytes = [session; 16];
    for (to, from) in bytes.iter_mut().skip(8).zip(step.to_be_bytes()) {
        *to = from;
    }
    let serial = Serial::from_random(bytes);
    row.counters = Some(Counters { reset_count: 0, restart_count: 0, clock: step });
    row.serials.active = Some(serial);
    let mut issue = Issuance(0).draft();
    if let Data::IssueX509(data) = &mut issue.data {
        data.serial = serial;
    }
    store.commit(vec![Change::Node(row)], vec![note("quote"), issue]).await.unwrap();
    // One write, so that a line is there or is not.
    let line = format!("kept {session} {step}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
