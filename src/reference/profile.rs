//! A firmware profile: which registers it decides, by what, and what may be there.
//!
//! `profile.toml` is syntax; [`Profile`] is the checked value. Each register belongs to exactly one
//! component; a component decides by a grammar with sets (`rule`), by literal values (`pcr` in its
//! variants), by somebody's signature (`vouched`), or says openly that it does not decide
//! (`mode = "record"`). A component of `require` or `tokens` alone reads and consumes nothing.
//!
//! What a profile means for a machine is `appraisal`'s business; this file only reads.

mod component;
mod variant;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::crypto;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::time::Time;
use assay_snp::policy::Floor;
use serde_json::Value;
use serde_json::json;

use crate::canonical;
use crate::reference::class;
use crate::reference::digests::Digests;
use crate::reference::fields::Fields;
use crate::reference::fields::refused;
use crate::reference::ima_rules::ImaRules;
use crate::reference::set::Set;
use crate::reference::set::Sets;

pub use component::Component;
pub use component::Demand;
pub use component::Vouched;
pub use variant::Allowed;
pub use variant::State;
pub use variant::Variant;

pub const SCHEMA: &str = "firmware-profile/1";
const MAX_COMPONENTS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub id: String,
    pub serial: u64,
    pub root: Root,
    /// Banks that may decide, in order of preference.
    pub banks: Vec<HashAlgorithm>,
    /// Names of the quirks that this profile lives with.
    pub quirks: BTreeSet<String>,
    pub select: Select,
    pub components: Vec<Component>,
    /// All digests that any variant lists: what makes an event of a log `known`.
    pub known: Digests,
    /// The least that the platform of a guest must run, by product; for root `snp`.
    pub floors: Vec<Floor>,
    pub ima: Option<ImaRules>,
    pub evidence: Vec<Evidence>,
    /// SHA-256 over the canonical JSON of the profile and of every set it takes from elsewhere;
    /// goes into every record.
    pub sha256: [u8; 32],
    /// The canonical JSON of the file itself: what is signed.
    pub canonical: Vec<u8>,
}

/// Which registers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// PCR 0–23 (TCG PC Client platform).
    Tpm2,
    /// Measurement registers of a CCEL: 0 is MRTD, 1–4 are RTMR 0–3.
    Tdx,
    /// Register 0: the launch digest.
    Snp,
}

/// For which hosts the profile is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Select {
    /// By a bound claim; otherwise by the node's enrolment.
    pub by_claim: bool,
    /// claim → glob
    pub expect: BTreeMap<String, String>,
}

/// A log that the profile ships, and what must come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub log: String,
    pub pcrs: Option<String>,
    pub ima: Option<String>,
    pub passes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    #[error("{0}")]
    Syntax(String),
    #[error("line {line}: unknown key `{key}`")]
    UnknownKey { line: usize, key: String },
    #[error("line {line}: `{key}` is `{found}`, expected {expected}")]
    Value { line: usize, key: String, found: String, expected: String },
    #[error("component `{component}`, variant `{variant}`, line {line}: {fault}")]
    Variant { component: String, variant: String, line: usize, fault: String },
    #[error("register {register} belongs to `{first}` and to `{second}`, expected one component")]
    TwoOwners { register: u32, first: String, second: String },
    #[error("the signature of `{what}`: {fault}")]
    Signature { what: String, fault: String },
    #[error("serial {found} of `{id}` is below {last}, which was seen before")]
    Serial { id: String, found: u64, last: u64 },
}

impl Profile {
    /// A profile that needs no sets from elsewhere.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        Self::parse_with(text, &Sets::default())
    }

    /// `library` holds what `@set:` may name beside the profile's own sets.
    pub fn parse_with(text: &str, library: &Sets) -> Result<Self, ProfileError> {
        let (mut fields, json) = Fields::parse(text)?;
        let schema = fields.required("schema")?;
        if schema != SCHEMA {
            return Err(refused(1, "schema", &schema, SCHEMA));
        }
        let id = fields.required("id")?;
        if id.is_empty() || id.len() > 128 || id.chars().any(char::is_control) {
            return Err(refused(1, "id", &id, "1 to 128 bytes"));
        }
        let serial = fields
            .number("serial")?
            .ok_or_else(|| refused(1, "serial", "nothing", "a whole number that only grows"))?;
        let root = fields.required("root")?;
        let root =
            Root::parse(&root).ok_or_else(|| refused(1, "root", &root, "tpm2, tdx or snp"))?;
        let banks = banks(&mut fields)?;
        if root != Root::Tpm2 && banks != [HashAlgorithm::Sha384] {
            let found = banks.iter().map(|bank| bank.name()).collect::<Vec<_>>().join(", ");
            return Err(refused(1, "banks", &found, "sha384 alone, as a processor measures"));
        }
        let quirks = quirks(&mut fields)?;
        let select = Select::from_fields(fields.table("select")?)?;
        let keys = keys(fields.tables("key")?)?;
        let sets = Shelf::of(&mut fields, &json, library)?;
        let components = fields.tables("component")?;
        if components.is_empty() || components.len() > MAX_COMPONENTS {
            let found = components.len().to_string();
            return Err(refused(1, "component", &found, "1 to 64 components"));
        }
        let ground = Ground { root, banks: &banks, sets: &sets.all, keys: &keys };
        let components = components
            .into_iter()
            .map(|component| Component::from_fields(component, &ground))
            .collect::<Result<Vec<_>, _>>()?;
        one_owner_each(&components)?;
        let floors = floors(&mut fields, &json, root)?;
        let ima =
            fields.table("ima")?.map(|ima| ImaRules::from_fields(ima, &sets.all)).transpose()?;
        if root == Root::Snp {
            no_events(&components, ima.as_ref())?;
        }
        let evidence = fields
            .tables("evidence")?
            .into_iter()
            .map(Evidence::from_fields)
            .collect::<Result<_, _>>()?;
        fields.finish()?;

        let inexact = |error: canonical::InexactNumber| ProfileError::Syntax(error.to_string());
        let canonical = canonical::write(&json).map_err(inexact)?;
        let whole = json!({ "profile": json, "sets": sets.named_in(&json) });
        Ok(Self {
            id,
            serial,
            root,
            banks,
            quirks,
            select,
            known: known(&components),
            components,
            floors,
            ima,
            evidence,
            sha256: crypto::sha256(&canonical::write(&whole).map_err(inexact)?),
            canonical,
        })
    }

    /// The variant is named for people: `firmware/1.59`.
    pub fn variants(&self) -> impl Iterator<Item = (&Component, &Variant)> {
        self.components.iter().flat_map(|component| {
            component.variants.iter().map(move |variant| (component, variant))
        })
    }

    /// Whether any component looks into a log; literals alone need none.
    pub fn needs_log(&self) -> bool {
        let read = |component: &Component| {
            !matches!(component.demand, Demand::Literal | Demand::Record { .. })
        };
        self.components.iter().any(read) || !self.select.expect.is_empty()
    }

    pub fn needs_ima(&self) -> bool {
        self.ima.is_some()
    }

    /// Registers that are decided, ascending.
    pub fn decided(&self) -> BTreeSet<u32> {
        let decides = |component: &&Component| {
            !matches!(component.demand, Demand::Record { .. } | Demand::Read)
        };
        let components = self.components.iter().filter(decides);
        components.flat_map(|component| component.on.iter().copied()).collect()
    }

    pub fn recorded(&self) -> BTreeSet<u32> {
        let components =
            self.components.iter().filter(|c| matches!(c.demand, Demand::Record { .. }));
        components.flat_map(|component| component.on.iter().copied()).collect()
    }

    /// The components that record and whose time for another look has come.
    pub fn overdue(&self, now: Time) -> impl Iterator<Item = &Component> {
        self.components.iter().filter(move |component| {
            matches!(component.demand, Demand::Record { review_by, .. } if review_by <= now)
        })
    }

    /// Refuses to go back: `last` is the serial that was seen under this id before.
    pub fn accept_serial(&self, last: Option<u64>) -> Result<(), ProfileError> {
        match last {
            Some(last) if self.serial < last => {
                Err(ProfileError::Serial { id: self.id.clone(), found: self.serial, last })
            }
            _ => Ok(()),
        }
    }
}

/// What the parts of a profile are read against.
struct Ground<'a> {
    root: Root,
    banks: &'a [HashAlgorithm],
    sets: &'a Sets,
    keys: &'a BTreeMap<String, Vec<u8>>,
}

/// The sets within reach: the profile's own and the library's.
struct Shelf {
    all: Sets,
    library: Vec<(String, u64, [u8; 32])>,
}

impl Shelf {
    fn of(fields: &mut Fields, json: &Value, library: &Sets) -> Result<Self, ProfileError> {
        let mut all = Sets::default();
        let own = json.get("set").and_then(Value::as_array);
        let tables = fields.tables("set")?;
        for (table, json) in tables.into_iter().zip(own.into_iter().flatten()) {
            all.insert(Set::from_fields(table, json)?)?;
        }
        let mut from_library = Vec::new();
        for set in library.iter().filter(|set| all.named(&set.name).is_none()) {
            from_library.push((set.name.clone(), set.serial, set.sha256));
        }
        for set in library.iter() {
            // A profile's own set stands before the library's of the same name.
            if all.named(&set.name).is_none() {
                all.insert(set.clone())?;
            }
        }
        Ok(Self { all, library: from_library })
    }

    /// Those of the library that the profile names, for the digest of what decided.
    fn named_in(&self, profile: &Value) -> Vec<Value> {
        let mut named = BTreeSet::new();
        names(profile, &mut named);
        self.library
            .iter()
            .filter(|(name, ..)| named.contains(name.as_str()))
            .map(|(name, serial, sha256)| json!([name, serial, hex::encode(sha256)]))
            .collect()
    }
}

/// Every `@set:name` of a value, however its text was quoted.
fn names<'j>(value: &'j Value, found: &mut BTreeSet<&'j str>) {
    match value {
        Value::String(text) => found.extend(text.strip_prefix("@set:")),
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        Value::Object(members) => members.values().for_each(|member| names(member, found)),
        _ => {}
    }
}

impl Root {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "tpm2" => Self::Tpm2,
            "tdx" => Self::Tdx,
            "snp" => Self::Snp,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tpm2 => "tpm2",
            Self::Tdx => "tdx",
            Self::Snp => "snp",
        }
    }

    /// First and last register.
    pub fn registers(self) -> (u32, u32) {
        match self {
            Self::Tpm2 => (0, 23),
            Self::Tdx => (0, 4),
            Self::Snp => (0, 0),
        }
    }
}

impl Select {
    fn from_fields(fields: Option<Fields>) -> Result<Self, ProfileError> {
        let Some(mut fields) = fields else { return Ok(Self::default()) };
        let line = fields.line;
        let by = fields.required("by")?;
        let mut expect = BTreeMap::new();
        for (claim, node) in fields.table("expect")?.map(Fields::rest).unwrap_or_default() {
            use crate::reference::requirement::Kind;
            if crate::reference::requirement::kind(&claim) != Some(Kind::Text) {
                let expected = "a text that a digest binds, such as `fw.version`";
                return Err(refused(node.line, "expect", &claim, expected));
            }
            expect.insert(claim, node.text("expect")?);
        }
        fields.finish()?;
        match by.as_str() {
            "enrolment" => Ok(Self { by_claim: false, expect }),
            "claim" if !expect.is_empty() => Ok(Self { by_claim: true, expect }),
            _ => Err(refused(line, "by", &by, "`enrolment`, or `claim` with `expect`")),
        }
    }
}

impl Evidence {
    fn from_fields(mut fields: Fields) -> Result<Self, ProfileError> {
        let line = fields.line;
        let log = fields.required("log")?;
        let pcrs = fields.text("pcrs")?;
        let ima = fields.text("ima")?;
        let expect = fields.required("expect")?;
        let passes = match expect.as_str() {
            "pass" => true,
            "refuse" => false,
            _ => return Err(refused(line, "expect", &expect, "`pass` or `refuse`")),
        };
        fields.finish()?;
        Ok(Self { log, pcrs, ima, passes })
    }
}

fn banks(fields: &mut Fields) -> Result<Vec<HashAlgorithm>, ProfileError> {
    let line = fields.line;
    let mut banks = Vec::new();
    for name in fields.texts("banks")?.unwrap_or_default() {
        let bank = deciding_bank(&name).filter(|bank| !banks.contains(bank));
        let expected = "sha256, sha384 or sha512, each once: sha1 never decides";
        banks.push(bank.ok_or_else(|| refused(line, "banks", &name, expected))?);
    }
    if banks.is_empty() {
        return Err(refused(line, "banks", "[]", "at least one bank"));
    }
    Ok(banks)
}

fn quirks(fields: &mut Fields) -> Result<BTreeSet<String>, ProfileError> {
    let line = fields.line;
    let mut quirks = BTreeSet::new();
    for name in fields.texts("quirks")?.unwrap_or_default() {
        if !class::is_quirk(&name) {
            return Err(refused(line, "quirks", &name, "a quirk of firmware-profiles/quirks.toml"));
        }
        quirks.insert(name);
    }
    Ok(quirks)
}

fn keys(tables: Vec<Fields>) -> Result<BTreeMap<String, Vec<u8>>, ProfileError> {
    let mut keys = BTreeMap::new();
    for mut table in tables {
        let line = table.line;
        let name = table.required("name")?;
        let spki = table.required("spki")?;
        table.finish()?;
        let der = crate::reference::signature::spki_der(&spki)
            .ok_or_else(|| refused(line, "spki", &name, "a public key in PEM"))?;
        keys.insert(name, der);
    }
    Ok(keys)
}

/// `[[floor]]`: as in a policy, in this profile's name.
fn floors(fields: &mut Fields, json: &Value, root: Root) -> Result<Vec<Floor>, ProfileError> {
    let tables = fields.tables("floor")?;
    let written = json.get("floor").and_then(Value::as_array);
    let mut floors = Vec::new();
    for (table, json) in tables.into_iter().zip(written.into_iter().flatten()) {
        let line = table.line;
        if root != Root::Snp {
            return Err(refused(line, "floor", root.name(), "a profile of root `snp`"));
        }
        let floor: Floor = serde_json::from_value(json.clone())
            .map_err(|error| refused(line, "floor", &error.to_string(), "least versions"))?;
        floors.push(floor);
    }
    Ok(floors)
}

/// A launch digest is one value: there is no log to read.
fn no_events(components: &[Component], ima: Option<&ImaRules>) -> Result<(), ProfileError> {
    let expected = "register values alone: a launch digest has no events";
    if let Some(ima) = ima {
        return Err(refused(ima.line, "ima", "root snp", expected));
    }
    let reads = |component: &&Component| {
        component.demand != Demand::Literal
            || !component.require.is_empty()
            || component.tokens.is_some()
            || !component.bound.is_empty()
    };
    match components.iter().find(reads) {
        Some(component) => Err(refused(component.line, "component", &component.name, expected)),
        None => Ok(()),
    }
}

fn one_owner_each(components: &[Component]) -> Result<(), ProfileError> {
    let mut owners: BTreeMap<u32, &str> = BTreeMap::new();
    for component in components.iter().filter(|c| c.demand != Demand::Read) {
        for register in &component.on {
            if let Some(first) = owners.insert(*register, &component.name) {
                return Err(ProfileError::TwoOwners {
                    register: *register,
                    first: first.to_owned(),
                    second: component.name.clone(),
                });
            }
        }
    }
    Ok(())
}

fn known(components: &[Component]) -> Digests {
    components
        .iter()
        .flat_map(|component| &component.variants)
        .flat_map(|variant| variant.sets.values())
        .flat_map(|allowed| &allowed.set.rows)
        .flat_map(|row| row.digests.values().copied())
        .collect()
}

fn deciding_bank(name: &str) -> Option<HashAlgorithm> {
    match name {
        "sha256" => Some(HashAlgorithm::Sha256),
        "sha384" => Some(HashAlgorithm::Sha384),
        "sha512" => Some(HashAlgorithm::Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
