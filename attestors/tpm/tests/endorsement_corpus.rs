//! Certificates of real vendors, where the shared corpus is at hand: `$ASSAY_CORPUS`, else
//! `../shared/corpus`. Without it these tests say that they were skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus_certificates.rs"]
mod corpus_certificates;

use std::collections::BTreeMap;

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::Time;
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

#[test]
fn every_vendor_ca_certificate_is_read_and_the_pack_signs_itself() {
    let Some(folder) = corpus() else { return };
    let roots = certificates(&folder.join("vendor-roots"));
    let intermediates = certificates(&folder.join("vendor-intermediates"));
    assert_eq!((roots.len(), intermediates.len()), (26, 75));
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut alone = Vec::new();
    for leaf in &intermediates {
        // On its first day, when those above it were valid too.
        match chain::verify(leaf, &intermediates, &roots, leaf.not_before()) {
            Ok(path) if path.weak_signature() => {
                *kinds.entry("with a SHA-1 signature").or_default() += 1
            }
            Ok(_) => *kinds.entry("without a warning").or_default() += 1,
            Err(fault) => alone.push(format!("{:?}: {fault}", leaf.subject_common_name())),
        }
    }
    println!("vendor intermediates: {kinds:?}; issuer not in the corpus: {alone:#?}");
    assert!(alone.is_empty(), "{alone:#?}");
    let self_signed = |root: &&Certificate| {
        let key = root.public_key().unwrap();
        root.verify_signature_also_sha1(key).is_ok()
    };
    let others: Vec<_> = roots.iter().filter(|root| !self_signed(root)).collect();
    let names: Vec<_> = others.iter().filter_map(|root| root.subject_common_name()).collect();
    println!("roots that did not sign themselves: {names:?}");
    assert_eq!(others.len(), 3, "AMD's Pluton factory and two of STM below GlobalSign's");
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
