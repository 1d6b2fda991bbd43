//! A component of a profile: its registers, and how it decides them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::time::Time;

use crate::reference::ProfileError;
use crate::reference::class;
use crate::reference::fields::Fields;
use crate::reference::fields::Written;
use crate::reference::fields::refused;
use crate::reference::grammar::Rule;
use crate::reference::pcr_signature::PHASES;
use crate::reference::profile::Ground;
use crate::reference::profile::Root;
use crate::reference::profile::Variant;
use crate::reference::requirement::Requirement;
use crate::reference::tokens::Tokens;

const MAX_VARIANTS: usize = 256;

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
impl Component {
    pub(super) fn from_fields(
        mut fields: Fields,
        ground: &Ground<'_>,
    ) -> Result<Self, ProfileError> {
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
