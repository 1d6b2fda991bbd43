//! Measured state in the service: a real server, a real agent and a software TPM whose registers were
//! extended as a firmware and a kernel would have, with the logs of it in files. The profile is
//! what `assay profile learn` makes of these logs.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/evidence.rs"]
mod evidence;
#[path = "../attestors/eventlog/tests/support/kernel_list.rs"]
mod kernel_list;
#[path = "support/socket.rs"]
mod socket;
#[path = "support/stage.rs"]
mod stage;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use assay::agent;
use assay::clock::Clock;
use assay::server;
use assay_eventlog::Log;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use assay_evidence::crypto;
use assay_proto::assay::v1::ExplainNodeRequest;
use assay_proto::assay::v1::ExplainNodeResponse;
use assay_proto::assay::v1::GetBlobRequest;
use assay_proto::assay::v1::ListRecordsRequest;
use assay_proto::assay::v1::admin_client::AdminClient;
use assay_proto::assay::v1::explain_node_request;
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
use evidence::corpus;
use kernel_list::Item;
use serde_json::Value;
use socket::unix;
use stage::server_config;
use stage::until;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(30);
const POLICY: &str = "tpm_class = [\"software\"]\nrefresh_every = \"1s\"\nmax_age = \"12s\"\n";
/// What the unified kernel image of our own vectors was told.
const CMDLINE: &str = "console=ttyS0 ima_policy=tcb quiet\n";

/// What a machine measured, as it is written down.
#[derive(Clone)]
struct Boot {
    log: Vec<u8>,
    list: Vec<u8>,
    cmdline: Vec<u8>,
}

impl Boot {
    /// Our own vector of a unified kernel image, and a list as a kernel would go on from it.
    fn of_the_vectors() -> Boot {
        let log = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("attestors/eventlog/vectors/log/unified-kernel.bin");
        let log = fs::read(log).unwrap();
        let mut items = vec![boot_aggregate(&log)];
        items.push(Item::ng("/etc/ima/ima-policy", b"measure func=BPRM_CHECK"));
        items.extend(["/init", "/usr/bin/assay", "/usr/bin/web"].map(item));
        Boot { log, list: kernel_list::binary(&items), cmdline: CMDLINE.into() }
    }

    /// A boot of a QEMU machine, from the corpus.
    fn captured() -> Option<Boot> {
        let folder = corpus("qemu-ovmf-swtpm/uki-baseline")?;
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        Some(Boot {
            log: read("eventlog.bin"),
            list: read("ima.bin"),
            cmdline: read("cmdline.txt"),
        })
    }

    /// As firmware and kernel do it.
    fn measure(&self, tpm: &RunningTpm) {
        for event in Log::parse(&self.log).unwrap().events().filter(|event| event.extends()) {
            let digest = event.digest(HashAlgorithm::Sha256).unwrap();
            let register = u8::try_from(event.register()).unwrap();
            tpm.pcr_extend_digest(register, digest.as_bytes().try_into().unwrap()).unwrap();
        }
        for digest in template_digests(&self.list) {
            tpm.pcr_extend_digest(10, &digest).unwrap();
        }
    }
}

/// A file whose content is its path.
fn item(path: &str) -> Item {
    Item::ng(path, path.as_bytes())
}

fn boot_aggregate(log: &[u8]) -> Item {
    let log = Log::parse(log).unwrap();
    let replay = log.replay();
    let mut registers = Registers::new();
    for register in 0..10 {
        let value = replay.value(HashAlgorithm::Sha256, register).unwrap();
        assert!(registers.insert(register, value));
    }
    Item::boot_aggregate(&registers, HashAlgorithm::Sha256, 9)
}

/// SHA-256 of each entry's data. Read by hand, so that no parser of ours stands on both sides.
fn template_digests(mut list: &[u8]) -> Vec<[u8; 32]> {
    let mut digests = Vec::new();
    while !list.is_empty() {
        let (register, rest) = list.split_at(4);
        assert_eq!(register, [10, 0, 0, 0]);
        let (_template, rest) = sized(&rest[20..]);
        let (data, rest) = sized(rest);
        digests.push(crypto::sha256(data));
        list = rest;
    }
    digests
}

fn sized(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    rest.split_at(u32::from_le_bytes(*length) as usize)
}

/// A server, a host with its TPM, and the host's agent, in one folder.
struct World {
    folder: tempfile::TempDir,
    tpm: RunningTpm,
    server: Option<server::Running>,
    agent: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    port: u16,
}

impl World {
    /// Booted, with the profile that was learned from this boot; the server runs.
    async fn booted(boot: &Boot) -> World {
        let mut world = World::with(boot);
        world.learn(1);
        world.start_server().await;
        world
    }

    fn with(boot: &Boot) -> World {
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path().join("ca")).unwrap();
        let tpm = SoftwareTpm::provision(&ca, folder.path().join("tpm"), "host").unwrap();
        let world = World { tpm: tpm.start().unwrap(), folder, server: None, agent: None, port: 0 };
        boot.measure(&world.tpm);
        world.write("eventlog.bin", &boot.log);
        world.write("ima.bin", &boot.list);
        world.write("cmdline.txt", &boot.cmdline);
        world.write("policy.toml", POLICY.as_bytes());
        let [root, issuer] = ca.certificates();
        world.write("server.toml", server_config(&root, &issuer, 0).as_bytes());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }

    fn assay(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_assay"))
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    fn learn(&self, serial: u64) {
        let _ = fs::remove_file(self.path("profile.toml"));
        let (done, said) = self.assay(&[
            "profile",
            "learn",
            "--log",
            "eventlog.bin",
            "--ima",
            "ima.bin",
            "--cmdline",
            "cmdline.txt",
            "--id",
            "test/host",
            "--out",
            "profile.toml",
        ]);
        assert!(done, "{said}");
        self.edit("profile.toml", "serial = 1", &format!("serial = {serial}"));
    }

    fn sign(&self, key: &str) {
        let (done, said) = self.assay(&["profile", "sign", "profile.toml", "--key", key]);
        assert!(done, "{said}");
    }

    async fn start_server(&mut self) {
        self.try_server().await.unwrap();
    }

    async fn try_server(&mut self) -> Result<(), String> {
        let text = fs::read_to_string(self.path("server.toml")).unwrap();
        let text = text.replace("127.0.0.1:0", &format!("127.0.0.1:{}", self.port));
        fs::write(self.path("server.toml"), text).unwrap();
        let config = server::validate(&self.path("server.toml"))
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        let server = server::start(config, Clock::machine()).await.unwrap();
        self.port = server.address().port();
        self.server = Some(server);
        Ok(())
    }

    async fn stop_server(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }

    fn start_agent(&mut self) {
        let text = format!(
            "trust_domain = \"example.org\"\nserver = \"127.0.0.1:{}\"\ndata_dir = \"agent\"\n\
             socket = \"workload.sock\"\ndevice = \"{}\"\n\
             [logs]\nboot = \"eventlog.bin\"\nima = \"ima.bin\"\ncmdline = \"cmdline.txt\"\n\
             [bootstrap]\nbundle = \"bundle.pem\"\n\
             [intervals]\nretry_first = \"1s\"\nretry_longest = \"1s\"\n",
            self.port,
            self.tpm.tcti()
        );
        self.write("agent.toml", text.as_bytes());
        let config = agent::Config::load(&self.path("agent.toml")).unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            agent::run_until(config, Clock::machine(), stop).await.unwrap();
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

    async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.private().await)
    }

    /// The host has an identity for its workload; its node id.
    async fn granted(&self) -> String {
        let node = until(PATIENCE, "the host attests", async || {
            let mut client = AgentClient::new(self.private().await);
            let agents = client.list_agents(ListAgentsRequest::default()).await.unwrap();
            let mut agents = agents.into_inner().agents.into_iter();
            agents.find(|agent| !agent.x509svid_serial_number.is_empty())
        })
        .await;
        let parent_id = node.id.unwrap();
        let node_id = parent_id.path.rsplit('/').next().unwrap().to_owned();
        let spiffe_id = types::Spiffeid { path: "/web".into(), ..parent_id.clone() };
        let uid = format!("uid:{}", nix::unistd::geteuid());
        let entry = types::Entry {
            spiffe_id: Some(spiffe_id),
            parent_id: Some(parent_id),
            selectors: vec![types::Selector { r#type: "unix".into(), value: uid }],
            ..types::Entry::default()
        };
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        EntryClient::new(self.private().await).batch_create_entry(request).await.unwrap();
        self.stands().await;
        node_id
    }

    /// Waits until the workload gets its identity (again).
    async fn stands(&self) {
        let found = until(PATIENCE, "the workload has its identity", async || {
            let answer = self.fetch().await.ok()?;
            answer.svids.into_iter().next()
        })
        .await;
        assert_eq!(found.spiffe_id, "spiffe://example.org/web");
    }

    /// Waits until workloads are refused for this reason; what the operator is told of it.
    async fn refused(&self, reason: &str) -> ExplainNodeResponse {
        let mut last = String::new();
        let told = until(PATIENCE, &format!("refused with {reason}"), async || {
            let refused = self.fetch().await.err()?;
            assert_eq!(refused.code(), Code::Unavailable, "{refused}");
            if last != refused.message() {
                println!("{}", refused.message());
            }
            last = refused.message().to_owned();
            last.contains(reason).then(|| last.clone())
        })
        .await;
        let explained = self.explained().await;
        assert_eq!(explained.code, reason, "{told}: {explained:?}");
        explained
    }

    async fn explained(&self) -> ExplainNodeResponse {
        let mut client = AgentClient::new(self.private().await);
        let agents = client.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
        let path = agents.agents[0].id.clone().unwrap().path;
        let by = explain_node_request::By::NodeId(path.rsplit('/').next().unwrap().to_owned());
        let request = ExplainNodeRequest { by: Some(by) };
        self.admin().await.explain_node(request).await.unwrap().into_inner()
    }

    async fn fetch(&self) -> Result<wire::X509svidResponse, Status> {
        let socket = self.path("workload.sock");
        until(PATIENCE, "the agent listens", async || socket.exists().then_some(())).await;
        let mut client = SpiffeWorkloadApiClient::new(unix(&socket).await);
        let mut request = Request::new(wire::X509svidRequest {});
        request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
        client.fetch_x509svid(request).await?.into_inner().message().await.map(Option::unwrap)
    }

    /// The kernel measures one more file: first in the list, then in the register.
    fn run(&self, item: &Item) {
        let record = kernel_list::binary(std::slice::from_ref(item));
        let mut list = fs::OpenOptions::new().append(true).open(self.path("ima.bin")).unwrap();
        list.write_all(&record).unwrap();
        self.tpm.pcr_extend_digest(10, &template_digests(&record)[0]).unwrap();
    }

    /// Purposes, and sizes of the lists that came with them, newest first; none where nothing came.
    async fn rounds(&self) -> Vec<(String, Option<u64>)> {
        let request = ListRecordsRequest {
            newest_first: true,
            types: vec!["evidence".to_owned()],
            ..ListRecordsRequest::default()
        };
        let answer = self.admin().await.list_records(request).await.unwrap().into_inner();
        let round = |body: &[u8]| {
            let body: Value = serde_json::from_slice(body).unwrap();
            let data = &body["data"];
            let items = data["items"].as_array().unwrap();
            let kind = "application/vnd.assay.ima-binary";
            let list = items.iter().find(|item| item["media_type"] == kind);
            let size = list.map(|list| list["size"].to_string().trim_matches('"').parse().unwrap());
            (data["purpose"].as_str().unwrap().to_owned(), size)
        };
        answer.records.iter().map(|record| round(&record.body)).collect()
    }

    /// Kinds of what the records of evidence refer to.
    async fn blobs(&self) -> Vec<String> {
        let types = vec!["evidence".to_owned()];
        let request = ListRecordsRequest { newest_first: true, types, ..Default::default() };
        let mut admin = self.admin().await;
        let answer = admin.list_records(request).await.unwrap().into_inner();
        let mut kinds = Vec::new();
        for record in answer.records {
            let body: Value = serde_json::from_slice(&record.body).unwrap();
            for found in body["refs"].as_array().unwrap().iter().filter(|r| r["kind"] == "blob") {
                let sha256 = hex::decode(found["id"].as_str().unwrap()).unwrap();
                let blob = admin.get_blob(GetBlobRequest { sha256 }).await.unwrap();
                kinds.push(blob.into_inner().media_type);
            }
        }
        kinds
    }

    /// Waits for the rounds that come after those that were.
    async fn next_rounds(&self, count: usize) -> Vec<(String, Option<u64>)> {
        let before = self.rounds().await.len();
        until(PATIENCE, "another round", async || {
            let mut rounds = self.rounds().await;
            let new = rounds.len() - before;
            rounds.truncate(new);
            (new >= count).then_some(rounds)
        })
        .await
    }
}

const REFRESH: &str = "refresh";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_judged_by_its_logs_and_a_refresh_by_what_is_new_in_them() {
    let boot = Boot::of_the_vectors();
    let mut world = World::booted(&boot).await;
    world.start_agent();
    world.granted().await;
    let whole = boot.list.len() as u64;
    assert_eq!(world.rounds().await.last().unwrap(), &("attest".to_owned(), Some(whole)));
    let quiet = world.next_rounds(2).await;
    assert!(quiet.iter().all(|round| *round == (REFRESH.to_owned(), None)), "{quiet:?}");

    // A file that the profile knows runs again under another name.
    let again = Item::ng("/opt/web", b"/usr/bin/web");
    world.run(&again);
    let size = kernel_list::binary(&[again]).len() as u64;
    let rounds = world.next_rounds(3).await;
    assert!(rounds.contains(&(REFRESH.to_owned(), Some(size))), "{rounds:?}");
    assert!(rounds.iter().all(|(_, size)| *size != Some(whole)), "{rounds:?}");
    world.stands().await;

    // What was judged is in the store: a server that was away goes on from there.
    world.stop_server().await;
    let more = item("/usr/bin/assay");
    world.run(&more);
    world.start_server().await;
    let rounds = world.next_rounds(3).await;
    let tail = kernel_list::binary(&[more]).len() as u64;
    assert!(rounds.contains(&(REFRESH.to_owned(), Some(tail))), "{rounds:?}");

    // A file that nobody knows.
    world.run(&item("/tmp/unknown"));
    let told = world.refused("ima-file-unknown").await;
    let found = &told.findings[0];
    assert_eq!(found.claim, "ima.entry.7", "its place in the whole list");
    assert!(found.found.contains("/tmp/unknown"), "{found:?}");
    assert!(found.source.contains("test/host"), "{found:?}");
    assert!(world.blobs().await.iter().any(|kind| kind.ends_with(".ima-state")), "of the refusal");
    // And it stays lost: an attestation looks at the whole list again.
    let rounds = world.next_rounds(2).await;
    assert!(rounds.iter().all(|(purpose, _)| purpose == "attest"), "{rounds:?}");
    let length = fs::metadata(world.path("ima.bin")).unwrap().len();
    assert!(rounds.iter().all(|(_, size)| *size == Some(length)), "{rounds:?}");

    // Another boot, in which it did not run.
    world.tpm.reset().unwrap();
    world.write("ima.bin", &boot.list);
    boot.measure(&world.tpm);
    world.stands().await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_boot_of_a_virtual_machine_is_judged_as_it_was_captured() {
    let Some(boot) = Boot::captured() else { return };
    let mut world = World::booted(&boot).await;
    world.start_agent();
    world.granted().await;
    world.next_rounds(1).await;
    world.run(&item("/usr/bin/unknown"));
    world.refused("ima-file-unknown").await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_longer_than_what_an_exchange_keeps_is_judged_as_it_comes() {
    let mut boot = Boot::of_the_vectors();
    let name = "a-long-name/".repeat(12);
    let files: Vec<Item> = (0..20_000).map(|n| item(&format!("/usr/{name}{n}"))).collect();
    boot.list.extend(kernel_list::binary(&files));
    assert!(boot.list.len() > 3 * 1_024 * 1_024);
    let mut world = World::booted(&boot).await;
    world.start_agent();
    world.granted().await;
    let quiet = world.next_rounds(2).await;
    assert!(quiet.iter().all(|round| *round == (REFRESH.to_owned(), None)), "{quiet:?}");
    world.run(&item("/tmp/unknown"));
    let told = world.refused("ima-file-unknown").await;
    assert_eq!(told.findings[0].claim, "ima.entry.20005");
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_extended_by_hand_ends_the_identity_at_the_next_refresh() {
    for register in [4, 9, 10] {
        let mut world = World::booted(&Boot::of_the_vectors()).await;
        world.start_agent();
        world.granted().await;
        world.tpm.pcr_extend(register, b"by hand").unwrap();
        let told = world.refused("log-replay-mismatch").await;
        if register != 10 {
            let claims: Vec<_> = told.findings.iter().map(|found| &found.claim).collect();
            assert!(told.findings[0].claim.contains(&format!(".{register}")), "{claims:?}");
        }
        world.stop_agent().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_were_edited_or_left_out_are_refused_and_good_ones_are_taken_again() {
    let boot = Boot::of_the_vectors();
    let mut world = World::booted(&boot).await;
    world.start_agent();
    world.granted().await;

    let mut edited = boot.log.clone();
    *edited.last_mut().unwrap() ^= 1;
    let with = |change: fn(&mut Boot)| {
        let mut boot = boot.clone();
        change(&mut boot);
        boot
    };
    let cut = |boot: &mut Boot| boot.list.truncate(boot.list.len() / 2);
    for (what, boot, reason) in [
        ("text of an event", Boot { log: edited, ..boot.clone() }, "log-event-unbound"),
        ("an event left out", without_an_event(&boot), "log-replay-mismatch"),
        ("no log", with(|boot| boot.log.clear()), "evidence-missing"),
        ("no list", with(|boot| boot.list.clear()), "evidence-missing"),
        ("half a list", with(cut), "trailing-bytes"),
        (
            "another boot's list",
            with(|boot| boot.list = kernel_list::binary(&[item("/x")])),
            "log-replay-mismatch",
        ),
        ("no command line", with(|boot| boot.cmdline.clear()), "ima-policy-unproven"),
        ("another command line", with(|boot| boot.cmdline.push(b'x')), "ima-policy-unproven"),
    ] {
        world.stop_agent().await;
        for (name, bytes) in
            [("eventlog.bin", &boot.log), ("ima.bin", &boot.list), ("cmdline.txt", &boot.cmdline)]
        {
            world.write(name, bytes);
            if bytes.is_empty() {
                fs::remove_file(world.path(name)).unwrap();
            }
        }
        world.start_agent();
        println!("{what}");
        world.refused(reason).await;
    }
    world.stop_agent().await;
    world.write("eventlog.bin", &boot.log);
    world.write("ima.bin", &boot.list);
    world.write("cmdline.txt", &boot.cmdline);
    world.start_agent();
    world.stands().await;
    world.stop_agent().await;
}

/// The last one of register 11 is gone.
fn without_an_event(boot: &Boot) -> Boot {
    let log = Log::parse(&boot.log).unwrap();
    // Register, type, count, algorithm, digest, size, data; the header event is none of these.
    let size = |data: &[u8]| 4 + 4 + 4 + 2 + 32 + 4 + data.len();
    let events: Vec<_> = log.events().collect();
    let last = events.iter().rposition(|event| event.register() == 11).unwrap();
    let behind: usize = events[last + 1..].iter().map(|event| size(event.data())).sum();
    let end = boot.log.len() - behind;
    let rest = [&boot.log[..end - size(events[last].data())], &boot.log[end..]].concat();
    Boot { log: rest, ..boot.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_was_cut_is_borne_while_nothing_new_was_measured_and_no_longer() {
    let boot = Boot::of_the_vectors();
    let mut world = World::booted(&boot).await;
    world.start_agent();
    world.granted().await;
    world.next_rounds(1).await;
    world.write("ima.bin", &boot.list[..boot.list.len() / 2]);
    let rounds = world.next_rounds(2).await;
    assert!(rounds.iter().all(|round| *round == (REFRESH.to_owned(), None)), "{rounds:?}");
    world.stands().await;
    // The register moves on, and the list that explains it does not.
    let new = item("/usr/bin/web");
    let record = kernel_list::binary(&[new]);
    world.tpm.pcr_extend_digest(10, &template_digests(&record)[0]).unwrap();
    world.refused("trailing-bytes").await;
    // A good host comes back by itself.
    world.write("ima.bin", &[boot.list, record].concat());
    world.stands().await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_another_profile_the_host_is_refused_and_all_of_its_list_is_judged_anew() {
    let boot = Boot::of_the_vectors();
    let mut world = World::booted(&boot).await;
    world.start_agent();
    world.granted().await;
    world.next_rounds(1).await;

    // A new serial that no longer knows a file of the part that was judged.
    world.stop_server().await;
    let before = fs::read_to_string(world.path("profile.toml")).unwrap();
    let gone = hex::encode(crypto::sha256(b"/usr/bin/web"));
    world.edit("profile.toml", &gone, &"ee".repeat(32));
    world.edit("profile.toml", "serial = 1", "serial = 3");
    world.start_server().await;
    let told = world.refused("ima-file-unknown").await;
    assert!(told.findings[0].source.contains("serial 3"), "{told:?}");
    assert_eq!(told.findings[0].claim, "ima.entry.4");

    // Another kernel than the one that was booted.
    world.stop_server().await;
    let log = Log::parse(&boot.log).unwrap();
    let kernel = log.events().find(|event| event.register() == 11).unwrap();
    let kernel = hex::encode(kernel.digest(HashAlgorithm::Sha256).unwrap().as_bytes());
    world.write("profile.toml", before.as_bytes());
    world.edit("profile.toml", &kernel, &"ee".repeat(32));
    world.edit("profile.toml", "serial = 1", "serial = 4");
    world.start_server().await;
    world.refused("register-mismatch").await;

    // The right one again, by its own serial.
    world.stop_server().await;
    world.write("profile.toml", before.as_bytes());
    world.edit("profile.toml", "serial = 1", "serial = 5");
    world.start_server().await;
    world.stands().await;

    // Nobody goes back, whatever happened to the standing in between.
    world.stop_server().await;
    world.edit("profile.toml", "serial = 5", "serial = 4");
    world.start_server().await;
    let told = world.refused("profile-rollback").await;
    assert_eq!((told.findings[0].found.as_str(), told.findings[0].expected.as_str()), ("4", "5"));
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_put_back_is_refused_even_after_the_standing_was_lost() {
    let boot = Boot::of_the_vectors();
    let mut world = World::with(&boot);
    world.learn(2);
    world.start_server().await;
    world.start_agent();
    world.granted().await;
    world.run(&item("/tmp/unknown"));
    world.refused("ima-file-unknown").await;
    world.stop_server().await;
    // This one would allow the file.
    world.learn(1);
    world.start_server().await;
    world.refused("profile-rollback").await;
    world.stop_agent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_for_profiles_only_what_they_signed_is_taken() {
    let mut world = World::with(&Boot::of_the_vectors());
    world.learn(1);
    for name in ["signer", "stranger"] {
        let key = rcgen::KeyPair::generate().unwrap();
        world.write(&format!("{name}.pem"), key.serialize_pem().as_bytes());
        world.write(&format!("{name}.pub"), key.public_key_pem().as_bytes());
    }
    world.edit("server.toml", "[nodes]\n", "[nodes]\nprofile_keys = [\"signer.pub\"]\n");
    let unsigned = world.try_server().await.unwrap_err();
    assert!(unsigned.contains("profile.toml.dsse"), "{unsigned}");

    world.sign("stranger.pem");
    let by_a_stranger = world.try_server().await.unwrap_err();
    println!("{by_a_stranger}");
    world.sign("signer.pem");
    world.edit("profile.toml", "serial = 1", "serial = 2");
    let edited = world.try_server().await.unwrap_err();
    println!("{edited}");
    world.edit("profile.toml", "serial = 2", "serial = 1");
    world.start_server().await;
    world.start_agent();
    world.granted().await;
    world.stop_agent().await;
}
