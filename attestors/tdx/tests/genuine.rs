//! What is genuine under a root of the test's own: every layout, every TCB status, every policy
//! line with its yes and its no.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_tdx::Claims;
use assay_tdx::CollateralCache;
use assay_tdx::Expected;
use assay_tdx::Root;
use assay_tdx::TcbStatus;
use assay_tdx::TdxPolicy;
use assay_tdx::appraise::Advisories;
use assay_tdx::appraise::Grace;
use serde_json::json;

#[path = "support/forge.rs"]
mod forge;

use forge::Recipe;

fn verified(recipe: &Recipe) -> Claims {
    let evidence = recipe.build();
    let expected = Expected::at(forge::now()).binding(&[0x66; 64]);
    let cache = CollateralCache::default();
    let roots = [evidence.root];
    assay_tdx::verify_with(&evidence.quote, &evidence.collateral, &roots, &expected, &cache)
        .unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Strict but for the root, which is the forge's.
fn policy() -> TdxPolicy {
    TdxPolicy { operator_supplied_root: true, ..TdxPolicy::default() }
}

fn reasons(recipe: &Recipe, policy: &TdxPolicy) -> Vec<Reason> {
    let findings = assay_tdx::appraise(&verified(recipe), policy);
    findings.into_iter().map(|finding| finding.code).collect()
}

#[test]
fn every_layout_of_a_quote_is_read_alike() {
    let recipes = [Recipe::new(), Recipe::version_5(2), Recipe::version_5(3), Recipe::version_5(4)];
    for recipe in recipes {
        let claims = verified(&recipe);
        assert_eq!(claims.tcb_status(), Some(TcbStatus::UpToDate));
        assert_eq!(claims.mrtd(), &[0x55; 48]);
        assert_eq!(claims.rtmrs().map(|register| register[0]), [0, 1, 2, 3]);
        assert_eq!(claims.piid(), Some(&[0x22; 16]));
        assert_eq!(claims.root(), Root::OperatorSupplied);
        assert_eq!(assay_tdx::appraise(&claims, &policy()), []);
    }
}

#[test]
fn without_expected_report_data_the_claims_say_that_it_was_not_compared() {
    let evidence = Recipe::new().build();
    let expected = Expected::at(forge::now());
    let cache = CollateralCache::default();
    let roots = [evidence.root];
    let claims =
        assay_tdx::verify_with(&evidence.quote, &evidence.collateral, &roots, &expected, &cache);
    assert_eq!(claims.unwrap().not_checked(), ["report-data: none expected"]);

    let claims = assay_tdx::verify_signatures(&evidence.quote, &roots, &expected).unwrap();
    assert_eq!(claims.not_checked().len(), 4);
    assert_eq!(claims.tcb_status(), None);
    let findings = assay_tdx::appraise(&claims, &policy());
    assert_eq!(findings.first().unwrap().code, Reason::CollateralMissing);
}

/// Makes a policy allow what it refused.
type Allow = fn(&mut TdxPolicy);

#[test]
fn what_is_genuine_and_unwanted_is_a_claim_until_it_is_appraised() {
    let attributes = |bits: u64| Recipe::with(|r| r.attributes(bits));
    let sept = forge::SEPT_VE_DISABLE;
    let service = |body_type, offset| {
        let mut recipe = Recipe::version_5(body_type);
        recipe.set(offset, &[1]);
        recipe
    };
    let cases: [(Recipe, Reason, Allow); 8] = [
        (attributes(sept | forge::DEBUG), Reason::TdDebug, |p| p.debug = true),
        (attributes(0), Reason::TdSeptVeDisableOff, |p| p.sept_ve_enabled = true),
        (attributes(sept | 1 << 29), Reason::TdMigratable, |p| p.migratable = true),
        (attributes(sept | 1 << 17), Reason::ServiceTd, |p| p.service_td = true),
        (service(3, forge::MRSERVICETD), Reason::ServiceTd, |p| p.service_td = true),
        (service(4, forge::CURRENT_SERVICE_TD), Reason::ServiceTd, |p| p.service_td = true),
        (Recipe::new(), Reason::RootOperatorSupplied, |p| p.operator_supplied_root = true),
        (Recipe::with(|r| r.piid = None), Reason::PlatformNotAllowed, |p| p.platforms = None),
    ];
    for (recipe, reason, allow) in cases {
        let mut strict = policy();
        match reason {
            Reason::RootOperatorSupplied => strict = TdxPolicy::default(),
            Reason::PlatformNotAllowed => strict.platforms = Some(BTreeSet::from([[0x22; 16]])),
            _ => {}
        }
        assert_eq!(reasons(&recipe, &strict), [reason]);
        allow(&mut strict);
        assert_eq!(reasons(&recipe, &strict), []);
    }
}

#[test]
fn attributes_that_nobody_knows_are_never_accepted() {
    let mut known = 0;
    for bit in 0..64 {
        let mut lax = policy();
        lax.debug = true;
        lax.migratable = true;
        lax.service_td = true;
        lax.sept_ve_enabled = true;
        let found = reasons(&Recipe::with(|r| r.attributes(1 << bit)), &lax);
        match [0, 16, 17, 27, 28, 29, 30, 31, 62, 63].contains(&bit) {
            true => {
                assert_eq!(found, [], "bit {bit}");
                known += 1;
            }
            false => assert_eq!(found, [Reason::TdAttributesUnknown], "bit {bit}"),
        }
    }
    assert_eq!(known, 10);
}

#[test]
fn the_status_is_that_of_processor_module_and_quoting_enclave_together() {
    let set = |svn: [u8; 3], qe: u8, processor: &str| {
        let processor = processor.to_owned();
        Recipe::with(move |r| {
            r.set(forge::TEE_TCB_SVN, &svn);
            r.set_qe(forge::QE_SVN, &[qe]);
            r.tcb_info["tcbLevels"][0]["tcbStatus"] = json!(processor);
        })
    };
    let (new, old_module, no_module) = ([7, 1, 5], [5, 1, 5], [3, 1, 5]);
    let cases = [
        (set(new, 4, "UpToDate"), "UpToDate"),
        (set(new, 4, "SWHardeningNeeded"), "SWHardeningNeeded"),
        (set(new, 4, "ConfigurationNeeded"), "ConfigurationNeeded"),
        (set(new, 4, "ConfigurationAndSWHardeningNeeded"), "ConfigurationAndSWHardeningNeeded"),
        (set(new, 4, "OutOfDate"), "OutOfDate"),
        (set(new, 4, "OutOfDateConfigurationNeeded"), "OutOfDateConfigurationNeeded"),
        (set(new, 4, "Revoked"), "Revoked"),
        (set(old_module, 4, "UpToDate"), "OutOfDate"),
        (set(old_module, 4, "SWHardeningNeeded"), "OutOfDate"),
        (set(old_module, 4, "ConfigurationNeeded"), "OutOfDateConfigurationNeeded"),
        (set(old_module, 4, "ConfigurationAndSWHardeningNeeded"), "OutOfDateConfigurationNeeded"),
        (set(old_module, 4, "Revoked"), "Revoked"),
        (set(new, 2, "UpToDate"), "OutOfDate"),
        (set(new, 2, "ConfigurationNeeded"), "OutOfDateConfigurationNeeded"),
        (set(old_module, 2, "UpToDate"), "OutOfDate"),
        (set(no_module, 4, "UpToDate"), "none"),
        (set(new, 1, "UpToDate"), "none"),
        (set([7, 1, 3], 4, "UpToDate"), "none"),
        // The second level asks for less microcode.
        (set([7, 1, 4], 4, "UpToDate"), "OutOfDate"),
    ];
    for (recipe, wanted) in cases {
        assert_eq!(verified(&recipe).tcb_status().unwrap().name(), wanted);
    }
    let claims = verified(&set([5, 1, 4], 2, "UpToDate"));
    let advisories: Vec<&str> = claims.advisories().collect();
    assert_eq!(advisories, ["INTEL-SA-00999", "INTEL-SA-01036", "INTEL-SA-01245"]);
    assert_eq!(claims.tcb_date().unwrap().to_string(), "2024-11-13T00:00:00.000Z");
}

#[test]
fn a_platform_below_a_level_in_any_component_does_not_reach_it() {
    for component in 0..16 {
        let mut recipe = Recipe::new();
        let level = &mut recipe.tcb_info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"][component];
        *level = json!({"svn": u16::from(recipe.sgx_svn[component]) + 1});
        let status = verified(&recipe).tcb_status();
        assert_eq!(status, Some(TcbStatus::OutOfDate), "SGX component {component}");
    }
    for component in 2..16 {
        let mut recipe = Recipe::new();
        let level = &mut recipe.tcb_info["tcbLevels"][0]["tcb"]["tdxtcbcomponents"][component];
        *level = json!({"svn": u16::from(recipe.body[component]) + 1});
        let status = verified(&recipe).tcb_status();
        assert_eq!(status, Some(TcbStatus::OutOfDate), "TDX component {component}");
    }
    let pce = Recipe::with(|r| r.pcesvn = 12);
    assert_eq!(verified(&pce).tcb_status(), Some(TcbStatus::OutOfDate));
    let pce = Recipe::with(|r| r.pcesvn = 300);
    assert_eq!(verified(&pce).tcb_status(), Some(TcbStatus::UpToDate));
}

#[test]
fn a_module_of_major_version_0_has_its_components_compared_one_by_one() {
    let recipe = Recipe::with(|r| r.set(forge::TEE_TCB_SVN, &[7, 0, 5]));
    assert_eq!(verified(&recipe).tcb_status(), Some(TcbStatus::UpToDate));
    let recipe = Recipe::with(|r| r.set(forge::TEE_TCB_SVN, &[6, 0, 5]));
    assert_eq!(verified(&recipe).tcb_status(), Some(TcbStatus::OutOfDate));
}

#[test]
fn levels_count_by_their_height_and_not_by_their_place() {
    let recipe = Recipe::with(|r| {
        r.tcb_info["tcbLevels"].as_array_mut().unwrap().reverse();
        r.qe_identity["tcbLevels"].as_array_mut().unwrap().reverse();
        for module in r.tcb_info["tdxModuleIdentities"].as_array_mut().unwrap() {
            module["tcbLevels"].as_array_mut().unwrap().reverse();
        }
    });
    assert_eq!(verified(&recipe).tcb_status(), Some(TcbStatus::UpToDate));
}

#[test]
fn a_td_whose_module_was_updated_under_it_is_advised_to_relaunch() {
    let set = |launch: [u8; 3], current: [u8; 3], processor: &str| {
        let mut recipe = Recipe::version_5(3);
        recipe.set(forge::TEE_TCB_SVN, &launch);
        recipe.set(forge::TEE_TCB_SVN2, &current);
        recipe.tcb_info["tcbLevels"][0]["tcbStatus"] = json!(processor);
        recipe
    };
    let (old, new) = ([5, 1, 5], [7, 1, 5]);
    let cases = [
        (set(new, new, "UpToDate"), "UpToDate", None),
        (set(old, new, "UpToDate"), "TDRelaunchAdvised", Some(Reason::TcbStatusNotAllowed)),
        (
            set(old, new, "SWHardeningNeeded"),
            "TDRelaunchAdvised",
            Some(Reason::TcbStatusNotAllowed),
        ),
        (
            set(old, new, "ConfigurationNeeded"),
            "TDRelaunchAdvisedConfigurationNeeded",
            Some(Reason::TcbStatusNotAllowed),
        ),
        (set(old, old, "UpToDate"), "OutOfDate", Some(Reason::TcbOutOfDate)),
        (set(new, old, "UpToDate"), "OutOfDate", Some(Reason::TcbOutOfDate)),
        (set(old, [3, 1, 5], "UpToDate"), "none", Some(Reason::TcbLevelNotFound)),
        (set(old, new, "Revoked"), "Revoked", Some(Reason::TcbStatusNotAllowed)),
        // Another major version, listed too.
        (set(old, [5, 3, 5], "UpToDate"), "TDRelaunchAdvised", Some(Reason::TcbStatusNotAllowed)),
    ];
    for (recipe, status, reason) in cases {
        assert_eq!(verified(&recipe).tcb_status().unwrap().name(), status);
        assert_eq!(reasons(&recipe, &policy()).first().copied(), reason, "{status}");
    }
}

#[test]
fn a_fleet_is_given_time_for_an_update_and_no_more() {
    let recipe = Recipe::with(|r| r.set(forge::TEE_TCB_SVN, &[5, 1, 5]));
    let mut grace = policy();
    assert_eq!(reasons(&recipe, &grace), [Reason::TcbOutOfDate]);
    // The module's level is of 2025-01-01, 530 days and a half before.
    grace.advisories = Advisories::Any;
    grace.grace = Grace::Platform(Duration::from_secs(530 * 86_400));
    assert_eq!(reasons(&recipe, &grace), [Reason::TcbOutOfDate]);
    grace.grace = Grace::Platform(Duration::from_secs(531 * 86_400));
    assert_eq!(reasons(&recipe, &grace), []);
    grace.advisories = Advisories::Only(BTreeSet::new());
    assert_eq!(reasons(&recipe, &grace), [Reason::TcbStatusNotAllowed]);
    grace.advisories = Advisories::Only(BTreeSet::from(["INTEL-SA-01036".to_owned()]));
    assert_eq!(reasons(&recipe, &grace), []);
    // Grace is for what is out of date, not for what is below every level.
    let none = Recipe::with(|r| r.set(forge::TEE_TCB_SVN, &[3, 1, 5]));
    assert_eq!(reasons(&none, &grace), [Reason::TcbLevelNotFound]);
}

#[test]
fn old_collateral_is_refused_by_number_and_by_age_where_the_policy_says_so() {
    let mut fresh = policy();
    fresh.min_evaluation_number = 20;
    fresh.max_collateral_age = Some(Duration::from_secs(15 * 86_400));
    // Issued fourteen days and a half before.
    assert_eq!(reasons(&Recipe::new(), &fresh), []);
    fresh.max_collateral_age = Some(Duration::from_secs(14 * 86_400));
    assert_eq!(reasons(&Recipe::new(), &fresh), [Reason::CollateralExpired]);
    fresh.max_collateral_age = None;
    let recipe = Recipe::with(|r| r.tcb_info["tcbEvaluationDataNumber"] = json!(19));
    assert_eq!(reasons(&recipe, &fresh), [Reason::CollateralExpired]);
    let recipe = Recipe::with(|r| r.qe_identity["tcbEvaluationDataNumber"] = json!(19));
    assert_eq!(reasons(&recipe, &fresh), [Reason::CollateralExpired]);
}

#[test]
fn a_status_that_is_listed_is_allowed() {
    let recipe = Recipe::with(|r| {
        r.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("SWHardeningNeeded");
    });
    let mut listed = policy();
    assert_eq!(reasons(&recipe, &listed), [Reason::TcbStatusNotAllowed]);
    listed.tcb_status.insert(TcbStatus::SwHardeningNeeded);
    assert_eq!(reasons(&recipe, &listed), []);
}

#[test]
fn the_bundle_may_bring_the_chain_of_the_quote() {
    let chain = vec![forge::pck(), forge::ca(), forge::root()];
    verified(&Recipe::with(|r| r.pck_certificate_chain = Some(chain)));
}

#[test]
fn hex_of_either_case_is_the_same_fmspc() {
    verified(&Recipe::with(|r| {
        r.fmspc = vec![0xab; 6];
        r.tcb_info["fmspc"] = json!("aBAbabABabAB");
    }));
}

#[test]
fn padding_is_part_of_no_quote() {
    let long = Recipe::with(|r| r.padding = vec![0; 3065]);
    let bare = Recipe::with(|r| r.padding = vec![]);
    assert_eq!(verified(&long).evidence_id(), verified(&bare).evidence_id());
}

/// The fuzz targets begin with these, at this time.
#[test]
fn the_vectors_are_genuine_under_their_own_root() {
    let read = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/forged");
        std::fs::read(format!("{folder}/{name}")).unwrap()
    };
    let roots = [Certificate::parse(&read("root.der")).unwrap()];
    let expected = Expected::at(Time::from_unix_s(1_781_524_800));
    let cache = CollateralCache::default();
    for quote in ["quote-v4", "quote-v5-2", "quote-v5-3", "quote-v5-4"] {
        let (quote, bundle) = (read(quote), read("collateral.json"));
        let found = assay_tdx::verify_with(&quote, &bundle, &roots, &expected, &cache);
        assert_eq!(found.unwrap().tcb_status(), Some(TcbStatus::UpToDate));
    }
    assert_eq!(cache.len(), 1);
}

#[test]
fn overdue_collateral_is_borne_for_as_long_as_the_policy_says() {
    let made = Recipe::new().build();
    let roots = [made.root];
    let cache = CollateralCache::default();
    let mut late = policy();
    // The documents and the lists were to be renewed by 2026-07-01.
    let at = |time: &str, policy: &TdxPolicy| {
        let now = Time::parse_rfc3339(time).unwrap();
        let expected =
            Expected { collateral_grace: policy.collateral_grace(), ..Expected::at(now) };
        assay_tdx::verify_with(&made.quote, &made.collateral, &roots, &expected, &cache)
    };
    assert_eq!(at("2026-07-01T00:00:01Z", &late).unwrap_err().reason(), Reason::CollateralExpired);
    late.grace = Grace::Platform(Duration::from_secs(86_400));
    assert_eq!(at("2026-07-01T00:00:01Z", &late).unwrap_err().reason(), Reason::CollateralExpired);
    late.grace = Grace::Collateral(Duration::from_secs(86_400));
    let claims = at("2026-07-02T00:00:00Z", &late).unwrap();
    assert_eq!(assay_tdx::appraise(&claims, &late), []);
    let findings = assay_tdx::appraise(&claims, &policy());
    assert_eq!(findings.first().unwrap().code, Reason::CollateralExpired, "of a stricter policy");
    assert_eq!(at("2026-07-02T00:00:01Z", &late).unwrap_err().reason(), Reason::CollateralExpired);
}

#[test]
fn the_claims_name_module_platform_and_dates() {
    let claims = serde_json::to_value(verified(&Recipe::version_5(4))).unwrap();
    let wanted = [
        ("version", json!(5)),
        ("body_type", json!(4)),
        ("debug", json!(false)),
        ("sept_ve_disable", json!(true)),
        ("td_attr", json!("0000001000000000")),
        ("tdx_module", json!("TDX_01")),
        ("tdx_module_svn", json!(7)),
        ("fmspc", json!("90c06f000000")),
        ("pck_issuer", json!("Intel SGX PCK Platform CA")),
        ("root", json!("operator-supplied")),
        ("tcb_status", json!("UpToDate")),
        ("tcb_date", json!("2026-02-11T00:00:00.000Z")),
        ("tcb_evaluation_data_number", json!(20)),
        ("tcb_info_next_update", json!("2026-07-01T00:00:00.000Z")),
        ("collateral_valid_until", json!("2026-07-01T00:00:00.000Z")),
    ];
    for (name, value) in wanted {
        assert_eq!(claims[name], value, "{name}");
    }
}
