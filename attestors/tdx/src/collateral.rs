//! What Intel says of its platforms at a date: TCB levels, the quoting enclave's identity, two
//! revocation lists, and the chains of those who signed them.
//!
//! One bundle is one JSON object with the field names of the `dcap-qvl` crate. The signed texts
//! inside are kept byte for byte: a signature covers these bytes and no other spelling of them.
//! The wrapper itself is signed by nobody, so it decides nothing.
//!
//! [`Collateral`] has been read, [`VerifiedCollateral`] has been believed: chains, signatures and
//! revocation lists hold. Dates are asked again at each use, because time goes on.

use assay_evidence::Certificate;
use assay_evidence::crypto;
use serde::Deserialize;

use crate::error::Error;
use crate::error::Place;
use crate::pem;

mod cache;
mod identity;
mod json;
mod tcb_info;
mod verified;

pub use cache::CollateralCache;
pub(crate) use cache::Recent;
pub use identity::QeIdentity;
pub(crate) use tcb_info::Level;
pub(crate) use tcb_info::ModuleSigner;
pub(crate) use tcb_info::Standing;
pub(crate) use tcb_info::SvnLevel;
pub use tcb_info::TcbInfo;
pub use tcb_info::TcbStatus;
pub use tcb_info::Tee;
pub use verified::VerifiedCollateral;

/// A bundle that has been read; nothing in it is believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collateral {
    sha256: [u8; 32],
    tcb_info_chain: Vec<Certificate>,
    tcb_info_text: String,
    tcb_info: TcbInfo,
    tcb_info_signature: Vec<u8>,
    qe_identity_chain: Vec<Certificate>,
    qe_identity_text: String,
    qe_identity: QeIdentity,
    qe_identity_signature: Vec<u8>,
    pck_crl_chain: Vec<Certificate>,
    root_ca_crl: Vec<u8>,
    pck_crl: Vec<u8>,
    pck_chain: Option<Vec<Certificate>>,
}

impl Collateral {
    /// Reads a bundle. A key that stands twice in any object is malformed: two readers could
    /// believe two different things.
    pub fn parse(json: &[u8]) -> Result<Collateral, Error> {
        if json.len() > MAX_COLLATERAL {
            return Err(Error::CollateralTooLarge { found: json.len(), max: MAX_COLLATERAL });
        }
        let wire: Wire = json::parse(json, Place::Bundle)?;
        let chain = |text: &str, place: Place| {
            pem::certificates(text.as_bytes(), pem::Form::Collateral)
                .map_err(|fault| Error::CollateralPem { place, fault })
        };
        let bytes = |text: &str, place: Place| {
            hex::decode(text).map_err(|fault| Error::collateral(place, fault))
        };
        Ok(Collateral {
            sha256: crypto::sha256(json),
            tcb_info_chain: chain(&wire.tcb_info_issuer_chain, Place::TcbInfoChain)?,
            tcb_info: TcbInfo::parse(&wire.tcb_info)?,
            tcb_info_text: wire.tcb_info,
            tcb_info_signature: bytes(&wire.tcb_info_signature, Place::TcbInfoSignature)?,
            qe_identity_chain: chain(&wire.qe_identity_issuer_chain, Place::QeIdentityChain)?,
            qe_identity: QeIdentity::parse(&wire.qe_identity)?,
            qe_identity_text: wire.qe_identity,
            qe_identity_signature: bytes(&wire.qe_identity_signature, Place::QeIdentitySignature)?,
            pck_crl_chain: chain(&wire.pck_crl_issuer_chain, Place::PckCrlChain)?,
            root_ca_crl: bytes(&wire.root_ca_crl, Place::RootCrl)?,
            pck_crl: bytes(&wire.pck_crl, Place::PckCrl)?,
            pck_chain: wire
                .pck_certificate_chain
                .map(|text| chain(&text, Place::PckChain))
                .transpose()?,
        })
    }

    /// SHA-256 of the bundle as it was read.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    pub fn untrusted_tcb_info(&self) -> &TcbInfo {
        &self.tcb_info
    }

    pub fn untrusted_qe_identity(&self) -> &QeIdentity {
        &self.qe_identity
    }
}

/// The bundle as JSON. Fields that are not known here are of no consequence.
#[derive(Deserialize)]
struct Wire {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
    /// Only in bundles that were fetched for one platform.
    #[serde(default)]
    pck_certificate_chain: Option<String>,
}

/// Forty times the largest known bundle, for revocation lists grow; a promise of
/// docs/reference/limits.md.
pub const MAX_COLLATERAL: usize = 1024 * 1024;
