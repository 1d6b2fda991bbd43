//! Many digests, to be asked for one: the files of a host, or all that a profile lists.
//!
//! A digest is spread evenly by itself, so its first bytes are its place in a table. Whoever could
//! choose digests that share them writes profiles, and would slow down their own.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;

use assay_evidence::digest::Digest;

pub type Digests = HashSet<Digest, BuildHasherDefault<FirstBytes>>;

/// The first eight bytes of each part that is hashed.
#[derive(Debug, Clone, Default)]
pub struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use assay_evidence::digest::HashAlgorithm;

    use super::*;

    #[test]
    fn a_digest_is_found_by_all_of_its_bytes_and_its_algorithm() {
        let digest = |bank: HashAlgorithm, last| {
            let bytes: Vec<u8> = (1..bank.size()).map(|_| 7).chain([last]).collect();
            Digest::new(bank, &bytes)
        };
        let listed: Digests = digest(HashAlgorithm::Sha256, 1).into_iter().collect();
        let contains = |bank, last| digest(bank, last).is_some_and(|d| listed.contains(&d));
        assert!(contains(HashAlgorithm::Sha256, 1));
        assert!(!contains(HashAlgorithm::Sha256, 2));
        assert!(!contains(HashAlgorithm::Sm3_256, 1));
        assert!(!contains(HashAlgorithm::Sha384, 1));
    }
}
