//! `agent.toml`: syntax first, then once into a checked [`Config`].
//!
//! Unknown keys are errors that name key and line. Relative paths start from the folder of the
//! file. Nothing here opens a device or a socket.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::clock::Span;
use crate::log::Log;
use crate::spiffe::IdError;
use crate::spiffe::TrustDomain;

/// How an agent is to run; every field judged.
#[derive(Debug, Clone)]
pub struct Config {
    pub trust_domain: TrustDomain,
    /// `host:port` of the server.
    pub server: String,
    /// The last trust bundle is kept here.
    pub data_dir: PathBuf,
    /// The Workload API's socket.
    pub socket: PathBuf,
    /// The host's TPM, such as `device:/dev/tpmrm0`.
    pub device: String,
    /// A file with the authorization of the endorsement hierarchy, where it is not empty.
    pub endorsement_auth: Option<PathBuf>,
    /// How a host without an EK certificate proves itself.
    pub ak_certificate: Option<AkCertificate>,
    /// Where the kernel gives reports of a confidential machine's processor, if not where Linux
    /// mounts it. One that is named has to be there.
    pub tsm_folder: Option<PathBuf>,
    pub logs: Logs,
    pub bootstrap: Bootstrap,
    pub log: Log,
    pub intervals: Intervals,
    pub limits: Limits,
}

/// Where what was measured is written down, if not where Linux shows it for this TPM. What is not
/// there is missing in the evidence, for the server to judge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs {
    pub boot: Option<PathBuf>,
    /// The binary list of files.
    pub ima: Option<PathBuf>,
    pub cmdline: Option<PathBuf>,
}

/// A key that a cloud or the maker left in the TPM, and the certificate that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AkCertificate {
    pub certificate: Place,
    /// The persistent handle of its key, whose authorisation is empty.
    pub handle: u32,
}

/// Where a certificate is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Leaf first, then its chain; PEM or DER.
    File(PathBuf),
    /// The NV index with the leaf, and perhaps a file with its chain.
    Nv { index: u32, chain: Option<PathBuf> },
}

/// First trust in the server, used only while `data_dir` holds no bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// Certificates (PEM) of the trust domain's X.509 authorities.
    Bundle(PathBuf),
    /// Whatever server answers first is believed for ever after.
    DangerInsecure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervals {
    /// How often entries are asked for where `Watch` does not tell of changes.
    pub sync: Duration,
    /// First and longest pause between attempts to attest.
    pub retry_first: Duration,
    pub retry_longest: Duration,
    /// How long open calls may still run after a request to stop.
    pub drain: Duration,
}

/// Bounds that keep one workload from using up the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections to the socket; one uid may have a quarter of them.
    pub connections: usize,
    /// Longest executable that is digested for `unix:sha256`.
    pub executable_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{}: cannot be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: longer than {MAX_FILE} bytes", path.display())]
    Size { path: PathBuf },
    #[error("{}: {fault}", path.display())]
    Syntax { path: PathBuf, fault: String },
    #[error("`{key}` is `{found}`, expected {expected}")]
    Value { key: &'static str, found: String, expected: &'static str },
    #[error("`trust_domain`: a name was expected")]
    TrustDomain(#[source] IdError),
}

/// No configuration is longer.
const MAX_FILE: u64 = 1_024 * 1_024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigSyntax {
    trust_domain: String,
    server: String,
    data_dir: PathBuf,
    socket: PathBuf,
    device: String,
    endorsement_auth: Option<PathBuf>,
    ak_certificate: Option<AkCertificateSyntax>,
    tsm_folder: Option<PathBuf>,
    #[serde(default)]
    logs: LogsSyntax,
    bootstrap: BootstrapSyntax,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    intervals: IntervalsSyntax,
    #[serde(default)]
    limits: LimitsSyntax,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AkCertificateSyntax {
    certificate: Option<PathBuf>,
    nv: Option<String>,
    chain: Option<PathBuf>,
    key: KeySyntax,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySyntax {
    handle: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LogsSyntax {
    boot: Option<PathBuf>,
    ima: Option<PathBuf>,
    cmdline: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BootstrapSyntax {
    bundle: Option<PathBuf>,
    #[serde(default)]
    danger_insecure: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct IntervalsSyntax {
    sync: Span,
    retry_first: Span,
    retry_longest: Span,
    drain: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSyntax {
    connections: usize,
    executable_mib: u64,
}

impl Default for IntervalsSyntax {
    fn default() -> Self {
        Self {
            sync: Span(Duration::from_secs(5)),
            retry_first: Span(Duration::from_secs(5)),
            retry_longest: Span(Duration::from_secs(300)),
            drain: Span(Duration::from_secs(5)),
        }
    }
}

impl Default for LimitsSyntax {
    fn default() -> Self {
        Self { connections: 1_024, executable_mib: 512 }
    }
}

impl Config {
    /// Reads `agent.toml`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_path_buf(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_FILE {
            return Err(ConfigError::Size { path: path.to_path_buf() });
        }
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let syntax: ConfigSyntax = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_path_buf(),
            fault: error.to_string().trim_end().to_owned(),
        })?;
        Ok(Self {
            trust_domain: TrustDomain::parse(&syntax.trust_domain)
                .map_err(ConfigError::TrustDomain)?,
            server: address(syntax.server)?,
            data_dir: folder.join(syntax.data_dir),
            socket: folder.join(syntax.socket),
            device: device(syntax.device)?,
            endorsement_auth: syntax.endorsement_auth.map(|path| folder.join(path)),
            ak_certificate: syntax.ak_certificate.map(|ak| ak.judged(folder)).transpose()?,
            tsm_folder: syntax.tsm_folder.map(|path| folder.join(path)),
            logs: syntax.logs.judged(folder),
            bootstrap: syntax.bootstrap.judged(folder)?,
            log: syntax.log,
            intervals: syntax.intervals.judged()?,
            limits: syntax.limits.judged()?,
        })
    }
}

/// The name is resolved anew at each connection, so only its form is looked at here.
fn address(text: String) -> Result<String, ConfigError> {
    let well_formed = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    match well_formed {
        true => Ok(text),
        false => Err(ConfigError::Value { key: "server", found: text, expected: "`host:port`" }),
    }
}

/// tss-esapi takes `swtpm:path=…` and then silently talks to a TPM on port 2321.
fn device(text: String) -> Result<String, ConfigError> {
    let known =
        text.starts_with("device:") || (text.starts_with("swtpm:") && !text.contains("path="));
    match known {
        true => Ok(text),
        false => Err(ConfigError::Value {
            key: "device",
            found: text,
            expected: "the host's TPM, such as `device:/dev/tpmrm0`",
        }),
    }
}

impl AkCertificateSyntax {
    fn judged(self, folder: &Path) -> Result<AkCertificate, ConfigError> {
        let one = "either `certificate`, or `nv` and perhaps `chain`";
        let certificate = match (self.certificate, self.nv, self.chain) {
            (Some(path), None, None) => Place::File(folder.join(path)),
            (None, Some(index), chain) => Place::Nv {
                index: number("ak_certificate.nv", index, 0x01, "an index such as `0x01c10000`")?,
                chain: chain.map(|path| folder.join(path)),
            },
            (None, None, _) => return Err(outside("ak_certificate", "neither".to_owned(), one)),
            (Some(_), _, _) => return Err(outside("ak_certificate", "more".to_owned(), one)),
        };
        let expected = "a persistent handle such as `0x81020001`";
        let handle = number("ak_certificate.key.handle", self.key.handle, 0x81, expected)?;
        Ok(AkCertificate { certificate, handle })
    }
}

/// A number of the TPM in hex, whose first octet says of what kind it is (Part 2, §7.2).
fn number(
    key: &'static str,
    text: String,
    kind: u32,
    expected: &'static str,
) -> Result<u32, ConfigError> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
    match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        Some(number) if number >> 24 == kind => Ok(number),
        _ => Err(outside(key, text, expected)),
    }
}

fn outside(key: &'static str, found: String, expected: &'static str) -> ConfigError {
    ConfigError::Value { key, found, expected }
}

impl LogsSyntax {
    fn judged(self, folder: &Path) -> Logs {
        let place = |path: Option<PathBuf>| path.map(|path| folder.join(path));
        Logs { boot: place(self.boot), ima: place(self.ima), cmdline: place(self.cmdline) }
    }
}

impl BootstrapSyntax {
    fn judged(self, folder: &Path) -> Result<Bootstrap, ConfigError> {
        match (self.bundle, self.danger_insecure) {
            (Some(path), false) => Ok(Bootstrap::Bundle(folder.join(path))),
            (None, true) => Ok(Bootstrap::DangerInsecure),
            (bundle, _) => Err(ConfigError::Value {
                key: "bootstrap",
                found: if bundle.is_some() { "both" } else { "neither" }.to_owned(),
                expected: "either `bundle` or `danger_insecure = true`",
            }),
        }
    }
}

impl IntervalsSyntax {
    fn judged(self) -> Result<Intervals, ConfigError> {
        let intervals = Intervals {
            sync: span("intervals.sync", self.sync, 3_600)?,
            retry_first: span("intervals.retry_first", self.retry_first, 3_600)?,
            retry_longest: span("intervals.retry_longest", self.retry_longest, 3_600)?,
            drain: span("intervals.drain", self.drain, 3_600)?,
        };
        if intervals.retry_longest < intervals.retry_first {
            return Err(ConfigError::Value {
                key: "intervals.retry_longest",
                found: format!("{:?}", intervals.retry_longest),
                expected: "at least `retry_first`",
            });
        }
        Ok(intervals)
    }
}

impl LimitsSyntax {
    fn judged(self) -> Result<Limits, ConfigError> {
        if !(4..=65_536).contains(&self.connections) {
            let found = self.connections.to_string();
            return Err(outside("limits.connections", found, "4 to 65536"));
        }
        if !(1..=65_536).contains(&self.executable_mib) {
            let found = self.executable_mib.to_string();
            return Err(outside("limits.executable_mib", found, "1 to 65536"));
        }
        Ok(Limits {
            connections: self.connections,
            executable_bytes: self.executable_mib * 1_024 * 1_024,
        })
    }
}

fn span(key: &'static str, found: Span, longest_s: u64) -> Result<Duration, ConfigError> {
    match (1..=longest_s).contains(&found.0.as_secs()) {
        true => Ok(found.0),
        false => {
            Err(ConfigError::Value { key, found: format!("{:?}", found.0), expected: "1s to 1h" })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHORT: &str = "trust_domain = \"example.org\"\nserver = \"localhost:8081\"\n\
        data_dir = \"data\"\nsocket = \"/run/agent.sock\"\ndevice = \"device:/dev/tpmrm0\"\n";
    const TRUST: &str = "[bootstrap]\nbundle = \"bundle.pem\"\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/assay/agent.toml"))
    }

    #[test]
    fn the_shortest_configuration_is_enough() {
        let config = parse(&format!("{SHORT}{TRUST}")).unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/assay/data"));
        assert_eq!(config.socket, Path::new("/run/agent.sock"));
        let bundle = PathBuf::from("/etc/assay/bundle.pem");
        assert_eq!(config.bootstrap, Bootstrap::Bundle(bundle));
        assert_eq!(config.intervals.sync, Duration::from_secs(5));
        assert_eq!(config.limits.connections, 1_024);
    }

    #[test]
    fn the_page_in_the_reference_shows_a_configuration_and_the_defaults() {
        let page = include_str!("../../docs/reference/agent.md");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let shown = parse(example).unwrap();
        let default = parse(&format!("{SHORT}{TRUST}")).unwrap();
        assert_eq!((shown.log, shown.intervals), (default.log, default.intervals));
        assert_eq!(shown.limits, default.limits);
        let unsafe_one = example
            .replace("bundle = ", "# bundle = ")
            .replace("# danger_insecure", "danger_insecure");
        assert_eq!(parse(&unsafe_one).unwrap().bootstrap, Bootstrap::DangerInsecure);
    }

    #[test]
    fn the_folder_of_the_kernels_reports_starts_from_that_of_the_file() {
        let config = parse(&format!("{SHORT}tsm_folder = \"tsm\"\n{TRUST}")).unwrap();
        assert_eq!(config.tsm_folder.as_deref(), Some(Path::new("/etc/assay/tsm")));
        assert_eq!(parse(&format!("{SHORT}{TRUST}")).unwrap().tsm_folder, None);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse(&format!("{SHORT}sokcet = 1\n{TRUST}")).unwrap_err().to_string();
        assert!(error.contains("sokcet") && error.contains("line 6"), "{error}");
        let error = parse(&format!("{SHORT}{TRUST}[log]\ncolour = 1\n")).unwrap_err().to_string();
        assert!(error.contains("colour") && error.contains("line 9"), "{error}");
    }

    #[test]
    fn a_log_level_that_there_is_not_is_refused() {
        let error = parse(&format!("{SHORT}{TRUST}[log]\nlevel = \"loud\"\n")).unwrap_err();
        assert!(error.to_string().contains("loud"), "{error}");
    }

    #[test]
    fn first_trust_is_said_once_and_openly() {
        let bootstrap = |text: &str| parse(&format!("{SHORT}[bootstrap]\n{text}"));
        assert_eq!(
            bootstrap("danger_insecure = true").unwrap().bootstrap,
            Bootstrap::DangerInsecure
        );
        for text in ["", "danger_insecure = false", "bundle = \"b\"\ndanger_insecure = true"] {
            let refused = bootstrap(text).unwrap_err();
            assert!(matches!(refused, ConfigError::Value { key: "bootstrap", .. }), "{text}");
        }
        assert!(parse(SHORT).is_err());
    }

    #[test]
    fn logs_are_where_the_configuration_says() {
        let logs = parse(&format!("{SHORT}{TRUST}[logs]\nima = \"ima.bin\"\n")).unwrap().logs;
        let ima = Some("/etc/assay/ima.bin".into());
        assert_eq!(logs, Logs { ima, ..Logs::default() });
        assert!(parse(&format!("{SHORT}{TRUST}[logs]\nimma = \"ima.bin\"\n")).is_err());
    }

    #[test]
    fn an_ak_certificate_is_in_a_file_or_in_the_tpm_and_its_key_under_a_persistent_handle() {
        let ak = |table: &str| {
            let config = parse(&format!("{SHORT}{TRUST}[ak_certificate]\n{table}\n"));
            config.map(|config| config.ak_certificate.unwrap())
        };
        let key = "key = { handle = \"0x81020001\" }";
        let file = ak(&format!("certificate = \"ak.pem\"\n{key}")).unwrap();
        assert_eq!(file.certificate, Place::File("/etc/assay/ak.pem".into()));
        assert_eq!(file.handle, 0x8102_0001);
        let nv = ak(&format!("nv = \"0x01c10000\"\nchain = \"/c.pem\"\n{key}")).unwrap();
        let chain = Some("/c.pem".into());
        assert_eq!(nv.certificate, Place::Nv { index: 0x01c1_0000, chain });
        for (table, name) in [
            (key.to_owned(), "ak_certificate"),
            (format!("certificate = \"a\"\nnv = \"0x01c10000\"\n{key}"), "ak_certificate"),
            (format!("certificate = \"a\"\nchain = \"b\"\n{key}"), "ak_certificate"),
            (format!("nv = \"0x81020001\"\n{key}"), "ak_certificate.nv"),
            ("certificate = \"a\"\nkey = { handle = \"81020001\" }".into(), "handle"),
            ("certificate = \"a\"\nkey = { handle = \"0x80000001\" }".into(), "handle"),
            ("certificate = \"a\"".into(), "missing field `key`"),
        ] {
            let refused = ak(&table).unwrap_err().to_string();
            assert!(refused.contains(name), "{table}: {refused}");
        }
    }

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        let refused =
            |from: &str, to: &str| match parse(&format!("{SHORT}{TRUST}").replace(from, to))
                .unwrap_err()
            {
                ConfigError::Value { key, .. } => key,
                ConfigError::TrustDomain(_) => "trust_domain",
                other => panic!("{other}"),
            };
        assert_eq!(refused("example.org", "Example"), "trust_domain");
        for server in ["localhost", ":1", "localhost:0", "localhost:65536"] {
            assert_eq!(refused("localhost:8081", server), "server");
        }
        for device in ["swtpm:path=/tmp/s", "/dev/tpm0", ""] {
            assert_eq!(refused("device:/dev/tpmrm0", device), "device");
        }
        let refused = |tail: &str| match parse(&format!("{SHORT}{TRUST}{tail}")).unwrap_err() {
            ConfigError::Value { key, .. } => key,
            other => panic!("{other}"),
        };
        assert_eq!(refused("[intervals]\nsync = \"0s\"\n"), "intervals.sync");
        assert_eq!(refused("[intervals]\nretry_longest = \"1s\"\n"), "intervals.retry_longest");
        assert_eq!(refused("[limits]\nconnections = 3\n"), "limits.connections");
        assert_eq!(refused("[limits]\nexecutable_mib = 0\n"), "limits.executable_mib");
    }
}
