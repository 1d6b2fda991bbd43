//! AMD SEV-SNP evidence: what a confidential guest's processor says of it, and the code that
//! believes it or not.
//!
//! | module | its job |
//! |---|---|
//! | [`report`] | the 1184 bytes as values, every reserved bit asked for |
//! | [`product`], [`tcb`] | processor generations, and what a TCB version means on each |
//! | [`error`] | every fault, in the decisive order |
//!
//! Everything is judged over the bytes as they were received, never over a re-encoding.

pub mod error;
pub mod product;
pub mod report;
pub mod tcb;

pub use crate::error::Fault;
pub use crate::error::Faults;
pub use crate::product::Product;
pub use crate::report::Report;
