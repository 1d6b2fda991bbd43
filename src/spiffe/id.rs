//! Trust domain names and SPIFFE IDs, parsed once into values that are always valid.
//!
//! Source: SPIFFE-ID specification, sections 2.1 (trust domain), 2.2 (path), 2.3 (length).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID 2.3: implementations must support up to 2,048 bytes, and need not support more.
const MAX_ID_BYTES: usize = 2_048;
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// Why a text is not a trust domain or SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    #[error("`{0}` does not begin with `spiffe://`")]
    Scheme(String),
    #[error("a trust domain has 1 to 255 of `a-z 0-9 . - _`, found `{0}`")]
    TrustDomain(String),
    #[error(
        "a path segment has one or more of `A-Z a-z 0-9 . - _` and is not `.` or `..`, found `{0}`"
    )]
    Segment(String),
    #[error("a SPIFFE ID has at most 2048 bytes, found {0}")]
    Length(usize),
    #[error("`{0}` has no path; only a trust domain itself may lack one")]
    NoPath(String),
}

/// The name of a trust domain, without scheme: `example.org`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Parses a bare name or `spiffe://name`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let name = text.strip_prefix(SCHEME).unwrap_or(text);
        let valid = !name.is_empty()
            && name.len() <= MAX_TRUST_DOMAIN_BYTES
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'));
        if valid { Ok(Self(name.to_owned())) } else { Err(IdError::TrustDomain(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of the trust domain itself, without a path.
    pub fn id(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }

    /// The ID of the server: `spiffe://<td>/spire/server`.
    pub fn server(&self) -> SpiffeId {
        SpiffeId { trust_domain: self.clone(), path: "/spire/server".to_owned() }
    }

    /// The ID of the node with this node id: `spiffe://<td>/spire/agent/assay/<node id>`.
    pub fn node(&self, node_id: &str) -> Result<SpiffeId, IdError> {
        self.member(&format!("/spire/agent/assay/{node_id}"))
    }

    /// The ID with `path` (leading slash) in this trust domain.
    pub fn member(&self, path: &str) -> Result<SpiffeId, IdError> {
        SpiffeId::parse(&format!("{SCHEME}{}{path}", self.0))
    }
}

/// A SPIFFE ID with a path: `spiffe://example.org/web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: String,
}

impl SpiffeId {
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_ID_BYTES {
            return Err(IdError::Length(text.len()));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| IdError::Scheme(text.to_owned()))?;
        let (name, path) = rest.split_once('/').ok_or_else(|| IdError::NoPath(text.to_owned()))?;
        let trust_domain = TrustDomain::parse(name)?;
        for segment in path.split('/') {
            let valid = !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            if !valid {
                return Err(IdError::Segment(segment.to_owned()));
            }
        }
        Ok(Self { trust_domain, path: format!("/{path}") })
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// IDs under `/spire` belong to the identity plane itself and to no workload.
    pub fn is_reserved(&self) -> bool {
        self.path == "/spire" || self.path.starts_with("/spire/")
    }

    /// The node id, where this is the ID of a node that attested to Assay.
    pub fn node_id(&self) -> Option<&str> {
        self.path.strip_prefix("/spire/agent/assay/").filter(|id| !id.contains('/'))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<TrustDomain> for String {
    fn from(value: TrustDomain) -> Self {
        value.0
    }
}

impl From<SpiffeId> for String {
    fn from(value: SpiffeId) -> Self {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_well_formed_id_keeps_its_parts() {
        let id = SpiffeId::parse("spiffe://example.org/ns/pay.v2/web_1").unwrap();
        assert_eq!(id.trust_domain().as_str(), "example.org");
        assert_eq!(id.path(), "/ns/pay.v2/web_1");
        assert_eq!(id.to_string(), "spiffe://example.org/ns/pay.v2/web_1");
    }

    #[test]
    fn ill_formed_ids_are_refused_by_name() {
        let refused = |text: &str| SpiffeId::parse(text).unwrap_err();
        assert!(matches!(refused("https://example.org/a"), IdError::Scheme(_)));
        assert!(matches!(refused("spiffe://Example.org/a"), IdError::TrustDomain(_)));
        assert!(matches!(refused("spiffe://exa mple/a"), IdError::TrustDomain(_)));
        assert!(matches!(refused("spiffe:///a"), IdError::TrustDomain(_)));
        assert!(matches!(refused("spiffe://user@example.org/a"), IdError::TrustDomain(_)));
        assert!(matches!(refused("spiffe://example.org:80/a"), IdError::TrustDomain(_)));
        assert!(matches!(refused("spiffe://example.org"), IdError::NoPath(_)));
        assert!(matches!(refused("spiffe://example.org/"), IdError::Segment(_)));
        assert!(matches!(refused("spiffe://example.org/a/"), IdError::Segment(_)));
        assert!(matches!(refused("spiffe://example.org/a//b"), IdError::Segment(_)));
        assert!(matches!(refused("spiffe://example.org/../b"), IdError::Segment(_)));
        assert!(matches!(refused("spiffe://example.org/%61"), IdError::Segment(_)));
        assert!(matches!(refused("spiffe://example.org/a?b"), IdError::Segment(_)));
        let long = format!("spiffe://example.org/{}", "a".repeat(2_048));
        assert!(matches!(refused(&long), IdError::Length(_)));
    }

    #[test]
    fn reserved_paths_are_told_apart() {
        let id = |path: &str| TrustDomain::parse("example.org").unwrap().member(path).unwrap();
        assert!(id("/spire/server").is_reserved());
        assert!(id("/spire/agent/assay/00ff").is_reserved());
        assert!(!id("/spirea").is_reserved());
        assert_eq!(id("/spire/agent/assay/00ff").node_id(), Some("00ff"));
        assert_eq!(id("/spire/agent/assay/00ff/x").node_id(), None);
        assert_eq!(id("/spire/agent/join_token/00ff").node_id(), None);
    }
}
