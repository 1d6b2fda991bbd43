//! Reference values: what a good machine measures, as people review and sign it.

pub mod ek_roots;
mod profile;

pub use profile::Component;
pub use profile::Profile;
pub use profile::ProfileError;
pub use profile::State;
pub use profile::Variant;
