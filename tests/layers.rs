//! The shape of the house, held by a test: floors, pure verifier halves, one file that names the
//! crypto crates, one door by which a standing or a judged list comes back. It reads text, not syntax, so it leans
//! on the habit of one `use crate::…` path per line, which it asks for too.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// docs/architecture.md, the tree: a lower floor never names a higher one.
const FLOORS: [&[&str]; 8] = [
    &["spiffe", "canonical", "clock", "json", "log", "private"],
    &["envelope"],
    &["reference", "policy"],
    &["appraisal"],
    &["keys", "endorsement", "store", "records"],
    &["ca", "exchange", "tls", "workload"],
    &["server", "agent"],
    &["cli", "demo"],
];

/// A rule takes a path and the code in it, and says what is wrong.
type Rule = fn(&str, &str) -> Option<String>;

const RULES: [Rule; 8] =
    [floors, faces, purity, one_clock, crypto, restoring, one_path_a_line, file_names];

#[test]
fn the_house_keeps_its_shape() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let code = code(&text);
        faults
            .extend(RULES.iter().filter_map(|rule| rule(&path, &code)).map(|f| (path.clone(), f)));
        faults.extend(long_line(&text).map(|f| (path.clone(), f)));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

fn floors(path: &str, code: &str) -> Option<String> {
    let own = module(path)?;
    let Some(floor) = floor(own) else { return Some(format!("`{own}` stands on no floor")) };
    let named = named_modules(code).find(|name| self::floor(name).is_some_and(|f| f > floor))?;
    Some(format!("floor {floor} names the higher `{named}`"))
}

fn faces(path: &str, code: &str) -> Option<String> {
    let other = match module(path)? {
        "server" => "agent",
        "agent" => "server",
        _ => return None,
    };
    let found = named_modules(code).any(|name| name == other);
    found.then(|| format!("a face names the other: `{other}`"))
}

/// Whatever judges hostile bytes gives the same verdict years later, on another machine.
fn purity(path: &str, code: &str) -> Option<String> {
    let verifier =
        path.starts_with("attestors/") && path.contains("/src/") && !path.contains("/src/collect");
    let judge = matches!(module(path), Some("envelope" | "appraisal" | "exchange"));
    if !verifier && !judge {
        return None;
    }
    let impure = ["SystemTime", "Instant", "fs", "net", "env"];
    let found = std_names(product(path, code)).find(|name| impure.contains(&name.as_str()))?;
    Some(format!("a pure half names std's `{found}`"))
}

/// Time is injected: one file asks the machine.
fn one_clock(path: &str, code: &str) -> Option<String> {
    if module(path)? == "clock" {
        return None;
    }
    let found = product(path, code).contains("SystemTime::now");
    found.then(|| "asks the wall clock; only src/clock.rs does".to_owned())
}

fn crypto(path: &str, code: &str) -> Option<String> {
    if path == "attestors/evidence/src/crypto.rs" {
        return None;
    }
    // `rustls::crypto::ring` is rustls's door, not the crate's.
    let named = |name: &str| {
        code.match_indices(name).any(|(at, _)| {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            !before.is_alphanumeric() && before != '_' && before != ':'
        })
    };
    let found =
        ["ring::", "use ring;", "aws_lc_rs", "aws_lc_sys"].into_iter().find(|n| named(n))?;
    Some(format!("names `{found}`; only attestors/evidence/src/crypto.rs does"))
}

/// A standing comes out of an appraisal, or back out of the store. There is no third way. Nor is
/// there to the place in a list of files up to which it is not looked at again.
fn restoring(path: &str, code: &str) -> Option<String> {
    if module(path) == Some("store") {
        return None;
    }
    let words = product(path, code).split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    let ends = |word: &str, name: &str| {
        word.strip_suffix("::restored").is_some_and(|of| of.rsplit("::").next() == Some(name))
    };
    let restored = ["Standing", "State", "FilesJudged"];
    let mut words = words.flat_map(|word| restored.iter().filter(move |name| ends(word, name)));
    words.next().map(|name| format!("restores a `{name}`; only src/store does"))
}

fn one_path_a_line(_: &str, code: &str) -> Option<String> {
    let line = code.lines().find(|l| {
        let l = l.trim_start().trim_start_matches("pub ");
        l.starts_with("use crate::") && (l.contains('{') || !l.contains(';'))
    })?;
    Some(format!("more than one path: `{}`", line.trim()))
}

fn file_names(path: &str, _: &str) -> Option<String> {
    let name = Path::new(path).file_stem()?.to_str()?;
    let vague = ["mod", "common", "util", "utils", "misc", "manager", "helper", "helpers", "types"];
    vague.contains(&name).then(|| format!("`{name}` says nothing"))
}

/// rustfmt keeps code within 100 where it can. This catches what it leaves alone, with some grace:
/// long strings and comments, but not one unbroken word (a vector in hex) or the row of a table.
fn long_line(text: &str) -> Option<String> {
    let long = |line: &&str| {
        let broken = line.split_whitespace().all(|word| word.chars().count() < 60);
        let row = line.trim_start().starts_with("//! |");
        line.chars().count() > 110 && broken && !row
    };
    text.lines().find(long).map(|line| format!("longer than 110: `{}`", line.trim()))
}

/// `server` for src/server.rs and src/server/bundle.rs; nothing for files outside or on the roof.
fn module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let name = rest.split('/').next()?.trim_end_matches(".rs");
    (name != "lib" && name != "main").then_some(name)
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// What follows each `crate::`.
fn named_modules(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).filter_map(|rest| words(rest).next())
}

/// Every word of every path that begins with `std::`, groups in braces included.
fn std_names(code: &str) -> impl Iterator<Item = String> {
    code.split("std::").skip(1).flat_map(|rest| {
        let group = rest.find(['{', ';', '(', ' ', '<', '>', ',', ')']).unwrap_or(rest.len());
        let end = match rest[group..].starts_with('{') {
            true => rest.find(';').unwrap_or(rest.len()),
            false => group,
        };
        words(&rest[..end]).map(str::to_owned).collect::<Vec<_>>()
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The text without comments.
fn code(text: &str) -> String {
    let bare = |line: &str| match line.find("//").filter(|&at| !line[..at].ends_with(':')) {
        Some(at) => line[..at].to_owned(),
        None => line.to_owned(),
    };
    text.lines().map(bare).collect::<Vec<_>>().join("\n")
}

/// The code above the tests, which stand at the bottom of a file or in a file of their own.
fn product<'a>(path: &str, code: &'a str) -> &'a str {
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return "";
    }
    code.split("#[cfg(test)]").next().unwrap_or(code)
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<_> =
        ["attestors", "proto", "src", "swtpm", "tests"].map(|name| root.join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.ends_with("target") {
                // What a build left there, of the crates that stand by themselves.
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("layers.rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// Each rule speaks on the bad snippet and keeps silent on the good one.
#[track_caller]
fn tells(rule: Rule, path: &str, bad: &str, good: &str) {
    assert!(rule(path, &code(bad)).is_some(), "silent on: {bad}");
    assert_eq!(rule(path, &code(good)), None, "speaks on: {good}");
}

#[test]
fn a_lower_floor_naming_a_higher_one_is_caught() {
    tells(floors, "src/ca/x509.rs", "use crate::server::Face;", "use crate::keys::Key;");
    tells(floors, "src/spiffe.rs", "fn f() -> crate::ca::X {}", "// crate::ca is not for us");
    assert!(floors("src/attic.rs", "").is_some(), "a room on no floor is caught");
}

#[test]
fn a_face_naming_the_other_is_caught() {
    tells(faces, "src/server/api.rs", "use crate::agent::X;", "use crate::exchange::X;");
    tells(faces, "src/agent.rs", "use crate::server;", "use crate::tls;");
}

#[test]
fn a_verifier_that_is_not_pure_is_caught() {
    let path = "attestors/tpm/src/verify.rs";
    tells(purity, path, "use std::time::SystemTime;", "use std::time::Duration;");
    tells(purity, path, "use std::time::{Duration, Instant};", "use std::{fmt, mem};");
    tells(purity, path, "use std::{fmt, fs};", "#[cfg(test)] mod t { use std::fs; }");
    tells(purity, path, "let home = std::env::var(\"HOME\");", "let a = std::mem::take(x);");
    assert_eq!(purity("attestors/tpm/src/collect.rs", "use std::fs;"), None);
    assert!(purity("src/appraisal/link.rs", "use std::net::IpAddr;").is_some());
}

#[test]
fn a_second_clock_is_caught() {
    tells(one_clock, "src/ca.rs", "let t = SystemTime::now();", "let t = clock.now();");
    assert_eq!(one_clock("src/clock.rs", "SystemTime::now()"), None);
}

#[test]
fn a_second_file_with_crypto_is_caught() {
    let good = "let p = rustls::crypto::ring::default_provider(); let s = string::x();";
    tells(crypto, "src/keys.rs", "use ring::digest;", good);
    tells(crypto, "attestors/tpm/src/ak.rs", "aws_lc_rs::rsa::f()", "crypto::sha256(x)");
    assert_eq!(crypto("attestors/evidence/src/crypto.rs", "use ring::digest;"), None);
}

#[test]
fn a_third_way_to_a_standing_is_caught() {
    let bad = "let s = Standing::restored(row);";
    tells(restoring, "src/server/attest.rs", bad, "let s = Standing::from(appraisal);");
    assert_eq!(restoring("src/store/sqlite.rs", bad), None);
    assert_eq!(restoring("src/ca/tests.rs", bad), None);
}

#[test]
fn a_third_way_to_a_judged_list_is_caught() {
    let bad = "let from = ima::State::restored(bytes);";
    tells(restoring, "src/server/attest.rs", bad, "let from = ima::State::boot(7);");
    tells(restoring, "src/exchange/verifier.rs", "State::restored(x)", "FirstState::restored(x)");
    tells(restoring, "attestors/eventlog/src/ima.rs", bad, "pub fn restored(x: &[u8]) {}");
    assert_eq!(restoring("src/store/files_judged.rs", bad), None);
}

#[test]
fn several_paths_on_a_line_are_caught() {
    tells(one_path_a_line, "src/ca.rs", "use crate::keys::{A, B};", "use crate::keys::A;");
    tells(one_path_a_line, "src/ca.rs", "pub use crate::{\n a, b};", "use std::{fmt, mem};");
}

#[test]
fn a_name_that_says_nothing_is_caught() {
    assert!(file_names("src/ca/utils.rs", "").is_some());
    assert!(file_names("src/ca/mod.rs", "").is_some());
    assert_eq!(file_names("src/ca/x509.rs", ""), None);
}

#[test]
fn a_long_line_is_caught_and_a_vector_is_not() {
    assert!(long_line(&"word ".repeat(23)).is_some());
    assert_eq!(long_line(&format!("let vector = \"{}\";", "0f".repeat(64))), None);
}
