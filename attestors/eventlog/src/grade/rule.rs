//! The rules: what firmware and boot loaders hash for an event of a type.
//!
//! Most hash what they show. Where they hash something else, that is either a rule of its own under
//! the name of a quirk, or nothing here: no guess is made.

use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use serde::Serialize;
use serde::Serializer;

use crate::class::section_name;
use crate::event_type::EventType;
use crate::log::Event;
use crate::quirk::Quirk;
use crate::quirk::Quirks;
use crate::variable::Variable;

/// What was hashed to give the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The whole data.
    Data,
    /// The data without one byte behind the variable.
    DataWithoutTrailingByte,
    /// The variable's contents alone; its name is not bound.
    VariableContents,
    /// The text after the first space, up to its NUL or with it.
    AfterLabel,
    /// The same, with one foreign byte behind the NUL.
    AfterLabelTrailingByte,
    /// A section's name as ASCII with NUL.
    SectionName,
    /// The data and one zero byte.
    DataAndZero,
    /// A text given beside the log, as UTF-16LE with NUL.
    PreimageUtf16(usize),
    /// A text given beside the log, as it is.
    Preimage(usize),
    /// A text given beside the log, with NUL.
    PreimageNul(usize),
}

impl Rule {
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Data => "data",
            Rule::DataWithoutTrailingByte => "data-without-trailing-byte",
            Rule::VariableContents => "variable-contents",
            Rule::AfterLabel => "after-label",
            Rule::AfterLabelTrailingByte => "after-label-trailing-byte",
            Rule::SectionName => "section-name",
            Rule::DataAndZero => "data-and-zero",
            Rule::PreimageUtf16(_) => "preimage-utf16",
            Rule::Preimage(_) => "preimage",
            Rule::PreimageNul(_) => "preimage-nul",
        }
    }

    /// The quirk without which this rule is not used.
    pub const fn quirk(self) -> Option<Quirk> {
        Some(match self {
            Rule::DataWithoutTrailingByte => Quirk::ShimAuthorityTrailingByte,
            Rule::VariableContents => Quirk::VariableBootDataOnly,
            Rule::AfterLabel => Quirk::GrubIplPrefix,
            Rule::AfterLabelTrailingByte => Quirk::GrubIplTrailingByte,
            Rule::SectionName => Quirk::SystemdStubNameNul,
            Rule::DataAndZero => Quirk::IplCutNul,
            _ => return None,
        })
    }

    /// Which of the texts given beside the log.
    pub const fn preimage(self) -> Option<usize> {
        match self {
            Rule::PreimageUtf16(which) | Rule::Preimage(which) | Rule::PreimageNul(which) => {
                Some(which)
            }
            _ => None,
        }
    }

    /// The part of the log's own data that this rule binds; nothing if that is none of it.
    pub fn bound_part(self, data: &[u8]) -> Option<&[u8]> {
        match self {
            Rule::Data | Rule::DataAndZero | Rule::SectionName => Some(data),
            Rule::DataWithoutTrailingByte => data.split_last().map(|(_, head)| head),
            Rule::VariableContents => Variable::parse(data).map(|variable| variable.data),
            Rule::AfterLabel | Rule::AfterLabelTrailingByte => label_text(data),
            Rule::PreimageUtf16(_) | Rule::Preimage(_) | Rule::PreimageNul(_) => None,
        }
    }
}

/// The rules by type (PFP 1.05, §10.4.2, and what is seen in the field). A type without any is
/// matched by digest only.
pub(super) fn rule(event: &Event<'_>, allowed: Quirks) -> Option<Rule> {
    let data = event.data();
    let on = |rule: Rule| rule.quirk().is_some_and(|quirk| allowed.contains(quirk)).then_some(rule);
    let whole = || hashes(event, &[data]).then_some(Rule::Data);
    match event.kind() {
        EventType::SEPARATOR => is_separator(event).then(whole)?,
        EventType::S_CRTM_VERSION
        | EventType::NONHOST_INFO
        | EventType::PLATFORM_CONFIG_FLAGS
        | EventType::COMPACT_HASH
        | EventType::EVENT_TAG
        | EventType::ACTION
        | EventType::EFI_ACTION
        | EventType::EFI_GPT_EVENT
        | EventType::EFI_GPT_EVENT2
        | EventType::EFI_VARIABLE_DRIVER_CONFIG => whole(),
        EventType::EFI_VARIABLE_AUTHORITY => whole().or_else(|| {
            let rule = on(Rule::DataWithoutTrailingByte)?;
            // Seen: five zeros, which are hashed, and one byte of whatever lay behind them.
            let more = Variable::parse(data).is_some_and(|v| (1..=8).contains(&v.rest.len()));
            (more && hashes(event, &[rule.bound_part(data)?])).then_some(rule)
        }),
        EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2 => whole().or_else(|| {
            let rule = on(Rule::VariableContents)?;
            let variable = Variable::parse(data).filter(|variable| variable.rest.is_empty())?;
            hashes(event, &[variable.data]).then_some(rule)
        }),
        EventType::IPL => on(Rule::AfterLabel)
            .filter(|_| after_label(event))
            .or_else(|| on(Rule::AfterLabelTrailingByte).filter(|_| trailing_byte(event)))
            .or_else(|| on(Rule::SectionName).filter(|_| is_section_name(event)))
            .or_else(whole)
            .or_else(|| on(Rule::DataAndZero).filter(|_| cut_nul(event))),
        _ => None,
    }
}

/// Whether every bank that can be computed has the digest of these parts.
pub(crate) fn hashes(event: &Event<'_>, parts: &[&[u8]]) -> bool {
    let mut computed =
        event.digests().filter(|d| d.algorithm() != HashAlgorithm::Sm3_256).peekable();
    computed.peek().is_some()
        && computed.all(|digest| crypto::hash(digest.algorithm(), parts) == Some(digest))
}

/// 00000000; ffffffff or 00000001, which say that something failed; or `WBCL`, with which Windows
/// begins its own registers.
fn is_separator(event: &Event<'_>) -> bool {
    match event.data() {
        [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff] | [1, 0, 0, 0] => true,
        b"WBCL" => matches!(event.register(), 12..=14),
        _ => false,
    }
}

/// What stands after the first space, without its NUL: what GRUB measures of a command. The label
/// before it is GRUB's own and is not hashed.
pub(crate) fn label_text(data: &[u8]) -> Option<&[u8]> {
    let space = data.iter().position(|&byte| byte == b' ')?;
    let text = data.get(space.checked_add(1)?..)?;
    text.split(|&byte| byte == 0).next()
}

/// The text ends the data, or one NUL does; the digest has the NUL or not.
fn after_label(event: &Event<'_>) -> bool {
    let data = event.data();
    let Some(text) = label_text(data) else { return false };
    let whole = data.ends_with(text) || data.strip_suffix(&[0]).is_some_and(|d| d.ends_with(text));
    whole && (hashes(event, &[text]) || hashes(event, &[text, &[0]]))
}

fn trailing_byte(event: &Event<'_>) -> bool {
    let Some((_, [head @ .., 0])) = event.data().split_last() else { return false };
    let Some(text) = label_text(head) else { return false };
    head.ends_with(text) && (hashes(event, &[text]) || hashes(event, &[text, &[0]]))
}

/// UTF-16 with a byte too few: an odd size, and a zero behind the first character.
fn cut_nul(event: &Event<'_>) -> bool {
    let data = event.data();
    matches!(data, [_, 0, ..]) && data.len() % 2 == 1 && hashes(event, &[data, &[0]])
}

fn is_section_name(event: &Event<'_>) -> bool {
    section_name(event.data()).is_some_and(|name| hashes(event, &[name.as_bytes(), &[0]]))
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
