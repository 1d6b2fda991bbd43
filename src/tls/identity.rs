//! Our own side of a handshake: a certificate chain and the key that signs for it.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use assay_evidence::crypto::SoftwareKey;
use rustls::ServerConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::ClientHello;
use rustls::server::NoServerSessionStorage;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::sign::SigningKey;
use rustls::version::TLS13;

use crate::tls;
use crate::tls::DeviceKey;
use crate::tls::Peer;
use crate::tls::PeerError;
use crate::tls::Trust;
use crate::tls::peer::ClientVerifier;

/// An X.509-SVID and its key; a copy is cheap.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// The key is in a device and signs slowly.
    in_device: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    #[error("the key cannot be used for TLS")]
    Key,
    #[error("the certificate is for another key")]
    OtherKey,
    #[error("the chain's leaf is not an X.509-SVID")]
    Leaf(#[source] PeerError),
    #[error("the chain is empty")]
    Empty,
    #[error("this build's TLS cannot be set up: {0}")]
    Setup(String),
}

/// The server's identity, replaced at half of its life while connections go on.
#[derive(Debug, Clone)]
pub struct ServerIdentity(Arc<RwLock<Identity>>);

impl Identity {
    /// A chain (DER, leaf first) and a key in memory.
    pub fn software(chain: &[Vec<u8>], key: &SoftwareKey) -> Result<Self, IdentityError> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8_der().as_slice()));
        let key =
            rustls::crypto::ring::sign::any_ecdsa_type(&der).map_err(|_| IdentityError::Key)?;
        Self::new(chain, key, false)
    }

    /// A chain (DER, leaf first) and a key in a TPM.
    pub fn device(chain: &[Vec<u8>], key: DeviceKey) -> Result<Self, IdentityError> {
        Self::new(chain, Arc::new(key), true)
    }

    fn new(
        chain: &[Vec<u8>],
        key: Arc<dyn SigningKey>,
        in_device: bool,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.first().ok_or(IdentityError::Empty)?;
        Peer::parse(leaf).map_err(IdentityError::Leaf)?;
        let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| IdentityError::OtherKey)?;
        Ok(Self { certified: Arc::new(certified), in_device })
    }

    pub(super) fn in_device(&self) -> bool {
        self.in_device
    }
}

impl ServerIdentity {
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(RwLock::new(identity)))
    }

    /// New handshakes show this one from now on.
    pub fn replace(&self, identity: Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }
}

/// What a server's acceptor runs on: TLS 1.3, no resumption of any kind, client certificates asked
/// for and not demanded.
pub fn server_config(
    trust: &Trust,
    identity: &ServerIdentity,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let provider = tls::provider();
    let verifier = ClientVerifier::new(trust.clone(), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| IdentityError::Setup(error.to_string()))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    // One connection is one handshake: nothing is taken up again, nothing is sent early.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let identity = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&identity.certified))
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.in_device { "device" } else { "software" };
        write!(f, "Identity({place} key)")
    }
}
