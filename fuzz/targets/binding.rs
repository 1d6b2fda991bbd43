//! The bound message: what parses writes back to the same bytes.
#![no_main]

use assay_evidence::BindingInput;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(input) = BindingInput::parse(data) {
        assert_eq!(input.message(), data);
    }
});
