//! `assay profile test`: a profile on its own evidence, and on everything that can be done to that
//! to make it lie.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use assay_eventlog::Error;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::ima::State;
use assay_eventlog::mutate;
use assay_evidence::Finding;
use assay_evidence::Registers;
use assay_evidence::Time;
use clap::Args;
use serde_json::json;

use crate::appraisal;
use crate::appraisal::Given;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::measured;
use crate::cli::output::AFFIRMED;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::REFUSED;
use crate::reference::Profile;
use crate::reference::files::Loaded;
use crate::reference::profile::Evidence;
use crate::reference::profile::Root;

#[derive(Args, Debug)]
pub struct TestArgs {
    /// Profile: a file, or a folder with `profile.toml`
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

/// What became of one evidence entry.
struct Tried {
    log: String,
    as_expected: bool,
    reason: Option<String>,
}

/// What became of the mutations.
#[derive(Default)]
struct Tally {
    refused: BTreeMap<String, usize>,
    /// In registers that the profile says it does not decide.
    recorded: usize,
    /// Taken although the profile decides the register.
    survived: Vec<String>,
}

impl TestArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let loaded = measured::profile(&self.path)?;
        let now = input::at(self.at);
        if loaded.profile.evidence.is_empty() {
            return Err(Failure::new("the profile has no `[[evidence]]`, so nothing can be tried")
                .hint("`assay profile learn` writes it; or name a log, its values and `expect`"));
        }
        let mut tried = Vec::new();
        let mut tally = Tally::default();
        for evidence in &loaded.profile.evidence {
            tried.push(one(&loaded, evidence, now, &mut tally)?);
        }
        let overdue: Vec<String> =
            loaded.profile.overdue(now).map(|component| component.name.clone()).collect();
        Ok(answer(&loaded, &tried, &tally, &overdue))
    }
}

fn answer(loaded: &Loaded, tried: &[Tried], tally: &Tally, overdue: &[String]) -> Answer {
    let accepted = tried.iter().filter(|tried| tried.as_expected).count();
    let refused: usize = tally.refused.values().sum();
    let survived = tally.survived.len();
    let good = accepted == tried.len() && survived == 0 && overdue.is_empty();
    let failed: Vec<_> = tried
        .iter()
        .filter(|tried| !tried.as_expected)
        .map(|tried| json!({ "log": tried.log, "reason": tried.reason }))
        .collect();
    let json = json!({
        "verdict": if good { "affirming" } else { "contraindicated" },
        "reason": tried.iter().find(|t| !t.as_expected).and_then(|t| t.reason.clone()),
        "reasons": [],
        "profile": { "id": loaded.profile.id, "serial": loaded.profile.serial,
                     "sha256": hex::encode(loaded.profile.sha256) },
        "evidence": tried.len(),
        "accepted": accepted,
        "refused": refused,
        "survived": survived,
        "survivors": tally.survived,
        "recorded": tally.recorded,
        "by_reason": tally.refused,
        "failed": failed,
        "review_due": overdue,
        "not_checked": [],
    });
    let mut text = format!(
        "{} of {} pieces of its own evidence came out as expected\n{refused} mutations refused, \
         {survived} survived in decided registers, {} in recorded ones\n",
        accepted,
        tried.len(),
        tally.recorded
    );
    for (reason, count) in &tally.refused {
        text.push_str(&format!("  {reason:<24} {count}\n"));
    }
    for survivor in tally.survived.iter().take(20) {
        text.push_str(&format!("  survived: {survivor}\n"));
    }
    for tried in tried.iter().filter(|tried| !tried.as_expected) {
        let why = tried.reason.as_deref().unwrap_or("accepted");
        text.push_str(&format!("  not as expected: {} ({why})\n", tried.log));
    }
    for name in overdue {
        text.push_str(&format!("  `review_by` of component `{name}` has passed\n"));
    }
    Answer { json, text, exit: if good { AFFIRMED } else { REFUSED } }
}

fn parse(root: Root, bytes: &[u8]) -> Result<Log<'_>, Error> {
    match root {
        Root::Tdx => Log::parse_ccel(bytes, None),
        Root::Tpm2 | Root::Snp => Log::parse(bytes),
    }
}

fn faults(profile: &Profile, log: &Log<'_>, quoted: &Registers, now: Time) -> Vec<Finding> {
    let candidates: BTreeSet<String> = BTreeSet::new();
    let given = Given { quoted, preimages: &[], candidates: &candidates, now };
    let measured = appraisal::appraise_log(profile, log, &given);
    measured.findings.into_iter().chain(measured.warnings).collect()
}

fn one(
    loaded: &Loaded,
    evidence: &Evidence,
    now: Time,
    tally: &mut Tally,
) -> Result<Tried, Failure> {
    let profile = &loaded.profile;
    let inputs = Inputs::default();
    let at = |name: &str| loaded.folder.join(Path::new(name));
    let bytes = measured::read_log(&inputs, &at(&evidence.log))?;
    let tried = |fault: Option<&Finding>| Tried {
        log: evidence.log.clone(),
        as_expected: fault.is_none() == evidence.passes,
        reason: fault.map(|fault| fault.code.to_string()),
    };
    let log = match parse(profile.root, &bytes) {
        Ok(log) => log,
        Err(error) => return Ok(tried(Some(&error.finding()))),
    };
    let quoted = match &evidence.pcrs {
        Some(pcrs) => measured::registers(&inputs, &at(pcrs))?,
        None => appraisal::unsigned_values(profile, &log),
    };
    let mut found = faults(profile, &log, &quoted, now);
    if let Some(ima) = &evidence.ima {
        let list = measured::read_list(&inputs, &at(ima))?;
        let grades = log.grade(&Grading::INSPECT);
        let facts = log.facts(&grades, &[]);
        let lines = facts.texts("boot.cmdline");
        let files = appraisal::appraise_ima(profile, &State::boot(0), &list, &quoted, lines);
        let unproven = assay_evidence::Reason::ImaPolicyUnproven;
        // Evidence is shipped without the texts that hosts send beside it.
        found.extend(files.findings.into_iter().filter(|finding| finding.code != unproven));
    }
    if found.is_empty() {
        mutated(profile, &log, &quoted, now, tally);
    }
    Ok(tried(found.first()))
}

fn mutated(profile: &Profile, log: &Log<'_>, quoted: &Registers, now: Time, tally: &mut Tally) {
    let grades = log.grade(&Grading::INSPECT);
    let decided = profile.decided();
    for mutation in mutate::mutations(log, &grades) {
        let fault = match parse(profile.root, &mutation.bytes) {
            Err(error) => Some(error.finding()),
            Ok(log) => faults(profile, &log, quoted, now).into_iter().next(),
        };
        match fault {
            Some(fault) => *tally.refused.entry(fault.code.to_string()).or_default() += 1,
            None if mutation.register.is_some_and(|register| !decided.contains(&register)) => {
                tally.recorded = tally.recorded.saturating_add(1);
            }
            None => {
                let place = mutation.event.map_or_else(String::new, |n| format!(" of event {n}"));
                tally.survived.push(format!("{}{place}", mutation.class));
            }
        }
    }
}
