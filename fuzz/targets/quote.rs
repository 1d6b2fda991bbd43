//! A whole evidence: nothing but the genuine quote is ever accepted.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::HashAlgorithm;
use assay_tpm::AttestationKey;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use libfuzzer_sys::fuzz_target;

static QUOTE: &[u8] = include_bytes!("../../attestors/tpm/vectors/swtpm/quote-p256");
static PCRS: &[u8] = include_bytes!("../../attestors/tpm/vectors/swtpm/pcrs");
static KEY: LazyLock<ProvedKey> = LazyLock::new(|| {
    let public = include_bytes!("../../attestors/tpm/vectors/swtpm/ak-p256.public");
    ProvedKey::enrolled(AttestationKey::parse(public).expect("a vector"))
});
const ASKED: [PcrSelection; 4] = [
    PcrSelection::new(HashAlgorithm::Sha1, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha256, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha384, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha512, 0xffff),
];

fuzz_target!(|bytes: &[u8]| {
    let nonce: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap_or(0));
    let Ok(evidence) = Evidence::from_items(bytes, None, None, Some(PCRS)) else { return };
    let found = assay_tpm::verify(&evidence, &KEY, &Expected::exchange(&nonce, &ASKED, false));
    assert_eq!(found.is_ok(), bytes == QUOTE);
});
