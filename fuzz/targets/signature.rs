//! TPMT_SIGNATURE, and the whole way to the verdict of a key on it.

#![no_main]

use std::sync::LazyLock;

use assay_tpm::AttestationKey;
use assay_tpm::Expected;
use assay_tpm::ProvedKey;
use assay_tpm::Signature;
use assay_tpm::Signed;
use libfuzzer_sys::fuzz_target;

static QUOTE: &[u8] = include_bytes!("../../attestors/tpm/vectors/swtpm/quote-p256");
static KEY: LazyLock<ProvedKey> = LazyLock::new(|| {
    let public = include_bytes!("../../attestors/tpm/vectors/swtpm/ak-p256.public");
    ProvedKey::enrolled(AttestationKey::parse(public).expect("a vector"))
});

fuzz_target!(|bytes: &[u8]| {
    let _ = Signature::parse(bytes);
    let genuine = Signed::from_item(QUOTE).expect("a vector");
    let evidence = assay_tpm::Evidence {
        quote: Signed { signature: bytes, ..genuine },
        certify: None,
        svid_public: None,
        values: None,
    };
    let found = assay_tpm::verify(&evidence, &KEY, &Expected::exchange(&[9; 32], &[], true));
    assert!(found.is_err());
});
