//! What an NV index holds, and the way from it to a root.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;
use libfuzzer_sys::fuzz_target;

static PUBLIC: &[u8] = include_bytes!("../../attestors/tpm/vectors/swtpm/ek-p384.public");
static ANCHORS: LazyLock<Anchors> = LazyLock::new(|| {
    let root = include_bytes!("../../attestors/tpm/vectors/swtpm/root.pem");
    let issuer = include_bytes!("../../attestors/tpm/vectors/swtpm/issuer.pem");
    let read = |pem: &[u8]| Certificate::parse_set(pem).expect("a vector");
    let class = TpmClass::Software;
    let roots = read(root).into_iter().map(|certificate| EkRoot { certificate, class });
    Anchors::new(roots.collect(), read(issuer))
});

fuzz_target!(|bytes: &[u8]| {
    let _ = Certificate::parse_set(bytes);
    if let Ok(certificate) = endorsement::certificate_in_nv(bytes) {
        let parsed = Certificate::parse(certificate.der()).expect("what was read is read again");
        assert_eq!(parsed.tbs(), certificate.tbs());
        // Also as an issuer of itself: a root of the fuzzer's choosing must do no harm.
        let class = TpmClass::Software;
        let root = EkRoot { certificate: certificate.clone(), class };
        let anchors = Anchors::new(vec![root], vec![certificate.clone()]);
        let now = certificate.not_before();
        let _ = endorsement::verify_certificate(certificate, vec![], &anchors, now);
    }
    let none: [&[u8]; 0] = [];
    let now = Time::from_unix_s(1_800_000_000);
    let _ = endorsement::verify(&[bytes], &none, PUBLIC, &ANCHORS, now);
});
