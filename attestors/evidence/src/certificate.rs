//! An X.509 certificate as it was received, with the facts that a path needs read out of it.
//!
//! Real TPM certificates are odd: explicit FALSE, unordered name sets, long or negative serials,
//! RSAES-OAEP keys. All that is read; what is signed is always the raw TBS bytes as they came,
//! never a re-encoding. Nothing here is verified: every fact is a claim until `chain` has walked
//! to a root.

use std::fmt;
use std::sync::Arc;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::crypto;
use crate::crypto::SignatureScheme;
use crate::der;
use crate::der::BIT_STRING;
use crate::der::INTEGER;
use crate::der::SEQUENCE;
use crate::digest::HashAlgorithm;
use crate::key::KeyError;
use crate::key::PublicKey;
use crate::time::Time;

/// One certificate; a copy is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate(Arc<Facts>);

#[derive(PartialEq, Eq)]
struct Facts {
    der: Vec<u8>,
    tbs: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    not_before: Time,
    not_after: Time,
    spki: Vec<u8>,
    key: Result<PublicKey, KeyError>,
    scheme: Option<CertificateSignature>,
    signature: Vec<u8>,
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
    /// Critical extensions that nobody here knows or that could not be read.
    pub unknown_critical: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AltName {
    /// The RDNs in order, each with its attributes as (OID, text).
    Directory(Name),
    Uri(String),
    Dns(String),
    /// A form that is only counted, by the name x509 gives it.
    Other(&'static str),
}

/// A distinguished name as attributes, and as the bytes it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub raw: Vec<u8>,
    pub relative_names: Vec<Vec<(String, String)>>,
}

/// Subtrees of names that a CA may, or may not, certify (RFC 5280 §4.2.1.10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameConstraints {
    pub permitted: Vec<AltName>,
    pub excluded: Vec<AltName>,
}

/// The signature algorithm of a certificate, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSignature {
    Known(SignatureScheme),
    Md5,
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
        let frame = Frame::parse(der).ok_or(CertificateError::Malformed)?;
        let facts = Facts {
            tbs: frame.tbs.to_vec(),
            subject: tbs.subject.as_raw().to_vec(),
            issuer: tbs.issuer.as_raw().to_vec(),
            serial: tbs.raw_serial().to_vec(),
            not_before: Time::from_unix_s(tbs.validity.not_before.timestamp()),
            not_after: Time::from_unix_s(tbs.validity.not_after.timestamp()),
            spki: tbs.subject_pki.raw.to_vec(),
            key: PublicKey::from_parsed_spki(&tbs.subject_pki),
            scheme: signature_scheme(&parsed),
            signature: frame.signature.to_vec(),
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
        &self.0.subject
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

    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    pub fn tbs(&self) -> &[u8] {
        &self.0.tbs
    }

    pub fn signature_scheme(&self) -> Option<CertificateSignature> {
        self.0.scheme
    }

    pub fn signature(&self) -> &[u8] {
        &self.0.signature
    }
}

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
        let oid = extension.oid.to_id_string();
        if seen.contains(&oid) {
            return Err(CertificateError::DuplicateExtension(oid));
        }
        match extension.parsed_extension() {
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
            ParsedExtension::SubjectKeyIdentifier(id) => {
                out.subject_key_id = Some(id.0.to_vec());
            }
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                out.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::NameConstraints(constraints) => {
                let names = |trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| {
                    trees.iter().flatten().map(|tree| alt_name(&tree.base)).collect()
                };
                out.name_constraints = Some(NameConstraints {
                    permitted: names(&constraints.permitted_subtrees),
                    excluded: names(&constraints.excluded_subtrees),
                });
            }
            // Policies are not evaluated: an EK says what it is by its EKU and its issuer.
            ParsedExtension::CertificatePolicies(_) => {}
            _ if oid == SUBJECT_DIRECTORY_ATTRIBUTES => {}
            _ if extension.critical => out.unknown_critical.push(oid.clone()),
            _ => {}
        }
        seen.push(oid);
    }
    Ok(out)
}

/// ExtKeyUsageSyntax ::= SEQUENCE OF OBJECT IDENTIFIER; the parser's own view keeps only those
/// that it has no name for.
fn extended_key_usages(value: &[u8]) -> Vec<String> {
    use x509_parser::der_parser::oid::Oid;
    <Vec<Oid<'_>>>::from_der(value)
        .map(|(_, oids)| oids.iter().map(|oid| oid.to_id_string()).collect())
        .unwrap_or_default()
}

fn alt_name(name: &GeneralName<'_>) -> AltName {
    match name {
        GeneralName::DirectoryName(name) => AltName::Directory(Name {
            raw: name.as_raw().to_vec(),
            relative_names: name
                .iter_rdn()
                .map(|rdn| {
                    rdn.iter()
                        .map(|attribute| {
                            let text = attribute.as_str().unwrap_or_default().to_owned();
                            (attribute.attr_type().to_id_string(), text)
                        })
                        .collect()
                })
                .collect(),
        }),
        GeneralName::URI(uri) => AltName::Uri((*uri).to_owned()),
        GeneralName::DNSName(name) => AltName::Dns((*name).to_owned()),
        GeneralName::RFC822Name(_) => AltName::Other("rfc822Name"),
        GeneralName::IPAddress(_) => AltName::Other("iPAddress"),
        GeneralName::OtherName(..) => AltName::Other("otherName"),
        GeneralName::RegisteredID(_) => AltName::Other("registeredID"),
        _ => AltName::Other("unknown"),
    }
}

fn signature_scheme(certificate: &X509Certificate<'_>) -> Option<CertificateSignature> {
    use HashAlgorithm::Sha1;
    use HashAlgorithm::Sha256;
    use HashAlgorithm::Sha384;
    use HashAlgorithm::Sha512;
    use SignatureScheme::EcdsaDer;
    use SignatureScheme::RsaPkcs1;
    let oid = certificate.tbs_certificate.signature.algorithm.to_id_string();
    let scheme = match oid.as_str() {
        "1.2.840.113549.1.1.4" => return Some(CertificateSignature::Md5),
        "1.2.840.113549.1.1.5" => RsaPkcs1(Sha1),
        "1.2.840.113549.1.1.11" => RsaPkcs1(Sha256),
        "1.2.840.113549.1.1.12" => RsaPkcs1(Sha384),
        "1.2.840.113549.1.1.13" => RsaPkcs1(Sha512),
        "1.2.840.10045.4.1" => EcdsaDer(Sha1),
        "1.2.840.10045.4.3.2" => EcdsaDer(Sha256),
        "1.2.840.10045.4.3.3" => EcdsaDer(Sha384),
        "1.2.840.10045.4.3.4" => EcdsaDer(Sha512),
        _ => return None,
    };
    Some(CertificateSignature::Known(scheme))
}

/// The outermost structure, read strictly: what is not covered by the signature must have no choice
/// (RFC 5280 §4.1). So the signature algorithm outside is the one inside, byte for byte.
struct Frame<'a> {
    tbs: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Frame<'a> {
    fn parse(mut der: &'a [u8]) -> Option<Frame<'a>> {
        let outer = der::take(&mut der).filter(|outer| outer.tag == SEQUENCE)?;
        let mut rest = outer.contents;
        let tbs = der::take(&mut rest)?;
        let algorithm = der::take(&mut rest)?;
        let signature = der::take(&mut rest).filter(|bits| bits.tag == BIT_STRING)?;

        let mut fields = tbs.contents;
        let mut inner = der::take(&mut fields)?;
        if inner.tag == EXPLICIT_VERSION {
            inner = der::take(&mut fields)?;
        }
        // That was the serial number; the algorithm is next.
        let inner = if inner.tag == INTEGER { der::take(&mut fields)? } else { return None };

        let (&unused_bits, signature) = signature.contents.split_first()?;
        let strict = rest.is_empty() && unused_bits == 0 && algorithm.whole == inner.whole;
        strict.then_some(Frame { tbs: tbs.whole, signature })
    }
}

/// A promise of docs/reference/limits.md.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// [0] EXPLICIT Version
const EXPLICIT_VERSION: u8 = 0xa0;
const PEM_BEGIN: &[u8] = b"-----BEGIN ";
/// Some vendors put TPM details there and mark it critical.
const SUBJECT_DIRECTORY_ATTRIBUTES: &str = "2.5.29.9";
