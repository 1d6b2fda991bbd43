//! Every real quote of the corpus: verdict, reason and claims at its own time, under the strict
//! default policy.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::Reason;
use assay_tdx::CollateralCache;
use assay_tdx::Expected;
use assay_tdx::TdxPolicy;

#[path = "support/corpus.rs"]
mod corpus;

use corpus::Case;

#[test]
fn every_real_quote_has_its_verdict_its_reason_and_its_claims() {
    let cases = corpus::cases("tdx");
    let mut right = 0;
    for case in &cases {
        let judged = judge(case, "quote");
        let wanted = Reasons::of(case);
        assert!(wanted.allow(judged.reason), "{}: {judged:?}", case.id);
        if let Some(claims) = &judged.claims {
            right_claims(case, claims);
        }
        right += 1;
    }
    println!("tdx: {right} of {} as expected", cases.len());
}

#[test]
fn quotes_that_azure_machines_carry_are_judged_alike() {
    let mut seen = 0;
    for case in corpus::cases("azure-vtpm") {
        if case.text("format") != "hcl-tdx" {
            continue;
        }
        let judged = judge(&case, "quote");
        assert!(Reasons::of(&case).allow(judged.reason), "{}: {judged:?}", case.id);
        right_claims(&case, judged.claims.as_ref().unwrap());
        seen += 1;
    }
    println!("azure-vtpm: {seen} TD quotes as expected");
}

#[derive(Debug)]
struct Judged {
    /// Of the first fault or finding; nothing if the TD is affirmed.
    reason: Option<Reason>,
    claims: Option<serde_json::Value>,
}

fn judge(case: &Case, role: &str) -> Judged {
    let expected = Expected::at(case.at());
    let cache = CollateralCache::default();
    let quote = case.file(role);
    if case.text("format").starts_with("sgx-") {
        let collateral = case.has("collateral").then(|| case.file("collateral"));
        let json = collateral.as_deref();
        let verified = assay_tdx::verify_enclave(&quote, json, &[], &expected, &cache);
        return match verified {
            Ok(claims) => {
                let findings = assay_tdx::appraise_enclave(&claims, &TdxPolicy::default());
                let reason = findings.first().map(|finding| finding.code);
                Judged { reason, claims: Some(serde_json::to_value(&claims).unwrap()) }
            }
            Err(faults) => Judged { reason: Some(faults.reason()), claims: None },
        };
    }
    let verified = match case.has("collateral") {
        true => {
            let collateral = case.file("collateral");
            assay_tdx::verify_with(&quote, &collateral, &[], &expected, &cache)
        }
        false => assay_tdx::verify_signatures(&quote, &[], &expected),
    };
    match verified {
        Ok(claims) => {
            let findings = assay_tdx::appraise(&claims, &TdxPolicy::default());
            Judged {
                reason: findings.first().map(|finding| finding.code),
                claims: Some(serde_json::to_value(&claims).unwrap()),
            }
        }
        Err(faults) => Judged { reason: Some(faults.reason()), claims: None },
    }
}

/// What the case says is right.
struct Reasons {
    genuine: bool,
    reasons: Vec<String>,
}

impl Reasons {
    fn of(case: &Case) -> Reasons {
        let mut reasons = vec![case.text("reason").to_owned()];
        if let Some(also) = case.about.get("reasons_also_right").and_then(|list| list.as_array()) {
            reasons.extend(also.iter().map(|reason| reason.as_str().unwrap().to_owned()));
        }
        Reasons { genuine: case.text("verdict") == "genuine", reasons }
    }

    fn allow(&self, found: Option<Reason>) -> bool {
        match found {
            None => self.genuine,
            Some(found) => !self.genuine && self.reasons.iter().any(|r| r == found.code()),
        }
    }
}

fn right_claims(case: &Case, claims: &serde_json::Value) {
    // What is not covered by a signature is no claim, or is said in another form.
    let elsewhere = ["pck_nb", "pck_na", "trailing_bytes", "trailing_all_zero", "collateral_fmspc"];
    let of_the_tpm = ["hardware_report", "var_data_bound", "key_ids", "user_data", "pcr_selection"];
    let more = ["extra_data", "safe", "reset_count", "pcr_digest", "vm_configuration"];
    let more_still = ["pcr_values", "restart_count", "firmware_version", "clock"];
    let mut compared = 0;
    for (name, wanted) in case.claims() {
        let lists = [&elsewhere[..], &of_the_tpm, &more, &more_still];
        if lists.iter().any(|list| list.contains(&name.as_str())) {
            continue;
        }
        let wanted = serde_json::to_value(wanted).unwrap();
        assert_eq!(claims.get(name), Some(&wanted), "{}: {name}", case.id);
        compared += 1;
    }
    assert!(compared > 8, "{}: {compared}", case.id);
}
