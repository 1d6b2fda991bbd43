//! A revocation list, DER or PEM.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_evidence::RevocationList;
use libfuzzer_sys::fuzz_target;

static ISSUER: LazyLock<Certificate> = LazyLock::new(|| {
    let der = include_bytes!("../../attestors/tpm/vectors/zoo/issuer.der");
    Certificate::parse(der).expect("a vector")
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(list) = RevocationList::parse(bytes) else { return };
    let key = ISSUER.public_key().expect("a vector");
    assert!(list.verify(key).is_err() || list.verify_also_sha1(key).is_ok());
    let _ = (list.is_current(list.this_update()), list.scope(), list.issuer());
    // Leading zeros make no difference, whatever the list holds.
    for serial in [&[7][..], &bytes[..bytes.len().min(20)]] {
        let padded = [&[0, 0], serial].concat();
        assert_eq!(list.is_revoked(serial), list.is_revoked(&padded));
    }
});
