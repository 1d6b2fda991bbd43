//! The command line as scripts and auditors meet it: one JSON object on one line, an exit code
//! that means something, evidence collected from a real TPM and judged from files.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use assay_swtpm::LocalCa;
use assay_swtpm::SoftwareTpm;
use evidence::corpus;
use serde_json::Value;

#[path = "support/evidence.rs"]
mod evidence;

const NONCE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn assay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(arguments)
        .env("TSS2_LOG", "all+none")
        .env_remove("ASSAY_SERVER_SOCKET")
        .env_remove("SPIFFE_ENDPOINT_SOCKET")
        .output()
        .unwrap()
}

/// Runs with `--json`; the output must be one object on one line.
fn json(arguments: &[&str]) -> (Value, i32) {
    let output = assay(&[arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(value.is_object(), "{text}");
    (value, output.status.code().unwrap())
}

fn text<'a>(json: &'a Value, pointer: &str) -> &'a str {
    json.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn what_cannot_be_told_is_exit_two_and_still_one_object() {
    for arguments in [
        ["node", "list", "--socket", "/nowhere"].as_slice(),
        &["fetch", "x509", "--socket", "unix:/nowhere"],
        &["server", "validate", "--config", "/nowhere"],
        &["agent", "validate", "--config", "/nowhere"],
        &["no-such-command"],
        &["node", "list", "--no-such-flag"],
        &["verify", "tpm"],
        &["verify", "tpm", "--nonce", ""],
        &["record", "list", "--limit", "0"],
    ] {
        let (answer, exit) = json(arguments);
        assert_eq!((text(&answer, "/verdict"), exit), ("error", 2), "{arguments:?}");
        assert!(!text(&answer, "/error").is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_typo_is_answered_with_what_was_meant() {
    let output = assay(&["entrry", "list"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("'entry'"), "{said}");
}

#[test]
fn help_fits_one_screen_and_is_an_answer() {
    let output = assay(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(help.lines().count() <= 40, "{help}");
    for group in ["Run", "Prove", "Use", "Manage", "Review"] {
        assert!(help.lines().any(|line| line.starts_with(group)), "{help}");
    }
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = assay(&["completions", shell]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("assay"), "{shell}");
    }
}

/// Evidence of a real software TPM in a folder, collected by `assay attest`.
struct Collected {
    folder: tempfile::TempDir,
}

impl Collected {
    fn new() -> Option<Self> {
        let missing = assay_swtpm::missing_programs();
        if !missing.is_empty() {
            eprintln!("SKIPPED: {} not installed (make test installs them)", missing.join(", "));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path().join("maker")).unwrap();
        let tpm = SoftwareTpm::provision(&ca, folder.path().join("tpm"), "host").unwrap();
        let roots = tpm.ek_roots().clone();
        let tpm = tpm.start().unwrap();
        tpm.pcr_extend(7, b"secure boot is on").unwrap();
        let out = folder.path().join("evidence").display().to_string();
        let attest = ["attest", "--out", &out, "--nonce", NONCE, "--device", &tpm.tcti()];
        let (answer, exit) = json(&attest);
        assert_eq!(exit, 0, "{answer}");
        for (root, name) in roots.iter().zip(["root.pem", "issuer.pem"]) {
            std::fs::copy(root, folder.path().join("evidence").join(name)).unwrap();
        }
        Some(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("evidence").join(name)
    }

    fn verify(&self, nonce: &str, more: &[&str]) -> (Value, i32) {
        let file = |name: &str| self.path(name).display().to_string();
        let files = ["quote.msg", "quote.sig", "ak.pub", "pcrs"].map(file);
        let mut arguments = vec!["verify", "tpm", "--nonce", nonce, "--quote", &files[0]];
        arguments.extend(["--signature", &files[1], "--ak", &files[2], "--pcrs", &files[3]]);
        arguments.extend(more);
        json(&arguments)
    }

    fn flip(&self, name: &str) {
        let path = self.path(name);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn evidence_of_this_machine_is_genuine_from_files_and_no_other_way() {
    let Some(collected) = Collected::new() else { return };
    let (answer, exit) = collected.verify(NONCE, &["--require", "sha256:0-15"]);
    assert_eq!((text(&answer, "/verdict"), exit), ("genuine", 0), "{answer}");
    assert_eq!(answer.pointer("/reason"), Some(&Value::Null));
    assert_eq!(text(&answer, "/claims/ak/trust"), "caller");
    assert_ne!(text(&answer, "/claims/registers/sha256/7"), "0".repeat(64));
    assert_eq!(text(&answer, "/claims/registers/sha256/8"), "0".repeat(64));

    let refused = |(answer, exit): (Value, i32), code: &str, verdict: &str| {
        assert_eq!((text(&answer, "/reason"), exit), (code, 1), "{answer}");
        assert_eq!(text(&answer, "/verdict"), verdict);
        assert_eq!(answer.pointer("/claims"), Some(&Value::Null));
        assert_eq!(text(&answer, "/reasons/0/code"), code);
    };
    refused(collected.verify(&"00".repeat(32), &[]), "nonce-mismatch", "refused");
    refused(collected.verify(&NONCE[..62], &[]), "nonce-mismatch", "refused");
    refused(collected.verify(NONCE, &["--require", "sha256:16"]), "pcr-selection", "refused");
    refused(collected.verify(NONCE, &["--min-bank", "sha384"]), "pcr-bank-weak", "refused");
    refused(collected.verify(NONCE, &["--min-hash", "sha384"]), "signature-hash-weak", "refused");
    collected.flip("pcrs");
    refused(collected.verify(NONCE, &[]), "pcr-digest-mismatch", "refused");
    collected.flip("pcrs");
    collected.flip("quote.sig");
    refused(collected.verify(NONCE, &[]), "sig-invalid", "refused");
    collected.flip("quote.sig");
    std::fs::write(collected.path("quote.msg"), b"").unwrap();
    refused(collected.verify(NONCE, &[]), "tpm-malformed", "malformed");
}

#[test]
fn the_ek_certificate_beside_it_is_verified_too_and_what_it_does_not_prove_is_said() {
    let Some(collected) = Collected::new() else { return };
    let file = |name: &str| collected.path(name).display().to_string();
    let (ek, public, root, issuer) =
        (file("ek.crt"), file("ek.pub"), file("root.pem"), file("issuer.pem"));
    let beside = ["--ek-cert", &ek, "--ek-pub", &public, "--ek-roots"];
    let given = [beside.as_slice(), &[&root, "--intermediates", &issuer]].concat();
    let (answer, exit) = collected.verify(NONCE, &given);
    assert_eq!((text(&answer, "/verdict"), exit), ("genuine", 0), "{answer}");
    assert_eq!(text(&answer, "/claims/ek/root_sha256").len(), 64);
    let gaps = answer.pointer("/not_checked").unwrap().to_string();
    assert!(gaps.contains("activation"), "{gaps}");

    // The intermediate is no anchor, and a root alone is no path.
    for given in [[beside.as_slice(), &[&root]].concat(), [beside.as_slice(), &[&issuer]].concat()]
    {
        let (answer, exit) = collected.verify(NONCE, &given);
        assert_eq!(exit, if given.last() == Some(&issuer.as_str()) { 0 } else { 1 }, "{answer}");
    }
}

/// Real quotes of other people's TPMs, where the corpus is at hand.
#[test]
fn quotes_of_real_tpms_are_genuine() {
    let Some(case) = corpus("tpm-quote/gce-cos85-nonce") else { return };
    let file = |name: &str| case.join(name).display().to_string();
    let (quote, signature, ak) = (file("attest.bin"), file("sig.bin"), file("ak.tpmt"));
    let verify = |nonce: &str| {
        json(&[
            "verify",
            "tpm",
            "--quote",
            &quote,
            "--signature",
            &signature,
            "--ak",
            &ak,
            "--nonce",
            nonce,
        ])
    };
    let (answer, exit) = verify("9009");
    assert_eq!((text(&answer, "/verdict"), exit), ("genuine", 0), "{answer}");
    let (answer, exit) = verify("9008");
    assert_eq!((text(&answer, "/reason"), exit), ("nonce-mismatch", 1), "{answer}");
}

#[test]
fn a_certificate_is_shown_as_untrusted_and_rubbish_is_malformed() {
    let Some(collected) = Collected::new() else { return };
    let file = collected.path("ek.crt").display().to_string();
    let (answer, exit) = json(&["inspect", "cert", &file]);
    assert_eq!((text(&answer, "/verdict"), exit), ("genuine", 0), "{answer}");
    assert_eq!(answer["untrusted"], true);
    assert_eq!(answer["claims"], Value::Null);
    assert!(text(&answer, "/certificate/tpm/manufacturer").starts_with("id:"), "{answer}");
    let quote = collected.path("quote.msg").display().to_string();
    let (answer, exit) = json(&["inspect", "cert", &quote]);
    assert_eq!((text(&answer, "/reason"), exit), ("ek-cert-malformed", 1), "{answer}");
    assert_eq!(text(&answer, "/verdict"), "malformed");
}
