//! Evidence that this server appraised, judged again where the server is not at hand: its
//! attestation key certified, its record exported, and the offline command asked.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use assay::demo::stage::Setup;
use assay::demo::stage::Stage;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn start_server(stage: &mut Stage, socket: &Path) {
    stage.start_server().unwrap();
    stage
        .until("the server", PATIENCE, |stage| {
            Ok(stage.ask(&["node", "list"], socket).ok().filter(|(_, good)| *good))
        })
        .unwrap();
}

fn standing_node(stage: &mut Stage, socket: &Path) -> String {
    stage
        .until("the attestation", PATIENCE, |stage| {
            let nodes = stage.demand(&["node", "list"], socket)?;
            let live = nodes.pointer("/nodes/0/standing/live") == Some(&Value::Bool(true));
            Ok(live.then(|| nodes["nodes"][0]["id"].as_str().unwrap().to_owned()))
        })
        .unwrap()
}

#[test]
fn a_certified_key_lets_others_believe_the_quote_of_a_node_and_of_no_other() {
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
    start_server(&mut stage, &socket);
    let certificate = stage.hosts()[0].tpm.tpm().ek_certificates()[0].display().to_string();
    stage.demand(&["node", "admit", "--ek-cert", &certificate], &socket).unwrap();
    stage.start_agent(0).unwrap();
    let node = standing_node(&mut stage, &socket);

    // Off by default, and the answer names the switch.
    let (answer, good) = stage.ask(&["node", "certify-ak", &node], &socket).unwrap();
    assert!(!good && answer["error"].as_str().unwrap().contains("certify_attestation_keys"));
    let config = std::fs::read_to_string(stage.path("server.toml")).unwrap();
    let config = config.replace("[nodes]\n", "[nodes]\ncertify_attestation_keys = true\n");
    std::fs::write(stage.path("server.toml"), config).unwrap();
    stage.kill_server().unwrap();
    start_server(&mut stage, &socket);
    standing_node(&mut stage, &socket);

    let out = stage.path("evidence");
    let folder = out.display().to_string();
    stage.demand(&["node", "certify-ak", &node, "--out", &folder], &socket).unwrap();
    let bundle = stage.demand(&["bundle", "show"], &socket).unwrap();
    let authorities = stage.demand(&["authority", "show"], &socket).unwrap();
    let uses: Vec<&str> = authorities["authorities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|authority| authority["use"].as_str().unwrap())
        .collect();
    assert!(uses.contains(&"attestation"), "{uses:?}");
    let ca = std::fs::read_to_string(out.join("attestation-ca.crt")).unwrap();
    assert!(!bundle.to_string().contains(&ca.replace('\n', "\\n")), "trusted for workloads");

    let records = stage.demand(&["record", "list", "--type", "evidence"], &socket).unwrap();
    // The oldest is the attestation, with everything in it.
    let first = records["records"].as_array().unwrap().last().unwrap()["seq"].to_string();
    let seq = first.trim_matches('"');
    stage.demand(&["record", "export", seq, "--out", &folder], &socket).unwrap();

    let verify = |more: &[&str]| {
        let file = |name: &str| out.join(name).display().to_string();
        let nonce = std::fs::read_to_string(out.join("nonce.hex")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_assay"))
            .args(["verify", "tpm", "--json", "--nonce", &nonce])
            .args(["--quote", &file("quote.msg"), "--signature", &file("quote.sig")])
            .args(["--pcrs", &file("pcrs"), "--ak-cert", &file("ak.crt")])
            .args(more)
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let file = |name: &str| out.join(name).display().to_string();
    let answer = verify(&["--ak-roots", &file("attestation-ca.crt"), "--ak", &file("ak.pub")]);
    assert_eq!(answer["verdict"], "genuine", "{answer}");
    assert_eq!(answer["claims"]["ak"]["trust"], "certificate", "{answer}");
    assert!(!answer["not_checked"].to_string().contains("hierarchy"), "{answer}");

    // Another CA's word, or the same CA's certificate for a key that is not the signer's.
    let stranger = stage.path("tpm-maker");
    let answer = verify(&["--ak-roots", &stranger.display().to_string()]);
    assert_ne!(answer["verdict"], "genuine", "{answer}");
    let answer = verify(&["--ak-roots", &file("attestation-ca.crt"), "--ak", &file("svid.pub")]);
    assert_eq!(answer["verdict"], "refused", "{answer}");
}
