//! The identity of a quoting enclave: what a QE must be before its word counts.
//!
//! Source: Intel PCS API v4, "Get TDX QE Identity" (id `TD_QE`) and "Get SGX QE Identity" (id `QE`);
//! version 2.

use assay_evidence::Time;
use serde::Deserialize;

use crate::collateral::json;
use crate::collateral::json::Bounded;
use crate::collateral::json::Hex;
use crate::collateral::tcb_info::MAX_LEVELS;
use crate::collateral::tcb_info::SvnLevel;
use crate::collateral::tcb_info::Tee;
use crate::collateral::tcb_info::WireSvnLevel;
use crate::collateral::tcb_info::svn_levels;
use crate::error::Error;
use crate::error::Place;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QeIdentity {
    pub tee: Tee,
    pub issue_date: Time,
    pub next_update: Time,
    pub evaluation_number: u32,
    pub(crate) miscselect: [u8; 4],
    pub(crate) miscselect_mask: [u8; 4],
    pub(crate) attributes: [u8; 16],
    pub(crate) attributes_mask: [u8; 16],
    pub(crate) mrsigner: [u8; 32],
    pub(crate) isv_prod_id: u16,
    pub(crate) levels: Vec<SvnLevel>,
}

impl QeIdentity {
    pub(super) fn parse(text: &str) -> Result<QeIdentity, Error> {
        let wire: Wire = json::parse(text.as_bytes(), Place::QeIdentity)?;
        let tee = match (wire.id.as_str(), wire.version) {
            ("TD_QE", 2) => Tee::Tdx,
            ("QE", 2) => Tee::Sgx,
            (id, version) => {
                let cause = format!("`{id}` version {version}, `TD_QE` or `QE` version 2 expected");
                return Err(Error::collateral(Place::QeIdentity, cause));
            }
        };
        Ok(QeIdentity {
            tee,
            issue_date: wire.issue_date,
            next_update: wire.next_update,
            evaluation_number: wire.tcb_evaluation_data_number,
            miscselect: wire.miscselect.0,
            miscselect_mask: wire.miscselect_mask.0,
            attributes: wire.attributes.0,
            attributes_mask: wire.attributes_mask.0,
            mrsigner: wire.mrsigner.0,
            isv_prod_id: wire.isvprodid,
            levels: svn_levels(wire.tcb_levels),
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
    tcb_evaluation_data_number: u32,
    miscselect: Hex<4>,
    miscselect_mask: Hex<4>,
    attributes: Hex<16>,
    attributes_mask: Hex<16>,
    mrsigner: Hex<32>,
    isvprodid: u16,
    tcb_levels: Bounded<WireSvnLevel, MAX_LEVELS>,
}
