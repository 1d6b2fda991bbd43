//! A sealed record: its exact bytes, and what can be read out of them.

use std::fmt;

use assay_evidence::crypto;
use assay_evidence::time::Time;
use serde_json::Value;

use crate::canonical;
use crate::records::RecordError;
use crate::records::Ref;

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
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| RecordError::Json(error.to_string()))?;
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
            .and_then(|text| Time::parse_rfc3339(text).ok().filter(|time| time.to_string() == text))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use assay_evidence::reason::Finding;
    use assay_evidence::reason::Reason;
    use proptest::prelude::*;

    use super::*;
    use crate::records::Actor;
    use crate::records::Admin;
    use crate::records::Data;
    use crate::records::Draft;
    use crate::records::Origin;
    use crate::records::Outcome;
    use crate::records::Subject;
    use crate::spiffe::EntryId;
    use crate::spiffe::TrustDomain;

    fn origin() -> Origin {
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        Origin { server_id: "5e".to_owned(), trust_domain }
    }

    fn draft(arguments: BTreeMap<String, String>, refs: Vec<Ref>) -> Draft {
        Draft {
            subject: Subject::TrustDomain,
            actor: Actor::Unix { uid: 0, pid: 7 },
            refs,
            data: Data::Admin(Admin { act: "node-admit", arguments }),
        }
    }

    fn sealed() -> Body {
        let arguments = BTreeMap::from([("node".to_owned(), "00".to_owned())]);
        let refs = vec![Ref::Record(u64::MAX), Ref::Blob([1; 32])];
        draft(arguments, refs).seal(&origin(), Time::from_unix_ms(1)).unwrap()
    }

    #[test]
    fn a_body_is_these_bytes_and_this_leaf() {
        let body = sealed();
        assert_eq!(
            String::from_utf8(body.bytes().to_vec()).unwrap(),
            "{\"actor\":{\"kind\":\"unix\",\"pid\":7,\"uid\":0},\
             \"data\":{\"act\":\"node-admit\",\"arguments\":{\"node\":\"00\"}},\
             \"refs\":[{\"id\":\"18446744073709551615\",\"kind\":\"record\"},\
             {\"id\":\"0101010101010101010101010101010101010101010101010101010101010101\",\
             \"kind\":\"blob\"}],\
             \"server_id\":\"5e\",\"subject\":\"spiffe://example.org\",\
             \"trust_domain\":\"example.org\",\"ts\":\"1970-01-01T00:00:00.001Z\",\
             \"type\":\"admin\",\"v\":1}"
        );
        let mut input = vec![0];
        input.extend_from_slice(body.bytes());
        assert_eq!(body.leaf(), crypto::sha256(&input));
    }

    #[test]
    fn what_is_not_the_one_form_is_refused() {
        let text = String::from_utf8(sealed().bytes().to_vec()).unwrap();
        assert!(Body::parse(text.as_bytes()).is_ok());
        let refused = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Body::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err()
        };
        assert_eq!(refused("\"v\":1", "\"v\": 1"), RecordError::NotCanonical);
        assert_eq!(refused("\"v\":1", "\"v\":1,\"v\":1"), RecordError::NotCanonical);
        assert_eq!(
            refused("\"pid\":7,\"uid\":0", "\"uid\":0,\"pid\":7"),
            RecordError::NotCanonical
        );
        assert_eq!(refused("\"v\":1", "\"v\":2"), RecordError::Field("v"));
        assert_eq!(refused("\"v\":1", "\"v\":1,\"w\":1"), RecordError::Field("v"));
        assert_eq!(refused("\"type\":\"admin\",", ""), RecordError::Field("type"));
        assert_eq!(refused("00.001Z", "00.0010Z"), RecordError::Field("ts"));
        assert_eq!(refused("\"kind\":\"record\"", "\"kind\":\"rec\""), RecordError::Field("refs"));
        assert!(matches!(refused("\"v\":1}", "\"v\":1}x"), RecordError::Json(_)));
        assert!(matches!(refused("\"v\":1", "\"v\":1.5"), RecordError::Number(_)));
    }

    #[test]
    fn a_body_that_no_log_could_hold_is_refused() {
        let seal = |length: usize| {
            let arguments = BTreeMap::from([("text".to_owned(), "x".repeat(length))]);
            draft(arguments, Vec::new()).seal(&origin(), Time::from_unix_ms(1))
        };
        let frame = seal(0).unwrap().bytes().len();
        let largest = seal(MAX_BODY_BYTES - frame).unwrap();
        assert_eq!(largest.bytes().len(), MAX_BODY_BYTES);
        assert!(Body::parse(largest.bytes()).is_ok());
        assert_eq!(
            seal(MAX_BODY_BYTES - frame + 1).unwrap_err(),
            RecordError::TooLong(MAX_BODY_BYTES + 1)
        );
        let many = draft(BTreeMap::new(), vec![Ref::Record(0); 33]);
        assert_eq!(many.seal(&origin(), Time::from_unix_ms(1)).unwrap_err(), RecordError::Refs(33));
    }

    #[test]
    fn a_refusal_can_always_be_recorded_and_says_what_it_left_out() {
        let finding = Finding::new(
            Reason::RegisterMismatch,
            "pcr.sha256.0",
            "\u{0}".repeat(1_500),
            "f".repeat(9_000),
            "profile `p`",
        );
        let mut outcome = Outcome::refused(vec![finding.clone(); 50]);
        outcome.warnings = vec![finding; 50];
        let draft = Draft { data: Data::Result(outcome), ..draft(BTreeMap::new(), Vec::new()) };
        let body = draft.seal(&origin(), Time::from_unix_ms(1)).unwrap();
        let kept = body.datum("findings").unwrap().as_array().unwrap().len();
        let omitted = body.datum("findings_omitted").unwrap().as_u64().unwrap();
        assert!(kept >= 1);
        assert_eq!(kept as u64 + omitted, 50);
        assert_eq!(body.datum("verdict").unwrap(), "none");
    }

    proptest! {
        #[test]
        fn a_body_that_is_written_reads_the_same(
            arguments in proptest::collection::btree_map(".{0,40}", ".{0,200}", 0..8),
            record in any::<u64>(),
            blob in any::<[u8; 32]>(),
            standing in "[^\\x00]{0,40}",
            entry in "[A-Za-z0-9_.-]{1,40}",
            ms in 0..253_402_300_799_999_i64,
        ) {
            let refs = vec![
                Ref::Record(record),
                Ref::Blob(blob),
                Ref::Standing(standing),
                Ref::Entry(EntryId::parse(&entry).unwrap()),
            ];
            let draft = draft(arguments.clone(), refs.clone());
            let body = draft.seal(&origin(), Time::from_unix_ms(ms)).unwrap();
            let read = Body::parse(body.bytes()).unwrap();
            prop_assert_eq!(&read, &body);
            prop_assert_eq!(read.refs(), &refs[..]);
            prop_assert_eq!(read.ts(), Time::from_unix_ms(ms));
            prop_assert_eq!(read.kind(), "admin");
            let read: BTreeMap<String, String> =
                serde_json::from_value(read.datum("arguments").unwrap().clone()).unwrap();
            prop_assert_eq!(read, arguments);
        }

        #[test]
        fn no_bytes_make_a_body_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Body::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_never_reads_as_the_same_record(at in 0_usize..400, to in any::<u8>()) {
            let body = sealed();
            let mut bytes = body.bytes().to_vec();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            if let Ok(read) = Body::parse(&bytes) {
                prop_assert_ne!(read.leaf(), body.leaf());
            }
        }
    }
}
