//! Who is at the other end: a certificate turned into a SPIFFE ID, or refused by name.
//!
//! Source: SPIFFE X.509-SVID, sections 2 (SPIFFE ID), 4.3 (key usage), 5.2 (leaf validation).

use std::fmt;
use std::sync::Arc;

use assay_evidence::Reason;
use assay_evidence::certificate::AltName;
use assay_evidence::certificate::Certificate;
use assay_evidence::time::Time;
use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::OtherError;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use webpki::EndEntityCert;
use webpki::KeyUsage;

use crate::spiffe::IdError;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::tls::Trust;

/// A peer whose certificate was verified in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: SpiffeId,
    /// Absent where it is not one of our length, and so none that we issued.
    pub serial: Option<Serial>,
    pub not_after: Time,
    /// The leaf, DER.
    pub certificate: Vec<u8>,
}

/// Why a certificate does not make its holder a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    #[error("the certificate cannot be read")]
    Malformed,
    #[error("no authority of `{trust_domain}` stands above the certificate: {fault}")]
    Chain { trust_domain: String, fault: String },
    #[error("a certificate with {0} URI names, exactly one makes an SVID")]
    UriNames(usize),
    #[error("the certificate's URI name is no SPIFFE ID")]
    Id(#[source] IdError),
    #[error("the peer is `{found}`, expected one of trust domain `{expected}`")]
    TrustDomain { found: SpiffeId, expected: String },
    #[error("the peer is `{found}`, expected `{expected}`")]
    Unexpected { found: SpiffeId, expected: SpiffeId },
    #[error("the certificate is a CA's, or its key usage is not that of an SVID")]
    KeyUsage,
}

/// Accepts agents and workloads of the trust domain; a peer without certificate is let in as a
/// stranger, and each call decides what that is worth.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

/// Accepts one SPIFFE ID and no other.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    expected: SpiffeId,
    /// Absent: the chain is not looked at, by a `danger_` switch.
    trust: Option<Trust>,
    provider: Arc<CryptoProvider>,
}

impl PeerError {
    pub fn reason(&self) -> Reason {
        Reason::PeerUnexpected
    }
}

impl From<PeerError> for rustls::Error {
    fn from(error: PeerError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

impl Peer {
    /// Verifies a chain as a peer of the trust domain presented it.
    fn verify(
        trust: &Trust,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<Self, PeerError> {
        let peer = Self::parse(leaf)?;
        let chain = |fault: webpki::Error| PeerError::Chain {
            trust_domain: trust.trust_domain().as_str().to_owned(),
            fault: format!("{fault:?}"),
        };
        EndEntityCert::try_from(leaf)
            .map_err(chain)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &trust.anchors(),
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(chain)?;
        if peer.id.trust_domain() != trust.trust_domain() {
            let expected = trust.trust_domain().as_str().to_owned();
            return Err(PeerError::TrustDomain { found: peer.id, expected });
        }
        Ok(peer)
    }

    /// Reads a leaf; says nothing about who signed it.
    pub(super) fn parse(leaf: &[u8]) -> Result<Self, PeerError> {
        let certificate = Certificate::parse(leaf).map_err(|_| PeerError::Malformed)?;
        let extensions = certificate.extensions();
        let uris: Vec<_> = extensions
            .subject_alt_names
            .iter()
            .filter_map(|name| match name {
                AltName::Uri(uri) => Some(uri),
                _ => None,
            })
            .collect();
        let [uri] = uris.as_slice() else { return Err(PeerError::UriNames(uris.len())) };
        let id = SpiffeId::parse(uri).map_err(PeerError::Id)?;
        let usage = extensions.key_usage.unwrap_or(0);
        let signs = usage & DIGITAL_SIGNATURE != 0;
        if extensions.is_ca || !signs || usage & (KEY_CERT_SIGN | CRL_SIGN) != 0 {
            return Err(PeerError::KeyUsage);
        }
        Ok(Self {
            id,
            serial: Serial::from_certificate(certificate.serial()),
            not_after: certificate.not_after(),
            certificate: leaf.to_vec(),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

impl ClientVerifier {
    pub(super) fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Self {
        Self { trust, provider }
    }
}

impl ServerVerifier {
    pub(super) fn new(
        expected: SpiffeId,
        trust: Option<Trust>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { expected, trust, provider }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Peer::verify(&self.trust, leaf, intermediates, KeyUsage::client_auth(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let peer = match &self.trust {
            Some(trust) => Peer::verify(trust, leaf, intermediates, KeyUsage::server_auth(), now)?,
            None => Peer::parse(leaf)?,
        };
        if peer.id != self.expected {
            let expected = self.expected.clone();
            return Err(PeerError::Unexpected { found: peer.id, expected }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn only_tls13() -> rustls::Error {
    rustls::Error::General("only TLS 1.3 is spoken here".to_owned())
}

/// RFC 5280 §4.2.1.3, bits 0, 5 and 6.
const DIGITAL_SIGNATURE: u16 = 1;
const KEY_CERT_SIGN: u16 = 1 << 5;
const CRL_SIGN: u16 = 1 << 6;
