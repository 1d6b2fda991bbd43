//! Profiles and policies: text that people write, judged or refused, never a panic.

#![no_main]

use assay::policy::Policy;
use assay::reference::Profile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(profile) = Profile::parse(text) {
        assert!(profile.components.iter().all(|component| !component.on.is_empty()));
    }
    if let Ok(policy) = Policy::parse(text) {
        assert!(policy.max_age >= policy.refresh_every);
    }
});
