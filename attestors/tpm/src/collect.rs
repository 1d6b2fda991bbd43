//! Collects evidence from a TPM, and signs with keys that never leave it. The only part of this
//! crate that talks to a device and links libtss2.
//!
//! [`Device`] is a cheap handle; behind it one thread owns the TPM. Calls block, so async callers
//! wrap them. What comes out are the bytes that the TPM signed, for [`verify`](crate::verify) on
//! the other side; nothing is judged here.
//!
//! libtss2 complains on standard error even of failures that are expected. Only the environment
//! silences it, before the process starts: `TSS2_LOG=all+none`. (Setting it from within is unsafe
//! in Rust, and unsafe code is forbidden here.)
//!
//! libtss2 opens the device without O_CLOEXEC, so a program that is started while a [`Device`] is
//! open inherits it (measured with 3.2.1). Start none from a process that holds one, or close all
//! but the standard descriptors in the child.
//!
//! Keys are authorised by password sessions: right for firmware and virtual TPMs. On a discrete
//! TPM somebody with a probe on the bus reads such passwords; salted sessions are not here yet.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::crypto::Random as _;
use assay_evidence::crypto::SystemRandom;
use zeroize::Zeroizing;

use crate::Hierarchy;
use crate::PcrSelection;

mod address;
mod connection;
mod endorsement;
mod error;
mod key;
mod logs;
mod owner;
mod signature;
mod statements;

pub use endorsement::EkCertificates;
pub use endorsement::EndorsementKey;
pub use error::Cause;
pub use error::Error;
pub use key::AkPurpose;
pub use key::DeviceKey;
pub use key::KeyBlob;
pub use logs::LogPaths;
pub use signature::EcdsaSignature;
pub use statements::Bank;
pub use statements::Quote;

/// How a TPM is used.
#[derive(Clone)]
pub struct Settings {
    /// For each call, waiting in line included.
    pub deadline: Duration,
    /// Of the hierarchies; empty on nearly all machines.
    pub endorsement_auth: Zeroizing<Vec<u8>>,
    pub owner_auth: Zeroizing<Vec<u8>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            deadline: Duration::from_secs(30),
            endorsement_auth: Zeroizing::default(),
            owner_auth: Zeroizing::default(),
        }
    }
}

/// A TPM that is open.
#[derive(Clone)]
pub struct Device {
    queue: Arc<owner::Queue>,
    address: address::Address,
}

impl Device {
    /// `device:/dev/tpmrm0`, or `swtpm:host=127.0.0.1,port=2321`.
    pub fn open(tcti: &str) -> Result<Device, Error> {
        Device::open_with(tcti, Settings::default())
    }

    pub fn open_with(tcti: &str, settings: Settings) -> Result<Device, Error> {
        let address = address::Address::parse(tcti)?;
        let queue = Arc::new(owner::Queue::start(address.clone(), settings)?);
        Ok(Device { queue, address })
    }

    // --- identity ---

    /// Every endorsement certificate, and the intermediates beside them.
    pub fn ek_certificates(&self) -> Result<EkCertificates, Error> {
        self.queue.ask("the endorsement certificates", owner::Command::EkCertificates)
    }

    /// The one of these that stands for the machine, with its key's public area.
    pub fn endorsement_key(&self, found: &EkCertificates) -> Result<EndorsementKey, Error> {
        let found = found.clone();
        self.queue.ask("the endorsement key", |to| owner::Command::EndorsementKey(found, to))
    }

    /// The attestation key: the same after each start, with nothing kept on disk.
    pub fn attestation_key(&self, purpose: AkPurpose) -> Result<DeviceKey, Error> {
        let none = Zeroizing::default();
        self.queue.ask("the attestation key", |to| {
            owner::Command::CreatePrimary(Hierarchy::Endorsement, purpose.template(), none, to)
        })
    }

    /// A key that a maker or a cloud left under this handle, such as an IAK; its authorisation value
    /// must be empty.
    pub fn persistent_key(&self, handle: u32) -> Result<DeviceKey, Error> {
        self.queue.ask("a persistent key", |to| owner::Command::PersistentKey(handle, to))
    }

    /// What an NV index holds; nothing if there is none, or it may not be read.
    pub fn nv(&self, index: u32) -> Result<Option<Vec<u8>>, Error> {
        self.queue.ask("an NV index", |to| owner::Command::Nv(index, to))
    }

    /// Answer a challenge: contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET in, secret out.
    pub fn activate(
        &self,
        ek: &EndorsementKey,
        ak: &DeviceKey,
        blob: &[u8],
        secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (ek, ak, blob, secret) = (ek.clone(), ak.clone(), blob.to_owned(), secret.to_owned());
        self.queue
            .ask("ActivateCredential", |to| owner::Command::Activate(ek, ak, blob, secret, to))
    }

    // --- statements ---

    /// Banks the TPM lists, allocated or not.
    pub fn banks(&self) -> Result<Vec<Bank>, Error> {
        self.queue.ask("the banks", owner::Command::Banks)
    }

    /// PCR 0 to 15 of every bank that the TPM lists: a bank that is off comes back in the signed
    /// selection with an empty mask, which proves that it is.
    pub fn all_banks(&self) -> Result<Vec<PcrSelection>, Error> {
        let banks = self.banks()?;
        Ok(banks.iter().map(|bank| PcrSelection::new(bank.algorithm, QUOTED)).collect())
    }

    /// Sign these registers and this qualifying data, and read the values that were signed.
    pub fn quote(
        &self,
        ak: &DeviceKey,
        selections: &[PcrSelection],
        qualifying: &[u8],
    ) -> Result<Quote, Error> {
        let (ak, selections, data) = (ak.clone(), selections.to_owned(), qualifying.to_owned());
        self.queue.ask("Quote", |to| owner::Command::Quote(ak, selections, data, to))
    }

    /// Bare values, in the order of the selection: unsigned, so only for looking at.
    pub fn pcr_values(&self, selections: &[PcrSelection]) -> Result<Vec<u8>, Error> {
        let selections = selections.to_owned();
        self.queue.ask("PCR_Read", |to| owner::Command::Values(selections, to))
    }

    /// The attestation key states that `key` is in this TPM: TPM2B_ATTEST ‖ TPMT_SIGNATURE.
    pub fn certify(
        &self,
        ak: &DeviceKey,
        key: &DeviceKey,
        qualifying: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let (ak, key, data) = (ak.clone(), key.clone(), qualifying.to_owned());
        self.queue.ask("Certify", |to| owner::Command::Certify(ak, key, data, to))
    }

    // --- keys that sign ---

    /// A new SVID key of this process and this boot: nobody else can make or use it, and a reset
    /// of the TPM ends it ([`Error::KeyGone`]).
    pub fn svid_key(&self) -> Result<DeviceKey, Error> {
        let mut unique = [0; 32];
        let mut auth = Zeroizing::new(vec![0; 32]);
        let mut random = SystemRandom::new();
        random.fill(&mut unique).map_err(|_| Error::Random)?;
        random.fill(&mut auth).map_err(|_| Error::Random)?;
        let template = key::svid_template(&unique);
        self.queue.ask("the SVID key", |to| {
            owner::Command::CreatePrimary(Hierarchy::Null, template, auth, to)
        })
    }

    /// A new issuing key that can be used only in this TPM and only with this authorisation value
    /// (32 random bytes, kept apart from the blob).
    pub fn create_issuing_key(&self, auth: &[u8; 32]) -> Result<KeyBlob, Error> {
        let auth = Zeroizing::new(auth.to_vec());
        self.queue.ask("an issuing key", |to| owner::Command::CreateIssuingKey(auth, to))
    }

    /// The storage root key is loaded for this moment only.
    pub fn load_issuing_key(&self, blob: &KeyBlob, auth: &[u8; 32]) -> Result<DeviceKey, Error> {
        let (blob, auth) = (blob.clone(), Zeroizing::new(auth.to_vec()));
        self.queue.ask("Load", |to| owner::Command::LoadIssuingKey(blob, auth, to))
    }

    /// Sign a SHA-256 digest.
    pub fn sign(&self, key: &DeviceKey, digest: &[u8; 32]) -> Result<EcdsaSignature, Error> {
        let (key, digest) = (key.clone(), *digest);
        self.queue.ask("Sign", |to| owner::Command::Sign(key, digest, to))
    }

    /// Make room in the TPM; the key can still be used, it is then loaded again.
    pub fn flush(&self, key: &DeviceKey) -> Result<(), Error> {
        let key = key.clone();
        self.queue.ask("FlushContext", |to| owner::Command::Flush(key, to))
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.address)
    }
}

/// What firmware and boot chain measure; the rest is for the operating system's own use.
const QUOTED: u32 = 0x0000_ffff;
