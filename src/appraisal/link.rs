//! How a confidential machine's report and its TPM hold together; every such link is made here.
//!
//! Each of the two can be genuine and of another machine than the other. A link is that the report
//! names the TPM's attestation key:
//!
//! | edge | what the report says | names the AK |
//! |---|---|---|
//! | `report-data` | the binding of this exchange, with the Name of the AK in it | yes |
//! | `ak-in-var-data` | the hash of a text with the key that certified the AK (Azure) | yes |
//! | `nonce-only` | the binding without the AK: as fresh, and of whichever machine | no |
//! | `none` | something else | no |
//!
//! The processor signs whatever report data its guest asks for. So a link says that a genuine guest
//! vouches for the key, and no more: what that is worth depends on what was launched in that guest,
//! which is judged beside (`appraisal/tee.rs`). A missing edge is told, never implied.

use assay_evidence::BindingInput;
use assay_evidence::PublicKey;
use assay_evidence::crypto;
use assay_hcl::Bound;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeStruct;

use crate::envelope::TeeClaims;

/// What a report says of the TPM's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    ReportData,
    AkInVarData,
    NonceOnly,
    None,
}

/// Verified claims of a processor, and how they hold together with the rest of the evidence. A link
/// is found, not said:
/// ```compile_fail,E0451
/// # fn forge(genuine: assay::appraisal::Link) -> assay::appraisal::Link {
/// assay::appraisal::Link { edge: assay::appraisal::Edge::ReportData, ..genuine }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Link {
    edge: Edge,
    claims: TeeClaims,
}

impl Edge {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReportData => "report-data",
            Self::AkInVarData => "ak-in-var-data",
            Self::NonceOnly => "nonce-only",
            Self::None => "none",
        }
    }

    /// The guest that asked for the report vouches for the TPM's key.
    pub const fn names_the_ak(self) -> bool {
        matches!(self, Self::ReportData | Self::AkInVarData)
    }
}

/// What a report has to say to be of this exchange: its binding; or, where the report says that,
/// the same without the AK. Whatever else it says, it is not of this exchange.
pub fn expected_report_data(binding: &BindingInput, found: Option<&[u8; 64]>) -> [u8; 64] {
    let unlinked = without_ak(binding);
    match found {
        Some(found) if *found == unlinked => unlinked,
        _ => *binding.binding().report_data(),
    }
}

impl Link {
    /// Of a report that was asked for in this exchange.
    pub fn by_report_data(claims: TeeClaims, binding: &BindingInput) -> Self {
        let said = claims.report_data();
        let edge = if said == binding.binding().report_data() {
            Edge::ReportData
        } else if *said == without_ak(binding) {
            Edge::NonceOnly
        } else {
            Edge::None
        };
        Self { edge, claims }
    }

    /// Of the report in an Azure vTPM, which knows no nonce: the quote alone is fresh.
    ///
    /// `vouching` are SHA-256 of the SPKI of keys that vouched for this node's AK by certifying it.
    pub fn by_var_data(claims: TeeClaims, bound: &Bound, vouching: &[[u8; 32]]) -> Self {
        let covered = claims.report_data() == bound.report_data();
        let key: &PublicKey = bound.ak();
        let edge = match covered && vouching.contains(&crypto::sha256(&key.to_spki())) {
            true => Edge::AkInVarData,
            false => Edge::None,
        };
        Self { edge, claims }
    }

    pub fn edge(&self) -> Edge {
        self.edge
    }

    pub fn claims(&self) -> &TeeClaims {
        &self.claims
    }
}

fn without_ak(binding: &BindingInput) -> [u8; 64] {
    let unlinked = BindingInput { ak_name: None, ..binding.clone() };
    *unlinked.binding().report_data()
}

/// `kind`, `link`, `evidence_id`, `claims`.
impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut written = serializer.serialize_struct("Link", 4)?;
        written.serialize_field("kind", self.claims.kind())?;
        written.serialize_field("link", &self.edge)?;
        written.serialize_field("evidence_id", &hex::encode(self.claims.evidence_id()))?;
        written.serialize_field("claims", &self.claims)?;
        written.end()
    }
}
