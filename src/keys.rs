//! Custody of the keys that sign identities.
//!
//! A server has two: one signs certificates, one signs tokens; both are P-256. They live in the
//! server's own TPM, which is proved at each start by our own verifier, or, where a `danger_`
//! switch of the configuration says so, in the memory of the process. An [`IssuingKey`] signs what
//! the store has recorded and nothing else: its one door takes a `Recorded`, by value.
//!
//! It deliberately knows neither certificates nor tokens, and never moves from hardware to
//! software by itself: a device that is slow or away is an error that says so.

mod capacity;
mod folder;
mod queue;
mod signature;
mod software;
#[cfg(feature = "tpm")]
mod tpm;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::crypto;
use assay_evidence::crypto::Random;
use assay_evidence::crypto::SignatureScheme;

use crate::appraisal::CustodyProof;
use crate::appraisal::DangerPermit;
use crate::clock::Clock;
use crate::keys::folder::Folder;
use crate::keys::queue::Queue;
use crate::spiffe::TrustDomain;
use crate::store::Recorded;

pub use capacity::Capacity;
pub use folder::FolderError;
pub use queue::Urgency;
pub use signature::Signature;
#[cfg(feature = "tpm")]
pub use tpm::TpmConfig;
#[cfg(feature = "tpm")]
pub use tpm::TpmKeysError;

/// Where the issuing keys live.
#[derive(Debug, Clone)]
pub enum KeysConfig {
    #[cfg(feature = "tpm")]
    Tpm(TpmConfig),
    /// In the memory of the process, and in a file beside it.
    Software(DangerPermit),
}

/// The two keys of a server.
#[derive(Debug, Clone)]
pub struct IssuingKeys {
    pub x509: IssuingKey,
    pub jwt: IssuingKey,
    /// What the custody proofs rest on, to be kept with the records.
    pub evidence: Vec<CustodyEvidence>,
}

/// One item that a custody proof rests on; the proof names it by its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustodyEvidence {
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyName {
    X509,
    Jwt,
}

/// A key that signs what was recorded.
#[derive(Clone)]
pub struct IssuingKey(Arc<Inner>);

struct Inner {
    name: KeyName,
    public: PublicKey,
    spki_der: Vec<u8>,
    custody: CustodyProof,
    queue: Arc<Queue>,
}

/// Something that was recorded and can be signed.
pub trait ToSign {
    /// The exact bytes; their hash is in the record.
    fn to_sign(&self) -> &[u8];
    fn urgency(&self) -> Urgency;
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    #[error("issuing keys in memory need `{SOFTWARE_SWITCH} = true`")]
    SwitchOff,
    #[error("the folder of the issuing keys cannot be used")]
    Folder(#[from] FolderError),
    #[error("`{0}` does not hold a key")]
    KeyFile(String),
    #[error("no random bytes to be had")]
    Random,
    #[error("the thread of the issuing keys cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("the device that signs has more waiting than it can do in time")]
    Busy { retry_after: Duration },
    #[error("the signature did not come in time")]
    Late,
    #[error("the issuing keys are closed")]
    Closed,
    #[error("the device answered with something that is no signature of its key")]
    Faulty,
    #[cfg(feature = "tpm")]
    #[error("the issuing keys are not where they should be")]
    Tpm(#[from] TpmKeysError),
}

impl KeysError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::SwitchOff => Reason::DangerSwitchOff,
            Self::Busy { .. } => Reason::OverLimit,
            #[cfg(feature = "tpm")]
            Self::Tpm(error) => error.reason(),
            _ => Reason::DeviceUnavailable,
        }
    }

    /// After what time it may go better.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

/// Opens the issuing keys of `trust_domain`, or makes them where there are none, and proves where
/// they live. Blocks, on a discrete TPM for seconds.
pub fn open(
    config: &KeysConfig,
    state_folder: &Path,
    trust_domain: &TrustDomain,
    clock: &Clock,
    random: &mut dyn Random,
) -> Result<IssuingKeys, KeysError> {
    let folder = Folder::open(&state_folder.join("keys"))?;
    match config {
        #[cfg(feature = "tpm")]
        KeysConfig::Tpm(config) => tpm::open(config, &folder, trust_domain, clock.now(), random),
        KeysConfig::Software(permit) => {
            let _ = (trust_domain, clock, random);
            software::open(permit, &folder)
        }
    }
}

impl KeysConfig {
    /// Keys in memory, where the configuration's `danger_software_keys` is on.
    pub fn software(danger_software_keys: bool) -> Result<Self, KeysError> {
        DangerPermit::from_switch(SOFTWARE_SWITCH, danger_software_keys)
            .map(Self::Software)
            .ok_or(KeysError::SwitchOff)
    }
}

impl IssuingKey {
    fn new(name: KeyName, public: PublicKey, custody: CustodyProof, queue: Arc<Queue>) -> Self {
        let spki_der = public.to_spki();
        Self(Arc::new(Inner { name, public, spki_der, custody, queue }))
    }

    pub fn name(&self) -> KeyName {
        self.0.name
    }

    pub fn public(&self) -> &PublicKey {
        &self.0.public
    }

    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki_der
    }

    pub fn spki_sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.0.spki_der)
    }

    pub fn custody(&self) -> &CustodyProof {
        &self.0.custody
    }

    /// Of the device, which both keys share.
    pub fn capacity(&self) -> Capacity {
        self.0.queue.capacity()
    }

    /// Signs what was recorded, at most `within` from now. The token is spent whatever comes of
    /// it: another try needs another record.
    pub async fn sign<I: ToSign>(
        &self,
        recorded: Recorded<I>,
        within: Duration,
    ) -> Result<(I, Signature), KeysError> {
        let intent = recorded.into_intent();
        let message = intent.to_sign().to_vec();
        let der = self.0.queue.sign(self.0.name, message, intent.urgency(), within).await?;
        // A device that errs, or was made to, must not have its answer published: faulty ECDSA
        // signatures can give the key away.
        let scheme = SignatureScheme::EcdsaDer(HashAlgorithm::Sha256);
        crypto::verify_signature(scheme, &self.0.public, intent.to_sign(), &der)
            .map_err(|_| KeysError::Faulty)?;
        let signature = Signature::from_der(&der).ok_or(KeysError::Faulty)?;
        Ok((intent, signature))
    }
}

impl KeyName {
    pub const ALL: [Self; 2] = [Self::X509, Self::Jwt];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
        }
    }
}

impl fmt::Debug for IssuingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = hex::encode(self.spki_sha256());
        write!(f, "IssuingKey({} {id} {})", self.0.name.as_str(), self.0.custody.class())
    }
}

const SOFTWARE_SWITCH: &str = "danger_software_keys";

#[cfg(test)]
mod tests;
