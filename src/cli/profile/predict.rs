//! `assay profile predict`: the next boot's values as a candidate variant, before the reboot.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::input::Inputs;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::reference::Demand;
use crate::reference::draft;
use crate::reference::predict;
use crate::reference::predict::Digests;
use crate::reference::predict::Parts;

const MAX_IMAGE: u64 = 1_024 * 1_024 * 1_024;
/// A kernel has some thousands of modules.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 32;

#[derive(Args, Debug)]
pub struct PredictArgs {
    /// Unified kernel image that will be started
    #[arg(long, value_name = "FILE", required_unless_present = "parts", conflicts_with = "parts")]
    uki: Option<PathBuf>,
    /// Hashes of an image's parts, as JSON, in place of the image
    #[arg(long, value_name = "FILE", requires = "name")]
    parts: Option<PathBuf>,
    /// Name of the image; with --parts which one of `ukis`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Profile that the candidate is for: its banks, and the sets that stay as they are
    #[arg(long, value_name = "PATH")]
    profile: Option<PathBuf>,
    /// Secure Boot is on: firmware does not measure the kernel inside by itself
    #[arg(long)]
    secure_boot: bool,
    /// Files that will be run or loaded then, such as the modules of the kernel, or a folder of them:
    /// their digests become a set for `[ima] allow`
    #[arg(long, value_name = "PATH")]
    files: Vec<PathBuf>,
}

impl PredictArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let loaded = self.profile.as_deref().map(measured::profile).transpose()?;
        let banks = match &loaded {
            Some(loaded) => loaded.profile.banks.clone(),
            None => vec![HashAlgorithm::Sha256],
        };
        let parts = self.read(&inputs, &banks)?;
        let registers = parts.registers(self.secure_boot, &banks);
        let name = self.name.clone().unwrap_or_else(|| "next".to_owned());
        let stanza = stanza(&parts, &name, self.secure_boot, &banks);
        let component = loaded.as_ref().and_then(|loaded| {
            let decides = |c: &&crate::reference::Component| {
                matches!(c.demand, Demand::Rule(_)) && c.on.contains(&4)
            };
            loaded.profile.components.iter().find(decides).map(|c| c.name.clone())
        });
        let set = self.set(&inputs, &name)?;
        let json = json!({
            "verdict": "predicted",
            "reason": null,
            "reasons": [],
            "registers": registers,
            "component": component,
            "stanza": stanza,
            "set": set,
            "not_checked": ["phases: what user space extends into PCR 11 is not predicted"],
        });
        let mut text = String::new();
        for (bank, values) in registers.iter() {
            for (register, value) in values {
                text.push_str(&format!("pcr.{bank}.{register:<3} {}\n", value.to_hex()));
            }
        }
        let component = component.as_deref().unwrap_or("boot-chain");
        text.push_str(&format!("\nto admit it, in component `{component}`:\n{stanza}"));
        if let Some(set) = &set {
            text.push_str(&format!(
                "\nto let its files run, `\"@set:{name}-files\"` in `allow` of `[ima]`, and:\n{set}"
            ));
        }
        text.push_str(&format!(
            "Next: add this, sign, and label the node `candidate={name}` before its reboot\n"
        ));
        Ok(Answer::new(json, text))
    }

    /// The digests of `--files`, as a set. IMA measures with SHA-256 where these are believed.
    fn set(&self, inputs: &Inputs, name: &str) -> Result<Option<String>, Failure> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let mut found = BTreeSet::new();
        for path in &self.files {
            files_of(path, MAX_DEPTH, &mut found)?;
        }
        let mut digests = BTreeSet::new();
        for path in &found {
            digests.insert(hex::encode(crypto::sha256(&inputs.read_up_to(path, MAX_IMAGE)?)));
        }
        let quoted: Vec<String> = digests.iter().map(|digest| format!("\"{digest}\"")).collect();
        Ok(Some(format!(
            "[[set]]\nname = {}\nserial = 1\nsha256 = {}\n",
            draft::quoted(&format!("{name}-files")),
            draft::list(&quoted)
        )))
    }

    fn read(&self, inputs: &Inputs, banks: &[HashAlgorithm]) -> Result<Parts, Failure> {
        if let Some(path) = &self.uki {
            let bytes = inputs.read_up_to(path, MAX_IMAGE)?;
            return Parts::of_image(&bytes, banks)
                .map_err(|error| Failure::refused(format!("`{}`: {error}", path.display())));
        }
        let (Some(path), Some(name)) = (&self.parts, &self.name) else {
            return Err(Failure::new("give --uki, or --parts with --name"));
        };
        let json: Value = serde_json::from_slice(&inputs.read(path)?)
            .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))?;
        parts_of(&json, name, banks)
            .ok_or_else(|| Failure::new(format!("`{}` has no image `{name}`", path.display())))
    }
}

/// The file, or the files of the folder and of those in it; links are passed over.
fn files_of(path: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot read `{}`: {error}", path.display()));
    let kind = fs::symlink_metadata(path).map_err(failed)?;
    if kind.is_file() {
        found.insert(path.to_path_buf());
    }
    if kind.is_dir() {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Failure::new(format!("`{}` is too deep", path.display())));
        };
        for entry in fs::read_dir(path).map_err(failed)? {
            files_of(&entry.map_err(failed)?.path(), depth, found)?;
        }
    }
    match found.len() > MAX_FILES {
        true => Err(Failure::new(format!("more than {MAX_FILES} files"))),
        false => Ok(()),
    }
}

/// Hashes under `kernel` and `ukis.NAME`; SHA-256 alone.
fn parts_of(json: &Value, name: &str, banks: &[HashAlgorithm]) -> Option<Parts> {
    let digest = |value: &Value| -> Option<Digests> {
        let bytes = hex::decode(value.as_str()?).ok()?;
        let digest = Digest::new(HashAlgorithm::Sha256, &bytes)?;
        Some(BTreeMap::from([(HashAlgorithm::Sha256, digest)]))
    };
    let image = json.get("ukis")?.get(name)?;
    let sections = image.get("sections")?;
    let of_section = |name: &str| digest(sections.get(name)?.get("sha256")?);
    let measured = [".linux", ".osrel", ".cmdline", ".initrd"];
    Some(Parts {
        image: digest(image.get("authenticode_sha256")?)?,
        kernel: digest(json.get("kernel")?.get("authenticode_sha256")?)?,
        sections: measured
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), of_section(name)?)))
            .collect(),
        load_options: predict::load_options(image.get("cmdline")?.as_str()?, banks),
        initrd: of_section(".initrd")?,
    })
}

/// The candidate, by register and class.
fn stanza(parts: &Parts, name: &str, secure_boot: bool, banks: &[HashAlgorithm]) -> String {
    let mut by_class: BTreeMap<&str, BTreeMap<u32, Vec<&Digests>>> = BTreeMap::new();
    let events = parts.events(secure_boot, banks);
    for (register, events) in &events {
        for (class, digests) in events {
            by_class.entry(class).or_default().entry(*register).or_default().push(digests);
        }
    }
    let mut text = format!(
        "[[component.variant]]\nname = {}\nstate = \"candidate\"\norigin = \"predicted from files\"\n",
        draft::quoted(name)
    );
    for (class, registers) in by_class {
        let sets: Vec<String> = registers
            .iter()
            .map(|(register, rows)| {
                let columns: Vec<String> = banks
                    .iter()
                    .map(|bank| {
                        let hexed = rows.iter().filter_map(|row| row.get(bank));
                        let column: Vec<String> =
                            hexed.map(|digest| format!("\"{}\"", digest.to_hex())).collect();
                        format!("{bank} = [{}]", column.join(", "))
                    })
                    .collect();
                format!("\"{register}\" = {{ ordered = true, {} }}", columns.join(", "))
            })
            .collect();
        text.push_str(&format!("{class} = {{ {} }}\n", sets.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_files_of_a_folder_are_found_and_links_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("kernel/net")).unwrap();
        fs::write(at("kernel/net/a.ko"), "a").unwrap();
        fs::write(at("kernel/b.ko"), "b").unwrap();
        fs::write(at("outside"), "c").unwrap();
        std::os::unix::fs::symlink(at("outside"), at("kernel/link")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("kernel/loop")).unwrap();
        let mut found = BTreeSet::new();
        files_of(&at("kernel"), MAX_DEPTH, &mut found).unwrap();
        assert_eq!(found, BTreeSet::from([at("kernel/b.ko"), at("kernel/net/a.ko")]));

        let mut found = BTreeSet::new();
        files_of(&at("kernel/b.ko"), MAX_DEPTH, &mut found).unwrap();
        assert_eq!(found, BTreeSet::from([at("kernel/b.ko")]));
        assert!(files_of(&at("kernel"), 1, &mut found).is_err());
        assert!(files_of(&at("nowhere"), MAX_DEPTH, &mut found).is_err());
    }
}
