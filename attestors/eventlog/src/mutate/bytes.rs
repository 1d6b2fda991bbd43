//! Changes below the level of records: counts, sizes and algorithms that lie, and cuts.

use crate::draft::Digests;
use crate::draft::EventRecord;
use crate::event_type::EventType;
use crate::mutate::Defence;
use crate::mutate::Mutation;
use crate::mutate::Source;

impl Source {
    pub(super) fn of_bytes(&self, place: usize, event: &EventRecord, out: &mut Vec<Mutation>) {
        let mut push = |class, defence, bytes| {
            let (register, event) = (Some(event.register), Some(place.saturating_add(1)));
            out.push(Mutation { class, register, event, defence, bytes });
        };
        let start = self.start_of(place);
        let fields = Fields::of(event, start, self.agile());

        push("cut", Defence::Reading, self.original.get(..start + 5).unwrap_or(&[]).to_vec());
        let boundary = self.original.get(..start).unwrap_or(&[]).to_vec();
        let mut tail = self.draft.events.iter().skip(place);
        let defence = match tail.any(|event| event.kind != EventType::NO_ACTION) {
            true => Defence::Replay,
            false => Defence::Grammar,
        };
        push("drop-tail", defence, boundary);
        for size in [u32::MAX, u32::MAX / 2, 0x0100_0000] {
            push("size-overflow", Defence::Reading, self.with_number(fields.size, size));
        }
        if !self.agile() {
            return;
        }
        for count in [u32::MAX, 0x0001_0000, 0] {
            push("count-overflow", Defence::Reading, self.with_number(fields.count, count));
        }
        let edited = |edit: &dyn Fn(&mut Digests)| {
            self.changed(|draft| {
                if let Some(event) = draft.events.get_mut(place) {
                    edit(&mut event.digests);
                }
            })
        };
        let missing = edited(&|digests| drop(digests.pop()));
        push("digest-missing", Defence::Reading, missing);
        let twice = edited(&|digests| digests.extend(digests.first().cloned()));
        push("algorithm-twice", Defence::Reading, twice);
        // SHA3-256, SHA3-384 and a number that means nothing, whatever the size.
        for id in [0x0027, 0x0028, 0x7777] {
            let renamed = edited(&|digests| {
                if let Some((old, _)) = digests.last_mut() {
                    *old = id;
                }
            });
            push("unknown-algorithm", Defence::Reading, renamed);
        }
        // As long a digest of another algorithm that is known: the classic confusion.
        if self.banks.iter().all(|bank| bank.id != 0x0012) {
            let renamed = edited(&|digests| {
                if let Some((old, _)) = digests.iter_mut().find(|(id, _)| *id == 0x000b) {
                    *old = 0x0012;
                }
            });
            if renamed != self.original {
                push("algorithm-confusion", Defence::Reading, renamed);
            }
        }
    }

    fn with_number(&self, at: usize, number: u32) -> Vec<u8> {
        let mut bytes = self.original.clone();
        if let Some(field) = bytes.get_mut(at..at.saturating_add(4)) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Where the record at `place` begins.
    fn start_of(&self, place: usize) -> usize {
        let header = self.draft.header.as_ref().map_or(0, |header| 32 + header.data.len());
        let before = self.draft.events.iter().take(place);
        before.fold(header, |start, event| start + Fields::of(event, 0, self.agile()).end)
    }
}

/// Where the fields of a record stand.
struct Fields {
    count: usize,
    size: usize,
    end: usize,
}

impl Fields {
    fn of(event: &EventRecord, start: usize, agile: bool) -> Fields {
        let digests: usize = event.digests.iter().map(|(_, digest)| 2 + digest.len()).sum();
        let size = match agile {
            true => start + 12 + digests,
            false => start + 28,
        };
        Fields { count: start + 8, size, end: size + 4 + event.data.len() }
    }
}
