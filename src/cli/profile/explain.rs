//! `assay profile explain`: one log against one profile, event by event, with the stanza that would
//! admit what is refused.

use std::collections::BTreeSet;
use std::path::PathBuf;

use assay_eventlog::Log;
use assay_eventlog::ima::State;
use assay_evidence::Time;
use clap::Args;
use serde_json::json;

use crate::appraisal;
use crate::appraisal::Given;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::judgement::Judgement;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::reference::profile::Root;

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Profile: a file, or a folder with `profile.toml`
    #[arg(long, value_name = "PATH")]
    profile: PathBuf,
    /// Boot log; a CCEL where the profile's root is `tdx`
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Register values to hold it against; those of the log's own replay if left out
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// IMA list of the same host
    #[arg(long, value_name = "FILE")]
    ima: Option<PathBuf>,
    /// Text that the log has only as a digest, such as `/proc/cmdline`; may be given again
    #[arg(long, value_name = "FILE")]
    preimage: Vec<PathBuf>,
    /// Signatures of the boot's registers, as `systemd-measure sign` writes them (`.pcrsig`)
    #[arg(long, value_name = "FILE")]
    pcrsig: Option<PathBuf>,
    /// Candidate variant that counts for this host; may be given again
    #[arg(long, value_name = "NAME")]
    candidate: Vec<String>,
    /// Exit 0 also with warnings
    #[arg(long)]
    accept_warnings: bool,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

impl ExplainArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let loaded = measured::profile(&self.profile)?;
        let profile = &loaded.profile;
        let bytes = measured::read_log(&inputs, &self.log)?;
        let given =
            self.pcrs.as_ref().map(|path| measured::registers(&inputs, path)).transpose()?;
        let list = self.ima.as_ref().map(|path| measured::read_list(&inputs, path)).transpose()?;
        let mut texts = measured::texts(&inputs, &self.preimage)?;
        texts.extend(inputs.read_optional(self.pcrsig.as_ref())?);
        let preimages: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let mut parts = vec![bytes.as_slice()];
        parts.extend(list.as_deref());
        let mut judgement = Judgement {
            evidence_id: measured::evidence_id(&parts),
            accept_warnings: self.accept_warnings,
            ..Judgement::default()
        };
        let parsed = match profile.root {
            Root::Tdx => Log::parse_ccel(&bytes, None),
            Root::Tpm2 => Log::parse(&bytes),
            Root::Snp => return Err(Failure::new("a profile of root `snp` has no log to explain")),
        };
        let log = match parsed {
            Ok(log) => log,
            Err(error) => {
                judgement.findings.push(error.finding());
                return Ok(judgement.answer());
            }
        };
        let quoted = match given {
            Some(given) => given,
            None => {
                judgement.not_checked.push("quote: the values are the log's own".to_owned());
                appraisal::unsigned_values(profile, &log)
            }
        };
        let candidates: BTreeSet<String> = self.candidate.iter().cloned().collect();
        let now = input::at(self.at);
        let given = Given { quoted: &quoted, preimages: &preimages, candidates: &candidates, now };
        let measured = appraisal::appraise_log(profile, &log, &given);
        judgement.findings.extend(measured.findings.iter().cloned());
        judgement.warnings.extend(measured.warnings.iter().cloned());
        judgement.not_checked.extend(measured.not_checked.iter().cloned());
        let mut shown = json!({});
        match &list {
            Some(list) if self.pcrs.is_some() => {
                let lines = measured.facts.texts("boot.cmdline");
                let files = appraisal::appraise_ima(profile, &State::boot(0), list, &quoted, lines);
                shown = json!({
                    "ima": { "covered": files.covered, "beyond": files.beyond,
                             "policy": files.policy, "agent": files.agent },
                });
                judgement.findings.extend(files.findings);
                judgement.warnings.extend(files.warnings);
                judgement.not_checked.extend(files.not_checked);
            }
            Some(_) => judgement.not_checked.push("ima: no register values given".to_owned()),
            None if profile.needs_ima() => {
                judgement.not_checked.push("ima: no list given".to_owned());
            }
            None => {}
        }
        judgement.claims = json!({
            "facts": measured.facts,
            "profile": { "id": profile.id, "serial": profile.serial,
                         "sha256": hex::encode(profile.sha256) },
            "per_host": measured.per_host.iter().cloned()
                .collect::<std::collections::BTreeMap<String, String>>(),
        });
        let (json, text) = measured::explained(&measured);
        let mut answer = judgement.answer();
        measured::merge(&mut answer.json, json);
        measured::merge(&mut answer.json, shown);
        answer.text.push_str(&text);
        Ok(answer)
    }
}
