//! What a verified quote establishes; nothing in it was not covered by a checked signature.
//!
//! Names and forms are those of the JSON that the command line prints. Claims can be written out
//! and never read in: the only way to have some is to verify evidence.
//!
//! ```compile_fail,E0451
//! fn forge(genuine: assay_tdx::Claims) -> assay_tdx::Claims {
//!     assay_tdx::Claims { debug: false, ..genuine }
//! }
//! ```

use std::collections::BTreeSet;

use assay_evidence::Time;
use assay_evidence::crypto;
use serde::Serialize;
use serde::Serializer;

use crate::collateral::Standing;
use crate::collateral::TcbStatus;
use crate::endorsement::PckFacts;
use crate::endorsement::Root;
use crate::quote::Body;
use crate::quote::EnclaveReport;
use crate::quote::Quote;
use crate::quote::TdAttributes;
use crate::verify::Expected;
use crate::verify::Platform;
use crate::verify::module_id;

/// Byte strings are lower-case hex, times RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    version: u16,
    body_type: u16,
    /// SHA-256 of the signed bytes: header and body.
    #[serde(skip)]
    evidence_id: [u8; 32],

    // --- the trust domain ---
    debug: bool,
    sept_ve_disable: bool,
    migratable: bool,
    service_td: bool,
    pks: bool,
    key_locker: bool,
    perfmon: bool,
    td_attr: TdAttributes,
    /// Attribute bits without a published meaning.
    td_attr_unknown: TdAttributes,
    xfam: Hex<8>,
    mrtd: Hex<48>,
    mrconfigid: Hex<48>,
    mrowner: Hex<48>,
    mrownerconfig: Hex<48>,
    rtmr0: Hex<48>,
    rtmr1: Hex<48>,
    rtmr2: Hex<48>,
    rtmr3: Hex<48>,
    report_data: Hex<64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mrservicetd: Option<Hex<48>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    td_id: Option<Hex<32>>,

    // --- the TDX module ---
    /// Major version of the module that launched the TD, as TCB infos name it, and its SVN.
    tdx_module: String,
    tdx_module_svn: u8,
    tee_tcb_svn: Hex<16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tee_tcb_svn2: Option<Hex<16>>,
    mrseam: Hex<48>,
    mrsignerseam: Hex<48>,
    seam_attr: Hex<8>,

    // --- the platform ---
    fmspc: Hex<6>,
    pce_id: Hex<2>,
    pcesvn: u16,
    cpu_svn: Hex<16>,
    ppid: Hex<16>,
    piid: Option<Hex<16>>,
    sgx_type: crate::endorsement::SgxType,
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
    #[serde(skip)]
    not_checked: Vec<&'static str>,
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

impl Claims {
    pub(crate) fn new(
        quote: &Quote<'_>,
        qe_report: &EnclaveReport,
        platform: &Platform,
        endorsed: Option<Endorsed>,
        expected: &Expected<'_>,
    ) -> Claims {
        let body: &Body = quote.body();
        let facts: &PckFacts = platform.facts();
        let attributes = body.td_attributes;
        let [rtmr0, rtmr1, rtmr2, rtmr3] = body.rtmr.map(Hex);
        let [minor, ..] = body.tee_tcb_svn;
        let (pck_not_before, pck_not_after) = platform.dates();
        let mut not_checked = Vec::new();
        if endorsed.is_none() {
            not_checked.extend(WITHOUT_COLLATERAL);
        }
        if expected.report_data.is_none() {
            not_checked.push("report-data: none expected");
        }
        Claims {
            version: quote.version(),
            body_type: quote.body_type(),
            evidence_id: crypto::sha256(quote.signed()),
            debug: attributes.debug(),
            sept_ve_disable: attributes.sept_ve_disable(),
            migratable: attributes.migratable(),
            service_td: body.has_service_td(),
            pks: attributes.pks(),
            key_locker: attributes.key_locker(),
            perfmon: attributes.perfmon(),
            td_attr: attributes,
            td_attr_unknown: TdAttributes(attributes.unknown()),
            xfam: Hex(body.xfam),
            mrtd: Hex(body.mrtd),
            mrconfigid: Hex(body.mrconfigid),
            mrowner: Hex(body.mrowner),
            mrownerconfig: Hex(body.mrownerconfig),
            rtmr0,
            rtmr1,
            rtmr2,
            rtmr3,
            report_data: Hex(body.report_data),
            mrservicetd: body.preserved.map(|td| Hex(td.mrservicetd)),
            td_id: body.extended.map(|td| Hex(td.td_id)),
            tdx_module: module_id(&body.tee_tcb_svn),
            tdx_module_svn: minor,
            tee_tcb_svn: Hex(body.tee_tcb_svn),
            tee_tcb_svn2: body.preserved.map(|td| Hex(td.tee_tcb_svn2)),
            mrseam: Hex(body.mrseam),
            mrsignerseam: Hex(body.mrsignerseam),
            seam_attr: Hex(body.seam_attributes),
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
            not_checked,
        }
    }

    pub fn version(&self) -> u16 {
        self.version
    }

    /// SHA-256 of header and body as they were signed: the same for every copy of this evidence,
    /// whatever its padding.
    pub fn evidence_id(&self) -> &[u8; 32] {
        &self.evidence_id
    }

    pub fn td_attributes(&self) -> TdAttributes {
        self.td_attr
    }

    pub fn has_service_td(&self) -> bool {
        self.service_td
    }

    pub fn mrtd(&self) -> &[u8; 48] {
        &self.mrtd.0
    }

    /// RTMR 0 to 3.
    pub fn rtmrs(&self) -> [&[u8; 48]; 4] {
        [&self.rtmr0.0, &self.rtmr1.0, &self.rtmr2.0, &self.rtmr3.0]
    }

    pub fn mrconfigid(&self) -> &[u8; 48] {
        &self.mrconfigid.0
    }

    pub fn mrowner(&self) -> &[u8; 48] {
        &self.mrowner.0
    }

    pub fn mrownerconfig(&self) -> &[u8; 48] {
        &self.mrownerconfig.0
    }

    pub fn report_data(&self) -> &[u8; 64] {
        &self.report_data.0
    }

    pub fn mrsignerseam(&self) -> &[u8; 48] {
        &self.mrsignerseam.0
    }

    pub fn seam_attributes(&self) -> &[u8; 8] {
        &self.seam_attr.0
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

    /// Checks that could not be made with what was given, each with its reason.
    pub fn not_checked(&self) -> &[&'static str] {
        &self.not_checked
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hex<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

const WITHOUT_COLLATERAL: [&str; 3] = [
    "revocation: no collateral given",
    "qe-identity: no collateral given",
    "tcb: no collateral given",
];
