//! HCL reports of real VMs: the binding, the SNP report behind it, and the TPM quote by its key.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../snp/tests/support/corpus.rs"]
mod corpus;

use assay_evidence::HashAlgorithm;
use assay_hcl::Bound;
use assay_hcl::Hardware;
use assay_hcl::HclReport;
use assay_snp::Anchors;
use assay_tpm::ProvedKey;
use assay_tpm::verify::Selection;
use assay_tpm::verify::Signed;
use assay_tpm::verify::UnknownParent;
use corpus::Case;

#[test]
fn every_report_is_bound_and_says_what_is_known_of_it() {
    let (mut reports, mut linked) = (0, 0);
    for case in corpus::cases("azure-vtpm") {
        let bytes = case.file("hcl-report").unwrap();
        let report = HclReport::parse(&bytes).unwrap();
        let hardware = report.hardware;
        let bound = report.bound().unwrap();
        same_claims(&case, &bound);
        if let Hardware::SnpReport(report) = hardware {
            let vek = case.file("vek").unwrap();
            let evidence =
                assay_snp::Evidence { report, vek: Some(&vek), ..assay_snp::Evidence::default() };
            let expected = Some(bound.report_data());
            let verified = assay_snp::verify(&evidence, &Anchors::amd(), expected, case.at());
            assert_eq!(verified.is_ok(), case.authentic(), "{}", case.id);
            if let Err(faults) = verified {
                assert!(case.reasons().contains(&faults.reason().code()), "{}: {faults}", case.id);
            }
        }
        linked += usize::from(quote_by_the_bound_key(&case, &bound));
        reports += 1;
    }
    println!("{reports} of {reports} reports bound, {linked} with a TPM quote by the bound key");
}

fn same_claims(case: &Case, bound: &Bound) {
    let written = serde_json::to_value(bound).unwrap();
    for name in ["hardware_report", "var_data_bound", "key_ids", "user_data", "vm_configuration"] {
        let Some(expected) = case.claims().get(name) else { continue };
        let expected = serde_json::to_value(expected).unwrap();
        assert_eq!(written[name], expected, "{}: {name}", case.id);
    }
}

fn quote_by_the_bound_key(case: &Case, bound: &Bound) -> bool {
    let (Some(attest), Some(bare)) = (case.file("attest"), case.file("signature")) else {
        return false;
    };
    // RSASSA with SHA-256; the frame of the signature was dropped by the collector.
    let signature = [&[0x00, 0x14, 0x00, 0x0b, 0x01, 0x00][..], &bare].concat();
    let key = ProvedKey::enrolled_bare(bound.ak().clone()).unwrap();
    let nonce = hex::decode(case.claims()["extra_data"].as_str().unwrap()).unwrap();
    let evidence = assay_tpm::Evidence {
        quote: Signed::from_files(&attest, &signature),
        certify: None,
        svid_public: None,
        values: None,
    };
    let expected = assay_tpm::Expected {
        qualifying_data: &nonce,
        selection: Selection::AtLeast { required: &[], min_bank: HashAlgorithm::Sha256 },
        svid_spki: None,
        min_hash: HashAlgorithm::Sha256,
        unknown_parent: UnknownParent::Report,
    };
    assay_tpm::verify(&evidence, &key, &expected)
        .unwrap_or_else(|error| panic!("{}: {error}", case.id));
    true
}
