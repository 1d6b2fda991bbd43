//! What a policy can ask for: for each line a machine that meets it and one that does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/forge.rs"]
mod forge;

use assay_evidence::Finding;
use assay_snp::Policy;
use assay_snp::appraise;
use assay_snp::policy::advisory;
use forge::Machine;

/// A policy as an operator writes it, for a machine whose root is the operator's.
fn policy(lines: &str) -> Policy {
    toml::from_str(&format!("allow_operator_root = true\n{lines}")).unwrap()
}

fn findings(machine: Machine, lines: &str) -> Vec<Finding> {
    appraise(&machine.verify().unwrap(), &policy(lines))
}

#[track_caller]
fn refused(expected: &str, lines: &str, machine: Machine) -> Finding {
    let mut found = findings(machine, lines);
    assert_eq!(found.len(), 1, "{found:?}");
    let found = found.remove(0);
    assert_eq!(found.code.code(), expected);
    found
}

fn milan(place: usize, bytes: &[u8]) -> Machine {
    Machine::milan().with(|m| m.set(place, bytes))
}

/// Guest policy word of a Milan machine, and its platform word.
fn words(policy: u64, platform: u64) -> Machine {
    Machine::milan().with(|m| {
        m.set(0x008, &policy.to_le_bytes());
        m.set(0x040, &platform.to_le_bytes());
    })
}

#[test]
fn a_debug_guest_and_one_that_may_be_moved_are_refused_by_default() {
    let debug = words(0xb_0000, 0x25);
    let claims = debug.verify().unwrap();
    assert_eq!(serde_json::to_value(&claims).unwrap()["debug"], true);
    refused("snp-guest-policy-debug", "", debug.clone());
    assert_eq!(findings(debug, "allow_debug = true"), []);
    refused("snp-guest-policy-migrate-ma", "", words(0x7_0000, 0x25));
    assert_eq!(findings(words(0x7_0000, 0x25), "allow_migrate_ma = true"), []);
}

#[test]
fn who_asked_is_judged_by_level_and_the_host_never_may() {
    for level in 0..=3 {
        assert_eq!(findings(milan(0x030, &[level]), ""), []);
    }
    refused("vmpl-not-allowed", "max_vmpl = 0", milan(0x030, &[1]));
    for level in [[4, 0, 0, 0], [0xff; 4]] {
        let found = refused("vmpl-not-allowed", "max_vmpl = 9", milan(0x030, &level));
        assert_eq!(found.expected, "at most 3");
    }
}

#[test]
fn floors_hold_for_reported_committed_and_launch_and_say_how_far_off() {
    let floor = "[[floor]]\nproduct = \"Milan\"\nsnp = 25\nadvisory = \"AMD-SB-0000\"";
    let found = findings(Machine::milan(), floor);
    let claims: Vec<_> = found.iter().map(|finding| finding.claim.as_str()).collect();
    assert_eq!(claims, ["tcb.reported.snp", "tcb.committed.snp", "tcb.launch.snp"]);
    assert_eq!(
        (found[0].found.as_str(), found[0].expected.as_str()),
        ("24", "at least 25 (1 behind)")
    );
    assert_eq!(found[0].source, "policy, `snp.floor` of Milan: AMD-SB-0000");
    assert!(found.iter().all(|finding| finding.code.code() == "snp-tcb-below-floor"));
    assert_eq!(findings(Machine::milan(), &floor.replace("25", "24")), []);
    // Only launched below it.
    let found = refused("snp-tcb-below-floor", &floor.replace("25", "24"), milan(0x1f6, &[23]));
    assert_eq!(found.claim, "tcb.launch.snp");
    // Another product's floor says nothing.
    assert_eq!(findings(Machine::turin(), floor), []);
    let floor = "[[floor]]\nproduct = \"Turin\"\nfmc = 2";
    assert_eq!(findings(Machine::turin(), floor).len(), 3);
}

#[test]
fn firmware_and_mitigations_have_floors_too() {
    let floor = "[[floor]]\nproduct = \"Milan\"\nfirmware = \"1.55.30\"";
    assert_eq!(findings(Machine::milan(), floor).len(), 2, "current and committed");
    assert_eq!(findings(Machine::milan(), &floor.replace("30", "29")), []);
    assert_eq!(findings(Machine::milan(), &floor.replace("1.55.30", "1.9.99")), []);
    refused(
        "snp-mitigation-missing",
        "[[floor]]\nproduct = \"Milan\"\nmitigations = 1",
        Machine::milan(),
    );
    let floor = "[[floor]]\nproduct = \"Turin\"\nmitigations = 0x21";
    assert_eq!(findings(Machine::turin(), floor), []);
    for place in [0x1f8, 0x200] {
        let machine = Machine::turin().with(|m| m.set(place, &[0x1f]));
        let found = refused("snp-mitigation-missing", floor, machine);
        assert!(found.found.ends_with("missing 0x20"));
    }
}

#[test]
fn guest_policy_and_platform_are_asked_bit_by_bit() {
    // Line, guest policy and platform that meet it, bits that do not.
    let lines: [(&str, u64, u64, u64, u64); 8] = [
        ("forbid_smt", 0x2_0000, 0x24, 0x3_0000, 0x25),
        ("require_single_socket", 0x13_0000, 0x25, 0x3_0000, 0x25),
        ("require_ciphertext_hiding", 0x103_0000, 0x35, 0x3_0000, 0x25),
        ("require_page_swap_disabled", 0x203_0000, 0x25, 0x3_0000, 0x25),
        ("require_rapl_disabled", 0x83_0000, 0x2d, 0x3_0000, 0x25),
        ("require_tsme", 0x3_0000, 0x27, 0x3_0000, 0x25),
        ("require_ecc", 0x3_0000, 0x25, 0x3_0000, 0x21),
        ("require_alias_check", 0x3_0000, 0x25, 0x3_0000, 0x05),
    ];
    for (line, policy, platform, weak_policy, weak_platform) in lines {
        let line = format!("{line} = true");
        assert_eq!(findings(words(policy, platform), &line), [], "{line}");
        let found = findings(words(weak_policy, weak_platform), &line);
        assert!(!found.is_empty(), "{line}");
        for finding in found {
            assert!(["snp-guest-policy-weak", "snp-platform"].contains(&finding.code.code()));
        }
    }
    refused("snp-guest-policy-weak", "min_abi = [1, 55]", words(0x3_0136, 0x25));
    assert_eq!(findings(words(0x3_0137, 0x25), "min_abi = [1, 55]"), []);
}

#[test]
fn a_platform_that_contradicts_the_guests_own_policy_is_refused_unasked() {
    for machine in [words(0x2_0000, 0x25), words(0x83_0000, 0x25), words(0x103_0000, 0x25)] {
        let found = refused("snp-platform", "", machine);
        assert!(found.source.starts_with("SEV-SNP Firmware ABI"));
    }
}

#[test]
fn listed_values_are_the_only_ones() {
    let own = |hex: &str, times: usize| hex.repeat(times);
    let known = format!("measurement = [\"{}\"]", own("4d", 48));
    assert_eq!(findings(Machine::milan(), &known), []);
    refused("snp-measurement-unknown", &known, milan(0x090, &[0]));
    let lists = [("host_data", 0x0c0, 32), ("id_key_digest", 0x0e0, 48)];
    for (line, place, size) in lists {
        let known = format!("{line} = [\"{}\"]", own("11", size));
        assert_eq!(findings(milan(place, &vec![0x11; size]), &known), []);
        refused("snp-identity-unknown", &known, Machine::milan());
    }
    let author = format!("author_key_digest = [\"{}\"]", own("11", 48));
    refused("snp-identity-unknown", &author, milan(0x110, &[0x11; 48]));
    let enabled = Machine::milan().with(|m| {
        m.set(0x048, &[1]);
        m.set(0x110, &[0x11; 48]);
    });
    assert_eq!(findings(enabled, &author), []);
    let chip = format!("chip = [\"{}\"]", own("c1", 64));
    assert_eq!(findings(Machine::milan(), &chip), []);
    refused("snp-identity-unknown", &chip, Machine::milan_vlek());
    refused("snp-identity-unknown", &format!("denied_{chip}"), Machine::milan());
    refused("snp-identity-unknown", "min_guest_svn = 1", Machine::milan());
}

#[test]
fn a_policy_that_cannot_be_read_is_no_policy() {
    for lines in [
        "allow_debgu = true",
        "measurement = [\"4d\"]",
        "[[floor]]\nproduct = \"Rome\"",
        "[[floor]]\nproduct = \"Milan\"\nfirmware = \"1.55\"",
        "[generation]\nMilan = \"some\"",
    ] {
        assert!(toml::from_str::<Policy>(lines).is_err(), "{lines}");
    }
}

#[test]
fn known_bulletins_are_shown_with_their_distance() {
    assert_eq!(advisory::missing(&Machine::milan().verify().unwrap()), []);
    let old = Machine::milan().with(|m| {
        for place in [0x038, 0x180, 0x1e0, 0x1f0] {
            m.set(place + 6, &[22]);
        }
        m.vek.extension(&[3, 3], forge::integer(22));
        m.set(0x1e8, &[20, 55, 1, 0, 20, 55, 1, 0]);
    });
    let found = advisory::missing(&old.verify().unwrap());
    assert_eq!(found.len(), 5);
    assert_eq!(found[0].expected, "at least 24 (2 behind)");
    assert!(found[0].source.contains("CVE-2024-56161"));
}
