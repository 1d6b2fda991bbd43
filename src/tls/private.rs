//! The operator's socket: a Unix socket in a folder that is nobody else's, answered only to root
//! and to the user that the server runs as.

use std::fs;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::private;

/// Who is at the other end, by SO_PEERCRED: the actor of administrative acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    pub uid: u32,
    pub gid: u32,
    /// 0 where the kernel does not tell.
    pub pid: i32,
}

/// The listening socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct PrivateListener {
    listener: UnixListener,
    path: PathBuf,
    own_uid: u32,
}

/// A connection from somebody who may be answered.
#[derive(Debug)]
pub struct PrivateStream {
    stream: UnixStream,
    operator: Operator,
}

impl PrivateListener {
    /// Binds `path`. Its folder is made with mode 0700, or must have no more than that and be our
    /// own. A socket file that nobody answers on is replaced.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let own_uid = rustix::process::geteuid().as_raw();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.ok_or_else(|| refused(path, "has no folder of its own"))?;
        private::open_folder(folder)?.map_err(|exposed| {
            refused(
                folder,
                match exposed.is_foreign() {
                    true => "belongs to another user",
                    false => "is open to others; its mode must be 0700",
                },
            )
        })?;
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), own_uid })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn may_speak(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own_uid
    }

    fn admit(&self, stream: UnixStream) -> Option<PrivateStream> {
        let credentials = stream.peer_cred().ok()?;
        let operator = Operator {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid: credentials.pid().unwrap_or(0),
        };
        if !self.may_speak(operator.uid) {
            tracing::warn!(
                uid = operator.uid,
                pid = operator.pid,
                "a process of another user tried the private socket"
            );
            return None;
        }
        Some(PrivateStream { stream, operator })
    }
}

/// A file of a server that is gone is in the way; a living one, or anything else, is not ours.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(refused(path, "is there and is no socket"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("`{}` is answered by another process", path.display()),
        )),
        Err(_) => fs::remove_file(path),
    }
}

fn refused(path: &Path, fault: &str) -> io::Error {
    let text = format!("`{}` {fault}", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

impl Stream for PrivateListener {
    type Item = io::Result<PrivateStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, _))) => {
                    if let Some(stream) = self.admit(stream) {
                        return Poll::Ready(Some(Ok(stream)));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for PrivateListener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Connected for PrivateStream {
    type ConnectInfo = Operator;

    fn connect_info(&self) -> Operator {
        self.operator
    }
}

impl AsyncRead for PrivateStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PrivateStream {
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn our_own_user_is_let_in_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private/admin.sock");
        let mut listener = PrivateListener::bind(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&path), 0o600);
        let _client = UnixStream::connect(&path).await.unwrap();
        let stream = listener.next().await.unwrap().unwrap();
        let operator = stream.connect_info();
        assert_eq!(operator.uid, rustix::process::geteuid().as_raw());
        assert_eq!(operator.pid, i32::try_from(std::process::id()).unwrap());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn another_user_is_not_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private/admin.sock");
        let mut listener = PrivateListener::bind(&path).unwrap();
        // As if the server ran as somebody else: neither root nor us.
        listener.own_uid = 4_000_000;
        assert!(!listener.may_speak(4_000_001) && listener.may_speak(0));
        if rustix::process::geteuid().is_root() {
            return;
        }
        let _client = UnixStream::connect(&path).await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(50), listener.next()).await;
        assert!(nothing.is_err());
    }

    #[tokio::test]
    async fn a_folder_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o750)).unwrap();
        let error = PrivateListener::bind(&open.join("admin.sock")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private/admin.sock");
        let living = PrivateListener::bind(&path).unwrap();
        let error = PrivateListener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(living);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        PrivateListener::bind(&path).unwrap();
        fs::write(&path, b"").unwrap();
        let error = PrivateListener::bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
