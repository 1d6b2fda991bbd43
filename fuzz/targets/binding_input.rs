//! The claimed binding message: one byte string, one value; and naming a fault never panics.

#![no_main]

use assay_evidence::BindingInput;
use assay_evidence::Face;
use assay_evidence::Nonce;
use assay_evidence::NonceState;
use assay_evidence::Purpose;
use assay_evidence::crypto;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(input) = BindingInput::parse(bytes) {
        assert_eq!(input.message(), bytes);
    }
    let own = BindingInput {
        purpose: Purpose::Attest,
        face: Face::Native,
        trust_domain: "example.org".into(),
        nonce: Nonce::from_bytes([7; 32]),
        spki_sha256: Some([1; 32]),
        ak_name: None,
        exporter: Some([2; 32]),
    };
    let signed = crypto::sha512(bytes);
    let _ = own.explain(bytes, &signed, NonceState::Unknown);
    let _ = own.explain(bytes, bytes, NonceState::Consumed);
});
