//! Every way in which a boot log can be refused, with what was found and what was expected.
//!
//! Events are counted from 1; the Spec ID header is number 0. One variant per cause;
//! [`Error::reason`] gives the product's stable code.

use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::reader::ReadError;

use crate::event_type::EventType;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- shape ---
    #[error("a log of {found} bytes, at most {max} are read")]
    Size { found: usize, max: usize },
    #[error("a log of more than {max} events")]
    TooManyEvents { max: usize },
    #[error("event {event} is cut or says lengths that do not fit")]
    Cut { event: usize, source: ReadError },
    #[error("the header is no Spec ID event: {0}")]
    Header(&'static str),
    #[error("a log without any measurement")]
    Empty,
    #[error("event {event} is a second Spec ID")]
    SecondSpecId { event: usize },
    #[error("event {event} extends register {found}, the last one is {last}")]
    Register { event: usize, found: u32, last: u32 },
    #[error("event {event} extends the build-time register, which nothing extends")]
    BuildRegister { event: usize },
    #[error("event {event} tells the startup locality {fault}")]
    Locality { event: usize, fault: &'static str },
    #[error("{left} bytes behind the last event that are no padding")]
    Padding { left: usize },
    #[error("the CCEL table cannot be believed: {0}")]
    Table(&'static str),

    // --- algorithms ---
    #[error("the header gives algorithm 0x{id:04x} digests of {found} bytes, {expected} expected")]
    AlgorithmSize { id: u16, found: u16, expected: String },
    #[error("the header names algorithm 0x{id:04x} twice")]
    AlgorithmTwice { id: u16 },
    #[error("a CCEL log in other banks than SHA-384")]
    CcelBank,
    #[error("event {event} has a digest of algorithm 0x{id:04x}, which the header does not name")]
    UnknownAlgorithm { event: usize, id: u16 },
    #[error("event {event} has two digests of algorithm 0x{id:04x}")]
    DigestTwice { event: usize, id: u16 },
    #[error("event {event} has {found} digests, {expected} expected")]
    DigestCount { event: usize, found: u32, expected: usize },

    // --- meaning ---
    #[error("event {event} ({kind}) carries the digest of a separator")]
    SeparatorElsewhere { event: usize, kind: EventType },
    #[error("event {event} ({kind}) of register {register} says what its digest does not bind")]
    Unbound { event: usize, kind: EventType, register: u32 },

    // --- values ---
    #[error("register {register} of bank {bank} does not follow from the log")]
    ReplayMismatch { bank: HashAlgorithm, register: u32, found: String, expected: String },
    #[error("the log has no events in bank {bank}")]
    BankMissing { bank: HashAlgorithm },
}

impl Error {
    /// The stable code of this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Error::AlgorithmSize { .. }
            | Error::AlgorithmTwice { .. }
            | Error::CcelBank
            | Error::UnknownAlgorithm { .. }
            | Error::DigestTwice { .. } => Reason::LogAlg,
            Error::Unbound { .. } => Reason::LogEventUnbound,
            Error::ReplayMismatch { .. } => Reason::LogReplayMismatch,
            Error::BankMissing { .. } => Reason::EvidenceMissing,
            _ => Reason::LogMalformed,
        }
    }

    /// The same as one line of a refusal.
    pub fn finding(&self) -> Finding {
        let (claim, found, expected) = self.values();
        Finding::new(self.reason(), claim, found, expected, self.source_clause())
    }

    fn values(&self) -> (String, String, String) {
        let event = |event: &usize, found: String, expected: &str| {
            (format!("eventlog.event.{event}"), found, expected.to_owned())
        };
        match self {
            Error::Size { found, max } => {
                ("eventlog.size".into(), found.to_string(), format!("1 to {max} bytes"))
            }
            Error::Cut { event: number, source } => {
                event(number, source.to_string(), "a whole record")
            }
            Error::Register { event: number, found, last } => {
                event(number, format!("register {found}"), &format!("at most {last}"))
            }
            Error::AlgorithmSize { id, found, expected } => {
                (format!("eventlog.algorithm.0x{id:04x}"), found.to_string(), expected.clone())
            }
            Error::UnknownAlgorithm { event: number, id } => {
                event(number, format!("algorithm 0x{id:04x}"), "an algorithm of the header")
            }
            Error::DigestTwice { event: number, id } => {
                event(number, format!("algorithm 0x{id:04x} twice"), "one digest of each bank")
            }
            Error::DigestCount { event: number, found, expected } => {
                event(number, format!("{found} digests"), &expected.to_string())
            }
            Error::SeparatorElsewhere { event: number, kind } => {
                event(number, kind.to_string(), "EV_SEPARATOR")
            }
            Error::Unbound { event: number, kind, register } => event(
                number,
                format!("{kind} in register {register}"),
                "data that its digest binds by a named rule",
            ),
            Error::ReplayMismatch { bank, register, found, expected } => {
                (format!("registers.{bank}.{register}"), found.clone(), expected.clone())
            }
            other => ("eventlog".into(), other.to_string(), "a genuine log".into()),
        }
    }

    /// The rule that was broken, as text a reader can look up.
    fn source_clause(&self) -> &'static str {
        match self {
            Error::ReplayMismatch { .. } | Error::BankMissing { .. } => {
                "TPM 2.0 Library, Part 1, §17.2"
            }
            Error::Table(_) => "ACPI 6.5, §5.2.34",
            _ => "TCG PC Client Platform Firmware Profile 1.05, §10",
        }
    }
}
