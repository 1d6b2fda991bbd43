//! Certificates one behind the other: the first is judged, the last is its root, all are issuers.

#![no_main]

use assay_evidence::Certificate;
use assay_evidence::chain;
use assay_evidence::chain::Expired;
use assay_evidence::chain::Rules;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Certificate::parse_set(bytes);
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Ok((certificate, behind)) = Certificate::parse_prefix(rest) {
        let again = Certificate::parse(certificate.der()).expect("what was read is read again");
        assert_eq!(again.tbs(), certificate.tbs());
        assert_eq!(again.serial(), certificate.serial());
        let _ = (certificate.subject_common_name(), certificate.key_fault());
        let _ = certificate.extension("2.5.29.17");
        if let Ok(key) = certificate.public_key() {
            let _ = certificate.verify_signature_also_sha1(key);
        }
        all.push(certificate);
        rest = behind;
    }
    if let (Some(leaf), Some(root)) = (all.first(), all.last()) {
        let roots = std::slice::from_ref(root);
        let strict = chain::verify_by(&Rules::at(leaf.not_before()), leaf, &all, roots);
        if let Err(faults) = &strict {
            assert!(!faults.is_empty(), "a refusal says why");
        }
        let lenient = Rules { expired: Expired::Warn, ..Rules::at(leaf.not_after()) };
        let found = chain::verify_by(&lenient, leaf, &all, roots);
        assert!(strict.is_err() || found.is_ok(), "a date is the only difference");
    }
});
