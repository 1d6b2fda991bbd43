//! What is for its owner alone: folders of mode 0700 and files of mode 0600, of the user that this
//! process runs as.
//!
//! What others could read or swap is refused, not repaired: whoever could read it may have, and
//! what lies in it may be planted.

use std::fs;
use std::fs::DirBuilder;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Somebody else's, or open to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("open to others: mode {mode:04o} of user {owner}, expected none but user {own}")]
pub struct Exposed {
    pub mode: u32,
    pub owner: u32,
    /// Who this process is.
    pub own: u32,
}

impl Exposed {
    /// The owner is another, whatever the mode.
    pub fn is_foreign(&self) -> bool {
        self.owner != self.own
    }
}

/// Makes the folder with mode 0700 if it is not there; what is there must be private.
pub fn open_folder(path: &Path) -> io::Result<Result<(), Exposed>> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    Ok(demand_private(&fs::metadata(path)?))
}

/// Nobody but the owner may do anything, and the owner is who this process runs as.
pub fn demand_private(metadata: &Metadata) -> Result<(), Exposed> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let own = rustix::process::geteuid().as_raw();
    if mode & 0o077 != 0 || owner != own {
        return Err(Exposed { mode, owner, own });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_made_private_and_one_that_is_open_is_refused_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        assert_eq!(open_folder(&path).unwrap(), Ok(()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        for mode in [0o750, 0o701, 0o777] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let exposed = open_folder(&path).unwrap().unwrap_err();
            assert_eq!((exposed.mode, exposed.is_foreign()), (mode, false));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o500)).unwrap();
        assert_eq!(open_folder(&path).unwrap(), Ok(()));
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let root = fs::metadata("/proc/1").unwrap();
        let own = rustix::process::geteuid().as_raw();
        let exposed = demand_private(&root).unwrap_err();
        assert_eq!((exposed.owner, exposed.is_foreign()), (0, own != 0));
    }
}
