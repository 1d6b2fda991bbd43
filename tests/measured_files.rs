//! A list of files judged in rounds: wherever it is cut, into pieces or into rounds, the verdict and
//! what is kept are those of one pass, and nothing gets past by lying between two rounds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../attestors/eventlog/tests/support/kernel_list.rs"]
mod kernel_list;

use std::collections::BTreeSet;

use assay::appraisal::FilesHeard;
use assay::appraisal::MeasuredFiles;
use assay::reference::Profile;
use assay_eventlog::ima::State;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::crypto;
use kernel_list::Item;
use kernel_list::SHA1;
use kernel_list::SHA256;
use proptest::prelude::*;
use proptest::sample::Index;

/// Files that the profile knows have one of these contents; any other is unknown.
const KNOWN: u8 = 8;
const RESET: u32 = 3;

fn profile(ima: &str) -> Profile {
    let known: Vec<String> =
        (0..KNOWN).map(|n| format!("\"{}\"", hex::encode(crypto::sha256(&[n])))).collect();
    Profile::parse(&format!(
        "schema = \"firmware-profile/1\"\nid = \"test/files\"\nserial = 1\nroot = \"tpm2\"\n\
         banks = [\"sha256\"]\n[[component]]\nname = \"firmware\"\non = [0]\n\
         [[component.variant]]\nname = \"1\"\nstate = \"active\"\n\
         pcr = {{ sha256 = {{ \"0\" = \"{}\" }} }}\n\
         [ima]\n{ima}\n[[set]]\nname = \"files\"\nserial = 1\nsha256 = [{}]\n",
        "00".repeat(32),
        known.join(", ")
    ))
    .unwrap()
}

fn strict() -> Profile {
    profile("allow = [\"@set:files\"]")
}

fn item(path: &str, content: u8) -> Item {
    Item::ng(path, &[content])
}

fn boot_aggregate() -> Item {
    let registers = kernel_list::boot_registers(&[SHA256]);
    Item::boot_aggregate(&registers, HashAlgorithm::Sha256, 9)
}

/// Judges `list`, in pieces of this size, towards a machine that measured `measured`.
fn judged(
    profile: &Profile,
    state: &State,
    list: &[Item],
    measured: &[Item],
    piece: usize,
) -> MeasuredFiles {
    let quoted = kernel_list::quoted(measured, &[SHA1, SHA256]);
    let mut files = FilesHeard::begin(profile, state, &quoted);
    for piece in kernel_list::binary(list).chunks(piece) {
        files.hear(piece);
    }
    files.finish(&[])
}

fn reasons(files: &MeasuredFiles) -> Vec<(Reason, &str)> {
    files.findings.iter().map(|finding| (finding.code, finding.claim.as_str())).collect()
}

fn files(contents: std::ops::Range<u8>) -> impl Strategy<Value = Vec<Item>> {
    let file = ("/[a-z]{1,20}", contents).prop_map(|(path, content)| item(&path, content));
    proptest::collection::vec(file, 1..12)
        .prop_map(|files| std::iter::once(boot_aggregate()).chain(files).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_rounds_and_any_pieces_come_to_what_one_pass_comes_to(
        list in files(0..KNOWN + 2),
        cuts in proptest::collection::vec(any::<Index>(), 0..5),
        piece in 1_usize..300,
    ) {
        let profile = strict();
        let boot = State::boot(RESET);
        let whole = judged(&profile, &boot, &list, &list, usize::MAX);
        let mut ends: BTreeSet<usize> =
            cuts.iter().map(|cut| 2 + cut.index(list.len() - 1)).collect();
        ends.insert(list.len());
        let (mut state, mut from) = (boot, 0);
        for end in ends {
            let round = judged(&profile, &state, &list[from..end], &list[..end], piece);
            if round.findings.is_empty() {
                prop_assert_eq!(round.covered, (end - from) as u64);
                (state, from) = (round.state.unwrap(), end);
                continue;
            }
            // The round in which the first unknown file came: the same one, at the same place.
            prop_assert_eq!(reasons(&round)[0], reasons(&whole)[0]);
            return Ok(());
        }
        prop_assert!(whole.findings.is_empty());
        prop_assert_eq!(&state, whole.state.as_ref().unwrap());
        prop_assert!(state.to_bytes().len() < 1024);
    }

    #[test]
    fn a_tail_with_an_entry_dropped_swapped_or_edited_is_refused(
        list in files(0..KNOWN),
        cut in any::<Index>(),
        pick in any::<Index>(),
        kind in 0..4,
    ) {
        let profile = strict();
        let cut = 1 + cut.index(list.len() - 1);
        let before = judged(&profile, &State::boot(RESET), &list[..cut], &list[..cut], 64);
        // The boot aggregate alone is no list of files yet, and nothing is kept of it.
        prop_assume!(before.findings.is_empty());
        let state = before.state.unwrap();
        let mut tail = list[cut..].to_vec();
        let at = pick.index(tail.len());
        match kind {
            0 => drop(tail.remove(at)),
            1 => tail.rotate_left(at.max(1)),
            2 => tail[at] = item("/edited", 0),
            // Left out from the front: as if they had been judged before.
            _ => drop(tail.drain(..=at)),
        }
        prop_assume!(tail != list[cut..]);
        let after = judged(&profile, &state, &tail, &list, 64);
        prop_assert!(!after.findings.is_empty());
        prop_assert!(after.state.is_none(), "nothing to go on from");
    }
}

#[test]
fn a_tail_cannot_be_judged_from_a_place_it_does_not_follow() {
    let profile = strict();
    let list = [boot_aggregate(), item("/a", 1), item("/b", 2), item("/c", 3), item("/d", 4)];
    let state = |end: usize| {
        judged(&profile, &State::boot(RESET), &list[..end], &list[..end], 64).state.unwrap()
    };
    for (kept, from, fits) in [(2, 2, true), (2, 3, false), (3, 2, false), (3, 3, true)] {
        let round = judged(&profile, &state(kept), &list[from..], &list, 64);
        assert_eq!(round.findings.is_empty(), fits, "kept {kept}, sent from {from}");
    }
    // Of a boot that is over, nothing fits: the register began anew.
    let other = [boot_aggregate(), item("/c", 3)];
    let round = judged(&profile, &state(2), &other[1..], &other, 64);
    assert_eq!(reasons(&round)[0].0, Reason::LogReplayMismatch);
}

#[test]
fn an_unknown_file_in_a_tail_is_told_by_its_place_in_the_whole_list() {
    let profile = strict();
    let list = [boot_aggregate(), item("/a", 1), item("/b", 2), item("/evil", KNOWN)];
    let before = judged(&profile, &State::boot(RESET), &list[..3], &list[..3], 64);
    assert!(before.findings.is_empty());
    let round = judged(&profile, &before.state.unwrap(), &list[3..], &list, 64);
    assert_eq!(reasons(&round), [(Reason::ImaFileUnknown, "ima.entry.3")]);
}

#[test]
fn nothing_new_is_no_missing_list_and_a_register_that_moved_is() {
    let profile = strict();
    let list = [boot_aggregate(), item("/a", 1), item("/b", 2)];
    let state = judged(&profile, &State::boot(RESET), &list[..2], &list[..2], 64).state.unwrap();
    let quoted = |list: &[Item]| kernel_list::quoted(list, &[SHA1, SHA256]);
    let silent = |state: &State, list: &[Item]| FilesHeard::begin(&profile, state, &quoted(list));
    assert!(!silent(&state, &list[..2]).is_missing());
    let same = silent(&state, &list[..2]).finish(&[]);
    assert!(same.findings.is_empty());
    assert_eq!(same.state.unwrap(), state);
    assert!(silent(&state, &list).is_missing());
    assert!(silent(&State::boot(RESET), &list).is_missing());
    // Not even where the register stands at zero: a boot without a list proves nothing.
    assert!(silent(&State::boot(RESET), &[]).is_missing());
}

#[test]
fn violations_are_borne_by_their_paths_and_only_as_far_as_these_are_told() {
    let profile = profile("violations = \"paths\"\nviolation_paths = [\"/var/log/*\"]");
    let with = |violations: Vec<Item>| {
        let list = [vec![boot_aggregate(), item("/a", 1)], violations].concat();
        judged(&profile, &State::boot(RESET), &list, &list, 4096)
    };
    let logs = |count: usize| (0..count).map(|n| Item::violation(&format!("/var/log/{n}")));
    let borne = with(logs(3).collect());
    assert!(borne.findings.is_empty(), "{:?}", borne.findings);
    assert_eq!(borne.warnings.len(), 3);
    let other = with(logs(2).chain([Item::violation("/usr/bin/web")]).collect());
    assert_eq!(reasons(&other), [(Reason::ImaViolation, "ima.entry.4.violation")]);
    // More than are told: one of the rest could be of any path.
    assert!(!with(logs(40).collect()).findings.is_empty());
}

#[test]
fn an_agent_among_files_that_nobody_looks_at_is_not_proven() {
    let agent = "[ima.agent]\npath = \"/usr/bin/assay\"\nallow = [\"@set:files\"]";
    let list = [boot_aggregate(), item("/usr/bin/assay", 1), item("/usr/bin/other", 200)];
    let lines = ["ima_policy=tcb".to_owned()];
    for (allow, proven) in [("allow = [\"@set:files\"]\n", true), ("", false)] {
        let profile = profile(&format!("{allow}policy = [\"tcb\"]\n{agent}"));
        let list = if proven { &list[..2] } else { &list[..] };
        let quoted = kernel_list::quoted(list, &[SHA1, SHA256]);
        let mut files = FilesHeard::begin(&profile, &State::boot(RESET), &quoted);
        files.hear(&kernel_list::binary(list));
        let files = files.finish(&lines);
        assert!(files.findings.is_empty(), "{:?}", files.findings);
        let told = files.agent.unwrap().to_string();
        assert_eq!(told.starts_with("agent proven"), proven, "{told}");
    }
}
