//! Judges an IMA list: is it this boot's, does it lead to the quote, is every file known, was there
//! a policy that measures.
//!
//! Only the prefix that the quote covers is judged; what came after it is the next round's. The
//! proof is a negative one, and the verdict says how far it goes for the agent itself.

use assay_eventlog::ima;
use assay_eventlog::ima::Entry;
use assay_eventlog::ima::Kind;
use assay_eventlog::ima::Place;
use assay_eventlog::ima::State;
use assay_eventlog::ima::proof;
use assay_eventlog::ima::proof::AgentProof;
use assay_eventlog::ima::proof::Gap;
use assay_eventlog::ima::proof::PolicyExpected;
use assay_eventlog::ima::proof::PolicyProof;
use assay_eventlog::ima::proof::Weakness;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::digest::Registers;

use crate::reference::Profile;
use crate::reference::class;
use crate::reference::ima_rules::Files;
use crate::reference::ima_rules::ImaRules;
use crate::reference::ima_rules::Violations;
use crate::reference::pattern;

/// A flood of unknown files is told by its first ones and their number.
const MAX_TOLD: usize = 16;

/// What came of a list.
#[derive(Debug)]
pub struct MeasuredFiles {
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
    /// Entries of the prefix that the quote covers, of this round.
    pub covered: u64,
    pub beyond: u64,
    /// Where the next round goes on; nothing if the list was refused.
    pub state: Option<State>,
    pub policy: Option<PolicyProof>,
    pub agent: Option<AgentProof>,
}

/// Judges `list`, which goes on where `state` ends, towards the PCR 10 of `quoted`.
/// `bound_command_line` is the boot log's fact, of which the policy's proof needs every text.
pub fn appraise_ima(
    profile: &Profile,
    state: &State,
    list: &[u8],
    quoted: &Registers,
    bound_command_line: &[String],
) -> MeasuredFiles {
    let default = ImaRules::default();
    let rules = profile.ima.as_ref().unwrap_or(&default);
    let mut out = MeasuredFiles {
        findings: Vec::new(),
        warnings: Vec::new(),
        not_checked: Vec::new(),
        covered: 0,
        beyond: 0,
        state: None,
        policy: None,
        agent: None,
    };
    let source = |claim: &str| {
        format!(
            "profile `{}`, serial {}, line {} (`{claim}` of `[ima]`)",
            profile.id, profile.serial, rules.line
        )
    };
    let mut unknown = Unknown::default();
    let covered = match replayed(profile, rules, state, list, quoted, &mut unknown) {
        Ok(covered) => covered,
        Err(error) => {
            out.findings.push(error.finding());
            return out;
        }
    };
    out.covered = covered.within();
    out.beyond = covered.beyond();
    out.warnings.extend(covered.warnings());
    if let Err(error) = covered.verify_boot(quoted) {
        out.findings.push(error.finding());
    }
    if covered.state().is_blind() {
        out.findings.push(Finding {
            code: Reason::ImaBlind,
            claim: "ima.entries".to_owned(),
            found: covered.state().entries().to_string(),
            expected: "files beside the boot aggregate".to_owned(),
            source: source("policy"),
        });
    }
    for finding in covered.violation_findings() {
        let listed = match &rules.violations {
            Violations::Refuse => false,
            Violations::Count => true,
            Violations::Paths(globs) => globs.iter().any(|g| pattern::matches(g, &finding.found)),
        };
        match listed {
            true => out.warnings.push(finding),
            false => out.findings.push(finding),
        }
    }
    unknown.tell(&mut out.findings, &source("allow"));
    prove(rules, covered.state(), bound_command_line, unknown.count, &mut out, &source);
    if rules.allow.is_none() {
        out.not_checked.push("ima files: the profile names no set of allowed ones".to_owned());
    }
    out.state = Some(covered.into_state());
    out
}

fn replayed(
    profile: &Profile,
    rules: &ImaRules,
    state: &State,
    list: &[u8],
    quoted: &Registers,
    unknown: &mut Unknown,
) -> Result<ima::Covered, ima::Error> {
    let mut replay = ima::Replay::new(state, quoted)?.with_quirks(class::quirks(&profile.quirks));
    replay = replay.watching(rules.policy_path.as_bytes())?;
    if let Some(agent) = &rules.agent {
        replay = replay.watching(agent.path.as_bytes())?;
    }
    let mut reader = ima::Reader::new();
    let mut entries = reader.entries(list);
    while let Some(entry) = entries.next()? {
        if replay.advance(&entry)? == Place::Within
            && let Some(files) = &rules.allow
        {
            unknown.note(files, rules, &entry);
        }
    }
    reader.finish()?;
    replay.finish()
}

/// Files that no set knows.
#[derive(Default)]
struct Unknown {
    count: u64,
    first: Vec<(u64, String, String)>,
    names: Vec<String>,
}

impl Unknown {
    fn note(&mut self, files: &Files, rules: &ImaRules, entry: &Entry<'_>) {
        let (digest, name) = match entry.kind() {
            Kind::BootAggregate(_) | Kind::Violation { .. } => return,
            Kind::File(file) => (Some(file.digest), String::from_utf8_lossy(file.path)),
            Kind::Buffer { name, digest, .. } => (Some(digest), String::from_utf8_lossy(name)),
            Kind::Anonymous => (None, "nothing".into()),
        };
        let known = digest.and_then(|digest| digest.digest()).is_some_and(|digest| {
            files.digests.contains(&digest)
                || rules.policy_files.contains(&digest)
                || rules.agent.as_ref().is_some_and(|agent| agent.digests.contains(&digest))
        });
        if known {
            return;
        }
        self.count = self.count.saturating_add(1);
        self.names.clone_from(&files.names);
        if self.first.len() < MAX_TOLD {
            let shown: String = name.chars().take(256).collect();
            let digest = digest.map_or_else(String::new, |digest| hex::encode(digest.bytes));
            self.first.push((entry.index(), shown, digest));
        }
    }

    fn tell(&self, findings: &mut Vec<Finding>, source: &str) {
        for (index, name, digest) in &self.first {
            findings.push(Finding {
                code: Reason::ImaFileUnknown,
                claim: format!("ima.entry.{index}"),
                found: format!("{name} {digest}"),
                expected: format!("a file of {}", self.names.join(", ")),
                source: source.to_owned(),
            });
        }
        let told = u64::try_from(self.first.len()).unwrap_or(u64::MAX);
        if self.count > told {
            findings.push(Finding {
                code: Reason::ImaFileUnknown,
                claim: "ima.entries".to_owned(),
                found: format!("{} unknown files", self.count),
                expected: "none".to_owned(),
                source: source.to_owned(),
            });
        }
    }
}

fn prove(
    rules: &ImaRules,
    state: &State,
    command_line: &[String],
    unknown: u64,
    out: &mut MeasuredFiles,
    source: &dyn Fn(&str) -> String,
) {
    let words: Vec<&str> = rules.policy.iter().map(String::as_str).collect();
    let expected = PolicyExpected {
        built_in: &words,
        path: rules.policy_path.as_bytes(),
        files: &rules.policy_files,
    };
    // Where a log binds several command lines, each has to prove it.
    let proofs = command_line.iter().map(|line| proof::policy(Some(line), state, &expected));
    let policy = proofs
        .reduce(|first, next| match first {
            PolicyProof::NotProven(_) => first,
            PolicyProof::Proven { .. } => next,
        })
        .unwrap_or_else(|| proof::policy(None, state, &expected));
    let demanded = !rules.policy.is_empty() || !rules.policy_files.is_empty();
    if let PolicyProof::NotProven(gap) = &policy
        && *gap != Gap::Blind
    {
        let finding = Finding {
            code: Reason::ImaPolicyUnproven,
            claim: "ima.policy".to_owned(),
            found: gap.to_string(),
            expected: match rules.policy.is_empty() {
                true => "a policy proven by the measured command line".to_owned(),
                false => format!("`ima_policy` with {}", rules.policy.join(", ")),
            },
            source: source("policy"),
        };
        match demanded {
            true => out.findings.push(finding),
            false => out.not_checked.push(format!("ima policy: {gap}")),
        }
    }
    if let Some(agent) = &rules.agent {
        let path = agent.path.as_bytes();
        let grade = proof::agent(state, path, &agent.digests, unknown, &policy);
        let other = matches!(
            grade,
            AgentProof::NegativeOnly(
                Weakness::NoEntry
                    | Weakness::OtherFile(_)
                    | Weakness::Replaced
                    | Weakness::NotWatched
            )
        );
        if other {
            out.findings.push(Finding {
                code: Reason::ImaAgentUnknown,
                claim: "ima.agent".to_owned(),
                found: grade.to_string(),
                expected: format!("`{}` as the profile knows it", agent.path),
                source: source("agent"),
            });
        } else if let AgentProof::NegativeOnly(_) = &grade {
            out.not_checked.push(grade.to_string());
        }
        out.agent = Some(grade);
    }
    out.policy = Some(policy);
}
