//! `assay profile sign`: a DSSE envelope beside a profile or a set.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::crypto::SoftwareKey;
use clap::Args;
use serde_json::json;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::reference::Set;
use crate::reference::files;
use crate::reference::set;
use crate::reference::signature;

#[derive(Args, Debug)]
pub struct SignArgs {
    /// Profile or set; a folder means its `profile.toml`
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// P-256 key in PKCS #8, PEM or DER
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl SignArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let key = signing_key(&inputs, &self.key)?;
        let path = match self.path.is_dir() {
            true => self.path.join("profile.toml"),
            false => self.path.clone(),
        };
        let text = inputs.read_up_to(&path, 16 * 1_024 * 1_024)?;
        let text = String::from_utf8(text)
            .map_err(|_| Failure::new(format!("`{}` is no text", path.display())))?;
        let refused = |error: String| Failure::refused(format!("`{}`: {error}", path.display()));
        let is_set = text.lines().any(|line| {
            line.split_once('=').is_some_and(|(key, value)| {
                key.trim() == "schema" && value.trim().trim_matches('"') == set::SCHEMA
            })
        });
        let (canonical, kind) = match is_set {
            true => {
                let set = Set::parse(&text).map_err(|error| refused(error.to_string()))?;
                (set.canonical, signature::SET_TYPE)
            }
            false => {
                let loaded = files::load(&path, &[])
                    .map_err(|error| Failure::from(anyhow::Error::from(error)))?;
                (loaded.profile.canonical, signature::PROFILE_TYPE)
            }
        };
        let envelope = signature::sign(kind, &canonical, &key)
            .map_err(|error| Failure::new(error.to_string()))?;
        let out = files::envelope_path(&path);
        fs::write(&out, envelope)
            .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", out.display())))?;
        let signer = hex::encode(key.public_key().spki_sha256());
        let json = json!({
            "verdict": "signed",
            "reason": null,
            "envelope": out,
            "signer": signer,
            "payload_type": kind,
        });
        Ok(Answer::new(json, format!("signed by {signer}: {}\n", out.display())))
    }
}

/// A P-256 key in PKCS #8, PEM or DER.
pub(super) fn signing_key(inputs: &Inputs, path: &Path) -> Result<SoftwareKey, Failure> {
    let key = inputs.read(path)?;
    let der = input::pem_body(&key, "PRIVATE KEY").unwrap_or(key);
    SoftwareKey::from_pkcs8(&der).map_err(|error| Failure::new(format!("--key: {error}")))
}
