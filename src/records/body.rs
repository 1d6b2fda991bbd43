//! A sealed record: its exact bytes, and what can be read out of them.

use std::fmt;

use assay_evidence::crypto;
use assay_evidence::time::Time;
use serde_json::Value;

use crate::records::RecordError;
use crate::records::Ref;
use crate::records::canonical;

/// An entry bundle of the log holds a length of 16 bits before each body.
pub const MAX_BODY_BYTES: usize = 65_535;

const MEMBERS: [&str; 9] =
    ["actor", "data", "refs", "server_id", "subject", "trust_domain", "ts", "type", "v"];

/// The body of a record: canonical, well-formed, never changed.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    bytes: Vec<u8>,
    value: Value,
    ts: Time,
    refs: Vec<Ref>,
}

/// A record as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub seq: u64,
    pub body: Body,
    /// As stored; equal to `body.leaf()`, which the store compares when it reads.
    pub leaf: [u8; 32],
}

impl Body {
    pub(super) fn write(value: &Value) -> Result<Self, RecordError> {
        Self::from_canonical(canonical::write(value)?, value.clone())
    }

    /// Reads a body that was kept or exported. Bytes that are not the one canonical form of what
    /// they say are refused, and so are unknown members.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_BODY_BYTES {
            return Err(RecordError::TooLong(bytes.len()));
        }
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| RecordError::Json(error.to_string()))?;
        if canonical::write(&value)? != bytes {
            return Err(RecordError::NotCanonical);
        }
        Self::from_canonical(bytes.to_vec(), value)
    }

    fn from_canonical(bytes: Vec<u8>, value: Value) -> Result<Self, RecordError> {
        if bytes.len() > MAX_BODY_BYTES {
            return Err(RecordError::TooLong(bytes.len()));
        }
        let object = value.as_object().ok_or(RecordError::Field("v"))?;
        let member = |name| object.get(name).ok_or(RecordError::Field(name));
        for name in MEMBERS {
            member(name)?;
        }
        if object.len() != MEMBERS.len() || member("v")?.as_u64() != Some(1) {
            return Err(RecordError::Field("v"));
        }
        for name in ["type", "server_id", "trust_domain", "subject"] {
            member(name)?.as_str().ok_or(RecordError::Field(name))?;
        }
        for name in ["actor", "data"] {
            member(name)?.as_object().ok_or(RecordError::Field(name))?;
        }
        let ts = member("ts")?
            .as_str()
            .and_then(|text| {
                Time::parse_rfc3339(text).ok().filter(|time| time.to_string() == text)
            })
            .ok_or(RecordError::Field("ts"))?;
        let refs = member("refs")?
            .as_array()
            .and_then(|refs| refs.iter().map(Ref::from_json).collect::<Option<Vec<_>>>())
            .ok_or(RecordError::Field("refs"))?;
        Ok(Self { bytes, ts, refs, value })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256(00 ‖ body) (RFC 6962 2.1).
    pub fn leaf(&self) -> [u8; 32] {
        let mut input = Vec::with_capacity(self.bytes.len() + 1);
        input.push(0);
        input.extend_from_slice(&self.bytes);
        crypto::sha256(&input)
    }

    pub fn ts(&self) -> Time {
        self.ts
    }

    /// `evidence`, `result`, `issue-x509`, `issue-jwt`, `admin`, `key-event`; later ones too.
    pub fn kind(&self) -> &str {
        self.text("type")
    }

    pub fn subject(&self) -> &str {
        self.text("subject")
    }

    pub fn server_id(&self) -> &str {
        self.text("server_id")
    }

    pub fn trust_domain(&self) -> &str {
        self.text("trust_domain")
    }

    pub fn refs(&self) -> &[Ref] {
        &self.refs
    }

    /// The member of `data` with this name.
    pub fn datum(&self, name: &str) -> Option<&Value> {
        self.value.get("data").and_then(|data| data.get(name))
    }

    /// The whole body.
    pub fn value(&self) -> &Value {
        &self.value
    }

    fn text(&self, name: &str) -> &str {
        self.value.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}
