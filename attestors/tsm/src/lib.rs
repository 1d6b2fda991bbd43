//! Linux's one door to a confidential guest's report: configfs-tsm (kernel 6.7 and later).
//!
//! The same few files serve SEV-SNP, TDX and an SVSM, so the attestors share this client. It asks
//! and hands over bytes: what they mean, and whether they are true, is theirs to say.

pub mod collect;

pub use crate::collect::Collected;
pub use crate::collect::Error;
pub use crate::collect::Provider;
pub use crate::collect::Request;
pub use crate::collect::Service;
pub use crate::collect::Tsm;
