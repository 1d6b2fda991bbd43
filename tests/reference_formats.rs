//! Reference values and results in the forms of others, by the command: in, out, and what is said of
//! what does not go over.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use assay_evidence::crypto::SoftwareKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evidence::corpus;
use program::assay;
use serde_json::Value;
use serde_json::json;

#[path = "support/evidence.rs"]
mod evidence;

#[path = "support/program.rs"]
mod program;

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn record(register: u32, byte: u8) -> Value {
    let digest = hex::encode([byte; 32]);
    json!({ "pcr": register, "digests": [{ "hashAlg": "sha256", "digest": digest }] })
}

#[test]
fn components_of_a_folder_become_literals_that_sign_and_travel_as_a_corim() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("lock/650-kernel.pcrlock.d")).unwrap();
    for (name, records) in [
        ("lock/500-separator.pcrlock", json!({ "records": [record(4, 1), record(7, 1)] })),
        ("lock/650-kernel.pcrlock.d/6.5.pcrlock", json!({ "records": [record(4, 2)] })),
        ("lock/650-kernel.pcrlock.d/6.6.pcrlock", json!({ "records": [record(4, 3)] })),
        ("lock/README", json!("passed over")),
    ] {
        fs::write(at(name), records.to_string()).unwrap();
    }
    let import =
        ["profile", "import", "--from", "pcrlock", "lock", "--id", "acme/web", "--out", "p"];
    let (answer, exit) = assay(folder.path(), &import);
    assert_eq!((&answer["verdict"], exit), (&json!("imported"), 0), "{answer}");
    assert_eq!(answer["decided"], json!([4, 7]));
    let text = fs::read_to_string(at("p/profile.toml")).unwrap();
    assert!(text.contains("origin = \"imported: systemd-pcrlock, 2 components\""), "{text}");
    assert!(text.contains("650-kernel.6.5") && text.contains("650-kernel.6.6"), "{text}");
    // A draft may be written again; what a person changed may not.
    assert_eq!(assay(folder.path(), &import).1, 0);
    fs::write(at("p/profile.toml"), format!("# mine\n{text}")).unwrap();
    assert_eq!(assay(folder.path(), &import).1, 2);

    let key = SoftwareKey::generate().unwrap();
    fs::write(at("key.pem"), pem("PRIVATE KEY", key.pkcs8_der())).unwrap();
    fs::write(at("key.pub"), pem("PUBLIC KEY", &key.public_key().to_spki())).unwrap();
    let other = SoftwareKey::generate().unwrap();
    fs::write(at("other.pub"), pem("PUBLIC KEY", &other.public_key().to_spki())).unwrap();
    let export =
        ["profile", "export", "p", "--as", "corim", "--key", "key.pem", "--out", "p.corim"];
    let (answer, exit) = assay(folder.path(), &export);
    assert_eq!((&answer["verdict"], exit), (&json!("exported"), 0), "{answer}");
    assert_eq!((&answer["measurements"], &answer["not_exported"]), (&json!(3), &json!([])));

    let back = |signer: &str| {
        let import = ["profile", "import", "--from", "corim", "p.corim", "--id", "acme/web"];
        assay(folder.path(), &[&import[..], &["--out", "back.toml", "--signer", signer]].concat())
    };
    let (answer, exit) = back("key.pub");
    assert_eq!(exit, 0, "{answer}");
    let by = hex::encode(key.public_key().spki_sha256());
    assert!(answer["origin"].as_str().unwrap().ends_with(&format!("signed by {by}")), "{answer}");
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("pcr = ")).map(str::to_owned);
        lines.collect()
    };
    assert_eq!(values(&fs::read_to_string(at("back.toml")).unwrap()), values(&text));
    let (answer, exit) = back("other.pub");
    assert_eq!((&answer["verdict"], exit), (&json!("error"), 1), "{answer}");
}

#[test]
fn the_wrong_file_or_option_is_said() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x"), b"nothing of the kind").unwrap();
    let import = |form: &str, more: &[&str]| {
        let arguments = ["profile", "import", "--from", form, "--out", "o"];
        assay(folder.path(), &[&arguments[..], more].concat())
    };
    for (form, files, exit) in [
        ("corim", &["x"][..], 1),
        ("keylime", &["x"], 1),
        ("pcrlock", &["x"], 1),
        ("corim", &["nowhere"], 2),
        ("pcrlock", &["."], 2),
        ("keylime", &["x", "x"], 2),
        ("keylime", &["x", "--signer", "x"], 2),
        ("typo", &["x"], 2),
    ] {
        let (answer, found) = import(form, files);
        assert_eq!((found, &answer["verdict"]), (exit, &json!("error")), "{form} {files:?}");
    }
    let ear = ["profile", "export", "--as", "ear", "--out", "o"];
    assert_eq!(assay(folder.path(), &ear).1, 2);
    let (answer, exit) = assay(folder.path(), &[&ear[..], &["--appraisal", "x"]].concat());
    assert_eq!(exit, 2);
    assert!(answer["error"].as_str().unwrap().contains("assay appraise"), "{answer}");
}

#[test]
fn a_learned_profile_travels_and_still_decides() {
    let Some(capture) = corpus("qemu-ovmf-swtpm/uki-baseline") else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = capture.join("eventlog.bin");
    let log = log.to_str().unwrap();
    let learn = ["profile", "learn", "--log", log, "--id", "acme/web", "--out", "p"];
    assert_eq!(assay(folder.path(), &learn).1, 0);
    let export = ["profile", "export", "p", "--as", "corim", "--out", "p.corim"];
    let (answer, exit) = assay(folder.path(), &export);
    assert_eq!(exit, 0, "{answer}");
    let import =
        ["profile", "import", "--from", "corim", "p.corim", "--id", "acme/web", "--out", "q"];
    let (answer, exit) = assay(folder.path(), &import);
    assert_eq!(exit, 0, "{answer}");
    println!("decided after the journey: {}", answer["decided"]);
    let explain =
        |log: &str| assay(folder.path(), &["profile", "explain", "--profile", "q", "--log", log]);
    let (good, exit) = explain(log);
    assert_eq!((&good["verdict"], exit), (&json!("affirming"), 0), "{}", good["reasons"]);
    let Some(other) = corpus("qemu-ovmf-swtpm/uki-cmdline-changed")
        .or_else(|| corpus("qemu-ovmf-swtpm/grub-baseline"))
    else {
        return;
    };
    let (bad, exit) = explain(other.join("eventlog.bin").to_str().unwrap());
    assert_eq!((&bad["verdict"], exit), (&json!("contraindicated"), 1));
}

#[test]
fn an_appraisal_is_an_ear_whatever_came_of_it() {
    let Some(capture) = corpus("qemu-ovmf-swtpm/uki-baseline") else { return };
    let folder = tempfile::tempdir().unwrap();
    let log = capture.join("eventlog.bin");
    let learn =
        ["profile", "learn", "--log", log.to_str().unwrap(), "--id", "acme/web", "--out", "p"];
    assert_eq!(assay(folder.path(), &learn).1, 0);
    let key = SoftwareKey::generate().unwrap();
    fs::write(folder.path().join("key.pem"), pem("PRIVATE KEY", key.pkcs8_der())).unwrap();
    for (nonce, status) in [(None, "affirming"), (Some("00"), "contraindicated")] {
        let host = capture.to_str().unwrap();
        let mut appraise = vec!["appraise", "host", host, "--profile", "p"];
        appraise.extend(nonce.iter().flat_map(|nonce| ["--nonce", *nonce]));
        let (answer, _) = assay(folder.path(), &appraise);
        assert_eq!(answer["verdict"], status, "{answer}");
        fs::write(folder.path().join("result.json"), answer.to_string()).unwrap();
        let export = ["profile", "export", "--as", "ear", "--appraisal", "result.json"];
        let export = [&export[..], &["--label", "tpm", "--out", "ear"]].concat();
        assert_eq!(assay(folder.path(), &export).1, 0);
        let ear: Value =
            serde_json::from_slice(&fs::read(folder.path().join("ear")).unwrap()).unwrap();
        assert_eq!(ear["eat_profile"], "tag:ietf.org,2026:rats/ear#04");
        assert_eq!(ear["submods"]["tpm"]["ear_status"], status);
        let policies = &ear["submods"]["tpm"]["ear_appraisal_policy_ids"];
        match nonce {
            None => assert_eq!(policies, &json!(["firmware-profile:acme/web@1"])),
            Some(_) => assert_eq!(policies, &Value::Null),
        }
        let signed = [&export[..], &["--key", "key.pem"]].concat();
        assert_eq!(assay(folder.path(), &signed).1, 0);
        let jwt = fs::read_to_string(folder.path().join("ear")).unwrap();
        assert_eq!(jwt.trim().split('.').count(), 3, "{jwt}");
    }
}
