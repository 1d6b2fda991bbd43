//! `assay policy …`: what is demanded beside reference values.

use clap::Subcommand;
use serde_json::json;

use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::policy;

#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// Show the policy that holds where none is written
    #[command(after_help = "Example:\n  assay policy show default > policy.toml")]
    Show {
        /// `default`
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl PolicyCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        let Self::Show { name } = self;
        if name != "default" {
            let message = format!("there is no policy `{name}`, expected `default`");
            return Err(Failure::new(message).hint("a policy of your own is a file: read that"));
        }
        let text = policy::DEFAULT_TEXT;
        let value: toml::Table = toml::from_str(text)
            .map_err(|error| Failure::new(format!("the default does not parse: {error}")))?;
        let json = json!({
            "verdict": "shown",
            "reason": null,
            "name": name,
            "policy": value,
            "text": text,
        });
        Ok(Answer::new(json, text))
    }
}
