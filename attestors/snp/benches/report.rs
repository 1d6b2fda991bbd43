//! What a report costs whose chain was verified before, beside the one signature that it cannot do
//! without: ECDSA P-384 by the faster of the house's two libraries.
//!
//! Both are measured in turns within one run, so the ratio holds on any machine; the promise is at
//! most 1.15. Cold is the first report of a chip, with two RSA signatures more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss)]

#[path = "../tests/support/forge.rs"]
mod forge;

use std::time::Duration;
use std::time::Instant;

use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_snp::report::SIGNED_SIZE;
use forge::Machine;
use forge::NOW;
use forge::REPORT_DATA;

const ROUNDS: usize = 40;
const TIMES: u32 = 50;
const PROMISE: f64 = 1.15;

fn main() {
    // `cargo bench` passes --bench; `cargo test --benches` does not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let shown = Machine::milan().show();
    let anchors = shown.anchors();
    let chain: [&[u8]; 2] = [&shown.issuer, &shown.ark];
    let evidence = shown.evidence(&chain);
    let verify = || assay_snp::verify(&evidence, &anchors, Some(&REPORT_DATA), NOW).unwrap();
    verify();

    let report = assay_snp::Report::parse(&shown.report).unwrap();
    let key = assay_evidence::Certificate::parse(&shown.vek).unwrap();
    let key = key.public_key().unwrap();
    let scheme = SignatureScheme::EcdsaFixed(HashAlgorithm::Sha384);
    let signed = &shown.report[..SIGNED_SIZE];
    let bare = || crypto::verify_signature(scheme, key, signed, &report.signature).unwrap();

    let (mut warm, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(time(&bare));
        warm.push(time(&verify));
    }
    let cold = (0..20).map(|_| {
        let anchors = shown.anchors();
        let start = Instant::now();
        assay_snp::verify(&evidence, &anchors, Some(&REPORT_DATA), NOW).unwrap();
        start.elapsed()
    });
    let cold = cold.min().unwrap();
    let (warm, floor) = (warm.into_iter().min().unwrap(), floor.into_iter().min().unwrap());
    let ratio = warm.as_secs_f64() / floor.as_secs_f64();
    println!("one P-384 verification  {:8.1} us", micros(floor));
    println!(
        "report, chain known     {:8.1} us  {ratio:.3} of it (promise {PROMISE})",
        micros(warm)
    );
    println!("report, chain new       {:8.1} us", micros(cold));
    println!("memory: {} bytes of report, at most 1024 chains of about 16 KiB", shown.report.len());
    assert!(ratio <= PROMISE, "{ratio:.3} is more than promised");
}

fn time<T>(call: &dyn Fn() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(call());
    }
    start.elapsed() / TIMES
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
