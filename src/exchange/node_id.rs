//! The identity of a node: a hash of what its hardware alone can show.

use std::fmt;

use assay_evidence::crypto;
use serde::Serialize;

use crate::spiffe::IdError;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;
use crate::store::NodeKind;

/// First 32 hex digits of SHA-256("assay/node/1" 00 kind 00 identity).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NodeId(String);

impl NodeId {
    /// `identity` is what the kind says: for `tpm-ek` the SPKI in DER.
    pub fn new(kind: NodeKind, identity: &[u8]) -> Self {
        let mut message = b"assay/node/1\0".to_vec();
        message.extend_from_slice(kind.as_str().as_bytes());
        message.push(0);
        message.extend_from_slice(identity);
        let mut digits = hex::encode(crypto::sha256(&message));
        digits.truncate(32);
        Self(digits)
    }

    /// Reads what [`NodeId::new`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (digits && text.len() == 32).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `spiffe://<td>/spire/agent/assay/<node id>`.
    pub fn spiffe_id(&self, trust_domain: &TrustDomain) -> Result<SpiffeId, IdError> {
        trust_domain.node(&self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_id_is_stable_and_depends_on_kind_and_identity() {
        let id = NodeId::new(NodeKind::TpmEk, b"spki");
        // printf 'assay/node/1\0tpm-ek\0spki' | sha256sum
        assert_eq!(id.as_str(), "78273add2b760c8d99ccb1da5a741bcf");
        assert_ne!(id, NodeId::new(NodeKind::TpmEk, b"spkj"));
        assert_eq!(NodeId::parse(id.as_str()), Some(id.clone()));
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        assert_eq!(
            id.spiffe_id(&trust_domain).unwrap().to_string(),
            format!("spiffe://example.org/spire/agent/assay/{id}")
        );
    }

    #[test]
    fn other_texts_are_no_node_ids() {
        for text in
            ["", "00", "0123456789ABCDEF0123456789ABCDEF", "../456789abcdef0123456789abcdef"]
        {
            assert_eq!(NodeId::parse(text), None, "{text}");
        }
    }
}
