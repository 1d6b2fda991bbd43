//! One event as a reader of the log sees it: number, place, type, class, grade.
//!
//! Text is shown only where the digest binds it. Whoever wants to see what nobody stands for has to
//! look at the bytes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::class::Class;
use crate::event_type::EventType;
use crate::grade::Grade;
use crate::grade::Grades;
use crate::grade::Rule;
use crate::log::Log;
use crate::variable::Variable;
use crate::variable::utf16;

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
