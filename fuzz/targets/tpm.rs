//! TPM structures: public areas, statements, signatures, register files. None may panic, and what
//! parses must be what came in.
#![no_main]

use assay_tpm::Attest;
use assay_tpm::AttestationKey;
use assay_tpm::Public;
use assay_tpm::Signature;
use assay_tpm::pcr_file::PcrFile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(public) = Public::parse(data) {
        assert_eq!(public.raw(), data);
        let _ = public.name();
    }
    let _ = Public::parse_file(data);
    let _ = Attest::parse(data);
    let _ = Signature::parse(data);
    let _ = PcrFile::parse(data);
    let _ = AttestationKey::parse(data);
});
