//! Everything that can be done to a boot log to make it lie, one change at a time.
//!
//! A profile is as good as what it refuses. This takes a log and yields its mutations, each with
//! the layer that has to refuse it at the latest, held against the registers of the log it was made
//! from. It knows nothing of verifiers, so that it can be turned on any.
//!
//! Mutations of text are made only where a rule binds the text: a device path or a file's name is
//! nobody's word, and a log is no worse for another one. A profile that allows `ebs-pair-missing`
//! rightly takes the log that ends before that pair.

use std::iter;

use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use serde::Serialize;

use crate::class::Class;
use crate::draft::Digests;
use crate::draft::Draft;
use crate::draft::EventRecord;
use crate::draft::spec_id;
use crate::event_type::EventType;
use crate::grade::Grade;
use crate::grade::Grades;
use crate::grade::Rule;
use crate::log::Bank;
use crate::log::Format;
use crate::log::Log;
use crate::log::STARTUP_LOCALITY;

mod bytes;
mod event;

/// One changed log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// What was done.
    pub class: &'static str,
    /// The register whose story was changed; nothing where it is that of all.
    pub register: Option<u32>,
    /// The event that was changed, by its number before.
    pub event: Option<usize>,
    pub defence: Defence,
    pub bytes: Vec<u8>,
}

/// What has to refuse a mutation at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Defence {
    /// The bytes are no log.
    Reading,
    /// It leads to other registers.
    Replay,
    /// An honest log does not say that.
    Text,
    /// The profile, if it decides the register: class, grade, number or order of events differ.
    Grammar,
}

/// The mutations of a log, made one by one. `grades` are those of the log, with every quirk that
/// may be used.
pub fn mutations<'l>(log: &'l Log<'l>, grades: &'l Grades) -> impl Iterator<Item = Mutation> + 'l {
    let source = Source::new(log, grades);
    let whole = source.of_the_whole();
    let each = (0..source.draft.events.len()).flat_map(move |place| {
        let mut all = source.of_event(place);
        // Some of these change nothing: a real Lenovo has four zeros where they do not belong.
        all.retain(|mutation| mutation.bytes != source.original);
        all
    });
    whole.into_iter().chain(each)
}

/// A log that is being mutated.
struct Source {
    draft: Draft,
    grades: Vec<Grade>,
    classes: Vec<Class>,
    banks: Vec<Bank>,
    original: Vec<u8>,
}

impl Source {
    fn new(log: &Log<'_>, grades: &Grades) -> Source {
        let draft = Draft::of(log);
        let original = draft.write();
        let grade = |index| grades.grade(index).unwrap_or(Grade::Opaque);
        Source {
            draft,
            grades: log.events().map(|event| grade(event.index())).collect(),
            classes: log.events().map(|event| event.class()).collect(),
            banks: log.banks().to_vec(),
            original,
        }
    }

    fn agile(&self) -> bool {
        self.draft.format != Format::Sha1
    }

    /// The digests of a text, as firmware would log them.
    fn digests(&self, text: &[u8]) -> Digests {
        let digest = |bank: &Bank| match bank.computable().and_then(|b| crypto::hash(b, &[text])) {
            Some(digest) => digest.as_bytes().to_vec(),
            None => vec![0x5a; bank.size],
        };
        self.banks.iter().map(|bank| (bank.id, digest(bank))).collect()
    }

    /// An event that is measured as the specification has it.
    fn measured(&self, register: u32, kind: EventType, data: &[u8]) -> EventRecord {
        EventRecord { register, kind, digests: self.digests(data), data: data.to_vec() }
    }

    fn unmeasured(&self, register: u32, data: &[u8]) -> EventRecord {
        let digests = self.banks.iter().map(|bank| (bank.id, vec![0; bank.size])).collect();
        EventRecord { register, kind: EventType::NO_ACTION, digests, data: data.to_vec() }
    }

    fn registers(&self) -> Vec<u32> {
        let extended = self.draft.events.iter().filter(|e| e.kind != EventType::NO_ACTION);
        let mut registers: Vec<u32> = extended.map(|event| event.register).collect();
        registers.sort_unstable();
        registers.dedup();
        registers
    }

    /// The draft with one change.
    fn changed(&self, change: impl FnOnce(&mut Draft)) -> Vec<u8> {
        let mut draft = self.draft.clone();
        change(&mut draft);
        draft.write()
    }

    /// Changes that belong to no one event.
    fn of_the_whole(&self) -> Vec<Mutation> {
        let mut out = Whole(Vec::new());
        self.registers_dropped(&mut out);
        self.events_appended(&mut out);
        self.locality(&mut out);
        if self.agile() {
            self.header(&mut out);
            self.banks(&mut out);
        }
        self.ends(&mut out);
        out.0
    }

    fn registers_dropped(&self, out: &mut Whole) {
        for register in self.registers() {
            let bytes = self.changed(|draft| {
                draft.events.retain(|e| e.register != register || e.kind == EventType::NO_ACTION);
            });
            out.push("drop-register", Some(register), Defence::Replay, bytes);
        }
    }

    fn events_appended(&self, out: &mut Whole) {
        let appended = |event: EventRecord| self.changed(|draft| draft.events.push(event));
        for register in self.registers() {
            for kind in [EventType::EFI_ACTION, EventType::IPL, EventType::SEPARATOR] {
                let data: &[u8] = match kind {
                    EventType::SEPARATOR => &[0; 4],
                    _ => b"appended after the boot",
                };
                let bytes = appended(self.measured(register, kind, data));
                out.push("append-event", Some(register), Defence::Replay, bytes);
            }
            let bytes = appended(self.unmeasured(register, b"no action"));
            out.push("append-no-action", Some(register), Defence::Grammar, bytes);
        }
        let five = self.draft.format.register_of_pcr(5);
        let again = self.measured(five, EventType::EFI_ACTION, b"Exit Boot Services Invocation");
        out.push("append-after-ebs", Some(five), Defence::Replay, appended(again));
    }

    /// Register 0 of a TPM begins where its locality says; there is none in a CCEL.
    fn locality(&self, out: &mut Whole) {
        if self.draft.format == Format::Ccel {
            return;
        }
        let event = |value: u8| self.unmeasured(0, &[STARTUP_LOCALITY, &[value]].concat());
        let stated = self.draft.events.iter().position(|event| {
            event.kind == EventType::NO_ACTION && event.data.starts_with(STARTUP_LOCALITY)
        });
        let before = stated.and_then(|place| self.draft.events.get(place)?.data.last().copied());
        for value in [0, 3, 4, 9] {
            if before == Some(value) {
                continue;
            }
            let bytes = self.changed(|draft| match stated {
                Some(place) => {
                    if let Some(old) = draft.events.get_mut(place) {
                        *old = event(value);
                    }
                }
                None => draft.events.insert(0, event(value)),
            });
            let defence = match value {
                9 => Defence::Reading,
                0 if before.is_none() => Defence::Grammar,
                _ => Defence::Replay,
            };
            out.push("locality-edit", Some(0), defence, bytes);
        }
        let extends_zero = |e: &EventRecord| e.register == 0 && e.kind != EventType::NO_ACTION;
        if let Some(place) = self.draft.events.iter().position(extends_zero) {
            let place = place.saturating_add(1);
            let bytes = self.changed(|draft| draft.events.insert(place, event(3)));
            out.push("locality-late", Some(0), Defence::Reading, bytes);
        }
        let bytes = self.changed(|draft| {
            draft.events.insert(0, event(3));
            draft.events.insert(0, event(3));
        });
        out.push("locality-twice", Some(0), Defence::Reading, bytes);
    }

    fn header(&self, out: &mut Whole) {
        let sizes =
            || self.banks.iter().map(|bank| (bank.id, u16::try_from(bank.size).unwrap_or(0)));
        let with = |banks: Vec<(u16, u16)>| {
            self.changed(|draft| {
                if let Some(header) = &mut draft.header {
                    header.data = spec_id(&banks);
                }
            })
        };
        for which in 0..self.banks.len() {
            for wrong in [0_u16, 1, 0x7fff, 0xffff] {
                let edited = sizes().enumerate().map(|(at, (id, size))| match at == which {
                    true => (id, size ^ wrong.max(1)),
                    false => (id, size),
                });
                let bytes = with(edited.collect());
                out.push("wrong-algorithm-size", None, Defence::Reading, bytes);
            }
            let renamed = sizes().enumerate().map(|(at, (id, size))| match at == which {
                true => (0x7777, size),
                false => (id, size),
            });
            out.push("header-algorithm", None, Defence::Reading, with(renamed.collect()));
            let twice = sizes().chain(sizes().nth(which));
            out.push("header-algorithm-twice", None, Defence::Reading, with(twice.collect()));
        }
        out.push("header-without-algorithms", None, Defence::Reading, with(Vec::new()));
        let many = iter::repeat_n((0x7777, 32), 4096).collect();
        out.push("header-of-many-algorithms", None, Defence::Reading, with(many));
        let Some(header) = self.draft.header.as_ref() else { return };
        let second = self.unmeasured(0, &header.data);
        for place in [0, self.draft.events.len() / 2, self.draft.events.len()] {
            let second = second.clone();
            let bytes = self.changed(|draft| draft.events.insert(place, second));
            out.push("second-spec-id", None, Defence::Reading, bytes);
        }
    }

    /// The whole log in other banks than it was measured in.
    fn banks(&self, out: &mut Whole) {
        for bank in &self.banks {
            // Another algorithm whose digests are as long.
            let other = match bank.algorithm {
                Some(HashAlgorithm::Sha256) => 0x0012,
                Some(HashAlgorithm::Sm3_256) => 0x000b,
                Some(HashAlgorithm::Sha384) => 0x0028,
                Some(HashAlgorithm::Sha512) => 0x0029,
                _ => 0x7777,
            };
            if self.banks.iter().any(|known| known.id == other) {
                continue;
            }
            let bytes = self.in_banks(|id| Some(if id == bank.id { other } else { id }));
            out.push("bank-remap", None, Defence::Replay, bytes);
            if self.banks.len() > 1 {
                let bytes = self.in_banks(|id| (id != bank.id).then_some(id));
                out.push("bank-dropped", None, Defence::Replay, bytes);
            }
        }
    }

    fn in_banks(&self, renamed: impl Fn(u16) -> Option<u16>) -> Vec<u8> {
        let sizes: Vec<(u16, u16)> = self
            .banks
            .iter()
            .filter_map(|bank| Some((renamed(bank.id)?, u16::try_from(bank.size).ok()?)))
            .collect();
        self.changed(|draft| {
            if let Some(header) = &mut draft.header {
                header.data = spec_id(&sizes);
            }
            for event in &mut draft.events {
                let digests = std::mem::take(&mut event.digests);
                let kept = digests.into_iter();
                event.digests = kept.filter_map(|(id, d)| Some((renamed(id)?, d))).collect();
            }
        })
    }

    fn ends(&self, out: &mut Whole) {
        for more in [&[0x41][..], &[0x00, 0x41], &[0xff, 0x00], &[0x41; 64]] {
            let bytes = [&self.original[..], more].concat();
            out.push("trailing-bytes", None, Defence::Reading, bytes);
        }
        if self.draft.format != Format::Ccel {
            // Zeros are events in a SHA-1 log, and extend its register 0.
            let zeros = if self.agile() { Defence::Reading } else { Defence::Replay };
            for (filler, defence) in [(0x00, zeros), (0xff, Defence::Reading)] {
                let bytes = [&self.original[..], &[filler; 64]].concat();
                out.push("trailing-bytes", None, defence, bytes);
            }
        } else if self.draft.padding.len() > 1 {
            let bytes = self.changed(|draft| {
                if let Some(last) = draft.padding.last_mut() {
                    *last ^= 1;
                }
            });
            out.push("padding-garbage", None, Defence::Reading, bytes);
        }
        out.push("nothing", None, Defence::Reading, Vec::new());
    }
}

/// Mutations of the log as a whole.
struct Whole(Vec<Mutation>);

impl Whole {
    fn push(
        &mut self,
        class: &'static str,
        register: Option<u32>,
        defence: Defence,
        bytes: Vec<u8>,
    ) {
        self.0.push(Mutation { class, register, event: None, defence, bytes });
    }
}

/// Where the part of the data that a rule binds begins, and how long it is.
fn bound_range(rule: Rule, data: &[u8]) -> Option<std::ops::Range<usize>> {
    let part = rule.bound_part(data).filter(|part| !part.is_empty())?;
    // A part is a window of the data, and the first such window is it or is as good.
    let start = data.windows(part.len()).position(|window| std::ptr::eq(window, part))?;
    Some(start..start.saturating_add(part.len()))
}
