//! Judges what a confidential machine's processor says, and what its absence means.
//!
//! By the tables `[snp]` and `[tdx]` of the policy, by reference values of what was launched where
//! there are some, and by how the report is tied to the TPM ([`Link`]). Only a report that is tied
//! gives selectors: the facts of another machine are no facts of this one.

use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirk;
use assay_eventlog::Quirks;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_snp::policy::advisory;
use assay_tdx::rtmr;
use assay_tpm::TpmClass;

use crate::appraisal::Edge;
use crate::appraisal::Link;
use crate::envelope::TeeClaims;
use crate::policy::Policy;

/// What came of the processor, as far as it is verified.
#[derive(Debug, Clone, Copy)]
pub struct Tee<'a> {
    pub link: &'a Link,
    /// The boot log of a TD, as it came.
    pub ccel: Option<&'a [u8]>,
}

/// Launch digests that may have been launched; an empty list asks for none.
#[derive(Debug, Clone, Default)]
pub struct LaunchDigests {
    pub snp: Vec<[u8; 48]>,
    pub mrtd: Vec<[u8; 48]>,
    /// Where the digests stand, for whoever reads a finding.
    pub source: String,
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
    launched: &LaunchDigests,
    policy: &Policy,
) -> JudgedTee {
    let mut out = JudgedTee::default();
    let edge = tee.map(|tee| tee.link.edge());
    if let Some(finding) = unbound(edge, class, policy) {
        out.findings.push(finding);
    } else if let Some(finding) = edge.filter(|edge| !edge.ties()).map(unlinked) {
        match policy.require_link {
            true => out.findings.push(finding),
            false => out.warnings.push(finding),
        }
    }
    let Some(tee) = tee else { return out };
    let claims = tee.link.claims();
    out.not_checked.extend(claims.not_checked().iter().map(ToString::to_string));
    if tee.link.edge() == Edge::AkInVarData {
        out.not_checked.push("guest-measurement: the report measures the paravisor".to_owned());
    }
    match claims {
        TeeClaims::Snp(claims) => {
            out.findings.extend(assay_snp::appraise(claims, &policy.confidential.snp));
            let by_policy = !policy.confidential.snp.measurement.is_empty();
            let code = Reason::SnpMeasurementUnknown;
            out.launched("snp.measurement", code, claims.measurement(), launched, &launched.snp);
            out.unless_known("snp.measurement", by_policy || !launched.snp.is_empty());
        }
        TeeClaims::Tdx(claims) => {
            out.findings.extend(assay_tdx::appraise(claims, &policy.confidential.tdx));
            let code = Reason::RegisterMismatch;
            out.launched("tdx.mrtd", code, claims.mrtd(), launched, &launched.mrtd);
            let by_policy = !policy.confidential.tdx.mrtd.is_empty();
            out.unless_known("tdx.mrtd", by_policy || !launched.mrtd.is_empty());
            out.hold_log(claims, tee.ccel);
        }
    }
    if tee.link.edge().ties() {
        out.selectors = selectors(claims);
    }
    out
}

impl JudgedTee {
    fn launched(
        &mut self,
        claim: &str,
        code: Reason,
        found: &[u8; 48],
        launched: &LaunchDigests,
        listed: &[[u8; 48]],
    ) {
        if listed.is_empty() || listed.contains(found) {
            return;
        }
        let expected = match listed {
            [one] => hex::encode(one),
            more => format!("one of {} values", more.len()),
        };
        let source = launched.source.clone();
        self.findings.push(Finding::new(code, claim, hex::encode(found), expected, source));
    }

    fn unless_known(&mut self, claim: &str, known: bool) {
        if !known {
            self.not_checked.push(format!("{claim}: no reference values of what may be launched"));
        }
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

/// A virtual TPM is as good as what vouches for it.
fn unbound(edge: Option<Edge>, class: TpmClass, policy: &Policy) -> Option<Finding> {
    let bound = edge.is_some_and(Edge::ties);
    if bound || class != TpmClass::Vtpm || !policy.require_tee_binding {
        return None;
    }
    Some(Finding {
        code: Reason::VtpmUnbound,
        claim: "tpm.tee_binding".to_owned(),
        found: edge.map_or("absent", Edge::as_str).to_owned(),
        expected: "a TEE report that covers the AK".to_owned(),
        source: "policy, `require_tee_binding`".to_owned(),
    })
}

fn unlinked(edge: Edge) -> Finding {
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
