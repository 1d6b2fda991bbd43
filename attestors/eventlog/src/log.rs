//! A boot log as values: the header, the banks it names, and its events, all borrowed.
//!
//! Three forms are read: TCG2 crypto-agile logs, the SHA-1 logs of TPM 1.2 (which are shown and
//! never decide), and the CCEL of Intel TDX. A log is read strictly: digest sizes come from the
//! header alone, every event has exactly one digest of each bank, and no byte is left over.
//!
//! Nothing here is true yet. A log means something only once [`Log::replay`] leads to values that
//! were signed, and then only what [`Log::grade`] calls bound.

use std::fmt;

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::reader::ReadError;
use serde::Serialize;
use serde::Serializer;

use crate::error::Error;
use crate::event_type::EventType;

mod ccel;
mod parse;

pub use parse::STARTUP_LOCALITY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `Spec ID Event03`: TCG_PCR_EVENT2 records.
    CryptoAgile,
    /// SHA-1 records, with a header of `Spec ID Event00`, `Event02`, or with none.
    Sha1,
    /// Crypto-agile, by measurement register of a confidential machine.
    Ccel,
}

/// A bank that the header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bank {
    /// TPM_ALG_ID as written.
    pub id: u16,
    /// Bytes of a digest.
    pub size: usize,
    /// Nothing for an algorithm that is not known here: its digests are read over.
    pub algorithm: Option<HashAlgorithm>,
}

#[derive(Clone, Debug)]
pub struct Log<'a> {
    format: Format,
    /// The record before the events, as it was written.
    header: Option<Record<'a>>,
    banks: Vec<Bank>,
    records: Vec<Record<'a>>,
    /// One for each record and bank, in the order of `banks`.
    digests: Vec<&'a [u8]>,
    locality: Option<u8>,
    padding: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Record<'a> {
    register: u32,
    kind: EventType,
    data: &'a [u8],
}

/// One event, seen through its log.
#[derive(Clone, Copy, Debug)]
pub struct Event<'l> {
    index: usize,
    record: Record<'l>,
    banks: &'l [Bank],
    digests: &'l [&'l [u8]],
}

impl<'a> Log<'a> {
    /// A log of a TPM, as `binary_bios_measurements` gives it.
    pub fn parse(bytes: &'a [u8]) -> Result<Log<'a>, Error> {
        parse::tpm(bytes)
    }

    /// The log area behind the CCEL table; with `table` its ACPI table is held against it.
    pub fn parse_ccel(bytes: &'a [u8], table: Option<&[u8]>) -> Result<Log<'a>, Error> {
        if let Some(table) = table {
            ccel::accept_table(table, bytes.len())?;
        }
        parse::ccel(bytes)
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn banks(&self) -> &[Bank] {
        &self.banks
    }

    /// The banks that can be replayed here. SM3 and unknown algorithms cannot.
    pub fn replayable(&self) -> impl Iterator<Item = HashAlgorithm> + '_ {
        self.banks.iter().filter_map(|bank| bank.computable())
    }

    /// Whether this log may ever be a ground for a decision: SHA-1 is none.
    pub fn decides(&self) -> bool {
        self.format != Format::Sha1 && self.replayable().any(|bank| bank.strength() > 0)
    }

    /// The records after the Spec ID header.
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event<'_>> + '_ {
        self.records.iter().enumerate().map(|(place, &record)| Event {
            index: place.saturating_add(1),
            record,
            banks: &self.banks,
            digests: self.digests_at(place),
        })
    }

    /// By its number, which begins at 1.
    pub fn event(&self, index: usize) -> Option<Event<'_>> {
        let place = index.checked_sub(1)?;
        let record = *self.records.get(place)?;
        Some(Event { index, record, banks: &self.banks, digests: self.digests_at(place) })
    }

    pub fn event_count(&self) -> usize {
        self.records.len()
    }

    /// The Spec ID structure as it was written; nothing where a SHA-1 log has none.
    pub fn spec_id(&self) -> Option<&'a [u8]> {
        self.header.map(|header| header.data)
    }

    /// Where register 0 began, if the log says so.
    pub fn startup_locality(&self) -> Option<u8> {
        self.locality
    }

    /// What stands behind the last event of a CCEL: 0xff or 0x00 throughout.
    pub fn padding(&self) -> &'a [u8] {
        self.padding
    }

    /// The register that the header names.
    pub(crate) fn header_register(&self) -> u32 {
        self.header.map_or(0, |header| header.register)
    }

    fn digests_at(&self, place: usize) -> &[&'a [u8]] {
        let width = self.banks.len();
        let start = place.saturating_mul(width);
        self.digests.get(start..start.saturating_add(width)).unwrap_or(&[])
    }
}

impl<'l> Event<'l> {
    /// Its number in the log; the first one is 1.
    pub fn index(&self) -> usize {
        self.index
    }

    /// PCR, or measurement register of a CCEL.
    pub fn register(&self) -> u32 {
        self.record.register
    }

    pub fn kind(&self) -> EventType {
        self.record.kind
    }

    pub fn data(&self) -> &'l [u8] {
        self.record.data
    }

    /// EV_NO_ACTION never does, whatever register it names.
    pub fn extends(&self) -> bool {
        self.record.kind != EventType::NO_ACTION
    }

    /// The digests in the order of the banks, unknown algorithms left out.
    pub fn digests(&self) -> impl Iterator<Item = Digest> + 'l {
        let known = self.banks.iter().zip(self.digests);
        known.filter_map(|(bank, bytes)| Digest::new(bank.algorithm?, bytes))
    }

    pub fn digest(&self, algorithm: HashAlgorithm) -> Option<Digest> {
        self.digests().find(|digest| digest.algorithm() == algorithm)
    }

    /// Bank and bytes, unknown algorithms included.
    pub fn raw_digests(&self) -> impl Iterator<Item = (Bank, &'l [u8])> + 'l {
        self.banks.iter().copied().zip(self.digests.iter().copied())
    }
}

impl Bank {
    /// What can be computed here: SM3 is known by name and size only.
    pub fn computable(&self) -> Option<HashAlgorithm> {
        self.algorithm.filter(|&algorithm| algorithm != HashAlgorithm::Sm3_256)
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.algorithm {
            Some(algorithm) => f.write_str(algorithm.name()),
            None => write!(f, "0x{:04x}", self.id),
        }
    }
}

impl Serialize for Bank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Format {
    pub const fn name(self) -> &'static str {
        match self {
            Format::CryptoAgile => "tcg2-crypto-agile",
            Format::Sha1 => "tcg1.2-sha1",
            Format::Ccel => "ccel",
        }
    }

    /// The highest register there is.
    pub const fn last_register(self) -> u32 {
        match self {
            Format::CryptoAgile | Format::Sha1 => 23,
            Format::Ccel => 4,
        }
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Numbers of a log are little-endian, unlike those of the TPM.
pub(crate) fn little16(reader: &mut Reader<'_>) -> Result<u16, ReadError> {
    reader.array().map(u16::from_le_bytes)
}

pub(crate) fn little32(reader: &mut Reader<'_>) -> Result<u32, ReadError> {
    reader.array().map(u32::from_le_bytes)
}

/// Bytes of a log that are read at most.
pub const MAX_LOG: usize = 4 * 1024 * 1024;
/// Events that are read at most.
pub const MAX_EVENTS: usize = 32 * 1024;
/// Banks that a header may name.
pub const MAX_BANKS: usize = 8;
