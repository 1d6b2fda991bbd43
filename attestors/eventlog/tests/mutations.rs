//! Every mutation of every log is refused where it has to be at the latest.
//!
//! What only a profile can refuse must at least read differently to it: in class, grade, number or
//! order of the events of a register.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus.rs"]
mod corpus;

use std::collections::BTreeMap;

use assay_eventlog::Defence;
use assay_eventlog::Error;
use assay_eventlog::Format;
use assay_eventlog::Grade;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_eventlog::mutations;
use assay_evidence::Reason;
use assay_evidence::Registers;

/// Every register there is, in every bank: what a quote would cover.
fn quoted(log: &Log<'_>) -> Registers {
    let replay = log.replay();
    let mut registers = Registers::new();
    for &bank in replay.banks() {
        for register in 0..=log.format().last_register() {
            assert!(registers.insert(register, replay.value(bank, register).unwrap()));
        }
    }
    registers
}

fn parse(ccel: bool, bytes: &[u8]) -> Result<Log<'_>, Error> {
    match ccel {
        true => Log::parse_ccel(bytes, None),
        false => Log::parse(bytes),
    }
}

/// What a profile that is exact sees of a log.
fn story(log: &Log<'_>) -> Vec<(u32, &'static str, Grade)> {
    let grades = log.grade(&Grading::INSPECT);
    let seen = |event: assay_eventlog::Event<'_>| {
        (event.register(), event.class().name(), grades.grade(event.index()).unwrap())
    };
    log.events().map(seen).collect()
}

/// Where the mutation is refused, and why.
fn refused(ccel: bool, bytes: &[u8], quoted: &Registers) -> Option<(Defence, Reason)> {
    let log = match parse(ccel, bytes) {
        Ok(log) => log,
        Err(error) => return Some((Defence::Reading, error.reason())),
    };
    let comparison = log.replay().compare(quoted, &[], Quirks::NONE);
    if let Some(finding) = comparison.findings().first() {
        return Some((Defence::Replay, finding.code));
    }
    let grades = log.grade(&Grading::INSPECT);
    grades.faults().first().map(|fault| (Defence::Text, fault.reason()))
}

#[test]
fn no_mutation_of_any_log_is_taken() {
    let mut by_class: BTreeMap<&str, BTreeMap<Defence, usize>> = BTreeMap::new();
    let mut count = 0;
    let mut taken = Vec::new();
    let captures = corpus::captures().into_iter().filter(|capture| {
        ["uki-baseline", "shim-grub-secureboot", "kernel-direct"].contains(&capture.name.as_str())
    });
    for mut case in corpus::cases().into_iter().chain(captures) {
        // Padding is one mutation wherever it ends; a quarter of a megabyte of it only takes time.
        if let (true, Ok(log)) = (case.ccel, case.log()) {
            let short = case.bytes.len() - log.padding().len().saturating_sub(64);
            case.bytes.truncate(short);
        }
        let Ok(log) = case.log() else { continue };
        let (quoted, story_before) = (quoted(&log), story(&log));
        let grades = log.grade(&Grading::INSPECT);
        for mutation in mutations(&log, &grades) {
            count += 1;
            assert_ne!(mutation.bytes, case.bytes, "{}: {}", case.name, mutation.class);
            let found = refused(case.ccel, &mutation.bytes, &quoted);
            let by = match found {
                Some((by, _)) => by,
                None => Defence::Grammar,
            };
            let differs = || story(&parse(case.ccel, &mutation.bytes).unwrap()) != story_before;
            if by > mutation.defence || (found.is_none() && !differs()) {
                taken.push((case.name.clone(), mutation.class, mutation.event, mutation.defence));
            }
            *by_class.entry(mutation.class).or_default().entry(by).or_default() += 1;
        }
    }
    for (class, by) in &by_class {
        println!("{class:40} {by:?}");
    }
    println!("{count} mutations of {} classes, {} taken", by_class.len(), taken.len());
    taken.truncate(20);
    assert_eq!(taken, []);
}

#[test]
fn a_log_written_again_is_the_same() {
    for case in corpus::cases() {
        let Ok(log) = case.log() else { continue };
        assert_eq!(assay_eventlog::Draft::of(&log).write(), case.bytes, "{}", case.name);
        assert_eq!(case.ccel, log.format() == Format::Ccel);
    }
}
