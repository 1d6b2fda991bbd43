//! Profiles, policies, packs of EK roots, advisories: text that people write, judged or refused, never a panic.

#![no_main]

use assay::policy::Policy;
use assay::reference::AdvisoryList;
use assay::reference::Profile;
use assay::reference::ek_roots::Pack;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(profile) = Profile::parse(text) {
        assert!(profile.components.iter().all(|component| !component.on.is_empty()));
    }
    if let Ok(policy) = Policy::parse(text) {
        assert!(policy.max_age >= policy.refresh_every);
    }
    if let Ok(list) = AdvisoryList::parse("fuzzed", text) {
        assert_eq!(list.as_of.len(), 10);
    }
    if let Ok(packs) = Pack::parse_all([("fuzzed", text)]) {
        for pack in packs {
            pack.misfits();
        }
    }
});
