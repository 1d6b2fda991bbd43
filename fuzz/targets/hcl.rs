//! An HCL report of any bytes, with its JSON inside.

#![no_main]

use assay_hcl::HclReport;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = HclReport::parse(bytes).and_then(HclReport::bound);
    // The JSON alone, in a frame that holds.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut framed = b"HCLA".to_vec();
    for number in [1, length.saturating_add(1236), 2, 0, 0, 0, 0] {
        framed.extend(u32::to_le_bytes(number));
    }
    framed.extend([0; 1184]);
    for number in [length.saturating_add(20), 1, 2, 1, length] {
        framed.extend(number.to_le_bytes());
    }
    framed.extend(bytes);
    if let Ok(report) = HclReport::parse(&framed) {
        assert_eq!(report.raw_var_data, bytes);
    }
});
