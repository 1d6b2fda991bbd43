//! The JSON of others as reference values: Keylime's, or components of systemd-pcrlock.

#![no_main]

use assay::reference::Profile;
use assay::reference::Set;
use assay::reference::import::keylime;
use assay::reference::import::pcrlock;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Two halves are two variants of one component.
    let (first, second) = bytes.split_at(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
    let file = |variant: &str, bytes| pcrlock::File {
        component: "fuzz".to_owned(),
        variant: variant.to_owned(),
        bytes,
    };
    let locked = pcrlock::import(&[file("1", first), file("2", second.get(1..).unwrap_or(&[]))]);
    for imported in [keylime::import(bytes), pcrlock::import(&[file("1", bytes)]), locked] {
        let Ok(imported) = imported else { continue };
        if imported.is_profile() {
            let profile = Profile::parse(&imported.profile("fuzz/draft"));
            assert!(profile.is_ok(), "{profile:?}");
            continue;
        }
        for (name, text) in imported.sets() {
            let set = Set::parse(&text);
            assert!(set.is_ok(), "{name}: {set:?}");
        }
    }
});
