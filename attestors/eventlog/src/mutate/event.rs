//! What can be done to one event.

use crate::class;
use crate::class::Class;
use crate::draft::EventRecord;
use crate::event_type::EventType;
use crate::grade::Grade;
use crate::grade::Rule;
use crate::mutate::Defence;
use crate::mutate::Mutation;
use crate::mutate::Source;
use crate::mutate::bound_range;

impl Source {
    /// Every change of the event at `place`.
    pub(super) fn of_event(&self, place: usize) -> Vec<Mutation> {
        let (Some(event), Some(&class), Some(&grade)) =
            (self.draft.events.get(place), self.classes.get(place), self.grades.get(place))
        else {
            return Vec::new();
        };
        let mut one = One { source: self, place, event, class, grade, out: Vec::new() };
        one.retype();
        one.text();
        one.number_and_order();
        one.digest();
        one.register();
        self.of_bytes(place, event, &mut one.out);
        one.out
    }
}

struct One<'s> {
    source: &'s Source,
    place: usize,
    event: &'s EventRecord,
    class: Class,
    grade: Grade,
    out: Vec<Mutation>,
}

impl One<'_> {
    fn push(&mut self, class: &'static str, defence: Defence, bytes: Vec<u8>) {
        self.out.push(Mutation {
            class,
            register: Some(self.event.register),
            event: Some(self.place.saturating_add(1)),
            defence,
            bytes,
        });
    }

    /// The log with this event changed.
    fn edited(&self, edit: impl FnOnce(&mut EventRecord)) -> Vec<u8> {
        self.source.changed(|draft| {
            if let Some(event) = draft.events.get_mut(self.place) {
                edit(event);
            }
        })
    }

    fn inserted(&self, event: EventRecord) -> Vec<u8> {
        let place = self.place.saturating_add(1);
        self.source.changed(|draft| draft.events.insert(place, event))
    }

    fn extends(&self) -> bool {
        self.event.kind != EventType::NO_ACTION
    }

    /// No digest binds a type.
    fn retype(&mut self) {
        for kind in OTHER_TYPES {
            let bytes = self.edited(|event| event.kind = kind);
            let same = self.event.kind == kind || class_of(self, kind) == self.class;
            match kind {
                _ if same => {}
                EventType::NO_ACTION => self.push("no-action-hiding", Defence::Replay, bytes),
                _ if !self.extends() => self.push("no-action-extended", Defence::Replay, bytes),
                _ if self.event.kind == EventType::SEPARATOR => {
                    self.push("separator-under-another-type", Defence::Text, bytes);
                }
                _ => self.push("retype", Defence::Grammar, bytes),
            }
        }
    }

    fn text(&mut self) {
        let Grade::Bound(rule) = self.grade else { return };
        let Some(range) = bound_range(rule, &self.event.data) else { return };
        let defence = match self.class.must_be_bound() {
            true => Defence::Text,
            false => Defence::Grammar,
        };
        let (first, last) = (range.start, range.end.saturating_sub(1));
        for (at, bit) in [(first, 0x01), (last, 0x01), (usize::midpoint(first, last), 0x20)] {
            let bytes = self.edited(|event| {
                if let Some(byte) = event.data.get_mut(at) {
                    *byte ^= bit;
                }
            });
            self.push("edit-data", defence, bytes);
        }
        let longer = self.edited(|event| event.data.push(0));
        match (self.class, rule) {
            // What an old shim does too: only a profile knows that this one is not old.
            (Class::Authority, _) => {
                self.push("authority-trailing-byte", Defence::Grammar, longer);
            }
            (Class::Separator, _) | (_, Rule::Data) => self.push("lengthen-data", defence, longer),
            _ => {}
        }
        if rule == Rule::AfterLabel {
            let label: &[u8] = match self.class {
                Class::KernelCmdline => b"grub_cmd:",
                _ => b"kernel_cmdline:",
            };
            let bytes = self.edited(|event| {
                let space = event.data.iter().position(|&byte| byte == b' ').unwrap_or(0);
                event.data.splice(..space, label.iter().copied());
            });
            self.push("relabel-text", Defence::Grammar, bytes);
        }
    }

    fn number_and_order(&mut self) {
        let place = self.place;
        let extends = self.extends();
        let by_replay = |grammar| if extends { Defence::Replay } else { grammar };
        let locality = self.class == Class::Locality;

        let dropped = self.source.changed(|draft| drop(draft.events.remove(place)));
        let told = self.event.data.last() != Some(&0);
        let defence = by_replay(match locality && told {
            true => Defence::Replay,
            false => Defence::Grammar,
        });
        self.push("drop-event", defence, dropped);

        let copied = self.inserted(self.event.clone());
        let defence = by_replay(match locality {
            true => Defence::Reading,
            false => Defence::Grammar,
        });
        match self.class {
            Class::Separator => self.push("duplicate-separator", defence, copied),
            _ => self.push("duplicate-event", defence, copied),
        }

        let register = self.event.register;
        let new = self.source.measured(register, self.event.kind, b"inserted");
        let bytes = self.inserted(new);
        self.push("insert-event", by_replay(Defence::Grammar), bytes);
        let bytes = self.inserted(self.source.unmeasured(register, b"inserted"));
        self.push("insert-no-action", Defence::Grammar, bytes);

        // With the next one of its register, if that is another.
        let after = self.source.draft.events.iter().enumerate().skip(place.saturating_add(1));
        let next = after
            .filter(|(_, e)| e.register == register && e.kind != EventType::NO_ACTION)
            .map(|(at, e)| (at, e.digests != self.event.digests))
            .next();
        if let Some((next, true)) = next
            && extends
        {
            let bytes = self.source.changed(|draft| draft.events.swap(place, next));
            self.push("swap-events", Defence::Replay, bytes);
        }
    }

    fn digest(&mut self) {
        if !self.extends() {
            return;
        }
        for which in 0..self.event.digests.len() {
            if self.source.banks.get(which).is_none_or(|bank| bank.computable().is_none()) {
                continue;
            }
            let bytes = self.edited(|event| {
                if let Some((_, digest)) = event.digests.get_mut(which)
                    && let Some(first) = digest.first_mut()
                {
                    *first ^= 0x80;
                }
            });
            self.push("edit-digest", Defence::Replay, bytes);
        }
        let failed: [u8; 4] = [0xff; 4];
        if self.event.kind == EventType::SEPARATOR {
            let event = self.source.measured(self.event.register, self.event.kind, &failed);
            let bytes = self.edited(|old| *old = event);
            self.push("separator-error", Defence::Replay, bytes);
        } else {
            for text in [[0; 4], failed] {
                let digests = self.source.digests(&text);
                let bytes = self.edited(|event| event.digests = digests);
                self.push("separator-digest-under-another-type", Defence::Replay, bytes);
            }
        }
    }

    fn register(&mut self) {
        if !self.extends() {
            return;
        }
        let last = self.source.draft.format.last_register();
        let next = match self.event.register {
            register if register == last => last.saturating_sub(1),
            register => register.saturating_add(1),
        };
        for register in [next, last] {
            if register != self.event.register {
                let bytes = self.edited(|event| event.register = register);
                self.push("register-remap", Defence::Replay, bytes);
            }
        }
        for register in [last.saturating_add(1), u32::MAX] {
            let bytes = self.edited(|event| event.register = register);
            self.push("register-beyond", Defence::Reading, bytes);
        }
    }
}

/// The class that the event would have under another type.
fn class_of(one: &One<'_>, kind: EventType) -> Class {
    class::class(kind, &one.event.data)
}

const OTHER_TYPES: [EventType; 9] = [
    EventType::NO_ACTION,
    EventType::SEPARATOR,
    EventType::EFI_ACTION,
    EventType::IPL,
    EventType::EVENT_TAG,
    EventType::POST_CODE,
    EventType::EFI_VARIABLE_DRIVER_CONFIG,
    EventType::EFI_VARIABLE_AUTHORITY,
    EventType(0x8401),
];
