//! Components that compare whole registers, and what all variants have in common: their life.

use std::collections::BTreeSet;

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::time::Time;

use crate::reference::Component;
use crate::reference::Profile;
use crate::reference::State;
use crate::reference::Variant;

/// One component passes when the found registers equal all literals of one variant in force. A
/// revoked variant that matches wins over every other. Otherwise the nearest variant in force
/// (fewest differing registers, first among equals) is what the findings compare with.
pub(super) fn appraise(
    component: &Component,
    profile: &Profile,
    quoted: &dyn Fn(HashAlgorithm, u32) -> Option<Digest>,
    candidates: &BTreeSet<String>,
    now: Time,
) -> Vec<Finding> {
    let differing = |variant: &Variant| {
        let mut findings = outside(component, profile, variant, quoted);
        for (bank, literals) in &variant.literals {
            for (register, expected) in literals {
                let found = quoted(*bank, *register);
                if found.as_ref() != Some(expected) {
                    findings.push(Finding {
                        code: Reason::RegisterMismatch,
                        claim: format!("pcr.{bank}.{register}"),
                        found: found.map_or_else(|| "not quoted".to_owned(), |d| d.to_hex()),
                        expected: expected.to_hex(),
                        source: source(profile, component, variant),
                    });
                }
            }
        }
        findings
    };
    let is_revoked = |variant: &&Variant| matches!(variant.state, State::Revoked { .. });
    let mut revoked_ones = component.variants.iter().filter(is_revoked);
    if let Some(variant) = revoked_ones.find(|variant| differing(variant).is_empty()) {
        return vec![revoked(component, variant, profile)];
    }
    component
        .variants
        .iter()
        .filter(|variant| in_force(component, variant, candidates, now))
        .map(differing)
        .min_by_key(Vec::len)
        .unwrap_or_else(|| vec![none_in_force(component, profile)])
}

/// The value of the one register, where a set has the values.
fn outside(
    component: &Component,
    profile: &Profile,
    variant: &Variant,
    quoted: &dyn Fn(HashAlgorithm, u32) -> Option<Digest>,
) -> Vec<Finding> {
    let (Some(values), [register]) = (&variant.values, component.on.as_slice()) else {
        return Vec::new();
    };
    let of_bank = |bank| quoted(bank, *register);
    // Every bank that decides has to be there and in one row.
    let all = profile.banks.iter().all(|bank| of_bank(*bank).is_some());
    if all && values.set.rows_for(&of_bank, &profile.banks).next().is_some() {
        return Vec::new();
    }
    let bank = profile.banks.first().copied().unwrap_or(HashAlgorithm::Sha256);
    vec![Finding {
        code: Reason::RegisterMismatch,
        claim: format!("pcr.{bank}.{register}"),
        found: of_bank(bank).map_or_else(|| "not quoted".to_owned(), |d| d.to_hex()),
        expected: format!("one of {} values of {}", values.set.rows.len(), values.name),
        source: source(profile, component, variant),
    }]
}

/// A candidate counts only for nodes that it was predicted for.
pub(super) fn in_force(
    component: &Component,
    variant: &Variant,
    candidates: &BTreeSet<String>,
    now: Time,
) -> bool {
    match variant.state {
        State::Active => true,
        State::Retiring { until } => now < until,
        State::Candidate => {
            candidates.contains(&variant.name)
                || candidates.contains(&format!("{}/{}", component.name, variant.name))
        }
        State::Revoked { .. } => false,
    }
}

pub(super) fn revoked(component: &Component, variant: &Variant, profile: &Profile) -> Finding {
    let why = match &variant.state {
        State::Revoked { reason } if !reason.is_empty() => format!(" ({reason})"),
        _ => String::new(),
    };
    Finding {
        code: Reason::VariantRevoked,
        claim: format!("component.{}", component.name),
        found: format!("variant `{}`{why}", variant.name),
        expected: "a variant that is not revoked".to_owned(),
        source: source(profile, component, variant),
    }
}

pub(super) fn none_in_force(component: &Component, profile: &Profile) -> Finding {
    Finding {
        code: Reason::RegisterMismatch,
        claim: format!("component.{}", component.name),
        found: "no variant in force".to_owned(),
        expected: "an active or retiring variant".to_owned(),
        source: format!("profile `{}`, serial {}", profile.id, profile.serial),
    }
}

pub(super) fn source(profile: &Profile, component: &Component, variant: &Variant) -> String {
    format!(
        "profile `{}`, serial {}, line {} (component `{}`, variant `{}`)",
        profile.id, profile.serial, variant.line, component.name, variant.name
    )
}
