//! Boot logs of real trust domains beside their quotes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirk;
use assay_eventlog::Quirks;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_tdx::Claims;
use assay_tdx::Expected;
use assay_tdx::rtmr;

#[path = "support/corpus.rs"]
mod corpus;

use corpus::Case;

fn claims(case: &Case) -> Claims {
    // These quotes came without collateral: signatures and chain decide.
    let now = Time::parse_rfc3339("2025-06-01T00:00:00Z").unwrap();
    let report_data = case.has("nonce").then(|| case.file("nonce").try_into().unwrap());
    let expected = Expected { report_data: report_data.as_ref(), ..Expected::at(now) };
    assay_tdx::verify_signatures(&case.file("quote"), &[], &expected).unwrap()
}

fn grading() -> Grading<'static> {
    let quirks = [Quirk::CcelPadding].into_iter().fold(Quirks::default(), Quirks::with);
    Grading { quirks, known: &|_| false, preimages: &[] }
}

#[test]
fn a_log_leads_to_the_registers_of_its_own_quote_and_to_no_other() {
    let cases: Vec<Case> =
        corpus::cases("ccel").into_iter().filter(|case| case.has("quote")).collect();
    let (mut compared, mut lead) = (0, 0);
    for case in &cases {
        let claims = claims(case);
        for other in corpus::cases("ccel").iter().filter(|case| case.has("eventlog")) {
            let bytes = other.file("eventlog");
            let log = Log::parse_ccel(&bytes, None).unwrap();
            let held = rtmr::hold(&claims, &log, &grading(), &[]);
            // What another replay found: of index 1 to 4, or nothing where there are no events.
            let values = other.claims()["mrs"]["sha384"].as_table().unwrap();
            let leads = (1..).zip(claims.rtmrs()).all(|(index, given)| {
                let value = values.get(&index.to_string()).and_then(|value| value.as_str());
                value.map_or(*given == [0; 48], |value| value == hex::encode(given))
            });
            assert_eq!(held.comparison.faults.is_empty(), leads, "{} {}", case.id, other.id);
            assert!(leads || case.id != other.id || case.text("verdict") == "reject");
            if leads {
                lead += 1;
            } else {
                let finding = held.comparison.findings().remove(0);
                assert_eq!(finding.code, Reason::LogReplayMismatch);
            }
            compared += 1;
        }
    }
    println!("{} quotes, {compared} logs held against them, {lead} lead to them", cases.len());
}

#[test]
fn only_registers_that_follow_from_the_log_bind_its_events() {
    for case in corpus::cases("ccel").iter().filter(|case| case.has("quote")) {
        let claims = claims(case);
        let bytes = case.file("eventlog");
        let log = Log::parse_ccel(&bytes, None).unwrap();
        let wanted = case.claims()["replay_equals_quote"].as_table().unwrap();
        let held = rtmr::hold(&claims, &log, &grading(), &[]);
        for (index, equal) in (1..).zip(["rtmr0", "rtmr1", "rtmr2", "rtmr3"]) {
            let follows = wanted[equal].as_bool().unwrap();
            let value = log.replay().value(HashAlgorithm::Sha384, index);
            let given = claims.registers();
            assert_eq!(value.as_ref() == given.value(HashAlgorithm::Sha384, index), follows);
        }
        let bound = held.grades.counts().bound;
        assert_eq!(bound > 0, case.text("verdict") == "genuine", "{}", case.id);
        // What others extend too is reported, and binds nothing.
        let all = rtmr::hold(&claims, &log, &grading(), &[1, 2, 3, 4]);
        assert_eq!(all.grades.counts().bound, 0);
        assert_eq!(all.comparison.not_checked.len(), 4);
        assert!(all.comparison.faults.is_empty());
    }
}
