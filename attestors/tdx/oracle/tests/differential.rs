//! Another implementation, `dcap-qvl`, must reach the same verdict on genuine evidence.
//!
//! Where the two part, ours is the stricter one; each such point has a case below:
//!
//! | point | dcap-qvl | here | why |
//! |---|---|---|---|
//! | zeros behind a quote | any bytes | zeros only | what no field explains, somebody added |
//! | outer certification type and size | not looked at | 6, exact | unsigned bytes must have no choice |
//! | QE report data, upper half | not looked at | zero | the QE writes zeros there |
//! | PCE ID | not compared | `pceid-mismatch` | TCB levels are of one PCE |
//! | the bundle's PCK chain | replaces the quote's | must equal it | a bundle vouches for no quote |
//! | unknown JSON keys that stand twice | passed over | malformed | two readers, two meanings |
//! | a QE that needs configuration | passed over | in the status | a need is a need |
//! | debug, migration, other attributes | refused | claims, appraised | authenticity is not policy |
//! | no TCB level, revoked TCB | refused | a status, appraised | the same |

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::Finding;
use assay_tdx::CollateralCache;
use assay_tdx::Expected;
use assay_tdx::TcbStatus;
use assay_tdx::TdxPolicy;
use assay_tdx::claims::PlatformClaims;
use assay_tdx::quote::version;
use dcap_qvl::QuoteCollateralV3;

#[path = "../../tests/support/corpus.rs"]
mod corpus;

use corpus::Case;

/// Verdict with TCB status and advisories.
type Verdict = Result<(String, Vec<String>), String>;

fn ours(quote: &[u8], bundle: &[u8], case: &Case) -> Verdict {
    let expected = Expected::at(case.at());
    let cache = CollateralCache::default();
    let refused = |faults: assay_tdx::Faults| faults.reason().to_string();
    // The oracle judges attributes of the TD while it verifies; the status it only reports.
    let policy = |platform: &PlatformClaims| match platform.tcb_status().unwrap() {
        TcbStatus::NoLevel => TdxPolicy::default(),
        status => TdxPolicy {
            tcb_status: [TcbStatus::UpToDate, status].into(),
            advisories: assay_tdx::appraise::Advisories::Any,
            enclaves: true,
            ..TdxPolicy::default()
        },
    };
    let judged = |findings: Vec<Finding>, platform: &PlatformClaims| match findings.first() {
        Some(finding) => Err(finding.code.to_string()),
        None => Ok((
            platform.tcb_status().unwrap().name().to_owned(),
            platform.advisories().map(str::to_owned).collect(),
        )),
    };
    if version(quote) == Some(3) {
        let claims = assay_tdx::verify_enclave(quote, Some(bundle), &[], &expected, &cache)
            .map_err(refused)?;
        return judged(assay_tdx::appraise_enclave(&claims, &policy(&claims)), &claims);
    }
    let claims =
        assay_tdx::verify_with(quote, bundle, &[], &expected, &cache).map_err(refused)?;
    judged(assay_tdx::appraise(&claims, &policy(&claims)), &claims)
}

fn theirs(quote: &[u8], bundle: &[u8], case: &Case) -> Verdict {
    let bundle: QuoteCollateralV3 = serde_json::from_slice(bundle).map_err(|e| e.to_string())?;
    let now = u64::try_from(case.at().unix_s()).unwrap();
    let report = dcap_qvl::verify::ring::verify(quote, &bundle, now).map_err(|e| e.to_string())?;
    let mut advisories = report.advisory_ids.clone();
    advisories.sort();
    Ok((report.status.clone(), advisories))
}

#[test]
fn both_reach_one_verdict_on_every_real_quote_with_every_real_bundle() {
    let mut cases = corpus::with_collateral();
    cases.extend(corpus::cases("tdx").into_iter().filter(|c| !c.is_tdx() && c.has("collateral")));
    let (mut same, mut accepted) = (0, 0);
    for case in &cases {
        for other in &cases {
            let (quote, bundle) = (case.file("quote"), other.file("collateral"));
            // A bundle with a PCK chain of its own: the oracle would judge that platform instead.
            if case.id != other.id && other.id == "v5-td15ex-uptodate" {
                assert!(ours(&quote, &bundle, other).is_err());
                continue;
            }
            let ours = ours(&quote, &bundle, other);
            let theirs = theirs(&quote, &bundle, other);
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => {
                    assert_eq!(ours, theirs, "{} with {}", case.id, other.id);
                    accepted += 1;
                }
                (Err(_), Err(_)) => {}
                _ => panic!("{} with {}: {ours:?}, {theirs:?}", case.id, other.id),
            }
            same += 1;
        }
    }
    println!("{same} pairs judged alike, {accepted} of them accepted");
}

#[test]
fn where_ours_is_stricter_the_oracle_still_accepts() {
    let Some(case) = corpus::with_collateral().into_iter().next() else { return };
    let (quote, bundle) = (case.file("quote"), case.file("collateral"));
    let outer_type = 48 + 584 + 4 + 128;
    let mut tail = quote.clone();
    *tail.last_mut().unwrap() = 1;
    let mut kind = quote.clone();
    kind[outer_type] = 7;
    let text = String::from_utf8(bundle.clone()).unwrap();
    let twice = text.replacen('{', r#"{"remark":1,"remark":2,"#, 1);
    let stricter = [
        ("trailing-bytes", tail, bundle.clone()),
        ("quote-malformed", kind, bundle),
        ("collateral-malformed", quote, twice.into_bytes()),
    ];
    for (reason, quote, bundle) in stricter {
        assert!(theirs(&quote, &bundle, &case).is_ok(), "{reason}");
        assert_eq!(ours(&quote, &bundle, &case).unwrap_err(), reason);
    }
}
