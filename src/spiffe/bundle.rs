//! The bundle of a trust domain: the public keys that its SVIDs are verified with.

use assay_evidence::time::Time;

use crate::spiffe::TrustDomain;

/// A JWT authority: SPKI in DER and its key id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuthority {
    pub key_id: String,
    pub public_key: Vec<u8>,
    pub expires_at: Time,
}

/// X.509 authorities (self-signed certificates, DER) and JWT authorities of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    pub trust_domain: TrustDomain,
    pub x509_authorities: Vec<Vec<u8>>,
    pub jwt_authorities: Vec<JwtAuthority>,
    /// Rises with each change.
    pub sequence: u64,
    pub refresh_hint_s: i64,
}
