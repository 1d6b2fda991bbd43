//! From claims to findings: is this genuine trust domain acceptable?
//!
//! Pure and separate from authenticity. The default is strict: production TDs on platforms that are
//! up to date, under Intel's root. No finding means acceptable. Measurements are compared with
//! reference values elsewhere; here is what holds for every TD.

use std::collections::BTreeSet;
use std::time::Duration;

use assay_evidence::Finding;
use assay_evidence::Reason;

use crate::claims::Claims;
use crate::claims::EnclaveClaims;
use crate::claims::PlatformClaims;
use crate::collateral::TcbStatus;
use crate::endorsement::Root;

/// What a TD and its platform must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxPolicy {
    pub debug: bool,
    pub migratable: bool,
    pub service_td: bool,
    /// Without SEPT_VE_DISABLE a host can run a TD's exception handler at will.
    pub sept_ve_enabled: bool,
    pub operator_supplied_root: bool,
    /// Quotes of SGX enclaves, which are no machines.
    pub enclaves: bool,
    pub tcb_status: BTreeSet<TcbStatus>,
    /// Advisories that may be open at a status other than `UpToDate`.
    pub advisories: Advisories,
    pub grace: Grace,
    /// Collateral issued longer ago than this is refused though it is valid.
    pub max_collateral_age: Option<Duration>,
    pub min_evaluation_number: u32,
    /// Measurements of what may have been launched; none listed: any.
    pub mrtd: BTreeSet<[u8; 48]>,
    /// Platform instances that may run TDs; nothing means any.
    pub platforms: Option<BTreeSet<[u8; 16]>>,
}

/// One clock may be late, never both: collateral that is overdue cannot say how late a platform is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grace {
    #[default]
    None,
    /// How long collateral may be overdue.
    Collateral(Duration),
    /// How long after the date of its TCB level a platform that is out of date is still accepted.
    Platform(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisories {
    Any,
    Only(BTreeSet<String>),
}

impl Default for TdxPolicy {
    fn default() -> TdxPolicy {
        TdxPolicy {
            debug: false,
            migratable: false,
            service_td: false,
            sept_ve_enabled: false,
            operator_supplied_root: false,
            enclaves: false,
            tcb_status: BTreeSet::from([TcbStatus::UpToDate]),
            advisories: Advisories::Only(BTreeSet::new()),
            grace: Grace::None,
            max_collateral_age: None,
            min_evaluation_number: 0,
            mrtd: BTreeSet::new(),
            platforms: None,
        }
    }
}

impl TdxPolicy {
    /// For [`Expected`](crate::Expected): what is overdue longer than this is not verified at all.
    pub const fn collateral_grace(&self) -> Duration {
        match self.grace {
            Grace::Collateral(grace) => grace,
            _ => Duration::ZERO,
        }
    }

    const fn platform_grace(&self) -> Duration {
        match self.grace {
            Grace::Platform(grace) => grace,
            _ => Duration::ZERO,
        }
    }
}

/// Everything that the policy does not allow, the gravest first.
pub fn appraise(claims: &Claims, policy: &TdxPolicy) -> Vec<Finding> {
    let mut findings = Vec::new();
    root(claims, policy, &mut findings);
    trust_domain(claims, policy, &mut findings);
    module(claims, &mut findings);
    tcb(claims, policy, &mut findings);
    collateral(claims, policy, &mut findings);
    platform(claims, policy, &mut findings);
    launched(claims, policy, &mut findings);
    findings
}

/// The same of a genuine enclave. Unless the policy takes enclaves, it is refused as one, after all
/// that would be wrong with it anyway.
pub fn appraise_enclave(claims: &EnclaveClaims, policy: &TdxPolicy) -> Vec<Finding> {
    let mut findings = Vec::new();
    if claims.debug() && !policy.debug {
        let line = "policy: tdx.debug";
        findings.push(Finding::new(Reason::SgxDebug, "debug", "true", "false", line));
    }
    root(claims, policy, &mut findings);
    tcb(claims, policy, &mut findings);
    collateral(claims, policy, &mut findings);
    platform(claims, policy, &mut findings);
    if !policy.enclaves {
        let line = "policy: tdx.enclaves";
        findings.push(Finding::new(Reason::UnsupportedEvidence, "tee", "sgx", "tdx", line));
    }
    findings
}

fn root(claims: &PlatformClaims, policy: &TdxPolicy, findings: &mut Vec<Finding>) {
    if claims.root() == Root::OperatorSupplied && !policy.operator_supplied_root {
        findings.push(Finding::new(
            Reason::RootOperatorSupplied,
            "root",
            "operator-supplied",
            "intel",
            "policy: tdx.operator_supplied_root",
        ));
    }
}

fn trust_domain(claims: &Claims, policy: &TdxPolicy, findings: &mut Vec<Finding>) {
    let attributes = claims.td_attributes();
    let mut refuse = |code, claim: &str, found: bool, allowed: bool, line: &str| {
        if found && !allowed {
            findings.push(Finding::new(
                code,
                claim,
                "true",
                "false",
                format!("policy: tdx.{line}"),
            ));
        }
    };
    refuse(Reason::TdDebug, "debug", attributes.debug(), policy.debug, "debug");
    let service_td = claims.has_service_td();
    refuse(Reason::ServiceTd, "service_td", service_td, policy.service_td, "service_td");
    let migratable = attributes.migratable();
    refuse(Reason::TdMigratable, "migratable", migratable, policy.migratable, "migratable");
    if !attributes.sept_ve_disable() && !policy.sept_ve_enabled {
        findings.push(Finding::new(
            Reason::TdSeptVeDisableOff,
            "sept_ve_disable",
            "false",
            "true",
            "policy: tdx.sept_ve_enabled",
        ));
    }
    if attributes.unknown() != 0 {
        findings.push(Finding::new(
            Reason::TdAttributesUnknown,
            "td_attr_unknown",
            format!("{:#x}", attributes.unknown()),
            "0x0",
            "Intel TDX Module ABI, ATTRIBUTES",
        ));
    }
}

/// Also where the collateral of a day would allow another signer: that one is not Intel's.
fn module(claims: &Claims, findings: &mut Vec<Finding>) {
    let parts: [(&str, &[u8]); 2] =
        [("mrsignerseam", claims.mrsignerseam()), ("seam_attr", claims.seam_attributes())];
    for (claim, found) in parts {
        if found.iter().any(|byte| *byte != 0) {
            findings.push(Finding::new(
                Reason::TdxModuleMismatch,
                claim,
                hex::encode(found),
                "zeros",
                "Intel TDX Module ABI, TEE_TCB_INFO",
            ));
        }
    }
}

fn tcb(claims: &PlatformClaims, policy: &TdxPolicy, findings: &mut Vec<Finding>) {
    let Some(status) = claims.tcb_status() else {
        findings.push(Finding::new(
            Reason::CollateralMissing,
            "tcb_status",
            "not known",
            "a status from collateral",
            "policy: tdx.tcb_status",
        ));
        return;
    };
    // An allowed status is allowed; grace is for the time in which a fleet is brought up to date.
    let in_grace = status.is_out_of_date()
        && claims
            .tcb_date()
            .is_some_and(|date| date + policy.platform_grace() >= claims.verified_at());
    if !policy.tcb_status.contains(&status) && !in_grace {
        let code = match status {
            TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded => Reason::TcbOutOfDate,
            TcbStatus::NoLevel => Reason::TcbLevelNotFound,
            _ => Reason::TcbStatusNotAllowed,
        };
        let date = claims.tcb_date().map(|date| format!(" of {date}")).unwrap_or_default();
        findings.push(Finding::new(
            code,
            "tcb_status",
            format!("{status}{date}"),
            names(&policy.tcb_status),
            "policy: tdx.tcb_status, tdx.grace",
        ));
        return;
    }
    if let Advisories::Only(allowed) = &policy.advisories
        && status != TcbStatus::UpToDate
    {
        let open: Vec<&str> = claims.advisories().filter(|id| !allowed.contains(*id)).collect();
        if !open.is_empty() {
            findings.push(Finding::new(
                Reason::TcbStatusNotAllowed,
                "advisories",
                open.join(", "),
                allowed.iter().cloned().collect::<Vec<_>>().join(", "),
                "policy: tdx.advisories",
            ));
        }
    }
}

fn collateral(claims: &PlatformClaims, policy: &TdxPolicy, findings: &mut Vec<Finding>) {
    if let Some(until) = claims.collateral_valid_until()
        && until + policy.collateral_grace() < claims.verified_at()
    {
        findings.push(Finding::new(
            Reason::CollateralExpired,
            "collateral_valid_until",
            until.to_string(),
            format!("at most {} s ago", policy.collateral_grace().as_secs()),
            "policy: tdx.grace",
        ));
    }
    if let (Some(issued), Some(max)) = (claims.collateral_issued(), policy.max_collateral_age)
        && claims.verified_at().since(issued) > max
    {
        findings.push(Finding::new(
            Reason::CollateralExpired,
            "tcb_info_issue_date",
            issued.to_string(),
            format!("at most {} s ago", max.as_secs()),
            "policy: tdx.max_collateral_age",
        ));
    }
    let floor = policy.min_evaluation_number;
    if let Some(found) = claims.evaluation_number().filter(|found| *found < floor) {
        findings.push(Finding::new(
            Reason::CollateralExpired,
            "tcb_evaluation_data_number",
            found.to_string(),
            format!("at least {floor}"),
            "policy: tdx.min_evaluation_number",
        ));
    }
}

fn platform(claims: &PlatformClaims, policy: &TdxPolicy, findings: &mut Vec<Finding>) {
    let Some(allowed) = &policy.platforms else { return };
    if !claims.piid().is_some_and(|piid| allowed.contains(piid)) {
        findings.push(Finding::new(
            Reason::PlatformNotAllowed,
            "piid",
            claims.piid().map_or_else(|| "none".into(), hex::encode),
            format!("one of {} listed", allowed.len()),
            "policy: tdx.platforms",
        ));
    }
}

fn launched(claims: &Claims, policy: &TdxPolicy, findings: &mut Vec<Finding>) {
    if policy.mrtd.is_empty() || policy.mrtd.contains(claims.mrtd()) {
        return;
    }
    findings.push(Finding::new(
        Reason::RegisterMismatch,
        "mrtd",
        hex::encode(claims.mrtd()),
        format!("one of {} listed", policy.mrtd.len()),
        "policy: tdx.mrtd",
    ));
}

fn names(allowed: &BTreeSet<TcbStatus>) -> String {
    allowed.iter().map(|status| status.name()).collect::<Vec<_>>().join(", ")
}
