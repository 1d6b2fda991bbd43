//! The Unix socket of the Workload API: anybody on the host may connect (mode 0777), and who it is
//! is asked of the kernel before the first byte is read.
//!
//! Bounded: so many connections in all, a quarter of them for one user, so that a workload that
//! opens connections without end shuts out itself and nobody else.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

use crate::agent::authority::Authority;
use crate::agent::share::Place;
use crate::agent::share::Places;
use crate::workload::Peer;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenerError {
    #[error("`{}`: another agent listens there", .0.display())]
    InUse(PathBuf),
    #[error("`{}`: there is something else at this place", .0.display())]
    Occupied(PathBuf),
    #[error("`{}`: cannot listen", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

/// The socket; its file goes away with it.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    places: Arc<Places>,
}

/// An accepted connection whose peer is known.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    authority: Authority,
    peer: Arc<Peer>,
    _place: Place,
}

/// What a call finds in its extensions.
#[derive(Debug, Clone)]
pub struct ConnectedPeer(pub Arc<Peer>);

impl Listener {
    /// Listens at `path`, in place of a socket that a dead agent left behind.
    pub fn open(path: &Path, connections: usize) -> Result<Self, ListenerError> {
        let failed = |source| ListenerError::Listen { path: path.to_path_buf(), source };
        clear(path)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
        let places = Places::new(connections);
        Ok(Self { listener, path: path.to_path_buf(), places })
    }

    /// Accepts until the receiving end is gone.
    pub async fn run(self, accepted: mpsc::Sender<io::Result<Connection>>) {
        loop {
            let stream = tokio::select! {
                stream = self.listener.accept() => stream,
                () = accepted.closed() => return,
            };
            match stream {
                Ok((stream, _)) => {
                    let Some(connection) = self.admit(stream) else { continue };
                    if accepted.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // Out of descriptors, most likely: waiting is all there is to do.
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(&self, stream: UnixStream) -> Option<Connection> {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::info!(%error, "connection refused");
                return None;
            }
        };
        let Some(place) = Places::take(&self.places, peer.uid()) else {
            tracing::warn!(pid = peer.pid(), uid = peer.uid(), "too many connections");
            return None;
        };
        let authority = Authority::default();
        Some(Connection { stream, authority, peer: Arc::new(peer), _place: place })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket at which nobody listens.
fn clear(path: &Path) -> Result<(), ListenerError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(ListenerError::Occupied(path.to_path_buf()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ListenerError::InUse(path.to_path_buf())),
        Err(_) => fs::remove_file(path)
            .map_err(|source| ListenerError::Listen { path: path.to_path_buf(), source }),
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectedPeer;

    fn connect_info(&self) -> ConnectedPeer {
        ConnectedPeer(Arc::clone(&self.peer))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(new) = buffer.filled_mut().get_mut(before..) {
            self.authority.follow(new);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/s");
        fs::create_dir(folder.path().join("run")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::open(&path, 8).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
        assert!(matches!(Listener::open(&path, 8), Err(ListenerError::InUse(_))));
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert!(matches!(Listener::open(&path, 8), Err(ListenerError::Occupied(_))));
    }
}
