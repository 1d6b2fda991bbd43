//! The templates that endorsement keys follow (TCG EK Credential Profile 2.5, annex B).
//!
//! Each policy digest is of a policy that only the endorsement authorisation satisfies; so whoever
//! owns the host, not whoever wrote the public area, says who may use the key. Template H-5 (SM2
//! with SM3) is left out: no library here computes its names.

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use serde::Serialize;

use crate::structures::public::AES;
use crate::structures::public::Area;
use crate::structures::public::Attributes;
use crate::structures::public::CFB;
use crate::structures::public::Public;
use crate::structures::public::Shape;
use crate::structures::public::Symmetric;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Template {
    /// RSA 2048, SHA-256, AES-128.
    L1,
    /// ECC P-256, SHA-256, AES-128.
    L2,
    /// RSA 2048, SHA-256, AES-128.
    H1,
    /// ECC P-256, SHA-256, AES-128.
    H2,
    /// ECC P-384, SHA-384, AES-256.
    H3,
    /// ECC P-521, SHA-512, AES-256.
    H4,
    /// RSA 3072, SHA-384, AES-256.
    H6,
    /// RSA 4096, SHA-384, AES-256.
    H7,
}

impl Template {
    pub const ALL: [Template; 8] = [
        Template::L1,
        Template::L2,
        Template::H1,
        Template::H2,
        Template::H3,
        Template::H4,
        Template::H6,
        Template::H7,
    ];

    /// The template that this public area is, apart from its key.
    pub fn of(public: &Public) -> Option<Template> {
        Template::ALL
            .into_iter()
            .find(|template| template.around(public.key()).as_ref() == Some(public.area()))
    }

    /// What a public area of this template says with that key in it.
    pub fn around(self, key: &PublicKey) -> Option<Area> {
        self.shape().fits(key).then(|| self.with_key(key.clone()))
    }

    /// The TPMT_PUBLIC from which TPM2_CreatePrimary makes the key: the low templates ask for a
    /// `unique` of zeros, the high ones for an empty one.
    pub fn input(self) -> Option<Vec<u8>> {
        let unique: &[u8] = match self {
            Template::L1 => &[0; 256],
            Template::L2 => &[0; 32],
            _ => &[],
        };
        self.with_key(self.shape().stand_in()).input(unique)
    }

    pub const fn shape(self) -> Shape {
        match self {
            Template::L1 | Template::H1 => Shape::Rsa { bits: 2048 },
            Template::L2 | Template::H2 => Shape::Ecc(Curve::P256),
            Template::H3 => Shape::Ecc(Curve::P384),
            Template::H4 => Shape::Ecc(Curve::P521),
            Template::H6 => Shape::Rsa { bits: 3072 },
            Template::H7 => Shape::Rsa { bits: 4096 },
        }
    }

    pub const fn name_algorithm(self) -> HashAlgorithm {
        match self {
            Template::L1 | Template::L2 | Template::H1 | Template::H2 => HashAlgorithm::Sha256,
            Template::H3 | Template::H6 | Template::H7 => HashAlgorithm::Sha384,
            Template::H4 => HashAlgorithm::Sha512,
        }
    }

    /// Templates of the low range have PolicyA, those of the high range PolicyB.
    pub const fn is_high(self) -> bool {
        !matches!(self, Template::L1 | Template::L2)
    }

    /// The two policies of which a key of the high range takes either: PolicyA and PolicyC.
    pub const fn branches(self) -> [&'static [u8]; 2] {
        match self.name_algorithm() {
            HashAlgorithm::Sha384 => [&POLICY_A_SHA384, &POLICY_C_SHA384],
            HashAlgorithm::Sha512 => [&POLICY_A_SHA512, &POLICY_C_SHA512],
            _ => [&POLICY_A_SHA256, &POLICY_C_SHA256],
        }
    }

    const fn auth_policy(self) -> &'static [u8] {
        match (self.is_high(), self.name_algorithm()) {
            (false, _) => &POLICY_A_SHA256,
            (true, HashAlgorithm::Sha384) => &POLICY_B_SHA384,
            (true, HashAlgorithm::Sha512) => &POLICY_B_SHA512,
            (true, _) => &POLICY_B_SHA256,
        }
    }

    fn with_key(self, key: PublicKey) -> Area {
        let key_bits = match self.name_algorithm() {
            HashAlgorithm::Sha256 => 128,
            _ => 256,
        };
        Area {
            name_algorithm: self.name_algorithm(),
            attributes: Attributes(if self.is_high() { HIGH } else { LOW }),
            auth_policy: self.auth_policy().to_vec(),
            symmetric: Some(Symmetric { algorithm: AES, key_bits, mode: CFB }),
            scheme: None,
            key,
        }
    }
}

/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const LOW: u32 = 0x0003_00b2;
/// The same with userWithAuth.
const HIGH: u32 = 0x0003_00f2;

// PolicyA is PolicySecret(TPM_RH_ENDORSEMENT), PolicyC is PolicyAuthorizeNV of the TCG's index, and
// PolicyB is PolicyOR of both (§B.6). The tests compute A and B anew.
const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
const POLICY_A_SHA384: [u8; 48] = [
    0x8b, 0xbf, 0x22, 0x66, 0x53, 0x7c, 0x17, 0x1c, 0xb5, 0x6e, 0x40, 0x3c, 0x4d, 0xc1, 0xd4, 0xb6,
    0x4f, 0x43, 0x26, 0x11, 0xdc, 0x38, 0x6e, 0x6f, 0x53, 0x20, 0x50, 0xc3, 0x27, 0x8c, 0x93, 0x0e,
    0x14, 0x3e, 0x8b, 0xb1, 0x13, 0x38, 0x24, 0xcc, 0xb4, 0x31, 0x05, 0x38, 0x71, 0xc6, 0xdb, 0x53,
];
const POLICY_A_SHA512: [u8; 64] = [
    0x1e, 0x3b, 0x76, 0x50, 0x2c, 0x8a, 0x14, 0x25, 0xaa, 0x0b, 0x7b, 0x3f, 0xc6, 0x46, 0xa1, 0xb0,
    0xfa, 0xe0, 0x63, 0xb0, 0x3b, 0x53, 0x68, 0xf9, 0xc4, 0xcd, 0xde, 0xca, 0xff, 0x08, 0x91, 0xdd,
    0x68, 0x2b, 0xac, 0x1a, 0x85, 0xd4, 0xd8, 0x32, 0xb7, 0x81, 0xea, 0x45, 0x19, 0x15, 0xde, 0x5f,
    0xc5, 0xbf, 0x0d, 0xc4, 0xa1, 0x91, 0x7c, 0xd4, 0x2f, 0xa0, 0x41, 0xe3, 0xf9, 0x98, 0xe0, 0xee,
];
const POLICY_C_SHA256: [u8; 32] = [
    0x37, 0x67, 0xe2, 0xed, 0xd4, 0x3f, 0xf4, 0x5a, 0x3a, 0x7e, 0x1e, 0xae, 0xfc, 0xef, 0x78, 0x64,
    0x3d, 0xca, 0x96, 0x46, 0x32, 0xe7, 0xaa, 0xd8, 0x2c, 0x67, 0x3a, 0x30, 0xd8, 0x63, 0x3f, 0xde,
];
const POLICY_C_SHA384: [u8; 48] = [
    0xd6, 0x03, 0x2c, 0xe6, 0x1f, 0x2f, 0xb3, 0xc2, 0x40, 0xeb, 0x3c, 0xf6, 0xa3, 0x32, 0x37, 0xef,
    0x2b, 0x6a, 0x16, 0xf4, 0x29, 0x3c, 0x22, 0xb4, 0x55, 0xe2, 0x61, 0xcf, 0xfd, 0x21, 0x7a, 0xd5,
    0xb4, 0x94, 0x7c, 0x2d, 0x73, 0xe6, 0x30, 0x05, 0xee, 0xd2, 0xdc, 0x2b, 0x35, 0x93, 0xd1, 0x65,
];
const POLICY_C_SHA512: [u8; 64] = [
    0x58, 0x9e, 0xe1, 0xe1, 0x46, 0x54, 0x47, 0x16, 0xe8, 0xde, 0xaf, 0xe6, 0xdb, 0x24, 0x7b, 0x01,
    0xb8, 0x1e, 0x9f, 0x9c, 0x7d, 0xd1, 0x6b, 0x81, 0x4a, 0xa1, 0x59, 0x13, 0x87, 0x49, 0x10, 0x5f,
    0xba, 0x53, 0x88, 0xdd, 0x1d, 0xea, 0x70, 0x2f, 0x35, 0x24, 0x0c, 0x18, 0x49, 0x33, 0x12, 0x1e,
    0x2c, 0x61, 0xb8, 0xf5, 0x0d, 0x3e, 0xf9, 0x13, 0x93, 0xa4, 0x9a, 0x38, 0xc3, 0xf7, 0x3f, 0xc8,
];
const POLICY_B_SHA256: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3,
    0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];
const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];
const POLICY_B_SHA512: [u8; 64] = [
    0xb8, 0x22, 0x1c, 0xa6, 0x9e, 0x85, 0x50, 0xa4, 0x91, 0x4d, 0xe3, 0xfa, 0xa6, 0xa1, 0x8c, 0x07,
    0x2c, 0xc0, 0x12, 0x08, 0x07, 0x3a, 0x92, 0x8d, 0x5d, 0x66, 0xd5, 0x9e, 0xf7, 0x9e, 0x49, 0xa4,
    0x29, 0xc4, 0x1a, 0x6b, 0x26, 0x95, 0x71, 0xd5, 0x7e, 0xdb, 0x25, 0xfb, 0xdb, 0x18, 0x38, 0x42,
    0x56, 0x08, 0xb4, 0x13, 0xcd, 0x61, 0x6a, 0x5f, 0x6d, 0xb5, 0xb6, 0x07, 0x1a, 0xf9, 0x9b, 0xea,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use assay_evidence::crypto;

    use super::*;

    const POLICY_SECRET: [u8; 4] = 0x151_u32.to_be_bytes();
    const POLICY_OR: [u8; 4] = 0x171_u32.to_be_bytes();
    const ENDORSEMENT: [u8; 4] = 0x4000_000b_u32.to_be_bytes();

    #[test]
    fn the_policies_are_those_that_a_tpm_computes() {
        for template in Template::ALL {
            let hash = |parts: &[&[u8]]| crypto::hash(template.name_algorithm(), parts).unwrap();
            let start = vec![0; template.name_algorithm().size()];
            // Part 3, §23.4 and Part 1, §19.7: the secret's name, and then an empty policyRef.
            let secret = hash(&[&start, &POLICY_SECRET, &ENDORSEMENT]);
            let policy_a = hash(&[secret.as_bytes()]);
            let [a, c] = template.branches();
            assert_eq!(policy_a.as_bytes(), a, "{template:?}");
            let policy_b = hash(&[&start, &POLICY_OR, a, c]);
            let expected = if template.is_high() { policy_b.as_bytes() } else { a };
            assert_eq!(template.auth_policy(), expected, "{template:?}");
        }
    }

    #[test]
    fn one_public_area_follows_one_template() {
        for template in Template::ALL {
            let area = template.around(&template.shape().stand_in()).unwrap();
            let public = Public::from_area(area.clone()).unwrap();
            assert_eq!(Template::of(&public), Some(template));
            let mut other = area;
            other.attributes.0 ^= Attributes::USER_WITH_AUTH;
            assert_eq!(Template::of(&Public::from_area(other).unwrap()), None);
        }
    }
}
