//! Paths from a certificate to a root: what holds, what does not, and what a walk may cost.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::Certificate;
use assay_evidence::RevocationList;
use assay_evidence::Time;
use assay_evidence::chain;
use assay_evidence::chain::ChainError;
use assay_evidence::chain::Expired;
use assay_evidence::chain::Lists;
use assay_evidence::chain::MAX_DEPTH;
use assay_evidence::chain::MAX_SIGNATURES;
use assay_evidence::chain::Rules;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::DnType;
use rcgen::DnValue;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::RevokedCertParams;
use rcgen::SerialNumber;

fn now() -> Time {
    Time::parse_rfc3339("2026-11-24T00:00:00Z").unwrap()
}

/// A CA that can go on signing.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

fn parameters(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn root(name: &str) -> Authority {
    let key = KeyPair::generate().unwrap();
    let params = parameters(name);
    let certificate = Certificate::parse(params.self_signed(&key).unwrap().der()).unwrap();
    Authority { certificate, issuer: Issuer::new(params, key) }
}

impl Authority {
    fn certify(&self, params: CertificateParams) -> Authority {
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap();
        Authority {
            certificate: Certificate::parse(der.der()).unwrap(),
            issuer: Issuer::new(params, key),
        }
    }

    fn below(&self, name: &str) -> Authority {
        self.certify(parameters(name))
    }

    fn leaf(&self) -> Certificate {
        self.leaf_with(|_| ())
    }

    fn leaf_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = parameters("leaf");
        params.is_ca = IsCa::NoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(vec![7]));
        change(&mut params);
        self.certify(params).certificate
    }

    fn list(&self, serials: &[u8], from: (i32, u8), to: (i32, u8)) -> RevocationList {
        let day = |(year, month)| rcgen::date_time_ymd(year, month, 1);
        let revoked = |&serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from(vec![serial]),
            revocation_time: day(from),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: day(from),
            next_update: day(to),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        RevocationList::parse(params.signed_by(&self.issuer).unwrap().der()).unwrap()
    }

    fn current_list(&self, serials: &[u8]) -> RevocationList {
        self.list(serials, (2026, 11), (2026, 12))
    }
}

fn with_lists<'a>(lists: Lists<'a>) -> Rules<'a> {
    Rules { lists, ..Rules::at(now()) }
}

#[test]
fn a_path_is_found_and_names_its_root_and_what_was_not_asked() {
    let (other, root) = (root("other"), root("root"));
    let middle = root.below("middle");
    let leaf = middle.leaf();
    let roots = [other.certificate, root.certificate.clone()];
    let path =
        chain::verify(&leaf, std::slice::from_ref(&middle.certificate), &roots, now()).unwrap();
    assert_eq!(path.root(), 1);
    assert_eq!(path.certificates(), [leaf, middle.certificate, root.certificate]);
    assert_eq!(path.not_checked(), ["revocation: no CRL given"]);
    assert!(path.warnings().is_empty() && !path.weak_signature());
}

#[test]
fn a_root_need_not_have_signed_itself() {
    let top = root("top");
    let pinned = top.below("pinned");
    let leaf = pinned.leaf();
    assert!(chain::verify(&leaf, &[], std::slice::from_ref(&pinned.certificate), now()).is_ok());
    // As an intermediate the same certificate anchors nothing.
    assert_eq!(
        chain::verify(&leaf, &[pinned.certificate], &[], now()).err(),
        Some(ChainError::Untrusted)
    );
}

#[test]
fn a_namesake_of_the_issuer_is_passed_over_and_never_believed() {
    let root = root("root");
    let (false_one, true_one) = (self::root("middle"), root.below("middle"));
    let leaf = true_one.leaf();
    let both = [false_one.certificate.clone(), true_one.certificate];
    assert!(chain::verify(&leaf, &both, std::slice::from_ref(&root.certificate), now()).is_ok());
    let alone = [false_one.certificate.clone()];
    assert_eq!(
        chain::verify(&leaf, &alone, std::slice::from_ref(&root.certificate), now()).err(),
        Some(ChainError::Untrusted),
        "by the key identifiers nobody is there who signed"
    );
    let nameless = false_one.leaf_with(|leaf| leaf.use_authority_key_identifier_extension = false);
    let forged = chain::verify(&nameless, &both[1..], &[root.certificate], now()).unwrap_err();
    assert_eq!(forged, ChainError::Signature { depth: 0 });
}

#[test]
fn a_key_identifier_that_matches_nobody_is_no_fault() {
    let root = root("root");
    let mut params = parameters("middle");
    let named = root.certify(params.clone());
    // The same CA key in a certificate with another key identifier.
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1, 2, 3]);
    let der = params.signed_by(named.issuer.key(), &root.issuer).unwrap();
    let renamed = Certificate::parse(der.der()).unwrap();
    let leaf = named.leaf();
    assert_ne!(leaf.extensions().authority_key_id, renamed.extensions().subject_key_id);
    assert!(chain::verify(&leaf, &[renamed], &[root.certificate], now()).is_ok());
}

#[test]
fn of_two_paths_the_faultless_one_is_taken() {
    let (old, new) = (root("root"), root("other root"));
    let key = KeyPair::generate().unwrap();
    let mut expired = parameters("middle");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let by_old = expired.signed_by(&key, &old.issuer).unwrap();
    let by_new = parameters("middle").signed_by(&key, &new.issuer).unwrap();
    let middle = Issuer::new(parameters("middle"), key);
    let mut leaf = parameters("leaf");
    leaf.is_ca = IsCa::NoCa;
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &middle).unwrap();
    let leaf = Certificate::parse(leaf.der()).unwrap();
    let [by_old, by_new] = [by_old, by_new].map(|der| Certificate::parse(der.der()).unwrap());
    let roots = [old.certificate, new.certificate];
    let path = chain::verify(&leaf, &[by_old.clone(), by_new], &roots, now()).unwrap();
    assert_eq!(path.root(), 1);
    let only_old = chain::verify(&leaf, &[by_old], &roots, now()).unwrap_err();
    assert!(matches!(only_old, ChainError::Expired { depth: 1, .. }));
}

#[test]
fn all_faults_are_told_the_most_decisive_first() {
    let root = root("root");
    let mut params = parameters("middle");
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let middle = root.certify(params);
    let leaf = middle.leaf_with(|leaf| leaf.not_before = rcgen::date_time_ymd(2030, 1, 1));
    let faults = |roots: &[Certificate]| {
        chain::verify_by(&Rules::at(now()), &leaf, std::slice::from_ref(&middle.certificate), roots)
            .unwrap_err()
    };
    assert!(matches!(
        faults(&[root.certificate]).as_slice(),
        [
            ChainError::IssuerNotCa { depth: 0 },
            ChainError::Expired { depth: 0, .. },
            ChainError::Expired { depth: 1, .. },
        ]
    ));
    assert!(matches!(
        faults(&[]).as_slice(),
        [
            ChainError::Untrusted,
            ChainError::IssuerNotCa { depth: 0 },
            ChainError::Expired { depth: 0, .. },
            ChainError::Expired { depth: 1, .. },
        ]
    ));
}

#[test]
fn dates_are_a_rule_and_are_never_passed_over_in_silence() {
    let root = root("root");
    let leaf = root.leaf_with(|leaf| leaf.not_after = rcgen::date_time_ymd(2026, 11, 24));
    let roots = [root.certificate];
    let judge = |expired, at: &str| {
        let rules = Rules { expired, ..Rules::at(Time::parse_rfc3339(at).unwrap()) };
        chain::verify_by(&rules, &leaf, &[], &roots)
    };
    assert!(judge(Expired::Refuse, "2026-11-24T00:00:00.9Z").unwrap().warnings().is_empty());
    let late = "2026-11-24T00:00:01Z";
    let refused = judge(Expired::Refuse, late).unwrap_err();
    assert!(matches!(refused.as_slice(), [ChainError::Expired { depth: 0, .. }]));
    let warned = judge(Expired::Warn, late).unwrap();
    assert_eq!(warned.warnings(), refused);
}

#[test]
fn a_path_length_counts_authorities_but_none_that_made_itself_a_new_certificate() {
    let root = root("root");
    let mut params = parameters("limited");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let limited = root.certify(params);
    let roots = [root.certificate];
    let verify = |leaf: &Certificate, above: &[&Authority]| {
        let above: Vec<_> = above.iter().map(|authority| authority.certificate.clone()).collect();
        chain::verify(leaf, &above, &roots, now()).map(|_| ())
    };
    assert_eq!(verify(&limited.leaf(), &[&limited]), Ok(()));
    let deeper = limited.below("deeper");
    let refused = verify(&deeper.leaf(), &[&limited, &deeper]);
    assert_eq!(refused, Err(ChainError::PathLength { depth: 1 }));
    let renewed = limited.below("limited");
    assert_eq!(verify(&renewed.leaf(), &[&limited, &renewed]), Ok(()));
}

#[test]
fn a_path_has_a_greatest_length() {
    let top = root("0");
    let roots = [top.certificate.clone()];
    let mut authorities = vec![top];
    for name in 1..=MAX_DEPTH {
        let next = authorities.last().unwrap().below(&name.to_string());
        authorities.push(next);
    }
    let verify = |authorities: &[Authority]| {
        let all: Vec<_> = authorities.iter().map(|one| one.certificate.clone()).collect();
        chain::verify(&authorities.last().unwrap().leaf(), &all, &roots, now()).map(|_| ())
    };
    let (_, shorter) = authorities.split_last().unwrap();
    assert_eq!(verify(shorter), Ok(()));
    assert_eq!(verify(&authorities), Err(ChainError::TooLong { max: MAX_DEPTH }));
}

/// Authorities of one name and one key that certify each other: without a budget the ways grow as
/// the factorial of their number.
#[test]
fn a_crowd_of_namesakes_costs_no_more_than_the_budget() {
    let key = KeyPair::generate().unwrap();
    let crowd: Vec<_> = (0..400u32)
        .map(|serial| {
            let mut params = parameters("one");
            params.serial_number = Some(SerialNumber::from(u64::from(serial)));
            Certificate::parse(params.self_signed(&key).unwrap().der()).unwrap()
        })
        .collect();
    let issuer = Issuer::new(parameters("one"), key);
    let one = Authority { certificate: crowd[0].clone(), issuer };
    let leaf = one.leaf();
    let refused = chain::verify(&leaf, &crowd, &[], now()).unwrap_err();
    assert_eq!(refused, ChainError::TooLong { max: MAX_DEPTH });
    // Namesakes with other keys do not keep the right one from being found: it is hinted at.
    let root = root("root");
    let right = root.below("one");
    let strangers = crowd.iter().cloned().chain([right.certificate.clone()]).collect::<Vec<_>>();
    let path = chain::verify(&right.leaf(), &strangers, &[root.certificate], now());
    assert_eq!(path.unwrap().certificates().len(), 3);
    println!("a crowd of {}: at most {MAX_SIGNATURES} signatures", crowd.len());
}

#[test]
fn a_revoked_certificate_is_refused_wherever_it_stands() {
    let root = root("root");
    let mut params = parameters("middle");
    params.serial_number = Some(SerialNumber::from(vec![5]));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let middle = root.certify(params);
    let leaf = middle.leaf();
    let verify = |lists: &[RevocationList]| {
        let rules = with_lists(Lists::Given(lists));
        let roots = [root.certificate.clone()];
        chain::verify_by(&rules, &leaf, std::slice::from_ref(&middle.certificate), &roots)
    };
    let (by_root, by_middle) = (root.current_list(&[9]), middle.current_list(&[9]));
    let path = verify(&[by_root.clone(), by_middle.clone()]).unwrap();
    assert!(path.not_checked().is_empty());
    let path = verify(std::slice::from_ref(&by_root)).unwrap();
    assert_eq!(path.not_checked(), ["revocation of certificate 0: no CRL of its issuer"]);

    let revoked = verify(&[by_root.clone(), middle.current_list(&[1, 7])]).unwrap_err();
    assert!(matches!(revoked.as_slice(), [ChainError::Revoked { depth: 0, .. }]));
    let revoked = verify(&[root.current_list(&[5]), by_middle]).unwrap_err();
    assert!(matches!(revoked.as_slice(), [ChainError::Revoked { depth: 1, .. }]));
    // A serial number means something only beside its issuer.
    assert!(verify(&[root.current_list(&[7]), middle.current_list(&[5])]).is_ok());
}

#[test]
fn a_list_that_is_given_must_be_the_issuers_signed_and_current() {
    let root = root("root");
    let roots = [root.certificate.clone()];
    let leaf = root.leaf();
    let namesake = self::root("root");
    let verify =
        |lists: Lists<'_>| chain::verify_by(&with_lists(lists), &leaf, &[], &roots).map(|_| ());
    for foreign in [self::root("other").current_list(&[]), namesake.current_list(&[])] {
        let lists = [root.current_list(&[]), foreign];
        let refused = verify(Lists::Given(&lists)).unwrap_err();
        assert_eq!(refused, [ChainError::RevocationList { list: 1 }]);
        assert_eq!(verify(Lists::Stock(&lists)), Ok(()));
    }
    for (from, to) in [((2026, 9), (2026, 10)), ((2026, 12), (2027, 1))] {
        let lists = [root.list(&[], from, to)];
        for lists in [Lists::Given(&lists), Lists::Stock(&lists)] {
            let refused = verify(lists).unwrap_err();
            let stale = matches!(refused[..], [ChainError::RevocationListStale { list: 0, .. }]);
            assert!(stale, "{refused:?}");
        }
    }
    // What was revoked stays so in a list that is out of date.
    let lists = [root.list(&[7], (2026, 9), (2026, 10))];
    let refused = verify(Lists::Given(&lists)).unwrap_err();
    assert!(matches!(refused[0], ChainError::Revoked { depth: 0, .. }));
}

#[test]
fn an_issuer_that_may_not_sign_lists_signs_none() {
    let root = root("root");
    let mut params = parameters("middle");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let able = root.certify(params.clone());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let der = params.signed_by(able.issuer.key(), &root.issuer).unwrap();
    let unable = Certificate::parse(der.der()).unwrap();
    let lists = [able.current_list(&[])];
    let leaf = able.leaf();
    let verify = |middle: &Certificate| {
        let roots = [root.certificate.clone()];
        let rules = with_lists(Lists::Given(&lists));
        chain::verify_by(&rules, &leaf, std::slice::from_ref(middle), &roots).map(|_| ())
    };
    assert_eq!(verify(&able.certificate), Ok(()));
    assert_eq!(verify(&unable), Err(vec![ChainError::RevocationList { list: 0 }]));
}

/// An issuer is a name and a key. Whoever brings the path brings a second certificate of the root
/// along, so that the leaf is issued by that and the list by the root.
#[test]
fn a_second_certificate_of_the_issuer_does_not_hide_what_it_revoked() {
    let root = root("root");
    let again = |change: fn(&mut CertificateParams)| {
        let mut params = parameters("root");
        params.serial_number = Some(SerialNumber::from(vec![9]));
        change(&mut params);
        let der = params.self_signed(root.issuer.key()).unwrap();
        Certificate::parse(der.der()).unwrap()
    };
    let second = [
        again(|_| ()),
        again(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
        again(|params| {
            let name = DnValue::PrintableString("root".try_into().unwrap());
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        }),
    ];
    let leaf = root.leaf();
    let roots = [root.certificate.clone()];
    for second in second {
        assert_ne!(second, root.certificate);
        let verify = |lists: Lists<'_>| {
            let above = std::slice::from_ref(&second);
            chain::verify_by(&with_lists(lists), &leaf, above, &roots)
        };
        let (with, without) = ([root.current_list(&[7])], [root.current_list(&[8])]);
        for lists in [Lists::Given(&with), Lists::Stock(&with)] {
            let faults = verify(lists).unwrap_err();
            assert!(matches!(faults[..], [ChainError::Revoked { depth: 0, .. }]), "{faults:?}");
        }
        for lists in [Lists::Given(&without), Lists::Stock(&without)] {
            assert!(verify(lists).unwrap().not_checked().is_empty());
        }
    }
    // The same name with another key is somebody else, and its list says nothing here.
    let namesake = [self::root("root").current_list(&[7])];
    let rules = with_lists(Lists::Stock(&namesake));
    let path = chain::verify_by(&rules, &leaf, &[], &roots).unwrap();
    assert_eq!(path.not_checked(), ["revocation of certificate 0: no CRL of its issuer"]);
}

#[test]
fn one_of_several_lists_speaks_only_of_certificates_that_point_to_it() {
    let root = root("root");
    let list = |serials: &[u8]| {
        let day = |month| rcgen::date_time_ymd(2026, month, 1);
        let revoked = |&serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from(vec![serial]),
            revocation_time: day(11),
            reason_code: None,
            invalidity_date: None,
        };
        let part = rcgen::CrlDistributionPoint {
            uris: vec!["http://a.example/1".into(), "http://b.example/1".into()],
        };
        let params = CertificateRevocationListParams {
            this_update: day(11),
            next_update: day(12),
            crl_number: SerialNumber::from(vec![1]),
            issuing_distribution_point: Some(rcgen::CrlIssuingDistributionPoint {
                distribution_point: part,
                scope: None,
            }),
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        [RevocationList::parse(params.signed_by(&root.issuer).unwrap().der()).unwrap()]
    };
    let pointing_to = |uris: &[&str]| {
        root.leaf_with(|leaf| {
            let point = |uri: &&str| rcgen::CrlDistributionPoint { uris: vec![(*uri).into()] };
            leaf.crl_distribution_points = uris.iter().map(point).collect();
        })
    };
    let roots = [root.certificate.clone()];
    let verify = |leaf: &Certificate, lists: Lists<'_>| {
        chain::verify_by(&with_lists(lists), leaf, &[], &roots)
    };
    let gap = ["revocation of certificate 0: no CRL of its issuer"];
    let (with, without) = (list(&[7]), list(&[8]));
    for (uris, spoken_of) in [
        (&["http://b.example/1"][..], true),
        (&["http://a.example/2", "http://a.example/1"], true),
        (&["http://a.example/2"], false),
        (&["http://a.example/11"], false),
        (&[], false),
    ] {
        let leaf = pointing_to(uris);
        assert_eq!(without[0].speaks_of(&leaf), spoken_of, "{uris:?}");
        for lists in [Lists::Given(&without), Lists::Stock(&without)] {
            let told: &[&str] = if spoken_of { &[] } else { &gap };
            assert_eq!(verify(&leaf, lists).unwrap().not_checked(), told, "{uris:?}");
        }
        // What its issuer revoked is revoked, wherever that is said.
        let faults = verify(&leaf, Lists::Given(&with)).unwrap_err();
        assert!(matches!(faults[..], [ChainError::Revoked { depth: 0, .. }]), "{faults:?}");
    }
}

#[test]
fn names_are_compared_whatever_string_and_case_they_came_in() {
    let tree = |text: &str| {
        let mut name = rcgen::DistinguishedName::new();
        name.push(DnType::CommonName, DnValue::Utf8String(text.into()));
        rcgen::GeneralSubtree::DirectoryName(name)
    };
    let root = root("root");
    let verify = |permitted: Option<&str>, excluded: Option<&str>, value: DnValue| {
        let mut params = parameters("middle");
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: permitted.map(tree).into_iter().collect(),
            excluded_subtrees: excluded.map(tree).into_iter().collect(),
        });
        let middle = root.certify(params);
        let leaf = middle.leaf_with(|leaf| {
            leaf.distinguished_name = rcgen::DistinguishedName::new();
            leaf.distinguished_name.push(DnType::CommonName, value);
        });
        let roots = [root.certificate.clone()];
        chain::verify(&leaf, &[middle.certificate], &roots, now()).map(|_| ())
    };
    let printable = |text: &str| DnValue::PrintableString(text.try_into().unwrap());
    let wide = |text: &str| DnValue::BmpString(text.try_into().unwrap());
    let refused = Err(ChainError::NameConstraint { depth: 1 });
    assert_eq!(verify(Some("Host A"), None, printable("host  a")), Ok(()));
    assert_eq!(verify(Some("Host A"), None, printable("host b")), refused);
    assert_eq!(verify(None, Some("Host A"), printable("HOST A")), refused);
    assert_eq!(verify(None, Some("Host A"), printable("host b")), Ok(()));
    // What cannot be compared is neither permitted nor left unexcluded.
    assert_eq!(verify(Some("Host A"), None, wide("Host A")), refused);
    assert_eq!(verify(None, Some("Host A"), wide("Host B")), refused);
}

#[test]
fn a_constraint_on_a_form_that_is_not_evaluated_concerns_only_names_of_that_form() {
    let root = root("root");
    let mut params = parameters("middle");
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.org".into())],
        excluded_subtrees: vec![rcgen::GeneralSubtree::Rfc822Name("example.org".into())],
    });
    let middle = root.certify(params);
    let verify = |names: Vec<rcgen::SanType>, address: bool| {
        let leaf = middle.leaf_with(|leaf| {
            leaf.subject_alt_names = names;
            if address {
                let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
                leaf.distinguished_name.push(email, "a@example.net");
            }
        });
        let roots = [root.certificate.clone()];
        chain::verify(&leaf, std::slice::from_ref(&middle.certificate), &roots, now()).map(|_| ())
    };
    let refused = Err(ChainError::NameConstraint { depth: 1 });
    let dns = rcgen::SanType::DnsName("host.example.org".try_into().unwrap());
    let uri = rcgen::SanType::URI("spiffe://example.org/a".try_into().unwrap());
    assert_eq!(verify(vec![], false), Ok(()));
    assert_eq!(verify(vec![uri], false), Ok(()));
    assert_eq!(verify(vec![dns], false), refused);
    assert_eq!(verify(vec![], true), refused);
}

/// An element of DER, short enough for every case here.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u8::try_from(contents.len()).unwrap();
    assert!(length < 0x80);
    [&[tag, length], contents].concat()
}

fn directory(common_name: &str) -> Vec<u8> {
    let kind = element(6, &[0x55, 4, 3]);
    let attribute = element(0x30, &[kind, element(0x0c, common_name.as_bytes())].concat());
    element(0xa4, &element(0x30, &element(0x31, &attribute)))
}

fn extension(last: u64, value: Vec<u8>) -> rcgen::CustomExtension {
    rcgen::CustomExtension::from_oid_content(&[2, 5, 29, last], value)
}

#[test]
fn a_constraint_that_is_half_understood_is_not_understood() {
    let root = root("root");
    let roots = [root.certificate.clone()];
    let verify = |lists: &[Vec<u8>]| {
        let mut params = parameters("middle");
        params.custom_extensions = vec![extension(30, element(0x30, &lists.concat()))];
        let middle = root.certify(params);
        let leaf = middle.leaf_with(|leaf| {
            leaf.distinguished_name = rcgen::DistinguishedName::new();
            leaf.distinguished_name.push(DnType::CommonName, "evil");
        });
        chain::verify(&leaf, &[middle.certificate], &roots, now()).map(|_| ())
    };
    let tree = |base: &[u8]| element(0x30, base);
    let permitted = |trees: &[u8]| element(0xa0, trees);
    let excluded = element(0xa1, &tree(&directory("evil")));
    assert_eq!(verify(&[permitted(&tree(&directory("evil")))]), Ok(()));
    let broken = Err(ChainError::NameConstraint { depth: 1 });
    assert_eq!(verify(std::slice::from_ref(&excluded)), broken);
    assert_eq!(verify(&[permitted(&tree(&directory("evil"))), excluded.clone()]), broken);
    let unknown = Err(ChainError::CriticalExtension { depth: 1, oid: "2.5.29.30".into() });
    let name = directory("evil");
    for (what, first) in [
        ("a base of a universal tag", permitted(&tree(&element(0x0c, b"evil")))),
        ("a base of a private tag", permitted(&tree(&element(0xc2, b"evil")))),
        ("a base of no form of name", permitted(&tree(&element(0x89, b"evil")))),
        ("a subtree that is a SET", permitted(&element(0x31, &name))),
        ("a list of none", permitted(&[])),
        ("a subtree of nothing", permitted(&tree(&[]))),
        ("a base and more", permitted(&tree(&[name.clone(), vec![0x80, 1, 0]].concat()))),
        ("one whole and one not", permitted(&[tree(&name), element(0x31, &name)].concat())),
        ("a list of no number", element(0xa2, &tree(&name))),
    ] {
        assert_eq!(verify(&[first.clone(), excluded.clone()]), unknown, "{what}");
        assert_eq!(verify(&[first]), unknown, "{what}, alone");
    }
    assert_eq!(verify(&[excluded, permitted(&tree(&name))]), unknown, "the wrong order");
}

#[test]
fn what_stands_behind_the_value_of_an_extension_that_decides_is_not_passed_over() {
    let root = root("root");
    let roots = [root.certificate.clone()];
    let names = element(0x30, &directory("host"));
    let more = element(0x30, &element(0x82, b"host.example.org"));
    let client = element(0x30, &element(6, &[0x2b, 6, 1, 5, 5, 7, 3, 2]));
    for (last, whole, behind) in [
        (17, names, more.as_slice()),
        (37, client, &more),
        (19, element(0x30, &[]), &[0]),
        (15, element(3, &[5, 0x20]), &[0]),
    ] {
        let verify = |value: Vec<u8>| {
            let leaf = root.leaf_with(|leaf| {
                leaf.custom_extensions = vec![extension(last, value)];
            });
            chain::verify(&leaf, &[], &roots, now()).map(|_| ())
        };
        let unknown = ChainError::CriticalExtension { depth: 0, oid: format!("2.5.29.{last}") };
        assert_eq!(verify(whole.clone()), Ok(()), "{last}");
        assert_eq!(verify([&whole, behind].concat()), Err(unknown), "{last}");
    }
}

#[test]
fn a_name_that_cannot_be_read_is_refused_below_any_constraint() {
    let root = root("root");
    let roots = [root.certificate.clone()];
    let mut params = parameters("middle");
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![],
        excluded_subtrees: vec![rcgen::GeneralSubtree::DnsName("example.org".into())],
    });
    let (free, bound) = (root.below("middle"), root.certify(params));
    let verify = |middle: &Authority, name: &[u8]| {
        let leaf = middle.leaf_with(|leaf| {
            leaf.custom_extensions = vec![extension(17, element(0x30, name))];
        });
        let above = std::slice::from_ref(&middle.certificate);
        chain::verify(&leaf, above, &roots, now()).map(|_| ())
    };
    let refused = Err(ChainError::NameConstraint { depth: 1 });
    assert_eq!(verify(&bound, &directory("host")), Ok(()));
    assert_eq!(verify(&bound, &element(0x82, b"host.example.org")), refused);
    for unreadable in [
        element(0x82, b"host.example.org\xff"),
        element(0xa4, &[0x30]),
        element(0xa3, &[]),
        element(0xa5, &[]),
        element(0x89, &[1]),
    ] {
        assert_eq!(verify(&free, &unreadable), Ok(()), "{unreadable:x?}");
        assert_eq!(verify(&bound, &unreadable), refused, "{unreadable:x?}");
    }
}

/// The same elements with one byte more of length than need be, at `place`.
fn longer(der: &[u8], place: usize) -> Vec<u8> {
    let digits = usize::from(der[place + 1] & 0x7f);
    let (head, rest) = der.split_at(place + 1);
    match rest[0] {
        short @ 0..=0x7f => [head, &[0x81, short], &rest[1..]].concat(),
        long => [head, &[long + 1, 0], &rest[1..=digits], &rest[1 + digits..]].concat(),
    }
}

#[test]
fn what_is_signed_has_one_encoding_outside_of_the_signature() {
    let root = root("root");
    let leaf = root.leaf();
    let der = leaf.der();
    assert_eq!(Certificate::parse(der).unwrap(), leaf);
    assert!(Certificate::parse(&longer(der, 0)).is_err(), "the whole");
    // The bit string of an ECDSA signature: its tag and one byte of length stand before it.
    let place = der.len() - leaf.signature().len() - 3;
    assert_eq!(der[place], 3);
    let mut long = longer(der, place);
    let length = u16::from_be_bytes([long[2], long[3]]) + 1;
    long[2..4].copy_from_slice(&length.to_be_bytes());
    assert!(Certificate::parse(&long).is_err(), "the signature");
}
