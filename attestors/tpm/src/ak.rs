//! The attestation key: what it must be, and why it is believed.
//!
//! An [`AttestationKey`] has the right attributes and scheme, which anybody can write down. A
//! [`ProvedKey`] is one that is known to sit in a TPM, or for which the caller vouches; only with
//! one of those can evidence be verified.

use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureError;
use assay_evidence::crypto::SignatureScheme;
use serde::Serialize;

use crate::ak_certificate::AkCertificate;
use crate::error::Error;
use crate::structures::name::Hierarchy;
use crate::structures::name::Name;
use crate::structures::public::Attributes;
use crate::structures::public::Public;
use crate::structures::public::Scheme;
use crate::structures::signature::MAX_ECC;
use crate::structures::signature::Signature;
use crate::structures::signature::SigningScheme;

/// A restricted signing key that its TPM made and that cannot leave it, if a TPM holds it at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    public: Public,
    scheme: SigningScheme,
}

impl AttestationKey {
    /// From a TPMT_PUBLIC, with every rule on attributes, scheme and strength.
    pub fn parse(ak_public: &[u8]) -> Result<AttestationKey, Error> {
        AttestationKey::new(Public::parse(ak_public)?)
    }

    pub fn new(public: Public) -> Result<AttestationKey, Error> {
        let found = public.attributes();
        // A key that is not restricted signs whatever it is given, invented quotes included.
        if !found.has(Attributes::RESTRICTED) {
            return Err(Error::AkNotRestricted { found });
        }
        if !found.has(Attributes::FIXED_TPM | Attributes::FIXED_PARENT) {
            return Err(Error::AkNotFixed { found });
        }
        // Imported keys have a copy outside, however fixed they say they are.
        if !found.has(Attributes::SENSITIVE_DATA_ORIGIN) {
            return Err(Error::AkExternalOrigin { found });
        }
        if !found.has(Attributes::SIGN) || found.0 & !ALLOWED != 0 {
            return Err(Error::AkAttributes { found });
        }
        if let Some(fault) = public.key().fault() {
            return Err(Error::KeyWeak(fault));
        }
        let Some(Scheme::Signing(scheme)) = public.area().scheme else {
            return Err(Error::AkScheme);
        };
        Ok(AttestationKey { public, scheme })
    }

    pub fn public(&self) -> &Public {
        &self.public
    }

    pub fn name(&self) -> Name {
        self.public.name()
    }

    pub fn scheme(&self) -> SigningScheme {
        self.scheme
    }
}

/// Why an attestation key is believed to sit in a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The TPM of a verified endorsement key gave back a secret that only it could read.
    Activation,
    /// The caller enrolled the key before and vouches for it.
    Caller,
    /// A certificate that chains to a given root names the key.
    Certificate,
    /// Another key, which such a certificate names (the maker's IAK, a cloud's AK), says that this
    /// one is in its TPM.
    Iak,
}

/// An attestation key together with the reason to believe in it.
#[derive(Clone, Debug)]
pub struct ProvedKey {
    signer: Signer,
    /// Qualified name of the endorsement key, where it is known: the key may be its child.
    endorsement: Option<Name>,
    certificate: Option<AkCertificate>,
    trust: Trust,
}

#[derive(Clone, Debug)]
enum Signer {
    Tpm(AttestationKey),
    /// Only the key is known: no attributes, no name, the scheme is the one its type allows.
    Bare(PublicKey),
}

impl ProvedKey {
    /// A key that the caller enrolled before: a node that refreshes, `--ak` on the command line.
    pub fn enrolled(key: AttestationKey) -> ProvedKey {
        ProvedKey {
            signer: Signer::Tpm(key),
            endorsement: None,
            certificate: None,
            trust: Trust::Caller,
        }
    }

    /// A key of which the caller has only the SubjectPublicKeyInfo, and for which it vouches.
    pub fn enrolled_bare(key: PublicKey) -> Result<ProvedKey, Error> {
        match key.fault() {
            Some(fault) => Err(Error::KeyWeak(fault)),
            None => {
                let signer = Signer::Bare(key);
                Ok(ProvedKey { signer, endorsement: None, certificate: None, trust: Trust::Caller })
            }
        }
    }

    /// A key of which only its verified certificate is known: no attributes, no name.
    pub fn certified(certificate: &AkCertificate) -> Result<ProvedKey, Error> {
        ProvedKey::enrolled_bare(certificate.key().clone())?.certified_by(certificate)
    }

    /// The same key, now believed because of its certificate, which must be of this very key.
    pub fn certified_by(self, certificate: &AkCertificate) -> Result<ProvedKey, Error> {
        if self.public_key() != certificate.key() {
            return Err(Error::AkCertificateKey);
        }
        Ok(ProvedKey { trust: Trust::Certificate, certificate: Some(certificate.clone()), ..self })
    }

    /// The same, by whichever of the certificates is of this key; believed by none if none is.
    pub fn certified_by_any(self, certificates: &[AkCertificate]) -> Result<ProvedKey, Error> {
        let certificate = certificates.iter().find(|one| one.key() == self.public_key());
        self.certified_by(certificate.ok_or(Error::AkCertificateKey)?)
    }

    /// Only `ak_certificate` calls this, when the key of that certificate certified this one.
    pub(crate) fn vouched(key: AttestationKey, iak: &AkCertificate) -> ProvedKey {
        ProvedKey { trust: Trust::Iak, certificate: Some(iak.clone()), ..ProvedKey::enrolled(key) }
    }

    /// Only `credential` calls this, when the TPM gave the secret back.
    pub(crate) fn activated(key: AttestationKey, ek_public: &Public) -> ProvedKey {
        ProvedKey { trust: Trust::Activation, ..ProvedKey::enrolled(key) }.beside(ek_public)
    }

    /// With the endorsement key of the same TPM, of which the attestation key may be a child.
    #[must_use]
    pub fn beside(mut self, ek_public: &Public) -> ProvedKey {
        self.endorsement = ek_public.name().primary_in(Hierarchy::Endorsement);
        self
    }

    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The certificate that is the reason to believe in the key, if one is.
    pub fn certificate(&self) -> Option<&AkCertificate> {
        self.certificate.as_ref()
    }

    pub fn attestation_key(&self) -> Option<&AttestationKey> {
        match &self.signer {
            Signer::Tpm(key) => Some(key),
            Signer::Bare(_) => None,
        }
    }

    pub fn name(&self) -> Option<Name> {
        self.attestation_key().map(AttestationKey::name)
    }

    pub fn public_key(&self) -> &PublicKey {
        match &self.signer {
            Signer::Tpm(key) => key.public.key(),
            Signer::Bare(key) => key,
        }
    }

    pub(crate) fn endorsement_qualified_name(&self) -> Option<&Name> {
        self.endorsement.as_ref()
    }

    /// Whether this key made `signature` over `message`, by its own scheme and hash.
    ///
    /// The scheme that the signature names decides nothing: it must be the key's. A bare key has
    /// no scheme of its own, so its type decides and the signature may choose among those.
    pub(crate) fn verify_signature(
        &self,
        message: &[u8],
        signature: &Signature<'_>,
        min_hash: HashAlgorithm,
    ) -> Result<(), Error> {
        if let Signer::Tpm(key) = &self.signer
            && key.scheme != signature.scheme
        {
            return Err(Error::SignatureScheme {
                found: signature.scheme.to_string(),
                expected: key.scheme.to_string(),
            });
        }
        let hash = signature.scheme.hash();
        if hash.strength() < min_hash.strength() {
            return Err(Error::SignatureHashWeak { found: hash, expected: min_hash });
        }
        let key = self.public_key();
        let mut place = [0; 2 * MAX_ECC];
        let (scheme, bytes) = match (signature.scheme, key) {
            (SigningScheme::Ecdsa(hash), PublicKey::Ec { curve, .. }) => {
                (SignatureScheme::EcdsaFixed(hash), signature.ecc_fixed(*curve, &mut place))
            }
            (SigningScheme::Rsassa(hash), PublicKey::Rsa { .. }) => {
                (SignatureScheme::RsaPkcs1(hash), signature.rsa())
            }
            (SigningScheme::Rsapss(hash), PublicKey::Rsa { .. }) => {
                (SignatureScheme::RsaPssOfTpm(hash), signature.rsa())
            }
            (found, PublicKey::Ec { .. }) => {
                return Err(Error::SignatureScheme {
                    found: found.to_string(),
                    expected: "ecdsa".into(),
                });
            }
            (found, PublicKey::Rsa { .. }) => {
                return Err(Error::SignatureScheme {
                    found: found.to_string(),
                    expected: "rsassa or rsapss".into(),
                });
            }
        };
        let bytes = bytes.ok_or(Error::SignatureInvalid)?;
        crypto::verify_signature(scheme, key, message, bytes).map_err(|error| match error {
            SignatureError::Unsupported => {
                Error::SignatureUnsupported { found: signature.scheme.to_string() }
            }
            _ => Error::SignatureInvalid,
        })
    }
}

/// Bits an attestation key may have set. Free are only those that say how its use is authorised;
/// anything else, reserved bits included, is a key of another kind.
const ALLOWED: u32 = Attributes::FIXED_TPM
    | Attributes::FIXED_PARENT
    | Attributes::SENSITIVE_DATA_ORIGIN
    | Attributes::USER_WITH_AUTH
    | Attributes::ADMIN_WITH_POLICY
    | Attributes::NO_DA
    | Attributes::RESTRICTED
    | Attributes::SIGN;
