//! The shipped EK roots against certificates of real TPMs, and `assay ek-roots` as a user runs it.
//!
//! Real certificates come from the shared corpus, `$ASSAY_CORPUS` or `../shared/corpus`; without it
//! that test says that it was skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use assay::reference::ek_roots;
use assay_evidence::Time;
use assay_tpm::TpmClass;
use assay_tpm::ak_certificate;
use assay_tpm::endorsement;
use assay_tpm::endorsement::certificate_in_nv;
use evidence::corpus;
use serde_json::Value;

#[path = "support/evidence.rs"]
mod evidence;

/// Pack and class of the root that the certificate leads to.
fn led_to(certificate: &[u8], now: Time) -> Option<(String, TpmClass)> {
    let certificate = certificate_in_nv(certificate).unwrap();
    ek_roots::shipped().iter().find_map(|pack| {
        let anchors = pack.anchors();
        let endorsement =
            endorsement::verify_certificate(certificate.clone(), Vec::new(), &anchors, now);
        let root = match endorsement {
            Ok(endorsement) => *endorsement.root_sha256(),
            Err(_) => {
                let roots: Vec<_> = pack.ek_roots().map(|root| root.certificate).collect();
                let intermediates: Vec<_> = pack.intermediate_certificates().collect();
                *ak_certificate::verify(&certificate, &intermediates, &roots, now)
                    .ok()?
                    .root_sha256()
            }
        };
        let entry = pack.roots().find(|entry| entry.sha256() == root)?;
        Some((pack.name().to_owned(), entry.class))
    })
}

#[test]
fn certificates_of_real_tpms_lead_to_a_shipped_root() {
    let Some(corpus) = corpus("ek-certs") else { return };
    let mut led = BTreeMap::new();
    for folder in fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()) {
        let case: toml::Value =
            toml::from_str(&fs::read_to_string(folder.join("case.toml")).unwrap()).unwrap();
        if !matches!(case["format"].as_str().unwrap(), "ek-cert" | "ak-cert") {
            continue;
        }
        let now = Time::parse_rfc3339(case["verify_at"].as_str().unwrap()).unwrap();
        let files = case["file"].as_array().unwrap();
        let own = files.iter().find(|file| file["role"].as_str() == Some("ek-cert")).unwrap();
        let certificate = fs::read(folder.join(own["name"].as_str().unwrap())).unwrap();
        let found = led_to(&certificate, now);
        println!("{}: {found:?}", case["id"].as_str().unwrap());
        led.insert(case["id"].as_str().unwrap().to_owned(), found);
    }
    let expected = |pack: &str, class| Some((pack.to_owned(), class));
    for (id, root) in [
        ("azure-ak-cert", expected("cloud-azure", TpmClass::Vtpm)),
        ("gce-rsa", expected("cloud-gce", TpmClass::Vtpm)),
        ("intel-epid", expected("vendors", TpmClass::Firmware)),
        ("nuvoton-unordered-set", expected("vendors", TpmClass::Discrete)),
        ("stm-ecc", expected("vendors", TpmClass::Discrete)),
        ("stm-nv-prefix", expected("vendors", TpmClass::Discrete)),
        ("stm-rsa-oaep-sha1", expected("vendors", TpmClass::Discrete)),
        // Each swtpm has a CA of its own, and none of them ships.
        ("swtpm-localca", None),
    ] {
        if let Some(found) = led.remove(id) {
            assert_eq!(found, root, "{id}");
        }
    }
    for (id, found) in led {
        assert!(found.is_some(), "{id} leads to no shipped root");
    }
}

/// `assay ARGUMENTS --json`: exit code and answer.
fn assay(arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
    let output = command.args(arguments).arg("--json").output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), json)
}

const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-profiles/ek-roots");
const NOW: [&str; 2] = ["--at", "2026-11-24T00:00:00Z"];

#[test]
fn the_list_says_class_and_provenance_of_each_certificate() {
    let (exit, all) = assay(&["ek-roots", "list"]);
    assert_eq!(exit, 0);
    let packs = all["packs"].as_array().unwrap();
    assert!(packs.len() > 3 && packs[0]["name"] == "vendors");
    let (exit, one) = assay(&["ek-roots", "list", "--pack", "cloud-azure"]);
    assert_eq!(exit, 0);
    let root = &one["packs"][0]["certificates"][0];
    assert_eq!((&root["role"], &root["class"]), (&"root".into(), &"vtpm".into()));
    assert_eq!(root["provenance"]["licence"], "MIT");
    let (exit, none) = assay(&["ek-roots", "list", "--pack", "swtpm"]);
    assert_eq!((exit, &none["verdict"]), (2, &"error".into()));
}

#[test]
fn the_shipped_packs_hold_built_in_and_as_files() {
    let (exit, built_in) = assay(&[&["ek-roots", "check"], &NOW[..]].concat());
    assert_eq!((exit, &built_in["verdict"]), (0, &"genuine".into()));
    let (exit, files) = assay(&[&["ek-roots", "check", HOME], &NOW[..]].concat());
    assert_eq!((exit, &files["claims"]), (0, &built_in["claims"]));
    // Infineon's first intermediate ended in 2025, and that is said.
    let warned = built_in["warnings"].as_array().unwrap();
    assert!(warned.iter().any(|warning| warning["code"] == "ek-expired"), "{warned:?}");
}

#[test]
fn a_pack_that_was_touched_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(format!("{HOME}/cloud-azure/msft.toml")).unwrap();
    let check = |text: &str| {
        let file = folder.path().join("pack.toml");
        fs::write(&file, text).unwrap();
        assay(&["ek-roots", "check", file.to_str().unwrap()])
    };
    assert_eq!(check(&text).0, 0);
    let (exit, touched) = check(&text.replace("not_after  = \"2048", "not_after  = \"2049"));
    assert_eq!((exit, &touched["verdict"]), (1, &"malformed".into()));
    assert_eq!(touched["reason"], "ek-roots-malformed");
    assert!(touched["reasons"][0]["source"].as_str().unwrap().contains("pack.toml:"));
    let rootless = text.replace("role       = \"root\"", "role       = \"intermediate\"");
    let (exit, rootless) = check(&rootless);
    assert_eq!((exit, &rootless["reason"]), (1, &"ek-chain-untrusted".into()));
    let (exit, empty) = assay(&["ek-roots", "check", folder.path().join("none").to_str().unwrap()]);
    assert_eq!((exit, &empty["verdict"]), (2, &"error".into()));
}
