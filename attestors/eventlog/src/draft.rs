//! A log as something that can be written: records that own their bytes.
//!
//! This is for tests, for examples and for the mutations that profiles are tried with. It writes
//! whatever it is told, nonsense included; only [`Log::parse`] says what is a log.

use crate::event_type::EventType;
use crate::log::Event;
use crate::log::Format;
use crate::log::Log;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub format: Format,
    /// The first record; nothing for a SHA-1 log without one.
    pub header: Option<Header>,
    pub events: Vec<EventRecord>,
    /// What stands behind the last event.
    pub padding: Vec<u8>,
}

/// The Spec ID event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub register: u32,
    pub data: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    pub register: u32,
    pub kind: EventType,
    /// TPM_ALG_ID and digest, in the order in which they are written. A SHA-1 log takes the first.
    pub digests: Digests,
    pub data: Vec<u8>,
}

/// TPM_ALG_ID and bytes.
pub type Digests = Vec<(u16, Vec<u8>)>;

impl Draft {
    /// A crypto-agile log without events, with these banks.
    pub fn crypto_agile(banks: &[(u16, u16)]) -> Draft {
        let header = Header { register: 0, data: spec_id(banks) };
        Draft {
            format: Format::CryptoAgile,
            header: Some(header),
            events: Vec::new(),
            padding: Vec::new(),
        }
    }

    pub fn of(log: &Log<'_>) -> Draft {
        let header = log
            .spec_id()
            .map(|data| Header { register: log.header_register(), data: data.to_vec() });
        Draft {
            format: log.format(),
            header,
            events: log.events().map(EventRecord::from).collect(),
            padding: log.padding().to_vec(),
        }
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(header) = &self.header {
            sha1_record(&mut out, header.register, EventType::NO_ACTION, &[0; 20], &header.data);
        }
        for event in &self.events {
            match self.format {
                Format::Sha1 => {
                    let digest = event.digests.first().map_or(&[0; 20][..], |(_, digest)| digest);
                    sha1_record(&mut out, event.register, event.kind, digest, &event.data);
                }
                Format::CryptoAgile | Format::Ccel => event.write(&mut out),
            }
        }
        out.extend_from_slice(&self.padding);
        out
    }
}

impl EventRecord {
    /// TCG_PCR_EVENT2 (PFP 1.05, §10.2.2).
    fn write(&self, out: &mut Vec<u8>) {
        number(out, self.register);
        number(out, self.kind.0);
        number(out, size(&self.digests));
        for (id, digest) in &self.digests {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(digest);
        }
        number(out, size(&self.data));
        out.extend_from_slice(&self.data);
    }
}

impl From<Event<'_>> for EventRecord {
    fn from(event: Event<'_>) -> EventRecord {
        EventRecord {
            register: event.register(),
            kind: event.kind(),
            digests: event.raw_digests().map(|(bank, digest)| (bank.id, digest.to_vec())).collect(),
            data: event.data().to_vec(),
        }
    }
}

/// TCG_EfiSpecIdEvent with these algorithms and the sizes of their digests.
pub fn spec_id(banks: &[(u16, u16)]) -> Vec<u8> {
    let mut out = b"Spec ID Event03\0".to_vec();
    // platformClass 0, version 2.0, errata 0, uintnSize of 64-bit firmware.
    out.extend_from_slice(&[0, 0, 0, 0, 0, 2, 0, 2]);
    number(&mut out, size(banks));
    for (id, size) in banks {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&size.to_le_bytes());
    }
    out.push(0);
    out
}

fn sha1_record(out: &mut Vec<u8>, register: u32, kind: EventType, digest: &[u8], data: &[u8]) {
    number(out, register);
    number(out, kind.0);
    out.extend_from_slice(digest);
    number(out, size(data));
    out.extend_from_slice(data);
}

fn number(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn size<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
