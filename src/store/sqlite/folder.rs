//! Where the file lies: a folder for its owner alone, a file for its owner alone, one process.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use crate::private;
use crate::private::Exposed;
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
    let opened = private::open_folder(folder).map_err(StoreError::io(folder))?;
    opened.map_err(|exposed| refused(folder, exposed, 0o700))?;
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
    let metadata = fs::metadata(path).map_err(StoreError::io(path))?;
    private::demand_private(&metadata).map_err(|exposed| refused(path, exposed, 0o600))?;
    let log = fs::metadata(beside(path, "-wal"));
    Ok(Place { created, recovered: log.is_ok_and(|log| log.len() > 0) })
}

fn create(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(StoreError::io(path))
}

/// Whoever can write the store can forge a standing.
fn refused(path: &Path, exposed: Exposed, expected: u32) -> StoreError {
    let path = path.to_owned();
    if exposed.is_foreign() {
        return StoreError::Owner { path, found: exposed.owner, expected: exposed.own };
    }
    StoreError::Mode { path, found: exposed.mode, expected }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
