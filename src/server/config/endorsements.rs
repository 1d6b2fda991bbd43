//! `[endorsements]`: where the word of vendors about confidential machines is kept, and which
//! services are asked for what is not there.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::span;
use crate::clock::Span;
use crate::endorsement::Config;
use crate::endorsement::Service;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EndorsementsSyntax {
    folder: Option<PathBuf>,
    /// Whether services are asked at all: a server opens no connection that nobody asked for.
    fetch: bool,
    amd: Option<String>,
    intel: Option<String>,
    ca: Option<PathBuf>,
    amd_every: Option<Span>,
    intel_every: Option<Span>,
    wait: Option<Span>,
    renew_after: Option<Span>,
}

impl EndorsementsSyntax {
    /// Paths start from `folder`; the cache is below `data_dir` where nothing else is said.
    pub(super) fn judged(self, data_dir: &Path, folder: &Path) -> Result<Config, ConfigError> {
        let cache =
            self.folder.map_or_else(|| data_dir.join("endorsements"), |path| folder.join(path));
        let usual = Config::offline(cache);
        let service = |key,
                       usual: Service,
                       url: Option<String>,
                       every_key,
                       every: Option<Span>|
         -> Result<Option<Service>, ConfigError> {
            let every = match every {
                Some(every) => span(every_key, every, 1, 600, "1s to 10m")?,
                None => usual.every,
            };
            let url = match url.as_deref() {
                Some("off") => return Ok(None),
                Some(url) => url.parse().map_err(|_| ConfigError::Value {
                    key,
                    found: url.to_owned(),
                    expected: "`https://host[:port][/path]` (`http://` to this machine alone), \
                               or `off`",
                })?,
                None => usual.url.clone(),
            };
            Ok(self.fetch.then_some(Service { url, every, ..usual }))
        };
        let amd = (Service::amd(), self.amd, self.amd_every);
        let intel = (Service::intel(), self.intel, self.intel_every);
        let within = |key, found: Option<Span>, usual: Duration, high, expected| match found {
            Some(found) => span(key, found, 1, high, expected),
            None => Ok(usual),
        };
        Ok(Config {
            amd: service("endorsements.amd", amd.0, amd.1, "endorsements.amd_every", amd.2)?,
            intel: service(
                "endorsements.intel",
                intel.0,
                intel.1,
                "endorsements.intel_every",
                intel.2,
            )?,
            ca: self.ca.map(|path| folder.join(path)),
            patience: within("endorsements.wait", self.wait, usual.patience, 120, "1s to 2m")?,
            renew_after: within(
                "endorsements.renew_after",
                self.renew_after,
                usual.renew_after,
                604_800,
                "1s to 7d",
            )?,
            ..usual
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn judged(text: &str) -> Result<Config, String> {
        let syntax: EndorsementsSyntax = toml::from_str(text).map_err(|error| error.to_string())?;
        syntax
            .judged(Path::new("/state"), Path::new("/etc/assay"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_nobody_asked_and_fetching_is_from_the_vendors() {
        let config = judged("").unwrap();
        assert_eq!((config.amd, config.intel), (None, None));
        assert_eq!(config.folder, Path::new("/state/endorsements"));
        let config = judged("fetch = true").unwrap();
        assert_eq!((config.amd, config.intel), (Some(Service::amd()), Some(Service::intel())));
        assert_eq!(config.ca, None);
        let config = judged("fetch = false\nfolder = \"kept\"\namd = \"https://a\"").unwrap();
        assert_eq!((config.amd, config.intel), (None, None));
        assert_eq!(config.folder, Path::new("/etc/assay/kept"));
    }

    #[test]
    fn each_service_may_be_another_one_or_off() {
        let config = judged(
            "fetch = true\namd = \"off\"\nintel = \"https://pccs.example:8081\"\nintel_every = \"3s\"\n\
             ca = \"ca.pem\"\nwait = \"5s\"\nrenew_after = \"12h\"\n",
        )
        .unwrap();
        let intel = config.intel.unwrap();
        assert_eq!(intel.url.to_string(), "https://pccs.example:8081");
        assert_eq!((config.amd, intel.every), (None, Duration::from_secs(3)));
        assert_eq!(config.ca.unwrap(), Path::new("/etc/assay/ca.pem"));
        assert_eq!(config.patience, Duration::from_secs(5));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        for (text, named) in [
            ("amd = \"kdsintf.amd.com\"", "endorsements.amd"),
            ("intel = \"http://pccs.example\"", "endorsements.intel"),
            ("amd_every = \"0s\"", "endorsements.amd_every"),
            ("intel_every = \"1h\"", "endorsements.intel_every"),
            ("wait = \"1h\"", "endorsements.wait"),
            ("renew_after = \"30d\"", "endorsements.renew_after"),
            ("fetched = true", "fetched"),
            ("wait = 5", "wait"),
        ] {
            let told = judged(text).unwrap_err();
            assert!(told.contains(named), "{text}: {told}");
        }
    }
}
