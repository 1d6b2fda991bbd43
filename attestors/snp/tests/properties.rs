//! What holds for all bytes, not only for those that somebody thought of.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/forge.rs"]
mod forge;

use assay_snp::Anchors;
use assay_snp::Evidence;
use assay_snp::Product;
use assay_snp::Report;
use assay_snp::host_certificates::HostCertificates;
use assay_snp::tcb::TcbBytes;
use assay_snp::verify;
use forge::Machine;
use forge::NOW;
use proptest::prelude::*;

fn product() -> impl Strategy<Value = Product> {
    prop::sample::select(Product::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(
        report in proptest::collection::vec(any::<u8>(), 0..1300),
        table in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let evidence = Evidence {
            report: &report,
            host_certificates: Some(&table),
            ..Evidence::default()
        };
        prop_assert!(verify(&evidence, &Anchors::amd(), None, NOW).is_err());
        let _ = HostCertificates::parse(&table);
    }

    #[test]
    fn a_report_with_any_bytes_changed_is_read_or_refused(
        places in proptest::collection::vec((0..1184_usize, any::<u8>()), 0..12),
    ) {
        let mut report = forge::signed_report(&Machine::milan().report, "vek");
        for (place, byte) in places {
            report[place] = byte;
        }
        let _ = Report::parse(&report);
    }

    #[test]
    fn tcb_bytes_read_back_as_they_were_written(bytes: [u8; 8], product in product()) {
        let bytes = TcbBytes(bytes);
        if let Some(tcb) = bytes.read(product) {
            prop_assert_eq!(tcb.write(product), bytes);
            prop_assert!(tcb.is_at_most(&tcb));
        }
    }

    #[test]
    fn what_a_report_says_is_what_was_written(
        svn: u32, data: [u8; 32], chip: [u8; 32], vmpl: u32, platform: u64,
    ) {
        let machine = Machine::milan().with(|m| {
            m.set(0x004, &svn.to_le_bytes());
            m.set(0x030, &vmpl.to_le_bytes());
            m.set(0x040, &platform.to_le_bytes());
            m.set(0x050, &data);
            m.set(0x1a0, &chip);
        });
        let mut bytes = machine.report;
        bytes.resize(1184, 1);
        bytes[0x2a0..].fill(0);
        let report = Report::parse(&bytes).unwrap();
        prop_assert_eq!(report.guest_svn, svn);
        prop_assert_eq!(report.vmpl, vmpl);
        prop_assert_eq!(report.platform_info.0, platform);
        prop_assert_eq!(&report.report_data[..32], &data);
        prop_assert_eq!(&report.chip_id[..32], &chip);
    }
}

/// Every bit of the certificates counts too, and of the list: flipped, it is refused.
#[test]
fn no_other_bit_of_certificate_issuer_or_list_is_accepted() {
    let genuine = Machine::milan().with(|m| m.crl = Some(forge::RevocationDraft::empty())).show();
    let anchors = genuine.anchors();
    genuine.verify(&anchors).unwrap();
    let mut flips = 0;
    let mut sweep = |bytes: &[u8], judge: &dyn Fn(&[u8]) -> bool| {
        let mut changed = bytes.to_vec();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                changed[place] ^= 1 << bit;
                assert!(!judge(&changed), "byte {place}, bit {bit}");
                changed[place] ^= 1 << bit;
                flips += 1;
            }
        }
    };
    let shown = |vek: &[u8], issuer: &[u8], ark: &[u8], crl: &[u8]| {
        let chain: [&[u8]; 2] = [issuer, ark];
        let evidence = Evidence { vek: Some(vek), crl: Some(crl), ..genuine.evidence(&chain) };
        verify(&evidence, &anchors, None, NOW).is_ok()
    };
    let crl = genuine.crl.clone().unwrap();
    let (vek, issuer, ark) = (&genuine.vek, &genuine.issuer, &genuine.ark);
    sweep(vek, &|vek| shown(vek, issuer, ark, &crl));
    sweep(issuer, &|issuer| shown(vek, issuer, ark, &crl));
    sweep(ark, &|ark| shown(vek, issuer, ark, &crl));
    sweep(&crl, &|crl| shown(vek, issuer, ark, crl));
    println!("{flips} flips of certificates and list, none accepted");
}

/// However many chains pass by, no more are kept than the limit says.
#[test]
fn the_memory_of_chains_is_bounded() {
    let shown = Machine::milan().show();
    let anchors = shown.anchors();
    let files: Vec<Vec<u8>> =
        (0..1100).map(|n| [format!("{n}\n").as_bytes(), &pem(&shown.vek)].concat()).collect();
    let chain: [&[u8]; 2] = [&shown.issuer, &shown.ark];
    for file in &files {
        let evidence = Evidence { vek: Some(file), ..shown.evidence(&chain) };
        verify(&evidence, &anchors, None, NOW).unwrap();
    }
    assert_eq!(anchors.remembered_chains(), 1024);
}

fn pem(der: &[u8]) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for chunk in line.chunks(3) {
            let mut bits = [0; 4];
            bits[1..=chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes(bits);
            for place in 0..4 {
                let digit = digits[(bits >> (18 - 6 * place) & 63) as usize];
                text.push(if place > chunk.len() { '=' } else { char::from(digit) });
            }
        }
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text.into_bytes()
}
