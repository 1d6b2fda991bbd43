//! Quotes of SGX enclaves: verified like those of trust domains, and never taken for one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_tdx::CollateralCache;
use assay_tdx::EnclaveClaims;
use assay_tdx::Expected;
use assay_tdx::Faults;
use assay_tdx::TcbStatus;
use assay_tdx::TdxPolicy;
use assay_tdx::appraise_enclave;
use assay_tdx::verify_enclave;
use assay_tdx::verify_with;

#[path = "support/forge.rs"]
mod forge;

use forge::Evidence;
use forge::QE_ATTRIBUTES;
use forge::Recipe;

fn verified(made: &Evidence, quote: &[u8]) -> Result<EnclaveClaims, Faults> {
    let expected = Expected::at(forge::now()).binding(&[0x66; 64]);
    let (roots, cache) = ([made.root.clone()], CollateralCache::default());
    verify_enclave(quote, Some(&made.collateral), &roots, &expected, &cache)
}

fn refused(recipe: &Recipe) -> &'static str {
    let made = recipe.build();
    verified(&made, &made.quote).unwrap_err().reason().code()
}

/// Codes of what a policy that takes operators' roots has against it.
fn judged(recipe: &Recipe, policy: &TdxPolicy) -> Vec<&'static str> {
    let made = recipe.build();
    let claims = verified(&made, &made.quote).unwrap();
    let policy = TdxPolicy { operator_supplied_root: true, ..policy.clone() };
    appraise_enclave(&claims, &policy).iter().map(|finding| finding.code.code()).collect()
}

#[test]
fn a_genuine_enclave_has_claims_of_its_own() {
    let made = Recipe::enclave().build();
    let claims = verified(&made, &made.quote).unwrap();
    assert_eq!(claims.tcb_status(), Some(TcbStatus::UpToDate));
    let told = serde_json::to_value(&claims).unwrap();
    assert_eq!(told["tee"], "sgx");
    assert_eq!(told["mrenclave"], "88".repeat(32));
    assert_eq!(told["mrsigner"], "99".repeat(32));
    assert_eq!(told["debug"], false);
    assert!(claims.not_checked().is_empty());
}

#[test]
fn an_enclave_is_no_trust_domain_and_neither_is_judged_by_the_others_collateral() {
    let (enclave, domain) = (Recipe::enclave().build(), Recipe::new().build());
    let expected = Expected::at(forge::now());
    let cache = CollateralCache::default();
    let as_domain = |quote: &[u8], of: &Evidence| {
        let roots = [of.root.clone()];
        verify_with(quote, &of.collateral, &roots, &expected, &cache).unwrap_err().reason().code()
    };
    assert_eq!(as_domain(&enclave.quote, &enclave), "quote-version");
    assert_eq!(verified(&domain, &domain.quote).unwrap_err().reason().code(), "quote-version");
    assert_eq!(as_domain(&domain.quote, &enclave), "collateral-malformed");
    let other = verified(&domain, &enclave.quote).unwrap_err();
    assert_eq!(other.reason().code(), "collateral-malformed");
    let told = other.findings();
    assert!(told[0].found.contains("of TDX, SGX expected"), "{told:?}");
}

#[test]
fn documents_of_two_kinds_at_once_are_malformed() {
    let mixed = |change: fn(&mut Recipe)| {
        let mut recipe = Recipe::enclave();
        change(&mut recipe);
        refused(&recipe)
    };
    assert_eq!(mixed(|r| r.tcb_info["tdxModule"] = forge::tcb_info()["tdxModule"].take()), CODE);
    assert_eq!(mixed(|r| r.tcb_info["tcbLevels"] = forge::tcb_info()["tcbLevels"].take()), CODE);
    assert_eq!(mixed(|r| r.qe_identity = forge::qe_identity()), CODE);
    assert_eq!(mixed(|r| r.tcb_info["id"] = "TDX".into()), CODE);
    assert_eq!(mixed(|r| r.tcb_info["id"] = "SEV".into()), CODE);
}

#[test]
fn what_is_wrong_with_an_enclave_is_told_and_that_it_is_one() {
    let takes = TdxPolicy { enclaves: true, ..TdxPolicy::default() };
    let sound = Recipe::enclave();
    assert!(judged(&sound, &takes).is_empty());
    assert_eq!(judged(&sound, &TdxPolicy::default()), ["unsupported-evidence"]);

    let mut debug = sound.clone();
    debug.body[QE_ATTRIBUTES] |= 2;
    assert_eq!(judged(&debug, &TdxPolicy::default()), ["sgx-debug", "unsupported-evidence"]);
    assert!(judged(&debug, &TdxPolicy { debug: true, ..takes.clone() }).is_empty());

    let mut old = sound;
    old.sgx_svn[0] = 4;
    assert_eq!(judged(&old, &takes), ["tcb-out-of-date"]);
}

#[test]
fn no_flipped_bit_and_no_cut_is_accepted() {
    let made = Recipe::enclave().build();
    let quote_ends = made.quote.len() - 70;
    let expected = Expected::at(forge::now());
    let (roots, cache) = ([made.root.clone()], CollateralCache::default());
    let accepts = |quote: &[u8]| {
        verify_enclave(quote, Some(&made.collateral), &roots, &expected, &cache).is_ok()
    };
    assert!(accepts(&made.quote));
    let mut quote = made.quote.clone();
    let (mut flipped, mut accepted) = (0, 0);
    for bit in 0..quote.len() * 8 {
        quote[bit / 8] ^= 1 << (bit % 8);
        accepted += usize::from(accepts(&quote));
        quote[bit / 8] ^= 1 << (bit % 8);
        flipped += 1;
    }
    assert_eq!(accepted, 0);
    for length in 0..quote_ends {
        assert!(!accepts(&quote[..length]), "{length}");
    }
    println!("{flipped} bits flipped, {quote_ends} cuts: 0 accepted");
}

const CODE: &str = "collateral-malformed";
