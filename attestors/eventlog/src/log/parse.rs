//! Bytes to a log. Every count is held against a limit before anything is kept, and memory grows
//! only with what was really read.

use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::reader::ReadError;

use crate::error::Error;
use crate::event_type::EventType;
use crate::log::Bank;
use crate::log::Format;
use crate::log::Log;
use crate::log::MAX_BANKS;
use crate::log::MAX_EVENTS;
use crate::log::MAX_LOG;
use crate::log::Record;
use crate::log::little16;
use crate::log::little32;

pub(super) fn tpm(bytes: &[u8]) -> Result<Log<'_>, Error> {
    accept_size(bytes)?;
    let mut reader = Reader::new(bytes);
    let (first, _) = sha1_record(&mut reader).map_err(|source| Error::Cut { event: 0, source })?;
    match spec_id(&first) {
        Some(b"03\0") => {
            if first.register != 0 {
                return Err(Error::Header("it names another register than 0"));
            }
            crypto_agile(Format::CryptoAgile, first, reader)
        }
        Some(b"00\0" | b"02\0") => sha1(Some(first), reader),
        Some(_) => Err(Error::Header("a version that is not known here")),
        None => sha1(None, Reader::new(bytes)),
    }
}

pub(super) fn ccel(bytes: &[u8]) -> Result<Log<'_>, Error> {
    accept_size(bytes)?;
    let mut reader = Reader::new(bytes);
    let (first, _) = sha1_record(&mut reader).map_err(|source| Error::Cut { event: 0, source })?;
    if spec_id(&first) != Some(b"03\0") || first.register > 1 {
        return Err(Error::Header("a CCEL log begins with `Spec ID Event03`"));
    }
    let log = crypto_agile(Format::Ccel, first, reader)?;
    match log.banks.as_slice() {
        [bank] if bank.algorithm == Some(HashAlgorithm::Sha384) => Ok(log),
        _ => Err(Error::CcelBank),
    }
}

fn accept_size(bytes: &[u8]) -> Result<(), Error> {
    match bytes.len() {
        1..=MAX_LOG => Ok(()),
        found => Err(Error::Size { found, max: MAX_LOG }),
    }
}

/// TCG_PCR_EVENT (PFP 1.05, §10.2.1): register, type, SHA-1 digest, size, data.
fn sha1_record<'a>(reader: &mut Reader<'a>) -> Result<(Record<'a>, &'a [u8]), ReadError> {
    let register = little32(reader)?;
    let kind = EventType(little32(reader)?);
    let digest = reader.take(HashAlgorithm::Sha1.size())?;
    Ok((Record { register, kind, data: data(reader)? }, digest))
}

fn data<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ReadError> {
    let size = little32(reader)?;
    reader.take(usize::try_from(size).unwrap_or(usize::MAX))
}

/// The two digits of its version and a NUL, if this is a Spec ID event (PFP 1.05, §10.4.5.1).
fn spec_id<'a>(record: &Record<'a>) -> Option<&'a [u8]> {
    if record.kind != EventType::NO_ACTION {
        return None;
    }
    record.data.strip_prefix(SPEC_ID)?.get(..3)
}

fn sha1<'a>(header: Option<Record<'a>>, mut reader: Reader<'a>) -> Result<Log<'a>, Error> {
    let algorithm = HashAlgorithm::Sha1;
    let bank = Bank { id: algorithm.tpm_id(), size: algorithm.size(), algorithm: Some(algorithm) };
    let mut reading = Reading::new(Format::Sha1, header, vec![bank]);
    while !reader.is_empty() {
        let event = reading.next_event()?;
        let cut = |source| Error::Cut { event, source };
        let (record, digest) = sha1_record(&mut reader).map_err(cut)?;
        reading.log.digests.push(digest);
        reading.accept(record)?;
    }
    // Zeros read as so many events of type 0, which firmware does not measure.
    let zero = |(record, digest): (&Record<'_>, &&[u8])| {
        record.kind == EventType::PREBOOT_CERT && digest.iter().all(|&byte| byte == 0)
    };
    if reading.log.records.iter().zip(&reading.log.digests).all(zero) {
        return Err(Error::Empty);
    }
    reading.finish()
}

fn crypto_agile<'a>(
    format: Format,
    header: Record<'a>,
    mut reader: Reader<'a>,
) -> Result<Log<'a>, Error> {
    let banks = spec_id_banks(header.data)?;
    let mut reading = Reading::new(format, Some(header), banks);
    while !reader.is_empty() {
        if format == Format::Ccel && begins_padding(reader.rest()) {
            reading.log.padding = padding(reader.rest())?;
            break;
        }
        let event = reading.next_event()?;
        let cut = |source| Error::Cut { event, source };
        let register = little32(&mut reader).map_err(cut)?;
        let kind = EventType(little32(&mut reader).map_err(cut)?);
        reading.digests(&mut reader)?;
        let data = data(&mut reader).map_err(cut)?;
        reading.accept(Record { register, kind, data })?;
    }
    reading.finish()
}

/// TCG_EfiSpecIdEvent (PFP 1.05, §10.4.5.1): after the signature platformClass u32, version minor
/// and major, errata, uintnSize, the algorithms with their sizes, vendor information.
fn spec_id_banks(data: &[u8]) -> Result<Vec<Bank>, Error> {
    let cut = |source| Error::Cut { event: 0, source };
    let mut reader = Reader::new(data);
    reader.take(SPEC_ID.len() + 3).map_err(cut)?;
    reader.take(8).map_err(cut)?;
    let count = usize::try_from(little32(&mut reader).map_err(cut)?).unwrap_or(usize::MAX);
    if !(1..=MAX_BANKS).contains(&count) {
        return Err(Error::Header("it names no algorithm, or too many"));
    }
    let mut banks: Vec<Bank> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = little16(&mut reader).map_err(cut)?;
        let found = little16(&mut reader).map_err(cut)?;
        let algorithm = HashAlgorithm::from_tpm_id(id);
        let size = usize::from(found);
        let fits = match algorithm {
            Some(algorithm) => size == algorithm.size(),
            None => SIZES.contains(&size),
        };
        if !fits {
            let expected = match algorithm {
                Some(algorithm) => algorithm.size().to_string(),
                None => format!("{} to {}", SIZES.start(), SIZES.end()),
            };
            return Err(Error::AlgorithmSize { id, found, expected });
        }
        if banks.iter().any(|bank| bank.id == id) {
            return Err(Error::AlgorithmTwice { id });
        }
        banks.push(Bank { id, size, algorithm });
    }
    let vendor = usize::from(reader.u8().map_err(cut)?);
    reader.take(vendor).map_err(cut)?;
    reader.finish().map_err(cut)?;
    Ok(banks)
}

/// A log as far as it has been read.
struct Reading<'a> {
    log: Log<'a>,
    extended_zero: bool,
    extended: bool,
}

impl<'a> Reading<'a> {
    fn new(format: Format, header: Option<Record<'a>>, banks: Vec<Bank>) -> Reading<'a> {
        let (records, digests) = (Vec::new(), Vec::new());
        let log = Log { format, header, banks, records, digests, locality: None, padding: &[] };
        Reading { log, extended_zero: false, extended: false }
    }

    /// The number of the event that comes now.
    fn next_event(&self) -> Result<usize, Error> {
        match self.log.records.len() {
            found if found < MAX_EVENTS => Ok(found.saturating_add(1)),
            _ => Err(Error::TooManyEvents { max: MAX_EVENTS }),
        }
    }

    /// TPML_DIGEST_VALUES: each bank of the header once, in whatever order. A size comes from the
    /// header alone, so an unknown algorithm ends the reading: to skip it would mean to guess.
    fn digests(&mut self, reader: &mut Reader<'a>) -> Result<(), Error> {
        let event = self.next_event()?;
        let cut = |source| Error::Cut { event, source };
        let Log { banks, digests, .. } = &mut self.log;
        let count = little32(reader).map_err(cut)?;
        let few = Error::DigestCount { event, found: count, expected: banks.len() };
        let start = digests.len();
        digests.resize(start.saturating_add(banks.len()), &[]);
        let slots = digests.get_mut(start..).unwrap_or_default();
        for _ in 0..count {
            let id = little16(reader).map_err(cut)?;
            let known = banks.iter().zip(slots.iter_mut()).find(|(bank, _)| bank.id == id);
            let Some((bank, slot)) = known else {
                return Err(Error::UnknownAlgorithm { event, id });
            };
            if !slot.is_empty() {
                return Err(Error::DigestTwice { event, id });
            }
            *slot = reader.take(bank.size).map_err(cut)?;
        }
        match slots.iter().any(|slot| slot.is_empty()) {
            true => Err(few),
            false => Ok(()),
        }
    }

    fn accept(&mut self, record: Record<'a>) -> Result<(), Error> {
        let event = self.next_event()?;
        if record.kind == EventType::NO_ACTION {
            self.accept_no_action(&record, event)?;
        } else {
            let last = self.log.format.last_register();
            if record.register > last {
                return Err(Error::Register { event, found: record.register, last });
            }
            if self.log.format == Format::Ccel && record.register == 0 {
                return Err(Error::BuildRegister { event });
            }
            self.extended = true;
            self.extended_zero |= record.register == 0;
        }
        self.log.records.push(record);
        Ok(())
    }

    /// Where register 0 began counts only if it is said once and before that register is extended:
    /// said later it could only be an afterthought.
    fn accept_no_action(&mut self, record: &Record<'_>, event: usize) -> Result<(), Error> {
        if record.data.starts_with(SPEC_ID) {
            return Err(Error::SecondSpecId { event });
        }
        let Some(rest) = record.data.strip_prefix(STARTUP_LOCALITY) else { return Ok(()) };
        if self.log.format == Format::Ccel {
            return Ok(());
        }
        let fault = |fault| Err(Error::Locality { event, fault });
        match rest {
            _ if record.register != 0 => fault("of another register than 0"),
            _ if self.extended_zero => fault("after register 0 was extended"),
            _ if self.log.locality.is_some() => fault("twice"),
            [locality @ (0 | 3 | 4)] => {
                self.log.locality = Some(*locality);
                Ok(())
            }
            [_] => fault("that no TPM starts at"),
            _ => fault("in another size than one byte"),
        }
    }

    fn finish(self) -> Result<Log<'a>, Error> {
        match self.extended {
            true => Ok(self.log),
            false => Err(Error::Empty),
        }
    }
}

/// No event begins with twelve such bytes: the register would not exist, or there would be no
/// digest. So the area is looked at only once.
fn begins_padding(rest: &[u8]) -> bool {
    let head = rest.get(..12).unwrap_or(rest);
    let first = head.first();
    matches!(first, Some(0xff | 0x00)) && head.iter().all(|byte| Some(byte) == first)
}

fn padding(rest: &[u8]) -> Result<&[u8], Error> {
    let first = rest.first();
    match rest.iter().all(|byte| Some(byte) == first) {
        true => Ok(rest),
        false => Err(Error::Padding { left: rest.len() }),
    }
}

/// What every Spec ID event begins with; two digits and a NUL follow.
const SPEC_ID: &[u8] = b"Spec ID Event";
/// PFP 1.05, §10.4.5.3; one byte follows.
pub const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";
/// Digests of algorithms that are not known here: from SHA-1's size to SHA-512's.
const SIZES: std::ops::RangeInclusive<usize> = 20..=64;
