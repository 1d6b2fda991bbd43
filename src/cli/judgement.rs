//! What the offline commands answer when they judge: whether evidence is acceptable, and by what not.

use assay_evidence::Finding;
use serde_json::Value;

use crate::cli::output::AFFIRMED;
use crate::cli::output::Answer;
use crate::cli::output::REFUSED;
use crate::cli::verdict;

/// A judgement: `affirming`, `warning` or `contraindicated`.
#[derive(Default)]
pub struct Judgement {
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    pub not_checked: Vec<String>,
    pub claims: Value,
    pub evidence_id: [u8; 32],
    pub accept_warnings: bool,
}

impl Judgement {
    pub fn verdict(&self) -> &'static str {
        match (self.findings.is_empty(), self.warnings.is_empty()) {
            (false, _) => "contraindicated",
            (true, false) => "warning",
            (true, true) => "affirming",
        }
    }

    pub fn answer(self) -> Answer {
        let verdict = self.verdict();
        let claims = if self.findings.is_empty() { self.claims } else { Value::Null };
        let (findings, warnings) = (&self.findings, &self.warnings);
        let (gaps, id) = (&self.not_checked, &self.evidence_id);
        let json = verdict::object(verdict, findings, claims, warnings, gaps, id);
        let told = verdict::findings_text("refused", findings, warnings, gaps);
        let passes = match verdict {
            "affirming" => true,
            "warning" => self.accept_warnings,
            _ => false,
        };
        let exit = if passes { AFFIRMED } else { REFUSED };
        Answer { json, text: format!("{verdict}\n{told}"), exit }
    }
}

#[cfg(test)]
mod tests {
    use assay_evidence::Reason;

    use super::*;

    #[test]
    fn what_evidence_says_cannot_write_on_the_terminal_here_either() {
        let forged = "\u{1b}[2J\naffirming";
        let finding = Finding::new(Reason::RegisterMismatch, "boot.cmdline", forged, "-", "-");
        let judgement = Judgement { findings: vec![finding], ..Judgement::default() };
        let text = judgement.answer().text;
        assert!(!text.contains('\u{1b}') && !text.contains("\naffirming"), "{text}");
    }
}
