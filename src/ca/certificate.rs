//! Certificates in three steps: build what is to be signed, look at it, put the signature on.
//!
//! The builder wants a key that signs while it builds. It gets one that knows the CA's public half
//! and signs with nothing: of its work only the to-be-signed bytes are kept. The real signature is
//! made once, by the device, over exactly those bytes, after they were recorded.

use assay_evidence::Time;
use assay_evidence::crypto;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyUsagePurpose;
use rcgen::PublicKeyData;
use rcgen::SanType;
use rcgen::SerialNumber;
use rcgen::SignatureAlgorithm;
use rcgen::SigningKey;
use rcgen::SubjectPublicKeyInfo;
use rcgen::string::Ia5String;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::ca::der::BIT_STRING;
use crate::ca::der::ECDSA_WITH_SHA256;
use crate::ca::der::SEQUENCE;
use crate::ca::der::tlv;
use crate::ca::lint;
use crate::ca::lint::Expected;
use crate::ca::lint::IssuerFacts;
use crate::ca::lint::LintError;
use crate::ca::lint::Role;
use crate::ca::request::SubjectKey;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;

/// Linted bytes of a certificate that nobody has signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tbs(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    #[error("the certificate could not be built")]
    Build(#[source] rcgen::Error),
    #[error("the certificate would not follow its profile")]
    Lint(#[from] LintError),
    #[error("`{0}` cannot be written into a certificate")]
    Name(String),
    #[error("{0} cannot be written into a certificate")]
    Time(Time),
    #[error("the authority's certificate cannot be read")]
    Authority,
}

/// The CA's certificate, and what is needed to build below it.
pub struct AuthorityCertificate {
    certificate: Vec<u8>,
    issuer: Issuer<'static, PublicHalf>,
    subject: Vec<u8>,
    key_id: Vec<u8>,
    trust_domain: String,
    not_after: Time,
}

impl Tbs {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.0)
    }

    /// RFC 5280 section 4.1: the certificate, with `signature` an ECDSA-Sig-Value in DER.
    pub fn signed(&self, signature: &[u8]) -> Vec<u8> {
        let bits = tlv(BIT_STRING, &[&[0], signature].concat());
        tlv(SEQUENCE, &[self.0.as_slice(), ECDSA_WITH_SHA256, &bits].concat())
    }
}

impl AuthorityCertificate {
    /// Reads a certificate that was issued earlier; who may be trusted was decided by whoever
    /// kept it.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|_| CertificateError::Authority)?;
        let point = parsed.public_key().subject_public_key.data.to_vec();
        let trust_domain = trust_domain(&parsed).ok_or(CertificateError::Authority)?;
        let issuer = Issuer::from_ca_cert_der(&der.into(), PublicHalf(point))
            .map_err(CertificateError::Build)?;
        Ok(Self {
            issuer,
            subject: parsed.subject().as_raw().to_vec(),
            key_id: lint::key_id(parsed.public_key().raw).to_vec(),
            trust_domain,
            not_after: Time::from_unix_s(parsed.validity().not_after.timestamp()),
            certificate: der.to_vec(),
        })
    }

    pub fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// The subject key id in hex; names this authority in records.
    pub fn id(&self) -> String {
        hex::encode(&self.key_id)
    }

    /// The SPIFFE ID of the trust domain, as the certificate has it.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    pub fn not_after(&self) -> Time {
        self.not_after
    }

    /// The to-be-signed bytes of the certificate of a node's attestation key, linted. `name`, at
    /// most 64 characters, becomes the common name.
    pub fn attestation_key(
        &self,
        name: &str,
        spki_der: &[u8],
        serial: Serial,
        not_before: Time,
        not_after: Time,
    ) -> Result<Tbs, CertificateError> {
        let mut params = params(serial, not_before, not_after)?;
        params.distinguished_name.push(DnType::OrganizationName, "Assay");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![aik_certificate()];
        params.use_authority_key_identifier_extension = true;
        let subject = SubjectPublicKeyInfo::from_der(spki_der).map_err(CertificateError::Build)?;
        let built = params.signed_by(&subject, &self.issuer).map_err(CertificateError::Build)?;
        let role = Role::AttestationKey { name, issuer: self.facts() };
        linted(built.der(), &Expected { role, serial, not_before, not_after, spki_der })
    }

    fn facts(&self) -> IssuerFacts<'_> {
        IssuerFacts { name: &self.subject, key_id: &self.key_id, not_after: self.not_after }
    }

    /// The to-be-signed bytes of an X.509-SVID, linted.
    pub fn svid(
        &self,
        id: &SpiffeId,
        dns_names: &[String],
        key: &SubjectKey,
        serial: Serial,
        not_before: Time,
        not_after: Time,
    ) -> Result<Tbs, CertificateError> {
        let mut params = params(serial, not_before, not_after)?;
        params.subject_alt_names = vec![SanType::URI(ia5(&id.to_string())?)];
        for name in dns_names {
            params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let subject =
            SubjectPublicKeyInfo::from_der(key.spki_der()).map_err(CertificateError::Build)?;
        let built = params.signed_by(&subject, &self.issuer).map_err(CertificateError::Build)?;
        let issuer = self.facts();
        linted(
            built.der(),
            &Expected {
                role: Role::Svid { id, dns_names, issuer },
                serial,
                not_before,
                not_after,
                spki_der: key.spki_der(),
            },
        )
    }
}

/// What the self-signed certificate of a trust domain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityUse {
    /// X.509-SVIDs.
    Svids,
    /// Certificates of attestation keys.
    AttestationKeys,
}

/// The to-be-signed bytes of the self-signed certificate of `trust_domain` for the key with this
/// SPKI, linted.
pub fn authority(
    trust_domain: &TrustDomain,
    usage: AuthorityUse,
    spki_der: &[u8],
    serial: Serial,
    not_before: Time,
    not_after: Time,
) -> Result<Tbs, CertificateError> {
    let mut params = params(serial, not_before, not_after)?;
    // The key id keeps the names of two authorities of one trust domain apart; the trust domain
    // itself may be longer than a common name can be (RFC 5280 appendix A.1, ub-common-name).
    params.distinguished_name.push(DnType::OrganizationName, "Assay");
    let name = match usage {
        AuthorityUse::Svids => "authority",
        AuthorityUse::AttestationKeys => "attestation",
    };
    let name = format!("{name} {}", hex::encode(lint::key_id(spki_der)));
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(ia5(&trust_domain.id())?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if usage == AuthorityUse::AttestationKeys {
        params.extended_key_usages = vec![aik_certificate()];
    }
    let public = SubjectPublicKeyInfo::from_der(spki_der).map_err(CertificateError::Build)?;
    let key = PublicHalf(public.der_bytes().to_vec());
    let built = params.self_signed(&key).map_err(CertificateError::Build)?;
    linted(
        built.der(),
        &Expected {
            role: Role::Authority { trust_domain, usage },
            serial,
            not_before,
            not_after,
            spki_der,
        },
    )
}

/// tcg-kp-AIKCertificate, TCG Credential Profiles.
fn aik_certificate() -> ExtendedKeyUsagePurpose {
    ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])
}

fn trust_domain(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => Some((*uri).to_owned()),
        _ => None,
    }
}

/// Cuts the to-be-signed bytes out of what the builder made and looks at them.
fn linted(built: &[u8], expected: &Expected<'_>) -> Result<Tbs, CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(built).map_err(|_| CertificateError::Authority)?;
    let tbs = certificate.tbs_certificate.as_ref();
    lint::lint(tbs, expected)?;
    Ok(Tbs(tbs.to_vec()))
}

fn params(
    serial: Serial,
    not_before: Time,
    not_after: Time,
) -> Result<CertificateParams, CertificateError> {
    let date = |time: Time| {
        OffsetDateTime::from_unix_timestamp(time.unix_s()).map_err(|_| CertificateError::Time(time))
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.not_before = date(not_before)?;
    params.not_after = date(not_after)?;
    params.key_identifier_method = KeyIdMethod::Sha256;
    Ok(params)
}

fn ia5(text: &str) -> Result<Ia5String, CertificateError> {
    Ia5String::try_from(text).map_err(|_| CertificateError::Name(text.to_owned()))
}

/// The CA's public key where the builder wants a signing key: its signature is empty, so that
/// nothing it makes could ever be taken for a certificate.
struct PublicHalf(Vec<u8>);

impl PublicKeyData for PublicHalf {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for PublicHalf {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}
