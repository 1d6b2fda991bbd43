//! `assay inspect eventlog`: a boot log parsed, replayed and graded. It decides nothing.

use std::path::PathBuf;

use assay_eventlog::Grade;
use assay_eventlog::Grades;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_eventlog::ima;
use assay_evidence::Finding;
use assay_evidence::Registers;
use assay_evidence::crypto;
use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::input::Inputs;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;

#[derive(Args, Debug)]
pub struct EventlogArgs {
    /// Log as the kernel gives it, or the log area of a CCEL; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Register values to hold it against: the text of `tpm2_pcrread`
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// IMA list of the same host: then register 10 is compared too
    #[arg(long, value_name = "FILE", requires = "pcrs")]
    ima: Option<PathBuf>,
    /// It is the log of a confidential machine, by measurement register
    #[arg(long)]
    ccel: bool,
    /// ACPI table `CCEL` that belongs to it
    #[arg(long, value_name = "FILE", requires = "ccel")]
    table: Option<PathBuf>,
    /// Text that the log has only as a digest, such as `/proc/cmdline`; may be given again
    #[arg(long, value_name = "FILE")]
    preimage: Vec<PathBuf>,
    /// List the events
    #[arg(long)]
    events: bool,
}

impl EventlogArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let bytes = measured::read_log(&inputs, &self.file)?;
        let table = inputs.read_optional(self.table.as_ref())?;
        let given =
            self.pcrs.as_ref().map(|path| measured::registers(&inputs, path)).transpose()?;
        let list = self.ima.as_ref().map(|path| measured::read_list(&inputs, path)).transpose()?;
        let texts = measured::texts(&inputs, &self.preimage)?;
        let preimages: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let evidence_id = crypto::sha256(&bytes);
        let parsed = match self.ccel {
            true => Log::parse_ccel(&bytes, table.as_deref()),
            false => Log::parse(&bytes),
        };
        let log = match parsed {
            Ok(log) => log,
            Err(error) => {
                return Ok(Verdict::refused(vec![error.finding()], evidence_id).answer());
            }
        };
        let grades = log.grade(&Grading { preimages: &preimages, ..Grading::INSPECT });
        let mut verdict = Verdict::of(grades.findings(), evidence_id);
        let mut quirks = grades.quirks();
        if let Some(given) = &given {
            compare(&log, given, list.as_deref(), &mut verdict, &mut quirks)?;
        }
        let facts = log.facts(&grades, &preimages);
        verdict.summary = format!(
            "{} events of a {} log, as it claims to be",
            log.event_count(),
            log.format().name()
        );
        let mut answer = verdict.answer();
        if answer.json.pointer("/reason").is_some_and(Value::is_null) {
            answer.text.push_str(&tree(&log, &grades, &facts, self.events));
        }
        let shown = json!({
            "format": log.format(),
            "banks": log.banks(),
            "events": log.event_count(),
            "registers": log.replay().registers(),
            "facts": facts,
            "grades": grades.counts(),
            "quirks": quirks,
        });
        measured::merge(&mut answer.json, shown);
        if self.events {
            let list = serde_json::to_value(log.views(&grades)).unwrap_or_default();
            measured::merge(&mut answer.json, json!({ "list": list }));
        }
        Ok(answer)
    }
}

/// A bank that the log lacks is a question that cannot be answered.
fn compare(
    log: &Log<'_>,
    given: &Registers,
    list: Option<&[u8]>,
    verdict: &mut Verdict,
    quirks: &mut Quirks,
) -> Result<(), Failure> {
    let elsewhere: &[u32] = match log.format() {
        assay_eventlog::Format::Ccel => &[],
        _ => &[ima::REGISTER],
    };
    let mut comparison = log.replay().compare(given, elsewhere, Quirks::ALL);
    if let Some(bank) = comparison.banks_missing.first() {
        return Err(Failure::new(format!("--pcrs: the log has no events in bank {bank}")));
    }
    if let Some(list) = list {
        comparison.not_checked.retain(|gap| !gap.contains("another log extends it"));
        let refusal = match ima::Inspection::of(list, Some(given)) {
            Ok(inspection) => inspection.refusal,
            Err(error) => Some(error),
        };
        verdict.faults.extend(refusal.map(|error| error.finding()));
    }
    let faults: Vec<Finding> = comparison.faults.iter().map(|fault| fault.finding()).collect();
    verdict.faults.extend(faults);
    verdict.not_checked.extend(comparison.not_checked);
    *quirks = quirks.union(comparison.quirks);
    Ok(())
}

/// By register, since order between registers is nobody's word.
fn tree(log: &Log<'_>, grades: &Grades, facts: &assay_eventlog::Facts, events: bool) -> String {
    let mut text = String::new();
    for (name, fact) in facts.iter() {
        let value = serde_json::to_string(fact.value()).unwrap_or_default();
        let shown: String = value.chars().take(160).collect();
        let more = if shown.len() < value.len() { " …" } else { "" };
        text.push_str(&format!("  {name:<28} {shown}{more}\n"));
    }
    for (bank, registers) in log.replay().registers().iter() {
        for (register, value) in registers {
            text.push_str(&format!("  pcr.{bank}.{register:<3} {}\n", value.to_hex()));
        }
    }
    if events {
        let mut views = log.views(grades);
        views.sort_by_key(|view| view.register);
        for view in views {
            let grade = match view.grade {
                Grade::Bound(_) => "bound",
                Grade::Known => "known",
                Grade::Opaque => "opaque",
            };
            let shown: String = view
                .text
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect();
            text.push_str(&format!(
                "  {:>3} {:>5} {:<16} {grade:<7} {shown}\n",
                view.register,
                view.index,
                view.class.name()
            ));
        }
    }
    text
}
