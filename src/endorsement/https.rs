//! One GET over HTTP/1.1, and over TLS unless the service is on this machine.
//!
//! A connection for each request: they are minutes or days apart. No redirect is followed, no
//! cookie kept, nothing decompressed; head, body and time are bounded. The certificate is held
//! against the system's authorities or those that the operator names. This says whom the bytes came
//! from; whether they are worth anything is asked of the bytes.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Limited;
use hyper::HeaderMap;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS12;
use rustls::version::TLS13;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::endorsement::service::BaseUrl;

/// Opens connections under one set of authorities.
#[derive(Clone)]
pub(super) struct Client {
    tls: Option<TlsConnector>,
    within: Duration,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum GetError {
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("no connection: {0}")]
    Connect(String),
    #[error("the answer broke off: {0}")]
    Broken(String),
    #[error("an answer of more than {max} bytes")]
    TooLarge { max: usize },
}

/// The authorities of the system or of a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    #[error("{}: cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: no certificate in it", path.display())]
    Empty { path: PathBuf },
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Client {
    /// `ca` holds the authorities for services on other machines, the system's where it is `None`;
    /// without `tls` there are none to be asked. A system that has none is no fault until one of
    /// them is asked.
    pub fn new(tls: bool, ca: Option<&Path>, within: Duration) -> Result<Client, CaError> {
        let path = match ca {
            Some(path) => Some(path.to_path_buf()),
            None => SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file()),
        };
        let tls = match path.filter(|_| tls) {
            Some(path) => Some(connector(authorities(path)?)?),
            None => None,
        };
        Ok(Client { tls, within })
    }

    /// What the service says at this path, its status whatever it is.
    pub async fn get(&self, url: &BaseUrl, path: &str, max: usize) -> Result<Answer, GetError> {
        let asking = async {
            let address = (url.name(), url.port);
            let stream = TcpStream::connect(address).await.map_err(connect)?;
            if !url.tls {
                return exchange(stream, url, path, max).await;
            }
            let none = || {
                let tried = SYSTEM.join(", ");
                GetError::Connect(format!("no authorities at any of {tried}; name them by `ca`"))
            };
            let connector = self.tls.as_ref().ok_or_else(none)?;
            let name = ServerName::try_from(url.name().to_owned())
                .map_err(|error| GetError::Connect(error.to_string()))?;
            let stream = connector.connect(name, stream).await.map_err(connect)?;
            exchange(stream, url, path, max).await
        };
        timeout(self.within, asking).await.unwrap_or(Err(GetError::Slow(self.within)))
    }
}

async fn exchange<S>(stream: S, url: &BaseUrl, path: &str, max: usize) -> Result<Answer, GetError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = Request::get(format!("{}{path}", url.path))
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| GetError::Broken(error.to_string()))?;
    let asking = async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, max).collect().await.map_err(|error| {
            match error.downcast_ref::<http_body_util::LengthLimitError>() {
                Some(_) => GetError::TooLarge { max },
                None => GetError::Broken(told(error.as_ref())),
            }
        })?;
        let body = body.to_bytes().to_vec();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    // The connection is driven as long as there is an answer to come, and falls with it.
    tokio::pin!(asking);
    tokio::select! {
        answer = &mut asking => answer,
        _ = connection => asking.await,
    }
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, CaError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // The vendors promise no more than TLS 1.2, and what comes is signed by itself.
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| CaError::Setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn authorities(path: PathBuf) -> Result<RootCertStore, CaError> {
    let text =
        std::fs::read(&path).map_err(|source| CaError::Read { path: path.clone(), source })?;
    let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    let mut roots = RootCertStore::empty();
    // A system's bundle may have one that this build cannot read; the others count.
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(CaError::Empty { path });
    }
    Ok(roots)
}

fn connect(error: io::Error) -> GetError {
    GetError::Connect(told(&error))
}

fn broken(error: hyper::Error) -> GetError {
    GetError::Broken(told(&error))
}

/// An error and its causes, each once.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let also = error.to_string();
        if !text.contains(&also) {
            let _ = write!(text, ": {also}");
        }
        cause = error.source();
    }
    text
}

/// Where systems keep the authorities that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const AGENT: &str = concat!("assay/", env!("CARGO_PKG_VERSION"));
/// Two chains of certificates fit, with all that services say of themselves.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
