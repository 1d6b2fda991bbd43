//! Connections of the command line: to a server's private socket, to an agent's Workload API.

use std::future::Future;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::cli::output::Answer;
use crate::cli::output::Failure;

const DEADLINE: Duration = Duration::from_secs(30);

/// Where the server's private socket is.
#[derive(clap::Args, Debug)]
pub struct ServerSocket {
    /// Private socket of the server
    #[arg(
        long = "socket",
        value_name = "PATH",
        env = "ASSAY_SERVER_SOCKET",
        default_value = "/var/lib/assay/server/private/api.sock"
    )]
    pub path: PathBuf,
}

/// Where the agent's Workload API is.
#[derive(clap::Args, Debug)]
pub struct WorkloadSocket {
    /// Workload API socket of the agent, a path or `unix:` address
    #[arg(
        long = "socket",
        value_name = "PATH",
        env = "SPIFFE_ENDPOINT_SOCKET",
        default_value = "unix:/run/assay/agent/workload.sock"
    )]
    pub address: String,
}

impl ServerSocket {
    pub async fn connect(&self) -> Result<Channel, Failure> {
        connect(&self.path).await.map_err(|error| {
            Failure::new(format!("no server answers at `{}`: {error}", self.path.display()))
                .hint("give its private socket with --socket or ASSAY_SERVER_SOCKET")
        })
    }
}

impl WorkloadSocket {
    pub async fn connect(&self) -> Result<Channel, Failure> {
        let path = self.address.strip_prefix("unix:").unwrap_or(&self.address);
        // `unix:///path` and `unix:/path` are both in use.
        let path = path.strip_prefix("//").unwrap_or(path);
        connect(Path::new(path)).await.map_err(|error| {
            Failure::new(format!("no agent answers at `{}`: {error}", self.address))
                .hint("give its Workload API socket with --socket or SPIFFE_ENDPOINT_SOCKET")
        })
    }
}

async fn connect(path: &Path) -> std::io::Result<Channel> {
    let stream = UnixStream::connect(path).await?;
    let mut stream = Some(stream);
    // The address is never resolved: the one connection is already there.
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection ended"));
        async move { stream.map(TokioIo::new) }
    });
    Endpoint::from_static("http://local")
        .timeout(DEADLINE)
        .connect_with_connector(connector)
        .await
        .map_err(std::io::Error::other)
}

/// Runs one command on a small runtime of its own.
pub fn block_on(command: impl Future<Output = Result<Answer, Failure>>) -> Result<Answer, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?
        .block_on(command)
}
