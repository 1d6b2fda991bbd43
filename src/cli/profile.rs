//! `assay profile …`: reference values learned, shown, tried, signed and translated. Offline.

mod explain;
mod export;
mod import;
mod learn;
mod predict;
mod predict_launch;
mod sign;
mod simulate;
mod trial;

use clap::Subcommand;

use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Subcommand, Debug)]
pub enum ProfileCommand {
    /// Make a draft from the logs of good boots
    #[command(after_help = "Example:\n  assay profile learn --log boot1.bin --log boot2.bin \
        --id acme/web --out acme/web/profile.toml")]
    Learn(learn::LearnArgs),
    /// Show what a profile makes of a log, event by event
    #[command(after_help = "Example:\n  assay profile explain --profile acme/web \
        --log eventlog.bin --pcrs pcrs.yaml")]
    Explain(explain::ExplainArgs),
    /// Try a profile on its own evidence and on every way to falsify it
    #[command(after_help = "Example:\n  assay profile test acme/web")]
    Test(trial::TestArgs),
    /// Compute the next boot's values from the files that it will start
    #[command(after_help = "Example:\n  assay profile predict --uki /efi/EFI/Linux/6.1.193.efi \
        --name 6.1.193 --profile acme/web")]
    Predict(predict_launch::Predict),
    /// Say which hosts would lose their identity under a profile, by their stored evidence
    #[command(after_help = "Example:\n  assay profile simulate --profile acme/web-next \
        --current acme/web evidence/*")]
    Simulate(simulate::SimulateArgs),
    /// Take reference values that others wrote into a draft
    #[command(after_help = "Example:\n  assay profile import --from pcrlock /var/lib/pcrlock.d \
        --id acme/web --out acme/web")]
    Import(import::ImportArgs),
    /// Give reference values, or an appraisal's result, in the forms of others
    #[command(
        after_help = "Examples:\n  assay profile export acme/web --as corim --key signer.pem \
        --out acme-web.corim\n  assay appraise host evidence --profile acme/web --json > result.json\n  \
        assay profile export --as ear --appraisal result.json --label tpm --out result.ear"
    )]
    Export(export::ExportArgs),
    /// Sign a profile or a set
    #[command(after_help = "Example:\n  assay profile sign acme/web/profile.toml --key signer.pem")]
    Sign(sign::SignArgs),
}

impl ProfileCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Learn(args) => args.run(),
            Self::Explain(args) => args.run(),
            Self::Test(args) => args.run(),
            Self::Predict(args) => args.run(),
            Self::Simulate(args) => args.run(),
            Self::Import(args) => args.run(),
            Self::Export(args) => args.run(),
            Self::Sign(args) => args.run(),
        }
    }
}
