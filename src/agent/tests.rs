//! The Workload API as a client sees it: a real gRPC client over a real socket, in front of a
//! signing server that really signs (with a key in memory) and can be told to be slow or away.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod signer;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::certificate::Certificate;
use assay_evidence::time::Time;
use assay_proto::health::v1::HealthCheckRequest;
use assay_proto::health::v1::health_client::HealthClient;
use assay_proto::workload as wire;
use assay_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::agent::Config;
use crate::agent::caller::Callers;
use crate::agent::host::HostState;
use crate::agent::identities::Held;
use crate::agent::identities::Identities;
use crate::agent::identities::MOST_HELD;
use crate::agent::identities::MOST_OF_USER;
use crate::agent::identities::Slot;
use crate::agent::identities::Whose;
use crate::agent::listener::Listener;
use crate::agent::rotation;
use crate::agent::rotation::Rotation;
use crate::agent::run_until;
use crate::agent::share::Places;
use crate::agent::socket;
use crate::agent::tests::signer::Signer;
use crate::agent::tokens::Tokens;
use crate::agent::upstream::Upstream;
use crate::agent::workload_api::MAX_STREAMS;
use crate::agent::workload_api::PATIENCE;
use crate::agent::workload_api::WorkloadApi;
use crate::clock::Clock;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::EntryParams;
use crate::spiffe::Instance;
use crate::spiffe::Selector;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;
use crate::workload::Peer;

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

/// An entry for every process of this test's user.
fn entry(name: &str, revision: i64, change: impl FnOnce(&mut EntryParams)) -> Entry {
    let mut params = EntryParams {
        id: EntryId::parse(name).unwrap(),
        spiffe_id: domain().member(&format!("/{name}")).unwrap(),
        parent_id: domain().node("00112233445566778899aabbccddeeff").unwrap(),
        selectors: BTreeSet::from([own_uid()]),
        x509_svid_ttl: Duration::ZERO,
        jwt_svid_ttl: Duration::ZERO,
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        hint: String::new(),
        instance: Instance::Shared,
        admit_unattested: false,
        jwt_include_jti: false,
    };
    change(&mut params);
    Entry::new(params, &domain(), Time::from_unix_s(1), revision).unwrap()
}

fn own_uid() -> Selector {
    Selector::new("unix", &format!("uid:{}", nix::unistd::geteuid())).unwrap()
}

/// An agent without a node: everything between the workload's socket and the server's API.
struct Agent {
    folder: tempfile::TempDir,
    clock: Clock,
    identities: Arc<Identities>,
    signer: Signer,
    channel: watch::Sender<Option<Channel>>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    rotating: JoinHandle<()>,
}

impl Agent {
    /// Attested, with these entries.
    async fn start(entries: Vec<Entry>) -> Agent {
        Agent::start_with(entries, PATIENCE).await
    }

    async fn start_with(entries: Vec<Entry>, patience: Duration) -> Agent {
        let agent = Agent::start_unattested(patience).await;
        agent.identities.set_entries(entries);
        agent.identities.set_bundle(agent.signer.bundle());
        agent.identities.set_state(HostState::Attested);
        agent
    }

    async fn start_unattested(patience: Duration) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Clock::machine().now());
        let signer = Signer::start(domain(), clock.clone()).await;
        let channel = watch::Sender::new(Some(signer.channel()));
        let identities = Arc::new(Identities::new(clock.clone()));
        let callers = Arc::new(Callers::new(1 << 30, clock.clone()));
        let (verdicts, _) = mpsc::channel(8);
        let upstream = Upstream::new(domain(), channel.subscribe(), verdicts);
        let api = WorkloadApi {
            clock: clock.clone(),
            identities: Arc::clone(&identities),
            callers: Arc::clone(&callers),
            tokens: Arc::new(Tokens::default()),
            upstream: upstream.clone(),
            streams: Places::new(MAX_STREAMS),
            patience,
        };
        let rotation = Rotation {
            clock: clock.clone(),
            identities: Arc::clone(&identities),
            callers,
            upstream,
        };
        let listener = Listener::open(&folder.path().join("s"), 64).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            socket::serve(listener, api, Duration::from_secs(5), stop).await.unwrap();
        });
        let rotating = tokio::spawn(rotation.run());
        let stop = Some(stop);
        Agent { folder, clock, identities, signer, channel, stop, serving, rotating }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    async fn client(&self) -> Client {
        Client(SpiffeWorkloadApiClient::new(self.connect().await))
    }

    async fn connect(&self) -> Channel {
        let path = self.socket();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://workload");
        endpoint.connect_with_connector(connector).await.unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.serving.abort();
        self.rotating.abort();
    }
}

/// A workload's side.
struct Client(SpiffeWorkloadApiClient<Channel>);

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

impl Client {
    async fn x509(&mut self) -> Result<Streaming<wire::X509svidResponse>, Status> {
        let request = with_header(wire::X509svidRequest {});
        Ok(self.0.fetch_x509svid(request).await?.into_inner())
    }

    async fn x509_once(&mut self) -> Result<wire::X509svidResponse, Status> {
        self.x509().await?.message().await.map(|message| message.unwrap())
    }

    async fn jwt(&mut self, audience: &[&str], id: &str) -> Result<Vec<wire::Jwtsvid>, Status> {
        let audience = audience.iter().map(|text| (*text).to_owned()).collect();
        let request = wire::JwtsvidRequest { audience, spiffe_id: id.to_owned() };
        Ok(self.0.fetch_jwtsvid(with_header(request)).await?.into_inner().svids)
    }

    async fn validate(&mut self, svid: &str, audience: &str) -> Result<String, Status> {
        let request =
            wire::ValidateJwtsvidRequest { audience: audience.to_owned(), svid: svid.to_owned() };
        let answer = self.0.validate_jwtsvid(with_header(request)).await?.into_inner();
        assert!(answer.claims.unwrap().fields.contains_key("exp"));
        Ok(answer.spiffe_id)
    }
}

fn leaf(svid: &wire::X509svid) -> Certificate {
    Certificate::parse_prefix(&svid.x509_svid).unwrap().0
}

#[tokio::test]
async fn a_matching_process_gets_its_svid_with_key_and_bundle() {
    let agent = Agent::start(vec![entry("web", 1, |e| e.hint = "main".to_owned())]).await;
    let answer = agent.client().await.x509_once().await.unwrap();
    let [svid] = answer.svids.as_slice() else { panic!("{answer:?}") };
    assert_eq!(svid.spiffe_id, "spiffe://example.org/web");
    assert_eq!(svid.hint, "main");
    let certificate = leaf(svid);
    let key = assay_evidence::crypto::SoftwareKey::from_pkcs8(&svid.x509_svid_key).unwrap();
    assert_eq!(certificate.spki_der(), key.public_key().to_spki());
    assert_eq!(
        rotation::identity(&certificate),
        Some(SpiffeId::parse("spiffe://example.org/web").unwrap())
    );
    assert_eq!(svid.bundle, agent.signer.bundle().x509_authorities.concat());
}

#[tokio::test]
async fn a_call_without_the_header_is_refused() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let bare = client.0.fetch_x509svid(wire::X509svidRequest {}).await.unwrap_err();
    assert_eq!(bare.code(), Code::InvalidArgument);
    let mut wrong = Request::new(wire::JwtsvidRequest::default());
    wrong.metadata_mut().insert("workload.spiffe.io", "TRUE".parse().unwrap());
    assert_eq!(client.0.fetch_jwtsvid(wrong).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_process_that_no_entry_matches_has_no_identity() {
    let agent = Agent::start(vec![entry("other", 1, |e| {
        e.selectors.insert(Selector::new("unix", "path:/usr/bin/other").unwrap());
    })])
    .await;
    let mut client = agent.client().await;
    assert_eq!(client.x509_once().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.jwt(&["a"], "").await.unwrap_err().code(), Code::PermissionDenied);
    let request = with_header(wire::X509BundlesRequest {});
    let mut stream = client.0.fetch_x509_bundles(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
    let request = with_header(wire::JwtBundlesRequest {});
    let mut stream = client.0.fetch_jwt_bundles(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn bundles_come_in_both_forms() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let request = with_header(wire::X509BundlesRequest {});
    let mut stream = client.0.fetch_x509_bundles(request).await.unwrap().into_inner();
    let bundles = stream.message().await.unwrap().unwrap().bundles;
    assert_eq!(bundles["spiffe://example.org"], agent.signer.bundle().x509_authorities.concat());
    let request = with_header(wire::JwtBundlesRequest {});
    let mut stream = client.0.fetch_jwt_bundles(request).await.unwrap().into_inner();
    let bundles = stream.message().await.unwrap().unwrap().bundles;
    let jwks: serde_json::Value = serde_json::from_slice(&bundles["spiffe://example.org"]).unwrap();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_is_issued_verified_and_refused_for_another_audience() {
    let agent = Agent::start(vec![entry("web", 1, |_| ()), entry("db", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let svids = client.jwt(&["billing"], "spiffe://example.org/web").await.unwrap();
    let [svid] = svids.as_slice() else { panic!("{svids:?}") };
    let token = &svid.svid;
    let valid = client.validate(token, "billing").await.unwrap();
    assert_eq!(valid, "spiffe://example.org/web");
    let wrong = client.validate(token, "payroll").await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let tampered = format!("{}x", token.trim_end_matches('x'));
    let wrong = client.validate(&tampered, "billing").await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert_eq!(client.validate(token, "").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.jwt(&["a"], "").await.unwrap().len(), 2, "all identities of the caller");
}

#[tokio::test]
async fn a_token_for_nobody_or_for_another_is_refused() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    assert_eq!(client.jwt(&[], "").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.jwt(&[""], "").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.jwt(&["a"], "web").await.unwrap_err().code(), Code::InvalidArgument);
    let many: Vec<_> = (0..17).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(client.jwt(&many, "").await.unwrap_err().code(), Code::InvalidArgument);
    let other = client.jwt(&["a"], "spiffe://example.org/db").await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_token_is_given_again_to_half_life_and_while_the_server_is_away() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let mut fetch = async || client.jwt(&["a"], "").await.map(|svids| svids[0].svid.clone());
    let first = fetch().await.unwrap();
    assert_eq!(fetch().await.unwrap(), first);
    agent.clock.advance(Duration::from_secs(200));
    let second = fetch().await.unwrap();
    assert_ne!(second, first);
    agent.channel.send_replace(None);
    agent.clock.advance(Duration::from_secs(200));
    assert_eq!(fetch().await.unwrap(), second);
    agent.clock.advance(Duration::from_secs(200));
    assert_eq!(fetch().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn tokens_with_an_id_are_never_given_twice() {
    let agent = Agent::start(vec![entry("web", 1, |e| e.jwt_include_jti = true)]).await;
    let mut client = agent.client().await;
    let first = client.jwt(&["a"], "").await.unwrap();
    assert_ne!(client.jwt(&["a"], "").await.unwrap()[0].svid, first[0].svid);
}

#[tokio::test]
async fn witness_tokens_are_not_implemented() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let request = with_header(wire::WitsvidRequest::default());
    assert_eq!(client.0.fetch_witsvid(request).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn an_open_stream_sees_rotation_changed_bundles_and_new_entries() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    let mut next = async || stream.message().await.unwrap().unwrap();
    let first = next().await;
    // Past half-life and its tenth of jitter.
    agent.clock.advance(Duration::from_secs(3_600 * 6 / 10));
    agent.identities.retry_now();
    let second = next().await;
    assert_ne!(leaf(&second.svids[0]).serial(), leaf(&first.svids[0]).serial());
    assert_ne!(second.svids[0].x509_svid_key, first.svids[0].x509_svid_key);
    let mut bundle = agent.signer.bundle();
    bundle.sequence += 1;
    bundle.x509_authorities.push(bundle.x509_authorities[0].clone());
    agent.identities.set_bundle(bundle);
    let third = next().await;
    assert_eq!(third.svids[0].x509_svid, second.svids[0].x509_svid);
    assert_ne!(third.svids[0].bundle, second.svids[0].bundle);
    agent.identities.set_entries(vec![entry("web", 1, |_| ()), entry("db", 1, |_| ())]);
    assert_eq!(next().await.svids.len(), 2);
    agent.identities.set_entries(vec![entry("db", 1, |_| ())]);
    assert_eq!(next().await.svids[0].spiffe_id, "spiffe://example.org/db");
    agent.identities.set_entries(Vec::new());
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_changed_entry_is_signed_anew() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    agent.identities.set_entries(vec![entry("web", 2, |_| ())]);
    let second = stream.message().await.unwrap().unwrap();
    assert_ne!(leaf(&second.svids[0]).serial(), leaf(&first.svids[0]).serial());
}

#[tokio::test]
async fn a_stale_host_keeps_streams_and_gives_what_was_issued_and_nothing_new() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    agent.identities.set_state(HostState::Stale);
    let signed = agent.signer.signed();
    agent.clock.advance(Duration::from_secs(3_000));
    agent.identities.retry_now();
    let again = agent.client().await.x509_once().await.unwrap();
    assert_eq!(again.svids[0].x509_svid, first.svids[0].x509_svid);
    assert_eq!(agent.signer.signed(), signed, "nothing was asked for");
    agent.identities.set_state(HostState::Attested);
    let second = stream.message().await.unwrap().unwrap();
    assert_ne!(second.svids[0].x509_svid, first.svids[0].x509_svid, "the stream had stayed open");
}

#[tokio::test]
async fn a_refused_host_gives_nothing_to_newcomers_and_keeps_open_streams() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    stream.message().await.unwrap().unwrap();
    client.jwt(&["a"], "").await.unwrap();
    agent.identities.set_state(HostState::refused("pcr-mismatch"));
    let refused = agent.client().await.x509_once().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("pcr-mismatch"), "{refused}");
    let refused = client.jwt(&["a"], "").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "also of what was issued before");
    agent.clock.advance(Duration::from_secs(3_000));
    agent.identities.set_state(HostState::Attested);
    stream.message().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_banned_host_ends_its_streams() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    stream.message().await.unwrap().unwrap();
    agent.identities.set_state(HostState::Banned);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.x509_once().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.jwt(&["a"], "").await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_entry_that_runs_out_ends_the_stream() {
    let end = Clock::machine().now() + Duration::from_secs(600);
    let agent = Agent::start(vec![entry("web", 1, |e| e.expires_at = Some(end))]).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    stream.message().await.unwrap().unwrap();
    agent.clock.advance(Duration::from_secs(601));
    agent.identities.retry_now();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_workload_whose_svid_does_not_come_is_told_so_in_the_end() {
    let agent = Agent::start_with(Vec::new(), Duration::from_millis(100)).await;
    agent.signer.refuse("web");
    agent.identities.set_entries(vec![entry("web", 1, |_| ())]);
    let error = agent.client().await.x509_once().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_workload_that_comes_before_the_host_is_attested_waits() {
    let agent = Agent::start_unattested(PATIENCE).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    agent.identities.set_bundle(agent.signer.bundle());
    agent.identities.set_entries(vec![entry("web", 1, |_| ())]);
    agent.identities.set_state(HostState::Attested);
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
}

#[tokio::test]
async fn processes_with_an_entry_of_kind_process_have_keys_of_their_own() {
    let agent = Agent::start(vec![entry("bot", 1, |e| e.instance = Instance::Process)]).await;
    let own = agent.client().await.x509_once().await.unwrap();
    let again = agent.client().await.x509_once().await.unwrap();
    assert_eq!(own.svids[0].x509_svid, again.svids[0].x509_svid, "one process, one identity");
    let facts = agent.signer.facts();
    assert_eq!(facts.len(), 1);
    let fact = facts[0].clone().unwrap();
    assert_eq!(fact.pid, std::process::id());
    assert_eq!(fact.executable_sha256.len(), 32);
    assert_ne!(fact.start_time, 0);
}

#[tokio::test]
async fn a_selector_of_the_digest_matches_also_a_caller_that_came_before_it() {
    let agent = Agent::start_unattested(PATIENCE).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let own = format!("sha256:{}", hex::encode(assay_evidence::crypto::sha256(&own)));
    let digest = |value: &str| {
        let selector = Selector::new("unix", value).unwrap();
        entry("web", 1, |e| e.selectors = BTreeSet::from([selector]))
    };
    agent.identities.set_bundle(agent.signer.bundle());
    agent.identities.set_entries(vec![digest(&own)]);
    agent.identities.set_state(HostState::Attested);
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
    let other = format!("sha256:{}", "00".repeat(32));
    agent.identities.set_entries(vec![digest(&other)]);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_slow_server_does_not_delay_what_is_there() {
    let agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    client.x509_once().await.unwrap();
    let signed = agent.signer.signed();
    agent.signer.hold();
    agent.identities.set_entries(vec![entry("web", 2, |_| ())]);
    agent.signer.reached().await;
    // The device signs; meanwhile what was issued is given out.
    let answer = client.x509_once().await.unwrap();
    assert_eq!(answer.svids.len(), 1);
    assert_eq!(agent.signer.signed(), signed);
    agent.signer.release();
}

#[tokio::test]
async fn one_entry_that_cannot_be_signed_does_not_hold_up_another() {
    let agent = Agent::start(Vec::new()).await;
    agent.signer.refuse("db");
    agent.identities.set_entries(vec![entry("web", 1, |_| ())]);
    let mut client = agent.client().await;
    client.x509_once().await.unwrap();
    let path = Selector::new("unix", "path:/nobody").unwrap();
    let db = entry("db", 1, |e| e.selectors = BTreeSet::from([path]));
    agent.identities.set_entries(vec![entry("web", 2, |_| ()), db]);
    client.x509_once().await.unwrap();
}

#[tokio::test]
async fn an_svid_for_another_key_or_identity_is_thrown_away() {
    let agent = Agent::start(Vec::new()).await;
    agent.signer.confuse_keys(true);
    agent.identities.set_entries(vec![entry("web", 1, |_| ())]);
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    while agent.signer.signed() == 0 {
        tokio::task::yield_now().await;
    }
    let nothing = tokio::time::timeout(Duration::from_millis(200), stream.message()).await;
    assert!(nothing.is_err(), "nothing was given");
    agent.signer.confuse_keys(false);
    agent.clock.advance(Duration::from_secs(60));
    agent.identities.retry_now();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
}

#[tokio::test]
async fn health_follows_the_host() {
    let agent = Agent::start_unattested(PATIENCE).await;
    let mut health = HealthClient::new(agent.connect().await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.map(|answer| answer.into_inner().status)
    };
    assert_eq!(check("").await.unwrap(), 2);
    assert_eq!(check("liveness").await.unwrap(), 1);
    agent.identities.set_state(HostState::Attested);
    assert_eq!(check("").await.unwrap(), 1);
    assert_eq!(check("SpiffeWorkloadAPI").await.unwrap(), 1);
    assert_eq!(check("none").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_stopping_agent_ends_streams_and_removes_its_socket() {
    let mut agent = Agent::start(vec![entry("web", 1, |_| ())]).await;
    let mut client = agent.client().await;
    let mut stream = client.x509().await.unwrap();
    stream.message().await.unwrap().unwrap();
    agent.stop.take().unwrap().send(()).unwrap();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    drop((stream, client));
    while agent.socket().exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_data_folder_that_others_could_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = "trust_domain = \"example.org\"\nserver = \"127.0.0.1:1\"\ndata_dir = \"data\"\n\
                socket = \"agent.sock\"\ndevice = \"device:/dev/tpmrm0\"\n\
                [bootstrap]\nbundle = \"bundle.pem\"\n";
    std::fs::write(path("agent.toml"), text).unwrap();
    let config = Config::load(&path("agent.toml")).unwrap();
    std::fs::create_dir(path("data")).unwrap();
    let mode = |mode| std::fs::set_permissions(path("data"), PermissionsExt::from_mode(mode));
    mode(0o775).unwrap();
    let run = || run_until(config.clone(), Clock::machine(), std::future::ready(()));
    let refused = format!("{:#}", run().await.unwrap_err());
    assert!(refused.contains("planted") && refused.contains("0775"), "{refused}");
    mode(0o700).unwrap();
    let started = run().await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(!started.contains("planted"), "{started}");
}

fn held(entry: &Entry, peer: Option<Arc<Peer>>, clock: &Clock) -> Held {
    let hour = Duration::from_secs(3_600);
    Held {
        id: entry.spiffe_id().clone(),
        chain: Vec::new(),
        serial: String::new(),
        not_after: clock.now() + hour,
        hint: String::new(),
        key: Vec::new().into(),
        entry_revision: entry.revision(),
        renew_at: clock.boot() + hour,
        peer,
    }
}

#[test]
fn a_full_table_asks_for_nothing_that_it_could_not_keep() {
    let clock = Clock::manual(Time::from_unix_s(1_000));
    let identities = Identities::new(clock.clone());
    let entries: Vec<_> = (0..=MOST_HELD).map(|n| entry(&format!("e{n:05}"), 1, |_| ())).collect();
    let slot = |entry: &Entry| Slot { entry: entry.id().clone(), instance: Whose::Shared };
    identities.set_entries(entries.clone());
    for entry in &entries[1..] {
        identities.hold(slot(entry), held(entry, None, &clock));
    }
    assert!(identities.due(10).is_empty(), "there is no place for the first one");
    identities.hold(slot(&entries[0]), held(&entries[0], None, &clock));
    assert!(identities.due(10).is_empty(), "nor is it due again at once");
    identities.set_entries(entries[..MOST_HELD].to_vec());
    let due: Vec<_> = identities.due(10).into_iter().map(|due| due.slot).collect();
    assert_eq!(due, [slot(&entries[0])]);
}

#[test]
fn what_fails_is_left_alone_however_much_failed_before() {
    let clock = Clock::manual(Time::from_unix_s(1_000));
    let identities = Identities::new(clock.clone());
    let last = entry("last", 1, |_| ());
    identities.set_entries(vec![last.clone()]);
    let slot = |id: &str| Slot { entry: EntryId::parse(id).unwrap(), instance: Whose::Shared };
    for n in 0..MOST_HELD {
        identities.fail(&slot(&format!("e{n:05}")));
    }
    assert_eq!(identities.due(10).len(), 1);
    identities.fail(&slot("last"));
    assert!(identities.due(10).is_empty());
}

#[tokio::test]
async fn one_user_s_processes_get_a_quarter_of_the_places() {
    let clock = Clock::machine();
    let identities = Identities::new(clock.clone());
    let (stream, _other) = UnixStream::pair().unwrap();
    let peer = Arc::new(Peer::of(&stream).unwrap());
    let caller = Callers::new(0, clock.clone()).read(&peer, false).await.unwrap();
    let own = |n: usize| entry(&format!("e{n:05}"), 1, |e| e.instance = Instance::Process);
    let shared = entry("shared", 1, |_| ());
    let entries: Vec<_> = (0..MOST_OF_USER + 88).map(own).chain([shared]).collect();
    identities.set_bundle(Signer::start(domain(), clock.clone()).await.bundle());
    identities.set_entries(entries.clone());
    identities.answer(&caller);
    let due = identities.due(MOST_HELD);
    assert_eq!(due.iter().filter(|due| due.peer.is_some()).count(), MOST_OF_USER);
    assert!(due.iter().any(|due| due.peer.is_none()), "what all share is not counted");
    // Those that are there count as those that are awaited, and are renewed.
    for due in due {
        identities.hold(due.slot, held(&due.entry, due.peer, &clock));
    }
    identities.answer(&caller);
    assert!(identities.due(MOST_HELD).is_empty());
}
