//! Which entries a node is authorized for: the descendants of its own ID and of every node alias
//! whose selectors its standing carries (SPIFFE registration, as SPIRE reads it).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::time::Time;

use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::Selector;
use crate::spiffe::SpiffeId;

/// An entry that was found authorized for a node; only [`authorized_entries`] makes one.
#[derive(Debug, Clone)]
pub struct Authorized<'a> {
    entry: &'a Entry,
    node: SpiffeId,
}

impl<'a> Authorized<'a> {
    pub fn entry(&self) -> &'a Entry {
        self.entry
    }

    pub fn node(&self) -> &SpiffeId {
        &self.node
    }
}

/// Walks from `node` and its aliases down through parents. Expired entries and aliases themselves
/// are not authorized. Ascending by entry id.
pub fn authorized_entries<'a>(
    node: &SpiffeId,
    node_selectors: &BTreeSet<Selector>,
    entries: &'a [Entry],
    now: Time,
) -> Vec<Authorized<'a>> {
    let mut children: BTreeMap<&SpiffeId, Vec<&Entry>> = BTreeMap::new();
    let mut reachable = vec![node];
    for entry in entries.iter().filter(|entry| !entry.expired(now)) {
        if !entry.is_node_alias() {
            children.entry(entry.parent_id()).or_default().push(entry);
        } else if entry.matches(node_selectors) {
            reachable.push(entry.spiffe_id());
        }
    }
    let mut found: BTreeMap<&EntryId, Authorized<'a>> = BTreeMap::new();
    while let Some(parent) = reachable.pop() {
        for entry in children.remove(parent).unwrap_or_default() {
            reachable.push(entry.spiffe_id());
            found.insert(entry.id(), Authorized { entry, node: node.clone() });
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::spiffe::EntryParams;
    use crate::spiffe::Instance;
    use crate::spiffe::TrustDomain;

    fn entry(id: &str, path: &str, parent: &str, selector: &str) -> Entry {
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        let params = EntryParams {
            id: EntryId::parse(id).unwrap(),
            spiffe_id: trust_domain.member(path).unwrap(),
            parent_id: trust_domain.member(parent).unwrap(),
            selectors: BTreeSet::from([Selector::parse(selector).unwrap()]),
            x509_svid_ttl: Duration::ZERO,
            jwt_svid_ttl: Duration::ZERO,
            admin: false,
            downstream: false,
            expires_at: (id == "old").then(|| Time::from_unix_s(5)),
            dns_names: Vec::new(),
            hint: String::new(),
            instance: Instance::Shared,
            admit_unattested: false,
            jwt_include_jti: false,
        };
        Entry::new(params, &trust_domain, Time::from_unix_s(0), 1).unwrap()
    }

    #[test]
    fn only_descendants_of_the_node_and_its_aliases_are_authorized() {
        let node = SpiffeId::parse("spiffe://example.org/spire/agent/assay/00").unwrap();
        let entries = [
            entry("alias", "/rack", "/spire/server", "assay:profile:good"),
            entry("foreign-alias", "/lab", "/spire/server", "assay:profile:other"),
            entry("own", "/web", "/spire/agent/assay/00", "unix:uid:1"),
            entry("own-child", "/web/cache", "/web", "unix:uid:2"),
            entry("by-alias", "/db", "/rack", "unix:uid:3"),
            entry("by-foreign-alias", "/x", "/lab", "unix:uid:4"),
            entry("elsewhere", "/y", "/spire/agent/assay/01", "unix:uid:5"),
            entry("old", "/z", "/spire/agent/assay/00", "unix:uid:6"),
            entry("loop-a", "/a", "/b", "unix:uid:7"),
            entry("loop-b", "/b", "/a", "unix:uid:8"),
        ];
        let selectors = BTreeSet::from([Selector::parse("assay:profile:good").unwrap()]);
        let ids = |selectors: &BTreeSet<Selector>| -> Vec<String> {
            authorized_entries(&node, selectors, &entries, Time::from_unix_s(10))
                .iter()
                .map(|authorized| authorized.entry().id().to_string())
                .collect()
        };
        assert_eq!(ids(&selectors), ["by-alias", "own", "own-child"]);
        assert_eq!(ids(&BTreeSet::new()), ["own", "own-child"]);
    }
}
