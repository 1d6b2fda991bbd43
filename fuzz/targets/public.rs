//! TPMT_PUBLIC: what is read is written again as it was, or differs only in how it was written.

#![no_main]

use assay_tpm::AttestationKey;
use assay_tpm::Public;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Public::parse_file(bytes);
    let Ok(public) = Public::parse(bytes) else { return };
    assert_eq!(public.raw(), bytes);
    if let Ok(written) = Public::from_area(public.area().clone()) {
        // Coordinates may come unpadded and the exponent as 65537; the meaning is the same.
        let again = Public::parse(written.raw()).expect("what is written is read");
        assert_eq!(again.area(), public.area());
    }
    let _ = AttestationKey::new(public);
});
