//! Names of TPM objects, and the qualified names that tell where in a TPM an object lives.
//!
//! Name = nameAlg ‖ H(TPMT_PUBLIC); qualified name = nameAlg ‖ H(parent's qualified name ‖ Name),
//! where the parent of a primary object is the handle of its hierarchy (Part 1, §16 and §27.6).
//! A name is always computed here and never believed as sent.

use std::fmt;

use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use serde::Serialize;
use serde::Serializer;

/// An algorithm number and a digest, kept in place: 2 + 64 bytes at most.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    length: usize,
    // INVARIANT: bytes at and beyond `length` are zero, so that equality is equality.
    bytes: [u8; MAX_NAME],
}

impl Name {
    /// Nothing if the bytes are not a known algorithm and a digest of its size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Name> {
        let (id, digest) = bytes.split_first_chunk::<2>()?;
        let algorithm = HashAlgorithm::from_tpm_id(u16::from_be_bytes(*id))?;
        Name::new(algorithm, digest)
    }

    /// The name of an object with this public area.
    pub(super) fn of(algorithm: HashAlgorithm, public_area: &[u8]) -> Option<Name> {
        Name::new(algorithm, crypto::hash(algorithm, &[public_area])?.as_bytes())
    }

    /// The qualified name of this object as a primary of a hierarchy.
    pub fn primary_in(&self, hierarchy: Hierarchy) -> Option<Name> {
        self.qualified_below(&hierarchy.handle().to_be_bytes())
    }

    /// The qualified name of this object as a child of an object with that qualified name.
    pub fn child_of(&self, parent: &Name) -> Option<Name> {
        self.qualified_below(parent.as_bytes())
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    pub fn algorithm(&self) -> Option<HashAlgorithm> {
        let id = self.bytes.first_chunk::<2>()?;
        HashAlgorithm::from_tpm_id(u16::from_be_bytes(*id))
    }

    fn qualified_below(&self, parent: &[u8]) -> Option<Name> {
        let algorithm = self.algorithm()?;
        Name::new(algorithm, crypto::hash(algorithm, &[parent, self.as_bytes()])?.as_bytes())
    }

    fn new(algorithm: HashAlgorithm, digest: &[u8]) -> Option<Name> {
        if digest.len() != algorithm.size() {
            return None;
        }
        let length = 2 + digest.len();
        let mut bytes = [0; MAX_NAME];
        let (id, rest) = bytes.get_mut(..length)?.split_first_chunk_mut::<2>()?;
        *id = algorithm.tpm_id().to_be_bytes();
        rest.copy_from_slice(digest);
        Some(Name { length, bytes })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The four trees of a TPM (Part 2, §7.4 TPM_RH).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hierarchy {
    Owner,
    /// Objects here die with the boot.
    Null,
    Endorsement,
    Platform,
}

impl Hierarchy {
    /// The one of honest attestation keys first: each costs a hash to try.
    pub const ALL: [Hierarchy; 4] =
        [Hierarchy::Endorsement, Hierarchy::Owner, Hierarchy::Null, Hierarchy::Platform];

    pub const fn handle(self) -> u32 {
        match self {
            Hierarchy::Owner => 0x4000_0001,
            Hierarchy::Null => 0x4000_0007,
            Hierarchy::Endorsement => 0x4000_000b,
            Hierarchy::Platform => 0x4000_000c,
        }
    }

    /// The hierarchy in which an object with this name is a primary with that qualified name.
    pub fn of_primary(name: &Name, qualified: &[u8]) -> Option<Hierarchy> {
        Hierarchy::ALL.into_iter().find(|hierarchy| {
            name.primary_in(*hierarchy).is_some_and(|primary| primary.as_bytes() == qualified)
        })
    }
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hierarchy::Owner => "owner",
            Hierarchy::Null => "null",
            Hierarchy::Endorsement => "endorsement",
            Hierarchy::Platform => "platform",
        })
    }
}

const MAX_NAME: usize = 2 + HashAlgorithm::Sha512.size();
