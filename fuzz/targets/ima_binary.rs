//! IMA lists, whole and in pieces: both say the same, and what was read leads where it leads.

#![no_main]

use assay_eventlog::ima::Inspection;
use assay_eventlog::ima::Reader;
use assay_evidence::HashAlgorithm;
use libfuzzer_sys::fuzz_target;

/// Entries by their template digest, and how reading ended.
fn told(list: &[u8], size: usize) -> (Vec<String>, String) {
    let mut told = Vec::new();
    let mut reader = Reader::new();
    for chunk in list.chunks(size) {
        let mut entries = reader.entries(chunk);
        loop {
            match entries.next() {
                Ok(Some(entry)) => {
                    let digest = entry.template_digest(HashAlgorithm::Sha256);
                    told.push(format!("{digest:?} {:?}", entry.kind()));
                }
                Ok(None) => break,
                Err(error) => return (told, format!("{:?}", error.finding())),
            }
        }
    }
    (told, format!("{:?}", reader.finish()))
}

fuzz_target!(|list: &[u8]| {
    let whole = told(list, list.len().max(1));
    let size = list.last().copied().map_or(1, usize::from).max(1);
    assert_eq!(told(list, size), whole);
    if let Ok(found) = Inspection::of(list, None) {
        assert_eq!(found.entries, whole.0.len() as u64);
        let again = Inspection::of(list, Some(&found.registers)).expect("it was read before");
        assert_eq!(again.covered, Some(found.entries));
    }
});
