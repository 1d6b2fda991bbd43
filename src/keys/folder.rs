//! The folder that holds what opens the issuing keys: 0700, its files 0600 and the server's own.
//!
//! A file that others could read or swap is refused, not repaired: whoever could read it may have.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::private;
use crate::private::Exposed;

#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    #[error("`{path}` cannot be read or written")]
    Io { path: PathBuf, source: io::Error },
    #[error("`{path}` is open to others (mode {mode:o}, owner {owner}); its keys may be known")]
    Open { path: PathBuf, mode: u32, owner: u32 },
    #[error("`{path}` has more than {MAX_FILE_BYTES} bytes")]
    TooLong { path: PathBuf },
}

impl Folder {
    /// Opens `path`, or makes it.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let io = |source| FolderError::Io { path: path.to_owned(), source };
        private::open_folder(path).map_err(io)?.map_err(|exposed| open(path, exposed))?;
        Ok(Self(path.to_owned()))
    }

    /// The contents of a file; nothing if it is not there.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, FolderError> {
        let path = self.0.join(name);
        let io = |source| FolderError::Io { path: path.clone(), source };
        let file = match OpenOptions::new().read(true).custom_flags(NO_FOLLOW).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io)?,
        };
        let metadata = file.metadata().map_err(io)?;
        private::demand_private(&metadata).map_err(|exposed| open(&path, exposed))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(4_096));
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
            return Err(FolderError::TooLong { path });
        }
        Ok(Some(bytes))
    }

    /// Puts a file in place, whole or not at all, and on the disk before it returns.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.0.join(name);
        let new = self.0.join(format!("{name}.new"));
        let io = |source| FolderError::Io { path: path.clone(), source };
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(io)?;
        file.write_all(bytes).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&new, &path).map_err(io)?;
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(io)
    }
}

fn open(path: &Path, Exposed { mode, owner, .. }: Exposed) -> FolderError {
    FolderError::Open { path: path.to_owned(), mode, owner }
}

const MAX_FILE_BYTES: u64 = 64 * 1_024;
/// A link in place of a key file is somebody else's doing.
const NO_FOLLOW: i32 = nix::fcntl::OFlag::O_NOFOLLOW.bits();

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_private() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys");
        let folder = Folder::open(&path).unwrap();
        assert!(folder.read("a").unwrap().is_none());
        folder.write("a", b"one").unwrap();
        folder.write("a", b"two").unwrap();
        assert_eq!(folder.read("a").unwrap().unwrap().as_slice(), b"two");
        assert_eq!(fs::metadata(path.join("a")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn files_and_folders_that_others_can_open_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys");
        let folder = Folder::open(&path).unwrap();
        folder.write("a", b"one").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&path.join("a"), 0o640);
        assert!(matches!(folder.read("a"), Err(FolderError::Open { mode: 0o640, .. })));
        mode(&path, 0o755);
        assert!(matches!(Folder::open(&path), Err(FolderError::Open { mode: 0o755, .. })));
    }

    #[test]
    fn links_and_long_files_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("keys")).unwrap();
        folder.write("long", &vec![0; 64 * 1_024 + 1]).unwrap();
        assert!(matches!(folder.read("long"), Err(FolderError::TooLong { .. })));
        folder.write("a", b"one").unwrap();
        std::os::unix::fs::symlink("a", place.path().join("keys/b")).unwrap();
        assert!(matches!(folder.read("b"), Err(FolderError::Io { .. })));
    }
}
