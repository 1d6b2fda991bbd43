//! Which documents are acceptable: authenticity is settled before, this judges what is true.
//!
//! The default refuses debug enclaves and roots of no vendor; registers and age are an operator's.

use std::collections::BTreeMap;

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use serde::Deserialize;

use crate::claims::Claims;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Enclaves whose console the parent reads, and that measure nothing.
    pub allow_debug: bool,
    pub allow_operator_root: bool,
    /// Oldest document that is accepted, in seconds.
    pub max_age_s: Option<u64>,
    /// Registers by number, each with the values in lower-case hex that it may have.
    pub pcr: BTreeMap<String, Vec<String>>,
}

/// Everything that keeps these claims from being accepted, the most decisive first.
pub fn appraise(claims: &Claims, policy: &Policy, now: Time) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refuse = |code, claim: &str, found: String, expected: String, line: &str| {
        findings.push(Finding::new(
            code,
            claim,
            found,
            expected,
            format!("policy, `nitro.{line}`"),
        ));
    };
    if claims.operator_supplied_root() && !policy.allow_operator_root {
        let (found, expected) = ("operator-supplied".into(), "aws".into());
        refuse(Reason::RootOperatorSupplied, "root", found, expected, "allow_operator_root");
    }
    if claims.debug() && !policy.allow_debug {
        let (found, expected) = ("zero".into(), "a measurement".into());
        refuse(Reason::NitroDebugMode, "pcrs.0", found, expected, "allow_debug");
    }
    let age = now.since(claims.timestamp()).as_secs();
    if let Some(most) = policy.max_age_s.filter(|most| age > *most) {
        let (found, expected) = (format!("{age} s old"), format!("at most {most} s"));
        refuse(Reason::DocumentExpired, "timestamp", found, expected, "max_age_s");
    }
    for (register, allowed) in &policy.pcr {
        let value = register.parse().ok().and_then(|number: u8| claims.pcrs().get(&number));
        let found = value.map_or_else(|| "absent".to_owned(), hex::encode);
        if !allowed.contains(&found) {
            let claim = format!("pcrs.{register}");
            let expected = allowed.join(" or ");
            refuse(Reason::RegisterMismatch, &claim, found, expected, &format!("pcr.{register}"));
        }
    }
    findings
}
