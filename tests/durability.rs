//! `kill -9` of the server under load: no record is lost, no serial is used twice, standings
//! come back, and the host's workloads go on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::time::Instant;

use assay::demo::stage::Setup;
use assay::demo::stage::Stage;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// The promise: from `kill -9` until calls are answered again.
const RECOVERY: Duration = Duration::from_secs(2);

#[test]
fn kill_nine_fifty_times_under_load_loses_nothing() {
    let missing = assay_swtpm::missing_programs();
    if !missing.is_empty() {
        eprintln!("SKIPPED: {} not installed (make test installs them)", missing.join(", "));
        return;
    }
    let mut stage = Stage::set(Setup {
        program: env!("CARGO_BIN_EXE_assay").into(),
        hosts: &["host-a"],
        refresh: 20,
        interrupted: Arc::new(AtomicBool::new(false)),
    })
    .unwrap();
    let socket = stage.server_socket();
    start_server(&mut stage);
    let certificate = stage.hosts()[0].tpm.tpm().ek_certificates()[0].display().to_string();
    stage.demand(&["node", "admit", "--ek-cert", &certificate], &socket).unwrap();
    stage.start_agent(0).unwrap();
    let node = stage
        .until("the attestation", PATIENCE, |stage| {
            let nodes = stage.demand(&["node", "list"], &socket)?;
            let live = nodes.pointer("/nodes/0/standing/live") == Some(&Value::Bool(true));
            Ok(live.then(|| nodes.pointer("/nodes/0/id").unwrap().as_str().unwrap().to_owned()))
        })
        .unwrap();
    let parent = format!("spiffe://example.org/spire/agent/assay/{node}");
    let selector = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    let create = [
        "entry",
        "create",
        "--id",
        "spiffe://example.org/load",
        "--parent",
        &parent,
        "--selector",
        &selector,
    ];
    stage.demand(&create, &socket).unwrap();
    let workload = stage.workload_socket(&stage.hosts()[0]);
    stage
        .until("the first SVID", PATIENCE, |stage| {
            Ok(stage.ask(&["fetch", "x509"], &workload)?.1.then_some(()))
        })
        .unwrap();

    let mut recoveries = Vec::new();
    for round in 0..50 {
        // Load that is being signed at the moment of the kill: every audience is a new token.
        let loads: Vec<_> = (0..4)
            .map(|lane| {
                let audience = format!("spiffe://example.org/kill/{round}/{lane}");
                let workload = workload.clone();
                std::thread::spawn(move || {
                    std::process::Command::new(env!("CARGO_BIN_EXE_assay"))
                        .args(["fetch", "jwt", "--audience", &audience, "--socket"])
                        .arg(&workload)
                        .output()
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(5 * (round % 10)));
        stage.kill_server().unwrap();
        let killed = Instant::now();
        start_server(&mut stage);
        recoveries.push(killed.elapsed());
        for load in loads {
            load.join().unwrap().unwrap();
        }
    }
    recoveries.sort();
    println!("recovery: median {:?}, worst {:?}", recoveries[25], recoveries[49]);
    assert!(recoveries[49] < RECOVERY, "{:?}", recoveries[49]);

    let nodes = stage.demand(&["node", "list"], &socket).unwrap();
    assert_eq!(nodes.pointer("/nodes/0/standing/live"), Some(&Value::Bool(true)), "{nodes}");
    assert!(stage.ask(&["fetch", "x509"], &workload).unwrap().1);

    let list = stage.demand(&["record", "list", "--limit", "10000"], &socket).unwrap();
    let size = list.pointer("/size").unwrap().as_u64().unwrap();
    let records = list.pointer("/records").unwrap().as_array().unwrap();
    let mut sequence: Vec<u64> =
        records.iter().map(|record| record.pointer("/seq").unwrap().as_u64().unwrap()).collect();
    sequence.sort_unstable();
    assert_eq!(sequence, (0..size).collect::<Vec<_>>(), "the records have a gap");
    let serials: Vec<&str> =
        records.iter().filter_map(|record| record.pointer("/body/data/serial")?.as_str()).collect();
    let unique: BTreeSet<&str> = serials.iter().copied().collect();
    println!("{size} records, {} serials", serials.len());
    assert!(size > 50 && serials.len() > 1);
    assert_eq!(unique.len(), serials.len(), "a serial was used twice");
}

/// Starts the server and waits until it answers.
fn start_server(stage: &mut Stage) {
    stage.start_server().unwrap();
    let socket = stage.server_socket();
    stage
        .until("the server's start", PATIENCE, |stage| {
            Ok(stage.ask(&["authority", "show"], &socket)?.1.then_some(()))
        })
        .unwrap();
}
