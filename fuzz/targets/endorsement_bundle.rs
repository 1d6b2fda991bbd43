//! A bundle of endorsements, whoever signed it: read or refused, and what is read is written the
//! same; its entries are those that were signed by a vendor, whatever stands around them.

#![no_main]

use std::sync::LazyLock;

use assay::endorsement::Bundle;
use assay::endorsement::Roots;
use assay::endorsement::Subject;
use assay::endorsement::bundle::PAYLOAD_TYPE;
use assay::reference::signature;
use assay_evidence::Certificate;
use assay_evidence::crypto::SoftwareKey;
use libfuzzer_sys::fuzz_target;

static ROOTS: LazyLock<Roots> = LazyLock::new(|| {
    let root = include_bytes!("../../tests/vectors/endorsements/root.der");
    Roots::with_operator_roots(vec![Certificate::parse(root).expect("a vector")])
});
static GENUINE: LazyLock<Bundle> = LazyLock::new(|| {
    let bundle = include_bytes!("../../tests/vectors/endorsements/site.bundle");
    Bundle::open_unsigned(bundle, &ROOTS).expect("a vector")
});
static KEY: LazyLock<SoftwareKey> = LazyLock::new(|| SoftwareKey::generate().expect("a key"));

fuzz_target!(|bytes: &[u8]| {
    // As an envelope, and as what one of ours holds: past its signature there is more to get wrong.
    let held = signature::sign(PAYLOAD_TYPE, bytes, &KEY).expect("signed");
    for envelope in [bytes, held.as_bytes()] {
        let Ok(bundle) = Bundle::open_unsigned(envelope, &ROOTS) else { continue };
        for entry in bundle.entries() {
            let genuine = GENUINE.find(entry.subject()).expect("of the one machine there is");
            assert_eq!(entry.body(), genuine.body());
        }
        let again = signature::sign(PAYLOAD_TYPE, &bundle.payload(), &KEY).expect("signed");
        assert_eq!(Bundle::open_unsigned(again.as_bytes(), &ROOTS).expect("written"), bundle);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(subject) = text.parse::<Subject>()
    {
        assert_eq!(subject.to_string(), text);
    }
});
