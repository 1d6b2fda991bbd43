//! Makes the packs under `firmware-profiles/ek-roots/` from `recipe.toml` there: for maintainers.
//!
//! `cargo run --example ek_roots -- FOLDER` where FOLDER holds clones of the repositories that the
//! recipe names, as `FOLDER/<owner>/<name>`. Each is read at the commit that the recipe pins, so
//! the same recipe gives the same bytes on any machine. Anchors are chosen in the recipe by their
//! fingerprint; an intermediate is filed under the anchor that it verifies up to, by our own walk.
//! What verifies up to none is listed and left out. Nothing is downloaded and nothing invented.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_evidence::chain;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    schema: String,
    source: Vec<Source>,
    root: Vec<Root>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    name: String,
    repository: String,
    commit: String,
    licence: String,
    /// Files, or folders with a slash at the end.
    files: Vec<String>,
    /// Files that say where vendors publish: `url: "…"`, then `sha256: "AA:BB:…"`.
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    pack: String,
    vendor: String,
    class: String,
    sha256: String,
    note: Option<String>,
}

/// A certificate and where it was found first.
struct Found<'a> {
    certificate: Certificate,
    source: &'a Source,
    path: String,
}

fn main() -> Result<()> {
    let fetched = std::env::args().nth(1).context("usage: ek_roots FOLDER-OF-CLONES")?;
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-profiles/ek-roots");
    let recipe: Recipe = toml::from_str(&fs::read_to_string(home.join("recipe.toml"))?)?;
    if recipe.schema != "ek-roots-recipe/1" {
        bail!("recipe of schema `{}`", recipe.schema);
    }
    let (mut found, mut addresses) = (Vec::new(), BTreeMap::new());
    for source in &recipe.source {
        gather(Path::new(&fetched), source, &mut found, &mut addresses)?;
    }
    let files = file(&recipe, &found, &addresses)?;
    for ((pack, vendor), text) in &files {
        let folder = home.join(pack);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{}.toml", vendor.to_lowercase())), text)?;
    }
    println!("{} certificates found, {} files written", found.len(), files.len());
    Ok(())
}

/// Every certificate of a source that was not seen before, in the order of the recipe.
fn gather<'a>(
    fetched: &Path,
    source: &'a Source,
    found: &mut Vec<Found<'a>>,
    addresses: &mut BTreeMap<String, String>,
) -> Result<()> {
    let name = source.repository.trim_start_matches("github:");
    let git = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output =
            Command::new("git").arg("-C").arg(fetched.join(name)).args(arguments).output()?;
        if !output.status.success() {
            bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    };
    let tree = git(&["ls-tree", "-r", "-z", "--name-only", &source.commit])?;
    let tree = String::from_utf8(tree)?;
    let wanted = |path: &&str| {
        source
            .files
            .iter()
            .any(|file| path == file || file.ends_with('/') && path.starts_with(file))
    };
    for path in tree.split('\0').filter(wanted) {
        let bytes = git(&["show", &format!("{}:{path}", source.commit)])?;
        for der in certificates(&bytes) {
            let certificate = match Certificate::parse_prefix(&der) {
                // Some files end in a newline.
                Ok((certificate, rest)) if rest.trim_ascii().is_empty() => certificate,
                _ => {
                    println!("left out: {name}/{path}: not a certificate");
                    continue;
                }
            };
            if !found.iter().any(|known| known.certificate == certificate) {
                found.push(Found { certificate, source, path: path.to_owned() });
            }
        }
    }
    for path in &source.addresses {
        let text = String::from_utf8(git(&["show", &format!("{}:{path}", source.commit)])?)?;
        let mut address = None;
        for line in text.lines() {
            let quoted = || line.split('"').nth(1).map(str::to_owned);
            match line.trim().split(':').next() {
                Some("url" | "uri") => address = quoted(),
                Some("sha256") => {
                    let sha256 = quoted().unwrap_or_default().replace(':', "").to_lowercase();
                    let address = address.take().filter(|it| it.starts_with("http"));
                    addresses.extend(address.map(|address| (sha256, address)));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// DER certificates of a file: PEM anywhere in it, also as strings of a program, or the file.
fn certificates(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    let in_pem: Vec<_> = text
        .split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .filter_map(|rest| rest.split("-----END CERTIFICATE-----").next())
        .filter_map(|body| {
            let base64 = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
            STANDARD.decode(body.replace("\\n", "").chars().filter(base64).collect::<String>()).ok()
        })
        .collect();
    match (in_pem.is_empty(), bytes.first()) {
        (true, Some(0x30)) => vec![bytes.to_vec()],
        _ => in_pem,
    }
}

/// The text of every file, by pack and vendor.
fn file(
    recipe: &Recipe,
    found: &[Found<'_>],
    addresses: &BTreeMap<String, String>,
) -> Result<BTreeMap<(String, String), String>> {
    let sha256 = |found: &Found<'_>| hex::encode(found.certificate.sha256());
    let mut anchors = Vec::new();
    for root in &recipe.root {
        let known = found.iter().find(|found| sha256(found) == root.sha256);
        anchors.push((root, known.with_context(|| format!("no source has {}", root.sha256))?));
    }
    let is_anchor =
        |found: &Found<'_>| anchors.iter().any(|(_, root)| root.certificate == found.certificate);

    // (root, certificates): the anchor first, then what stands below it.
    let mut below: Vec<(&Root, Vec<&Found<'_>>)> =
        anchors.iter().map(|(root, found)| (*root, vec![*found])).collect();
    let certificates = |all: Vec<&Found<'_>>| -> Vec<Certificate> {
        all.iter().map(|found| found.certificate.clone()).collect()
    };
    let roots = certificates(anchors.iter().map(|(_, found)| *found).collect());
    let others = certificates(found.iter().filter(|found| !is_anchor(found)).collect());
    for candidate in found.iter().filter(|found| !is_anchor(found)) {
        let subject = subject(&candidate.certificate)?;
        let left_out =
            |why: &str| println!("left out: {} {subject}: {why}", &sha256(candidate)[..16]);
        let certificate = &candidate.certificate;
        if roots.iter().any(|root| {
            chain::same_name(root.subject(), certificate.subject())
                && root.spki_der() == certificate.spki_der()
        }) {
            left_out("another form of an anchor, same name and key");
            continue;
        }
        let began = others.iter().map(Certificate::not_before);
        let times: BTreeSet<Time> = std::iter::once(certificate.not_before())
            .chain(began.filter(|time| *time > certificate.not_before()))
            .collect();
        let root = times.into_iter().find_map(|time| {
            chain::verify(certificate, &others, &roots, time).ok().map(|path| path.root())
        });
        match root.and_then(|root| below.get_mut(root)) {
            Some((_, children)) => children.push(candidate),
            None => {
                let now = certificate.not_before();
                match chain::verify(certificate, &others, &roots, now) {
                    Err(fault) => left_out(&fault.to_string()),
                    Ok(_) => left_out("an anchor that is not in the recipe"),
                }
            }
        }
    }

    let mut entries: BTreeMap<(String, String), Vec<(&Root, &Found<'_>)>> = BTreeMap::new();
    for (root, family) in below {
        let file = entries.entry((root.pack.clone(), root.vendor.clone())).or_default();
        file.extend(family.into_iter().map(|found| (root, found)));
    }
    let mut files = BTreeMap::new();
    for ((pack, vendor), mut entries) in entries {
        entries.sort_by_cached_key(|(root, found)| {
            (
                root.sha256 != sha256(found),
                subject(&found.certificate).unwrap_or_default(),
                sha256(found),
            )
        });
        let mut text = String::from(
            "# Made by `cargo run --example ek_roots` from recipe.toml; not to be edited.\n\n",
        );
        writeln!(text, "schema = \"ek-roots/1\"\npack   = \"{pack}\"\nvendor = \"{vendor}\"")?;
        for source in &recipe.source {
            if entries.iter().any(|(_, found)| found.source.name == source.name) {
                writeln!(
                    text,
                    "\n[[source]]\nname       = \"{}\"\nrepository = \"{}\"\n\
                     commit     = \"{}\"\nlicence    = \"{}\"",
                    source.name, source.repository, source.commit, source.licence
                )?;
            }
        }
        for (root, found) in entries {
            let published = addresses.get(&sha256(found));
            write_entry(&mut text, root, found, published)?;
        }
        files.insert((pack, vendor), text);
    }
    Ok(files)
}

fn write_entry(
    text: &mut String,
    root: &Root,
    found: &Found<'_>,
    published: Option<&String>,
) -> Result<()> {
    let certificate = &found.certificate;
    let is_root = root.sha256 == hex::encode(certificate.sha256());
    let role = if is_root { "root" } else { "intermediate" };
    writeln!(text, "\n[[certificate]]\nsubject    = {:?}", subject(certificate)?)?;
    writeln!(text, "role       = \"{role}\"\nclass      = \"{}\"", root.class)?;
    writeln!(text, "sha256     = \"{}\"", hex::encode(certificate.sha256()))?;
    writeln!(text, "not_before = \"{}\"", certificate.not_before())?;
    writeln!(text, "not_after  = \"{}\"", certificate.not_after())?;
    writeln!(text, "source     = \"{}\"\npath       = {:?}", found.source.name, found.path)?;
    if let Some(published) = published {
        writeln!(text, "published  = {published:?}")?;
    }
    if let Some(note) = root.note.as_ref().filter(|_| is_root) {
        writeln!(text, "note       = {note:?}")?;
    }
    let base64 = STANDARD.encode(certificate.der());
    writeln!(text, "pem        = '''\n-----BEGIN CERTIFICATE-----")?;
    for line in base64.as_bytes().chunks(64) {
        writeln!(text, "{}", std::str::from_utf8(line)?)?;
    }
    writeln!(text, "-----END CERTIFICATE-----\n'''")?;
    Ok(())
}

fn subject(certificate: &Certificate) -> Result<String> {
    let (_, parsed) = X509Certificate::from_der(certificate.der())?;
    Ok(parsed.subject().to_string())
}
