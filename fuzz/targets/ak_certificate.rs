//! Certificates of attestation keys, and of the keys that a maker leaves in a device: nothing but
//! the genuine ones is ever accepted under the maker's root.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_tpm::ProvedKey;
use assay_tpm::ak_certificate;
use assay_tpm::idevid;
use assay_tpm::idevid::Kind;
use libfuzzer_sys::fuzz_target;

static IAK: &[u8] = include_bytes!("../../attestors/tpm/vectors/device/iak-p256.crt");
static PUBLIC: &[u8] = include_bytes!("../../attestors/tpm/vectors/device/iak-p256.public");
static ROOTS: LazyLock<[Certificate; 1]> = LazyLock::new(|| {
    let root = include_bytes!("../../attestors/tpm/vectors/device/maker.crt");
    [Certificate::parse(root).expect("a vector")]
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificate) = Certificate::parse(bytes) else { return };
    let now = Time::from_unix_s(1_800_000_000);
    for kind in Kind::ALL {
        let found = idevid::verify(kind, &certificate, &[], ROOTS.as_slice(), PUBLIC, now);
        assert_eq!(found.is_ok(), kind == Kind::Iak && bytes == IAK);
    }
    if let Ok(found) = ak_certificate::verify(&certificate, &[], ROOTS.as_slice(), now) {
        assert!(ProvedKey::certified(&found).is_ok());
    }
    // A root of the fuzzer's choosing must do no harm.
    let roots = [certificate.clone()];
    let _ = ak_certificate::verify(&certificate, &roots, &roots, certificate.not_before());
});
