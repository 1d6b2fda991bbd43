//! What was started and how: firmware, command line, sections of the kernel image, actions.

use std::collections::BTreeMap;

use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;

use crate::class::Class;
use crate::class::section_name;
use crate::event_type::EventType;
use crate::facts::Facts;
use crate::facts::Section;
use crate::facts::Value;
use crate::grade::Grade;
use crate::grade::Grades;
use crate::grade::Rule;
use crate::grade::label_text;
use crate::grade::preimage_text;
use crate::log::Event;
use crate::log::Format;
use crate::log::Log;
use crate::variable::Guid;
use crate::variable::utf16;

pub(super) fn facts(log: &Log<'_>, grades: &Grades, preimages: &[&[u8]], facts: &mut Facts) {
    firmware(log, grades, facts);
    cmdline(log, grades, preimages, facts);
    sections(log, grades, facts);
    actions(log, grades, facts);
    separators(log, grades, facts);
}

fn bound(event: &Event<'_>, grades: &Grades) -> Option<Rule> {
    grades.grade(event.index()).and_then(Grade::rule)
}

/// Said once, and before register 0 is closed: afterwards anybody may say it.
fn firmware(log: &Log<'_>, grades: &Grades, facts: &mut Facts) {
    let register = log.format().register_of_pcr(0);
    let before_end = || {
        log.events()
            .filter(move |event| event.register() == register)
            .take_while(|event| event.kind() != EventType::SEPARATOR)
    };
    let one = |kind: EventType| {
        let mut all = before_end().filter(|event| event.kind() == kind);
        let only = all.next().filter(|_| all.next().is_none())?;
        (bound(&only, grades) == Some(Rule::Data)).then_some(only)
    };
    if let Some(event) = one(EventType::S_CRTM_VERSION)
        && let Some(text) = version(event.data())
    {
        facts.insert("fw.version", Value::Text(text), vec![event.index()]);
    }
    if let Some(event) = one(EventType::NONHOST_INFO)
        && let Some([technology, rest @ ..]) = event.data().strip_prefix(b"GCE NonHostInfo\0")
        && rest.iter().all(|&byte| byte == 0)
        && let Some(name) = GCE_TECHNOLOGIES.get(usize::from(*technology))
    {
        facts.insert("fw.gce_technology", Value::Text((*name).to_owned()), vec![event.index()]);
    }
}

/// UTF-16 or ASCII text, or a GUID; two zero bytes are the version of firmware that has none.
fn version(data: &[u8]) -> Option<String> {
    let shown = |text: &str| {
        let text = text.trim_end_matches('\0');
        (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    let wide = utf16(data).filter(|text| text.is_ascii()).and_then(|text| shown(&text));
    wide.or_else(|| std::str::from_utf8(data).ok().filter(|text| text.is_ascii()).and_then(shown))
        .or_else(|| data.try_into().ok().map(|guid| Guid(guid).to_string()))
}

/// GRUB's label `kernel_cmdline` is not hashed, so it can be put on another text and taken off the
/// real one. But GRUB also measures the command that loads a kernel: a `linux` command without its
/// own command line counts as one. So a forged label only adds texts for which rules must hold.
fn cmdline(log: &Log<'_>, grades: &Grades, preimages: &[&[u8]], facts: &mut Facts) {
    let registers = [8, 9, 11, 12].map(|pcr| log.format().register_of_pcr(pcr));
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut commands: Vec<(String, usize)> = Vec::new();
    // Load options that no text explains are those of the kernel, and another event that a text does
    // explain was made for it: root can extend these registers too.
    let unexplained = log
        .events()
        .any(|event| event.class() == Class::LoadOptions && bound(&event, grades).is_none());
    for event in log.events().filter(|event| registers.contains(&event.register())) {
        let Some(rule) = bound(&event, grades) else { continue };
        let index = event.index();
        if let Some(text) = rule.preimage().and_then(|which| preimages.get(which)) {
            let text = std::str::from_utf8(preimage_text(text)).ok().filter(|_| !unexplained);
            found.extend(text.map(|text| (text.into(), index)));
            continue;
        }
        match rule {
            Rule::AfterLabel | Rule::AfterLabelTrailingByte => {
                let Some(text) = label_text(event.data()) else { continue };
                let text = String::from_utf8_lossy(text);
                if event.class() == Class::KernelCmdline {
                    found.push((text.into_owned(), index));
                } else if let Some((command, arguments)) = text.split_once(' ')
                    && LINUX_COMMANDS.contains(&command)
                {
                    commands.push((arguments.to_owned(), index));
                }
            }
            Rule::Data | Rule::DataAndZero if event.kind() == EventType::IPL => {
                found.extend(options(event.data()).map(|text| (text, index)));
            }
            _ => {}
        }
    }
    let labelled: Vec<String> = found.iter().map(|(text, _)| unquoted(text)).collect();
    found.extend(commands.into_iter().filter(|(text, _)| !labelled.contains(&unquoted(text))));

    let events = found.iter().map(|(_, index)| *index).collect();
    let mut texts: Vec<String> = Vec::new();
    for (text, _) in found {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.len() {
        0 => {}
        1 => facts.insert("boot.cmdline", Value::Text(texts.concat()), events),
        _ => facts.insert("boot.cmdline", Value::Texts(texts), events),
    }
}

/// The boot loader's own options, in UTF-16; in UTF-8 where no character is a NUL.
fn options(data: &[u8]) -> Option<String> {
    let narrow = std::str::from_utf8(data).ok().map(|text| text.trim_end_matches('\0'));
    let text = match narrow {
        Some(text) if !text.contains('\0') => text.to_owned(),
        // Old systemd-boot logs one byte less than it hashes.
        _ => utf16(data.as_chunks::<2>().0.as_flattened())?,
    };
    let text = text.trim_end_matches('\0').trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// GRUB quotes arguments in one of the two texts and not in the other.
fn unquoted(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect()
}

/// systemd-stub measures a section's name and then its contents, both under the name as text. On a
/// TPM nothing else is in that register, so that a section cannot be hidden by relabelling it; in a
/// confidential machine at least nothing that still looks like one is left over.
fn sections(log: &Log<'_>, grades: &Grades, facts: &mut Facts) {
    let register = log.format().register_of_pcr(11);
    let mut events = log.events().filter(|event| event.register() == register && event.extends());
    let mut sections = Vec::new();
    while let Some(name) = events.next() {
        if bound(&name, grades) != Some(Rule::SectionName) {
            match log.format() == Format::Ccel && section_name(name.data()).is_none() {
                true => continue,
                false => return,
            }
        }
        let contents = events.next().filter(|event| {
            event.kind() == EventType::IPL
                && event.data() == name.data()
                && bound(event, grades) != Some(Rule::SectionName)
        });
        let (Some(contents), Some(name)) = (contents, section_name(name.data())) else { return };
        let digests: BTreeMap<HashAlgorithm, String> =
            contents.digests().map(|digest| (digest.algorithm(), digest.to_hex())).collect();
        sections.push(Section { name, digests, event: contents.index() });
    }
    if !sections.is_empty() {
        let events = sections.iter().map(|section| section.event).collect();
        facts.insert("boot.uki", Value::Sections(sections), events);
    }
}

fn actions(log: &Log<'_>, grades: &Grades, facts: &mut Facts) {
    let said: Vec<(String, usize)> = log
        .events()
        .filter(|event| event.class() == Class::Action && bound(event, grades).is_some())
        .filter_map(|event| {
            let text = std::str::from_utf8(event.data()).ok()?;
            Some((text.to_owned(), event.index()))
        })
        .collect();
    let exits: Vec<usize> =
        said.iter().filter(|(text, _)| text == EXITED).map(|(_, index)| *index).collect();
    if !exits.is_empty() {
        facts.insert("boot.exit_boot_services", Value::Flag(true), exits);
    }
    // Of a fixed text the digest is known, so that it is found under any label.
    let register = log.format().register_of_pcr(7);
    for (name, text) in WARNINGS {
        let carries = |event: &Event<'_>| {
            event.register() == register
                && event.extends()
                && event.digests().any(|d| crypto::hash(d.algorithm(), &[text]) == Some(d))
        };
        let events: Vec<usize> = log.events().filter(carries).map(|e| e.index()).collect();
        facts.insert(name, Value::Flag(!events.is_empty()), events);
    }
    if !said.is_empty() {
        let (texts, events) = said.into_iter().unzip();
        facts.insert("boot.actions", Value::Texts(texts), events);
    }
}

/// A confidential machine has several in one register; there it is no news.
fn separators(log: &Log<'_>, grades: &Grades, facts: &mut Facts) {
    let mut states: BTreeMap<u32, &'static str> = BTreeMap::new();
    let mut events = Vec::new();
    for event in log.events().filter(|event| event.kind() == EventType::SEPARATOR) {
        if bound(&event, grades).is_none() {
            continue;
        }
        events.push(event.index());
        let state = match event.class() {
            Class::SeparatorError => "error",
            _ if states.contains_key(&event.register()) => "repeated",
            _ => "ok",
        };
        let kept = states.entry(event.register()).or_insert(state);
        if *kept != "error" {
            *kept = state;
        }
    }
    if !states.is_empty() {
        facts.insert("boot.separators", Value::Separators(states), events);
    }
}

const LINUX_COMMANDS: [&str; 3] = ["linux", "linuxefi", "linux16"];
const EXITED: &str = "Exit Boot Services Returned with Success";
/// PFP 1.05, §3.3.4.8: what firmware says in register 7 of a state that weakens it.
const WARNINGS: [(&str, &[u8]); 2] = [
    ("boot.dma_protection_disabled", b"DMA Protection Disabled"),
    ("boot.uefi_debug_mode", b"UEFI Debug Mode"),
];
/// The byte behind the marker of a Google machine.
const GCE_TECHNOLOGIES: [&str; 5] = ["none", "sev", "sev-es", "tdx", "sev-snp"];
