//! The server's TLS listener: each handshake in a task of its own, so that a slow one blocks
//! nobody; what comes out are finished streams that know who is at the other end.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::clock::Clock;
use crate::clock::Moment;
use crate::tls;
use crate::tls::Peer;
use crate::tls::client::peer_error;

/// How much of a listener strangers can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptLimits {
    /// From accept to the end of the handshake.
    pub handshake: Duration,
    /// Handshakes under way at a time.
    pub handshakes: usize,
    /// Handshakes under way from one address.
    pub handshakes_per_source: usize,
    /// Open connections at a time, handshakes included.
    pub connections: usize,
    /// … of them from one address without a certificate.
    pub strangers_per_source: usize,
    /// After this a connection without a certificate is closed.
    pub stranger: Duration,
}

/// What a server knows of the connection that a call came over.
#[derive(Debug, Clone)]
pub struct ConnectInfo {
    /// Absent for a peer that showed no certificate.
    pub peer: Option<Arc<Peer>>,
    pub exporter: [u8; 32],
    pub address: SocketAddr,
    /// When the handshake ended.
    pub opened: Moment,
}

/// A finished connection.
pub struct Accepted {
    stream: TlsStream<TcpStream>,
    info: ConnectInfo,
    /// Of a peer without a certificate: its ticket, and when it has to go.
    stranger: Option<(SourceTicket, Pin<Box<Sleep>>)>,
    _place: OwnedSemaphorePermit,
}

/// Finished connections as they come; dropping it closes the listener and every handshake.
#[derive(Debug)]
pub struct Acceptor {
    finished: mpsc::Receiver<io::Result<Accepted>>,
    task: JoinHandle<()>,
    address: SocketAddr,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            handshakes: 512,
            handshakes_per_source: 128,
            connections: 16_384,
            strangers_per_source: 16_384 / STRANGERS_SHARE,
            stranger: STRANGER,
        }
    }
}

impl AcceptLimits {
    /// The default limits around this many open connections.
    pub fn of(connections: usize) -> Self {
        let strangers_per_source = (connections / STRANGERS_SHARE).max(1);
        Self { connections, strangers_per_source, ..Self::default() }
    }
}

impl Acceptor {
    /// Begins to accept; must be called inside a tokio runtime.
    pub fn new(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        limits: AcceptLimits,
        clock: Clock,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, finished) = mpsc::channel(QUEUE);
        let desk = Desk {
            acceptor: TlsAcceptor::from(config),
            clock,
            places: Arc::new(Semaphore::new(limits.connections)),
            sources: Sources::default(),
            strangers: Sources::default(),
            limits,
            sender,
        };
        let task = tokio::spawn(desk.run(listener));
        Ok(Self { finished, task, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stream for Acceptor {
    type Item = io::Result<Accepted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.finished.poll_recv(cx)
    }
}

/// What the accepting task owns.
struct Desk {
    acceptor: TlsAcceptor,
    clock: Clock,
    places: Arc<Semaphore>,
    /// Handshakes under way.
    sources: Sources,
    /// Connections without a certificate.
    strangers: Sources,
    limits: AcceptLimits,
    sender: mpsc::Sender<io::Result<Accepted>>,
}

impl Desk {
    async fn run(self, listener: TcpListener) {
        // Aborted with this task.
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.sender.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: give others time to close theirs.
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let full = handshakes.len() >= self.limits.handshakes;
            let ticket = self.sources.enter(address.ip(), self.limits.handshakes_per_source);
            let place = Arc::clone(&self.places).try_acquire_owned();
            let (false, Some(ticket), Ok(place)) = (full, ticket, place) else {
                tracing::debug!(%address, "a connection beyond the limits was closed");
                continue;
            };
            handshakes.spawn(self.handshake(stream, address, ticket, place));
        }
    }

    fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        ticket: SourceTicket,
        place: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + use<> {
        let acceptor = self.acceptor.clone();
        let clock = self.clock.clone();
        let within = self.limits.handshake;
        let sender = self.sender.clone();
        let strangers = self.strangers.clone();
        let (of_one, stay) = (self.limits.strangers_per_source, self.limits.stranger);
        async move {
            let finished = timeout(within, async {
                stream.set_nodelay(true)?;
                acceptor.accept(stream).await
            });
            let result = match finished.await {
                Ok(result) => result,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            drop(ticket);
            let accepted = result.and_then(|stream| {
                let info = info(&stream, address, clock.moment())?;
                let stranger = match &info.peer {
                    Some(_) => None,
                    None => {
                        let ticket = strangers.enter(address.ip(), of_one).ok_or_else(|| {
                            io::Error::other("more connections of strangers than one address has")
                        })?;
                        Some((ticket, Box::pin(tokio::time::sleep(stay))))
                    }
                };
                Ok(Accepted { stream, info, stranger, _place: place })
            });
            match accepted {
                Ok(accepted) => {
                    let _ = sender.send(Ok(accepted)).await;
                }
                // In TLS 1.3 a refused client sees its handshake end well: only here is the reason.
                Err(error) => match peer_error(&error) {
                    Some(fault) => tracing::info!(
                        %address,
                        reason = %fault.reason(),
                        fault = %fault,
                        "a peer was refused"
                    ),
                    None => tracing::debug!(%address, %error, "a handshake broke off"),
                },
            }
        }
    }
}

fn info(
    stream: &TlsStream<TcpStream>,
    address: SocketAddr,
    opened: Moment,
) -> io::Result<ConnectInfo> {
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(tls::ALPN) {
        return Err(io::Error::other("the peer does not speak h2"));
    }
    let exporter = session
        .export_keying_material([0; 32], tls::EXPORTER_LABEL, None)
        .map_err(io::Error::other)?;
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let peer = leaf.map(|leaf| Peer::parse(leaf)).transpose().map_err(io::Error::other)?;
    Ok(ConnectInfo { peer: peer.map(Arc::new), exporter, address, opened })
}

/// What is under way from each address.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct SourceTicket {
    sources: Sources,
    address: IpAddr,
}

impl Sources {
    fn enter(&self, address: IpAddr, limit: usize) -> Option<SourceTicket> {
        let mut counts = self.counts();
        let count = counts.get(&address).copied().unwrap_or(0);
        if count >= limit {
            return None;
        }
        counts.insert(address, count + 1);
        Some(SourceTicket { sources: self.clone(), address })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SourceTicket {
    fn drop(&mut self) {
        let mut counts = self.sources.counts();
        match counts.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.address);
            }
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        self.info.clone()
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Accepted({:?})", self.info)
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some((_, end)) = &mut self.stranger
            && end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Finished connections that wait for the server to take them.
const QUEUE: usize = 64;
/// One address may hold one part in so many of all connections without a certificate.
const STRANGERS_SHARE: usize = 8;
/// Longer than the longest exchange.
const STRANGER: Duration = Duration::from_secs(600);
const BREATH: Duration = Duration::from_millis(100);
