//! Register files in all their forms.

#![no_main]

use assay_tpm::pcr_file::PcrFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(PcrFile::Bare(values)) = PcrFile::parse(bytes) {
        assert_eq!(values, bytes);
    }
});
