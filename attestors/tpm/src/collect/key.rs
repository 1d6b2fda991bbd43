//! Keys as recipes. A TPM forgets what is loaded whenever the line to it breaks, so a key is not a
//! handle here but what it takes to have it loaded again, and the public area it must then have.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::Hierarchy;
use crate::Public;

/// A key this device can use. Cheap to clone; its authorisation value is wiped with the last one.
#[derive(Clone)]
pub struct DeviceKey(Arc<Facts>);

struct Facts {
    public: Public,
    recipe: Recipe,
}

/// How the key comes to be loaded.
pub(super) enum Recipe {
    /// TPM2_CreatePrimary: the same template gives the same key as long as the hierarchy's seed
    /// is the same. The seed of the null hierarchy ends with the boot.
    Primary { hierarchy: Hierarchy, template: Vec<u8>, auth: Zeroizing<Vec<u8>> },
    /// TPM2_Load below the storage root key.
    Child { private: Vec<u8>, auth: Zeroizing<Vec<u8>> },
    /// It is in the TPM for good, under this handle, with an empty authorisation value.
    Persistent { handle: u32 },
}

impl DeviceKey {
    pub(super) fn new(public: Public, recipe: Recipe) -> DeviceKey {
        DeviceKey(Arc::new(Facts { public, recipe }))
    }

    /// Its public area; `public().raw()` is the TPMT_PUBLIC that goes over the wire.
    pub fn public(&self) -> &Public {
        &self.0.public
    }

    pub(super) fn recipe(&self) -> &Recipe {
        &self.0.recipe
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({})", self.public().name())
    }
}

/// An issuing key at rest: useless without its TPM and its authorisation value, which is kept
/// apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBlob {
    /// Contents of the TPM2B_PRIVATE.
    pub private: Vec<u8>,
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
}

/// Which attestation key: they differ in `unique` only, so they are different keys, each the same
/// after a reinstallation and with nothing on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AkPurpose {
    /// The agent's and the server's own.
    Exchange,
    /// Statements written to a file by `attest --out`: never usable in a live exchange.
    File,
}

impl AkPurpose {
    /// Restricted, noDA: an unclean power-off must not lock the host out of its identity.
    pub(super) fn template(self) -> Vec<u8> {
        let unique: &[u8] = match self {
            AkPurpose::Exchange => b"ASSAY-AK",
            AkPurpose::File => b"ASSAY-FILE",
        };
        ecdsa_p256(0x0005_0472, unique)
    }
}

/// The agent's SVID key: a primary of the null hierarchy, so it ends with the boot it was attested
/// in; `unique` is random, so no other process can make the same.
pub(super) fn svid_template(unique: &[u8; 32]) -> Vec<u8> {
    ecdsa_p256(UNRESTRICTED, unique)
}

/// An issuing key; the TPM chooses its `unique`.
pub(super) fn issuing_template() -> Vec<u8> {
    ecdsa_p256(UNRESTRICTED, &[])
}

/// The storage root key that issuing keys are children of (TCG EK Credential Profile 2.5, §B.4.4
/// by way of the TPM 2.0 Provisioning Guidance: P-256, AES-128, x and y of zeros).
pub(super) fn storage_template() -> Vec<u8> {
    let mut raw = head(0x0003_0472);
    [0x0006, 128, 0x0043, NULL, P256, NULL].into_iter().for_each(|word| put(&mut raw, word));
    (0..2).for_each(|_| put_sized(&mut raw, &[0; 32]));
    raw
}

/// TPMT_PUBLIC of a P-256 key that signs by ECDSA with SHA-256 (Part 2, §12.2.4).
fn ecdsa_p256(attributes: u32, unique_x: &[u8]) -> Vec<u8> {
    let mut raw = head(attributes);
    [NULL, 0x0018, SHA256, P256, NULL].into_iter().for_each(|word| put(&mut raw, word));
    put_sized(&mut raw, unique_x);
    put_sized(&mut raw, &[]);
    raw
}

/// Type, name algorithm, attributes, no policy.
fn head(attributes: u32) -> Vec<u8> {
    let mut raw = Vec::with_capacity(128);
    put(&mut raw, 0x0023);
    put(&mut raw, SHA256);
    raw.extend_from_slice(&attributes.to_be_bytes());
    put(&mut raw, 0);
    raw
}

fn put(raw: &mut Vec<u8>, word: u16) {
    raw.extend_from_slice(&word.to_be_bytes());
}

fn put_sized(raw: &mut Vec<u8>, bytes: &[u8]) {
    // Ours are 32 bytes at most.
    put(raw, u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    raw.extend_from_slice(bytes);
}

/// sign, noDA, userWithAuth, sensitiveDataOrigin, fixedParent, fixedTPM.
const UNRESTRICTED: u32 = 0x0004_0472;
const SHA256: u16 = 0x000b;
const P256: u16 = 0x0003;
const NULL: u16 = 0x0010;
