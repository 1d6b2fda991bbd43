//! One machine of the tests' own, and for each rule one change that breaks it: what is refused,
//! and by which code. The same machine unchanged is genuine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/forge.rs"]
mod forge;

use assay_evidence::Time;
use assay_snp::Anchors;
use assay_snp::Evidence;
use assay_snp::Policy;
use assay_snp::appraise;
use assay_snp::policy::Tier;
use forge::Machine;
use forge::NOW;
use forge::REPORT_DATA;
use forge::RevocationDraft;
use forge::element;
use forge::integer;
use forge::pss;
use forge::pss_with;

/// The change alone is told, by this code.
#[track_caller]
fn only(expected: &str, machine: Machine, change: impl FnOnce(&mut Machine)) {
    let (code, all) = machine.with(change).refusal();
    assert_eq!((code, all.as_slice()), (expected, &[expected][..]));
}

/// The change is told first; what follows from it comes behind.
#[track_caller]
fn first(expected: &str, machine: Machine, change: impl FnOnce(&mut Machine)) -> Vec<&'static str> {
    let (code, all) = machine.with(change).refusal();
    assert_eq!(code, expected, "{all:?}");
    all
}

#[test]
fn the_machines_themselves_are_genuine_and_of_no_vendor() {
    for machine in [Machine::milan(), Machine::milan_vlek(), Machine::turin()] {
        let claims = machine.verify().unwrap();
        assert!(claims.operator_supplied_root());
        let written = serde_json::to_value(&claims).unwrap();
        assert_eq!(
            (&written["root"], &written["tier"]),
            (&"operator-supplied".into(), &"none".into())
        );
        let allowing = Policy { allow_operator_root: true, ..Policy::default() };
        assert_eq!(appraise(&claims, &allowing), []);
        let findings = appraise(&claims, &Policy::default());
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].code.code(), "root-operator-supplied");
        assert_eq!(assay_snp::policy::tier(&claims, &allowing), Tier::None);
    }
}

// --- shape ---

#[test]
fn a_version_that_is_not_known_is_not_read_as_one_that_is() {
    for version in [0, 1, 6, 7, 255] {
        only("report-version", Machine::milan(), |m| m.set(0, &[version]));
    }
    for version in [3, 4, 5] {
        Machine::milan().with(|m| m.set(0, &[version])).verify().unwrap();
    }
    // Version 2 has no CPUID: the product is the certificate's.
    Machine::milan()
        .with(|m| {
            m.set(0, &[2]);
            m.set(0x188, &[0; 3]);
        })
        .verify()
        .unwrap();
}

#[test]
fn reserved_bytes_are_zero_by_version() {
    // What a report of version 5 says is reserved before it.
    for version in [2, 3, 4] {
        first("report-reserved-bits", Machine::milan(), |m| {
            m.set(0, &[version]);
            m.set(0x1f8, &[1]);
        });
    }
    only("report-reserved-bits", Machine::milan(), |m| m.set(0, &[2]));
    let reserved = [0x04c, 0x04f, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x208, 0x29f];
    for place in reserved {
        only("report-reserved-bits", Machine::milan(), |m| m.set(place, &[0x80]));
        only("report-reserved-bits", Machine::turin(), |m| m.set(place, &[1]));
    }
}

#[test]
fn reserved_bits_of_words_are_zero_but_unknown_platform_bits_are_a_claim() {
    for bit in 26..64 {
        only("report-reserved-bits", Machine::milan(), |m| {
            m.set(0x008, &(1_u64 << bit | 0x30000).to_le_bytes());
        });
    }
    only("snp-guest-policy-invalid", Machine::milan(), |m| m.set(0x008, &[0, 0, 1]));
    for bit in 5..32 {
        only("report-reserved-bits", Machine::milan(), |m| {
            m.set(0x048, &(1_u32 << bit).to_le_bytes());
        });
    }
    for kind in 2..7 {
        only("report-reserved-bits", Machine::milan(), |m| m.set(0x048, &[kind << 2]));
    }
    let claims = Machine::milan().with(|m| m.set(0x041, &[0x10])).verify().unwrap();
    assert_eq!(claims.platform().unknown(), 0x1000);
}

#[test]
fn tcb_bytes_are_reserved_by_product() {
    for place in [0x038, 0x180, 0x1e0, 0x1f0] {
        for part in 2..6 {
            only("report-reserved-bits", Machine::milan(), |m| m.set(place + part, &[1]));
        }
        for part in 4..7 {
            only("report-reserved-bits", Machine::turin(), |m| m.set(place + part, &[1]));
        }
        // In version 2 only the certificate says which product it is.
        only("report-reserved-bits", Machine::milan(), |m| {
            m.set(0, &[2]);
            m.set(0x188, &[0; 3]);
            m.set(place + 2, &[1]);
        });
    }
}

#[test]
fn another_signature_algorithm_is_refused() {
    only("report-sig-algo", Machine::milan(), |m| m.set(0x034, &[0]));
    only("report-sig-algo", Machine::milan(), |m| m.set(0x034, &[2]));
}

#[test]
fn a_signature_out_of_range_is_invalid_before_it_is_verified() {
    let shown = Machine::milan().show();
    let anchors = shown.anchors();
    let order = "ffffffffffffffffffffffffffffffffffffffffffffffff\
                 c7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    let mut order = hex::decode(order).unwrap();
    order.reverse();
    for place in [0x2a0, 0x2e8] {
        for scalar in [vec![0; 48], order.clone(), vec![0xff; 48]] {
            let mut changed =
                forge::Shown { report: shown.report.clone(), ..Machine::milan().show() };
            changed.report[place..place + 48].copy_from_slice(&scalar);
            let faults = changed.verify(&anchors).unwrap_err();
            assert_eq!(faults.reason().code(), "sig-invalid");
        }
        for top in 48..72 {
            let mut changed = Machine::milan().show();
            changed.report[place + top] = 1;
            let faults = changed.verify(&anchors).unwrap_err();
            assert_eq!(faults.reason().code(), "sig-invalid");
        }
    }
}

#[test]
fn every_length_but_one_is_refused() {
    let shown = Machine::milan().show();
    let anchors = shown.anchors();
    for length in (0..1184).chain([1185, 1200, 4000, 4096]) {
        let mut report = shown.report.clone();
        report.resize(length, 0);
        let chain: [&[u8]; 1] = [&shown.issuer];
        let evidence = Evidence { report: &report, ..shown.evidence(&chain) };
        let faults = assay_snp::verify(&evidence, &anchors, None, NOW).unwrap_err();
        assert_eq!(faults.reason().code(), "report-length");
    }
}

// --- keys ---

#[test]
fn a_report_that_no_key_or_a_masked_key_signed_says_so_first() {
    let all = first("signing-key-none", Machine::milan(), |m| m.set(0x048, &[7 << 2]));
    assert_eq!(all, ["signing-key-none"]);
    only("chip-key-masked", Machine::milan(), |m| m.set(0x048, &[2]));
    // As such firmware writes it: no signature at all.
    let mut shown = Machine::milan().with(|m| m.set(0x048, &[2])).show();
    shown.report[0x2a0..].fill(0);
    let faults = shown.verify(&shown.anchors()).unwrap_err();
    assert_eq!(faults.reason().code(), "chip-key-masked");
}

#[test]
fn a_key_of_the_other_kind_is_refused() {
    only("vek-kind-mismatch", Machine::milan(), |m| m.set(0x048, &[4]));
    only("vek-kind-mismatch", Machine::milan_vlek(), |m| m.set(0x048, &[0]));
}

#[test]
fn an_issuer_of_the_other_kind_is_refused() {
    only("vek-wrong-issuer", Machine::milan_vlek(), |m| {
        m.issuer.subject = "SEV-Milan".into();
        m.vek.issuer = "SEV-Milan".into();
    });
    only("vek-wrong-issuer", Machine::milan(), |m| {
        m.issuer.subject = "SEV-VLEK-Milan".into();
        m.vek.issuer = "SEV-VLEK-Milan".into();
    });
}

#[test]
fn report_certificate_and_chain_are_of_one_product() {
    only("product-mismatch", Machine::milan(), |m| m.set(0x188, &[0x19, 0x11, 0x01]));
    // Turin's report with the certificate of a Milan chip, and the reverse.
    let (milan, turin) = (Machine::milan(), Machine::turin());
    for (report, certificates) in [(&turin, &milan), (&milan, &turin)] {
        first("product-mismatch", certificates.clone(), |m| m.report = report.report.clone());
    }
    // Turin read as Milan: what its TCB says is reserved there.
    first("report-reserved-bits", turin, |m| m.set(0x188, &[0x19, 0x01, 0x01]));
    // A model that is no product.
    only("product-mismatch", Machine::milan(), |m| m.set(0x188, &[0x19, 0x20, 0x01]));
    // The chain of another product.
    first("product-mismatch", Machine::milan(), |m| {
        m.issuer.subject = "SEV-Genoa".into();
        m.vek.issuer = "SEV-Genoa".into();
    });
    first("product-mismatch", Machine::milan(), |m| {
        for draft in [&mut m.ark, &mut m.issuer] {
            draft.subject = draft.subject.replace("Milan", "Genoa");
            draft.issuer = "ARK-Genoa".into();
        }
        m.vek.issuer = "SEV-Genoa".into();
    });
    first("product-mismatch", Machine::milan(), |m| {
        m.vek.extension(&[2], element(0x16, b"Genoa"));
        m.set(0x188, &[0x19, 0x11, 0x01]);
    });
}

#[test]
fn a_missing_certificate_is_told() {
    let shown = Machine::milan().show();
    let chain: [&[u8]; 2] = [&shown.issuer, &shown.ark];
    let evidence = Evidence { vek: None, ..shown.evidence(&chain) };
    let faults = assay_snp::verify(&evidence, &shown.anchors(), None, NOW).unwrap_err();
    assert_eq!(faults.reason().code(), "vek-missing");
}

/// The host's table in place of certificates one by one, changed before it is read.
fn with_table(vlek: bool, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), &'static str> {
    let machine = if vlek { Machine::milan_vlek() } else { Machine::milan() };
    let shown = machine.show();
    let mut table = shown.host_table(vlek);
    change(&mut table);
    let evidence =
        Evidence { report: &shown.report, host_certificates: Some(&table), ..Evidence::default() };
    assay_snp::verify(&evidence, &shown.anchors(), None, NOW)
        .map(drop)
        .map_err(|faults| faults.reason().code())
}

#[test]
fn a_host_table_is_read_strictly_or_not_at_all() {
    assert_eq!(with_table(false, |_| {}), Ok(()));
    assert_eq!(with_table(true, |_| {}), Ok(()));
    // Padding to a page is usual.
    assert_eq!(with_table(false, |table| table.resize(8192, 0)), Ok(()));
    let malformed = Err("host-certs-malformed");
    assert_eq!(with_table(false, Vec::clear), malformed);
    assert_eq!(with_table(false, |table| table.truncate(95)), malformed, "no zero entry");
    assert_eq!(with_table(false, |table| table[19] = 0xff), malformed, "offset");
    assert_eq!(with_table(false, |table| table[23] = 0xff), malformed, "length");
    assert_eq!(with_table(false, |table| table[16] = 0), malformed, "lies in the table");
    assert_eq!(with_table(false, |table| table[20] -= 1), malformed, "cut certificate");
    assert_eq!(with_table(false, |table| table.copy_within(0..16, 24)), malformed, "twice");
    assert_eq!(with_table(false, |table| table.resize(70_000, 0)), malformed, "size");
    // An entry of a provider's own is no fault, but then the key's certificate is missing.
    assert_eq!(with_table(false, |table| table[0] ^= 1), Err("vek-missing"));
    // A VLEK where a VCEK signed is not looked at.
    let mut vlek = Vec::new();
    assert_eq!(with_table(true, |table| vlek = table[..16].to_vec()), Ok(()));
    assert_eq!(with_table(false, |table| table[..16].copy_from_slice(&vlek)), Err("vek-missing"));
}

// --- chain ---

#[test]
fn a_root_that_is_not_pinned_is_refused_however_it_is_called() {
    let shown = Machine::milan().show();
    let faults = shown.verify(&Anchors::amd()).unwrap_err();
    assert_eq!(faults.iter().map(|f| f.reason().code()).collect::<Vec<_>>(), ["root-not-trusted"]);
    // Without the root in the chain it looks like one of AMD's, and is not signed by it.
    let evidence = shown.evidence(&[]);
    let faults = assay_snp::verify(&evidence, &Anchors::amd(), None, NOW).unwrap_err();
    assert_eq!(faults.reason().code(), "vek-not-signed-by-amd");
    let chain: [&[u8]; 1] = [&shown.issuer];
    let faults =
        assay_snp::verify(&shown.evidence(&chain), &Anchors::amd(), None, NOW).unwrap_err();
    assert_eq!(faults.reason().code(), "chain-broken");
}

#[test]
fn a_missing_issuer_is_told() {
    let machine = Machine::milan().with(|m| {
        m.issuer.subject = "SEV-Venice".into();
        m.vek.issuer = "SEV-Venice".into();
    });
    let shown = machine.show();
    let faults = assay_snp::verify(&shown.evidence(&[]), &shown.anchors(), None, NOW).unwrap_err();
    assert_eq!(faults.reason().code(), "chain-missing");
}

#[test]
fn each_link_of_the_chain_is_signed_by_the_one_above() {
    only("vek-not-signed-by-amd", Machine::milan(), |m| m.vek.signer = "other");
    only("chain-broken", Machine::milan(), |m| m.issuer.signer = "other");
    // The root's own signature is not asked: a root is a name and a key.
    Machine::milan().with(|m| m.ark.signer = "other").verify().unwrap();
}

#[test]
fn only_amds_one_signature_algorithm_is_accepted() {
    let others = [pss(32), pss(47), pss(0), pss_with(1, 48), pss_with(3, 48), rsa_pkcs1()];
    for algorithm in others {
        only("cert-signature-algorithm", Machine::milan(), |m| m.vek.algorithm = algorithm.clone());
        only("cert-signature-algorithm", Machine::milan(), |m| m.issuer.algorithm = algorithm);
    }
}

/// sha384WithRSAEncryption
fn rsa_pkcs1() -> Vec<u8> {
    element(0x30, &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0])
}

#[test]
fn an_issuer_that_may_not_issue_is_refused() {
    only("issuer-not-ca", Machine::milan(), |m| m.issuer.extensions[0].1 = element(0x30, &[]));
    only("issuer-not-ca", Machine::milan(), |m| m.issuer.extensions[1].1 = vec![3, 2, 1, 2]);
}

#[test]
fn dates_are_judged_at_the_time_that_is_given() {
    only("cert-expired", Machine::milan(), |m| m.vek.not_after = "260531235959Z");
    only("cert-expired", Machine::milan(), |m| m.vek.not_before = "260601000001Z");
    only("cert-expired", Machine::milan(), |m| m.issuer.not_after = "260531235959Z");
    Machine::milan()
        .with(|m| {
            m.vek.not_before = "260601000000Z";
            m.vek.not_after = "260601000000Z";
        })
        .verify()
        .unwrap();
    // Also where the signatures are remembered.
    let shown = Machine::milan().show();
    let (anchors, chain) = (shown.anchors(), [shown.issuer.as_slice(), shown.ark.as_slice()]);
    let judge = |at| assay_snp::verify(&shown.evidence(&chain), &anchors, None, at);
    judge(NOW).unwrap();
    assert_eq!(anchors.remembered_chains(), 1);
    let late = judge(Time::from_unix_s(1_900_000_000)).unwrap_err();
    assert_eq!(late.reason().code(), "cert-expired");
}

#[test]
fn a_revoked_issuer_is_refused() {
    let revoking = |serial: u8| {
        Some(RevocationDraft { revoked: vec![vec![7], vec![serial]], ..RevocationDraft::empty() })
    };
    for machine in [Machine::milan(), Machine::milan_vlek()] {
        only("cert-revoked", machine.clone(), |m| m.crl = revoking(2));
        let claims = machine.clone().with(|m| m.crl = revoking(3)).verify().unwrap();
        assert!(!claims.not_checked().iter().any(|line| line.starts_with("revocation")));
        let claims = machine.verify().unwrap();
        assert!(claims.not_checked().iter().any(|line| line.starts_with("revocation")));
    }
}

#[test]
fn a_revocation_list_counts_only_if_the_root_signed_it_and_it_is_in_force() {
    let with = |change: fn(&mut RevocationDraft)| {
        let mut draft = RevocationDraft::empty();
        change(&mut draft);
        Some(draft)
    };
    let crl = |expected, change| only(expected, Machine::milan(), |m| m.crl = with(change));
    crl("crl-invalid", |list| list.signer = "issuer");
    crl("crl-invalid", |list| list.issuer = "ARK-Genoa".into());
    // Of end entities only; one of several, to which the issuer does not point.
    crl("crl-invalid", |list| list.speaks_of = Some(vec![0x81, 1, 0xff]));
    let part = |list: &mut RevocationDraft| {
        let uri = forge::element(0x86, b"http://crl.example/2");
        list.speaks_of = Some(forge::element(0xa0, &forge::element(0xa0, &uri)));
    };
    crl("crl-invalid", part);
    let of_authorities = with(|list| list.speaks_of = Some(vec![0x82, 1, 0xff]));
    assert!(Machine::milan().with(|m| m.crl = of_authorities).verify().is_ok());
    crl("crl-stale", |list| list.next_update = "260531235959Z");
    crl("crl-stale", |list| list.this_update = "260601000001Z");
    // What a stale list revokes is revoked.
    let all = first("cert-revoked", Machine::milan(), |m| {
        m.crl = with(|list| {
            list.next_update = "260531235959Z";
            list.revoked = vec![vec![2]];
        });
    });
    assert_eq!(all, ["cert-revoked", "crl-stale"]);
    // Bytes that are no list.
    let mut shown = Machine::milan().show();
    shown.crl = Some(b"no list".to_vec());
    assert_eq!(shown.verify(&shown.anchors()).unwrap_err().reason().code(), "crl-invalid");
}

#[test]
fn a_certificate_that_lacks_what_such_a_one_says_is_malformed() {
    for arc in [&[2][..], &[3, 1], &[3, 2], &[3, 3], &[3, 8], &[4]] {
        only("cert-malformed", Machine::milan(), |m| {
            m.vek.extensions.retain(|(oid, _)| *oid != forge::amd(arc));
        });
    }
    only("cert-malformed", Machine::milan_vlek(), |m| {
        m.vek.extensions.retain(|(oid, _)| *oid != forge::amd(&[5]));
    });
    only("cert-malformed", Machine::milan(), |m| m.vek.subject = "SEV-VEK".into());
    only("cert-malformed", Machine::milan(), |m| m.vek.extension(&[3, 9], integer(1)));
    only("cert-malformed", Machine::turin(), |m| {
        m.vek.extensions.retain(|(oid, _)| *oid != forge::amd(&[3, 9]));
    });
    only("cert-malformed", Machine::turin(), |m| m.vek.extension(&[4], vec![0xc1; 64]));
    only("cert-malformed", Machine::milan(), |m| m.vek.extension(&[4], vec![0xc1; 63]));
    only("cert-malformed", Machine::milan(), |m| m.vek.extension(&[3, 4], integer(1)));
    // 219 without its sign byte is a negative number.
    only("cert-malformed", Machine::milan(), |m| m.vek.extension(&[3, 8], vec![2, 1, 219]));
    only("cert-malformed", Machine::milan(), |m| m.vek.extension(&[3, 1], vec![2, 2, 0, 4]));
}

#[test]
fn a_hardware_id_may_be_wrapped_in_an_octet_string() {
    let machine = Machine::milan().with(|m| {
        m.vek.extension(&[4], element(4, &forge::CHIP));
        m.vek.extension(&[3, 5], integer(0));
    });
    machine.verify().unwrap();
}

// --- signature, freshness, values ---

#[test]
fn a_report_that_another_key_signed_is_refused() {
    only("report-signature-invalid", Machine::milan(), |m| m.report_signer = "other");
}

#[test]
fn other_report_data_is_refused() {
    only("report-data-mismatch", Machine::milan(), |m| m.set(0x050, &[0]));
    only("report-data-mismatch", Machine::milan(), |m| m.set(0x08f, &[0]));
}

#[test]
fn a_certificate_of_another_chip_is_refused() {
    only("vek-chip-mismatch", Machine::milan(), |m| m.set(0x1df, &[0]));
    only("vek-chip-mismatch", Machine::milan(), |m| m.vek.extension(&[4], vec![0xc2; 64]));
    only("vek-chip-mismatch", Machine::turin(), |m| m.set(0x1a7, &[0]));
    // Behind Turin's eight bytes there is nothing.
    only("vek-chip-mismatch", Machine::turin(), |m| m.set(0x1df, &[1]));
}

#[test]
fn a_hidden_chip_is_genuine_and_refused_by_policy() {
    let claims = Machine::milan().with(|m| m.set(0x1a0, &[0; 64])).verify().unwrap();
    assert!(claims.not_checked().iter().any(|line| line.starts_with("chip-id")));
    let policy = Policy { allow_operator_root: true, ..Policy::default() };
    assert_eq!(appraise(&claims, &policy)[0].code.code(), "chip-id-masked");
    // With a VLEK there is no chip to hide.
    assert_eq!(appraise(&Machine::milan_vlek().verify().unwrap(), &policy), []);
}

#[test]
fn a_certificate_for_another_tcb_is_refused_part_by_part() {
    for part in [1, 2, 3, 8] {
        only("vek-tcb-mismatch", Machine::milan(), |m| m.vek.extension(&[3, part], integer(3)));
    }
    for part in [1, 2, 3, 8, 9] {
        only("vek-tcb-mismatch", Machine::turin(), |m| m.vek.extension(&[3, part], integer(9)));
    }
}

#[test]
fn tcbs_stand_in_their_order_and_launch_may_lie_above_reported() {
    // Reported above committed.
    only("tcb-order", Machine::milan(), |m| m.set(0x1e6, &[23]));
    // Committed above current, in one part only.
    only("tcb-order", Machine::milan(), |m| {
        m.set(0x1e7, &[220]);
        m.set(0x03e, &[25]);
    });
    // Provisional firmware is genuine, and so is a launch above what is reported.
    let machine = Machine::milan().with(|m| {
        m.set(0x03f, &[220]);
        m.set(0x1f7, &[220]);
    });
    let claims = machine.verify().unwrap();
    let policy = Policy { allow_operator_root: true, ..Policy::default() };
    assert_eq!(appraise(&claims, &policy), []);
    let strict = Policy { allow_provisional: false, ..policy };
    assert_eq!(appraise(&claims, &strict)[0].code.code(), "snp-firmware-provisional");
}

#[test]
fn a_fault_of_an_earlier_stage_is_told_before_a_later_one() {
    let all = first("report-signature-invalid", Machine::milan(), |m| {
        m.report_signer = "other";
        m.set(0x050, &[0]);
        m.set(0x1a0, &[0xc2]);
        m.vek.extension(&[3, 1], integer(3));
    });
    let expected = [
        "report-signature-invalid",
        "report-data-mismatch",
        "vek-chip-mismatch",
        "vek-tcb-mismatch",
    ];
    assert_eq!(all, expected);
    let all = first("chain-broken", Machine::milan(), |m| {
        m.issuer.signer = "other";
        m.report_signer = "other";
    });
    assert_eq!(all, ["chain-broken", "report-signature-invalid"]);
}

#[test]
fn a_remembered_chain_gives_the_verdicts_of_a_fresh_one() {
    let shown = Machine::milan().show();
    let (anchors, chain) = (shown.anchors(), [shown.issuer.as_slice(), shown.ark.as_slice()]);
    let cold = assay_snp::verify(&shown.evidence(&chain), &anchors, Some(&REPORT_DATA), NOW);
    let warm = assay_snp::verify(&shown.evidence(&chain), &anchors, Some(&REPORT_DATA), NOW);
    assert_eq!(
        serde_json::to_value(cold.unwrap()).unwrap(),
        serde_json::to_value(warm.unwrap()).unwrap()
    );
    // The chain was remembered with its companions, so a foreign root beside it is told again.
    let foreign = Machine::milan().with(|m| m.ark.serial = vec![9]).show();
    let wrong: [&[u8]; 2] = [&shown.issuer, &foreign.ark];
    let faults = assay_snp::verify(&shown.evidence(&wrong), &anchors, None, NOW).unwrap_err();
    assert_eq!(faults.reason().code(), "root-not-trusted");
    assert_eq!(anchors.remembered_chains(), 1);
}

#[test]
fn what_is_missing_is_named_by_its_path_at_amd() {
    let wanted = |machine: Machine, product| {
        let report = assay_snp::Report::parse(&machine.show().report).unwrap();
        assay_snp::endorsement::wants(&report, product)
    };
    let milan = wanted(Machine::milan(), None).unwrap();
    let chip = "c1".repeat(64);
    let path = format!("/vcek/v1/Milan/{chip}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219");
    assert_eq!(milan.vek_path().as_deref(), Some(path.as_str()));
    assert_eq!(milan.crl_path(), "/vcek/v1/Milan/crl");
    let path = "/vcek/v1/Turin/c1c1c1c1c1c1c1c1?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=81";
    assert_eq!(wanted(Machine::turin(), None).unwrap().vek_path().as_deref(), Some(path));
    // A VLEK is its owner's to get, and a chip that hides has no certificate to ask for.
    let vlek = wanted(Machine::milan_vlek(), None).unwrap();
    assert_eq!((vlek.vek_path(), vlek.chain_path()), (None, "/vlek/v1/Milan/cert_chain".into()));
    let hidden = Machine::milan().with(|m| m.set(0x1a0, &[0; 64]));
    assert_eq!(wanted(hidden, None).unwrap().chip, None);
    // Version 2 names no product; what is said counts, and never against what is named.
    let old = Machine::milan().with(|m| {
        m.set(0, &[2]);
        m.set(0x188, &[0; 3]);
    });
    assert_eq!(wanted(old.clone(), None), None);
    assert_eq!(wanted(old, Some(assay_snp::Product::Milan)), Some(milan));
    assert_eq!(wanted(Machine::milan(), Some(assay_snp::Product::Genoa)), None);
    assert_eq!(wanted(Machine::milan().with(|m| m.set(0x048, &[28])), None), None);
}
