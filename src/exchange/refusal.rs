//! A refusal: what the log and the record say in full, and how much of it the peer is told.
//!
//! A peer whose AK is not proved, or whose node is not admitted, learns a code and a correlation
//! id. A proved and admitted node learns claim, found and expected, if the policy says so.

use std::fmt;
use std::time::Duration;

use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;
use assay_proto::attestation as wire;
use assay_proto::details;
use assay_proto::spire::api::types::permission_denied_details::Reason as SpireReason;
use prost::Message;
use tonic::Code;
use tonic::Status;

use crate::appraisal::Appraisal;
use crate::exchange::NodeId;
use crate::policy::RefusalDetail;
use crate::store::Flag;
use crate::store::NodeRow;

/// An exchange that ended without claims, or with claims that do not suffice.
#[derive(Debug)]
pub struct Refused {
    findings: Vec<Finding>,
    reason: Reason,
    node: Option<NodeId>,
    /// The AK answered for this very challenge and its node is admitted.
    proved: bool,
    /// What the node showed of itself is not true: its standing ends.
    voids: bool,
    flag: Option<Flag>,
    pending: Option<Box<NodeRow>>,
    retry_after: Option<Duration>,
}

/// A refusal as the other side of a stream hears it. Untrusted text, but bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// A code this build does not know is kept as text.
    pub code: String,
    pub correlation_id: String,
    pub findings: Vec<wire::Finding>,
    pub retry_after: Option<Duration>,
}

/// The reason code of a flag in a node's row.
pub(super) fn flag_reason(flag: Flag) -> Reason {
    match flag {
        Flag::CloneSuspected => Reason::CloneSuspected,
        Flag::ClockRegression => Reason::ClockRegression,
    }
}

impl Refused {
    pub fn new(
        reason: Reason,
        claim: &str,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        let found = found.to_string();
        Self::of(Finding::new(reason, claim, found, expected.to_string(), "attestation exchange"))
    }

    pub(super) fn tpm(error: &assay_tpm::Error) -> Self {
        Self::of(error.finding())
    }

    /// The same fault under a more telling name.
    pub(super) fn renamed(mut self, reason: Reason) -> Self {
        self.reason = reason;
        for finding in &mut self.findings {
            finding.code = reason;
        }
        self
    }

    /// What an attestor found wrong with the processor's report, the most decisive first: a
    /// standing does not outlive it, unless it is only the vendor's word that is missing.
    pub(super) fn contradicted(findings: Vec<Finding>) -> Self {
        let reason = findings.first().map_or(Reason::Internal, |finding| finding.code);
        let voids = reason != Reason::EndorsementUnavailable;
        let refused = Self::new(reason, "evidence", "not genuine", "genuine evidence");
        match findings.is_empty() {
            true => Self { voids, ..refused },
            false => Self { findings, voids, ..refused },
        }
    }

    fn of(finding: Finding) -> Self {
        Self {
            reason: finding.code,
            findings: vec![finding],
            node: None,
            proved: false,
            voids: false,
            flag: None,
            pending: None,
            retry_after: None,
        }
    }

    /// An appraisal that is not affirming: genuine evidence of a proved and admitted node.
    pub fn appraised(appraisal: &Appraisal, node: &NodeId) -> Self {
        let reason =
            appraisal.findings().first().map_or(Reason::AppraisalContraindicated, |f| f.code);
        Self {
            reason,
            findings: appraisal.findings().to_vec(),
            node: Some(node.clone()),
            proved: true,
            voids: false,
            flag: None,
            pending: None,
            retry_after: None,
        }
    }

    /// A node that is held from now on.
    pub(super) fn flagged(flag: Flag, claim: &str, found: String, expected: &str) -> Self {
        let mut refused = Self::new(flag_reason(flag), claim, found, expected);
        refused.flag = Some(flag);
        refused
    }

    pub(super) fn about(mut self, node: &NodeId) -> Self {
        self.node = Some(node.clone());
        self
    }

    /// Says that the AK is proved and the node admitted, so that it may be told more.
    pub(super) fn into_proved(mut self) -> Self {
        self.proved = true;
        self
    }

    /// A fault found after a node's evidence was verified: it is about this node, which may know.
    pub fn about_proved(self, node: &NodeId) -> Self {
        self.about(node).into_proved()
    }

    pub(super) fn with_pending(mut self, row: NodeRow) -> Self {
        self.pending = Some(Box::new(row));
        self
    }

    pub fn retry_after(mut self, span: Duration) -> Self {
        self.retry_after = Some(span);
        self
    }

    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The full text, for the server's log, the record and `assay node explain`.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whom it concerns, once that is known; proved or not.
    pub fn node(&self) -> Option<&NodeId> {
        self.node.as_ref()
    }

    /// Whether the node that it concerns has shown that it is that node.
    pub fn proved(&self) -> bool {
        self.proved
    }

    /// Whether a node that showed this at a refresh stands no longer.
    pub fn voids(&self) -> bool {
        self.voids && self.proved
    }

    /// The node's row must carry this from now on, in the transaction that records the refusal.
    pub fn flag(&self) -> Option<Flag> {
        self.flag
    }

    /// A machine that proved itself and waits for an operator: the row to store.
    pub fn pending(&self) -> Option<&NodeRow> {
        self.pending.as_deref()
    }

    /// What the peer is told.
    pub fn told(&self, correlation_id: &str, detail: RefusalDetail) -> wire::Refusal {
        let in_full = self.proved && detail == RefusalDetail::Claims;
        let findings = if in_full { said(&self.findings) } else { Vec::new() };
        wire::Refusal {
            code: self.reason.code().to_owned(),
            correlation_id: correlation_id.to_owned(),
            findings,
            retry_after_s: self
                .retry_after
                .map_or(0, |span| u32::try_from(span.as_secs().max(1)).unwrap_or(u32::MAX)),
        }
    }

    /// The same as a gRPC status.
    pub fn status(&self, correlation_id: &str, detail: RefusalDetail) -> Status {
        let message = format!("{} ({correlation_id})", self.reason.code());
        details::refuse(self.code(), &message, &self.told(correlation_id, detail), self.spire())
    }

    /// malformed, refused, over a limit, device or store away.
    pub fn code(&self) -> Code {
        match self.reason {
            Reason::MessageMalformed
            | Reason::TpmMalformed
            | Reason::TrailingBytes
            | Reason::CsrMalformed
            | Reason::EkCertMalformed
            | Reason::LogMalformed
            | Reason::ImaMalformed => Code::InvalidArgument,
            Reason::EvidenceTooLarge | Reason::OverLimit => Code::ResourceExhausted,
            Reason::DeviceUnavailable
            | Reason::StoreUnavailable
            | Reason::EndorsementUnavailable => Code::Unavailable,
            _ => Code::PermissionDenied,
        }
    }

    /// What SPIRE's agents act on.
    fn spire(&self) -> Option<SpireReason> {
        match self.reason {
            Reason::Banned => Some(SpireReason::AgentBanned),
            Reason::StandingStale | Reason::StandingMissing | Reason::AkUnknown => {
                Some(SpireReason::AgentMustReattest)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.code())?;
        if let Some(first) = self.findings.first() {
            write!(f, ": {} is {}, expected {}", first.claim, first.found, first.expected)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

impl Told {
    /// The refusal in a status, if it carries one.
    pub fn from_status(status: &Status) -> Option<Self> {
        let refusal = details::refusal(status)?;
        Some(Self {
            code: bounded(refusal.code),
            correlation_id: bounded(refusal.correlation_id),
            findings: refusal.findings.into_iter().take(MAX_FINDINGS).collect(),
            retry_after: (refusal.retry_after_s > 0)
                .then(|| Duration::from_secs(u64::from(refusal.retry_after_s))),
        })
    }

    pub fn reason(&self) -> Option<Reason> {
        self.code.parse().ok()
    }
}

/// Findings as they travel: each text bounded, all of them together small enough for the
/// trailers of HTTP/2. `assay node explain` has the rest.
pub(super) fn said(findings: &[Finding]) -> Vec<wire::Finding> {
    let mut room = MAX_FINDINGS_BYTES;
    findings
        .iter()
        .map(|finding| wire::Finding {
            code: finding.code.code().to_owned(),
            claim: bounded(finding.claim.clone()),
            found: bounded(finding.found.clone()),
            expected: bounded(finding.expected.clone()),
            source: bounded(finding.source.clone()),
        })
        .take_while(|finding| {
            let left = room.checked_sub(finding.encoded_len());
            room = left.unwrap_or(0);
            left.is_some()
        })
        .collect()
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

const MAX_FINDINGS: usize = 32;
/// HTTP/2 peers take 16 KiB of headers; base64 and the rest want their part.
const MAX_FINDINGS_BYTES: usize = 6 * 1_024;
const MAX_TEXT: usize = 512;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn long(count: usize) -> Refused {
        let finding = Finding::new(
            Reason::RegisterMismatch,
            "pcr.sha512.0",
            "é".repeat(5_000),
            "0".repeat(128),
            "profile",
        );
        let mut refused = Refused::of(finding.clone()).into_proved();
        refused.findings.extend(std::iter::repeat_n(finding, count));
        refused
    }

    #[test]
    fn what_is_told_fits_into_trailers_and_is_heard_again() {
        let refused = long(500).retry_after(Duration::from_millis(200));
        let status = refused.status("c0ffee", RefusalDetail::Claims);
        assert!(status.details().len() < 8 * 1_024, "{}", status.details().len());
        let told = Told::from_status(&status).unwrap();
        assert_eq!(told.reason(), Some(Reason::RegisterMismatch));
        assert_eq!(told.correlation_id, "c0ffee");
        assert_eq!(told.retry_after, Some(Duration::from_secs(1)));
        assert!((1..=MAX_FINDINGS).contains(&told.findings.len()));
        assert!(told.findings.iter().all(|finding| finding.found.len() <= MAX_TEXT));
        assert_eq!(refused.findings().len(), 501, "the log has all of it");
    }

    #[test]
    fn who_is_not_proved_or_meets_a_silent_policy_hears_the_code_alone() {
        let mut refused = long(1);
        assert!(refused.told("", RefusalDetail::Code).findings.is_empty());
        refused.proved = false;
        assert!(refused.told("", RefusalDetail::Claims).findings.is_empty());
        assert!(Told::from_status(&Status::permission_denied("no")).is_none());
    }

    #[test]
    fn status_codes_follow_the_kind_of_fault() {
        let code = |reason| Refused::new(reason, "", "", "").code();
        assert_eq!(code(Reason::MessageMalformed), Code::InvalidArgument);
        assert_eq!(code(Reason::EvidenceTooLarge), Code::ResourceExhausted);
        assert_eq!(code(Reason::StoreUnavailable), Code::Unavailable);
        assert_eq!(code(Reason::NonceMismatch), Code::PermissionDenied);
    }
}
