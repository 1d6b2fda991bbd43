//! The values of SPIFFE: trust domain, SPIFFE ID, selector, registration entry, SVID, bundle.
//!
//! Everything here is a value that is valid by construction. Nothing here signs, stores or asks
//! the network; the floors above do.

mod bundle;
mod entry;
mod id;
mod selector;
mod svid;

pub use bundle::Bundle;
pub use bundle::JwtAuthority;
pub use entry::Entry;
pub use entry::EntryError;
pub use entry::EntryId;
pub use entry::EntryParams;
pub use entry::Instance;
pub use id::IdError;
pub use id::SpiffeId;
pub use id::TrustDomain;
pub use selector::Selector;
pub use selector::SelectorError;
pub use svid::JwtSvid;
pub use svid::Serial;
pub use svid::X509Svid;
