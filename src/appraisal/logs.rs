//! What a machine sent beside its quote, judged together: the boot log and the list of files.
//!
//! A profile that needs a log and gets none is a refusal: leaving evidence out never helps.

use assay_eventlog::Facts;
use assay_eventlog::Log;
use assay_eventlog::ima::State;
use assay_eventlog::ima::proof::AgentProof;
use assay_eventlog::ima::proof::PolicyProof;
use assay_evidence::Finding;
use assay_evidence::Reason;

use crate::appraisal::literal;
use crate::appraisal::measured::Given;
use crate::appraisal::measured::Measured;
use crate::appraisal::measured::appraise_log;
use crate::appraisal::measured_files::FilesHeard;
use crate::reference::Demand;
use crate::reference::Profile;
use crate::reference::profile::Root;

/// The bytes as they came.
#[derive(Default)]
pub struct Logs<'a> {
    pub eventlog: Option<&'a [u8]>,
    /// What came of the list, after the place where the last round ended.
    pub ima: Option<FilesHeard<'a>>,
}

#[derive(Debug, Default)]
pub struct JudgedLogs {
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
    pub facts: Facts,
    /// Entries of the list that the quote covers, of this round.
    pub ima_covered: Option<u64>,
    /// Where the next round goes on; nothing if the list was refused.
    pub ima_state: Option<State>,
    pub policy: Option<PolicyProof>,
    pub agent: Option<AgentProof>,
}

/// Judges everything that `profile` says about a machine's registers and logs. `see` is shown the
/// boot log's judgement, for who wants to explain it.
pub fn appraise_logs(
    profile: &Profile,
    logs: Logs<'_>,
    given: &Given<'_>,
    see: &mut dyn FnMut(&Measured<'_>),
) -> JudgedLogs {
    let mut out = JudgedLogs::default();
    let missing = |what: &str| Finding {
        code: Reason::EvidenceMissing,
        claim: what.to_owned(),
        found: "none".to_owned(),
        expected: "the log that the profile judges".to_owned(),
        source: format!("profile `{}`, serial {}", profile.id, profile.serial),
    };
    if profile.needs_log() {
        match logs.eventlog.map(|bytes| parse(profile.root, bytes)) {
            None => out.findings.push(missing("eventlog")),
            Some(Err(finding)) => out.findings.push(*finding),
            Some(Ok(log)) => {
                let measured = appraise_log(profile, &log, given);
                see(&measured);
                out.findings.extend(measured.findings);
                out.warnings.extend(measured.warnings);
                out.not_checked.extend(measured.not_checked);
                out.facts = measured.facts;
            }
        }
    } else {
        let quoted = |bank, register| given.quoted.value(bank, register).copied();
        for component in profile.components.iter().filter(|c| c.demand == Demand::Literal) {
            let (candidates, now) = (given.candidates, given.now);
            let found = literal::appraise(component, profile, &quoted, candidates, now);
            out.findings.extend(found);
        }
        out.not_checked.push("event log: the profile decides by register values alone".to_owned());
    }
    match logs.ima {
        Some(files) if files.is_missing() => out.findings.push(missing("ima")),
        Some(files) => {
            let lines = out.facts.texts("boot.cmdline");
            let files = files.finish(lines);
            out.findings.extend(files.findings);
            out.warnings.extend(files.warnings);
            out.not_checked.extend(files.not_checked);
            out.ima_covered = Some(files.covered);
            out.ima_state = files.state;
            out.policy = files.policy;
            out.agent = files.agent;
        }
        None if profile.needs_ima() => out.findings.push(missing("ima")),
        None => out.not_checked.push("ima: no measurement list is appraised".to_owned()),
    }
    out
}

fn parse(root: Root, bytes: &[u8]) -> Result<Log<'_>, Box<Finding>> {
    let parsed = match root {
        Root::Tdx => Log::parse_ccel(bytes, None),
        Root::Tpm2 | Root::Snp => Log::parse(bytes),
    };
    parsed.map_err(|error| Box::new(error.finding()))
}
