//! A frame of the exchange: a stranger's first bytes at the server; a value or a named refusal.

#![no_main]

use assay::exchange::FromAgent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(refused) = FromAgent::parse(bytes) {
        assert!(!format!("{refused:?}").is_empty());
    }
});
