//! TPM 2.0 structures as values: each is read whole through the bounded reader or refused.
//!
//! "Part 2" in the comments is the TPM 2.0 Library specification, Part 2: Structures, rev. 1.59.
//! Only what evidence is made of is here; a verifier needs a small part of a TPM's language.

pub mod attest;
pub mod name;
pub mod public;
pub mod selection;
pub mod signature;
