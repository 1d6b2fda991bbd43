//! A boot log of a TPM: whatever is read can be replayed, graded, written, and read again.

#![no_main]

use assay_eventlog::Draft;
use assay_eventlog::Format;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = Log::parse(bytes) else { return };
    let preimages: [&[u8]; 1] = [b"console=ttyS0 ima_policy=tcb quiet"];
    let grading = Grading { preimages: &preimages, ..Grading::INSPECT };
    let grades = log.grade(&grading);
    let counts = grades.counts();
    assert_eq!(counts.bound + counts.known + counts.opaque, log.event_count());
    let facts = log.facts(&grades, &preimages);
    let replay = log.replay();
    assert!(replay.compare(replay.registers(), &[], Quirks::NONE).faults.is_empty());

    let written = Draft::of(&log).write();
    let again = Log::parse(&written).expect("what was read is written as a log");
    assert_eq!(again.replay().registers(), replay.registers());
    assert_eq!(again.facts(&again.grade(&grading), &preimages), facts);
    if log.format() == Format::Sha1 {
        assert!(!log.decides());
    }
});
