//! `assay verify azure`: a quote by the virtual TPM of a confidential VM, whose key the VM's
//! hardware report vouches for.
//!
//! Three things have to hold together: the report is genuine, the keys in the HCL report are what
//! its report data hashes, and the quote is by that key over this nonce.

use std::path::PathBuf;
use std::time::Duration;

use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_hcl::Hardware;
use assay_hcl::HclReport;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::ProvedKey;
use assay_tpm::Signed;
use assay_tpm::verify::Selection;
use assay_tpm::verify::UnknownParent;
use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict;
use crate::cli::verdict::Verdict;
use crate::cli::verify::snp;
use crate::cli::verify::tdx;

#[derive(Args, Debug)]
pub struct AzureArgs {
    /// HCL report, as read from NV index 0x01400001; `-` is standard input
    #[arg(long, value_name = "FILE")]
    hcl: PathBuf,
    /// TPMS_ATTEST of the virtual TPM, bare or as TPM2B_ATTEST
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// TPMT_SIGNATURE
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// What was asked to be signed, 1 to 64 bytes in hex
    #[arg(long, value_name = "HEX")]
    nonce: String,
    #[command(flatten)]
    keys: snp::VekArgs,
    /// TD quote for the report data of the HCL report, where that carries a TDREPORT
    #[arg(long, value_name = "FILE")]
    td_quote: Option<PathBuf>,
    /// Collateral for the TD quote; without it only its signatures are verified
    #[arg(long, value_name = "FILE", requires = "td_quote")]
    collateral: Option<PathBuf>,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

/// What the hardware says of the VM.
pub enum Platform {
    Snp(Box<assay_snp::Claims>),
    Tdx(Box<assay_tdx::Claims>),
}

/// A quote that hardware vouches for.
pub struct Vouched {
    pub platform: Platform,
    pub verdict: Verdict,
}

impl AzureArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        match self.verified(&Inputs::default(), Duration::ZERO)? {
            Ok(vouched) => Ok(vouched.verdict.answer()),
            Err(refused) => Ok(refused.answer()),
        }
    }

    pub fn verified(
        &self,
        inputs: &Inputs,
        collateral_grace: Duration,
    ) -> Result<Result<Vouched, Verdict>, Failure> {
        let nonce = input::nonce(&self.nonce)?;
        let hcl = inputs.read(&self.hcl)?;
        let quote = inputs.read(&self.quote)?;
        let signature = inputs.read(&self.signature)?;
        let keys = self.keys.read(inputs)?;
        let now = input::at(self.at);
        let signed = Signed::from_files(&quote, &signature);
        let evidence_id = crypto::sha256(signed.attest);
        let refused = |faults: Vec<Finding>| Ok(Err(Verdict::refused(faults, evidence_id)));

        // Shape of all, then the link, then the signatures below it.
        let mut faults: Vec<Finding> =
            signed.parse().err().into_iter().map(|error| error.finding()).collect();
        let report = match HclReport::parse(&hcl) {
            Ok(report) => report,
            Err(fault) => {
                faults.insert(0, fault.finding());
                return refused(faults);
            }
        };
        let hardware = report.hardware;
        let bound = match report.bound() {
            Ok(bound) if faults.is_empty() => bound,
            Ok(_) => return refused(faults),
            Err(fault) => {
                faults.push(fault.finding());
                return refused(faults);
            }
        };
        let report_data = bound.report_data();
        let platform = match hardware {
            Hardware::SnpReport(report) => {
                match keys.verify(report, None, Some(report_data), now) {
                    Ok(claims) => Platform::Snp(Box::new(claims)),
                    Err(found) => return refused(found.findings()),
                }
            }
            Hardware::TdReport(_) => {
                let path = self.td_quote.as_ref().ok_or_else(|| {
                    Failure::new("the HCL report carries a TDREPORT: --td-quote is needed")
                        .hint("a TDREPORT is a MAC that only its own machine can check")
                })?;
                let files = tdx::TdFiles {
                    quote: inputs.read(path)?,
                    collateral: inputs.read_optional(self.collateral.as_ref())?,
                    extra_roots: Vec::new(),
                };
                match files.verify(Some(report_data), now, collateral_grace) {
                    Ok(claims) => Platform::Tdx(Box::new(claims)),
                    Err(found) => return refused(found.findings()),
                }
            }
        };
        let key = match ProvedKey::enrolled_bare(bound.ak().clone()) {
            Ok(key) => key,
            Err(error) => return refused(vec![error.finding()]),
        };
        let evidence = Evidence { quote: signed, certify: None, svid_public: None, values: None };
        let expected = Expected {
            qualifying_data: &nonce,
            selection: Selection::AtLeast { required: &[], min_bank: HashAlgorithm::Sha256 },
            svid_spki: None,
            min_hash: HashAlgorithm::Sha256,
            unknown_parent: UnknownParent::Report,
        };
        let quoted = match assay_tpm::verify(&evidence, &key, &expected) {
            Ok(claims) => claims,
            Err(_) => {
                let faults = assay_tpm::verify::faults(&evidence, &key, &expected);
                return refused(faults.iter().map(|error| error.finding()).collect());
            }
        };
        let mut claims = verdict::claims(&quoted)?;
        if let Some(ak) = claims.get_mut("ak").and_then(Value::as_object_mut) {
            ak.insert("trust".to_owned(), json!("hardware-report"));
        }
        let (name, report, gaps) = match &platform {
            Platform::Snp(claims) => ("snp", verdict::claims(claims)?, claims.not_checked()),
            Platform::Tdx(claims) => ("tdx", verdict::claims(claims)?, claims.not_checked()),
        };
        let mut not_checked: Vec<String> =
            quoted.not_checked().iter().chain(gaps).map(|gap| (*gap).to_owned()).collect();
        not_checked.push(
            "guest-measurement: the report measures the paravisor, not the guest's system"
                .to_owned(),
        );
        claims.insert(name.to_owned(), Value::Object(report));
        claims.insert("vm_configuration".to_owned(), json!(bound.var_data().vm_configuration()));
        let verdict = Verdict {
            warnings: quoted.warnings().to_vec(),
            not_checked,
            ..Verdict::genuine(
                "the VM's hardware vouches for the TPM key that signed this quote",
                claims,
                evidence_id,
            )
        };
        Ok(Ok(Vouched { platform, verdict }))
    }
}
