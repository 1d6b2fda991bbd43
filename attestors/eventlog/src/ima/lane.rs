//! One bank of PCR 10, extended in one way: the arithmetic of a replay, and no more.
//!
//! Values are kept as bytes in place, since this is what runs a million times for a long list.

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;

use crate::ima::entry::Data;
use crate::ima::entry::MAX_NAME;
use crate::ima::state::Bank;
use crate::ima::state::Mode;

/// One way in which one bank may have been extended so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) bank: HashAlgorithm,
    pub(super) mode: Mode,
    /// The value, and behind it what it is to be extended with.
    block: [u8; 2 * LONGEST],
}

impl Lane {
    /// Every way that is still possible for these banks.
    pub(super) fn of(banks: &[Bank]) -> Vec<Lane> {
        let mut lanes = Vec::new();
        for bank in banks {
            for mode in Mode::ALL.into_iter().filter(|mode| bank.modes.has(*mode)) {
                let mut block = [0; 2 * LONGEST];
                block.iter_mut().zip(bank.value.as_bytes()).for_each(|(to, from)| *to = *from);
                lanes.push(Lane { bank: bank.value.algorithm(), mode, block });
            }
        }
        lanes
    }

    /// The same bank on a kernel that pads violations as well.
    pub(super) fn of_older(&self) -> Lane {
        Lane { mode: Mode::PaddedSha1AndViolations, ..*self }
    }

    pub(super) fn value(&self) -> Digest {
        let value = self.block.get(..self.bank.size()).unwrap_or_default();
        Digest::new(self.bank, value).unwrap_or_else(|| Digest::zero(self.bank))
    }

    pub(super) fn stands_at(&self, value: &Digest) -> bool {
        self.bank == value.algorithm() && self.block.starts_with(value.as_bytes())
    }

    /// Lays the template digest ready: the bank's own, or SHA-1 and zeros.
    pub(super) fn load_entry(&mut self, hashed: &Hashed<'_>) {
        match (self.mode, self.bank) {
            (Mode::Hashed, HashAlgorithm::Sha256) => self.load(&crypto::sha256(hashed.data)),
            (Mode::Hashed, HashAlgorithm::Sha384) => self.load(&crypto::sha384(hashed.data)),
            (Mode::Hashed, HashAlgorithm::Sha512) => self.load(&crypto::sha512(hashed.data)),
            _ => self.load(&hashed.sha1),
        }
    }

    /// Lays ones ready; older kernels had only twenty bytes of them.
    pub(super) fn load_violation(&mut self) {
        match self.mode {
            Mode::PaddedSha1AndViolations => self.load(&[0xff; HashAlgorithm::Sha1.size()]),
            Mode::Hashed | Mode::PaddedSha1 => self.load(&[0xff; LONGEST]),
        }
    }

    /// The TPM's driver pads a short digest with zeros; ones are cut to the bank's size.
    fn load(&mut self, digest: &[u8]) {
        let size = self.bank.size();
        let length = digest.len().min(size);
        let room = self.block.split_at_mut(size).1;
        if let (Some(to), Some(from)) = (room.get_mut(..length), digest.get(..length)) {
            to.copy_from_slice(from);
        }
        if let Some(padding) = room.get_mut(length..size) {
            padding.fill(0);
        }
    }

    /// TPM 2.0 Part 1, §17.2: the new value is the hash of the old one and what was loaded.
    pub(super) fn extend(&mut self) {
        let block = &mut self.block;
        match self.bank {
            HashAlgorithm::Sha1 => extend(block, crypto::sha1),
            HashAlgorithm::Sha256 => extend(block, crypto::sha256),
            HashAlgorithm::Sha384 => extend(block, crypto::sha384),
            HashAlgorithm::Sha512 => extend(block, crypto::sha512),
            // INVARIANT: a replay takes no bank that cannot be computed.
            HashAlgorithm::Sm3_256 => {}
        }
    }
}

fn extend<const N: usize>(block: &mut [u8; 2 * LONGEST], hash: fn(&[u8]) -> [u8; N]) {
    let next = block.get(..2 * N).map(hash);
    if let (Some(value), Some(next)) = (block.first_chunk_mut::<N>(), next) {
        *value = next;
    }
}

/// The bytes of an entry that are hashed, and their SHA-1, which several may need.
pub(super) struct Hashed<'a> {
    data: &'a [u8],
    sha1: [u8; HashAlgorithm::Sha1.size()],
}

impl<'a> Hashed<'a> {
    /// `room` is used for template `ima`, whose name is padded in the hash.
    pub(super) fn of(data: Data<'a>, room: &'a mut [u8; ROOM], sha1: bool) -> Hashed<'a> {
        let data = match data {
            Data::Sized(data) => data,
            Data::Ima { digest, name } => {
                *room = [0; ROOM];
                let (head, tail) = room.split_at_mut(HashAlgorithm::Sha1.size());
                head.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
                tail.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
                room.as_slice()
            }
        };
        Hashed { data, sha1: if sha1 { crypto::sha1(data) } else { [0; 20] } }
    }

    /// Whether a digest column is that of the entry; by its length, the column tells the hash.
    pub(super) fn is_told_by(&self, column: &[u8]) -> bool {
        match column.len() {
            20 => column == self.sha1,
            32 => column == crypto::sha256(self.data),
            48 => column == crypto::sha384(self.data),
            _ => column == crypto::sha512(self.data),
        }
    }
}

pub(super) const ROOM: usize = HashAlgorithm::Sha1.size() + MAX_NAME + 1;
const LONGEST: usize = HashAlgorithm::Sha512.size();
