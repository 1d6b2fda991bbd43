//! What was measured on this host, as it is written down: the firmware's log, the kernel's list of
//! files, the kernel's command line.
//!
//! Nothing is read into them here but where an entry of the list ends: the server believes each
//! only as far as the registers do, which the TPM signs.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use assay_eventlog::ima;
use assay_tpm::collect::LogPaths;

use crate::agent::config::Logs;
use crate::envelope::MediaType;
use crate::exchange::Collect;
use crate::exchange::Log;

#[derive(Debug)]
pub struct HostLogs {
    paths: LogPaths,
    cmdline: PathBuf,
}

impl HostLogs {
    /// The kernel's own are of the TPM that it has itself, by number; another TPM has those that
    /// the configuration names, and no others.
    pub fn of(address: &str, named: &Logs) -> Self {
        let number = address.strip_prefix("device:/dev/tpm");
        let number = number.map(|number| number.strip_prefix("rm").unwrap_or(number));
        let number: Option<u32> = number.and_then(|number| number.parse().ok());
        let security = Path::new("/sys/kernel/security");
        let boot = number.map(|number| format!("tpm{number}/binary_bios_measurements"));
        // IMA extends the first TPM alone.
        let ima = |name: &str| (number == Some(0)).then(|| security.join("ima").join(name));
        let or = |named: &Option<PathBuf>, own: Option<PathBuf>| {
            named.clone().or(own).unwrap_or_default()
        };
        let ascii = ima("ascii_runtime_measurements").filter(|_| named.ima.is_none());
        Self {
            paths: LogPaths {
                boot: or(&named.boot, boot.map(|boot| security.join(boot))),
                ima_binary: or(&named.ima, ima("binary_runtime_measurements")),
                ima_ascii: ascii.unwrap_or_default(),
            },
            cmdline: or(&named.cmdline, number.map(|_| CMDLINE.into())),
        }
    }

    pub fn boot(&self) -> Option<Vec<u8>> {
        self.paths.boot().unwrap_or_else(|error| {
            tracing::warn!(%error, "boot log not read");
            None
        })
    }

    /// What there is of the kernel's.
    pub fn kinds(&self) -> impl Iterator<Item = MediaType> {
        [
            (MediaType::ImaBinary, &self.paths.ima_binary),
            (MediaType::ImaAscii, &self.paths.ima_ascii),
            (MediaType::KernelCmdline, &self.cmdline),
        ]
        .into_iter()
        .filter(|(_, path)| path.exists())
        .map(|(kind, _)| kind)
    }

    /// As it stands now. Of a list of files, what comes after the entries that the server has judged.
    pub fn read(&self, kind: MediaType, collect: &Collect) -> Option<Log> {
        let list = matches!(kind, MediaType::ImaBinary | MediaType::ImaAscii);
        let read = match kind {
            MediaType::TcgEventlog => self.paths.boot(),
            MediaType::ImaBinary => self.paths.ima_binary(),
            MediaType::ImaAscii => self.paths.ima_ascii(),
            MediaType::KernelCmdline => Ok(fs::read(&self.cmdline).ok()),
            _ => return None,
        };
        match read {
            Ok(Some(bytes)) if list => tail(kind, &bytes, collect),
            Ok(read) => read.map(|bytes| Log { media_type: kind, bytes }),
            Err(error) => {
                tracing::warn!(log = kind.word(), %error, "log not read");
                None
            }
        }
    }
}

/// A list that has fewer entries than were judged is of another boot, or cut: then nothing goes. The
/// server refuses that unless the register stayed where it was, and asks for all of it next.
fn tail(kind: MediaType, list: &[u8], collect: &Collect) -> Option<Log> {
    let (from, limit) = (collect.ima_from, collect.ima_limit);
    let bytes = match ima::reader::tail(list, from, u64::MAX) {
        Ok(Some(tail)) => tail.to_vec(),
        Ok(None) => {
            tracing::warn!(log = kind.word(), from, "fewer entries than the server has judged");
            return None;
        }
        // What cannot be read here, the server will name.
        Err(_) => list.to_vec(),
    };
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        tracing::warn!(log = kind.word(), limit, "longer than the server takes");
        return None;
    }
    Some(Log { media_type: kind, bytes })
}

/// What the kernel was told; the server believes it where a measured digest is that of this text.
const CMDLINE: &str = "/proc/cmdline";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kinds(address: &str, named: &Logs) -> Vec<MediaType> {
        HostLogs::of(address, named).kinds().collect()
    }

    #[test]
    fn the_kernels_logs_are_of_its_own_tpm_and_of_no_other() {
        let logs = |address| HostLogs::of(address, &Logs::default());
        let (first, second) = (logs("device:/dev/tpmrm0"), logs("device:/dev/tpm1"));
        assert_eq!(first.paths, LogPaths::default());
        assert!(second.paths.boot.ends_with("tpm1/binary_bios_measurements"));
        assert_eq!(second.paths.ima_binary, PathBuf::new());
        assert_eq!(kinds("swtpm:port=2321", &Logs::default()), []);
    }

    #[test]
    fn a_named_log_takes_the_place_of_the_kernels() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| Some(folder.path().join(name));
        let named = Logs { ima: place("list"), cmdline: place("cmdline"), boot: None };
        assert_eq!(kinds("device:/dev/tpm0", &named), [], "neither is there");
        fs::write(folder.path().join("list"), "").unwrap();
        fs::write(folder.path().join("cmdline"), "quiet").unwrap();
        let both = [MediaType::ImaBinary, MediaType::KernelCmdline];
        assert_eq!(kinds("swtpm:port=2321", &named), both);
        assert_eq!(kinds("device:/dev/tpm0", &named), both, "no text beside a named list");
    }
}
