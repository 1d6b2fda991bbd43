//! A TLS key that lives in a TPM.
//!
//! rustls asks for a signature in the middle of a handshake and waits for it; a discrete TPM takes
//! its time. So handshakes with such a key run on a thread that may block ([`crate::tls::connect`]).

use std::fmt;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::SignatureScheme;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::Signer;
use rustls::sign::SigningKey;

/// Signs the SHA-256 of a message by ECDSA P-256 in a device; blocks. The answer is an
/// ECDSA-Sig-Value in DER.
pub trait Sign: Send + Sync {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String>;
}

/// A P-256 key in a device, with the public half it claims.
#[derive(Clone)]
pub struct DeviceKey {
    spki_der: Vec<u8>,
    sign: Arc<dyn Sign>,
}

impl DeviceKey {
    /// `spki_der`: SubjectPublicKeyInfo of the P-256 key that `sign` signs with.
    pub fn new(spki_der: Vec<u8>, sign: Arc<dyn Sign>) -> Self {
        Self { spki_der, sign }
    }
}

impl SigningKey for DeviceKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SCHEME).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki_der.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for DeviceKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.sign
            .sign(message)
            .map_err(|fault| rustls::Error::General(format!("the device did not sign: {fault}")))
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey")
    }
}

impl<F: Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync> Sign for F {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self(message)
    }
}

const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
