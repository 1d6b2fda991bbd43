//! The reference values of a profile as a CoRIM, in the one order there is.

use std::collections::BTreeSet;

use assay_evidence::cbor::Writer;
use assay_evidence::digest::Digest;
use assay_evidence::time::Time;

use crate::reference::Component;
use crate::reference::Demand;
use crate::reference::Profile;
use crate::reference::State;
use crate::reference::Variant;
use crate::reference::corim::TAG_COMID;
use crate::reference::corim::TAG_CORIM;
use crate::reference::corim::TAG_URI;
use crate::reference::corim::algorithm_id;
use crate::reference::corim::key::Key;
use crate::reference::corim::profile_uri;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub corim: Vec<u8>,
    pub measurements: usize,
    /// What of the profile no reference triple can say.
    pub not_exported: Vec<String>,
}

/// The values that are in force at `now`.
pub fn write(profile: &Profile, now: Time) -> Exported {
    let mut not_exported = Vec::new();
    let mut measurements: Vec<Vec<u8>> = Vec::new();
    for quirk in &profile.quirks {
        let key = Key::Quirk { name: quirk.clone() };
        measurements.push(measurement(&key, NAME, |w| w.text(quirk)));
    }
    for component in &profile.components {
        let name = &component.name;
        if let Demand::Rule(rules) = &component.demand {
            for (register, rule) in rules {
                let key = Key::Rule { component: name.clone(), register: *register };
                measurements.push(measurement(&key, NAME, |w| w.text(&rule.to_string())));
            }
        }
        unsaid(component, &mut not_exported);
        for variant in &component.variants {
            if is_exported(component, variant, now, &mut not_exported) {
                let empty = variant.sets.iter().filter(|(_, one)| one.set.rows.is_empty());
                not_exported.extend(empty.map(|((register, class), _)| {
                    let name = &component.name;
                    format!("that register {register} of component `{name}` holds no `{class}`")
                }));
                measurements.extend(values(component, variant));
            }
        }
    }
    if profile.ima.is_some() {
        not_exported.push("`[ima]`".to_owned());
    }
    let corim = corim(profile, &measurements);
    Exported { corim, measurements: measurements.len(), not_exported }
}

/// What a component asks beside its values.
fn unsaid(component: &Component, not_exported: &mut Vec<String>) {
    let name = &component.name;
    let what = match &component.demand {
        Demand::Vouched(_) => Some("`vouched`"),
        Demand::Record { .. } => Some("`mode = \"record\"`"),
        Demand::Rule(_) | Demand::Literal | Demand::Read => None,
    };
    not_exported.extend(what.map(|what| format!("{what} of component `{name}`")));
    for requirement in &component.require {
        not_exported.push(format!("`require` {} of component `{name}`", requirement.claim));
    }
    if component.tokens.is_some() {
        not_exported.push(format!("`tokens` of component `{name}`"));
    }
    if !component.bound.is_empty() {
        not_exported.push(format!("`bound` of component `{name}`"));
    }
}

/// A reference triple is in force or is not there: no life of a variant goes with it.
fn is_exported(
    component: &Component,
    variant: &Variant,
    now: Time,
    not_exported: &mut Vec<String>,
) -> bool {
    let named = format!("variant `{}` of component `{}`", variant.name, component.name);
    let (told, exported) = match &variant.state {
        State::Active => return true,
        State::Retiring { until } if now < *until => {
            (format!("that {named} retires {until}"), true)
        }
        State::Retiring { .. } => (format!("{named}, retired"), false),
        State::Candidate => (format!("{named}, a candidate"), false),
        State::Revoked { .. } => (format!("that {named} is revoked"), false),
    };
    not_exported.push(told);
    exported
}

fn values(component: &Component, variant: &Variant) -> Vec<Vec<u8>> {
    let names = || (component.name.clone(), variant.name.clone());
    let mut measurements = Vec::new();
    if !variant.literals.is_empty() {
        let (component, name) = names();
        let key = Key::Registers { component, variant: name };
        measurements.push(measurement(&key, INTEGRITY_REGISTERS, |w| registers(variant, w)));
    }
    // Each value of a set is a variant of its own there.
    let values = variant.values.iter().flat_map(|values| &values.set.rows);
    for (at, row) in values.enumerate() {
        let (component_name, name) = names();
        let key =
            Key::Registers { component: component_name, variant: format!("{name} {}", at + 1) };
        let on = component.on.first().copied().unwrap_or_default();
        measurements.push(measurement(&key, INTEGRITY_REGISTERS, |w| {
            w.map(1);
            w.unsigned(u64::from(on));
            digests(row.digests.values(), w);
        }));
    }
    for ((register, class), allowed) in &variant.sets {
        for (at, row) in allowed.set.rows.iter().enumerate() {
            let (component, name) = names();
            let key = Key::Row {
                component,
                variant: name,
                register: *register,
                class: class.clone(),
                ordered: allowed.set.ordered,
                at: u32::try_from(at).unwrap_or(u32::MAX),
            };
            measurements.push(measurement(&key, DIGESTS, |w| digests(row.digests.values(), w)));
        }
    }
    measurements
}

/// corim-map {id, tags, profile} with one CoMID.
fn corim(profile: &Profile, measurements: &[Vec<u8>]) -> Vec<u8> {
    let mut comid = Writer::default();
    comid.map(2);
    // tag-identity {tag-id, tag-version}
    comid.unsigned(1);
    comid.map(2);
    comid.unsigned(0);
    comid.text(&profile.id);
    comid.unsigned(1);
    comid.unsigned(profile.serial);
    // triples {reference-triples: [[environment, measurements]]}
    comid.unsigned(4);
    comid.map(1);
    comid.unsigned(0);
    comid.array(1);
    comid.array(2);
    environment(profile, &mut comid);
    comid.array(measurements.len());
    for measurement in measurements {
        comid.raw(measurement);
    }
    let mut corim = Writer::default();
    corim.tag(TAG_CORIM);
    corim.map(3);
    corim.unsigned(0);
    corim.text(&format!("{}@{}", profile.id, profile.serial));
    corim.unsigned(1);
    corim.array(1);
    corim.tag(TAG_COMID);
    corim.bytes(&comid.into_bytes());
    corim.unsigned(3);
    corim.tag(TAG_URI);
    corim.text(&profile_uri(profile.root));
    corim.into_bytes()
}

/// {class: {vendor, model}}: an id of ours is `vendor/platform`.
fn environment(profile: &Profile, writer: &mut Writer) {
    let (vendor, model) = profile.id.split_once('/').unwrap_or((&profile.id, ""));
    writer.map(1);
    writer.unsigned(0);
    writer.map(if model.is_empty() { 1 } else { 2 });
    writer.unsigned(1);
    writer.text(vendor);
    if !model.is_empty() {
        writer.unsigned(2);
        writer.text(model);
    }
}

/// measurement-map {mkey, mval: {kind: …}}
fn measurement(key: &Key, kind: u64, value: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.map(2);
    writer.unsigned(0);
    writer.text(&key.to_string());
    writer.unsigned(1);
    writer.map(1);
    writer.unsigned(kind);
    value(&mut writer);
    writer.into_bytes()
}

fn registers(variant: &Variant, writer: &mut Writer) {
    let numbers: BTreeSet<u32> =
        variant.literals.values().flat_map(|registers| registers.keys().copied()).collect();
    writer.map(numbers.len());
    for register in numbers {
        writer.unsigned(u64::from(register));
        digests(variant.literals.values().filter_map(|values| values.get(&register)), writer);
    }
}

fn digests<'d>(digests: impl Iterator<Item = &'d Digest>, writer: &mut Writer) {
    let known: Vec<(u64, &Digest)> =
        digests.filter_map(|digest| Some((algorithm_id(digest.algorithm())?, digest))).collect();
    writer.array(known.len());
    for (id, digest) in known {
        writer.array(2);
        writer.unsigned(id);
        writer.bytes(digest.as_bytes());
    }
}

/// measurement-values-map
const DIGESTS: u64 = 2;
const NAME: u64 = 11;
const INTEGRITY_REGISTERS: u64 = 14;
