//! What a profile asks of the kernel's list of measured files.
//!
//! Files are known by digest, in sets; a name proves no place and decides nothing by itself. Which
//! policy was in force has to be proven by the measured command line and the list, since "no bad
//! entry" means little where nothing was measured.

use assay_evidence::digest::Digest;

use crate::reference::ProfileError;
use crate::reference::Sets;
use crate::reference::digests::Digests;
use crate::reference::fields::Fields;
use crate::reference::fields::refused;
use crate::reference::set::Content;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImaRules {
    pub line: usize,
    /// Digests of files that may be measured; nothing if any file may.
    pub allow: Option<Files>,
    pub violations: Violations,
    /// Built-in policies that `ima_policy=` has to name.
    pub policy: Vec<String>,
    /// Digests of policy files that may be loaded.
    pub policy_files: Vec<Digest>,
    pub policy_path: String,
    pub agent: Option<AgentFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub names: Vec<String>,
    pub digests: Digests,
}

/// What a file that changed while it was measured means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violations {
    Refuse,
    /// Recorded as warnings.
    Count,
    /// Those of these paths are warnings, others refuse. The path of a violation is only claimed.
    Paths(Vec<String>),
}

/// The agent's own file, which the list should prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    pub path: String,
    pub digests: Vec<Digest>,
}

/// Where systemd and most distributions load a policy from.
const POLICY_PATH: &str = "/etc/ima/ima-policy";

impl Default for ImaRules {
    /// What holds where a profile does not speak of IMA: any file, no violation.
    fn default() -> Self {
        Self {
            line: 0,
            allow: None,
            violations: Violations::Refuse,
            policy: Vec::new(),
            policy_files: Vec::new(),
            policy_path: POLICY_PATH.to_owned(),
            agent: None,
        }
    }
}

impl ImaRules {
    pub(super) fn from_fields(mut fields: Fields, sets: &Sets) -> Result<Self, ProfileError> {
        let line = fields.line;
        let allow = match fields.texts("allow")? {
            None => None,
            Some(names) => {
                let digests = union(&names, sets, line)?.into_iter().collect();
                Some(Files { names, digests })
            }
        };
        let paths = fields.texts("violation_paths")?;
        let violations = match (fields.text("violations")?.as_deref(), paths) {
            (None | Some("refuse"), None) => Violations::Refuse,
            (Some("count"), None) => Violations::Count,
            (None | Some("paths"), Some(paths)) => Violations::Paths(paths),
            (found, _) => {
                let expected = "`refuse`, `count`, or `paths` with `violation_paths`";
                return Err(refused(line, "violations", found.unwrap_or_default(), expected));
            }
        };
        let policy = fields.texts("policy")?.unwrap_or_default();
        let files = fields.texts("policy_files")?.unwrap_or_default();
        let policy_files = union(&files, sets, line)?;
        let policy_path = fields.text("policy_path")?.unwrap_or_else(|| POLICY_PATH.to_owned());
        let agent = match fields.table("agent")? {
            None => None,
            Some(mut agent) => {
                let line = agent.line;
                let path = agent.required("path")?;
                let names = agent.texts("allow")?.unwrap_or_default();
                agent.finish()?;
                let digests = union(&names, sets, line)?;
                if digests.is_empty() {
                    return Err(refused(line, "allow", "[]", "sets with the agent's digests"));
                }
                Some(AgentFile { path, digests })
            }
        };
        fields.finish()?;
        Ok(Self { line, allow, violations, policy, policy_files, policy_path, agent })
    }
}

fn union(names: &[String], sets: &Sets, line: usize) -> Result<Vec<Digest>, ProfileError> {
    let mut digests = Vec::new();
    for name in names {
        match &sets.resolve(name, line)?.content {
            Content::Digests(set) => {
                digests.extend(set.rows.iter().flat_map(|row| row.digests.values().copied()));
            }
            _ => return Err(refused(line, "set", name, "a set of digests")),
        }
    }
    digests.sort_unstable();
    digests.dedup();
    Ok(digests)
}
