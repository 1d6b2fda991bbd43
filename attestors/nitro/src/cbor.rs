//! The little CBOR (RFC 8949) that a document needs, bounded: no recursion, no allocation by a
//! length that was not looked at, no tags, no floats.
//!
//! Outside of the signature there must be no choice, so there only shortest definite forms are
//! read ([`Cbor::strict`]). Inside, a map or an array may be of indefinite length, as in real
//! documents of 2025.

use assay_evidence::Reader;

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
        1 => "a negative number",
        BYTES => "a byte string",
        TEXT => "a text",
        ARRAY => "an array",
        MAP => "a map",
        6 => "a tag",
        _ => "a simple value",
    }
}

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
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
