//! A firmware profile: which registers it decides, by what, and what may be there.
//!
//! `profile.toml` is syntax; [`Profile`] is the checked value. Each register belongs to exactly one
//! component; a component decides by a grammar with sets (`rule`), by literal values (`pcr` in its
//! variants), by somebody's signature (`vouched`), or says openly that it does not decide
//! (`mode = "record"`). A component of `require` or `tokens` alone reads and consumes nothing.
//!
//! What a profile means for a machine is `appraisal`'s business; this file only reads.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::crypto;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::time::Time;
use serde_json::Value;
use serde_json::json;

use crate::canonical;
use crate::reference::class;
use crate::reference::fields::Fields;
use crate::reference::fields::Node;
use crate::reference::fields::Written;
use crate::reference::fields::refused;
use crate::reference::grammar::Rule;
use crate::reference::ima_rules::ImaRules;
use crate::reference::pcr_signature::PHASES;
use crate::reference::requirement::Requirement;
use crate::reference::set::Content;
use crate::reference::set::DigestSet;
use crate::reference::set::Set;
use crate::reference::set::Sets;
use crate::reference::tokens::Tokens;

pub const SCHEMA: &str = "firmware-profile/1";
const MAX_COMPONENTS: usize = 64;
const MAX_VARIANTS: usize = 256;

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
    /// Measurement registers 1–4 of a CCEL: RTMR 0–3.
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    pub name: String,
    pub line: usize,
    /// Registers, ascending.
    pub on: Vec<u32>,
    pub demand: Demand,
    pub require: Vec<Requirement>,
    pub tokens: Option<Tokens>,
    /// Classes of events whose text must be bound wherever they are in these registers.
    pub bound: BTreeSet<String>,
    pub variants: Vec<Variant>,
}

/// How a component decides its registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// Register values, in the variants.
    Literal,
    /// A grammar per register; the variants say which digests.
    Rule(BTreeMap<u32, Rule>),
    /// Whatever a listed key has signed.
    Vouched(Vouched),
    /// Shown, never decided.
    Record { because: String, review_by: Time },
    /// Consumes nothing: tests on what other components decide.
    Read,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    pub by: String,
    /// SubjectPublicKeyInfo in DER.
    pub keys: Vec<Vec<u8>>,
    pub phase: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub name: String,
    pub state: State,
    pub origin: String,
    /// Where the variant stands in the profile's text.
    pub line: usize,
    /// bank → register → value
    pub literals: BTreeMap<HashAlgorithm, BTreeMap<u32, Digest>>,
    /// (register, class) → the set that its events must match
    pub sets: BTreeMap<(u32, String), Allowed>,
}

/// What the events of one class in one register must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// As the profile writes it.
    pub name: String,
    pub set: DigestSet,
}

/// Where a variant is in its life: only `Active`, an unexpired `Retiring`, and a `Candidate` on a
/// node it was predicted for admit a machine. `Revoked` always refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Candidate,
    Active,
    Retiring { until: Time },
    Revoked { reason: String },
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
        let ima =
            fields.table("ima")?.map(|ima| ImaRules::from_fields(ima, &sets.all)).transpose()?;
        let evidence = fields
            .tables("evidence")?
            .into_iter()
            .map(Evidence::from_fields)
            .collect::<Result<_, _>>()?;
        fields.finish()?;

        let inexact = |error: canonical::InexactNumber| ProfileError::Syntax(error.to_string());
        let canonical = canonical::write(&json).map_err(inexact)?;
        let whole = json!({ "profile": json, "sets": sets.named_in(text) });
        Ok(Self {
            id,
            serial,
            root,
            banks,
            quirks,
            select,
            components,
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

    /// Those of the library that the text names, for the digest of what decided.
    fn named_in(&self, text: &str) -> Vec<Value> {
        let named = |name: &str| {
            text.split("@set:").skip(1).any(|rest| rest.split('"').next() == Some(name))
        };
        self.library
            .iter()
            .filter(|(name, ..)| named(name))
            .map(|(name, serial, sha256)| json!([name, serial, hex::encode(sha256)]))
            .collect()
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
            Self::Tdx => (1, 4),
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

impl Component {
    fn from_fields(mut fields: Fields, ground: &Ground<'_>) -> Result<Self, ProfileError> {
        let line = fields.line;
        let name = fields.required("name")?;
        let on = registers(&mut fields, ground.root)?;
        let require = fields
            .tables("require")?
            .into_iter()
            .map(|fields| Requirement::from_fields(fields, ground.sets))
            .collect::<Result<Vec<_>, _>>()?;
        let tokens = fields.table("tokens")?.map(Tokens::from_fields).transpose()?;
        let bound = fields.texts("bound")?.unwrap_or_default().into_iter().collect();
        let rules = rules(&mut fields, &on)?;
        let vouched = fields
            .table("vouched")?
            .map(|fields| Vouched::from_fields(fields, ground))
            .transpose()?;
        let record = record(&mut fields)?;
        let variants = fields.tables("variant")?;
        fields.finish()?;
        if variants.len() > MAX_VARIANTS {
            return Err(refused(line, "variant", &variants.len().to_string(), "at most 256"));
        }
        let demand = match (rules, vouched, record) {
            (Some(rules), None, None) => Demand::Rule(rules),
            (None, Some(vouched), None) => Demand::Vouched(vouched),
            (None, None, Some(record)) => record,
            (None, None, None) if !variants.is_empty() => Demand::Literal,
            (None, None, None) if !require.is_empty() || tokens.is_some() => Demand::Read,
            (None, None, None) => {
                let expected = "1 to 256 variants, or a `rule`, or `mode = \"record\"`";
                return Err(refused(line, "variant", "0", expected));
            }
            _ => {
                let expected = "one of `rule`, `vouched` and `mode`";
                return Err(refused(line, "component", &name, expected));
            }
        };
        let takes_variants = matches!(demand, Demand::Literal | Demand::Rule(_));
        if !takes_variants && !variants.is_empty() {
            let expected = "no variants in a component that compares with none";
            return Err(refused(line, "variant", &variants.len().to_string(), expected));
        }
        let variants = variants
            .into_iter()
            .map(|fields| Variant::from_fields(fields, &name, &on, &demand, ground))
            .collect::<Result<Vec<_>, _>>()?;
        let component = Self { name, line, on, demand, require, tokens, bound, variants };
        component.leaves_nothing_free()?;
        Ok(component)
    }

    /// A digest-only class that no set decides would silently be free.
    fn leaves_nothing_free(&self) -> Result<(), ProfileError> {
        let Demand::Rule(rules) = &self.demand else { return Ok(()) };
        for (register, rule) in rules {
            for item in rule.items().iter().filter(|item| !class::is_bound(&item.class)) {
                let free = |variant: &&Variant| {
                    !variant.sets.contains_key(&(*register, item.class.clone()))
                };
                let missing = self.variants.iter().find(free);
                if self.variants.is_empty() || missing.is_some() {
                    let line = missing.map_or(self.line, |variant| variant.line);
                    let found = missing.map_or("no variant", |variant| variant.name.as_str());
                    let expected = format!(
                        "a set for `{}` of register {register}: its digest alone says what it is",
                        item.class
                    );
                    return Err(refused(line, &self.name, found, &expected));
                }
            }
        }
        Ok(())
    }
}

impl Vouched {
    fn from_fields(mut fields: Fields, ground: &Ground<'_>) -> Result<Self, ProfileError> {
        let line = fields.line;
        let by = fields.required("by")?;
        if by != "uki-pcr-signature" {
            return Err(refused(line, "by", &by, "uki-pcr-signature"));
        }
        let names = fields.texts("keys")?.unwrap_or_default();
        let mut keys = Vec::new();
        for name in &names {
            let key = name.strip_prefix("@key:").and_then(|name| ground.keys.get(name));
            let key =
                key.ok_or_else(|| refused(line, "keys", name, "`@key:name` of a `[[key]]`"))?;
            keys.push(key.clone());
        }
        if keys.is_empty() {
            return Err(refused(line, "keys", "[]", "at least one key"));
        }
        let phase = fields.text("phase")?;
        if let Some(phase) = phase.as_deref().filter(|phase| !PHASES.contains(phase)) {
            return Err(refused(line, "phase", phase, &PHASES.join(", ")));
        }
        fields.finish()?;
        Ok(Self { by, keys, phase })
    }
}

impl Variant {
    fn from_fields(
        mut fields: Fields,
        component: &str,
        on: &[u32],
        demand: &Demand,
        ground: &Ground<'_>,
    ) -> Result<Self, ProfileError> {
        let line = fields.line;
        let name = fields.required("name")?;
        let fault = |fault: String| ProfileError::Variant {
            component: component.to_owned(),
            variant: name.clone(),
            line,
            fault,
        };
        let state = State::from_fields(&mut fields, &fault)?;
        let origin = fields.text("origin")?.unwrap_or_default();
        let literals = match (fields.table("pcr")?, demand) {
            (Some(table), Demand::Literal) => literals(table, on, ground, &fault)?,
            (None, Demand::Literal) => return Err(fault("`pcr` is missing".to_owned())),
            (Some(_), _) => return Err(fault("`pcr` stands in place of a `rule`".to_owned())),
            (None, _) => BTreeMap::new(),
        };
        let mut sets = BTreeMap::new();
        for (class, node) in fields.rest() {
            let named: Vec<u32> = match demand {
                Demand::Rule(rules) => {
                    let named = rules.iter().filter(|(_, rule)| rule.names(&class));
                    named.map(|(register, _)| *register).collect()
                }
                _ => Vec::new(),
            };
            if named.is_empty() {
                return Err(ProfileError::UnknownKey { line: node.line, key: class });
            }
            for (register, allowed) in Allowed::from_node(node, &named, ground.sets)? {
                sets.insert((register, class.clone()), allowed);
            }
        }
        Ok(Self { name, state, origin, line, literals, sets })
    }
}

impl State {
    fn from_fields(
        fields: &mut Fields,
        fault: &dyn Fn(String) -> ProfileError,
    ) -> Result<Self, ProfileError> {
        let state = fields.required("state")?;
        let until = fields.time("until")?;
        let reason = fields.text("reason")?;
        match (state.as_str(), until) {
            ("revoked", None) => Ok(Self::Revoked { reason: reason.unwrap_or_default() }),
            (state, _) if reason.is_some() => {
                Err(fault(format!("a variant that is `{state}` has no `reason`")))
            }
            ("candidate", None) => Ok(Self::Candidate),
            ("active", None) => Ok(Self::Active),
            ("retiring", Some(until)) => Ok(Self::Retiring { until }),
            ("retiring", None) => Err(fault("a retiring variant needs `until`".to_owned())),
            (state, Some(_)) => Err(fault(format!("a variant that is `{state}` has no `until`"))),
            (state, None) => Err(fault(format!(
                "`state` is `{state}`, expected candidate, active, retiring or revoked"
            ))),
        }
    }
}

impl Allowed {
    /// `"@set:name"`, a list of such (any of them), columns in place, or one of these for each
    /// register.
    fn from_node(
        node: Node,
        registers: &[u32],
        sets: &Sets,
    ) -> Result<Vec<(u32, Self)>, ProfileError> {
        let line = node.line;
        let by_register = match &node.value {
            Written::Table(table) => {
                !table.is_empty() && table.keys().all(|key| key.parse::<u32>().is_ok())
            }
            _ => false,
        };
        if by_register {
            let mut found = Vec::new();
            for (key, node) in node.fields()?.rest() {
                let register = key.parse().ok().filter(|register| registers.contains(register));
                let register = register.ok_or_else(|| {
                    refused(line, "register", &key, "one whose rule names this class")
                })?;
                found.push((register, Self::one(node, sets)?));
            }
            return Ok(found);
        }
        let one = Self::one(node, sets)?;
        Ok(registers.iter().map(|register| (*register, one.clone())).collect())
    }

    fn one(node: Node, sets: &Sets) -> Result<Self, ProfileError> {
        let line = node.line;
        let digests = |name: &str| match &sets.resolve(name, line)?.content {
            Content::Digests(set) => Ok(set.clone()),
            _ => Err(refused(line, "set", name, "a set of digests")),
        };
        match node.value {
            Written::Text(name) => Ok(Self { set: digests(&name)?, name }),
            Written::List(list) => {
                let mut union = DigestSet::default();
                let mut names = Vec::new();
                for node in list {
                    let name = node.text("set")?;
                    let set = digests(&name)?;
                    if set.ordered {
                        let expected = "sets without order, where several are joined";
                        return Err(refused(line, "set", &name, expected));
                    }
                    union.rows.extend(set.rows);
                    names.push(name);
                }
                Ok(Self { name: names.join(", "), set: union })
            }
            Written::Table(_) => {
                let mut fields = node.fields()?;
                let content = Content::from_fields(&mut fields)?;
                fields.finish()?;
                match content {
                    Content::Digests(set) => Ok(Self { name: format!("line {line}"), set }),
                    _ => Err(refused(line, "set", "other values", "digests")),
                }
            }
            _ => Err(refused(line, "set", "something else", "`@set:name`, a list, or columns")),
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

fn registers(fields: &mut Fields, root: Root) -> Result<Vec<u32>, ProfileError> {
    let line = fields.line;
    let (first, last) = root.registers();
    let expected = format!("registers {first} to {last}, at least one");
    let node = fields.take("on").ok_or_else(|| refused(line, "on", "nothing", &expected))?;
    let mut on = Vec::new();
    for node in node.list("on")? {
        let number = match node.value {
            Written::Number(number) => u32::try_from(number).ok(),
            _ => None,
        };
        let number = number.filter(|number| (first..=last).contains(number));
        on.push(number.ok_or_else(|| refused(node.line, "on", "another", &expected))?);
    }
    on.sort_unstable();
    if on.is_empty() {
        return Err(refused(line, "on", "[]", &expected));
    }
    if on.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(refused(line, "on", &format!("{on:?}"), "each register once"));
    }
    Ok(on)
}

/// `rule = "…"` for each register, or `rule = { "4" = "…" }` for all of them by name.
fn rules(fields: &mut Fields, on: &[u32]) -> Result<Option<BTreeMap<u32, Rule>>, ProfileError> {
    let Some(node) = fields.take("rule") else { return Ok(None) };
    let line = node.line;
    let parse = |text: &str, line| {
        let rule = Rule::parse(text).map_err(|fault| refused(line, "rule", text, &fault))?;
        match rule.items().iter().find(|item| !class::is_class(&item.class)) {
            Some(item) => Err(refused(line, "rule", &item.class, "a class of events")),
            None => Ok(rule),
        }
    };
    let mut rules = BTreeMap::new();
    match node.value {
        Written::Text(text) => {
            let rule = parse(&text, line)?;
            rules.extend(on.iter().map(|register| (*register, rule.clone())));
        }
        Written::Table(table) => {
            for (key, node) in table {
                let register = key.parse().ok().filter(|register| on.contains(register));
                let register =
                    register.ok_or_else(|| refused(line, "rule", &key, "a register of `on`"))?;
                let line = node.line;
                rules.insert(register, parse(&node.text("rule")?, line)?);
            }
            if let Some(missing) = on.iter().find(|register| !rules.contains_key(register)) {
                return Err(refused(line, "rule", &missing.to_string(), "a rule for each of `on`"));
            }
        }
        _ => return Err(refused(line, "rule", "something else", "a rule, or one per register")),
    }
    Ok(Some(rules))
}

fn record(fields: &mut Fields) -> Result<Option<Demand>, ProfileError> {
    let line = fields.line;
    let mode = fields.text("mode")?;
    let because = fields.text("because")?.filter(|text| !text.trim().is_empty());
    let review_by = fields.time("review_by")?;
    match (mode.as_deref(), because, review_by) {
        (None, None, None) => Ok(None),
        (Some("record"), Some(because), Some(review_by)) => {
            Ok(Some(Demand::Record { because, review_by }))
        }
        (Some("record"), ..) => {
            Err(refused(line, "mode", "record", "`because` and `review_by` beside it"))
        }
        (Some(mode), ..) => Err(refused(line, "mode", mode, "record")),
        (None, ..) => Err(refused(line, "because", "no mode", "`mode = \"record\"` beside it")),
    }
}

/// Every decided register must have a literal in every bank of the profile: a register left out
/// would silently be free.
fn literals(
    table: Fields,
    on: &[u32],
    ground: &Ground<'_>,
    fault: &dyn Fn(String) -> ProfileError,
) -> Result<BTreeMap<HashAlgorithm, BTreeMap<u32, Digest>>, ProfileError> {
    let mut literals = BTreeMap::new();
    for (bank_name, node) in table.rest() {
        let bank = deciding_bank(&bank_name)
            .filter(|bank| ground.banks.contains(bank))
            .ok_or_else(|| fault(format!("`{bank_name}` is not one of the profile's `banks`")))?;
        let mut registers = BTreeMap::new();
        for (register, node) in node.fields()?.rest() {
            let text = node.text("pcr")?;
            let index =
                register.parse().ok().filter(|index| on.contains(index)).ok_or_else(|| {
                    fault(format!("register `{register}` is not one of `on` {on:?}"))
                })?;
            let digest = hex::decode(&text).ok().and_then(|bytes| Digest::new(bank, &bytes));
            let digest = digest.ok_or_else(|| {
                fault(format!("register {index}: `{text}` is not a {bank_name} value in hex"))
            })?;
            registers.insert(index, digest);
        }
        literals.insert(bank, registers);
    }
    for bank in ground.banks {
        let named = literals.get(bank).map_or(0, BTreeMap::len);
        if named != on.len() {
            return Err(fault(format!(
                "{named} of {} registers of `on` have a value in bank {bank}",
                on.len()
            )));
        }
    }
    Ok(literals)
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
