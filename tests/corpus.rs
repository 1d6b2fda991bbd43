//! Real evidence with known verdicts, judged by the command as an auditor runs it: files in, one
//! JSON object out. The corpus is not part of the repository: `$ASSAY_CORPUS`, else
//! `../shared/corpus`; without it these tests say that they were skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[path = "corpus/case.rs"]
mod case;
#[path = "support/evidence.rs"]
mod evidence;

use case::Case;
use case::cases;
use evidence::corpus;

/// Runs with `--json`; the output must be one object on one line.
fn assay(arguments: &[String]) -> (Value, i32) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_assay")).args(arguments).arg("--json").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{arguments:?}: {text}");
    (serde_json::from_str(&text).unwrap(), output.status.code().unwrap())
}

/// Verdict, decisive reason and exit code, which must agree among themselves.
fn outcome(answer: &Value, exit: i32) -> (&str, &str) {
    let verdict = answer["verdict"].as_str().unwrap();
    let reason = answer["reason"].as_str().unwrap_or_default();
    match verdict {
        "genuine" => assert_eq!((exit, reason), (0, ""), "{answer}"),
        "refused" | "malformed" => {
            assert_eq!(exit, 1, "{answer}");
            assert_eq!(answer["reasons"][0]["code"].as_str(), Some(reason), "{answer}");
            assert_eq!(answer["claims"], Value::Null, "{answer}");
        }
        _ => panic!("{answer}"),
    }
    (verdict, reason)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The options of `verify tpm` or `verify certify` for a case, or why it has none.
fn tpm_options(case: &Case) -> Result<Vec<String>, &'static str> {
    if case.file("parsec").is_none() && case.format == "parsec-tpm-cbor" {
        return Err("no public area of its attestation key");
    }
    let certify = case.claim("type") == Some("certify");
    let mut options = words(&["verify", if certify { "certify" } else { "tpm" }]);
    let mut give = |option: &str, value: String| options.extend([option.to_owned(), value]);
    let file = |role: &str| case.file(role).map(|path| path.display().to_string());
    give(if certify { "--certify" } else { "--quote" }, file("attest").unwrap());
    give("--signature", signature_file(case));
    give("--nonce", case.claim("extra_data").unwrap().to_owned());
    if certify {
        give("--public", file("certified-tpmt-public").unwrap());
        give("--min-hash", case.claim("signature_hash").unwrap().to_owned());
    }
    let roots = match file("ca") {
        Some(root) => root,
        None => case.beside("ek-certs/ms-tpm-root-2014/ms-tpm-root-2014.der"),
    };
    if let Some(certificate) = file("aik-cert").or_else(|| file("ak-cert")) {
        give("--ak-cert", certificate);
        give("--ak-roots", roots);
    }
    if let Some(certificate) = file("ak-cert-of-another-key") {
        // The certificate that came along is of another key: it must not make this one believed.
        give("--ak-cert", certificate);
        give("--ak-roots", case.beside("ek-certs/azure-vtpm-ca"));
        give("--intermediates", case.beside("ek-certs/azure-ak-cert"));
        give("--at", "2026-08-01T00:00:00Z".to_owned());
    }
    for role in ["ak-public", "ak-tpmt-public", "ak-public-spki"] {
        if let Some(key) = file(role) {
            give("--ak", key);
        }
    }
    if let Some(intermediate) = file("intermediate") {
        give("--intermediates", intermediate);
    }
    if let Some(values) = file("pcrs-tpm2-tools") {
        give("--pcrs", values);
    }
    if let Some(time) = &case.verify_at {
        give("--at", time.clone());
    }
    Ok(options)
}

/// TPMT_SIGNATURE. Some cases hold the bare RSA number, as WebAuthn and `tpm2_quote -f plain` have
/// it; the head that was cut off, RSASSA and the hash of the case, is put before it again.
fn signature_file(case: &Case) -> String {
    let path = case.file("signature").unwrap();
    let bytes = std::fs::read(&path).unwrap();
    if bytes.len() != 256 {
        return path.display().to_string();
    }
    let hash = if case.claim("signature_hash") == Some("sha1") { 0x04 } else { 0x0b };
    let whole = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.sig", case.id));
    let head = [0x00, 0x14, 0x00, hash, 0x01, 0x00];
    std::fs::write(&whole, [&head, bytes.as_slice()].concat()).unwrap();
    whole.display().to_string()
}

#[test]
fn quotes_and_certifications_of_real_tpms_get_their_verdict() {
    let Some(cases) = cases("tpm-quote") else { return };
    let (mut judged, all) = (0, cases.len());
    for case in cases {
        let options = match tpm_options(&case) {
            Ok(options) => options,
            Err(why) => {
                println!("left out: {}: {why}", case.id);
                continue;
            }
        };
        let (answer, exit) = assay(&options);
        let (verdict, reason) = outcome(&answer, exit);
        judged += 1;
        match case.reason.as_str() {
            "" => assert_eq!(verdict, "genuine", "{}: {answer}", case.id),
            // Nobody vouches for the key of these; `--ak` is a caller who does, and then the quote
            // holds. The tests of the library go without one.
            "ak-not-certified" if case.file("ak-cert-of-another-key").is_none() => {
                assert_eq!(verdict, "genuine", "{}: {answer}", case.id);
                assert_eq!(answer["claims"]["ak"]["trust"], "caller", "{}", case.id);
            }
            "root-not-trusted" => {
                let said = answer["reasons"].to_string();
                assert_eq!(reason, "ak-not-certified", "{}: {answer}", case.id);
                assert!(said.contains("root"), "{}: {said}", case.id);
            }
            expected => assert_eq!(reason, expected, "{}: {answer}", case.id),
        }
        if verdict == "genuine" && case.claim("signature_hash") == Some("sha1") {
            assert_eq!(answer["claims"]["signature_hash"], "sha1", "{}", case.id);
            let strict: Vec<String> =
                options.iter().map(|o| if o == "sha1" { "sha256" } else { o }.into()).collect();
            let (answer, exit) = assay(&strict);
            assert_eq!(outcome(&answer, exit).1, "signature-hash-weak", "{}", case.id);
        }
    }
    println!("tpm-quote: {judged} of {all} judged");
    assert_eq!((judged, all), (9, 10));
}

/// Options for one of our own captures: a quote of one bank with everything beside it.
fn capture_options(case: &Path, bank: &str) -> Vec<String> {
    let file = |name: &str| case.join(name).display().to_string();
    let nonce = std::fs::read_to_string(case.join("nonce.hex")).unwrap();
    let mut options = words(&["verify", "tpm", "--nonce", nonce.trim()]);
    options.extend(["--quote".to_owned(), file(&format!("quote-{bank}.msg"))]);
    options.extend(["--signature".to_owned(), file(&format!("quote-{bank}.sig"))]);
    options.extend(["--ak".to_owned(), file("ak.pub"), "--ek-pub".to_owned(), file("ek.pub")]);
    options
}

#[test]
fn the_quote_of_every_captured_boot_is_genuine_and_none_for_another_nonce() {
    let Some(folder) = corpus("qemu-ovmf-swtpm") else { return };
    let mut judged = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let case = entry.unwrap().path();
        if !case.join("quote-sha256.msg").exists() {
            continue;
        }
        let mut options = capture_options(&case, "sha256");
        options.extend(words(&["--require", "sha256:0-14"]));
        let (answer, exit) = assay(&options);
        assert_eq!(outcome(&answer, exit).0, "genuine", "{}: {answer}", case.display());
        let gaps = answer["not_checked"].to_string();
        assert!(!gaps.contains("hierarchy"), "{}: {gaps}", case.display());
        let nonce = options.iter().position(|option| option == "--nonce").unwrap() + 1;
        options[nonce] = "00".repeat(20);
        let (answer, exit) = assay(&options);
        assert_eq!(outcome(&answer, exit).1, "nonce-mismatch", "{}", case.display());
        judged += 1;
    }
    println!("qemu-ovmf-swtpm: {judged} quotes judged");
    assert_eq!(judged, 13);
}

#[test]
fn endorsement_certificates_get_their_verdict_by_the_built_in_packs_and_by_given_roots() {
    let Some(cases) = cases("ek-certs") else { return };
    let (mut judged, mut by_pack) = (0, Vec::new());
    for case in cases.iter().filter(|case| case.format == "ek-cert") {
        let file = case.file("ek-cert").unwrap().display().to_string();
        let at = case.verify_at.as_deref().unwrap();
        let verify = |more: &[&str]| {
            let options = [&["verify", "ek", "--cert", &file, "--at", at], more].concat();
            let (answer, exit) = assay(&words(&options));
            let (verdict, reason) = outcome(&answer, exit);
            (verdict.to_owned(), reason.to_owned(), answer)
        };
        // The vendor's own certificates beside the case: the last is the root.
        let folder = case.beside(&format!("ek-certs/{}", case.id));
        let mut issuers: Vec<_> = (1..=3)
            .map(|n| format!("{folder}/issuer-{n}.der"))
            .filter(|path| Path::new(path).exists())
            .collect();
        let (verdict, reason, answer) = verify(&[]);
        match case.reason.as_str() {
            "" => {
                if verdict == "genuine" {
                    assert!(answer["claims"]["class"].is_string(), "{}: {answer}", case.id);
                    by_pack.push(case.id.clone());
                }
                let root = issuers.pop().unwrap();
                let given = ["--roots", &root, "--intermediates", &folder];
                let (verdict, _, answer) = verify(&given);
                assert_eq!(verdict, "genuine", "{}: {answer}", case.id);
                // An intermediate alone is not what the certificate was asked of.
                let (_, reason, _) = verify(&["--roots", &case.beside("snp/snp-amd-ca")]);
                assert_eq!(reason, "ek-chain-untrusted", "{}", case.id);
            }
            expected => assert_eq!((verdict.as_str(), reason.as_str()), ("refused", expected)),
        }
        judged += 1;
    }
    println!("ek-certs: {judged} certificates judged; by the built-in packs: {by_pack:?}");
    assert_eq!(judged, 7);
    assert!(by_pack.len() >= 5, "{by_pack:?}");
}

/// Options by role, for the commands whose options are named like the roles' files.
fn options_by_role(command: &str, case: &Case, pairs: &[(&str, &str)]) -> Vec<String> {
    let mut options = words(&["verify", command]);
    for (option, role) in pairs {
        if let Some(path) = case.file(role) {
            options.extend([(*option).to_owned(), path.display().to_string()]);
        }
    }
    options.extend(case.verify_at.iter().flat_map(|time| ["--at".to_owned(), time.clone()]));
    options
}

/// `verify` asks for authenticity alone, `appraise` for everything under the strict default.
fn judge(case: &Case, options: &[String]) {
    judge_authenticity(case, options);
    let mut options = options.to_vec();
    options[0] = "appraise".to_owned();
    let (answer, exit) = assay(&options);
    let reason = answer["reason"].as_str().unwrap_or_default();
    match (case.reason.as_str(), answer["verdict"].as_str().unwrap()) {
        ("", verdict) => assert_eq!((verdict, exit), ("affirming", 0), "{}: {answer}", case.id),
        (_, verdict) => {
            assert_eq!((verdict, exit), ("contraindicated", 1), "{}: {answer}", case.id);
            let right = case.reasons();
            assert!(right.iter().any(|code| code == reason), "{}: {right:?} {answer}", case.id);
        }
    }
}

fn judge_authenticity(case: &Case, options: &[String]) {
    let (answer, exit) = assay(options);
    let (verdict, reason) = outcome(&answer, exit);
    if case.flag("authentic") == Some(true) {
        assert_eq!(verdict, "genuine", "{}: {answer}", case.id);
    } else {
        let right = case.reasons();
        assert!(right.iter().any(|code| code == reason), "{}: {right:?} {answer}", case.id);
    }
}

#[test]
fn reports_quotes_and_documents_of_confidential_machines_get_their_verdict() {
    let (Some(snp), Some(tdx)) = (cases("snp"), cases("tdx")) else { return };
    let (nitro, azure) = (cases("nitro").unwrap(), cases("azure-vtpm").unwrap());
    let mut judged = std::collections::BTreeMap::new();
    let mut count = |kind: &'static str| *judged.entry(kind).or_insert(0) += 1;
    for case in snp.iter().filter(|case| case.file("report").is_some()) {
        let files = [("--report", "report"), ("--vek", "vek")];
        judge(case, &options_by_role("snp", case, &files));
        // The host's own table names the same key.
        if case.file("host-cert-table").is_some() {
            let files = [("--report", "report"), ("--host-certs", "host-cert-table")];
            judge(case, &options_by_role("snp", case, &files));
        }
        count("snp");
    }
    for case in tdx.iter().filter(|case| case.file("collateral").is_some()) {
        let files = [("--quote", "quote"), ("--collateral", "collateral")];
        let options = options_by_role("tdx", case, &files);
        if case.reason == "collateral-expired" {
            let (answer, exit) = assay(&options);
            assert_eq!(outcome(&answer, exit).1, "collateral-expired", "{}", case.id);
        } else {
            judge(case, &options);
        }
        count("tdx");
    }
    for case in nitro.iter().filter(|case| case.file("document").is_some()) {
        let options = options_by_role("nitro", case, &[("--document", "document")]);
        if case.reason == "document-expired" {
            let (answer, exit) = assay(&options);
            assert_eq!(outcome(&answer, exit).1, "document-expired", "{}", case.id);
        } else {
            judge(case, &options);
        }
        count("nitro");
    }
    for case in azure.iter().filter(|case| case.file("signature").is_some()) {
        let files = [
            ("--hcl", "hcl-report"),
            ("--quote", "attest"),
            ("--vek", "vek"),
            ("--td-quote", "quote"),
            ("--collateral", "collateral"),
        ];
        let mut options = options_by_role("azure", case, &files);
        options.extend(["--signature".to_owned(), signature_file(case)]);
        let nonce = case.claim("extra_data").unwrap_or_default().to_owned();
        options.extend(["--nonce".to_owned(), nonce]);
        judge(case, &options);
        count("azure-vtpm");
    }
    println!("confidential: {judged:?} judged");
    assert_eq!(judged.values().sum::<i32>(), 13 + 10 + 5 + 4);
}
