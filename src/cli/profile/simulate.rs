//! `assay profile simulate`: stored evidence of a fleet against a profile that is to come. Who would
//! lose identity?
//!
//! Folders are those of `assay attest`, `assay record export` and `assay appraise host`, or folders
//! of such folders. One host is read at a time.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Finding;
use assay_evidence::Time;
use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::appraise::host;
use crate::cli::appraise::measurements;
use crate::cli::appraise::measurements::Reference;
use crate::cli::appraise::measurements::ReferenceArgs;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::AFFIRMED;
use crate::cli::output::Answer;
use crate::cli::output::COULD_NOT_TELL;
use crate::cli::output::Failure;
use crate::cli::output::REFUSED;
use crate::cli::output::printable;
use crate::cli::output::table;

/// Folders below one that is named.
const MAX_HOSTS: usize = 100_000;
/// How often somebody who waits is told.
const TELL_EVERY: usize = 50;

#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// Evidence: the folder of a host, or a folder of such folders
    #[arg(value_name = "DIR", required = true)]
    evidence: Vec<PathBuf>,
    /// Profile that is to come: a file, or a folder with `profile.toml`
    #[arg(long, value_name = "PATH")]
    profile: PathBuf,
    /// Profile that is in force: who is refused by it has nothing to lose
    #[arg(long, value_name = "PATH")]
    current: Option<PathBuf>,
    /// Policy; the strict default if left out
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Candidate variant that counts for these hosts; may be given again
    #[arg(long, value_name = "NAME")]
    candidate: Vec<String>,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

/// What a profile that is to come does to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Loses,
    /// The evidence cannot be read or is not genuine, so it says nothing of the host.
    Unknown,
    /// Refused as it is by the profile in force.
    StaysRefused,
    /// Refused by the profile in force, and no more.
    Gains,
    Keeps,
}

impl Effect {
    const fn name(self) -> &'static str {
        match self {
            Self::Loses => "loses",
            Self::Unknown => "unknown",
            Self::StaysRefused => "stays-refused",
            Self::Gains => "gains",
            Self::Keeps => "keeps",
        }
    }
}

struct Host {
    name: String,
    effect: Effect,
    verdict: &'static str,
    findings: Vec<Finding>,
    /// Component and variant.
    nearest: Option<String>,
    stanza: Option<String>,
    /// Why nothing can be said.
    error: Option<String>,
}

impl SimulateArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let reference = |profile: &Path| -> Result<Reference, Failure> {
            let args = ReferenceArgs {
                profile: Some(profile.to_path_buf()),
                policy: self.policy.clone(),
                candidate: self.candidate.clone(),
                accept_warnings: true,
            };
            let reference = args.read(&inputs)?;
            measurements::demand_tpm(&reference)?;
            Ok(reference)
        };
        let next = reference(&self.profile)?;
        let current = self.current.as_deref().map(reference).transpose()?;
        let now = input::at(self.at);
        let folders = hosts(&self.evidence)?;
        let mut judged = Vec::new();
        for (at, folder) in folders.iter().enumerate() {
            judged.push(one(folder, &next, current.as_ref(), now));
            let done = at.saturating_add(1);
            if done.is_multiple_of(TELL_EVERY) && done < folders.len() {
                let _ = writeln!(std::io::stderr(), "{done} of {} hosts", folders.len());
            }
        }
        judged.sort_by(|a, b| (a.effect, &a.name).cmp(&(b.effect, &b.name)));
        Ok(answer(&judged))
    }
}

/// The folders of hosts, each once.
fn hosts(named: &[PathBuf]) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut found = BTreeSet::new();
    for path in named {
        if is_host(path)? {
            found.insert(path.clone());
            continue;
        }
        let before = found.len();
        for inside in entries(path)? {
            if inside.is_dir() && is_host(&inside)? {
                found.insert(inside);
            }
            if found.len() > MAX_HOSTS {
                return Err(Failure::new(format!("more than {MAX_HOSTS} hosts")));
            }
        }
        if found.len() == before {
            let text = format!("`{}` holds no evidence, and no folder of it", path.display());
            return Err(Failure::new(text).hint(
                "`assay record export SEQ --out DIR` and `assay attest --out DIR` write it",
            ));
        }
    }
    Ok(found)
}

fn is_host(folder: &Path) -> Result<bool, Failure> {
    let is_quote = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("quote") && name.ends_with(".msg")
    };
    Ok(entries(folder)?.iter().any(is_quote))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder)
        .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", folder.display())))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn one(folder: &Path, next: &Reference, current: Option<&Reference>, now: Time) -> Host {
    let judge = |by| host::judge(folder, None, None, &Inputs::default(), by, now);
    let name = folder.display().to_string();
    let unknown = |error: String, findings| Host {
        name: name.clone(),
        effect: Effect::Unknown,
        verdict: "none",
        findings,
        nearest: None,
        stanza: None,
        error: Some(error),
    };
    let judged = match judge(next) {
        Ok(judged) if judged.genuine && judged.tail && next.needs_ima() => {
            let error = "it is a refresh's, whose IMA list goes on from another: export the record of \
                         its attestation";
            return unknown(error.to_owned(), Vec::new());
        }
        Ok(judged) if judged.genuine => judged,
        Ok(judged) => {
            return unknown("the evidence is not genuine".to_owned(), judged.judgement.findings);
        }
        Err(failure) => return unknown(failure.message, Vec::new()),
    };
    let admitted = judged.judgement.findings.is_empty();
    // The same evidence was genuine a moment ago; a profile in force that cannot judge it admits.
    let before = current.and_then(|current| judge(current).ok());
    let before = before.is_none_or(|judged| judged.judgement.findings.is_empty());
    let effect = match (before, admitted) {
        (true, true) => Effect::Keeps,
        (true, false) => Effect::Loses,
        (false, true) => Effect::Gains,
        (false, false) => Effect::StaysRefused,
    };
    let near = judged.shown.pointer("/nearest/0");
    let text = |name| near.and_then(|near| near.get(name)).and_then(Value::as_str);
    let nearest = text("component").map(|component| match text("variant") {
        Some(variant) => format!("{component}/{variant}"),
        None => format!("{component}, none in force"),
    });
    Host {
        effect,
        verdict: judged.judgement.verdict(),
        nearest,
        stanza: text("stanza").map(str::to_owned),
        findings: judged.judgement.findings,
        name,
        error: None,
    }
}

fn answer(hosts: &[Host]) -> Answer {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for host in hosts {
        let count = counts.entry(host.effect.name()).or_default();
        *count = count.saturating_add(1);
    }
    let count = |effect: Effect| counts.get(effect.name()).copied().unwrap_or_default();
    let (verdict, exit) = match (count(Effect::Loses), count(Effect::Unknown)) {
        (0, 0) => ("affirming", AFFIRMED),
        (0, _) => ("none", COULD_NOT_TELL),
        _ => ("contraindicated", REFUSED),
    };
    let first = hosts.iter().find(|host| host.effect == Effect::Loses);
    let shown: Vec<Value> = hosts
        .iter()
        .map(|host| {
            json!({
                "host": host.name,
                "effect": host.effect.name(),
                "verdict": host.verdict,
                "reason": host.findings.first().map(|finding| finding.code),
                "reasons": host.findings,
                "nearest": host.nearest,
                "stanza": host.stanza,
                "error": host.error,
            })
        })
        .collect();
    let json = json!({
        "verdict": verdict,
        "reason": first.and_then(|host| host.findings.first()).map(|finding| finding.code),
        "reasons": [],
        "hosts": shown,
        "counts": counts,
        "not_checked": ["freshness: stored evidence is judged as of its own nonce"],
    });
    Answer { json, text: text(hosts, &counts), exit }
}

fn text(hosts: &[Host], counts: &BTreeMap<&str, usize>) -> String {
    let mut text = format!(
        "{} of {} hosts would lose their identity\n",
        counts.get(Effect::Loses.name()).copied().unwrap_or_default(),
        hosts.len()
    );
    let mut rows =
        vec![["HOST", "EFFECT", "REASON", "CLAIM", "NEAREST"].map(str::to_owned).to_vec()];
    for host in hosts {
        let first = host.findings.first();
        let dash = || "-".to_owned();
        rows.push(vec![
            printable(&host.name),
            host.effect.name().to_owned(),
            first.map_or_else(dash, |finding| finding.code.to_string()),
            first.map_or_else(dash, |finding| printable(&finding.claim)),
            host.nearest.as_deref().map_or_else(dash, printable),
        ]);
    }
    text.push_str(&table(&rows));
    for host in hosts.iter().filter(|host| host.error.is_some()) {
        let error = host.error.as_deref().unwrap_or_default();
        text.push_str(&format!("{}: {}\n", printable(&host.name), printable(error)));
    }
    if let Some(host) = hosts.iter().find(|h| h.effect == Effect::Loses && h.stanza.is_some()) {
        let stanza = host.stanza.as_deref().unwrap_or_default();
        text.push_str(&format!("\nto admit `{}`:\n{stanza}", printable(&host.name)));
    }
    text
}
