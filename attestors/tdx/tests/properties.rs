//! Whatever bytes come in, an answer goes out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_tdx::Collateral;
use assay_tdx::CollateralCache;
use assay_tdx::Expected;
use assay_tdx::Quote;
use proptest::prelude::*;

#[path = "support/forge.rs"]
mod forge;

use forge::Recipe;

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        let _ = Quote::parse(&bytes);
        let _ = Collateral::parse(&bytes);
    }

    /// Behind a right header the sizes and types are what is left to lie about.
    #[test]
    fn any_bytes_behind_a_header_are_read_or_refused(
        version in 4_u8..=5,
        bytes in prop::collection::vec(any::<u8>(), 0..6000),
    ) {
        let mut quote = Recipe::new().build().quote;
        quote.truncate(48);
        quote[0] = version;
        quote.extend(bytes);
        prop_assert!(Quote::parse(&quote).is_err());
    }

    #[test]
    fn a_piece_put_anywhere_else_is_refused(
        from in 0_usize..5000,
        to in 0_usize..5000,
        length in 1_usize..200,
    ) {
        let made = Recipe::version_5(3).build();
        let expected = Expected::at(forge::now());
        let cache = CollateralCache::default();
        let mut quote = made.quote.clone();
        let end = quote.len() - length;
        let piece = quote[from.min(end)..from.min(end) + length].to_vec();
        quote[to.min(end)..to.min(end) + length].copy_from_slice(&piece);
        let roots = [made.root];
        let found =
            assay_tdx::verify_with(&quote, &made.collateral, &roots, &expected, &cache);
        prop_assert_eq!(found.is_ok(), quote == made.quote);
    }

    /// What a body says comes out as it went in, at every offset.
    #[test]
    fn a_body_is_read_as_it_was_written(body in prop::collection::vec(any::<u8>(), 584)) {
        let made = Recipe::with(|r| r.body = body.clone()).build();
        let quote = Quote::parse(&made.quote).unwrap();
        let read = quote.body();
        let fields: [&[u8]; 13] = [
            &read.tee_tcb_svn,
            &read.mrseam,
            &read.mrsignerseam,
            &read.seam_attributes,
            &read.td_attributes.0.to_le_bytes(),
            &read.xfam,
            &read.mrtd,
            &read.mrconfigid,
            &read.mrowner,
            &read.mrownerconfig,
            read.rtmr.as_flattened(),
            &read.report_data,
            &[],
        ];
        prop_assert_eq!(fields.concat(), body);
        prop_assert_eq!(quote.signed(), &made.quote[..48 + 584]);
    }
}
