//! The certificates of the shared corpus, and the vendors that stand above its cases.

#![allow(dead_code)]

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::TpmClass;

pub fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let folder = root.join("ek-certs");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no folder {}: real certificates not run", folder.display());
    None
}

pub fn read(file: impl AsRef<Path>) -> Vec<u8> {
    let file = file.as_ref();
    std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub fn certificates(folder: &Path) -> Vec<Certificate> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "der") {
            let bytes = read(&path);
            let parsed = Certificate::parse_prefix(&bytes);
            all.push(parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display())).0);
        }
    }
    all
}

/// The certificates that the case gives above its own, the nearest first.
pub fn issuers(case: &str) -> Vec<Certificate> {
    let folder = corpus().unwrap().join(case);
    (1..)
        .map(|number| folder.join(format!("issuer-{number}.der")))
        .take_while(|path| path.is_file())
        .map(|path| Certificate::parse(&read(path)).unwrap())
        .collect()
}

/// All vendor roots and the case's own, which for GCE is in no vendor pack.
pub fn anchors(case: &str) -> Anchors {
    let issuers = issuers(case);
    let roots = certificates(&corpus().unwrap().join("vendor-roots"))
        .into_iter()
        .chain(issuers.last().cloned())
        .map(|certificate| EkRoot { certificate, class: TpmClass::Discrete });
    Anchors::new(roots.collect(), issuers)
}

pub fn at(text: &str) -> Time {
    Time::parse_rfc3339(text).unwrap()
}
