//! What is denied whatever else speaks for it: bans of nodes, and quarantines.

use assay_evidence::time::Time;
use serde::Deserialize;
use serde::Serialize;

use crate::spiffe::SpiffeId;

/// One denial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deny {
    /// A node and everything on it.
    Node(SpiffeId),
    /// One identity.
    Id(SpiffeId),
    /// Every identity whose ID begins with this text.
    Prefix(String),
    /// Everything: the whole trust domain.
    TrustDomain,
}

/// Every denial in force; asked by each grant.
#[derive(Debug, Clone, Default)]
pub struct DenySet {
    denials: Vec<Deny>,
    /// Rises with each change (`rev_seq`).
    pub sequence: u64,
    pub changed_at: Option<Time>,
}

impl DenySet {
    pub fn new(denials: Vec<Deny>, sequence: u64, changed_at: Option<Time>) -> Self {
        Self { denials, sequence, changed_at }
    }

    /// The denial that hits `id` on `node`, if one does.
    pub fn denial(&self, id: &SpiffeId, node: &SpiffeId) -> Option<&Deny> {
        self.denials.iter().find(|denial| match denial {
            Deny::Node(denied) => denied == node || denied == id,
            Deny::Id(denied) => denied == id,
            Deny::Prefix(prefix) => id.to_string().starts_with(prefix),
            Deny::TrustDomain => true,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_scope_hits_what_it_names_and_nothing_else() {
        let id = |text: &str| SpiffeId::parse(text).unwrap();
        let node = id("spiffe://example.org/spire/agent/assay/00");
        let other = id("spiffe://example.org/spire/agent/assay/01");
        let web = id("spiffe://example.org/shop/web");
        let hits = |deny: Deny, id: &SpiffeId, node: &SpiffeId| {
            DenySet::new(vec![deny], 1, None).denial(id, node).is_some()
        };
        assert!(DenySet::default().denial(&web, &node).is_none());
        assert!(hits(Deny::Node(node.clone()), &web, &node));
        assert!(!hits(Deny::Node(node.clone()), &web, &other));
        assert!(hits(Deny::Id(web.clone()), &web, &other));
        assert!(!hits(Deny::Id(web.clone()), &node, &node));
        assert!(hits(Deny::Prefix("spiffe://example.org/shop/".into()), &web, &node));
        assert!(!hits(Deny::Prefix("spiffe://example.org/bank/".into()), &web, &node));
        assert!(hits(Deny::TrustDomain, &web, &node));
    }
}
