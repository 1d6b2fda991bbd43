//! What a refusal carries beside its code and message: the trailer `grpc-status-details-bin`
//! with a google.rpc.Status, whose details hold our Refusal and SPIRE's PermissionDeniedDetails.
//!
//! Both sides use it: the server to speak, the agent and the command line to listen. A status
//! from a stranger is untrusted text; reading it never fails, it only finds nothing.

use prost::Message;
use prost::Name;
use prost_types::Any;
use tonic::Code;
use tonic::Status;

use crate::assay::attestation::v1::Refusal;
use crate::google::rpc;
use crate::spire::api::types::PermissionDeniedDetails;
use crate::spire::api::types::permission_denied_details::Reason;

/// Longest details read from a peer. HTTP/2 headers end sooner; this makes it ours to say.
const LONGEST: usize = 64 * 1024;

/// A status with our refusal in its details, and with SPIRE's reason where its agents act on one.
pub fn refuse(code: Code, message: &str, refusal: &Refusal, reason: Option<Reason>) -> Status {
    let mut details = vec![any(refusal)];
    if let Some(reason) = reason {
        details.push(any(&PermissionDeniedDetails { reason: reason.into() }));
    }
    with(code, message, details)
}

/// A status with SPIRE's reason alone.
pub fn deny(message: &str, reason: Reason) -> Status {
    let details = vec![any(&PermissionDeniedDetails { reason: reason.into() })];
    with(Code::PermissionDenied, message, details)
}

/// The refusal a status carries.
pub fn refusal(status: &Status) -> Option<Refusal> {
    find(status)
}

/// SPIRE's reason that a status carries.
pub fn reason(status: &Status) -> Option<Reason> {
    find::<PermissionDeniedDetails>(status)?.reason.try_into().ok()
}

fn with(code: Code, message: &str, details: Vec<Any>) -> Status {
    let whole = rpc::Status { code: code.into(), message: message.to_owned(), details };
    Status::with_details(code, message, whole.encode_to_vec().into())
}

/// As Go and Java do it: type URLs below `type.googleapis.com`.
fn any<M: Message + Name>(message: &M) -> Any {
    let type_url = format!("type.googleapis.com/{}", M::full_name());
    Any { type_url, value: message.encode_to_vec() }
}

fn find<M: Message + Name + Default>(status: &Status) -> Option<M> {
    let bytes = status.details();
    if bytes.len() > LONGEST {
        return None;
    }
    let whole = rpc::Status::decode(bytes).ok()?;
    let name = M::full_name();
    let found = whole.details.iter().find(|any| any.type_url.rsplit('/').next() == Some(&name))?;
    M::decode(found.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Refusal {
        Refusal {
            code: "nonce-consumed".to_owned(),
            correlation_id: "c0ffee".to_owned(),
            findings: Vec::new(),
            retry_after_s: 5,
        }
    }

    #[test]
    fn a_refusal_is_found_beside_spires_reason() {
        let status = refuse(
            Code::PermissionDenied,
            "nonce-consumed",
            &sample(),
            Some(Reason::AgentMustReattest),
        );
        assert_eq!(refusal(&status), Some(sample()));
        assert_eq!(reason(&status), Some(Reason::AgentMustReattest));
    }

    #[test]
    fn a_status_without_details_carries_nothing() {
        let status = Status::new(Code::PermissionDenied, "no");
        assert_eq!(refusal(&status), None);
        assert_eq!(reason(&status), None);
    }

    #[test]
    fn broken_details_carry_nothing() {
        let status = Status::with_details(Code::PermissionDenied, "no", vec![0xff; 9].into());
        assert_eq!(refusal(&status), None);
    }

    #[test]
    fn details_beyond_the_bound_are_not_read() {
        let long = Refusal { code: "x".repeat(LONGEST), ..sample() };
        assert_eq!(refusal(&refuse(Code::PermissionDenied, "no", &long, None)), None);
    }
}
