//! What an IAK says of another key, and that key's public area: nothing but the genuine pair is
//! ever believed. The item of the statement stands first, behind its size.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::Time;
use assay_tpm::DeviceIdentity;
use assay_tpm::Public;
use assay_tpm::Signed;
use assay_tpm::idevid;
use assay_tpm::idevid::Kind;
use libfuzzer_sys::fuzz_target;

static ITEM: &[u8] = include_bytes!("../../attestors/tpm/vectors/device/ak-by-iak-p256.certify");
static PUBLIC: &[u8] = include_bytes!("../../attestors/tpm/vectors/device/ak-p256.public");
static IAK: LazyLock<DeviceIdentity> = LazyLock::new(|| {
    let read = |der: &[u8]| Certificate::parse(der).expect("a vector");
    let certificate = read(include_bytes!("../../attestors/tpm/vectors/device/iak-p256.crt"));
    let public = include_bytes!("../../attestors/tpm/vectors/device/iak-p256.public");
    let roots = [read(include_bytes!("../../attestors/tpm/vectors/device/maker.crt"))];
    let now = Time::from_unix_s(1_800_000_000);
    idevid::verify(Kind::Iak, &certificate, &[], &roots, public, now).expect("a vector")
});

fuzz_target!(|bytes: &[u8]| {
    let nonce: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap_or(0));
    let mut reader = Reader::new(bytes);
    let Ok(item) = reader.sized16(4096) else { return };
    let public = reader.rest();
    let Ok(signed) = Signed::from_item(item) else { return };
    let found = idevid::prove_ak(&IAK, signed, public, &nonce, HashAlgorithm::Sha256);
    let shown = Public::parse_file(public).is_ok_and(|public| public.raw() == PUBLIC);
    assert_eq!(found.is_ok(), shown && item == ITEM);
});
