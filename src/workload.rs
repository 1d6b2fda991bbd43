//! Workload attestation: which process is on the other end of a Unix socket, and what the kernel
//! knows of it. The facts become selectors of type `unix`, spelled as SPIRE spells them.
//!
//! A pid is not an identity: it is recycled, its process may exec another program, and whoever
//! holds the socket may not be who connected. So a [`Peer`] is pinned by a pidfd and a descriptor
//! of its /proc folder at accept, facts are read twice around the work, and a process whose
//! effective ids are no longer those it connected with (it has run a set-uid program) is refused.
//!
//! Deliberately not here: who may have which identity (entries say that), and the claim that the
//! peer process is the only one that can use the socket. It may have passed it on; against a
//! process of the same user `unix:path` and `unix:sha256` say what the peer is at this moment.

mod executable;
mod peer;
mod process;
mod unix;

pub use executable::ExecutableDigests;
pub use peer::Peer;
pub use unix::Facts;

use std::io;

/// Why a peer of the socket could not be told apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    #[error("the kernel does not say who is at the other end of the socket")]
    Unnamed(#[source] io::Error),
    #[error("the peer of the socket lives in a pid namespace that this agent cannot see")]
    Invisible,
    #[error("process {pid} has ended")]
    Gone { pid: u32 },
    #[error(
        "process {pid} connected with uid {then_uid} gid {then_gid} \
         and now runs with uid {now_uid} gid {now_gid}"
    )]
    CredentialsChanged { pid: u32, then_uid: u32, then_gid: u32, now_uid: u32, now_gid: u32 },
    #[error("process {pid} kept changing while it was looked at")]
    Unsteady { pid: u32 },
    #[error("`/proc/{pid}/{file}` reads as `{found}`, expected {expected}")]
    Malformed { pid: u32, file: &'static str, found: String, expected: &'static str },
    #[error("`/proc/{pid}/{file}` cannot be read")]
    Unreadable {
        pid: u32,
        file: &'static str,
        #[source]
        source: io::Error,
    },
}
