//! Where the shared corpus is: `$ASSAY_CORPUS`, else `../shared/corpus`. Without it a test says that
//! it was skipped.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::path::PathBuf;

use assay_eventlog::Error;
use assay_eventlog::Log;
use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;

/// One log with what its case says about it.
pub struct Case {
    pub name: String,
    pub ccel: bool,
    pub bytes: Vec<u8>,
    pub genuine: bool,
    /// Records after the Spec ID header.
    pub events: usize,
    pub registers: Registers,
    pub reason: String,
    pub folder: PathBuf,
}

impl Case {
    pub fn log(&self) -> Result<Log<'_>, Error> {
        match self.ccel {
            true => Log::parse_ccel(&self.bytes, None),
            false => Log::parse(&self.bytes),
        }
    }
}

pub fn corpus(kind: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let folder = root.join(kind);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no folder {}: real logs of that kind not read", folder.display());
    None
}

/// The logs of TPMs and of confidential machines; nothing without the corpus.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in ["tpm-eventlog", "ccel"] {
        let Some(folder) = corpus(kind) else { continue };
        for folder in folders(&folder) {
            let bytes = match std::fs::read(folder.join("eventlog.bin")) {
                Ok(bytes) => bytes,
                Err(_) => continue,
            };
            let text = std::fs::read_to_string(folder.join("case.toml")).unwrap();
            let case: toml::Value = toml::from_str(&text).unwrap();
            let claims = case.get("claims");
            let values = claims.and_then(|claims| claims.get("pcrs").or(claims.get("mrs")));
            all.push(Case {
                name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
                ccel: kind == "ccel",
                bytes,
                genuine: case["verdict"].as_str() == Some("genuine"),
                events: claims.map_or(0, |claims| number(&claims["events"])),
                registers: values.map(toml_registers).unwrap_or_default(),
                reason: case["reason"].as_str().unwrap_or_default().to_owned(),
                folder,
            });
        }
    }
    all
}

/// Our own captures.
pub fn captures() -> Vec<Case> {
    let Some(folder) = corpus("qemu-ovmf-swtpm") else { return Vec::new() };
    let mut all = Vec::new();
    for folder in folders(&folder) {
        let Ok(bytes) = std::fs::read(folder.join("eventlog.bin")) else { continue };
        let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut registers = Registers::new();
        for (bank, values) in expected["pcrs"].as_object().unwrap() {
            for (register, value) in values.as_object().unwrap() {
                let value = digest(bank, value.as_str().unwrap());
                assert!(registers.insert(register.parse().unwrap(), value));
            }
        }
        all.push(Case {
            name: folder.file_name().unwrap().to_str().unwrap().to_owned(),
            ccel: false,
            bytes,
            genuine: true,
            // These count the header too.
            events: usize::try_from(expected["eventlog"]["events"].as_u64().unwrap()).unwrap() - 1,
            registers,
            reason: String::new(),
            folder,
        });
    }
    all
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

fn toml_registers(values: &toml::Value) -> Registers {
    let mut registers = Registers::new();
    for (bank, values) in values.as_table().unwrap() {
        for (register, value) in values.as_table().unwrap() {
            let value = digest(bank, value.as_str().unwrap());
            assert!(registers.insert(register.parse().unwrap(), value));
        }
    }
    registers
}

fn digest(bank: &str, hex: &str) -> Digest {
    let bank: HashAlgorithm = bank.parse().unwrap();
    Digest::new(bank, &hex::decode(hex).unwrap()).unwrap()
}

fn number(value: &toml::Value) -> usize {
    usize::try_from(value.as_integer().unwrap()).unwrap()
}
