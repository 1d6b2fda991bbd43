//! `assay server …` and `assay agent …`: configuration in, a face running.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde_json::json;

#[cfg(feature = "tpm")]
use crate::agent;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::log::Log;
use crate::server;

#[derive(Subcommand, Debug)]
pub enum ServerCommand {
    /// Run the server in the foreground
    #[command(after_help = "Example:\n  assay server run --config /etc/assay/server.toml")]
    Run(ServerArgs),
    /// Tell whether a configuration and everything it names can be used
    Validate(ServerArgs),
    /// Tell whether the server answers and can sign
    Healthcheck(ServerArgs),
}

#[cfg(feature = "tpm")]
#[derive(Subcommand, Debug)]
pub enum AgentCommand {
    /// Run the agent in the foreground
    #[command(after_help = "Example:\n  assay agent run --config /etc/assay/agent.toml")]
    Run(AgentArgs),
    /// Tell whether a configuration and everything it names can be used
    Validate(AgentArgs),
    /// Tell whether the agent answers and stands well
    Healthcheck(AgentArgs),
}

#[derive(Args, Debug)]
pub struct ServerArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/assay/server.toml")]
    config: PathBuf,
}

#[cfg(feature = "tpm")]
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/assay/agent.toml")]
    config: PathBuf,
}

impl ServerCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        let (Self::Run(args) | Self::Validate(args) | Self::Healthcheck(args)) = &self;
        let config = server::config::Config::load(&args.config).map_err(anyhow::Error::from)?;
        match self {
            Self::Run(_) => {
                start(config.log)?;
                many_threads()?.block_on(server::run(config))?;
                Ok(stopped())
            }
            Self::Validate(args) => Ok(good(&args.config, server_findings(&config))),
            Self::Healthcheck(_) => {
                one_thread()?.block_on(server::healthcheck(&config))?;
                Ok(Answer::new(json!({ "status": "serving" }), "serving"))
            }
        }
    }
}

#[cfg(feature = "tpm")]
impl AgentCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        let (Self::Run(args) | Self::Validate(args) | Self::Healthcheck(args)) = &self;
        let config = agent::Config::load(&args.config).map_err(anyhow::Error::from)?;
        match self {
            Self::Run(_) => {
                start(config.log)?;
                many_threads()?.block_on(agent::run(config))?;
                Ok(stopped())
            }
            Self::Validate(args) => Ok(good(&args.config, agent::validate(&config)?)),
            Self::Healthcheck(_) => {
                if !one_thread()?.block_on(agent::healthcheck(&config.socket))? {
                    return Err(Failure::refused("the agent runs, and its host is not attested"));
                }
                Ok(Answer::new(json!({ "status": "serving" }), "serving"))
            }
        }
    }
}

fn start(log: Log) -> Result<(), Failure> {
    log.start().map_err(|error| Failure::new(error.to_string()))
}

fn many_threads() -> Result<tokio::runtime::Runtime, Failure> {
    runtime(&mut tokio::runtime::Builder::new_multi_thread())
}

fn one_thread() -> Result<tokio::runtime::Runtime, Failure> {
    runtime(&mut tokio::runtime::Builder::new_current_thread())
}

fn runtime(builder: &mut tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, Failure> {
    builder.enable_all().build().map_err(|error| Failure::new(format!("cannot start: {error}")))
}

fn stopped() -> Answer {
    Answer::new(json!({ "status": "stopped" }), "")
}

fn server_findings(config: &server::config::Config) -> Vec<String> {
    let nodes = &config.nodes;
    vec![
        format!("trust domain {}", config.trust_domain),
        format!("profile {}, serial {}", nodes.profile.id, nodes.profile.serial),
        format!("listens on {}", config.listen),
        format!("private socket {}", config.socket.display()),
    ]
}

fn good(config: &Path, found: Vec<String>) -> Answer {
    let mut text = format!("`{}` and everything it names can be used\n", config.display());
    for line in &found {
        text.push_str(&format!("  {line}\n"));
    }
    Answer::new(json!({ "config": config, "verdict": "valid", "found": found }), text)
}
