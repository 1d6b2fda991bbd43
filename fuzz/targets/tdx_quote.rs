//! A TD quote against believed collateral: nothing but the genuine quotes is ever accepted,
//! whatever zeros stand behind them.

#![no_main]

use std::sync::LazyLock;

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_tdx::Collateral;
use assay_tdx::EnclaveQuote;
use assay_tdx::Expected;
use assay_tdx::Quote;
use assay_tdx::VerifiedCollateral;
use libfuzzer_sys::fuzz_target;

static QUOTES: [&[u8]; 4] = [
    include_bytes!("../../attestors/tdx/vectors/forged/quote-v4"),
    include_bytes!("../../attestors/tdx/vectors/forged/quote-v5-2"),
    include_bytes!("../../attestors/tdx/vectors/forged/quote-v5-3"),
    include_bytes!("../../attestors/tdx/vectors/forged/quote-v5-4"),
];
static COLLATERAL: LazyLock<VerifiedCollateral> = LazyLock::new(|| {
    let root = include_bytes!("../../attestors/tdx/vectors/forged/root.der");
    let bundle = include_bytes!("../../attestors/tdx/vectors/forged/collateral.json");
    let root = Certificate::parse(root).expect("a vector");
    Collateral::parse(bundle).expect("a vector").verify(&[root]).expect("a vector")
});

fuzz_target!(|bytes: &[u8]| {
    // 2026-06-15T12:00:00Z
    let expected = Expected::at(Time::from_unix_s(1_781_524_800));
    let _ = EnclaveQuote::parse(bytes);
    let found = assay_tdx::verify(bytes, &COLLATERAL, &expected);
    let whole = |quote: &[u8]| quote.len() - Quote::parse(quote).map_or(0, |q| q.certified().padding());
    let genuine = QUOTES.iter().any(|quote| quote[..whole(quote)] == bytes[..whole(bytes)]);
    assert_eq!(found.is_ok(), genuine && Quote::parse(bytes).is_ok());
});
