//! `assay endorsement bundle` and `assay endorsement import`: a cache as one signed file, and back.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use assay_evidence::PublicKey;
use assay_evidence::Time;
use assay_evidence::crypto::SoftwareKey;
use clap::Args;
use serde_json::json;

use crate::cli::endorsement;
use crate::cli::endorsement::CacheArgs;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::endorsement::Bundle;
use crate::endorsement::BundleError;
use crate::endorsement::Entry;
use crate::endorsement::bundle;
use crate::endorsement::bundle::MAX_BUNDLE;

#[derive(Args, Debug)]
pub struct BundleArgs {
    #[command(flatten)]
    cache: CacheArgs,
    /// P-256 key in PKCS #8, PEM or DER, that signs the bundle
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also what has ended, for who verifies old evidence
    #[arg(long)]
    ended: bool,
    /// Time the bundle is made at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// A bundle; `-` is standard input
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// Public key of whoever signs the site's bundles, P-256, PEM or DER
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    cache: CacheArgs,
    /// Accept a bundle older than the last one: what was revoked since comes back
    #[arg(long)]
    danger_older: bool,
    /// Time to judge dates at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

impl BundleArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let now = input::at(self.at);
        let inputs = Inputs::default();
        let key = inputs.read(&self.key)?;
        let der = input::pem_body(&key, "PRIVATE KEY").unwrap_or(key);
        let key = SoftwareKey::from_pkcs8(&der)
            .map_err(|error| Failure::new(format!("--key: {error}")))?;
        let mut entries = self.cache.open(&inputs)?.all();
        entries.retain(|entry| {
            let begun = entry.fetched_at() <= now;
            begun && (self.ended || entry.is_current(now, std::time::Duration::ZERO))
        });
        if entries.is_empty() {
            let path = self.cache.cache.display();
            return Err(Failure::new(format!("nothing in `{path}` is in force at {now}")));
        }
        let made = Bundle::of(entries, now).and_then(|bundle| Ok((bundle.sign(&key)?, bundle)));
        let (text, bundle) = made.map_err(|error| Failure::new(error.to_string()))?;
        fs::write(&self.out, &text).map_err(|error| {
            Failure::new(format!("cannot write `{}`: {error}", self.out.display()))
        })?;
        let none = "nothing is in it";
        let mut answer = endorsement::answer("bundled", bundle.entries(), now, none);
        let signer = hex::encode(key.public_key().spki_sha256());
        if let Some(object) = answer.json.as_object_mut() {
            object.insert("bundle".to_owned(), json!(self.out));
            object.insert("made_at".to_owned(), json!(now));
            object.insert("signer".to_owned(), json!(signer));
        }
        answer.text.push_str(&format!(
            "{} endorsements signed by {signer}: {}\n",
            bundle.entries().len(),
            self.out.display()
        ));
        Ok(answer)
    }
}

impl ImportArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let now = input::at(self.at);
        let inputs = Inputs::default();
        let key = public_key(&inputs.read(&self.key)?)?;
        let max = u64::try_from(MAX_BUNDLE).unwrap_or(u64::MAX);
        let text = inputs.read_up_to(&self.bundle, max)?;
        let cache = self.cache.open(&inputs)?;
        let opened = match Bundle::open(&text, &[key], cache.roots()) {
            Ok(opened) => opened,
            Err(error) => return refused(&error, &text),
        };
        let imported = match opened.import(&cache, now, self.danger_older) {
            Ok(imported) => imported,
            Err(error) => return refused(&error, &text),
        };
        let mut entries: Vec<Arc<Entry>> = imported.entries;
        entries.sort_by_key(|entry| entry.subject().to_string());
        let none = "nothing of it is newer than what is kept";
        let mut answer = endorsement::answer("imported", &entries, now, none);
        let older: Vec<String> = imported.older.iter().map(ToString::to_string).collect();
        if let Some(object) = answer.json.as_object_mut() {
            object.insert("made_at".to_owned(), json!(opened.bundle.made_at()));
            object.insert("signer".to_owned(), json!(hex::encode(opened.signer)));
            object.insert("kept_newer".to_owned(), json!(older));
        }
        answer.text.push_str(&format!(
            "{} endorsements of {} imported, {} newer ones kept\n",
            entries.len(),
            opened.bundle.made_at(),
            older.len()
        ));
        Ok(answer)
    }
}

fn public_key(bytes: &[u8]) -> Result<PublicKey, Failure> {
    let der = input::pem_body(bytes, "PUBLIC KEY").unwrap_or_else(|| bytes.to_vec());
    PublicKey::from_spki(&der)
        .map_err(|error| Failure::new(format!("--key: no public key: {error}")))
}

/// A bundle's own fault refuses it; the cache's leaves it open.
pub fn refused(error: &BundleError, text: &[u8]) -> Result<Answer, Failure> {
    match error.findings() {
        findings if findings.is_empty() => Err(Failure::new(error.to_string())),
        findings => Ok(Verdict::refused(findings, bundle::id(text)).answer()),
    }
}
