//! `assay appraise tpm`: a quote with its logs, by profile and policy.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::appraise::measurements;
use crate::cli::appraise::measurements::ReferenceArgs;
use crate::cli::appraise::measurements::Said;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verify::tpm;

#[derive(Args, Debug)]
pub struct TpmAppraiseArgs {
    #[command(flatten)]
    verify: tpm::TpmArgs,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// Boot log
    #[arg(long, value_name = "FILE")]
    eventlog: Option<PathBuf>,
    /// IMA list
    #[arg(long, value_name = "FILE")]
    ima: Option<PathBuf>,
    /// Text that the log has only as a digest, such as `/proc/cmdline`; may be given again
    #[arg(long, value_name = "FILE")]
    preimage: Vec<PathBuf>,
    /// Signatures of the boot's registers, as `systemd-measure sign` writes them (`.pcrsig`)
    #[arg(long, value_name = "FILE")]
    pcrsig: Option<PathBuf>,
}

impl TpmAppraiseArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let reference = self.reference.read(&inputs)?;
        measurements::demand_tpm(&reference)?;
        let mut said = Said {
            log: self.eventlog.as_ref().map(|p| measured::read_log(&inputs, p)).transpose()?,
            list: self.ima.as_ref().map(|p| measured::read_list(&inputs, p)).transpose()?,
            tail: false,
            texts: measured::texts(&inputs, &self.preimage)?,
        };
        said.texts.extend(inputs.read_optional(self.pcrsig.as_ref())?);
        let now = input::at(self.verify.key.at);
        let (verified, evidence_id) = self.verify.verified(&inputs)?;
        let mut judgement = reference.judgement(evidence_id);
        let mut shown = json!({});
        match verified {
            Err(faults) => judgement.findings.extend(faults),
            Ok((claims, believed)) => {
                let known = measurements::known(&claims, believed.endorsement.as_ref());
                reference.judge_policy(&known, now, &mut judgement);
                judgement.claims = serde_json::to_value(&claims).unwrap_or_default();
                judgement.warnings.extend(claims.warnings().iter().cloned());
                judgement.not_checked.extend(claims.not_checked().iter().map(ToString::to_string));
                shown = reference.judge(&said, claims.registers(), now, &mut judgement);
            }
        }
        let mut answer = judgement.answer();
        measured::merge(&mut answer.json, shown);
        Ok(answer)
    }
}
