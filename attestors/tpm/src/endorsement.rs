//! Is this endorsement key in a genuine TPM? The vendor's certificate says so, up to a pinned root.
//!
//! The key that challenges are encrypted to comes from the certificate. The public area that the
//! agent sends must be a known template around exactly that key, so that no algorithm, size or
//! policy is of the agent's choosing. Whose TPM it is, and whether its kind is good enough, is not
//! asked here.

use std::cmp::Reverse;
use std::fmt;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::PublicKey;
use assay_evidence::RevocationList;
use assay_evidence::Time;
use assay_evidence::certificate::AltName;
use assay_evidence::certificate::CertificateError;
use assay_evidence::chain;
use assay_evidence::chain::ChainError;
use assay_evidence::chain::Lists;
use assay_evidence::chain::Rules;
use assay_evidence::key::KeyError;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Error;
use crate::structures::public::Public;

mod nv;
mod template;

pub use nv::certificate_in_file;
pub use nv::certificate_in_nv;
pub use template::Template;

/// What kind of device a TPM is; each root says which it vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TpmClass {
    /// A chip of its own.
    Discrete,
    /// Inside the firmware of the platform.
    Firmware,
    Pluton,
    /// Provided by a hypervisor.
    Vtpm,
    /// A process: for tests and the demo.
    Software,
}

impl TpmClass {
    pub const fn as_str(self) -> &'static str {
        match self {
            TpmClass::Discrete => "discrete",
            TpmClass::Firmware => "firmware",
            TpmClass::Pluton => "pluton",
            TpmClass::Vtpm => "vtpm",
            TpmClass::Software => "software",
        }
    }
}

impl fmt::Display for TpmClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pinned root: a trust anchor for endorsement certificates and for nothing else.
#[derive(Clone, Debug)]
pub struct EkRoot {
    pub certificate: Certificate,
    pub class: TpmClass,
}

/// What endorsement certificates are held against. Intermediates help to find a path and are
/// never trusted by themselves.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    roots: Vec<Certificate>,
    classes: Vec<TpmClass>,
    intermediates: Vec<Certificate>,
    lists: Vec<RevocationList>,
}

impl Anchors {
    pub fn new(roots: Vec<EkRoot>, intermediates: Vec<Certificate>) -> Anchors {
        let (roots, classes) = roots.into_iter().map(|root| (root.certificate, root.class)).unzip();
        Anchors { roots, classes, intermediates, lists: Vec::new() }
    }

    /// With revocation lists, each for whichever chain it concerns.
    #[must_use]
    pub fn with_lists(mut self, lists: Vec<RevocationList>) -> Anchors {
        self.lists = lists;
        self
    }

    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
}

/// A certificate that a pinned root says is of an endorsement key.
#[derive(Clone, Debug)]
pub struct EndorsementCertificate {
    certificate: Certificate,
    key: PublicKey,
    device: Device,
    class: TpmClass,
    root_sha256: [u8; 32],
    warnings: Vec<ChainError>,
    not_checked: Vec<String>,
}

/// A verified endorsement key: its certificate, and a known template around exactly that key.
#[derive(Clone, Debug)]
pub struct Endorsement {
    certificate: EndorsementCertificate,
    public: Public,
    template: Template,
    spki_sha256: [u8; 32],
    claimed_others: Vec<[u8; 32]>,
}

/// What the certificate says of the device (TCG EK Credential Profile, §3.1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The vendor id as the certificate has it, such as `id:49465800`.
    pub manufacturer: String,
    pub model: String,
    pub version: String,
}

/// Verifies one endorsement key.
///
/// `certificates` are all that the TPM holds, DER with whatever an NV index puts around it;
/// `chain` are intermediates that the TPM holds; `ek_public` is a TPMT_PUBLIC and names which of
/// the keys is used.
pub fn verify(
    certificates: &[impl AsRef<[u8]>],
    chain: &[impl AsRef<[u8]>],
    ek_public: &[u8],
    anchors: &Anchors,
    now: Time,
) -> Result<Endorsement, Error> {
    // 1. Shape.
    if certificates.len().max(chain.len()) > MAX_CERTIFICATES {
        return Err(Error::TooManyCertificates { max: MAX_CERTIFICATES });
    }
    let (certificates, unreadable): (Vec<_>, Vec<_>) = certificates
        .iter()
        .map(|bytes| certificate_in_nv(bytes.as_ref()))
        .partition(|parsed| parsed.is_ok());
    let chain = chain
        .iter()
        .map(|bytes| Certificate::parse(bytes.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let public = Public::parse(ek_public)?;

    // 2. Keys: the certificate of this key, and a template around it.
    let (used, others): (Vec<_>, Vec<_>) = certificates
        .into_iter()
        .flatten()
        .partition(|certificate| certificate.public_key().is_ok_and(|key| key == public.key()));
    // Rubbish in an index of no importance does no harm; where a certificate is wanting, it is
    // the fault to tell.
    match (used.is_empty(), unreadable.into_iter().next()) {
        (false, _) => {}
        (true, Some(Err(unreadable))) => return Err(unreadable),
        (true, _) => return Err(Error::EkKeyCertMismatch),
    }
    let template = Template::of(&public).ok_or(Error::EkTemplate)?;

    // 3. What the certificate is, and signatures up to a root.
    let certificate = verify_any(used, &chain, anchors, now)?;

    Ok(Endorsement {
        spki_sha256: public.key().spki_sha256(),
        claimed_others: others
            .iter()
            .filter_map(|other| other.public_key().ok().map(PublicKey::spki_sha256))
            .collect(),
        certificate,
        public,
        template,
    })
}

/// Of several certificates of one key, the first that is good: a vendor may have issued one anew
/// and left the old one in its index. If none is, the fault of the one that came furthest is told.
fn verify_any(
    certificates: Vec<Certificate>,
    chain: &[Certificate],
    anchors: &Anchors,
    now: Time,
) -> Result<EndorsementCertificate, Error> {
    let lists = Lists::Stock(&anchors.lists);
    let rules = Rules { lists, ..Rules::at(now) };
    let mut best: Option<Vec<Error>> = None;
    for certificate in certificates {
        match verify_by(&rules, certificate, None, chain, anchors) {
            Ok(found) => return Ok(found),
            Err(faults) => {
                if best.as_ref().is_none_or(|best| promise(&faults) > promise(best)) {
                    best = Some(faults);
                }
            }
        }
    }
    Err(first(best.unwrap_or_default()))
}

/// How far a certificate came: the later its decisive fault, and the fewer faults, the further.
fn promise(faults: &[Error]) -> (u8, u8, Reverse<usize>) {
    let (stage, rank) = match faults.first() {
        Some(fault @ Error::EkChain(chain)) => (stage(fault), chain.rank()),
        Some(fault) => (stage(fault), 0),
        None => (0, 0),
    };
    (stage, rank, Reverse(faults.len()))
}

/// Verifies an endorsement certificate by itself: a genuine TPM was made with this key in it. The
/// most decisive fault is told.
pub fn verify_certificate(
    certificate: Certificate,
    chain: Vec<Certificate>,
    anchors: &Anchors,
    now: Time,
) -> Result<EndorsementCertificate, Error> {
    let lists = Lists::Stock(&anchors.lists);
    let rules = Rules { lists, ..Rules::at(now) };
    verify_by(&rules, certificate, None, &chain, anchors).map_err(first)
}

/// Verifies what one file or NV index holds, DER or PEM, as an endorsement certificate.
///
/// With `public`, the key must be that one and in a known template. All faults are told, the most
/// decisive first and at least one: keys, then the profile, then the chain. Lists in `rules` are
/// asked instead of those of `anchors`.
pub fn verify_file(
    rules: &Rules<'_>,
    file: &[u8],
    public: Option<&Public>,
    intermediates: &[Certificate],
    anchors: &Anchors,
) -> Result<EndorsementCertificate, Vec<Error>> {
    let certificate = nv::certificate_in_file(file).map_err(|error| vec![error])?;
    verify_by(rules, certificate, public, intermediates, anchors)
}

fn verify_by(
    rules: &Rules<'_>,
    certificate: Certificate,
    public: Option<&Public>,
    intermediates: &[Certificate],
    anchors: &Anchors,
) -> Result<EndorsementCertificate, Vec<Error>> {
    let key = match certificate.public_key() {
        Ok(key) => Some(key.clone()),
        Err(KeyError::Unsupported) => None,
        Err(_) => return Err(vec![Error::EkCertificate(CertificateError::Malformed)]),
    };
    let mut faults = Vec::new();
    if let Some(public) = public {
        if key.as_ref() != Some(public.key()) {
            faults.push(Error::EkKeyCertMismatch);
        }
        if Template::of(public).is_none() {
            faults.push(Error::EkTemplate);
        }
    }
    let device = device(&certificate);
    faults.extend(profile_faults(&certificate, key.as_ref(), &device));

    let intermediates = [intermediates, &anchors.intermediates].concat();
    let path = chain::verify_by(rules, &certificate, &intermediates, &anchors.roots);
    let matched = path.as_ref().ok().map(|path| path.root());
    let matched = matched.and_then(|root| anchors.roots.get(root).zip(anchors.classes.get(root)));
    match (path, key, matched) {
        (Ok(path), Some(key), Some((root, &class))) if faults.is_empty() => {
            Ok(EndorsementCertificate {
                key,
                device,
                class,
                root_sha256: root.sha256(),
                warnings: path.warnings().to_vec(),
                not_checked: path.not_checked().to_vec(),
                certificate,
            })
        }
        (path, ..) => {
            let found = path.err().unwrap_or_default();
            faults.extend(found.into_iter().map(Error::EkChain));
            // Stable: within a stage what was found first is told first.
            faults.sort_by_key(stage);
            Err(faults)
        }
    }
}

/// Keys, what the certificate is of, the chain (cli.md §1, the decisive order).
fn stage(fault: &Error) -> u8 {
    match fault {
        Error::EkChain(ChainError::Key { .. } | ChainError::KeyWeak { .. }) => 0,
        Error::EkKeyCertMismatch | Error::EkTemplate => 1,
        Error::EkProfile(_) => 2,
        _ => 3,
    }
}

fn first(faults: Vec<Error>) -> Error {
    faults.into_iter().next().unwrap_or(Error::EkChain(ChainError::Untrusted))
}

impl EndorsementCertificate {
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub fn root_sha256(&self) -> &[u8; 32] {
        &self.root_sha256
    }

    pub fn class(&self) -> TpmClass {
        self.class
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What was accepted but must be said.
    pub fn warnings(&self) -> Vec<Finding> {
        let finding = |warning: &ChainError| Error::EkChain(warning.clone()).finding();
        self.warnings.iter().map(finding).collect()
    }

    /// What could not be asked, each with its reason.
    pub fn not_checked(&self) -> &[String] {
        &self.not_checked
    }
}

impl Endorsement {
    pub fn public(&self) -> &Public {
        &self.public
    }

    pub fn template(&self) -> Template {
        self.template
    }

    pub fn spki_der(&self) -> Vec<u8> {
        self.public.spki_der()
    }

    /// The identity of the TPM, in the one form in which a key is written.
    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }

    pub fn root_sha256(&self) -> &[u8; 32] {
        self.certificate.root_sha256()
    }

    pub fn class(&self) -> TpmClass {
        self.certificate.class()
    }

    pub fn device(&self) -> &Device {
        self.certificate.device()
    }

    pub fn manufacturer(&self) -> &str {
        &self.certificate.device.manufacturer
    }

    pub fn certificate(&self) -> &Certificate {
        self.certificate.certificate()
    }

    /// What was accepted but must be said.
    pub fn warnings(&self) -> Vec<Finding> {
        self.certificate.warnings()
    }

    /// What could not be asked, each with its reason.
    pub fn not_checked(&self) -> &[String] {
        self.certificate.not_checked()
    }

    /// Keys of the other certificates that came along. Nothing ties them to this TPM: good for
    /// refusing (a ban on any of them holds), never for allowing.
    pub fn claimed_others(&self) -> &[[u8; 32]] {
        &self.claimed_others
    }
}

/// TCG EK Credential Profile 2.5, §3.2, as far as genuine certificates follow it.
fn profile_faults(
    certificate: &Certificate,
    key: Option<&PublicKey>,
    device: &Device,
) -> Vec<Error> {
    let extensions = certificate.extensions();
    let needed = match key {
        Some(PublicKey::Rsa { .. }) => KEY_ENCIPHERMENT,
        Some(PublicKey::Ec { .. }) => KEY_AGREEMENT,
        None => KEY_ENCIPHERMENT | KEY_AGREEMENT,
    };
    let usages = extensions.extended_key_usage.as_deref();
    let rules = [
        (!extensions.version_3, "not version 3"),
        (extensions.is_ca, "a CA certificate"),
        // What tells an endorsement certificate from any other of the same vendor.
        (
            usages.is_some_and(|usages| !usages.iter().any(|usage| usage == TCG_KP_EK_CERTIFICATE)),
            "extended key usage without tcg-kp-EKCertificate",
        ),
        (
            usages.is_none() && device.manufacturer.is_empty(),
            "neither extended key usage nor TPM manufacturer",
        ),
        // Genuine certificates without a key usage exist.
        (
            extensions.key_usage.is_some_and(|usage| usage & needed == 0),
            "key usage without encryption",
        ),
    ];
    rules.into_iter().filter(|(broken, _)| *broken).map(|(_, why)| Error::EkProfile(why)).collect()
}

/// What a certificate claims of its device; empty where it says nothing.
pub fn device(certificate: &Certificate) -> Device {
    let attribute = |oid: &str| {
        certificate
            .extensions()
            .subject_alt_names
            .iter()
            .filter_map(|name| match name {
                AltName::Directory(name) => Some(&name.relative_names),
                _ => None,
            })
            .flatten()
            .flatten()
            .find(|(attribute, _)| attribute == oid)
            .map(|(_, text)| text.clone())
            .unwrap_or_default()
    };
    Device {
        manufacturer: attribute("2.23.133.2.1"),
        model: attribute("2.23.133.2.2"),
        version: attribute("2.23.133.2.3"),
    }
}

const TCG_KP_EK_CERTIFICATE: &str = "2.23.133.8.1";
/// RFC 5280 §4.2.1.3, bits 2 and 4.
const KEY_ENCIPHERMENT: u16 = 1 << 2;
const KEY_AGREEMENT: u16 = 1 << 4;
/// More than any TPM holds.
const MAX_CERTIFICATES: usize = 16;

impl From<CertificateError> for Error {
    fn from(error: CertificateError) -> Error {
        Error::EkCertificate(error)
    }
}
