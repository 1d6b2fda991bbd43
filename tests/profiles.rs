//! Profiles against every log of the corpus: each accepts the log it was learned from and refuses
//! all mutations of it; each capture of our own machines gets its verdict.
//!
//! The corpus is not part of the repository: `$ASSAY_CORPUS`, else `../shared/corpus`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use assay::appraisal;
use assay::appraisal::Given;
use assay::reference::Profile;
use assay::reference::learn;
use assay::reference::learn::Learned;
use assay::reference::learn::Wanted;
use assay_eventlog::Format;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::mutate;
use assay_evidence::Finding;
use assay_evidence::Registers;
use assay_evidence::Time;

fn corpus(kind: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let folder = root.join(kind);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("SKIPPED: no folder {}: its logs were not read", folder.display());
    None
}

struct Case {
    name: String,
    ccel: bool,
    bytes: Vec<u8>,
}

impl Case {
    fn log(&self) -> Log<'_> {
        match self.ccel {
            true => Log::parse_ccel(&self.bytes, None).unwrap(),
            false => Log::parse(&self.bytes).unwrap(),
        }
    }
}

/// Every log of the corpus that may decide.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in ["tpm-eventlog", "ccel", "qemu-ovmf-swtpm"] {
        let Some(folder) = corpus(kind) else { continue };
        let mut folders: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        for folder in folders {
            let Ok(bytes) = std::fs::read(folder.join("eventlog.bin")) else { continue };
            let name = format!("{kind}/{}", folder.file_name().unwrap().to_str().unwrap());
            let case = Case { name, ccel: kind == "ccel", bytes };
            let decides = match case.ccel {
                true => Log::parse_ccel(&case.bytes, None),
                false => Log::parse(&case.bytes),
            };
            if decides.is_ok_and(|log| log.decides()) {
                cases.push(case);
            }
        }
    }
    cases
}

fn now() -> Time {
    Time::parse_rfc3339("2026-11-24T12:00:00Z").unwrap()
}

fn learned(logs: &[Log<'_>], floors: bool) -> Learned {
    let wanted = Wanted {
        id: "test/learned",
        review_by: Time::parse_rfc3339("2027-11-24T00:00:00Z").unwrap(),
        floors,
        files: None,
        ima_policy: Vec::new(),
        evidence: Vec::new(),
    };
    learn::learn(logs, &wanted).unwrap()
}

/// All faults; the verdict is affirming without faults and warnings.
fn faults(profile: &Profile, log: &Log<'_>, quoted: &Registers) -> Vec<Finding> {
    let candidates = BTreeSet::new();
    let given = Given { quoted, preimages: &[], candidates: &candidates, now: now() };
    let measured = appraisal::appraise_log(profile, log, &given);
    measured.findings.into_iter().chain(measured.warnings).collect()
}

fn parse(profile: &Profile, ccel: bool, bytes: &[u8], quoted: &Registers) -> Vec<Finding> {
    let log = match ccel {
        true => Log::parse_ccel(bytes, None),
        false => Log::parse(bytes),
    };
    match log {
        Err(error) => vec![error.finding()],
        Ok(log) => faults(profile, &log, quoted),
    }
}

#[test]
fn each_log_is_accepted_by_the_profile_learned_from_it() {
    let cases = cases();
    for case in &cases {
        for floors in [false, true] {
            let log = case.log();
            let learned = learned(std::slice::from_ref(&log), floors);
            let profile = Profile::parse(&learned.text)
                .unwrap_or_else(|error| panic!("{}: {error}\n{}", case.name, learned.text));
            let quoted = appraisal::unsigned_values(&profile, &log);
            let faults = faults(&profile, &log, &quoted);
            assert!(faults.is_empty(), "{}: {faults:#?}", case.name);

            let decided: Vec<u32> = profile.decided().into_iter().collect();
            assert_eq!(decided, learned.decided, "{}", case.name);
            let must: BTreeSet<u32> = match log.format() {
                Format::Ccel => BTreeSet::from([1, 2, 3]),
                _ => {
                    let used = log.events().map(|event| event.register());
                    used.filter(|r| [8, 9, 11].contains(r)).chain([0, 2, 4, 7]).collect()
                }
            };
            assert!(must.is_subset(&profile.decided()), "{}: {decided:?}", case.name);
            if !floors {
                let recorded = &learned.recorded;
                println!("{}: decided {decided:?}, recorded {recorded:?}", case.name);
            }
        }
    }
    println!("{} of {} logs accepted by their own profile", cases.len(), cases.len());
}

/// What became of the mutations of one log.
#[derive(Default)]
struct Tally {
    by_class: BTreeMap<&'static str, usize>,
    by_reason: BTreeMap<String, usize>,
    /// In registers that are recorded and not decided.
    recorded: usize,
    accepted: Vec<String>,
}

impl Tally {
    fn of(case: &Case) -> Self {
        let mut tally = Self::default();
        let log = case.log();
        let profile = Profile::parse(&learned(std::slice::from_ref(&log), false).text).unwrap();
        let quoted = appraisal::unsigned_values(&profile, &log);
        let grades = log.grade(&Grading::INSPECT);
        for mutation in mutate::mutations(&log, &grades) {
            let faults = parse(&profile, case.ccel, &mutation.bytes, &quoted);
            *tally.by_class.entry(mutation.class).or_default() += 1;
            match faults.first() {
                Some(fault) => *tally.by_reason.entry(fault.code.to_string()).or_default() += 1,
                None if mutation.register.is_some_and(|r| !profile.decided().contains(&r)) => {
                    tally.recorded += 1;
                }
                None => {
                    let (name, class, event) = (&case.name, mutation.class, mutation.event);
                    tally.accepted.push(format!("{name}: {class} of event {event:?}"));
                }
            }
        }
        tally
    }

    fn add(&mut self, other: Self) {
        for (class, count) in other.by_class {
            *self.by_class.entry(class).or_default() += count;
        }
        for (reason, count) in other.by_reason {
            *self.by_reason.entry(reason).or_default() += count;
        }
        self.recorded += other.recorded;
        self.accepted.extend(other.accepted);
    }
}

#[test]
fn every_mutation_in_a_decided_register_is_refused_with_a_reason() {
    let cases = cases();
    let mut whole = Tally::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let of_worker = |worker: usize| {
            let mut tally = Tally::default();
            for case in cases.iter().skip(worker).step_by(workers) {
                tally.add(Tally::of(case));
            }
            tally
        };
        let running: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || of_worker(worker))).collect();
        for worker in running {
            whole.add(worker.join().unwrap());
        }
    });
    let refused: usize = whole.by_reason.values().sum();
    println!("{} logs: {refused} mutations refused", cases.len());
    println!("{} accepted in registers that are decided", whole.accepted.len());
    println!("{} changes of registers that are recorded and not decided", whole.recorded);
    println!("by class {:?}\nby reason {:?}", whole.by_class, whole.by_reason);
    assert!(whole.accepted.is_empty(), "{:#?}", whole.accepted);
}
