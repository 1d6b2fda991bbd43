//! Certificates of attestation keys: believed up to a given root, of this very key, or refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "../examples/zoo_parts/der.rs"]
mod der;
#[path = "support/issuer.rs"]
mod issuer;
#[allow(dead_code)]
#[path = "../examples/zoo_parts/rsa.rs"]
mod rsa;
#[path = "support/vectors.rs"]
mod vectors;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::RevocationList;
use assay_evidence::Time;
use assay_evidence::chain::Expired;
use assay_evidence::chain::Lists;
use assay_evidence::chain::Rules;
use assay_tpm::AkAnchors;
use assay_tpm::AkCertificate;
use assay_tpm::Error;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::TpmClass;
use assay_tpm::Trust;
use assay_tpm::ak_certificate;
use assay_tpm::verify::Signed;
use issuer::Extension;
use issuer::Issuer;
use rsa::Hash;
use rsa::RsaKey;
use vectors::NONCE;
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
    for text in [&finding.claim, &finding.found, &finding.expected, &finding.source] {
        assert!(!text.is_empty(), "{finding:?}");
    }
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

/// A CA of old: what it signs over SHA-1, a certificate or a list, is believed and told.
struct OldCa {
    key: RsaKey,
    name: Vec<u8>,
    algorithm: Vec<u8>,
}

impl OldCa {
    fn new() -> OldCa {
        let algorithm = der::sequence(&[&der::oid(Hash::Sha1.pkcs1()), &der::tlv(5, &[])]);
        let name = issuer::common_name("old CA");
        OldCa { key: RsaKey::generate("root", 2048), name, algorithm }
    }

    fn sign(&self, body: &[u8]) -> Vec<u8> {
        issuer::signed(body, &self.algorithm, &self.key.sign(Hash::Sha1, body))
    }

    fn issue(&self, subject: &[u8], spki: &[u8], extensions: &[Extension]) -> Certificate {
        let (algorithm, name) = (&self.algorithm, &self.name);
        let body = issuer::certificate_body(algorithm, name, subject, spki, extensions);
        Certificate::parse(&self.sign(&body)).unwrap()
    }

    fn root(&self) -> Certificate {
        let spki = self.key.spki_with(65_537);
        self.issue(&self.name, &spki, &[Extension::ca(), Extension::key_usage(0x06)])
    }

    fn list(&self) -> RevocationList {
        let time = |text: &[u8]| issuer::der(0x17, &[text]);
        let (from, to) = (time(b"200101000000Z"), time(b"491231000000Z"));
        let version = issuer::der(0x02, &[&[1]]);
        let body = issuer::der(0x30, &[&version, &self.algorithm, &self.name, &from, &to]);
        RevocationList::parse(&self.sign(&body)).unwrap()
    }
}

#[test]
fn all_that_an_old_ca_signed_over_sha1_is_told_beside_the_quote() {
    let ca = OldCa::new();
    let (roots, lists) = ([ca.root()], [ca.list()]);
    let device = issuer::common_name("device");
    let certificate = ca.issue(&device, &spki("p256"), &[Extension::tcg_usage(3)]);
    let told = |lists, certificate: &Certificate| {
        let rules = Rules { lists, ..Rules::at(NOW) };
        let found = ak_certificate::verify_by(&rules, certificate, &[], &roots).unwrap();
        let key = ak("p256").certified_by(&found).unwrap();
        let claims = Shown::quote("quote-p256").verify(&key, &expected()).unwrap();
        assert_eq!(claims.warnings(), found.warnings());
        claims.warnings().to_vec()
    };
    let both = told(Lists::Given(&lists), &certificate);
    let codes: Vec<_> = both.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, [Reason::CertSignatureWeak; 2]);
    assert!(both.iter().any(|warning| warning.found.contains("revocation list 0")), "{both:?}");
    assert!(both.iter().any(|warning| warning.found.contains("certificate 0")), "{both:?}");
    assert!(both.iter().all(|warning| warning.source == "NIST SP 800-131A"), "{both:?}");
    assert_eq!(told(Lists::None, &certificate).len(), 1);

    // What is signed as it should be needs no word.
    let new = Issuer::new("attestation CA");
    let certificate = new.issue(&spki("p256"), &[Extension::tcg_usage(3)]);
    assert!(verified(&certificate, &[new.root()], NOW).unwrap().warnings().is_empty());
}

#[test]
fn a_date_that_is_borne_by_rule_is_a_warning_and_a_refusal_without() {
    let ca = Issuer::new("attestation CA");
    let (certificate, roots) = (ca.issue(&spki("p256"), &[]), [ca.root()]);
    let rules = Rules { expired: Expired::Warn, ..Rules::at(Time::from_unix_s(0)) };
    let found = ak_certificate::verify_by(&rules, &certificate, &[], &roots).unwrap();
    let codes: Vec<_> = found.warnings().iter().map(|warning| warning.code).collect();
    assert_eq!(codes, [Reason::CertExpired]);
    let rules = Rules { expired: Expired::Refuse, ..rules };
    assert!(ak_certificate::verify_by(&rules, &certificate, &[], &roots).is_err());
}

#[test]
fn a_weak_key_decides_before_the_profile() {
    let (ca, small) = (Issuer::new("attestation CA"), RsaKey::generate("small", 1024));
    // For another use, of a weak key, by nobody who counts.
    let certificate = ca.issue(&small.spki_with(65_537), &[Extension::tcg_usage(1)]);
    let roots = [Issuer::new("attestation CA").root()];
    let faults = ak_certificate::verify_by(&Rules::at(NOW), &certificate, &[], &roots).unwrap_err();
    let reasons: Vec<_> = faults.iter().map(Error::reason).collect();
    assert_eq!(reasons, [Reason::KeyWeak, Reason::AkNotCertified, Reason::AkNotCertified]);
    assert!(matches!(faults[1], Error::AkProfile(_)), "{faults:?}");
    assert_eq!(reason(verified(&certificate, &roots, NOW)), Reason::KeyWeak);
}

#[test]
fn a_key_that_is_to_certify_others_is_no_other_key_of_the_device() {
    let ca = Issuer::new("maker");
    let anchors = AkAnchors::new(vec![(ca.root(), TpmClass::Discrete)], vec![]);
    let module = || Extension::hardware_module(2, b"7");
    let verify = |spki: &[u8], extensions: &[Extension]| {
        anchors.verify(&ca.issue(spki, extensions), &[], NOW)
    };
    let good = spki("p256");
    let (_, class) = verify(&good, &[module(), Extension::tcg_usage(3)]).unwrap();
    assert_eq!(class, TpmClass::Discrete);
    assert!(verify(&good, &[]).is_ok());
    assert_eq!(reason(verify(&good, &[module()])), Reason::AkNotCertified);
    // Its key decides first.
    let weak = RsaKey::generate("small", 1024).spki_with(65_537);
    assert_eq!(reason(verify(&weak, &[module()])), Reason::KeyWeak);
}

#[test]
fn a_statement_that_cannot_be_read_decides_before_the_key_that_it_is_of() {
    let ca = Issuer::new("attestation CA");
    let by = verified(&ca.issue(&spki("p256"), &[]), &[ca.root()], NOW).unwrap();
    let (certify, public) = (read("svid.certify"), read("svid.public"));
    let whole = Signed::from_item(&certify).unwrap();
    let cut = Signed { attest: &whole.attest[..40], ..whole };
    let prove = |certify| {
        reason(ak_certificate::prove_ak(&by, certify, &public, &NONCE, HashAlgorithm::Sha256))
    };
    assert_eq!(prove(cut), Reason::TpmMalformed);
    assert_eq!(prove(whole), Reason::AkNotRestricted);
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
