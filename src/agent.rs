//! The agent: proves the host it runs on to the server, again and again, and gives the workloads
//! on that host their identities over the SPIFFE Workload API.
//!
//! ```text
//! node ── TPM, server ──→ identities ←── rotation
//!                             ↑
//!     workload ── socket ── workload_api
//! ```
//! The two halves meet in [`identities`] and nowhere else: the node says what this host may have,
//! the Workload API gives out what is there. So no workload ever waits for the TPM's handshakes.
//!
//! It judges nothing about the host it runs on; that is the server's. It keeps no private key on
//! disk: its own is in the TPM, those of workloads are in memory.

mod attestation;
mod authority;
mod bundle;
mod caller;
mod config;
mod following;
mod health;
mod host;
mod host_logs;
mod host_tpm;
mod identities;
mod listener;
mod node;
mod rotation;
mod share;
mod socket;
mod tee;
mod tokens;
mod upstream;
mod workload_api;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use assay_proto::health::v1::HealthCheckRequest;
use assay_proto::health::v1::health_check_response::ServingStatus;
use assay_proto::health::v1::health_client::HealthClient;
use hyper_util::rt::TokioIo;
use rustix::process::DumpableBehavior;
use tokio::net::UnixStream;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tonic::transport::Endpoint;

use crate::agent::caller::Callers;
use crate::agent::identities::Identities;
use crate::agent::listener::Listener;
use crate::agent::node::Node;
use crate::agent::rotation::Rotation;
use crate::agent::share::Places;
use crate::agent::tokens::Tokens;
use crate::agent::upstream::Upstream;
use crate::agent::workload_api::MAX_STREAMS;
use crate::agent::workload_api::PATIENCE;
use crate::agent::workload_api::WorkloadApi;
use crate::clock::Clock;
use crate::private;

pub use config::Bootstrap;
pub use config::Config;
pub use config::ConfigError;
pub use config::Intervals;
pub use config::Limits;

/// Verdicts of the server that wait for the driver; one would do.
const VERDICTS: usize = 4;
const HEALTH_ANSWER: Duration = Duration::from_secs(5);

/// Runs the agent until SIGTERM or SIGINT.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // Keys of workloads are in this memory: no core dumps, no debugger of the same user.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("core dumps cannot be switched off")?;
    let mut terminate = signal(SignalKind::terminate()).context("no signals to be had")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals to be had")?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
    };
    run_until(config, Clock::machine(), stop).await
}

/// Runs the agent until `stop` is there. The socket listens before the host is attested, so that
/// workloads that come early wait instead of failing.
pub async fn run_until(
    config: Config,
    clock: Clock,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    private_folder(&config.data_dir)?;
    let listener = Listener::open(&config.socket, config.limits.connections)?;
    let identities = Arc::new(Identities::new(clock.clone()));
    let callers = Arc::new(Callers::new(config.limits.executable_bytes, clock.clone()));
    let tokens = Arc::new(Tokens::default());
    let channel = watch::Sender::new(None);
    let (send, verdicts) = mpsc::channel(VERDICTS);
    let upstream = Upstream::new(config.trust_domain.clone(), channel.subscribe(), send);
    let api = WorkloadApi {
        clock: clock.clone(),
        identities: Arc::clone(&identities),
        callers: Arc::clone(&callers),
        tokens: Arc::clone(&tokens),
        upstream: upstream.clone(),
        streams: Places::new(MAX_STREAMS),
        patience: PATIENCE,
    };
    let rotation = Rotation {
        clock: clock.clone(),
        identities: Arc::clone(&identities),
        callers,
        upstream: upstream.clone(),
    };
    let drain = config.intervals.drain;
    tracing::info!(
        socket = %config.socket.display(), server = config.server,
        trust_domain = %config.trust_domain, "agent started"
    );
    let node = Node {
        config,
        clock,
        identities,
        tokens,
        channel,
        upstream,
        verdicts,
        stands_until: Duration::ZERO,
    };
    let node = tokio::spawn(node.run());
    let rotation = tokio::spawn(rotation.run());
    let served = socket::serve(listener, api, drain, stop).await;
    rotation.abort();
    node.abort();
    tracing::info!("agent stopped");
    served.context("the workload api ended")
}

/// What can be looked at without touching TPM, socket or server: each line is one thing found in
/// order.
pub fn validate(config: &Config) -> anyhow::Result<Vec<String>> {
    let mut found = vec![format!("trust domain {}", config.trust_domain)];
    match &config.bootstrap {
        Bootstrap::Bundle(path) => {
            let authorities = bundle::load(path)?;
            found.push(format!("{}: {} authorities", path.display(), authorities.len()));
        }
        Bootstrap::DangerInsecure => found.push(
            "danger_insecure: whatever server answers first is believed for ever after".to_owned(),
        ),
    }
    if let Some(node) = config.device.strip_prefix("device:") {
        fs::metadata(node).with_context(|| format!("`{node}`: no such device"))?;
        found.push(format!("{node}: is there"));
    }
    Ok(found)
}

/// Asks a running agent whether its host is attested.
pub async fn healthcheck(socket: &Path) -> anyhow::Result<bool> {
    let path = socket.to_path_buf();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://agent")
        .connect_timeout(HEALTH_ANSWER)
        .timeout(HEALTH_ANSWER)
        .connect_with_connector(connector)
        .await
        .with_context(|| format!("no agent answers at `{}`", socket.display()))?;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await?.into_inner();
    Ok(answer.status() == ServingStatus::Serving)
}

/// Nobody else reads or plants what is kept here.
fn private_folder(path: &Path) -> anyhow::Result<()> {
    private::open_folder(path)
        .with_context(|| format!("`{}`: cannot be made", path.display()))?
        .with_context(|| format!("`{}`: the bundle in it may be planted", path.display()))
}

#[cfg(test)]
mod tests;
