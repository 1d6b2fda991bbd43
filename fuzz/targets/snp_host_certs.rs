//! A host's certificate table of any bytes beside a genuine report.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_snp::Anchors;
use assay_snp::Evidence;
use assay_snp::host_certificates::HostCertificates;
use libfuzzer_sys::fuzz_target;

static REPORT: &[u8] = include_bytes!("../../attestors/snp/vectors/machines/milan/report.bin");
static ANCHORS: LazyLock<Anchors> = LazyLock::new(|| {
    let ark = include_bytes!("../../attestors/snp/vectors/machines/milan/ark.der");
    Anchors::amd().with_operator_roots(vec![Certificate::parse(ark).expect("a vector")])
});

fuzz_target!(|bytes: &[u8]| {
    let _ = HostCertificates::parse(bytes);
    let now = Time::from_unix_s(1_780_272_000);
    let evidence =
        Evidence { report: REPORT, host_certificates: Some(bytes), ..Evidence::default() };
    let _ = assay_snp::verify(&evidence, &ANCHORS, None, now);
});
