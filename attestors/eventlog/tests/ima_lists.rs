//! Lists as a kernel makes them, and the same lists with one thing changed: for each that is
//! covered there are those that are not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/kernel_list.rs"]
mod kernel_list;

use assay_eventlog::Quirk;
use assay_eventlog::Quirks;
use assay_eventlog::ima;
use assay_eventlog::ima::Entry;
use assay_eventlog::ima::Error;
use assay_eventlog::ima::Inspection;
use assay_eventlog::ima::Kind;
use assay_eventlog::ima::Place;
use assay_eventlog::ima::Reader;
use assay_eventlog::ima::Replay;
use assay_eventlog::ima::State;
use assay_eventlog::ima::boot_aggregate;
use assay_eventlog::ima::boot_aggregate::BootAggregate;
use assay_eventlog::ima::boot_aggregate::Rule;
use assay_eventlog::ima::entry::DigestOf;
use assay_eventlog::ima::proof;
use assay_eventlog::ima::proof::Gap;
use assay_eventlog::ima::proof::PolicyExpected;
use assay_eventlog::ima::proof::PolicyProof;
use assay_eventlog::ima::replay::Columns;
use assay_eventlog::ima::state::Mode;
use assay_eventlog::ima::template::Field;
use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::Registers;
use assay_evidence::crypto;
use kernel_list::Item;
use kernel_list::Order;
use kernel_list::SHA1;
use kernel_list::SHA256;
use kernel_list::Way;

/// Feeds a list in pieces of this size.
fn feed(replay: Replay<'_>, list: &[u8], size: usize) -> Result<ima::Covered, Error> {
    let mut replay = replay;
    let mut reader = Reader::new();
    for chunk in list.chunks(size) {
        let mut entries = reader.entries(chunk);
        while let Some(entry) = entries.next()? {
            replay.advance(&entry)?;
        }
    }
    reader.finish()?;
    replay.finish()
}

fn covered(list: &[u8], quoted: &Registers) -> Result<ima::Covered, Error> {
    feed(Replay::new(&State::boot(1), quoted)?, list, list.len().max(1))
}

fn refused(list: &[u8], quoted: &Registers) -> Reason {
    match covered(list, quoted) {
        Ok(found) => panic!("covered {} entries", found.within()),
        Err(error) => {
            let finding = error.finding();
            assert_eq!(finding.code, error.reason());
            assert!(!finding.claim.is_empty() && !finding.found.is_empty(), "{finding:?}");
            error.reason()
        }
    }
}

fn with_entries(list: &[u8], mut look: impl FnMut(Entry<'_>)) {
    let mut reader = Reader::new();
    let mut entries = reader.entries(list);
    while let Some(entry) = entries.next().unwrap() {
        look(entry);
    }
    reader.finish().unwrap();
}

#[test]
fn every_template_is_covered_in_both_forms_and_however_the_list_is_cut() {
    let items = kernel_list::every_template();
    let banks = [SHA1, SHA256];
    let quoted = kernel_list::quoted(&items, &banks);
    for list in [kernel_list::binary(&items), kernel_list::text(&items)] {
        for size in (1..90).chain([list.len() - 1, list.len()]) {
            let found = feed(Replay::new(&State::boot(1), &quoted).unwrap(), &list, size).unwrap();
            assert_eq!(found.within(), items.len() as u64, "{size}");
            assert!(found.warnings().is_empty(), "{size}");
            assert_eq!(found.verify_boot(&quoted).unwrap(), Rule::Registers0To9);
            assert_eq!(found.violations().len(), 1);
            assert_eq!(found.violation_findings()[0].code, Reason::ImaViolation);
            assert_eq!(found.state().mode(HashAlgorithm::Sha256), Some(Mode::Hashed));
        }
    }
}

/// Of a list with SHA-256 in its column the reader sees only far behind the first entry that these
/// four bytes of the digest are no length of a name.
#[test]
fn a_digest_that_looks_like_a_length_loses_no_entry_however_the_list_is_cut() {
    let items = kernel_list::every_template();
    let mut list = kernel_list::binary_as(&items, HashAlgorithm::Sha256, Order::Little);
    list[24..28].copy_from_slice(&250_u32.to_le_bytes());
    for size in (1..300).chain([list.len()]) {
        let mut reader = Reader::new();
        for chunk in list.chunks(size) {
            let mut entries = reader.entries(chunk);
            while entries.next().unwrap().is_some() {}
        }
        assert_eq!(reader.finish().unwrap(), items.len() as u64, "{size}");
    }
}

#[test]
fn text_and_binary_say_the_same() {
    let items = kernel_list::every_template();
    let tell = |list: &[u8]| {
        let mut told = Vec::new();
        with_entries(list, |entry| {
            told.push(format!("{} {:?}", entry.template().name(), entry.kind()));
        });
        told
    };
    let binary = tell(&kernel_list::binary(&items));
    assert_eq!(binary.len(), items.len());
    assert_eq!(binary, tell(&kernel_list::text(&items)));
}

#[test]
fn each_entry_says_what_it_is_about() {
    let list = kernel_list::binary(&kernel_list::every_template());
    let mut told = Vec::new();
    with_entries(&list, |entry| {
        told.push(match entry.kind() {
            Kind::BootAggregate(digest) => format!("boot {}", digest.algorithm),
            Kind::File(file) => {
                let of = if file.digest.of == DigestOf::Verity { "verity " } else { "" };
                let signature =
                    file.signature.map_or(String::new(), |s| format!(" sig {}", s.len()));
                format!("{of}{} {}{signature}", file.digest.algorithm, file.path.escape_ascii())
            }
            Kind::Buffer { name, digest, buffer } => {
                // The digest of a buffer is over the buffer.
                assert_eq!(digest.bytes, crypto::sha256(buffer));
                format!("buffer {} {}", name.escape_ascii(), buffer.len())
            }
            Kind::Violation { claimed_path } => {
                format!("violation {}", claimed_path.escape_ascii())
            }
            Kind::Anonymous => "anonymous".into(),
        });
        if entry.template().name() == "evm-sig" {
            assert_eq!(entry.field(Field::Uid), Some(&1000_u32.to_le_bytes()[..]));
            assert_eq!(entry.field(Field::Mode).unwrap().len(), 2);
            assert_eq!(entry.field(Field::Buffer), None);
        }
    });
    assert_eq!(
        told,
        [
            "boot sha256",
            "sha256 /usr/bin/with_space_(deleted)",
            "sha1 /sbin/init",
            "sha256 /lib/signed.so sig 5",
            "sha256 /lib/plain.so",
            "sha256 /opt/five",
            "verity sha256 /opt/six sig 9",
            "buffer kernel_version 5",
            "sha512 /lib/modules/seven.ko",
            "sha256 /lib/modules/eight.ko",
            "rmd160 /usr/bin/nine sig 3",
            "sm3 /usr/bin/ten",
            "violation /var/log/open",
            "sha256 /usr/bin/last",
        ]
    );
}

#[test]
fn of_two_digests_of_a_format_the_named_one_counts() {
    let sha1 = || ("d", crypto::sha1(b"x").to_vec());
    let sha256 = || ("d-ng", kernel_list::ng("sha256", &crypto::sha256(b"x")));
    let names = || [("n", kernel_list::name("short")), ("n-ng", kernel_list::name("/long"))];
    let [short, long] = names();
    let first = Item::new("d|d-ng|n|n-ng", &[sha1(), sha256(), short.clone(), long.clone()]);
    let last = Item::new("d-ng|n-ng|d|n", &[sha256(), long, sha1(), short]);
    with_entries(&kernel_list::binary(&[first, last]), |entry| {
        let Kind::File(file) = entry.kind() else { panic!("a file was expected") };
        assert_eq!((file.digest.algorithm, file.path), ("sha256", &b"/long"[..]));
    });
}

#[test]
fn big_endian_lists_and_the_lists_of_each_bank_are_told_by_their_first_record() {
    let items = kernel_list::every_template();
    for order in [Order::Little, Order::Big] {
        for bank in [SHA256.0, HashAlgorithm::Sha1, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
            // Numbers inside of fields are in the machine's order too; those of ids do not matter.
            let list = kernel_list::binary_as(&items, bank, order);
            let mut quoted = Registers::new();
            assert!(quoted.insert(10, kernel_list::pcr10_as(&items, SHA256.0, Way::Hashed, order)));
            for size in [1, 13, list.len()] {
                let replay = Replay::new(&State::boot(1), &quoted).unwrap();
                let found = feed(replay, &list, size).unwrap();
                assert_eq!(found.within(), items.len() as u64, "{order:?} {bank} {size}");
                assert!(found.warnings().is_empty(), "{order:?} {bank} {size}");
            }
        }
    }
}

#[test]
fn each_bank_is_replayed_in_the_way_its_kernel_extends_it() {
    let items = kernel_list::every_template();
    let list = kernel_list::binary(&items);
    let all = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    // Four banks of which the kernel can hash two, as on a real four-bank TPM.
    let mixed =
        [SHA1, SHA256, (HashAlgorithm::Sha384, Way::Padded), (HashAlgorithm::Sha512, Way::Padded)];
    let found = covered(&list, &kernel_list::quoted(&items, &mixed)).unwrap();
    assert_eq!(found.state().mode(HashAlgorithm::Sha512), Some(Mode::PaddedSha1));
    assert_eq!(found.state().mode(HashAlgorithm::Sha1), Some(Mode::Hashed));
    assert_eq!(found.quirks(), Quirks::NONE);
    for bank in all {
        for (way, mode) in [(Way::Hashed, Mode::Hashed), (Way::Padded, Mode::PaddedSha1)] {
            let quoted = kernel_list::quoted(&items, &[(bank, way)]);
            let found = covered(&list, &quoted).unwrap();
            assert_eq!(found.state().mode(bank), Some(mode));
            let other = if mode == Mode::Hashed { Mode::PaddedSha1 } else { Mode::Hashed };
            let declared = |mode| {
                let replay = Replay::new(&State::boot(1), &quoted).unwrap();
                feed(replay.declaring(bank, mode), &list, list.len())
            };
            assert!(declared(mode).is_ok());
            assert_eq!(declared(other).unwrap_err().reason(), Reason::LogReplayMismatch);
        }
        // Older kernels: only for a profile that lists the quirk.
        let quoted = kernel_list::quoted(&items, &[(bank, Way::PaddedViolations)]);
        assert_eq!(refused(&list, &quoted), Reason::LogReplayMismatch);
        let replay = Replay::new(&State::boot(1), &quoted).unwrap().with_quirks(Quirks::ALL);
        let found = feed(replay, &list, list.len()).unwrap();
        assert_eq!(found.quirks(), Quirks::NONE.with(Quirk::ImaViolationZeroPad));
        assert_eq!(found.state().mode(bank), Some(Mode::PaddedSha1AndViolations));
    }
}

#[test]
fn one_bank_that_does_not_follow_refuses_the_list() {
    let items = kernel_list::every_template();
    let list = kernel_list::binary(&items);
    let mut quoted = kernel_list::quoted(&items, &[SHA256]);
    assert!(quoted.insert(10, kernel_list::pcr10(&items[1..], SHA1.0, Way::Hashed)));
    assert_eq!(refused(&list, &quoted), Reason::LogReplayMismatch);
    // Both reach a value, but never after the same entry.
    let mut quoted = kernel_list::quoted(&items, &[SHA256]);
    assert!(quoted.insert(10, kernel_list::pcr10(&items[..5], SHA1.0, Way::Hashed)));
    assert_eq!(refused(&list, &quoted), Reason::LogReplayMismatch);

    // SM3 is not computed here: told, where another bank binds the list, else refused.
    let zero = Digest::zero(HashAlgorithm::Sm3_256);
    let mut beside = kernel_list::quoted(&items, &[SHA256]);
    assert!(beside.insert(10, zero));
    let found = covered(&list, &beside).unwrap();
    assert_eq!(found.banks_not_replayed(), [HashAlgorithm::Sm3_256]);
    let mut alone = Registers::new();
    assert!(alone.insert(10, zero));
    assert_eq!(refused(&list, &alone), Reason::LogAlg);
    assert_eq!(refused(&list, &Registers::new()), Reason::PcrSelection);
}

#[test]
fn a_list_longer_than_its_quote_is_covered_as_far_as_the_quote_goes() {
    let items = kernel_list::every_template();
    let list = kernel_list::binary(&items);
    for count in 0..=items.len() {
        let quoted = kernel_list::quoted(&items[..count], &[SHA1, SHA256]);
        let mut replay = Replay::new(&State::boot(1), &quoted).unwrap();
        with_entries(&list, |entry| {
            let within = entry.index() < count as u64;
            let place = if within { Place::Within } else { Place::Beyond };
            assert_eq!(replay.advance(&entry).unwrap(), place);
        });
        let found = replay.finish().unwrap();
        assert_eq!((found.within(), found.beyond()), (count as u64, (items.len() - count) as u64));
        assert_eq!(found.state().entries(), count as u64);
        // A violation behind the quote is for the next round.
        assert_eq!(found.violations().len(), usize::from(count > 12));
    }
    let longer = [items.clone(), vec![Item::ng("/more", b"more")]].concat();
    let quoted = kernel_list::quoted(&longer, &[SHA256]);
    assert_eq!(refused(&list, &quoted), Reason::LogReplayMismatch, "the list lags behind");
}

/// Every way to change a list by hand, over a list of each template: (what, list).
fn mutations(items: &[Item]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |what: String, items: &[Item]| all.push((what, kernel_list::binary(items)));
    for place in 0..items.len() {
        let mut changed = items.to_vec();
        changed.remove(place);
        add(format!("drop {place}"), &changed);
        let mut changed = items.to_vec();
        changed.insert(place, items[place].clone());
        add(format!("repeat {place}"), &changed);
        let mut changed = items.to_vec();
        changed.insert(place, Item::ng("/inserted", b"inserted"));
        add(format!("insert before {place}"), &changed);
        let mut changed = items.to_vec();
        changed.insert(place, Item::violation("/inserted"));
        add(format!("insert a violation before {place}"), &changed);
        for other in place + 1..items.len() {
            let mut changed = items.to_vec();
            changed.swap(place, other);
            add(format!("swap {place} and {other}"), &changed);
        }
        let mut changed = items.to_vec();
        changed[place].violation ^= true;
        add(format!("violation to entry and back at {place}"), &changed);
        let mut changed = items.to_vec();
        changed[place].register = 11;
        add(format!("another register at {place}"), &changed);
        if !items[place].violation {
            for field in 0..items[place].fields.len() {
                let mut changed = items.to_vec();
                let Some(byte) = changed[place].fields[field].1.first_mut() else { continue };
                *byte ^= 1;
                add(format!("field {field} of {place}"), &changed);
            }
            let mut changed = items.to_vec();
            changed[place] = Item::ng("/replaced", b"replaced");
            add(format!("replace {place}"), &changed);
        }
    }
    all
}

#[test]
fn no_list_that_was_changed_is_covered() {
    let items = kernel_list::every_template();
    let list = kernel_list::binary(&items);
    let quoted = kernel_list::quoted(&items, &[SHA256]);
    assert!(covered(&list, &quoted).is_ok());
    let mutations = mutations(&items);
    let mut reasons = std::collections::BTreeMap::<Reason, usize>::new();
    for (what, changed) in &mutations {
        if changed.starts_with(&list) {
            // Appended to: covered as far as the quote goes.
            assert_eq!(covered(changed, &quoted).unwrap().beyond(), 1, "{what}");
            continue;
        }
        *reasons.entry(refused(changed, &quoted)).or_default() += 1;
    }
    let refused: usize = reasons.values().sum();
    assert_eq!(mutations.len(), refused + 1, "one of them appends");
    println!("{refused} changed lists, none covered: {reasons:?}");
}

/// The name of a violation is bound by nothing, so to rename one changes no register: the reason
/// why it is only ever told as a claim.
#[test]
fn a_violation_renamed_is_still_a_violation() {
    let items = kernel_list::every_template();
    let quoted = kernel_list::quoted(&items, &[SHA256]);
    let mut renamed = items;
    renamed[12] = Item::violation("/something/harmless");
    let found = covered(&kernel_list::binary(&renamed), &quoted).unwrap();
    assert_eq!(found.violations()[0].claimed_path, "/something/harmless");
    assert_eq!(found.state().violations(), 1);
}

#[test]
fn the_digest_column_decides_nothing_and_cannot_hide_an_entry() {
    let items = kernel_list::every_template();
    let honest = kernel_list::binary(&items);
    let quoted = kernel_list::quoted(&items, &[SHA256]);
    let mut places = Vec::new();
    let mut start = 0;
    for item in &items {
        places.push(start + 4);
        start += item.record(HashAlgorithm::Sha1, Order::Little).len();
    }
    let with_column = |list: &[u8], place: usize, byte: u8| {
        let mut list = list.to_vec();
        list[places[place]..places[place] + 20].fill(byte);
        list
    };
    for (place, violation) in items.iter().map(|item| item.violation).enumerate() {
        // ff as if it were what a violation extends; 00 to be taken for a violation.
        for byte in [0xff, 0x11, 0x00] {
            let list = with_column(&honest, place, byte);
            if list == honest {
                continue;
            }
            if byte == 0 || violation {
                assert_eq!(refused(&list, &quoted), Reason::LogReplayMismatch, "{place} {byte}");
                continue;
            }
            let found = covered(&list, &quoted).unwrap();
            let warnings = found.warnings();
            assert_eq!(warnings.len(), 1, "{place} {byte}");
            assert_eq!(warnings[0].code, Reason::ImaTemplateHashMismatch);
            let replay = Replay::new(&State::boot(1), &quoted).unwrap();
            let silent = feed(replay.with_columns(Columns::Ignore), &list, list.len()).unwrap();
            assert!(silent.warnings().is_empty());
        }
    }
    // The register really holds a violation; the list shows a good file with ff in its column.
    let mut shown = items.clone();
    shown[12] = Item::ng("/usr/bin/good", b"good");
    let list = with_column(&kernel_list::binary(&shown), 12, 0xff);
    assert_eq!(refused(&list, &quoted), Reason::LogReplayMismatch);
}

#[test]
fn warnings_of_a_flood_are_counted_and_not_kept() {
    let items: Vec<Item> = (0..40).map(|n| Item::ng(&format!("/f{n}"), b"")).collect();
    let mut list = Vec::new();
    for item in &items {
        let mut record = item.record(HashAlgorithm::Sha1, Order::Little);
        record[4] ^= 1;
        list.extend(record);
    }
    let found = covered(&list, &kernel_list::quoted(&items, &[SHA256])).unwrap();
    let warnings = found.warnings();
    assert_eq!(warnings.len(), 16);
    assert!(warnings[15].found.ends_with("(and 24 more)"));
}

#[test]
fn rounds_follow_each_other_by_a_state_below_1_kib() {
    let items = kernel_list::every_template();
    let banks =
        [SHA1, SHA256, (HashAlgorithm::Sha384, Way::Padded), (HashAlgorithm::Sha512, Way::Hashed)];
    let watch = |replay: Replay<'static>| -> Result<Replay<'static>, Error> {
        replay.watching(b"/usr/bin/last")?.watching(b"/sbin/init")?.watching(b"/a")?.watching(b"/b")
    };
    let mut state = State::boot(7);
    let mut largest = 0;
    for count in 1..=items.len() {
        let quoted = kernel_list::quoted(&items[..count], &banks);
        let replay = watch(Replay::new(&state, &quoted).unwrap()).unwrap();
        let tail = kernel_list::binary(&items[usize::try_from(state.entries()).unwrap()..]);
        state = feed(replay, &tail, tail.len()).unwrap().into_state();
        assert_eq!(state.entries(), count as u64);
        assert_eq!(state.verify_boot(&quoted).unwrap(), Rule::Registers0To9);
        assert_eq!(state.registers().value(SHA256.0, 10), quoted.value(SHA256.0, 10));
        let bytes = state.to_bytes();
        largest = largest.max(bytes.len());
        assert_eq!(State::restored(&bytes).unwrap(), state);
    }
    assert!(largest < 1024);
    println!("state of four banks and four watched files: {largest} bytes");

    let whole = kernel_list::quoted(&items, &banks);
    let at_once = watch(Replay::new(&State::boot(7), &whole).unwrap()).unwrap();
    let list = kernel_list::binary(&items);
    assert_eq!(feed(at_once, &list, list.len()).unwrap().into_state(), state);
    assert!(state.is_of_boot(7) && !state.is_of_boot(8));
    assert_eq!(state.watched(b"/sbin/init").unwrap().changes(), 1);
    assert_eq!(state.watched(b"/a").unwrap().digest(), None);
    assert_eq!(state.watched(b"/c"), None);

    assert_eq!(state.files(), 11);
    // An empty tail: the registers stand where they stood.
    let found = feed(watch(Replay::new(&state, &whole).unwrap()).unwrap(), &[], 1).unwrap();
    assert_eq!((found.within(), found.state()), (0, &state));
    // Whoever watches a file does so in every round, else a change would go by.
    let error = feed(Replay::new(&state, &whole).unwrap(), &[], 1).unwrap_err();
    assert_eq!(error.reason(), Reason::Internal);
}

#[test]
fn a_tail_that_does_not_go_on_where_the_state_ends_is_refused() {
    let items = kernel_list::every_template();
    let quoted = kernel_list::quoted(&items[..6], &[SHA256]);
    let head = kernel_list::binary(&items[..6]);
    let state = covered(&head, &quoted).unwrap().into_state();
    let whole = kernel_list::quoted(&items, &[SHA256]);
    let tail = |from: usize| {
        let list = kernel_list::binary(&items[from..]);
        feed(Replay::new(&state, &whole).unwrap(), &list, list.len())
    };
    assert_eq!(tail(6).unwrap().state().entries(), items.len() as u64);
    for from in [0, 5, 7, 13] {
        assert_eq!(tail(from).unwrap_err().reason(), Reason::LogReplayMismatch, "{from}");
    }
    // Other banks than before: begin anew.
    for banks in [&[SHA1][..], &[SHA1, SHA256], &[(HashAlgorithm::Sha384, Way::Hashed)]] {
        let error = Replay::new(&state, &kernel_list::quoted(&items, banks)).unwrap_err();
        assert_eq!(error.reason(), Reason::PcrSelection);
    }
    // A file that is watched only from now on could have been measured before.
    let error = Replay::new(&state, &whole).unwrap().watching(b"/usr/bin/agent").unwrap_err();
    assert!(matches!(error, Error::NotWatched { .. }));
}

#[test]
fn an_agent_sends_whole_entries_from_where_the_state_ends() {
    let items = kernel_list::every_template();
    let count = items.len() as u64;
    for (list, part) in [
        (kernel_list::binary(&items), kernel_list::binary as fn(&[Item]) -> Vec<u8>),
        (kernel_list::text(&items), kernel_list::text),
    ] {
        for from in 0..=items.len() {
            for limit in [0, 1, 5, items.len(), usize::MAX] {
                let end = from.saturating_add(limit).min(items.len());
                let sent = ima::reader::tail(&list, from as u64, limit as u64).unwrap().unwrap();
                assert!(sent == part(&items[from..end]), "{from} {limit}");
            }
        }
        assert_eq!(ima::reader::tail(&list, count + 1, 1), Ok(None));
        assert!(ima::reader::tail(&list[2..], count, 1).is_err());
    }
    assert_eq!(ima::reader::tail(&[], 0, 1), Ok(Some(&[][..])));
}

#[test]
fn a_state_that_was_not_kept_whole_is_not_restored() {
    let items = kernel_list::every_template();
    let quoted = kernel_list::quoted(&items, &[SHA1, SHA256]);
    let bytes = covered(&kernel_list::binary(&items), &quoted).unwrap().into_state().to_bytes();
    for length in 0..bytes.len() {
        assert!(State::restored(&bytes[..length]).is_err(), "{length}");
    }
    assert!(State::restored(&[&bytes[..], &[0]].concat()).is_err());
    let mut other = bytes;
    other[0] = 2;
    assert_eq!(State::restored(&other).unwrap_err(), Error::State("another version"));
}

#[test]
fn a_watched_file_that_changes_is_told() {
    let registers = kernel_list::boot_registers(&[SHA256]);
    let boot = Item::boot_aggregate(&registers, SHA256.0, 9);
    let items = [boot, Item::ng("/agent", b"1"), Item::ng("/agent", b"2"), Item::ng("/x", b"1")];
    let quoted = kernel_list::quoted(&items, &[SHA256]);
    let replay = Replay::new(&State::boot(1), &quoted).unwrap().watching(b"/agent").unwrap();
    let list = kernel_list::binary(&items);
    let state = feed(replay, &list, list.len()).unwrap().into_state();
    let watched = state.watched(b"/agent").unwrap();
    assert_eq!(watched.changes(), 2);
    assert_eq!(watched.digest().unwrap().as_bytes(), crypto::sha256(b"2"));
}

#[test]
fn a_policy_is_proven_by_words_and_by_the_file_that_was_loaded_or_not() {
    let registers = kernel_list::boot_registers(&[SHA256]);
    let boot = || Item::boot_aggregate(&registers, SHA256.0, 9);
    let path = std::str::from_utf8(proof::POLICY_PATH).unwrap();
    let policy = |content: &[u8]| Item::ng(path, content);
    // By an algorithm that no bank has: read all the same.
    let hidden = || {
        Item::new(
            "ima-ng",
            &[("d-ng", kernel_list::ng("sha224", &[1; 28])), ("n-ng", kernel_list::name(path))],
        )
    };
    let good = [Digest::new(SHA256.0, &crypto::sha256(b"good")).unwrap()];
    let ask = |line: Option<&str>, files: &[Digest], items: &[Item], watch: bool| {
        let quoted = kernel_list::quoted(items, &[SHA256]);
        let replay = Replay::new(&State::boot(1), &quoted).unwrap();
        let replay = if watch { replay.watching(proof::POLICY_PATH).unwrap() } else { replay };
        let list = kernel_list::binary(items);
        let state = feed(replay, &list, list.len()).unwrap().into_state();
        let expected = PolicyExpected { built_in: &["tcb"], path: proof::POLICY_PATH, files };
        proof::policy(line, &state, &expected)
    };
    let other = || Item::ng("/init", b"init");
    const BOTH: &str = "ima_policy=tcb|secure_boot";
    let line = Some(BOTH);
    let proven = |file: Option<Digest>, text_refused: bool| PolicyProof::Proven {
        built_in: proof::built_in_policies(if text_refused { BOTH } else { "ima_policy=tcb" }),
        file,
        text_refused,
    };
    assert_eq!(ask(line, &[], &[boot(), other()], true), proven(None, true));
    assert_eq!(ask(Some("ima_policy=tcb"), &[], &[boot(), other()], true), proven(None, false));
    let loaded = [boot(), policy(b"good"), other(), policy(b"good")];
    assert_eq!(ask(line, &good, &loaded, true), proven(Some(good[0]), true));
    let bad = Digest::new(SHA256.0, &crypto::sha256(b"bad")).unwrap();
    for (gap, found) in [
        (Gap::NoCommandLine, ask(None, &[], &[boot(), other()], true)),
        (Gap::WordMissing("tcb".into()), ask(Some("quiet"), &[], &[boot(), other()], true)),
        (Gap::WordMissing("tcb".into()), ask(Some("-- ima_policy=tcb"), &[], &[boot()], true)),
        (Gap::Blind, ask(line, &[], &[boot(), Item::buffer("kernel_version", b"6")], true)),
        (Gap::NotWatched, ask(line, &[], &[boot(), other()], false)),
        (Gap::FileMissing, ask(line, &good, &[boot(), other()], true)),
        (Gap::FileUnknown(Some(good[0])), ask(line, &[], &loaded, true)),
        (Gap::FileUnknown(Some(bad)), ask(line, &good, &[boot(), policy(b"bad")], true)),
        (Gap::FileUnknown(None), ask(line, &[], &[boot(), hidden()], true)),
        (Gap::FileReplaced, ask(line, &good, &[boot(), policy(b"bad"), policy(b"good")], true)),
        (Gap::FileReplaced, ask(line, &good, &[boot(), policy(b"good"), hidden()], true)),
    ] {
        assert_eq!(found, PolicyProof::NotProven(gap));
    }
}

#[test]
fn the_boot_aggregate_is_that_of_the_quoted_registers_by_one_of_two_rules() {
    let banks = [SHA1, SHA256, (HashAlgorithm::Sha512, Way::Hashed)];
    let registers = kernel_list::boot_registers(&banks);
    for (bank, last, rule) in [
        (HashAlgorithm::Sha1, 7, Some(Rule::Registers0To7)),
        (HashAlgorithm::Sha1, 9, None),
        (HashAlgorithm::Sha256, 7, Some(Rule::Registers0To7)),
        (HashAlgorithm::Sha256, 9, Some(Rule::Registers0To9)),
        (HashAlgorithm::Sha512, 9, Some(Rule::Registers0To9)),
        (HashAlgorithm::Sha256, 8, None),
    ] {
        let list = kernel_list::binary(&[Item::boot_aggregate(&registers, bank, last)]);
        with_entries(&list, |entry| {
            let aggregate = BootAggregate::of(&entry).unwrap();
            let found = boot_aggregate::matches(&aggregate, &registers);
            assert_eq!(found.as_ref().ok(), rule.as_ref(), "{bank} 0-{last}");
            for register in 0..=last {
                let mut other = Registers::new();
                for (bank, values) in registers.iter() {
                    for (number, value) in values {
                        let value = if *number == register { Digest::zero(*bank) } else { *value };
                        assert!(other.insert(*number, value));
                    }
                }
                let error = boot_aggregate::matches(&aggregate, &other).unwrap_err();
                assert_eq!(error.reason(), Reason::ImaBootAggregate);
            }
            let missing = kernel_list::boot_registers(&[(HashAlgorithm::Sha384, Way::Hashed)]);
            let error = boot_aggregate::matches(&aggregate, &missing).unwrap_err();
            assert!(matches!(error, Error::BootAggregateBank { .. }));
        });
    }
}

#[test]
fn a_list_begins_with_one_boot_aggregate_and_has_another_only_behind_a_kexec() {
    let registers = kernel_list::boot_registers(&[SHA256]);
    let boot = || Item::boot_aggregate(&registers, SHA256.0, 9);
    let older = || Item::boot_aggregate(&registers, SHA256.0, 7);
    let file = || Item::ng("/usr/bin/x", b"x");
    let kexec = || Item::buffer("kexec-cmdline", b"ro quiet");
    // A keyring or a file of that name is neither kexec nor boot.
    let lure = || Item::ng("kexec-cmdline", b"ro quiet");
    let keyring = || Item::buffer("boot_aggregate", b"key");
    let other_boot = || Item::ng("boot_aggregate", b"another machine");
    let odd_boot = || {
        let digest = kernel_list::ng("rmd160", &[9; 20]);
        Item::new("ima-ng", &[("d-ng", digest), ("n-ng", kernel_list::name("boot_aggregate"))])
    };
    let ask = |items: &[Item]| {
        let quoted = kernel_list::quoted(items, &[SHA256]);
        let found = covered(&kernel_list::binary(items), &quoted).unwrap();
        // The flag is kept over rounds.
        let state = State::restored(&found.state().to_bytes()).unwrap();
        state.verify_boot(&quoted)
    };
    assert_eq!(ask(&[boot(), file()]), Ok(Rule::Registers0To9));
    assert_eq!(ask(&[older(), file()]), Ok(Rule::Registers0To7));
    assert_eq!(ask(&[boot(), file(), kexec(), file(), boot()]), Ok(Rule::Registers0To9));
    assert_eq!(
        ask(&[older(), kexec(), boot(), kexec(), kexec(), older()]),
        Ok(Rule::Registers0To7)
    );
    assert_eq!(ask(&[boot(), kexec(), file()]), Ok(Rule::Registers0To9), "loaded, not started");
    assert_eq!(ask(&[boot(), keyring()]), Ok(Rule::Registers0To9));
    for (name, items) in [
        ("none", vec![file()]),
        ("late", vec![file(), boot()]),
        ("a buffer", vec![keyring(), file()]),
        ("twice", vec![boot(), boot()]),
        ("twice after one kexec", vec![boot(), kexec(), boot(), boot()]),
        ("lured", vec![boot(), lure(), boot()]),
        ("of another machine", vec![other_boot(), file()]),
        ("another machine's first", vec![other_boot(), kexec(), boot()]),
        ("another machine's last", vec![boot(), kexec(), other_boot()]),
        ("a file of that name between", vec![boot(), kexec(), other_boot(), kexec(), boot()]),
        ("one that cannot be read", vec![boot(), kexec(), odd_boot(), kexec(), boot()]),
    ] {
        assert_eq!(ask(&items).unwrap_err().reason(), Reason::ImaBootAggregate, "{name}");
    }
}

#[test]
fn what_no_kernel_writes_is_refused_by_name() {
    let boot = Item::boot_aggregate(&kernel_list::boot_registers(&[SHA256]), SHA256.0, 9);
    let with = |item: Item| kernel_list::binary(&[boot.clone(), item]);
    let ng =
        |digest: Vec<u8>, path: Vec<u8>| Item::new("ima-ng", &[("d-ng", digest), ("n-ng", path)]);
    let good = || kernel_list::ng("sha256", &[1; 32]);
    let name = || kernel_list::name("/x");
    let reason = |list: &[u8]| Inspection::of(list, None).unwrap_err().reason();
    let mut unknown = Item::ng("/x", b"x");
    unknown.template = "ima-next".into();
    assert_eq!(reason(&with(unknown)), Reason::ImaTemplateUnknown);
    let malformed = [
        ng(vec![], name()),
        ng(b"sha256:".to_vec(), name()),
        ng([&b"sha256\0"[..], &[1; 32]].concat(), name()),
        ng(kernel_list::ng("sha256", &[1; 31]), name()),
        ng(kernel_list::ng("sha256", &[1; 33]), name()),
        ng(kernel_list::ng("sha256", &[]), name()),
        ng(kernel_list::ng("whirlpool", &[1; 65]), name()),
        ng(kernel_list::ng("sha 256", &[1; 32]), name()),
        ng(kernel_list::ng("ima:sha256", &[1; 32]), name()),
        ng(good(), vec![]),
        ng(good(), b"/x".to_vec()),
        ng(good(), b"/x\0/y\0".to_vec()),
        ng(good(), b"/x\0\0".to_vec()),
        Item::new("ima-ngv2", &[("d-ngv2", good()), ("n-ng", name())]),
        Item::new(
            "ima-ngv2",
            &[("d-ngv2", kernel_list::ng("other:sha256", &[1; 32])), ("n-ng", name())],
        ),
        Item::new("ima-ng", &[("d-ng", good())]),
        Item::new("ima-ng", &[("d-ng", good()), ("n-ng", name()), ("sig", vec![])]),
        Item::new("ima", &[("d", vec![1; 20]), ("n", b"/x\0/y".to_vec())]),
        Item::new("ima", &[("d", vec![1; 20]), ("n", vec![b'x'; 256])]),
        Item::new("d|n", &[("d", vec![1; 19]), ("n", b"/x\0".to_vec())]),
        Item::new("d-ng|n-ng|iuid", &[("d", good()), ("n", name()), ("iuid", vec![1; 3])]),
        Item::new("d-ng|n-ng|imode", &[("d", good()), ("n", name()), ("imode", vec![1; 4])]),
        Item::new("d-ng|xattrlengths", &[("d", good()), ("x", vec![1; 6])]),
    ];
    for item in &malformed {
        assert_eq!(reason(&with(item.clone())), Reason::ImaMalformed, "{item:?}");
    }
    println!("{} entries that no kernel writes, none read", malformed.len());
    let mut huge = with(Item::ng("/x", b"x"));
    let length = huge.len() - 41 - 4 - 7 - 4;
    huge[length..length + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(reason(&huge), Reason::ImaMalformed);
    for text in ["", "\0", "hello\n", "10\n", "10 00 ima-ng x y\n", "10 zz ima-ng\n", "\n", " \n"] {
        assert_eq!(reason(text.as_bytes()), Reason::ImaMalformed, "{text:?}");
    }
}

#[test]
fn text_is_read_only_as_the_kernel_writes_it() {
    let items = kernel_list::every_template();
    let text = String::from_utf8(kernel_list::text(&items)).unwrap();
    let quoted = kernel_list::quoted(&items, &[SHA256]);
    // Copying a list may take the spaces off the ends of its lines.
    let stripped: String = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    assert_ne!(stripped, text);
    assert!(covered(stripped.as_bytes(), &quoted).is_ok());
    for (what, changed) in [
        ("two spaces", text.replace(" ima-ng ", "  ima-ng ")),
        ("carriage returns", text.replace('\n', "\r\n")),
        ("another path", text.replace("/opt/five", "/opt/4ive")),
        ("a newline in a name", text.replace("/opt/five", "/opt/fi\nve")),
        ("a last line cut short", text.trim_end().to_owned()),
        ("a number with a sign", text.replacen("10 ", "+10 ", 1)),
    ] {
        assert_ne!(changed, text, "{what}");
        let reason = refused(changed.as_bytes(), &quoted);
        let fitting = [Reason::ImaMalformed, Reason::LogReplayMismatch, Reason::TrailingBytes];
        assert!(fitting.contains(&reason), "{what}: {reason}");
    }
}

#[test]
fn inspection_reports_and_does_not_decide() {
    let items = kernel_list::every_template();
    let list = kernel_list::binary(&items);
    let banks = [SHA256, (HashAlgorithm::Sha384, Way::PaddedViolations)];
    let given = kernel_list::quoted(&items, &banks);
    let found = Inspection::of(&list, Some(&given)).unwrap();
    assert_eq!((found.entries, found.covered), (14, Some(14)));
    assert_eq!(found.quirks, Quirks::NONE.with(Quirk::ImaViolationZeroPad));
    assert_eq!(found.registers.len(), 4);
    for bank in [HashAlgorithm::Sha256, HashAlgorithm::Sha384] {
        assert_eq!(found.registers.value(bank, 10), given.value(bank, 10));
    }
    assert_eq!((found.templates.len(), found.files), (9, 11));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["boot_aggregate"]["rule"], "pcr-0-9");
    assert_eq!(json["registers"]["sha256"]["10"].as_str().unwrap().len(), 64);

    let mut other = kernel_list::boot_registers(&[SHA256]);
    assert!(other.insert(10, Digest::zero(HashAlgorithm::Sha256)));
    let zero = Inspection::of(&list, Some(&other)).unwrap();
    assert_eq!(zero.covered, Some(0), "a register at reset covers nothing of a list");
    let mut other = kernel_list::boot_registers(&[SHA256]);
    assert!(other.insert(10, Digest::new(HashAlgorithm::Sha256, &[1; 32]).unwrap()));
    let unled = Inspection::of(&list, Some(&other)).unwrap();
    assert_eq!((unled.covered, unled.entries), (None, 14));
    assert_eq!(unled.refusal.unwrap().reason(), Reason::LogReplayMismatch);
}
