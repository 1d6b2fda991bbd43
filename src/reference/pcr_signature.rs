//! Signatures over the registers of a boot to come: the JSON that `systemd-measure sign` writes,
//! section `.pcrsig` of a unified kernel, `/run/systemd/tpm2-pcr-signature.json` on its host.
//!
//! What is signed is the digest of a TPM policy, PolicyPCR over the registers (TPM 2.0 Library part
//! 3, §23.7), so that a TPM can believe it as well. The digest is computed here from register
//! values; what the file says of it is never taken for it, and neither is its key's fingerprint.

use std::collections::BTreeMap;

use assay_evidence::PublicKey;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::reference::import::json;

/// A signature is for one phase of one boot; a file has some for each bank.
const MAX_SIGNATURES: usize = 256;
const MAX_REGISTER: u64 = 23;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PcrSignatures(BTreeMap<HashAlgorithm, Vec<Entry>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    registers: Vec<u32>,
    /// What it claims to be of.
    policy: Vec<u8>,
    signature: Vec<u8>,
}

/// What a file says of registers as they are, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vouched {
    /// One of the keys signed exactly these values.
    Signed,
    /// It has a signature for these values, by none of the keys.
    OtherKey,
    /// It has none for these values.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no signatures of registers: {0}")]
pub struct Malformed(String);

impl PcrSignatures {
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Value::Object(object) =
            json::parse(bytes).map_err(|error| Malformed(error.to_string()))?
        else {
            return Err(Malformed("not an object".to_owned()));
        };
        let mut banks = BTreeMap::new();
        for (name, list) in object {
            let bank: HashAlgorithm =
                name.parse().map_err(|_| Malformed(format!("bank `{name}`")))?;
            let list = list.as_array().filter(|list| list.len() <= MAX_SIGNATURES);
            let list = list.ok_or_else(|| Malformed(format!("`{name}` is no short list")))?;
            let entries = list.iter().map(|entry| Entry::parse(entry).ok_or(&name));
            let entries: Result<Vec<_>, _> = entries.collect();
            let entries =
                entries.map_err(|name| Malformed(format!("an entry of bank `{name}`")))?;
            banks.insert(bank, entries);
        }
        match banks.is_empty() {
            true => Err(Malformed("no bank".to_owned())),
            false => Ok(Self(banks)),
        }
    }

    /// `values` are of one bank, by register.
    pub fn vouches(
        &self,
        bank: HashAlgorithm,
        values: &BTreeMap<u32, Digest>,
        keys: &[PublicKey],
    ) -> Vouched {
        let policy = policy_digest(bank, values);
        let entries = self.0.get(&bank).into_iter().flatten();
        let mut found = Vouched::Nothing;
        for entry in entries {
            if !entry.registers.iter().eq(values.keys()) || entry.policy != policy {
                continue;
            }
            let by = |key: &PublicKey| {
                crypto::verify_signature(scheme(key, bank), key, &policy, &entry.signature).is_ok()
            };
            if keys.iter().any(by) {
                return Vouched::Signed;
            }
            found = Vouched::OtherKey;
        }
        found
    }
}

impl Entry {
    /// Members beside these say whose key it is (`pkfp`) and are not believed.
    fn parse(entry: &Value) -> Option<Self> {
        let mut registers = Vec::new();
        for register in entry.get("pcrs")?.as_array()? {
            let register = register.as_u64().filter(|register| *register <= MAX_REGISTER)?;
            registers.push(u32::try_from(register).ok()?);
        }
        let ascending = registers.windows(2).all(|pair| pair.first() < pair.last());
        let policy = hex::decode(entry.get("pol")?.as_str()?).ok()?;
        let signature = STANDARD.decode(entry.get("sig")?.as_str()?).ok()?;
        (ascending && !registers.is_empty() && policy.len() == 32).then_some(Self {
            registers,
            policy,
            signature,
        })
    }
}

/// PolicyPCR of a fresh session of SHA-256, as systemd makes them:
/// H(0…0 ‖ TPM_CC_PolicyPCR ‖ TPML_PCR_SELECTION ‖ H(values)).
pub fn policy_digest(bank: HashAlgorithm, values: &BTreeMap<u32, Digest>) -> [u8; 32] {
    let all: Vec<u8> = values.values().flat_map(|value| value.as_bytes().iter().copied()).collect();
    let mask = values.keys().fold(0_u32, |mask, register| mask | 1_u32.wrapping_shl(*register));
    let [first, second, third, _] = mask.to_le_bytes();
    let mut message = vec![0; 32];
    message.extend_from_slice(&TPM_CC_POLICY_PCR.to_be_bytes());
    message.extend_from_slice(&1_u32.to_be_bytes());
    message.extend_from_slice(&bank.tpm_id().to_be_bytes());
    message.extend_from_slice(&[3, first, second, third]);
    message.extend_from_slice(&crypto::sha256(&all));
    crypto::sha256(&message)
}

/// systemd hashes the policy's digest once more, by the hash of the bank.
const fn scheme(key: &PublicKey, bank: HashAlgorithm) -> SignatureScheme {
    match key {
        PublicKey::Rsa { .. } => SignatureScheme::RsaPkcs1(bank),
        _ => SignatureScheme::EcdsaDer(bank),
    }
}

/// The words that systemd extends into register 11 as a boot goes on (systemd-pcrphase.service(8)).
pub const PHASES: [&str; 6] =
    ["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"];

const TPM_CC_POLICY_PCR: u32 = 0x0000_017f;

#[cfg(test)]
mod tests;
