//! The key that an identity is asked for.
//!
//! Of a certificate request only the public key is taken, and only after the request's own
//! signature proved that the asker has the private one. Names, extensions and attributes that it
//! carries are never read: what a certificate says comes from the grant.

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_evidence::key::KeyError;
use assay_evidence::key::KeyFault;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// A public key that a certificate may be made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectKey {
    public: PublicKey,
    spki_der: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    #[error("a certificate request has at most {MAX_REQUEST_BYTES} bytes, found {0}")]
    TooLong(usize),
    #[error("not a certificate request (PKCS #10, version 1, DER)")]
    Malformed,
    #[error("a certificate request signed by algorithm `{0}`")]
    Algorithm(String),
    #[error("the certificate request is not signed by its own key")]
    Signature,
    #[error("the key is not one that certificates are made for")]
    Key(#[source] KeyError),
    #[error("certificates are made for P-256, P-384 and RSA keys, found {0:?}")]
    Curve(Curve),
    #[error("the key is too weak to carry an identity")]
    Weak(#[source] KeyFault),
}

impl RequestError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLong(_) => Reason::OverLimit,
            Self::Weak(KeyFault::Roca) => Reason::KeyRoca,
            Self::Weak(_) => Reason::KeyWeak,
            _ => Reason::CsrMalformed,
        }
    }
}

impl SubjectKey {
    /// RFC 2986 section 4: the request information, and a signature over it by the key inside.
    pub fn from_csr(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong(der.len()));
        }
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|_| RequestError::Malformed)?;
        let information = &request.certification_request_info;
        if !rest.is_empty() || information.version.0 != 0 {
            return Err(RequestError::Malformed);
        }
        let key = Self::from_spki(information.subject_pki.raw)?;
        let algorithm = request.signature_algorithm.algorithm.to_id_string();
        let scheme = scheme(&algorithm).ok_or(RequestError::Algorithm(algorithm))?;
        if request.signature_value.unused_bits != 0 {
            return Err(RequestError::Malformed);
        }
        crypto::verify_signature(
            scheme,
            &key.public,
            information.raw,
            request.signature_value.data.as_ref(),
        )
        .map_err(|_| RequestError::Signature)?;
        Ok(key)
    }

    /// A key whose possession is proved elsewhere: certified by the peer's attestation key, or
    /// the server's own.
    pub fn from_spki(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong(der.len()));
        }
        let public = PublicKey::from_spki(der).map_err(RequestError::Key)?;
        if let PublicKey::Ec { curve: curve @ Curve::P521, .. } = &public {
            return Err(RequestError::Curve(*curve));
        }
        if let Some(fault) = public.fault() {
            return Err(RequestError::Weak(fault));
        }
        // The one DER form, so that a key has one hash however it was written.
        Ok(Self { spki_der: public.to_spki(), public })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    pub fn spki_sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.spki_der)
    }
}

/// RFC 5758 section 3.2 (ECDSA), RFC 4055 section 5 (RSA); SHA-1 is not among them.
fn scheme(algorithm: &str) -> Option<SignatureScheme> {
    Some(match algorithm {
        "1.2.840.10045.4.3.2" => SignatureScheme::EcdsaDer(HashAlgorithm::Sha256),
        "1.2.840.10045.4.3.3" => SignatureScheme::EcdsaDer(HashAlgorithm::Sha384),
        "1.2.840.10045.4.3.4" => SignatureScheme::EcdsaDer(HashAlgorithm::Sha512),
        "1.2.840.113549.1.1.11" => SignatureScheme::RsaPkcs1(HashAlgorithm::Sha256),
        "1.2.840.113549.1.1.12" => SignatureScheme::RsaPkcs1(HashAlgorithm::Sha384),
        "1.2.840.113549.1.1.13" => SignatureScheme::RsaPkcs1(HashAlgorithm::Sha512),
        _ => return None,
    })
}

/// A promise of docs/reference/limits.md.
pub const MAX_REQUEST_BYTES: usize = 16 * 1_024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use rcgen::CertificateParams;
    use rcgen::KeyPair;
    use rcgen::PublicKeyData;

    use super::*;

    fn csr(key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["evil.example.org".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "root of everything");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.serialize_request(key).unwrap().der().to_vec()
    }

    /// DER of a request made by the openssl program with a new key.
    fn openssl_csr(folder: &std::path::Path, key: &[&str]) -> Vec<u8> {
        let out = folder.join("csr.der");
        let status = Command::new("openssl")
            .args(["req", "-new", "-nodes", "-subj", "/CN=x", "-outform", "DER", "-newkey"])
            .args(key)
            .arg("-keyout")
            .arg(folder.join("key.pem"))
            .arg("-out")
            .arg(&out)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::read(out).unwrap()
    }

    #[test]
    fn p256_and_p384_requests_give_their_key_and_nothing_else() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            let key = SubjectKey::from_csr(&csr(&pair)).unwrap();
            assert_eq!(key.spki_der(), pair.subject_public_key_info());
        }
    }

    #[test]
    fn requests_of_openssl_are_read_and_weak_or_odd_keys_refused() {
        let folder = tempfile::tempdir().unwrap();
        let csr = |key: &[&str]| openssl_csr(folder.path(), key);
        assert!(SubjectKey::from_csr(&csr(&["rsa:2048"])).is_ok());
        let weak = SubjectKey::from_csr(&csr(&["rsa:1024"])).unwrap_err();
        assert_eq!(weak, RequestError::Weak(KeyFault::Modulus(1_024)));
        assert_eq!(weak.reason(), Reason::KeyWeak);
        let p521 = csr(&["ec", "-pkeyopt", "ec_paramgen_curve:P-521"]);
        assert_eq!(SubjectKey::from_csr(&p521).unwrap_err(), RequestError::Curve(Curve::P521));
        let ed25519 = csr(&["ed25519"]);
        assert!(matches!(SubjectKey::from_csr(&ed25519), Err(RequestError::Key(_))));
        let sha1 = csr(&["rsa:2048", "-sha1"]);
        assert!(matches!(SubjectKey::from_csr(&sha1), Err(RequestError::Algorithm(_))));
    }

    #[test]
    fn a_request_changed_in_any_byte_never_gives_another_key() {
        let der = csr(&KeyPair::generate().unwrap());
        let key = SubjectKey::from_csr(&der).unwrap();
        let mut accepted = 0;
        for at in 0..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 1;
            if let Ok(found) = SubjectKey::from_csr(&changed) {
                assert_eq!(found, key, "byte {at}");
                accepted += 1;
            }
        }
        // Tags around the signature, which nothing signs and which say nothing.
        assert!(accepted <= 3, "{accepted}");
    }

    #[test]
    fn trailing_bytes_and_long_requests_are_refused() {
        let mut der = csr(&KeyPair::generate().unwrap());
        der.push(0);
        assert_eq!(SubjectKey::from_csr(&der).unwrap_err(), RequestError::Malformed);
        let long = vec![0x30; MAX_REQUEST_BYTES + 1];
        let error = SubjectKey::from_csr(&long).unwrap_err();
        assert_eq!(error.reason(), Reason::OverLimit);
        assert!(SubjectKey::from_csr(&[]).is_err());
    }
}
