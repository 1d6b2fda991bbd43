//! Logs of real machines, n of n: each is read, leads to the registers that its case states, and
//! holds nothing that an honest log does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus.rs"]
mod corpus;

use assay_eventlog::Format;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirk;
use assay_eventlog::Quirks;
use assay_evidence::Reason;
use corpus::Case;

/// Event count, every stated register and none beside them, no fault.
fn read_whole(case: &Case, elsewhere: &[u32]) {
    let name = &case.name;
    let log = case.log().unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert_eq!(log.event_count(), case.events, "{name}");
    let replay = log.replay();
    let comparison = replay.compare(&case.registers, elsewhere, Quirks::NONE);
    assert_eq!(comparison.faults, [], "{name}");
    assert_eq!(comparison.banks_missing, [], "{name}");
    assert_eq!(comparison.not_checked.len(), elsewhere.len(), "{name}: {comparison:?}");
    let grades = log.grade(&Grading::INSPECT);
    assert_eq!(grades.faults(), [], "{name}");
    assert_eq!(grades.forged(), [], "{name}");
    let counts = grades.counts();
    assert_eq!(counts.bound + counts.known + counts.opaque, case.events, "{name}");
    assert_eq!(log.decides(), log.format() != Format::Sha1, "{name}");
    println!(
        "{name}: {} events, {} bound, {} opaque, quirks {:?}",
        case.events,
        counts.bound,
        counts.opaque,
        grades.quirks()
    );
}

#[test]
fn every_log_of_the_corpus_has_its_verdict_its_events_and_its_registers() {
    let cases = corpus::cases();
    for case in &cases {
        match case.reason.as_str() {
            "" => read_whole(case, &[]),
            // The log itself is genuine: only beside the quote of another host it is not.
            "log-replay-mismatch" => read_whole(case, &[]),
            reason => assert_eq!(case.log().unwrap_err().reason().code(), reason, "{}", case.name),
        }
    }
    println!("{} of {} logs", cases.len(), cases.len());
}

#[test]
fn every_capture_of_our_own_leads_to_its_registers() {
    let captures = corpus::captures();
    for capture in &captures {
        read_whole(capture, &[10]);
    }
    println!("{} of {} captures", captures.len(), captures.len());
}

#[test]
fn the_log_of_another_host_does_not_lead_to_the_quoted_registers() {
    let cases = corpus::cases();
    let Some(other) = cases.iter().find(|case| case.name == "log-of-other-host") else { return };
    let quoted = cases.iter().find(|case| case.name == "gcp-cos113-triple").unwrap();
    let comparison = other.log().unwrap().replay().compare(&quoted.registers, &[], Quirks::ALL);
    assert_eq!(comparison.faults.len(), 3);
    assert!(comparison.findings().iter().all(|f| f.code == Reason::LogReplayMismatch));
}

#[test]
fn the_acpi_tables_stand_for_the_logs_of_their_size_and_for_no_other() {
    let Some(folder) = corpus::corpus("ccel") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let log = read("gcp-cos113-triple/eventlog.bin");
    let table = read("gcp-cos113-triple/ccel_table.bin");
    assert!(Log::parse_ccel(&log, Some(&table)).is_ok());
    // The Intel table gives an area of 64 KiB.
    let small = read("ccel-acpi-table/intel.bin");
    assert!(Log::parse_ccel(&log, Some(&small)).is_err());
    assert!(Log::parse_ccel(&read("ovmf/eventlog.bin"), Some(&small)).is_ok());
    let mut flips = 0;
    for place in 0..table.len() {
        for bit in 0..8 {
            let mut table = table.clone();
            table[place] ^= 1 << bit;
            assert!(Log::parse_ccel(&log, Some(&table)).is_err(), "{place}.{bit}");
            flips += 1;
        }
    }
    println!("{flips} flips of a table, all refused");
}

#[test]
fn quirks_of_real_logs_are_named_and_nothing_is_read_without_them() {
    let cases = corpus::cases();
    let quirks = |name: &str| {
        let case = cases.iter().find(|case| case.name == name)?;
        Some(case.log().unwrap().grade(&Grading::INSPECT).quirks())
    };
    for (name, quirk) in [
        ("gce-cos85-sev", Quirk::ShimAuthorityTrailingByte),
        ("hw-lenovo-n3vet", Quirk::UnknownType8401),
        ("hw-intel-hirs", Quirk::FwBlobEmpty),
        ("hw-arch-workstation", Quirk::IplCutNul),
        ("gce-rhel8-sb", Quirk::GrubIplPrefix),
        ("aael-alibaba", Quirk::GrubIplTrailingByte),
        ("gcp", Quirk::CcelPadding),
    ] {
        let Some(found) = quirks(name) else { return };
        assert!(found.contains(quirk), "{name}: {found:?}");
    }
    let case = cases.iter().find(|case| case.name == "gce-cos85-sev").unwrap();
    let strict = Grading { quirks: Quirks::NONE, ..Grading::INSPECT };
    let grades = case.log().unwrap().grade(&strict);
    assert_eq!(grades.quirks(), Quirks::NONE);
    assert_eq!(grades.faults().len(), 2, "both authorities with a byte too many");
    assert!(!grades.forged().is_empty(), "GRUB's commands");
}
