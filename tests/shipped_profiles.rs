//! Every profile that ships is held against its own evidence: it takes the boots that it was made
//! from, refuses everything that can be done to their logs in registers that it decides, and fails
//! once what it leaves open should have been looked at again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use assay::reference::Profile;
use serde_json::Value;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-profiles")
}

/// Files below `folder` whose name ends so, in their order.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path, end)),
            false if path.to_str().unwrap().ends_with(end) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn tried(profile: &Path, more: &[&str]) -> (Value, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(["profile", "test", "--json"])
        .args(more)
        .arg(profile)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{}: {error}: {said}", profile.display()));
    (json, output.status.code())
}

#[test]
fn each_profile_takes_its_evidence_and_refuses_all_mutations_of_it() {
    let (mut profiles, mut boots, mut refused) = (0, 0, 0);
    for path in files(&shipped(), "/profile.toml") {
        let (json, exit) = tried(&path, &[]);
        assert_eq!(exit, Some(0), "{}: {json:#}", path.display());
        assert_eq!(json["survived"], 0, "{}", path.display());
        assert_eq!(json["accepted"], json["evidence"], "{}", path.display());
        profiles += 1;
        boots += json["accepted"].as_u64().unwrap();
        refused += json["refused"].as_u64().unwrap();

        let decided = Profile::parse(&fs::read_to_string(&path).unwrap()).unwrap().decided();
        let least = BTreeSet::from([0, 2, 4, 7]);
        assert!(decided.is_superset(&least), "{}: {decided:?}", path.display());
        println!("{} decides {decided:?}", json["profile"]["id"]);
    }
    println!("{profiles} profiles, {boots} boots taken, {refused} mutations refused, 0 survived");
    assert!(profiles >= 2 && boots >= 2 && refused > 1_000);
}

#[test]
fn a_profile_fails_when_what_it_records_should_have_been_looked_at_again() {
    for path in files(&shipped(), "/profile.toml") {
        let (json, exit) = tried(&path, &["--at", "2099-01-01T00:00:00Z"]);
        assert_eq!(exit, Some(1), "{}", path.display());
        assert!(!json["review_due"].as_array().unwrap().is_empty(), "{json:#}");
    }
}

#[test]
fn all_evidence_that_ships_is_named_by_its_profile() {
    for path in files(&shipped(), "/profile.toml") {
        let text = fs::read_to_string(&path).unwrap();
        let evidence = files(&path.parent().unwrap().join("evidence"), "");
        assert!(!evidence.is_empty(), "{}", path.display());
        for file in evidence {
            let name = format!("\"evidence/{}\"", file.file_name().unwrap().to_str().unwrap());
            assert!(text.contains(&name), "{}: not named", file.display());
        }
    }
}

/// A skeleton with a value in each place that says `LEARN`.
fn filled(text: &str) -> String {
    let digest = "11".repeat(32);
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\"LEARN: ") {
        let (said, behind) = after.split_once('"').unwrap();
        filled.push_str(before);
        filled.push_str(&match said {
            _ if said.starts_with("x509:") => format!("\"x509:{digest}\""),
            _ if said.starts_with("sha256:") => format!("\"sha256:{digest}\""),
            _ if before.ends_with("[") => format!("\"{digest}\""),
            _ => format!("\"{said}\""),
        });
        rest = behind;
    }
    filled + rest
}

#[test]
fn a_skeleton_is_no_profile_until_it_is_filled() {
    let skeletons = files(&shipped(), ".skeleton");
    for path in &skeletons {
        let text = fs::read_to_string(path).unwrap();
        assert!(Profile::parse(&text).is_err(), "{} decides already", path.display());
        let profile = Profile::parse(&filled(&text));
        let profile = profile.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(profile.decided().is_superset(&BTreeSet::from([0, 2, 4, 7])));
        let places = text.matches("LEARN").count();
        println!("{} says {places} times what must be learned", profile.id);
    }
    assert!(skeletons.len() >= 2);
}
