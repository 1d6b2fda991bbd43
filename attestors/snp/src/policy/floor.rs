//! The least that a platform must run, and by how much it misses that.
//!
//! A floor holds for what is reported, what is committed and what ran at launch: a platform that
//! was patched after the guest started, or that can be rolled back, has not met it.

use assay_evidence::Finding;
use assay_evidence::Reason;
use serde::Deserialize;
use serde::Deserializer;

use crate::claims::Claims;
use crate::product::Product;
use crate::report::FirmwareVersion;
use crate::tcb::Tcb;

/// Least values for one product; what is not named is not asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    pub product: Product,
    #[serde(default)]
    pub fmc: u8,
    #[serde(default)]
    pub bootloader: u8,
    #[serde(default)]
    pub tee: u8,
    #[serde(default)]
    pub snp: u8,
    #[serde(default)]
    pub microcode: u8,
    /// SNP firmware, current and committed.
    #[serde(default, deserialize_with = "firmware")]
    pub firmware: Option<FirmwareVersion>,
    /// Bits that launch and current mitigation vectors must both have.
    #[serde(default)]
    pub mitigations: u64,
    /// Why: a bulletin, or the operator's own words.
    #[serde(default)]
    pub advisory: String,
}

impl Floor {
    /// What of the platform is below, whatever its product.
    pub fn below(&self, claims: &Claims) -> Vec<Finding> {
        let tcb = claims.tcb();
        let mut findings = Vec::new();
        for (name, found) in
            [("reported", tcb.reported), ("committed", tcb.committed), ("launch", tcb.launch)]
        {
            findings.extend(self.parts_below(name, &found));
        }
        let versions =
            [("committed", claims.committed_version()), ("current", claims.current_version())];
        for (name, found) in versions {
            if let Some(least) = self.firmware.filter(|least| found < *least) {
                let code = Reason::SnpFirmwareBelowFloor;
                let claim = format!("{name}_version");
                findings.push(self.finding(
                    code,
                    claim,
                    found.to_string(),
                    format!("at least {least}"),
                ));
            }
        }
        if self.mitigations != 0 {
            findings.extend(self.mitigations_missing(claims));
        }
        findings
    }

    fn parts_below<'a>(
        &'a self,
        which: &'a str,
        found: &Tcb,
    ) -> impl Iterator<Item = Finding> + 'a {
        found.parts().into_iter().zip(self.least().parts()).filter_map(
            move |((part, found), (_, least))| {
                let behind = least.checked_sub(found).filter(|behind| *behind > 0)?;
                Some(self.finding(
                    Reason::SnpTcbBelowFloor,
                    format!("tcb.{which}.{part}"),
                    found.to_string(),
                    format!("at least {least} ({behind} behind)"),
                ))
            },
        )
    }

    fn mitigations_missing(&self, claims: &Claims) -> Option<Finding> {
        let expected = format!("bits {:#x} at launch and now", self.mitigations);
        let found = match claims.mitigations() {
            None => "the report is too old to say".to_owned(),
            Some((launch, current)) => {
                let missing = self.mitigations & !(launch & current);
                if missing == 0 {
                    return None;
                }
                format!("launch {launch:#x}, current {current:#x}, missing {missing:#x}")
            }
        };
        let claim = "current_mit_vector".to_owned();
        Some(self.finding(Reason::SnpMitigationMissing, claim, found, expected))
    }

    fn least(&self) -> Tcb {
        let Floor { fmc, bootloader, tee, snp, microcode, .. } = *self;
        Tcb { fmc: Some(fmc), bootloader, tee, snp, microcode }
    }

    fn finding(&self, code: Reason, claim: String, found: String, expected: String) -> Finding {
        let mut source = format!("policy, `snp.floor` of {}", self.product);
        if !self.advisory.is_empty() {
            source = format!("{source}: {}", self.advisory);
        }
        Finding::new(code, claim, found, expected, source)
    }
}

/// `1.55.22`
fn firmware<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<FirmwareVersion>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut numbers = text.split('.').map(str::parse::<u8>);
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(build)), None) => {
            Ok(Some(FirmwareVersion { major, minor, build }))
        }
        _ => Err(serde::de::Error::custom(format!("`{text}` is not `major.minor.build`"))),
    }
}
