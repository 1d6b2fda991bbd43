//! Where a TPM is. Our own parser, because the library's accepts what it then ignores: it takes
//! `swtpm:path=…` and silently talks to whatever listens on port 2321 of this host.

use std::path::PathBuf;
use std::str::FromStr;

use tss_esapi::TctiNameConf;
use tss_esapi::tcti_ldr::DeviceConfig;
use tss_esapi::tcti_ldr::NetworkTPMConfig;

use super::error::Error;

/// `device:<path>` or `swtpm:host=<host>,port=<port>`, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Node(PathBuf),
    Swtpm { host: String, port: u16 },
}

impl Address {
    pub(super) fn parse(given: &str) -> Result<Address, Error> {
        let refuse = |why| Error::Address { given: given.to_owned(), why };
        if let Some(path) = given.strip_prefix("device:") {
            return match path.starts_with('/') {
                true => Ok(Address::Node(path.into())),
                false => Err(refuse("the path of a device must begin with `/`")),
            };
        }
        let settings = given
            .strip_prefix("swtpm:")
            .ok_or_else(|| refuse("it begins with neither `device:` nor `swtpm:`"))?;
        let (mut host, mut port) = (None, None);
        for setting in settings.split(',') {
            match setting.split_once('=') {
                Some(("host", value)) if host.is_none() && is_host(value) => {
                    host = Some(value.to_owned());
                }
                Some(("port", value)) if port.is_none() => {
                    let number = value.parse().ok().filter(|number| *number != 0);
                    port = Some(number.ok_or_else(|| refuse("the port is no number"))?);
                }
                Some(("path", _)) => {
                    return Err(refuse("the TPM library cannot reach a swtpm by a socket's path"));
                }
                _ => return Err(refuse("after `swtpm:` come `host=` and `port=`, once each")),
            }
        }
        match (host, port) {
            (Some(host), Some(port)) => Ok(Address::Swtpm { host, port }),
            _ => Err(refuse("after `swtpm:` both `host=` and `port=` are needed")),
        }
    }

    pub(super) fn to_tcti(&self) -> Result<TctiNameConf, Error> {
        let refused = super::error::of("the address");
        Ok(match self {
            Address::Node(path) => TctiNameConf::Device(
                DeviceConfig::from_str(&path.to_string_lossy()).map_err(refused)?,
            ),
            Address::Swtpm { host, port } => TctiNameConf::Swtpm(
                NetworkTPMConfig::from_str(&format!("host={host},port={port}")).map_err(refused)?,
            ),
        })
    }

    /// `tpmrm0` and its like clean up after each client; nothing else does.
    pub(super) fn cleans_up(&self) -> bool {
        let name = match self {
            Address::Node(path) => path.file_name().and_then(|name| name.to_str()),
            Address::Swtpm { .. } => None,
        };
        name.is_some_and(|name| name.starts_with("tpmrm"))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Node(path) => write!(f, "device:{}", path.display()),
            Address::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

fn is_host(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    !text.is_empty() && text.len() <= 253 && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn both_forms_are_understood_and_written_back() {
        for given in ["device:/dev/tpmrm0", "swtpm:host=127.0.0.1,port=2321"] {
            assert_eq!(Address::parse(given).unwrap().to_string(), given);
        }
        assert!(Address::parse("device:/dev/tpmrm0").unwrap().cleans_up());
        assert!(!Address::parse("device:/dev/tpm0").unwrap().cleans_up());
    }

    #[test]
    fn what_the_library_would_ignore_is_refused() {
        for given in [
            "swtpm:path=/tmp/sock",
            "swtpm",
            "swtpm:",
            "swtpm:host=a",
            "swtpm:port=1",
            "swtpm:host=a,port=0",
            "swtpm:host=a,port=1,port=2",
            "swtpm:host=a b,port=1",
            "swtpm:host=a,port=1,random=2",
            "device",
            "device:",
            "device:tpm0",
            "tabrmd:bus_name=x",
            "mssim:host=a,port=1",
            "cmd:true",
            "",
        ] {
            assert!(matches!(Address::parse(given), Err(Error::Address { .. })), "{given}");
        }
    }
}
