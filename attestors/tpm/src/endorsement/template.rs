//! The templates that endorsement keys follow (TCG EK Credential Profile 2.5, annex B).
//!
//! Each policy digest is of a policy that only the endorsement authorisation satisfies; so whoever
//! owns the host, not whoever wrote the public area, says who may use the key.

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use serde::Serialize;

use crate::structures::public::AES;
use crate::structures::public::Area;
use crate::structures::public::Attributes;
use crate::structures::public::CFB;
use crate::structures::public::Public;
use crate::structures::public::Symmetric;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Template {
    /// RSA 2048, SHA-256, AES-128.
    L1,
    /// ECC P-256, SHA-256, AES-128.
    L2,
    /// ECC P-384, SHA-384, AES-256.
    H3,
}

impl Template {
    pub const ALL: [Template; 3] = [Template::L1, Template::L2, Template::H3];

    /// The template that this public area is, apart from its key.
    pub fn of(public: &Public) -> Option<Template> {
        Template::ALL
            .into_iter()
            .find(|template| template.around(public.key()).as_ref() == Some(public.area()))
    }

    /// What a public area of this template says with that key in it.
    pub fn around(self, key: &PublicKey) -> Option<Area> {
        let fits = match (self, key) {
            (Template::L1, PublicKey::Rsa { modulus, .. }) => modulus.len() == 256,
            (Template::L2, PublicKey::Ec { curve, .. }) => *curve == Curve::P256,
            (Template::H3, PublicKey::Ec { curve, .. }) => *curve == Curve::P384,
            _ => false,
        };
        let (name_algorithm, attributes, auth_policy, key_bits) = match self {
            Template::L1 | Template::L2 => {
                (HashAlgorithm::Sha256, LOW, POLICY_A_SHA256.to_vec(), 128)
            }
            Template::H3 => (HashAlgorithm::Sha384, HIGH, POLICY_B_SHA384.to_vec(), 256),
        };
        fits.then(|| Area {
            name_algorithm,
            attributes: Attributes(attributes),
            auth_policy,
            symmetric: Some(Symmetric { algorithm: AES, key_bits, mode: CFB }),
            scheme: None,
            key: key.clone(),
        })
    }
}

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const LOW: u32 = 0x0003_00b2;
/// The same with userWithAuth.
const HIGH: u32 = 0x0003_00f2;

/// PolicySecret(TPM_RH_ENDORSEMENT).
const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// PolicyOR of PolicyA and PolicyAuthorizeNV of the TCG index.
const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];
