//! Where one record of a binary list ends and the next begins.
//!
//! A record: register u32, digest column, length and name of the template, length of the data
//! (absent for template `ima`), data. All lengths are in the byte order of the host, little-endian
//! with `ima_canonical_fmt`. The plain list has SHA-1 in its column; each bank's own list
//! (`binary_runtime_measurements_sha256`, …) has that bank's digest. Nothing in a list says which
//! of these it is, so the first record tells.

use assay_evidence::Reader;
use assay_evidence::reader::ReadError;

use crate::ima::entry::Data;
use crate::ima::entry::MAX_NAME;
use crate::ima::error::Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(super) fn length(self, bytes: [u8; 4]) -> usize {
        usize::try_from(self.u32(bytes)).unwrap_or(usize::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) order: ByteOrder,
    /// Bytes of the digest column.
    pub(super) column: usize,
}

/// A record cut at its seams, not yet understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) register: u32,
    pub(super) column: &'a [u8],
    pub(super) template: &'a [u8],
    pub(super) data: Data<'a>,
}

pub(super) enum Framed<'a> {
    Whole {
        record: Record<'a>,
        size: usize,
    },
    /// So many bytes from the record's first are needed to see further.
    Short {
        needed: usize,
    },
}

/// Why a record was not read to its end.
enum Stop {
    Short { needed: usize },
    Fault(Fault),
}

/// The first record of `bytes`.
#[inline]
pub(super) fn frame(bytes: &[u8], layout: Layout) -> Result<Framed<'_>, Fault> {
    match record(bytes, layout) {
        Ok((record, size)) => Ok(Framed::Whole { record, size }),
        Err(Stop::Short { needed }) if needed > MAX_RECORD => {
            Err(Fault::TooLarge { found: needed, max: MAX_RECORD })
        }
        Err(Stop::Short { needed }) => Ok(Framed::Short { needed }),
        Err(Stop::Fault(fault)) => Err(fault),
    }
}

#[inline]
fn record(bytes: &[u8], layout: Layout) -> Result<(Record<'_>, usize), Stop> {
    let mut reader = Reader::new(bytes);
    let short = |error| match error {
        ReadError::Short { needed, left } => {
            Stop::Short { needed: bytes.len().saturating_sub(left).saturating_add(needed) }
        }
        other => Stop::Fault(Fault::Shape(other)),
    };
    let register = layout.order.u32(reader.array().map_err(short)?);
    let column = reader.take(layout.column).map_err(short)?;
    let length = layout.order.length(reader.array().map_err(short)?);
    if !(1..=MAX_TEMPLATE).contains(&length) {
        return Err(Stop::Fault(Fault::Malformed("length of the template's name")));
    }
    let template = reader.take(length).map_err(short)?;
    let data = if template == b"ima" {
        let digest = reader.take(SHORT_DIGEST).map_err(short)?;
        let length = layout.order.length(reader.array().map_err(short)?);
        if length > MAX_NAME {
            return Err(Stop::Fault(Fault::Malformed("length of the name")));
        }
        Data::Ima { digest, name: reader.take(length).map_err(short)? }
    } else {
        let length = layout.order.length(reader.array().map_err(short)?);
        if length > MAX_RECORD {
            return Err(Stop::Fault(Fault::TooLarge { found: length, max: MAX_RECORD }));
        }
        Data::Sized(reader.take(length).map_err(short)?)
    };
    let size = bytes.len().saturating_sub(reader.rest().len());
    Ok((Record { register, column, template, data }, size))
}

/// The layout that the first record has; nothing while there are too few bytes to tell.
pub(super) fn layout(bytes: &[u8]) -> Result<Option<Layout>, &'static str> {
    let Some(register) = bytes.first_chunk::<4>() else { return Ok(None) };
    let order = [ByteOrder::Little, ByteOrder::Big]
        .into_iter()
        .find(|order| order.u32(*register) < REGISTERS)
        .ok_or("the first record names no register")?;
    for column in COLUMNS {
        let mut reader = Reader::new(bytes);
        let Some(length) = name_length(&mut reader, order, column) else { return Ok(None) };
        if !(1..=MAX_TEMPLATE).contains(&length) {
            continue;
        }
        let Ok(name) = reader.take(length) else { return Ok(None) };
        if sounds_like_a_template(name) {
            return Ok(Some(Layout { order, column }));
        }
    }
    Err("the first record has no template's name at any place where one could stand")
}

fn name_length(reader: &mut Reader<'_>, order: ByteOrder, column: usize) -> Option<usize> {
    reader.take(4).ok()?;
    reader.take(column).ok()?;
    Some(order.length(reader.array().ok()?))
}

fn sounds_like_a_template(name: &[u8]) -> bool {
    name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-|".contains(b))
}

/// PC Client PTP: a TPM has 24 registers.
const REGISTERS: u32 = 24;
/// SHA-1 first: the plain list.
pub(super) const COLUMNS: [usize; 4] = [20, 32, 48, 64];
const SHORT_DIGEST: usize = 20;
/// Fifteen fields of sixteen letters, and bars.
const MAX_TEMPLATE: usize = 256;
/// The largest honest ones hold appended signatures, attributes or keys: tens of kilobytes.
pub(super) const MAX_RECORD: usize = 256 * 1024;
