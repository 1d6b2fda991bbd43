//! `assay profile import`: reference values that others wrote, as a draft to read and sign.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::PublicKey;
use clap::Args;
use clap::ValueEnum;
use serde_json::json;

use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::printable;
use crate::cli::profile::learn;
use crate::reference::Profile;
use crate::reference::Set;
use crate::reference::corim;
use crate::reference::import;
use crate::reference::import::ImportError;
use crate::reference::import::Imported;
use crate::reference::import::keylime;
use crate::reference::import::pcrlock;
use crate::reference::signature;

const MAX_FILE: u64 = 64 * 1_024 * 1_024;
/// What can be told on a terminal; `--json` and the draft have all of it.
const SHOWN: usize = 20;

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// What the files are
    #[arg(long, value_name = "FORM")]
    from: Form,
    /// Files; for `pcrlock` also folders of components
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Name of the profile, such as `acme/web`
    #[arg(long, value_name = "ID", default_value = "imported/draft")]
    id: String,
    /// Where the draft goes: a file, or a folder for `profile.toml`, or for sets where there are
    /// sets alone
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Public key in PEM that has to have signed the CoRIM; may be given again
    #[arg(long, value_name = "FILE")]
    signer: Vec<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Components or a log of systemd-pcrlock (CEL-JSON)
    Pcrlock,
    /// Measured-boot reference state, runtime policy or allow list of Keylime
    Keylime,
    /// CoRIM, bare or in COSE_Sign1
    Corim,
}

impl ImportArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        if !self.signer.is_empty() && self.from != Form::Corim {
            return Err(Failure::new("--signer: only a CoRIM carries a signature"));
        }
        let imported = match self.from {
            Form::Pcrlock => self.pcrlock(&inputs)?,
            Form::Keylime => {
                let path = self.only_file()?;
                keylime::import(&inputs.read_up_to(path, MAX_FILE)?)
                    .map_err(|error| refused(path, &error))?
            }
            Form::Corim => {
                let path = self.only_file()?;
                let keys = self.signers(&inputs)?;
                corim::read(&inputs.read_up_to(path, MAX_FILE)?, &keys)
                    .map_err(|error| refused(path, &error))?
            }
        };
        let (profile, written) = self.write(&imported)?;
        let decided: Vec<u32> = profile.iter().flat_map(Profile::decided).collect();
        let json = json!({
            "verdict": "imported",
            "reason": null,
            "reasons": [],
            "origin": imported.origin,
            "profile": profile.as_ref().and(written.first()),
            "sets": if profile.is_some() { &[] } else { written.as_slice() },
            "decided": decided,
            "not_imported": imported.not_imported,
            "not_checked": [],
        });
        Ok(Answer::new(json, text(&imported, &written, &decided)))
    }

    /// One file: two of these forms would be two drafts.
    fn only_file(&self) -> Result<&Path, Failure> {
        match self.files.as_slice() {
            [file] => Ok(file),
            _ => Err(Failure::new("one file at a time: each is a draft of its own")),
        }
    }

    fn signers(&self, inputs: &Inputs) -> Result<Vec<PublicKey>, Failure> {
        let key = |path: &PathBuf| {
            let wrong = || Failure::new(format!("--signer: no public key in `{}`", path.display()));
            let pem = String::from_utf8(inputs.read(path)?).map_err(|_| wrong())?;
            let der = signature::spki_der(&pem).ok_or_else(wrong)?;
            PublicKey::from_spki(&der).map_err(|_| wrong())
        };
        self.signer.iter().map(key).collect()
    }

    fn pcrlock(&self, inputs: &Inputs) -> Result<Imported, Failure> {
        let mut found = Vec::new();
        for path in &self.files {
            components(path, &mut found)?;
        }
        if found.is_empty() {
            return Err(Failure::new("no `*.pcrlock` in what was named"));
        }
        let mut read = Vec::new();
        for (component, variant, path) in found {
            read.push((component, variant, inputs.read_up_to(&path, MAX_FILE)?, path));
        }
        let files: Vec<pcrlock::File<'_>> = read
            .iter()
            .map(|(component, variant, bytes, _)| pcrlock::File {
                component: component.clone(),
                variant: variant.clone(),
                bytes,
            })
            .collect();
        // One at a time first, so that a fault names its file.
        for (file, (.., path)) in files.iter().zip(&read) {
            match pcrlock::import(std::slice::from_ref(file)) {
                Ok(_) | Err(ImportError::Nothing { .. }) => {}
                Err(error) => return Err(refused(path, &error)),
            }
        }
        pcrlock::import(&files).map_err(|error| Failure::refused(error.to_string()))
    }

    /// Writes the draft, which has to parse as what it is; gives it and the paths.
    fn write(&self, imported: &Imported) -> Result<(Option<Profile>, Vec<PathBuf>), Failure> {
        let ours = |error: String| {
            Failure::refused(format!("what was read makes no draft that parses: {error}"))
                .hint("names or values in the file are none that a profile may have")
        };
        let folder = self.out.is_dir() || self.out.extension().is_none();
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        let mut profile = None;
        if imported.is_profile() {
            let text = imported.profile(&self.id);
            profile = Some(Profile::parse(&text).map_err(|error| ours(error.to_string()))?);
            let out = if folder { self.out.join("profile.toml") } else { self.out.clone() };
            files.insert(out, text);
        } else {
            let sets = imported.sets();
            if !folder && sets.len() > 1 {
                let text = format!("{} sets, and --out names one file", sets.len());
                return Err(Failure::new(text).hint("give a folder"));
            }
            for (name, text) in sets {
                Set::parse(&text).map_err(|error| ours(error.to_string()))?;
                let file = self.out.join(format!("{name}.toml"));
                files.insert(if folder { file } else { self.out.clone() }, text);
            }
        }
        for path in files.keys() {
            learn::demand_draft(path, import::DRAFT)?;
        }
        for (path, text) in &files {
            let folder = path.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder).and_then(|()| fs::write(path, text)).map_err(|error| {
                Failure::new(format!("cannot write `{}`: {error}", path.display()))
            })?;
        }
        Ok((profile, files.into_keys().collect()))
    }
}

fn text(imported: &Imported, written: &[PathBuf], decided: &[u32]) -> String {
    let mut text = format!("{}\n", printable(&imported.origin));
    for path in written {
        text.push_str(&format!("  wrote         {}\n", path.display()));
    }
    if imported.is_profile() {
        text.push_str(&format!("  decides       {decided:?}\n"));
    }
    for told in imported.not_imported.iter().take(SHOWN) {
        text.push_str(&format!("  not imported  {}\n", printable(told)));
    }
    if let Some(more) = imported.not_imported.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("  not imported  and {more} more, which the draft lists\n"));
    }
    text.push_str("Next: read it, try it with `assay profile explain`, and sign it\n");
    text
}

/// Component, variant and file of everything below `path`. A folder `NAME.pcrlock.d` is one
/// component with a variant in each file.
fn components(path: &Path, found: &mut Vec<(String, String, PathBuf)>) -> Result<(), Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !path.is_dir() {
        let variant = name.strip_suffix(".pcrlock").unwrap_or(name).to_owned();
        let parent = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let component = match parent.and_then(|parent| parent.strip_suffix(".pcrlock.d")) {
            Some(component) => component.to_owned(),
            None => variant.clone(),
        };
        found.push((component, variant, path.to_path_buf()));
        return Ok(());
    }
    let entries = fs::read_dir(path)
        .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?;
    let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    inside.sort();
    for path in inside {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".pcrlock") || (name.ends_with(".pcrlock.d") && path.is_dir()) {
            components(&path, found)?;
        }
    }
    match found.len() > pcrlock::MAX_FILES {
        true => Err(Failure::new(format!("more than {} files", pcrlock::MAX_FILES))),
        false => Ok(()),
    }
}

fn refused(path: &Path, error: &ImportError) -> Failure {
    Failure::refused(format!("`{}`: {}", path.display(), printable(&error.to_string())))
        .hint("`--from` says which form is expected: pcrlock, keylime or corim")
}
