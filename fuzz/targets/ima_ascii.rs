//! Text IMA lists, whole and in pieces.

#![no_main]

use assay_eventlog::ima::Inspection;
use assay_eventlog::ima::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // In front of what comes stands a line's beginning, so that it is taken for text.
    let list = [b"10 ", bytes].concat();
    let Ok(whole) = Inspection::of(&list, None) else { return };
    assert!(whole.text);
    let again = Inspection::of(&list, Some(&whole.registers)).expect("it was read before");
    assert_eq!(again.covered, Some(whole.entries));
    let mut reader = Reader::new();
    for chunk in list.chunks(5) {
        let mut entries = reader.entries(chunk);
        while entries.next().expect("it was read before").is_some() {}
    }
    assert_eq!(reader.finish().ok(), Some(whole.entries));
});
