//! Which claims are acceptable: authenticity is settled before, this judges what is true.
//!
//! A pure function of claims and policy. Every refusal is a [`Finding`] that names the claim, what
//! was found, what was expected and by how much it misses, and the policy line that asked. The
//! default is strict about what is never right (debug, a host that asks, a hidden chip, a root of
//! no vendor) and has no floors: those are an operator's, or of [`advisory`]'s dated list.

use std::collections::BTreeMap;

use assay_evidence::Finding;
use assay_evidence::Reason;
use serde::Deserialize;
use serde::Deserializer;

use crate::claims::Claims;
use crate::product::Product;
use crate::report::FirmwareVersion;
use crate::report::SigningKey;

pub mod advisory;
mod floor;

pub use floor::Floor;

/// What is asked of a report beyond being genuine. The default is what `Policy::default` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Guests that the host may look into.
    pub allow_debug: bool,
    /// Guests that a migration agent may move.
    pub allow_migrate_ma: bool,
    /// Reports of a chip that hides its id. A VLEK report names no chip and is not concerned.
    pub allow_masked_chip_id: bool,
    /// Evidence that leads to a root of the operator.
    pub allow_operator_root: bool,
    /// Firmware that may still be rolled back: committed below current.
    pub allow_provisional: bool,
    /// The least privileged level that may have asked, 0 to 3.
    pub max_vmpl: u32,
    /// Guest policies without SMT only, and platforms with it off.
    pub forbid_smt: bool,
    pub require_single_socket: bool,
    pub require_ciphertext_hiding: bool,
    pub require_page_swap_disabled: bool,
    pub require_rapl_disabled: bool,
    pub require_tsme: bool,
    pub require_ecc: bool,
    /// The platform looked for aliased memory (BadRAM); reports before version 3 cannot say.
    pub require_alias_check: bool,
    /// Least ABI that the guest's policy demands, `[major, minor]`.
    pub min_abi: Option<(u8, u8)>,
    pub min_guest_svn: u32,
    /// Least TCB, firmware and mitigations, by product.
    pub floor: Vec<Floor>,
    /// How far a generation is trusted; one that is not named is trusted in full.
    pub generation: BTreeMap<Product, Tier>,
    /// Launch measurements; none listed: any.
    pub measurement: Vec<Hex<48>>,
    pub host_data: Vec<Hex<32>>,
    pub id_key_digest: Vec<Hex<48>>,
    pub author_key_digest: Vec<Hex<48>>,
    /// The only chips that are accepted; none listed: any.
    pub chip: Vec<Hex<64>>,
    /// Chips that are refused.
    pub denied_chip: Vec<Hex<64>>,
}

/// How far the reports of a generation are trusted, whatever their TCB says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Not at all.
    None,
    /// Only chips that the policy lists: a key that leaked from another chip is worth nothing.
    Listed,
    Full,
}

/// Bytes that are written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            allow_debug: false,
            allow_migrate_ma: false,
            allow_masked_chip_id: false,
            allow_operator_root: false,
            allow_provisional: true,
            max_vmpl: 3,
            forbid_smt: false,
            require_single_socket: false,
            require_ciphertext_hiding: false,
            require_page_swap_disabled: false,
            require_rapl_disabled: false,
            require_tsme: false,
            require_ecc: false,
            require_alias_check: false,
            min_abi: None,
            min_guest_svn: 0,
            floor: Vec::new(),
            generation: BTreeMap::new(),
            measurement: Vec::new(),
            host_data: Vec::new(),
            id_key_digest: Vec::new(),
            author_key_digest: Vec::new(),
            chip: Vec::new(),
            denied_chip: Vec::new(),
        }
    }
}

/// Everything that keeps these claims from being accepted, the most decisive first; nothing if
/// they are.
pub fn appraise(claims: &Claims, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(root(claims, policy));
    findings.extend(guest_policy(claims, policy));
    findings.extend(origin(claims, policy));
    findings.extend(platform(claims, policy));
    for floor in policy.floor.iter().filter(|floor| floor.product == claims.product()) {
        findings.extend(floor.below(claims));
    }
    findings.extend(provisional(claims, policy));
    findings.extend(references(claims, policy));
    findings
}

/// How far this report is trusted: not at all if it leads to no vendor.
pub fn tier(claims: &Claims, policy: &Policy) -> Tier {
    if claims.operator_supplied_root() {
        return Tier::None;
    }
    policy.generation.get(&claims.product()).copied().unwrap_or(Tier::Full)
}

fn root(claims: &Claims, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    if claims.operator_supplied_root() {
        if !policy.allow_operator_root {
            findings.push(finding(
                Reason::RootOperatorSupplied,
                "root",
                "operator-supplied",
                "amd",
                "allow_operator_root",
            ));
        }
        return findings;
    }
    let listed = claims.chip_id().is_some_and(|chip| policy.chip.contains(&Hex(*chip)));
    let (found, expected) = match tier(claims, policy) {
        Tier::None => ("none", "a generation that is trusted"),
        Tier::Listed if !listed => ("listed", "a chip that the policy lists"),
        Tier::Listed | Tier::Full => return findings,
    };
    let found = format!("{}: {found}", claims.product());
    findings.push(finding(Reason::SnpGenerationTier, "product", found, expected, "generation"));
    findings
}

fn guest_policy(claims: &Claims, policy: &Policy) -> Vec<Finding> {
    let guest = claims.policy();
    let mut findings = Vec::new();
    if guest.debug() && !policy.allow_debug {
        let code = Reason::SnpGuestPolicyDebug;
        findings.push(finding(code, "debug", "true", "false", "allow_debug"));
    }
    if guest.migrate_ma() && !policy.allow_migrate_ma {
        let code = Reason::SnpGuestPolicyMigrateMa;
        findings.push(finding(code, "migrate_ma", "true", "false", "allow_migrate_ma"));
    }
    let asked = [
        (policy.forbid_smt, !guest.smt_allowed(), "smt_allowed", "false", "forbid_smt"),
        (
            policy.require_single_socket,
            guest.single_socket(),
            "single_socket",
            "true",
            "require_single_socket",
        ),
        (
            policy.require_ciphertext_hiding,
            guest.ciphertext_hiding(),
            "ciphertext_hiding",
            "true",
            "require_ciphertext_hiding",
        ),
        (
            policy.require_page_swap_disabled,
            guest.page_swap_disabled(),
            "page_swap_disabled",
            "true",
            "require_page_swap_disabled",
        ),
        (
            policy.require_rapl_disabled,
            guest.rapl_disabled(),
            "rapl_disabled",
            "true",
            "require_rapl_disabled",
        ),
    ];
    for (required, holds, name, expected, line) in asked {
        if required && !holds {
            let found = if expected == "true" { "false" } else { "true" };
            let claim = format!("guest_policy.{name}");
            findings.push(finding(Reason::SnpGuestPolicyWeak, claim, found, expected, line));
        }
    }
    let abi = (guest.abi_major(), guest.abi_minor());
    if let Some(least) = policy.min_abi.filter(|least| abi < *least) {
        findings.push(finding(
            Reason::SnpGuestPolicyWeak,
            "guest_policy.abi",
            format!("{}.{}", abi.0, abi.1),
            format!("at least {}.{}", least.0, least.1),
            "min_abi",
        ));
    }
    findings
}

/// Who asked, and whether the chip shows itself.
fn origin(claims: &Claims, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Above 3 nobody in the guest asked: 0xffff_ffff is the host.
    let most = policy.max_vmpl.min(3);
    if claims.vmpl() > most {
        findings.push(finding(
            Reason::VmplNotAllowed,
            "vmpl",
            claims.vmpl().to_string(),
            format!("at most {most}"),
            "max_vmpl",
        ));
    }
    let masked = claims.chip_id().is_none() && claims.signing_key() == SigningKey::Vcek;
    if masked && !policy.allow_masked_chip_id {
        findings.push(finding(
            Reason::ChipIdMasked,
            "chip_id",
            "masked",
            "the id of the chip",
            "allow_masked_chip_id",
        ));
    }
    findings
}

/// The platform's settings: those that the policy asks for, and those that the guest's own policy
/// asked for at launch, which no honest firmware contradicts.
fn platform(claims: &Claims, policy: &Policy) -> Vec<Finding> {
    const GUEST: &str = "SEV-SNP Firmware ABI (56860), guest policy";
    let (platform, guest) = (claims.platform(), claims.policy());
    let asked = [
        (policy.forbid_smt, !platform.smt_enabled(), "smt_enabled", "forbid_smt"),
        (
            policy.require_ciphertext_hiding,
            platform.ciphertext_hiding(),
            "ciphertext_hiding",
            "require_ciphertext_hiding",
        ),
        (
            policy.require_rapl_disabled,
            platform.rapl_disabled(),
            "rapl_disabled",
            "require_rapl_disabled",
        ),
        (policy.require_tsme, platform.tsme_enabled(), "tsme_enabled", "require_tsme"),
        (policy.require_ecc, platform.ecc_enabled(), "ecc_enabled", "require_ecc"),
        (
            policy.require_alias_check,
            platform.alias_check_complete(),
            "alias_check_complete",
            "require_alias_check",
        ),
        (!guest.smt_allowed(), !platform.smt_enabled(), "smt_enabled", GUEST),
        (guest.rapl_disabled(), platform.rapl_disabled(), "rapl_disabled", GUEST),
        (guest.ciphertext_hiding(), platform.ciphertext_hiding(), "ciphertext_hiding", GUEST),
    ];
    let mut findings: Vec<Finding> = Vec::new();
    for (required, holds, name, line) in asked {
        let claim = format!("platform.{name}");
        if !required || holds || findings.iter().any(|found| found.claim == claim) {
            continue;
        }
        let (found, expected) = match name {
            "smt_enabled" => ("true", "false"),
            _ => ("false", "true"),
        };
        let mut told = finding(Reason::SnpPlatform, claim, found, expected, line);
        if line == GUEST {
            told.source = GUEST.to_owned();
        }
        findings.push(told);
    }
    findings
}

fn provisional(claims: &Claims, policy: &Policy) -> Vec<Finding> {
    let tcb = claims.tcb();
    let version = |version: FirmwareVersion| format!("firmware {version}");
    let committed = (tcb.committed, claims.committed_version());
    let current = (tcb.current, claims.current_version());
    if policy.allow_provisional || committed == current {
        return Vec::new();
    }
    vec![finding(
        Reason::SnpFirmwareProvisional,
        "committed_tcb",
        format!("{}, {}", committed.0, version(committed.1)),
        format!("as what runs: {}, {}", current.0, version(current.1)),
        "allow_provisional",
    )]
}

/// Values that the policy lists: what was launched, by whom, for whom, where.
fn references(claims: &Claims, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut listed = |code, claim: &str, found: Option<&[u8]>, list: Vec<&[u8]>| {
        if list.is_empty() || found.is_some_and(|found| list.contains(&found)) {
            return;
        }
        let found = found.map_or_else(|| "none".to_owned(), hex::encode);
        let expected = match list.as_slice() {
            [one] => hex::encode(one),
            more => format!("one of {} values", more.len()),
        };
        findings.push(finding(code, claim, found, expected, claim));
    };
    let measurement = claims.measurement().as_slice();
    let known = Reason::SnpMeasurementUnknown;
    listed(known, "measurement", Some(measurement), bytes(&policy.measurement));
    let own = Reason::SnpIdentityUnknown;
    listed(own, "host_data", Some(claims.host_data().as_slice()), bytes(&policy.host_data));
    let id_key = claims.id_key_digest().as_slice();
    listed(own, "id_key_digest", Some(id_key), bytes(&policy.id_key_digest));
    let author = claims.author_key_digest().map(<[u8; 48]>::as_slice);
    listed(own, "author_key_digest", author, bytes(&policy.author_key_digest));
    let chip = claims.chip_id().map(<[u8; 64]>::as_slice);
    listed(own, "chip_id", chip, bytes(&policy.chip));
    if let Some(chip) = claims.chip_id().filter(|chip| policy.denied_chip.contains(&Hex(**chip))) {
        let found = hex::encode(chip);
        findings.push(finding(own, "chip_id", found, "a chip that is not denied", "denied_chip"));
    }
    if claims.guest_svn() < policy.min_guest_svn {
        let expected = format!("at least {}", policy.min_guest_svn);
        let found = claims.guest_svn().to_string();
        findings.push(finding(own, "guest_svn", found, expected, "min_guest_svn"));
    }
    findings
}

fn bytes<const N: usize>(list: &[Hex<N>]) -> Vec<&[u8]> {
    list.iter().map(|value| value.0.as_slice()).collect()
}

fn finding(
    code: Reason,
    claim: impl Into<String>,
    found: impl Into<String>,
    expected: impl Into<String>,
    line: &str,
) -> Finding {
    Finding::new(code, claim, found, expected, format!("policy, `snp.{line}`"))
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex<N>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not {N} bytes in hex")))?;
        Ok(Hex(bytes))
    }
}
