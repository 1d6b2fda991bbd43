//! A variant of a component: what may be there, and where it is in its life.

use std::collections::BTreeMap;

use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::time::Time;

use crate::reference::ProfileError;
use crate::reference::fields::Fields;
use crate::reference::fields::Node;
use crate::reference::fields::Written;
use crate::reference::fields::refused;
use crate::reference::profile::Demand;
use crate::reference::profile::Ground;
use crate::reference::profile::deciding_bank;
use crate::reference::set::Content;
use crate::reference::set::DigestSet;
use crate::reference::set::Sets;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub name: String,
    pub state: State,
    pub origin: String,
    /// Where the variant stands in the profile's text.
    pub line: usize,
    /// bank → register → value
    pub literals: BTreeMap<HashAlgorithm, BTreeMap<u32, Digest>>,
    /// In place of literals, for one register: the set that has its value.
    pub values: Option<Allowed>,
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

impl Variant {
    pub(super) fn from_fields(
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
        let values = fields.take("values");
        let values = values.map(|node| Allowed::one(node, ground.sets)).transpose()?;
        let literals = match (fields.table("pcr")?, &values, demand) {
            (Some(table), None, Demand::Literal) => literals(table, on, ground, &fault)?,
            (None, Some(values), Demand::Literal) => {
                every_bank(values, on, ground, &fault)?;
                BTreeMap::new()
            }
            (_, _, Demand::Literal) => {
                return Err(fault("either `pcr` or `values` is due".to_owned()));
            }
            (None, None, _) => BTreeMap::new(),
            _ => return Err(fault("`pcr` and `values` stand in place of a `rule`".to_owned())),
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
        Ok(Self { name, state, origin, line, literals, values, sets })
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

/// A row without a digest in a bank that decides would be compared by less.
fn every_bank(
    values: &Allowed,
    on: &[u32],
    ground: &Ground<'_>,
    fault: &dyn Fn(String) -> ProfileError,
) -> Result<(), ProfileError> {
    if on.len() != 1 {
        return Err(fault(format!("`values` is for one register, `on` is {on:?}")));
    }
    for bank in ground.banks {
        if values.set.rows.is_empty()
            || values.set.rows.iter().any(|r| !r.digests.contains_key(bank))
        {
            return Err(fault(format!("not every value has one of bank {bank}")));
        }
    }
    Ok(())
}
