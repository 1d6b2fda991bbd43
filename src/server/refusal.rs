//! A call that is refused: its status, with code and correlation id in the details, and its one
//! line in the log.
//!
//! Refusals inside an exchange are told by the exchange itself; these are the calls before, after
//! and beside it.

use assay_evidence::crypto::Random;
use assay_evidence::crypto::SystemRandom;
use assay_evidence::reason::Reason;
use assay_proto::attestation;
use assay_proto::details;
use assay_proto::spire::api::types::permission_denied_details::Reason as SpireReason;
use tonic::Code;
use tonic::Status;

use crate::appraisal;
use crate::store::StoreError;

/// Names one exchange or one refusal: in the log, the record and the answer.
pub fn correlation_id() -> Result<String, Status> {
    let mut bytes = [0; 12];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Status::unavailable("no random bytes to be had"))?;
    Ok(hex::encode(bytes))
}

/// Refuses the call of `caller` to `method`, and says so once.
pub fn refuse(caller: &str, method: &str, reason: Reason, detail: &str) -> Status {
    let correlation_id = correlation_id().unwrap_or_default();
    tracing::warn!(
        decision = "refused",
        caller,
        method,
        code = reason.code(),
        detail,
        correlation_id,
        "call refused"
    );
    status(reason, correlation_id, 0)
}

/// The status of `reason`, with SPIRE's word for it where its agents act on one.
pub fn status(reason: Reason, correlation_id: String, retry_after_s: u32) -> Status {
    let message = format!("{} ({correlation_id})", reason.code());
    let refusal = attestation::Refusal {
        code: reason.code().to_owned(),
        correlation_id,
        findings: Vec::new(),
        retry_after_s,
    };
    details::refuse(code(reason), &message, &refusal, spire(reason))
}

/// A grant that was not given to a proved node: it may know why.
pub fn grant(caller: &str, method: &str, refused: &appraisal::Refused) -> Status {
    refuse(caller, method, refused.reason, &refused.to_string())
}

/// The store did not do it. Its text may name rows; it is for the log.
pub fn store(error: &StoreError) -> Status {
    let reason = error.reason();
    match error {
        StoreError::Missing { .. } => Status::not_found("no such row"),
        StoreError::Similar { .. } => Status::already_exists("a similar entry exists"),
        StoreError::Conflict { .. } => Status::aborted("changed by somebody else meanwhile"),
        _ => {
            let correlation_id = correlation_id().unwrap_or_default();
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(
                decision = "failed",
                code = reason.code(),
                correlation_id,
                error = %error,
                cause,
                "store"
            );
            status(reason, correlation_id, 5)
        }
    }
}

fn code(reason: Reason) -> Code {
    match reason {
        Reason::MessageMalformed | Reason::CsrMalformed | Reason::AudienceInvalid => {
            Code::InvalidArgument
        }
        Reason::OverLimit | Reason::EvidenceTooLarge => Code::ResourceExhausted,
        Reason::DeviceUnavailable | Reason::StoreUnavailable => Code::Unavailable,
        Reason::DangerSwitchOff => Code::FailedPrecondition,
        Reason::Internal => Code::Internal,
        _ => Code::PermissionDenied,
    }
}

fn spire(reason: Reason) -> Option<SpireReason> {
    match reason {
        Reason::Banned | Reason::Denied | Reason::Quarantined => Some(SpireReason::AgentBanned),
        Reason::NotAttested => Some(SpireReason::AgentNotAttested),
        Reason::SerialReplaced => Some(SpireReason::AgentNotActive),
        Reason::SvidInvalid => Some(SpireReason::AgentExpired),
        Reason::StandingStale
        | Reason::StandingMissing
        | Reason::AppraisalContraindicated
        | Reason::RegisterMismatch
        | Reason::VariantRevoked => Some(SpireReason::AgentMustReattest),
        _ => None,
    }
}
