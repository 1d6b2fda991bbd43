//! `assay endorsement …`: what vendors say of hardware, fetched for evidence at hand, bundled under
//! a signature, imported where there is no way out, and listed with its last day.
//!
//! `fetch` is the one offline command that opens a connection. Everything is verified on each of
//! these ways, by the code that a server uses.

mod carry;
mod fetch;
mod source;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use assay_evidence::Finding;
use assay_evidence::Time;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::cli::connect;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::endorsement::Cache;
use crate::endorsement::Entry;
use crate::endorsement::Room;
use crate::endorsement::Roots;

pub use source::OfReport;
pub use source::Source;

#[derive(Subcommand, Debug)]
pub enum EndorsementCommand {
    /// Fetch what a report or a quote needs from its vendor, into a cache
    #[command(after_help = "Examples:\n  assay endorsement fetch --report report.bin\n  \
        assay endorsement fetch --quote quote.bin --cache endorsements --intel https://pccs.example")]
    Fetch(fetch::FetchArgs),
    /// Write a cache as one signed file
    #[command(after_help = "Example:\n  assay endorsement bundle --key site.key --out site.bundle")]
    Bundle(carry::BundleArgs),
    /// Put the endorsements of a signed file into a cache
    #[command(after_help = "Example:\n  assay endorsement import site.bundle --key site.pub \
        --cache /var/lib/assay/endorsements")]
    Import(carry::ImportArgs),
    /// List what a cache holds, and until when
    #[command(after_help = "Examples:\n  assay endorsement list\n  \
        assay endorsement list --cache /var/lib/assay/endorsements --json")]
    List(ListArgs),
}

/// The cache, and whose word counts in it.
#[derive(Args, Debug)]
pub struct CacheArgs {
    /// Folder of the cache; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "endorsements")]
    cache: PathBuf,
    /// Further roots, for test hardware
    #[arg(long, value_name = "PATH")]
    danger_extra_roots: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    cache: CacheArgs,
    /// Time to judge dates at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

impl EndorsementCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        match self {
            EndorsementCommand::Fetch(args) => connect::block_on(args.run()),
            EndorsementCommand::Bundle(args) => args.run(),
            EndorsementCommand::Import(args) => args.run(),
            EndorsementCommand::List(args) => args.run(),
        }
    }
}

impl ListArgs {
    fn run(self) -> Result<Answer, Failure> {
        let now = input::at(self.at);
        if !self.cache.cache.is_dir() {
            let path = self.cache.cache.display();
            return Err(Failure::new(format!("there is no cache at `{path}`")));
        }
        let cache = self.cache.open(&Inputs::default())?;
        Ok(answer("listed", &cache.all(), now, "nothing is kept here"))
    }
}

impl CacheArgs {
    fn roots(&self, inputs: &Inputs) -> Result<Roots, Failure> {
        roots(inputs, self.danger_extra_roots.as_ref())
    }

    fn open(&self, inputs: &Inputs) -> Result<Cache, Failure> {
        open(&self.cache, self.roots(inputs)?)
    }
}

fn roots(inputs: &Inputs, extra: Option<&PathBuf>) -> Result<Roots, Failure> {
    Ok(Roots::with_operator_roots(inputs.extra_roots(extra)?))
}

fn open(folder: &Path, roots: Roots) -> Result<Cache, Failure> {
    Cache::open(folder, Arc::new(roots), Room::default())
        .map_err(|error| Failure::from(anyhow::Error::from(error)))
}

/// Entries as a table or as JSON, and what of them ends soon.
fn answer(verdict: &str, entries: &[Arc<Entry>], now: Time, none: &str) -> Answer {
    let warnings: Vec<Finding> = entries.iter().filter_map(|entry| entry.ending(now)).collect();
    let listed: Vec<Value> = entries.iter().map(|entry| entry_json(entry, now)).collect();
    let json = json!({
        "verdict": verdict,
        "reason": null,
        "reasons": [],
        "entries": listed,
        "warnings": warnings,
        "not_checked": [],
    });
    Answer::new(json, table(entries, now, none))
}

fn entry_json(entry: &Entry, now: Time) -> Value {
    let (from, until) = entry.dates();
    json!({
        "kind": entry.subject().kind(),
        "subject": entry.subject().to_string(),
        "sha256": hex::encode(entry.sha256()),
        "fetched_at": entry.fetched_at(),
        "valid_from": from,
        "valid_until": until,
        "days_left": entry.days_left(now),
    })
}

fn table(entries: &[Arc<Entry>], now: Time, none: &str) -> String {
    if entries.is_empty() {
        return format!("{none}\n");
    }
    let heading = ["KIND", "OF", "FETCHED", "UNTIL", "DAYS LEFT"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for entry in entries {
        let (_, until) = entry.dates();
        let left = match (until.unix_s() < now.unix_s(), entry.ending(now)) {
            (true, _) => "ended".to_owned(),
            (false, Some(_)) => format!("{} soon", entry.days_left(now)),
            (false, None) => entry.days_left(now).to_string(),
        };
        let day = |time: Time| time.to_string().chars().take(10).collect::<String>();
        let kind = entry.subject().kind();
        rows.push(vec![
            kind.to_owned(),
            shortened(entry.subject().to_string().trim_start_matches(kind)),
            day(entry.fetched_at()),
            day(until),
            left,
        ]);
    }
    output::table(&rows)
}

/// A chip's name is 128 digits long; sixteen tell it from others on one screen.
fn shortened(subject: &str) -> String {
    let short = |part: &str| match part.len() > 24 {
        true => format!("{}…", part.chars().take(16).collect::<String>()),
        false => part.to_owned(),
    };
    let parts: Vec<String> = subject.trim_start_matches('-').split('-').map(short).collect();
    parts.join(" ")
}
