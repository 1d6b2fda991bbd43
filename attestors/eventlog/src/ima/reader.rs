//! Pieces of a list, however they were cut, into entries: binary or text, told apart by the first
//! byte.
//!
//! Memory is that of the largest entry: whole entries are borrowed from the piece they lie in, and
//! only one that lies across a cut is put together. The reader believes nothing; it stops at the
//! first byte that no kernel writes.

use crate::ima::entry::Entry;
use crate::ima::error::Error;
use crate::ima::error::Fault;
use crate::ima::frame;
use crate::ima::frame::ByteOrder;
use crate::ima::frame::Framed;
use crate::ima::frame::Layout;
use crate::ima::text;

#[derive(Debug, Default)]
pub struct Reader {
    format: Option<Format>,
    /// The beginning of an entry whose end has not come yet. Before the format was known it can be
    /// more than one.
    carry: Vec<u8>,
    /// How much of `carry` is an entry that was handed out.
    spent: usize,
    /// What a line of text has in hex.
    scratch: Vec<u8>,
    /// The place that the next entry has in the whole list.
    entries: u64,
    /// That of the first.
    first: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Binary(Layout),
    Text,
}

/// The entries that end in one piece.
#[derive(Debug)]
pub struct Entries<'r, 'c> {
    reader: &'r mut Reader,
    chunk: &'c [u8],
}

impl Reader {
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Reads a tail, whose first entry has this place in the whole list.
    pub fn at(first: u64) -> Reader {
        Reader { entries: first, first, ..Reader::default() }
    }

    /// Goes on with the next piece. The pieces of a list come in order and without gaps; of one
    /// piece all entries have to be taken before the next is given.
    pub fn entries<'r, 'c>(&'r mut self, chunk: &'c [u8]) -> Entries<'r, 'c> {
        Entries { reader: self, chunk }
    }

    /// Entries read so far.
    pub fn count(&self) -> u64 {
        self.entries.saturating_sub(self.first)
    }

    /// Whether the list is text; nothing as long as no byte was seen.
    pub fn is_text(&self) -> Option<bool> {
        self.format.map(|format| format == Format::Text)
    }

    /// A list ends with a whole entry. How many there were; an empty list or tail has none.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.let_go();
        match self.carry.len() {
            0 => Ok(self.count()),
            _ if self.count() == 0 => Err(Error::NotAList("not one whole entry")),
            bytes => Err(Error::Trailing { bytes, after: self.entries.saturating_sub(1) }),
        }
    }

    /// Forgets the entry that was handed out of `carry`.
    fn let_go(&mut self) {
        match std::mem::take(&mut self.spent) {
            0 => {}
            all if all >= self.carry.len() => self.carry.clear(),
            spent => drop(self.carry.drain(..spent)),
        }
    }

    /// The next place, counted up.
    fn number(&mut self) -> u64 {
        let index = self.entries;
        self.entries = index.saturating_add(1);
        index
    }

    /// Told by the first byte, and for binary by the first record.
    fn detect(&mut self, bytes: &[u8]) -> Result<Option<Format>, Error> {
        if self.format.is_none() {
            self.format = match bytes.first() {
                None => None,
                Some(first) if text::begins(*first) => Some(Format::Text),
                Some(_) => frame::layout(bytes).map_err(Error::NotAList)?.map(Format::Binary),
            };
        }
        Ok(self.format)
    }
}

/// What an agent sends of a whole list: at most so many entries, beginning with the one at `from`.
/// Nothing if the list is shorter than that, as it is after another boot.
pub fn tail(list: &[u8], from: u64, limit: u64) -> Result<Option<&[u8]>, Error> {
    let mut reader = Reader::new();
    let mut entries = reader.entries(list);
    let mut rest = list;
    let mut skipped = 0;
    while skipped < from {
        if entries.next()?.is_none() {
            return Ok(None);
        }
        rest = entries.chunk;
        skipped = skipped.saturating_add(1);
    }
    let mut taken = 0;
    while taken < limit && entries.next()?.is_some() {
        taken = taken.saturating_add(1);
    }
    Ok(rest.get(..rest.len().saturating_sub(entries.chunk.len())))
}

impl Entries<'_, '_> {
    /// The next entry that ends in this piece.
    #[inline]
    #[allow(clippy::should_implement_trait)] // lends: an iterator's items could not borrow from it
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        self.reader.let_go();
        let format = match self.reader.format {
            Some(format) => format,
            None => match self.first()? {
                Some(format) => format,
                None => return Ok(None),
            },
        };
        match format {
            Format::Binary(layout) => self.next_record(layout),
            Format::Text => self.next_line(),
        }
    }

    /// While the format is not known, bytes are put by until it is.
    fn first(&mut self) -> Result<Option<Format>, Error> {
        if self.reader.carry.is_empty() {
            let found = self.reader.detect(self.chunk)?;
            if found.is_none() {
                self.keep(self.chunk.len());
            }
            return Ok(found);
        }
        loop {
            let carry = std::mem::take(&mut self.reader.carry);
            let found = self.reader.detect(&carry);
            self.reader.carry = carry;
            match found? {
                None if !self.chunk.is_empty() => self.keep(1),
                found => return Ok(found),
            }
        }
    }

    #[inline]
    fn next_record(&mut self, layout: Layout) -> Result<Option<Entry<'_>>, Error> {
        if self.reader.carry.is_empty() {
            match frame::frame(self.chunk, layout).map_err(|f| f.at(self.reader.entries))? {
                Framed::Whole { record, size } => {
                    self.chunk = self.chunk.get(size..).unwrap_or_default();
                    let index = self.reader.number();
                    return match Entry::parse(record, layout.order, index) {
                        Ok(entry) => Ok(Some(entry)),
                        Err(fault) => Err(fault.at(index)),
                    };
                }
                Framed::Short { .. } => {
                    self.keep(self.chunk.len());
                    return Ok(None);
                }
            }
        }
        let index = self.reader.entries;
        while let Framed::Short { needed } =
            frame::frame(&self.reader.carry, layout).map_err(|f| f.at(index))?
        {
            if self.chunk.is_empty() {
                return Ok(None);
            }
            self.keep(needed.saturating_sub(self.reader.carry.len()));
        }
        self.reader.number();
        match frame::frame(&self.reader.carry, layout) {
            Ok(Framed::Whole { record, size }) => {
                self.reader.spent = size;
                Entry::parse(record, layout.order, index).map(Some)
            }
            Ok(Framed::Short { .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
        .map_err(|fault| fault.at(index))
    }

    fn next_line(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let end = self.chunk.iter().position(|byte| *byte == b'\n');
        let length = self.reader.carry.len().saturating_add(end.unwrap_or(self.chunk.len()));
        if length > text::MAX_LINE {
            let fault = Fault::TooLarge { found: length, max: text::MAX_LINE };
            return Err(fault.at(self.reader.entries));
        }
        let Some(end) = end else {
            self.keep(self.chunk.len());
            return Ok(None);
        };
        let chunk = self.chunk;
        let line = match self.reader.carry.is_empty() {
            true => {
                self.chunk = chunk.get(end.saturating_add(1)..).unwrap_or_default();
                chunk.get(..end).unwrap_or_default()
            }
            false => {
                self.keep(end);
                self.chunk = self.chunk.get(1..).unwrap_or_default();
                self.reader.spent = self.reader.carry.len();
                &[]
            }
        };
        let index = self.reader.number();
        let reader = &mut *self.reader;
        let line = if reader.spent > 0 { reader.carry.as_slice() } else { line };
        text::record(line, &mut reader.scratch)
            .and_then(|record| Entry::parse(record, ByteOrder::Little, index))
            .map(Some)
            .map_err(|fault| fault.at(index))
    }

    /// Puts so many bytes of the piece by, or what is left of it.
    fn keep(&mut self, count: usize) {
        let (head, rest) = self.chunk.split_at(count.min(self.chunk.len()));
        self.reader.carry.extend_from_slice(head);
        self.chunk = rest;
    }
}
