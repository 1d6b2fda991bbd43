//! What the commands about measured state have in common: their inputs, and how they show what
//! consumed each event.

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Registers;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_tpm::pcr_file::PcrFile;
use serde_json::Value;
use serde_json::json;

use crate::appraisal::Measured;
use crate::cli::input::Inputs;
use crate::cli::output::Failure;
use crate::cli::output::table;
use crate::reference::files;
use crate::reference::files::Loaded;

/// As large as the reader of logs takes them.
const MAX_LOG: u64 = 4 * 1_024 * 1_024;
const MAX_LIST: u64 = 256 * 1_024 * 1_024;

pub fn read_log(inputs: &Inputs, path: &Path) -> Result<Vec<u8>, Failure> {
    inputs.read_up_to(path, MAX_LOG + 1)
}

pub fn read_list(inputs: &Inputs, path: &Path) -> Result<Vec<u8>, Failure> {
    inputs.read_up_to(path, MAX_LIST)
}

pub fn texts(inputs: &Inputs, paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    paths.iter().map(|path| inputs.read(path)).collect()
}

/// Register values by bank and index; bare ones name neither.
pub fn registers(inputs: &Inputs, path: &Path) -> Result<Registers, Failure> {
    let bytes = inputs.read(path)?;
    let failed = |why: String| Failure::new(format!("`{}`: {why}", path.display()));
    match PcrFile::parse(&bytes) {
        Ok(PcrFile::Listed(registers)) => Ok(registers),
        Ok(PcrFile::Bare(_)) => {
            let why = "bare values; the text of `tpm2_pcrread` says which register each is";
            Err(failed(why.to_owned()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

pub fn profile(path: &Path) -> Result<Loaded, Failure> {
    files::load(path, &[]).map_err(|error| Failure::from(anyhow::Error::from(error)))
}

/// Adds the members of an object to an answer; what is there already stays.
pub fn merge(json: &mut Value, more: Value) {
    if let (Some(json), Value::Object(more)) = (json.as_object_mut(), more) {
        for (key, value) in more {
            json.entry(key).or_insert(value);
        }
    }
}

/// The events with what consumed each, and the nearest variants, for `--json` and for people.
pub fn explained(measured: &Measured<'_>) -> (Value, String) {
    let mut rows =
        vec![["REGISTER", "EVENT", "CLASS", "GRADE", "RULE"].map(str::to_owned).to_vec()];
    let mut events = Vec::new();
    for event in &measured.events {
        let rule = event.item.map(ToString::to_string);
        events.push(json!({
            "index": event.index,
            "register": event.register,
            "class": event.class,
            "grade": event.grade,
            "rule": rule,
            "component": event.component.map(|component| &component.name),
        }));
        rows.push(vec![
            event.register.to_string(),
            event.index.to_string(),
            event.class.to_string(),
            event.grade.name().to_owned(),
            rule.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    rows.get_mut(1..).into_iter().for_each(|rows| {
        rows.sort_by_key(|row| row.first().and_then(|r| r.parse::<u32>().ok()));
    });
    let mut text = table(&rows);
    let mut nearest = Vec::new();
    for near in &measured.nearest {
        let variant = near.variant.as_deref();
        text.push_str(&format!(
            "\nnearest in component `{}`: {}; to admit what was found:\n{}",
            near.component,
            variant.map_or_else(|| "none in force".to_owned(), |name| format!("variant `{name}`")),
            near.stanza
        ));
        nearest.push(json!({
            "component": near.component,
            "variant": variant,
            "stanza": near.stanza,
        }));
    }
    let admitted: Vec<Value> = measured
        .admitted
        .iter()
        .map(|(component, variant)| json!({ "component": component, "variant": variant }))
        .collect();
    let json = json!({
        "events": events,
        "nearest": nearest,
        "admitted": admitted,
        "stanza": measured.nearest.iter().map(|n| n.stanza.as_str()).collect::<Vec<_>>().join("\n"),
        "quirks": measured.quirks,
    });
    (json, text)
}

/// One hash over everything that was judged, in the order in which it was given.
pub fn evidence_id(parts: &[&[u8]]) -> [u8; 32] {
    match parts {
        [one] => crypto::sha256(one),
        parts => {
            let hashes: Vec<u8> = parts.iter().flat_map(|part| crypto::sha256(part)).collect();
            crypto::sha256(&hashes)
        }
    }
}

pub fn date_after(now: Time, days: u64) -> Time {
    now + std::time::Duration::from_secs(days.saturating_mul(86_400))
}
