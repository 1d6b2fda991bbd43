//! A registration entry: which workload, on which node, gets which SPIFFE ID.
//!
//! `EntryParams` is what somebody asks for; `Entry` is what was found well-formed. Matching is
//! `selectors ⊆ facts`, as SPIFFE has it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use assay_evidence::time::Time;
use serde::Deserialize;
use serde::Serialize;

use crate::spiffe::Selector;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;

const MAX_SELECTORS: usize = 64;
const MAX_DNS_NAMES: usize = 32;
const MAX_HINT_BYTES: usize = 1_024;
const MAX_ENTRY_ID_BYTES: usize = 255;
/// No SVID outlives this, whatever an entry says.
const MAX_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Whether processes that match one entry share a key (`Shared`, as SPIRE does) or each has its
/// own identity (`Process`: own key, own serial).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instance {
    #[default]
    Shared,
    Process,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId(String);

impl EntryId {
    pub fn parse(text: &str) -> Result<Self, EntryError> {
        let valid = (1..=MAX_ENTRY_ID_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if valid { Ok(Self(text.to_owned())) } else { Err(EntryError::Id(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an operator asks for; not yet judged well-formed.
#[derive(Debug, Clone)]
pub struct EntryParams {
    pub id: EntryId,
    pub spiffe_id: SpiffeId,
    pub parent_id: SpiffeId,
    pub selectors: BTreeSet<Selector>,
    /// Zero means the default of the server.
    pub x509_svid_ttl: Duration,
    /// Zero means the default of the server.
    pub jwt_svid_ttl: Duration,
    pub admin: bool,
    pub downstream: bool,
    pub expires_at: Option<Time>,
    pub dns_names: Vec<String>,
    pub hint: String,
    pub instance: Instance,
    pub admit_unattested: bool,
    pub jwt_include_jti: bool,
}

/// A well-formed registration entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub(crate) id: EntryId,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) parent_id: SpiffeId,
    pub(crate) selectors: BTreeSet<Selector>,
    pub(crate) x509_svid_ttl: Duration,
    pub(crate) jwt_svid_ttl: Duration,
    pub(crate) admin: bool,
    pub(crate) downstream: bool,
    pub(crate) expires_at: Option<Time>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) hint: String,
    pub(crate) instance: Instance,
    pub(crate) admit_unattested: bool,
    pub(crate) jwt_include_jti: bool,
    pub(crate) created_at: Time,
    pub(crate) revision: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    #[error("an entry id has 1 to 255 of `A-Z a-z 0-9 - _ .`, found `{0}`")]
    Id(String),
    #[error("`{found}` is not in trust domain `{expected}`")]
    TrustDomain { found: SpiffeId, expected: TrustDomain },
    #[error("`{0}` is reserved for the identity plane; choose a path outside `/spire`")]
    Reserved(SpiffeId),
    #[error("an entry needs 1 to 64 selectors, found {0}")]
    Selectors(usize),
    #[error(
        "a parent is the server, a node below `/spire/agent`, or another entry; \
         `{0}` is the entry itself"
    )]
    OwnParent(SpiffeId),
    #[error("an SVID lives at most 7 days, asked for {0:?}")]
    Ttl(Duration),
    #[error("`{0}` is not a DNS name")]
    DnsName(String),
    #[error("an entry has at most 32 DNS names, found {0}")]
    DnsNames(usize),
    #[error("a hint has at most 1024 bytes, found {0}")]
    Hint(usize),
}

impl Entry {
    /// Accepts what was asked for, or names the first thing that is wrong with it.
    pub fn new(
        params: EntryParams,
        trust_domain: &TrustDomain,
        created_at: Time,
        revision: i64,
    ) -> Result<Self, EntryError> {
        for id in [&params.spiffe_id, &params.parent_id] {
            if id.trust_domain() != trust_domain {
                return Err(EntryError::TrustDomain {
                    found: id.clone(),
                    expected: trust_domain.clone(),
                });
            }
        }
        if params.spiffe_id.is_reserved() {
            return Err(EntryError::Reserved(params.spiffe_id));
        }
        if params.spiffe_id == params.parent_id {
            return Err(EntryError::OwnParent(params.spiffe_id));
        }
        if !(1..=MAX_SELECTORS).contains(&params.selectors.len()) {
            return Err(EntryError::Selectors(params.selectors.len()));
        }
        for ttl in [params.x509_svid_ttl, params.jwt_svid_ttl] {
            if ttl > MAX_TTL {
                return Err(EntryError::Ttl(ttl));
            }
        }
        if params.dns_names.len() > MAX_DNS_NAMES {
            return Err(EntryError::DnsNames(params.dns_names.len()));
        }
        if let Some(name) = params.dns_names.iter().find(|name| !is_dns_name(name)) {
            return Err(EntryError::DnsName(name.clone()));
        }
        if params.hint.len() > MAX_HINT_BYTES {
            return Err(EntryError::Hint(params.hint.len()));
        }
        Ok(Self {
            id: params.id,
            spiffe_id: params.spiffe_id,
            parent_id: params.parent_id,
            selectors: params.selectors,
            x509_svid_ttl: params.x509_svid_ttl,
            jwt_svid_ttl: params.jwt_svid_ttl,
            admin: params.admin,
            downstream: params.downstream,
            expires_at: params.expires_at,
            dns_names: params.dns_names,
            hint: params.hint,
            instance: params.instance,
            admit_unattested: params.admit_unattested,
            jwt_include_jti: params.jwt_include_jti,
            created_at,
            revision,
        })
    }

    pub fn id(&self) -> &EntryId {
        &self.id
    }

    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    pub fn parent_id(&self) -> &SpiffeId {
        &self.parent_id
    }

    pub fn selectors(&self) -> &BTreeSet<Selector> {
        &self.selectors
    }

    pub fn x509_svid_ttl(&self) -> Duration {
        self.x509_svid_ttl
    }

    pub fn jwt_svid_ttl(&self) -> Duration {
        self.jwt_svid_ttl
    }

    pub fn admin(&self) -> bool {
        self.admin
    }

    pub fn downstream(&self) -> bool {
        self.downstream
    }

    pub fn expires_at(&self) -> Option<Time> {
        self.expires_at
    }

    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    pub fn hint(&self) -> &str {
        &self.hint
    }

    pub fn instance(&self) -> Instance {
        self.instance
    }

    pub fn admit_unattested(&self) -> bool {
        self.admit_unattested
    }

    pub fn jwt_include_jti(&self) -> bool {
        self.jwt_include_jti
    }

    pub fn created_at(&self) -> Time {
        self.created_at
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// `selectors ⊆ facts`.
    pub fn matches(&self, facts: &BTreeSet<Selector>) -> bool {
        self.selectors.is_subset(facts)
    }

    /// An entry below the server names nodes by their selectors: a node alias.
    pub fn is_node_alias(&self) -> bool {
        self.parent_id.path() == "/spire/server"
    }
}

/// RFC 1123 host name, with one leading `*.` allowed.
fn is_dns_name(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    (1..=253).contains(&name.len())
        && rest.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for EntryId {
    type Error = EntryError;
    fn try_from(text: String) -> Result<Self, EntryError> {
        Self::parse(&text)
    }
}

impl From<EntryId> for String {
    fn from(value: EntryId) -> Self {
        value.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn params() -> EntryParams {
        EntryParams {
            id: EntryId::parse("web").unwrap(),
            spiffe_id: SpiffeId::parse("spiffe://example.org/web").unwrap(),
            parent_id: SpiffeId::parse("spiffe://example.org/spire/agent/assay/00").unwrap(),
            selectors: BTreeSet::from([Selector::parse("unix:uid:1000").unwrap()]),
            x509_svid_ttl: Duration::ZERO,
            jwt_svid_ttl: Duration::ZERO,
            admin: false,
            downstream: false,
            expires_at: None,
            dns_names: vec!["web.example.org".to_owned()],
            hint: String::new(),
            instance: Instance::Shared,
            admit_unattested: false,
            jwt_include_jti: false,
        }
    }

    fn entry(change: impl FnOnce(&mut EntryParams)) -> Result<Entry, EntryError> {
        let mut params = params();
        change(&mut params);
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        Entry::new(params, &trust_domain, Time::from_unix_s(0), 1)
    }

    #[test]
    fn selectors_match_as_a_subset() {
        let facts = |texts: &[&str]| {
            texts.iter().map(|text| Selector::parse(text).unwrap()).collect::<BTreeSet<_>>()
        };
        let entry = entry(|params| {
            params.selectors.insert(Selector::parse("unix:gid:5").unwrap());
        })
        .unwrap();
        assert!(entry.matches(&facts(&["unix:uid:1000", "unix:gid:5", "unix:user:x"])));
        assert!(!entry.matches(&facts(&["unix:uid:1000"])));
        assert!(!entry.matches(&facts(&[])));
    }

    #[test]
    fn ill_formed_entries_are_refused_by_name() {
        let id = |text: &str| SpiffeId::parse(text).unwrap();
        let refused = |change: fn(&mut EntryParams)| entry(change).unwrap_err();
        assert!(entry(|_| ()).is_ok());
        assert!(matches!(refused(|p| p.selectors.clear()), EntryError::Selectors(0)));
        assert!(matches!(
            refused(|p| p.spiffe_id = SpiffeId::parse("spiffe://other.org/web").unwrap()),
            EntryError::TrustDomain { .. }
        ));
        assert!(matches!(
            refused(|p| p.spiffe_id = SpiffeId::parse("spiffe://example.org/spire/x").unwrap()),
            EntryError::Reserved(_)
        ));
        assert!(matches!(
            refused(|p| p.parent_id = p.spiffe_id.clone()),
            EntryError::OwnParent(found) if found == id("spiffe://example.org/web")
        ));
        assert!(matches!(
            refused(|p| p.x509_svid_ttl = Duration::from_secs(8 * 86_400)),
            EntryError::Ttl(_)
        ));
        assert!(matches!(refused(|p| p.dns_names = vec!["a_b".into()]), EntryError::DnsName(_)));
        assert!(matches!(refused(|p| p.hint = "h".repeat(1_025)), EntryError::Hint(1_025)));
    }
}
