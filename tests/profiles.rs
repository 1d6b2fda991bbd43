//! Profiles against every log of the corpus: each accepts the log it was learned from and refuses
//! all mutations of it; each capture of our own machines gets its verdict.
//!
//! The corpus is not part of the repository: `$ASSAY_CORPUS`, else `../shared/corpus`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use assay::appraisal;
use assay::appraisal::FilesHeard;
use assay::appraisal::Given;
use assay::appraisal::Logs;
use assay::reference::Profile;
use assay::reference::learn;
use assay::reference::learn::Learned;
use assay::reference::learn::Wanted;
use assay::reference::predict;
use assay_eventlog::Format;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirk;
use assay_eventlog::ima;
use assay_eventlog::ima::Kind;
use assay_eventlog::ima::State;
use assay_eventlog::mutate;
use assay_evidence::Digest;
use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use assay_evidence::Time;
use assay_tpm::pcr_file::PcrFile;
use evidence::corpus;

#[path = "support/evidence.rs"]
mod evidence;

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
        ima_policy_files: BTreeSet::new(),
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

/// One capture of our own machines.
struct Capture {
    log: Vec<u8>,
    list: Vec<u8>,
    cmdline: Vec<u8>,
    registers: Registers,
}

fn capture(name: &str) -> Option<Capture> {
    let folder = corpus("qemu-ovmf-swtpm")?.join(name);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let values = PcrFile::parse(&read("pcrs.yaml")).unwrap();
    let PcrFile::Listed(registers) = values else { panic!("{name}: bare values") };
    Some(Capture {
        log: read("eventlog.bin"),
        list: read("ima.bin"),
        cmdline: read("cmdline.txt"),
        registers,
    })
}

impl Capture {
    /// Learned from this boot, its list included.
    fn profile(&self) -> String {
        let mut files = BTreeSet::new();
        let mut reader = ima::Reader::new();
        let mut entries = reader.entries(&self.list);
        while let Some(entry) = entries.next().unwrap() {
            if let Kind::File(file) = entry.kind() {
                files.extend(file.digest.digest());
            }
        }
        let wanted = Wanted {
            id: "test/baseline",
            review_by: Time::parse_rfc3339("2027-11-24T00:00:00Z").unwrap(),
            floors: false,
            files: Some(files),
            ima_policy: vec!["tcb".to_owned()],
            ima_policy_files: BTreeSet::new(),
            evidence: Vec::new(),
        };
        learn::learn(&[Log::parse(&self.log).unwrap()], &wanted).unwrap().text
    }

    fn faults(&self, profile: &Profile, candidates: &[&str]) -> Vec<Finding> {
        let candidates = candidates.iter().map(|name| (*name).to_owned()).collect();
        let preimages = [self.cmdline.as_slice()];
        let quoted = &self.registers;
        let given = Given { quoted, preimages: &preimages, candidates: &candidates, now: now() };
        let mut files = FilesHeard::begin(profile, &State::boot(0), quoted);
        files.hear(&self.list);
        let logs = Logs { eventlog: Some(&self.log), ima: Some(files) };
        let judged = appraisal::appraise_logs(profile, logs, &given, &mut |_| {});
        judged.findings.into_iter().chain(judged.warnings).collect()
    }
}

/// The verdict that each capture has to get by the profile of `uki-baseline`, and its reasons.
const VERDICTS: [(&str, &[&str]); 13] = [
    ("uki-baseline", &[]),
    ("uki-cmdline-changed", &["register-mismatch"]),
    ("uki-agent-modified", &["register-mismatch", "ima-file-unknown"]),
    ("uki-ima-off", &["register-mismatch", "ima-blind", "ima-policy-unproven"]),
    ("uki-ima-sig", &["register-mismatch", "ima-file-unknown"]),
    ("uki-unknown-binary", &["ima-file-unknown"]),
    ("uki-ima-violations", &["ima-violation", "ima-file-unknown"]),
    ("uki-pcr10-extended", &["log-replay-mismatch"]),
    ("uki-ak-rsassa", &["ima-file-unknown"]),
    ("uki-secureboot", &["event-unexpected", "register-mismatch", "claim-mismatch"]),
    ("shim-grub-secureboot", &["quirk-not-listed"]),
    ("sdboot-uki", &["event-unexpected", "register-mismatch"]),
    ("kernel-direct", &["event-unexpected", "register-mismatch"]),
];

#[test]
fn each_capture_gets_its_verdict_by_the_profile_of_the_baseline() {
    let Some(baseline) = capture("uki-baseline") else { return };
    let profile = Profile::parse(&baseline.profile()).unwrap();
    for (name, expected) in VERDICTS {
        let found = capture(name).unwrap().faults(&profile, &[]);
        let codes: BTreeSet<&str> = found.iter().map(|finding| finding.code.code()).collect();
        println!("{name}: {codes:?}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{name}: {found:#?}");
        assert_eq!(found.first().map(|f| f.code.code()), expected.first().copied(), "{name}");
        assert!(expected.iter().all(|code| codes.contains(code)), "{name}: {codes:?}");
    }
    println!("{} captures judged", VERDICTS.len());
}

#[test]
fn each_capture_is_accepted_by_a_profile_of_its_own() {
    for (name, _) in VERDICTS {
        let Some(capture) = capture(name) else { return };
        if ["uki-ima-violations", "uki-ima-off", "uki-pcr10-extended"].contains(&name) {
            continue;
        }
        let profile = Profile::parse(&capture.profile()).unwrap();
        let found = capture.faults(&profile, &[]);
        let other = found.iter().find(|f| f.code.code() != "ima-file-unknown");
        assert!(other.is_none(), "{name}: {found:#?}");
    }
}

fn parts(name: &str) -> predict::Parts {
    let path = corpus("qemu-ovmf-swtpm").unwrap().join("reference.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let digest = |value: &serde_json::Value| {
        let bytes = hex::decode(value.as_str().unwrap()).unwrap();
        let sha256 = HashAlgorithm::Sha256;
        BTreeMap::from([(sha256, Digest::new(sha256, &bytes).unwrap())])
    };
    let uki = &json["ukis"][name];
    let section = |name: &str| digest(&uki["sections"][name]["sha256"]);
    predict::Parts {
        image: digest(&uki["authenticode_sha256"]),
        kernel: digest(&json["kernel"]["authenticode_sha256"]),
        sections: [".linux", ".osrel", ".cmdline", ".initrd"]
            .map(|name| (name.to_owned(), section(name)))
            .to_vec(),
        load_options: predict::load_options(uki["cmdline"].as_str().unwrap(), &BANKS),
        initrd: section(".initrd"),
    }
}

const BANKS: [HashAlgorithm; 1] = [HashAlgorithm::Sha256];

#[test]
fn registers_4_9_and_11_of_the_captures_are_predicted_from_their_files() {
    if corpus("qemu-ovmf-swtpm").is_none() {
        return;
    }
    let (mut equal, mut images) = (0, 0);
    let names = ["uki-baseline", "uki-cmdline-changed", "uki-agent-modified", "uki-ima-off"];
    for name in names.into_iter().chain(["uki-ima-sig", "uki-secureboot"]) {
        let capture = capture(name).unwrap();
        let predicted = parts(name).registers(name == "uki-secureboot", &BANKS);
        for register in [4, 9, 11] {
            let found = capture.registers.value(HashAlgorithm::Sha256, register);
            let expected = predicted.value(HashAlgorithm::Sha256, register);
            assert_eq!(found, expected, "{name}, register {register}");
            equal += 1;
        }
        images += 1;
    }
    println!("{equal} registers of {images} images predicted and equal");
}

#[test]
fn a_predicted_candidate_admits_the_next_boot_on_the_node_it_was_made_for_and_on_no_other() {
    let Some(baseline) = capture("uki-baseline") else { return };
    let next = capture("uki-cmdline-changed").unwrap();
    let stanza = stanza(&parts("uki-cmdline-changed"));
    let text = baseline.profile();
    let place = text.find("\n[[component]]\nname = \"unused\"").unwrap();
    let text = format!("{}\n{stanza}{}", &text[..place], &text[place..]);
    let profile = Profile::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(!next.faults(&profile, &[]).is_empty(), "a candidate counts for nobody by itself");
    assert!(!next.faults(&profile, &["another"]).is_empty());
    let found = next.faults(&profile, &["next"]);
    assert!(found.is_empty(), "{found:#?}");
    assert!(baseline.faults(&profile, &[]).is_empty(), "the boot before it still counts");

    let revoked = text.replace(
        "name = \"next\"\nstate = \"candidate\"",
        "name = \"next\"\nstate = \"revoked\"\nreason = \"bad kernel\"",
    );
    let found = next.faults(&Profile::parse(&revoked).unwrap(), &["next"]);
    assert!(found.iter().any(|finding| finding.code.code() == "variant-revoked"), "{found:#?}");
}

fn stanza(parts: &predict::Parts) -> String {
    let mut text =
        "[[component.variant]]\nname = \"next\"\nstate = \"candidate\"\norigin = \"test\"\n"
            .to_owned();
    let mut by_class: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (register, events) in parts.events(false, &BANKS) {
        let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (class, digests) in events {
            let digest = digests.values().next().unwrap().to_hex();
            rows.entry(class).or_default().push(format!("\"{digest}\""));
        }
        for (class, rows) in rows {
            let columns = format!("ordered = true, sha256 = [{}]", rows.join(", "));
            by_class.entry(class).or_default().push(format!("\"{register}\" = {{ {columns} }}"));
        }
    }
    for (class, sets) in by_class {
        text.push_str(&format!("{class} = {{ {} }}\n", sets.join(", ")));
    }
    text
}

#[test]
fn the_list_of_quirks_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-profiles/quirks.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let listed: toml::Table = toml::from_str(&text).unwrap();
    let names: BTreeSet<&str> = listed["quirk"]
        .as_array()
        .unwrap()
        .iter()
        .map(|quirk| quirk["name"].as_str().unwrap())
        .collect();
    let known: BTreeSet<&str> = Quirk::ALL.iter().map(|quirk| quirk.name()).collect();
    assert_eq!(names, known);
}
