//! Evidence of real machines, where the shared corpus is at hand: `$ASSAY_CORPUS`, else
//! `../shared/corpus`. Without it a test says that it was skipped.

#![allow(dead_code)]

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Time;
use assay_evidence::crypto;

pub struct Case {
    pub id: String,
    pub about: toml::Table,
    folder: PathBuf,
}

/// The cases of one kind in the order of their names; nothing without the corpus.
pub fn cases(kind: &str) -> Vec<Case> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(root.join(kind)) else {
        eprintln!(
            "SKIPPED: no folder {}/{kind}: real evidence of that kind not run",
            root.display()
        );
        return Vec::new();
    };
    let mut all: Vec<Case> = entries
        .map(|entry| entry.unwrap().path())
        .filter_map(|folder| {
            let text = std::fs::read_to_string(folder.join("case.toml")).ok()?;
            let about: toml::Table = toml::from_str(&text).unwrap();
            let id = folder.file_name().unwrap().to_str().unwrap().to_owned();
            Some(Case { id, about, folder })
        })
        .collect();
    all.sort_by(|left, right| left.id.cmp(&right.id));
    all
}

/// The genuine TDX quotes with collateral, by their full case.
pub fn with_collateral() -> Vec<Case> {
    cases("tdx").into_iter().filter(|case| case.is_tdx() && case.has("collateral")).collect()
}

impl Case {
    pub fn text(&self, key: &str) -> &str {
        self.about.get(key).and_then(toml::Value::as_str).unwrap_or("")
    }

    pub fn claims(&self) -> &toml::Table {
        self.about["claims"].as_table().unwrap()
    }

    pub fn at(&self) -> Time {
        Time::parse_rfc3339(self.text("verify_at")).unwrap()
    }

    pub fn is_tdx(&self) -> bool {
        self.text("format").starts_with("tdx-")
    }

    pub fn has(&self, role: &str) -> bool {
        self.files(role).next().is_some()
    }

    /// The file of that role, its hash compared first.
    pub fn file(&self, role: &str) -> Vec<u8> {
        let file = self.files(role).next().unwrap_or_else(|| panic!("{}: no {role}", self.id));
        let bytes = std::fs::read(self.folder.join(file["name"].as_str().unwrap())).unwrap();
        let sha256 = file["sha256"].as_str().unwrap();
        assert_eq!(hex::encode(crypto::sha256(&bytes)), sha256, "{}", self.id);
        bytes
    }

    fn files(&self, role: &str) -> impl Iterator<Item = &toml::Table> {
        let files = self.about.get("file").and_then(toml::Value::as_array);
        files
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_table)
            .filter(move |file| file.get("role").and_then(toml::Value::as_str) == Some(role))
    }
}
