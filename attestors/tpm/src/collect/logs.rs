//! The logs that belong to the registers: what the firmware measured, and what the kernel did.
//! They are evidence only as far as they replay to signed values, so nothing here reads them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use super::error::Error;

/// Where the kernel shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPaths {
    pub boot: PathBuf,
    pub ima_binary: PathBuf,
    pub ima_ascii: PathBuf,
}

impl Default for LogPaths {
    fn default() -> LogPaths {
        LogPaths {
            boot: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
            ima_binary: "/sys/kernel/security/ima/binary_runtime_measurements".into(),
            ima_ascii: "/sys/kernel/security/ima/ascii_runtime_measurements".into(),
        }
    }
}

impl LogPaths {
    /// The firmware's event log, or nothing on a machine without one.
    pub fn boot(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.boot, BOOT_LIMIT)
    }

    pub fn ima_binary(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.ima_binary, IMA_LIMIT)
    }

    pub fn ima_ascii(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.ima_ascii, IMA_LIMIT)
    }
}

/// Files of securityfs have no size to look at beforehand, so the bound is on what is read.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let failed = |source| Error::Log { path: path.display().to_string(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    match u64::try_from(read) {
        Ok(read) if read <= limit => Ok(Some(bytes)),
        _ => Err(Error::LogTooLong { path: path.display().to_string(), limit }),
    }
}

const BOOT_LIMIT: u64 = 1 << 20;
const IMA_LIMIT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_machine_without_a_log_has_none_and_a_log_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let paths = LogPaths { boot: path.clone(), ..LogPaths::default() };
        assert_eq!(paths.boot().unwrap(), None);
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        assert_eq!(paths.boot().unwrap().unwrap().len(), 1 << 20);
        std::fs::write(&path, vec![7; (1 << 20) + 1]).unwrap();
        assert!(matches!(paths.boot(), Err(Error::LogTooLong { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(paths.boot(), Err(Error::Log { .. })));
    }
}
