//! The table of certificates that a host hands to its guests beside a report.
//!
//! Entries of 24 bytes {GUID, offset, length} and a zero entry, then the certificates (GHCB
//! specification 56421, SNP Extended Guest Request; configfs-tsm calls it `auxblob`). The host fills
//! it as it likes: nothing in it is trusted, it only saves a way to AMD's server.

use assay_evidence::Certificate;
use assay_evidence::Reader;
use assay_evidence::reader::ReadError;

use crate::error::Fault;
use crate::report::SigningKey;

/// The certificates of a table that are of use here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCertificates {
    pub vcek: Option<Certificate>,
    pub vlek: Option<Certificate>,
    /// ASK or ASVK.
    pub issuer: Option<Certificate>,
    pub root: Option<Certificate>,
}

struct Entry {
    guid: [u8; 16],
    offset: usize,
    length: usize,
}

impl HostCertificates {
    pub fn parse(table: &[u8]) -> Result<HostCertificates, Fault> {
        if table.len() > MAX_TABLE {
            return Err(Fault::HostCertificates("larger than a table may be"));
        }
        let mut reader = Reader::new(table);
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let entry = Entry::read(&mut reader).map_err(|_| CUT)?;
            if entry.guid == [0; 16] {
                break;
            }
            if entries.len() == MAX_ENTRIES {
                return Err(Fault::HostCertificates("more entries than a table may have"));
            }
            if entries.iter().any(|other| other.guid == entry.guid) {
                return Err(Fault::HostCertificates("two entries of one kind"));
            }
            entries.push(entry);
        }
        let start = table.len().saturating_sub(reader.rest().len());
        let mut found = HostCertificates::default();
        for entry in entries {
            if entry.offset < start {
                return Err(Fault::HostCertificates("an entry that lies in the table itself"));
            }
            let end = entry.offset.checked_add(entry.length).ok_or(CUT)?;
            let bytes = table.get(entry.offset..end).ok_or(CUT)?;
            let place = match entry.guid {
                VCEK => &mut found.vcek,
                VLEK => &mut found.vlek,
                ISSUER => &mut found.issuer,
                ROOT => &mut found.root,
                // Providers may add entries of their own.
                _ => continue,
            };
            *place = Some(certificate(bytes)?);
        }
        Ok(found)
    }

    pub fn vek(&self, kind: SigningKey) -> Option<&Certificate> {
        match kind {
            SigningKey::Vcek => self.vcek.as_ref(),
            SigningKey::Vlek => self.vlek.as_ref(),
        }
    }
}

impl Entry {
    fn read(reader: &mut Reader<'_>) -> Result<Entry, ReadError> {
        let guid = reader.array()?;
        let mut number = || -> Result<usize, ReadError> {
            let number = u32::from_le_bytes(reader.array()?);
            // A number beyond the address space is beyond the table too.
            Ok(usize::try_from(number).unwrap_or(usize::MAX))
        };
        Ok(Entry { guid, offset: number()?, length: number()? })
    }
}

/// Hosts store DER, or the PEM that a tool gave them.
fn certificate(bytes: &[u8]) -> Result<Certificate, Fault> {
    let unreadable = Fault::HostCertificates("an entry that is not one certificate");
    match Certificate::parse_set(bytes).map_err(|_| unreadable.clone())?.as_slice() {
        [certificate] => Ok(certificate.clone()),
        _ => Err(unreadable),
    }
}

const CUT: Fault = Fault::HostCertificates("an entry that reaches beyond the end");
/// Promises of docs/reference/limits.md.
const MAX_TABLE: usize = 64 * 1024;
const MAX_ENTRIES: usize = 16;
/// GUIDs as bytes in the order of their text form.
const VCEK: [u8; 16] = *b"\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
const VLEK: [u8; 16] = *b"\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1";
const ISSUER: [u8; 16] = *b"\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82";
const ROOT: [u8; 16] = *b"\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae";
