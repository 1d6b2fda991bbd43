//! What holds for all logs and all bytes, not only for those that somebody thought of.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/synthetic.rs"]
mod synthetic;

use assay_eventlog::Draft;
use assay_eventlog::EventRecord;
use assay_eventlog::EventType;
use assay_eventlog::Format;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_eventlog::variable::Variable;
use assay_eventlog::variable::signature_lists;
use assay_evidence::Registers;
use proptest::prelude::*;

const BANKS: [(u16, u16); 3] = [(0x0004, 20), (0x000b, 32), (0x7777, 24)];

fn kinds() -> impl Strategy<Value = EventType> {
    prop_oneof![
        Just(EventType::NO_ACTION),
        Just(EventType::IPL),
        Just(EventType::EFI_ACTION),
        Just(EventType::EVENT_TAG),
        Just(EventType::EFI_VARIABLE_DRIVER_CONFIG),
        Just(EventType::EFI_VARIABLE_AUTHORITY),
        Just(EventType::EFI_VARIABLE_BOOT),
        any::<u32>().prop_map(EventType),
    ]
}

fn records() -> impl Strategy<Value = EventRecord> {
    let digest = |size| proptest::collection::vec(any::<u8>(), size);
    let digests = (digest(20_usize), digest(32), digest(24));
    (0..24_u32, kinds(), digests, proptest::collection::vec(any::<u8>(), 0..80)).prop_map(
        |(register, kind, (a, b, c), data)| EventRecord {
            register,
            kind,
            digests: vec![(BANKS[0].0, a), (BANKS[1].0, b), (BANKS[2].0, c)],
            data,
        },
    )
}

fn drafts() -> impl Strategy<Value = Draft> {
    let certain = EventRecord {
        register: 4,
        kind: EventType::IPL,
        digests: BANKS.iter().map(|&(id, size)| (id, vec![1; usize::from(size)])).collect(),
        data: vec![],
    };
    proptest::collection::vec(records(), 0..12).prop_map(move |mut events| {
        events.push(certain.clone());
        Draft { events, ..Draft::crypto_agile(&BANKS) }
    })
}

/// Everything that a verifier would do with bytes that it was sent.
fn look_at_all(log: &Log<'_>) {
    let preimages: [&[u8]; 2] = [b"quiet\n", &[0xff]];
    let grading = Grading { preimages: &preimages, ..Grading::INSPECT };
    let grades = log.grade(&grading);
    let facts = log.facts(&grades, &preimages);
    assert_eq!(log.views(&grades).len(), log.event_count());
    let replay = log.replay();
    let comparison = replay.compare(replay.registers(), &[10], Quirks::ALL);
    assert_eq!(comparison.faults, []);
    assert_eq!(
        serde_json::to_value(&facts).unwrap().as_object().unwrap().len(),
        facts.iter().count()
    );
    for fault in grades.faults().iter().chain(grades.forged()) {
        assert!(!fault.finding().claim.is_empty());
    }
}

fn values(log: &Log<'_>) -> Registers {
    let (mut all, replay) = (Registers::new(), log.replay());
    for &bank in replay.banks() {
        for register in 0..24 {
            assert!(all.insert(register, replay.value(bank, register).unwrap()));
        }
    }
    all
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(draft in drafts()) {
        let bytes = draft.write();
        // Some of the texts mean something in an event that extends nothing.
        if let Ok(log) = Log::parse(&bytes) {
            prop_assert_eq!(Draft::of(&log), draft);
            prop_assert_eq!(log.event_count(), Draft::of(&log).events.len());
            look_at_all(&log);
        } else {
            let no_action = |e: &EventRecord| e.kind == EventType::NO_ACTION;
            prop_assert!(draft.events.iter().any(no_action));
        }
    }

    #[test]
    fn no_bytes_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for log in [Log::parse(&bytes), Log::parse_ccel(&bytes, Some(&bytes))].into_iter().flatten() {
            look_at_all(&log);
        }
        let _ = Variable::parse(&bytes).map(|variable| variable.data.len());
        let _ = signature_lists(&bytes).map(|list| list.len());
    }

    #[test]
    fn no_damage_brings_it_down(
        which in 0..4_usize,
        places in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let draft = synthetic::all().into_iter().nth(which).unwrap().1;
        let mut bytes = draft.write();
        for (place, value) in places {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let log = match draft.format {
            Format::Ccel => Log::parse_ccel(&bytes, None),
            _ => Log::parse(&bytes),
        };
        if let Ok(log) = log {
            look_at_all(&log);
        }
    }

    #[test]
    fn no_other_order_or_number_of_a_register_leads_to_its_value(
        draft in drafts(),
        from in any::<proptest::sample::Index>(),
        to in any::<proptest::sample::Index>(),
        what in 0..3_u8,
    ) {
        let bytes = draft.write();
        let Ok(log) = Log::parse(&bytes) else { return Ok(()) };
        let before = values(&log);
        let of_register = |events: &[EventRecord]| {
            let extending = events.iter().filter(|e| e.kind != EventType::NO_ACTION);
            let mut all: Vec<_> = extending
                .map(|e| (e.register, e.digests.iter().take(2).cloned().collect::<Vec<_>>()))
                .collect();
            all.sort_by_key(|(register, _)| *register);
            all
        };
        let mut changed = draft.clone();
        let (from, to) = (from.index(draft.events.len()), to.index(draft.events.len()));
        match what {
            0 => changed.events.swap(from, to),
            1 => drop(changed.events.remove(from)),
            _ => changed.events.insert(to, draft.events[from].clone()),
        }
        let bytes = changed.write();
        let Ok(log) = Log::parse(&bytes) else { return Ok(()) };
        let same = of_register(&changed.events) == of_register(&draft.events);
        prop_assert_eq!(values(&log) == before, same);
    }
}

#[test]
fn a_log_made_to_exhaust_the_reader_is_refused() {
    // As large as may be, of the smallest events that there are.
    let mut draft = Draft::crypto_agile(&[(0x0004, 20)]);
    let event = EventRecord {
        register: 4,
        kind: EventType::IPL,
        digests: vec![(0x0004, vec![1; 20])],
        data: vec![],
    };
    draft.events = vec![event.clone(); assay_eventlog::log::MAX_EVENTS];
    let bytes = draft.write();
    assert_eq!(Log::parse(&bytes).unwrap().event_count(), draft.events.len());
    draft.events.push(event);
    assert!(Log::parse(&draft.write()).is_err());
    assert!(Log::parse(&vec![0; assay_eventlog::log::MAX_LOG + 1]).is_err());
    assert!(Log::parse(&[]).is_err());
    // Only zeros, which read as SHA-1 events, are nothing that was measured.
    assert!(Log::parse(&[0; 320]).is_err());
}
