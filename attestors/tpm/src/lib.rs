//! TPM 2.0 evidence: what a machine shows about itself, and the code that believes it or not.
//!
//! Read `verify` first: it is the list of what has to hold, in the order in which it is asked.
//!
//! | module | its job |
//! |---|---|
//! | [`structures`] | TPM bytes as values: public areas, statements, signatures, selections, names |
//! | [`endorsement`] | vendor's certificate → this endorsement key is in a genuine TPM |
//! | [`ak`] | what an attestation key must be before anything it signs is looked at |
//! | [`ak_certificate`] | a CA's certificate → this attestation key is in a TPM |
//! | [`idevid`] | a maker's certificate → this IAK is in a device, and so are the keys it names |
//! | [`credential`] | endorsement key → this attestation key is in the same TPM |
//! | [`verify`](mod@verify) | quote and certification → [`Claims`] |
//! | [`advisory`] | firmware that is known to be bad, as data that an appraisal asks |
//! | [`pcr_file`] | register values as tpm2-tools write them, for the command line |
//!
//! The verifier half does no I/O, asks no clock and links no TPM library. Judging the claims
//! against a profile or a policy is not its business. Only the feature `attest` brings the
//! collector, which talks to a device.

pub mod advisory;
pub mod ak;
pub mod ak_certificate;
pub mod certified;
pub mod claims;
#[cfg(feature = "attest")]
pub mod collect;
pub mod credential;
pub mod endorsement;
pub mod error;
pub mod idevid;
pub mod pcr_file;
pub mod structures;
pub mod verify;

pub use crate::ak::AttestationKey;
pub use crate::ak::ProvedKey;
pub use crate::ak::Trust;
pub use crate::ak_certificate::AkAnchors;
pub use crate::ak_certificate::AkCertificate;
pub use crate::certified::CertifiedKey;
pub use crate::claims::Certification;
pub use crate::claims::Claims;
pub use crate::credential::Activation;
pub use crate::credential::Credential;
pub use crate::endorsement::Anchors;
pub use crate::endorsement::EkRoot;
pub use crate::endorsement::Endorsement;
pub use crate::endorsement::TpmClass;
pub use crate::error::Error;
pub use crate::idevid::DeviceIdentity;
pub use crate::structures::attest::Attest;
pub use crate::structures::attest::ClockInfo;
pub use crate::structures::name::Hierarchy;
pub use crate::structures::name::Name;
pub use crate::structures::public::Public;
pub use crate::structures::selection::PcrSelection;
pub use crate::structures::selection::Selections;
pub use crate::structures::signature::Signature;
pub use crate::verify::Evidence;
pub use crate::verify::Expected;
pub use crate::verify::Signed;
pub use crate::verify::verify;
pub use crate::verify::verify_certify;
