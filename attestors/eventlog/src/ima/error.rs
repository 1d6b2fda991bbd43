//! Every way in which an IMA list can be refused, with what was found and what was expected.

use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::reader::ReadError;

use crate::ima::template::Field;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- shape ---
    #[error("neither a binary nor a text list: {0}")]
    NotAList(&'static str),
    #[error("an empty list")]
    Empty,
    #[error("entry {index} cannot be read")]
    Entry { index: u64, source: Fault },
    #[error("{bytes} bytes after entry {after}, the last whole one")]
    Trailing { bytes: usize, after: u64 },
    #[error("a kept state that cannot be read")]
    StateShape(#[from] ReadError),
    #[error("a kept state that cannot be used: {0}")]
    State(&'static str),

    // --- replay ---
    #[error("entry {index} is of register {found}, {expected} expected")]
    Register { index: u64, found: u32, expected: u32 },
    #[error("there is no quoted value of register {register}")]
    NotQuoted { register: u32 },
    #[error("bank {bank} is not computed here")]
    BankUnknown { bank: HashAlgorithm },
    #[error("the quote covers banks `{found}`, the kept state `{expected}`")]
    Banks { found: String, expected: String },
    #[error("`{path}` was not watched from the first entry on")]
    NotWatched { path: String },
    #[error("no prefix of {entries} entries leads to the quoted registers")]
    NotReached { entries: u64, found: String, expected: String },

    // --- boot aggregate ---
    #[error("the list does not begin with a boot aggregate")]
    BootAggregateMissing,
    #[error("a further boot aggregate without a measured kexec before it")]
    BootAggregateRepeated,
    #[error("the boot aggregate needs registers 0 to 7 of bank {bank}, which are not quoted")]
    BootAggregateBank { bank: HashAlgorithm },
    #[error("the boot aggregate is not that of the quoted registers")]
    BootAggregateMismatch { found: String, expected: String },
}

/// What is wrong with one entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    #[error("the {0} is malformed")]
    Malformed(&'static str),
    #[error("an entry that is cut or has bytes too many")]
    Shape(#[from] ReadError),
    #[error("an entry of {found} bytes, at most {max} may be")]
    TooLarge { found: usize, max: usize },
    #[error("template `{0}` is not known here")]
    Template(String),
    #[error("field {0:?} is malformed")]
    Field(Field),
}

impl Fault {
    pub(super) fn at(self, index: u64) -> Error {
        Error::Entry { index, source: self }
    }
}

impl Error {
    /// The stable code of this refusal.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Entry { source: Fault::Template(_), .. } => Reason::ImaTemplateUnknown,
            Error::NotAList(_) | Error::Empty | Error::Entry { .. } => Reason::ImaMalformed,
            Error::Trailing { .. } => Reason::TrailingBytes,
            Error::StateShape(_) | Error::State(_) | Error::NotWatched { .. } => Reason::Internal,
            Error::NotQuoted { .. } | Error::Banks { .. } => Reason::PcrSelection,
            Error::BankUnknown { .. } => Reason::LogAlg,
            Error::Register { .. } | Error::NotReached { .. } => Reason::LogReplayMismatch,
            Error::BootAggregateMissing
            | Error::BootAggregateRepeated
            | Error::BootAggregateBank { .. }
            | Error::BootAggregateMismatch { .. } => Reason::ImaBootAggregate,
        }
    }

    /// The same as one line of a refusal.
    pub fn finding(&self) -> Finding {
        let (claim, found, expected) = self.values();
        Finding::new(self.reason(), claim, found, expected, self.source_clause())
    }

    fn values(&self) -> (String, String, String) {
        let claim = |text: &str| text.to_owned();
        match self {
            Error::Entry { index, source: Fault::Template(name) } => {
                (format!("ima.entry.{index}.template"), name.clone(), "a known template".into())
            }
            Error::Entry { index, source } => {
                (format!("ima.entry.{index}"), source.to_string(), "an entry as the kernel".into())
            }
            Error::Trailing { bytes, after } => (
                claim("ima.list"),
                format!("{bytes} bytes after entry {after}"),
                "the end of the list".into(),
            ),
            Error::Register { index, found, expected } => {
                (format!("ima.entry.{index}.register"), found.to_string(), expected.to_string())
            }
            Error::Banks { found, expected } => {
                (claim("pcrs.selection"), found.clone(), expected.clone())
            }
            Error::NotReached { found, expected, .. } => {
                (claim("ima.pcr10"), found.clone(), expected.clone())
            }
            Error::BootAggregateMismatch { found, expected } => {
                (claim("ima.boot_aggregate"), found.clone(), expected.clone())
            }
            Error::BootAggregateMissing
            | Error::BootAggregateRepeated
            | Error::BootAggregateBank { .. } => (
                claim("ima.boot_aggregate"),
                self.to_string(),
                "one for each kernel, the first as the first entry".into(),
            ),
            other => (claim("ima.list"), other.to_string(), String::new()),
        }
    }

    /// The rule that was broken, as text a reader can look up.
    fn source_clause(&self) -> &'static str {
        match self.reason() {
            Reason::ImaBootAggregate => {
                "Linux, security/integrity/ima/ima_crypto.c, boot_aggregate"
            }
            Reason::LogReplayMismatch => "TCG PC Client PFP, PCR 10; Linux IMA, template digest",
            _ => "Linux, security/integrity/ima, binary_runtime_measurements",
        }
    }
}
