//! Who signs what no TPM would sign: a software key with a flawless public area, which is what an
//! attacker has who got a key enrolled.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::crypto::SoftwareKey;
use assay_tpm::AttestationKey;
use assay_tpm::Hierarchy;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use assay_tpm::Public;

use crate::vectors::NONCE;
use crate::vectors::read;

/// A software key with the public area of an attestation key.
pub struct Forger {
    key: SoftwareKey,
    pub public: Public,
}

impl Forger {
    pub fn new() -> Forger {
        let key = SoftwareKey::generate().unwrap();
        let mut area = Public::parse(&read("ak-p256.public")).unwrap().area().clone();
        area.key = key.public_key();
        Forger { key, public: Public::from_area(area).unwrap() }
    }

    pub fn proved(&self) -> ProvedKey {
        ProvedKey::enrolled(AttestationKey::new(self.public.clone()).unwrap())
    }

    /// A quote over the given banks with the right digest, changed and then signed.
    pub fn quote(
        &self,
        banks: &[PcrSelection],
        values: &[u8],
        change: &dyn Fn(&mut Vec<u8>),
    ) -> Vec<u8> {
        let signer = self.public.name().primary_in(Hierarchy::Endorsement).unwrap();
        let mut attest = Vec::new();
        attest.extend_from_slice(&0xff54_4347_u32.to_be_bytes());
        attest.extend_from_slice(&0x8018_u16.to_be_bytes());
        attest.extend_from_slice(&sized(signer.as_bytes()));
        attest.extend_from_slice(&sized(&NONCE));
        attest.extend_from_slice(&[0; 8]);
        attest.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 1]);
        attest.extend_from_slice(&[0; 8]);
        attest.extend_from_slice(&u32::try_from(banks.len()).unwrap().to_be_bytes());
        for bank in banks {
            attest.extend_from_slice(&bank.bank.tpm_id().to_be_bytes());
            attest.push(3);
            attest.extend_from_slice(&bank.mask.to_le_bytes()[..3]);
        }
        attest.extend_from_slice(&sized(&assay_evidence::crypto::sha256(values)));
        change(&mut attest);
        [sized(&attest), self.sign(&attest)].concat()
    }

    pub fn sign(&self, attest: &[u8]) -> Vec<u8> {
        let der = self.key.sign(attest).unwrap();
        let (r, s) = integers(&der);
        [&[0x00, 0x18, 0x00, 0x0b][..], &sized(r), &sized(s)].concat()
    }
}

/// r and s of an ECDSA-Sig-Value, without their sign byte.
fn integers(der: &[u8]) -> (&[u8], &[u8]) {
    let r_size = usize::from(der[3]);
    let (r, rest) = der[4..].split_at(r_size);
    let s = &rest[2..];
    let unsigned = |n: &[u8]| n.iter().position(|&b| b != 0).unwrap_or(0);
    (&r[unsigned(r)..], &s[unsigned(s)..])
}

pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
