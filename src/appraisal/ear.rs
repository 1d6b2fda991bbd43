//! An appraisal's result as an EAR (draft-ietf-rats-ear-04): the claims set that other relying
//! parties read.
//!
//! The verdict is the status. The trustworthiness vector says no more than the appraisal does: a
//! finding gives its element a value of the tier it deserves, and only what was verified is
//! affirmed; everything else is left out, which means "no claim". The status is never better than
//! the worst element.

use std::collections::BTreeMap;

use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use serde_json::Value;
use serde_json::json;

/// What was appraised, and what came of it.
#[derive(Debug, Clone, Default)]
pub struct Appraised {
    /// `tpm`, `snp`, `tdx`, …: the name of the submodule.
    pub label: String,
    /// As `assay appraise` says it.
    pub verdict: String,
    pub reasons: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
    /// Nothing where evidence was refused.
    pub claims: Value,
    pub evidence_id: String,
    /// Who decided: profile and serial, policy.
    pub policies: Vec<String>,
}

/// The claims set, as JSON. `issued` is when this result is given, which may be long after the
/// appraisal.
pub fn claims_set(appraised: &Appraised, issued: Time) -> Value {
    let vector = vector(appraised);
    let worst = vector.values().copied().max().map_or(Tier::None, Tier::of);
    let status = Tier::of_verdict(&appraised.verdict).max(worst);
    let mut appraisal = json!({
        "ear_status": status.name(),
        "ear_trustworthiness_vector": vector,
        "ear_verifier_claims": {
            "evidence_id": appraised.evidence_id,
            "reasons": appraised.reasons,
            "warnings": appraised.warnings,
            "not_checked": appraised.not_checked,
        },
    });
    if let Some(object) = appraisal.as_object_mut() {
        if !appraised.policies.is_empty() {
            object.insert("ear_appraisal_policy_ids".to_owned(), json!(appraised.policies));
        }
        if appraised.claims.is_object() {
            object.insert("ear_attester_claims".to_owned(), appraised.claims.clone());
        }
    }
    json!({
        "eat_profile": PROFILE,
        "iat": issued.unix_s(),
        "ear_verifier_id": {
            "developer": "Assay",
            "build": concat!("assay ", env!("CARGO_PKG_VERSION")),
        },
        "ear_status": status.name(),
        "submods": { appraised.label.as_str(): appraisal },
    })
}

/// Trustworthiness tiers, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Affirming,
    None,
    Warning,
    Contraindicated,
}

impl Tier {
    /// Of a value of AR4SI (draft-ietf-rats-ar4si §2.3).
    const fn of(value: i64) -> Self {
        match value {
            2..=31 => Self::Affirming,
            32..=95 => Self::Warning,
            96..=127 => Self::Contraindicated,
            _ => Self::None,
        }
    }

    fn of_verdict(verdict: &str) -> Self {
        match verdict {
            "affirming" => Self::Affirming,
            "warning" => Self::Warning,
            "contraindicated" => Self::Contraindicated,
            _ => Self::None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Affirming => "affirming",
            Self::None => "none",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }
}

fn vector(appraised: &Appraised) -> BTreeMap<&'static str, i64> {
    let mut vector = BTreeMap::new();
    if appraised.reasons.is_empty() {
        affirmed(&appraised.claims, &mut vector);
    }
    let warned = appraised.warnings.iter().filter_map(|finding| element(finding.code));
    for (name, value) in warned {
        // Borne, not refused: never worse than a warning.
        worsen(&mut vector, name, value.min(WARNING));
    }
    for (name, value) in appraised.reasons.iter().filter_map(|finding| element(finding.code)) {
        worsen(&mut vector, name, value);
    }
    vector
}

fn worsen(vector: &mut BTreeMap<&'static str, i64>, name: &'static str, value: i64) {
    let known = vector.entry(name).or_insert(value);
    *known = (*known).max(value);
}

/// What evidence that passed has shown.
fn affirmed(claims: &Value, vector: &mut BTreeMap<&'static str, i64>) {
    let text = |pointer: &str| claims.pointer(pointer).and_then(Value::as_str);
    if claims.pointer("/profile/id").is_some() {
        vector.insert(EXECUTABLES, APPROVED_BOOT);
    }
    // A report of a confidential machine, up to its vendor's own root.
    if matches!(text("/root"), Some("amd" | "intel")) {
        vector.insert(HARDWARE, GENUINE);
        if claims.pointer("/debug") == Some(&Value::Bool(false)) {
            vector.insert(RUNTIME_OPAQUE, ENCRYPTED);
        }
    }
}

/// The element that a fault speaks of, and how bad it is. Nothing for a fault of the conversation.
fn element(code: Reason) -> Option<(&'static str, i64)> {
    use Reason::*;
    Some(match code {
        RegisterMismatch
        | EventUnexpected
        | SnpMeasurementUnknown
        | SnpIdentityUnknown
        | EventTextUnknown => (EXECUTABLES, UNRECOGNISED),
        VariantRevoked => (EXECUTABLES, CONTRAINDICATED),
        ImaFileUnknown | ImaAgentUnknown => (EXECUTABLES, UNRECOGNISED),
        ImaViolation | ImaBlind | ImaPolicyUnproven => (FILE_SYSTEM, WARNING),
        SnpGuestPolicyDebug | TdDebug | NitroDebugMode => (RUNTIME_OPAQUE, CONTRAINDICATED),
        ClaimMismatch
        | CommandLine
        | SnpGuestPolicyMigrateMa
        | SnpGuestPolicyWeak
        | SnpPlatform
        | VmplNotAllowed
        | TdSeptVeDisableOff
        | ServiceTd
        | TdMigratable
        | TdAttributesUnknown
        | PcrBankWeak => (CONFIGURATION, CONTRAINDICATED),
        EkChainUntrusted | EkChainInvalid | RootNotTrusted | RootOperatorSupplied | ChainBroken
        | ChainMissing | VekNotSignedByAmd | TpmClassNotAllowed => (HARDWARE, UNKNOWN_HARDWARE),
        TpmFirmwareVulnerable
        | SnpTcbBelowFloor
        | SnpFirmwareBelowFloor
        | SnpMitigationMissing
        | SnpGenerationTier
        | TcbStatusNotAllowed
        | TcbOutOfDate
        | CertRevoked
        | EkRevoked
        | KeyRoca => (HARDWARE, CONTRAINDICATED),
        SigInvalid
        | ReportSignatureInvalid
        | QuoteSignatureInvalid
        | QeReportSignatureInvalid
        | DocumentSignatureInvalid
        | PcrDigestMismatch
        | LogReplayMismatch => (INSTANCE_IDENTITY, CRYPTOGRAPHIC_FAILURE),
        PlatformNotAllowed | ChipIdMasked => (INSTANCE_IDENTITY, UNKNOWN_INSTANCE),
        _ => return None,
    })
}

const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";
const INSTANCE_IDENTITY: &str = "instance-identity";
const CONFIGURATION: &str = "configuration";
const EXECUTABLES: &str = "executables";
const FILE_SYSTEM: &str = "file-system";
const HARDWARE: &str = "hardware";
const RUNTIME_OPAQUE: &str = "runtime-opaque";
const GENUINE: i64 = 2;
const ENCRYPTED: i64 = 2;
const APPROVED_BOOT: i64 = 3;
const WARNING: i64 = 32;
const UNRECOGNISED: i64 = 33;
const CONTRAINDICATED: i64 = 96;
const UNKNOWN_HARDWARE: i64 = 97;
const UNKNOWN_INSTANCE: i64 = 97;
const CRYPTOGRAPHIC_FAILURE: i64 = 99;

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: Reason) -> Finding {
        Finding::new(code, "c", "f", "e", "s")
    }

    fn set(verdict: &str, reasons: &[Reason], claims: Value) -> Value {
        let appraised = Appraised {
            label: "tpm".to_owned(),
            verdict: verdict.to_owned(),
            reasons: reasons.iter().map(|code| finding(*code)).collect(),
            claims,
            ..Appraised::default()
        };
        claims_set(&appraised, Time::from_unix_s(1_800_000_000))
    }

    #[test]
    fn the_status_is_never_better_than_the_worst_element() {
        let good = set("affirming", &[], json!({ "profile": { "id": "acme/web" } }));
        assert_eq!(good["ear_status"], "affirming");
        assert_eq!(good["submods"]["tpm"]["ear_trustworthiness_vector"]["executables"], 3);
        for code in Reason::ALL {
            let bad = set("contraindicated", &[*code], Value::Null);
            assert_eq!(bad["ear_status"], "contraindicated", "{code}");
            // Even if somebody wrote a better verdict beside the fault.
            let lied = set("affirming", &[*code], json!({ "profile": { "id": "x" } }));
            let worst = lied["submods"]["tpm"]["ear_trustworthiness_vector"].as_object();
            let worst = worst.into_iter().flat_map(|v| v.values()).filter_map(Value::as_i64).max();
            if worst.is_some_and(|worst| worst >= 32) {
                assert_ne!(lied["ear_status"], "affirming", "{code}");
            }
        }
    }

    #[test]
    fn a_vector_affirms_nothing_that_was_not_shown() {
        let bare = set("affirming", &[], json!({ "registers": {} }));
        assert_eq!(bare["submods"]["tpm"]["ear_trustworthiness_vector"], json!({}));
        let refused =
            set("contraindicated", &[Reason::SigInvalid], json!({ "profile": { "id": "x" } }));
        let vector = &refused["submods"]["tpm"]["ear_trustworthiness_vector"];
        assert_eq!(vector, &json!({ "instance-identity": 99 }));
    }
}
