//! `assay inspect ima`: a list of measured files, replayed. It decides nothing.

use std::path::PathBuf;

use assay_eventlog::ima::Inspection;
use assay_evidence::crypto;
use clap::Args;

use crate::cli::input::Inputs;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;

#[derive(Args, Debug)]
pub struct ImaArgs {
    /// Binary or text list, told apart; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Register values to hold it against: the text of `tpm2_pcrread`
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
}

impl ImaArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let bytes = measured::read_list(&inputs, &self.file)?;
        let given =
            self.pcrs.as_ref().map(|path| measured::registers(&inputs, path)).transpose()?;
        let evidence_id = crypto::sha256(&bytes);
        let inspection = match Inspection::of(&bytes, given.as_ref()) {
            Ok(inspection) => inspection,
            Err(error) => {
                return Ok(Verdict::refused(vec![error.finding()], evidence_id).answer());
            }
        };
        let faults = inspection.refusal.iter().map(|error| error.finding()).collect();
        let mut verdict = Verdict::of(faults, evidence_id);
        verdict.warnings.extend(inspection.warnings.iter().cloned());
        if given.is_none() {
            verdict.not_checked.push("covered: no register values given".to_owned());
        }
        verdict.summary = format!(
            "{} entries, {} violations, templates {}",
            inspection.entries,
            inspection.violations,
            inspection.templates.join(", ")
        );
        let mut answer = verdict.answer();
        let mut shown = serde_json::to_value(&inspection).unwrap_or_default();
        if let Some(object) = shown.as_object_mut() {
            object.remove("warnings");
            if let Some(templates) = object.get("templates").cloned() {
                object.insert("template".to_owned(), templates);
            }
        }
        measured::merge(&mut answer.json, shown);
        Ok(answer)
    }
}
