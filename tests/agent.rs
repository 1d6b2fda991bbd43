//! The agent against a real server and a real software TPM: attest, fetch, and come back from a
//! changed register, a reset, a lost TPM and a lost server.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use assay::agent;
use assay::clock::Clock;
use assay::server;
use assay_evidence::certificate::Certificate;
use assay_evidence::crypto;
use assay_proto::spire::api::server::agent::v1::BanAgentRequest;
use assay_proto::spire::api::server::agent::v1::ListAgentsRequest;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::server::entry::v1::BatchCreateEntryRequest;
use assay_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use assay_proto::spire::api::types;
use assay_proto::workload as wire;
use assay_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use socket::unix;
use stage::server_config;
use stage::until;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::Channel;

#[path = "support/socket.rs"]
mod socket;
#[path = "support/stage.rs"]
mod stage;

const GOOD_BOOT: &[u8] = b"the kernel everybody reviewed";
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, a host with its TPM, and the host's agent, in one folder.
struct World {
    folder: tempfile::TempDir,
    tpm: RunningTpm,
    server: Option<server::Running>,
    agent: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// The agent's.
    clock: Clock,
    port: u16,
}

impl World {
    async fn build() -> World {
        World::build_with(POLICY).await
    }

    async fn build_with(policy: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path().join("ca")).unwrap();
        let tpm = SoftwareTpm::provision(&ca, folder.path().join("tpm"), "host").unwrap();
        let tpm = tpm.start().unwrap();
        tpm.pcr_extend(8, GOOD_BOOT).unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("policy.toml", policy.to_owned());
        write("profile.toml", profile());
        let [root, issuer] = ca.certificates();
        write("server.toml", server_config(&root, &issuer, 0));
        let clock = Clock::machine();
        let mut world = World { folder, tpm, server: None, agent: None, clock, port: 0 };
        world.start_server().await;
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn start_server(&mut self) {
        let text = fs::read_to_string(self.path("server.toml")).unwrap();
        let text = text.replace("127.0.0.1:0", &format!("127.0.0.1:{}", self.port));
        fs::write(self.path("server.toml"), text).unwrap();
        let config = server::validate(&self.path("server.toml")).unwrap();
        let server = server::start(config, Clock::machine()).await.unwrap();
        self.port = server.address().port();
        self.server = Some(server);
    }

    async fn stop_server(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }

    fn start_agent(&mut self) {
        self.start_agent_trusting("bundle = \"bundle.pem\"");
    }

    fn start_agent_trusting(&mut self, bootstrap: &str) {
        let text = format!(
            "trust_domain = \"example.org\"\nserver = \"127.0.0.1:{}\"\ndata_dir = \"agent\"\n\
             socket = \"workload.sock\"\ndevice = \"{}\"\n[bootstrap]\n{bootstrap}\n\
             [intervals]\nretry_first = \"1s\"\nretry_longest = \"2s\"\n",
            self.port,
            self.tpm.tcti()
        );
        fs::write(self.path("agent.toml"), text).unwrap();
        let config = agent::Config::load(&self.path("agent.toml")).unwrap();
        let clock = self.clock.clone();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            agent::run_until(config, clock, stop).await.unwrap();
        });
        self.agent = Some((stop, running));
    }

    async fn stop_agent(&mut self) {
        let (stop, running) = self.agent.take().unwrap();
        stop.send(()).unwrap();
        running.await.unwrap();
    }

    async fn private(&self) -> Channel {
        unix(&self.path("server/private/api.sock")).await
    }

    /// The host as the server knows it, once it attested; waits for another serial than `not`.
    async fn node(&self, not: &str) -> types::Agent {
        until(PATIENCE, "the host attests", async || {
            let mut client = AgentClient::new(self.private().await);
            let agents = client.list_agents(ListAgentsRequest::default()).await.unwrap();
            let mut agents = agents.into_inner().agents.into_iter();
            agents.find(|agent| !["", not].contains(&agent.x509svid_serial_number.as_str()))
        })
        .await
    }

    /// An entry for the processes of this test's user on `node`.
    async fn entry(&self, name: &str, node: &types::Agent, instance: i32) {
        let uid = format!("uid:{}", nix::unistd::geteuid());
        let id = |path: String| Some(types::Spiffeid { trust_domain: "example.org".into(), path });
        let entry = types::Entry {
            spiffe_id: id(format!("/{name}")),
            parent_id: node.id.clone(),
            selectors: vec![types::Selector { r#type: "unix".into(), value: uid }],
            assay: Some(assay_proto::assay::v1::EntryExtension {
                instance,
                admit_unattested: false,
            }),
            ..types::Entry::default()
        };
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let mut client = EntryClient::new(self.private().await);
        let answer = client.batch_create_entry(request).await.unwrap().into_inner();
        let status = answer.results[0].status.clone().unwrap();
        assert_eq!(status.code, 0, "{}", status.message);
    }

    async fn workload(&self) -> SpiffeWorkloadApiClient<Channel> {
        let socket = self.path("workload.sock");
        until(PATIENCE, "the agent listens", async || socket.exists().then_some(())).await;
        SpiffeWorkloadApiClient::new(unix(&socket).await)
    }

    async fn stream(&self) -> Result<Streaming<wire::X509svidResponse>, Status> {
        let request = with_header(wire::X509svidRequest {});
        Ok(self.workload().await.fetch_x509svid(request).await?.into_inner())
    }

    async fn fetch(&self) -> Result<wire::X509svidResponse, Status> {
        self.stream().await?.message().await.map(Option::unwrap)
    }

    /// Waits for an answer with this many SVIDs: entries take a moment to reach the agent.
    async fn svids(&self, count: usize) -> Vec<wire::X509svid> {
        until(PATIENCE, "the workload has its svids", async || {
            self.fetch().await.ok().map(|answer| answer.svids).filter(|svids| svids.len() == count)
        })
        .await
    }
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

const POLICY: &str = "tpm_class = [\"software\"]\nrefresh_every = \"2s\"\nmax_age = \"6s\"\n";

fn profile() -> String {
    let extended = [[0; 32], crypto::sha256(GOOD_BOOT)].concat();
    format!(
        "schema = \"firmware-profile/1\"\nid = \"test/swtpm\"\nserial = 1\nroot = \"tpm2\"\n\
         banks = [\"sha256\"]\n[[component]]\nname = \"firmware\"\non = [0, 8]\n\
         [[component.variant]]\nname = \"1\"\nstate = \"active\"\n\
         pcr = {{ sha256 = {{ \"0\" = \"{}\", \"8\" = \"{}\" }} }}\n",
        "00".repeat(32),
        hex::encode(crypto::sha256(&extended))
    )
}

fn serial(svid: &wire::X509svid) -> String {
    hex::encode(Certificate::parse_prefix(&svid.x509_svid).unwrap().0.serial())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_attests_and_its_workload_gets_svids_of_both_kinds() {
    let mut world = World::build().await;
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    world.entry("bot", &node, 1).await;
    let svids = world.svids(2).await;
    let ids: BTreeSet<_> = svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["spiffe://example.org/bot", "spiffe://example.org/web"]));
    let mut workload = world.workload().await;
    let request = wire::JwtsvidRequest {
        audience: vec!["billing".to_owned()],
        spiffe_id: "spiffe://example.org/web".to_owned(),
    };
    let jwt = workload.fetch_jwtsvid(with_header(request)).await.unwrap().into_inner();
    let request = wire::ValidateJwtsvidRequest {
        audience: "billing".to_owned(),
        svid: jwt.svids[0].svid.clone(),
    };
    let valid = workload.validate_jwtsvid(with_header(request)).await.unwrap().into_inner();
    assert_eq!(valid.spiffe_id, "spiffe://example.org/web");
    assert!(agent::healthcheck(&world.path("workload.sock")).await.unwrap());
    // The standing outlives its first max_age only by refreshes.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(agent::healthcheck(&world.path("workload.sock")).await.unwrap());
    world.stop_agent().await;
    assert!(!world.path("workload.sock").exists());
    world.stop_server().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_register_ends_what_the_workload_gets_within_one_refresh() {
    let mut world = World::build().await;
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    world.svids(1).await;
    let mut stream = world.stream().await.unwrap();
    stream.message().await.unwrap().unwrap();
    world.tpm.pcr_extend(8, b"a kernel module nobody reviewed").unwrap();
    until(PATIENCE, "the agent learns it", async || {
        let well = agent::healthcheck(&world.path("workload.sock")).await.unwrap();
        (!well).then_some(())
    })
    .await;
    let refused = world.fetch().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("register-mismatch"), "{refused}");
    let still_open = tokio::time::timeout(Duration::from_millis(100), stream.message()).await;
    assert!(still_open.is_err(), "the open stream stays open");
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_tpm_means_a_new_svid_key_and_a_new_attestation() {
    let mut world = World::build().await;
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    world.svids(1).await;
    world.tpm.reset().unwrap();
    world.tpm.pcr_extend(8, GOOD_BOOT).unwrap();
    let again = world.node(&node.x509svid_serial_number).await;
    assert_eq!(again.id, node.id, "the same host");
    world.svids(1).await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_tpm_keeps_its_keys_and_means_a_new_attestation_all_the_same() {
    let mut world = World::build().await;
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    world.svids(1).await;
    // TPM2_Shutdown(STATE), then power off and on: the reset count stays as it is.
    world.tpm.command(&[0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 1]).unwrap();
    world.tpm.lose_power().unwrap();
    world.tpm.pcr_extend(8, GOOD_BOOT).unwrap();
    let again = world.node(&node.x509svid_serial_number).await;
    assert_eq!(again.id, node.id, "the same host");
    world.svids(1).await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_vanished_is_used_again_when_it_is_back() {
    let mut world = World::build().await;
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    let before = world.svids(1).await;
    world.tpm.vanish().unwrap();
    until(PATIENCE, "the standing runs out", async || {
        let well = agent::healthcheck(&world.path("workload.sock")).await.unwrap();
        (!well).then_some(())
    })
    .await;
    let meanwhile = world.fetch().await.unwrap();
    assert_eq!(meanwhile.svids[0].x509_svid, before[0].x509_svid, "what was issued is given out");
    world.tpm.come_back().unwrap();
    until(PATIENCE, "the host stands again", async || {
        let well = agent::healthcheck(&world.path("workload.sock")).await.unwrap();
        well.then_some(())
    })
    .await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_found_again() {
    let mut world = World::build().await;
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    let before = world.svids(1).await;
    world.stop_server().await;
    let meanwhile = world.fetch().await.unwrap();
    assert_eq!(serial(&meanwhile.svids[0]), serial(&before[0]));
    world.start_server().await;
    world.entry("db", &node, 0).await;
    world.svids(2).await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_host_ends_the_streams_of_its_workloads() {
    let mut world = World::build().await;
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    world.svids(1).await;
    let mut stream = world.stream().await.unwrap();
    stream.message().await.unwrap().unwrap();
    let mut client = AgentClient::new(world.private().await);
    client.ban_agent(BanAgentRequest { id: node.id.clone() }).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(world.fetch().await.unwrap_err().code(), Code::PermissionDenied);
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_half_of_its_svids_life_the_host_attests_anew_and_nobody_notices() {
    let policy = format!("{POLICY}agent_svid_ttl = \"20s\"\n");
    let mut world = World::build_with(&policy).await;
    world.start_agent();
    let first = world.node("").await;
    world.entry("web", &first, 0).await;
    let before = world.svids(1).await;
    let mut stream = world.stream().await.unwrap();
    stream.message().await.unwrap().unwrap();
    let second = world.node(&first.x509svid_serial_number).await;
    let third = world.node(&second.x509svid_serial_number).await;
    assert_eq!(third.id, first.id);
    assert!(!third.banned);
    assert!(agent::healthcheck(&world.path("workload.sock")).await.unwrap());
    assert_eq!(serial(&world.svids(1).await[0]), serial(&before[0]), "the workload keeps its own");
    let undisturbed = tokio::time::timeout(Duration::from_millis(100), stream.message()).await;
    assert!(undisturbed.is_err());
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_slept_attests_anew() {
    let mut world = World::build().await;
    world.clock = Clock::manual(Clock::machine().now());
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    world.svids(1).await;
    world.clock.advance(Duration::from_secs(600));
    let again = world.node(&node.x509svid_serial_number).await;
    assert_eq!(again.id, node.id);
    world.svids(1).await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_tpm_does_not_delay_what_is_there() {
    let mut world = World::build_with("tpm_class = [\"software\"]\nrefresh_every = \"1s\"\n").await;
    world.start_agent();
    let node = world.node("").await;
    world.entry("web", &node, 0).await;
    world.svids(1).await;
    // From now on every command of the TPM takes longer than all of what follows.
    world.tpm.slow_down(Duration::from_secs(5)).unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let began = std::time::Instant::now();
    for _ in 0..20 {
        world.fetch().await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    world.tpm.slow_down(Duration::ZERO).unwrap();
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_trust_by_a_danger_switch_is_kept_and_not_given_a_second_time() {
    let mut world = World::build().await;
    world.start_agent_trusting("danger_insecure = true");
    world.node("").await;
    world.stop_agent().await;
    let kept = fs::read(world.path("agent/bundle.pem")).unwrap();
    assert_eq!(kept, fs::read(world.path("bundle.pem")).unwrap());
    // Another server at the same address, with another authority, is not believed.
    world.stop_server().await;
    fs::remove_dir_all(world.path("server")).unwrap();
    world.start_server().await;
    world.start_agent_trusting("danger_insecure = true");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut client = AgentClient::new(world.private().await);
    let agents = client.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
    assert!(agents.agents.is_empty(), "{agents:?}");
    assert_eq!(fs::read(world.path("agent/bundle.pem")).unwrap(), kept);
    world.stop_agent().await;
}
