//! Genuine evidence of a real (software) TPM is accepted, and its claims say what was signed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/vectors.rs"]
mod vectors;

use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::crypto;
use assay_tpm::Expected;
use assay_tpm::Hierarchy;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::Trust;
use assay_tpm::verify::Selection;
use assay_tpm::verify::Signed;
use assay_tpm::verify::UnknownParent;
use assay_tpm::verify_certify;
use vectors::NONCE;
use vectors::SELECTION;
use vectors::Shown;
use vectors::ak;
use vectors::expected;
use vectors::read;
use vectors::svid_spki;

#[test]
fn quotes_by_every_accepted_kind_of_key_are_genuine() {
    for kind in ["p256", "p256-da", "p384", "rsassa", "rsapss"] {
        let shown = Shown::quote(&format!("quote-{kind}"));
        let claims = shown.verify(&ak(kind), &expected()).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(claims.ak_trust(), Trust::Caller);
        assert!(claims.not_checked().is_empty());
        assert!(claims.warnings().is_empty());
    }
}

#[test]
fn the_claims_are_what_the_tpm_measured() {
    let claims = Shown::quote("quote-p256").verify(&ak("p256"), &expected()).unwrap();
    // PCR_Event extends every bank by its own hash of the data.
    let once = |data: &[u8]| crypto::sha256(&[&[0; 32][..], &crypto::sha256(data)].concat());
    let value = |register| claims.registers().value(HashAlgorithm::Sha256, register).unwrap();
    assert_eq!(value(0).as_bytes(), once(b"firmware"));
    assert_eq!(value(8).as_bytes(), once(b"kernel command line"));
    assert_eq!(value(15).as_bytes(), [0; 32]);
    assert!(claims.registers().value(HashAlgorithm::Sha1, 0).is_some());
    assert_eq!(claims.banks_off(), [HashAlgorithm::Sha384, HashAlgorithm::Sha512]);
    assert_eq!(claims.signature_hash(), HashAlgorithm::Sha256);
    assert!(claims.certified_key().is_none());
}

#[test]
fn a_certified_svid_key_dies_with_the_boot() {
    let spki = svid_spki();
    let shown = Shown::with_svid_key();
    let claims = shown.verify(&ak("p256"), &expected().certifying(&spki)).unwrap();
    let key = claims.certified_key().unwrap();
    assert_eq!(key.hierarchy(), Some(Hierarchy::Null));
    assert_eq!(key.spki_der(), spki);
    assert_eq!(key.clock().reset_count, claims.clock().reset_count);
    key.accept_as_issuing_key().unwrap();
}

#[test]
fn a_certification_by_itself_tells_where_the_key_lives() {
    for (place, hierarchy) in [("svid", Hierarchy::Null), ("svid-owner", Hierarchy::Owner)] {
        let (certify, public) =
            (read(&format!("{place}.certify")), read(&format!("{place}.public")));
        let certify = Signed::from_item(&certify).unwrap();
        let min_hash = HashAlgorithm::Sha256;
        let key =
            verify_certify(certify, &public, &ak("p256"), &NONCE, min_hash, UnknownParent::Refuse);
        let certified = key.unwrap();
        assert_eq!(certified.certified_key().hierarchy(), Some(hierarchy));
        assert!(certified.not_checked().is_empty());
    }
}

#[test]
fn a_child_of_the_endorsement_key_needs_that_key_beside_it() {
    let shown = Shown::quote("quote-child");
    let ek = Public::parse(&read("ek-p256.public")).unwrap();
    shown.verify(&ak("child").beside(&ek), &expected()).unwrap();

    let lenient = Expected { unknown_parent: UnknownParent::Report, ..expected() };
    let claims = shown.verify(&ak("child"), &lenient).unwrap();
    assert_eq!(claims.not_checked().len(), 1);
    assert!(claims.not_checked()[0].starts_with("hierarchy:"));
}

#[test]
fn a_bare_key_leaves_attributes_and_hierarchy_unchecked() {
    let spki = Public::parse(&read("ak-p256.public")).unwrap().spki_der();
    let key = ProvedKey::enrolled_bare(PublicKey::from_spki(&spki).unwrap()).unwrap();
    let claims = Shown::quote("quote-p256").verify(&key, &expected()).unwrap();
    assert_eq!(claims.ak_name(), None);
    assert_eq!(claims.not_checked().len(), 2);
}

#[test]
fn without_values_the_digest_alone_is_a_claim() {
    let mut shown = Shown::quote("quote-p256");
    shown.pcrs = None;
    let selection = Selection::AtLeast { required: &[], min_bank: HashAlgorithm::Sha256 };
    let claims = shown.verify(&ak("p256"), &Expected { selection, ..expected() }).unwrap();
    assert!(claims.registers().is_empty());
    assert!(claims.not_checked()[0].starts_with("registers:"));
}

#[test]
fn files_may_hold_a_statement_with_or_without_its_size() {
    let item = read("quote-p256");
    let whole = Signed::from_item(&item).unwrap();
    let sized = &item[..2 + whole.attest.len()];
    assert_eq!(Signed::from_files(sized, whole.signature), whole);
    assert_eq!(Signed::from_files(whole.attest, whole.signature), whole);
}

#[test]
fn a_signature_is_claimed_with_the_registers_as_json() {
    let spki = svid_spki();
    let shown = Shown::with_svid_key();
    let claims = shown.verify(&ak("p256"), &expected().certifying(&spki)).unwrap();
    let json = serde_json::to_value(&claims).unwrap();
    assert_eq!(json["signature_hash"], "sha256");
    assert_eq!(json["ak"]["trust"], "caller");
    assert_eq!(json["banks_off"], serde_json::json!(["sha384", "sha512"]));
    assert_eq!(json["registers"]["sha256"]["15"], "00".repeat(32));
    assert_eq!(json["certified_key"]["hierarchy"], "null");
    assert!(json["clock"]["clock"].is_string());
    assert_eq!(SELECTION.len(), 4);
}
