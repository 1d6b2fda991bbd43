//! Certificates as vendors really write them, and as somebody forges them.
#![no_main]

use assay_evidence::Certificate;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = Certificate::parse(data);
    let _ = Certificate::parse_prefix(data);
    let _ = Certificate::parse_set(data);
});
