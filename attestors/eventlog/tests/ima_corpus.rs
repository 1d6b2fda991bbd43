//! Lists of real machines, where the shared corpus is at hand: `$ASSAY_CORPUS`, else
//! `../shared/corpus`. Without it these tests say that they were skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::path::PathBuf;

use assay_eventlog::Quirks;
use assay_eventlog::ima;
use assay_eventlog::ima::Inspection;
use assay_eventlog::ima::boot_aggregate::Rule;
use assay_eventlog::ima::proof;
use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::Registers;

fn corpus(kind: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let folder = root.join(kind);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no folder {}: lists of that kind not read", folder.display());
    None
}

fn read(file: impl AsRef<Path>) -> Vec<u8> {
    let file = file.as_ref();
    std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn cases(folder: &Path, marker: &str) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join(marker).is_file())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn digest(bank: HashAlgorithm, text: &str) -> Digest {
    Digest::new(bank, &hex::decode(text).unwrap()).unwrap()
}

fn pcr10(bank: HashAlgorithm, text: &str) -> Registers {
    let mut registers = Registers::new();
    assert!(registers.insert(10, digest(bank, text)));
    registers
}

#[test]
fn every_list_of_the_corpus_gives_what_its_case_says() {
    let Some(folder) = corpus("ima") else { return };
    let cases = cases(&folder, "case.toml");
    let mut read_as_stated = 0;
    for case in &cases {
        read_as_stated += 1;
        let id = case.file_name().unwrap().to_str().unwrap();
        let toml: toml::Table =
            String::from_utf8(read(case.join("case.toml"))).unwrap().parse().unwrap();
        let bytes = read(case.join(toml["file"][0]["name"].as_str().unwrap()));
        let claims = toml["claims"].as_table().unwrap();
        let reason = toml["reason"].as_str().unwrap();
        let found = Inspection::of(&bytes, None);
        if reason == "trailing-bytes" {
            assert_eq!(found.unwrap_err().reason(), Reason::TrailingBytes, "{id}");
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("{id}: {error:?}"));
        let number = |name: &str| claims[name].as_integer().unwrap().unsigned_abs();
        assert_eq!(found.entries, number("entries"), "{id}");
        assert_eq!(found.text, toml["format"].as_str() == Some("ima-ascii"), "{id}");
        let named: Vec<_> = claims["templates"].as_array().unwrap().to_vec();
        let named: Vec<_> = named.iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(found.templates, named, "{id}");
        assert!(found.warnings.is_empty(), "{id}: {:?}", found.warnings);
        let violations = claims["violations"].as_array().unwrap();
        let indexes: Vec<_> = found.claimed_violations.iter().map(|v| v.index).collect();
        let stated: Vec<_> =
            violations.iter().map(|v| v.as_integer().unwrap().unsigned_abs()).collect();
        assert_eq!(indexes, stated, "{id}");
        assert_eq!(reason == "ima-violation", found.violations > 0, "{id}");

        for (claim, bank) in [
            ("pcr10_sha1", HashAlgorithm::Sha1),
            ("pcr10_sha256", HashAlgorithm::Sha256),
            ("pcr10_sha256_zero_padded", HashAlgorithm::Sha256),
        ] {
            let Some(value) = claims.get(claim).and_then(|value| value.as_str()) else { continue };
            let given = pcr10(bank, value);
            let found = Inspection::of(&bytes, Some(&given)).unwrap();
            assert_eq!(found.refusal, None, "{id} {claim}");
            assert_eq!(found.covered, Some(found.entries), "{id} {claim}");
            assert_eq!(found.quirks, Quirks::NONE, "{id} {claim}");
            assert_eq!(found.registers.value(bank, 10), given.value(bank, 10), "{id} {claim}");
        }
    }
    println!("{read_as_stated} of {} lists of the corpus as stated", cases.len());
}

#[test]
fn every_captured_list_is_covered_as_far_as_its_quote_says() {
    let Some(folder) = corpus("qemu-ovmf-swtpm") else { return };
    let cases = cases(&folder, "expected.json");
    let mut covered = 0;
    for case in &cases {
        let id = case.file_name().unwrap().to_str().unwrap();
        let expected: serde_json::Value =
            serde_json::from_slice(&read(case.join("expected.json"))).unwrap();
        let mut given = Registers::new();
        for (bank, values) in expected["pcrs"].as_object().unwrap() {
            let bank = bank.parse().unwrap();
            for (register, value) in values.as_object().unwrap() {
                let value = digest(bank, value.as_str().unwrap());
                assert!(given.insert(register.parse().unwrap(), value));
            }
        }
        for (name, text) in [("ima.bin", false), ("ima.ascii", true)] {
            let bytes = read(case.join(name));
            let found = Inspection::of(&bytes, Some(&given)).unwrap();
            assert_eq!(found.entries, expected["ima"]["entries"].as_u64().unwrap(), "{id}");
            assert_eq!(found.violations, expected["ima"]["violations"].as_u64().unwrap(), "{id}");
            assert_eq!(found.text, text, "{id}");
            let mut templates = found.templates.clone();
            templates.sort();
            let stated: Vec<String> =
                serde_json::from_value(expected["ima"]["templates"].clone()).unwrap();
            assert_eq!(templates, stated, "{id}");
            // One line for each bank's quote; all of one case agree.
            let quotes = expected["quotes"].as_object().unwrap();
            let stated: Vec<_> =
                quotes.values().map(|quote| quote["ima_entries_covered"].as_u64()).collect();
            assert!(stated.iter().all(|covered| *covered == stated[0]), "{id}");
            assert_eq!(found.covered, stated[0], "{id}: {:?}", found.refusal);
            match found.covered {
                Some(_) => assert_eq!(found.refusal, None, "{id}"),
                None => {
                    let refusal = found.refusal.unwrap();
                    assert_eq!(refusal.reason(), Reason::LogReplayMismatch, "{id}");
                }
            }
            assert_eq!(found.boot_aggregate.unwrap().rule, Some(Rule::Registers0To9), "{id}");
            assert!(found.warnings.is_empty(), "{id}: {:?}", found.warnings);
        }
        covered += 1;
    }
    println!("{covered} of {} captured lists as stated, binary and text", cases.len());
}

/// Replays a capture with the agent and the policy watched, in pieces of a few bytes.
fn state_of(case: &Path) -> ima::State {
    let expected: serde_json::Value =
        serde_json::from_slice(&read(case.join("expected.json"))).unwrap();
    let value = expected["pcrs"]["sha256"]["10"].as_str().unwrap();
    let quoted = pcr10(HashAlgorithm::Sha256, value);
    let mut replay = ima::Replay::new(&ima::State::boot(2), &quoted)
        .and_then(|replay| replay.watching(AGENT))
        .and_then(|replay| replay.watching(proof::POLICY_PATH))
        .unwrap();
    let mut reader = ima::Reader::new();
    for chunk in read(case.join("ima.bin")).chunks(7) {
        let mut entries = reader.entries(chunk);
        while let Some(entry) = entries.next().unwrap() {
            assert_eq!(replay.advance(&entry).unwrap(), ima::Place::Within);
        }
    }
    replay.finish().unwrap().into_state()
}

#[test]
fn the_agent_of_a_capture_is_proven_only_where_policy_and_files_are() {
    let Some(folder) = corpus("qemu-ovmf-swtpm") else { return };
    let baseline = state_of(&folder.join("uki-baseline"));
    let genuine = *baseline.watched(AGENT).unwrap().digest().unwrap();
    let expected =
        proof::PolicyExpected { built_in: &["tcb"], path: proof::POLICY_PATH, files: &[] };
    let line = String::from_utf8(read(folder.join("uki-baseline/cmdline.txt"))).unwrap();
    let policy = proof::policy(Some(&line), &baseline, &expected);
    assert!(
        matches!(&policy, proof::PolicyProof::Proven { text_refused: false, .. }),
        "{policy:?}"
    );
    let of = |state: &ima::State, unknown, policy: &proof::PolicyProof| {
        proof::agent(state, AGENT, &[genuine], unknown, policy).to_string()
    };
    assert_eq!(of(&baseline, 0, &policy), "agent proven");
    assert!(of(&baseline, 1, &policy).starts_with("negative proof only: 1 entries"));

    let none = proof::policy(None, &baseline, &expected);
    assert_eq!(
        of(&baseline, 0, &none),
        "negative proof only: the policy is not proven: no bound command line"
    );
    let modified = state_of(&folder.join("uki-agent-modified"));
    assert!(of(&modified, 0, &policy).contains("another agent was measured"));
    let violations = state_of(&folder.join("uki-ima-violations"));
    assert_eq!(of(&violations, 0, &policy), "negative proof only: 2 violations");

    // IMA is on, but nothing was measured: one entry is not a healthy list.
    let off = state_of(&folder.join("uki-ima-off"));
    assert!(off.is_blind());
    let blind = proof::policy(Some(&line), &off, &expected);
    assert_eq!(blind, proof::PolicyProof::NotProven(proof::Gap::Blind));
    assert_eq!(of(&off, 0, &blind), "negative proof only: no entry of the agent's file");
}

const AGENT: &[u8] = b"/usr/bin/agent";
