//! Which registers of which banks: TPML_PCR_SELECTION.
//!
//! The list as a TPM signed it says more than the list as it was asked for: a bank that the TPM
//! has not allocated comes back with an empty mask, which proves that it is off.

use std::fmt;

use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use serde::Serialize;
use serde::Serializer;

use crate::error::Error;

/// Registers of one bank; bit n stands for PCR n (Part 2, §10.6.2 TPMS_PCR_SELECTION).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    pub bank: HashAlgorithm,
    pub mask: u32,
}

impl PcrSelection {
    pub const fn new(bank: HashAlgorithm, mask: u32) -> PcrSelection {
        PcrSelection { bank, mask }
    }

    /// From a mask in octets, the low registers first; at most 32 registers.
    pub fn from_octets(bank: HashAlgorithm, octets: &[u8]) -> Option<PcrSelection> {
        let mut wide = [0; 4];
        wide.get_mut(..octets.len())?.copy_from_slice(octets);
        Some(PcrSelection { bank, mask: u32::from_le_bytes(wide) })
    }

    /// Three octets, as a PC client TPM with 24 registers has them; four if more are named.
    pub fn octets(&self) -> Vec<u8> {
        let all = self.mask.to_le_bytes();
        match all {
            [a, b, c, 0] => vec![a, b, c],
            _ => all.to_vec(),
        }
    }

    /// The register numbers, rising.
    pub fn registers(&self) -> impl Iterator<Item = u32> + use<> {
        let mask = self.mask;
        (0..u32::BITS).filter(move |register| mask >> register & 1 == 1)
    }

    /// Bytes of all selected values together.
    pub fn values_size(&self) -> usize {
        self.registers().count() * self.bank.size()
    }
}

impl fmt::Display for PcrSelection {
    /// `sha256:0,1,7`, or `sha1:` for a bank without registers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.bank)?;
        for (n, register) in self.registers().enumerate() {
            write!(f, "{}{register}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for PcrSelection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The banks of one list in their order, each at most once, kept in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Selections {
    // INVARIANT: entries at and beyond `length` are EMPTY, so that equality is equality.
    banks: [PcrSelection; MAX_BANKS],
    length: usize,
}

impl Selections {
    /// Nothing if a bank is named twice or there are more banks than algorithms.
    pub fn new(banks: &[PcrSelection]) -> Option<Selections> {
        let mut list = Selections { banks: [EMPTY; MAX_BANKS], length: 0 };
        banks.iter().try_for_each(|selection| list.push(*selection))?;
        Some(list)
    }

    /// Part 2, §10.9.7 TPML_PCR_SELECTION.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Selections, Error> {
        let mut list = Selections { banks: [EMPTY; MAX_BANKS], length: 0 };
        for _ in 0..reader.u32()? {
            let id = reader.u16()?;
            let bank = HashAlgorithm::from_tpm_id(id)
                .ok_or(Error::UnknownAlgorithm { place: "PCR selection", id })?;
            let octets = usize::from(reader.u8()?);
            let selection = PcrSelection::from_octets(bank, reader.take(octets)?)
                .ok_or(Error::Malformed { place: "PCR selection" })?;
            // A bank twice would make it unclear which value stands where.
            list.push(selection).ok_or(Error::Malformed { place: "PCR selection" })?;
        }
        Ok(list)
    }

    pub fn as_slice(&self) -> &[PcrSelection] {
        self.banks.get(..self.length).unwrap_or(&[])
    }

    pub fn bank(&self, bank: HashAlgorithm) -> Option<&PcrSelection> {
        self.as_slice().iter().find(|selection| selection.bank == bank)
    }

    pub fn values_size(&self) -> usize {
        self.as_slice().iter().map(PcrSelection::values_size).sum()
    }

    fn push(&mut self, selection: PcrSelection) -> Option<()> {
        if self.bank(selection.bank).is_some() {
            return None;
        }
        *self.banks.get_mut(self.length)? = selection;
        self.length += 1;
        Some(())
    }
}

impl fmt::Display for Selections {
    /// `sha256:0,1,7+sha1:`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, selection) in self.as_slice().iter().enumerate() {
            write!(f, "{}{selection}", if n == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Selections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selections({self})")
    }
}

impl Serialize for Selections {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const MAX_BANKS: usize = HashAlgorithm::ALL.len();
const EMPTY: PcrSelection = PcrSelection::new(HashAlgorithm::Sha1, 0);
