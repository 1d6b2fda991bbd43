//! An X.509 certificate as it was received, with the facts that a path needs read out of it.
//!
//! Real TPM certificates are odd: explicit FALSE, unordered name sets, long or negative serials,
//! RSAES-OAEP keys. All that is read; what is signed is always the raw TBS bytes as they came,
//! never a re-encoding. Nothing here is verified: every fact is a claim until `chain` has walked
//! to a root.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::extensions::GeneralSubtree;
use x509_parser::extensions::NameConstraints as ParsedConstraints;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;
use x509_parser::x509::RelativeDistinguishedName;
use x509_parser::x509::X509Name;
use x509_parser::x509::X509Version;

use crate::crypto;
use crate::der;
use crate::der::Element;
use crate::der::INTEGER;
use crate::der::OCTET_STRING;
use crate::der::SEQUENCE;
use crate::extension;
use crate::extension::dotted;
use crate::key::KeyError;
use crate::key::KeyFault;
use crate::key::PublicKey;
use crate::signed::Signed;
use crate::time::Time;

pub use crate::extension::RawExtension;
pub use crate::signed::CertificateSignature;
pub use crate::signed::SignedError;
pub use crate::signed::Strength;

/// One certificate; a copy is cheap. Two are equal if their bytes are.
#[derive(Clone)]
pub struct Certificate(Arc<Facts>);

struct Facts {
    der: Vec<u8>,
    signed: Signed,
    subject: Name,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    not_before: Time,
    not_after: Time,
    spki: Vec<u8>,
    key: Result<PublicKey, KeyError>,
    key_fault: OnceLock<Option<KeyFault>>,
    extensions: Extensions,
}

/// What the extensions say, as far as a path and a profile ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// Certificate version 3; only then there are extensions.
    pub version_3: bool,
    pub is_ca: bool,
    pub path_len: Option<u32>,
    /// The bits of RFC 5280 §4.2.1.3 with digitalSignature as bit 0; nothing if absent.
    pub key_usage: Option<u16>,
    /// Dotted OIDs; nothing if the extension is absent.
    pub extended_key_usage: Option<Vec<String>>,
    pub subject_alt_names: Vec<AltName>,
    pub subject_key_id: Option<Vec<u8>>,
    pub authority_key_id: Option<Vec<u8>>,
    pub name_constraints: Option<NameConstraints>,
    /// Critical extensions that nobody here knows, and decisive ones that could not be read.
    pub unknown_critical: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AltName {
    Directory(Name),
    Uri(String),
    Dns(String),
    /// hardwareModuleName (RFC 4108 §5): whose numbering, and the number.
    HardwareModule {
        kind: String,
        serial: Vec<u8>,
    },
    /// A form that is only counted, by the name x509 gives it.
    Other(&'static str),
}

impl AltName {
    /// The form of name by its name in X.509.
    pub(crate) fn form(&self) -> &'static str {
        match self {
            AltName::Directory(_) => "directoryName",
            AltName::Uri(_) => "uniformResourceIdentifier",
            AltName::Dns(_) => "dNSName",
            AltName::HardwareModule { .. } => "otherName",
            AltName::Other(form) => form,
        }
    }
}

/// A distinguished name as the bytes it came in, and as relative names in order, each with its
/// attributes as (dotted OID, text). A text of no known string type is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub raw: Vec<u8>,
    pub relative_names: Vec<Vec<(String, String)>>,
}

impl Name {
    pub fn is_empty(&self) -> bool {
        self.relative_names.is_empty()
    }

    /// The text of the one attribute of this dotted type.
    pub fn only(&self, oid: &str) -> Option<&str> {
        let mut found = self.relative_names.iter().flatten().filter(|(other, _)| other == oid);
        match (found.next(), found.next()) {
            (Some((_, text)), None) => Some(text),
            _ => None,
        }
    }
}

/// Subtrees of names that a CA may, or may not, certify (RFC 5280 §4.2.1.10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameConstraints {
    pub permitted: Vec<AltName>,
    pub excluded: Vec<AltName>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    #[error("{found} bytes where a certificate may have {max}")]
    Size { found: usize, max: usize },
    #[error("not an X.509 certificate")]
    Malformed,
    #[error("{0} bytes behind the certificate")]
    Trailing(usize),
    #[error("the extension `{0}` is there twice")]
    DuplicateExtension(String),
}

impl Certificate {
    /// Exactly one certificate and nothing behind it.
    pub fn parse(der: &[u8]) -> Result<Certificate, CertificateError> {
        let (certificate, rest) = Certificate::parse_prefix(der)?;
        match rest.len() {
            0 => Ok(certificate),
            left => Err(CertificateError::Trailing(left)),
        }
    }

    /// One certificate from the front, and what stands behind it.
    pub fn parse_prefix(bytes: &[u8]) -> Result<(Certificate, &[u8]), CertificateError> {
        let (rest, parsed) =
            X509Certificate::from_der(bytes).map_err(|_| CertificateError::Malformed)?;
        let length = bytes.len().saturating_sub(rest.len());
        if length > MAX_CERTIFICATE {
            return Err(CertificateError::Size { found: length, max: MAX_CERTIFICATE });
        }
        let der = bytes.get(..length).ok_or(CertificateError::Malformed)?;
        let tbs = &parsed.tbs_certificate;
        if tbs.subject_pki.subject_public_key.unused_bits != 0 || tbs.raw_serial().is_empty() {
            return Err(CertificateError::Malformed);
        }
        let facts = Facts {
            signed: Signed::parse(der, algorithm).ok_or(CertificateError::Malformed)?,
            subject: read_name(&tbs.subject),
            issuer: tbs.issuer.as_raw().to_vec(),
            serial: tbs.raw_serial().to_vec(),
            not_before: Time::from_unix_s(tbs.validity.not_before.timestamp()),
            not_after: Time::from_unix_s(tbs.validity.not_after.timestamp()),
            spki: tbs.subject_pki.raw.to_vec(),
            key: PublicKey::from_parsed_spki(&tbs.subject_pki),
            key_fault: OnceLock::new(),
            extensions: extensions(&parsed)?,
            der: der.to_vec(),
        };
        Ok((Certificate(Arc::new(facts)), rest))
    }

    /// Every certificate of a PEM text, or the one DER certificate: what a configured file holds.
    pub fn parse_set(bytes: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
        if !bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
            return Ok(vec![Certificate::parse(bytes)?]);
        }
        let mut all = Vec::new();
        for pem in x509_parser::pem::Pem::iter_from_buffer(bytes) {
            let pem = pem.map_err(|_| CertificateError::Malformed)?;
            if pem.label == "CERTIFICATE" {
                all.push(Certificate::parse(&pem.contents)?);
            }
        }
        Ok(all)
    }

    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    pub fn sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.0.der)
    }

    /// The raw bytes of the name, tag and length included.
    pub fn subject(&self) -> &[u8] {
        &self.0.subject.raw
    }

    /// The same name, read.
    pub fn subject_name(&self) -> &Name {
        &self.0.subject
    }

    /// The common name of the subject, if it has exactly one.
    pub fn subject_common_name(&self) -> Option<&str> {
        self.0.subject.only(COMMON_NAME)
    }

    pub fn issuer(&self) -> &[u8] {
        &self.0.issuer
    }

    /// The bytes of the serial number as they came: perhaps negative, perhaps padded.
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }

    pub fn not_before(&self) -> Time {
        self.0.not_before
    }

    pub fn not_after(&self) -> Time {
        self.0.not_after
    }

    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    pub fn public_key(&self) -> Result<&PublicKey, KeyError> {
        self.0.key.as_ref().map_err(|error| *error)
    }

    /// Why the key must not be relied on, if it is one of a known kind. Asked once.
    pub fn key_fault(&self) -> Option<KeyFault> {
        let key = self.0.key.as_ref().ok()?;
        *self.0.key_fault.get_or_init(|| key.fault())
    }

    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// Any extension, by its dotted OID, as it stands there; what it says is the caller's to read.
    pub fn extension(&self, oid: &str) -> Option<RawExtension<'_>> {
        let mut rest = raw_extensions(self.tbs())?;
        while !rest.is_empty() {
            let (found, extension) = extension::take(&mut rest)?;
            if dotted(found) == oid {
                return Some(extension);
            }
        }
        None
    }

    pub fn tbs(&self) -> &[u8] {
        &self.0.signed.tbs
    }

    /// Whether a chain demands one scheme is for the caller to say.
    pub fn signature_scheme(&self) -> Option<CertificateSignature> {
        self.0.signed.algorithm
    }

    pub fn signature(&self) -> &[u8] {
        &self.0.signed.signature
    }

    /// Whether the holder of this key signed the certificate, by a hash of today. Says nothing of
    /// names, dates or rights: that is what `chain` walks.
    pub fn verify_signature(&self, issuer: &PublicKey) -> Result<(), SignedError> {
        self.0.signed.verify(issuer)
    }

    /// A pinned root is a name and a key, whatever its size.
    pub(crate) fn verify_signature_of_root(
        &self,
        root: &PublicKey,
    ) -> Result<Strength, SignedError> {
        self.0.signed.verify_of_root(root)
    }

    /// The same, also over SHA-1, which the answer then says.
    pub fn verify_signature_also_sha1(&self, issuer: &PublicKey) -> Result<Strength, SignedError> {
        self.0.signed.verify_also_sha1(issuer)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", hex::encode(self.sha256()))
    }
}

fn extensions(certificate: &X509Certificate<'_>) -> Result<Extensions, CertificateError> {
    let mut out =
        Extensions { version_3: certificate.version() == X509Version::V3, ..Extensions::default() };
    let mut seen = Vec::new();
    for extension in certificate.extensions() {
        let oid = extension.oid.as_bytes();
        if seen.contains(&oid) {
            return Err(CertificateError::DuplicateExtension(dotted(oid)));
        }
        match extension.parsed_extension() {
            // The parser does not look at what stands behind the value, where more of it may be.
            _ if DECISIVE.contains(&oid) && !is_one_element(extension.value) => {
                out.unknown_critical.push(dotted(oid));
            }
            ParsedExtension::BasicConstraints(basic) => {
                out.is_ca = basic.ca;
                out.path_len = basic.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => out.key_usage = Some(usage.flags),
            ParsedExtension::ExtendedKeyUsage(_) => {
                out.extended_key_usage = Some(extended_key_usages(extension.value));
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                out.subject_alt_names = names.general_names.iter().map(alt_name).collect();
            }
            ParsedExtension::NameConstraints(parsed) if is_understood(parsed, extension.value) => {
                let names =
                    |trees| subtrees(trees).iter().map(|tree| alt_name(&tree.base)).collect();
                out.name_constraints = Some(NameConstraints {
                    permitted: names(&parsed.permitted_subtrees),
                    excluded: names(&parsed.excluded_subtrees),
                });
            }
            // What decides is not passed over for being written so that it cannot be read.
            _ if DECISIVE.contains(&oid) => out.unknown_critical.push(dotted(oid)),
            // Policies are not evaluated: an EK says what it is by its EKU and its issuer.
            _ if UNDERSTOOD.contains(&oid) => {}
            _ if extension.critical => out.unknown_critical.push(dotted(oid)),
            ParsedExtension::SubjectKeyIdentifier(id) => {
                out.subject_key_id = Some(id.0.to_vec());
            }
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                out.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
        seen.push(oid);
    }
    Ok(out)
}

fn is_one_element(mut value: &[u8]) -> bool {
    der::take(&mut value).is_some() && value.is_empty()
}

fn subtrees<'a, 'b>(parsed: &'a Option<Vec<GeneralSubtree<'b>>>) -> &'a [GeneralSubtree<'b>] {
    parsed.as_deref().unwrap_or_default()
}

/// The parser stops where it no longer understands and tells nobody, and a constraint behind that
/// would be lost: it must have found every subtree that is there.
fn is_understood(parsed: &ParsedConstraints<'_>, value: &[u8]) -> bool {
    let found =
        [&parsed.permitted_subtrees, &parsed.excluded_subtrees].map(|trees| subtrees(trees).len());
    count_subtrees(value) == Some(found)
}

/// NameConstraints ::= SEQUENCE { [0] subtrees, [1] subtrees }, each list that is there with at
/// least one, each subtree a SEQUENCE of nothing but its base (RFC 5280 §4.2.1.10).
fn count_subtrees(value: &[u8]) -> Option<[usize; 2]> {
    let mut fields = der::sequence(value)?;
    let permitted = count_list(&mut fields, 0xa0)?;
    let excluded = count_list(&mut fields, 0xa1)?;
    fields.is_empty().then_some([permitted, excluded])
}

/// 0 if the list is not there.
fn count_list(fields: &mut &[u8], tag: u8) -> Option<usize> {
    if fields.first() != Some(&tag) {
        return Some(0);
    }
    let mut trees = der::take(fields)?.contents;
    let mut count = 0;
    while !trees.is_empty() {
        let tree = der::take(&mut trees).filter(|tree| tree.tag == SEQUENCE)?;
        let mut rest = tree.contents;
        let base = der::take(&mut rest)?;
        if !rest.is_empty() || !is_general_name(base.tag) {
            return None;
        }
        count += 1;
    }
    (count > 0).then_some(count)
}

/// GeneralName has the tags [0] to [8].
fn is_general_name(tag: u8) -> bool {
    tag & CLASS == CONTEXT && tag & NUMBER <= 8
}

/// ExtKeyUsageSyntax ::= SEQUENCE OF OBJECT IDENTIFIER; the parser's own view keeps only those
/// that it has no name for.
fn extended_key_usages(value: &[u8]) -> Vec<String> {
    use x509_parser::der_parser::oid::Oid;
    <Vec<Oid<'_>>>::from_der(value)
        .map(|(_, oids)| oids.iter().map(|oid| oid.to_id_string()).collect())
        .unwrap_or_default()
}

fn read_name(name: &X509Name<'_>) -> Name {
    let relative_name = |relative: &RelativeDistinguishedName<'_>| {
        let attribute = |attribute: &AttributeTypeAndValue<'_>| {
            let text = attribute.as_str().unwrap_or_default().to_owned();
            (attribute.attr_type().to_id_string(), text)
        };
        relative.iter().map(attribute).collect()
    };
    Name {
        raw: name.as_raw().to_vec(),
        relative_names: name.iter_rdn().map(relative_name).collect(),
    }
}

fn alt_name(name: &GeneralName<'_>) -> AltName {
    match name {
        GeneralName::DirectoryName(directory) => AltName::Directory(read_name(directory)),
        GeneralName::URI(uri) => AltName::Uri((*uri).to_owned()),
        GeneralName::DNSName(name) => AltName::Dns((*name).to_owned()),
        GeneralName::RFC822Name(_) => AltName::Other("rfc822Name"),
        GeneralName::IPAddress(_) => AltName::Other("iPAddress"),
        GeneralName::OtherName(oid, value) if oid.to_id_string() == HARDWARE_MODULE_NAME => {
            hardware_module(value).unwrap_or(AltName::Other("otherName"))
        }
        GeneralName::OtherName(..) => AltName::Other("otherName"),
        GeneralName::RegisteredID(_) => AltName::Other("registeredID"),
        _ => AltName::Other("unknown"),
    }
}

/// [0] EXPLICIT HardwareModuleName ::= SEQUENCE { hwType OBJECT IDENTIFIER, hwSerialNum OCTET
/// STRING } (RFC 4108 §5).
fn hardware_module(mut value: &[u8]) -> Option<AltName> {
    use x509_parser::der_parser::oid::Oid;
    let mut explicit = der::take(&mut value).filter(|outer| outer.tag == EXPLICIT_0)?.contents;
    let mut fields = der::take(&mut explicit).filter(|inner| inner.tag == SEQUENCE)?.contents;
    let (rest, kind) = Oid::from_der(fields).ok()?;
    fields = rest;
    let serial = der::take(&mut fields).filter(|serial| serial.tag == OCTET_STRING)?.contents;
    let whole = value.is_empty() && explicit.is_empty() && fields.is_empty();
    whole.then(|| AltName::HardwareModule { kind: kind.to_id_string(), serial: serial.to_vec() })
}

/// The contents of Extensions within TBSCertificate (RFC 5280 §4.1).
fn raw_extensions(tbs: &[u8]) -> Option<&[u8]> {
    let mut fields = der::sequence(tbs)?;
    while !fields.is_empty() {
        let field = der::take(&mut fields)?;
        if field.tag == EXPLICIT_EXTENSIONS {
            return der::sequence(field.contents);
        }
    }
    None
}

/// Where TBSCertificate (RFC 5280 §4.1) has its algorithm: behind version and serial number.
fn algorithm(mut fields: &[u8]) -> Option<Element<'_>> {
    let mut serial = der::take(&mut fields)?;
    if serial.tag == EXPLICIT_VERSION {
        serial = der::take(&mut fields)?;
    }
    (serial.tag == INTEGER).then(|| der::take(&mut fields))?
}

/// A promise of docs/reference/limits.md.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// [3] EXPLICIT Extensions
const EXPLICIT_EXTENSIONS: u8 = 0xa3;
/// [0] EXPLICIT Version
const EXPLICIT_VERSION: u8 = EXPLICIT_0;
const EXPLICIT_0: u8 = 0xa0;
const CLASS: u8 = 0xc0;
const CONTEXT: u8 = 0x80;
const NUMBER: u8 = 0x1f;
/// id-on-hardwareModuleName
const HARDWARE_MODULE_NAME: &str = "1.3.6.1.5.5.7.8.4";
const PEM_BEGIN: &[u8] = b"-----BEGIN ";
const COMMON_NAME: &str = "2.5.4.3";
/// Below 2.5.29: basicConstraints, keyUsage, extKeyUsage, subjectAltName, nameConstraints.
const DECISIVE: [&[u8]; 5] =
    [&[0x55, 0x1d, 19], &[0x55, 0x1d, 15], &[0x55, 0x1d, 37], &[0x55, 0x1d, 17], &[0x55, 0x1d, 30]];
/// certificatePolicies, and subjectDirectoryAttributes, where some vendors put TPM details.
const UNDERSTOOD: [&[u8]; 2] = [&[0x55, 0x1d, 32], &[0x55, 0x1d, 9]];
