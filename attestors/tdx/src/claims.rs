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

use std::ops::Deref;

use assay_evidence::crypto;
use serde::Serialize;
use serde::Serializer;

use crate::quote::Body;
use crate::quote::Quote;
use crate::quote::TdAttributes;
use crate::verify::Expected;
use crate::verify::Ground;
use crate::verify::module_id;

mod enclave;
mod platform;

pub use enclave::EnclaveClaims;
pub(crate) use platform::Endorsed;
pub use platform::PlatformClaims;

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

    #[serde(flatten)]
    platform: PlatformClaims,
    #[serde(skip)]
    not_checked: Vec<&'static str>,
}

impl Claims {
    pub(crate) fn new(quote: &Quote<'_>, ground: Ground, expected: &Expected<'_>) -> Claims {
        let body: &Body = quote.body();
        let attributes = body.td_attributes;
        let [rtmr0, rtmr1, rtmr2, rtmr3] = body.rtmr.map(Hex);
        let [minor, ..] = body.tee_tcb_svn;
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
            not_checked: gaps(&ground, expected),
            platform: PlatformClaims::new(ground, expected),
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

    /// Checks that could not be made with what was given, each with its reason.
    pub fn not_checked(&self) -> &[&'static str] {
        &self.not_checked
    }
}

/// What is said of a TD's platform is said of the TD.
impl Deref for Claims {
    type Target = PlatformClaims;

    fn deref(&self) -> &PlatformClaims {
        &self.platform
    }
}

/// What could not be asked with what was given.
fn gaps(ground: &Ground, expected: &Expected<'_>) -> Vec<&'static str> {
    let mut gaps = Vec::new();
    if ground.endorsed.is_none() {
        gaps.extend(WITHOUT_COLLATERAL);
    }
    if expected.report_data.is_none() {
        gaps.push("report-data: none expected");
    }
    gaps
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
