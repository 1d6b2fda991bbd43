//! Hash algorithms by their TPM numbers, digests that know their algorithm, and register banks.
//!
//! A [`Digest`] can only be made with the size its algorithm has, so a SHA-256 value never stands
//! where an SM3 value of the same length was meant.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// TCG Algorithm Registry rev. 1.34, table 3. The order is only an order, not a strength: see
/// [`HashAlgorithm::strength`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
    Sm3_256,
}

impl HashAlgorithm {
    pub const ALL: [HashAlgorithm; 5] = [
        HashAlgorithm::Sha1,
        HashAlgorithm::Sha256,
        HashAlgorithm::Sha384,
        HashAlgorithm::Sha512,
        HashAlgorithm::Sm3_256,
    ];

    pub const fn from_tpm_id(id: u16) -> Option<HashAlgorithm> {
        Some(match id {
            0x0004 => HashAlgorithm::Sha1,
            0x000b => HashAlgorithm::Sha256,
            0x000c => HashAlgorithm::Sha384,
            0x000d => HashAlgorithm::Sha512,
            0x0012 => HashAlgorithm::Sm3_256,
            _ => return None,
        })
    }

    pub const fn tpm_id(self) -> u16 {
        match self {
            HashAlgorithm::Sha1 => 0x0004,
            HashAlgorithm::Sha256 => 0x000b,
            HashAlgorithm::Sha384 => 0x000c,
            HashAlgorithm::Sha512 => 0x000d,
            HashAlgorithm::Sm3_256 => 0x0012,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha1 => "sha1",
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha384 => "sha384",
            HashAlgorithm::Sha512 => "sha512",
            HashAlgorithm::Sm3_256 => "sm3_256",
        }
    }

    /// Bytes of a digest.
    pub const fn size(self) -> usize {
        match self {
            HashAlgorithm::Sha1 => 20,
            HashAlgorithm::Sha256 | HashAlgorithm::Sm3_256 => 32,
            HashAlgorithm::Sha384 => 48,
            HashAlgorithm::Sha512 => 64,
        }
    }

    /// Bits of work that finding two messages with one digest takes; SHA-1 counts as broken.
    pub const fn strength(self) -> u16 {
        match self {
            HashAlgorithm::Sha1 => 0,
            HashAlgorithm::Sha256 | HashAlgorithm::Sm3_256 => 128,
            HashAlgorithm::Sha384 => 192,
            HashAlgorithm::Sha512 => 256,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a hash algorithm that is known here")]
pub struct UnknownHash(String);

impl FromStr for HashAlgorithm {
    type Err = UnknownHash;

    fn from_str(text: &str) -> Result<HashAlgorithm, UnknownHash> {
        HashAlgorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or_else(|| UnknownHash(text.into()))
    }
}

impl Serialize for HashAlgorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for HashAlgorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HashAlgorithm, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest of exactly the size of its algorithm, kept in place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: HashAlgorithm,
    // INVARIANT: bytes at and beyond `algorithm.size()` are zero, so that equality is equality.
    bytes: [u8; HashAlgorithm::Sha512.size()],
}

impl Digest {
    /// Nothing if `bytes` is not as long as the algorithm's digests are.
    pub fn new(algorithm: HashAlgorithm, bytes: &[u8]) -> Option<Digest> {
        if bytes.len() != algorithm.size() {
            return None;
        }
        let mut kept = [0; HashAlgorithm::Sha512.size()];
        kept.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Digest { algorithm, bytes: kept })
    }

    pub fn zero(algorithm: HashAlgorithm) -> Digest {
        Digest { algorithm, bytes: [0; HashAlgorithm::Sha512.size()] }
    }

    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.size()).unwrap_or(&[])
    }

    pub fn to_hex(&self) -> String {
        hex::encode(self.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    /// The bare hex: where digests are listed, the bank above them names the algorithm.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

/// Register values by bank and index. It holds values, not trust: where they come from says what
/// they are worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Registers(BTreeMap<HashAlgorithm, BTreeMap<u32, Digest>>);

impl Registers {
    pub fn new() -> Registers {
        Registers::default()
    }

    /// False if that register of that bank is there already; the first value then stays.
    #[must_use]
    pub fn insert(&mut self, register: u32, value: Digest) -> bool {
        let bank = self.0.entry(value.algorithm()).or_default();
        if bank.contains_key(&register) {
            return false;
        }
        bank.insert(register, value);
        true
    }

    pub fn value(&self, bank: HashAlgorithm, register: u32) -> Option<&Digest> {
        self.0.get(&bank)?.get(&register)
    }

    pub fn bank(&self, bank: HashAlgorithm) -> Option<&BTreeMap<u32, Digest>> {
        self.0.get(&bank)
    }
}

impl Deref for Registers {
    type Target = BTreeMap<HashAlgorithm, BTreeMap<u32, Digest>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_digest_has_the_size_of_its_algorithm() {
        for algorithm in HashAlgorithm::ALL {
            assert!(Digest::new(algorithm, &vec![1; algorithm.size()]).is_some());
            assert!(Digest::new(algorithm, &vec![1; algorithm.size() + 1]).is_none());
            assert!(Digest::new(algorithm, &vec![1; algorithm.size() - 1]).is_none());
            assert_eq!(HashAlgorithm::from_tpm_id(algorithm.tpm_id()), Some(algorithm));
            assert_eq!(algorithm.name().parse::<HashAlgorithm>().unwrap(), algorithm);
        }
        assert_eq!(HashAlgorithm::from_tpm_id(0x0010), None);
    }

    #[test]
    fn same_bytes_under_another_algorithm_are_another_digest() {
        let sha = Digest::new(HashAlgorithm::Sha256, &[7; 32]).unwrap();
        let sm3 = Digest::new(HashAlgorithm::Sm3_256, &[7; 32]).unwrap();
        assert_ne!(sha, sm3);
    }

    #[test]
    fn a_register_is_named_once() {
        let mut registers = Registers::new();
        let first = Digest::zero(HashAlgorithm::Sha256);
        assert!(registers.insert(7, first));
        assert!(!registers.insert(7, Digest::new(HashAlgorithm::Sha256, &[1; 32]).unwrap()));
        assert_eq!(registers.value(HashAlgorithm::Sha256, 7), Some(&first));
    }
}
