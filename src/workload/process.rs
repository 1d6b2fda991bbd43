//! One process as /proc shows it, read through a descriptor of its folder: after the process has
//! ended the reads fail, they never show a successor with the same pid.
//!
//! Formats: proc_pid_stat(5), proc_pid_status(5), proc_pid_exe(5).

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::workload::WorkloadError;

/// Longest `stat` or `status` read; the kernel's are about 300 and 1,500 bytes, and `status`
/// grows with the supplementary groups (at most 65,536 of them).
const LONGEST: u64 = 1024 * 1024;
/// Most supplementary groups that become facts.
const MOST_GROUPS: usize = 1_024;

#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    folder: OwnedFd,
}

/// The effective ids and the supplementary groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl Process {
    pub(super) fn new(pid: u32, folder: OwnedFd) -> Process {
        Process { pid, folder }
    }

    /// Field 22 of `stat`. The second field is the command in parentheses and may itself hold
    /// spaces and parentheses, so counting begins after the last `)`.
    pub(super) fn start_time(&self) -> Result<u64, WorkloadError> {
        let stat = self.text("stat")?;
        parse_start_time(&stat).ok_or_else(|| self.malformed("stat", &stat, "22 fields or more"))
    }

    pub(super) fn credentials(&self) -> Result<Credentials, WorkloadError> {
        let status = self.text("status")?;
        parse_credentials(&status)
            .ok_or_else(|| self.malformed("status", &status, "`Uid:`, `Gid:` and `Groups:`"))
    }

    /// A descriptor of the file that is being executed, whatever its name leads to by now.
    /// Nothing where the agent may not look (another user's process, agent without privilege).
    pub(super) fn executable(&self) -> Result<Option<File>, WorkloadError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        match rustix::fs::openat(&self.folder, "exe", flags, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Ok(None),
            // A kernel thread, or a process that is just ending.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => Err(self.gone()),
            Err(error) => Err(self.unreadable("exe", error)),
        }
    }

    /// The name under which the executable was opened, as seen from the agent.
    pub(super) fn executable_path(&self) -> Result<Option<PathBuf>, WorkloadError> {
        use std::os::unix::ffi::OsStringExt;
        match rustix::fs::readlinkat(&self.folder, "exe", Vec::new()) {
            Ok(path) => Ok(Some(std::ffi::OsString::from_vec(path.into_bytes()).into())),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Ok(None),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => Err(self.gone()),
            Err(error) => Err(self.unreadable("exe", error)),
        }
    }

    /// Clock ticks a second, the unit of start times.
    pub(super) fn hertz(&self) -> u64 {
        rustix::param::clock_ticks_per_second()
    }

    fn text(&self, file: &'static str) -> Result<String, WorkloadError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.folder, file, flags, Mode::empty());
        let opened = opened.map_err(|error| self.unreadable(file, error))?;
        let mut bytes = Vec::new();
        File::from(opened).take(LONGEST).read_to_end(&mut bytes).map_err(|source| {
            // ESRCH: the folder's process has been reaped.
            match source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) {
                true => self.gone(),
                false => WorkloadError::Unreadable { pid: self.pid, file, source },
            }
        })?;
        // The command's name may hold any bytes.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn gone(&self) -> WorkloadError {
        WorkloadError::Gone { pid: self.pid }
    }

    fn unreadable(&self, file: &'static str, error: rustix::io::Errno) -> WorkloadError {
        match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::SRCH => self.gone(),
            other => WorkloadError::Unreadable { pid: self.pid, file, source: other.into() },
        }
    }

    fn malformed(&self, file: &'static str, text: &str, expected: &'static str) -> WorkloadError {
        let found = text.chars().take(80).collect();
        WorkloadError::Malformed { pid: self.pid, file, found, expected }
    }
}

fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    // The first word after the command is field 3.
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

fn parse_credentials(status: &str) -> Option<Credentials> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // real, effective, saved, file system
    let effective = |text: &str| text.split_ascii_whitespace().nth(1)?.parse().ok();
    let groups = field("Groups:")?.split_ascii_whitespace().take(MOST_GROUPS);
    Some(Credentials {
        uid: effective(field("Uid:")?)?,
        gid: effective(field("Gid:")?)?,
        groups: groups.map(|group| group.parse().ok()).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let numbers = (4..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("17 (a) R 1 (b) S {numbers}");
        assert_eq!(parse_start_time(&stat), Some(22));
        assert_eq!(parse_start_time("17 (a) S 1 2"), None);
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn the_effective_ids_are_the_second_column() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        let credentials = Credentials { uid: 2, gid: 6, groups: vec![9, 10] };
        assert_eq!(parse_credentials(status), Some(credentials));
        let nothing = "Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t\n";
        assert!(parse_credentials(nothing).unwrap().groups.is_empty());
        assert_eq!(parse_credentials("Uid:\t1\nGid:\t5\t6\nGroups:\n"), None);
        assert_eq!(parse_credentials("Uid:\t1\t2\nGid:\t5\t6\nGroups:\tten\n"), None);
    }
}
