//! Identity from the device's maker: IDevID and IAK, and the keys that they vouch for.
//!
//! A maker puts two keys into a device and certifies both. The IAK (an attestation key) says of any
//! other attestation key that it is in the same TPM; so a machine proves itself without an
//! endorsement certificate and without a secret to decrypt. The IDevID is a signing key; an LDevID
//! is one that the owner's CA certified. For both, what counts is that the key of the certificate
//! is the very key that the TPM certified: a certificate alone says nothing of where its key is.
//!
//! Whether a device of that serial number is wanted here is asked by nobody in this file.

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Time;
use assay_evidence::certificate::AltName;
use assay_evidence::chain;

use crate::ak::AttestationKey;
use crate::ak::ProvedKey;
use crate::ak_certificate;
use crate::ak_certificate::AkCertificate;
use crate::ak_certificate::DIGITAL_SIGNATURE;
use crate::certified;
use crate::claims::Certification;
use crate::error::Error;
use crate::structures::public::Attributes;
use crate::structures::public::Public;
use crate::verify::Signed;
use crate::verify::UnknownParent;
use crate::verify::verify_certify;

mod template;

pub use template::Kind;

/// A key that the maker of a device put into it: a certificate up to a given root, and the public
/// area of that very key, which follows the template. Made only by [`verify`](verify()).
#[derive(Clone, Debug)]
pub struct DeviceIdentity {
    kind: Kind,
    certificate: AkCertificate,
    public: Public,
    serial: Vec<u8>,
}

/// Verifies the certificate and the public area of an IDevID or an IAK.
///
/// `public` is a TPMT_PUBLIC or a TPM2B_PUBLIC.
pub fn verify(
    kind: Kind,
    certificate: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
    public: &[u8],
    now: Time,
) -> Result<DeviceIdentity, Error> {
    // 1. Shape.
    let public = Public::parse_file(public)?;
    let serial = hardware_serial(certificate)?;

    // 2. Keys: the certificate is of this key, and the key is one of its kind.
    let key = certificate.public_key().map_err(|_| Error::DevidKey)?;
    if key != public.key() {
        return Err(Error::DevidKey);
    }
    match kind {
        Kind::Iak => drop(AttestationKey::new(public.clone())?),
        Kind::Idevid => accept_device_key(&public)?,
    }
    if !kind.matches(&public) {
        return Err(Error::DevidTemplate { found: public.attributes() });
    }

    // 3. Signatures up to a root.
    let profile = accept_profile(certificate);
    let rules = chain::Rules::at(now);
    let path = chain::verify_by(&rules, certificate, intermediates, roots);
    let path = ak_certificate::decide(profile, path).map_err(ak_certificate::first)?;
    let certificate = AkCertificate::new(certificate, key, roots, &path)?;
    Ok(DeviceIdentity { kind, certificate, public, serial })
}

impl DeviceIdentity {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn public(&self) -> &Public {
        &self.public
    }

    pub fn certificate(&self) -> &Certificate {
        self.certificate.certificate()
    }

    pub fn root_sha256(&self) -> &[u8; 32] {
        self.certificate.root_sha256()
    }

    /// hwSerialNum (RFC 4108 §5): the maker's number of this TPM.
    pub fn hardware_serial(&self) -> &[u8] {
        &self.serial
    }

    /// The IAK as the attestation key that it is; an IDevID is none.
    pub fn attestation_key(&self) -> Option<ProvedKey> {
        let key = AttestationKey::new(self.public.clone()).ok()?;
        ProvedKey::enrolled(key).certified_by(&self.certificate).ok()
    }
}

/// An IAK says of another attestation key that it is in its TPM.
///
/// `certify` is TPM2_Certify of that key by the IAK over qualifying data that is fresh;
/// `ak_public` a TPMT_PUBLIC or a TPM2B_PUBLIC.
pub fn prove_ak(
    iak: &DeviceIdentity,
    certify: Signed<'_>,
    ak_public: &[u8],
    qualifying_data: &[u8],
    min_hash: HashAlgorithm,
) -> Result<ProvedKey, Error> {
    // Shape before keys, as everywhere.
    certify.parse()?;
    Public::parse_file(ak_public)?;

    let signer =
        iak.attestation_key().ok_or(Error::AkNotRestricted { found: iak.public.attributes() })?;
    ak_certificate::prove_ak_by(
        &signer,
        &iak.certificate,
        certify,
        ak_public,
        qualifying_data,
        min_hash,
    )
}

/// The key of a DevID certificate is in the TPM of that attestation key, and cannot leave it.
///
/// `certificate_key` is the key of an IDevID or LDevID certificate, whose chain the caller judges
/// ([`verify`](verify()) for an IDevID, its own CA for an LDevID); `public` the public area of the
/// key that the TPM certified.
pub fn verify_device_key(
    certificate_key: &PublicKey,
    certify: Signed<'_>,
    public: &[u8],
    ak: &ProvedKey,
    qualifying_data: &[u8],
    min_hash: HashAlgorithm,
) -> Result<Certification, Error> {
    certify.parse()?;
    let shown = Public::parse_file(public)?;
    if shown.key() != certificate_key {
        return Err(Error::DevidKey);
    }
    accept_device_key(&shown)?;
    verify_certify(certify, public, ak, qualifying_data, min_hash, UnknownParent::Refuse).map_err(
        |error| match error {
            // The public area is of the certificate, so it is the TPM that speaks of another key.
            Error::CertifiedName { .. } => Error::DevidKey,
            other => other,
        },
    )
}

/// Signs whatever its owner signs, and stays where it is.
fn accept_device_key(public: &Public) -> Result<(), Error> {
    certified::accept_fixed(public)?;
    let found = public.attributes();
    if !found.has(Attributes::SIGN) || found.0 & (Attributes::RESTRICTED | Attributes::DECRYPT) != 0
    {
        return Err(Error::KeyAttributes { found, expected: Attributes(template::IDEVID) });
    }
    match public.key().fault() {
        Some(fault) => Err(Error::KeyWeak(fault)),
        None => Ok(()),
    }
}

/// TCG "TPM 2.0 Keys for Device Identity and Attestation", §8.
fn accept_profile(certificate: &Certificate) -> Result<(), Error> {
    let extensions = certificate.extensions();
    if !extensions.version_3 {
        return Err(Error::AkProfile("not version 3"));
    }
    if extensions.is_ca {
        return Err(Error::AkProfile("a CA certificate"));
    }
    if extensions.key_usage.is_some_and(|usage| usage & DIGITAL_SIGNATURE == 0) {
        return Err(Error::AkProfile("key usage without signatures"));
    }
    Ok(())
}

/// subjectAltName with hardwareModuleName: what makes a certificate one of a device's TPM.
fn hardware_serial(certificate: &Certificate) -> Result<Vec<u8>, Error> {
    let names = &certificate.extensions().subject_alt_names;
    let serial = names.iter().find_map(|name| match name {
        AltName::HardwareModule { kind, serial } if kind == TCG_HW_TYPE => Some(serial.clone()),
        _ => None,
    });
    serial.ok_or(Error::AkProfile("no hardware module name of a TPM"))
}

/// tcg-on-hwType of a TPM 2.0.
const TCG_HW_TYPE: &str = "2.23.133.1.2";
