//! AWS Nitro attestation documents: what the hypervisor says of an enclave, and the code that
//! believes it or not.
//!
//! | module | its job |
//! |---|---|
//! | [`document`] | COSE_Sign1 and the map inside as values |
//! | [`endorsement`] | the document's own bundle → AWS's root |
//! | [`verify`](mod@verify) | document → [`Claims`] |
//! | [`policy`] | which claims are acceptable |
//! | [`error`] | every fault, in the decisive order |
//!
//! No I/O, no clock. Collecting a document is not here: inside an enclave nothing else runs.

pub mod claims;
pub mod document;
pub mod endorsement;
pub mod error;
pub mod policy;
pub mod verify;

pub use crate::claims::Claims;
pub use crate::document::Document;
pub use crate::endorsement::Anchors;
pub use crate::error::Fault;
pub use crate::error::Faults;
pub use crate::policy::Policy;
pub use crate::policy::appraise;
pub use crate::verify::verify;
