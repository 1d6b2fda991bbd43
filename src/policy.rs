//! The appraisal policy: what a verifier's owner demands beyond reference values.
//!
//! `policy.toml` is syntax; [`Policy`] is the judged value. Unknown keys are errors that name key
//! and line; every default is the strict one.

use std::time::Duration;

use assay_evidence::crypto;
use assay_tpm::TpmClass;
use serde::Deserialize;

use crate::clock::Span;

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
    /// SHA-256 of the text this policy was parsed from; goes into every record.
    pub sha256: [u8; 32],
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
}

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
        }
    }
}

impl Policy {
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
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
        Ok(Self {
            tpm_class: config.tpm_class,
            key_in_tpm: config.key_in_tpm,
            require_exporter: config.require_exporter,
            refresh_every,
            max_age,
            agent_svid_ttl,
            min_agent: config.min_agent,
            refusal_detail: config.refusal_detail,
            sha256: crypto::sha256(text.as_bytes()),
        })
    }
}

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
}
