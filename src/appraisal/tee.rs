//! Judges what a confidential machine's processor says, and what its absence means.
//!
//! By the tables `[snp]` and `[tdx]` of the policy, by reference values of what was launched, and by
//! how the report is linked to the TPM ([`Link`]).
//!
//! A report ties a TPM to a confidential machine where it names the TPM's key **and** what was
//! launched is listed. Anybody can rent a genuine guest and have it sign for the key of a machine
//! elsewhere; only software that the operator knows can be relied on to ask for its own TPM's key
//! alone. And only a report that ties gives selectors.

use std::collections::BTreeSet;
use std::sync::Arc;

use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirk;
use assay_eventlog::Quirks;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_snp::policy::advisory;
use assay_tdx::rtmr;
use assay_tpm::TpmClass;

use crate::appraisal::Edge;
use crate::appraisal::JudgedLogs;
use crate::appraisal::Link;
use crate::appraisal::appraise_launch;
use crate::appraisal::appraise_trust_domain;
use crate::envelope::TeeClaims;
use crate::policy::Confidential;
use crate::policy::Policy;
use crate::reference::Profile;
use crate::reference::profile::Root;

/// What came of the processor, as far as it is verified.
#[derive(Debug, Clone, Copy)]
pub struct Tee<'a> {
    pub link: &'a Link,
    /// The boot log of a TD, as it came.
    pub ccel: Option<&'a [u8]>,
}

/// What one launch is held against: profiles of its root, any of which may admit it.
#[derive(Clone, Copy)]
pub struct Launches<'a> {
    /// Of roots `snp` and `tdx`.
    pub profiles: &'a [Arc<Profile>],
    /// Texts that a boot log has only as digests.
    pub preimages: &'a [&'a [u8]],
    /// Candidate variants that count for this node.
    pub candidates: &'a BTreeSet<String>,
    pub now: Time,
}

#[derive(Debug, Default)]
pub(super) struct JudgedTee {
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
    /// Values of type `assay`.
    pub selectors: Vec<String>,
}

/// `class` is that of the TPM whose quote came with it.
pub(super) fn appraise_tee(
    tee: Option<&Tee<'_>>,
    class: TpmClass,
    launches: &Launches<'_>,
    policy: &Policy,
) -> JudgedTee {
    let mut out = JudgedTee::default();
    let tied = match tee {
        Some(tee) => tie(tee.link, launches, policy),
        None => Err("absent".to_owned()),
    };
    let unlinked = tee.map(|tee| tee.link.edge()).filter(|edge| !edge.names_the_ak());
    match (&tied, unlinked) {
        (Err(why), _) if class == TpmClass::Vtpm && policy.require_tee_binding => {
            out.findings.push(unbound(why));
        }
        (_, Some(edge)) if policy.require_link => out.findings.push(link_missing(edge)),
        (_, Some(edge)) => out.warnings.push(link_missing(edge)),
        _ => {}
    }
    let Some(tee) = tee else { return out };
    match &tied {
        Err(why) => out.not_checked.push(format!("tee: not tied to this TPM: {why}")),
        Ok(()) if !is_listed(tee.link.claims(), launches, policy) => {
            let relay = "tee: relay: whoever runs such a guest can have it vouch for this TPM";
            out.not_checked.push(relay.to_owned());
        }
        Ok(()) => {}
    }
    let claims = tee.link.claims();
    out.not_checked.extend(claims.not_checked().iter().map(ToString::to_string));
    if !is_listed(claims, launches, policy) {
        let gap = format!("{}: no reference values of what may be launched", claims.kind());
        out.not_checked.push(gap);
    }
    if tee.link.edge() == Edge::AkInVarData {
        out.not_checked.push("guest-measurement: the report measures the paravisor".to_owned());
    }
    match claims {
        TeeClaims::Snp(claims) => {
            out.findings.extend(assay_snp::appraise(claims, &policy.confidential.snp));
            out.launched(launches, Root::Snp, |profile| {
                appraise_launch(profile, claims, launches.candidates, launches.now)
            });
        }
        TeeClaims::Tdx(claims) => {
            out.findings.extend(assay_tdx::appraise(claims, &policy.confidential.tdx));
            let (texts, candidates) = (launches.preimages, launches.candidates);
            let judged = out.launched(launches, Root::Tdx, |profile| {
                appraise_trust_domain(profile, claims, tee.ccel, texts, candidates, launches.now)
            });
            if !judged {
                out.hold_log(claims, tee.ccel);
            }
        }
    }
    match tied {
        Ok(()) => out.selectors.extend(selectors(claims)),
        Err(_) => out.selectors.clear(),
    }
    out
}

impl Launches<'_> {
    fn of(&self, root: Root) -> impl Iterator<Item = &Profile> {
        self.profiles.iter().map(Arc::as_ref).filter(move |profile| profile.root == root)
    }
}

impl JudgedTee {
    /// The profile that admits the launch, else the one with the least against it. False where
    /// there is none of this root.
    fn launched(
        &mut self,
        launches: &Launches<'_>,
        root: Root,
        judge: impl Fn(&Profile) -> JudgedLogs,
    ) -> bool {
        let judged = launches.of(root).map(|profile| (profile, judge(profile)));
        let Some((profile, judged)) = judged.min_by_key(|(_, judged)| judged.findings.len()) else {
            return false;
        };
        if judged.findings.is_empty() {
            self.selectors.push(format!("profile:{}", profile.id));
        }
        self.findings.extend(judged.findings);
        self.warnings.extend(judged.warnings);
        self.not_checked.extend(judged.not_checked);
        true
    }

    /// A log that was sent has to lead to the RTMRs. RTMR 3 is the operating system's to extend.
    fn hold_log(&mut self, claims: &assay_tdx::Claims, log: Option<&[u8]>) {
        let Some(bytes) = log else {
            self.not_checked.push("tdx.rtmr: no boot log of the trust domain".to_owned());
            return;
        };
        let log = match Log::parse_ccel(bytes, None) {
            Ok(log) => log,
            Err(error) => {
                self.findings.push(error.finding());
                return;
            }
        };
        let quirks = Quirks::default().with(Quirk::CcelPadding);
        let grading = Grading { quirks, known: &|_| false, preimages: &[] };
        let held = rtmr::hold(claims, &log, &grading, &[RTMR_3]);
        self.findings.extend(held.comparison.findings());
        self.findings.extend(held.grades.faults().iter().map(|fault| fault.finding()));
        let text =
            "tdx.rtmr: that the log leads to RTMR 0 to 2 is held, what it says is not judged";
        self.not_checked.push(text.to_owned());
    }
}

/// Whether the report ties the TPM, or why not.
fn tie(link: &Link, launches: &Launches<'_>, policy: &Policy) -> Result<(), String> {
    let (edge, claims) = (link.edge(), link.claims());
    if !edge.names_the_ak() {
        return Err(edge.as_str().to_owned());
    }
    let by_var_data = edge == Edge::AkInVarData;
    if !is_listed(claims, launches, policy) && (by_var_data || policy.require_launch_digest) {
        return Err(format!("{}, of a launch that nothing lists", edge.as_str()));
    }
    // What the paravisor asks for, it asks for at its own level, where no guest's system can.
    match claims {
        TeeClaims::Snp(claims) if by_var_data && claims.vmpl() != 0 => {
            Err(format!("{}, asked for at VMPL {}", edge.as_str(), claims.vmpl()))
        }
        _ => Ok(()),
    }
}

/// Whether something says what may be launched; that it is this is a finding of its own.
fn is_listed(claims: &TeeClaims, launches: &Launches<'_>, policy: &Policy) -> bool {
    let Confidential { snp, tdx, .. } = &policy.confidential;
    match claims {
        TeeClaims::Snp(_) => {
            let signers = [&snp.id_key_digest, &snp.author_key_digest];
            !snp.measurement.is_empty()
                || launches.of(Root::Snp).next().is_some()
                || signers.iter().any(|listed| !listed.is_empty())
        }
        TeeClaims::Tdx(_) => !tdx.mrtd.is_empty() || launches.of(Root::Tdx).next().is_some(),
    }
}

/// A virtual TPM is as good as what vouches for it.
fn unbound(why: &str) -> Finding {
    let expected = "a TEE report that covers the AK, of a launch that is listed";
    let source = "policy, `require_tee_binding`";
    Finding::new(Reason::VtpmUnbound, "tpm.tee_binding", why, expected, source)
}

fn link_missing(edge: Edge) -> Finding {
    let expected = "`report-data` or `ak-in-var-data`";
    let source = "policy, `require_link`";
    Finding::new(Reason::TeeUnlinked, "tee.link", edge.as_str(), expected, source)
}

fn selectors(claims: &TeeClaims) -> Vec<String> {
    match claims {
        TeeClaims::Snp(claims) => {
            let mut values = vec![format!("snp:measurement:{}", hex::encode(claims.measurement()))];
            // As far as the dated list knows, and nothing newer waits to be committed.
            let tcb = claims.tcb();
            if advisory::missing(claims).is_empty() && tcb.committed == tcb.current {
                values.push("snp:tcb:current".to_owned());
            }
            values
        }
        TeeClaims::Tdx(claims) => vec![format!("tdx:mrtd:{}", hex::encode(claims.mrtd()))],
    }
}

/// Index of RTMR 3 in a CCEL (UEFI 2.10, §38.4.1).
const RTMR_3: u32 = 4;
