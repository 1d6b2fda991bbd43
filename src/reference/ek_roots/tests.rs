//! The shipped packs as data, and what is refused in any pack.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use super::*;

const ALIBABA: &str =
    include_str!("../../../firmware-profiles/ek-roots/cloud-alibaba/alibaba.toml");

fn refused(text: &str) -> PackError {
    Pack::parse("cloud-alibaba", &[("a.toml", text)]).unwrap_err()
}

#[test]
fn every_shipped_pack_is_whole() {
    assert_eq!(shipped().len(), shipped::PACKS.len());
    for (name, files) in shipped::PACKS {
        let pack = Pack::parse(name, files).unwrap_or_else(|error| panic!("{error}"));
        let misfits = pack.misfits();
        assert!(misfits.is_empty(), "{misfits:#?}");
        let (roots, intermediates) = (pack.roots().count(), pack.intermediates().count());
        println!("{name}: {roots} roots, {intermediates} intermediates");
        assert!(roots > 0);
        for entry in pack.entries() {
            let (_, parsed) = X509Certificate::from_der(entry.certificate.der()).unwrap();
            assert_eq!(parsed.subject().to_string(), entry.subject, "{}", entry.place);
            assert_ne!(entry.class, TpmClass::Software, "{}", entry.place);
            assert_eq!(entry.provenance.commit.len(), 40, "{}", entry.place);
            assert!(entry.certificate.extensions().is_ca, "{}", entry.place);
        }
    }
}

#[test]
fn a_certificate_stands_in_one_pack_only() {
    let all: Vec<_> = shipped().iter().flat_map(Pack::entries).collect();
    let distinct: BTreeSet<_> = all.iter().map(|entry| entry.sha256()).collect();
    assert_eq!(all.len(), distinct.len());
    println!("{} certificates in {} packs", all.len(), shipped().len());
}

#[test]
fn the_folder_holds_what_is_built_in_and_nothing_else() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-profiles/ek-roots");
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()) {
        let files = fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        found.extend(files.map(|file| format!("{}/{}", name(&folder), name(&file))));
    }
    let files = shipped::PACKS.iter().flat_map(|(_, files)| *files);
    let built_in: BTreeSet<_> = files.map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, built_in);
}

#[test]
fn the_pack_of_vendors_holds_no_cloud() {
    let pack = named("vendors").unwrap();
    assert!(pack.roots().all(|root| root.vendor == "MSFT" || root.class != TpmClass::Vtpm));
    let vendors: BTreeSet<_> = pack.roots().map(|root| root.vendor.as_str()).collect();
    let expected = ["AMD", "IFX", "INTC", "MSFT", "NSG", "NTC", "NTZ", "STM"];
    assert_eq!(vendors, BTreeSet::from(expected));
    // No swtpm either: each makes a CA of its own.
    assert!(named("cloud-gce").unwrap().roots().all(|root| root.class == TpmClass::Vtpm));
    assert!(named("swtpm").is_none());
}

#[test]
fn a_stated_fact_that_is_not_the_certificates_is_refused() {
    assert!(Pack::parse("cloud-alibaba", &[("a.toml", ALIBABA)]).is_ok());
    let changed = ALIBABA.replace("sha256     = \"14", "sha256     = \"15");
    assert!(matches!(refused(&changed), PackError::Fingerprint { .. }));
    let changed = ALIBABA.replace("2030-12-31", "2031-12-31");
    assert!(matches!(refused(&changed), PackError::Dates { .. }));
    let changed = ALIBABA.replace("source     = \"keylime\"", "source     = \"hearsay\"");
    assert!(matches!(refused(&changed), PackError::Source { .. }));
    let changed =
        ALIBABA.replace("-----BEGIN CERTIFICATE-----\nMII", "-----BEGIN CERTIFICATE-----\nMIJ");
    assert!(matches!(refused(&changed), PackError::Certificate { .. }));
    let changed = ALIBABA.replace("pack   = \"cloud-alibaba\"", "pack   = \"vendors\"");
    assert!(matches!(refused(&changed), PackError::Value { key: "pack", .. }));
    let changed = ALIBABA.replace("ek-roots/1", "ek-roots/2");
    assert!(matches!(refused(&changed), PackError::Value { key: "schema", .. }));
    let changed = ALIBABA.replace("class      = \"vtpm\"", "class      = \"trusty\"");
    assert!(matches!(refused(&changed), PackError::Syntax { .. }));
    let changed = ALIBABA.replace("class      = \"vtpm\"\n", "");
    assert!(refused(&changed).to_string().contains("class"));
}

#[test]
fn one_certificate_twice_is_refused_with_both_places() {
    let files = [("a.toml", ALIBABA), ("b.toml", ALIBABA)];
    let fault = Pack::parse("cloud-alibaba", &files).unwrap_err().to_string();
    assert!(fault.contains("a.toml:") && fault.contains("b.toml:"), "{fault}");
}

#[test]
fn an_intermediate_without_its_root_or_of_another_class_does_not_fit() {
    let azure = shipped::PACKS.iter().find(|(name, _)| *name == "cloud-azure").unwrap().1[0].1;
    let misfit = |text: &str| {
        let pack = Pack::parse("cloud-azure", &[("a.toml", text)]).unwrap();
        pack.misfits().into_iter().map(|(_, misfit)| misfit).collect::<Vec<_>>()
    };
    assert_eq!(misfit(azure), []);
    let rootless = azure.replace("role       = \"root\"", "role       = \"intermediate\"");
    assert_eq!(misfit(&rootless), [Misfit::NoPath, Misfit::NoPath]);
    let (head, tail) = azure.rsplit_once("class      = \"vtpm\"").unwrap();
    let better = format!("{head}class      = \"discrete\"{tail}");
    let class = Misfit::Class { stated: TpmClass::Discrete, root: TpmClass::Vtpm };
    assert_eq!(misfit(&better), [class]);
}

#[test]
fn an_end_is_seen_before_it_comes() {
    let entry = &named("cloud-alibaba").unwrap().entries()[0];
    let life = |text: &str| entry.life(Time::parse_rfc3339(text).unwrap());
    assert_eq!(life("2030-01-01T00:00:00Z"), Life::Valid);
    assert_eq!(life("2030-12-01T00:00:00Z"), Life::EndsSoon);
    assert_eq!(life("2030-12-31T23:59:59Z"), Life::EndsSoon);
    assert_eq!(life("2031-01-01T00:00:00Z"), Life::Ended);
    assert_eq!(life("2001-01-01T00:00:00Z"), Life::NotYet);
}
