//! SHA-256 of the file a process executes, read through an open descriptor, with a bound on the
//! size and a small memory of files already read.
//!
//! The memory's key is what changes when a file does: device, inode, size, modification and
//! change time. The change time cannot be set by a user, but it is coarse: a file changed less
//! than two seconds ago may change again without a trace, so such a digest is not kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use assay_evidence::crypto;
use assay_evidence::time::Time;
use rustix::fs::Stat;

use crate::clock::Clock;

/// Digests kept; one is about 100 bytes.
const MOST_KEPT: usize = 256;
const STEADY_AFTER: Duration = Duration::from_secs(2);
/// statfs(2): a file system served by a process, which may show the kernel one content and us
/// another.
const FUSE: i64 = 0x6573_5546;

/// Digests executables, remembering the last few.
#[derive(Debug)]
pub struct ExecutableDigests {
    longest: u64,
    clock: Clock,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Value: digest and when it was last asked for, by the counter below.
    digests: BTreeMap<FileState, ([u8; 32], u64)>,
    asked: u64,
}

/// What changes when a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

/// What came of digesting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digested {
    Sha256([u8; 32]),
    /// Larger than the configured bound.
    TooLong(u64),
    /// On a file system that a process serves: its content is what that process says.
    Untrusted,
    /// It changed while it was read.
    Unsteady,
}

impl ExecutableDigests {
    /// Files longer than `longest` bytes have no digest.
    pub fn new(longest: u64, clock: Clock) -> ExecutableDigests {
        ExecutableDigests { longest, clock, kept: Mutex::default() }
    }

    pub(super) fn digest(&self, file: &File) -> io::Result<Digested> {
        let before = FileState::of(&rustix::fs::fstat(file)?);
        if before.size > self.longest {
            return Ok(Digested::TooLong(before.size));
        }
        if rustix::fs::fstatfs(file)?.f_type == FUSE {
            return Ok(Digested::Untrusted);
        }
        if let Some(known) = self.kept().recall(&before) {
            return Ok(Digested::Sha256(known));
        }
        let Some(sha256) = read(file, self.longest)? else { return Ok(Digested::Unsteady) };
        if FileState::of(&rustix::fs::fstat(file)?) != before {
            return Ok(Digested::Unsteady);
        }
        if self.is_steady(&before) {
            self.kept().keep(before, sha256);
        }
        Ok(Digested::Sha256(sha256))
    }

    fn is_steady(&self, state: &FileState) -> bool {
        self.clock.now() >= Time::from_unix_s(state.changed.0) + STEADY_AFTER
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn recall(&mut self, state: &FileState) -> Option<[u8; 32]> {
        self.asked += 1;
        let (sha256, asked) = self.digests.get_mut(state)?;
        *asked = self.asked;
        Some(*sha256)
    }

    fn keep(&mut self, state: FileState, sha256: [u8; 32]) {
        if self.digests.len() >= MOST_KEPT {
            let oldest = self.digests.iter().min_by_key(|(_, (_, asked))| *asked);
            if let Some(state) = oldest.map(|(state, _)| *state) {
                self.digests.remove(&state);
            }
        }
        self.digests.insert(state, (sha256, self.asked));
    }
}

impl FileState {
    pub(super) fn of(stat: &Stat) -> FileState {
        FileState {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(u64::MAX),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    pub(super) fn is_same_file(&self, other: &FileState) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Nothing where the file is longer than it said.
fn read(file: &File, longest: u64) -> io::Result<Option<[u8; 32]>> {
    let mut hash = crypto::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    let mut file = file;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(Some(hash.finish()));
        };
        total += bytes.len() as u64;
        if total > longest {
            return Ok(None);
        }
        hash.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn digests(longest: u64) -> ExecutableDigests {
        ExecutableDigests::new(longest, Clock::machine())
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    #[test]
    fn a_file_up_to_the_bound_is_digested_and_a_longer_one_is_not() {
        let expected = Digested::Sha256(crypto::sha256(b"12345678"));
        assert_eq!(digests(8).digest(&file(b"12345678")).unwrap(), expected);
        assert_eq!(digests(7).digest(&file(b"12345678")).unwrap(), Digested::TooLong(8));
    }

    #[test]
    fn a_file_changed_a_moment_ago_is_not_remembered() {
        let file = file(b"fresh");
        let machine = Clock::machine();
        let young = ExecutableDigests::new(8, Clock::manual(machine.now()));
        young.digest(&file).unwrap();
        assert!(young.kept().digests.is_empty());
        let later = Clock::manual(machine.now() + Duration::from_secs(10));
        let old = ExecutableDigests::new(8, later);
        std::io::Seek::rewind(&mut &file).unwrap();
        let first = old.digest(&file).unwrap();
        assert_eq!(old.kept().digests.len(), 1);
        // Not rewound: a second reading would digest nothing, so this one comes from memory.
        assert_eq!(old.digest(&file).unwrap(), first);
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let file = file(b"before");
        let later = Clock::manual(Clock::machine().now() + Duration::from_secs(10));
        let digests = ExecutableDigests::new(64, later);
        let before = digests.digest(&file).unwrap();
        (&file).write_all(b"+after").unwrap();
        std::io::Seek::rewind(&mut &file).unwrap();
        assert_ne!(digests.digest(&file).unwrap(), before);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut kept = Kept::default();
        let state =
            |inode| FileState { device: 1, inode, size: 0, modified: (0, 0), changed: (0, 0) };
        for inode in 0..1_000 {
            kept.recall(&state(0));
            kept.keep(state(inode), [0; 32]);
        }
        assert_eq!(kept.digests.len(), MOST_KEPT);
        assert!(kept.recall(&state(0)).is_some(), "what is asked for stays");
        assert!(kept.recall(&state(1)).is_none(), "what is not, goes");
    }
}
