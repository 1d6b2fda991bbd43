//! The documents and the program agree where a test can tell: generated pages are fresh, and links
//! lead somewhere.
//!
//! `ASSAY_BLESS=1 cargo test --test pages` writes the generated pages anew.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the repository.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found
}

/// Targets of `[text](target)`, the anchor cut off.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next())
}

fn dead_links(folder: &Path, text: &str) -> Vec<String> {
    links(text)
        .filter(|link| !link.is_empty() && !link.contains("://"))
        .filter(|link| !folder.join(link).exists())
        .map(str::to_owned)
        .collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages() {
        let dead = dead_links(page.parent().unwrap(), &fs::read_to_string(&page).unwrap());
        assert!(dead.is_empty(), "{}: {dead:?}", page.display());
    }
}

#[test]
fn a_dead_link_is_caught() {
    assert_eq!(dead_links(root(), "see [it](docs/nowhere.md#there)"), ["docs/nowhere.md"]);
    assert!(dead_links(root(), "[a](README.md) [b](https://example.org) [c](#here)").is_empty());
}

#[test]
fn the_page_of_reasons_is_fresh() {
    let page = root().join("docs/reference/reasons.md");
    let fresh = assay_evidence::reason::reasons_md();
    if std::env::var_os("ASSAY_BLESS").is_some() {
        fs::write(&page, &fresh).unwrap();
    }
    let stale = "docs/reference/reasons.md is stale: ASSAY_BLESS=1 cargo test --test pages";
    assert!(fs::read_to_string(&page).unwrap_or_default() == fresh, "{stale}");
}
