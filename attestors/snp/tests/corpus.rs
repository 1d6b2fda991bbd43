//! Reports of real machines: verdict, reason and claims under the default strict policy, and what
//! happens to each of them when a bit, a length or a companion changes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus.rs"]
mod corpus;

use assay_snp::Anchors;
use assay_snp::Claims;
use assay_snp::Evidence;
use assay_snp::Faults;
use assay_snp::Policy;
use assay_snp::verify;
use corpus::Case;
use serde_json::Value;

fn judge(case: &Case, anchors: &Anchors, report: &[u8]) -> Result<Claims, Faults> {
    let vek = case.file("vek");
    let evidence = Evidence { report, vek: vek.as_deref(), ..Evidence::default() };
    verify(&evidence, anchors, None, case.at())
}

#[test]
fn every_report_gets_its_verdict_and_its_claims() {
    let (mut reports, mut certificates) = (0, 0);
    for case in corpus::cases("snp") {
        let Some(report) = case.file("report") else {
            certificates += certificate_case(&case);
            continue;
        };
        let verified = judge(&case, &Anchors::amd(), &report);
        assert_eq!(verified.is_ok(), case.authentic(), "{}: {verified:?}", case.id);
        let found = match &verified {
            Err(faults) => faults.reason().code(),
            Ok(claims) => assay_snp::appraise(claims, &Policy::default())
                .first()
                .map_or("", |finding| finding.code.code()),
        };
        assert!(case.reasons().contains(&found), "{}: {found}", case.id);
        assert_eq!(found.is_empty(), case.text("verdict") == "genuine", "{}: {found}", case.id);
        if let Ok(claims) = verified {
            same_claims(&case, &claims);
        }
        reports += 1;
    }
    println!("{reports} of {reports} reports, {certificates} certificates");
}

/// Cases with nothing but certificates of signing keys.
fn certificate_case(case: &Case) -> usize {
    let files = case.files("vek");
    for file in &files {
        let vek = verify::verify_vek(file, &[], None, &Anchors::amd(), case.at());
        let vek = vek.unwrap_or_else(|faults| panic!("{}: {faults}", case.id));
        let claims = case.claims();
        assert_eq!(Some(vek.product.as_str()), claims["product"].as_str());
        let spl = vek.tcb.write(vek.product).to_string();
        assert_eq!(Some(spl.as_str()), claims["vek_spl"].as_str(), "{}", case.id);
        let id = claims.get("hwid").and_then(toml::Value::as_str);
        assert_eq!(vek.hardware_id.map(hex::encode).as_deref(), id, "{}", case.id);
    }
    files.len()
}

/// Each claim that the corpus knows for sure, by its name in the written form.
fn same_claims(case: &Case, claims: &Claims) {
    let written = serde_json::to_value(claims).unwrap();
    for (name, expected) in case.claims() {
        let found = &written[name];
        let same = match expected {
            toml::Value::Integer(number) => found.as_i64() == Some(*number),
            toml::Value::Boolean(flag) => found.as_bool() == Some(*flag),
            toml::Value::String(text) if text == "no HWID in VLEK" => found.is_null(),
            toml::Value::String(text) if name.starts_with("vek_not_") => {
                // Seconds with an offset there, milliseconds here.
                found.as_str().unwrap().starts_with(&text[..19].replace(' ', "T"))
            }
            toml::Value::String(text) => found.as_str() == Some(text),
            _ => false,
        };
        assert!(same, "{}: {name}: {found} where {expected} is right", case.id);
    }
    assert_ne!(written, Value::Null);
}

#[test]
fn a_host_table_is_as_good_as_the_certificates_one_by_one() {
    let mut tables = 0;
    for case in corpus::cases("snp") {
        let Some(table) = case.file("host-cert-table") else { continue };
        let report = case.file("report").unwrap();
        let evidence =
            Evidence { report: &report, host_certificates: Some(&table), ..Evidence::default() };
        let anchors = Anchors::amd();
        verify(&evidence, &anchors, None, case.at()).unwrap();
        for end in 0..table.len() {
            let cut = Evidence { host_certificates: Some(&table[..end]), ..evidence };
            assert!(verify(&cut, &anchors, None, case.at()).is_err(), "{}: {end}", case.id);
        }
        tables += 1;
    }
    println!("{tables} host tables, each cut at every length");
}

#[test]
fn amds_whole_set_is_a_chain_and_another_products_is_none() {
    let Some(folder) = corpus::folder("snp") else { return };
    let read = |name: &str| std::fs::read(folder.join("snp-amd-ca").join(name)).unwrap();
    let names = ["ark", "ask", "asvk"];
    let set = |product: &str| names.map(|name| read(&format!("{product}-{name}.der")));
    let products = ["milan", "genoa", "turin"];
    let mut refused = 0;
    for case in corpus::cases("snp") {
        let (Some(report), Some(vek), true) =
            (case.file("report"), case.file("vek"), case.authentic())
        else {
            continue;
        };
        let judge = |chain: &[&[u8]]| {
            let (report, vek) = (report.as_slice(), Some(vek.as_slice()));
            let evidence = Evidence { report, vek, chain, ..Evidence::default() };
            verify(&evidence, &Anchors::amd(), None, case.at())
        };
        let all: Vec<_> = products.iter().flat_map(|product| set(product)).collect();
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let claims = judge(&all).unwrap();
        let own = claims.product().as_str().to_lowercase();
        for product in products.into_iter().filter(|product| *product != own) {
            let other = set(product);
            let other: Vec<&[u8]> = other.iter().map(Vec::as_slice).collect();
            assert_eq!(judge(&other).unwrap_err().reason().code(), "product-mismatch");
            refused += 1;
        }
        // The issuer of the other kind of key.
        let kind = claims.signing_key().as_str();
        let other = if kind == "VCEK" { "asvk" } else { "ask" };
        let found = judge(&[&read(&format!("{own}-{other}.der"))]).unwrap_err();
        assert_eq!(found.reason().code(), "vek-wrong-issuer");
        refused += 1;
    }
    println!("{refused} wrong chains refused");
}

#[test]
fn no_other_bit_and_no_other_length_is_accepted() {
    let (mut reports, mut flips, mut lengths) = (0_u32, 0_u32, 0_u32);
    for case in corpus::cases("snp") {
        let Some(report) = case.file("report") else { continue };
        let anchors = Anchors::amd();
        if judge(&case, &anchors, &report).is_err() {
            continue;
        }
        reports += 1;
        let mut changed = report.clone();
        for place in 0..report.len() {
            for bit in 0..8 {
                changed[place] ^= 1 << bit;
                let verdict = judge(&case, &anchors, &changed);
                assert!(verdict.is_err(), "{}: byte {place:#x}, bit {bit}", case.id);
                changed[place] ^= 1 << bit;
                flips += 1;
            }
        }
        for end in 0..report.len() {
            let faults = judge(&case, &anchors, &report[..end]).unwrap_err();
            assert_eq!(faults.reason().code(), "report-length");
            lengths += 1;
        }
        for more in 1..=64 {
            for filler in [0x00, 0xff] {
                let longer = [report.as_slice(), &vec![filler; more]].concat();
                let faults = judge(&case, &anchors, &longer).unwrap_err();
                assert_eq!(faults.reason().code(), "report-length");
                lengths += 1;
            }
        }
    }
    println!("{reports} genuine reports: {flips} flips and {lengths} lengths, none accepted");
}
