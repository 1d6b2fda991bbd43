//! A Nitro document of any bytes: read, or refused with a reason.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Time;
use assay_nitro::Anchors;
use assay_nitro::Document;
use libfuzzer_sys::fuzz_target;

static ANCHORS: LazyLock<Anchors> = LazyLock::new(Anchors::aws);

fuzz_target!(|bytes: &[u8]| {
    // The bare payload too, so that the inside is reached without a frame around it.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let framed =
        [&b"\x84\x44\xa1\x01\x38\x22\xa0\x59"[..], &length, bytes, b"\x58\x60", &[1; 96]].concat();
    for document in [bytes, &framed] {
        if let Ok(read) = Document::parse(document) {
            assert!(read.signed().ends_with(read.payload));
        }
        if let Err(faults) = assay_nitro::verify(document, &ANCHORS, None, Time::from_unix_s(0)) {
            assert!(!faults.findings().is_empty());
        }
    }
});
