//! The little CBOR (RFC 8949) that evidence and reference values are written in, bounded: no
//! allocation by a length that was not looked at, and no number that is not whole.
//!
//! Where there must be no choice only shortest definite forms are read ([`Cbor::strict`]).
//! [`Cbor::lenient`] also takes maps and arrays of indefinite length, as in real documents. Writing
//! is deterministic (RFC 8949 §4.2.1) as long as the caller gives the keys of a map in their order.

use crate::reader::Reader;

/// Why bytes are not the item that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    #[error("cut short")]
    Short,
    #[error("{found} where {expected} is expected")]
    Kind { found: &'static str, expected: &'static str },
    #[error("a length or number that is not in its shortest form")]
    NotShortest,
    #[error("an indefinite length where none may be")]
    Indefinite,
    #[error("text that is not UTF-8")]
    Text,
    #[error("bytes left over")]
    Trailing,
    #[error("nested deeper than {MAX_DEPTH}")]
    Deep,
}

/// What the next item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unsigned,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    /// `false`, `true`, `null`, floats.
    Simple,
}

/// How many items a map or an array has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Definite(u64),
    /// Until a break.
    Indefinite,
}

#[derive(Clone, Copy, Debug)]
pub struct Cbor<'a> {
    reader: Reader<'a>,
    strict: bool,
}

impl<'a> Cbor<'a> {
    /// Shortest definite forms only.
    pub const fn strict(bytes: &'a [u8]) -> Cbor<'a> {
        Cbor { reader: Reader::new(bytes), strict: true }
    }

    pub const fn lenient(bytes: &'a [u8]) -> Cbor<'a> {
        Cbor { reader: Reader::new(bytes), strict: false }
    }

    pub fn unsigned(&mut self) -> Result<u64, CborError> {
        match self.head(UNSIGNED)? {
            Length::Definite(number) => Ok(number),
            Length::Indefinite => Err(CborError::Indefinite),
        }
    }

    /// A number of either sign that fits 64 bits.
    pub fn integer(&mut self) -> Result<i64, CborError> {
        let major = if self.kind() == Some(Kind::Negative) { NEGATIVE } else { UNSIGNED };
        let Length::Definite(number) = self.head(major)? else {
            return Err(CborError::Indefinite);
        };
        let wide = || CborError::Kind { found: "a number beyond 64 bits", expected: "a number" };
        let number = i64::try_from(number).map_err(|_| wide())?;
        // RFC 8949 §3.1: −1 − n.
        Ok(if major == NEGATIVE { -1 - number } else { number })
    }

    pub fn tag(&mut self) -> Result<u64, CborError> {
        match self.head(TAG)? {
            Length::Definite(number) => Ok(number),
            Length::Indefinite => Err(CborError::Indefinite),
        }
    }

    /// Nothing at the end.
    pub fn kind(&self) -> Option<Kind> {
        self.reader.rest().first().map(|initial| match initial >> 5 {
            UNSIGNED => Kind::Unsigned,
            NEGATIVE => Kind::Negative,
            BYTES => Kind::Bytes,
            TEXT => Kind::Text,
            ARRAY => Kind::Array,
            MAP => Kind::Map,
            TAG => Kind::Tag,
            _ => Kind::Simple,
        })
    }

    /// Passes one item over, whatever it is.
    pub fn skip(&mut self) -> Result<(), CborError> {
        self.skip_below(MAX_DEPTH)
    }

    fn skip_below(&mut self, depth: u8) -> Result<(), CborError> {
        let depth = depth.checked_sub(1).ok_or(CborError::Deep)?;
        let kind = self.kind().ok_or(CborError::Short)?;
        let (length, each) = match kind {
            Kind::Unsigned => return self.head(UNSIGNED).map(drop),
            Kind::Negative => return self.head(NEGATIVE).map(drop),
            Kind::Simple => return self.head(SIMPLE).map(drop),
            Kind::Bytes => return self.bytes().map(drop),
            Kind::Text => return self.text().map(drop),
            Kind::Tag => {
                self.tag()?;
                return self.skip_below(depth);
            }
            Kind::Array => (self.array()?, 1),
            Kind::Map => (self.map()?, 2),
        };
        let mut index = 0_u64;
        while self.more(length, index) {
            for _ in 0..each {
                self.skip_below(depth)?;
            }
            index = index.saturating_add(1);
        }
        Ok(())
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        self.string(BYTES)
    }

    pub fn text(&mut self) -> Result<&'a str, CborError> {
        std::str::from_utf8(self.string(TEXT)?).map_err(|_| CborError::Text)
    }

    /// A byte string, or null.
    pub fn bytes_or_null(&mut self) -> Result<Option<&'a [u8]>, CborError> {
        if self.reader.rest().first() == Some(&NULL) {
            let _ = self.reader.u8();
            return Ok(None);
        }
        self.bytes().map(Some)
    }

    pub fn array(&mut self) -> Result<Length, CborError> {
        self.head(ARRAY)
    }

    pub fn map(&mut self) -> Result<Length, CborError> {
        self.head(MAP)
    }

    /// Whether item `index` of a map or an array is still to come; takes the break off.
    pub fn more(&mut self, length: Length, index: u64) -> bool {
        match length {
            Length::Definite(count) => index < count,
            Length::Indefinite if self.reader.rest().first() == Some(&BREAK) => {
                let _ = self.reader.u8();
                false
            }
            Length::Indefinite => true,
        }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    pub const fn finish(self) -> Result<(), CborError> {
        if self.reader.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }

    fn string(&mut self, major: u8) -> Result<&'a [u8], CborError> {
        let Length::Definite(length) = self.head(major)? else {
            return Err(CborError::Indefinite);
        };
        let length = usize::try_from(length).map_err(|_| CborError::Short)?;
        self.reader.take(length).map_err(|_| CborError::Short)
    }

    /// Major type and argument (RFC 8949 §3).
    fn head(&mut self, expected: u8) -> Result<Length, CborError> {
        let initial = self.reader.u8().map_err(|_| CborError::Short)?;
        let (major, short) = (initial >> 5, initial & 0x1f);
        if major != expected {
            return Err(CborError::Kind { found: name(major), expected: name(expected) });
        }
        let reader = &mut self.reader;
        let (number, least) = match short {
            0..=23 => (Ok(u64::from(short)), 0),
            24 => (reader.u8().map(u64::from), 24),
            25 => (reader.u16().map(u64::from), 1 << 8),
            26 => (reader.u32().map(u64::from), 1 << 16),
            27 => (reader.u64(), 1 << 32),
            31 if !self.strict && (major == ARRAY || major == MAP) => {
                return Ok(Length::Indefinite);
            }
            _ => return Err(CborError::Indefinite),
        };
        let number = number.map_err(|_| CborError::Short)?;
        if self.strict && number < least {
            return Err(CborError::NotShortest);
        }
        Ok(Length::Definite(number))
    }
}

const fn name(major: u8) -> &'static str {
    match major {
        UNSIGNED => "a number",
        NEGATIVE => "a negative number",
        BYTES => "a byte string",
        TEXT => "a text",
        ARRAY => "an array",
        MAP => "a map",
        TAG => "a tag",
        _ => "a simple value",
    }
}

/// Writes items one behind the other, each in its shortest form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn unsigned(&mut self, number: u64) {
        self.head(UNSIGNED, number);
    }

    pub fn integer(&mut self, number: i64) {
        match u64::try_from(number) {
            Ok(number) => self.head(UNSIGNED, number),
            // −1 − n of a negative number is its bits turned over.
            Err(_) => self.head(NEGATIVE, (!number).unsigned_abs()),
        }
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// The head of an array; its items follow.
    pub fn array(&mut self, items: usize) {
        self.head(ARRAY, items as u64);
    }

    /// The head of a map; its keys and values follow, the keys in their order.
    pub fn map(&mut self, pairs: usize) {
        self.head(MAP, pairs as u64);
    }

    /// The head of a tag; what it is on follows.
    pub fn tag(&mut self, tag: u64) {
        self.head(TAG, tag);
    }

    /// An item that was written before.
    pub fn raw(&mut self, item: &[u8]) {
        self.0.extend_from_slice(item);
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn head(&mut self, major: u8, number: u64) {
        let bytes = number.to_be_bytes();
        let [.., a, b, c, d] = bytes;
        let major = major << 5;
        match number {
            0..=23 => self.0.push(major | d),
            24..=0xff => self.0.extend_from_slice(&[major | 24, d]),
            0x100..=0xffff => self.0.extend_from_slice(&[major | 25, c, d]),
            0x1_0000..=0xffff_ffff => self.0.extend_from_slice(&[major | 26, a, b, c, d]),
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&bytes);
            }
        }
    }
}

/// Real documents nest ten deep at most.
const MAX_DEPTH: u8 = 32;
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const NULL: u8 = 0xf6;
const BREAK: u8 = 0xff;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_shortest_form_is_the_only_one_outside() {
        for longer in
            [&[0x18, 23][..], &[0x19, 0, 24], &[0x1a, 0, 0, 1, 0], &[0x1b, 0, 0, 0, 0, 1, 0, 0, 0]]
        {
            assert_eq!(Cbor::strict(longer).unsigned(), Err(CborError::NotShortest));
            assert!(Cbor::lenient(longer).unsigned().is_ok());
        }
        assert_eq!(Cbor::strict(&[0x18, 24]).unsigned(), Ok(24));
        assert_eq!(Cbor::strict(&[0x9f, 0xff]).array(), Err(CborError::Indefinite));
    }

    #[test]
    fn an_indefinite_array_ends_at_its_break() {
        let mut cbor = Cbor::lenient(&[0x9f, 1, 2, 0xff]);
        let length = cbor.array().unwrap();
        let mut numbers = Vec::new();
        while cbor.more(length, numbers.len() as u64) {
            numbers.push(cbor.unsigned().unwrap());
        }
        assert_eq!((numbers, cbor.finish()), (vec![1, 2], Ok(())));
    }

    #[test]
    fn what_is_written_is_read_and_passed_over() {
        let mut writer = Writer::default();
        writer.tag(501);
        writer.map(3);
        for (key, number) in [(0, -1), (1, i64::MIN), (2, i64::MAX)] {
            writer.unsigned(key);
            writer.integer(number);
        }
        let bytes = writer.into_bytes();
        let mut cbor = Cbor::strict(&bytes);
        assert_eq!((cbor.kind(), cbor.tag()), (Some(Kind::Tag), Ok(501)));
        assert_eq!(cbor.map(), Ok(Length::Definite(3)));
        for (key, number) in [(0, -1), (1, i64::MIN), (2, i64::MAX)] {
            assert_eq!((cbor.unsigned(), cbor.integer()), (Ok(key), Ok(number)));
        }
        assert_eq!(cbor.finish(), Ok(()));
        let mut cbor = Cbor::strict(&bytes);
        assert_eq!((cbor.skip(), cbor.finish()), (Ok(()), Ok(())));
        for length in 0..bytes.len() {
            assert!(Cbor::strict(&bytes[..length]).skip().is_err(), "{length}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = [&[0x81; 40][..], &[0]].concat();
        assert_eq!(Cbor::lenient(&deep).skip(), Err(CborError::Deep));
        let tags = [&[0xc1; 40][..], &[0]].concat();
        assert_eq!(Cbor::lenient(&tags).skip(), Err(CborError::Deep));
        assert_eq!(
            Cbor::lenient(&[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).skip(),
            Ok(())
        );
        assert!(
            Cbor::lenient(&[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
                .integer()
                .is_err()
        );
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(
            Cbor::lenient(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).bytes(),
            Err(CborError::Short)
        );
        assert_eq!(Cbor::lenient(&[0x5f, 0x41, 1, 0xff]).bytes(), Err(CborError::Indefinite));
        assert_eq!(Cbor::lenient(&[0x62, 0xff, 0xfe]).text(), Err(CborError::Text));
        assert_eq!(Cbor::lenient(&[0x1c]).unsigned(), Err(CborError::Indefinite));
    }
}
