//! A real software TPM (swtpm over libtpms) that looks to its client like `/dev/tpmrm0`.
//!
//! The demo and the tests need a TPM that behaves: it gives out genuine endorsement certificates,
//! cleans up after a client that died, survives a reboot of its "host" and can be copied, as a
//! virtual machine can. swtpm alone is none of that over a terminal line: a killed client leaves
//! its answer in the line and its objects in the TPM. So a relay sits between a pseudo terminal
//! and swtpm and plays the kernel's resource manager.
//!
//! What this crate deliberately does not do: it is no resource manager for several clients at
//! once (one client at a time, as with `/dev/tpm0`), and it is never part of server or agent.
//!
//! ```no_run
//! use assay_swtpm::{LocalCa, SoftwareTpm};
//!
//! # fn main() -> Result<(), assay_swtpm::Error> {
//! let ca = LocalCa::create("/tmp/demo/tpm-ca")?;
//! let tpm = SoftwareTpm::provision(&ca, "/tmp/demo/tpm-a", "host-a")?.start()?;
//! println!("{}", tpm.tcti());
//! tpm.pcr_extend(8, b"kernel command line")?;
//! # Ok(())
//! # }
//! ```

mod ca;
mod command;
mod engine;
mod error;
mod line;
mod programs;
mod relay;
mod running;
mod state;

pub use crate::ca::LocalCa;
pub use crate::error::Error;
pub use crate::programs::missing_programs;
pub use crate::running::RunningTpm;
pub use crate::state::Bank;
pub use crate::state::SoftwareTpm;

/// What every door of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
