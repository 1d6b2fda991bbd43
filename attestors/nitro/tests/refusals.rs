//! One security module of the tests' own, and for each rule one change that breaks it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/forge.rs"]
mod forge;

use assay_evidence::Time;
use assay_nitro::Anchors;
use assay_nitro::Claims;
use assay_nitro::Policy;
use assay_nitro::appraise;
use assay_nitro::verify;
use forge::Module;
use forge::NONCE;
use forge::NOW;
use forge::head;
use forge::string;
use forge::unsigned;
use proptest::prelude::*;
use rcgen::BasicConstraints;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;

/// The change alone is told, by this code.
#[track_caller]
fn only(expected: &str, change: impl FnOnce(&mut Module)) {
    assert_eq!(Module::new().with(change).refusal(), [expected]);
}

#[test]
fn the_module_itself_is_genuine_and_of_no_vendor() {
    let claims = Module::new().verify().unwrap();
    let written = serde_json::to_value(&claims).unwrap();
    assert_eq!((&written["root"], &written["tier"]), (&"operator-supplied".into(), &"none".into()));
    assert_eq!(written["pcrs"]["15"], "10".repeat(48));
    let findings = appraise(&claims, &Policy::default(), NOW);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].code.code(), "root-operator-supplied");
}

#[test]
fn a_map_of_indefinite_length_and_in_any_order_is_read() {
    Module::new()
        .with(|m| {
            m.indefinite = true;
            m.fields.reverse();
        })
        .verify()
        .unwrap();
}

#[test]
fn what_is_optional_may_be_null_or_missing() {
    let nothing = Module::new()
        .with(|m| m.fields.retain(|(name, _)| !["public_key", "user_data"].contains(name)));
    assert_eq!(nothing.verify().unwrap().user_data(), None);
    only("nonce-mismatch", |m| m.field("nonce", vec![0xf6]));
    only("nonce-mismatch", |m| m.field("nonce", string(2, &NONCE[..31])));
    let document = Module::new();
    let (bytes, anchors) = (document.document(), document.anchors());
    assert!(verify(&bytes, &anchors, Some(&[]), NOW).is_err(), "an empty nonce is none");
    let claims = verify(&bytes, &anchors, None, NOW).unwrap();
    assert!(claims.not_checked().iter().any(|line| line.starts_with("nonce")));
}

#[test]
fn bytes_that_are_no_document_are_told_from_broken_ones() {
    let module = Module::new();
    let (document, anchors) = (module.document(), module.anchors());
    let judge = |bytes: &[u8]| {
        verify(bytes, &anchors, Some(&NONCE), NOW).map_err(|faults| faults.reason().code()).err()
    };
    assert_eq!(judge(&document), None);
    assert_eq!(judge(&[]), Some("not-a-document"));
    assert_eq!(judge(b"{\"document\":1}"), Some("not-a-document"));
    let tagged = [&[0xd2], document.as_slice()].concat();
    assert_eq!(judge(&tagged), Some("not-a-document"));
    let longer = [document.as_slice(), &[0]].concat();
    assert_eq!(judge(&longer), Some("document-malformed"));
    assert_eq!(judge(&vec![0x84; 17 * 1024]), Some("document-limits"));
    for end in 0..document.len() {
        assert!(judge(&document[..end]).is_some(), "{end}");
    }
    // The payload's length in a longer form than it needs.
    let at = 7;
    assert_eq!(document[at], 0x59);
    let wider = [&document[..at], &[0x5a, 0, 0], &document[at + 1..]].concat();
    assert_eq!(judge(&wider), Some("document-malformed"));
}

#[test]
fn only_es384_alone_is_a_header() {
    let headers = [
        vec![0xa1, 0x01, 0x26],                   // ES256
        vec![0xa1, 0x01, 0x38, 0x23],             // ES512
        vec![0xa2, 0x01, 0x38, 0x22, 0x04, 0x40], // a key id too
        vec![0xa0],
        vec![],
    ];
    for header in headers {
        only("cose-algorithm", |m| m.protected = header);
    }
    only("document-malformed", |m| m.unprotected = vec![0xa1, 0x04, 0x40]);
}

#[test]
fn fields_are_known_there_once_and_of_their_kind() {
    for name in ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"] {
        only("document-malformed", |m| m.fields.retain(|(other, _)| *other != name));
        only("document-malformed", |m| m.field(name, vec![0xf6]));
    }
    only("document-malformed", |m| m.fields[7].0 = "nonce");
    only("document-malformed", |m| m.fields[7].0 = "comment");
    only("document-limits", |m| m.fields.push(("nonce", vec![0xf6])));
    only("document-malformed", |m| m.field("user_data", string(3, b"text")));
    only("document-malformed", |m| m.field("timestamp", unsigned(u64::MAX)));
}

#[test]
fn counts_and_sizes_are_bounded() {
    only("document-limits", |m| m.field("user_data", string(2, &[0; 1025])));
    only("document-limits", |m| m.field("public_key", string(2, &[0; 1025])));
    only("document-limits", |m| m.field("nonce", string(2, &[0; 1025])));
    only("document-limits", |m| m.field("module_id", string(3, b"")));
    only("document-limits", |m| m.field("certificate", string(2, &[0; 1025])));
    only("document-limits", |m| m.bundle = vec![vec![0x30]; 9]);
    only("document-malformed", |m| m.field("cabundle", vec![0x80]));
    let register =
        |number: u64, value: &[u8]| [head(5, 1), unsigned(number), string(2, value)].concat();
    only("document-limits", |m| m.field("pcrs", register(32, &[1; 48])));
    only("document-limits", |m| m.field("pcrs", register(256, &[1; 48])));
    only("document-limits", |m| m.field("pcrs", register(0, &[1; 47])));
    only("document-malformed", |m| m.field("pcrs", vec![0xa0]));
    let twice = [head(5, 2), register(0, &[1; 48])[1..].repeat(2)].concat();
    only("document-malformed", |m| m.field("pcrs", twice));
    Module::new().with(|m| m.field("user_data", string(2, &[0; 1024]))).verify().unwrap();
}

#[test]
fn registers_are_sha384() {
    only("document-digest", |m| m.field("digest", string(3, b"SHA256")));
    only("document-digest", |m| m.field("digest", string(3, b"sha384")));
}

#[test]
fn the_bundle_begins_with_a_pinned_root() {
    let module = Module::new();
    let faults = verify(&module.document(), &Anchors::aws(), Some(&NONCE), NOW).unwrap_err();
    assert_eq!(faults.reason().code(), "root-not-trusted");
    // Without its root in front, and with one of another module.
    let rest = || module.chain[1..3].iter().map(|link| link.certificate.clone());
    let anchors = module.anchors();
    let judge = |bundle: Vec<Vec<u8>>| {
        let changed = Module::new().with(|m| m.bundle = bundle);
        verify(&changed.document(), &anchors, Some(&NONCE), NOW).unwrap_err().reason().code()
    };
    assert_eq!(judge(rest().collect()), "root-not-trusted");
    let foreign = Module::new().chain[0].certificate.clone();
    assert_eq!(judge(std::iter::once(foreign).chain(rest()).collect()), "root-not-trusted");
}

#[test]
fn each_link_is_signed_by_the_one_above_in_the_bundles_own_order() {
    let other = Module::new();
    for depth in [1, 2] {
        let refusal = Module::new()
            .with(|m| {
                m.bundle = m.chain[..3].iter().map(|link| link.certificate.clone()).collect();
                m.bundle[depth] = other.chain[depth].certificate.clone();
            })
            .refusal();
        assert_eq!(refusal[0], "chain-broken");
    }
    let swapped = Module::new().with(|m| {
        m.bundle = [0, 2, 1].map(|at| m.chain[at].certificate.clone()).to_vec();
    });
    assert_eq!(swapped.refusal()[0], "chain-broken");
    only("cert-malformed", |m| {
        m.bundle = m.chain[..3].iter().map(|link| link.certificate.clone()).collect();
        m.bundle[1].push(0);
    });
}

#[test]
fn an_issuer_may_issue() {
    let refused = |change: fn(usize, &mut rcgen::CertificateParams)| {
        assert_eq!(Module::with_chain(change).refusal(), ["issuer-not-ca"]);
    };
    refused(|depth, certificate| {
        if depth == 2 {
            certificate.is_ca = IsCa::ExplicitNoCa;
        }
    });
    refused(|depth, certificate| {
        if depth == 2 {
            certificate.key_usages = vec![KeyUsagePurpose::CrlSign];
        }
    });
    refused(|depth, certificate| {
        if depth == 1 {
            certificate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        }
    });
}

#[test]
fn keys_of_another_curve_are_refused() {
    let module = Module::with_keys(
        |_, _| {},
        || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
    );
    assert_eq!(module.refusal()[0], "cert-malformed");
}

#[test]
fn another_keys_signature_is_refused() {
    let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    only("document-signature-invalid", |m| m.signer = Some(other));
}

#[test]
fn dates_are_judged_at_the_time_that_is_given_and_the_timestamp_within_them() {
    let module = Module::new();
    let (document, anchors) = (module.document(), module.anchors());
    let judge = |at| verify(&document, &anchors, Some(&NONCE), at).map_err(|f| f.reason().code());
    assert!(judge(NOW).is_ok());
    assert_eq!(anchors.remembered_chains(), 1);
    let day = std::time::Duration::from_secs(86_401);
    assert_eq!(judge(NOW + day).err(), Some("document-expired"));
    assert_eq!(judge(NOW - day).err(), Some("document-expired"));
    for timestamp in [1_780_272_301_000_u64, 1_780_000_000_000, 1_790_000_000_000] {
        only("document-expired", |m| m.field("timestamp", unsigned(timestamp)));
    }
    Module::new().with(|m| m.field("timestamp", unsigned(1_780_272_300_000))).verify().unwrap();
}

#[test]
fn a_debug_enclave_is_genuine_and_refused_by_policy() {
    let zero = [head(5, 1), unsigned(0), string(2, &[0; 48])].concat();
    let claims = Module::new().with(|m| m.field("pcrs", zero)).verify().unwrap();
    assert!(claims.debug());
    let policy = |text: &str| -> Policy {
        toml::from_str(&format!("allow_operator_root = true\n{text}")).unwrap()
    };
    let codes = |claims: &Claims, text: &str, at: Time| {
        appraise(claims, &policy(text), at).iter().map(|f| f.code.code()).collect::<Vec<_>>()
    };
    assert_eq!(codes(&claims, "", NOW), ["nitro-debug-mode"]);
    assert_eq!(codes(&claims, "allow_debug = true", NOW), [""; 0]);
    let claims = Module::new().verify().unwrap();
    let later = Time::from_unix_s(1_780_272_000 + 700);
    assert_eq!(codes(&claims, "max_age_s = 600", NOW), [""; 0]);
    assert_eq!(codes(&claims, "max_age_s = 600", later), ["document-expired"]);
    let known = format!("pcr.0 = [\"{}\"]", "01".repeat(48));
    assert_eq!(codes(&claims, &known, NOW), [""; 0]);
    assert_eq!(codes(&claims, &known.replace("pcr.0", "pcr.1"), NOW), ["register-mismatch"]);
    assert_eq!(codes(&claims, &known.replace("pcr.0", "pcr.20"), NOW), ["register-mismatch"]);
}

#[test]
fn no_other_bit_of_a_document_is_accepted() {
    let module = Module::new();
    let (mut document, anchors) = (module.document(), module.anchors());
    let mut flips = 0;
    for place in 0..document.len() {
        for bit in 0..8 {
            document[place] ^= 1 << bit;
            assert!(verify(&document, &anchors, Some(&NONCE), NOW).is_err(), "{place}.{bit}");
            document[place] ^= 1 << bit;
            flips += 1;
        }
    }
    println!("{flips} flips, none accepted");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let payload = string(2, &bytes);
        let document =
            [&b"\x84\x44\xa1\x01\x38\x22\xa0"[..], &payload, &string(2, &[1; 96])].concat();
        prop_assert!(verify(&document, &Anchors::aws(), None, NOW).is_err());
        prop_assert!(verify(&bytes, &Anchors::aws(), None, NOW).is_err());
    }

    #[test]
    fn what_a_document_says_is_what_was_written(
        data in proptest::collection::vec(any::<u8>(), 0..1024), pcr: [u8; 32],
    ) {
        let module = Module::new().with(|m| {
            m.field("user_data", string(2, &data));
            m.field("pcrs", [head(5, 1), unsigned(31), string(2, &pcr)].concat());
        });
        let document = module.document();
        let read = assay_nitro::Document::parse(&document).unwrap();
        prop_assert_eq!(read.user_data, Some(data.as_slice()));
        prop_assert_eq!(read.pcrs[&31], &pcr);
        prop_assert_eq!(read.payload, module.payload());
    }
}
