//! The ACPI table that says where a CCEL log lies. It is unsigned: it can only contradict a log.

use assay_evidence::Reader;
use assay_evidence::reader::ReadError;

use crate::error::Error;
use crate::log::little32;

/// ACPI 6.5, §5.2.34: header of 36 bytes, CC type, CC subtype, log area minimum length and address.
pub(super) fn accept_table(table: &[u8], log_size: usize) -> Result<(), Error> {
    let area = area(table).map_err(|_| Error::Table("another size than 56 bytes"))?;
    let area = area.ok_or(Error::Table("no signature `CCEL`, or another length inside"))?;
    if table.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) != 0 {
        return Err(Error::Table("the checksum does not fit"));
    }
    if area.kind != TDX {
        return Err(Error::Table("of another kind of machine than TDX"));
    }
    if u64::try_from(log_size).is_ok_and(|size| size > area.length) {
        return Err(Error::Table("the log is larger than the area it should lie in"));
    }
    Ok(())
}

struct Area {
    kind: u8,
    length: u64,
}

fn area(table: &[u8]) -> Result<Option<Area>, ReadError> {
    let mut reader = Reader::new(table);
    let signature: [u8; 4] = reader.array()?;
    let length = little32(&mut reader)?;
    reader.take(HEADER_SIZE - 8)?;
    let kind = reader.u8()?;
    let _subtype = reader.u8()?;
    let _reserved = reader.u16()?;
    let area = reader.array().map(u64::from_le_bytes)?;
    let _address = reader.u64()?;
    reader.finish()?;
    let whole = signature == *b"CCEL" && usize::try_from(length).is_ok_and(|l| l == table.len());
    Ok(whole.then_some(Area { kind, length: area }))
}

const HEADER_SIZE: usize = 36;
const TDX: u8 = 2;
