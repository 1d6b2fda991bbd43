//! What it costs to look at a boot log: parse, replay and grade, against hashing the same bytes.
//!
//! One run, one core. The bare figure is what no verifier can save: one hash over the bytes of the
//! log. Printed is how many times that the whole look takes, beside the time itself, which means
//! little on another machine. The log is synthetic and as large as that of a laptop with GRUB; with
//! the corpus at hand a real one of a laptop is measured too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use assay_eventlog::Draft;
use assay_eventlog::EventRecord;
use assay_eventlog::EventType;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;

/// A log of so many bytes has to be looked at within `BOUND` and `FACTOR` times its hash.
const BOUND: Duration = Duration::from_millis(1);
const FACTOR: f64 = 5.0;
const ROUNDS: usize = 400;

fn main() {
    // `cargo bench` passes --bench; `cargo test --benches` does not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    measure("synthetic, sha256", &synthetic(&[HashAlgorithm::Sha256]));
    measure(
        "synthetic, sha1 and sha256",
        &synthetic(&[HashAlgorithm::Sha1, HashAlgorithm::Sha256]),
    );
    let corpus =
        std::env::var_os("ASSAY_CORPUS").unwrap_or_else(|| "../../../shared/corpus".into());
    for name in ["hw-lenovo-n3vet", "gce-ubuntu2404-snp"] {
        let file = std::path::Path::new(&corpus).join("tpm-eventlog").join(name);
        match std::fs::read(file.join("eventlog.bin")) {
            Ok(bytes) => measure(name, &bytes),
            Err(_) => println!("SKIPPED: {name}: no corpus"),
        }
    }
}

fn measure(name: &str, bytes: &[u8]) {
    let bare = best(|| crypto::sha256(black_box(bytes)));
    let look = best(|| {
        let log = Log::parse(black_box(bytes)).unwrap();
        let replay = log.replay();
        let comparison = replay.compare(replay.registers(), &[], Quirks::NONE);
        let grades = log.grade(&Grading::INSPECT);
        (comparison.faults.len(), grades.counts())
    });
    let parse = best(|| Log::parse(black_box(bytes)).unwrap().event_count());
    let log = Log::parse(bytes).unwrap();
    let replay = best(|| black_box(&log).replay());
    let grade = best(|| black_box(&log).grade(&Grading::INSPECT));
    let grades = log.grade(&Grading::INSPECT);
    let facts = best(|| black_box(&log).facts(&grades, &[]));
    let factor = look.as_secs_f64() / bare.as_secs_f64();
    println!(
        "{name}: {} bytes, {} events: {:.1} µs = {factor:.2} × their SHA-256 ({:.1} µs); parse {:.1}, \
         replay {:.1}, grade {:.1}; facts {:.1} more",
        bytes.len(),
        log.event_count(),
        micros(look),
        micros(bare),
        micros(parse),
        micros(replay),
        micros(grade),
        micros(facts),
    );
    if log.banks().len() == 1 {
        assert!(look < BOUND, "{name}: {look:?}");
        assert!(factor <= FACTOR, "{name}: {factor}");
    }
}

/// The shortest of many rounds: whatever else the machine does only makes it longer.
fn best<T>(mut work: impl FnMut() -> T) -> Duration {
    let one = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    (0..ROUNDS).map(one).min().unwrap()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// About 50 KB, with the proportions of a laptop's log: some large variables, many short texts.
fn synthetic(banks: &[HashAlgorithm]) -> Vec<u8> {
    let sizes: Vec<(u16, u16)> =
        banks.iter().map(|b| (b.tpm_id(), u16::try_from(b.size()).unwrap())).collect();
    let mut draft = Draft::crypto_agile(&sizes);
    let mut measure = |register, kind, data: &[u8], hashed: &[u8]| {
        let digests = banks.iter().map(|bank| {
            (bank.tpm_id(), crypto::hash(*bank, &[hashed]).unwrap().as_bytes().to_vec())
        });
        let digests = digests.collect();
        draft.events.push(EventRecord { register, kind, digests, data: data.to_vec() });
    };
    for size in [53, 1_019, 4_089, 5_014, 25_078] {
        let data = vec![0x5a; size];
        measure(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &data, &data);
    }
    for register in 0..8 {
        measure(register, EventType::SEPARATOR, &[0; 4], &[0; 4]);
    }
    for number in 0..40_u8 {
        measure(2, EventType::EFI_BOOT_SERVICES_DRIVER, &[number; 76], &[number; 4]);
        let text = format!("set variable_{number}=a value of some length");
        let data = format!("grub_cmd: {text}\0");
        measure(8, EventType::IPL, data.as_bytes(), text.as_bytes());
        let file = format!("(hd0,gpt2)/grub2/file-{number}\0");
        measure(9, EventType::IPL, file.as_bytes(), &[number; 9]);
    }
    draft.write()
}
