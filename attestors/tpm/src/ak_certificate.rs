//! A certificate of an attestation key: a CA that somebody pinned says that this key is in a TPM.
//!
//! The way of machines without an endorsement certificate (clouds, Windows) and of everybody who
//! judges evidence years later, when no challenge can be answered any more. Whom to pin is the
//! caller's decision; what the certificate says of the device is only as good as that CA.

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::certificate::AltName;
use assay_evidence::chain;
use assay_evidence::chain::ChainError;
use assay_evidence::chain::Path;
use assay_evidence::chain::Rules;

use crate::ak::AttestationKey;
use crate::ak::ProvedKey;
use crate::endorsement;
use crate::endorsement::Device;
use crate::endorsement::TpmClass;
use crate::error::Error;
use crate::structures::name::Hierarchy;
use crate::structures::public::Public;
use crate::verify::Signed;
use crate::verify::UnknownParent;
use crate::verify::verify_certify;

/// Whose certificates of attestation keys count: a role of their own, in which no root of
/// endorsement certificates stands unless somebody puts it there as well.
#[derive(Clone, Debug, Default)]
pub struct AkAnchors {
    roots: Vec<Certificate>,
    classes: Vec<TpmClass>,
    intermediates: Vec<Certificate>,
}

impl AkAnchors {
    pub fn new(roots: Vec<(Certificate, TpmClass)>, intermediates: Vec<Certificate>) -> AkAnchors {
        let (roots, classes) = roots.into_iter().unzip();
        AkAnchors { roots, classes, intermediates }
    }

    /// Verifies a certificate whose key is to certify others, and says of which class the TPMs
    /// below its root are. `chain` is what came along.
    ///
    /// A maker certifies an unrestricted IDevID beside the IAK, and an unrestricted key can sign
    /// any statement. The certificate alone tells them apart, so one of a device's key must say
    /// tcg-kp-AIKCertificate; of others the CA is believed to certify attestation keys alone.
    pub fn verify(
        &self,
        certificate: &Certificate,
        chain: &[Certificate],
        now: Time,
    ) -> Result<(AkCertificate, TpmClass), Error> {
        let profile = accept_profile(certificate).and_then(|()| accept_certifier(certificate));
        let intermediates: Vec<_> = chain.iter().chain(&self.intermediates).cloned().collect();
        let rules = Rules::at(now);
        let found = verify_as(profile, &rules, certificate, &intermediates, &self.roots);
        let found = found.map_err(first)?;
        let root = self.roots.iter().position(|root| &root.sha256() == found.root_sha256());
        let class = root.and_then(|root| self.classes.get(root));
        let class = *class.ok_or(Error::AkChain(ChainError::Untrusted))?;
        Ok((found, class))
    }
}

/// The key of a verified certificate says of another attestation key that it is in its TPM.
///
/// Of the certified key the certificate alone is known, so that it is restricted is its CA's word.
/// `certify` is TPM2_Certify over qualifying data that is fresh; `ak_public` a TPMT_PUBLIC or a
/// TPM2B_PUBLIC.
pub fn prove_ak(
    by: &AkCertificate,
    certify: Signed<'_>,
    ak_public: &[u8],
    qualifying_data: &[u8],
    min_hash: HashAlgorithm,
) -> Result<ProvedKey, Error> {
    let signer = ProvedKey::certified(by)?;
    prove_ak_by(&signer, by, certify, ak_public, qualifying_data, min_hash)
}

/// The same by a signer of which more may be known.
pub(crate) fn prove_ak_by(
    signer: &ProvedKey,
    certificate: &AkCertificate,
    certify: Signed<'_>,
    ak_public: &[u8],
    qualifying_data: &[u8],
    min_hash: HashAlgorithm,
) -> Result<ProvedKey, Error> {
    // Shape before keys, as everywhere.
    certify.parse()?;
    let key = AttestationKey::new(Public::parse_file(ak_public)?)?;
    let certification = verify_certify(
        certify,
        ak_public,
        signer,
        qualifying_data,
        min_hash,
        UnknownParent::Refuse,
    )?;
    // Only there the TPM shows its true counters to whoever reads the key's quotes.
    match certification.certified_key().hierarchy() {
        Some(Hierarchy::Endorsement) => Ok(ProvedKey::vouched(key, certificate)),
        found => Err(Error::AkHierarchy { found }),
    }
}

/// Made only where its chain was verified.
#[derive(Clone, Debug)]
pub struct AkCertificate {
    certificate: Certificate,
    key: PublicKey,
    device: Device,
    root_sha256: [u8; 32],
    warnings: Vec<ChainError>,
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
    verify_by(&Rules::at(now), certificate, intermediates, roots).map_err(first)
}

/// Of faults in the decisive order, the one that decides.
pub(crate) fn first(faults: Vec<Error>) -> Error {
    faults.into_iter().next().unwrap_or(Error::AkChain(ChainError::Untrusted))
}

/// The same by other rules, such as revocation lists, with all faults: the most decisive first, at
/// least one. Keys come before the profile, the profile before the rest of the chain.
pub fn verify_by(
    rules: &Rules<'_>,
    certificate: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
) -> Result<AkCertificate, Vec<Error>> {
    verify_as(accept_profile(certificate), rules, certificate, intermediates, roots)
}

fn verify_as(
    profile: Result<(), Error>,
    rules: &Rules<'_>,
    certificate: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
) -> Result<AkCertificate, Vec<Error>> {
    let key = certificate.public_key().map_err(|_| vec![Error::AkCertificateKey])?;
    let path = chain::verify_by(rules, certificate, intermediates, roots);
    let path = decide(profile, path)?;
    AkCertificate::new(certificate, key, roots, &path).map_err(|error| vec![error])
}

/// The path of a certificate that is of its kind, or all faults in the decisive order.
pub(crate) fn decide(
    profile: Result<(), Error>,
    path: Result<Path, Vec<ChainError>>,
) -> Result<Path, Vec<Error>> {
    match (profile, path) {
        (Ok(()), Ok(path)) => Ok(path),
        (profile, path) => {
            let chain = path.err().into_iter().flatten().map(Error::AkChain);
            let mut faults: Vec<_> = profile.err().into_iter().chain(chain).collect();
            // Stable: within a stage what was found first is told first.
            faults.sort_by_key(stage);
            Err(faults)
        }
    }
}

/// The same stages as of an endorsement certificate.
fn stage(fault: &Error) -> u8 {
    match fault {
        Error::AkChain(ChainError::Key { .. } | ChainError::KeyWeak { .. }) => 0,
        Error::AkProfile(_) => 1,
        _ => 2,
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
            warnings: path.warnings().to_vec(),
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

    /// What was accepted but must be said: certificates and lists that are signed over SHA-1, and
    /// dates if the rules say so.
    pub fn warnings(&self) -> Vec<Finding> {
        let finding = |warning: &ChainError| {
            let finding = Error::AkChain(warning.clone()).finding();
            match warning {
                // Refused, it would be certified by nobody; borne, it is certified.
                ChainError::Expired { .. } => Finding { code: Reason::CertExpired, ..finding },
                _ => finding,
            }
        };
        self.warnings.iter().map(finding).collect()
    }

    /// What could not be asked of the chain, each with its reason, such as revocation.
    pub fn not_checked(&self) -> &[String] {
        &self.not_checked
    }
}

/// Whether its key may certify others, see [`AkAnchors::verify`].
fn accept_certifier(certificate: &Certificate) -> Result<(), Error> {
    let extensions = certificate.extensions();
    let of_a_device = |name: &AltName| matches!(name, AltName::HardwareModule { .. });
    if extensions.extended_key_usage.is_none()
        && extensions.subject_alt_names.iter().any(of_a_device)
    {
        return Err(Error::AkProfile("a device's key without tcg-kp-AIKCertificate"));
    }
    Ok(())
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
