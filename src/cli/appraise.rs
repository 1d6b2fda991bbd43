//! `assay appraise …`: is this evidence acceptable? Verified first, then judged by a profile and a
//! policy; offline, pure, repeatable.

mod confidential;
pub(super) mod host;
pub(super) mod measurements;
mod tpm;

use clap::Subcommand;

use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Subcommand, Debug)]
pub enum AppraiseCommand {
    /// Judge a TPM quote with its logs
    #[command(
        after_help = "Example:\n  assay appraise tpm --quote quote.msg --signature quote.sig \
        --nonce 00ff… --ak ak.pub \\\n    --pcrs pcrs.yaml --eventlog eventlog.bin --profile acme/web"
    )]
    Tpm(Box<tpm::TpmAppraiseArgs>),
    /// Judge a folder of captured evidence, all of it together
    #[command(
        after_help = "Example:\n  assay appraise host evidence --profile acme/web --nonce 00ff…"
    )]
    Host(Box<host::HostArgs>),
    /// Judge an AMD SEV-SNP report
    #[command(after_help = "Example:\n  assay appraise snp --report report.bin --vek vcek.der")]
    Snp(Box<confidential::AppraiseSnpArgs>),
    /// Judge an Intel TDX quote
    #[command(after_help = "Example:\n  assay appraise tdx --quote quote.bin \
        --collateral fmspc.json --policy policy.toml")]
    Tdx(Box<confidential::AppraiseTdxArgs>),
    /// Judge an AWS Nitro document
    #[command(after_help = "Example:\n  assay appraise nitro --document attestation.cbor")]
    Nitro(Box<confidential::AppraiseNitroArgs>),
    /// Judge the quote of an Azure confidential VM with the report that vouches for its TPM
    #[command(after_help = "Example:\n  assay appraise azure --hcl hcl.bin --quote quote.msg \
        --signature quote.sig \\\n    --nonce 00ff… --vek vcek.der")]
    Azure(Box<confidential::AppraiseAzureArgs>),
}

impl AppraiseCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Tpm(args) => args.run(),
            Self::Host(args) => args.run(),
            Self::Snp(args) => args.run(),
            Self::Tdx(args) => args.run(),
            Self::Nitro(args) => args.run(),
            Self::Azure(args) => args.run(),
        }
    }
}
