//! `assay appraise snp|tdx|nitro|azure`: authentic first, then judged by the tables of a policy.
//!
//! Without `--policy` the strict default decides. A genuine debug guest is genuine, and refused
//! here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use assay_evidence::Finding;
use clap::Args;
use serde_json::Value;

use crate::appraisal;
use crate::appraisal::JudgedLogs;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::judgement::Judgement;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::cli::verify::azure;
use crate::cli::verify::azure::Platform;
use crate::cli::verify::nitro;
use crate::cli::verify::snp;
use crate::cli::verify::tdx;
use crate::cli::verify::tdx::Attester;
use crate::policy::Confidential;
use crate::reference::Profile;

/// What to judge by.
#[derive(Args, Debug)]
pub struct PolicyArgs {
    /// Policy with tables `[snp]`, `[tdx]`, `[nitro]`; the strict default if left out
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Exit 0 also with warnings
    #[arg(long)]
    accept_warnings: bool,
}

/// Reference values of what was launched.
#[derive(Args, Debug)]
pub struct LaunchArgs {
    /// Profile of root `snp` or `tdx`: a file, or a folder with `profile.toml`
    #[arg(long, value_name = "PATH")]
    profile: Option<PathBuf>,
    /// Candidate variant that counts for this machine; may be given again
    #[arg(long, value_name = "NAME", requires = "profile")]
    candidate: Vec<String>,
}

#[derive(Args, Debug)]
pub struct AppraiseSnpArgs {
    #[command(flatten)]
    verify: snp::SnpArgs,
    #[command(flatten)]
    launch: LaunchArgs,
    #[command(flatten)]
    by: PolicyArgs,
}

#[derive(Args, Debug)]
pub struct AppraiseTdxArgs {
    #[command(flatten)]
    verify: tdx::TdxArgs,
    #[command(flatten)]
    launch: LaunchArgs,
    /// Boot log of the trust domain (CCEL), where the profile decides RTMRs by it
    #[arg(long, value_name = "FILE", requires = "profile")]
    eventlog: Option<PathBuf>,
    #[command(flatten)]
    by: PolicyArgs,
}

#[derive(Args, Debug)]
pub struct AppraiseNitroArgs {
    #[command(flatten)]
    verify: nitro::NitroArgs,
    #[command(flatten)]
    by: PolicyArgs,
}

#[derive(Args, Debug)]
pub struct AppraiseAzureArgs {
    #[command(flatten)]
    verify: azure::AzureArgs,
    #[command(flatten)]
    by: PolicyArgs,
}

impl LaunchArgs {
    /// The profile, and the names of candidates that count.
    fn read(&self) -> Result<Option<(Profile, BTreeSet<String>)>, Failure> {
        let Some(path) = &self.profile else { return Ok(None) };
        let candidates = self.candidate.iter().cloned().collect();
        Ok(Some((measured::profile(path)?.profile, candidates)))
    }
}

impl PolicyArgs {
    fn read(&self, inputs: &Inputs) -> Result<Confidential, Failure> {
        let Some(path) = &self.policy else { return Ok(Confidential::default()) };
        let text = String::from_utf8(inputs.read(path)?)
            .map_err(|_| Failure::new(format!("`{}` is no text", path.display())))?;
        Confidential::parse(&text)
            .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))
    }

    /// Adds what reference values say to what the policy says.
    fn judge_launched(
        &self,
        mut genuine: Verdict,
        mut findings: Vec<Finding>,
        launched: Option<JudgedLogs>,
    ) -> Answer {
        if let Some(launched) = launched {
            findings.extend(launched.findings);
            genuine.warnings.extend(launched.warnings);
            genuine.not_checked.extend(launched.not_checked);
        }
        self.judge(genuine, findings)
    }

    /// Of genuine evidence, with everything that the policy does not allow.
    fn judge(&self, genuine: Verdict, findings: Vec<Finding>) -> Answer {
        let judgement = Judgement {
            findings,
            warnings: genuine.warnings,
            not_checked: genuine.not_checked,
            claims: Value::Object(genuine.claims),
            evidence_id: genuine.evidence_id,
            accept_warnings: self.accept_warnings,
        };
        judgement.answer()
    }

    /// What is not genuine is not acceptable, whatever the policy.
    fn refuse(&self, faults: Vec<Finding>, evidence_id: [u8; 32]) -> Answer {
        self.judge(Verdict::of(Vec::new(), evidence_id), faults)
    }
}

impl AppraiseSnpArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let policy = self.by.read(&inputs)?;
        let reference = self.launch.read()?;
        let now = input::at(self.verify.at);
        Ok(match self.verify.verified(&inputs)? {
            (Ok(claims), _) => {
                let findings = assay_snp::appraise(&claims, &policy.snp);
                let launched = reference.map(|(profile, candidates)| {
                    appraisal::appraise_launch(&profile, &claims, &candidates, now)
                });
                self.by.judge_launched(snp::genuine(&claims)?, findings, launched)
            }
            (Err(faults), evidence_id) => self.by.refuse(faults.findings(), evidence_id),
        })
    }
}

impl AppraiseTdxArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let policy = self.by.read(&inputs)?.tdx;
        let reference = self.launch.read()?;
        let log = self.eventlog.as_ref().map(|path| measured::read_log(&inputs, path));
        let log = log.transpose()?;
        let now = input::at(self.verify.at);
        Ok(match self.verify.verified(&inputs, policy.collateral_grace())? {
            (Ok(attester), _) => {
                let findings = attester.appraise(&policy);
                let launched = match (reference, &attester) {
                    (None, _) => None,
                    (Some((profile, candidates)), Attester::Domain(claims)) => {
                        let (log, to) = (log.as_deref(), &candidates);
                        let judged = appraisal::appraise_trust_domain;
                        Some(judged(&profile, claims, log, &[], to, now))
                    }
                    (Some(_), Attester::Enclave(_)) => {
                        let text = "--profile: an enclave's quote is of no trust domain";
                        return Err(Failure::new(text));
                    }
                };
                self.by.judge_launched(attester.genuine()?, findings, launched)
            }
            (Err(faults), evidence_id) => self.by.refuse(faults.findings(), evidence_id),
        })
    }
}

impl AppraiseNitroArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let policy = self.by.read(&inputs)?.nitro;
        Ok(match self.verify.verified(&inputs)? {
            (Ok(claims), _) => {
                let now = input::at(self.verify.at);
                let findings = assay_nitro::appraise(&claims, &policy, now);
                self.by.judge(nitro::genuine(&claims)?, findings)
            }
            (Err(faults), evidence_id) => self.by.refuse(faults.findings(), evidence_id),
        })
    }
}

impl AppraiseAzureArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let policy = self.by.read(&inputs)?;
        Ok(match self.verify.verified(&inputs, policy.tdx.collateral_grace())? {
            Ok(vouched) => {
                let findings = match &vouched.platform {
                    Platform::Snp(claims) => assay_snp::appraise(claims, &policy.snp),
                    Platform::Tdx(claims) => assay_tdx::appraise(claims, &policy.tdx),
                };
                self.by.judge(vouched.verdict, findings)
            }
            Err(refused) => self.by.refuse(refused.faults, refused.evidence_id),
        })
    }
}
