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

/// `| what | 16 KiB | `file` `CONSTANT` |` in docs/reference/limits.md.
fn promise(row: &str) -> Option<(u64, &str, &str)> {
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let [_, _, limit, place, _] = cells[..] else { return None };
    let mut names = place.split('`').filter(|part| !part.trim().is_empty());
    let (file, name) = (names.next()?, names.next()?);
    let (number, unit) = limit.split_once(' ').unwrap_or((limit, ""));
    let unit = match unit {
        "" | "s" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "h" => 3_600,
        "d" => 86_400,
        _ => panic!("unit `{unit}`"),
    };
    Some((number.parse::<u64>().ok()? * unit, file, name))
}

/// The value of `const NAME: … = 80 * 1_024 * 1_024;` or `= Duration::from_secs(60);`
fn constant(code: &str, name: &str) -> Option<u64> {
    let declared = code.split(&format!("const {name}: ")).nth(1)?;
    let value = declared.split(';').next()?.split('=').nth(1)?.replace('_', "");
    let value = value.trim().trim_start_matches("Duration::fromsecs(").trim_end_matches(')');
    value.split('*').map(|factor| factor.trim().parse::<u64>().ok()).product()
}

#[test]
fn each_limit_on_the_page_is_the_number_in_the_code() {
    let page = fs::read_to_string(root().join("docs/reference/limits.md")).unwrap();
    let mut promises = 0;
    for (limit, file, name) in page.lines().filter_map(promise) {
        let code = fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("no `{file}`"));
        assert_eq!(constant(&code, name), Some(limit), "`{name}` in {file}");
        promises += 1;
    }
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains('`')).count();
    assert_eq!(promises, rows, "a row that the test cannot read");
}

#[test]
fn a_limit_that_differs_is_caught() {
    let row = "| a frame | 2 MiB | `src/x.rs` `MAX` |";
    assert_eq!(promise(row), Some((2 << 20, "src/x.rs", "MAX")));
    assert_eq!(constant("pub const MAX: usize = 2 * 1_024 * 1_024;", "MAX"), Some(2 << 20));
    assert_eq!(constant("const MAX: Duration = Duration::from_secs(7);", "MAX"), Some(7));
    assert_eq!(constant("const OTHER: u8 = 1;", "MAX"), None);
}

/// The TOML blocks of a page by the file name in their first line; values left open are filled.
fn files_on(page: &str) -> Vec<(String, String)> {
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .filter_map(|block| {
            let name = block.lines().next()?.strip_prefix("# ")?;
            let name = name.split(|c: char| c != '.' && !c.is_alphanumeric()).next()?;
            Some((name.to_owned(), block.replace("\"…\"", &format!("\"{}\"", "0f".repeat(32)))))
        })
        .collect()
}

/// What `assay server validate` says about the files of a page.
fn server_reads(page: &str, change: (&str, &str)) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let vectors = root().join("attestors/tpm/vectors/swtpm");
    for (from, to) in [("root.pem", "vendor-root.pem"), ("issuer.pem", "vendor-issuer.pem")] {
        fs::copy(vectors.join(from), folder.path().join(to)).unwrap();
    }
    let page = fs::read_to_string(root().join(page)).unwrap();
    for (name, text) in files_on(&page) {
        fs::write(folder.path().join(name), text.replace(change.0, change.1)).unwrap();
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_assay"))
        .args(["server", "validate", "--config"])
        .arg(folder.path().join("server.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

#[test]
fn the_program_reads_the_configuration_that_the_pages_show() {
    for page in ["docs/reference/server.md", "docs/guides/first-host.md"] {
        assert_eq!(server_reads(page, ("", "")), Ok(()), "{page}");
    }
}

#[test]
fn a_key_that_the_program_does_not_know_is_caught() {
    let said = server_reads("docs/reference/server.md", ("max_age ", "maximum_age ")).unwrap_err();
    assert!(said.contains("maximum_age"), "{said}");
}
