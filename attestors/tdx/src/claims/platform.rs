//! What a quote establishes of the platform that it was signed on, whoever asked for it.

use std::collections::BTreeSet;

use assay_evidence::Time;
use serde::Serialize;

use super::Hex;
use crate::collateral::Standing;
use crate::collateral::TcbStatus;
use crate::endorsement::PckFacts;
use crate::endorsement::Root;
use crate::endorsement::SgxType;
use crate::verify::Expected;
use crate::verify::Ground;

#[derive(Clone, Debug, Serialize)]
pub struct PlatformClaims {
    fmspc: Hex<6>,
    pce_id: Hex<2>,
    pcesvn: u16,
    cpu_svn: Hex<16>,
    ppid: Hex<16>,
    piid: Option<Hex<16>>,
    sgx_type: SgxType,
    pck_issuer: String,
    pck_serial: String,
    pck_not_before: Time,
    pck_not_after: Time,
    qe_isv_svn: u16,
    root: Root,
    root_sha256: Hex<32>,

    // --- what the vendor says of it, at a date ---
    /// Absent without collateral.
    #[serde(flatten)]
    endorsed: Option<EndorsedClaims>,
    verified_at: Time,
}

#[derive(Clone, Debug, Serialize)]
struct EndorsedClaims {
    tcb_status: TcbStatus,
    /// Of the oldest level that was reached; nothing if none was.
    tcb_date: Option<Time>,
    advisories: BTreeSet<String>,
    tcb_evaluation_data_number: u32,
    qe_evaluation_data_number: u32,
    collateral_sha256: Hex<32>,
    tcb_info_issue_date: Time,
    tcb_info_next_update: Time,
    qe_identity_issue_date: Time,
    qe_identity_next_update: Time,
    /// When the first part of the collateral is due to be renewed.
    collateral_valid_until: Time,
}

/// What verified collateral gives to the claims.
pub(crate) struct Endorsed {
    pub standing: Standing,
    pub collateral_sha256: [u8; 32],
    pub tcb_info_issue_date: Time,
    pub tcb_info_next_update: Time,
    pub tcb_info_number: u32,
    pub qe_identity_issue_date: Time,
    pub qe_identity_next_update: Time,
    pub qe_identity_number: u32,
    pub valid_until: Time,
}

impl PlatformClaims {
    pub(super) fn new(ground: Ground, expected: &Expected<'_>) -> PlatformClaims {
        let Ground { qe_report, platform, endorsed } = ground;
        let facts: &PckFacts = platform.facts();
        let (pck_not_before, pck_not_after) = platform.dates();
        PlatformClaims {
            fmspc: Hex(facts.fmspc),
            pce_id: Hex(facts.pce_id),
            pcesvn: facts.pcesvn,
            cpu_svn: Hex(facts.sgx_svn),
            ppid: Hex(facts.ppid),
            piid: facts.piid.map(Hex),
            sgx_type: facts.sgx_type,
            pck_issuer: platform.issuer_name().to_owned(),
            pck_serial: hex::encode(platform.serial()),
            pck_not_before,
            pck_not_after,
            qe_isv_svn: qe_report.isv_svn,
            root: platform.root(),
            root_sha256: Hex(platform.root_sha256()),
            endorsed: endorsed.map(EndorsedClaims::from),
            verified_at: expected.now,
        }
    }

    pub fn fmspc(&self) -> &[u8; 6] {
        &self.fmspc.0
    }

    /// Of the platform instance: the handle by which a site lists its machines.
    pub fn piid(&self) -> Option<&[u8; 16]> {
        self.piid.as_ref().map(|piid| &piid.0)
    }

    pub fn root(&self) -> Root {
        self.root
    }

    /// Nothing without collateral; [`TcbStatus::NoLevel`] below every level.
    pub fn tcb_status(&self) -> Option<TcbStatus> {
        self.endorsed.as_ref().map(|endorsed| endorsed.tcb_status)
    }

    /// Whatever was known at this date is mended at the level that was reached.
    pub fn tcb_date(&self) -> Option<Time> {
        self.endorsed.as_ref().and_then(|endorsed| endorsed.tcb_date)
    }

    pub fn advisories(&self) -> impl Iterator<Item = &str> {
        self.endorsed.iter().flat_map(|endorsed| endorsed.advisories.iter().map(String::as_str))
    }

    /// The smaller one of TCB info and QE identity.
    pub fn evaluation_number(&self) -> Option<u32> {
        self.endorsed.as_ref().map(|endorsed| {
            endorsed.tcb_evaluation_data_number.min(endorsed.qe_evaluation_data_number)
        })
    }

    /// When the older one of TCB info and QE identity was issued.
    pub fn collateral_issued(&self) -> Option<Time> {
        self.endorsed
            .as_ref()
            .map(|endorsed| endorsed.tcb_info_issue_date.min(endorsed.qe_identity_issue_date))
    }

    pub fn collateral_valid_until(&self) -> Option<Time> {
        self.endorsed.as_ref().map(|endorsed| endorsed.collateral_valid_until)
    }

    pub fn verified_at(&self) -> Time {
        self.verified_at
    }
}

impl From<Endorsed> for EndorsedClaims {
    fn from(endorsed: Endorsed) -> EndorsedClaims {
        EndorsedClaims {
            tcb_status: endorsed.standing.status,
            tcb_date: endorsed.standing.date,
            advisories: endorsed.standing.advisories,
            tcb_evaluation_data_number: endorsed.tcb_info_number,
            qe_evaluation_data_number: endorsed.qe_identity_number,
            collateral_sha256: Hex(endorsed.collateral_sha256),
            tcb_info_issue_date: endorsed.tcb_info_issue_date,
            tcb_info_next_update: endorsed.tcb_info_next_update,
            qe_identity_issue_date: endorsed.qe_identity_issue_date,
            qe_identity_next_update: endorsed.qe_identity_next_update,
            collateral_valid_until: endorsed.valid_until,
        }
    }
}
