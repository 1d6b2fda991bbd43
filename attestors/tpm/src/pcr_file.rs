//! Register values as tpm2-tools write them: three forms, told apart by their shape.
//!
//! - the text of `tpm2_pcrread`: banks with indented `number : 0xvalue` lines;
//! - `tpm2_quote -F serialized`: C structures with little-endian numbers, padding included;
//! - `tpm2_quote -F values`: the bare values, which only the signed selection can name.
//!
//! The file is unsigned whatever its form: what it lists counts only after `verify` has held it
//! against the signed digest.

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::Registers;

use crate::error::Error;
use crate::structures::selection::PcrSelection;
use crate::structures::selection::Selections;
use crate::verify::Values;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PcrFile {
    Listed(Registers),
    Bare(Vec<u8>),
}

impl PcrFile {
    pub fn parse(bytes: &[u8]) -> Result<PcrFile, Error> {
        if bytes.is_empty() {
            return Err(Error::PcrFile("it is empty"));
        }
        if bytes.len() > MAX_FILE {
            return Err(Error::PcrFile("it is too large"));
        }
        // Values of 20 to 64 random bytes are not text with colons; a serialized file begins with
        // a count below 17 and NULs.
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains(':') && !text.contains('\0') => listed(text),
            _ if is_serialized(bytes) => serialized(bytes),
            _ => Ok(PcrFile::Bare(bytes.to_vec())),
        }
    }

    pub fn values(&self) -> Values<'_> {
        match self {
            PcrFile::Listed(registers) => Values::Listed(registers),
            PcrFile::Bare(bytes) => Values::Bare(bytes),
        }
    }
}

/// `sha256:` opens a bank, `  0 : 0x…` gives a value; a bank without values is nothing.
fn listed(text: &str) -> Result<PcrFile, Error> {
    let mut registers = Registers::new();
    let mut banks = Vec::new();
    let mut bank = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, right) = line.split_once(':').ok_or(Error::PcrFile("a line without a colon"))?;
        let (left, right) = (left.trim(), right.trim());
        if right.is_empty() {
            let algorithm: HashAlgorithm =
                left.parse().map_err(|_| Error::PcrFile("a bank that is not known"))?;
            if banks.contains(&algorithm) {
                return Err(Error::PcrFile("a bank named twice"));
            }
            banks.push(algorithm);
            bank = Some(algorithm);
            continue;
        }
        let algorithm = bank.ok_or(Error::PcrFile("a value before any bank"))?;
        let register: u32 = left.parse().map_err(|_| Error::PcrFile("a bad register number"))?;
        if register >= u32::BITS {
            return Err(Error::PcrFile("a bad register number"));
        }
        let digits = right.strip_prefix("0x").or(right.strip_prefix("0X")).unwrap_or(right);
        let value = hex::decode(digits).map_err(|_| Error::PcrFile("a value that is not hex"))?;
        let value = Digest::new(algorithm, &value)
            .ok_or(Error::PcrFile("a value of the wrong size for its bank"))?;
        if !registers.insert(register, value) {
            return Err(Error::PcrFile("a register named twice"));
        }
    }
    Ok(PcrFile::Listed(registers))
}

/// The selection, and then as many digest lists as it says.
fn is_serialized(bytes: &[u8]) -> bool {
    let Some(body) = bytes.len().checked_sub(SELECTION_SIZE + 4) else {
        return false;
    };
    let count = bytes.first_chunk::<4>().map_or(0, |four| u32::from_le_bytes(*four));
    body % DIGESTS_SIZE == 0 && (1..=16).contains(&count)
}

fn serialized(bytes: &[u8]) -> Result<PcrFile, Error> {
    let mut reader = Reader::new(bytes);
    let selections = serialized_selection(Reader::new(reader.take(SELECTION_SIZE)?))?;
    let lists = little32(&mut reader)?;
    let mut values = Vec::new();
    for _ in 0..lists {
        let mut list = Reader::new(reader.take(DIGESTS_SIZE)?);
        for _ in 0..little32(&mut list)? {
            let size = usize::from(little16(&mut list)?);
            let value = list.take(MAX_DIGEST)?.get(..size);
            values.push(value.ok_or(Error::PcrFile("a value that is too large"))?);
        }
    }
    reader.finish()?;

    let mut registers = Registers::new();
    let mut values = values.into_iter();
    for selection in selections.as_slice() {
        for register in selection.registers() {
            let value = values.next().and_then(|value| Digest::new(selection.bank, value));
            let value = value.ok_or(Error::PcrFile("values that do not fit the selection"))?;
            if !registers.insert(register, value) {
                return Err(Error::PcrFile("a register named twice"));
            }
        }
    }
    match values.next() {
        None => Ok(PcrFile::Listed(registers)),
        Some(_) => Err(Error::PcrFile("more values than selected registers")),
    }
}

/// TPML_PCR_SELECTION as C lays it out: a count and sixteen places of eight bytes.
fn serialized_selection(mut reader: Reader<'_>) -> Result<Selections, Error> {
    let mut banks = Vec::new();
    for _ in 0..little32(&mut reader)? {
        let id = little16(&mut reader)?;
        let octets = usize::from(reader.u8()?);
        let mask = reader.take(4)?.get(..octets);
        reader.u8()?;
        let bank = HashAlgorithm::from_tpm_id(id)
            .ok_or(Error::UnknownAlgorithm { place: "register file", id })?;
        let selection = mask.and_then(|mask| PcrSelection::from_octets(bank, mask));
        banks.push(selection.ok_or(Error::PcrFile("a selection of too many registers"))?);
    }
    Selections::new(&banks).ok_or(Error::PcrFile("a bank named twice"))
}

fn little32(reader: &mut Reader<'_>) -> Result<u32, Error> {
    Ok(u32::from_le_bytes(reader.array()?))
}

fn little16(reader: &mut Reader<'_>) -> Result<u16, Error> {
    Ok(u16::from_le_bytes(reader.array()?))
}

const SELECTION_SIZE: usize = 4 + 16 * 8;
const DIGESTS_SIZE: usize = 4 + 8 * (2 + MAX_DIGEST);
const MAX_DIGEST: usize = 64;
/// All registers of all banks in the longest form, several times over.
const MAX_FILE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use assay_evidence::Reason;

    use super::*;

    const ONE: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";

    fn refused(text: &str) -> Reason {
        PcrFile::parse(text.as_bytes()).unwrap_err().reason()
    }

    #[test]
    fn text_lists_values_by_bank_and_number() {
        let text = format!("  sha1:\n  sha256:\n    0 : {ONE}\n    16: {ONE}\n");
        let PcrFile::Listed(registers) = PcrFile::parse(text.as_bytes()).unwrap() else {
            panic!("a list was expected")
        };
        assert_eq!(registers.bank(HashAlgorithm::Sha256).unwrap().len(), 2);
        assert!(registers.bank(HashAlgorithm::Sha1).is_none());
    }

    #[test]
    fn text_that_names_anything_twice_or_wrongly_is_refused() {
        for text in [
            format!("sha256:\n0: {ONE}\n0: {ONE}\n"),
            "sha256:\nsha256:\n".into(),
            "sha3:\n".into(),
            format!("0: {ONE}\n"),
            format!("sha256:\n32: {ONE}\n"),
            format!("sha1:\n0: {ONE}\n"),
            "sha256:\n0: 0xzz\n".into(),
            "sha256:\nno colon here\n".into(),
        ] {
            assert_eq!(refused(&text), Reason::TpmMalformed, "{text}");
        }
        assert_eq!(refused(""), Reason::TpmMalformed);
    }

    /// One bank with PCR 0 and 1, as a little-endian machine writes it.
    fn structures() -> Vec<u8> {
        let mut bytes = vec![0; SELECTION_SIZE];
        bytes[0] = 1;
        bytes[4..11].copy_from_slice(&[0x0b, 0x00, 3, 0b11, 0, 0, 0]);
        let mut digests = vec![0; DIGESTS_SIZE];
        digests[0] = 2;
        for (place, filler) in [(4, 0x11), (4 + 66, 0x22)] {
            digests[place] = 32;
            digests[place + 2..place + 34].fill(filler);
        }
        [bytes, vec![1, 0, 0, 0], digests].concat()
    }

    #[test]
    fn structures_give_each_value_its_place() {
        let PcrFile::Listed(registers) = PcrFile::parse(&structures()).unwrap() else {
            panic!("a list was expected")
        };
        let value = |register| registers.value(HashAlgorithm::Sha256, register).unwrap();
        assert_eq!(value(0).as_bytes(), [0x11; 32]);
        assert_eq!(value(1).as_bytes(), [0x22; 32]);
    }

    #[test]
    fn structures_that_do_not_fit_each_other_are_refused() {
        for (place, byte) in [(7, 0b111), (7, 0b1), (4, 0x04), (6, 5), (SELECTION_SIZE + 8, 33)] {
            let mut bytes = structures();
            bytes[place] = byte;
            let error = PcrFile::parse(&bytes).unwrap_err();
            assert_eq!(error.reason(), Reason::TpmMalformed, "{place}");
        }
    }

    #[test]
    fn anything_else_is_bare_values() {
        assert_eq!(PcrFile::parse(&[0xf7; 64]).unwrap(), PcrFile::Bare(vec![0xf7; 64]));
        assert!(PcrFile::parse(&vec![0xf7; MAX_FILE + 1]).is_err());
    }
}
