//! What an endorsement certificate costs, from the bytes in the NV index to a verified path, beside
//! the sum of the raw signature verifications on that path, which it cannot do without.
//!
//! Both are measured in turns within one run, so the ratio holds on any machine: raw time over
//! ours, 1 being a verifier that costs nothing. Intermediates and roots are parsed before, as a
//! server has them. Then the allocations of one verification and the most memory it holds at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss)]

#[path = "../tests/support/corpus_certificates.rs"]
mod corpus_certificates;
#[path = "../tests/support/zoo.rs"]
mod zoo;

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use assay_evidence::Certificate;
use assay_evidence::RevocationList;
use assay_evidence::Time;
use assay_evidence::chain;
use assay_evidence::chain::Lists;
use assay_evidence::chain::Rules;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;

struct Set {
    name: &'static str,
    file: Vec<u8>,
    issuers: Vec<Certificate>,
    root: Certificate,
    now: Time,
}

fn main() {
    // `cargo bench` passes --bench; `cargo test --benches` does not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    for set in sets() {
        measure(&set);
    }
    revocation_list();
}

fn sets() -> Vec<Set> {
    let plain = zoo::cases().into_iter().find(|case| case.name == "plain").unwrap();
    let mut sets = vec![Set {
        name: "zoo: RSA-2048 below RSA-2048",
        file: plain.file,
        issuers: plain.issuers,
        root: plain.root,
        now: zoo::now(),
    }];
    if let Some(folder) = corpus_certificates::corpus() {
        for (name, case, time) in [
            ("GCE: RSA-2048 below RSA-4096", "gce-rsa", "2023-10-07T20:28:50Z"),
            ("STM: P-256 below P-256, P-384", "stm-ecc", "2019-07-26T00:00:00Z"),
            ("Nuvoton: P-256 below P-256", "nuvoton-unordered-set", "2022-11-07T06:42:51Z"),
        ] {
            let mut issuers = corpus_certificates::issuers(case);
            sets.push(Set {
                name,
                file: corpus_certificates::read(folder.join(case).join("ek.der")),
                root: issuers.pop().unwrap(),
                issuers,
                now: corpus_certificates::at(time),
            });
        }
    }
    sets
}

fn measure(set: &Set) {
    let root = EkRoot { certificate: set.root.clone(), class: TpmClass::Discrete };
    let anchors = Anchors::new(vec![root], set.issuers.clone());
    let rules = Rules::at(set.now);
    let ours = || endorsement::verify_file(&rules, &set.file, None, &[], &anchors).unwrap();
    ours();

    let leaf = endorsement::certificate_in_nv(&set.file).unwrap();
    let roots = std::slice::from_ref(&set.root);
    let path = chain::verify(&leaf, &set.issuers, roots, set.now).unwrap();
    let raw = || {
        for (child, issuer) in path.certificates().iter().zip(&path.certificates()[1..]) {
            let key = issuer.public_key().unwrap();
            let _ = black_box(child.verify_signature_also_sha1(key).unwrap());
        }
    };
    let parse = || endorsement::certificate_in_nv(&set.file).unwrap();

    let (mut bare, mut whole, mut parsing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(time(&raw));
        whole.push(time(&ours));
        parsing.push(time(&parse));
    }
    let least = |times: Vec<Duration>| times.into_iter().min().unwrap().as_secs_f64() * 1e6;
    let (bare, whole, parsing) = (least(bare), least(whole), least(parsing));
    let memory = allocation_counter::measure(|| {
        black_box(ours());
    });
    println!("{}, {} signatures", set.name, path.certificates().len() - 1);
    println!("  raw signatures  {bare:8.1} us");
    println!(
        "  verification    {whole:8.1} us, {parsing:.1} us of it parsing; share {:.2}",
        bare / whole
    );
    println!("  {} allocations, at most {} bytes at once", memory.count_total, memory.bytes_max);
}

/// What a list adds to a path.
fn revocation_list() {
    let revoked = zoo::cases().into_iter().find(|case| case.name == "revoked").unwrap();
    let list = std::fs::read(zoo::folder().join("revoked.crl")).unwrap();
    let parse = || RevocationList::parse(&list).unwrap();
    let lists = [parse()];
    let leaf = Certificate::parse(&revoked.file).unwrap();
    let rules = Rules { lists: Lists::Given(&lists), ..Rules::at(zoo::now()) };
    let roots = std::slice::from_ref(&revoked.root);
    let judge = || chain::verify_by(&rules, &leaf, &revoked.issuers, roots).unwrap_err();
    println!(
        "revocation list: read in {:.1} us, judged with its path in {:.1} us",
        time(&parse).as_secs_f64() * 1e6,
        time(&judge).as_secs_f64() * 1e6
    );
}

fn time<T>(call: &dyn Fn() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..TIMES {
        black_box(call());
    }
    start.elapsed() / TIMES
}

const ROUNDS: usize = 400;
const TIMES: u32 = 5;
