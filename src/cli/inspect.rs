//! `assay inspect …`: shows what a log, a list or a certificate says. It never decides anything:
//! what is shown is what the bytes claim.

mod cert;

use clap::Subcommand;

use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Subcommand, Debug)]
pub enum InspectCommand {
    /// Show a certificate, whatever a TPM put around it
    #[command(after_help = "Example:\n  assay inspect cert ek.crt")]
    Cert(cert::CertArgs),
}

impl InspectCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        match self {
            InspectCommand::Cert(args) => args.run(),
        }
    }
}
