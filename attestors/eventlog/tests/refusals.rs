//! Each way in which a log is refused, with the code that an operator sees.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/synthetic.rs"]
mod synthetic;

use assay_eventlog::Draft;
use assay_eventlog::Error;
use assay_eventlog::EventRecord;
use assay_eventlog::EventType;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_eventlog::draft::spec_id;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;

/// The log of shim and GRUB, changed.
fn changed(change: impl FnOnce(&mut Draft)) -> Vec<u8> {
    let mut draft = synthetic::shim_and_grub();
    change(&mut draft);
    draft.write()
}

#[track_caller]
fn malformed(change: impl FnOnce(&mut Draft)) -> Error {
    let bytes = changed(change);
    let error = Log::parse(&bytes).expect_err("no log");
    assert_eq!(error.reason().code(), "log-malformed", "{error}");
    assert_eq!(error.finding().code, error.reason());
    error
}

#[track_caller]
fn algorithm(change: impl FnOnce(&mut Draft)) -> Error {
    let bytes = changed(change);
    let error = Log::parse(&bytes).expect_err("no log");
    assert_eq!(error.reason().code(), "log-alg", "{error}");
    error
}

#[track_caller]
fn faults(change: impl FnOnce(&mut Draft)) -> Vec<String> {
    let bytes = changed(change);
    let grades = Log::parse(&bytes).unwrap().grade(&Grading::INSPECT);
    grades.faults().iter().map(|fault| fault.reason().to_string()).collect()
}

fn no_action(data: &[u8]) -> EventRecord {
    EventRecord {
        register: 0,
        kind: EventType::NO_ACTION,
        digests: vec![(0x0004, vec![0; 20]), (0x000b, vec![0; 32])],
        data: data.to_vec(),
    }
}

#[test]
fn a_second_spec_id_is_refused_wherever_it_stands() {
    let header = spec_id(&[(0x0004, 20), (0x000b, 32)]);
    for place in [0, 5, 28] {
        let second = EventRecord { register: 9, ..no_action(&header) };
        let found = malformed(|draft| draft.events.insert(place, second));
        assert_eq!(found, Error::SecondSpecId { event: place + 1 });
    }
}

#[test]
fn a_locality_is_believed_once_and_before_register_0_is_extended() {
    malformed(|draft| draft.events.insert(0, draft.events[0].clone()));
    malformed(|draft| draft.events.swap(0, 1));
    malformed(|draft| draft.events[0].register = 1);
    malformed(|draft| draft.events[0].data.push(0));
    malformed(|draft| draft.events[0].data.truncate(16));
    malformed(|draft| draft.events[0] = no_action(b"StartupLocality\0\x01"));
    // After other registers is early enough.
    let bytes = changed(|draft| {
        let locality = draft.events.remove(0);
        let first = draft.events.iter().position(|event| event.register == 0).unwrap();
        assert_eq!(first, 0);
        let other = draft.events.iter().position(|event| event.register == 7).unwrap();
        draft.events.swap(first, other);
        draft.events.insert(1, locality);
    });
    assert_eq!(Log::parse(&bytes).unwrap().startup_locality(), Some(3));
}

#[test]
fn digests_are_one_of_each_bank_in_any_order() {
    let bytes = changed(|draft| draft.events[3].digests.reverse());
    let log = Log::parse(&bytes).unwrap();
    let genuine = changed(|_| {});
    let genuine = Log::parse(&genuine).unwrap();
    assert_eq!(log.replay().registers(), genuine.replay().registers());

    malformed(|draft| drop(draft.events[3].digests.pop()));
    malformed(|draft| draft.events[3].digests.clear());
    algorithm(|draft| draft.events[3].digests[1] = draft.events[3].digests[0].clone());
    algorithm(|draft| draft.events[3].digests[1].0 = 0x0012);
    algorithm(|draft| draft.events[3].digests.push((0x000c, vec![0; 48])));
}

#[test]
fn sizes_come_from_the_header_and_have_to_be_right_there() {
    let with = |banks: &'static [(u16, u16)]| {
        move |draft: &mut Draft| draft.header.as_mut().unwrap().data = spec_id(banks)
    };
    algorithm(with(&[(0x0004, 20), (0x000b, 31)]));
    algorithm(with(&[(0x0004, 20), (0x000b, 48)]));
    algorithm(with(&[(0x0004, 20), (0x0004, 20)]));
    algorithm(with(&[(0x0004, 20), (0x7777, 0)]));
    algorithm(with(&[(0x0004, 20), (0x7777, 65)]));
    algorithm(with(&[(0x0004, 20)]));
    malformed(with(&[]));
    malformed(with(&[(0x7777, 32); 9]));
    malformed(|draft| draft.header.as_mut().unwrap().data.push(0));
    malformed(|draft| draft.header.as_mut().unwrap().register = 1);
    // `Spec ID Event04` may mean anything.
    malformed(|draft| draft.header.as_mut().unwrap().data[14] = b'4');
}

#[test]
fn an_unknown_bank_is_read_over_and_reported() {
    let mut draft = Draft::crypto_agile(&[(0x0027, 32), (0x0012, 32)]);
    let digests = vec![(0x0027, vec![1; 32]), (0x0012, vec![2; 32])];
    let event = EventRecord { register: 4, kind: EventType::IPL, digests, data: vec![] };
    draft.events.push(event);
    let bytes = draft.write();
    let log = Log::parse(&bytes).unwrap();
    assert!(!log.decides(), "nothing here can be computed");
    assert!(log.replay().registers().is_empty());
    let sm3 = assay_evidence::Digest::new(HashAlgorithm::Sm3_256, &[0; 32]).unwrap();
    let mut quoted = assay_evidence::Registers::new();
    assert!(quoted.insert(4, sm3));
    let comparison = log.replay().compare(&quoted, &[], Quirks::ALL);
    assert_eq!(comparison.banks_missing, [HashAlgorithm::Sm3_256]);
    assert_eq!(comparison.findings()[0].code.code(), "evidence-missing");
}

#[test]
fn no_event_extends_a_register_that_does_not_exist() {
    malformed(|draft| draft.events[3].register = 24);
    malformed(|draft| draft.events[3].register = u32::MAX);
    // An event that extends nothing may name any.
    let bytes = changed(|draft| {
        draft.events.push(EventRecord { register: u32::MAX, ..no_action(b"Windows does") });
    });
    assert!(Log::parse(&bytes).is_ok());
    let mut confidential = synthetic::confidential();
    confidential.events[0].register = 0;
    let found = Log::parse_ccel(&confidential.write(), None).map(|log| log.event_count());
    assert_eq!(found, Err(Error::BuildRegister { event: 1 }));
    confidential.events[0].register = 5;
    assert!(Log::parse_ccel(&confidential.write(), None).is_err());
}

#[test]
fn a_log_without_a_measurement_is_none() {
    malformed(|draft| draft.events.clear());
    malformed(|draft| draft.events.truncate(1));
    let zeros = Log::parse(&[0; 64]).unwrap_err();
    assert_eq!(zeros, Error::Empty);
}

#[test]
fn a_separators_digest_under_another_type_is_no_honest_log() {
    let separator = |draft: &Draft, register| {
        let is = |e: &EventRecord| e.kind == EventType::SEPARATOR && e.register == register;
        draft.events.iter().position(is).unwrap()
    };
    for kind in [EventType::S_CRTM_CONTENTS, EventType::IPL, EventType::EVENT_TAG] {
        for register in 0..8 {
            let found = faults(|draft| {
                let place = separator(draft, register);
                draft.events[place].kind = kind;
            });
            assert!(found.contains(&"log-malformed".to_owned()), "{kind} in {register}: {found:?}");
        }
    }
    // Before the separator of register 0, a real machine measures four zeros as S-CRTM contents.
    let contents = |draft: &mut Draft| {
        let mut zeros = draft.events[separator(draft, 0)].clone();
        zeros.kind = EventType::S_CRTM_CONTENTS;
        zeros.data = b"FIT Type 0x2D Measured S-CRTM\0".to_vec();
        zeros
    };
    let before = faults(|draft| {
        let zeros = contents(draft);
        draft.events.insert(1, zeros);
    });
    assert_eq!(before, Vec::<String>::new());
    let after = faults(|draft| {
        let zeros = contents(draft);
        draft.events.push(zeros);
    });
    assert_eq!(after, ["log-malformed"]);
}

#[test]
fn text_that_is_always_bound_may_not_be_unbound() {
    for kind in [
        EventType::SEPARATOR,
        EventType::EFI_VARIABLE_DRIVER_CONFIG,
        EventType::EFI_VARIABLE_AUTHORITY,
        EventType::EFI_ACTION,
        EventType::EFI_GPT_EVENT,
    ] {
        let found = faults(|draft| {
            let event = draft.events.iter_mut().find(|event| event.kind == kind).unwrap();
            event.data[0] ^= 1;
        });
        assert_eq!(found, ["log-event-unbound"], "{kind}");
    }
}

#[test]
fn a_separator_says_nothing_but_what_separators_say() {
    let with = |text: &'static [u8], register: u32| {
        faults(move |draft| {
            let digest = |bank: HashAlgorithm| {
                (bank.tpm_id(), crypto::hash(bank, &[text]).unwrap().as_bytes().to_vec())
            };
            let digests = [HashAlgorithm::Sha1, HashAlgorithm::Sha256].map(digest).to_vec();
            let kind = EventType::SEPARATOR;
            draft.events.push(EventRecord { register, kind, digests, data: text.to_vec() });
        })
    };
    assert_eq!(with(&[0xff; 4], 4), Vec::<String>::new(), "an error, said honestly");
    assert_eq!(with(b"WBCL", 12), Vec::<String>::new());
    assert_eq!(with(b"WBCL", 4), ["log-event-unbound"]);
    assert_eq!(with(b"free text", 4), ["log-event-unbound"]);
    assert_eq!(with(&[0; 5], 4), ["log-event-unbound"]);
}

#[test]
fn every_refusal_names_what_was_found_and_where_it_is_written() {
    let bytes = changed(|draft| draft.events[3].register = 24);
    let finding = Log::parse(&bytes).unwrap_err().finding();
    assert_eq!(
        [finding.claim, finding.found, finding.expected],
        ["eventlog.event.4", "register 24", "at most 23"]
    );
    assert!(finding.source.contains("§10"));
}
