//! The little DER that is written here, and the walk over it that needs no parser.
//!
//! Reading and writing stand side by side; anything richer is the business of `x509-parser`.

/// One element from the front: its tag, its contents, and its bytes with tag and length.
pub struct Element<'a> {
    pub tag: u8,
    pub contents: &'a [u8],
    pub whole: &'a [u8],
}

impl Element<'_> {
    /// Whether the length is said in the fewest bytes, which alone is DER (X.690 §10.1).
    pub(crate) fn is_shortest(&self) -> bool {
        let header = header(self.tag, self.contents.len());
        self.whole.strip_prefix(header.as_slice()).is_some_and(|rest| rest == self.contents)
    }
}

/// Takes an element off the front of `rest`. Tags of one byte, definite lengths.
pub fn take<'a>(rest: &mut &'a [u8]) -> Option<Element<'a>> {
    let (&tag, after_tag) = rest.split_first()?;
    let (&first, after_length) = after_tag.split_first()?;
    let (length, after_length) = match first {
        0..=0x7f => (usize::from(first), after_length),
        0x81..=0x84 => {
            let (digits, after) = after_length.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit));
            (length, after)
        }
        _ => return None,
    };
    let (contents, behind) = after_length.split_at_checked(length)?;
    let whole = rest.get(..rest.len().checked_sub(behind.len())?)?;
    *rest = behind;
    Some(Element { tag, contents, whole })
}

/// The contents of the one SEQUENCE that `der` is, with nothing behind it.
pub fn sequence(mut der: &[u8]) -> Option<&[u8]> {
    let whole = take(&mut der).filter(|whole| whole.tag == SEQUENCE)?;
    der.is_empty().then_some(whole.contents)
}

/// The one INTEGER from 0 to 127 that `der` is, as any other would be out of place.
pub(crate) fn small_integer(der: &[u8]) -> Option<u8> {
    match der {
        &[INTEGER, 1, number @ 0..=0x7f] => Some(number),
        _ => None,
    }
}

/// Tag, shortest length form, contents; contents here are a few hundred bytes.
pub(crate) fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = header(tag, contents.len());
    out.extend_from_slice(contents);
    out
}

/// The tag, and the length in its shortest form.
fn header(tag: u8, length: usize) -> Vec<u8> {
    let length = length.to_be_bytes();
    let mut out = vec![tag];
    match without_leading_zeros(&length) {
        [] => out.push(0),
        &[one] if one < 0x80 => out.push(one),
        // A usize has at most 8 bytes.
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out
}

pub(crate) fn unsigned_integer(number: &[u8]) -> Vec<u8> {
    match without_leading_zeros(number) {
        [] => element(INTEGER, &[0]),
        number @ [0x80..=0xff, ..] => element(INTEGER, &[&[0], number].concat()),
        number => element(INTEGER, number),
    }
}

pub(crate) fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or(&[])
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub const OBJECT_IDENTIFIER: u8 = 0x06;
pub const SEQUENCE: u8 = 0x30;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_written_is_taken_off_again() {
        for size in [0, 1, 127, 128, 255, 256, 70_000] {
            let contents = vec![7; size];
            let bytes = [element(SEQUENCE, &contents), vec![9]].concat();
            let mut rest = bytes.as_slice();
            let taken = take(&mut rest).unwrap();
            assert_eq!((taken.tag, taken.contents), (SEQUENCE, contents.as_slice()));
            assert_eq!(rest, [9]);
        }
    }

    #[test]
    fn of_all_ways_to_say_a_length_one_is_the_shortest() {
        for size in [0, 1, 127, 128, 255, 256, 70_000] {
            let contents = vec![7; size];
            let digits = u32::try_from(size).unwrap().to_be_bytes();
            let mut shortest = 0;
            for count in 1..=4u8 {
                let (_, digits) = digits.split_at(4 - usize::from(count));
                let long = [&[SEQUENCE, 0x80 | count], digits, &contents].concat();
                let taken = take(&mut long.as_slice()).filter(|taken| taken.contents == contents);
                shortest += usize::from(taken.is_some_and(|taken| taken.is_shortest()));
            }
            let usual = element(SEQUENCE, &contents);
            assert!(take(&mut usual.as_slice()).unwrap().is_shortest());
            assert_eq!(shortest, usize::from(size > 127), "{size}");
        }
    }

    #[test]
    fn lengths_beyond_the_end_or_of_no_end_are_refused() {
        for bytes in [&[0x30][..], &[0x30, 1], &[0x30, 0x80, 0, 0], &[0x30, 0x85, 0, 0, 0, 0, 0]] {
            assert!(take(&mut &*bytes).is_none());
        }
    }

    #[test]
    fn integers_are_unsigned_and_shortest() {
        assert_eq!(unsigned_integer(&[]), [2, 1, 0]);
        assert_eq!(unsigned_integer(&[0, 0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned_integer(&[0x80]), [2, 2, 0, 0x80]);
    }
}
