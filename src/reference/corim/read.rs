//! The payload of a CoRIM as a draft.
//!
//! A constraint that is not understood is never dropped from a measurement: the measurement is left
//! out and told. So an import admits at most what the CoRIM admits.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::cbor::Cbor;
use assay_evidence::cbor::Kind;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;

use crate::reference::class;
use crate::reference::corim::PROFILE;
use crate::reference::corim::Signed;
use crate::reference::corim::TAG_COMID;
use crate::reference::corim::TAG_CORIM;
use crate::reference::corim::TAG_URI;
use crate::reference::corim::digests;
use crate::reference::corim::key::Key;
use crate::reference::corim::list;
use crate::reference::corim::malformed;
use crate::reference::corim::map;
use crate::reference::corim::skip;
use crate::reference::corim::tuple;
use crate::reference::import::Component;
use crate::reference::import::DECIDING;
use crate::reference::import::ImportError;
use crate::reference::import::Imported;
use crate::reference::import::Variant;
use crate::reference::import::name_of;
use crate::reference::profile::Root;
use crate::reference::set::DigestSet;
use crate::reference::set::Row;

type Values = BTreeMap<HashAlgorithm, Digest>;

pub(super) fn payload(bytes: &[u8], signed: &Signed) -> Result<Imported, ImportError> {
    let mut reading = Reading::default();
    let mut cbor = Cbor::lenient(bytes);
    match cbor.tag() {
        Ok(TAG_CORIM) => {}
        Ok(other) => return Err(ImportError::Malformed(format!("tag {other}, expected 501"))),
        Err(error) => return Err(malformed("CoRIM", error)),
    }
    map(&mut cbor, "corim-map", &mut |key, cbor| reading.corim(key, cbor))?;
    cbor.finish().map_err(|error| malformed("CoRIM", error))?;
    reading.finish(signed)
}

#[derive(Default)]
struct Reading {
    id: String,
    /// The profile of the CoRIM that is ours, and what its registers are.
    root: Option<Root>,
    found: Vec<Found>,
    told: BTreeSet<String>,
    weak: usize,
    /// The class of the first reference, as it was written: values of another are of another thing.
    class: Option<Vec<u8>>,
    /// A row of ours could not be taken, so its sequence is another.
    row_lost: bool,
}

/// One measurement that can be imported.
struct Found {
    key: Option<String>,
    what: What,
}

enum What {
    Registers(BTreeMap<u32, Values>),
    Digests(Values),
    Name(String),
}

impl Reading {
    fn corim(&mut self, key: i64, cbor: &mut Cbor<'_>) -> Result<(), ImportError> {
        match key {
            0 => self.id = identifier(cbor)?,
            1 => return list(cbor, "tags", &mut |_, cbor| self.tag(cbor)),
            3 => {
                let uri = match cbor.kind() {
                    Some(Kind::Tag) if cbor.tag() == Ok(TAG_URI) => text(cbor, "profile")?,
                    Some(Kind::Text) => text(cbor, "profile")?,
                    _ => {
                        skip(cbor, "profile")?;
                        "an object identifier".to_owned()
                    }
                };
                match uri.strip_prefix(PROFILE) {
                    Some(root) => {
                        let unknown =
                            || ImportError::Malformed(format!("profile `{uri}`, unknown"));
                        self.root = Some(Root::parse(root).ok_or_else(unknown)?);
                    }
                    // What it adds would stand under keys of its own, each of which is told.
                    None => self.tell(format!("the profile `{uri}` of the CoRIM")),
                }
            }
            2 | 4 | 5 => {
                let name = ["dependent-rims", "", "rim-validity", "entities"];
                let index = usize::try_from(key - 2).unwrap_or(0);
                self.tell(name.get(index).copied().unwrap_or_default().to_owned());
                skip(cbor, "corim-map")?;
            }
            other => return Err(ImportError::Malformed(format!("corim-map key {other}, unknown"))),
        }
        Ok(())
    }

    fn tag(&mut self, cbor: &mut Cbor<'_>) -> Result<(), ImportError> {
        let tag = cbor.tag().map_err(|error| malformed("tags", error))?;
        if tag != TAG_COMID {
            self.tell(format!("a tag {tag}, which is no CoMID"));
            return skip(cbor, "tags");
        }
        let bytes = cbor.bytes().map_err(|error| malformed("CoMID", error))?;
        let mut comid = Cbor::lenient(bytes);
        map(&mut comid, "concise-mid-tag", &mut |key, cbor| match key {
            // The language and the identity of the tag decide nothing.
            0 | 1 => skip(cbor, "concise-mid-tag"),
            2 => self.skipped("entities of a CoMID", cbor),
            3 => self.skipped("linked-tags", cbor),
            4 => map(cbor, "triples-map", &mut |key, cbor| self.triples(key, cbor)),
            other => Err(ImportError::Malformed(format!("concise-mid-tag key {other}, unknown"))),
        })?;
        comid.finish().map_err(|error| malformed("CoMID", error))
    }

    fn triples(&mut self, key: i64, cbor: &mut Cbor<'_>) -> Result<(), ImportError> {
        let known = usize::try_from(key).ok().and_then(|key| TRIPLES.get(key).copied());
        match known {
            Some("reference-triples") => {
                list(cbor, "reference-triples", &mut |_, cbor| self.triple(cbor))
            }
            Some(name) if !name.is_empty() => self.skipped(name, cbor),
            _ => Err(ImportError::Malformed(format!("triples-map key {key}, unknown"))),
        }
    }

    fn triple(&mut self, cbor: &mut Cbor<'_>) -> Result<(), ImportError> {
        tuple(cbor, "reference-triple", 2)?;
        let mut whole_class = true;
        let mut class = Vec::new();
        map(cbor, "environment", &mut |key, cbor| {
            whole_class &= key == 0;
            let before = cbor.rest();
            skip(cbor, "environment")?;
            let length = before.len().saturating_sub(cbor.rest().len());
            class = before.get(..length).unwrap_or_default().to_vec();
            Ok(())
        })?;
        if !whole_class {
            self.tell("a reference for an instance or a group".to_owned());
        } else if *self.class.get_or_insert_with(|| class.clone()) != class {
            whole_class = false;
            self.tell("a reference for another class than the first".to_owned());
        }
        list(cbor, "measurements", &mut |_, cbor| {
            let found = self.measurement(cbor)?;
            if whole_class {
                self.found.extend(found);
            }
            match self.found.len() > MAX_MEASUREMENTS {
                true => Err(ImportError::TooMany {
                    what: "measurements",
                    found: self.found.len(),
                    max: MAX_MEASUREMENTS,
                }),
                false => Ok(()),
            }
        })
    }

    /// Nothing where something in it is not understood.
    fn measurement(&mut self, cbor: &mut Cbor<'_>) -> Result<Option<Found>, ImportError> {
        let mut key = None;
        let mut found = Vec::new();
        let mut understood = true;
        let mut weak = 0;
        map(cbor, "measurement-map", &mut |field, cbor| {
            match field {
                0 => key = Some(measured_element(cbor)?),
                1 => {
                    return map(cbor, "measurement-values-map", &mut |field, cbor| {
                        match field {
                            2 => found.push(What::Digests(digests(cbor, &mut weak)?)),
                            11 => found.push(What::Name(text(cbor, "name")?)),
                            14 => found.push(What::Registers(registers(cbor, &mut weak)?)),
                            other => {
                                understood = false;
                                self.tell(format!("measurements with {}", value_name(other)));
                                skip(cbor, "measurement-values-map")?;
                            }
                        }
                        Ok(())
                    });
                }
                other => {
                    understood = false;
                    self.tell(format!("measurements with key {other}, as `authorized-by`"));
                    skip(cbor, "measurement-map")?;
                }
            }
            Ok(())
        })?;
        self.weak = self.weak.saturating_add(weak);
        let mut found = found.into_iter();
        let what = match (found.next(), found.next()) {
            (Some(what), None) if understood => what,
            (Some(_), None) | (None, _) => {
                self.lose(key.as_deref());
                return Ok(None);
            }
            (Some(_), Some(_)) => {
                self.tell("measurements with several kinds of values".to_owned());
                self.lose(key.as_deref());
                return Ok(None);
            }
        };
        // A register or an object that is left without a digest would be free.
        let found = Found { key, what };
        if found.values().iter().any(|values| values.is_empty()) {
            self.tell("measurements by algorithms that never decide".to_owned());
            self.lose(found.key.as_deref());
            return Ok(None);
        }
        Ok(Some(found))
    }

    fn lose(&mut self, key: Option<&str>) {
        self.row_lost |= key.is_some_and(|key| matches!(Key::parse(key), Some(Key::Row { .. })));
    }

    fn skipped(&mut self, what: &str, cbor: &mut Cbor<'_>) -> Result<(), ImportError> {
        self.tell(what.to_owned());
        skip(cbor, "CoMID")
    }

    fn tell(&mut self, what: String) {
        if self.told.len() < MAX_TOLD {
            self.told.insert(what.replace(|c: char| c.is_control(), " "));
        }
    }

    fn finish(mut self, signed: &Signed) -> Result<Imported, ImportError> {
        let by = match signed {
            Signed::Not => "unsigned".to_owned(),
            Signed::Unverified => "signature not verified".to_owned(),
            Signed::By(key) => format!("signed by {}", hex::encode(key)),
        };
        let id = self.id.replace(|c: char| c.is_control(), " ");
        let origin = format!("imported: CoRIM `{id}`, {by}");
        let mut imported = Imported::new(self.root.unwrap_or(Root::Tpm2), origin);
        if self.weak > 0 {
            self.tell(format!("{} digests of algorithms that never decide", self.weak));
        }
        let all = || self.found.iter().flat_map(Found::values).filter(|values| !values.is_empty());
        let in_all = |bank: &HashAlgorithm| all().all(|values| values.contains_key(bank));
        imported.banks = DECIDING.into_iter().filter(in_all).collect();
        if all().next().is_none() || imported.banks.is_empty() {
            return Err(ImportError::Nothing { told: self.told.into_iter().collect() });
        }
        for bank in DECIDING.into_iter().filter(|bank| !imported.banks.contains(bank)) {
            if self.found.iter().flat_map(Found::values).any(|values| values.contains_key(&bank)) {
                self.told.insert(format!("bank {bank}: not every measurement has it"));
            }
        }
        let ours = self.root.is_some();
        if ours && self.row_lost {
            let text = "a row that cannot be taken: what is left is another sequence";
            return Err(ImportError::Malformed(text.to_owned()));
        }
        for (index, found) in std::mem::take(&mut self.found).into_iter().enumerate() {
            let key = found.key.as_deref().filter(|_| ours).and_then(Key::parse);
            place(&mut imported, index, key, found)?;
        }
        self.told.append(&mut imported.not_imported.drain(..).collect());
        imported.not_imported = self.told.into_iter().collect();
        Ok(imported)
    }
}

impl Found {
    fn values(&self) -> Vec<&Values> {
        match &self.what {
            What::Registers(registers) => registers.values().collect(),
            What::Digests(values) => vec![values],
            What::Name(_) => Vec::new(),
        }
    }
}

/// Where a measurement belongs in the draft: a component of ours, or the set of its key.
fn place(
    imported: &mut Imported,
    index: usize,
    key: Option<Key>,
    found: Found,
) -> Result<(), ImportError> {
    let banks = imported.banks.clone();
    let decided = |values: Values| -> Values {
        values.into_iter().filter(|(bank, _)| banks.contains(bank)).collect()
    };
    match (key, found.what) {
        (Some(Key::Rule { component, register }), What::Name(rule)) => {
            let component = component_of(imported, &component)?;
            component.rules.insert(register, rule);
            on(component, register);
        }
        (Some(Key::Quirk { name }), What::Name(_)) => {
            imported.quirks.insert(name);
        }
        (Some(Key::Row { component, variant, register, class, ordered, at }), What::Digests(v)) => {
            // It becomes a key of the draft, and no other text may.
            if !class::is_class(&class) {
                return Err(ImportError::Malformed(format!("`{}` is no class", name_of(&class))));
            }
            let component = component_of(imported, &component)?;
            let set = variant_of(component, &variant)?.sets.entry((register, class)).or_default();
            // Rows stand in their order, so the place is a check and no index.
            if usize::try_from(at) != Ok(set.rows.len()) {
                let text = format!("row {at} where {} is due", set.rows.len());
                return Err(ImportError::Malformed(text));
            }
            set.ordered = ordered;
            set.rows.push(Row { digests: decided(v), text_sha256: None });
            on(component, register);
        }
        (Some(Key::Registers { component, variant }), What::Registers(registers)) => {
            literals(component_of(imported, &component)?, &variant, registers, &banks)?;
        }
        (_, What::Registers(registers)) => {
            // Whoever wrote it named no component: together they are the alternatives of one.
            let name = found.key.unwrap_or_else(|| format!("measurement-{}", index + 1));
            literals(component_of(imported, "registers")?, &name, registers, &banks)?;
        }
        (_, What::Digests(values)) => {
            let name = name_of(&found.key.unwrap_or_else(|| "digests".to_owned()));
            let set: &mut DigestSet = imported.digests.entry(name).or_default();
            set.rows.push(Row { digests: decided(values), text_sha256: None });
        }
        (_, What::Name(name)) => {
            imported.not_imported.push(format!("the name `{}`", name_of(&name)));
        }
    }
    Ok(())
}

fn literals(
    component: &mut Component,
    variant: &str,
    registers: BTreeMap<u32, Values>,
    banks: &[HashAlgorithm],
) -> Result<(), ImportError> {
    if component.variants.iter().any(|known| known.name == variant) {
        return Err(ImportError::Malformed(format!("variant `{variant}` stands there twice")));
    }
    let mut literals: BTreeMap<HashAlgorithm, BTreeMap<u32, Digest>> = BTreeMap::new();
    for (register, values) in registers {
        for (bank, value) in values.into_iter().filter(|(bank, _)| banks.contains(bank)) {
            literals.entry(bank).or_default().insert(register, value);
        }
        on(component, register);
    }
    variant_of(component, variant)?.literals = literals;
    Ok(())
}

/// The component of that name, made if it is not there: as many as a profile may have.
fn component_of<'i>(
    imported: &'i mut Imported,
    name: &str,
) -> Result<&'i mut Component, ImportError> {
    let new = || Component { name: name.to_owned(), ..Component::default() };
    named(&mut imported.components, |one| one.name == name, new, "components", MAX_COMPONENTS)
}

fn variant_of<'c>(
    component: &'c mut Component,
    name: &str,
) -> Result<&'c mut Variant, ImportError> {
    let new = || Variant { name: name.to_owned(), ..Variant::default() };
    named(&mut component.variants, |one| one.name == name, new, "variants", MAX_VARIANTS)
}

fn named<'v, T>(
    all: &'v mut Vec<T>,
    is: impl Fn(&T) -> bool,
    new: impl FnOnce() -> T,
    what: &'static str,
    max: usize,
) -> Result<&'v mut T, ImportError> {
    let at = all.iter().position(is).unwrap_or(all.len());
    if at == all.len() {
        all.push(new());
    }
    let found = all.len();
    match all.get_mut(at) {
        Some(one) if found <= max => Ok(one),
        _ => Err(ImportError::TooMany { what, found, max }),
    }
}

fn on(component: &mut Component, register: u32) {
    if let Err(at) = component.on.binary_search(&register) {
        component.on.insert(at, register);
    }
}

fn registers(cbor: &mut Cbor<'_>, weak: &mut usize) -> Result<BTreeMap<u32, Values>, ImportError> {
    let mut found = BTreeMap::new();
    let length = cbor.map().map_err(|error| malformed("integrity-registers", error))?;
    let mut index = 0_u64;
    while cbor.more(length, index) {
        index = index.saturating_add(1);
        let register = match cbor.kind() {
            Some(Kind::Text) => text(cbor, "integrity-registers")?.parse().ok(),
            _ => cbor.unsigned().ok().and_then(|number| u32::try_from(number).ok()),
        };
        let register = register.filter(|register| *register <= MAX_REGISTER).ok_or_else(|| {
            ImportError::Malformed("integrity-registers: a register beyond 31".to_owned())
        })?;
        let values = digests(cbor, weak)?;
        if found.insert(register, values).is_some() {
            return Err(ImportError::Malformed(format!("register {register} stands there twice")));
        }
    }
    Ok(found)
}

/// `mkey`: a number, a text, or an identifier under a tag.
fn measured_element(cbor: &mut Cbor<'_>) -> Result<String, ImportError> {
    match cbor.kind() {
        Some(Kind::Unsigned) => {
            cbor.unsigned().map(|n| n.to_string()).map_err(|error| malformed("mkey", error))
        }
        _ => identifier(cbor),
    }
}

/// A text, or the bytes of a UUID or object identifier in hex.
fn identifier(cbor: &mut Cbor<'_>) -> Result<String, ImportError> {
    const WHAT: &str = "identifier";
    if cbor.kind() == Some(Kind::Tag) {
        cbor.tag().map_err(|error| malformed(WHAT, error))?;
    }
    match cbor.kind() {
        Some(Kind::Bytes) => cbor.bytes().map(hex::encode).map_err(|error| malformed(WHAT, error)),
        _ => text(cbor, WHAT),
    }
}

fn text(cbor: &mut Cbor<'_>, what: &'static str) -> Result<String, ImportError> {
    let text = cbor.text().map_err(|error| malformed(what, error))?;
    match text.len() <= MAX_TEXT {
        true => Ok(text.to_owned()),
        false => {
            Err(ImportError::TooMany { what: "bytes of text", found: text.len(), max: MAX_TEXT })
        }
    }
}

fn value_name(key: i64) -> String {
    let name = usize::try_from(key).ok().and_then(|key| VALUES.get(key).copied());
    name.map_or_else(|| format!("value {key}"), str::to_owned)
}

/// measurement-values-map, by key.
const VALUES: [&str; 16] = [
    "version",
    "svn",
    "digests",
    "flags",
    "raw-value",
    "raw-value-mask",
    "mac-addr",
    "ip-addr",
    "serial-number",
    "ueid",
    "uuid",
    "name",
    "value 12",
    "cryptokeys",
    "integrity-registers",
    "int-range",
];
/// triples-map, by key; what has no name here is unknown.
const TRIPLES: [&str; 11] = [
    "reference-triples",
    "endorsed-triples",
    "identity-triples",
    "attest-key-triples",
    "dependency-triples",
    "membership-triples",
    "coswid-triples",
    "",
    "conditional-endorsement-series-triples",
    "",
    "conditional-endorsement-triples",
];
/// As many as a profile may have.
const MAX_COMPONENTS: usize = 64;
const MAX_VARIANTS: usize = 256;
const MAX_MEASUREMENTS: usize = 262_144;
const MAX_TOLD: usize = 256;
const MAX_TEXT: usize = 4_096;
const MAX_REGISTER: u32 = 31;
