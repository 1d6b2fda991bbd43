//! `assay ek-roots …`: whose word that a TPM is genuine counts, and whether the packs still hold.
//!
//! Looks at the packs that are built in, or at files of the same form. It changes nothing and
//! asks no network: a new root is a change of data that people review.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use clap::Args;
use clap::Subcommand;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::reference::ek_roots;
use crate::reference::ek_roots::Entry;
use crate::reference::ek_roots::Life;
use crate::reference::ek_roots::Pack;
use crate::reference::ek_roots::Role;

#[derive(Subcommand, Debug)]
pub enum EkRootsCommand {
    /// List the roots that are built in
    #[command(after_help = "Examples:\n  assay ek-roots list\n  \
        assay ek-roots list --pack cloud-gce --json")]
    List(ListArgs),
    /// Tell whether packs are whole: fingerprints, paths to a root, dates
    #[command(after_help = "Examples:\n  assay ek-roots check\n  \
        assay ek-roots check firmware-profiles/ek-roots --at 2027-06-01T00:00:00Z")]
    Check(CheckArgs),
}

#[derive(Args, Debug)]
pub struct ListArgs {
    /// One pack, its intermediates too
    #[arg(long, value_name = "NAME")]
    pack: Option<String>,
    /// Time to judge dates at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// File of a pack, or a folder of such files; the built-in packs if left out
    path: Option<PathBuf>,
    /// Time to judge dates at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

impl EkRootsCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        match self {
            EkRootsCommand::List(args) => args.run(),
            EkRootsCommand::Check(args) => args.run(),
        }
    }
}

impl ListArgs {
    fn run(self) -> Result<Answer, Failure> {
        let now = input::at(self.at);
        let all = ek_roots::shipped();
        let packs: Vec<&Pack> = match &self.pack {
            Some(name) => vec![named(name)?],
            None => all.iter().collect(),
        };
        let json = json!({
            "packs": packs.iter().map(|pack| pack_json(pack, now)).collect::<Vec<_>>(),
        });
        let with_intermediates = self.pack.is_some();
        let text = packs.iter().map(|pack| pack_text(pack, with_intermediates, now)).collect();
        Ok(Answer::new(json, join(text)))
    }
}

impl CheckArgs {
    fn run(self) -> Result<Answer, Failure> {
        let now = input::at(self.at);
        let packs = match &self.path {
            None => ek_roots::shipped().to_vec(),
            Some(path) => match Pack::parse_all(files(path)?) {
                Ok(packs) => packs,
                Err(fault) => return Ok(Verdict::refused(vec![fault.finding()], [0; 32]).answer()),
            },
        };
        let faults = packs
            .iter()
            .flat_map(|pack| {
                pack.misfits().into_iter().map(|(entry, misfit)| misfit.finding(entry))
            })
            .collect();
        let entries: Vec<&Entry> = packs.iter().flat_map(Pack::entries).collect();
        let summary = format!("{} certificates in {} packs", entries.len(), packs.len());
        let id: Vec<u8> = entries.iter().flat_map(|entry| entry.sha256()).collect();
        let verdict = Verdict {
            warnings: entries.iter().filter_map(|entry| end(entry, now)).collect(),
            not_checked: vec!["revocation: no CRL is asked for here".to_owned()],
            claims: packs.iter().map(|pack| (pack.name().to_owned(), counts(pack))).collect(),
            summary,
            ..Verdict::of(faults, crypto::sha256(&id))
        };
        Ok(verdict.answer())
    }
}

fn named(name: &str) -> Result<&'static Pack, Failure> {
    ek_roots::named(name).ok_or_else(|| {
        let known: Vec<_> = ek_roots::shipped().iter().map(Pack::name).collect();
        Failure::new(format!("no pack `{name}`")).hint(format!("there are {}", known.join(", ")))
    })
}

/// The TOML files at `path`, in its folders one level down too; `recipe.toml` is no pack.
fn files(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot read `{}`: {error}", path.display()));
    let mut found = Vec::new();
    if path.is_dir() {
        let mut folders = vec![path.to_owned()];
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?.path();
            folders.extend(entry.is_dir().then_some(entry));
        }
        for folder in folders {
            for entry in fs::read_dir(folder).map_err(failed)? {
                found.push(entry.map_err(failed)?.path());
            }
        }
        found.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
        found.retain(|file| file.file_name().is_some_and(|name| name != "recipe.toml"));
        found.sort();
    } else {
        found.push(path.to_owned());
    }
    if found.is_empty() {
        return Err(Failure::new(format!("no pack in `{}`", path.display())));
    }
    let inputs = Inputs::default();
    let text = |file: PathBuf| {
        let name = file.strip_prefix(path).unwrap_or(&file).display().to_string();
        let name = if name.is_empty() { file.display().to_string() } else { name };
        String::from_utf8(inputs.read(&file)?)
            .map(|text| (name, text))
            .map_err(|_| Failure::new(format!("`{}` is not text", file.display())))
    };
    found.into_iter().map(text).collect()
}

/// Only an intermediate's dates count; an anchor is a name and a key.
fn end(entry: &Entry, now: Time) -> Option<Finding> {
    let expected = match (entry.role, entry.life(now)) {
        (Role::Root, _) | (_, Life::Valid) => return None,
        (_, Life::EndsSoon) => "a successor before it ends",
        (_, Life::Ended | Life::NotYet) => "a certificate that is valid now",
    };
    let certificate = &entry.certificate;
    let (from, to) = (certificate.not_before(), certificate.not_after());
    let found = format!("`{}` is valid from {from} to {to}", entry.subject);
    Some(Finding::new(Reason::EkExpired, "ek_roots", found, expected, entry.place.as_str()))
}

fn counts(pack: &Pack) -> Value {
    json!({ "roots": pack.roots().count(), "intermediates": pack.intermediates().count() })
}

fn pack_json(pack: &Pack, now: Time) -> Value {
    let mut json = Map::new();
    json.insert("name".to_owned(), json!(pack.name()));
    let certificates: Vec<_> = pack.entries().iter().map(|entry| entry_json(entry, now)).collect();
    json.insert("certificates".to_owned(), Value::Array(certificates));
    Value::Object(json)
}

fn entry_json(entry: &Entry, now: Time) -> Value {
    json!({
        "subject": entry.subject,
        "vendor": entry.vendor,
        "role": entry.role,
        "class": entry.class,
        "sha256": hex::encode(entry.sha256()),
        "not_before": entry.certificate.not_before(),
        "not_after": entry.certificate.not_after(),
        "life": entry.life(now),
        "provenance": entry.provenance,
        "note": entry.note,
    })
}

fn pack_text(pack: &Pack, with_intermediates: bool, now: Time) -> String {
    let (roots, intermediates) = (pack.roots().count(), pack.intermediates().count());
    let name = pack.name();
    let mut text = format!("{name}: {roots} roots, {intermediates} intermediates\n");
    let heading = ["VENDOR", "CLASS", "ROLE", "UNTIL", "SHA-256", "SUBJECT"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let shown = |entry: &&Entry| with_intermediates || entry.role == Role::Root;
    for entry in pack.entries().iter().filter(shown) {
        let until = entry.certificate.not_after().to_string();
        let mark = match entry.life(now) {
            Life::Valid => "",
            Life::EndsSoon => " soon",
            Life::Ended | Life::NotYet => " (not now)",
        };
        rows.push(vec![
            entry.vendor.clone(),
            entry.class.to_string(),
            entry.role.to_string(),
            format!("{}{mark}", until.get(..10).unwrap_or(&until)),
            hex::encode(entry.sha256()).chars().take(16).collect(),
            entry.subject.clone(),
        ]);
    }
    text.push_str(&output::table(&rows));
    text
}

fn join(texts: Vec<String>) -> String {
    texts.join("\n")
}
