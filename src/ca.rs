//! The certification authority: the one place where identities are signed.
//!
//! Three steps, each with a type that only the step before can make:
//! ```text
//! Grant --prepare--> Prepared --record (store)--> Recorded<Prepared> --issue--> Svid
//! ```
//! 1. **prepare** spends the grant and makes the exact bytes that will be signed, looked at by a
//!    lint of our own;
//! 2. **record** writes the hash of those bytes, whom they are for and why; it is the store's;
//! 3. **issue** has exactly those bytes signed once by the device.
//!
//! So nothing is prepared without a grant:
//! ```compile_fail,E0308
//! # fn f(authority: &assay::ca::Authority, key: assay::ca::SubjectKey, id: assay::spiffe::SpiffeId) {
//! let prepared = authority.prepare_x509(id, key, Default::default());
//! # }
//! ```
//! and nothing is issued that was not recorded:
//! ```compile_fail,E0308
//! # async fn f(authority: assay::ca::Authority, prepared: assay::ca::PreparedX509) {
//! let svid = authority.issue_x509(prepared, std::time::Duration::from_secs(5)).await;
//! # }
//! ```
//! and a grant is spent once:
//! ```compile_fail,E0382
//! # fn f(authority: &assay::ca::Authority, key: assay::ca::SubjectKey, grant: assay::appraisal::Grant) {
//! let first = authority.prepare_x509(grant, key.clone(), Default::default());
//! let second = authority.prepare_x509(grant, key, Default::default());
//! # }
//! ```
//! It decides nothing about who may have an identity; that is the grant's.

mod attestation;
mod authority;
mod certificate;
mod der;
pub mod jwt;
mod lint;
mod prepared;
mod request;

use std::time::Duration;

use assay_evidence::Reason;
use assay_evidence::Time;

use crate::keys::KeysError;
use crate::store::StoreError;

pub use attestation::AttestationCertificate;
pub use authority::Authority;
pub use authority::AuthorityConfig;
pub use authority::Life;
pub use certificate::CertificateError;
pub use lint::LintError;
pub use prepared::PreparedJwt;
pub use prepared::PreparedX509;
pub use prepared::Terms;
pub use request::MAX_REQUEST_BYTES;
pub use request::RequestError;
pub use request::SubjectKey;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    #[error("an issuing key did not sign")]
    Keys(#[from] KeysError),
    #[error("the store did not answer")]
    Store(#[from] StoreError),
    #[error("no certificate can be made")]
    Certificate(#[from] CertificateError),
    #[error("no token can be made")]
    Token(#[source] serde_json::Error),
    #[error("a token has 1 to {MAX_AUDIENCES} audiences of 1 to {MAX_AUDIENCE_BYTES} bytes")]
    Audience,
    #[error("a grant of kind `{found}` is not one for {expected}")]
    GrantKind { found: &'static str, expected: &'static str },
    #[error("the identity would end at {end}, which is not after {now}")]
    Ended { end: Time, now: Time },
    #[error("the authority ended at {end}")]
    AuthorityOver { end: Time },
    #[error("the standing ended before the signature")]
    StandingStale,
    #[error("the trust domain's authority is `{found}`, expected `{expected}`")]
    TrustDomain { found: String, expected: String },
    #[error("authority `{authority}` was taken out of use; its key signs no more")]
    Retired { authority: String },
    #[error("no random bytes to be had")]
    Random,
}

impl CaError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Keys(error) => error.reason(),
            Self::Store(error) => error.reason(),
            Self::Audience => Reason::AudienceInvalid,
            Self::Ended { .. } => Reason::NoMatchingEntry,
            Self::StandingStale => Reason::StandingStale,
            Self::TrustDomain { .. } => Reason::TrustDomainMismatch,
            Self::Retired { .. } | Self::AuthorityOver { .. } => Reason::AuthorityMissing,
            _ => Reason::Internal,
        }
    }

    /// After what time it may go better.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Keys(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// More than one audience is worth a warning: each can replay the token to the others.
pub const MAX_AUDIENCES: usize = 16;
const MAX_AUDIENCE_BYTES: usize = 2_048;

#[cfg(test)]
mod tests;
