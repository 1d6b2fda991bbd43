//! The last look at what is about to be recorded and signed.
//!
//! It reads the to-be-signed bytes with another library than the one that wrote them and demands
//! the profile field by field: nothing missing, nothing else, nothing twice. Whatever the code
//! above got wrong, the CA's key never signs a certificate that this file would not accept.
//!
//! Field by field gives the fault its name; at the end the bytes must be exactly those that a
//! second writer, our own, makes of the same profile.
//!
//! Profiles: SPIFFE X509-SVID sections 2 to 4, RFC 5280 section 4.

mod canonical;

use std::collections::BTreeSet;
use std::fmt::Debug;

use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use x509_parser::certificate::TbsCertificate;
use x509_parser::extensions::GeneralName;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::ca::certificate::AuthorityUse;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;

/// What a certificate must say; made from the grant, never from the certificate.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    pub role: Role<'a>,
    pub serial: Serial,
    pub not_before: Time,
    pub not_after: Time,
    pub spki_der: &'a [u8],
}

#[derive(Debug, Clone)]
pub enum Role<'a> {
    /// An X.509-SVID below `issuer`.
    Svid { id: &'a SpiffeId, dns_names: &'a [String], issuer: IssuerFacts<'a> },
    /// The certificate of a node's attestation key below `issuer`; no SVID, for it names none.
    AttestationKey { name: &'a str, issuer: IssuerFacts<'a> },
    /// The self-signed certificate of a trust domain.
    Authority { trust_domain: &'a TrustDomain, usage: AuthorityUse },
}

impl Role<'_> {
    /// Dotted OIDs, in their order.
    fn extended_key_usages(&self) -> &'static [&'static str] {
        match self {
            Role::Svid { .. } => &[SERVER_AUTH, CLIENT_AUTH],
            Role::AttestationKey { .. }
            | Role::Authority { usage: AuthorityUse::AttestationKeys, .. } => &[AIK_CERTIFICATE],
            Role::Authority { usage: AuthorityUse::Svids, .. } => &[],
        }
    }
}

/// What a leaf must repeat of its issuer's certificate.
#[derive(Debug, Clone, Copy)]
pub struct IssuerFacts<'a> {
    /// The subject as it stands in the issuer's certificate, DER.
    pub name: &'a [u8],
    pub key_id: &'a [u8],
    pub not_after: Time,
}

/// The first thing that a certificate says and should not, or does not say and should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{claim} is {found}, expected {expected}")]
pub struct LintError {
    pub claim: &'static str,
    pub found: String,
    pub expected: String,
}

impl LintError {
    pub fn reason(&self) -> Reason {
        Reason::SvidInvalid
    }
}

/// Reads `tbs` (a TBSCertificate in DER) and compares it with `expected`.
pub fn lint(tbs: &[u8], expected: &Expected<'_>) -> Result<(), LintError> {
    if tbs.len() > MAX_TBS_BYTES {
        return Err(fault("length", tbs.len(), MAX_TBS_BYTES));
    }
    let (rest, certificate) = TbsCertificate::from_der(tbs)
        .map_err(|_| fault("form", "unreadable bytes", "a TBSCertificate"))?;
    demand("trailing bytes", rest.len(), 0)?;
    demand("version", certificate.version, X509Version::V3)?;
    demand("serial", hex::encode(certificate.raw_serial()), expected.serial.to_string())?;
    demand(
        "signature algorithm",
        certificate.signature.algorithm.to_id_string().as_str(),
        ECDSA_WITH_SHA256,
    )?;
    demand("signature parameters", certificate.signature.parameters.is_some(), false)?;
    demand_validity(&certificate, expected)?;
    demand("public key", hex::encode(certificate.subject_pki.raw), hex::encode(expected.spki_der))?;
    let unique_ids = certificate.issuer_uid.is_some() || certificate.subject_uid.is_some();
    demand("unique identifiers", unique_ids, false)?;
    match &expected.role {
        Role::Svid { id, dns_names, issuer } => {
            demand("issuer", hex::encode(certificate.issuer.as_raw()), hex::encode(issuer.name))?;
            demand("subject", hex::encode(certificate.subject.as_raw()), hex::encode(EMPTY_NAME))?;
            let uri = id.to_string();
            demand_extensions(&certificate, expected, Some(&uri), dns_names, Some(issuer.key_id))?;
        }
        Role::AttestationKey { name, issuer } => {
            demand("issuer", hex::encode(certificate.issuer.as_raw()), hex::encode(issuer.name))?;
            let subject = canonical::attestation_name(name);
            demand("subject", hex::encode(certificate.subject.as_raw()), hex::encode(subject))?;
            demand_extensions(&certificate, expected, None, &[], Some(issuer.key_id))?;
        }
        Role::Authority { trust_domain, .. } => {
            demand(
                "issuer",
                hex::encode(certificate.issuer.as_raw()),
                hex::encode(certificate.subject.as_raw()),
            )?;
            if certificate.subject.as_raw() == EMPTY_NAME {
                return Err(fault("subject", "empty", "a name"));
            }
            demand_extensions(&certificate, expected, Some(&trust_domain.id()), &[], None)?;
        }
    }
    let canonical = canonical::tbs(expected, certificate.subject.as_raw());
    demand("encoding", hex::encode(tbs), canonical.map(hex::encode).unwrap_or_default())
}

fn demand_validity(
    certificate: &TbsCertificate<'_>,
    expected: &Expected<'_>,
) -> Result<(), LintError> {
    let validity = certificate.validity();
    let (found_start, found_end) =
        (validity.not_before.timestamp(), validity.not_after.timestamp());
    demand("not before", found_start, expected.not_before.unix_s())?;
    demand("not after", found_end, expected.not_after.unix_s())?;
    if expected.not_after <= expected.not_before {
        return Err(fault("not after", expected.not_after, "after not before"));
    }
    if let Role::Svid { issuer, .. } | Role::AttestationKey { issuer, .. } = &expected.role
        && expected.not_after > issuer.not_after
    {
        return Err(fault("not after", expected.not_after, issuer.not_after));
    }
    if matches!(expected.role, Role::Svid { .. }) {
        let seconds = found_end.saturating_sub(found_start);
        if seconds > MAX_SVID_SECONDS {
            return Err(fault("lifetime in seconds", seconds, MAX_SVID_SECONDS));
        }
    }
    Ok(())
}

/// Exactly the extensions of the profile, each once and with its own criticality.
fn demand_extensions(
    certificate: &TbsCertificate<'_>,
    expected: &Expected<'_>,
    uri: Option<&str>,
    dns_names: &[String],
    authority_key_id: Option<&[u8]>,
) -> Result<(), LintError> {
    let authority = matches!(expected.role, Role::Authority { .. });
    let usages = expected.role.extended_key_usages();
    let mut left: BTreeSet<&str> = BTreeSet::from(["SKI", "BC", "KU"]);
    left.extend(uri.map(|_| "SAN"));
    left.extend(authority_key_id.map(|_| "AKI"));
    left.extend((!usages.is_empty()).then_some("EKU"));
    for extension in certificate.extensions() {
        let (name, critical) = match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => {
                let key_id = key_id(expected.spki_der);
                demand("subject key id", hex::encode(id.0), hex::encode(key_id))?;
                ("SKI", false)
            }
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                let found = id.key_identifier.as_ref().map(|id| hex::encode(id.0));
                demand("authority key id", found, authority_key_id.map(hex::encode))?;
                let more = id.authority_cert_issuer.is_some() || id.authority_cert_serial.is_some();
                demand("authority key id with issuer or serial", more, false)?;
                ("AKI", false)
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                demand_names(&names.general_names, uri.unwrap_or_default(), dns_names)?;
                // RFC 5280 section 4.2.1.6: critical exactly where nothing else names the subject.
                ("SAN", certificate.subject.as_raw() == EMPTY_NAME)
            }
            ParsedExtension::BasicConstraints(found) => {
                demand("ca", found.ca, authority)?;
                let path_length = authority.then_some(0);
                demand("path length", found.path_len_constraint, path_length)?;
                ("BC", true)
            }
            ParsedExtension::KeyUsage(found) => {
                let wanted = if authority { KEY_CERT_SIGN | CRL_SIGN } else { DIGITAL_SIGNATURE };
                demand("key usage", found.flags, wanted)?;
                ("KU", true)
            }
            ParsedExtension::ExtendedKeyUsage(found) => {
                let unknown = found.any
                    || found.code_signing
                    || found.email_protection
                    || found.time_stamping
                    || found.ocsp_signing;
                let other = found.other.iter().map(|oid| oid.to_id_string());
                let found: Vec<String> = [
                    unknown.then(|| "another".to_owned()),
                    found.server_auth.then(|| SERVER_AUTH.to_owned()),
                    found.client_auth.then(|| CLIENT_AUTH.to_owned()),
                ]
                .into_iter()
                .flatten()
                .chain(other)
                .collect();
                demand("extended key usage", found, usages.iter().map(|&u| u.into()).collect())?;
                ("EKU", false)
            }
            _ => return Err(fault("extension", extension.oid.to_id_string(), "none beyond these")),
        };
        if !left.remove(name) {
            return Err(fault("extension", name, "once at most, and in this profile"));
        }
        if extension.critical != critical {
            let found = format!("{name} critical={}", extension.critical);
            return Err(fault("criticality", found, format!("{name} critical={critical}")));
        }
    }
    demand("missing extensions", left, BTreeSet::new())
}

/// Exactly one URI, the DNS names of the entry in their order, and nothing of another kind.
fn demand_names(
    names: &[GeneralName<'_>],
    uri: &str,
    dns_names: &[String],
) -> Result<(), LintError> {
    let mut uris = Vec::new();
    let mut dns = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => dns.push(*name),
            other => return Err(fault("alternative name", other, "URI or DNS")),
        }
    }
    demand("URI names", uris, vec![uri])?;
    demand("DNS names", dns, dns_names.iter().map(String::as_str).collect())
}

/// RFC 7093 section 2, method 1 over the whole SubjectPublicKeyInfo: its SHA-256, cut to 160 bits.
pub fn key_id(spki_der: &[u8]) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(crypto::sha256(spki_der).split_at(20).0);
    id
}

fn demand<T: PartialEq + Debug>(
    claim: &'static str,
    found: T,
    expected: T,
) -> Result<(), LintError> {
    if found == expected { Ok(()) } else { Err(fault(claim, found, expected)) }
}

fn fault(claim: &'static str, found: impl Debug, expected: impl Debug) -> LintError {
    LintError { claim, found: format!("{found:?}"), expected: format!("{expected:?}") }
}

/// A certificate is at most 16 KiB (docs/reference/limits.md); its signature needs under 100.
const MAX_TBS_BYTES: usize = 16 * 1_024 - 100;
/// The longest lifetime an entry may ask for, and the back-dating.
const MAX_SVID_SECONDS: i64 = 7 * 86_400 + 30;
/// RFC 5758 section 3.2
const ECDSA_WITH_SHA256: &str = "1.2.840.10045.4.3.2";
/// id-kp 1 and 2, RFC 5280 section 4.2.1.12
const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
/// tcg-kp-AIKCertificate, TCG Credential Profiles
const AIK_CERTIFICATE: &str = "2.23.133.8.3";
/// SEQUENCE of nothing
const EMPTY_NAME: &[u8] = &[0x30, 0x00];
// RFC 5280 section 4.2.1.3, as bit numbers
const DIGITAL_SIGNATURE: u16 = 1;
const KEY_CERT_SIGN: u16 = 1 << 5;
const CRL_SIGN: u16 = 1 << 6;

#[cfg(test)]
mod tests;
