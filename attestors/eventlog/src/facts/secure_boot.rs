//! Register 7: the state of Secure Boot, its keys, and who let the boot chain run.

use std::collections::BTreeMap;

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;

use crate::class;
use crate::class::Class;
use crate::event_type::EventType;
use crate::facts::Authority;
use crate::facts::Facts;
use crate::facts::Value;
use crate::grade::Grade;
use crate::grade::Grades;
use crate::grade::Rule;
use crate::grade::hashes;
use crate::log::Event;
use crate::log::Log;
use crate::variable;
use crate::variable::GLOBAL;
use crate::variable::Guid;
use crate::variable::SECURITY_DATABASE;
use crate::variable::SHIM_LOCK;
use crate::variable::Variable;

pub(super) fn facts(log: &Log<'_>, grades: &Grades, facts: &mut Facts) {
    let register = log.format().register_of_pcr(7);
    let of_register = || log.events().filter(move |event| event.register() == register);
    // Firmware measures its keys before it closes the register; what comes later may be anybody's.
    let closed = of_register().find(|event| event.kind() == EventType::SEPARATOR);
    let closed = closed.map_or(0, |event| event.index());
    let bound: Vec<Measured<'_>> =
        of_register().filter_map(|event| Measured::new(event, grades, closed)).collect();

    let one = |class: Class| {
        let mut all = bound.iter().filter(|measured| measured.class == class);
        match (all.next(), all.next()) {
            (Some(only), None) if only.index < closed => Some(only),
            _ => None,
        }
    };
    if let Some(measured) = one(Class::SecureBoot) {
        // Off is measured as nothing or as 0, whatever its event is labelled.
        let off = [&[][..], &[0]].map(|data| digests(log, GLOBAL, "SecureBoot", data));
        let enabled = match measured.variable.data {
            [1] if !of_register().any(|event| carries(&event, &off)) => Some(true),
            [0] | [] => Some(false),
            _ => None,
        };
        if let Some(enabled) = enabled {
            facts.insert("sb.enabled", Value::Flag(enabled), vec![measured.index]);
        }
    }
    let lists = [
        ("sb.pk", Class::Pk),
        ("sb.kek", Class::Kek),
        ("sb.db", Class::Db),
        ("sb.dbx", Class::Dbx),
    ];
    for (name, class) in lists {
        let Some(measured) = one(class) else { continue };
        if let Some(signatures) = variable::signature_lists(measured.variable.data) {
            facts.insert(name, Value::Signatures(signatures), vec![measured.index]);
        }
    }

    let authorities: Vec<&Measured<'_>> =
        bound.iter().filter(|measured| measured.class == Class::Authority).collect();
    let signers: Vec<Authority> =
        authorities.iter().filter_map(|measured| signer(measured)).collect();
    if !signers.is_empty() {
        let events = signers.iter().map(|signer| signer.event).collect();
        facts.insert("sb.authority", Value::Authorities(signers), events);
    }
    sbat(&authorities, facts);

    // Shim measures MokSBState where it is set, and nothing where validation is on.
    let shim: Vec<usize> = authorities
        .iter()
        .filter(|measured| measured.variable.vendor == SHIM_LOCK)
        .map(|measured| measured.index)
        .collect();
    if !shim.is_empty() {
        let off = [digests(log, SHIM_LOCK, "MokSBState", &[1])];
        let named = authorities.iter().any(|measured| {
            measured.variable.is(SHIM_LOCK, "MokSBState") && measured.variable.data != [0]
        });
        let on = !named && !of_register().any(|event| carries(&event, &off));
        facts.insert("sb.mok_validation", Value::Flag(on), shim);
    }
}

/// A variable whose event binds it.
struct Measured<'l> {
    index: usize,
    class: Class,
    variable: Variable<'l>,
}

impl<'l> Measured<'l> {
    /// No digest binds a type, so a variable of Secure Boot counts under any: a signer is not hidden
    /// by calling its event something else.
    fn new(event: Event<'l>, grades: &Grades, closed: usize) -> Option<Measured<'l>> {
        let variable = Variable::parse(event.data())?;
        let whole = match grades.grade(event.index())? {
            Grade::Bound(rule) => matches!(rule, Rule::Data | Rule::DataWithoutTrailingByte),
            Grade::Known | Grade::Opaque => {
                let short = Rule::DataWithoutTrailingByte.bound_part(event.data())?;
                let old = !variable.rest.is_empty() && hashes(&event, &[short]);
                event.extends() && (old || hashes(&event, &[event.data()]))
            }
        };
        let kinds = [EventType::EFI_VARIABLE_DRIVER_CONFIG, EventType::EFI_VARIABLE_AUTHORITY];
        let secure_boot = [SECURITY_DATABASE, SHIM_LOCK].contains(&variable.vendor)
            || (variable.vendor == GLOBAL && GLOBAL_KEYS.contains(&variable.name.as_str()));
        if !whole || !(kinds.contains(&event.kind()) || secure_boot) {
            return None;
        }
        let class = match event.kind() {
            EventType::EFI_VARIABLE_DRIVER_CONFIG => event.class(),
            EventType::EFI_VARIABLE_AUTHORITY => Class::Authority,
            _ if event.index() > closed => Class::Authority,
            _ => class::class(EventType::EFI_VARIABLE_DRIVER_CONFIG, event.data()),
        };
        Some(Measured { index: event.index(), class, variable })
    }
}

fn signer(measured: &Measured<'_>) -> Option<Authority> {
    let Variable { vendor, name, data, .. } = &measured.variable;
    if *vendor == SHIM_LOCK && SHIM_STATE.contains(&name.as_str()) {
        return None;
    }
    let (owner, certificate) = variable::authority_certificate(data);
    let sha256 = match <[u8; 32]>::try_from(certificate) {
        Ok(digest) if owner.is_some() => digest,
        _ => crypto::sha256(certificate),
    };
    let sha256 = hex::encode(sha256);
    Some(Authority { variable: name.clone(), owner, sha256, event: measured.index })
}

/// `component,generation[,date]` by line. Two shims that disagree leave no fact.
fn sbat(authorities: &[&Measured<'_>], facts: &mut Facts) {
    let levels: Vec<_> =
        authorities.iter().filter(|level| level.variable.is(SHIM_LOCK, "SbatLevel")).collect();
    let Some(first) = levels.first() else { return };
    if levels.iter().any(|level| level.variable.data != first.variable.data) {
        return;
    }
    let Ok(text) = std::str::from_utf8(first.variable.data) else { return };
    let mut generations = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut fields = line.split(',');
        let (Some(component), Some(generation)) = (fields.next(), fields.next()) else { return };
        let Ok(generation) = generation.parse::<u32>() else { return };
        if generations.insert(component.to_owned(), generation).is_some() {
            return;
        }
    }
    let events = levels.iter().map(|level| level.index).collect();
    facts.insert("sb.sbat", Value::Generations(generations), events);
}

/// The digests that a variable with this contents has, by bank.
fn digests(log: &Log<'_>, vendor: Guid, name: &str, data: &[u8]) -> Vec<Digest> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).to_le_bytes();
    let (characters, size) = (length(name.len() / 2), length(data.len()));
    let parts: [&[u8]; 5] = [&vendor.0, &characters, &size, &name, data];
    let strong = log.replayable().filter(|bank| *bank != HashAlgorithm::Sm3_256);
    strong.filter_map(|bank| crypto::hash(bank, &parts)).collect()
}

fn carries(event: &Event<'_>, digests: &[Vec<Digest>]) -> bool {
    event.extends() && event.digests().any(|digest| digests.iter().any(|d| d.contains(&digest)))
}

const GLOBAL_KEYS: [&str; 3] = ["SecureBoot", "PK", "KEK"];
/// What shim measures of its own state; no signer of anything.
const SHIM_STATE: [&str; 8] = [
    "SbatLevel",
    "SbatPolicy",
    "MokSBState",
    "MokDBState",
    "MokListTrusted",
    "MokPolicy",
    "ShimRetainProtocol",
    "HSIStatus",
];
