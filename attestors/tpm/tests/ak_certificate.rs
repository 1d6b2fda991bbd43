//! Certificates of attestation keys: believed up to a given root, of this very key, or refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/issuer.rs"]
mod issuer;
#[path = "support/vectors.rs"]
mod vectors;

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::chain::Rules;
use assay_tpm::AkCertificate;
use assay_tpm::Error;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::Trust;
use assay_tpm::ak_certificate;
use issuer::Extension;
use issuer::Issuer;
use vectors::NOW;
use vectors::Shown;
use vectors::ak;
use vectors::expected;
use vectors::read;

fn verified(
    certificate: &Certificate,
    roots: &[Certificate],
    now: Time,
) -> Result<AkCertificate, Error> {
    ak_certificate::verify(certificate, &[], roots, now)
}

fn reason<T>(result: Result<T, Error>) -> Reason {
    let error = result.err().expect("it should have been refused");
    let finding = error.finding();
    assert!(!finding.claim.is_empty() && !finding.found.is_empty());
    error.reason()
}

fn spki(kind: &str) -> Vec<u8> {
    Public::parse(&read(&format!("ak-{kind}.public"))).unwrap().spki_der()
}

#[test]
fn a_quote_is_believed_for_the_certificate_of_its_key() {
    let ca = Issuer::new("attestation CA");
    let usages = [Extension::tcg_usage(3), Extension::key_usage(0x80)];
    for extensions in [&usages[..], &usages[..1], &[]] {
        for kind in ["p256", "p384", "rsapss"] {
            let certificate = ca.issue(&spki(kind), extensions);
            let found = verified(&certificate, &[ca.root()], NOW).unwrap();
            assert_eq!(found.root_sha256(), &ca.root().sha256());

            let key = ak(kind).certified_by(&found).unwrap();
            let shown = Shown::quote(&format!("quote-{kind}"));
            let claims = shown.verify(&key, &expected()).unwrap();
            assert_eq!(claims.ak_trust(), Trust::Certificate);
            assert!(claims.not_checked().is_empty());
            let json = serde_json::to_value(&claims).unwrap();
            assert_eq!(json["ak"]["trust"], "certificate");
            assert_eq!(json["ak"]["root_sha256"], hex::encode(ca.root().sha256()));

            // With nothing but the certificate the attributes stay unknown, and that is said.
            let bare = ProvedKey::certified(&found).unwrap();
            let claims = shown.verify(&bare, &expected()).unwrap();
            assert_eq!(claims.not_checked().len(), 2);
        }
    }
}

#[test]
fn a_certificate_of_another_key_is_no_reason_to_believe() {
    let ca = Issuer::new("attestation CA");
    let other = ca.issue(&spki("p256-da"), &[Extension::tcg_usage(3)]);
    let other = verified(&other, &[ca.root()], NOW).unwrap();
    assert_eq!(reason(ak("p256").certified_by(&other)), Reason::AkNotCertified);
    // The quote is then one by a key that the certificate does not name.
    let bare = ProvedKey::certified(&other).unwrap();
    let refused = Shown::quote("quote-p256").verify(&bare, &expected());
    assert_eq!(reason(refused), Reason::SigInvalid);
}

#[test]
fn a_certificate_by_nobody_who_counts_is_refused() {
    let (ca, stranger) = (Issuer::new("attestation CA"), Issuer::new("attestation CA"));
    let certificate = ca.issue(&spki("p256"), &[Extension::tcg_usage(3)]);
    assert_eq!(reason(verified(&certificate, &[stranger.root()], NOW)), Reason::AkNotCertified);
    assert_eq!(reason(verified(&certificate, &[], NOW)), Reason::AkNotCertified);
    let early = Time::from_unix_s(0);
    assert_eq!(reason(verified(&certificate, &[ca.root()], early)), Reason::AkNotCertified);
    assert!(verified(&certificate, &[ca.root()], NOW).is_ok());
}

#[test]
fn a_certificate_for_another_use_is_refused() {
    let ca = Issuer::new("attestation CA");
    for extensions in [
        vec![Extension::tcg_usage(1)],
        vec![Extension::tcg_usage(2)],
        vec![Extension::tcg_usage(3), Extension::ca()],
        vec![Extension::tcg_usage(3), Extension::key_usage(0x20)],
        // A critical extension that nobody knows.
        vec![Extension(&[0x2a, 3, 4], true, vec![0x05, 0x00])],
    ] {
        let certificate = ca.issue(&spki("p256"), &extensions);
        assert_eq!(reason(verified(&certificate, &[ca.root()], NOW)), Reason::AkNotCertified);
    }
}

#[test]
fn all_faults_of_a_certificate_are_told_its_profile_first() {
    let (ca, stranger) = (Issuer::new("attestation CA"), Issuer::new("attestation CA"));
    let certificate = ca.issue(&spki("p256"), &[Extension::tcg_usage(1)]);
    let rules = Rules::at(NOW);
    let roots = [stranger.root()];
    let faults = ak_certificate::verify_by(&rules, &certificate, &[], &roots).unwrap_err();
    assert!(matches!(faults[0], Error::AkProfile(_)), "{faults:?}");
    assert!(faults.len() > 1 && matches!(faults[1], Error::AkChain(_)), "{faults:?}");

    let certificate = ca.issue(&spki("p256"), &[]);
    let found = ak_certificate::verify_by(&rules, &certificate, &[], &[ca.root()]).unwrap();
    assert!(found.not_checked().iter().any(|text| text.starts_with("revocation")));
}

#[test]
fn no_bit_of_a_certificate_can_be_changed() {
    let ca = Issuer::new("attestation CA");
    let roots = [ca.root()];
    let genuine = ca.issue(&spki("p256"), &[Extension::tcg_usage(3)]).der().to_vec();
    let mut changed = genuine.clone();
    let mut tried = 0;
    for place in 0..changed.len() {
        for bit in 0..8 {
            changed[place] ^= 1 << bit;
            let accepted = Certificate::parse(&changed)
                .is_ok_and(|certificate| verified(&certificate, &roots, NOW).is_ok());
            assert!(!accepted, "{place}.{bit}");
            tried += 1;
            changed[place] ^= 1 << bit;
        }
    }
    eprintln!("{tried} changed bits, 0 accepted");
}
