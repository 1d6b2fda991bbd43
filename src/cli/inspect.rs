//! `assay inspect …`: shows what a log, a list or a certificate says. It never decides anything:
//! what is shown is what the bytes claim.

mod cert;
mod eventlog;
mod ima;
mod report;

use clap::Subcommand;

use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Subcommand, Debug)]
pub enum InspectCommand {
    /// Show a certificate, whatever a TPM put around it
    #[command(after_help = "Example:\n  assay inspect cert ek.crt")]
    Cert(cert::CertArgs),
    /// Show what a boot log says, what it leads to, and what its digests bind
    #[command(after_help = "Example:\n  assay inspect eventlog \
        /sys/kernel/security/tpm0/binary_bios_measurements --events")]
    Eventlog(eventlog::EventlogArgs),
    /// Show what a list of measured files says and how much of it registers cover
    #[command(after_help = "Example:\n  assay inspect ima \
        /sys/kernel/security/ima/binary_runtime_measurements --pcrs pcrs.yaml")]
    Ima(ima::ImaArgs),
    /// Show what the report of a confidential machine says: SNP, TDX, Nitro or HCL
    #[command(after_help = "Example:\n  assay inspect report report.bin")]
    Report(report::ReportArgs),
}

impl InspectCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        match self {
            InspectCommand::Cert(args) => args.run(),
            InspectCommand::Eventlog(args) => args.run(),
            InspectCommand::Ima(args) => args.run(),
            InspectCommand::Report(args) => args.run(),
        }
    }
}
