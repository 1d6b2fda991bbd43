//! The command line: syntax here, meaning in the modules, one answer per command.
//!
//! Conventions (all of them tested): data to stdout, talk to stderr; `--json` gives exactly one
//! JSON object on one line, also when the command fails; exit 0 affirmed, 1 refused, 2 could not
//! tell.

mod appraise;
mod attest;
mod authority;
mod bundle;
mod connect;
mod ek_roots;
mod endorsement;
mod entry;
mod face;
mod fetch;
mod input;
mod inspect;
mod judgement;
mod measured;
mod node;
mod output;
mod policy;
mod profile;
mod record;
mod verdict;
mod verify;

use std::process::ExitCode;

use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;

use output::Answer;
use output::Failure;

const HELP: &str = "\
{about}

Usage: assay <command>

Run      server      appraise nodes and issue identities
         agent       attest this host and serve the Workload API
         demo        show the whole story on software TPMs
Prove    attest      collect evidence from this machine's TPM
         verify      tell whether evidence is genuine, offline
         inspect     show what a certificate, a log or a list says
         appraise    judge evidence against a profile and a policy, offline
Use      fetch       get SVIDs over the Workload API, as a workload would
         validate    tell whether a JWT-SVID is good
Manage   profile     learn, explain, try and sign reference values
         policy      show what is demanded beside reference values
         node        admit, list, explain, ban and release nodes
         entry       say which workload gets which SPIFFE ID
         bundle      show the trust bundle
         authority   show the CA keys and where they live
         ek-roots    show whose word counts for TPMs, and whether it still holds
         endorsement fetch, bundle and import what vendors say of hardware
Review   record      list and show what was appraised and issued, and why

         completions print a completion script for your shell

Options:
{options}

Every command has `--help`; `--json` wherever a machine may read.
Try it without a TPM: assay demo --keep
";

#[derive(Parser)]
#[command(
    name = "assay",
    version,
    about = "Identities only for workloads whose machine has proved what it booted",
    help_template = HELP,
    disable_help_subcommand = true,
)]
struct Cli {
    /// Answer with one JSON object on one line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Appraise nodes and issue identities
    #[command(subcommand)]
    Server(face::ServerCommand),
    /// Attest this host and serve the Workload API
    #[cfg(feature = "tpm")]
    #[command(subcommand)]
    Agent(face::AgentCommand),
    /// Show the whole story on software TPMs
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
    /// Collect evidence from this machine's TPM into a folder
    Attest(attest::AttestArgs),
    /// Tell whether evidence is genuine, offline
    #[command(subcommand)]
    Verify(verify::VerifyCommand),
    /// Show what a certificate, a log or a list says
    #[command(subcommand)]
    Inspect(inspect::InspectCommand),
    /// Judge evidence against a profile and a policy, offline
    #[command(subcommand)]
    Appraise(appraise::AppraiseCommand),
    /// Show what is demanded beside reference values
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Learn, explain, try and sign reference values
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Get SVIDs over the Workload API, as a workload would
    #[command(subcommand)]
    Fetch(fetch::FetchCommand),
    /// Tell whether a JWT-SVID is good
    #[command(subcommand)]
    Validate(fetch::ValidateCommand),
    /// Admit, list, explain, ban and release nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Say which workload gets which SPIFFE ID
    #[command(subcommand)]
    Entry(entry::EntryCommand),
    /// Show the trust bundle
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Show the CA keys and where they live
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// Show whose word counts for TPMs, and whether it still holds
    #[command(subcommand)]
    EkRoots(ek_roots::EkRootsCommand),
    /// Fetch, bundle and import what vendors say of hardware
    #[command(subcommand)]
    Endorsement(endorsement::EndorsementCommand),
    /// List and show what was appraised and issued, and why
    #[command(subcommand)]
    Record(record::RecordCommand),
    /// Print a completion script for your shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let as_json = std::env::args_os().any(|argument| argument == "--json");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return syntax(&error, as_json),
    };
    output::print(run(cli), as_json)
}

/// Help and version are answers; everything else clap says is an option that is wrong.
fn syntax(error: &clap::Error, as_json: bool) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(Ok(Answer::new(serde_json::Value::Null, error.to_string())), false)
        }
        _ => {
            let text = error.to_string();
            let mut lines = text.trim_end().splitn(2, '\n');
            let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
            if as_json {
                return output::print(Err(Failure::new(first)), true);
            }
            eprintln!("{}", text.trim_end());
            ExitCode::from(output::COULD_NOT_TELL)
        }
    }
}

fn run(cli: Cli) -> Result<Answer, Failure> {
    match cli.command {
        Command::Server(command) => command.run(),
        #[cfg(feature = "tpm")]
        Command::Agent(command) => command.run(),
        #[cfg(feature = "demo")]
        Command::Demo(args) => {
            crate::demo::run(args).map_err(Failure::from)?;
            Ok(Answer::new(serde_json::json!({"verdict": "done"}), ""))
        }
        Command::Attest(args) => args.run(),
        Command::Verify(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Appraise(command) => command.run(),
        Command::Policy(command) => command.run(),
        Command::Profile(command) => command.run(),
        Command::Fetch(command) => connect::block_on(command.run()),
        Command::Validate(command) => connect::block_on(command.run()),
        Command::Node(command) => connect::block_on(command.run()),
        Command::Entry(command) => connect::block_on(command.run()),
        Command::Bundle(command) => connect::block_on(command.run()),
        Command::Authority(command) => connect::block_on(command.run()),
        Command::EkRoots(command) => command.run(),
        Command::Endorsement(command) => command.run(),
        Command::Record(command) => connect::block_on(command.run()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "assay", &mut script);
            let script = String::from_utf8_lossy(&script).into_owned();
            Ok(Answer::new(serde_json::json!({ "script": script }), script))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_first_screen_names_every_command() {
        let help = HELP.to_owned();
        for command in Cli::command().get_subcommands() {
            assert!(help.contains(&format!(" {} ", command.get_name())), "{}", command.get_name());
        }
    }
}
