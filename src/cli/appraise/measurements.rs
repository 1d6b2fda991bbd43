//! The part of a judgement that is about measured state, for every kind of evidence.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_eventlog::ima;
use assay_eventlog::ima::State;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Registers;
use assay_evidence::Time;
use assay_tpm::Claims;
use assay_tpm::endorsement::EkRoot;
use assay_tpm::endorsement::EndorsementCertificate;
use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::appraisal;
use crate::appraisal::FilesHeard;
use crate::appraisal::Given;
use crate::appraisal::KnownTpm;
use crate::cli::input::Inputs;
use crate::cli::judgement::Judgement;
use crate::cli::measured;
use crate::cli::output::Failure;
use crate::policy::Policy;
use crate::reference::Profile;
use crate::reference::ek_roots;
use crate::reference::files::Loaded;
use crate::reference::profile::Root;

/// What to judge by.
#[derive(Args, Debug)]
pub struct ReferenceArgs {
    /// Profile: a file, or a folder with `profile.toml`
    #[arg(long, value_name = "PATH")]
    pub profile: Option<PathBuf>,
    /// Policy; the strict default if left out
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Candidate variant that counts for this host; may be given again
    #[arg(long, value_name = "NAME")]
    pub candidate: Vec<String>,
    /// Exit 0 also with warnings
    #[arg(long)]
    pub accept_warnings: bool,
}

/// The same, read.
pub struct Reference {
    loaded: Option<Loaded>,
    policy: Policy,
    candidates: BTreeSet<String>,
    accept_warnings: bool,
}

/// What a host said of itself beside its registers.
#[derive(Default)]
pub struct Said {
    pub log: Option<Vec<u8>>,
    pub list: Option<Vec<u8>>,
    /// The list goes on from another, as one round of a service saw it. Only that service knows how
    /// far it had come, so a tail is not judged here.
    pub tail: bool,
    pub texts: Vec<Vec<u8>>,
}

impl ReferenceArgs {
    pub fn read(&self, inputs: &Inputs) -> Result<Reference, Failure> {
        let loaded = self.profile.as_deref().map(measured::profile).transpose()?;
        let policy = match &self.policy {
            Some(path) => policy(inputs, path)?,
            None => Policy::parse("").map_err(|error| Failure::new(error.to_string()))?,
        };
        let candidates = self.candidate.iter().cloned().collect();
        Ok(Reference { loaded, policy, candidates, accept_warnings: self.accept_warnings })
    }
}

/// A policy, and the list of advisories that it may name beside it.
fn policy(inputs: &Inputs, path: &Path) -> Result<Policy, Failure> {
    let text = String::from_utf8(inputs.read(path)?)
        .map_err(|_| Failure::new(format!("`{}` is no text", path.display())))?;
    let list = |named: &Path| {
        let beside = path.parent().unwrap_or(Path::new(".")).join(named);
        let bytes = inputs.read(&beside).map_err(|failure| failure.message)?;
        String::from_utf8(bytes).map_err(|_| "no text".to_owned())
    };
    Policy::parse_with(&text, list)
        .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))
}

/// What a genuine quote and a verified EK certificate show of the TPM. A root that ships says the
/// class; one given by hand alone says none.
pub fn known(claims: &Claims, endorsement: Option<&EndorsementCertificate>) -> KnownTpm {
    let class = endorsement.and_then(|certificate| {
        let root = certificate.root_sha256();
        let of = |shipped: &EkRoot| shipped.certificate.sha256() == *root;
        let packs = ek_roots::shipped().iter().filter(|pack| pack.is_of_endorsement_keys());
        packs.flat_map(|pack| pack.ek_roots()).find(of).map(|root| root.class)
    });
    KnownTpm {
        class,
        device: endorsement.map(|certificate| certificate.device().clone()),
        firmware_version: claims.firmware_version(),
    }
}

impl Reference {
    pub fn needs_ima(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| loaded.profile.needs_ima())
    }

    pub fn judgement(&self, evidence_id: [u8; 32]) -> Judgement {
        Judgement { evidence_id, accept_warnings: self.accept_warnings, ..Judgement::default() }
    }

    /// What the policy says of a TPM; what no file shows goes to `not_checked`.
    pub fn judge_policy(&self, known: &KnownTpm, now: Time, judgement: &mut Judgement) {
        let judged = appraisal::appraise_policy(known, &self.policy, now);
        judgement.findings.extend(judged.findings);
        judgement.warnings.extend(judged.warnings);
        judgement.not_checked.extend(judged.not_checked);
    }

    /// Judges what was said, against signed `quoted` values; gives what to show beside.
    pub fn judge(
        &self,
        said: &Said,
        quoted: &Registers,
        now: Time,
        judgement: &mut Judgement,
    ) -> Value {
        let profile = self.loaded.as_ref().map(|loaded| &loaded.profile);
        let mut shown = json!({});
        let Some(profile) = profile else {
            judgement.not_checked.push("profile: none given, so no reference values".to_owned());
            without_profile(said, quoted, judgement);
            return shown;
        };
        let preimages: Vec<&[u8]> = said.texts.iter().map(Vec::as_slice).collect();
        let given = Given { quoted, preimages: &preimages, candidates: &self.candidates, now };
        if said.tail {
            judgement.not_checked.push(TAIL.to_owned());
        }
        let mut facts = json!({});
        let mut lines: Vec<String> = Vec::new();
        let logs = appraisal::Logs {
            eventlog: said.log.as_deref(),
            ima: said.list.as_deref().filter(|_| !said.tail).map(|list| {
                let mut files = FilesHeard::begin(profile, &State::boot(0), quoted);
                files.hear(list);
                files
            }),
        };
        let judged = appraisal::appraise_logs(profile, logs, &given, &mut |measured| {
            let (json, _) = measured::explained(measured);
            shown = json;
            facts = json!(measured.facts);
            lines = measured.facts.texts("boot.cmdline").to_vec();
        });
        judgement.findings.extend(judged.findings);
        judgement.warnings.extend(judged.warnings);
        judgement.not_checked.extend(judged.not_checked);
        if let Some(object) = judgement.claims.as_object_mut() {
            object.insert("facts".to_owned(), facts);
            object.insert("profile".to_owned(), named(profile));
            object.insert(
                "ima".to_owned(),
                json!({ "covered": judged.ima_covered, "policy": judged.policy,
                        "agent": judged.agent }),
            );
        }
        shown
    }
}

fn named(profile: &Profile) -> Value {
    json!({ "id": profile.id, "serial": profile.serial, "sha256": hex::encode(profile.sha256) })
}

/// Without reference values: an honest log that leads to the quote, and a list that does.
fn without_profile(said: &Said, quoted: &Registers, judgement: &mut Judgement) {
    match said.log.as_deref().map(Log::parse) {
        None => judgement.not_checked.push("eventlog: none given".to_owned()),
        Some(Err(error)) => judgement.findings.push(error.finding()),
        Some(Ok(log)) => {
            if !log.decides() {
                judgement.findings.push(Finding::new(
                    Reason::PcrBankWeak,
                    "eventlog.format",
                    log.format().name(),
                    "a log with a bank as strong as sha256",
                    "the default policy",
                ));
            }
            judgement.findings.extend(log.grade(&Grading::INSPECT).findings());
            let elsewhere = [ima::REGISTER];
            let comparison = log.replay().compare(quoted, &elsewhere, Quirks::ALL);
            judgement.findings.extend(comparison.findings());
            judgement.not_checked.extend(comparison.not_checked);
        }
    }
    let Some(list) = said.list.as_ref().filter(|_| !said.tail) else {
        judgement.not_checked.push(if said.tail { TAIL } else { "ima: none given" }.to_owned());
        return;
    };
    match ima::Inspection::of(list, Some(quoted)) {
        Err(error) => judgement.findings.push(error.finding()),
        Ok(inspection) => {
            judgement.findings.extend(inspection.refusal.iter().map(|error| error.finding()));
            judgement.warnings.extend(inspection.warnings);
            if inspection.violations > 0 {
                judgement.findings.push(Finding::new(
                    Reason::ImaViolation,
                    "ima.violations",
                    inspection.violations.to_string(),
                    "0",
                    "the default policy",
                ));
            }
        }
    }
}

/// Whether the profile's log is a CCEL, which a TPM's quote cannot stand behind.
pub fn demand_tpm(reference: &Reference) -> Result<(), Failure> {
    match reference.loaded.as_ref().map(|loaded| loaded.profile.root) {
        None | Some(Root::Tpm2) => Ok(()),
        Some(other) => {
            let found = other.name();
            Err(Failure::new(format!("--profile is of root `{found}`, expected `tpm2`")))
        }
    }
}

const TAIL: &str = "ima: the list goes on from another, and only its service knows how far that was \
                    judged";
