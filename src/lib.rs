//! Assay gives a workload an identity only after its machine has proved what it booted and what it
//! runs, and keeps the keys that sign those identities in hardware.
//!
//! Each step of trust is a type that only the step before can make:
//! ```text
//! bytes → Evidence → (verify) → Claims → (appraise) → Appraisal → Standing → (grant) → Grant
//!       → (issue) → Svid
//! ```
//! The modules are floors, low to high; a lower one never names a higher one (`tests/layers.rs`).

// 0: values only
pub mod canonical;
pub mod clock;
pub mod json;
pub mod log;
pub mod private;
pub mod spiffe;
// 1: evidence as it travels
pub mod envelope;
// 2: what is demanded
pub mod policy;
pub mod reference;
// 3: judgement
pub mod appraisal;
// 4: keys, vendors' endorsements, storage, records
pub mod endorsement;
pub mod keys;
pub mod records;
pub mod store;
// 5: the CA, the exchange, channels, peers
pub mod ca;
pub mod exchange;
pub mod tls;
pub mod workload;
// 6: faces
#[cfg(feature = "tpm")]
pub mod agent;
pub mod server;
// 7: the edge
pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;
