//! `server.toml`: syntax first, then once into a checked [`Config`].
//!
//! Unknown keys are errors that name key and line. Every path is taken from the folder of the
//! file. Roots, profile and policy are read here, so that a server that starts is a server whose
//! demands were understood. Nothing here opens a device, a socket or the store.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::Curve;
use assay_evidence::PublicKey;
use assay_evidence::certificate::Certificate;
use assay_evidence::certificate::CertificateError;
use assay_evidence::crypto;
use assay_tpm::AkAnchors;
use assay_tpm::endorsement::Anchors;
use serde::Deserialize;
use toml::Spanned;

use crate::clock::Span;
use crate::endorsement;
use crate::log::Log;
use crate::policy::Policy;
use crate::policy::PolicyError;
use crate::reference::Profile;
use crate::reference::files;
use crate::reference::files::LoadError;
use crate::reference::profile::Root;
use crate::reference::signature;
use crate::spiffe::IdError;
use crate::spiffe::TrustDomain;
use crate::store::Retention;

mod ek_roots;
mod endorsements;

use ek_roots::EkRootSyntax;
use ek_roots::EkRoots;
use endorsements::EndorsementsSyntax;

/// No file that a configuration names is longer.
const MAX_FILE: u64 = 4 * 1_024 * 1_024;

/// How a server is to run; every field judged.
#[derive(Debug, Clone)]
pub struct Config {
    pub trust_domain: TrustDomain,
    pub data_dir: PathBuf,
    /// The agents' TLS listener.
    pub listen: SocketAddr,
    /// The private socket of the administrator, in a folder of mode 0700.
    pub socket: PathBuf,
    pub log: Log,
    pub custody: Custody,
    pub svid: Svid,
    pub nodes: Nodes,
    pub limits: Limits,
    /// What vendors say of confidential machines.
    pub endorsements: endorsement::Config,
    /// For how long evidence is kept.
    pub retention: Retention,
    /// Where the bundle is written at each change, for agents to bootstrap from.
    pub bundle_export: Option<PathBuf>,
    /// How long open calls may still run after a request to stop.
    pub drain: Duration,
    /// SHA-256 of the text; the authority's first creation is recorded under it.
    pub sha256: [u8; 32],
}

/// What keeps the issuing keys.
#[derive(Debug, Clone)]
pub enum Custody {
    /// A TPM 2.0, whose own EK must chain to these roots.
    Tpm { tcti: String, anchors: Anchors },
    /// Memory of this process and a file; only behind `danger_software_keys = true`.
    Software,
}

/// Lives of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svid {
    pub x509_ttl: Duration,
    pub jwt_ttl: Duration,
    pub ca_ttl: Duration,
}

/// Which nodes are let in, and by what they are judged.
#[derive(Debug, Clone)]
pub struct Nodes {
    pub profile: Arc<Profile>,
    pub profile_path: PathBuf,
    /// Of what confidential machines may be launched with: roots `snp` and `tdx`.
    pub launch_profiles: Vec<Arc<Profile>>,
    /// Who may sign profiles and sets; where there are none, no signature is asked for.
    pub profile_keys: Vec<PublicKey>,
    pub policy: Policy,
    pub admit: BTreeSet<Admit>,
    pub anchors: Anchors,
    /// Whom AK certificates come from, where there is none of an EK.
    pub ak_anchors: AkAnchors,
    /// Whether an operator may have attestation keys certified.
    pub certify_attestation_keys: bool,
    /// SHA-256 of the root certificates below which any EK is welcome.
    pub admit_roots: BTreeSet<[u8; 32]>,
    /// … any machine with an AK certificate.
    pub admit_ak_roots: BTreeSet<[u8; 32]>,
    /// Roots of test hardware, which stand beside AMD's and Intel's: what leads to them is of no
    /// vendor, and says so.
    pub danger_extra_roots: Vec<Certificate>,
    /// Among them are roots of vendors, whose TPMs anybody can buy.
    pub danger_admit_vendor_roots: bool,
    /// The folder that relative profile paths of `assay node admit` start from.
    pub folder: PathBuf,
}

/// By what a node may be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admit {
    /// The hash of its EK, entered beforehand.
    Hash,
    /// An operator, after it has proved itself once.
    Operator,
    /// A root marked `admit = true`.
    Root,
}

/// Bounds that keep one peer from using up the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Attestations under way at once; and as many refreshes, which are counted apart.
    pub attestations: usize,
    /// … of them from one address.
    pub attestations_per_source: usize,
    /// Attestations of one source in a minute, and as many at once after a rest.
    pub attestations_per_minute: u32,
    /// Signatures of one node in a second.
    pub signatures_per_second: u32,
    /// Open TLS connections.
    pub connections: usize,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{}: cannot be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {found} bytes, expected at most {MAX_FILE}", path.display())]
    Size { path: PathBuf, found: u64 },
    #[error("{}: {fault}", path.display())]
    Syntax { path: PathBuf, fault: String },
    #[error("`{key}` is `{found}`, expected {expected}")]
    Value { key: &'static str, found: String, expected: &'static str },
    #[error("`trust_domain`: a name was expected")]
    TrustDomain(#[source] IdError),
    #[error(transparent)]
    Profile(#[from] LoadError),
    #[error("{}: no P-256 public key in PEM", path.display())]
    ProfileKey { path: PathBuf },
    #[error("policy {}: {fault}", path.display())]
    Policy { path: PathBuf, fault: PolicyError },
    #[error("{}: not a certificate", path.display())]
    Certificate { path: PathBuf, source: CertificateError },
    #[error("{}: no certificate in it", path.display())]
    NoCertificate { path: PathBuf },
    #[error(
        "software keys sign with no hardware behind them; \
         set `danger_software_keys = true` in `[keys]` to accept that"
    )]
    SoftwareKeys,
    #[error("`{key}`, line {line}: {fault}")]
    EkRoot { key: &'static str, line: usize, fault: String },
    #[error(
        "`{key}`, line {line}: `admit = true` for a root of `{vendor}` lets in any TPM that \
         this vendor ever made, and anybody can buy one; admit nodes one by one, or set \
         `danger_admit_vendor_roots = true` in `[nodes]` to accept that"
    )]
    VendorRootAdmitted { key: &'static str, line: usize, vendor: String },
    #[error(
        "`danger_admit_vendor_roots` goes with `admit = true` for a root of a vendor, found none"
    )]
    NeedlessAdmitDanger,
    #[error("`danger_software_keys` goes with `custody = \"software\"` alone, found custody `tpm`")]
    NeedlessDanger,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigSyntax {
    trust_domain: String,
    data_dir: PathBuf,
    #[serde(default = "default_listen")]
    listen: SocketAddr,
    socket: Option<PathBuf>,
    #[serde(default = "default_drain")]
    drain: Span,
    #[serde(default)]
    log: Log,
    keys: KeysSyntax,
    #[serde(default)]
    svid: SvidSyntax,
    nodes: NodesSyntax,
    #[serde(default)]
    limits: LimitsSyntax,
    #[serde(default)]
    store: StoreSyntax,
    #[serde(default)]
    endorsements: EndorsementsSyntax,
    #[serde(default)]
    bootstrap: BootstrapSyntax,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysSyntax {
    custody: CustodySyntax,
    device: Option<String>,
    #[serde(default)]
    ek_root: Vec<Spanned<EkRootSyntax>>,
    #[serde(default)]
    danger_software_keys: bool,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum CustodySyntax {
    Tpm,
    Software,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SvidSyntax {
    x509_ttl: Span,
    jwt_ttl: Span,
    ca_ttl: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodesSyntax {
    profile: PathBuf,
    #[serde(default)]
    launch_profiles: Vec<PathBuf>,
    #[serde(default)]
    profile_keys: Vec<PathBuf>,
    policy: Option<PathBuf>,
    #[serde(default = "default_admit")]
    admit: Vec<Admit>,
    #[serde(default)]
    ek_root: Vec<Spanned<EkRootSyntax>>,
    #[serde(default)]
    ak_root: Vec<Spanned<EkRootSyntax>>,
    #[serde(default)]
    certify_attestation_keys: bool,
    #[serde(default)]
    danger_admit_vendor_roots: bool,
    #[serde(default)]
    danger_extra_roots: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSyntax {
    attestations: usize,
    attestations_per_source: usize,
    attestations_per_minute: u32,
    signatures_per_second: u32,
    connections: usize,
}

/// `keep_routine`: quotes of refreshes that changed nothing, and logs. `keep_evidence`: the full
/// set at each change of verdict, profile or boot.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct StoreSyntax {
    keep_routine: Option<Span>,
    keep_evidence: Option<Span>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct BootstrapSyntax {
    bundle: Option<PathBuf>,
}

impl Default for SvidSyntax {
    fn default() -> Self {
        Self {
            x509_ttl: Span(Duration::from_secs(3_600)),
            jwt_ttl: Span(Duration::from_secs(300)),
            ca_ttl: Span(Duration::from_secs(90 * 86_400)),
        }
    }
}

impl Default for LimitsSyntax {
    fn default() -> Self {
        Self {
            attestations: 256,
            attestations_per_source: 16,
            attestations_per_minute: 60,
            signatures_per_second: 500,
            connections: 8_192,
        }
    }
}

impl Config {
    /// Reads `server.toml` and every file that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let folder = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        Self::parse(&text(path)?, path, &folder)
    }

    fn parse(text: &str, path: &Path, folder: &Path) -> Result<Self, ConfigError> {
        let syntax: ConfigSyntax = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_path_buf(),
            fault: error.to_string().trim_end().to_owned(),
        })?;
        let trust_domain =
            TrustDomain::parse(&syntax.trust_domain).map_err(ConfigError::TrustDomain)?;
        let data_dir = folder.join(&syntax.data_dir);
        let socket = match syntax.socket {
            Some(socket) => folder.join(socket),
            None => data_dir.join("private").join("api.sock"),
        };
        let reader = Reader { text, folder };
        Ok(Self {
            trust_domain,
            socket,
            listen: syntax.listen,
            log: syntax.log,
            custody: syntax.keys.judged(&reader)?,
            svid: syntax.svid.judged()?,
            nodes: syntax.nodes.judged(&reader)?,
            limits: syntax.limits.judged()?,
            endorsements: syntax.endorsements.judged(&data_dir, folder)?,
            retention: syntax.store.judged()?,
            bundle_export: syntax.bootstrap.bundle.map(|path| folder.join(path)),
            drain: span("drain", syntax.drain, 1, 300, "1s to 5m")?,
            sha256: crypto::sha256(text.as_bytes()),
            data_dir,
        })
    }
}

/// The text of the configuration, to name lines of it, and the folder that paths start from.
struct Reader<'a> {
    text: &'a str,
    folder: &'a Path,
}

impl Reader<'_> {
    /// The line of a byte of the text, from 1.
    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }
}

impl KeysSyntax {
    fn judged(self, reader: &Reader<'_>) -> Result<Custody, ConfigError> {
        match (self.custody, self.danger_software_keys) {
            (CustodySyntax::Software, true) => Ok(Custody::Software),
            (CustodySyntax::Software, false) => Err(ConfigError::SoftwareKeys),
            (CustodySyntax::Tpm, true) => Err(ConfigError::NeedlessDanger),
            (CustodySyntax::Tpm, false) => {
                let absent =
                    |key, expected| ConfigError::Value { key, found: String::new(), expected };
                let tcti = self.device.ok_or_else(|| {
                    absent("keys.device", "the server's TPM, such as `device:/dev/tpmrm0`")
                })?;
                if self.ek_root.is_empty() {
                    let expected = "at least one root of the server's own TPM";
                    return Err(absent("keys.ek_root", expected));
                }
                let roots = EkRoots::judged("keys.ek_root", self.ek_root, reader)?;
                Ok(Custody::Tpm { tcti, anchors: roots.anchors() })
            }
        }
    }
}

impl Config {
    /// The cache of endorsements, and the vendors' services where they may be asked.
    pub fn endorsements(&self) -> endorsement::Config {
        let operator_roots = self.nodes.danger_extra_roots.clone();
        endorsement::Config { operator_roots, ..self.endorsements.clone() }
    }
}

impl SvidSyntax {
    fn judged(self) -> Result<Svid, ConfigError> {
        Ok(Svid {
            x509_ttl: span("svid.x509_ttl", self.x509_ttl, 10, 604_800, "10s to 7d")?,
            jwt_ttl: span("svid.jwt_ttl", self.jwt_ttl, 10, 86_400, "10s to 1d")?,
            ca_ttl: span("svid.ca_ttl", self.ca_ttl, 3_600, 31_536_000, "1h to 365d")?,
        })
    }
}

impl NodesSyntax {
    fn judged(self, reader: &Reader<'_>) -> Result<Nodes, ConfigError> {
        let folder = reader.folder;
        let profile_path = folder.join(&self.profile);
        let (policy_path, policy_text) = match &self.policy {
            Some(path) => (folder.join(path), text(&folder.join(path))?),
            None => (PathBuf::from("(built in)"), String::new()),
        };
        let base = policy_path.parent().unwrap_or(folder).to_path_buf();
        let list = |path: &Path| text(&base.join(path)).map_err(|error| error.to_string());
        let policy = Policy::parse_with(&policy_text, list)
            .map_err(|fault| ConfigError::Policy { path: policy_path, fault })?;
        if self.admit.is_empty() {
            let expected = "one or more of hash, operator, root";
            return Err(ConfigError::Value { key: "nodes.admit", found: "[]".into(), expected });
        }
        let profile_keys = self
            .profile_keys
            .iter()
            .map(|path| profile_key(&folder.join(path)))
            .collect::<Result<Vec<_>, _>>()?;
        let launches = self.launch_profiles.iter();
        let launch_profiles = launches
            .map(|path| launch_profile(&folder.join(path), &profile_keys))
            .collect::<Result<Vec<_>, _>>()?;
        let roots = EkRoots::judged("nodes.ek_root", self.ek_root, reader)?;
        let ak_roots = EkRoots::judged("nodes.ak_root", self.ak_root, reader)?;
        EkRoots::demand_danger(&[&roots, &ak_roots], self.danger_admit_vendor_roots)?;
        let extra_roots = self.danger_extra_roots.iter();
        let extra_roots = extra_roots.map(|path| certificates(&folder.join(path)));
        let extra_roots = extra_roots.collect::<Result<Vec<_>, _>>()?;
        Ok(Nodes {
            profile: Arc::new(load_profile(&profile_path, &profile_keys)?),
            profile_path,
            launch_profiles,
            profile_keys,
            policy,
            admit: self.admit.into_iter().collect(),
            admit_roots: roots.admitted.clone(),
            anchors: roots.anchors(),
            admit_ak_roots: ak_roots.admitted.clone(),
            ak_anchors: ak_roots.ak_anchors(),
            certify_attestation_keys: self.certify_attestation_keys,
            danger_admit_vendor_roots: self.danger_admit_vendor_roots,
            danger_extra_roots: extra_roots.concat(),
            folder: folder.to_path_buf(),
        })
    }
}

impl LimitsSyntax {
    fn judged(self) -> Result<Limits, ConfigError> {
        let bounded = |key, found: u64, high: u64, expected| {
            if (1..=high).contains(&found) {
                return Ok(());
            }
            Err(ConfigError::Value { key, found: found.to_string(), expected })
        };
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        bounded("limits.attestations", wide(self.attestations), 4_096, "1 to 4096")?;
        bounded(
            "limits.attestations_per_source",
            wide(self.attestations_per_source),
            4_096,
            "1 to 4096",
        )?;
        bounded(
            "limits.attestations_per_minute",
            self.attestations_per_minute.into(),
            60_000,
            "1 to 60000",
        )?;
        bounded(
            "limits.signatures_per_second",
            self.signatures_per_second.into(),
            100_000,
            "1 to 100000",
        )?;
        bounded("limits.connections", wide(self.connections), 65_536, "1 to 65536")?;
        Ok(Limits {
            attestations: self.attestations,
            attestations_per_source: self.attestations_per_source,
            attestations_per_minute: self.attestations_per_minute,
            signatures_per_second: self.signatures_per_second,
            connections: self.connections,
        })
    }
}

impl StoreSyntax {
    fn judged(self) -> Result<Retention, ConfigError> {
        let usual = Retention::default();
        let kept = |key, found: Option<Span>, usual| {
            span(key, found.unwrap_or(Span(usual)), 172_800, 315_360_000, "2d to 3650d")
        };
        Ok(Retention {
            routine: kept("store.keep_routine", self.keep_routine, usual.routine)?,
            full: kept("store.keep_evidence", self.keep_evidence, usual.full)?,
        })
    }
}

/// Reads and parses a profile; also what `assay node admit --profile` goes through.
pub fn load_profile(path: &Path, keys: &[PublicKey]) -> Result<Profile, ConfigError> {
    Ok(files::load(path, keys)?.profile)
}

fn launch_profile(path: &Path, keys: &[PublicKey]) -> Result<Arc<Profile>, ConfigError> {
    let profile = load_profile(path, keys)?;
    match profile.root {
        Root::Snp | Root::Tdx => Ok(Arc::new(profile)),
        Root::Tpm2 => Err(ConfigError::Value {
            key: "nodes.launch_profiles",
            found: format!("`{}` of root tpm2", path.display()),
            expected: "profiles of root snp or tdx; `nodes.profile` is for TPMs",
        }),
    }
}

fn profile_key(path: &Path) -> Result<PublicKey, ConfigError> {
    let key = signature::spki_der(&text(path)?).and_then(|der| PublicKey::from_spki(&der).ok());
    let p256 = key.filter(|key| matches!(key, PublicKey::Ec { curve: Curve::P256, .. }));
    p256.ok_or_else(|| ConfigError::ProfileKey { path: path.to_path_buf() })
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ConfigError> {
    let found = Certificate::parse_set(&bytes(path)?)
        .map_err(|source| ConfigError::Certificate { path: path.to_path_buf(), source })?;
    if found.is_empty() {
        return Err(ConfigError::NoCertificate { path: path.to_path_buf() });
    }
    Ok(found)
}

fn text(path: &Path) -> Result<String, ConfigError> {
    String::from_utf8(bytes(path)?).map_err(|_| ConfigError::Syntax {
        path: path.to_path_buf(),
        fault: "not UTF-8".to_owned(),
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unread = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let found = fs::metadata(path).map_err(unread)?.len();
    if found > MAX_FILE {
        return Err(ConfigError::Size { path: path.to_path_buf(), found });
    }
    fs::read(path).map_err(unread)
}

fn span(
    key: &'static str,
    found: Span,
    low: u64,
    high: u64,
    expected: &'static str,
) -> Result<Duration, ConfigError> {
    if (low..=high).contains(&found.0.as_secs()) {
        return Ok(found.0);
    }
    Err(ConfigError::Value { key, found: format!("{}s", found.0.as_secs()), expected })
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8_081))
}

fn default_drain() -> Span {
    Span(Duration::from_secs(10))
}

fn default_admit() -> Vec<Admit> {
    vec![Admit::Hash]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PROFILE: &str = r#"schema = "firmware-profile/1"
id = "demo/swtpm"
serial = 1
root = "tpm2"
banks = ["sha256"]
[[component]]
name = "firmware"
on = [0]
[[component.variant]]
name = "1"
state = "active"
pcr = { sha256 = { "0" = "0000000000000000000000000000000000000000000000000000000000000000" } }
"#;

    const SERVER: &str = r#"trust_domain = "example.org"
data_dir = "state"
[keys]
custody = "software"
danger_software_keys = true
[nodes]
profile = "profile.toml"
"#;

    fn loaded(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("profile.toml"), PROFILE).unwrap();
        let path = folder.path().join("server.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    fn refused(text: &str) -> String {
        loaded(text).unwrap_err().to_string()
    }

    #[test]
    fn the_shortest_configuration_has_safe_defaults() {
        let config = loaded(SERVER).unwrap();
        assert_eq!(config.trust_domain.as_str(), "example.org");
        assert_eq!(config.nodes.admit, BTreeSet::from([Admit::Hash]));
        assert!(config.nodes.policy.key_in_tpm && config.nodes.admit_roots.is_empty());
        assert!(config.socket.ends_with("state/private/api.sock"));
        assert!(config.data_dir.is_absolute());
        assert_eq!(config.limits.attestations, 256);
        assert_eq!(config.retention, Retention::default());
    }

    #[test]
    fn evidence_is_kept_as_long_as_is_said_and_two_days_at_least() {
        let kept = |table: &str| loaded(&format!("{SERVER}[store]\n{table}\n"));
        let retention = kept("keep_routine = \"3d\"\nkeep_evidence = \"90d\"").unwrap().retention;
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(retention, Retention { routine: days(3), full: days(90) });
        let fault = kept("keep_evidence = \"47h\"").unwrap_err().to_string();
        assert!(fault.contains("store.keep_evidence") && fault.contains("2d to 3650d"), "{fault}");
        assert!(kept("keep = \"3d\"").unwrap_err().to_string().contains("keep"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let fault = refused(&format!("{SERVER}profil = \"x\"\n"));
        assert!(fault.contains("profil") && fault.contains("line 8"), "{fault}");
        let fault = refused(&SERVER.replace("[nodes]", "[limits]\nattestation = 2\n[nodes]"));
        assert!(fault.contains("attestation") && fault.contains("line 7"), "{fault}");
    }

    #[test]
    fn software_keys_need_their_danger_switch_and_hardware_keys_must_not_have_it() {
        let soft = SERVER.replace("danger_software_keys = true\n", "");
        assert!(refused(&soft).contains("danger_software_keys"));
        let hard = SERVER.replace("\"software\"", "\"tpm\"");
        assert!(refused(&hard).contains("custody `tpm`"));
        let hard = soft.replace("\"software\"", "\"tpm\"");
        assert!(refused(&hard).contains("keys.device"));
        let rootless = hard.replace("[nodes]", "device = \"device:/dev/tpmrm0\"\n[nodes]");
        assert!(refused(&rootless).contains("keys.ek_root"));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let with = |line: &str| refused(&format!("{line}\n{SERVER}"));
        assert!(with("drain = \"0s\"").contains("drain"));
        assert!(with("listen = \"nowhere\"").contains("listen"));
        let table = |table: &str| refused(&format!("{SERVER}{table}\n"));
        assert!(table("[svid]\njwt_ttl = \"2d\"").contains("svid.jwt_ttl"));
        assert!(table("[limits]\nattestations = 0").contains("limits.attestations"));
        let none = "[limits]\nattestations_per_source = 0";
        assert!(table(none).contains("limits.attestations_per_source"));
        assert!(table("[log]\nlevel = \"loud\"").contains("level"));
        assert!(table("admit = []").contains("nodes.admit"));
        assert!(refused(&SERVER.replace("example.org", "Example.org")).contains("trust_domain"));
    }

    #[test]
    fn a_file_that_is_missing_or_broken_is_named() {
        let root = refused(&format!("{SERVER}danger_extra_roots = [\"ark.der\"]\n"));
        assert!(root.contains("ark.der"), "{root}");
        let empty = refused(&format!("{SERVER}danger_extra_roots = [\"profile.toml\"]\n"));
        assert!(empty.contains("profile.toml"), "{empty}");
        let gone = refused(&SERVER.replace("profile.toml", "gone.toml"));
        assert!(gone.contains("gone.toml"), "{gone}");
        let broken = refused(&format!(
            "{SERVER}[[nodes.ek_root]]\npath = \"profile.toml\"\nclass = \"software\"\n"
        ));
        assert!(broken.contains("profile.toml"), "{broken}");
    }
}
