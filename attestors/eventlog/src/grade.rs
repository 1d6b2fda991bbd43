//! What an event's digest binds of its text: bound, known or opaque.
//!
//! A digest stands for whatever was hashed, which is often not the data that the log shows beside
//! it. So each event is hashed again under the rules that are known for its type; a rule counts
//! only if it holds in every bank that can be computed. What no rule binds is text that anybody
//! may have written, and no fact comes from it.

use assay_evidence::Digest;
use assay_evidence::Finding;
use assay_evidence::crypto;
use serde::Serialize;
use serde::Serializer;

use crate::class::Class;
use crate::error::Error;
use crate::event_type::EventType;
use crate::log::Event;
use crate::log::Format;
use crate::log::Log;
use crate::quirk::Quirk;
use crate::quirk::Quirks;

mod preimage;
mod rule;

pub use preimage::MAX_PREIMAGE;
pub use preimage::MAX_PREIMAGES;
use preimage::Preimages;
pub(crate) use preimage::preimage_text;
pub use rule::Rule;
pub(crate) use rule::hashes;
pub(crate) use rule::label_text;

/// What is given for grading beside the log itself.
#[derive(Clone, Copy)]
pub struct Grading<'g> {
    /// The quirks that may widen a rule. Without its quirk an event is opaque, or a fault.
    pub quirks: Quirks,
    /// Whether a digest is in a reference set.
    pub known: &'g dyn Fn(&Digest) -> bool,
    /// Texts, such as `/proc/cmdline`, that the host sends because the log has only their digests.
    pub preimages: &'g [&'g [u8]],
}

impl Grading<'_> {
    /// For looking at a log: every quirk, no reference set, no further texts.
    pub const INSPECT: Grading<'static> =
        Grading { quirks: Quirks::ALL, known: &|_| false, preimages: &[] };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// The text is what was hashed, under this rule.
    Bound(Rule),
    /// The digest is in a reference set; the text is still nobody's.
    Known,
    Opaque,
}

/// The grades of a log, and what cannot be part of an honest one.
#[derive(Clone, Debug)]
pub struct Grades {
    grades: Vec<Grade>,
    quirks: Quirks,
    faults: Vec<Error>,
    forged: Vec<Error>,
}

/// How many events have which grade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub bound: usize,
    pub known: usize,
    pub opaque: usize,
}

impl Grades {
    /// By the number of the event, which begins at 1.
    pub fn grade(&self, index: usize) -> Option<Grade> {
        self.grades.get(index.checked_sub(1)?).copied()
    }

    /// The same, but nothing is bound in registers that do not follow from the log: what they hold
    /// is not known, so no fact comes from their events.
    #[must_use]
    pub fn within(&self, log: &Log<'_>, follows: &dyn Fn(u32) -> bool) -> Grades {
        let mut kept = self.clone();
        for (grade, event) in kept.grades.iter_mut().zip(log.events()) {
            if !follows(event.register()) {
                *grade = Grade::Opaque;
            }
        }
        kept
    }

    pub fn counts(&self) -> Counts {
        let count = |is: fn(&Grade) -> bool| self.grades.iter().filter(|grade| is(grade)).count();
        Counts {
            bound: count(|grade| matches!(grade, Grade::Bound(_))),
            known: count(|grade| *grade == Grade::Known),
            opaque: count(|grade| *grade == Grade::Opaque),
        }
    }

    /// The quirks without which a grade would be another one.
    pub fn quirks(&self) -> Quirks {
        self.quirks
    }

    /// What no honest log has: a separator's digest under another type, or an event of a type that
    /// always binds its text and does not.
    pub fn faults(&self) -> &[Error] {
        &self.faults
    }

    /// Further events whose text should be bound and is not. To look at a log this is no fault; for
    /// a profile it is, in recorded registers too.
    pub fn forged(&self) -> &[Error] {
        &self.forged
    }

    pub fn findings(&self) -> Vec<Finding> {
        self.faults.iter().map(Error::finding).collect()
    }
}

impl Log<'_> {
    /// Hashes every event again. Preimages beyond [`MAX_PREIMAGES`] or [`MAX_PREIMAGE`] count for
    /// nothing.
    pub fn grade(&self, grading: &Grading<'_>) -> Grades {
        let separators = Separators::new(self);
        let preimages = Preimages::new(grading.preimages, self.replayable());
        let mut grades = Grades {
            grades: Vec::with_capacity(self.event_count()),
            quirks: self.log_quirks(),
            faults: Vec::new(),
            forged: Vec::new(),
        };
        for event in self.events() {
            let (index, kind, register) = (event.index(), event.kind(), event.register());
            let grade = grade(&event, grading, &preimages);
            grades.grades.push(grade);
            if let Grade::Bound(rule) = grade {
                grades.quirks =
                    rule.quirk().map_or(grades.quirks, |quirk| grades.quirks.with(quirk));
            }
            grades.quirks = grades.quirks.union(event_quirks(&event, grade, grading.quirks));
            if separators.are_of_another_type(&event) {
                grades.faults.push(Error::SeparatorElsewhere { event: index, kind });
            }
            let class = event.class();
            if matches!(grade, Grade::Bound(_)) || !class.binds_its_text() {
                continue;
            }
            let unbound = Error::Unbound { event: index, kind, register };
            if class.must_be_bound() {
                grades.faults.push(unbound);
            } else if !excused(class, grading.quirks) {
                grades.forged.push(unbound);
            }
        }
        grades
    }

    /// Quirks of the log as a whole.
    fn log_quirks(&self) -> Quirks {
        match self.padding() {
            [] => Quirks::NONE,
            _ => Quirks::NONE.with(Quirk::CcelPadding),
        }
    }
}

/// Quirks that explain why an event is opaque or looks odd.
fn event_quirks(event: &Event<'_>, grade: Grade, allowed: Quirks) -> Quirks {
    let opaque = !matches!(grade, Grade::Bound(_));
    let quirk = match event.kind() {
        EventType::S_CRTM_VERSION if opaque => Quirk::CrtmVersionUnbound,
        EventType::NONHOST_INFO if opaque => Quirk::NonhostInfoUnbound,
        EventType(0x8401) => Quirk::UnknownType8401,
        EventType::EFI_PLATFORM_FIRMWARE_BLOB if hashes(event, &[]) => Quirk::FwBlobEmpty,
        _ => return Quirks::NONE,
    };
    match allowed.contains(quirk) {
        true => Quirks::NONE.with(quirk),
        false => Quirks::NONE,
    }
}

fn excused(class: Class, allowed: Quirks) -> bool {
    match class {
        Class::Crtm => allowed.contains(Quirk::CrtmVersionUnbound),
        Class::Nonhost => allowed.contains(Quirk::NonhostInfoUnbound),
        _ => false,
    }
}

fn grade(event: &Event<'_>, grading: &Grading<'_>, preimages: &Preimages) -> Grade {
    if !event.extends() {
        return Grade::Opaque;
    }
    if let Some(rule) = rule::rule(event, grading.quirks) {
        return Grade::Bound(rule);
    }
    if let Some(rule) = preimages.rule(event) {
        return Grade::Bound(rule);
    }
    let known = |digest: Digest| digest.algorithm().strength() > 0 && (grading.known)(&digest);
    match event.digests().any(known) {
        true => Grade::Known,
        false => Grade::Opaque,
    }
}

/// The digests that only separators may have.
struct Separators {
    digests: Vec<Digest>,
    /// The separator of register 0, by number.
    ends_zero: Option<usize>,
    ccel: bool,
}

impl Separators {
    fn new(log: &Log<'_>) -> Separators {
        let texts: [&[u8]; 3] = [&[0; 4], &[0xff; 4], b"WBCL"];
        let digests = log
            .replayable()
            .flat_map(|bank| texts.map(|text| crypto::hash(bank, &[text])))
            .flatten()
            .collect();
        let of_zero =
            |event: &Event<'_>| event.register() == 0 && event.kind() == EventType::SEPARATOR;
        let ends_zero = log.events().find(of_zero).map(|event| event.index());
        Separators { digests, ends_zero, ccel: log.format() == Format::Ccel }
    }

    /// A real Lenovo measures four zeros as contents of its S-CRTM, before register 0 is closed.
    fn are_of_another_type(&self, event: &Event<'_>) -> bool {
        let excepted = event.kind() == EventType::SEPARATOR
            || (event.kind() == EventType::S_CRTM_CONTENTS
                && event.register() == 0
                && !self.ccel
                && self.ends_zero.is_some_and(|end| event.index() < end));
        !excepted && event.digests().any(|digest| self.digests.contains(&digest))
    }
}

impl Grade {
    pub const fn name(self) -> &'static str {
        match self {
            Grade::Bound(_) => "bound",
            Grade::Known => "known",
            Grade::Opaque => "opaque",
        }
    }

    pub const fn rule(self) -> Option<Rule> {
        match self {
            Grade::Bound(rule) => Some(rule),
            Grade::Known | Grade::Opaque => None,
        }
    }
}

impl Serialize for Grade {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
