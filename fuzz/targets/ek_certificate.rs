//! What an NV index holds, and the way from it to a root.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_evidence::chain::Expired;
use assay_evidence::chain::Rules;
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
static ZOO: LazyLock<Anchors> = LazyLock::new(|| {
    let root = include_bytes!("../../attestors/tpm/vectors/zoo/root.der");
    let issuer = include_bytes!("../../attestors/tpm/vectors/zoo/issuer.der");
    let read = |der: &[u8]| Certificate::parse(der).expect("a vector");
    let root = EkRoot { certificate: read(root), class: TpmClass::Discrete };
    Anchors::new(vec![root], vec![read(issuer)])
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
    let rules = Rules { expired: Expired::Warn, ..Rules::at(Time::from_unix_s(1_780_272_000)) };
    if let Err(faults) = endorsement::verify_file(&rules, bytes, None, &[], &ZOO) {
        assert!(!faults.is_empty(), "a refusal says why");
        let _ = faults.iter().map(|fault| fault.finding()).count();
    }
    let none: [&[u8]; 0] = [];
    let now = Time::from_unix_s(1_800_000_000);
    let _ = endorsement::verify(&[bytes], &none, PUBLIC, &ANCHORS, now);
});
