//! Every bit of every own list flipped, every list cut at every length and made longer: nothing
//! that was changed is taken for what was quoted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/kernel_list.rs"]
mod kernel_list;

use std::collections::BTreeMap;
use std::ops::Range;

use assay_eventlog::ima::Covered;
use assay_eventlog::ima::Error;
use assay_eventlog::ima::Reader;
use assay_eventlog::ima::Replay;
use assay_eventlog::ima::State;
use assay_eventlog::ima::state::Mode;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::Registers;
use kernel_list::Item;
use kernel_list::Order;
use kernel_list::Way;

struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    quoted: Registers,
    /// Digest columns of entries, and whole violations: what no register binds.
    unbound: Vec<Range<usize>>,
}

/// The checked-in lists, with what the model says of them.
fn vectors() -> Vec<Vector> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/ima");
    let mut vectors = Vec::new();
    for (name, bytes) in kernel_list::vectors() {
        let kept = std::fs::read(folder.join(name)).unwrap();
        assert!(kept == bytes, "{name} is not what `--example ima_vectors` writes");
        let items = if name == "kexec.bin" { kernel_list::kexec() } else { every() };
        let order = if name == "big-endian.bin" { Order::Big } else { Order::Little };
        let column = match name {
            "column-sha256.bin" => HashAlgorithm::Sha256,
            _ => HashAlgorithm::Sha1,
        };
        let mut quoted = kernel_list::boot_registers(&[kernel_list::SHA256]);
        let value = kernel_list::pcr10_as(&items, HashAlgorithm::Sha256, Way::Hashed, order);
        assert!(quoted.insert(10, value));
        let mut unbound = Vec::new();
        let mut start = 0;
        for item in &items {
            let (whole, column) = match name {
                "templates.txt" => (item.line(), 3..43),
                _ => (item.record(column, order), 4..4 + column.size()),
            };
            match item.violation {
                true => unbound.push(start..start + whole.len()),
                false => unbound.push(start + column.start..start + column.end),
            }
            start += whole.len();
        }
        vectors.push(Vector { name, bytes, quoted, unbound });
    }
    vectors
}

fn every() -> Vec<Item> {
    kernel_list::every_template()
}

/// The number of entries covered, and of warnings; or why not.
fn outcome(bytes: &[u8], quoted: &Registers) -> Result<(u64, usize), Reason> {
    let replayed = || -> Result<Covered, Error> {
        let replay = Replay::new(&State::boot(1), quoted)?;
        let mut replay = replay.declaring(HashAlgorithm::Sha256, Mode::Hashed);
        let mut reader = Reader::new();
        let mut entries = reader.entries(bytes);
        while let Some(entry) = entries.next()? {
            replay.advance(&entry)?;
        }
        reader.finish()?;
        replay.finish()
    };
    let covered = replayed().map_err(|error| error.reason())?;
    Ok((covered.within(), covered.warnings().len()))
}

#[test]
fn no_flipped_bit_of_a_list_is_covered_where_the_register_binds_it() {
    let mut refused = BTreeMap::<Reason, usize>::new();
    let mut flips = 0;
    let mut told = 0;
    for vector in vectors() {
        let count = outcome(&vector.bytes, &vector.quoted).unwrap();
        assert_eq!(count.1, 0, "{}", vector.name);
        let mut bytes = vector.bytes.clone();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                bytes[place] ^= 1 << bit;
                flips += 1;
                match outcome(&bytes, &vector.quoted) {
                    Err(reason) => *refused.entry(reason).or_default() += 1,
                    Ok(found) => {
                        let free = vector.unbound.iter().any(|range| range.contains(&place));
                        assert!(free, "{} byte {place} bit {bit}", vector.name);
                        assert_eq!(found.0, count.0, "{} byte {place} bit {bit}", vector.name);
                        told += found.1;
                    }
                }
                bytes[place] ^= 1 << bit;
            }
        }
    }
    let total: usize = refused.values().sum();
    println!("{flips} flips: {total} refused {refused:?}, {told} columns told of, rest unbound");
    assert!(total > 0 && told > 0);
}

#[test]
fn a_list_cut_anywhere_does_not_lead_to_its_quote() {
    let mut cuts = 0;
    for vector in vectors() {
        for length in 0..vector.bytes.len() {
            let found = outcome(&vector.bytes[..length], &vector.quoted);
            assert!(found.is_err(), "{} cut to {length}: {found:?}", vector.name);
            cuts += 1;
        }
    }
    println!("{cuts} cuts, all refused");
}

#[test]
fn a_list_made_longer_is_refused_or_its_rest_is_not_covered() {
    let mut longer = 0;
    for vector in vectors() {
        let (covered, _) = outcome(&vector.bytes, &vector.quoted).unwrap();
        for byte in 0..=u8::MAX {
            for count in [1, 2, 7, 64] {
                let bytes = [vector.bytes.clone(), vec![byte; count]].concat();
                let reason = outcome(&bytes, &vector.quoted).unwrap_err();
                let fitting = [Reason::TrailingBytes, Reason::ImaMalformed];
                assert!(fitting.contains(&reason), "{} {byte} × {count}: {reason}", vector.name);
                longer += 1;
            }
        }
        // A part of the list itself, from each entry on: whole entries behind the quote.
        let twice = [vector.bytes.clone(), vector.bytes.clone()].concat();
        assert_eq!(outcome(&twice, &vector.quoted).map(|found| found.0), Ok(covered));
    }
    println!("{longer} longer lists, all refused");
}
