//! `assay appraise snp|tdx|nitro|azure`: authentic first, then judged by the tables of a policy.
//!
//! Without `--policy` the strict default decides. A genuine debug guest is genuine, and refused
//! here.

use std::path::PathBuf;

use assay_evidence::Finding;
use clap::Args;
use serde_json::Value;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::judgement::Judgement;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::cli::verify::azure;
use crate::cli::verify::azure::Platform;
use crate::cli::verify::nitro;
use crate::cli::verify::snp;
use crate::cli::verify::tdx;
use crate::policy::Confidential;

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

#[derive(Args, Debug)]
pub struct AppraiseSnpArgs {
    #[command(flatten)]
    verify: snp::SnpArgs,
    #[command(flatten)]
    by: PolicyArgs,
}

#[derive(Args, Debug)]
pub struct AppraiseTdxArgs {
    #[command(flatten)]
    verify: tdx::TdxArgs,
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

impl PolicyArgs {
    fn read(&self, inputs: &Inputs) -> Result<Confidential, Failure> {
        let Some(path) = &self.policy else { return Ok(Confidential::default()) };
        let text = String::from_utf8(inputs.read(path)?)
            .map_err(|_| Failure::new(format!("`{}` is no text", path.display())))?;
        Confidential::parse(&text)
            .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))
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
        Ok(match self.verify.verified(&inputs)? {
            (Ok(claims), _) => {
                let findings = assay_snp::appraise(&claims, &policy.snp);
                self.by.judge(snp::genuine(&claims)?, findings)
            }
            (Err(faults), evidence_id) => self.by.refuse(faults.findings(), evidence_id),
        })
    }
}

impl AppraiseTdxArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let policy = self.by.read(&inputs)?.tdx;
        Ok(match self.verify.verified(&inputs, policy.collateral_grace())? {
            (Ok(attester), _) => {
                let findings = attester.appraise(&policy);
                self.by.judge(attester.genuine()?, findings)
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
