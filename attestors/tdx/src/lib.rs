//! Intel TDX evidence: what a trust domain shows about itself, and the code that believes it or not.
//!
//! Read `verify` first: it is the list of what has to hold, in the order in which it is asked.
//!
//! | module | its job |
//! |---|---|
//! | [`quote`] | the quote as bytes and values |
//! | [`collateral`] | what Intel says of its platforms at a date: read, believed, remembered |
//! | [`endorsement`] | chains to Intel's root; what a PCK certificate says of its platform |
//! | [`verify`](mod@verify) | quote and collateral → [`Claims`] |
//! | [`rtmr`] | the boot log of a TD, held against the registers of its quote |
//! | [`appraise`](mod@appraise) | claims and policy → findings |
//!
//! No I/O, no clock, no network: collateral and time are arguments. Fetching collateral and
//! collecting quotes are the business of others.

pub mod appraise;
pub mod claims;
pub mod collateral;
pub mod endorsement;
pub mod error;
mod pem;
pub mod quote;
pub mod rtmr;
pub mod verify;

pub use crate::appraise::TdxPolicy;
pub use crate::appraise::appraise;
pub use crate::appraise::appraise_enclave;
pub use crate::claims::Claims;
pub use crate::claims::EnclaveClaims;
pub use crate::collateral::Collateral;
pub use crate::collateral::CollateralCache;
pub use crate::collateral::TcbStatus;
pub use crate::collateral::VerifiedCollateral;
pub use crate::endorsement::Root;
pub use crate::error::Error;
pub use crate::error::Faults;
pub use crate::pem::PemError;
pub use crate::quote::EnclaveQuote;
pub use crate::quote::Quote;
pub use crate::verify::Expected;
pub use crate::verify::verify;
pub use crate::verify::verify_enclave;
pub use crate::verify::verify_signatures;
pub use crate::verify::verify_with;
