//! Any bytes as a CoRIM: read or refused, never a panic. What was read makes a draft that parses or
//! is refused, and reads the same again.

#![no_main]

use assay::reference::Profile;
use assay::reference::Set;
use assay::reference::corim;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(imported) = corim::read(bytes, &[]) else { return };
    assert_eq!(corim::read(bytes, &[]).as_ref(), Ok(&imported));
    if imported.is_profile() {
        let _ = Profile::parse(&imported.profile("fuzz/draft"));
        return;
    }
    for (name, text) in imported.sets() {
        let set = Set::parse(&text);
        assert!(set.is_ok(), "{name}: {set:?}");
    }
});
