//! A log as a reader sees it: what it leads to, what it binds, and its events one by one.
//!
//! Faults stand in the order of their weight: what is no honest log, then registers that do not
//! follow, then text that nothing binds. Text is shown only where the digest binds it. Whoever wants
//! to see what nobody stands for has to look at the bytes.

use std::collections::BTreeMap;

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Registers;
use serde::Serialize;

use crate::class::Class;
use crate::error::Error;
use crate::event_type::EventType;
use crate::facts::Facts;
use crate::grade::Counts;
use crate::grade::Grade;
use crate::grade::Grades;
use crate::grade::Grading;
use crate::grade::Rule;
use crate::log::Bank;
use crate::log::Format;
use crate::log::Log;
use crate::quirk::Quirks;
use crate::replay::Comparison;
use crate::variable::Variable;
use crate::variable::utf16;

/// What `inspect eventlog` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub format: Format,
    /// Whether it may ever decide anything.
    pub decides: bool,
    pub banks: Vec<Bank>,
    /// Records after the Spec ID header.
    pub events: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_locality: Option<u8>,
    /// Only registers that have events.
    pub registers: Registers,
    pub facts: Facts,
    /// The events on which each fact rests.
    pub fact_events: BTreeMap<&'static str, Vec<usize>>,
    pub grades: Counts,
    pub quirks: Quirks,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_list: Option<Vec<EventView>>,
    /// Faults, most decisive first.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// Banks for which values were given and that the log lacks.
    #[serde(skip)]
    pub banks_missing: Vec<assay_evidence::HashAlgorithm>,
    #[serde(skip)]
    pub not_checked: Vec<String>,
}

impl Report {
    /// `given` are register values to hold the log against, but for those in `elsewhere`.
    pub fn new(
        log: &Log<'_>,
        grading: &Grading<'_>,
        given: Option<&Registers>,
        elsewhere: &[u32],
    ) -> Report {
        let grades = log.grade(grading);
        let facts = log.facts(&grades, grading.preimages);
        let replay = log.replay();
        let comparison = match given {
            Some(given) => replay.compare(given, elsewhere, grading.quirks),
            None => Comparison::default(),
        };
        let (odd, unbound): (Vec<&Error>, Vec<&Error>) =
            grades.faults().iter().partition(|fault| fault.reason() == Reason::LogMalformed);
        let faults = odd.into_iter().chain(&comparison.faults).chain(unbound);
        let mut not_checked = comparison.not_checked.clone();
        if given.is_none() {
            not_checked.push("registers: no values given".to_owned());
        }
        not_checked.extend(
            log.banks()
                .iter()
                .filter(|bank| bank.computable().is_none())
                .map(|bank| format!("bank {bank}: its algorithm cannot be computed here")),
        );
        Report {
            format: log.format(),
            decides: log.decides(),
            banks: log.banks().to_vec(),
            events: log.event_count(),
            startup_locality: log.startup_locality(),
            registers: replay.registers().clone(),
            fact_events: facts.iter().map(|(name, fact)| (name, fact.events().to_vec())).collect(),
            facts,
            grades: grades.counts(),
            quirks: grades.quirks().union(comparison.quirks),
            event_list: None,
            findings: faults.map(Error::finding).collect(),
            banks_missing: comparison.banks_missing,
            not_checked,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventView {
    /// The first event after the header is 1.
    pub index: usize,
    pub register: u32,
    #[serde(rename = "type")]
    pub kind: EventType,
    pub class: Class,
    pub grade: Grade,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// By bank, in hex; empty where the event extends nothing.
    pub digests: BTreeMap<String, String>,
    /// Bytes of data.
    pub size: usize,
    /// What is bound, where it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Log<'_> {
    pub fn views(&self, grades: &Grades) -> Vec<EventView> {
        self.events()
            .map(|event| {
                let grade = grades.grade(event.index()).unwrap_or(Grade::Opaque);
                let rule = grade.rule();
                let digests = event.raw_digests().filter(|_| event.extends());
                EventView {
                    index: event.index(),
                    register: event.register(),
                    kind: event.kind(),
                    class: event.class(),
                    grade,
                    rule,
                    digests: digests
                        .map(|(bank, bytes)| (bank.to_string(), hex::encode(bytes)))
                        .collect(),
                    size: event.data().len(),
                    text: rule.and_then(|rule| text(event.kind(), event.data(), rule)),
                }
            })
            .collect()
    }
}

fn text(kind: EventType, data: &[u8], rule: Rule) -> Option<String> {
    let variables = [
        EventType::EFI_VARIABLE_DRIVER_CONFIG,
        EventType::EFI_VARIABLE_AUTHORITY,
        EventType::EFI_VARIABLE_BOOT,
        EventType::EFI_VARIABLE_BOOT2,
    ];
    if variables.contains(&kind) {
        // The name is bound with the whole variable only.
        let variable = Variable::parse(data).filter(|_| rule != Rule::VariableContents)?;
        return Some(variable.name);
    }
    let part = rule.bound_part(data)?;
    let shown = |text: &str| {
        let text = text.trim_end_matches('\0');
        (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    let wide = utf16(part).filter(|text| text.is_ascii()).and_then(|text| shown(&text));
    wide.or_else(|| std::str::from_utf8(part).ok().and_then(shown))
}
