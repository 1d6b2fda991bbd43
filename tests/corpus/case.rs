//! One case of the corpus: what it is, its files by their role, and the verdict it must get.

use std::path::Path;
use std::path::PathBuf;

use toml::Table;
use toml::Value;

use crate::evidence::corpus;

pub struct Case {
    pub id: String,
    pub format: String,
    /// Decisive reason; empty for genuine evidence.
    pub reason: String,
    pub verify_at: Option<String>,
    folder: PathBuf,
    table: Table,
}

impl Case {
    fn read(folder: &Path) -> Case {
        let text = std::fs::read_to_string(folder.join("case.toml")).unwrap();
        let table: Table = text.parse().unwrap();
        let text = |name: &str| table.get(name).and_then(Value::as_str).map(str::to_owned);
        Case {
            id: text("id").unwrap(),
            format: text("format").unwrap(),
            reason: text("reason").unwrap_or_default(),
            verify_at: text("verify_at"),
            folder: folder.to_owned(),
            table,
        }
    }

    /// The first file of that role.
    pub fn file(&self, role: &str) -> Option<PathBuf> {
        let files = self.table.get("file").and_then(Value::as_array)?;
        files
            .iter()
            .find(|file| file.get("role").and_then(Value::as_str) == Some(role))
            .and_then(|file| file.get("name").and_then(Value::as_str))
            .map(|name| self.folder.join(name))
    }

    pub fn claim(&self, name: &str) -> Option<&str> {
        self.table.get("claims")?.get(name)?.as_str()
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.table.get(name)?.as_bool()
    }

    /// The decisive reason and those that are right too.
    pub fn reasons(&self) -> Vec<String> {
        let more = self.table.get("reasons_also_right").and_then(Value::as_array);
        let more = more.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        std::iter::once(self.reason.clone()).chain(more).collect()
    }

    /// Another file of the corpus.
    pub fn beside(&self, path: &str) -> String {
        self.folder.join("../..").join(path).display().to_string()
    }
}

pub fn cases(kind: &str) -> Option<Vec<Case>> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(corpus(kind)?).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    Some(folders.iter().map(|folder| Case::read(folder)).collect())
}
