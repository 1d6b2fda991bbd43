//! A fleet's stored evidence against a profile that is to come, and a policy held against files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use assay::reference::pcr_signature::policy_digest;
use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
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

/// The captures as hosts of a fleet.
fn fleet(captures: &Path, hosts: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for host in hosts {
        let to = folder.path().join("fleet").join(host);
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(captures.join(host)).unwrap() {
            let file = file.unwrap().path();
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    folder
}

fn learn(folder: &Path, host: &str, out: &str) {
    let log = format!("fleet/{host}/eventlog.bin");
    let learn = ["profile", "learn", "--log", &log, "--id", "acme/web", "--out", out];
    assert_eq!(assay(folder, &learn).1, 0);
}

fn effects(answer: &Value) -> Vec<(&str, &str)> {
    let hosts = answer["hosts"].as_array().unwrap().iter();
    let name = |host: &'_ Value| host["host"].as_str().unwrap().rsplit('/').next().unwrap().len();
    hosts
        .map(|host| {
            let text = host["host"].as_str().unwrap();
            (&text[text.len() - name(host)..], host["effect"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn who_would_lose_identity_is_told_with_reason_and_nearest_variant() {
    let Some(captures) = corpus("qemu-ovmf-swtpm") else { return };
    let hosts = ["uki-baseline", "uki-ak-rsassa", "uki-cmdline-changed"];
    let folder = fleet(&captures, &hosts);
    let at = folder.path();
    learn(at, "uki-baseline", "next");
    let (answer, exit) = assay(at, &["profile", "simulate", "--profile", "next", "fleet"]);
    println!("{}", answer["counts"]);
    assert_eq!((&answer["verdict"], exit), (&json!("contraindicated"), 1), "{answer}");
    let effects = effects(&answer);
    assert!(effects.contains(&("uki-baseline", "keeps")), "{effects:?}");
    assert!(effects.contains(&("uki-cmdline-changed", "loses")), "{effects:?}");
    let first = &answer["hosts"][0];
    assert_eq!(first["effect"], "loses");
    assert!(!first["reason"].is_null() && first["nearest"].is_string(), "{first}");
    assert!(first["stanza"].as_str().unwrap().contains("[[component.variant]]"), "{first}");

    // Nobody loses what the profile in force does not give.
    learn(at, "uki-cmdline-changed", "other");
    let both = ["profile", "simulate", "--profile", "next", "--current", "other", "fleet"];
    let (answer, _) = assay(at, &both);
    let effects = self::effects(&answer);
    assert!(effects.contains(&("uki-baseline", "gains")), "{effects:?}");
    let keeps = ["profile", "simulate", "--profile", "next", "fleet/uki-baseline"];
    let (answer, exit) = assay(at, &keeps);
    assert_eq!((&answer["verdict"], exit), (&json!("affirming"), 0), "{answer}");
}

#[test]
fn a_list_that_goes_on_from_another_is_not_judged_as_a_whole_one() {
    let Some(captures) = corpus("qemu-ovmf-swtpm") else { return };
    let folder = fleet(&captures, &["uki-baseline"]);
    let at = folder.path();
    let learn = ["profile", "learn", "--log", "fleet/uki-baseline/eventlog.bin", "--ima"];
    let learn = [&learn[..], &["fleet/uki-baseline/ima.bin", "--id", "acme/web", "--out", "p"]];
    assert_eq!(assay(at, &learn.concat()).1, 0);
    let host = ["appraise", "host", "fleet/uki-baseline", "--profile", "p"];
    let simulate = ["profile", "simulate", "--profile", "p", "fleet"];
    assert_eq!((assay(at, &host).1, assay(at, &simulate).1), (0, 0));
    // As `assay record export` writes it beside the list of a refresh.
    fs::write(at.join("fleet/uki-baseline/ima.state"), "from here").unwrap();
    let (answer, exit) = assay(at, &host);
    assert_eq!((&answer["reason"], exit), (&json!("evidence-missing"), 1), "{answer}");
    let (answer, exit) = assay(at, &simulate);
    assert_eq!((&answer["verdict"], exit), (&json!("none"), 2), "{answer}");
    assert!(answer["hosts"][0]["error"].as_str().unwrap().contains("attestation"), "{answer}");
    assert_eq!(assay(at, &host[..3]).1, 0);
}

#[test]
fn evidence_that_is_not_genuine_says_nothing_of_its_host() {
    let Some(captures) = corpus("qemu-ovmf-swtpm") else { return };
    let folder = fleet(&captures, &["uki-baseline", "uki-ak-rsassa"]);
    let at = folder.path();
    learn(at, "uki-baseline", "next");
    fs::write(at.join("fleet/uki-ak-rsassa/nonce.hex"), "00").unwrap();
    let simulate = ["profile", "simulate", "--profile", "next", "fleet"];
    let (answer, exit) = assay(at, &simulate);
    assert_eq!((&answer["verdict"], exit), (&json!("none"), 2), "{answer}");
    assert!(effects(&answer).contains(&("uki-ak-rsassa", "unknown")), "{answer}");
    fs::remove_file(at.join("fleet/uki-ak-rsassa/ak.pub")).unwrap();
    let _ = fs::remove_file(at.join("fleet/uki-ak-rsassa/ak.pem"));
    let (answer, exit) = assay(at, &simulate);
    assert_eq!((&answer["verdict"], exit), (&json!("none"), 2), "{answer}");
    assert!(answer["hosts"][0]["error"].as_str().unwrap().contains("attestation key"));
    let (answer, exit) = assay(at, &["profile", "simulate", "--profile", "next", "next"]);
    assert_eq!((&answer["verdict"], exit), (&json!("error"), 2), "{answer}");
}

#[test]
fn a_policy_is_held_against_files_as_far_as_they_show_it() {
    let Some(captures) = corpus("qemu-ovmf-swtpm") else { return };
    let folder = fleet(&captures, &["uki-baseline"]);
    let at = folder.path();
    learn(at, "uki-baseline", "p");
    let appraise = |policy: &str| {
        fs::write(at.join("policy.toml"), policy).unwrap();
        let host = ["appraise", "host", "fleet/uki-baseline", "--profile", "p"];
        assay(at, &[&host[..], &["--policy", "policy.toml"]].concat())
    };
    let gaps = |answer: &Value| -> Vec<String> {
        let gaps = answer["not_checked"].as_array().unwrap().iter();
        gaps.map(|gap| gap.as_str().unwrap().to_owned())
            .filter(|gap| gap.starts_with("policy"))
            .collect()
    };
    let (answer, exit) = appraise("");
    assert_eq!(exit, 0, "{answer}");
    assert_eq!(gaps(&answer).len(), 3, "{:?}", gaps(&answer));
    let (answer, _) = appraise("key_in_tpm = false\nrequire_exporter = false");
    assert_eq!(gaps(&answer).len(), 1, "{:?}", gaps(&answer));
    let (answer, exit) = appraise("no_such_key = 1");
    assert_eq!((&answer["verdict"], exit), (&json!("error"), 2), "{answer}");
}

#[test]
fn a_boot_that_its_maker_signed_is_admitted_without_its_values_in_the_profile() {
    let Some(captures) = corpus("qemu-ovmf-swtpm") else { return };
    let folder = fleet(&captures, &["uki-baseline"]);
    let at = folder.path();
    let key = SoftwareKey::generate().unwrap();
    let spki = STANDARD.encode(key.public_key().to_spki());
    let profile = |phase: &str| {
        let text = format!(
            "schema = \"firmware-profile/1\"\nid = \"acme/signed\"\nserial = 1\nroot = \"tpm2\"\n\
             banks = [\"sha256\"]\nquirks = [\"systemd-stub-name-nul\", \
             \"variable-boot-data-only\"]\n[[key]]\nname = \"uki\"\nspki = \"\"\"\n\
             -----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n\"\"\"\n\
             [[component]]\nname = \"kernel\"\non = [11]\n\
             vouched = {{ by = \"uki-pcr-signature\", keys = [\"@key:uki\"]{phase} }}\n"
        );
        fs::write(at.join("p.toml"), text).unwrap();
    };
    profile("");
    let host = ["appraise", "host", "fleet/uki-baseline", "--profile", "p.toml"];
    let (answer, exit) = assay(at, &host);
    assert_eq!((&answer["reason"], exit), (&json!("evidence-missing"), 1), "{answer}");
    // Signatures of another boot.
    let other =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reference/pcr_signature/signed.json");
    let (answer, exit) = assay(at, &[&host[..], &["--pcrsig", other.to_str().unwrap()]].concat());
    assert_eq!((&answer["reason"], exit), (&json!("register-mismatch"), 1), "{answer}");
    // Of this one, put beside the evidence as the host has it.
    let (plain, _) = assay(at, &host[..3]);
    let value = plain["claims"]["registers"]["sha256"]["11"].as_str().unwrap();
    let value = Digest::new(HashAlgorithm::Sha256, &hex::decode(value).unwrap()).unwrap();
    let policy = policy_digest(HashAlgorithm::Sha256, &[(11, value)].into());
    let sign = |key: &SoftwareKey| {
        let signature = STANDARD.encode(key.sign(&policy).unwrap());
        let entry = json!({ "pcrs": [11], "pol": hex::encode(policy), "sig": signature });
        let file = at.join("fleet/uki-baseline/tpm2-pcr-signature.json");
        fs::write(file, json!({ "sha256": [entry] }).to_string()).unwrap();
    };
    sign(&key);
    let (answer, exit) = assay(at, &host);
    assert_eq!((&answer["verdict"], exit), (&json!("affirming"), 0), "{answer}");
    profile(", phase = \"ready\"");
    let (answer, exit) = assay(at, &host);
    assert_eq!((&answer["reason"], exit), (&json!("claim-mismatch"), 1), "{answer}");
    profile("");
    sign(&SoftwareKey::generate().unwrap());
    let (answer, exit) = assay(at, &host);
    assert_eq!((&answer["reason"], exit), (&json!("sig-invalid"), 1), "{answer}");
}
