//! A certificate signing request: only a key that signed it comes out, in one form.

#![no_main]

use assay::ca::SubjectKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = SubjectKey::from_csr(bytes) {
        let again = SubjectKey::from_spki(key.spki_der());
        assert!(again.is_ok_and(|again| again.spki_sha256() == key.spki_sha256()));
    }
});
