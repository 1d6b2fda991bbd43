//! What a platform misses of AMD's known bulletins, to be shown, not decided by.
//!
//! A policy that wants one takes its floor over. The list says what is public and was looked up;
//! bulletins whose floors are not known for sure are not in it. No floor helps where a generation's
//! key root itself leaks: that is a tier.

use assay_evidence::Finding;

use crate::claims::Claims;
use crate::policy::Floor;
use crate::product::Product;
use crate::report::FirmwareVersion;

/// The list's date.
pub const AS_OF: &str = "2026-11-01";

/// Which of the known bulletins these claims miss, and by how much.
pub fn missing(claims: &Claims) -> Vec<Finding> {
    known()
        .iter()
        .filter(|floor| floor.product == claims.product())
        .flat_map(|floor| floor.below(claims))
        .map(|finding| Finding {
            source: finding.source.replace("policy, `snp.floor`", "floor"),
            ..finding
        })
        .collect()
}

/// The floors themselves, to be taken over into a policy.
pub fn known() -> Vec<Floor> {
    let floor = |product, snp, firmware, advisory: &str| Floor {
        product,
        fmc: 0,
        bootloader: 0,
        tee: 0,
        snp,
        microcode: 0,
        firmware,
        mitigations: 0,
        advisory: advisory.to_owned(),
    };
    let build = |build| Some(FirmwareVersion { major: 1, minor: 55, build });
    vec![
        floor(Product::Milan, 0x18, None, ENTRY_SIGN),
        floor(Product::Genoa, 0x17, None, ENTRY_SIGN),
        floor(Product::Milan, 0, build(22), BAD_RAM),
        floor(Product::Genoa, 0, build(38), BAD_RAM),
    ]
}

const ENTRY_SIGN: &str = "AMD-SB-3019, CVE-2024-56161 (microcode signatures)";
const BAD_RAM: &str = "AMD-SB-3015, CVE-2024-21944 (aliased memory)";
