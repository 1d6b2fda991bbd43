//! Endorsement certificates that a vendor might sign, and those that no vendor should: each rule
//! has one that is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/vectors.rs"]
mod vectors;

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::Endorsement;
use assay_tpm::Error;
use assay_tpm::Public;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;
use assay_tpm::structures::public::Area;
use assay_tpm::structures::public::Attributes;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SubjectPublicKeyInfo;
use vectors::NOW;
use vectors::anchors;
use vectors::read;

/// A vendor: a root, an intermediate, and the last certificate, each open to change.
struct Vendor {
    root: CertificateParams,
    intermediate: CertificateParams,
    leaf: CertificateParams,
}

impl Vendor {
    fn new() -> Vendor {
        let ca = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.extended_key_usages = vec![ek_usage()];
        leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        Vendor { root: ca("root"), intermediate: ca("intermediate"), leaf }
    }

    fn with(change: impl FnOnce(&mut Vendor)) -> Vendor {
        let mut vendor = Vendor::new();
        change(&mut vendor);
        vendor
    }

    fn endorse(self, public: &[u8], now: Time) -> Result<Endorsement, Error> {
        let leaf = self.leaf.clone();
        self.endorse_by(&[leaf], public, now)
    }

    /// With several certificates of the one key.
    fn endorse_by(
        self,
        leaves: &[CertificateParams],
        public: &[u8],
        now: Time,
    ) -> Result<Endorsement, Error> {
        let (root_key, intermediate_key) =
            (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = self.root.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(self.root, root_key);
        let intermediate = self.intermediate.signed_by(&intermediate_key, &issuer).unwrap();
        let issuer = Issuer::new(self.intermediate, intermediate_key);
        let spki = Public::parse(&read("ek-p256.public")).unwrap().spki_der();
        let key = SubjectPublicKeyInfo::from_der(&spki).unwrap();
        let leaves: Vec<_> = leaves
            .iter()
            .map(|leaf| leaf.signed_by(&key, &issuer).unwrap().der().to_vec())
            .collect();

        let certificate = Certificate::parse(root.der()).unwrap();
        let root = EkRoot { certificate, class: TpmClass::Discrete };
        let anchors = Anchors::new(vec![root], vec![]);
        endorsement::verify(&leaves, &[intermediate.der()], public, &anchors, now)
    }

    fn refused(self) -> Reason {
        self.endorse(&read("ek-p256.public"), NOW).unwrap_err().reason()
    }
}

fn ek_usage() -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])
}

fn critical(oid: &[u64]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, vec![0x05, 0x00]);
    extension.set_criticality(true);
    extension
}

#[test]
fn a_vendor_that_does_everything_right_is_believed() {
    let found = Vendor::new().endorse(&read("ek-p256.public"), NOW).unwrap();
    assert_eq!(found.class(), TpmClass::Discrete);
    assert_eq!(found.spki_der(), Public::parse(&read("ek-p256.public")).unwrap().spki_der());
    assert!(found.claimed_others().is_empty());
}

#[test]
fn the_endorsement_keys_of_the_vectors_are_those_of_their_certificates() {
    let none: [&[u8]; 0] = [];
    let certificates = [read("ek-rsa2048.crt"), read("ek-p384.crt")];
    for kind in ["ek-rsa2048", "ek-p384"] {
        let public = read(&format!("{kind}.public"));
        let found = endorsement::verify(&certificates, &none, &public, &anchors(), NOW).unwrap();
        assert_eq!(found.class(), TpmClass::Software);
        assert_eq!(found.claimed_others().len(), 1);
        assert_eq!(found.device().model, "swtpm");
    }
}

#[test]
fn a_certificate_of_another_product_of_the_same_vendor_is_refused() {
    let signing = Vendor::with(|v| v.leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert_eq!(signing.refused(), Reason::EkProfile);
    let other = ExtendedKeyUsagePurpose::CodeSigning;
    let usage = Vendor::with(|v| v.leaf.extended_key_usages = vec![other]);
    assert_eq!(usage.refused(), Reason::EkProfile);
    let neither = Vendor::with(|v| v.leaf.extended_key_usages.clear());
    assert_eq!(neither.refused(), Reason::EkProfile);
    let ca = Vendor::with(|v| v.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(ca.refused(), Reason::EkProfile);
}

#[test]
fn a_certificate_without_a_key_usage_is_genuine() {
    let vendor = Vendor::with(|v| v.leaf.key_usages.clear());
    assert!(vendor.endorse(&read("ek-p256.public"), NOW).is_ok());
}

#[test]
fn a_critical_extension_that_nobody_understands_is_refused_anywhere() {
    let oid = [1, 3, 6, 1, 4, 1, 99_999, 1];
    let leaf = Vendor::with(|v| v.leaf.custom_extensions = vec![critical(&oid)]);
    assert_eq!(leaf.refused(), Reason::EkCriticalExt);
    let above = Vendor::with(|v| v.intermediate.custom_extensions = vec![critical(&oid)]);
    assert_eq!(above.refused(), Reason::EkCriticalExt);
    // A root is a name and a key; its own extensions are not judged.
    let root = Vendor::with(|v| v.root.custom_extensions = vec![critical(&oid)]);
    assert!(root.endorse(&read("ek-p256.public"), NOW).is_ok());
}

#[test]
fn critical_directory_attributes_are_understood() {
    let vendor = Vendor::with(|v| v.leaf.custom_extensions = vec![critical(&[2, 5, 29, 9])]);
    assert!(vendor.endorse(&read("ek-p256.public"), NOW).is_ok());
}

#[test]
fn an_issuer_that_is_no_ca_or_stands_too_high_is_refused() {
    let no_ca = Vendor::with(|v| v.intermediate.is_ca = IsCa::ExplicitNoCa);
    assert_eq!(no_ca.refused(), Reason::EkChainInvalid);
    let no_sign =
        Vendor::with(|v| v.intermediate.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert_eq!(no_sign.refused(), Reason::EkChainInvalid);
    // pathLenConstraint 0 on the CA right above the last certificate is enough for it.
    let constrained = IsCa::Ca(BasicConstraints::Constrained(0));
    let exact = Vendor::with(|v| v.intermediate.is_ca = constrained);
    assert!(exact.endorse(&read("ek-p256.public"), NOW).is_ok());
}

#[test]
fn dates_are_inclusive_and_hold_for_every_certificate_but_the_root() {
    let day = |year| rcgen::date_time_ymd(year, 1, 1);
    let dated = |v: &mut CertificateParams| {
        v.not_before = day(2020);
        v.not_after = day(2030);
    };
    let public = read("ek-p256.public");
    let at = |text: &str| Time::parse_rfc3339(text).unwrap();
    for (time, genuine) in [
        ("2019-12-31T23:59:59.999Z", false),
        ("2020-01-01T00:00:00Z", true),
        ("2030-01-01T00:00:00.999Z", true),
        ("2030-01-01T00:00:01Z", false),
    ] {
        for leaf in [true, false] {
            let vendor =
                Vendor::with(|v| dated(if leaf { &mut v.leaf } else { &mut v.intermediate }));
            let found = vendor.endorse(&public, at(time)).map_err(|error| error.reason());
            assert_eq!(found.map(|_| ()), if genuine { Ok(()) } else { Err(Reason::EkExpired) });
        }
    }
    let root = Vendor::with(|v| v.root.not_after = day(2000));
    assert!(root.endorse(&public, NOW).is_ok());
}

#[test]
fn a_name_outside_of_what_an_issuer_may_certify_is_refused() {
    let tree = |common_name: &str| {
        let mut name = rcgen::DistinguishedName::new();
        name.push(DnType::CommonName, common_name);
        rcgen::GeneralSubtree::DirectoryName(name)
    };
    let vendor = |permitted: Vec<rcgen::GeneralSubtree>, excluded: Vec<rcgen::GeneralSubtree>| {
        Vendor::with(|v| {
            v.leaf.distinguished_name.push(DnType::CommonName, "host-a");
            v.intermediate.name_constraints = Some(rcgen::NameConstraints {
                permitted_subtrees: permitted,
                excluded_subtrees: excluded,
            });
        })
    };
    let public = read("ek-p256.public");
    assert!(vendor(vec![tree("host-a")], vec![]).endorse(&public, NOW).is_ok());
    assert_eq!(vendor(vec![tree("host-b")], vec![]).refused(), Reason::EkNameConstraint);
    assert_eq!(vendor(vec![], vec![tree("host-a")]).refused(), Reason::EkNameConstraint);
}

#[test]
fn a_certificate_below_no_pinned_root_is_untrusted() {
    let none: [&[u8]; 0] = [];
    let (certificate, public) = (read("ek-p384.crt"), read("ek-p384.public"));
    let verify = |anchors: &Anchors| {
        endorsement::verify(&[&certificate], &none, &public, anchors, NOW).unwrap_err().reason()
    };
    assert_eq!(verify(&Anchors::default()), Reason::EkChainUntrusted);
    // The issuer alone, as an intermediate, anchors nothing.
    let issuer = Certificate::parse_set(&read("issuer.pem")).unwrap();
    assert_eq!(verify(&Anchors::new(vec![], issuer)), Reason::EkChainUntrusted);
}

#[test]
fn a_public_area_of_the_clients_making_is_refused() {
    let with = |change: &dyn Fn(&mut Area)| {
        let mut area = Public::parse(&read("ek-p256.public")).unwrap().area().clone();
        change(&mut area);
        let public = Public::from_area(area).unwrap();
        Vendor::new().endorse(public.raw(), NOW).unwrap_err().reason()
    };
    let sha384 = assay_evidence::HashAlgorithm::Sha384;
    assert_eq!(with(&|area| area.name_algorithm = sha384), Reason::EkTemplateUnknown);
    assert_eq!(with(&|area| area.symmetric = None), Reason::EkTemplateUnknown);
    assert_eq!(with(&|area| area.auth_policy.clear()), Reason::EkTemplateUnknown);
    let open = Attributes(0x0003_00f2);
    assert_eq!(with(&|area| area.attributes = open), Reason::EkTemplateUnknown);
    let other = Public::parse(&read("ak-p256.public")).unwrap();
    assert_eq!(with(&|area| area.key = other.key().clone()), Reason::EkKeyCertMismatch);
}

#[test]
fn what_an_nv_index_puts_around_a_certificate_is_tolerated_and_nothing_else() {
    let none: [&[u8]; 0] = [];
    let (certificate, public, anchors) = (read("ek-p384.crt"), read("ek-p384.public"), anchors());
    let verify = |bytes: Vec<u8>| {
        endorsement::verify(&[bytes], &none, &public, &anchors, NOW).map_err(|e| e.reason())
    };
    let length = u16::try_from(certificate.len()).unwrap();
    let header = [&[0x10, 0x01, 0x00][..], &length.to_be_bytes()].concat();
    let long = [&[0x10, 0x01, 0x00][..], &(length + 2).to_be_bytes(), &[0x10, 0x02]].concat();
    for (before, after) in [
        (vec![], vec![0x00; 7]),
        (vec![], vec![0xff; 300]),
        (header, vec![]),
        (long, vec![0xff; 3]),
    ] {
        assert!(verify([&before[..], &certificate, &after].concat()).is_ok());
    }
    for after in [&[0x00, 0xff][..], &[0x01], &certificate] {
        let refused = verify([&certificate[..], after].concat());
        assert_eq!(refused.err(), Some(Reason::EkCertMalformed));
    }
    assert_eq!(verify(vec![]).err(), Some(Reason::EkCertMalformed));
    assert_eq!(verify(vec![0xff; 1024]).err(), Some(Reason::EkCertMalformed));
}

#[test]
fn rubbish_in_another_index_does_no_harm() {
    let none: [&[u8]; 0] = [];
    let public = read("ek-p384.public");
    let verify = |certificates: &[Vec<u8>]| {
        endorsement::verify(certificates, &none, &public, &anchors(), NOW).map_err(|e| e.reason())
    };
    assert!(verify(&[vec![0xff; 64], read("ek-p384.crt")]).is_ok());
    let other = [read("ek-rsa2048.crt"), vec![0xff; 64]];
    assert_eq!(verify(&other).err(), Some(Reason::EkCertMalformed));
    assert_eq!(verify(&other[..1]).err(), Some(Reason::EkKeyCertMismatch));
}

#[test]
fn of_several_certificates_of_one_key_the_one_that_is_good_counts() {
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut leaf = Vendor::new().leaf;
        change(&mut leaf);
        leaf
    };
    let good = with(&|_| {});
    let expired = with(&|leaf| leaf.not_after = rcgen::date_time_ymd(2000, 1, 1));
    let other_use = with(&|leaf| leaf.extended_key_usages = vec![]);
    let strange = with(&|leaf| leaf.custom_extensions = vec![critical(&[1, 2, 3, 4])]);
    let endorse = |leaves: &[CertificateParams]| {
        let public = read("ek-p256.public");
        Vendor::new().endorse_by(leaves, &public, NOW).map(|_| ()).map_err(|e| e.reason())
    };
    let all = [&expired, &other_use, &strange];
    for bad in all {
        let (bad, good) = (bad.clone(), good.clone());
        assert_eq!(endorse(&[bad.clone(), good.clone()]), Ok(()));
        assert_eq!(endorse(&[good, bad]), Ok(()));
    }
    // None is good: the one that came furthest tells, in whatever place it stands.
    for bad in [&other_use, &strange] {
        let (bad, expired) = (bad.clone(), expired.clone());
        assert_eq!(endorse(&[bad.clone(), expired.clone()]), Err(Reason::EkExpired));
        assert_eq!(endorse(&[expired, bad]), Err(Reason::EkExpired));
    }
    let (use_first, strange_first) = ([other_use.clone(), strange.clone()], [strange, other_use]);
    assert_eq!(endorse(&use_first), Err(Reason::EkCriticalExt));
    assert_eq!(endorse(&strange_first), Err(Reason::EkCriticalExt));
}

#[test]
fn more_certificates_than_any_tpm_holds_are_refused() {
    let none: [&[u8]; 0] = [];
    let many = vec![read("ek-p384.crt"); 17];
    let found = endorsement::verify(&many, &none, &read("ek-p384.public"), &anchors(), NOW);
    assert_eq!(found.unwrap_err().reason(), Reason::EvidenceTooLarge);
}
