//! Every bit of a log matters: flip it, cut it, add to it, and it is refused, or nobody believes
//! what was changed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/synthetic.rs"]
mod synthetic;

use assay_eventlog::Class;
use assay_eventlog::Draft;
use assay_eventlog::Error;
use assay_eventlog::Facts;
use assay_eventlog::Format;
use assay_eventlog::Grade;
use assay_eventlog::Grading;
use assay_eventlog::Log;
use assay_eventlog::Quirks;
use assay_evidence::Registers;

const PREIMAGES: [&[u8]; 1] = [synthetic::CMDLINE.as_bytes()];

fn parse(format: Format, bytes: &[u8]) -> Result<Log<'_>, Error> {
    match format {
        Format::Ccel => Log::parse_ccel(bytes, Some(&synthetic::table())),
        _ => Log::parse(bytes),
    }
}

/// What is believed of a log that leads to these registers: its facts, and class and grade of each
/// event, as a profile reads them.
type Believed = (Facts, Vec<(u32, Class, Grade)>);

fn believed(format: Format, bytes: &[u8], quoted: Option<&Registers>) -> Option<Believed> {
    let log = parse(format, bytes).ok()?;
    if let Some(quoted) = quoted {
        let comparison = log.replay().compare(quoted, &[], Quirks::NONE);
        if !comparison.findings().is_empty() {
            return None;
        }
    }
    let grades = log.grade(&Grading { preimages: &PREIMAGES, ..Grading::INSPECT });
    if !grades.faults().is_empty() {
        return None;
    }
    let story = log
        .events()
        .map(|event| (event.register(), event.class(), grades.grade(event.index()).unwrap()));
    Some((log.facts(&grades, &PREIMAGES), story.collect()))
}

fn quoted(log: &Log<'_>) -> Registers {
    let (mut registers, replay) = (Registers::new(), log.replay());
    for &bank in replay.banks() {
        for register in 0..=log.format().last_register() {
            assert!(registers.insert(register, replay.value(bank, register).unwrap()));
        }
    }
    registers
}

fn each(visit: impl Fn(&str, Format, &[u8], &Registers, &Believed)) {
    for (name, draft) in synthetic::all() {
        let (format, bytes) = (draft.format, draft.write());
        let quoted = quoted(&parse(format, &bytes).unwrap());
        let genuine = believed(format, &bytes, Some(&quoted)).unwrap();
        visit(name, format, &bytes, &quoted, &genuine);
    }
}

#[test]
fn no_flipped_bit_is_believed() {
    each(|name, format, bytes, quoted, genuine| {
        let (mut refused, mut harmless) = (0, 0);
        let mut changed = bytes.to_vec();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                changed[place] ^= 1 << bit;
                match believed(format, &changed, Some(quoted)) {
                    None => refused += 1,
                    // Text that nothing binds was changed, and nothing was made of it; or the
                    // profile sees another event.
                    Some((facts, story)) => {
                        let fewer = facts.iter().all(|(n, fact)| genuine.0.fact(n) == Some(fact));
                        assert!(fewer || story != genuine.1, "{name}: {place}.{bit}");
                        harmless += 1;
                    }
                }
                changed[place] ^= 1 << bit;
            }
        }
        println!("{name}: {refused} flips refused, {harmless} believed no further");
        assert!(refused > harmless, "{name}");
    });
}

/// A fact that a flip brought about, where the registers are the same, may only be one less.
#[test]
fn no_flipped_bit_makes_another_fact() {
    each(|name, format, bytes, quoted, genuine| {
        let mut changed = bytes.to_vec();
        let mut lost = 0;
        for place in 0..bytes.len() {
            for bit in 0..8 {
                changed[place] ^= 1 << bit;
                if let Some((facts, _)) = believed(format, &changed, Some(quoted)) {
                    for (fact, value) in facts.iter() {
                        // Nothing binds what is called an action; the text of each is bound.
                        let label = fact == "boot.actions";
                        let same = genuine.0.value(fact) == Some(value.value());
                        assert!(same || label, "{name}: {place}.{bit}: {fact} {value:?}");
                    }
                    lost += usize::from(facts.iter().count() < genuine.0.iter().count());
                }
                changed[place] ^= 1 << bit;
            }
        }
        println!("{name}: {lost} flips lose a fact, none makes one");
    });
}

#[test]
fn no_other_length_is_believed() {
    each(|name, format, bytes, quoted, genuine| {
        let padding = Draft::of(&parse(format, bytes).unwrap()).padding.len();
        let mut count = 0;
        for end in 0..bytes.len() - padding {
            assert!(believed(format, &bytes[..end], Some(quoted)).is_none(), "{name}: {end}");
            count += 1;
        }
        for more in 1..=64 {
            for filler in [0x00, 0x01, 0xff] {
                let longer = [bytes, &vec![filler; more]].concat();
                let found = believed(format, &longer, Some(quoted));
                // Padding may be of any length, but of one kind.
                match format == Format::Ccel && filler == 0xff {
                    true => assert_eq!(found.as_ref(), Some(genuine), "{name}: +{more}"),
                    false => assert!(found.is_none(), "{name}: +{more} of {filler}"),
                }
                count += 1;
            }
        }
        println!("{name}: {count} other lengths, none believed");
    });
}

#[test]
fn the_vectors_in_the_repository_are_these() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/log");
    for (name, draft) in synthetic::all() {
        let file = std::fs::read(folder.join(format!("{name}.bin"))).unwrap();
        assert_eq!(file, draft.write(), "{name}");
    }
    assert_eq!(std::fs::read(folder.join("ccel.table")).unwrap(), synthetic::table());
}
