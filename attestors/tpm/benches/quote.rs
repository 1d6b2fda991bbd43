//! What a quote costs, from the bytes of an exchange to claims with every register, beside one raw
//! signature verification by a key of the same kind, which it cannot do without.
//!
//! Both are measured in turns within one run, so the ratio holds on any machine: raw time over
//! ours, 1 being a verifier that costs nothing; at least 0.8 is promised. The attestation key is
//! parsed before, as a server has it. Then the allocations of one verification and the most memory
//! that it holds at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss)]

#[path = "../tests/support/vectors.rs"]
mod vectors;

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_tpm::AttestationKey;
use assay_tpm::Evidence;
use assay_tpm::ProvedKey;
use assay_tpm::Signed;
use vectors::ak;
use vectors::expected;
use vectors::read;
use vectors::read_device;

struct Set {
    name: &'static str,
    quote: Vec<u8>,
    pcrs: Vec<u8>,
    key: ProvedKey,
    scheme: SignatureScheme,
    /// The signature as the library takes it.
    raw: Vec<u8>,
    promised: bool,
}

fn main() {
    // `cargo bench` passes --bench; `cargo test --benches` does not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut short = Vec::new();
    for set in sets() {
        let share = measure(&set);
        if set.promised && share < PROMISE {
            short.push(format!("{}: {share:.2}", set.name));
        }
    }
    assert!(short.is_empty(), "less than the {PROMISE} promised: {short:?}");
}

fn sets() -> Vec<Set> {
    use HashAlgorithm::Sha256;
    use HashAlgorithm::Sha384;
    use HashAlgorithm::Sha512;
    let device = |name: &str| {
        let key = AttestationKey::parse(&read_device(&format!("ak-{name}.public"))).unwrap();
        (read_device(&format!("quote-{name}")), ProvedKey::enrolled(key))
    };
    let swtpm = |name: &str| (read(&format!("quote-{name}")), ak(name));
    let ours = || read("pcrs");
    let four = || read_device("pcrs");
    let (ecdsa, pkcs1) = (SignatureScheme::EcdsaFixed, SignatureScheme::RsaPkcs1);
    let pss = SignatureScheme::RsaPss;
    [
        ("P-256, two banks", swtpm("p256"), ours(), ecdsa(Sha256), true),
        ("RSA-2048, two banks", swtpm("rsassa"), ours(), pkcs1(Sha256), true),
        ("RSA-2048 by PSS, two banks", swtpm("rsapss"), ours(), pss(Sha256), false),
        ("P-384, two banks", swtpm("p384"), ours(), ecdsa(Sha384), false),
        ("P-521, four banks", device("p521"), four(), ecdsa(Sha512), false),
        ("P-256, four banks", device("p256"), four(), ecdsa(Sha256), false),
    ]
    .into_iter()
    .map(|(name, (quote, key), pcrs, scheme, promised)| {
        let signature = Signed::from_item(&quote).unwrap().signature;
        let raw = match scheme {
            // TPM2B(r) ‖ TPM2B(s) behind two numbers, neither short in these vectors.
            SignatureScheme::EcdsaFixed(_) => {
                let width = (signature.len() - 8) / 2;
                [&signature[6..6 + width], &signature[8 + width..]].concat()
            }
            _ => signature[6..].to_vec(),
        };
        Set { name, quote, pcrs, key, scheme, raw, promised }
    })
    .collect()
}

fn measure(set: &Set) -> f64 {
    let demand = expected();
    let ours = || {
        let evidence = Evidence::from_items(&set.quote, None, None, Some(&set.pcrs)).unwrap();
        assay_tpm::verify(&evidence, &set.key, &demand).unwrap()
    };
    ours();
    let attest = Signed::from_item(&set.quote).unwrap().attest;
    let key = set.key.public_key();
    let raw = || crypto::verify_signature(set.scheme, key, attest, &set.raw).unwrap();

    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(time(&raw));
        whole.push(time(&ours));
    }
    let least = |times: Vec<Duration>| times.into_iter().min().unwrap().as_secs_f64() * 1e6;
    let (bare, whole) = (least(bare), least(whole));
    let memory = allocation_counter::measure(|| {
        black_box(ours());
    });
    let share = bare / whole;
    println!("{}", set.name);
    println!("  raw signature  {bare:8.1} us");
    println!("  verification   {whole:8.1} us, share {share:.2}");
    println!("  {} allocations, at most {} bytes at once", memory.count_total, memory.bytes_max);
    share
}

fn time<T>(call: &dyn Fn() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..TIMES {
        black_box(call());
    }
    start.elapsed() / TIMES
}

const ROUNDS: usize = 100;
const TIMES: u32 = 50;
const PROMISE: f64 = 0.8;
