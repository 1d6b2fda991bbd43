//! The kernel's list of what a machine ran: read in pieces, replayed to PCR 10, tied to a quote.
//!
//! | module | its job |
//! |---|---|
//! | [`reader`] | pieces of a binary or text list → entries, borrowed |
//! | [`template`], [`entry`] | which fields an entry has, and what they say |
//! | [`replay`] | entries → the prefix that leads to the quoted values, or a refusal |
//! | [`state`] | what is kept of a node between two rounds, below 1 KiB |
//! | [`boot_aggregate`] | that the list belongs to the boot whose registers are quoted |
//! | [`proof`] | which policy was in force, and what the list proves of the agent |
//! | [`inspection`] | one whole list for the command line |
//!
//! The digest column of a list is signed by nobody and decides nothing: every template digest is
//! computed from the entry's own data. An entry is a fact only when [`Replay::finish`] has said
//! that a quote covers it; until then, and behind the covered prefix, it is what somebody wrote.
//!
//! The proof is a negative one: nothing but these files was measured, if the kernel is trusted and
//! a policy is in force that measures. Which files are acceptable is a profile's business.
//!
//! ```
//! use assay_eventlog::ima;
//! # fn round(state: &ima::State, quoted: &assay_evidence::Registers, chunks: &[&[u8]])
//! #     -> Result<ima::Covered, ima::Error> {
//! let mut reader = ima::Reader::new();
//! let mut replay = ima::Replay::new(state, quoted)?;
//! for chunk in chunks {
//!     let mut entries = reader.entries(chunk);
//!     while let Some(entry) = entries.next()? {
//!         if replay.advance(&entry)? == ima::Place::Within {
//!             // match entry.kind() against the sets of a profile
//!         }
//!     }
//! }
//! reader.finish()?;
//! replay.finish()
//! # }
//! ```

pub mod boot_aggregate;
pub mod entry;
pub mod error;
mod frame;
pub mod inspection;
mod lane;
pub mod proof;
pub mod reader;
pub mod replay;
mod seen;
pub mod state;
pub mod template;
mod text;

pub use boot_aggregate::BootAggregate;
pub use entry::Entry;
pub use entry::FileDigest;
pub use entry::Kind;
pub use error::Error;
pub use inspection::Inspection;
pub use reader::Reader;
pub use replay::Covered;
pub use replay::Place;
pub use replay::Replay;
pub use seen::Violation;
pub use state::State;
pub use template::Template;

/// The register that IMA extends (CONFIG_IMA_MEASURE_PCR_IDX, 10 everywhere). A policy may send
/// single entries to another one by `pcr=`; such a list is refused, since nothing here would tie
/// those entries to anything.
pub const REGISTER: u32 = 10;
