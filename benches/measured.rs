//! What it costs a server to judge a machine by what it measured: a boot log from its bytes to its
//! verdict, and a list of files by a set of twenty thousand.
//!
//! One run, one core. Each is held against what no verifier can save: one hash over the bytes of the
//! log; two hashes for each entry of the list, its template digest and the extend. The times
//! themselves mean little on another machine. The log is synthetic and as large as that of a
//! laptop; with the corpus at hand a real one is judged, too, by what was learned from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss)]

#[path = "../attestors/eventlog/tests/support/kernel_list.rs"]
mod kernel_list;
#[path = "../attestors/eventlog/tests/support/synthetic.rs"]
mod synthetic;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use assay::appraisal;
use assay::appraisal::FilesHeard;
use assay::appraisal::Given;
use assay::reference::Profile;
use assay::reference::learn;
use assay::reference::learn::Wanted;
use assay_eventlog::EventType;
use assay_eventlog::Log;
use assay_eventlog::ima::State;
use assay_eventlog::variable::SECURITY_DATABASE;
use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Time;
use assay_evidence::crypto;
use kernel_list::Item;
use kernel_list::Order;
use kernel_list::SHA256;

/// A log of some 50 KB has to be judged within `BOUND`, and should be within `FACTOR` times its hash:
/// where it is not, that is printed as missed.
const BOUND: Duration = Duration::from_millis(1);
const FACTOR: f64 = 5.0;
/// A list should be judged at this part of its bare rate; where it is not, that is printed, too.
const RATIO: f64 = 0.5;
const ROUNDS: usize = 200;
/// Files of a large host.
const FILES: usize = 20_000;
/// As the exchange hands them on.
const PIECE: usize = 1_024 * 1_024;

fn main() {
    // `cargo bench` passes --bench; `cargo test --benches` does not measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    boot_log("synthetic laptop", &laptop(), true);
    let corpus = std::env::var_os("ASSAY_CORPUS").unwrap_or_else(|| "../shared/corpus".into());
    for name in ["hw-lenovo-n3vet", "gce-ubuntu2404-snp"] {
        let file = std::path::Path::new(&corpus).join("tpm-eventlog").join(name);
        match std::fs::read(file.join("eventlog.bin")) {
            Ok(bytes) => boot_log(name, &bytes, false),
            Err(_) => println!("SKIPPED: {name}: no corpus"),
        }
    }
    list_of_files();
}

fn boot_log(name: &str, bytes: &[u8], held: bool) {
    let profile = learned(bytes);
    let log = Log::parse(bytes).unwrap();
    let quoted = appraisal::unsigned_values(&profile, &log);
    let candidates = BTreeSet::new();
    let given = Given { quoted: &quoted, preimages: &[], candidates: &candidates, now: now() };
    let bare = best(|| crypto::sha256(black_box(bytes)));
    let whole = best(|| {
        let log = Log::parse(black_box(bytes)).unwrap();
        appraisal::appraise_log(&profile, &log, &given).findings.len()
    });
    let parse = best(|| Log::parse(black_box(bytes)).unwrap().event_count());
    let judged = appraisal::appraise_log(&profile, &log, &given);
    assert!(judged.findings.is_empty(), "{name}: {:?}", judged.findings);
    let factor = whole.as_secs_f64() / bare.as_secs_f64();
    println!(
        "{name}: {} bytes, {} events: parsed, replayed and judged in {:.1} µs = {factor:.2} × their \
         SHA-256 ({:.1} µs); parsing alone {:.1}",
        bytes.len(),
        log.event_count(),
        micros(whole),
        micros(bare),
        micros(parse)
    );
    assert!(whole < BOUND, "{name}: {whole:?}");
    if held && factor > FACTOR {
        println!("MISSED: {name}: {factor:.2} × its hash, where {FACTOR} × is promised");
    }
}

fn list_of_files() {
    let path = |n: usize| format!("/usr/lib/x86_64-linux-gnu/a-library-{n}.so.{}", n % 7);
    let registers = kernel_list::boot_registers(&[SHA256]);
    let aggregate = Item::boot_aggregate(&registers, HashAlgorithm::Sha256, 9);
    let items: Vec<Item> = std::iter::once(aggregate)
        .chain((0..FILES).map(|n| Item::ng(&path(n), &n.to_be_bytes())))
        .collect();
    let list = kernel_list::binary(&items);
    let data: Vec<Vec<u8>> = items.iter().map(|item| item.hashed(Order::Little)).collect();
    let known: Vec<String> = (0..FILES)
        .map(|n| format!("\"{}\"", hex::encode(crypto::sha256(&n.to_be_bytes()))))
        .collect();
    let profile = Profile::parse(&format!(
        "schema = \"firmware-profile/1\"\nid = \"bench/files\"\nserial = 1\nroot = \"tpm2\"\n\
         banks = [\"sha256\"]\n[[component]]\nname = \"firmware\"\non = [0]\n\
         [[component.variant]]\nname = \"1\"\nstate = \"active\"\n\
         pcr = {{ sha256 = {{ \"0\" = \"{}\" }} }}\n[ima]\nallow = [\"@set:files\"]\n\
         [[set]]\nname = \"files\"\nserial = 1\nsha256 = [{}]\n",
        "00".repeat(32),
        known.join(",\n")
    ))
    .unwrap();
    let quoted = kernel_list::quoted(&items, &[SHA256]);
    let few = 10;
    let bare = best_of(few, || {
        let mut value = [0; 32];
        for data in black_box(&data) {
            let block = [value, crypto::sha256(data)].concat();
            value = crypto::sha256(&block);
        }
        value
    });
    let mut kept = 0;
    let mut judged = |columns: bool| {
        let seconds = best_of(few, || {
            let mut files = FilesHeard::begin(&profile, &State::boot(1), &quoted);
            if !columns {
                files = files.ignoring_columns();
            }
            black_box(&list).chunks(PIECE).for_each(|piece| files.hear(piece));
            let files = files.finish(&[]);
            assert!(files.findings.is_empty(), "{:?}", files.findings);
            kept = files.state.unwrap().to_bytes().len();
        });
        items.len() as f64 / seconds.as_secs_f64()
    };
    let (ignored, compared) = (judged(false), judged(true));
    let bare = items.len() as f64 / bare.as_secs_f64();
    println!(
        "a list of {FILES} files, {} bytes, bank sha256: {ignored:.0} entries/s judged by a set of as \
         many = {:.2} of {bare:.0}, their two hashes; with the digest column {compared:.0} = {:.2}; \
         kept of the node {kept} bytes",
        list.len(),
        ignored / bare,
        compared / bare
    );
    if ignored / bare < RATIO {
        println!(
            "MISSED: a list at {:.2} of its bare rate, where {RATIO} is promised",
            ignored / bare
        );
    }
}

fn learned(bytes: &[u8]) -> Profile {
    let wanted = Wanted {
        id: "bench/learned",
        review_by: Time::parse_rfc3339("2027-11-24T00:00:00Z").unwrap(),
        floors: false,
        files: None,
        ima_policy: Vec::new(),
        ima_policy_files: BTreeSet::new(),
        evidence: Vec::new(),
    };
    let learned = learn::learn(&[Log::parse(bytes).unwrap()], &wanted).unwrap();
    Profile::parse(&learned.text).unwrap()
}

/// Secure Boot with a long dbx, many drivers, GRUB with a long configuration.
fn laptop() -> Vec<u8> {
    let mut maker = synthetic::Maker::new(&[HashAlgorithm::Sha256]);
    maker.firmware();
    for number in 0..40_u8 {
        maker.event(2, EventType::EFI_BOOT_SERVICES_DRIVER, &[number; 76], &[number; 5]);
    }
    (0..7).for_each(|register| maker.separator(register));
    maker.event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[1; 120], b"shim");
    maker.grub();
    for number in 0..60_u8 {
        let text = format!("set variable_{number}=a value of some length");
        maker.event(8, EventType::IPL, format!("grub_cmd: {text}\0").as_bytes(), text.as_bytes());
        let file = format!("(hd0,gpt2)/grub2/file-{number}\0");
        maker.event(9, EventType::IPL, file.as_bytes(), &[number; 9]);
    }
    maker.exit();
    let mut draft = maker.finish();
    // EFI_CERT_SHA256_GUID, sizes, then owner and hash of each (UEFI 2.10, 32.4.1).
    let hashes: u32 = 600;
    let mut list = hex::decode("2616c4c14c509240aca941f936934328").unwrap();
    list.extend((28 + 48 * hashes).to_le_bytes());
    list.extend(0_u32.to_le_bytes());
    list.extend(48_u32.to_le_bytes());
    for number in 0..hashes {
        list.extend([7; 16]);
        list.extend(crypto::sha256(&number.to_be_bytes()));
    }
    let data = synthetic::variable(SECURITY_DATABASE, "dbx", &list);
    let digest = Digest::new(HashAlgorithm::Sha256, &crypto::sha256(&data)).unwrap();
    let variables = EventType::EFI_VARIABLE_DRIVER_CONFIG;
    let dbx = draft.events.iter_mut().rev().find(|event| event.kind == variables).unwrap();
    dbx.digests = vec![(HashAlgorithm::Sha256.tpm_id(), digest.as_bytes().to_vec())];
    dbx.data = data;
    draft.write()
}

fn now() -> Time {
    Time::parse_rfc3339("2026-11-24T00:00:00Z").unwrap()
}

fn best<T>(work: impl FnMut() -> T) -> Duration {
    best_of(ROUNDS, work)
}

/// The shortest of many rounds: whatever else the machine does only makes it longer.
fn best_of<T>(rounds: usize, mut work: impl FnMut() -> T) -> Duration {
    let one = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    (0..rounds).map(one).min().unwrap()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
