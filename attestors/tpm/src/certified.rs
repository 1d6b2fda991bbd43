//! A key that a TPM certified: what it is, where it lives, and what may be done with it.
//!
//! One kind of value for both uses: the agent's SVID key, which must die with the boot, and a
//! server's issuing key, which must never leave its TPM.

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use serde::Serialize;
use serde::Serializer;

use crate::error::Error;
use crate::structures::attest::ClockInfo;
use crate::structures::name::Hierarchy;
use crate::structures::name::Name;
use crate::structures::public::Attributes;
use crate::structures::public::Public;
use crate::structures::public::Scheme;
use crate::structures::signature::SigningScheme;

/// Made only by `verify` and `verify_certify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertifiedKey {
    name: Name,
    qualified_name: Name,
    /// The hierarchy of a primary key; nothing for a child of another key.
    hierarchy: Option<Hierarchy>,
    attributes: Attributes,
    #[serde(serialize_with = "in_hex")]
    spki_sha256: [u8; 32],
    clock: ClockInfo,
    firmware_version: FirmwareVersion,
    #[serde(skip)]
    public: Public,
}

/// A number that is only ever compared and shown, in hex as vendors print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirmwareVersion(pub u64);

impl Serialize for FirmwareVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("0x{:016x}", self.0))
    }
}

impl CertifiedKey {
    pub(crate) fn new(
        public: Public,
        qualified_name: Name,
        clock: ClockInfo,
        firmware_version: u64,
    ) -> CertifiedKey {
        let name = public.name();
        CertifiedKey {
            name,
            qualified_name,
            hierarchy: Hierarchy::of_primary(&name, qualified_name.as_bytes()),
            attributes: public.attributes(),
            spki_sha256: public.key().spki_sha256(),
            clock,
            firmware_version: FirmwareVersion(firmware_version),
            public,
        }
    }

    pub fn name(&self) -> Name {
        self.name
    }

    pub fn qualified_name(&self) -> Name {
        self.qualified_name
    }

    pub fn hierarchy(&self) -> Option<Hierarchy> {
        self.hierarchy
    }

    pub fn attributes(&self) -> Attributes {
        self.attributes
    }

    pub fn public(&self) -> &Public {
        &self.public
    }

    pub fn spki_der(&self) -> Vec<u8> {
        self.public.spki_der()
    }

    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }

    pub fn clock(&self) -> ClockInfo {
        self.clock
    }

    pub fn firmware_version(&self) -> u64 {
        self.firmware_version.0
    }

    /// Good as a CA's issuing key: made in the TPM, bound to it, and it signs and does only that.
    pub fn accept_as_issuing_key(&self) -> Result<(), Error> {
        accept_fixed(&self.public)?;
        let found = self.attributes;
        let forbidden = Attributes::RESTRICTED | Attributes::DECRYPT;
        if !found.has(Attributes::SIGN) || found.0 & forbidden != 0 {
            return Err(Error::KeyAttributes { found, expected: SVID_KEY });
        }
        Ok(())
    }
}

/// What can be said of an SVID key from its public area alone.
pub(crate) fn accept_svid_public(public: &Public) -> Result<(), Error> {
    accept_fixed(public)?;
    let found = public.attributes();
    if found != SVID_KEY {
        return Err(Error::KeyAttributes { found, expected: SVID_KEY });
    }
    let p256 = matches!(public.key(), PublicKey::Ec { curve: Curve::P256, .. });
    let ecdsa = Some(Scheme::Signing(SigningScheme::Ecdsa(HashAlgorithm::Sha256)));
    if !p256 || public.area().scheme != ecdsa {
        return Err(Error::KeyScheme);
    }
    match public.key().fault() {
        Some(fault) => Err(Error::KeyWeak(fault)),
        None => Ok(()),
    }
}

/// It must die with the boot it was attested in: a primary of the null hierarchy, whose seed the
/// TPM draws anew at each reset.
pub(crate) fn accept_svid_hierarchy(name: &[u8], qualified_name: &[u8]) -> Result<(), Error> {
    let name = Name::from_bytes(name).ok_or(Error::Malformed { place: "certified name" })?;
    match Hierarchy::of_primary(&name, qualified_name) {
        Some(Hierarchy::Null) => Ok(()),
        found => Err(Error::SvidKeyHierarchy { found }),
    }
}

pub(crate) fn accept_fixed(public: &Public) -> Result<(), Error> {
    let found = public.attributes();
    let fixed =
        Attributes::FIXED_TPM | Attributes::FIXED_PARENT | Attributes::SENSITIVE_DATA_ORIGIN;
    if found.has(fixed) { Ok(()) } else { Err(Error::KeyNotFixed { found }) }
}

fn in_hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign.
const SVID_KEY: Attributes = Attributes(0x0004_0472);
