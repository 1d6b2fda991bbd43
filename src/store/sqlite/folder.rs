//! Where the file lies: a folder for its owner alone, a file for its owner alone, one process.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use nix::unistd;

use crate::store::StoreError;

/// Held for as long as the file may be written; the kernel lets go of it when the process dies.
pub type Lock = Flock<File>;

pub struct Place {
    pub created: bool,
    /// A write-ahead log was left behind.
    pub recovered: bool,
}

/// Makes the folder if need be, and takes the lock.
pub fn lock(path: &Path) -> Result<Lock, StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.exists() {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(folder);
        made.map_err(StoreError::io(folder))?;
    }
    demand_private(folder, 0o700)?;
    let lock = beside(path, ".lock");
    let file = create(&lock)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => StoreError::InUse(path.to_owned()),
        errno => StoreError::io(&lock)(io::Error::from(errno)),
    })
}

/// Makes the file if need be: before SQLite does, so that it is private from its first byte. The
/// log and the index beside it take over its mode.
pub fn prepare(path: &Path) -> Result<Place, StoreError> {
    let created = !path.exists();
    if created {
        create(path)?;
    }
    demand_private(path, 0o600)?;
    let log = fs::metadata(beside(path, "-wal"));
    Ok(Place { created, recovered: log.is_ok_and(|log| log.len() > 0) })
}

fn create(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(StoreError::io(path))
}

/// Nobody but the owner, and the owner is who we run as: whoever can write the store can forge a
/// standing.
fn demand_private(path: &Path, expected: u32) -> Result<(), StoreError> {
    let metadata = fs::metadata(path).map_err(StoreError::io(path))?;
    let found = metadata.mode() & 0o7777;
    if found & 0o077 != 0 {
        return Err(StoreError::Mode { path: path.to_owned(), found, expected });
    }
    let own = unistd::geteuid().as_raw();
    if metadata.uid() != own {
        let (found, expected) = (metadata.uid(), own);
        return Err(StoreError::Owner { path: path.to_owned(), found, expected });
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
