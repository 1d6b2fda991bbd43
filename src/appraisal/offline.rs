//! The policy for TPMs, as far as files alone can be held against it.
//!
//! What an exchange proves (the agent's key, the channel, freshness) no file shows: each such line
//! of the policy is told as not checked. Offline nothing ties an attestation key to an endorsement
//! key either, so what is said of the TPM is said of the one whose certificate was given.

use assay_evidence::reason::Finding;
use assay_evidence::time::Time;
use assay_tpm::TpmClass;
use assay_tpm::endorsement::Device;

use crate::appraisal::advisory;
use crate::appraisal::class_not_allowed;
use crate::policy::Policy;

/// What files showed of a TPM.
#[derive(Debug, Clone, Default)]
pub struct KnownTpm {
    /// Of the root that its verified certificate leads to.
    pub class: Option<TpmClass>,
    /// As its verified certificate says.
    pub device: Option<Device>,
    /// As the signed quote says.
    pub firmware_version: u64,
}

#[derive(Debug, Clone, Default)]
pub struct JudgedPolicy {
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
}

pub fn appraise_policy(known: &KnownTpm, policy: &Policy, now: Time) -> JudgedPolicy {
    let mut judged = JudgedPolicy::default();
    match known.class {
        None => {
            let gap =
                "policy, `tpm_class`: no certificate of the TPM leads to a root of a known class";
            judged.not_checked.push(gap.to_owned());
        }
        Some(class) => judged.findings.extend(class_not_allowed(class, policy)),
    }
    if policy.require_tee_binding && known.class == Some(TpmClass::Vtpm) {
        let gap = "policy, `require_tee_binding`: no report of the machine beside its TPM";
        judged.not_checked.push(gap.to_owned());
    }
    let device = known.device.as_ref();
    let firmware = advisory::appraise_firmware(device, known.firmware_version, policy, now);
    judged.findings.extend(firmware.findings);
    judged.warnings.extend(firmware.warnings);
    judged.not_checked.extend(firmware.not_checked);
    let by_exchange =
        [("key_in_tpm", policy.key_in_tpm), ("require_exporter", policy.require_exporter)];
    for (key, _) in by_exchange.into_iter().filter(|(_, asked)| *asked) {
        judged
            .not_checked
            .push(format!("policy, `{key}`: only an exchange with the agent shows it"));
    }
    judged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use assay_evidence::reason::Reason;

    use super::*;

    fn judged(policy: &str, class: Option<TpmClass>) -> JudgedPolicy {
        let known = KnownTpm { class, ..KnownTpm::default() };
        let now = Time::parse_rfc3339("2026-11-24T00:00:00Z").unwrap();
        appraise_policy(&known, &Policy::parse(policy).unwrap(), now)
    }

    #[test]
    fn a_class_that_is_not_allowed_is_refused_and_an_unknown_one_is_told() {
        assert!(judged("", Some(TpmClass::Discrete)).findings.is_empty());
        let virtual_tpm = judged("", Some(TpmClass::Vtpm));
        assert_eq!(virtual_tpm.findings[0].code, Reason::TpmClassNotAllowed);
        assert!(judged("tpm_class = [\"vtpm\"]", Some(TpmClass::Vtpm)).findings.is_empty());
        let unknown = judged("", None);
        assert!(unknown.findings.is_empty());
        assert!(unknown.not_checked.iter().any(|gap| gap.contains("tpm_class")));
    }

    #[test]
    fn what_only_an_exchange_shows_is_told_as_long_as_the_policy_asks() {
        assert_eq!(judged("", None).not_checked.len(), 4);
        let less = judged("key_in_tpm = false\nrequire_exporter = false", None);
        assert_eq!(less.not_checked.len(), 2, "{:?}", less.not_checked);
    }
}
