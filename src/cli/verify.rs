//! `assay verify …`: is this evidence authentic? Files in, verdict out; offline, pure, repeatable.
//!
//! Authenticity alone: signatures up to trust anchors, freshness, consistency. Whether the state is
//! acceptable is appraisal and another command's question.

pub mod azure;
mod certify;
pub mod ek;
mod key;
pub mod nitro;
pub mod snp;
pub mod tdx;
pub mod tpm;

use assay_evidence::Finding;
use clap::Subcommand;

use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;

#[derive(Subcommand, Debug)]
pub enum VerifyCommand {
    /// Tell whether a TPM quote is genuine
    #[command(after_help = "Example:\n  assay verify tpm --quote quote.msg --signature quote.sig \
        --nonce 00ff… --ak ak.pub \\\n    --pcrs pcrs --require sha256:0-7")]
    Tpm(Box<tpm::TpmArgs>),
    /// Tell whether an endorsement key is in a genuine TPM
    #[command(after_help = "Examples:\n  assay verify ek --cert ek.crt\n  \
        assay verify ek --cert ek.crt --pub ek.pub --roots vendor.pem --crl vendor.crl")]
    Ek(Box<ek::EkArgs>),
    /// Tell whether a TPM's statement about another of its keys is genuine
    #[command(after_help = "Example:\n  assay verify certify --certify key.attest --signature \
        key.sig --public key.pub \\\n    --nonce 00ff… --ak ak.pub")]
    Certify(Box<certify::CertifyArgs>),
    /// Tell whether an AMD SEV-SNP report is genuine
    #[command(after_help = "Example:\n  assay verify snp --report report.bin --vek vcek.der")]
    Snp(Box<snp::SnpArgs>),
    /// Tell whether an Intel TDX quote is genuine
    #[command(
        after_help = "Example:\n  assay verify tdx --quote quote.bin --collateral fmspc.json"
    )]
    Tdx(Box<tdx::TdxArgs>),
    /// Tell whether an AWS Nitro document is genuine
    #[command(after_help = "Example:\n  assay verify nitro --document attestation.cbor \
        --nonce 00ff…")]
    Nitro(Box<nitro::NitroArgs>),
    /// Tell whether the hardware of an Azure confidential VM vouches for a quote of its TPM
    #[command(after_help = "Example:\n  assay verify azure --hcl hcl.bin --quote quote.msg \
        --signature quote.sig \\\n    --nonce 00ff… --vek vcek.der")]
    Azure(Box<azure::AzureArgs>),
}

/// Genuine as `genuine` tells it, or refused by all faults.
fn answer<C>(
    verified: Result<C, Vec<Finding>>,
    evidence_id: [u8; 32],
    genuine: impl FnOnce(&C) -> Result<Verdict, Failure>,
) -> Result<Answer, Failure> {
    let verdict = match verified {
        Ok(claims) => genuine(&claims)?,
        Err(faults) => Verdict::refused(faults, evidence_id),
    };
    Ok(verdict.answer())
}

impl VerifyCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        match self {
            VerifyCommand::Tpm(args) => args.run(),
            VerifyCommand::Ek(args) => args.run(),
            VerifyCommand::Certify(args) => args.run(),
            VerifyCommand::Snp(args) => args.run(),
            VerifyCommand::Tdx(args) => args.run(),
            VerifyCommand::Nitro(args) => args.run(),
            VerifyCommand::Azure(args) => args.run(),
        }
    }
}
