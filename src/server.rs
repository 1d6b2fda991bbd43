//! The server's face: verifier, registry, authority and records behind SPIRE's server API.
//!
//! It starts in the order of trust: clock, store, issuing keys with the proof of where they live,
//! authority, then the listeners; nothing is served before all of that stands. It stops the other
//! way round: agents are told, open calls get their time, the store is closed last.
//!
//! What it deliberately does not do: it holds no key outside of its custody, and it never judges
//! by what a peer says of itself.

mod api;
mod attest;
mod authorization;
pub mod config;
mod domain;
mod gate;
mod identity;
mod limit;
mod nodes;
mod refusal;
mod registry;
mod thinning;
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use assay_evidence::crypto::SystemRandom;
use assay_proto::assay::v1::admin_server::AdminServer;
use assay_proto::assay::v1::node_server::NodeServer;
use assay_proto::health::v1::HealthCheckRequest;
use assay_proto::health::v1::health_check_response::ServingStatus;
use assay_proto::health::v1::health_client::HealthClient;
use assay_proto::health::v1::health_server::HealthServer;
use assay_proto::spire::api::server::agent::v1::agent_server::AgentServer;
use assay_proto::spire::api::server::bundle::v1::bundle_server::BundleServer;
use assay_proto::spire::api::server::entry::v1::entry_server::EntryServer;
use assay_proto::spire::api::server::svid::v1::svid_server::SvidServer;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic::transport::Server as RpcServer;

use crate::appraisal::DangerPermit;
use crate::ca::Authority;
use crate::ca::AuthorityConfig;
use crate::ca::Life;
use crate::clock::Clock;
use crate::endorsement::Endorsements;
use crate::exchange;
use crate::keys;
use crate::keys::KeysConfig;
use crate::server::config::Config;
use crate::server::config::Custody;
use crate::server::domain::Domain;
use crate::server::gate::Gate;
use crate::store::Store;
use crate::tls::AcceptLimits;
use crate::tls::Acceptor;
use crate::tls::PrivateListener;
use crate::tls::Trust;

/// What one frame of the exchange needs around it in SPIRE's messages.
const AROUND_FRAME: usize = 64 * 1_024;
/// A message that asks for signatures: a full batch of requests with RSA-2048 keys, about 0.8 KiB
/// each, and some room.
const MAX_SIGNING: usize = 512 * 1_024;
/// Calls open at once on one connection.
const STREAMS: u32 = 256;
/// A connection whose peer does not answer a ping is closed.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WITHIN: Duration = Duration::from_secs(20);

type GatedServer = RpcServer<tower::layer::util::Stack<Gate, tower::layer::util::Identity>>;

/// A server that serves.
pub struct Running {
    domain: Arc<Domain>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<Result<(), tonic::transport::Error>>>,
    followers: Vec<JoinHandle<()>>,
}

/// Serves until SIGINT or SIGTERM, then drains.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let running = start(config, Clock::machine()).await?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("signals cannot be received")?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    running.stop().await
}

/// Starts everything; once this returns, calls are answered.
pub async fn start(config: Config, clock: Clock) -> anyhow::Result<Running> {
    let began = clock.boot();
    let store_path = config.data_dir.join("assay.db");
    let store = {
        let (clock, trust_domain) = (clock.clone(), config.trust_domain.clone());
        tokio::task::spawn_blocking(move || Store::open(&store_path, &trust_domain, clock))
            .await?
            .context("the store cannot be opened")?
    };
    let found = store.found();
    tracing::info!(
        server_id = store.origin().server_id,
        records = found.records,
        nodes = found.nodes,
        entries = found.entries,
        standings = found.standings,
        recovered = found.recovered,
        "store open"
    );
    if let Some(behind) = found.clock_behind {
        tracing::warn!(
            code = assay_evidence::reason::Reason::ClockBehind.code(),
            behind_s = behind.as_secs(),
            "the clock is behind the newest record: all standings were ended"
        );
    }

    let keys = {
        let keys = keys_config(&config)?;
        if config.nodes.danger_admit_vendor_roots {
            let danger = "danger_admit_vendor_roots";
            tracing::warn!(danger, "any TPM that a vendor made is let in");
        }
        if !config.nodes.danger_extra_roots.is_empty() {
            let danger = "danger_extra_roots";
            tracing::warn!(danger, "processors of no vendor count where the policy allows them");
        }
        let (folder, trust_domain) = (config.data_dir.clone(), config.trust_domain.clone());
        let clock = clock.clone();
        tokio::task::spawn_blocking(move || {
            keys::open(&keys, &folder, &trust_domain, &clock, &mut SystemRandom::new())
        })
        .await?
        .context("the issuing keys cannot be opened")?
    };
    let custody = keys.x509.custody().class();
    let authority = Authority::open(
        keys,
        &store,
        AuthorityConfig {
            ca_ttl: config.svid.ca_ttl,
            x509_svid_ttl: config.svid.x509_ttl,
            jwt_svid_ttl: config.svid.jwt_ttl,
            agent_svid_ttl: config.nodes.policy.agent_svid_ttl,
            ..AuthorityConfig::new(config.trust_domain.clone(), config.sha256)
        },
        clock.clone(),
        Box::new(SystemRandom::new()),
    )
    .await
    .context("the authority cannot be opened")?;
    if let Life::NearEnd { left } = authority.life() {
        tracing::warn!(left_s = left.as_secs(), "the authority is near its end");
    }

    let bundle = authority.bundle();
    let trust = Trust::new(config.trust_domain.clone(), &bundle.x509_authorities)
        .context("the trust bundle cannot be used")?;
    if let Some(path) = &config.bundle_export {
        identity::export(path, &bundle).context("the bundle cannot be exported")?;
    }
    let listen = config.listen;
    let limits = AcceptLimits::of(config.limits.connections);
    let endorsements = {
        let config = config.endorsements();
        let clock = clock.clone();
        tokio::task::spawn_blocking(move || Endorsements::open(config, clock))
            .await?
            .context("the cache of endorsements cannot be opened")?
    };
    let domain = Domain::new(config, clock.clone(), store, authority, endorsements);
    let domain = Arc::new(domain);
    let (own, renewal) = identity::open(domain.clone()).await?;
    let tls = crate::tls::server_config(&trust, &own)?;

    let private = PrivateListener::bind(&domain.config.socket)
        .with_context(|| format!("cannot listen on {}", domain.config.socket.display()))?;
    let tcp =
        TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let acceptor = Acceptor::new(tcp, tls, limits, clock.clone())?;
    let address = acceptor.address();

    let stop = watch::Sender::new(false);
    let listeners = vec![
        tokio::spawn(rpc(&domain).serve_with_incoming_shutdown(
            routes(&domain),
            acceptor,
            stopped(stop.subscribe()),
        )),
        tokio::spawn(rpc(&domain).serve_with_incoming_shutdown(
            routes(&domain),
            private,
            stopped(stop.subscribe()),
        )),
    ];
    let followers = vec![
        renewal,
        identity::follow_bundle(domain.clone(), trust),
        thinning::hourly(domain.clone()),
    ];
    let ready = clock.boot().saturating_sub(began);
    tracing::info!(
        trust_domain = domain.config.trust_domain.as_str(),
        listen = %address,
        socket = %domain.config.socket.display(),
        custody = %custody,
        ready_ms = u64::try_from(ready.as_millis()).unwrap_or(u64::MAX),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    Ok(Running { domain, address, stop, listeners, followers })
}

/// Asks the server of this configuration whether it serves.
pub async fn healthcheck(config: &Config) -> anyhow::Result<()> {
    let path = config.socket.clone();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://private")
        .timeout(Duration::from_secs(5))
        .connect_with_connector(connect)
        .await
        .with_context(|| format!("no server answers on {}", config.socket.display()))?;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel).check(request).await?.into_inner();
    anyhow::ensure!(answer.status() == ServingStatus::Serving, "the server is draining");
    Ok(())
}

/// Reads a configuration and everything that it names; starts nothing.
pub fn validate(path: &Path) -> Result<Config, config::ConfigError> {
    Config::load(path)
}

impl Running {
    /// Where agents connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells the agents, gives open calls their time, closes the store.
    pub async fn stop(self) -> anyhow::Result<()> {
        let drain = self.domain.config.drain;
        tracing::info!(within_s = drain.as_secs(), "draining");
        self.domain.begin_drain();
        self.stop.send_replace(true);
        for follower in &self.followers {
            follower.abort();
        }
        let end = tokio::time::Instant::now() + drain;
        for mut listener in self.listeners {
            if tokio::time::timeout_at(end, &mut listener).await.is_err() {
                tracing::warn!("calls were still open at the end of the drain");
                listener.abort();
            }
        }
        self.domain.store.close().await.context("the store was not closed")?;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error says that the server is gone, which is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn rpc(domain: &Arc<Domain>) -> GatedServer {
    RpcServer::builder()
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_WITHIN))
        .layer(Gate(domain.clone()))
}

fn routes(domain: &Arc<Domain>) -> Routes {
    let frame = exchange::MAX_FRAME + AROUND_FRAME;
    let agent = AgentServer::new(api::agent::AgentApi(domain.clone()));
    let node = NodeServer::new(api::node::NodeApi(domain.clone()));
    let svid = SvidServer::new(api::svid::SvidApi(domain.clone()));
    Routes::new(agent.max_decoding_message_size(frame))
        .add_service(node.max_decoding_message_size(frame))
        .add_service(EntryServer::new(api::entry::EntryApi(domain.clone())))
        .add_service(svid.max_decoding_message_size(MAX_SIGNING))
        .add_service(BundleServer::new(api::bundle::BundleApi(domain.clone())))
        .add_service(AdminServer::new(api::admin::AdminApi(domain.clone())))
        .add_service(HealthServer::new(api::health::HealthApi(domain.clone())))
}

fn keys_config(config: &Config) -> anyhow::Result<KeysConfig> {
    match &config.custody {
        Custody::Software => {
            let permit = DangerPermit::from_switch("danger_software_keys", true);
            tracing::warn!(danger = "danger_software_keys", "issuing keys live in memory");
            Ok(KeysConfig::Software(permit.context("no permit")?))
        }
        #[cfg(feature = "tpm")]
        Custody::Tpm { tcti, anchors } => Ok(KeysConfig::Tpm(keys::TpmConfig {
            tcti: tcti.clone(),
            settings: Default::default(),
            anchors: anchors.clone(),
        })),
        #[cfg(not(feature = "tpm"))]
        Custody::Tpm { .. } => anyhow::bail!("this build knows no TPM: it lacks feature `tpm`"),
    }
}
