//! What confidential machines must be, as an operator writes it: the tables `[snp]`, `[tdx]` and
//! `[nitro]` of a policy file. What a table leaves out is as strict as can be.

use std::collections::BTreeSet;

use assay_tdx::TcbStatus;
use assay_tdx::TdxPolicy;
use assay_tdx::appraise::Advisories;
use assay_tdx::appraise::Grace;
use serde::Deserialize;

use crate::clock::Span;
use crate::policy::PolicyConfig;

/// The strict defaults, or an operator's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confidential {
    pub snp: assay_snp::Policy,
    pub tdx: TdxPolicy,
    pub nitro: assay_nitro::Policy,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfidentialError(String);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TdxSyntax {
    debug: bool,
    migratable: bool,
    service_td: bool,
    sept_ve_enabled: bool,
    operator_supplied_root: bool,
    enclaves: bool,
    tcb_status: Option<BTreeSet<TcbStatus>>,
    /// Advisory ids that may be open, or `["any"]`.
    advisories: BTreeSet<String>,
    collateral_grace: Option<Span>,
    platform_grace: Option<Span>,
    max_collateral_age: Option<Span>,
    min_evaluation_number: u32,
    /// 48 bytes in hex.
    mrtd: BTreeSet<String>,
    /// PIIDs, 16 bytes in hex.
    platforms: Option<BTreeSet<String>>,
}

impl Confidential {
    /// The tables of a whole policy file, or of one that has them alone. Unknown keys are refused
    /// with key and line.
    pub fn parse(text: &str) -> Result<Self, ConfidentialError> {
        let PolicyConfig { snp, tdx, nitro, .. } = toml::from_str(text)
            .map_err(|error| ConfidentialError(error.to_string().trim_end().to_owned()))?;
        Self::judged(snp, tdx, nitro)
    }

    pub(super) fn judged(
        snp: assay_snp::Policy,
        tdx: TdxSyntax,
        nitro: assay_nitro::Policy,
    ) -> Result<Self, ConfidentialError> {
        Ok(Self { snp, tdx: tdx.judged()?, nitro })
    }
}

impl TdxSyntax {
    fn judged(self) -> Result<TdxPolicy, ConfidentialError> {
        let grace = match (self.collateral_grace, self.platform_grace) {
            (None, None) => Grace::None,
            (Some(grace), None) => Grace::Collateral(grace.0),
            (None, Some(grace)) => Grace::Platform(grace.0),
            (Some(_), Some(_)) => {
                let fault = "`tdx.collateral_grace` and `tdx.platform_grace` exclude each other: \
                             overdue collateral cannot say how late a platform is";
                return Err(ConfidentialError(fault.to_owned()));
            }
        };
        let any = self.advisories.iter().any(|id| id == "any");
        Ok(TdxPolicy {
            debug: self.debug,
            migratable: self.migratable,
            service_td: self.service_td,
            sept_ve_enabled: self.sept_ve_enabled,
            operator_supplied_root: self.operator_supplied_root,
            enclaves: self.enclaves,
            tcb_status: self.tcb_status.unwrap_or_else(|| TdxPolicy::default().tcb_status),
            advisories: match any {
                true => Advisories::Any,
                false => Advisories::Only(self.advisories),
            },
            grace,
            max_collateral_age: self.max_collateral_age.map(|age| age.0),
            min_evaluation_number: self.min_evaluation_number,
            mrtd: listed("tdx.mrtd", self.mrtd)?,
            platforms: self.platforms.map(|ids| listed("tdx.platforms", ids)).transpose()?,
        })
    }
}

fn listed<const N: usize>(
    key: &str,
    listed: BTreeSet<String>,
) -> Result<BTreeSet<[u8; N]>, ConfidentialError> {
    let parsed = listed.iter().map(|text| {
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        let expected = N.saturating_mul(2);
        bytes.ok_or_else(|| {
            ConfidentialError(format!("`{key}`: `{text}`, {expected} hex digits expected"))
        })
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_said_is_as_strict_as_can_be() {
        let policy = Confidential::parse("").unwrap();
        assert_eq!(policy.tdx, TdxPolicy::default());
        assert!(!policy.snp.allow_debug && !policy.nitro.allow_debug);
    }

    #[test]
    fn the_tables_as_the_reference_shows_them_are_the_defaults() {
        let page = include_str!("../../docs/reference/server.md");
        let tables = page.split("# a table of policy.toml\n").nth(1).unwrap();
        let shown = Confidential::parse(tables.split("```").next().unwrap()).unwrap();
        assert_eq!(shown, Confidential::default());
    }

    #[test]
    fn each_table_widens_its_own_kind_and_a_typo_is_named() {
        let text = "[tdx]\ntcb_status = [\"UpToDate\", \"SWHardeningNeeded\"]\n\
                    platform_grace = \"30d\"\n[snp]\nallow_debug = true\n";
        let policy = Confidential::parse(text).unwrap();
        assert!(policy.tdx.tcb_status.contains(&TcbStatus::SwHardeningNeeded));
        assert!(policy.snp.allow_debug && !policy.nitro.allow_debug);
        let whole = format!("tpm_class = [\"vtpm\"]\nrequire_link = false\n{text}");
        assert_eq!(Confidential::parse(&whole).unwrap(), policy, "a server's own file");
        let told = Confidential::parse("[tdx]\ndebgu = true\n").unwrap_err().to_string();
        assert!(told.contains("debgu") && told.contains("line 2"), "{told}");
        for text in [
            "[tdx]\ncollateral_grace = \"1d\"\nplatform_grace = \"1d\"\n",
            "[tdx]\nplatforms = [\"00\"]\n",
            "[tdx]\nmrtd = [\"00\"]\n",
            "[tdx]\ntcb_status = [\"Fine\"]\n",
        ] {
            assert!(Confidential::parse(text).is_err(), "{text}");
        }
    }
}
