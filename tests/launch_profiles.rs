//! Launch digests and trust domains against profiles, and reports shown as they claim to be.
//!
//! Genuine evidence is that of the corpus: `$ASSAY_CORPUS`, else `../shared/corpus`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use evidence::corpus;
use program::assay;
use serde_json::Value;
use serde_json::json;

#[path = "support/evidence.rs"]
mod evidence;
#[path = "support/program.rs"]
mod program;

#[path = "../attestors/snp/tests/support/firmware.rs"]
mod firmware;

/// A value of `case.toml`, by its name.
fn said(case: &Path, name: &str) -> String {
    let text = fs::read_to_string(case.join("case.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ="))).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

fn profile(root: &str, rest: &str) -> String {
    format!(
        "schema = \"firmware-profile/1\"\nid = \"acme/guest\"\nserial = 3\nroot = \"{root}\"\n\
         banks = [\"sha384\"]\n{rest}"
    )
}

fn variant(state: &str, register: u32, value: &str) -> String {
    format!(
        "[[component.variant]]\nname = \"one\"\n{state}\n\
         pcr = {{ sha384 = {{ \"{register}\" = \"{value}\" }} }}\n"
    )
}

const COMPONENT: &str = "[[component]]\nname = \"launch\"\non = [0]\n";
const ACTIVE: &str = "state = \"active\"";

#[test]
fn a_launch_digest_is_admitted_by_variant_set_and_floor_and_refused_without() {
    let Some(corpus) = corpus("snp") else { return };
    let case = corpus.join("genoa-v5");
    let folder = tempfile::tempdir().unwrap();
    let measurement = said(&case, "measurement");
    let at = said(&case, "verify_at");
    let other = "22".repeat(48);
    let judge = |text: &str, more: &[&str]| {
        fs::write(folder.path().join("p.toml"), text).unwrap();
        let (report, vek) = (case.join("report.bin"), case.join("vek.der"));
        let (report, vek) = (report.to_str().unwrap(), vek.to_str().unwrap());
        let appraise = ["appraise", "snp", "--report", report, "--vek", vek, "--at", &at];
        assay(folder.path(), &[&appraise[..], &["--profile", "p.toml"], more].concat())
    };
    let codes = |answer: &Value| -> Vec<String> {
        let reasons = answer["reasons"].as_array().unwrap().iter();
        reasons.map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
    };
    let bare = {
        let (report, vek) = (case.join("report.bin"), case.join("vek.der"));
        let (report, vek) = (report.to_str().unwrap(), vek.to_str().unwrap());
        let appraise = ["appraise", "snp", "--report", report, "--vek", vek, "--at", &at];
        codes(&assay(folder.path(), &appraise).0)
    };
    // Whatever the policy says without a profile, a fitting one adds nothing to it.
    let adds = |text: &str, more: &[&str]| -> Vec<String> {
        let (answer, _) = judge(text, more);
        let mut found = codes(&answer);
        for code in &bare {
            let at = found.iter().position(|one| one == code).unwrap();
            found.remove(at);
        }
        found
    };
    let launch = |state: &str, value: &str| {
        profile("snp", &format!("{COMPONENT}{}", variant(state, 0, value)))
    };
    let none: [&str; 0] = [];
    assert_eq!(adds(&launch(ACTIVE, &measurement), &[]), none);
    assert_eq!(adds(&launch(ACTIVE, &other), &[]), ["snp-measurement-unknown"]);
    let revoked = launch("state = \"revoked\"\nreason = \"bad\"", &measurement);
    assert_eq!(adds(&revoked, &[]), ["variant-revoked"]);
    let candidate = launch("state = \"candidate\"", &measurement);
    assert_eq!(adds(&candidate, &["--candidate", "one"]), none);
    assert_eq!(adds(&candidate, &[]).len(), 1);
    let ended = launch("state = \"retiring\"\nuntil = 2020-01-01", &measurement);
    assert_eq!(adds(&ended, &[]).len(), 1);

    let values = |values: &[&str]| {
        let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
        let set = format!("[[set]]\nname = \"good\"\nsha384 = [{}]\n", quoted.join(", "));
        let named =
            "[[component.variant]]\nname = \"any\"\nstate = \"active\"\nvalues = \"@set:good\"\n";
        profile("snp", &format!("{COMPONENT}{named}{set}"))
    };
    assert_eq!(adds(&values(&[&other, &measurement]), &[]), none);
    assert_eq!(adds(&values(&[&other]), &[]), ["snp-measurement-unknown"]);

    let floor = |floor: &str| format!("{}[[floor]]\n{floor}", launch(ACTIVE, &measurement));
    assert_eq!(adds(&floor("product = \"Genoa\"\nsnp = 1\n"), &[]), none);
    let high = adds(&floor("product = \"Genoa\"\nsnp = 255\n"), &[]);
    assert!(!high.is_empty() && high.iter().all(|code| code == "snp-tcb-below-floor"), "{high:?}");
    assert_eq!(adds(&floor("product = \"Milan\"\nsnp = 1\n"), &[]), ["product-mismatch"]);

    let tdx = profile("tdx", &format!("{COMPONENT}{}", variant(ACTIVE, 0, &measurement)));
    assert_eq!(adds(&tdx, &[]), ["profile-mismatch"]);
}

#[test]
fn a_trust_domain_is_admitted_by_mrtd_and_rtmrs_and_each_of_them_counts() {
    let Some(corpus) = corpus("tdx") else { return };
    let case = corpus.join("v4-b0c06f-uptodate");
    let folder = tempfile::tempdir().unwrap();
    let at = said(&case, "verify_at");
    let names = ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"];
    let values: Vec<String> = names.iter().map(|name| said(&case, name)).collect();
    let judge = |values: &[String]| -> Vec<(String, String)> {
        let registers: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(register, value)| format!("\"{register}\" = \"{value}\""))
            .collect();
        let text = format!(
            "[[component]]\nname = \"guest\"\non = [0, 1, 2, 3, 4]\n[[component.variant]]\n\
             name = \"one\"\n{ACTIVE}\npcr = {{ sha384 = {{ {} }} }}\n",
            registers.join(", ")
        );
        fs::write(folder.path().join("p.toml"), profile("tdx", &text)).unwrap();
        let (quote, collateral) = (case.join("quote.bin"), case.join("collateral.json"));
        let (quote, collateral) = (quote.to_str().unwrap(), collateral.to_str().unwrap());
        let appraise = ["appraise", "tdx", "--quote", quote, "--collateral", collateral];
        let (answer, _) =
            assay(folder.path(), &[&appraise[..], &["--at", &at, "--profile", "p.toml"]].concat());
        let reasons = answer["reasons"].as_array().unwrap().iter();
        let told = |reason: &Value, name: &str| reason[name].as_str().unwrap().to_owned();
        reasons
            .map(|reason| (told(reason, "code"), told(reason, "claim")))
            .filter(|(code, _)| code == "register-mismatch")
            .collect()
    };
    assert_eq!(judge(&values), []);
    for (changed, name) in names.iter().enumerate() {
        let mut values = values.clone();
        values[changed] = "33".repeat(48);
        assert_eq!(judge(&values), [("register-mismatch".to_owned(), (*name).to_owned())]);
    }
}

#[test]
fn a_predicted_launch_is_a_stanza_that_parses() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("ovmf"), firmware::Image::new().write()).unwrap();
    fs::write(at("kernel"), "a kernel").unwrap();
    fs::write(at("initrd"), "an initrd").unwrap();
    fs::write(at("cmdline"), "console=ttyS0 quiet\n").unwrap();
    let predict = ["profile", "predict", "snp", "--ovmf", "ovmf", "--vcpus", "2"];
    let direct = ["--kernel", "kernel", "--initrd", "initrd", "--cmdline", "cmdline"];
    let run = |more: &[&str]| assay(folder.path(), &[&predict[..], more].concat());
    let model = ["--vcpu-type", "EPYC-Milan"];
    let (answer, exit) = run(&[&direct[..], &model].concat());
    assert_eq!((&answer["verdict"], exit), (&json!("predicted"), 0), "{answer}");
    // As another implementation computes it: attestors/snp/tests/launch.rs.
    let known = "1bb341e04dd12617f8bb5916e08edb0b76670387a6d3a4d835bbf26b009dc48a\
        623e5483e00f2f9a8f9dd9c5201bf6e8";
    assert_eq!(answer["measurement"], known);
    let stanza = answer["stanza"].as_str().unwrap();
    let text = profile("snp", &format!("{COMPONENT}{stanza}"));
    let parsed = assay::reference::Profile::parse(&text).unwrap();
    assert_eq!(parsed.variants().count(), 1);
    assert_ne!(run(&model).0["measurement"], known);
    for (more, exit) in [
        (&["--vcpu-type", "typo"][..], 2),
        (&["--vcpu-type", "EPYC-Milan", "--guest-features", "x"], 2),
        (&["--vcpu-type", "EPYC-Milan", "--initrd", "initrd"], 2),
    ] {
        assert_eq!(run(more).1, exit, "{more:?}");
    }
    fs::write(at("ovmf"), "no firmware").unwrap();
    assert_eq!(run(&model).1, 1);
    // The other form of the command is what it was.
    assert_eq!(assay(folder.path(), &["profile", "predict"]).1, 2);
}

#[test]
fn every_report_of_the_corpus_is_shown_and_none_is_believed() {
    let mut shown = 0;
    for (kind, file, told) in [
        ("snp", "report.bin", "snp"),
        ("tdx", "quote.bin", "tdx"),
        ("nitro", "document.cbor", "nitro"),
        ("azure-vtpm", "hcl-report.bin", "hcl"),
    ] {
        let Some(corpus) = corpus(kind) else { return };
        for case in fs::read_dir(corpus).unwrap() {
            let path = case.unwrap().path().join(file);
            if !path.is_file() {
                continue;
            }
            let told = if path.to_str().unwrap().contains("sgx-v3") { "sgx" } else { told };
            let genuine = said(path.parent().unwrap(), "verdict") == "genuine";
            let (answer, exit) =
                assay(Path::new("."), &["inspect", "report", path.to_str().unwrap()]);
            if exit == 0 {
                assert_eq!(answer["kind"], told, "{}", path.display());
                assert_eq!((&answer["untrusted"], &answer["claims"]), (&json!(true), &Value::Null));
                shown += 1;
            } else {
                assert!(!genuine, "{}: {answer}", path.display());
            }
        }
    }
    println!("{shown} reports shown");
    assert!(shown > 20);
}

#[test]
fn what_is_no_report_is_refused_with_what_it_begins_with() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [&b""[..], b"HCLA", b"\x84", b"-----BEGIN", &[0; 1184], &[2; 1183]] {
        fs::write(folder.path().join("x"), bytes).unwrap();
        let (answer, exit) = assay(folder.path(), &["inspect", "report", "x"]);
        assert_eq!(exit, 1, "{answer}");
        assert!(answer["reason"].is_string() && answer["report"].is_null(), "{answer}");
    }
    assert_eq!(assay(folder.path(), &["inspect", "report", "nowhere"]).1, 2);
}
