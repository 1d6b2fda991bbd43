//! Certificates of real vendors, where the shared corpus is at hand: `$ASSAY_CORPUS`, else
//! `../shared/corpus`. Without it these tests say that they were skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus_certificates.rs"]
mod corpus_certificates;

use std::collections::BTreeMap;
use std::path::Path;

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::certificate::Strength;
use assay_evidence::chain;
use assay_evidence::chain::Expired;
use assay_evidence::chain::Rules;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::TpmClass;
use assay_tpm::ak_certificate;
use assay_tpm::endorsement;
use corpus_certificates::at;
use corpus_certificates::certificates;
use corpus_certificates::corpus;
use corpus_certificates::issuers;
use corpus_certificates::read;

/// What a case of the corpus says of itself.
fn table(folder: &Path) -> toml::Table {
    String::from_utf8(read(folder.join("case.toml"))).unwrap().parse().unwrap()
}

fn text<'a>(table: &'a toml::Table, key: &str) -> &'a str {
    table.get(key).and_then(toml::Value::as_str).unwrap_or_default()
}

#[test]
fn every_case_of_the_corpus_gets_its_verdict() {
    let Some(folder) = corpus() else { return };
    let mut cases: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let (mut right, mut left_out) = (0, Vec::new());
    for path in &cases {
        let case = table(path);
        let (name, format) = (text(&case, "id"), text(&case, "format"));
        let found = match format {
            "ek-cert" => {
                let rules = Rules::at(at(text(&case, "verify_at")));
                let anchors = corpus_certificates::anchors(name);
                endorsement::verify_file(&rules, &read(path.join("ek.der")), None, &[], &anchors)
                    .map(|_| ())
                    .map_err(|faults| faults[0].reason().to_string())
            }
            "ak-cert" => {
                let leaf = Certificate::parse(&read(path.join("ak.der"))).unwrap();
                let issuers = issuers(name);
                let root = std::slice::from_ref(issuers.last().unwrap());
                ak_certificate::verify(&leaf, &issuers, root, at(text(&case, "verify_at")))
                    .map(|_| ())
                    .map_err(|fault| fault.reason().to_string())
            }
            "ca" | "ca-set" => {
                assert!(!certificates(path).is_empty(), "{name}");
                Ok(())
            }
            _ => {
                left_out.push(name.to_owned());
                continue;
            }
        };
        let expected = match text(&case, "verdict") {
            "genuine" => Ok(()),
            _ => Err(text(&case, "reason").to_owned()),
        };
        assert_eq!(found, expected, "{name}");
        right += 1;
    }
    println!("ek-certs: {right} of {} cases, left out by name: {left_out:?}", cases.len());
    assert_eq!(right + left_out.len(), cases.len());
    assert_eq!(left_out, ["platform-intel-nuc"], "an attribute certificate is of no key");
}

#[test]
fn every_vendor_authority_is_signed_by_the_one_that_the_corpus_names() {
    let Some(folder) = corpus() else { return };
    let sets = ["vendor-roots", "vendor-intermediates"].map(|set| folder.join(set));
    let all: BTreeMap<String, Certificate> = sets
        .iter()
        .flat_map(|set| certificates(set))
        .map(|certificate| (hex::encode(certificate.sha256()), certificate))
        .collect();
    let (mut signed, mut sha1, mut nobody) = (0, 0, Vec::new());
    for set in &sets {
        let case = table(set);
        for claim in case["claims"]["certs"].as_array().unwrap() {
            let claim = claim.as_table().unwrap();
            let certificate = &all[text(claim, "sha256")];
            let Some(issuer) = all.get(text(claim, "issuer_sha256")) else {
                nobody.push(text(claim, "subject").to_owned());
                continue;
            };
            let key = issuer.public_key().unwrap();
            match certificate.verify_signature_also_sha1(key).unwrap() {
                Strength::Sound => assert_eq!(certificate.verify_signature(key), Ok(())),
                Strength::Sha1 => {
                    sha1 += 1;
                    assert!(certificate.verify_signature(key).is_err());
                }
            }
            // No other key of the pack but a copy of the same one signed it.
            let others = all.values().filter(|other| other.public_key() != Ok(key));
            let by_another = others
                .filter_map(|other| other.public_key().ok())
                .find(|other| certificate.verify_signature_also_sha1(other).is_ok());
            assert_eq!(by_another, None);
            signed += 1;
        }
    }
    println!("vendors: {signed} of {} signatures hold, {sha1} over SHA-1", all.len());
    println!("issuer not in the corpus: {nobody:#?}");
    assert_eq!(signed + nobody.len(), all.len());
}

#[test]
fn every_vendor_ca_certificate_is_read_and_leads_to_a_root() {
    let Some(folder) = corpus() else { return };
    let roots = certificates(&folder.join("vendor-roots"));
    let intermediates = certificates(&folder.join("vendor-intermediates"));
    assert_eq!((roots.len(), intermediates.len()), (26, 75));
    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    for leaf in &intermediates {
        // On its first day, when those above it were valid too.
        let path = chain::verify(leaf, &intermediates, &roots, leaf.not_before());
        let path = path.unwrap_or_else(|fault| panic!("{:?}: {fault}", leaf.subject_common_name()));
        *lengths.entry(path.certificates().len()).or_default() += 1;
    }
    println!("vendor intermediates: 75 of 75 lead to a root, by length of the path {lengths:?}");
    let all = roots.iter().chain(&intermediates);
    let faults: Vec<_> = all.filter_map(Certificate::key_fault).collect();
    assert_eq!(faults, [], "keys of real vendors");
}

/// Name, time, expected manufacturer.
const GENUINE: [(&str, &str, &str); 6] = [
    ("gce-rsa", "2023-10-07T20:28:50Z", "id:474F4F47"),
    ("intel-epid", "2016-05-21T00:00:00Z", "id:494E5443"),
    ("nuvoton-unordered-set", "2022-11-07T06:42:51Z", "id:4E544300"),
    ("stm-ecc", "2019-07-26T00:00:00Z", "id:53544D20"),
    ("stm-nv-prefix", "2015-02-23T00:00:00Z", "id:53544D20"),
    ("stm-rsa-oaep-sha1", "2015-02-22T00:00:00Z", "id:53544D20"),
];

#[test]
fn genuine_endorsement_certificates_lead_to_their_vendor() {
    let Some(folder) = corpus() else { return };
    for (case, time, manufacturer) in GENUINE {
        let (anchors, file) =
            (corpus_certificates::anchors(case), folder.join(case).join("ek.der"));
        let rules = Rules::at(at(time));
        let found = endorsement::verify_file(&rules, &read(&file), None, &[], &anchors);
        let found = found.unwrap_or_else(|faults| panic!("{case}: {faults:?}"));
        assert_eq!(found.device().manufacturer, manufacturer, "{case}");
        let codes: Vec<_> = found.warnings().iter().map(|warning| warning.code).collect();
        assert!(codes.iter().all(|&code| code == Reason::CertSignatureWeak), "{case}: {codes:?}");
        println!("{case}: genuine, {} warnings of SHA-1", codes.len());

        // The day before its first and the day after its last.
        let certificate = found.certificate();
        for outside in [
            Time::from_unix_s(certificate.not_before().unix_s() - 1),
            Time::from_unix_s(certificate.not_after().unix_s() + 1),
        ] {
            let mut rules = Rules::at(outside);
            let refused = endorsement::verify_file(&rules, &read(&file), None, &[], &anchors);
            assert_eq!(refused.unwrap_err()[0].reason(), Reason::EkExpired, "{case}");
            rules.expired = Expired::Warn;
            let warned = endorsement::verify_file(&rules, &read(&file), None, &[], &anchors);
            let warned = warned.unwrap().warnings();
            assert!(warned.iter().any(|warning| warning.code == Reason::EkExpired), "{case}");
        }
        // Without the vendor's root nothing vouches for it.
        let nobody = Anchors::new(vec![], issuers(case));
        let refused =
            endorsement::verify_file(&Rules::at(at(time)), &read(&file), None, &[], &nobody);
        assert_eq!(refused.unwrap_err()[0].reason(), Reason::EkChainUntrusted, "{case}");
    }
    println!("ek-certs: {} of {} genuine endorsement certificates", GENUINE.len(), GENUINE.len());
}

#[test]
fn a_software_tpm_is_of_no_vendor() {
    let Some(folder) = corpus() else { return };
    let anchors = corpus_certificates::anchors("gce-rsa");
    let rules = Rules::at(at("2022-04-09T12:40:25Z"));
    let file = read(folder.join("swtpm-localca/ek.der"));
    let refused = endorsement::verify_file(&rules, &file, None, &[], &anchors).unwrap_err();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason(), Reason::EkChainUntrusted);
}

#[test]
fn a_certificate_of_an_attestation_key_is_none_of_an_endorsement_key() {
    let Some(folder) = corpus() else { return };
    let issuers = issuers("azure-ak-cert");
    let root = issuers.last().unwrap().clone();
    let file = read(folder.join("azure-ak-cert/ak.der"));
    let time = at("2026-08-01T00:00:00Z");
    let leaf = Certificate::parse(&file).unwrap();
    assert!(chain::verify(&leaf, &issuers, std::slice::from_ref(&root), time).is_ok());
    assert!(ak_certificate::verify(&leaf, &issuers, std::slice::from_ref(&root), time).is_ok());
    let root = EkRoot { certificate: root, class: TpmClass::Vtpm };
    let anchors = Anchors::new(vec![root], issuers);
    let refused = endorsement::verify_file(&Rules::at(time), &file, None, &[], &anchors);
    assert_eq!(refused.unwrap_err()[0].reason(), Reason::EkProfile);
}

#[test]
fn the_authorities_of_the_clouds_and_of_windows_hold_together() {
    let Some(folder) = corpus() else { return };
    let mut paths = 0;
    for (case, pairs) in [
        (
            "gce-ca",
            &[
                ("gce-ek-int-2", "gce-ek-root-1"),
                ("gce-ek-int-3", "gce-ek-root-1"),
                ("gce-ek-ak-int-v3", "gce-ek-ak-root"),
            ][..],
        ),
        ("azure-vtpm-ca", &[("cmcp-bundle-0", "azure-vtpm-root-2023")]),
    ] {
        let one = |name: &str| {
            Certificate::parse(&read(folder.join(case).join(format!("{name}.der")))).unwrap()
        };
        for (below, above) in pairs {
            let (below, above) = (one(below), one(above));
            assert!(chain::verify(&below, &[], &[above], below.not_before()).is_ok(), "{case}");
            paths += 1;
        }
    }
    let root = read(folder.join("ms-tpm-root-2014/ms-tpm-root-2014.der"));
    let root = Certificate::parse(&root).unwrap();
    assert_eq!(root.verify_signature(root.public_key().unwrap()), Ok(()));
    println!("authorities of clouds: {paths} of {paths} paths hold");
}

#[test]
fn an_attribute_certificate_is_no_certificate_of_a_key() {
    let Some(folder) = corpus() else { return };
    // `platform-intel-nuc` is left out of the count by name: nothing here reads its kind.
    let file = read(folder.join("platform-intel-nuc/platform.der"));
    let refused = endorsement::certificate_in_file(&file).unwrap_err();
    assert_eq!(refused.reason(), Reason::EkCertMalformed);
}
