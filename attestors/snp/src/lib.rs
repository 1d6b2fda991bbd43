//! AMD SEV-SNP evidence: what a confidential guest's processor says of it, and the code that
//! believes it or not.
//!
//! Read `verify` first: it is the list of what has to hold, in the order in which it is told.
//!
//! | module | its job |
//! |---|---|
//! | [`report`] | the 1184 bytes as values, every reserved bit asked for |
//! | [`product`], [`tcb`] | processor generations, and what a TCB version means on each |
//! | [`endorsement`], [`host_certificates`] | certificate of the signing key → a pinned root |
//! | [`verify`](mod@verify) | report and certificates → [`Claims`] |
//! | [`policy`] | which claims are acceptable, and what is missing where they are not |
//! | [`launch`] | firmware, kernel, command line → the measurement that a launch will have |
//! | [`error`] | every fault, in the decisive order |
//!
//! Everything is judged over the bytes as they were received, never over a re-encoding. The
//! verifier half does no I/O and asks no clock; only the feature `attest` brings the collector.

pub mod claims;
#[cfg(feature = "attest")]
pub mod collect;
pub mod endorsement;
pub mod error;
pub mod host_certificates;
pub mod launch;
pub mod policy;
pub mod product;
pub mod report;
pub mod tcb;
pub mod verify;

pub use crate::claims::Claims;
pub use crate::endorsement::Anchors;
pub use crate::error::Fault;
pub use crate::error::Faults;
pub use crate::policy::Policy;
pub use crate::policy::appraise;
pub use crate::product::Product;
pub use crate::report::Report;
pub use crate::tcb::Tcb;
pub use crate::verify::Evidence;
pub use crate::verify::verify;
