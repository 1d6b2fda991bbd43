//! One connection to the server, for one exchange or one agent session.
//!
//! tonic's channels reconnect in silence, and evidence bound to one connection would travel over
//! another. So the connection is made here, its exporter taken, and the channel over it can never
//! connect again: when it breaks, every call fails and the caller starts anew.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use assay_evidence::Reason;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tower::service_fn;

use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;
use crate::tls;
use crate::tls::Identity;
use crate::tls::Peer;
use crate::tls::PeerError;
use crate::tls::Trust;
use crate::tls::peer::ServerVerifier;

/// Whom a client means to reach: exactly `/spire/server` of the trust domain.
#[derive(Debug, Clone)]
pub struct Server {
    expected: SpiffeId,
    trust: Option<Trust>,
}

/// An open connection and the channel over it.
#[derive(Debug, Clone)]
pub struct Connection {
    pub channel: Channel,
    /// Exported under `EXPORTER-assay-attestation-1`; the same on both ends.
    pub exporter: [u8; 32],
    pub peer: Peer,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    #[error("no connection to `{address}`")]
    Network {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("no answer from `{address}` within {within:?}")]
    Timeout { address: String, within: Duration },
    #[error("the server is not who it should be")]
    Peer(#[source] PeerError),
    #[error("the TLS handshake with `{address}` broke off")]
    Handshake {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl ConnectError {
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Peer(error) => Some(error.reason()),
            _ => None,
        }
    }
}

impl Server {
    /// The server of the trust domain whose authorities `trust` holds.
    pub fn of(trust: &Trust) -> Self {
        Self { expected: trust.trust_domain().server(), trust: Some(trust.clone()) }
    }

    /// Anybody who calls himself the server. Only for a first contact that the configuration
    /// allows by `danger_insecure = true`.
    pub fn danger_anybody(trust_domain: &TrustDomain) -> Self {
        Self { expected: trust_domain.server(), trust: None }
    }

    fn config(&self, identity: Option<&Identity>) -> Result<ClientConfig, ConnectError> {
        let provider = tls::provider();
        let verifier =
            ServerVerifier::new(self.expected.clone(), self.trust.clone(), Arc::clone(&provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| ConnectError::Setup(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![tls::ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.enable_early_data = false;
        Ok(config)
    }
}

/// Connects once to `address` (`host:port`), as `identity` or as a stranger, within `within`.
///
/// With a key in a device the handshake runs on a thread of its own, so that nothing else in this
/// process waits for the TPM.
pub async fn connect(
    address: &str,
    server: &Server,
    identity: Option<&Identity>,
    within: Duration,
) -> Result<Connection, ConnectError> {
    let connector = TlsConnector::from(Arc::new(server.config(identity)?));
    let handshake = handshake(address.to_owned(), connector, within);
    let stream = if identity.is_some_and(Identity::in_device) {
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(handshake))
            .await
            .map_err(|error| ConnectError::Setup(error.to_string()))??
    } else {
        handshake.await?
    };
    let session = stream.get_ref().1;
    let exporter = session
        .export_keying_material([0; 32], tls::EXPORTER_LABEL, None)
        .map_err(|error| ConnectError::Setup(error.to_string()))?;
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or(ConnectError::Peer(PeerError::Malformed))?;
    let peer = Peer::parse(leaf).map_err(ConnectError::Peer)?;
    let channel = channel(stream).await.map_err(|error| ConnectError::Handshake {
        address: address.to_owned(),
        source: io::Error::other(error),
    })?;
    Ok(Connection { channel, exporter, peer })
}

async fn handshake(
    address: String,
    connector: TlsConnector,
    within: Duration,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let connecting = async {
        let stream = TcpStream::connect(&address)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| ConnectError::Network { address: address.clone(), source })?;
        // The name is neither sent nor looked at: a SPIFFE ID is what counts.
        let name = ServerName::try_from("spire-server")
            .map_err(|error| ConnectError::Setup(error.to_string()))?;
        connector.connect(name, stream).await.map_err(|source| match peer_error(&source) {
            Some(error) => ConnectError::Peer(error),
            None => ConnectError::Handshake { address: address.clone(), source },
        })
    };
    match timeout(within, connecting).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout { address: address.clone(), within }),
    }
}

/// Our own verifier's reason, dug out of what rustls wrapped around it.
pub(super) fn peer_error(error: &io::Error) -> Option<PeerError> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error else {
        return None;
    };
    other.0.downcast_ref::<PeerError>().cloned()
}

/// A channel over this stream, and over no other ever.
async fn channel(stream: TlsStream<TcpStream>) -> Result<Channel, tonic::transport::Error> {
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = service_fn(move |_| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.ok_or_else(|| io::Error::other("the one connection is over")) }
    });
    Endpoint::from_static("http://spire-server")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// A connection whose other end is gone without a word is noticed after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
