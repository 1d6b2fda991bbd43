//! Reference values: what a good machine measures, as people review and sign it.
//!
//! | module | its job |
//! |---|---|
//! | [`profile`] | `profile.toml` → a checked [`Profile`] |
//! | [`set`] | digests, words and floors by name, apart from profiles |
//! | [`files`] | profiles and sets from folders, with their signatures |
//! | [`grammar`] | which events a register may hold, each consumed once |
//! | [`requirement`], [`tokens`] | tests on content that digests bind |
//! | [`draft`] | profiles as they are written |
//! | [`learn`] | a draft out of logs of good boots |
//! | [`import`], [`corim`] | reference values in the forms of others |
//! | [`pcr_signature`] | registers that somebody signed before the boot |
//! | [`predict`] | the next boot's values, from files |
//! | [`ima_rules`] | what is asked of the kernel's list of files |
//! | [`digests`], [`word`] | listed values, as they are compared |
//! | [`signature`] | who vouches for a profile or a set |
//! | [`ek_roots`] | who vouches for a TPM |
//!
//! Nothing here looks at a machine: that is `appraisal`'s business.

mod advisories;
pub mod class;
pub mod corim;
pub mod digests;
pub mod draft;
pub mod ek_roots;
mod fields;
pub mod files;
pub mod grammar;
pub mod ima_rules;
pub mod import;
pub mod learn;
pub mod pattern;
pub mod pcr_signature;
pub mod predict;
pub mod profile;
pub mod requirement;
pub mod set;
pub mod signature;
pub mod tokens;
pub mod word;

pub use advisories::AdvisoryError;
pub use advisories::AdvisoryList;
pub use profile::Component;
pub use profile::Demand;
pub use profile::Profile;
pub use profile::ProfileError;
pub use profile::State;
pub use profile::Variant;
pub use set::Set;
pub use set::Sets;
