//! Odd certificates that are genuine, and their twins that are not: see `examples/zoo.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "../examples/zoo.rs"]
mod generator;
#[path = "support/zoo.rs"]
mod zoo;

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::chain::Expired;
use assay_evidence::chain::Rules;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::Public;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;
use zoo::Case;
use zoo::cases;
use zoo::now;

#[test]
fn every_odd_certificate_is_accepted_and_every_twin_refused_for_its_fault() {
    let mut wrong = Vec::new();
    let (mut genuine, mut refused) = (0, 0);
    for case in cases() {
        let found = case.outcome();
        if found != case.expected {
            wrong.push(format!("{}: {found}, {} expected", case.name, case.expected));
        }
        *if case.is_genuine() { &mut genuine } else { &mut refused } += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("zoo: {genuine} accepted, {refused} refused, each by its reason");
    assert!(genuine >= 40 && refused >= 40, "{genuine} and {refused}");
}

/// The rows of the attack catalogue that are about endorsement certificates, by the names of their
/// cases. Where a row says "must accept", its accepted cases count too.
const ROWS: [(&str, &[&str]); 11] = [
    ("A30 unknown issuer, forged signature", &["plain", "self-signed", "forged", "other-set"]),
    ("A31 an issuer that may not", &["issuer-", "path-length-", "leaf-is-ca"]),
    (
        "A32 another product of the vendor",
        &["signs-only", "usage-", "no-usage", "no-key-usage", "ec-", "version-1"],
    ),
    (
        "A33 critical extensions",
        &["critical-", "unknown", "alternative-name-", "usage-unreadable", "issuer-critical-"],
    ),
    ("A34 name constraints", &["constraint-"]),
    (
        "A35 dates",
        &["expired", "issuer-expired", "not-yet", "first-second", "last-second", "year-9999"],
    ),
    (
        "A36 odd DER and what an index puts around",
        &[
            "padding-",
            "header",
            "serial-",
            "oaep-key",
            "unordered-set",
            "reordered-set",
            "explicit-false",
            "two-certificates",
            "key-unused-bits",
            "signature-unused-bits",
            "algorithm-outside",
            "length-long",
            "extension-twice",
        ],
    ),
    ("A38 ROCA", &["roca"]),
    (
        "A39 weak keys and signatures",
        &[
            "rsa-1024",
            "exponent-",
            "modulus-",
            "p256",
            "p384",
            "p521",
            "off-curve",
            "zero-point",
            "compressed",
            "unknown-curve",
            "small-issuer",
            "weak-root",
            "sha1",
            "sha384",
            "md5",
            "pss",
        ],
    ),
    ("A48 addresses in certificates", &["issuer-address"]),
    ("A49 revocation", &["revoked", "on-no-list", "list-"]),
];

#[test]
fn every_case_belongs_to_a_row_of_the_attack_catalogue() {
    let mut counts = [(0, 0); ROWS.len()];
    for case in cases() {
        // The longest prefix says more.
        let row = (0..ROWS.len())
            .flat_map(|row| ROWS[row].1.iter().map(move |prefix| (prefix.len(), row, prefix)))
            .filter(|(_, _, prefix)| case.name.starts_with(*prefix))
            .max();
        let (_, row, _) = row.unwrap_or_else(|| panic!("{} is of no row", case.name));
        let (accepted, refused) = &mut counts[row];
        *if case.is_genuine() { accepted } else { refused } += 1;
    }
    for ((row, _), (accepted, refused)) in ROWS.iter().zip(counts) {
        println!("{row}: {accepted} accepted, {refused} refused");
        assert!(accepted + refused > 0, "{row}");
    }
}

#[test]
fn the_zoo_is_what_its_generator_makes() {
    let made = generator::files();
    for (name, bytes) in &made {
        let kept = std::fs::read(zoo::folder().join(name)).unwrap_or_default();
        assert!(&kept == bytes, "{name}: run the example `zoo` again");
    }
    assert_eq!(std::fs::read_dir(zoo::folder()).unwrap().count(), made.len());
}

#[test]
fn each_reason_of_the_room_is_shown_by_a_case() {
    let shown: Vec<_> = cases().iter().filter_map(Case::reason).collect();
    for reason in [
        Reason::EkCertMalformed,
        Reason::EkProfile,
        Reason::EkChainUntrusted,
        Reason::EkChainInvalid,
        Reason::EkCriticalExt,
        Reason::EkNameConstraint,
        Reason::EkExpired,
        Reason::EkRevoked,
        Reason::CertSignatureWeak,
        Reason::KeyWeak,
        Reason::KeyRoca,
        Reason::CrlInvalid,
        Reason::CrlStale,
    ] {
        let count = shown.iter().filter(|&&other| other == reason).count();
        println!("{reason}: {count}");
        assert!(count > 0, "{reason}");
    }
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

fn anchors(case: &Case) -> Anchors {
    let root = EkRoot { certificate: case.root.clone(), class: TpmClass::Firmware };
    Anchors::new(vec![root], case.issuers.clone())
}

#[test]
fn a_genuine_one_says_what_it_is_of_and_what_was_not_asked() {
    let plain = case("plain");
    let found = plain.verify(&plain.file).unwrap();
    assert_eq!(found.device().manufacturer, "id:5A4F4F00");
    assert_eq!((&*found.device().model, &*found.device().version), ("Zoo TPM", "id:00010002"));
    assert_eq!(found.root_sha256(), &plain.root.sha256());
    assert_eq!(found.class(), TpmClass::Discrete);
    assert!(found.warnings().is_empty());
    assert_eq!(found.not_checked(), ["revocation: no CRL given"]);
    let listed = case("on-no-list");
    let found = listed.verify(&listed.file).unwrap();
    assert_eq!(found.not_checked(), ["revocation of certificate 1: no CRL of its issuer"]);
}

#[test]
fn a_date_that_is_accepted_by_rule_is_a_warning() {
    for name in ["expired", "not-yet", "issuer-expired"] {
        let case = case(name);
        let rules = Rules { expired: Expired::Warn, ..Rules::at(now()) };
        let found = endorsement::verify_file(&rules, &case.file, None, &[], &anchors(&case));
        let warnings = found.unwrap().warnings();
        assert_eq!(warnings.len(), 1, "{name}");
        assert_eq!(warnings[0].code, Reason::EkExpired);
        assert!(warnings[0].found.contains("judged at 2026-06-01"), "{}", warnings[0].found);
    }
}

#[test]
fn all_faults_are_told_keys_first_then_the_profile_then_the_chain() {
    let (weak, signs, expired) = (case("rsa-1024"), case("signs-only"), case("expired"));
    let nobody = Anchors::new(vec![], vec![]);
    let codes = |case: &Case| {
        let faults = endorsement::verify_file(&Rules::at(now()), &case.file, None, &[], &nobody)
            .unwrap_err();
        faults.iter().map(|fault| fault.finding().code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&weak), [Reason::KeyWeak, Reason::EkChainUntrusted]);
    assert_eq!(codes(&signs), [Reason::EkProfile, Reason::EkChainUntrusted]);
    assert_eq!(codes(&expired), [Reason::EkChainUntrusted, Reason::EkExpired]);
}

#[test]
fn with_a_public_area_the_key_and_its_template_are_asked_too() {
    let plain = case("plain");
    let vector = |name: &str| {
        let folder = zoo::folder().join("../swtpm");
        Public::parse(&std::fs::read(folder.join(name)).unwrap()).unwrap()
    };
    let codes = |public: &Public| {
        let rules = Rules::at(now());
        let found =
            endorsement::verify_file(&rules, &plain.file, Some(public), &[], &anchors(&plain));
        let faults = found.unwrap_err();
        faults.iter().map(|fault| fault.reason()).collect::<Vec<_>>()
    };
    assert_eq!(codes(&vector("ek-rsa2048.public")), [Reason::EkKeyCertMismatch]);
    let both = [Reason::EkKeyCertMismatch, Reason::EkTemplateUnknown];
    assert_eq!(codes(&vector("ak-rsassa.public")), both);
    // The right key, in its template.
    let mut area = vector("ek-rsa2048.public").area().clone();
    area.key = Certificate::parse(&plain.file).unwrap().public_key().unwrap().clone();
    let right = Public::from_area(area).unwrap();
    let rules = Rules::at(now());
    let found = endorsement::verify_file(&rules, &plain.file, Some(&right), &[], &anchors(&plain));
    assert!(found.is_ok());
}

#[test]
fn a_stock_of_lists_refuses_what_is_revoked() {
    let (revoked, foreign) = (case("revoked"), case("list-foreign"));
    let lists = [foreign.lists.clone(), revoked.lists.clone()].concat();
    let stocked = anchors(&revoked).with_lists(lists);
    let verify = |case: &Case| {
        let certificate = Certificate::parse(&case.file).unwrap();
        endorsement::verify_certificate(certificate, vec![], &stocked, now())
    };
    assert_eq!(verify(&revoked).unwrap_err().reason(), Reason::EkRevoked);
    assert!(verify(&case("plain")).is_ok(), "a list of nobody concerned does no harm in a stock");
}

#[test]
fn one_certificate_in_a_file_of_either_form() {
    let plain = case("plain");
    let pem = |der: &[u8]| pem_text(der).into_bytes();
    let one = pem(&plain.file);
    assert!(plain.verify(&one).is_ok());
    for many in [one.repeat(2), pem(&[])] {
        let faults = plain.verify(&many).unwrap_err();
        assert_eq!(faults[0].reason(), Reason::EkCertMalformed);
    }
    let described = [b"subject=CN\r\n", &one[..]].concat();
    assert!(plain.verify(&described).is_ok());
    for nothing in [&[][..], &[0xff; 64], &[0; 64], b"-----BEGIN CERTIFICATE-----\n"] {
        let faults = plain.verify(nothing).unwrap_err();
        assert_eq!(faults[0].reason(), Reason::EkCertMalformed);
    }
}

fn pem_text(der: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let wide = chunk.iter().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            text.push(match digit <= chunk.len() {
                true => DIGITS[(wide >> (18 - 6 * digit)) as usize & 63].into(),
                false => '=',
            });
        }
    }
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
