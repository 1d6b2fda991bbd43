//! Where an issuing key lives, as proved when it was opened.

use serde::Deserialize;
use serde::Serialize;

use crate::appraisal::DangerPermit;

/// Custody classes, weakest first; the class of an SVID is the weakest on its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CustodyClass {
    Software,
    /// Attributes of a PKCS#11 module: a claim of the module.
    HwClaimed,
    /// Certified by an attestation key of the same TPM, verified by our own verifier.
    HwTpmCertified,
}

/// When the device lets the key be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    None,
    AtLoad,
    PerSign,
}

/// What `keys/` proved about an issuing key when it opened it.
#[derive(Debug, Clone, Serialize)]
pub struct CustodyProof {
    class: CustodyClass,
    gate: Gate,
    /// SPKI SHA-256 of the key the proof is about.
    #[serde(with = "hex::serde")]
    spki_sha256: [u8; 32],
    /// Content addresses of the evidence the proof rests on.
    evidence: Vec<String>,
}

impl CustodyProof {
    /// A key whose TPM2_Certify by an activated AK of the server's own TPM our verifier accepted
    /// ; only `keys/` calls it, with the certified key that came out.
    pub(crate) fn certified(certified: &assay_tpm::CertifiedKey, evidence: Vec<String>) -> Self {
        Self {
            class: CustodyClass::HwTpmCertified,
            gate: Gate::None,
            spki_sha256: *certified.spki_sha256(),
            evidence,
        }
    }

    /// A key in the memory of this process.
    pub fn software(spki_sha256: [u8; 32], _permit: &DangerPermit) -> Self {
        Self { class: CustodyClass::Software, gate: Gate::None, spki_sha256, evidence: Vec::new() }
    }

    pub fn class(&self) -> CustodyClass {
        self.class
    }

    pub fn gate(&self) -> Gate {
        self.gate
    }

    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }

    pub fn evidence(&self) -> &[String] {
        &self.evidence
    }
}

impl std::fmt::Display for CustodyClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Software => "software",
            Self::HwClaimed => "hw_claimed",
            Self::HwTpmCertified => "hw_tpm_certified",
        })
    }
}
