//! The appraisal policy: what a verifier's owner demands beyond reference values.
//!
//! `policy.toml` is syntax; [`Policy`] is the judged value. Unknown keys are errors that name key
//! and line; every default is the strict one.

mod confidential;

use std::path::Path;
use std::time::Duration;

use assay_evidence::crypto;
use assay_evidence::time::Time;
use assay_tpm::TpmClass;
use serde::Deserialize;

use crate::clock::Span;
use crate::reference::AdvisoryError;
use crate::reference::AdvisoryList;

pub use confidential::Confidential;
pub use confidential::ConfidentialError;

/// How much a proved and enrolled node is told about its refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefusalDetail {
    /// claim, found, expected
    Claims,
    /// the reason code and correlation id only
    Code,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub tpm_class: Vec<TpmClass>,
    pub key_in_tpm: bool,
    pub require_exporter: bool,
    pub refresh_every: Duration,
    pub max_age: Duration,
    pub agent_svid_ttl: Duration,
    pub min_agent: String,
    pub refusal_detail: RefusalDetail,
    /// A virtual TPM counts only where a TEE report covers its AK.
    pub require_tee_binding: bool,
    /// A TEE report that is shown beside a TPM has to name its AK, of whatever class the TPM is.
    pub require_link: bool,
    /// A TEE report ties a TPM only where reference values say what may be launched.
    pub require_launch_digest: bool,
    /// Whether the vendor took a key back has to be known, and not only asked.
    pub require_revocation: bool,
    /// What a confidential machine must be.
    pub confidential: Confidential,
    /// Firmware with known faults.
    pub advisories: AdvisoryList,
    pub accept_advisories: Vec<Accepted>,
    /// SHA-256 of the text this policy was parsed from; goes into every record.
    pub sha256: [u8; 32],
}

/// An advisory that is borne until a date: it warns, and from that date on it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub id: String,
    pub until: Time,
    /// Why, for whoever reads the record.
    pub because: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    #[error("{0}")]
    Syntax(String),
    #[error("`{key}` is {found:?}, expected {expected}")]
    Range { key: &'static str, found: Duration, expected: &'static str },
    #[error("`tpm_class` is empty, so no node could ever be accepted")]
    NoClass,
    #[error("`accept_advisories`, `{id}`: {fault}")]
    Accepted { id: String, fault: &'static str },
    #[error(transparent)]
    Confidential(#[from] ConfidentialError),
    #[error("`advisories`: `{path}` cannot be read: {fault}")]
    Read { path: String, fault: String },
    #[error("`advisories`: {path}: {fault}")]
    Advisories { path: String, fault: AdvisoryError },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyConfig {
    tpm_class: Vec<TpmClass>,
    key_in_tpm: bool,
    require_exporter: bool,
    refresh_every: Span,
    max_age: Span,
    agent_svid_ttl: Span,
    min_agent: String,
    refusal_detail: RefusalDetail,
    require_tee_binding: bool,
    require_link: bool,
    require_launch_digest: bool,
    require_revocation: bool,
    snp: assay_snp::Policy,
    tdx: confidential::TdxSyntax,
    nitro: assay_nitro::Policy,
    advisories: String,
    accept_advisories: Vec<AcceptedConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptedConfig {
    id: String,
    until: String,
    because: String,
}

/// The policy that holds where none is written: every key with its default.
pub const DEFAULT_TEXT: &str = r#"# What a policy demands where it says nothing else.
tpm_class = ["discrete", "firmware"]   # not "vtpm", "pluton" or "software"
key_in_tpm = true                      # the agent's key was certified by its TPM
require_exporter = true                # evidence belongs to the TLS channel it came over
refresh_every = "60s"
max_age = "180s"
agent_svid_ttl = "1h"
min_agent = "0.1"                      # what the agent says of itself: a hint, never a proof
refusal_detail = "claims"
require_tee_binding = true             # a virtual TPM counts where a TEE report covers its AK
require_link = true                    # a TEE report beside a TPM names its AK
require_launch_digest = true           # it counts where reference values say what is launched
require_revocation = true              # and where the vendor's revocation list is at hand
advisories = "builtin"                 # firmware with known faults
accept_advisories = []
"#;

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            tpm_class: vec![TpmClass::Discrete, TpmClass::Firmware],
            key_in_tpm: true,
            require_exporter: true,
            refresh_every: Span(Duration::from_secs(60)),
            max_age: Span(Duration::from_secs(180)),
            agent_svid_ttl: Span(Duration::from_secs(3_600)),
            min_agent: "0.1".to_owned(),
            refusal_detail: RefusalDetail::Claims,
            require_tee_binding: true,
            require_link: true,
            require_launch_digest: true,
            require_revocation: true,
            snp: assay_snp::Policy::default(),
            tdx: confidential::TdxSyntax::default(),
            nitro: assay_nitro::Policy::default(),
            advisories: BUILTIN.to_owned(),
            accept_advisories: Vec::new(),
        }
    }
}

impl Policy {
    /// A policy that names no further file.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Self::parse_with(text, |_| Err("no file can be named here".to_owned()))
    }

    /// A policy and the list of advisories that it may name; `read` gives that file's text.
    pub fn parse_with(
        text: &str,
        read: impl FnOnce(&Path) -> Result<String, String>,
    ) -> Result<Self, PolicyError> {
        let config: PolicyConfig = toml::from_str(text)
            .map_err(|error| PolicyError::Syntax(error.to_string().trim_end().to_owned()))?;
        if config.tpm_class.is_empty() {
            return Err(PolicyError::NoClass);
        }
        let range = |key, found: Span, low: u64, high: u64, expected| {
            let inside = (low..=high).contains(&found.0.as_secs());
            if inside {
                Ok(found.0)
            } else {
                Err(PolicyError::Range { key, found: found.0, expected })
            }
        };
        let refresh_every = range("refresh_every", config.refresh_every, 1, 86_400, "1s to 1d")?;
        let max_age = range("max_age", config.max_age, 2, 86_400, "2s to 1d")?;
        let agent_svid_ttl =
            range("agent_svid_ttl", config.agent_svid_ttl, 20, 604_800, "20s to 7d")?;
        if max_age < refresh_every * 2 {
            return Err(PolicyError::Range {
                key: "max_age",
                found: max_age,
                expected: "at least twice `refresh_every`, so that one lost refresh is no outage",
            });
        }
        let advisories = match config.advisories.as_str() {
            BUILTIN => AdvisoryList::builtin(),
            path => {
                let path = path.to_owned();
                let list = read(Path::new(&path))
                    .map_err(|fault| PolicyError::Read { path: path.clone(), fault })?;
                AdvisoryList::parse(&path, &list)
                    .map_err(|fault| PolicyError::Advisories { path, fault })?
            }
        };
        Ok(Self {
            tpm_class: config.tpm_class,
            key_in_tpm: config.key_in_tpm,
            require_exporter: config.require_exporter,
            refresh_every,
            max_age,
            agent_svid_ttl,
            min_agent: config.min_agent,
            refusal_detail: config.refusal_detail,
            require_tee_binding: config.require_tee_binding,
            require_link: config.require_link,
            require_launch_digest: config.require_launch_digest,
            require_revocation: config.require_revocation,
            confidential: Confidential::judged(config.snp, config.tdx, config.nitro)?,
            advisories,
            accept_advisories: accepted(config.accept_advisories)?,
            sha256: crypto::sha256(text.as_bytes()),
        })
    }
}

/// Each exception once, with an end and a reason.
fn accepted(configs: Vec<AcceptedConfig>) -> Result<Vec<Accepted>, PolicyError> {
    let mut all: Vec<Accepted> = Vec::new();
    for AcceptedConfig { id, until, because } in configs {
        let fault = |fault| Err(PolicyError::Accepted { id: id.clone(), fault });
        let Ok(until) = Time::parse_rfc3339(&until) else {
            return fault("`until` is not a time as RFC 3339 writes it");
        };
        if because.trim().is_empty() {
            return fault("`because` is empty");
        }
        if all.iter().any(|known| known.id == id) {
            return fault("there twice");
        }
        all.push(Accepted { id, until, because });
    }
    Ok(all)
}

/// The word for the list that ships.
const BUILTIN: &str = "builtin";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_is_strict() {
        let policy = Policy::parse("").unwrap();
        assert!(!policy.tpm_class.contains(&TpmClass::Software));
        assert!(policy.key_in_tpm && policy.require_exporter);
        assert_eq!(policy.max_age, Duration::from_secs(180));
    }

    #[test]
    fn the_default_as_it_is_shown_is_the_default() {
        let shown = Policy::parse(DEFAULT_TEXT).unwrap();
        let default = Policy::parse("").unwrap();
        assert_eq!(Policy { sha256: default.sha256, ..shown }, default);
    }

    #[test]
    fn a_typo_is_named_with_its_line() {
        let error = Policy::parse("key_in_tpm = true\nmax_agee = \"3s\"\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("max_agee") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn a_policy_that_could_not_hold_is_refused() {
        let refused = |text: &str| Policy::parse(text).unwrap_err();
        assert_eq!(refused("tpm_class = []"), PolicyError::NoClass);
        assert!(matches!(
            refused("refresh_every = \"60s\"\nmax_age = \"61s\""),
            PolicyError::Range { key: "max_age", .. }
        ));
        assert!(matches!(
            refused("refresh_every = \"0s\""),
            PolicyError::Range { key: "refresh_every", .. }
        ));
        assert!(matches!(refused("max_age = \"soon\""), PolicyError::Syntax(_)));
    }

    #[test]
    fn an_exception_has_an_end_and_a_reason_and_is_there_once() {
        let policy = |entries: &str| Policy::parse(&format!("accept_advisories = [{entries}]"));
        let good = "{ id = \"A\", until = \"2027-01-01T00:00:00Z\", because = \"swap\" }";
        assert_eq!(policy(good).unwrap().accept_advisories[0].because, "swap");
        let refused = |entries: &str| policy(entries).unwrap_err().to_string();
        assert!(refused(&good.replace("2027-01-01T00:00:00Z", "never")).contains("until"));
        assert!(refused(&good.replace("swap", " ")).contains("because"));
        assert!(refused(&format!("{good}, {good}")).contains("twice"));
        assert!(refused(&good.replace(", because = \"swap\"", "")).contains("because"));
    }

    #[test]
    fn a_list_that_is_missing_or_broken_is_named() {
        let named = "advisories = \"own.toml\"";
        assert!(Policy::parse(named).unwrap_err().to_string().contains("own.toml"));
        let broken = Policy::parse_with(named, |_| Ok("as_of = 3".to_owned())).unwrap_err();
        assert!(matches!(broken, PolicyError::Advisories { .. }), "{broken}");
        assert_eq!(Policy::parse("").unwrap().advisories.name, "built in");
    }
}
