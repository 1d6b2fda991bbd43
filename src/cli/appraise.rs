//! `assay appraise …`: is this evidence acceptable? Verified first, then judged by a profile and a
//! policy; offline, pure, repeatable.

mod host;
mod measurements;
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
}

impl AppraiseCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Tpm(args) => args.run(),
            Self::Host(args) => args.run(),
        }
    }
}
