//! One good certificate, and each way in which it could be bad.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PublicKeyData;
use rcgen::SanType;
use rcgen::SerialNumber;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;

use super::*;
use crate::ca::certificate::AuthorityUse;

const START_S: i64 = 1_800_000_000;
const END_S: i64 = START_S + 3_600;
const ID: &str = "spiffe://example.org/web";

struct World {
    authority: CertificateParams,
    authority_key: KeyPair,
    subject_key: KeyPair,
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn serial() -> Serial {
    Serial::from_random([7; 16])
}

impl World {
    fn new() -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.distinguished_name = DistinguishedName::new();
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.serial_number = Some(SerialNumber::from_slice(serial().as_bytes()));
        authority.not_before = at(START_S);
        authority.not_after = at(END_S);
        authority.subject_alt_names = vec![uri("spiffe://example.org")];
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self { authority, authority_key, subject_key: KeyPair::generate().unwrap() }
    }

    fn leaf(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(serial().as_bytes()));
        params.not_before = at(START_S);
        params.not_after = at(END_S);
        params.subject_alt_names = vec![uri(ID), dns("web.example.org")];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params
    }

    /// The claim that the lint names for a leaf changed by `change`; nothing if it accepts.
    fn leaf_fault(&self, change: impl FnOnce(&mut CertificateParams)) -> Option<&'static str> {
        let mut params = self.leaf();
        change(&mut params);
        let issuer = Issuer::from_params(&self.authority, &self.authority_key);
        let built = params.signed_by(&self.subject_key, &issuer).unwrap();
        self.lint_leaf(&tbs(built.der())).err().map(|error| error.claim)
    }

    fn lint_leaf(&self, tbs: &[u8]) -> Result<(), LintError> {
        let root = self.authority.self_signed(&self.authority_key).unwrap();
        let (_, root) = X509Certificate::from_der(root.der()).unwrap();
        let issuer = IssuerFacts {
            name: root.subject().as_raw(),
            key_id: &key_id(&self.authority_key.subject_public_key_info()),
            not_after: Time::from_unix_s(END_S),
        };
        let id = SpiffeId::parse(ID).unwrap();
        let dns_names = ["web.example.org".to_owned()];
        lint(
            tbs,
            &Expected {
                role: Role::Svid { id: &id, dns_names: &dns_names, issuer },
                serial: serial(),
                not_before: Time::from_unix_s(START_S),
                not_after: Time::from_unix_s(END_S),
                spki_der: &self.subject_key.subject_public_key_info(),
            },
        )
    }

    fn authority_fault(&self, change: impl FnOnce(&mut CertificateParams)) -> Option<&'static str> {
        let mut params = self.authority.clone();
        change(&mut params);
        let built = params.self_signed(&self.authority_key).unwrap();
        let expected = Expected {
            role: Role::Authority {
                trust_domain: &TrustDomain::parse("example.org").unwrap(),
                usage: AuthorityUse::Svids,
            },
            serial: serial(),
            not_before: Time::from_unix_s(START_S),
            not_after: Time::from_unix_s(END_S),
            spki_der: &self.authority_key.subject_public_key_info(),
        };
        lint(&tbs(built.der()), &expected).err().map(|error| error.claim)
    }
}

fn tbs(certificate: &[u8]) -> Vec<u8> {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    parsed.tbs_certificate.as_ref().to_vec()
}

#[test]
fn each_bad_leaf_is_refused_by_what_is_bad_about_it() {
    let world = World::new();
    let fault = |change: fn(&mut CertificateParams)| world.leaf_fault(change);
    assert_eq!(fault(|_| ()), None);

    assert_eq!(fault(|p| p.serial_number = None), Some("serial"));
    assert_eq!(fault(|p| p.serial_number = Some(SerialNumber::from_slice(&[1]))), Some("serial"));
    assert_eq!(fault(|p| p.not_before = at(START_S - 1)), Some("not before"));
    assert_eq!(fault(|p| p.not_after = at(END_S + 1)), Some("not after"));
    assert_eq!(fault(|p| p.distinguished_name.push(DnType::CommonName, "web")), Some("subject"));

    assert_eq!(
        fault(|p| p.subject_alt_names.push(uri("spiffe://example.org/db"))),
        Some("URI names")
    );
    assert_eq!(fault(|p| p.subject_alt_names.push(uri("https://example.org"))), Some("URI names"));
    assert_eq!(
        fault(
            |p| p.subject_alt_names = vec![uri("spiffe://example.org/db"), dns("web.example.org")]
        ),
        Some("URI names")
    );
    assert_eq!(
        fault(|p| {
            p.subject_alt_names.remove(0);
        }),
        Some("URI names")
    );
    assert_eq!(fault(|p| p.subject_alt_names.push(dns("db.example.org"))), Some("DNS names"));
    assert_eq!(fault(|p| p.subject_alt_names.truncate(1)), Some("DNS names"));
    assert_eq!(
        fault(|p| p.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()))),
        Some("alternative name")
    );
    assert_eq!(
        fault(|p| p.subject_alt_names.push(SanType::Rfc822Name("a@b".try_into().unwrap()))),
        Some("alternative name")
    );
    assert_eq!(fault(|p| p.subject_alt_names.clear()), Some("missing extensions"));

    assert_eq!(fault(|p| p.is_ca = IsCa::NoCa), Some("missing extensions"));
    assert_eq!(fault(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), Some("ca"));
    assert_eq!(fault(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))), Some("ca"));

    for usage in [
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::KeyAgreement,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DecipherOnly,
    ] {
        assert_eq!(world.leaf_fault(|p| p.key_usages.push(usage)), Some("key usage"));
    }
    assert_eq!(fault(|p| p.key_usages.clear()), Some("missing extensions"));
    for usage in [
        ExtendedKeyUsagePurpose::Any,
        ExtendedKeyUsagePurpose::CodeSigning,
        ExtendedKeyUsagePurpose::OcspSigning,
        ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 1]),
    ] {
        assert_eq!(
            world.leaf_fault(|p| p.extended_key_usages.push(usage)),
            Some("extended key usage")
        );
    }
    assert_eq!(fault(|p| p.extended_key_usages.truncate(1)), Some("extended key usage"));
    assert_eq!(fault(|p| p.extended_key_usages.clear()), Some("missing extensions"));

    assert_eq!(
        fault(|p| p.use_authority_key_identifier_extension = false),
        Some("missing extensions")
    );
    assert_eq!(
        fault(|p| p.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20])),
        Some("subject key id")
    );
    let private = |critical| {
        world.leaf_fault(|p| {
            let mut extension =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1, 1], vec![0x05, 0x00]);
            extension.set_criticality(critical);
            p.custom_extensions.push(extension);
        })
    };
    assert_eq!(private(false), Some("extension"));
    assert_eq!(private(true), Some("extension"));
    // Twice: a second basicConstraints that says the opposite. The reader of the lint refuses the
    // whole; others may take either.
    let twice = world.leaf_fault(|p| {
        p.custom_extensions.push(CustomExtension::from_oid_content(
            &[2, 5, 29, 19],
            vec![0x30, 0x03, 0x01, 0x01, 0xff],
        ));
    });
    assert!(twice.is_some());
}

#[test]
fn a_leaf_of_another_key_or_issuer_or_algorithm_is_refused() {
    let world = World::new();
    let other = World::new();
    let issuer = Issuer::from_params(&world.authority, &world.authority_key);
    let fault = |tbs: &[u8]| world.lint_leaf(tbs).unwrap_err().claim;

    let built = world.leaf().signed_by(&other.subject_key, &issuer).unwrap();
    assert_eq!(fault(&tbs(built.der())), "public key");

    let foreign = Issuer::from_params(&world.authority, &other.authority_key);
    let built = world.leaf().signed_by(&world.subject_key, &foreign).unwrap();
    assert_eq!(fault(&tbs(built.der())), "authority key id");

    let mut renamed = world.authority.clone();
    renamed.distinguished_name.push(DnType::CommonName, "another");
    let renamed = Issuer::from_params(&renamed, &world.authority_key);
    let built = world.leaf().signed_by(&world.subject_key, &renamed).unwrap();
    assert_eq!(fault(&tbs(built.der())), "issuer");

    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let issuer = Issuer::from_params(&world.authority, &p384);
    let built = world.leaf().signed_by(&world.subject_key, &issuer).unwrap();
    assert_eq!(fault(&tbs(built.der())), "signature algorithm");
}

#[test]
fn an_identity_never_outlives_its_authority_or_a_week() {
    let world = World::new();
    let issuer = Issuer::from_params(&world.authority, &world.authority_key);
    let lint_with = |not_after: i64, authority_end: i64| {
        let mut params = world.leaf();
        params.not_after = at(not_after);
        let built = params.signed_by(&world.subject_key, &issuer).unwrap();
        let root = world.authority.self_signed(&world.authority_key).unwrap();
        let (_, root) = X509Certificate::from_der(root.der()).unwrap();
        let facts = IssuerFacts {
            name: root.subject().as_raw(),
            key_id: &key_id(&world.authority_key.subject_public_key_info()),
            not_after: Time::from_unix_s(authority_end),
        };
        let id = SpiffeId::parse(ID).unwrap();
        let dns_names = ["web.example.org".to_owned()];
        let expected = Expected {
            role: Role::Svid { id: &id, dns_names: &dns_names, issuer: facts },
            serial: serial(),
            not_before: Time::from_unix_s(START_S),
            not_after: Time::from_unix_s(not_after),
            spki_der: &world.subject_key.subject_public_key_info(),
        };
        lint(&tbs(built.der()), &expected).err().map(|error| error.claim)
    };
    let week = i64::try_from(Duration::from_secs(7 * 86_400 + 30).as_secs()).unwrap();
    assert_eq!(lint_with(START_S + week, START_S + week), None);
    assert_eq!(lint_with(START_S + week, START_S + week - 1), Some("not after"));
    assert_eq!(lint_with(START_S + week + 1, i64::MAX / 2_000), Some("lifetime in seconds"));
    assert_eq!(lint_with(START_S, END_S), Some("not after"));
}

#[test]
fn each_bad_authority_is_refused() {
    let world = World::new();
    let fault = |change: fn(&mut CertificateParams)| world.authority_fault(change);
    assert_eq!(fault(|_| ()), None);
    assert_eq!(fault(|p| p.is_ca = IsCa::ExplicitNoCa), Some("ca"));
    assert_eq!(fault(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), Some("path length"));
    assert_eq!(
        fault(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
        Some("path length")
    );
    assert_eq!(fault(|p| p.key_usages.truncate(1)), Some("key usage"));
    assert_eq!(fault(|p| p.key_usages.push(KeyUsagePurpose::DigitalSignature)), Some("key usage"));
    assert_eq!(
        fault(|p| p.subject_alt_names = vec![uri("spiffe://example.org/ca")]),
        Some("URI names")
    );
    assert_eq!(fault(|p| p.subject_alt_names.push(dns("example.org"))), Some("DNS names"));
    assert_eq!(fault(|p| p.distinguished_name = DistinguishedName::new()), Some("subject"));
    assert_eq!(
        fault(|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)),
        Some("extended key usage")
    );
    assert_eq!(
        fault(|p| {
            p.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        }),
        Some("extended key usage")
    );
    assert_eq!(fault(|p| p.not_after = at(END_S + 1)), Some("not after"));
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let world = World::new();
    let issuer = Issuer::from_params(&world.authority, &world.authority_key);
    let good = tbs(world.leaf().signed_by(&world.subject_key, &issuer).unwrap().der());
    assert!(world.lint_leaf(&good).is_ok());
    for end in 0..good.len() {
        assert!(world.lint_leaf(&good[..end]).is_err());
    }
    assert!(world.lint_leaf(&[good.as_slice(), &[0]].concat()).is_err());
    assert_eq!(world.lint_leaf(&vec![0; MAX_TBS_BYTES + 1]).unwrap_err().claim, "length");
    // No single bit of it is free.
    for at in 0..good.len() * 8 {
        let mut changed = good.clone();
        changed[at / 8] ^= 1 << (at % 8);
        assert!(world.lint_leaf(&changed).is_err(), "bit {at}");
    }
}
