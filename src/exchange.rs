//! The attestation exchange: how a host shows its evidence to a server, once in full (attest) and
//! then again and again (refresh).
//!
//! Both sides are state machines without sockets, clocks, tasks or files: bytes, a [`Moment`] and
//! randomness go in, messages and verdicts come out. Whoever drives them owns the stream, the
//! store and the timers; so the native server and agent and the faces inside SPIRE run the same
//! two machines, and the tests run them back to back in memory.
//!
//! The verifier's side, in the order of its types (cheap looks first):
//! ```text
//! Hello --identify--> Identified --challenge--> Awaiting --receive*--> Collected --verify--> Verified
//!        frame, EK chain      admission, rate,         items hashed            AK, binding, registers,
//!        and template         MakeCredential           while they stream       key, counters
//! ```
//! The attester's side: [`Attester`] says what to collect, what to send and when it is done.
//!
//! What this deliberately does not do: it appraises nothing (`appraisal`), stores nothing, signs
//! nothing and limits no rates; a refusal here is a value that the driver logs, records and sends.
//!
//! [`Moment`]: crate::clock::Moment

mod admission;
mod attester;
mod continuity;
mod hardware;
mod intake;
mod limits;
mod message;
mod node_id;
mod nonce_ledger;
mod refusal;
mod tee;
mod verified;
mod verifier;

pub use admission::Admission;
pub use attester::Attester;
pub use attester::Collect;
pub use attester::Collecting;
pub use attester::Demand;
pub use attester::Facts;
pub use attester::Gathered;
pub use attester::Log;
pub use attester::Sending;
pub use continuity::SerialUse;
pub use continuity::judge_serial;
pub use intake::Received;
pub use limits::Budget;
pub use limits::MAX_EVIDENCE;
pub use limits::MAX_FRAME;
pub use limits::MAX_HELLO;
pub use message::Challenge;
pub use message::Fault;
pub use message::FromAgent;
pub use message::Hello;
pub use message::Outcome;
pub use node_id::NodeId;
pub use nonce_ledger::NonceLedger;
pub use refusal::Refused;
pub use refusal::Told;
pub use tee::TeeAnchors;
pub use tee::Vouchers;
pub use tee::Wanted;
pub use verified::Grounds;
pub use verified::Verified;
pub use verifier::Appraises;
pub use verifier::Awaiting;
pub use verifier::Channel;
pub use verifier::Collected;
pub use verifier::Heard;
pub use verifier::Identified;
pub use verifier::Step;
pub use verifier::Terms;

/// SPIRE's name for this kind of node attestation: the `type` of its data.
pub const DATA_TYPE: &str = "assay";
