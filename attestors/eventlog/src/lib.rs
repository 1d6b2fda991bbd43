//! Measured state: what a machine booted and ran, read from its logs and tied to its registers.
//!
//! A log is only text until it leads to values that somebody signed. This crate parses logs
//! strictly, replays them, and says of each event how much of its text its digest really binds.
//!
//! | module | its job |
//! |---|---|
//! | [`log`] | bytes → events: crypto-agile, TPM 1.2 and CCEL logs |
//! | [`mod@replay`] | events → register values, held against values that were signed |
//! | [`grade`] | each event hashed again: bound, known or opaque |
//! | [`facts`] | what the log says that its digests bind: all that a policy may read |
//! | [`quirk`] | what real firmware does against the rules, each by name |
//! | [`draft`] | a log as something that can be written |
//! | [`mutate`] | everything that can be done to a log to make it lie |
//! | [`class`] | the alphabet in which profiles write what a register may hold |
//! | [`variable`] | UEFI variables and signature lists |
//! | [`view`] | a log and its events as a reader sees them |
//! | [`ima`] | what the kernel measured while the machine ran |
//!
//! It deliberately does no I/O, and it judges nothing: which firmware, boot loader or file is
//! acceptable is the business of a profile.

pub mod class;
pub mod draft;
pub mod error;
pub mod event_type;
pub mod facts;
pub mod grade;
pub mod ima;
pub mod log;
pub mod mutate;
pub mod quirk;
pub mod replay;
pub mod variable;
pub mod view;

pub use crate::class::Class;
pub use crate::draft::Draft;
pub use crate::draft::EventRecord;
pub use crate::error::Error;
pub use crate::event_type::EventType;
pub use crate::facts::Fact;
pub use crate::facts::Facts;
pub use crate::facts::Value;
pub use crate::grade::Grade;
pub use crate::grade::Grades;
pub use crate::grade::Grading;
pub use crate::grade::Rule;
pub use crate::log::Event;
pub use crate::log::Format;
pub use crate::log::Log;
pub use crate::mutate::Defence;
pub use crate::mutate::Mutation;
pub use crate::mutate::mutations;
pub use crate::quirk::Quirk;
pub use crate::quirk::Quirks;
pub use crate::replay::Comparison;
pub use crate::replay::Replay;
pub use crate::view::EventView;
pub use crate::view::Report;
