//! What holds for all lists and all bytes, not only for those that somebody thought of.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/kernel_list.rs"]
mod kernel_list;

use assay_eventlog::ima::Covered;
use assay_eventlog::ima::Error;
use assay_eventlog::ima::Inspection;
use assay_eventlog::ima::Kind;
use assay_eventlog::ima::Reader;
use assay_eventlog::ima::Replay;
use assay_eventlog::ima::State;
use assay_eventlog::ima::proof;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use kernel_list::Item;
use kernel_list::Way;
use proptest::prelude::*;

/// Paths without spaces, newlines or NUL, since those do not come back as they went in.
fn paths() -> impl Strategy<Value = String> {
    "/[a-zA-Z0-9._é/-]{1,60}"
}

fn items() -> impl Strategy<Value = Item> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => (paths(), bytes()).prop_map(|(path, content)| Item::ng(&path, &content)),
        2 => (paths(), bytes(), bytes()).prop_map(|(p, content, sig)| Item::sig(&p, &content, &sig)),
        1 => (paths(), bytes()).prop_map(|(path, content)| Item::ima(&path, &content)),
        1 => (paths(), bytes()).prop_map(|(path, buffer)| Item::buffer(&path, &buffer)),
        1 => paths().prop_map(|path| Item::violation(&path)),
    ]
}

fn lists() -> impl Strategy<Value = Vec<Item>> {
    proptest::collection::vec(items(), 1..12)
}

fn banks() -> impl Strategy<Value = Vec<(HashAlgorithm, Way)>> {
    let all =
        [HashAlgorithm::Sha1, HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
    proptest::collection::vec((any::<bool>(), any::<bool>()), 4).prop_filter_map(
        "no bank",
        move |choices| {
            let chosen = all.iter().zip(choices).filter(|(_, (used, _))| *used);
            let banks: Vec<_> = chosen
                .map(|(bank, (_, padded))| match padded && *bank != HashAlgorithm::Sha1 {
                    true => (*bank, Way::Padded),
                    false => (*bank, Way::Hashed),
                })
                .collect();
            (!banks.is_empty()).then_some(banks)
        },
    )
}

fn covered(state: &State, list: &[u8], size: usize, quoted: &Registers) -> Result<Covered, Error> {
    let mut replay = Replay::new(state, quoted)?;
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

/// Every entry as text, or the error, however the list is cut.
fn told(list: &[u8], size: usize) -> (Vec<String>, Result<u64, String>) {
    let mut told = Vec::new();
    let mut reader = Reader::new();
    for chunk in list.chunks(size) {
        let mut entries = reader.entries(chunk);
        loop {
            match entries.next() {
                Ok(Some(entry)) => told.push(format!("{:?}", entry.kind())),
                Ok(None) => break,
                Err(error) => return (told, Err(error.finding().claim)),
            }
        }
    }
    let end = reader.finish().map_err(|error| error.finding().claim);
    (told, end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_a_kernel_measures_is_read_and_covered(
        items in lists(),
        banks in banks(),
        size in 1_usize..200,
        text in any::<bool>(),
    ) {
        let list = if text { kernel_list::text(&items) } else { kernel_list::binary(&items) };
        let quoted = kernel_list::quoted(&items, &banks);
        let found = covered(&State::boot(1), &list, size, &quoted).unwrap();
        prop_assert_eq!(found.within(), items.len() as u64);
        prop_assert!(found.warnings().is_empty());
        let violations = items.iter().filter(|item| item.violation).count();
        prop_assert_eq!(found.state().violations(), violations as u64);
        let bytes = found.state().to_bytes();
        prop_assert!(bytes.len() < 1024);
        prop_assert_eq!(&State::restored(&bytes).unwrap(), found.state());

        let mut reader = Reader::new();
        let mut entries = reader.entries(&list);
        for item in &items {
            let entry = entries.next().unwrap().unwrap();
            prop_assert_eq!(entry.template().name(), &item.template);
            match entry.kind() {
                Kind::File(file) => {
                    let path = &item.fields[1].1;
                    prop_assert_eq!(file.path, path.strip_suffix(&[0]).unwrap_or(path));
                }
                Kind::Buffer { buffer, .. } => prop_assert_eq!(buffer, &item.fields[2].1[..]),
                Kind::Violation { .. } => prop_assert!(item.violation),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn no_permutation_removal_or_addition_is_covered(
        items in lists(),
        changed in lists().prop_shuffle(),
        pick in any::<proptest::sample::Index>(),
        other in any::<proptest::sample::Index>(),
        kind in 0..3,
    ) {
        let mut now = items.clone();
        match kind {
            0 => now.swap(pick.index(items.len()), other.index(items.len())),
            1 => drop(now.remove(pick.index(items.len()))),
            _ => now.insert(pick.index(items.len()), changed[0].clone()),
        }
        // Nothing binds the name of a violation: lists that differ only there are one.
        let told = |items: &[Item]| -> Vec<Vec<u8>> {
            let way = |item: &Item| {
                item.extended_with(HashAlgorithm::Sha256, Way::Hashed, kernel_list::Order::Little)
            };
            items.iter().map(way).collect()
        };
        prop_assume!(!told(&now).starts_with(&told(&items)));
        let quoted = kernel_list::quoted(&items, &[kernel_list::SHA256]);
        let list = kernel_list::binary(&now);
        prop_assert!(covered(&State::boot(1), &list, list.len().max(1), &quoted).is_err());
    }

    #[test]
    fn rounds_come_to_the_same_state_wherever_they_are_cut(
        items in lists(),
        banks in banks(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let cut = cut.index(items.len());
        let first = kernel_list::quoted(&items[..cut], &banks);
        let whole = kernel_list::quoted(&items, &banks);
        let list = kernel_list::binary(&items);
        let at_once = covered(&State::boot(1), &list, 64, &whole).unwrap().into_state();
        let state = covered(&State::boot(1), &list, 64, &first).unwrap().into_state();
        prop_assert_eq!(state.entries(), cut as u64);
        let state = State::restored(&state.to_bytes()).unwrap();
        let tail = kernel_list::binary(&items[cut..]);
        let state = covered(&state, &tail, 64, &whole).unwrap().into_state();
        prop_assert_eq!(state.registers(), at_once.registers());
        prop_assert_eq!(state.violations(), at_once.violations());
        prop_assert_eq!(state.boot_aggregate(), at_once.boot_aggregate());
    }

    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        head in lists(),
        text in any::<bool>(),
        garbage in any::<bool>(),
        size in 1_usize..64,
    ) {
        let list = if text { kernel_list::text(&head) } else { kernel_list::binary(&head) };
        let list = if garbage { bytes } else { [list, bytes].concat() };
        let whole = told(&list, list.len().max(1));
        prop_assert_eq!(&told(&list, size), &whole);
        let _ = Inspection::of(&list, None);
    }

    #[test]
    fn any_bytes_of_a_state_are_refused_or_come_back(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        version in any::<bool>(),
    ) {
        let bytes = if version { [vec![1], bytes].concat() } else { bytes };
        if let Ok(state) = State::restored(&bytes) {
            prop_assert_eq!(state.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_command_line_names_policies_without_bars_and_spaces(line in ".{0,200}") {
        for word in proof::built_in_policies(&line) {
            prop_assert!(!word.is_empty() && !word.contains([' ', '|', '\n']));
        }
    }
}
