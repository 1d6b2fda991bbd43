//! The vocabulary that every attestor of Assay shares.
//!
//! | module | what it holds |
//! |---|---|
//! | [`time`] | an instant as a value; nothing here reads a clock |
//! | [`digest`] | hash algorithms, digests, register banks |
//! | [`nonce`] | the 32 bytes that make evidence fresh |
//! | [`reader`] | the one bounded reader through which hostile bytes are read |
//! | [`reason`] | every reason for which the product refuses or warns, and what to do about it |
//! | [`binding`] | what a piece of evidence is bound to, as one hash |
//! | [`faults`] | a refusal with everything that was found wrong, in the decisive order |
//! | [`key`] | public keys as values, and whether they are strong enough to mean anything |
//! | [`crypto`] | the only file that names a crypto library |
//! | [`certificate`], [`chain`] | X.509 as received, and the path to a pinned root |
//! | [`crl`] | what its issuer revoked |
//! | [`cbor`] | the little CBOR that evidence is written in, bounded |
//! | [`remembered`] | a bounded memory of verified chains |
//!
//! It deliberately knows no attestor, judges nothing against reference values, and does no I/O.

pub mod binding;
pub mod cbor;
pub mod certificate;
pub mod chain;
pub mod crl;
pub mod crypto;
pub mod der;
pub mod digest;
mod extension;
pub mod faults;
pub mod key;
pub mod nonce;
mod pss;
pub mod reader;
pub mod reason;
pub mod remembered;
mod signed;
pub mod time;

pub use crate::binding::Binding;
pub use crate::binding::BindingInput;
pub use crate::binding::Face;
pub use crate::binding::NonceState;
pub use crate::binding::Purpose;
pub use crate::certificate::Certificate;
pub use crate::crl::RevocationList;
pub use crate::digest::Digest;
pub use crate::digest::HashAlgorithm;
pub use crate::digest::Registers;
pub use crate::key::Curve;
pub use crate::key::PublicKey;
pub use crate::nonce::Nonce;
pub use crate::reader::Reader;
pub use crate::reason::Finding;
pub use crate::reason::Reason;
pub use crate::time::Time;
