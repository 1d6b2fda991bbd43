//! Records: what was decided and what was signed, in their final shapes.
//!
//! A record is written before the signature it speaks of and is never changed. Its body is
//! canonical JSON (RFC 8785) of `{v, type, ts, server_id, trust_domain, subject, actor, refs,
//! data}`, at most 65,535 bytes, and its leaf hash is SHA-256(00 ‖ body) (RFC 6962 2.1), so that a
//! Merkle tree can be laid over records that are written today.
//!
//! A [`Draft`] is what somebody wants recorded; [`Draft::seal`] makes the [`Body`] of it. Nothing
//! here stores anything: the store does, and gives the sequence number.

mod body;
mod data;

use std::net::SocketAddr;

use assay_evidence::time::Time;
use serde_json::Value;
use serde_json::json;

use crate::canonical::InexactNumber;
use crate::spiffe::EntryId;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;

pub use body::Body;
pub use body::MAX_BODY_BYTES;
pub use body::Record;
pub use data::Admin;
pub use data::Counters;
pub use data::Data;
pub use data::Evidence;
pub use data::InstanceFacts;
pub use data::IssueJwt;
pub use data::IssueX509;
pub use data::Item;
pub use data::KeyAct;
pub use data::KeyEvent;
pub use data::Outcome;
pub use data::Verdict;

/// Whose log this is and which server writes; the store knows both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub server_id: String,
    pub trust_domain: TrustDomain,
}

/// Whom or what a record is about; written as a SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Id(SpiffeId),
    /// The trust domain itself: its authorities, or a stranger who has no ID yet.
    TrustDomain,
}

/// Who caused what is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The peer of the private socket, as the kernel names it.
    Unix { uid: u32, pid: i32 },
    /// The peer of an mTLS connection.
    Spiffe(SpiffeId),
    /// A peer that has not proved who it is.
    Address(SocketAddr),
    /// The server by itself: schedules, starts.
    Server,
}

/// What a record points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ref {
    Record(u64),
    /// SHA-256 of a stored blob.
    Blob([u8; 32]),
    /// The appraisal id, which is also the correlation id a refused peer is told.
    Standing(String),
    Entry(EntryId),
}

/// The kinds of [`Ref`], to ask the store by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefKind {
    Record,
    Blob,
    Standing,
    Entry,
}

/// What somebody wants recorded.
#[derive(Debug, Clone)]
pub struct Draft {
    pub subject: Subject,
    pub actor: Actor,
    pub refs: Vec<Ref>,
    pub data: Data,
}

/// Something that will be signed once it has been recorded: the store turns `I` into
/// `Recorded<I>`, and the CA signs nothing else.
pub trait Intent {
    /// What the record will say of it.
    fn draft(&self) -> Draft;
}

/// Why a body cannot be made, or is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    #[error("a record has at most {MAX_BODY_BYTES} bytes, found {0}")]
    TooLong(usize),
    #[error("a record has at most {MAX_REFS} references, found {0}")]
    Refs(usize),
    #[error("a number in a record is whole and below 2^53, found {0}")]
    Number(String),
    #[error("a record is JSON: {0}")]
    Json(String),
    #[error("the record is not in canonical form (RFC 8785)")]
    NotCanonical,
    #[error("the record's `{0}` is missing or has another form")]
    Field(&'static str),
}

impl From<InexactNumber> for RecordError {
    fn from(number: InexactNumber) -> Self {
        Self::Number(number.0)
    }
}

impl Draft {
    /// The final body of what `origin` records at `now`.
    pub fn seal(&self, origin: &Origin, now: Time) -> Result<Body, RecordError> {
        if self.refs.len() > MAX_REFS {
            return Err(RecordError::Refs(self.refs.len()));
        }
        Body::write(&json!({
            "v": 1,
            "type": self.data.kind(),
            "ts": now.to_string(),
            "server_id": origin.server_id,
            "trust_domain": origin.trust_domain.as_str(),
            "subject": self.subject.text(&origin.trust_domain),
            "actor": self.actor.to_json(),
            "refs": self.refs.iter().map(Ref::to_json).collect::<Vec<_>>(),
            "data": self.data.to_json(),
        }))
    }
}

impl Subject {
    pub fn text(&self, trust_domain: &TrustDomain) -> String {
        match self {
            Self::Id(id) => id.to_string(),
            Self::TrustDomain => trust_domain.id(),
        }
    }
}

impl Actor {
    fn to_json(&self) -> Value {
        match self {
            Self::Unix { uid, pid } => json!({"kind": "unix", "uid": uid, "pid": pid}),
            Self::Spiffe(id) => json!({"kind": "spiffe", "id": id.to_string()}),
            Self::Address(address) => json!({"kind": "address", "address": address.to_string()}),
            Self::Server => json!({"kind": "server"}),
        }
    }
}

impl RefKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Blob => "blob",
            Self::Standing => "standing",
            Self::Entry => "entry",
        }
    }
}

impl Ref {
    pub fn kind(&self) -> RefKind {
        match self {
            Self::Record(_) => RefKind::Record,
            Self::Blob(_) => RefKind::Blob,
            Self::Standing(_) => RefKind::Standing,
            Self::Entry(_) => RefKind::Entry,
        }
    }

    /// The id as it is written, and as the store is asked for it.
    pub fn id(&self) -> String {
        match self {
            Self::Record(seq) => seq.to_string(),
            Self::Blob(sha256) => hex::encode(sha256),
            Self::Standing(id) => id.clone(),
            Self::Entry(id) => id.to_string(),
        }
    }

    fn to_json(&self) -> Value {
        json!({"kind": self.kind().as_str(), "id": self.id()})
    }

    fn from_json(value: &Value) -> Option<Self> {
        let object = value.as_object().filter(|object| object.len() == 2)?;
        let id = object.get("id")?.as_str()?;
        match object.get("kind")?.as_str()? {
            "record" => id.parse().ok().map(Self::Record),
            "blob" => hex::decode(id).ok()?.try_into().ok().map(Self::Blob),
            "standing" => Some(Self::Standing(id.to_owned())),
            "entry" => EntryId::parse(id).ok().map(Self::Entry),
            _ => None,
        }
    }
}

const MAX_REFS: usize = 32;
