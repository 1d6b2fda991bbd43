//! What a record says, one shape per type. A shape is final: readers years from now see what is
//! written today, so a member is never renamed and a new one is optional.

use std::collections::BTreeMap;

use assay_evidence::binding::Face;
use assay_evidence::binding::Purpose;
use assay_evidence::nonce::Nonce;
use assay_evidence::reason::Finding;
use assay_evidence::time::Time;
use serde_json::Value;
use serde_json::json;

use crate::appraisal::CustodyClass;
use crate::appraisal::Link;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;

#[derive(Debug, Clone)]
pub enum Data {
    Evidence(Evidence),
    Result(Outcome),
    IssueX509(IssueX509),
    IssueJwt(IssueJwt),
    Admin(Admin),
    KeyEvent(KeyEvent),
}

/// Evidence arrived and was verified. Its items are blobs; name the kept ones as references too.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub purpose: Purpose,
    pub face: Face,
    pub nonce: Nonce,
    pub exporter_sha256: Option<[u8; 32]>,
    /// SHA-256 of the SPKI of the endorsement key.
    pub ek_spki_sha256: Option<[u8; 32]>,
    /// TPM Name of the attestation key that signed.
    pub ak_name: Option<Vec<u8>>,
    pub counters: Option<Counters>,
    pub items: Vec<Item>,
}

/// How far a TPM has come, as it signed: TPMS_CLOCK_INFO (TPM 2.0 part 2, 10.11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    pub reset_count: u32,
    pub restart_count: u32,
    pub clock: u64,
    pub safe: bool,
}

/// One item of evidence as it was received, whether its bytes are kept or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub media_type: String,
    pub size: u64,
    pub sha256: [u8; 32],
}

/// The tiers of EAR; `None` where it never came to an appraisal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    None,
    Affirming,
    Contraindicated,
}

/// What came of an attestation: judged, or refused before that. Its appraisal id is a reference.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
    /// id, serial and SHA-256 of the profile that decided.
    pub profile: Option<(String, u64, [u8; 32])>,
    pub policy_sha256: Option<[u8; 32]>,
    pub quoted_at: Option<Time>,
    /// When the standing ends that this gave.
    pub expires_at: Option<Time>,
    /// What the processor of a confidential machine said, and how it is linked to the TPM; without
    /// the claims where nothing changed, since records are kept for good.
    pub tee: Option<Link>,
    pub tee_in_full: bool,
}

/// An X.509-SVID, CA or server certificate is about to be signed. The store refuses a serial that
/// was recorded before.
#[derive(Debug, Clone)]
pub struct IssueX509 {
    pub serial: Serial,
    pub tbs_sha256: [u8; 32],
    pub spki_sha256: [u8; 32],
    pub not_before: Time,
    pub not_after: Time,
    pub entry_revision: Option<i64>,
    /// The node that the standing is of.
    pub node: Option<SpiffeId>,
    pub instance: Option<InstanceFacts>,
    /// `workload`, `agent`, `server`, `authority`, …: `Grant::name`.
    pub grant: &'static str,
    pub custody: CustodyClass,
    /// Id of the signing authority.
    pub authority: String,
}

/// For which process, where the entry gives each its own identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceFacts {
    Shared,
    Process {
        pid: u32,
        start_time: u64,
        parent_serial: Option<String>,
        executable_sha256: Option<[u8; 32]>,
    },
}

/// A JWT-SVID is about to be signed.
#[derive(Debug, Clone)]
pub struct IssueJwt {
    pub jti: String,
    pub signing_input_sha256: [u8; 32],
    pub aud: Vec<String>,
    pub exp: Time,
    pub kid: String,
    pub entry_revision: Option<i64>,
    pub node: Option<SpiffeId>,
    pub grant: &'static str,
    pub custody: CustodyClass,
}

/// An administrative act: `node-admit`, `entry-create`, …
#[derive(Debug, Clone)]
pub struct Admin {
    pub act: &'static str,
    pub arguments: BTreeMap<String, String>,
}

/// An authority came, changed or went.
#[derive(Debug, Clone)]
pub struct KeyEvent {
    pub act: KeyAct,
    pub authority: String,
    pub spki_sha256: [u8; 32],
    pub custody: CustodyClass,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAct {
    Created,
    Opened,
    Activated,
    Retired,
    Tainted,
    Revoked,
}

impl Data {
    /// The `type` of the record.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Evidence(_) => "evidence",
            Self::Result(_) => "result",
            Self::IssueX509(_) => "issue-x509",
            Self::IssueJwt(_) => "issue-jwt",
            Self::Admin(_) => "admin",
            Self::KeyEvent(_) => "key-event",
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Evidence(evidence) => evidence.to_json(),
            Self::Result(outcome) => outcome.to_json(),
            Self::IssueX509(issue) => issue.to_json(),
            Self::IssueJwt(issue) => issue.to_json(),
            Self::Admin(admin) => json!({"act": admin.act, "arguments": admin.arguments}),
            Self::KeyEvent(event) => json!({
                "act": event.act.as_str(),
                "authority": event.authority,
                "spki_sha256": hex::encode(event.spki_sha256),
                "custody": event.custody.to_string(),
            }),
        }
    }
}

impl Evidence {
    fn to_json(&self) -> Value {
        json!({
            "purpose": self.purpose.as_str(),
            "face": self.face.as_str(),
            "nonce": self.nonce.to_string(),
            "exporter_sha256": self.exporter_sha256.map(hex::encode),
            "ek_spki_sha256": self.ek_spki_sha256.map(hex::encode),
            "ak_name": self.ak_name.as_ref().map(hex::encode),
            "counters": self.counters.map(|counters| json!({
                "reset_count": counters.reset_count,
                "restart_count": counters.restart_count,
                "clock": counters.clock.to_string(),
                "safe": counters.safe,
            })),
            "items": self.items.iter().map(|item| json!({
                "media_type": item.media_type,
                "size": item.size.to_string(),
                "sha256": hex::encode(item.sha256),
            })).collect::<Vec<_>>(),
        })
    }
}

impl Outcome {
    /// A refusal that came before any appraisal.
    pub fn refused(findings: Vec<Finding>) -> Self {
        Self {
            verdict: Verdict::None,
            findings,
            warnings: Vec::new(),
            not_checked: Vec::new(),
            profile: None,
            policy_sha256: None,
            quoted_at: None,
            expires_at: None,
            tee: None,
            tee_in_full: false,
        }
    }

    fn to_json(&self) -> Value {
        let (findings, findings_omitted) = fitting(&self.findings, FINDINGS_BYTES);
        let (warnings, warnings_omitted) = fitting(&self.warnings, WARNINGS_BYTES);
        let mut json = json!({
            "verdict": self.verdict.as_str(),
            "findings": findings,
            "findings_omitted": findings_omitted,
            "warnings": warnings,
            "warnings_omitted": warnings_omitted,
            "not_checked": self.not_checked,
            "profile": self.profile.as_ref().map(|(id, serial, sha256)| json!({
                "id": id,
                "serial": serial.to_string(),
                "sha256": hex::encode(sha256),
            })),
            "policy_sha256": self.policy_sha256.map(hex::encode),
            "quoted_at": self.quoted_at.map(|time| time.to_string()),
            "expires_at": self.expires_at.map(|time| time.to_string()),
        });
        if let (Some(tee), Some(members)) = (&self.tee, json.as_object_mut()) {
            let mut written = json!(tee);
            if let Some(parts) = written.as_object_mut().filter(|_| !self.tee_in_full) {
                parts.remove("claims");
            }
            members.insert("tee".to_owned(), written);
        }
        json
    }
}

/// As many findings, most decisive first, as the space allows, and how many did not fit: what a
/// peer sends never decides whether its refusal can be recorded.
fn fitting(findings: &[Finding], bytes: usize) -> (Vec<Value>, usize) {
    let mut left = bytes;
    let mut kept = Vec::new();
    for finding in findings {
        let value = json!({
            "code": finding.code.code(),
            "claim": finding.claim,
            "found": finding.found,
            "expected": finding.expected,
            "source": finding.source,
        });
        match left.checked_sub(value.to_string().len() + 1) {
            Some(rest) => left = rest,
            None => break,
        }
        kept.push(value);
    }
    let omitted = findings.len() - kept.len();
    (kept, omitted)
}

impl IssueX509 {
    fn to_json(&self) -> Value {
        json!({
            "serial": self.serial.to_string(),
            "tbs_sha256": hex::encode(self.tbs_sha256),
            "spki_sha256": hex::encode(self.spki_sha256),
            "not_before": self.not_before.to_string(),
            "not_after": self.not_after.to_string(),
            "entry_revision": self.entry_revision.map(|revision| revision.to_string()),
            "node": self.node.as_ref().map(SpiffeId::to_string),
            "instance": self.instance.as_ref().map(InstanceFacts::to_json),
            "grant": self.grant,
            "custody": self.custody.to_string(),
            "authority": self.authority,
        })
    }
}

impl IssueJwt {
    fn to_json(&self) -> Value {
        json!({
            "jti": self.jti,
            "signing_input_sha256": hex::encode(self.signing_input_sha256),
            "aud": self.aud,
            "exp": self.exp.to_string(),
            "kid": self.kid,
            "entry_revision": self.entry_revision.map(|revision| revision.to_string()),
            "node": self.node.as_ref().map(SpiffeId::to_string),
            "grant": self.grant,
            "custody": self.custody.to_string(),
        })
    }
}

impl InstanceFacts {
    fn to_json(&self) -> Value {
        match self {
            Self::Shared => json!({"kind": "shared"}),
            Self::Process { pid, start_time, parent_serial, executable_sha256 } => json!({
                "kind": "process",
                "pid": pid,
                "start_time": start_time.to_string(),
                "parent_serial": parent_serial,
                "executable_sha256": executable_sha256.map(hex::encode),
            }),
        }
    }
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Contraindicated => "contraindicated",
        }
    }
}

impl KeyAct {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Opened => "opened",
            Self::Activated => "activated",
            Self::Retired => "retired",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
        }
    }
}

const FINDINGS_BYTES: usize = 40 * 1_024;
const WARNINGS_BYTES: usize = 12 * 1_024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The shapes, pinned: a change here is a change of what auditors read.
    #[test]
    fn every_type_has_its_final_shape() {
        let node = SpiffeId::parse("spiffe://example.org/spire/agent/assay/00").unwrap();
        let time = Time::from_unix_s(0);
        let shape = |data: Data, kind: &str, json: Value| {
            assert_eq!(data.kind(), kind);
            assert_eq!(data.to_json(), json, "{kind}");
        };
        shape(
            Data::Evidence(Evidence {
                purpose: Purpose::Refresh,
                face: Face::Native,
                nonce: Nonce::from_bytes([1; 32]),
                exporter_sha256: Some([2; 32]),
                ek_spki_sha256: None,
                ak_name: Some(vec![0, 11]),
                counters: Some(Counters {
                    reset_count: 1,
                    restart_count: 2,
                    clock: u64::MAX,
                    safe: true,
                }),
                items: vec![Item { media_type: "m".into(), size: u64::MAX, sha256: [3; 32] }],
            }),
            "evidence",
            json!({
                "purpose": "refresh", "face": "native", "nonce": "01".repeat(32),
                "exporter_sha256": "02".repeat(32), "ek_spki_sha256": null, "ak_name": "000b",
                "counters": {
                    "reset_count": 1, "restart_count": 2,
                    "clock": "18446744073709551615", "safe": true,
                },
                "items": [{
                    "media_type": "m", "size": "18446744073709551615",
                    "sha256": "03".repeat(32),
                }],
            }),
        );
        shape(
            Data::Result(Outcome {
                verdict: Verdict::Affirming,
                findings: Vec::new(),
                warnings: vec![Finding::new(
                    assay_evidence::reason::Reason::ClockUnsafe,
                    "c",
                    "f",
                    "e",
                    "s",
                )],
                not_checked: vec!["channel".to_owned()],
                profile: Some(("p".to_owned(), 1, [4; 32])),
                policy_sha256: Some([5; 32]),
                quoted_at: Some(time),
                expires_at: None,
                tee: None,
                tee_in_full: false,
            }),
            "result",
            json!({
                "verdict": "affirming", "findings": [], "findings_omitted": 0,
                "warnings": [{
                    "code": "clock-unsafe", "claim": "c", "found": "f", "expected": "e",
                    "source": "s",
                }],
                "warnings_omitted": 0, "not_checked": ["channel"],
                "profile": {"id": "p", "serial": "1", "sha256": "04".repeat(32)},
                "policy_sha256": "05".repeat(32),
                "quoted_at": "1970-01-01T00:00:00.000Z", "expires_at": null,
            }),
        );
        shape(
            Data::IssueX509(IssueX509 {
                serial: Serial::from_random([0; 16]),
                tbs_sha256: [6; 32],
                spki_sha256: [7; 32],
                not_before: time,
                not_after: time,
                entry_revision: Some(3),
                node: Some(node.clone()),
                instance: Some(InstanceFacts::Process {
                    pid: 1,
                    start_time: 2,
                    parent_serial: None,
                    executable_sha256: Some([8; 32]),
                }),
                grant: "workload",
                custody: CustodyClass::HwTpmCertified,
                authority: "a".to_owned(),
            }),
            "issue-x509",
            json!({
                "serial": format!("40{}", "00".repeat(15)),
                "tbs_sha256": "06".repeat(32), "spki_sha256": "07".repeat(32),
                "not_before": "1970-01-01T00:00:00.000Z",
                "not_after": "1970-01-01T00:00:00.000Z",
                "entry_revision": "3", "node": "spiffe://example.org/spire/agent/assay/00",
                "instance": {
                    "kind": "process", "pid": 1, "start_time": "2", "parent_serial": null,
                    "executable_sha256": "08".repeat(32),
                },
                "grant": "workload", "custody": "hw_tpm_certified", "authority": "a",
            }),
        );
        shape(
            Data::IssueJwt(IssueJwt {
                jti: "j".to_owned(),
                signing_input_sha256: [9; 32],
                aud: vec!["b".to_owned()],
                exp: time,
                kid: "k".to_owned(),
                entry_revision: None,
                node: None,
                grant: "workload",
                custody: CustodyClass::Software,
            }),
            "issue-jwt",
            json!({
                "jti": "j", "signing_input_sha256": "09".repeat(32), "aud": ["b"],
                "exp": "1970-01-01T00:00:00.000Z", "kid": "k", "entry_revision": null,
                "node": null, "grant": "workload", "custody": "software",
            }),
        );
        shape(
            Data::Admin(Admin {
                act: "node-ban",
                arguments: BTreeMap::from([("node".to_owned(), "00".to_owned())]),
            }),
            "admin",
            json!({"act": "node-ban", "arguments": {"node": "00"}}),
        );
        shape(
            Data::KeyEvent(KeyEvent {
                act: KeyAct::Created,
                authority: "a".to_owned(),
                spki_sha256: [10; 32],
                custody: CustodyClass::HwClaimed,
            }),
            "key-event",
            json!({
                "act": "created", "authority": "a", "spki_sha256": "0a".repeat(32),
                "custody": "hw_claimed",
            }),
        );
        assert_eq!(InstanceFacts::Shared.to_json(), json!({"kind": "shared"}));
    }
}
