//! Azure's HCL report: how a confidential VM there says which virtual TPM is its own.
//!
//! NV index 0x01400001 of the vTPM holds a hardware report and a JSON text, the var-data, with the
//! vTPM's keys. The report's data is the hash of that text. So three things have to hold together,
//! and this crate does the one in the middle:
//!
//! 1. the SNP report, or a TD quote, is genuine **for the report data that [`Bound`] names**: the
//!    caller passes [`Bound::report_data`] to that verifier as what it must say;
//! 2. the var-data is what that report data is the hash of: [`HclReport::bound`];
//! 3. the TPM quote is by the key in the var-data, for a fresh nonce: [`Bound::ak`] is the key.
//!
//! What it cannot give: the report has no nonce, so freshness comes from the TPM quote alone, and
//! its measurement is that of Azure's paravisor, not of the guest's system. A TDREPORT is a MAC that
//! only its own machine can check; a TD quote of the same report data has to stand beside it.

mod error;
mod report;
mod var_data;

pub use crate::error::Fault;
pub use crate::report::Bound;
pub use crate::report::Hardware;
pub use crate::report::HclReport;
pub use crate::var_data::VarData;
