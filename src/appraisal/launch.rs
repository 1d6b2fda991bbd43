//! Launch measurements held against a profile: the digest of an SNP guest (root `snp`), MRTD and
//! RTMRs of a trust domain (root `tdx`).
//!
//! The same components, variants and life cycles as for a TPM. A launch digest has no events, so
//! its components compare values; a trust domain's RTMRs may be decided by grammar over its CCEL.
//! Chain, debug and TCB status are the policy's business and not asked here; floors of the profile
//! are.

use std::collections::BTreeSet;

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::digest::Registers;
use assay_evidence::time::Time;

use crate::appraisal::Given;
use crate::appraisal::JudgedLogs;
use crate::appraisal::Logs;
use crate::appraisal::appraise_logs;
use crate::reference::Profile;
use crate::reference::profile::Root;

/// The register of a profile of root `snp`, and of MRTD in one of root `tdx`, as a CCEL counts.
const LAUNCH: u32 = 0;

/// Judges an SNP guest by what it was launched with. `candidates` are the names of candidate
/// variants that count for this node.
pub fn appraise_launch(
    profile: &Profile,
    claims: &assay_snp::Claims,
    candidates: &BTreeSet<String>,
    now: Time,
) -> JudgedLogs {
    if let Some(refused) = other_root(profile, Root::Snp) {
        return refused;
    }
    let mut quoted = Registers::new();
    insert(&mut quoted, LAUNCH, claims.measurement());
    let given = Given { quoted: &quoted, preimages: &[], candidates, now };
    let mut judged = appraise_logs(profile, Logs::default(), &given, &mut |_| {});
    // Both speak of logs that such a guest does not have.
    judged.not_checked.clear();
    for finding in &mut judged.findings {
        if finding.claim == format!("pcr.{BANK}.{LAUNCH}") {
            finding.claim = "measurement".to_owned();
            finding.code = Reason::SnpMeasurementUnknown;
        }
    }
    judged.findings.extend(floors(profile, claims));
    judged
}

/// Judges a trust domain by its launch and what was measured since. Where the profile decides an
/// RTMR by grammar, `ccel` is the log that leads to it.
pub fn appraise_trust_domain(
    profile: &Profile,
    claims: &assay_tdx::Claims,
    ccel: Option<&[u8]>,
    preimages: &[&[u8]],
    candidates: &BTreeSet<String>,
    now: Time,
) -> JudgedLogs {
    if let Some(refused) = other_root(profile, Root::Tdx) {
        return refused;
    }
    let mut quoted = claims.registers();
    insert(&mut quoted, LAUNCH, claims.mrtd());
    let given = Given { quoted: &quoted, preimages, candidates, now };
    let logs = Logs { eventlog: ccel, ima: None };
    let mut judged = appraise_logs(profile, logs, &given, &mut |_| {});
    for finding in &mut judged.findings {
        if let Some(name) = name_of(&finding.claim) {
            finding.claim = name;
        }
    }
    judged
}

/// `pcr.sha384.2` is RTMR 1: a CCEL counts from MRTD.
fn name_of(claim: &str) -> Option<String> {
    let index: u32 = claim.strip_prefix(&format!("pcr.{BANK}."))?.parse().ok()?;
    Some(match index.checked_sub(1) {
        None => "mrtd".to_owned(),
        Some(rtmr) => format!("rtmr{rtmr}"),
    })
}

fn insert(registers: &mut Registers, register: u32, value: &[u8; 48]) {
    // Each register is inserted once, so none is ever refused.
    let _kept = Digest::new(BANK, value).is_some_and(|value| registers.insert(register, value));
}

fn other_root(profile: &Profile, expected: Root) -> Option<JudgedLogs> {
    (profile.root != expected).then(|| JudgedLogs {
        findings: vec![Finding::new(
            Reason::ProfileMismatch,
            "profile.root",
            profile.root.name(),
            expected.name(),
            format!("profile `{}`, serial {}", profile.id, profile.serial),
        )],
        ..JudgedLogs::default()
    })
}

/// Floors are by product; one that the profile names no floor for has none to meet, and is refused.
fn floors(profile: &Profile, claims: &assay_snp::Claims) -> Vec<Finding> {
    let product = claims.product();
    if profile.floors.is_empty() {
        return Vec::new();
    }
    let source = format!("profile `{}`, serial {}, `floor`", profile.id, profile.serial);
    let of_product = profile.floors.iter().filter(|floor| floor.product == product);
    let mut any = false;
    let mut findings = Vec::new();
    for floor in of_product {
        any = true;
        findings.extend(floor.below(claims).into_iter().map(|mut finding| {
            finding.source.clone_from(&source);
            finding
        }));
    }
    if !any {
        let named: Vec<String> = profile.floors.iter().map(|f| f.product.to_string()).collect();
        let (found, expected) = (product.to_string(), named.join(" or "));
        let code = Reason::ProductMismatch;
        findings.push(Finding::new(code, "product", found, expected, source));
    }
    findings
}

const BANK: HashAlgorithm = HashAlgorithm::Sha384;
