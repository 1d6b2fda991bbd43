//! Profiles as they are written: sets in columns, rules, and the stanza that would admit a log.
//!
//! What is written here is for people to read, change and sign; the parser is the judge of it.

use std::fmt::Write;

use assay_eventlog::Event;
use assay_evidence::crypto;
use assay_evidence::digest::HashAlgorithm;

use crate::reference::Component;
use crate::reference::class;
use crate::reference::grammar::Rule;
use crate::reference::set::DigestSet;
use crate::reference::set::Row;

/// The events of one class in one register, as a set in their order.
pub fn columns_of(events: &[Event<'_>], class: &str, banks: &[HashAlgorithm]) -> DigestSet {
    let of_class = events.iter().filter(|event| event.class().name() == class);
    let rows = of_class
        .map(|event| Row {
            digests: banks.iter().filter_map(|bank| Some((*bank, event.digest(*bank)?))).collect(),
            text_sha256: Some(crypto::sha256(event.data())),
        })
        .collect();
    DigestSet { ordered: true, rows }
}

/// The classes of a register that need a set, each once, in the order of their first event.
pub fn classes_of(events: &[Event<'_>]) -> Vec<&'static str> {
    let mut classes = Vec::new();
    for event in events.iter().filter(|event| event.extends()) {
        let name = event.class().name();
        if !classes.contains(&name) {
            classes.push(name);
        }
    }
    classes
}

pub fn exact_rule(events: &[Event<'_>]) -> Rule {
    Rule::exact(events.iter().map(|event| event.class().name()))
}

/// A set as `sha256 = […]` and so on, one column after another.
pub fn write_columns(set: &DigestSet, banks: &[HashAlgorithm]) -> String {
    let mut text = format!("ordered = {}\n", set.ordered);
    for bank in banks {
        let column: Vec<String> = set
            .rows
            .iter()
            .filter_map(|row| row.digests.get(bank))
            .map(|digest| format!("\"{}\"", digest.to_hex()))
            .collect();
        let _ = writeln!(text, "{bank} = {}", list(&column));
    }
    if set.rows.iter().any(|row| row.text_sha256.is_some()) {
        let hexed = |text: [u8; 32]| hex::encode(text);
        let column: Vec<String> = set
            .rows
            .iter()
            .map(|row| format!("\"{}\"", row.text_sha256.map(hexed).unwrap_or_default()))
            .collect();
        let _ = writeln!(text, "text = {}", list(&column));
    }
    text
}

/// One line for one value, else one line each.
pub fn list(items: &[String]) -> String {
    match items {
        [] => "[]".to_owned(),
        [one] => format!("[{one}]"),
        items => format!("[\n    {},\n]", items.join(",\n    ")),
    }
}

/// A text between quotation marks, as TOML has it.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The lines of a profile that would admit these events in this component, to be looked at and
/// signed by a human. A rule that would have to change stands above as a comment.
pub fn admitting_stanza(
    component: &Component,
    registers: &[(u32, &[Event<'_>])],
    banks: &[HashAlgorithm],
) -> String {
    let mut text = String::new();
    let rules: Vec<String> = registers
        .iter()
        .map(|(register, events)| format!("\"{register}\" = \"{}\"", exact_rule(events)))
        .collect();
    let _ = writeln!(text, "# component `{}`: what this log shows needs", component.name);
    let _ = writeln!(text, "# rule = {{ {} }}", rules.join(", "));
    let _ = writeln!(text, "[[component.variant]]");
    let _ = writeln!(
        text,
        "name = \"seen\"\nstate = \"candidate\"\norigin = \"explained from one log\""
    );
    let mut classes: Vec<&str> = Vec::new();
    for (_, events) in registers {
        for class in classes_of(events) {
            let named = component
                .variants
                .first()
                .is_none_or(|variant| variant.sets.keys().any(|(_, name)| name == class));
            if !classes.contains(&class) && (named || !class::is_bound(class)) {
                classes.push(class);
            }
        }
    }
    for class in classes {
        let sets: Vec<String> = registers
            .iter()
            .map(|(register, events)| (register, columns_of(events, class, banks)))
            .filter(|(_, set)| !set.rows.is_empty())
            .map(|(register, set)| format!("\"{register}\" = {}", inline(&set, banks)))
            .collect();
        let _ = writeln!(text, "{class} = {{ {} }}", sets.join(", "));
    }
    text
}

pub fn inline(set: &DigestSet, banks: &[HashAlgorithm]) -> String {
    let columns: Vec<String> = banks
        .iter()
        .map(|bank| {
            let digests: Vec<String> = set
                .rows
                .iter()
                .filter_map(|row| row.digests.get(bank))
                .map(|digest| format!("\"{}\"", digest.to_hex()))
                .collect();
            format!("{bank} = [{}]", digests.join(", "))
        })
        .collect();
    format!("{{ ordered = {}, {} }}", set.ordered, columns.join(", "))
}
