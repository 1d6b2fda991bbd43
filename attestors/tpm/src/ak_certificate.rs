//! A certificate of an attestation key: a CA that somebody pinned says that this key is in a TPM.
//!
//! The way of machines without an endorsement certificate (clouds, Windows) and of everybody who
//! judges evidence years later, when no challenge can be answered any more. Whom to pin is the
//! caller's decision; what the certificate says of the device is only as good as that CA.

use assay_evidence::Certificate;
use assay_evidence::PublicKey;
use assay_evidence::Time;
use assay_evidence::chain;
use assay_evidence::chain::ChainError;
use assay_evidence::chain::Path;
use assay_evidence::chain::Rules;

use crate::endorsement;
use crate::endorsement::Device;
use crate::error::Error;

/// Made only where its chain was verified.
#[derive(Clone, Debug)]
pub struct AkCertificate {
    certificate: Certificate,
    key: PublicKey,
    device: Device,
    root_sha256: [u8; 32],
    weak_signature: bool,
    not_checked: Vec<String>,
}

/// Verifies a certificate of an attestation key up to one of `roots`.
///
/// TCG "TPM 2.0 Keys for Device Identity and Attestation", §8, and the profile of attestation
/// certificates in the EK Credential Profile: version 3, no CA, extended key usage
/// tcg-kp-AIKCertificate. Genuine certificates without extended key usage exist; one that has it
/// and means something else is refused.
pub fn verify(
    certificate: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
    now: Time,
) -> Result<AkCertificate, Error> {
    verify_by(&Rules::at(now), certificate, intermediates, roots).map_err(|faults| {
        faults.into_iter().next().unwrap_or(Error::AkChain(ChainError::Untrusted))
    })
}

/// The same by other rules, such as revocation lists, with all faults: the most decisive first, at
/// least one.
pub fn verify_by(
    rules: &Rules<'_>,
    certificate: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
) -> Result<AkCertificate, Vec<Error>> {
    let key = certificate.public_key().map_err(|_| vec![Error::AkCertificateKey])?;
    let profile = accept_profile(certificate);
    let path = chain::verify_by(rules, certificate, intermediates, roots);
    match (profile, path) {
        (Ok(()), Ok(path)) => {
            AkCertificate::new(certificate, key, roots, &path).map_err(|e| vec![e])
        }
        (profile, path) => {
            let chain = path.err().into_iter().flatten().map(Error::AkChain);
            Err(profile.err().into_iter().chain(chain).collect())
        }
    }
}

impl AkCertificate {
    /// Only where a chain has been verified: here, and in `idevid` by its own profile.
    pub(crate) fn new(
        certificate: &Certificate,
        key: &PublicKey,
        roots: &[Certificate],
        path: &Path,
    ) -> Result<AkCertificate, Error> {
        let root = roots.get(path.root()).ok_or(Error::AkChain(ChainError::Untrusted))?;
        Ok(AkCertificate {
            certificate: certificate.clone(),
            key: key.clone(),
            device: endorsement::device(certificate),
            root_sha256: root.sha256(),
            weak_signature: path.weak_signature(),
            not_checked: path.not_checked().to_vec(),
        })
    }

    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What the certificate says of the device; empty where it says nothing.
    pub fn device(&self) -> &Device {
        &self.device
    }

    pub fn root_sha256(&self) -> &[u8; 32] {
        &self.root_sha256
    }

    /// A CA of the chain signed over SHA-1: a warning.
    pub fn weak_signature(&self) -> bool {
        self.weak_signature
    }

    /// What could not be asked of the chain, each with its reason, such as revocation.
    pub fn not_checked(&self) -> &[String] {
        &self.not_checked
    }
}

fn accept_profile(certificate: &Certificate) -> Result<(), Error> {
    let extensions = certificate.extensions();
    if !extensions.version_3 {
        return Err(Error::AkProfile("not version 3"));
    }
    if extensions.is_ca {
        return Err(Error::AkProfile("a CA certificate"));
    }
    if let Some(usages) = &extensions.extended_key_usage
        && !usages.iter().any(|usage| usage == TCG_KP_AIK_CERTIFICATE)
    {
        return Err(Error::AkProfile("extended key usage without tcg-kp-AIKCertificate"));
    }
    if extensions.key_usage.is_some_and(|usage| usage & DIGITAL_SIGNATURE == 0) {
        return Err(Error::AkProfile("key usage without signatures"));
    }
    Ok(())
}

const TCG_KP_AIK_CERTIFICATE: &str = "2.23.133.8.3";
/// RFC 5280 §4.2.1.3, bit 0.
pub(crate) const DIGITAL_SIGNATURE: u16 = 1 << 0;
