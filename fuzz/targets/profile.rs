//! A profile, a NUL, and a log that it judges: grammar, sets and facts over anything, never a panic.
//! A log is never accepted where one of its events was taken by no rule.

#![no_main]

use std::collections::BTreeSet;

use assay::appraisal;
use assay::appraisal::Given;
use assay::reference::Demand;
use assay::reference::Profile;
use assay::reference::profile::Root;
use assay_evidence::Time;
use assay_eventlog::Log;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, log) = bytes.split_at(end);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(profile) = Profile::parse(text) else { return };
    let log = log.get(1..).unwrap_or_default();
    let parsed = match profile.root {
        Root::Tdx => Log::parse_ccel(log, None),
        Root::Tpm2 | Root::Snp => Log::parse(log),
    };
    let Ok(log) = parsed else { return };
    let quoted = appraisal::unsigned_values(&profile, &log);
    let candidates = BTreeSet::new();
    let now = Time::from_unix_s(1_800_000_000);
    let given = Given { quoted: &quoted, preimages: &[], candidates: &candidates, now };
    let measured = appraisal::appraise_log(&profile, &log, &given);
    let ruled: BTreeSet<u32> = profile
        .components
        .iter()
        .filter(|component| matches!(component.demand, Demand::Rule(_)))
        .flat_map(|component| component.on.iter().copied())
        .collect();
    if measured.findings.is_empty() {
        let free = |event: &&appraisal::Judged<'_>| {
            ruled.contains(&event.register) && event.item.is_none()
        };
        assert!(measured.events.iter().find(free).is_none());
    }
});
