//! Judges an IMA list: is it this boot's, does it lead to the quote, is every file known, was there
//! a policy that measures.
//!
//! Only the prefix that the quote covers is judged; what came after it is the next round's. The
//! proof is a negative one, and the verdict says how far it goes for the agent itself.
//!
//! A list is judged as it comes in, a piece at a time, so that its length takes no memory. It may go
//! on where an earlier round ended: the state of that round stands for all entries before it, and
//! counts only if they were judged by the same profile, which is the caller's to know.

use std::sync::LazyLock;

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
use assay_eventlog::ima::replay::Columns;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::digest::Registers;

use crate::reference::Profile;
use crate::reference::class;
use crate::reference::ima_rules::Files;
use crate::reference::ima_rules::ImaRules;
use crate::reference::ima_rules::Violations;
use crate::reference::pattern;

static DEFAULT: LazyLock<ImaRules> = LazyLock::new(ImaRules::default);

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

/// A list that is being heard, on its way to the quote.
#[derive(Debug)]
pub struct FilesHeard<'p> {
    profile: &'p Profile,
    rules: &'p ImaRules,
    quoted: Registers,
    reader: ima::Reader,
    /// Or the first fault: what comes behind it is not looked at.
    replay: Result<ima::Replay<'p>, ima::Error>,
    unknown: Unknown,
    violations_before: u64,
    /// What the round before ended with is what is quoted now.
    nothing_new: bool,
    heard: bool,
}

impl<'p> FilesHeard<'p> {
    /// Goes on where `state` ends, towards the PCR 10 of `quoted`.
    pub fn begin(profile: &'p Profile, state: &State, quoted: &Registers) -> Self {
        let rules = profile.ima.as_ref().unwrap_or(&DEFAULT);
        let stood = state.registers();
        let mut stood = stood.keys().map(|bank| (*bank, stood.value(*bank, ima::REGISTER)));
        Self {
            profile,
            rules,
            quoted: quoted.clone(),
            reader: ima::Reader::at(state.entries()),
            replay: replay(profile, rules, state, quoted),
            unknown: Unknown::default(),
            violations_before: state.violations(),
            nothing_new: state.entries() > 0
                && stood.all(|(bank, value)| quoted.value(bank, ima::REGISTER) == value),
            heard: false,
        }
    }

    /// Leaves the digest column alone. It decides nothing, and holding it against the entry costs one
    /// hash more; what is lost is the warning that somebody wrote another column.
    #[must_use]
    pub fn ignoring_columns(self) -> Self {
        let replay = self.replay.map(|replay| replay.with_columns(Columns::Ignore));
        Self { replay, ..self }
    }

    pub fn profile(&self) -> &'p Profile {
        self.profile
    }

    /// Takes the next piece of the list, wherever it was cut.
    pub fn hear(&mut self, piece: &[u8]) {
        self.heard |= !piece.is_empty();
        let Ok(replay) = &mut self.replay else { return };
        let mut entries = self.reader.entries(piece);
        let mut advance = || {
            while let Some(entry) = entries.next()? {
                if replay.advance(&entry)? == Place::Within
                    && let Some(files) = &self.rules.allow
                {
                    self.unknown.note(files, self.rules, &entry);
                }
            }
            Ok(())
        };
        if let Err(error) = advance() {
            self.replay = Err(error);
        }
    }

    /// Not one byte came, and something was due.
    pub fn is_missing(&self) -> bool {
        !self.heard && !self.nothing_new
    }

    /// The judgement. `bound_command_line` is the boot log's fact, of which the policy's proof needs
    /// every text.
    pub fn finish(mut self, bound_command_line: &[String]) -> MeasuredFiles {
        let (profile, rules) = (self.profile, self.rules);
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
        let unknown = std::mem::take(&mut self.unknown);
        let quoted = std::mem::take(&mut self.quoted);
        let before = self.violations_before;
        let covered = match self.covered() {
            Ok(covered) => covered,
            Err(error) => {
                out.findings.push(error.finding());
                return out;
            }
        };
        out.covered = covered.within();
        out.beyond = covered.beyond();
        out.warnings.extend(covered.warnings());
        if let Err(error) = covered.verify_boot(&quoted) {
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
        let told = covered.violations();
        let untold = covered.state().violations().saturating_sub(before)
            > u64::try_from(told.len()).unwrap_or(u64::MAX);
        for (finding, violation) in covered.violation_findings().into_iter().zip(told) {
            let listed = match &rules.violations {
                Violations::Refuse => false,
                Violations::Count => true,
                Violations::Paths(globs) => {
                    // Of more than are told nobody knows the paths.
                    let path = &violation.claimed_path;
                    !untold && globs.iter().any(|glob| pattern::matches(glob, path))
                }
            };
            match listed {
                true => out.warnings.push(finding),
                false => out.findings.push(finding),
            }
        }
        unknown.tell(&mut out.findings, &source("allow"));
        // Earlier rounds were affirmed, so they had no unknown file, unless any may be there.
        let unlisted = match rules.allow {
            Some(_) => unknown.count,
            None => covered.state().files(),
        };
        prove(rules, covered.state(), bound_command_line, unlisted, &mut out, &source);
        if rules.allow.is_none() {
            out.not_checked.push("ima files: the profile names no set of allowed ones".to_owned());
        }
        out.state = Some(covered.into_state());
        out
    }

    fn covered(self) -> Result<ima::Covered, ima::Error> {
        let replay = self.replay?;
        self.reader.finish()?;
        replay.finish()
    }
}

/// Judges the whole of `list`, as [`FilesHeard::finish`] does.
pub fn appraise_ima(
    profile: &Profile,
    state: &State,
    list: &[u8],
    quoted: &Registers,
    bound_command_line: &[String],
) -> MeasuredFiles {
    let mut files = FilesHeard::begin(profile, state, quoted);
    files.hear(list);
    files.finish(bound_command_line)
}
fn replay<'p>(
    profile: &Profile,
    rules: &'p ImaRules,
    state: &State,
    quoted: &Registers,
) -> Result<ima::Replay<'p>, ima::Error> {
    let replay = ima::Replay::new(state, quoted)?.with_quirks(class::quirks(&profile.quirks));
    let replay = replay.watching(rules.policy_path.as_bytes())?;
    match &rules.agent {
        Some(agent) => replay.watching(agent.path.as_bytes()),
        None => Ok(replay),
    }
}

/// Files that no set knows.
#[derive(Debug, Default)]
struct Unknown {
    count: u64,
    first: Vec<(u64, String, String)>,
    names: Vec<String>,
}

impl Unknown {
    fn note(&mut self, files: &Files, rules: &ImaRules, entry: &Entry<'_>) {
        let (digest, name) = match entry.kind() {
            Kind::BootAggregate(_) | Kind::Violation { .. } => return,
            Kind::File(file) => (Some(file.digest), file.path),
            Kind::Buffer { name, digest, .. } => (Some(digest), name),
            Kind::Anonymous => (None, &b"nothing"[..]),
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
            let shown = String::from_utf8_lossy(name).chars().take(256).collect();
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
