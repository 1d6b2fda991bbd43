//! The process at the other end of a Unix socket, pinned so that its pid cannot come to mean
//! another process.
//!
//! Linux 6.5 and newer hand out a pidfd of the process that connected (SO_PEERPIDFD); older ones
//! only its pid, and the process may have ended before `pidfd_open`. There a process that started
//! after the connection was accepted is refused; one that took over the pid between connect and
//! accept is not told apart, and the threat model says so.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;

use crate::workload::WorkloadError;
use crate::workload::process::Process;

/// A connected process: pid, start time, the ids it connected with, and a hold on it.
#[derive(Debug)]
pub struct Peer {
    pid: u32,
    uid: u32,
    gid: u32,
    start_time: u64,
    pidfd: OwnedFd,
    process: Process,
}

impl Peer {
    /// Names the process that opened `socket` (the accepted end).
    pub fn of(socket: &impl AsFd) -> Result<Peer, WorkloadError> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)
            .map_err(|error| WorkloadError::Unnamed(error.into()))?;
        let pid = u32::try_from(credentials.pid()).ok().filter(|pid| *pid != 0);
        let pid = pid.ok_or(WorkloadError::Invisible)?;
        let (pidfd, by_kernel) = match getsockopt(socket, sockopt::PeerPidfd) {
            Ok(pidfd) => (pidfd, true),
            Err(nix::errno::Errno::ENOPROTOOPT) => (open_by_pid(pid)?, false),
            // ESRCH, or EINVAL where the process was reaped before we asked.
            Err(_) => return Err(WorkloadError::Gone { pid }),
        };
        let peer = Peer::pin(pid, credentials.uid(), credentials.gid(), pidfd)?;
        if !by_kernel {
            peer.refuse_newcomer()?;
        }
        Ok(peer)
    }

    /// Opens /proc/<pid> while `pidfd` says that the process lives: from then on the folder's
    /// descriptor means this process and no later one with the same pid.
    fn pin(pid: u32, uid: u32, gid: u32, pidfd: OwnedFd) -> Result<Peer, WorkloadError> {
        let folder = rustix::fs::open(
            format!("/proc/{pid}"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|_| WorkloadError::Gone { pid })?;
        let process = Process::new(pid, folder);
        let start_time = process.start_time()?;
        let peer = Peer { pid, uid, gid, start_time, pidfd, process };
        if peer.is_alive() { Ok(peer) } else { Err(WorkloadError::Gone { pid }) }
    }

    /// Without SO_PEERPIDFD: the pid may have been taken over by a process that started later.
    fn refuse_newcomer(&self) -> Result<(), WorkloadError> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let ticks = u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(self.process.hertz());
        if self.start_time > ticks {
            return Err(WorkloadError::Gone { pid: self.pid });
        }
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The effective uid at the moment of `connect`.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Field 22 of /proc/<pid>/stat, clock ticks since boot: with the pid it names one process.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Whether the process that connected still runs.
    pub fn is_alive(&self) -> bool {
        // A pidfd becomes readable when its process ends (pidfd_open(2)).
        let mut poll = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(rustix::event::poll(&mut poll, Some(&Timespec::default())), Ok(0))
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }
}

fn open_by_pid(pid: u32) -> Result<OwnedFd, WorkloadError> {
    let gone = WorkloadError::Gone { pid };
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Err(gone) };
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
        rustix::io::Errno::SRCH => gone,
        other => WorkloadError::Unnamed(io::Error::from(other)),
    })
}
