//! A bundle of collateral: read or refused; believed only with the documents that were signed.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_tdx::Collateral;
use libfuzzer_sys::fuzz_target;

static ROOT: LazyLock<Certificate> = LazyLock::new(|| {
    let root = include_bytes!("../../attestors/tdx/vectors/forged/root.der");
    Certificate::parse(root).expect("a vector")
});
static GENUINE: LazyLock<Collateral> = LazyLock::new(|| {
    let bundle = include_bytes!("../../attestors/tdx/vectors/forged/collateral.json");
    Collateral::parse(bundle).expect("a vector")
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Collateral::parse(bytes) else { return };
    if let Ok(believed) = read.verify(std::slice::from_ref(&*ROOT)) {
        assert_eq!(believed.tcb_info(), GENUINE.untrusted_tcb_info());
        assert_eq!(believed.qe_identity(), GENUINE.untrusted_qe_identity());
    }
});
