//! What a covered list proves: which policy was in force, and how much of the agent.
//!
//! "No bad entry" means little unless something measured. That is shown by two bound facts: the
//! words of the measured command line, and the policy file that a list names. What cannot be shown
//! this way is said: a policy written as text instead of by its path leaves no entry, and only the
//! built-in policy `secure_boot` forbids that; and an entry of a file says that it was read, not
//! what for.
//!
//! A list is a negative proof: nothing else was measured. An entry of the agent alone proves that
//! such a file exists, since root can append one after a compromise; with every other entry known
//! and a policy proven, the compromise itself would show.

use std::fmt;

use assay_evidence::Digest;
use serde::Serialize;

use crate::ima::state::State;

/// What a profile asks of the policy in force.
#[derive(Clone, Copy, Debug)]
pub struct PolicyExpected<'a> {
    /// Built-in policies, as in `ima_policy=tcb|secure_boot`: each of these must be named.
    pub built_in: &'a [&'a str],
    /// Where a policy is loaded from; it has to be watched by the replay from the first entry on.
    pub path: &'a [u8],
    /// Digests of policies that may be loaded from there. Where there are none, none may be.
    pub files: &'a [Digest],
}

/// Where systemd and most distributions load a policy from.
pub const POLICY_PATH: &[u8] = b"/etc/ima/ima-policy";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyProof {
    Proven {
        /// Every word of `ima_policy=`.
        built_in: Vec<String>,
        file: Option<Digest>,
        /// Whether the kernel refuses a policy that is written as text.
        text_refused: bool,
    },
    NotProven(Gap),
}

/// Why a policy is not proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// No command line whose text is bound by the boot log.
    NoCommandLine,
    WordMissing(String),
    NotWatched,
    FileMissing,
    /// Without a digest where its algorithm is not known here.
    FileUnknown(Option<Digest>),
    FileReplaced,
    /// The list holds nothing but its own beginning.
    Blind,
}

/// `bound_command_line` must be a bound fact of the boot log: text that somebody merely sent proves
/// nothing.
pub fn policy(
    bound_command_line: Option<&str>,
    state: &State,
    expected: &PolicyExpected<'_>,
) -> PolicyProof {
    match policy_gap(bound_command_line, state, expected) {
        Err(gap) => PolicyProof::NotProven(gap),
        Ok((built_in, file)) => {
            let text_refused = built_in.iter().any(|word| word == SECURE_BOOT);
            PolicyProof::Proven { built_in, file, text_refused }
        }
    }
}

fn policy_gap(
    command_line: Option<&str>,
    state: &State,
    expected: &PolicyExpected<'_>,
) -> Result<(Vec<String>, Option<Digest>), Gap> {
    let words = built_in_policies(command_line.ok_or(Gap::NoCommandLine)?);
    if let Some(missing) = expected.built_in.iter().find(|word| !words.iter().any(|w| w == **word))
    {
        return Err(Gap::WordMissing((*missing).to_owned()));
    }
    if state.is_blind() {
        return Err(Gap::Blind);
    }
    let watched = state.watched(expected.path).ok_or(Gap::NotWatched)?;
    match (watched.changes(), watched.digest()) {
        (0, _) if expected.files.is_empty() => Ok((words, None)),
        (0, _) => Err(Gap::FileMissing),
        (1, Some(digest)) if expected.files.contains(digest) => Ok((words, Some(*digest))),
        (1, found) => Err(Gap::FileUnknown(found.copied())),
        _ => Err(Gap::FileReplaced),
    }
}

/// The words of every `ima_policy=`, as the kernel reads its command line: quotes keep spaces
/// together, and what stands behind `--` is for init.
pub fn built_in_policies(command_line: &str) -> Vec<String> {
    let mut quoted = false;
    let parameters = command_line.split(|c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    });
    let mut words = Vec::new();
    for parameter in parameters.take_while(|parameter| *parameter != "--") {
        let parameter = parameter.replace('"', "");
        let Some(list) = parameter.strip_prefix("ima_policy=") else { continue };
        let list = list.split(['|', ' ', '\n']).filter(|word| !word.is_empty());
        words.extend(list.map(str::to_owned));
    }
    words.sort_unstable();
    words.dedup();
    words
}

/// How far a list proves the agent itself (measured-boot design, "Proving the agent itself").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentProof {
    /// Entry of the agent, every other entry known, no violation, policy proven.
    Proven {
        digest: Digest,
    },
    NegativeOnly(Weakness),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weakness {
    NotWatched,
    NoEntry,
    OtherFile(Option<Digest>),
    Replaced,
    UnknownFiles(u64),
    /// What a violation is of is bound by nothing: it could be the agent.
    Violations(u64),
    PolicyNotProven(Gap),
}

/// `unknown_files`: entries of the whole boot, not only of this round, that no set knows.
pub fn agent(
    state: &State,
    path: &[u8],
    accepted: &[Digest],
    unknown_files: u64,
    policy: &PolicyProof,
) -> AgentProof {
    let weakness = match state.watched(path).map(|found| (found.changes(), found.digest())) {
        None => Weakness::NotWatched,
        Some((0, _)) => Weakness::NoEntry,
        Some((1, Some(digest))) if accepted.contains(digest) => {
            match (unknown_files, state.violations(), policy) {
                (0, 0, PolicyProof::Proven { .. }) => {
                    return AgentProof::Proven { digest: *digest };
                }
                (0, 0, PolicyProof::NotProven(gap)) => Weakness::PolicyNotProven(gap.clone()),
                (0, violations, _) => Weakness::Violations(violations),
                (unknown, _, _) => Weakness::UnknownFiles(unknown),
            }
        }
        Some((1, found)) => Weakness::OtherFile(found.copied()),
        Some(_) => Weakness::Replaced,
    };
    AgentProof::NegativeOnly(weakness)
}

impl fmt::Display for AgentProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentProof::Proven { .. } => f.write_str("agent proven"),
            AgentProof::NegativeOnly(weakness) => write!(f, "negative proof only: {weakness}"),
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weakness::NotWatched => f.write_str("the agent's file was not watched"),
            Weakness::NoEntry => f.write_str("no entry of the agent's file"),
            Weakness::OtherFile(found) => write!(f, "another agent was measured, {}", told(found)),
            Weakness::Replaced => f.write_str("the agent's file changed while the machine ran"),
            Weakness::UnknownFiles(count) => write!(f, "{count} entries that no set knows"),
            Weakness::Violations(count) => write!(f, "{count} violations"),
            Weakness::PolicyNotProven(gap) => write!(f, "the policy is not proven: {gap}"),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::NoCommandLine => f.write_str("no bound command line"),
            Gap::WordMissing(word) => write!(f, "`ima_policy` does not name `{word}`"),
            Gap::NotWatched => f.write_str("the policy's file was not watched"),
            Gap::FileMissing => f.write_str("no policy file was measured"),
            Gap::FileUnknown(found) => write!(f, "an unknown policy file, {}", told(found)),
            Gap::FileReplaced => f.write_str("more than one policy file was measured"),
            Gap::Blind => f.write_str("nothing was measured"),
        }
    }
}

fn told(found: &Option<Digest>) -> String {
    found.map_or("by an unknown algorithm".into(), |digest| digest.to_string())
}

/// Demands signed policies, by path.
const SECURE_BOOT: &str = "secure_boot";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_as_the_kernel_reads_its_command_line() {
        for (line, words) in [
            ("quiet ima_policy=tcb root=/dev/vda", &["tcb"][..]),
            ("ima_policy=\"tcb|secure_boot\" ima_policy=tcb", &["secure_boot", "tcb"]),
            ("\"ima_policy=tcb critical_data\"", &["critical_data", "tcb"]),
            ("quiet -- ima_policy=tcb", &[]),
            ("x=\"a -- b\" ima_policy=tcb", &["tcb"]),
            ("xima_policy=tcb note=\"ima_policy=tcb", &[]),
            ("", &[]),
        ] {
            assert_eq!(built_in_policies(line), words, "{line}");
        }
    }
}
