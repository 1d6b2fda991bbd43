//! What the verified quote of an SGX enclave establishes.
//!
//! An enclave is a part of a process, not a machine. Its quote is signed on the same platforms by
//! the same kind of key, so it is verified here; the claims have a type of their own, and whatever
//! asks for a trust domain cannot be given an enclave.

use std::ops::Deref;

use assay_evidence::crypto;
use serde::Serialize;

use super::Hex;
use super::PlatformClaims;
use super::gaps;
use crate::collateral::Tee;
use crate::quote::EnclaveQuote;
use crate::verify::Expected;
use crate::verify::Ground;

/// Byte strings are lower-case hex, times RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct EnclaveClaims {
    version: u16,
    tee: Tee,
    #[serde(skip)]
    evidence_id: [u8; 32],
    debug: bool,
    attributes: Hex<16>,
    miscselect: Hex<4>,
    mrenclave: Hex<32>,
    mrsigner: Hex<32>,
    isv_prod_id: u16,
    isv_svn: u16,
    report_data: Hex<64>,
    #[serde(flatten)]
    platform: PlatformClaims,
    #[serde(skip)]
    not_checked: Vec<&'static str>,
}

impl EnclaveClaims {
    pub(crate) fn new(
        quote: &EnclaveQuote<'_>,
        ground: Ground,
        expected: &Expected<'_>,
    ) -> EnclaveClaims {
        let report = quote.report();
        EnclaveClaims {
            version: 3,
            tee: Tee::Sgx,
            evidence_id: crypto::sha256(quote.certified().signed()),
            debug: report.debug(),
            attributes: Hex(report.attributes),
            miscselect: Hex(report.miscselect),
            mrenclave: Hex(report.mrenclave),
            mrsigner: Hex(report.mrsigner),
            isv_prod_id: report.isv_prod_id,
            isv_svn: report.isv_svn,
            report_data: Hex(report.report_data),
            not_checked: gaps(&ground, expected),
            platform: PlatformClaims::new(ground, expected),
        }
    }

    /// SHA-256 of header and body as they were signed.
    pub fn evidence_id(&self) -> &[u8; 32] {
        &self.evidence_id
    }

    /// The enclave's memory can be read.
    pub fn debug(&self) -> bool {
        self.debug
    }

    /// Checks that could not be made with what was given, each with its reason.
    pub fn not_checked(&self) -> &[&'static str] {
        &self.not_checked
    }
}

impl Deref for EnclaveClaims {
    type Target = PlatformClaims;

    fn deref(&self) -> &PlatformClaims {
        &self.platform
    }
}
