//! What issuance costs with the CA key in a TPM.
//!
//! One run, one machine, one software TPM: first the bare loop of signatures with a key like the
//! CA's, then the whole product on the same TPM. Printed is the product's rate as a share of the
//! bare loop's, beside the absolute figures, which mean little on another machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::time::Instant;

use assay::demo::stage::Setup;
use assay::demo::stage::Stage;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_proto::spire::api::server::entry::v1::BatchCreateEntryRequest;
use assay_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use assay_proto::spire::api::types;
use assay_tpm::collect::Device;
use hyper_util::rt::TokioIo;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);
const SIGNATURES: u32 = 2_000;
/// Entries of the node, all of which its agent asks for at once.
const ENTRIES: usize = 500;

fn main() {
    // `cargo bench` passes --bench; `cargo test --benches` does not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if !assay_swtpm::missing_programs().is_empty() {
        eprintln!("SKIPPED: swtpm is not installed (make bench installs it)");
        return;
    }
    let mut stage = Stage::set(Setup {
        program: env!("CARGO_BIN_EXE_assay").into(),
        hosts: &["host-a"],
        refresh: 60,
        interrupted: Arc::new(AtomicBool::new(false)),
    })
    .unwrap();
    let bare = bare_loop(stage.server_tcti());
    println!("bare signing loop             {bare:8.0} signatures/s");

    let socket = stage.server_socket();
    let started = Instant::now();
    stage.start_server().unwrap();
    stage
        .until("the server's start", PATIENCE, |stage| {
            Ok(stage.ask(&["authority", "show"], &socket)?.1.then_some(()))
        })
        .unwrap();
    let ready = started.elapsed();
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
    let entry = |stage: &Stage, id: &str| {
        let create = ["entry", "create", "--id", id, "--parent", &parent, "--selector", &selector];
        stage.demand(&create, &socket).unwrap();
    };
    entry(&stage, "spiffe://example.org/first");
    let workload = stage.workload_socket(&stage.hosts()[0]);
    stage
        .until("the first SVID", PATIENCE, |stage| {
            Ok(stage.ask(&["fetch", "x509"], &workload)?.1.then_some(()))
        })
        .unwrap();
    println!("server run to ready           {:8.2} s", ready.as_secs_f64());
    println!("server run to first SVID      {:8.2} s", started.elapsed().as_secs_f64());

    let before = issued(&stage).len();
    create_entries(&stage, &parent, &selector);
    stage
        .until("all SVIDs", PATIENCE, |stage| {
            Ok((issued(stage).len() >= before + ENTRIES).then_some(()))
        })
        .unwrap();
    let times = issued(&stage);
    let batch = &times[before..];
    let span = batch.last().unwrap().since(*batch.first().unwrap());
    let rate = (batch.len() - 1) as f64 / span.as_secs_f64();
    println!("X.509-SVIDs, all in           {rate:8.0} SVIDs/s");
    println!("share of the bare loop        {:8.2}", rate / bare);
}

/// Signs with a key made as the CA's are, nothing else going on.
fn bare_loop(tcti: String) -> f64 {
    let device = Device::open(&tcti).unwrap();
    let auth = [7; 32];
    let blob = device.create_issuing_key(&auth).unwrap();
    let key = device.load_issuing_key(&blob, &auth).unwrap();
    device.sign(&key, &[1; 32]).unwrap();
    let started = Instant::now();
    for index in 0..SIGNATURES {
        device.sign(&key, &crypto::sha256(&index.to_be_bytes())).unwrap();
    }
    let rate = f64::from(SIGNATURES) / started.elapsed().as_secs_f64();
    device.flush(&key).unwrap();
    rate
}

/// Entries that one agent is to serve, made in batches over the Entry API.
fn create_entries(stage: &Stage, parent: &str, selector: &str) {
    let socket = stage.server_socket();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (trust_domain, path) = parent.strip_prefix("spiffe://").unwrap().split_once('/').unwrap();
    let (kind, value) = selector.split_once(':').unwrap();
    let id = |path: String| types::Spiffeid { trust_domain: trust_domain.to_owned(), path };
    let entries: Vec<types::Entry> = (0..ENTRIES)
        .map(|index| types::Entry {
            spiffe_id: Some(id(format!("/bench/{index}"))),
            parent_id: Some(id(format!("/{path}"))),
            selectors: vec![types::Selector { r#type: kind.to_owned(), value: value.to_owned() }],
            ..Default::default()
        })
        .collect();
    runtime.block_on(async {
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://server")
            .connect_with_connector(connector)
            .await
            .unwrap();
        let mut client = EntryClient::new(channel);
        let request = BatchCreateEntryRequest { entries, output_mask: None };
        let response = client.batch_create_entry(request).await.unwrap().into_inner();
        let refused = response
            .results
            .iter()
            .filter(|result| result.status.as_ref().is_some_and(|status| status.code != 0));
        assert_eq!(refused.count(), 0);
    });
}

/// When each X.509-SVID of a workload was signed, by the server's log, one line per SVID.
fn issued(stage: &Stage) -> Vec<Time> {
    let log = std::fs::read_to_string(stage.path("server.log")).unwrap();
    log.lines()
        .filter(|line| line.contains("decision=\"issued\" kind=\"x509\""))
        .filter_map(|line| Time::parse_rfc3339(line.split_whitespace().next()?).ok())
        .collect()
}
