//! A CCEL log beside its ACPI table: the first 56 bytes are the table, the rest is the log.

#![no_main]

use assay_eventlog::Draft;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_evidence::HashAlgorithm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((table, bytes)) = bytes.split_first_chunk::<56>() else { return };
    let strict = Log::parse_ccel(bytes, Some(table));
    let Ok(log) = Log::parse_ccel(bytes, None) else {
        assert!(strict.is_err(), "a table makes no log good");
        return;
    };
    let grades = log.grade(&Grading::INSPECT);
    assert_eq!(log.views(&grades).len(), log.event_count());
    assert!(log.facts(&grades, &[]).iter().count() > 0);
    let replay = log.replay();
    let values = replay.registers().bank(HashAlgorithm::Sha384).expect("the one bank");
    assert!(values.keys().all(|register| (1..=4).contains(register)));

    let written = Draft::of(&log).write();
    let again = Log::parse_ccel(&written, None).expect("what was read is written as a log");
    assert_eq!(again.replay().registers(), replay.registers());
});
