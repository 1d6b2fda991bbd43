//! A line of the text list, turned back into the record that the kernel hashed.
//!
//! Only a fallback: a name that holds a newline ends a line early, and the width of numbers and
//! the byte order of lengths are not written, so they are taken to be those of the usual machine.
//! Where that is wrong the entry hashes to something else and the replay refuses it; nothing is
//! believed because it could be read. Spaces in names are no loss of this form: the kernel writes
//! `_` for each in both lists, and hashes it so.
//!
//! A line: register, digest column, template, fields; one space before each. A field without
//! bytes is an empty word, so a line may end in spaces.

use assay_evidence::Reader;

use crate::ima::entry::Data;
use crate::ima::error::Fault;
use crate::ima::frame::COLUMNS;
use crate::ima::frame::MAX_RECORD;
use crate::ima::frame::Record;
use crate::ima::template::Field;
use crate::ima::template::Template;

/// Whether a list that begins so is text. No binary list does: its first byte belongs to the
/// number of a register, which is below 24.
pub(super) fn begins(first: u8) -> bool {
    first == b' ' || first.is_ascii_digit()
}

/// The record of one line without its newline; `scratch` holds what the line has in hex.
pub(super) fn record<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Record<'a>, Fault> {
    scratch.clear();
    let mut words = Words(Some(trimmed(line)));
    let register = words.next().and_then(number).and_then(|n| u32::try_from(n).ok());
    let register = register.ok_or(Fault::Malformed("number of the register"))?;
    let column = words.next().and_then(|hex| unhex(hex, scratch));
    let column = column.filter(|size| COLUMNS.contains(size));
    let column = column.ok_or(Fault::Malformed("digest column"))?;
    let name = words
        .next()
        .filter(|name| !name.is_empty())
        .ok_or(Fault::Malformed("name of the template"))?;
    let template = Template::parse(name)?;

    let count = template.fields().count();
    let mut rest = &[][..];
    for (place, field) in template.fields().enumerate() {
        let last = place.checked_add(1) == Some(count);
        let word = if last { words.0.take() } else { words.next() };
        // Whoever copies a list may lose the spaces at the end of a line.
        let word = word.unwrap_or_default();
        match (template, field) {
            (Template::Ima, Field::Name) => rest = word,
            (Template::Ima, _) => {
                unhex(word, scratch).ok_or(Fault::Field(field))?;
            }
            _ => append(field, word, scratch).ok_or(Fault::Field(field))?,
        }
    }
    if words.0.is_some() {
        return Err(Fault::Malformed("end of the line"));
    }

    let mut reader = Reader::new(scratch);
    let column = reader.take(column)?;
    let data = match template {
        Template::Ima => Data::Ima { digest: reader.rest(), name: rest },
        _ => Data::Sized(reader.rest()),
    };
    Ok(Record { register, column, template: name, data })
}

/// One field as the binary list has it: a 32-bit length and the bytes.
fn append(field: Field, word: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    match field {
        Field::DigestNg | Field::DigestNgV2 | Field::AppendedDigest => {
            if !word.is_empty() {
                named_digest(word, out)?;
            }
        }
        Field::Name | Field::NameNg => {
            out.extend_from_slice(word);
            out.push(0);
        }
        Field::XattrNames => {
            if !word.is_empty() {
                out.extend_from_slice(word);
                out.push(0);
            }
        }
        Field::Uid | Field::Gid => {
            if !word.is_empty() {
                let id = u32::try_from(number(word)?).ok()?;
                out.extend_from_slice(&id.to_le_bytes());
            }
        }
        Field::Mode => {
            if !word.is_empty() {
                let mode = u16::try_from(number(word)?).ok()?;
                out.extend_from_slice(&mode.to_le_bytes());
            }
        }
        _ => {
            unhex(word, out)?;
        }
    }
    let length = out.len().checked_sub(start)?.checked_sub(4)?;
    let length = u32::try_from(length).ok()?.to_le_bytes();
    out.get_mut(start..)?.first_chunk_mut::<4>()?.copy_from_slice(&length);
    Some(())
}

/// `algorithm:hex` or `type:algorithm:hex`; behind the last colon the kernel keeps a NUL.
fn named_digest(word: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let colon = word.iter().rposition(|byte| *byte == b':')?;
    let (name, digest) = word.split_at_checked(colon.checked_add(1)?)?;
    out.extend_from_slice(name);
    out.push(0);
    unhex(digest, out).map(|_| ())
}

/// Decodes into `out` and says how many bytes it was. The kernel writes small letters, so a list
/// has one way only in which it can be written.
fn unhex(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let start = out.len();
    out.resize(start.checked_add(text.len() / 2)?, 0);
    hex::decode_to_slice(text, out.get_mut(start..)?).ok()?;
    Some(text.len() / 2)
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The kernel pads the register to two places.
fn trimmed(line: &[u8]) -> &[u8] {
    match line {
        [b' ', digit, b' ', ..] if digit.is_ascii_digit() => {
            line.strip_prefix(b" ").unwrap_or(line)
        }
        _ => line,
    }
}

struct Words<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        let Some(end) = rest.iter().position(|byte| *byte == b' ') else { return Some(rest) };
        let (word, rest) = rest.split_at_checked(end)?;
        self.0 = rest.split_first().map(|(_, rest)| rest);
        Some(word)
    }
}

/// Twice a record in hex, and room for names and numbers.
pub(super) const MAX_LINE: usize = 2 * MAX_RECORD + 8 * 1024;
