//! Why no report came.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("this kernel offers no reports at `{}`", folder.display())]
    NotOffered { folder: PathBuf },
    #[error("the folder `{}` cannot be made", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("report data of {found} bytes, 1 to 64 expected")]
    ReportData { found: usize },
    #[error("privilege level {found} is below {floor}, the least that this guest may ask at")]
    PrivilegeLevel { found: u8, floor: u8 },
    #[error("`{name}` cannot be written")]
    Write { name: &'static str, source: io::Error },
    #[error("`{name}` cannot be read")]
    Read { name: &'static str, source: io::Error },
    #[error("`{name}` is larger than {max} bytes")]
    TooLarge { name: &'static str, max: usize },
    #[error("the report is empty")]
    Empty,
    #[error("`generation` says `{found}`, which is no number")]
    Generation { found: String },
    #[error("somebody else wrote meanwhile: generation {found}, {expected} expected")]
    Interfered { found: u64, expected: u64 },
}

impl Error {
    /// Asked again it may go well: the device was busy, or somebody else wrote.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Error::Interfered { .. } => true,
            Error::Write { source, .. } | Error::Read { source, .. } => {
                [Errno::BUSY, Errno::WOULDBLOCK, Errno::INTR]
                    .iter()
                    .any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
            }
            _ => false,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Error::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
