//! What an OVMF image says of itself: a table of GUIDs that ends 32 bytes before the end of the
//! image and is read backwards (OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm).

use std::collections::BTreeMap;

use assay_evidence::Reader;

use super::LaunchError;
use super::PAGE;
use super::guid;
use super::u32_le;

pub(super) struct Firmware<'a> {
    image: &'a [u8],
    /// The data of each entry, by its GUID.
    table: BTreeMap<[u8; 16], &'a [u8]>,
    sections: Vec<Section>,
}

/// Pages that the image wants to have at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub place: u32,
    pub size: u32,
    pub kind: u32,
}

impl<'a> Firmware<'a> {
    pub fn parse(image: &'a [u8]) -> Result<Firmware<'a>, LaunchError> {
        let whole_pages = image.len().is_multiple_of(PAGE);
        if image.is_empty() || !whole_pages || image.len() > MAX_IMAGE {
            return Err(LaunchError::Size { max: MAX_IMAGE });
        }
        let table = table(image)?;
        let sections = sections(image, &table)?;
        Ok(Firmware { image, table, sections })
    }

    /// Every page of the image with its place; the last ends at 4 GiB.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let size = u64::try_from(self.image.len()).unwrap_or(0);
        let start = (1_u64 << 32).saturating_sub(size);
        (start..).step_by(PAGE).zip(self.image.chunks(PAGE))
    }

    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Where processors but the first begin.
    pub fn reset_address(&self) -> Result<u32, LaunchError> {
        self.number(RESET_BLOCK, "reset block")
    }

    /// Where the table of hashes belongs.
    pub fn hashes_address(&self) -> Result<u32, LaunchError> {
        self.number(HASHES, "place for a table of hashes")
    }

    fn number(&self, entry: [u8; 16], name: &'static str) -> Result<u32, LaunchError> {
        let data = self.table.get(&entry).ok_or(LaunchError::Missing(name))?;
        Ok(u32_le(&mut Reader::new(data))?)
    }
}

impl Section {
    pub fn pages(&self) -> impl Iterator<Item = u64> {
        let start = u64::from(self.place);
        (start..start.saturating_add(u64::from(self.size))).step_by(PAGE)
    }
}

/// Each entry is its data, the length of all of it, its GUID; the last is the table itself.
fn table(image: &[u8]) -> Result<BTreeMap<[u8; 16], &[u8]>, LaunchError> {
    let end = image.len().checked_sub(BEHIND_TABLE).ok_or(LaunchError::NoTable)?;
    let whole = image.get(..end).ok_or(LaunchError::NoTable)?;
    let (length, id) = tail(whole).ok_or(LaunchError::NoTable)?;
    if id != FOOTER {
        return Err(LaunchError::NoTable);
    }
    let start = end.checked_sub(length).ok_or(LaunchError::NoTable)?;
    let mut rest = end
        .checked_sub(ENTRY)
        .and_then(|entries| image.get(start..entries))
        .ok_or(LaunchError::NoTable)?;
    let mut table = BTreeMap::new();
    while !rest.is_empty() {
        let malformed = LaunchError::Malformed("table of GUIDs");
        let (length, id) = tail(rest).ok_or(malformed)?;
        let start = rest.len().checked_sub(length).ok_or(malformed)?;
        let data = length
            .checked_sub(ENTRY)
            .and_then(|size| rest.get(start..start.checked_add(size)?))
            .ok_or(malformed)?;
        if table.insert(id, data).is_some() {
            return Err(malformed);
        }
        rest = rest.get(..start).ok_or(malformed)?;
    }
    Ok(table)
}

/// Length and GUID at the end of an entry.
fn tail(bytes: &[u8]) -> Option<(usize, [u8; 16])> {
    let mut reader = Reader::new(bytes.get(bytes.len().checked_sub(ENTRY)?..)?);
    let length = reader.array().map(u16::from_le_bytes).ok()?;
    let id = reader.array().ok()?;
    Some((usize::from(length), id))
}

fn sections(image: &[u8], table: &BTreeMap<[u8; 16], &[u8]>) -> Result<Vec<Section>, LaunchError> {
    let malformed = LaunchError::Malformed("metadata");
    let data = table.get(&METADATA).ok_or(LaunchError::Missing("SEV metadata"))?;
    let from_end = usize::try_from(u32_le(&mut Reader::new(data))?).map_err(|_| malformed)?;
    let start = image.len().checked_sub(from_end).ok_or(malformed)?;
    let mut reader = Reader::new(image.get(start..).ok_or(malformed)?);
    let signature: [u8; 4] = reader.array()?;
    let length = u32_le(&mut reader)?;
    let version = u32_le(&mut reader)?;
    let count = u32_le(&mut reader)?;
    let size = count.checked_mul(12).and_then(|size| size.checked_add(16));
    if signature != *b"ASEV" || version != 1 || count > MAX_SECTIONS || size != Some(length) {
        return Err(malformed);
    }
    let mut sections = Vec::new();
    for _ in 0..count {
        let (place, size) = (u32_le(&mut reader)?, u32_le(&mut reader)?);
        let section = Section { place, size, kind: u32_le(&mut reader)? };
        if !section.place.is_multiple_of(4096)
            || !section.size.is_multiple_of(4096)
            || section.size > MAX_SECTION
        {
            return Err(malformed);
        }
        sections.push(section);
    }
    Ok(sections)
}

/// Bytes behind the table: the reset vector.
const BEHIND_TABLE: usize = 32;
/// Length and GUID.
const ENTRY: usize = 18;
const MAX_IMAGE: usize = 64 * 1024 * 1024;
const MAX_SECTIONS: u32 = 64;
const MAX_SECTION: u32 = 64 * 1024 * 1024;
const FOOTER: [u8; 16] =
    guid(0x96b5_82de, 0x1fb2, 0x45f7, [0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d]);
const METADATA: [u8; 16] =
    guid(0xdc88_6566, 0x984a, 0x4798, [0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc]);
const RESET_BLOCK: [u8; 16] =
    guid(0x00f7_71de, 0x1a7e, 0x4fcb, [0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e]);
const HASHES: [u8; 16] =
    guid(0x7255_371f, 0x3a3b, 0x4b04, [0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54]);
