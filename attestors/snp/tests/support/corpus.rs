//! Real reports, where the shared corpus is at hand: `$ASSAY_CORPUS`, else `../shared/corpus`.

#![allow(dead_code)] // each test uses what it needs

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Time;

pub struct Case {
    pub folder: PathBuf,
    pub id: String,
    pub about: toml::Table,
}

/// Every case of a kind that brings evidence of its own; nothing, and a visible line, without the
/// corpus.
pub fn cases(kind: &str) -> Vec<Case> {
    let Some(folder) = folder(kind) else { return Vec::new() };
    let mut all: Vec<Case> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| Case::read(entry.unwrap().path()))
        .filter(|case| case.about.get("support").is_none())
        .collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

pub fn folder(kind: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let folder = root.join(kind);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no folder {}: real evidence of that kind not run", folder.display());
    None
}

impl Case {
    fn read(folder: PathBuf) -> Case {
        let text = std::fs::read_to_string(folder.join("case.toml")).unwrap();
        let id = folder.file_name().unwrap().to_str().unwrap().to_owned();
        Case { folder, id, about: text.parse().unwrap() }
    }

    pub fn text(&self, key: &str) -> &str {
        self.about.get(key).and_then(toml::Value::as_str).unwrap_or_default()
    }

    pub fn at(&self) -> Time {
        Time::parse_rfc3339(self.text("verify_at")).unwrap()
    }

    pub fn authentic(&self) -> bool {
        self.about.get("authentic").and_then(toml::Value::as_bool).unwrap_or(true)
    }

    /// The files with this role.
    pub fn files(&self, role: &str) -> Vec<Vec<u8>> {
        let files = self.about.get("file").and_then(toml::Value::as_array).unwrap();
        files
            .iter()
            .filter(|file| file.get("role").and_then(toml::Value::as_str) == Some(role))
            .map(|file| {
                let name = file.get("name").and_then(toml::Value::as_str).unwrap();
                std::fs::read(self.folder.join(name)).unwrap()
            })
            .collect()
    }

    pub fn file(&self, role: &str) -> Option<Vec<u8>> {
        self.files(role).pop()
    }

    /// The verdict's code, and those that are right too.
    pub fn reasons(&self) -> Vec<&str> {
        let also = self.about.get("reasons_also_right").and_then(toml::Value::as_array);
        let also = also.into_iter().flatten().filter_map(toml::Value::as_str);
        std::iter::once(self.text("reason")).chain(also).collect()
    }

    pub fn claims(&self) -> &toml::Table {
        self.about.get("claims").and_then(toml::Value::as_table).unwrap()
    }
}
