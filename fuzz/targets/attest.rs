//! TPMS_ATTEST.

#![no_main]

use assay_tpm::Attest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(attest) = Attest::parse(bytes) {
        assert_eq!(attest.raw(), bytes);
        assert!(attest.extra_data.len() <= 66);
    }
});
