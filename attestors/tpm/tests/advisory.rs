//! The shipped list of bad firmware: whole, dated, and right about firmware that is known.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_tpm::advisory;
use assay_tpm::advisory::Advisories;
use assay_tpm::endorsement::Device;

fn shipped() -> Advisories {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../firmware-profiles/advisories/tpm.toml");
    toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn every_entry_is_dated_sourced_and_a_range() {
    let list = shipped();
    assert!(!list.advisory.is_empty());
    for advisory in &list.advisory {
        assert!(advisory.source.starts_with("https://"), "{advisory:?}");
        assert!(advisory.date.len() == 10 && advisory.date <= list.as_of, "{advisory:?}");
        assert!(advisory.firmware_from < advisory.firmware_below, "{advisory:?}");
        assert!(advisory.manufacturer.starts_with("id:") && advisory.manufacturer.len() == 11);
    }
    eprintln!("{} ranges of bad firmware as of {}", list.advisory.len(), list.as_of);
}

#[test]
fn known_firmware_is_judged_as_its_maker_judges_it() {
    let list = shipped();
    let ids = |manufacturer: &str, model: &str, firmware: u64| {
        let device = Device {
            manufacturer: manufacturer.into(),
            model: model.into(),
            version: String::new(),
        };
        let found = advisory::affecting(&list.advisory, &device, firmware);
        found.iter().map(|advisory| advisory.id.clone()).collect::<Vec<_>>()
    };
    let (st, infineon, nuvoton) = ("id:53544D20", "id:49465800", "id:4E544300");
    assert_eq!(ids(st, "ST33HTPHAHB4", 0x0049_0004_0000_0000), ["CVE-2019-16863"]);
    assert!(ids(st, "ST33HTPHAHB4", 0x0049_0040_0000_0000).is_empty());
    assert_eq!(ids(infineon, "SLB9665", 0x0005_003d_000a_8602), ["CVE-2017-15361"]);
    assert!(ids(infineon, "SLB9665", 0x0005_003e_000a_8602).is_empty());
    assert_eq!(ids(infineon, "SLB9670", 0x0007_0028_0000_0000), ["CVE-2017-15361"]);
    assert_eq!(ids(nuvoton, "NPCT75x", 0x0007_0002_0002_0000), ["CVE-2026-6923"]);
    assert!(ids(nuvoton, "NPCT75x", 0x0007_0002_0004_0000).is_empty());
    // A software TPM's version is a date that says nothing.
    assert!(ids("id:00001014", "swtpm", 0x2019_1023_0016_3636).is_empty());
}
