//! What a quote costs once its collateral is believed.
//!
//! The same quote comes again and again, so the report of its quoting enclave is remembered and one
//! signature is left; the first quote after a restart of the enclave costs one more.
//!
//! Measured against two bare P-256 verifications of the same messages in the same run; the ratio is
//! the promise (at most 3, aimed at 1.5), the absolute figures mean little on another machine.
//! Memory is what the kernel says that the process held at most, and how far thousands of
//! verifications raise it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use assay_evidence::Certificate;
use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_tdx::Collateral;
use assay_tdx::CollateralCache;
use assay_tdx::Expected;
use assay_tdx::Quote;
use assay_tdx::TdxPolicy;

#[path = "../tests/support/corpus.rs"]
mod corpus;
#[path = "../tests/support/forge.rs"]
mod forge;

const ROUNDS: usize = 15;
const EACH: u32 = 100;
const VERIFICATIONS: usize = 5_000;

fn main() {
    // `cargo bench` passes --bench; `cargo test --benches` does not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let made = forge::Recipe::new().build();
    measure("forged", &made.quote, &made.collateral, forge::now(), &[made.root]);
    for case in corpus::with_collateral() {
        if case.text("verdict") == "genuine" {
            let (quote, bundle) = (case.file("quote"), case.file("collateral"));
            measure(&case.id, &quote, &bundle, case.at(), &[]);
        }
    }
}

fn measure(
    name: &str,
    quote: &[u8],
    bundle: &[u8],
    now: assay_evidence::Time,
    roots: &[Certificate],
) {
    let expected = Expected::at(now);
    let parsed = Quote::parse(quote).unwrap();
    let pck =
        std::str::from_utf8(parsed.certified().pck_chain_pem()).unwrap().trim_end_matches('\0');
    let pck = Certificate::parse_set(pck.as_bytes()).unwrap().remove(0);
    let (x, y) = parsed.certified().attestation_key().split_at(32);
    let attestation_key = PublicKey::ec(Curve::P256, x, y).unwrap();
    let verify = |key: &PublicKey, message: &[u8], signature: &[u8]| {
        let scheme = SignatureScheme::EcdsaFixed(HashAlgorithm::Sha256);
        crypto::verify_signature(scheme, key, message, signature).unwrap();
    };
    let bare = || {
        verify(
            pck.public_key().unwrap(),
            parsed.certified().qe_report(),
            parsed.certified().qe_signature(),
        );
        verify(&attestation_key, parsed.signed(), parsed.certified().signature());
    };
    let collateral = Collateral::parse(bundle).unwrap().verify(roots).unwrap();
    let cache = CollateralCache::default();
    let policy = TdxPolicy::default();
    let warm = || assay_tdx::verify(black_box(quote), &collateral, &expected).unwrap();
    let with_cache = || {
        assay_tdx::verify_with(black_box(quote), bundle, roots, &expected, &cache).unwrap();
    };
    let cold = || {
        let empty = CollateralCache::new(0);
        assay_tdx::verify_with(black_box(quote), bundle, roots, &expected, &empty).unwrap();
    };
    let claims = warm();
    let appraise = || {
        black_box(assay_tdx::appraise(&claims, &policy));
    };
    let [bare, hot, cached, once, judged] = alternating([
        &mut || bare(),
        &mut || {
            warm();
        },
        &mut || with_cache(),
        &mut || cold(),
        &mut || appraise(),
    ]);
    let ratio = |time: Duration| time.as_secs_f64() / bare.as_secs_f64();
    println!("{name}");
    println!("  two P-256 verifications      {:8.1} µs", micros(bare));
    println!("  warm, collateral at hand     {:8.1} µs  {:5.2} ×", micros(hot), ratio(hot));
    println!("  warm, collateral as bytes    {:8.1} µs  {:5.2} ×", micros(cached), ratio(cached));
    println!("  cold, nothing remembered     {:8.1} µs  {:5.2} ×", micros(once), ratio(once));
    println!("  appraisal of the claims      {:8.1} µs", micros(judged));
    let before = peak_kib();
    for _ in 0..VERIFICATIONS {
        warm();
    }
    let grown = peak_kib().saturating_sub(before);
    println!("  {VERIFICATIONS} more verifications raise the peak of {before} KiB by {grown} KiB");
    assert!(ratio(hot) <= 3.0, "{name}: a warm verification costs more than promised");
}

/// The fastest round of each, the rounds taken in turn: neighbours disturb all alike.
fn alternating<const N: usize>(mut runs: [&mut dyn FnMut(); N]) -> [Duration; N] {
    let mut best = [Duration::MAX; N];
    for _ in 0..ROUNDS {
        for (run, best) in runs.iter_mut().zip(&mut best) {
            let started = Instant::now();
            for _ in 0..EACH {
                run();
            }
            *best = (*best).min(started.elapsed() / EACH);
        }
    }
    best
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The most memory that this process has held, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
