//! What verified TPM evidence establishes; nothing in it was not covered by a checked signature.
//!
//! Claims can be written out and never read in: the only way to have some is to verify evidence.
//!
//! ```compile_fail,E0451
//! fn forge(genuine: assay_tpm::Claims) -> assay_tpm::Claims {
//!     assay_tpm::Claims { registers: Default::default(), ..genuine }
//! }
//! ```
//!
//! ```compile_fail,E0451
//! fn forge(genuine: assay_tpm::Certification) -> assay_tpm::Certification {
//!     assay_tpm::Certification { not_checked: Vec::new(), ..genuine }
//! }
//! ```

use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use serde::Serialize;

use crate::ak::ProvedKey;
use crate::ak::Trust;
use crate::certified::CertifiedKey;
use crate::certified::FirmwareVersion;
use crate::structures::attest::ClockInfo;
use crate::structures::name::Name;
use crate::structures::selection::Selections;

#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    pub(crate) ak: AkClaims,
    pub(crate) clock: ClockInfo,
    pub(crate) firmware_version: FirmwareVersion,
    pub(crate) selection: Selections,
    #[serde(serialize_with = "in_hex")]
    pub(crate) pcr_digest: Vec<u8>,
    pub(crate) registers: Registers,
    pub(crate) banks_off: Vec<HashAlgorithm>,
    pub(crate) certified_key: Option<CertifiedKey>,
    pub(crate) signature_hash: HashAlgorithm,
    pub(crate) not_checked: Vec<&'static str>,
    pub(crate) warnings: Vec<Finding>,
}

/// The key that signed, and why it is believed.
#[derive(Clone, Debug, Serialize)]
pub struct AkClaims {
    pub(crate) name: Option<Name>,
    pub(crate) trust: Trust,
    /// Of the root below which a certificate names the key.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "root_in_hex")]
    pub(crate) root_sha256: Option<[u8; 32]>,
}

/// What one verified certification establishes by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Certification {
    pub(crate) ak: AkClaims,
    pub(crate) certified_key: CertifiedKey,
    pub(crate) signature_hash: HashAlgorithm,
    pub(crate) not_checked: Vec<&'static str>,
    pub(crate) warnings: Vec<Finding>,
}

impl AkClaims {
    pub(crate) fn of(key: &ProvedKey) -> AkClaims {
        AkClaims {
            name: key.name(),
            trust: key.trust(),
            root_sha256: key.certificate().map(|certificate| *certificate.root_sha256()),
        }
    }
}

impl Certification {
    pub fn certified_key(&self) -> &CertifiedKey {
        &self.certified_key
    }

    pub fn into_certified_key(self) -> CertifiedKey {
        self.certified_key
    }

    /// Nothing where only the bare key was given.
    pub fn ak_name(&self) -> Option<Name> {
        self.ak.name
    }

    pub fn ak_trust(&self) -> Trust {
        self.ak.trust
    }

    pub fn signature_hash(&self) -> HashAlgorithm {
        self.signature_hash
    }

    /// Checks that could not be made with what was given, each with its reason.
    pub fn not_checked(&self) -> &[&'static str] {
        &self.not_checked
    }

    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }
}

impl Claims {
    /// Nothing where only the bare key was given.
    pub fn ak_name(&self) -> Option<Name> {
        self.ak.name
    }

    pub fn ak_trust(&self) -> Trust {
        self.ak.trust
    }

    pub fn clock(&self) -> ClockInfo {
        self.clock
    }

    pub fn firmware_version(&self) -> u64 {
        self.firmware_version.0
    }

    /// The selection as it was signed.
    pub fn selection(&self) -> &Selections {
        &self.selection
    }

    /// Values that hash to the signed digest, every bank of them; empty where none were given.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// Banks that the TPM proved not to have allocated.
    pub fn banks_off(&self) -> &[HashAlgorithm] {
        &self.banks_off
    }

    pub fn certified_key(&self) -> Option<&CertifiedKey> {
        self.certified_key.as_ref()
    }

    pub fn signature_hash(&self) -> HashAlgorithm {
        self.signature_hash
    }

    /// Checks that could not be made with what was given, each with its reason.
    pub fn not_checked(&self) -> &[&'static str] {
        &self.not_checked
    }

    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }
}

fn in_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn root_in_hex<S: serde::Serializer>(
    digest: &Option<[u8; 32]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    digest.map(hex::encode).serialize(serializer)
}
