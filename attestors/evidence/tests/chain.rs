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
