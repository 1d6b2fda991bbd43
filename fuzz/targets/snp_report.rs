//! A report of any bytes against a machine's certificates: read, or refused with a reason.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_snp::Anchors;
use assay_snp::Evidence;
use assay_snp::Policy;
use libfuzzer_sys::fuzz_target;

static VEK: &[u8] = include_bytes!("../../attestors/snp/vectors/machines/milan/vek.der");
static ISSUER: &[u8] = include_bytes!("../../attestors/snp/vectors/machines/milan/issuer.der");
static GENUINE: &[u8] = include_bytes!("../../attestors/snp/vectors/machines/milan/report.bin");
static ANCHORS: LazyLock<Anchors> = LazyLock::new(|| {
    let ark = include_bytes!("../../attestors/snp/vectors/machines/milan/ark.der");
    Anchors::amd().with_operator_roots(vec![Certificate::parse(ark).expect("a vector")])
});

fuzz_target!(|bytes: &[u8]| {
    let now = Time::from_unix_s(1_780_272_000);
    let chain = [ISSUER];
    let evidence = Evidence { report: bytes, vek: Some(VEK), chain: &chain, ..Evidence::default() };
    match assay_snp::verify(&evidence, &ANCHORS, None, now) {
        Ok(claims) => {
            assert_eq!(bytes.get(..0x2a0), GENUINE.get(..0x2a0), "only one report is signed");
            let _ = assay_snp::appraise(&claims, &Policy::default());
        }
        Err(faults) => assert!(!faults.findings().is_empty()),
    }
});
