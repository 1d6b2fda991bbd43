//! TCB info, version 3, for TDX or SGX: which SVNs a platform must have to count as up to date.
//!
//! Source: Intel PCS API v4, "Get TDX TCB Info" and "Get SGX TCB Info", and the matching steps
//! described there. Levels are put in order here, highest first, whatever order the text has.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use assay_evidence::Time;
use serde::Deserialize;
use serde::Serialize;

use crate::collateral::json;
use crate::collateral::json::Bounded;
use crate::collateral::json::Hex;
use crate::error::Error;
use crate::error::Place;

/// What kind of attester a document speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tee {
    Sgx,
    Tdx,
}

impl std::fmt::Display for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tee::Sgx => "SGX",
            Tee::Tdx => "TDX",
        })
    }
}

/// How a platform stands to what its vendor knows, at a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TcbStatus {
    UpToDate,
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    ConfigurationNeeded,
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// TD 1.5: launched out of date, running on a TCB that is not. No document says it.
    #[serde(rename = "TDRelaunchAdvised", skip_deserializing)]
    TdRelaunchAdvised,
    #[serde(rename = "TDRelaunchAdvisedConfigurationNeeded", skip_deserializing)]
    TdRelaunchAdvisedConfigurationNeeded,
    OutOfDate,
    OutOfDateConfigurationNeeded,
    Revoked,
    /// Below every level that is listed.
    #[serde(rename = "none", skip_deserializing)]
    NoLevel,
}

/// A status is three needs; two parts of a platform have the needs of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    update: bool,
    configuration: bool,
    hardening: bool,
}

impl TcbStatus {
    pub const fn name(self) -> &'static str {
        match self {
            TcbStatus::UpToDate => "UpToDate",
            TcbStatus::SwHardeningNeeded => "SWHardeningNeeded",
            TcbStatus::ConfigurationNeeded => "ConfigurationNeeded",
            TcbStatus::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            TcbStatus::TdRelaunchAdvised => "TDRelaunchAdvised",
            TcbStatus::TdRelaunchAdvisedConfigurationNeeded => {
                "TDRelaunchAdvisedConfigurationNeeded"
            }
            TcbStatus::OutOfDate => "OutOfDate",
            TcbStatus::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            TcbStatus::Revoked => "Revoked",
            TcbStatus::NoLevel => "none",
        }
    }

    pub const fn is_out_of_date(self) -> bool {
        matches!(self, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded)
    }

    /// The status of two parts together: that of the platform, of the TDX module, of the QE.
    pub(crate) fn join(self, other: TcbStatus) -> TcbStatus {
        match (self.needs(), other.needs()) {
            (Some(left), Some(right)) => TcbStatus::of(Needs {
                update: left.update || right.update,
                configuration: left.configuration || right.configuration,
                hardening: left.hardening || right.hardening,
            }),
            // No level is worse than a revoked one: nobody has said anything of it.
            _ => self.max(other),
        }
    }

    /// Of a TD whose TCB was changed under it: `self` at launch, `current` now.
    pub(crate) fn relaunched(self, current: TcbStatus) -> TcbStatus {
        match (self.needs(), current.needs()) {
            (Some(launch), Some(now)) if launch.update && !now.update => {
                match launch.configuration || now.configuration {
                    false => TcbStatus::TdRelaunchAdvised,
                    true => TcbStatus::TdRelaunchAdvisedConfigurationNeeded,
                }
            }
            _ => self.join(current),
        }
    }

    const fn needs(self) -> Option<Needs> {
        let (update, configuration, hardening) = match self {
            TcbStatus::UpToDate => (false, false, false),
            TcbStatus::SwHardeningNeeded => (false, false, true),
            TcbStatus::ConfigurationNeeded => (false, true, false),
            TcbStatus::ConfigurationAndSwHardeningNeeded => (false, true, true),
            TcbStatus::TdRelaunchAdvised | TcbStatus::OutOfDate => (true, false, false),
            TcbStatus::TdRelaunchAdvisedConfigurationNeeded
            | TcbStatus::OutOfDateConfigurationNeeded => (true, true, false),
            TcbStatus::Revoked | TcbStatus::NoLevel => return None,
        };
        Some(Needs { update, configuration, hardening })
    }

    /// Where an update is needed, hardening of the software is no longer spoken of.
    const fn of(needs: Needs) -> TcbStatus {
        match (needs.update, needs.configuration, needs.hardening) {
            (false, false, false) => TcbStatus::UpToDate,
            (false, false, true) => TcbStatus::SwHardeningNeeded,
            (false, true, false) => TcbStatus::ConfigurationNeeded,
            (false, true, true) => TcbStatus::ConfigurationAndSwHardeningNeeded,
            (true, false, _) => TcbStatus::OutOfDate,
            (true, true, _) => TcbStatus::OutOfDateConfigurationNeeded,
        }
    }
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The document, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbInfo {
    pub tee: Tee,
    pub issue_date: Time,
    pub next_update: Time,
    pub fmspc: [u8; 6],
    pub pce_id: [u8; 2],
    pub evaluation_number: u32,
    /// For TDX modules of major version 0; none for SGX.
    pub(crate) module: Option<ModuleSigner>,
    pub(crate) modules: Vec<Module>,
    pub(crate) levels: Vec<Level>,
}

/// Who may have signed a TDX module, and with which attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleSigner {
    pub mrsigner: [u8; 48],
    pub attributes: [u8; 8],
    pub attributes_mask: [u8; 8],
}

/// The TDX modules of one major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub id: String,
    pub signer: ModuleSigner,
    pub levels: Vec<SvnLevel>,
}

/// A level of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub sgx: [u8; 16],
    pub pcesvn: u16,
    /// Zeros for SGX.
    pub tdx: [u8; 16],
    pub standing: Standing,
}

/// A level of one enclave or module, which has one SVN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SvnLevel {
    pub isvsvn: u16,
    pub standing: Standing,
}

/// What the vendor says of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub status: TcbStatus,
    pub date: Option<Time>,
    pub advisories: BTreeSet<String>,
}

impl Standing {
    pub(crate) fn no_level() -> Standing {
        Standing { status: TcbStatus::NoLevel, date: None, advisories: BTreeSet::new() }
    }

    /// Of two parts together: as old as the older one, with the advisories of both.
    pub(crate) fn join(self, other: Standing) -> Standing {
        Standing { status: self.status.join(other.status), ..self.merge(other) }
    }

    pub(crate) fn relaunched(self, current: Standing) -> Standing {
        Standing { status: self.status.relaunched(current.status), ..self.merge(current) }
    }

    fn merge(mut self, mut other: Standing) -> Standing {
        self.advisories.append(&mut other.advisories);
        Standing { date: self.date.into_iter().chain(other.date).min(), ..self }
    }
}

impl TcbInfo {
    pub(super) fn parse(text: &str) -> Result<TcbInfo, Error> {
        let wire: Wire = json::parse(text.as_bytes(), Place::TcbInfo)?;
        let expect = |what, found: String, expected: &str| match found == expected {
            true => Ok(()),
            false => Err(Error::collateral(
                Place::TcbInfo,
                format!("{what} `{found}`, `{expected}` expected"),
            )),
        };
        let tee = match (wire.id.as_str(), &wire.tdx_module) {
            ("TDX", Some(_)) => Tee::Tdx,
            ("SGX", None) => Tee::Sgx,
            ("TDX" | "SGX", _) => {
                let cause = "`tdxModule` in TCB info of SGX, or none of TDX";
                return Err(Error::collateral(Place::TcbInfo, cause));
            }
            (other, _) => {
                let cause = format!("id `{other}`, `TDX` or `SGX` expected");
                return Err(Error::collateral(Place::TcbInfo, cause));
            }
        };
        let half = wire
            .tcb_levels
            .0
            .iter()
            .any(|level| level.tcb.tdxtcbcomponents.is_some() != (tee == Tee::Tdx));
        if half {
            let cause = "levels with `tdxtcbcomponents` for SGX, or without for TDX";
            return Err(Error::collateral(Place::TcbInfo, cause));
        }
        expect("version", wire.version.to_string(), "3")?;
        expect("tcbType", wire.tcb_type.to_string(), "0")?;
        let mut levels: Vec<Level> = wire.tcb_levels.0.into_iter().map(Level::from).collect();
        levels.sort_by_key(|level| Reverse((level.sgx, level.pcesvn, level.tdx)));
        Ok(TcbInfo {
            tee,
            issue_date: wire.issue_date,
            next_update: wire.next_update,
            fmspc: wire.fmspc.0,
            pce_id: wire.pce_id.0,
            evaluation_number: wire.tcb_evaluation_data_number,
            module: wire.tdx_module.map(ModuleSigner::from),
            modules: wire.tdx_module_identities.0.into_iter().map(Module::from).collect(),
            levels,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    version: u32,
    #[serde(deserialize_with = "json::utc")]
    issue_date: Time,
    #[serde(deserialize_with = "json::utc")]
    next_update: Time,
    fmspc: Hex<6>,
    pce_id: Hex<2>,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    tdx_module: Option<WireSigner>,
    #[serde(default)]
    tdx_module_identities: Bounded<WireModule, MAX_MODULES>,
    tcb_levels: Bounded<WireLevel, MAX_LEVELS>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSigner {
    mrsigner: Hex<48>,
    attributes: Hex<8>,
    attributes_mask: Hex<8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireModule {
    id: String,
    mrsigner: Hex<48>,
    attributes: Hex<8>,
    attributes_mask: Hex<8>,
    tcb_levels: Bounded<WireSvnLevel, MAX_LEVELS>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireLevel {
    tcb: WireTcb,
    #[serde(deserialize_with = "json::utc")]
    tcb_date: Time,
    tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisory_ids: Bounded<String, MAX_ADVISORIES>,
}

#[derive(Deserialize)]
struct WireTcb {
    sgxtcbcomponents: [WireComponent; 16],
    pcesvn: u16,
    tdxtcbcomponents: Option<[WireComponent; 16]>,
}

#[derive(Deserialize)]
struct WireComponent {
    svn: u8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireSvnLevel {
    tcb: WireSvn,
    #[serde(deserialize_with = "json::utc")]
    tcb_date: Time,
    tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    advisory_ids: Bounded<String, MAX_ADVISORIES>,
}

#[derive(Deserialize)]
struct WireSvn {
    isvsvn: u16,
}

impl From<WireSigner> for ModuleSigner {
    fn from(wire: WireSigner) -> ModuleSigner {
        ModuleSigner {
            mrsigner: wire.mrsigner.0,
            attributes: wire.attributes.0,
            attributes_mask: wire.attributes_mask.0,
        }
    }
}

impl From<WireModule> for Module {
    fn from(wire: WireModule) -> Module {
        Module {
            id: wire.id,
            signer: ModuleSigner {
                mrsigner: wire.mrsigner.0,
                attributes: wire.attributes.0,
                attributes_mask: wire.attributes_mask.0,
            },
            levels: svn_levels(wire.tcb_levels),
        }
    }
}

impl From<WireLevel> for Level {
    fn from(wire: WireLevel) -> Level {
        Level {
            sgx: wire.tcb.sgxtcbcomponents.map(|component| component.svn),
            pcesvn: wire.tcb.pcesvn,
            tdx: wire
                .tcb
                .tdxtcbcomponents
                .map_or([0; 16], |all| all.map(|component| component.svn)),
            standing: standing(wire.tcb_status, wire.tcb_date, wire.advisory_ids),
        }
    }
}

/// Highest first.
pub(super) fn svn_levels<const MAX: usize>(wire: Bounded<WireSvnLevel, MAX>) -> Vec<SvnLevel> {
    let mut levels: Vec<SvnLevel> = wire
        .0
        .into_iter()
        .map(|wire| SvnLevel {
            isvsvn: wire.tcb.isvsvn,
            standing: standing(wire.tcb_status, wire.tcb_date, wire.advisory_ids),
        })
        .collect();
    levels.sort_by_key(|level| Reverse(level.isvsvn));
    levels
}

fn standing<const MAX: usize>(
    status: TcbStatus,
    date: Time,
    advisories: Bounded<String, MAX>,
) -> Standing {
    Standing { status, date: Some(date), advisories: advisories.0.into_iter().collect() }
}

/// Four times what the largest document has.
pub(super) const MAX_LEVELS: usize = 128;
const MAX_MODULES: usize = 32;
const MAX_ADVISORIES: usize = 256;
