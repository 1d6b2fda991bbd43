//! The services of the server, one file each. They speak gRPC and decide with what is below.

pub mod admin;
pub mod agent;
pub mod attestation_key;
pub mod bundle;
pub mod entry;
pub mod health;
pub mod node;
pub mod svid;
