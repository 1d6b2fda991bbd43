//! Appraise: judge verified claims against reference values and policy.
//!
//! An [`Appraisal`] keeps what passed and what failed, a reason for each; it is never a `bool` and
//! never an error. Only an affirming one becomes a [`Standing`], only a fresh standing becomes a
//! [`Grant`], and only a grant makes the CA sign.
//!
//! Pure: no clock, no files, no network. Verification of signatures happened before, in the
//! attestors; what to do about a verdict is decided after, by the faces.

mod advisory;
mod authorization;
mod boot_facts;
mod custody;
mod deny;
pub mod ear;
mod grant;
mod launch;
mod link;
mod literal;
mod logs;
mod measured;
mod measured_files;
mod offline;
mod standing;
mod tee;
mod vouched;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use assay_eventlog::Facts;
use assay_eventlog::ima::State;
use assay_evidence::crypto;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_tpm::TpmClass;
use assay_tpm::endorsement::Device;
use serde::Serialize;

use crate::envelope::Claims;
use crate::policy::Policy;
use crate::reference::Profile;
use crate::spiffe::Selector;
use crate::spiffe::SpiffeId;

pub use authorization::Authorized;
pub use authorization::authorized_entries;
pub use custody::CustodyClass;
pub use custody::CustodyProof;
pub use custody::Gate;
pub use deny::Deny;
pub use deny::DenySet;
pub use grant::AuthorityAct;
pub use grant::DangerPermit;
pub use grant::Grant;
pub use grant::GrantKind;
pub use grant::Refused;
pub use launch::appraise_launch;
pub use launch::appraise_trust_domain;
pub use link::Edge;
pub use link::Link;
pub use link::expected_report_data;
pub use logs::JudgedLogs;
pub use logs::Logs;
pub use logs::appraise_logs;
pub use measured::Given;
pub use measured::Judged;
pub use measured::Measured;
pub use measured::Nearest;
pub use measured::appraise_log;
pub use measured::unsigned_values;
pub use measured_files::FilesHeard;
pub use measured_files::MeasuredFiles;
pub use measured_files::appraise_ima;
pub use offline::JudgedPolicy;
pub use offline::KnownTpm;
pub use offline::appraise_policy;
pub use standing::Standing;
pub use standing::StandingRow;
pub use tee::Launches;
pub use tee::Tee;

use tee::appraise_tee;

/// The tiers of EAR and AR4SI (draft-ietf-rats-ar4si).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Affirming,
    Contraindicated,
}

/// Who is judged, as the node's row and the verified endorsement say; nothing the peer claims.
#[derive(Debug, Clone)]
pub struct Subject {
    pub node: SpiffeId,
    pub tpm_class: TpmClass,
    /// SHA-256 of the root certificate that the EK chain ended in; absent for a node enrolled by
    /// EK hash alone, whose class is then asserted by the operator.
    pub ek_root: Option<[u8; 32]>,
    /// What the verified EK certificate says of the TPM.
    pub device: Option<Device>,
    /// The binding that was signed covers the TLS channel it came over.
    pub channel_bound: bool,
    /// The agent's key was certified by the AK, now or at the attestation its channel rests on.
    pub key_in_tpm: bool,
    pub labels: BTreeMap<String, String>,
    /// What was borne in the chain of whoever vouches for the TPM; told with the verdict.
    pub warnings: Vec<Finding>,
}

/// Which profile decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProfileName {
    pub id: String,
    pub serial: u64,
    #[serde(with = "hex::serde")]
    pub sha256: [u8; 32],
}

/// The outcome of judging one set of claims, pass or fail.
#[derive(Debug, Clone, Serialize)]
pub struct Appraisal {
    id: String,
    node: SpiffeId,
    verdict: Verdict,
    findings: Vec<Finding>,
    warnings: Vec<Finding>,
    not_checked: Vec<String>,
    profile: ProfileName,
    #[serde(with = "hex::serde")]
    policy_sha256: [u8; 32],
    quoted_at: Time,
    reset_count: u32,
    selectors: BTreeSet<Selector>,
    #[serde(skip)]
    files_judged: Option<State>,
}

/// Judges `claims` about `subject`. `id` names the appraisal in records; `quoted_at` is when the
/// challenge was sent; `now` decides which variants are still in force. `launches` are profiles of
/// what confidential machines may be launched with.
pub fn appraise(
    id: String,
    subject: &Subject,
    claims: &Claims,
    logs: Logs<'_>,
    preimages: &[&[u8]],
    tee: Option<&Tee<'_>>,
    profile: &Profile,
    launches: &[Arc<Profile>],
    policy: &Policy,
    quoted_at: Time,
    now: Time,
) -> Appraisal {
    let mut findings = Vec::from_iter(class_not_allowed(subject.tpm_class, policy));
    let candidates = candidates(subject);
    let launches = Launches { profiles: launches, preimages, candidates: &candidates, now };
    let judged_tee = appraise_tee(tee, subject.tpm_class, &launches, policy);
    findings.extend(judged_tee.findings);
    let device = subject.device.as_ref();
    let firmware = advisory::appraise_firmware(device, claims.firmware_version(), policy, now);
    findings.extend(firmware.findings);
    if policy.key_in_tpm && !subject.key_in_tpm {
        findings.push(Finding {
            code: Reason::SvidKeyNotCertified,
            claim: "svid_key.in_tpm".to_owned(),
            found: "false".to_owned(),
            expected: "true".to_owned(),
            source: "policy, `key_in_tpm`".to_owned(),
        });
    }
    if policy.require_exporter && !subject.channel_bound {
        findings.push(Finding {
            code: Reason::ChannelBinding,
            claim: "binding.exporter".to_owned(),
            found: "absent".to_owned(),
            expected: "the exporter of this TLS channel".to_owned(),
            source: "policy, `require_exporter`".to_owned(),
        });
    }
    let given = Given { quoted: claims.all_registers(), preimages, candidates: &candidates, now };
    let judged = appraise_logs(profile, logs, &given, &mut |_| {});
    findings.extend(judged.findings);
    let verdict = if findings.is_empty() { Verdict::Affirming } else { Verdict::Contraindicated };
    Appraisal {
        id,
        node: subject.node.clone(),
        verdict,
        findings,
        warnings: claims
            .warnings()
            .iter()
            .cloned()
            .chain(subject.warnings.iter().cloned())
            .chain(judged_tee.warnings)
            .chain(firmware.warnings)
            .chain(judged.warnings)
            .collect(),
        not_checked: claims
            .not_checked()
            .iter()
            .map(ToString::to_string)
            .chain(judged_tee.not_checked)
            .chain(firmware.not_checked)
            .chain(judged.not_checked)
            .collect(),
        profile: ProfileName {
            id: profile.id.clone(),
            serial: profile.serial,
            sha256: profile.sha256,
        },
        policy_sha256: policy.sha256,
        quoted_at,
        reset_count: claims.clock().reset_count,
        selectors: selectors(subject, claims, judged_tee.selectors, profile, &judged.facts),
        files_judged: judged.ima_state.filter(|_| verdict == Verdict::Affirming),
    }
}

impl Appraisal {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn node(&self) -> &SpiffeId {
        &self.node
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What failed, most decisive first; empty exactly when the verdict is affirming.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What an operator should know and what refuses nothing by itself.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    pub fn not_checked(&self) -> &[String] {
        &self.not_checked
    }

    pub fn profile(&self) -> &ProfileName {
        &self.profile
    }

    pub fn policy_sha256(&self) -> &[u8; 32] {
        &self.policy_sha256
    }

    pub fn quoted_at(&self) -> Time {
        self.quoted_at
    }

    pub fn reset_count(&self) -> u32 {
        self.reset_count
    }

    /// How far the list of files was judged; nothing unless the verdict is affirming, since the
    /// next round looks at nothing before that place again.
    pub fn files_judged(&self) -> Option<&State> {
        self.files_judged.as_ref()
    }

    /// Node selectors, from bound facts only.
    pub fn selectors(&self) -> &BTreeSet<Selector> {
        &self.selectors
    }
}

fn class_not_allowed(class: TpmClass, policy: &Policy) -> Option<Finding> {
    let allowed = || {
        let allowed: Vec<_> = policy.tpm_class.iter().map(ToString::to_string).collect();
        allowed.join(" or ")
    };
    (!policy.tpm_class.contains(&class)).then(|| Finding {
        code: Reason::TpmClassNotAllowed,
        claim: "tpm.class".to_owned(),
        found: class.to_string(),
        expected: allowed(),
        source: "policy, `tpm_class`".to_owned(),
    })
}

/// Candidate variants that were predicted for this node: its operator says so by a label.
fn candidates(subject: &Subject) -> BTreeSet<String> {
    let label = subject.labels.get("candidate").map_or("", String::as_str);
    label.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The stable selector names; all of type `assay`.
fn selectors(
    subject: &Subject,
    claims: &Claims,
    of_tee: Vec<String>,
    profile: &Profile,
    facts: &Facts,
) -> BTreeSet<Selector> {
    let mut values =
        vec![format!("tpm:class:{}", subject.tpm_class), format!("profile:{}", profile.id)];
    values.extend(subject.node.node_id().map(|id| format!("node:{id}")));
    values.extend(subject.ek_root.map(|root| format!("tpm:ek-root:{}", hex::encode(root))));
    for (register, digest) in claims.registers(HashAlgorithm::Sha256) {
        values.push(format!("pcr:sha256:{register}:{}", digest.to_hex()));
    }
    if facts.flag("sb.enabled") == Some(true) {
        values.push("boot:secure-boot:true".to_owned());
    }
    for line in facts.texts("boot.cmdline") {
        values.push(format!("boot:cmdline:{}", hex::encode(crypto::sha256(line.as_bytes()))));
    }
    values.extend(of_tee);
    for (key, value) in &subject.labels {
        values.push(format!("label:{key}:{value}"));
    }
    values.iter().filter_map(|value| Selector::new("assay", value).ok()).collect()
}
