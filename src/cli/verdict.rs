//! What the offline commands answer about evidence, in the one shape that all of them share.
//!
//! A refusal comes first and whole: each fault with what was found and what was expected. Claims
//! are told only of evidence that held.

use assay_evidence::Finding;
use assay_evidence::Reason;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::output::AFFIRMED;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::REFUSED;
use crate::cli::output::printable;

/// What was established, or why nothing was.
pub struct Verdict {
    /// Most decisive first; genuine when empty.
    pub faults: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
    /// An object, told only without faults.
    pub claims: Map<String, Value>,
    /// SHA-256 over the canonical signed bytes.
    pub evidence_id: [u8; 32],
    /// The first line of the text of genuine evidence.
    pub summary: String,
}

impl Verdict {
    pub fn genuine(
        summary: impl Into<String>,
        claims: Map<String, Value>,
        evidence_id: [u8; 32],
    ) -> Verdict {
        let summary = summary.into();
        Verdict { claims, summary, ..Verdict::of(Vec::new(), evidence_id) }
    }

    /// What an attestor established; the gaps that it lists among its claims have a place of their
    /// own here.
    pub fn established(
        summary: impl Into<String>,
        established: &impl Serialize,
        not_checked: &[&'static str],
        evidence_id: [u8; 32],
    ) -> Result<Verdict, Failure> {
        let mut object = claims(established)?;
        object.remove("not_checked");
        Ok(Verdict {
            not_checked: not_checked.iter().map(|gap| (*gap).to_owned()).collect(),
            ..Verdict::genuine(summary, object, evidence_id)
        })
    }

    /// A refusal has a fault. Should the code that looks for it find none, the fault is ours, and
    /// the evidence is not genuine for that.
    pub fn refused(mut faults: Vec<Finding>, evidence_id: [u8; 32]) -> Verdict {
        if faults.is_empty() {
            let (found, expected) = ("refused without a reason", "a reason");
            faults.push(Finding::new(Reason::Internal, "verdict", found, expected, "this program"));
        }
        Verdict::of(faults, evidence_id)
    }

    /// Genuine where there are no faults.
    pub fn of(faults: Vec<Finding>, evidence_id: [u8; 32]) -> Verdict {
        Verdict {
            faults,
            warnings: Vec::new(),
            not_checked: Vec::new(),
            claims: Map::new(),
            evidence_id,
            summary: String::new(),
        }
    }

    pub fn answer(self) -> Answer {
        let reason = self.faults.first().map(|fault| fault.code);
        let verdict = word(reason);
        let claims =
            if reason.is_none() { Value::Object(self.claims.clone()) } else { Value::Null };
        let (faults, warnings) = (&self.faults, &self.warnings);
        let json = object(verdict, faults, claims, warnings, &self.not_checked, &self.evidence_id);
        let exit = if reason.is_none() { AFFIRMED } else { REFUSED };
        Answer { json, text: self.text(verdict), exit }
    }

    fn text(&self, verdict: &str) -> String {
        let mut text = String::new();
        if self.faults.is_empty() {
            text.push_str(&format!("{verdict}: {}\n", self.summary));
            for (claim, value) in flat(&self.claims) {
                text.push_str(&format!("  {claim:<28} {}\n", printable(&value)));
            }
        }
        text + &findings_text(verdict, &self.faults, &self.warnings, &self.not_checked)
    }
}

/// The members that every answer about evidence has.
pub fn object(
    verdict: &str,
    faults: &[Finding],
    claims: Value,
    warnings: &[Finding],
    not_checked: &[String],
    evidence_id: &[u8; 32],
) -> Value {
    json!({
        "verdict": verdict,
        "reason": faults.first().map(|fault| fault.code),
        "reasons": faults,
        "claims": claims,
        "warnings": warnings,
        "not_checked": not_checked,
        "evidence_id": hex::encode(evidence_id),
    })
}

/// Faults, each under `word`; then warnings, gaps, and one remedy per kind of fault.
pub fn findings_text(
    word: &str,
    faults: &[Finding],
    warnings: &[Finding],
    not_checked: &[String],
) -> String {
    let mut text = String::new();
    for fault in faults {
        text.push_str(&format!("{word}: {}\n", told(fault)));
    }
    for warning in warnings {
        text.push_str(&format!("warning: {}\n", told(warning)));
    }
    for gap in not_checked {
        text.push_str(&format!("  not checked: {gap}\n"));
    }
    let mut hints: Vec<&str> = Vec::new();
    for fault in faults {
        if !hints.contains(&fault.code.remedy()) {
            hints.push(fault.code.remedy());
        }
    }
    for hint in hints {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// One fault as it stands in a terminal.
fn told(finding: &Finding) -> String {
    let Finding { code, claim, found, expected, source } = finding;
    let (found, expected) = (printable(found), printable(expected));
    format!(
        "{code}\n  {claim}\n    found     {found}\n    expected  {expected}\n    by        {source}"
    )
}

/// `genuine` without a reason; evidence that cannot even be read is `malformed`.
fn word(reason: Option<Reason>) -> &'static str {
    match reason {
        None => "genuine",
        Some(reason) if is_of_shape(reason) => "malformed",
        Some(_) => "refused",
    }
}

fn is_of_shape(reason: Reason) -> bool {
    let size = matches!(reason, Reason::TrailingBytes | Reason::EvidenceTooLarge);
    size || reason.code().ends_with("malformed")
}

/// Any serialisable claims as a JSON object.
pub fn claims(value: &impl Serialize) -> Result<Map<String, Value>, Failure> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Failure::new("the claims cannot be written as JSON")),
    }
}

/// Every leaf of the claims with its path, in the order they came.
fn flat(claims: &Map<String, Value>) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for (name, value) in claims {
        descend(name, value, &mut lines);
    }
    lines
}

fn descend(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                descend(&format!("{path}.{name}"), value, lines);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                descend(&format!("{path}[{index}]"), item, lines);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(bare).collect();
            lines.push((path.to_owned(), items.join(" ")));
        }
        other => lines.push((path.to_owned(), bare(other))),
    }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: Reason) -> Finding {
        Finding::new(code, "pcr.sha256.7", "aa", "bb", "profile `x` line 3")
    }

    #[test]
    fn a_refusal_is_told_first_and_claims_are_kept_back() {
        let mut verdict = Verdict::refused(vec![fault(Reason::NonceMismatch)], [0; 32]);
        verdict.claims.insert("debug".to_owned(), json!(true));
        let answer = verdict.answer();
        assert_eq!(answer.exit, REFUSED);
        assert!(answer.text.starts_with("refused: nonce-mismatch\n"), "{}", answer.text);
        assert_eq!(answer.json["claims"], Value::Null);
        assert_eq!(answer.json["reason"], "nonce-mismatch");
    }

    #[test]
    fn what_cannot_be_read_is_malformed() {
        for (code, word) in
            [(Reason::TpmMalformed, "malformed"), (Reason::TrailingBytes, "malformed")]
        {
            let answer = Verdict::refused(vec![fault(code)], [0; 32]).answer();
            assert_eq!((answer.json["verdict"].as_str(), answer.exit), (Some(word), REFUSED));
        }
    }

    #[test]
    fn a_refusal_without_a_fault_is_ours_and_never_genuine() {
        let answer = Verdict::refused(Vec::new(), [0; 32]).answer();
        assert_eq!((answer.json["reason"].as_str(), answer.exit), (Some("internal"), REFUSED));
    }

    #[test]
    fn what_evidence_says_cannot_write_on_the_terminal() {
        let told =
            told(&Finding::new(Reason::EkProfile, "ek", "\u{1b}[2J\ngenuine: yes", "-", "-"));
        assert!(!told.contains('\u{1b}') && !told.contains("\ngenuine"), "{told}");
    }

    #[test]
    fn claims_are_printed_by_their_path() {
        let Ok(Value::Object(claims)) =
            serde_json::from_str(r#"{"ak":{"trust":"caller","n":[1,2]}}"#)
        else {
            unreachable!()
        };
        let lines = flat(&claims);
        assert_eq!(lines[0], ("ak.n".to_owned(), "1 2".to_owned()));
        assert_eq!(lines[1], ("ak.trust".to_owned(), "caller".to_owned()));
    }
}
