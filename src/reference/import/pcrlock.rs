//! systemd-pcrlock: components of a boot, each with the digests it extends (CEL-JSON), become the
//! values that registers have in the end.
//!
//! A component is `NAME.pcrlock`, or a folder `NAME.pcrlock.d` with one file for each variant of
//! it; components count in the order of their names (systemd.pcrlock(5)). Their records say no
//! type of event, so no grammar can be made: the draft has literals, one for each combination of
//! variants that leads to another value. Registers start at zero.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::crypto;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use serde_json::Map;
use serde_json::Value;

use crate::reference::import::Component;
use crate::reference::import::DECIDING;
use crate::reference::import::ImportError;
use crate::reference::import::Imported;
use crate::reference::import::Variant;
use crate::reference::import::json;
use crate::reference::profile::Root;

/// Components of one boot, and variants of one component.
pub const MAX_FILES: usize = 1_024;
const MAX_RECORDS: usize = 16_384;
/// Combinations of variants in one register: as many as a component of a profile may have.
const MAX_VALUES: usize = 256;

/// One file: a variant of a component.
#[derive(Debug, Clone)]
pub struct File<'a> {
    pub component: String,
    pub variant: String,
    pub bytes: &'a [u8],
}

/// One extension of a register.
struct Record {
    register: u32,
    digests: BTreeMap<HashAlgorithm, Digest>,
}

type Values = BTreeMap<HashAlgorithm, Digest>;

pub fn import(files: &[File<'_>]) -> Result<Imported, ImportError> {
    if files.len() > MAX_FILES {
        return Err(too_many("files", files.len(), MAX_FILES));
    }
    let names: BTreeSet<&str> = files.iter().map(|file| file.component.as_str()).collect();
    let origin = format!("imported: systemd-pcrlock, {} components", names.len());
    let mut imported = Imported::new(Root::Tpm2, origin);
    let mut told = BTreeSet::new();
    // The map keeps the order of names, which is the order of the boot.
    let mut components: BTreeMap<&str, Vec<(&str, Vec<Record>)>> = BTreeMap::new();
    for file in files {
        let records = records(file, &mut told)?;
        components.entry(&file.component).or_default().push((&file.variant, records));
    }
    let all = || components.values().flatten().flat_map(|(_, records)| records);
    let in_all = |bank: &HashAlgorithm| all().all(|record| record.digests.contains_key(bank));
    imported.banks = DECIDING.into_iter().filter(in_all).collect();
    for bank in DECIDING.into_iter().chain([HashAlgorithm::Sha1, HashAlgorithm::Sm3_256]) {
        if !imported.banks.contains(&bank) && all().any(|r| r.digests.contains_key(&bank)) {
            let why = match DECIDING.contains(&bank) {
                true => "not every record has it",
                false => "it never decides",
            };
            told.insert(format!("bank {bank}: {why}"));
        }
    }
    let registers: BTreeSet<u32> = all().map(|record| record.register).collect();
    imported.not_imported = told.into_iter().collect();
    if imported.banks.is_empty() || registers.is_empty() {
        return Err(ImportError::Nothing { told: imported.not_imported });
    }
    for register in registers {
        let mut reached = vec![(Vec::new(), start(&imported.banks))];
        for (name, variants) in &components {
            reached = advance(&reached, name, variants, register)?;
        }
        imported.components.push(component(register, reached));
    }
    Ok(imported)
}

fn component(register: u32, reached: Vec<(Vec<String>, Values)>) -> Component {
    let variant = |(path, values): (Vec<String>, Values)| Variant {
        name: if path.is_empty() { "only".to_owned() } else { path.join(" + ") },
        literals: values
            .into_iter()
            .map(|(bank, value)| (bank, BTreeMap::from([(register, value)])))
            .collect(),
        sets: BTreeMap::new(),
    };
    Component {
        name: format!("pcr-{register}"),
        on: vec![register],
        variants: reached.into_iter().map(variant).collect(),
        ..Component::default()
    }
}

/// Every value so far by every variant of the next component. Two ways to one value are one.
fn advance(
    reached: &[(Vec<String>, Values)],
    component: &str,
    variants: &[(&str, Vec<Record>)],
    register: u32,
) -> Result<Vec<(Vec<String>, Values)>, ImportError> {
    let mut next: Vec<(Vec<String>, Values)> = Vec::new();
    for (path, values) in reached {
        for (variant, records) in variants {
            let mut values = values.clone();
            for record in records.iter().filter(|record| record.register == register) {
                extend(&mut values, record)?;
            }
            if next.iter().any(|(_, known)| *known == values) {
                continue;
            }
            let mut path = path.clone();
            if variants.len() > 1 {
                path.push(format!("{component}.{variant}"));
            }
            next.push((path, values));
            if next.len() > MAX_VALUES {
                return Err(too_many("values of one register", next.len(), MAX_VALUES));
            }
        }
    }
    Ok(next)
}

fn start(banks: &[HashAlgorithm]) -> Values {
    banks.iter().map(|bank| (*bank, Digest::zero(*bank))).collect()
}

fn extend(values: &mut Values, record: &Record) -> Result<(), ImportError> {
    for (bank, value) in values.iter_mut() {
        let Some(digest) = record.digests.get(bank) else { continue };
        *value = crypto::hash(*bank, &[value.as_bytes(), digest.as_bytes()])
            .ok_or(ImportError::Bank(*bank))?;
    }
    Ok(())
}

/// The records of a file: an object with `records`, an array, the `log` of `systemd-pcrlock log
/// --json`, or the records one behind the other (JSON-SEQ, as `/run/log/systemd/tpm2-measure.log`).
fn records(file: &File<'_>, told: &mut BTreeSet<String>) -> Result<Vec<Record>, ImportError> {
    let found = match file.bytes.first() {
        Some(&RECORD_SEPARATOR) => {
            let texts = file.bytes.split(|byte| *byte == RECORD_SEPARATOR).skip(1);
            texts.map(json::parse).collect::<Result<Vec<_>, _>>()?
        }
        _ => match json::parse(file.bytes)? {
            Value::Array(list) => list,
            Value::Object(mut object) => {
                let list = object.remove("records").or_else(|| object.remove("log"));
                told.extend(object.keys().map(|key| format!("`{key}` of {}", file.component)));
                match list {
                    Some(Value::Array(list)) => list,
                    other => {
                        let expected = "a list of records";
                        return Err(value("records", other.as_ref(), expected));
                    }
                }
            }
            other => return Err(value("the file", Some(&other), "records of a log (CEL-JSON)")),
        },
    };
    if found.len() > MAX_RECORDS {
        return Err(too_many("records", found.len(), MAX_RECORDS));
    }
    let mut records = Vec::new();
    for one in found {
        let Value::Object(object) = one else {
            return Err(value("record", Some(&one), "an object"));
        };
        records.extend(record(&object, told)?);
    }
    Ok(records)
}

/// Nothing for what is measured elsewhere than into a register.
fn record(
    object: &Map<String, Value>,
    told: &mut BTreeSet<String>,
) -> Result<Option<Record>, ImportError> {
    let unknown = object.keys().filter(|key| !KNOWN.contains(&key.as_str()));
    told.extend(unknown.map(|key| format!("`{key}` of records")));
    let Some(pcr) = object.get("pcr") else {
        if let Some(index) = object.get("nv_index") {
            told.insert(format!("NV index {index}: registers alone are judged"));
            return Ok(None);
        }
        return Err(value("pcr", None, "a register, 0 to 23"));
    };
    let register = pcr.as_u64().filter(|register| *register <= 23);
    let register = register.and_then(|register| u32::try_from(register).ok());
    let register = register.ok_or_else(|| value("pcr", Some(pcr), "a register, 0 to 23"))?;
    let mut digests = BTreeMap::new();
    let mut add = |name: &Value, hex: &Value| {
        let bank = name.as_str().and_then(bank);
        let bank = bank.ok_or_else(|| value("hashAlg", Some(name), "sha1, sha256, …"))?;
        let digest = hex.as_str().and_then(|text| hex::decode(text).ok());
        let digest = digest.and_then(|bytes| Digest::new(bank, &bytes));
        let digest = digest.ok_or_else(|| value("digest", Some(hex), "a digest in hex"))?;
        match digests.insert(bank, digest) {
            None => Ok(()),
            Some(_) => Err(value("hashAlg", Some(name), "each bank once")),
        }
    };
    match object.get("digests") {
        Some(Value::Array(list)) => {
            for one in list {
                let field = |name| one.get(name).unwrap_or(&Value::Null);
                add(field("hashAlg"), field("digest"))?;
            }
        }
        None => {
            for (name, hex) in object.iter().filter(|(name, _)| bank(name).is_some()) {
                add(&Value::String(name.clone()), hex)?;
            }
        }
        other => return Err(value("digests", other, "a list")),
    }
    if digests.is_empty() {
        return Err(value("digests", None, "one digest for each bank"));
    }
    Ok(Some(Record { register, digests }))
}

fn bank(name: &str) -> Option<HashAlgorithm> {
    HashAlgorithm::ALL.into_iter().find(|bank| bank.name() == name)
}

fn value(at: &str, found: Option<&Value>, expected: &'static str) -> ImportError {
    ImportError::Value { at: at.to_owned(), found: json::kind(found), expected }
}

fn too_many(what: &'static str, found: usize, max: usize) -> ImportError {
    ImportError::TooMany { what, found, max }
}

/// RFC 7464.
const RECORD_SEPARATOR: u8 = 0x1e;
/// `recnum`, `content` and what stands behind it say what was measured, and nothing signs them;
/// systemd passes them over as well. The last line is what `systemd-pcrlock log` shows beside.
const KNOWN: [&str; 17] = [
    "pcr",
    "digests",
    "recnum",
    "content",
    "content_type",
    "nv_index",
    "sha1",
    "sha256",
    "sha384",
    "sha512",
    "sm3_256",
    "pcrname",
    "event",
    "match",
    "phase",
    "component",
    "description",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(register: u32, byte: u8) -> String {
        format!(
            r#"{{"pcr":{register},"digests":[{{"hashAlg":"sha256","digest":"{}"}}]}}"#,
            hex::encode([byte; 32])
        )
    }

    fn file<'a>(component: &str, variant: &str, text: &'a str) -> File<'a> {
        File { component: component.into(), variant: variant.into(), bytes: text.as_bytes() }
    }

    fn replayed(bytes: &[u8]) -> Digest {
        bytes.iter().fold(Digest::zero(HashAlgorithm::Sha256), |value, byte| {
            crypto::hash(HashAlgorithm::Sha256, &[value.as_bytes(), &[*byte; 32]]).unwrap()
        })
    }

    fn values(imported: &Imported, register: u32) -> Vec<Digest> {
        let component = imported.components.iter().find(|c| c.on == [register]).unwrap();
        let of = |variant: &Variant| variant.literals[&HashAlgorithm::Sha256][&register];
        component.variants.iter().map(of).collect()
    }

    #[test]
    fn components_extend_in_the_order_of_their_names_and_variants_multiply() {
        let (late, early) = (record(4, 9), format!(r#"{{"records":[{}]}}"#, record(4, 1)));
        let late = format!("[{late}]");
        let (a, b) = (format!("[{}]", record(4, 2)), format!("[{}]", record(4, 3)));
        let files = [
            file("900-late", "", &late),
            file("650-kernel", "6.5", &a),
            file("650-kernel", "6.6", &b),
            file("100-early", "", &early),
        ];
        let imported = import(&files).unwrap();
        assert_eq!(values(&imported, 4), [replayed(&[1, 2, 9]), replayed(&[1, 3, 9])]);
        assert_eq!(imported.components[0].variants[1].name, "650-kernel.6.6");
        assert!(imported.not_imported.is_empty());
        let text = imported.profile("acme/web");
        let profile = crate::reference::Profile::parse(&text).unwrap();
        assert_eq!(profile.variants().count(), 2, "{text}");
        assert!(profile.variants().all(|(_, v)| v.origin.starts_with("imported: ")));
    }

    #[test]
    fn a_sequence_and_a_log_are_read_too() {
        let sequence = format!("\u{1e}{}\n\u{1e}{}\n", record(11, 1), record(11, 2));
        let imported = import(&[file("log", "", &sequence)]).unwrap();
        assert_eq!(values(&imported, 11), [replayed(&[1, 2])]);
        let one = hex::encode([7; 32]);
        let log = format!(r#"{{"log":[{{"pcr":7,"event":"x","sha256":"{one}"}}],"more":1}}"#);
        let imported = import(&[file("log", "", &log)]).unwrap();
        assert_eq!(values(&imported, 7), [replayed(&[7])]);
        assert_eq!(imported.not_imported, ["`more` of log"]);
    }

    #[test]
    fn what_cannot_be_imported_is_told_or_refused() {
        let good = record(4, 1);
        let nv = format!(
            r#"[{good},{{"nv_index":1,"digests":[]}},{{"pcr":4,"strange":1,"digests":
            [{{"hashAlg":"sha256","digest":"{0}"}},{{"hashAlg":"sha384","digest":"{0}{1}"}}]}}]"#,
            hex::encode([2; 32]),
            hex::encode([2; 16])
        );
        let told = import(&[file("x", "", &nv)]).unwrap().not_imported;
        assert_eq!(told.len(), 3, "{told:?}");
        let sha1 = format!(
            r#"[{{"pcr":4,"digests":[{{"hashAlg":"sha1","digest":"{}"}}]}}]"#,
            hex::encode([1; 20])
        );
        assert!(import(&[file("x", "", &sha1)]).unwrap_err().to_string().contains("never"));
        for bad in [
            "",
            "{}",
            "[1]",
            "[{}]",
            r#"{"records":1}"#,
            r#"[{"pcr":24,"digests":[]}]"#,
            r#"[{"pcr":4,"digests":[]}]"#,
            r#"[{"pcr":4}]"#,
            r#"[{"pcr":"4","digests":[]}]"#,
            r#"[{"pcr":4,"digests":[{"hashAlg":"md5","digest":"00"}]}]"#,
            r#"[{"pcr":4,"digests":[{"hashAlg":"sha256","digest":"00"}]}]"#,
            r#"[{"pcr":4,"pcr":4,"digests":[]}]"#,
        ] {
            assert!(import(&[file("x", "", bad)]).is_err(), "{bad}");
        }
        let twice = good.replace("]}", &format!(",{}", &good["{\"pcr\":4,\"digests\":[".len()..]));
        assert!(import(&[file("x", "", &format!("[{twice}]"))]).is_err());
    }

    #[test]
    fn combinations_have_an_end() {
        let texts: Vec<String> = (0..9)
            .flat_map(|component| {
                (0..2).map(move |variant| format!("[{}]", record(4, component * 2 + variant)))
            })
            .collect();
        let files: Vec<File<'_>> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| file(&format!("{}", i / 2), &format!("{}", i % 2), text))
            .collect();
        assert!(matches!(import(&files), Err(ImportError::TooMany { .. })));
        assert!(import(&files[..16]).is_ok());
    }
}
