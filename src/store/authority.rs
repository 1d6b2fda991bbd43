//! An authority of the trust domain: a public key that SVIDs are verified with.

use assay_evidence::time::Time;
use serde::Deserialize;
use serde::Serialize;

use crate::appraisal::CustodyClass;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityKind {
    X509,
    Jwt,
    /// Signs certificates of attestation keys; never in the bundle.
    Attestation,
}

/// The life of an authority (SPIRE's words).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityState {
    /// In the bundle, signs nothing yet.
    Prepared,
    Active,
    /// Signs no more; what it signed is still good.
    Old,
}

/// All that is stored about an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRow {
    pub authority_id: String,
    /// As read; 0 while it is not stored.
    #[serde(skip)]
    pub revision: i64,
    /// Whose key it is; set by the store.
    #[serde(skip)]
    pub server_id: String,
    pub kind: AuthorityKind,
    #[serde(with = "hex::serde")]
    pub spki_sha256: [u8; 32],
    /// X.509: the self-signed certificate in DER. JWT: the SPKI in DER.
    #[serde(with = "hex::serde")]
    pub public: Vec<u8>,
    pub not_before: Time,
    pub not_after: Time,
    pub state: AuthorityState,
    #[serde(default)]
    pub tainted: bool,
    pub custody: CustodyClass,
}
