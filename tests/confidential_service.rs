//! Confidential machines and the service: reports of SNP and TDX beside a real software TPM, told to
//! a real server. No such hardware is here: a SIMULATOR stands for the kernel's configfs-tsm, and
//! the reports lead to roots of the tests' own (`danger_extra_roots`).
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use assay::agent;
use assay::clock::Clock;
use assay::endorsement::Cache;
use assay::endorsement::Room;
use assay::endorsement::Roots;
use assay::endorsement::Subject;
use assay::envelope::Item;
use assay::envelope::MediaType;
use assay::exchange::Attester;
use assay::exchange::Log;
use assay_eventlog::Draft;
use assay_eventlog::EventRecord;
use assay_eventlog::EventType;
use assay_eventlog::Format;
use assay_evidence::BindingInput;
use assay_evidence::Certificate;
use assay_evidence::Face;
use assay_evidence::Nonce;
use assay_evidence::binding::Purpose;
use assay_evidence::crypto;
use assay_proto::assay::v1::ListNodesRequest;
use assay_proto::assay::v1::ListRecordsRequest;
use assay_proto::attestation as wire;
use assay_proto::spire::api::server::agent::v1::ListAgentsRequest;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_snp::Product;
use assay_snp::report::SigningKey;
use assay_tdx::endorsement::TcbUpdate;
use forge::Machine;
use forge::RevocationDraft;
use forge::amd;
use host::Attestation;
use host::Attested;
use host::Host;
use host::Refreshing;
use host::Refusal;
use house::House;
use prost::Message;
use serde_json::Value;
use simulator::Platform;
use simulator::Simulator;
use stand_in::Reply;
use stand_in::VendorStandIn;
use tdx_forge::Recipe;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::block_in_place;

#[path = "../attestors/snp/tests/support/forge.rs"]
mod forge;
#[allow(dead_code)]
#[path = "server_attacks/host.rs"]
mod host;
#[allow(dead_code)]
#[path = "server_attacks/house.rs"]
mod house;
#[path = "../attestors/tsm/tests/support/simulator.rs"]
mod simulator;
#[path = "support/vendor_stand_in.rs"]
mod stand_in;
#[path = "../attestors/tdx/tests/support/forge.rs"]
mod tdx_forge;

/// The hosts' TPMs count as virtual ones, which the default policy wants tied to a processor.
const POLICY: &str = "tpm_class = [\"vtpm\"]\nrefresh_every = \"1s\"\nmax_age = \"20s\"\n";
/// Nobody publishes revocation lists for the tests' own processors.
const NO_LIST: &str = "require_revocation = false\n";
const BARE_SNP: &str = "[snp]\nallow_operator_root = true\n";
const BARE_TDX: &str = "[tdx]\noperator_supplied_root = true\n";

/// The tables that accept the tests' own processors and what is launched on them.
fn snp() -> String {
    format!("{NO_LIST}{BARE_SNP}measurement = [\"{}\"]\n", "4d".repeat(48))
}

fn tdx() -> String {
    format!("{BARE_TDX}mrtd = [\"{}\"]\n", "55".repeat(48))
}

/// A processor of the tests' own: whatever report data it is asked for, it signs.
#[derive(Clone)]
enum Processor {
    Snp { machine: Box<Machine>, table: Vec<u8> },
    Tdx(Box<Recipe>),
}

/// What a dishonest agent has its processor sign.
enum Said {
    /// The binding, as it should be.
    Binding,
    /// The binding changed.
    Other(fn(&mut BindingInput)),
}

/// The house, and the files that its configuration names.
struct World {
    house: House,
    /// The boot log of a TD, where its agent sends one.
    ccel: Option<Vec<u8>>,
    _files: TempDir,
}

impl Processor {
    fn snp() -> Processor {
        Processor::of(Machine::milan())
    }

    fn of(mut machine: Machine) -> Processor {
        machine.vek.not_after = "491231000000Z";
        let vlek = machine.vek.subject == "SEV-VLEK";
        let table = machine.show().host_table(vlek);
        Processor::Snp { machine: Box::new(machine), table }
    }

    fn tdx() -> Processor {
        Processor::Tdx(Box::new(recipe()))
    }

    fn kinds(&self) -> Vec<MediaType> {
        match self {
            Processor::Snp { .. } => vec![MediaType::SnpReport, MediaType::SnpHostCerts],
            Processor::Tdx(_) => vec![MediaType::TdxQuote],
        }
    }

    fn root(&self) -> Vec<u8> {
        match self {
            Processor::Snp { machine, .. } => machine.ark.sign(),
            Processor::Tdx(recipe) => recipe.build().root.der().to_vec(),
        }
    }

    fn report(&self, data: &[u8]) -> Vec<u8> {
        match self {
            Processor::Snp { machine, .. } => {
                let mut report = machine.report.clone();
                report[0x050..0x090].copy_from_slice(data);
                forge::signed_report(&report, "vek")
            }
            Processor::Tdx(recipe) => {
                let mut recipe = recipe.clone();
                recipe.set(tdx_forge::REPORT_DATA, data);
                recipe.build().quote
            }
        }
    }

    fn items(&self, data: &[u8; 64]) -> Vec<Item> {
        let report = self.report(data);
        match self {
            Processor::Snp { table, .. } => vec![
                Item { media_type: MediaType::SnpReport, bytes: report },
                Item { media_type: MediaType::SnpHostCerts, bytes: table.clone() },
            ],
            Processor::Tdx(_) => vec![Item { media_type: MediaType::TdxQuote, bytes: report }],
        }
    }

    /// The kernel of a guest on it.
    fn simulator(&self) -> Simulator {
        let (processor, padding) = (self.clone(), vec![0; 16]);
        let (provider, table) = match self {
            Processor::Snp { table, .. } => ("sev_guest", table.clone()),
            Processor::Tdx(_) => ("tdx_guest", Vec::new()),
        };
        Simulator::start(Platform {
            provider,
            privilege_floor: None,
            answer: Box::new(move |data: &[u8], _: &str| {
                ([processor.report(data), padding.clone()].concat(), table.clone())
            }),
            interfere: 0,
        })
    }
}

/// Collateral that is in force for as long as these tests may run.
fn recipe() -> Recipe {
    const UNTIL: &str = "491231000000Z";
    Recipe::with(|recipe| {
        for document in [&mut recipe.tcb_info, &mut recipe.qe_identity] {
            document["nextUpdate"] = "2049-12-31T00:00:00Z".into();
        }
        recipe.root_crl.until = UNTIL;
        recipe.pck_crl.until = UNTIL;
        recipe.padding = Vec::new();
    })
}

impl World {
    /// With `policy` behind the usual lines, and the roots of these processors.
    async fn open(policy: &str, processors: &[&Processor]) -> World {
        World::with_class("vtpm", &format!("{POLICY}{policy}"), processors).await
    }

    async fn with_class(class: &str, policy: &str, processors: &[&Processor]) -> World {
        World::with_services(class, policy, processors, "fetch = false\n").await
    }

    /// Judging launches by a profile of this root that has these values of register 0.
    async fn with_launch(
        root: &str,
        values: &[&str],
        policy: &str,
        processor: &Processor,
    ) -> World {
        let mut profile = format!(
            "schema = \"firmware-profile/1\"\nid = \"acme/guest\"\nserial = 3\nroot = \"{root}\"\n\
             banks = [\"sha384\"]\n[[component]]\nname = \"launch\"\non = [0]\n"
        );
        for (number, value) in values.iter().enumerate() {
            profile.push_str(&format!(
                "[[component.variant]]\nname = \"v{number}\"\nstate = \"active\"\n\
                 pcr = {{ sha384 = {{ \"0\" = \"{value}\" }} }}\n"
            ));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("launch.toml");
        fs::write(&path, profile).unwrap();
        let services = "fetch = false\n";
        let policy = format!("{POLICY}{policy}");
        let launches = format!("launch_profiles = [\"{}\"]\n", path.display());
        World::with_lines("vtpm", &policy, &[processor], services, &launches).await
    }

    /// With these lines about the vendors' services.
    async fn with_services(
        class: &str,
        policy: &str,
        processors: &[&Processor],
        services: &str,
    ) -> World {
        World::with_lines(class, policy, processors, services, "").await
    }

    /// And with these lines about the nodes.
    async fn with_lines(
        class: &str,
        policy: &str,
        processors: &[&Processor],
        services: &str,
        nodes: &str,
    ) -> World {
        let files = tempfile::tempdir().unwrap();
        let policy_path = files.path().join("policy.toml");
        fs::write(&policy_path, policy).unwrap();
        let mut roots = Vec::new();
        for (number, processor) in processors.iter().enumerate() {
            let path = files.path().join(format!("root-{number}.der"));
            fs::write(&path, processor.root()).unwrap();
            roots.push(format!("\"{}\"", path.display()));
        }
        let house = House::open_with(Clock::machine(), |text| {
            text.replace("\"policy.toml\"", &format!("\"{}\"", policy_path.display()))
                .replace(
                    "[nodes]\n",
                    &format!("[nodes]\n{nodes}danger_extra_roots = [{}]\n", roots.join(", ")),
                )
                .replace("class = \"software\"", &format!("class = \"{class}\""))
                .replace("[keys]\n", &format!("[endorsements]\n{services}[keys]\n"))
        })
        .await;
        World { house, ccel: None, _files: files }
    }

    async fn host(&self, processor: Option<&Processor>) -> Host {
        let mut host = self.house.admitted("host").await;
        host.facts.kinds.extend(processor.map(Processor::kinds).unwrap_or_default());
        host
    }

    /// A revocation list of the processor's root, with these serial numbers.
    fn keep_list(&self, processor: &Processor, this_update: &'static str, revoked: &[u8]) {
        let Processor::Snp { machine, .. } = processor else { panic!("no list") };
        let list = RevocationDraft {
            this_update,
            next_update: "491231000000Z",
            revoked: revoked.iter().map(|serial| vec![*serial]).collect(),
            ..RevocationDraft::empty()
        };
        let shown = machine.as_ref().clone().with(|machine| machine.crl = Some(list)).show();
        let root = Certificate::parse(&shown.ark).unwrap();
        let subject = Subject::SnpCrl { product: Product::Milan, kind: SigningKey::Vcek };
        self.keep(subject, shown.crl.unwrap(), root);
    }

    /// The collateral that the server would have fetched.
    fn keep_collateral(&self, processor: &Processor) {
        let Processor::Tdx(recipe) = processor else { return };
        let built = recipe.build();
        let quote = assay_tdx::Quote::parse(&built.quote).unwrap();
        let wanted = assay_tdx::endorsement::wants(&quote, TcbUpdate::Standard).unwrap();
        self.keep(Subject::TdxCollateral(wanted), built.collateral, built.root);
    }

    fn keep(&self, subject: Subject, body: Vec<u8>, root: Certificate) {
        let roots = Arc::new(Roots::with_operator_roots(vec![root]));
        let folder = self.house.folder.path().join("data/endorsements");
        let cache = Cache::open(&folder, roots, Room::default()).unwrap();
        let entry = cache.verify(subject, body, Clock::machine().now()).unwrap();
        cache.keep(entry).unwrap();
    }

    async fn attest(&self, host: &Host, processor: &Processor) -> Result<Attested, Refusal> {
        self.attest_saying(host, processor, &Said::Binding).await
    }

    /// A whole attestation, with a report over what `said` makes of the binding.
    async fn attest_saying(
        &self,
        host: &Host,
        processor: &Processor,
        said: &Said,
    ) -> Result<Attested, Refusal> {
        let key = host.svid_key();
        let connection = host::stranger(&self.house).await;
        let spki = key.public().spki_der();
        let (trust_domain, exporter) = (House::trust_domain(), connection.exporter);
        let (hello, attester) =
            Attester::attest(&trust_domain, Some(exporter), Some(&spki), &host.facts);
        let mut attestation = Attestation::open(&connection, hello, host.csr(&key)).await?;
        let frame = attestation.challenge_frame().await?;
        let message = wire::FromServer::decode(frame.as_slice()).unwrap();
        let Some(wire::from_server::Message::Challenge(challenge)) = &message.message else {
            panic!("no challenge")
        };
        let mut binding = BindingInput {
            purpose: Purpose::Attest,
            face: Face::Native,
            trust_domain: trust_domain.as_str().to_owned(),
            nonce: Nonce::try_from(challenge.nonce.as_slice()).unwrap(),
            spki_sha256: Some(crypto::sha256(&spki)),
            ak_name: Some(host.facts.ak_name.clone()),
            exporter: Some(exporter),
        };
        if let Said::Other(change) = said {
            change(&mut binding);
        }
        let (collect, collecting) = attester.challenged(message).unwrap();
        let mut gathered = host.gather(&collect, Some(&key));
        let offered = processor.kinds().into_iter().filter(|k| host.facts.kinds.contains(k));
        assert_eq!(collect.reports, offered.collect::<Vec<_>>(), "the server asks for it");
        gathered.reports = processor.items(binding.binding().report_data());
        gathered.reports.retain(|item| host.facts.kinds.contains(&item.media_type));
        let log = self.ccel.clone().map(|bytes| Log { media_type: MediaType::Ccel, bytes });
        gathered.logs.extend(log);
        let chain = attestation.answer(collecting, gathered).await?;
        Ok(host.attested(&key, chain))
    }

    /// A refresh over the agent's channel; without a report where there is no processor.
    async fn refresh(
        &self,
        host: &Host,
        attested: &Attested,
        processor: Option<&Processor>,
    ) -> Result<(), Refusal> {
        let connection = host::channel(&self.house, attested).await;
        let trust_domain = House::trust_domain();
        let (hello, attester) = Attester::refresh(&trust_domain, connection.exporter, &host.facts);
        let mut refreshing = Refreshing::open(&connection, hello).await?;
        let (collect, collecting) = refreshing.challenge(attester).await?;
        let mut gathered = host.gather(&collect, None);
        gathered.reports = processor.map_or_else(Vec::new, |p| p.items(&collect.report_data));
        gathered.reports.retain(|item| host.facts.kinds.contains(&item.media_type));
        refreshing.answer(collecting, gathered).await.map(|_| ())
    }

    async fn selectors(&self) -> Vec<String> {
        let mut client = AgentClient::new(self.house.private().await);
        let agents = client.list_agents(ListAgentsRequest::default()).await.unwrap();
        let selectors = agents.into_inner().agents.into_iter().flat_map(|agent| agent.selectors);
        selectors.map(|selector| selector.value).collect()
    }

    /// What was recorded last of a verdict.
    async fn result(&self) -> Value {
        let request = ListRecordsRequest {
            newest_first: true,
            limit: 1,
            types: vec!["result".to_owned()],
            ..ListRecordsRequest::default()
        };
        let records = self.house.admin().await.list_records(request).await.unwrap().into_inner();
        let body: Value = serde_json::from_slice(&records.records[0].body).unwrap();
        body["data"].clone()
    }
}

/// The code of a refusal, and what became of the connection's status.
fn refused(result: Result<Attested, Refusal>) -> (String, tonic::Code) {
    let refusal = result.map(|_| ()).unwrap_err();
    (refusal.code, refusal.grpc)
}

fn code(result: Result<Attested, Refusal>) -> String {
    refused(result).0
}

fn measurement() -> String {
    format!("snp:measurement:{}", "4d".repeat(48))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_names_the_ak_ties_the_virtual_tpm_and_gives_selectors() {
    let processor = Processor::snp();
    let world = World::open(&snp(), &[&processor]).await;
    let host = world.host(Some(&processor)).await;
    let attested = world.attest(&host, &processor).await.unwrap();
    let selectors = world.selectors().await;
    assert!(selectors.contains(&measurement()), "{selectors:?}");
    assert!(selectors.contains(&"snp:tcb:current".to_owned()), "{selectors:?}");
    let result = world.result().await;
    assert_eq!(result["verdict"], "affirming", "{result}");
    assert_eq!(result["tee"]["link"], "report-data");
    assert_eq!(result["tee"]["kind"], "snp");
    assert_eq!(result["tee"]["claims"]["root"], "operator-supplied");
    assert_eq!(result["tee"]["claims"]["tier"], "none");
    let gaps = result["not_checked"].to_string();
    assert!(gaps.contains("revocation: no revocation list"), "{gaps}");
    assert!(!gaps.contains("relay") && !gaps.contains("reference values"), "{gaps}");

    // Each refresh shows a report for its own nonce; one without is as good as none.
    world.refresh(&host, &attested, Some(&processor)).await.unwrap();
    let refreshed = world.result().await["tee"].clone();
    assert_eq!(refreshed["link"], "report-data");
    assert!(refreshed["evidence_id"] != result["tee"]["evidence_id"], "a report of its own");
    assert!(refreshed.get("claims").is_none(), "said once, at the attestation");
    let refusal = world.refresh(&host, &attested, None).await.unwrap_err();
    assert_eq!(refusal.code, "vtpm-unbound");
    assert_eq!(world.result().await["verdict"], "contraindicated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_tpm_alone_is_unbound_and_stands_where_the_policy_bears_it() {
    let world = World::open("", &[]).await;
    let host = world.host(None).await;
    let refusal = host.attest(&world.house).await.map(|_| ()).unwrap_err();
    assert_eq!(
        (refusal.code.as_str(), refusal.grpc),
        ("vtpm-unbound", tonic::Code::PermissionDenied)
    );
    let result = world.result().await;
    assert_eq!(result["findings"][0]["found"], "absent", "{result}");
    assert!(result.get("tee").is_none());

    let world = World::open("require_tee_binding = false\n", &[]).await;
    let host = world.host(None).await;
    host.attest(&world.house).await.map(|_| ()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_does_not_name_the_ak_is_told_as_unlinked_and_the_policy_decides() {
    let without = Said::Other(|binding| binding.ak_name = None);
    let processor = Processor::snp();
    let world = World::open(&snp(), &[&processor]).await;
    let host = world.host(Some(&processor)).await;
    assert_eq!(code(world.attest_saying(&host, &processor, &without).await), "vtpm-unbound");
    let result = world.result().await;
    assert_eq!(result["tee"]["link"], "nonce-only", "{result}");
    assert_eq!(result["findings"][0]["found"], "nonce-only");

    // A TPM that stands by itself is not better off for a report that is nobody's.
    let hardware = POLICY.replace("vtpm", "discrete");
    let world = World::with_class("discrete", &format!("{hardware}{}", snp()), &[&processor]).await;
    let host = world.host(Some(&processor)).await;
    assert_eq!(code(world.attest_saying(&host, &processor, &without).await), "tee-unlinked");
    world.attest(&host, &processor).await.map(|_| ()).unwrap();
    assert!(world.selectors().await.contains(&measurement()));

    let borne = format!("{hardware}require_link = false\n{}", snp());
    let world = World::with_class("discrete", &borne, &[&processor]).await;
    let host = world.host(Some(&processor)).await;
    world.attest_saying(&host, &processor, &without).await.map(|_| ()).unwrap();
    let result = world.result().await;
    assert_eq!(result["warnings"][0]["code"], "tee-unlinked", "{result}");
    let selectors = world.selectors().await;
    assert!(!selectors.iter().any(|value| value.starts_with("snp:")), "{selectors:?}");
}

/// Its processor signs for the key of whatever TPM the guest's root asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_whose_launch_nobody_listed_ties_no_tpm_whatever_key_it_names() {
    for (processor, lines) in [(Processor::snp(), BARE_SNP), (Processor::tdx(), BARE_TDX)] {
        let world = World::open(&format!("{NO_LIST}{lines}"), &[&processor]).await;
        world.keep_collateral(&processor);
        let host = world.host(Some(&processor)).await;
        assert_eq!(code(world.attest(&host, &processor).await), "vtpm-unbound");
        let result = world.result().await;
        let found = result["findings"][0]["found"].as_str().unwrap().to_owned();
        assert_eq!(found, "report-data, of a launch that nothing lists", "{result}");

        let borne = format!("{NO_LIST}require_launch_digest = false\n{lines}");
        let world = World::open(&borne, &[&processor]).await;
        world.keep_collateral(&processor);
        let host = world.host(Some(&processor)).await;
        world.attest(&host, &processor).await.map(|_| ()).unwrap();
        let gaps = world.result().await["not_checked"].to_string();
        assert!(gaps.contains("tee: relay") && gaps.contains("no reference values"), "{gaps}");
    }
}

/// As a policy's table lists it; and a profile has a serial, a life cycle and a signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_that_a_profile_admits_ties_and_one_that_it_does_not_is_refused() {
    let (old, other) = ("4c".repeat(48), "56".repeat(48));
    let cases = [
        (Processor::snp(), "snp", "4d".repeat(48), BARE_SNP, "snp-measurement-unknown"),
        (Processor::tdx(), "tdx", "55".repeat(48), BARE_TDX, "register-mismatch"),
    ];
    for (processor, root, launched, lines, refusal) in cases {
        let policy = format!("{NO_LIST}{lines}");
        let world = World::with_launch(root, &[&old, &launched], &policy, &processor).await;
        world.keep_collateral(&processor);
        let host = world.host(Some(&processor)).await;
        world.attest(&host, &processor).await.map(|_| ()).unwrap();
        let selectors = world.selectors().await;
        assert!(selectors.contains(&"profile:acme/guest".to_owned()), "{selectors:?}");
        let gaps = world.result().await["not_checked"].to_string();
        assert!(!gaps.contains("relay") && !gaps.contains("no reference values"), "{gaps}");

        let world = World::with_launch(root, &[&old, &other], &policy, &processor).await;
        world.keep_collateral(&processor);
        let host = world.host(Some(&processor)).await;
        assert_eq!(code(world.attest(&host, &processor).await), refusal);
        let result = world.result().await;
        let source = result["findings"][0]["source"].as_str().unwrap().to_owned();
        assert!(source.contains("acme/guest"), "{result}");

        // One for another kind of machine says nothing of this one.
        let foreign = if root == "snp" { "tdx" } else { "snp" };
        let world = World::with_launch(foreign, &[&launched], &policy, &processor).await;
        world.keep_collateral(&processor);
        let host = world.host(Some(&processor)).await;
        assert_eq!(code(world.attest(&host, &processor).await), "vtpm-unbound");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_may_be_revoked_is_unavailable_and_a_revoked_one_ends_the_standing() {
    let processor = Processor::snp();
    let mut world = World::open(&snp().replace(NO_LIST, ""), &[&processor]).await;
    let host = world.host(Some(&processor)).await;
    let (code, status) = refused(world.attest(&host, &processor).await);
    assert_eq!((code.as_str(), status), ("endorsement-unavailable", tonic::Code::Unavailable));
    world.keep_list(&processor, "260501000000Z", &[]);
    let attested = world.attest(&host, &processor).await.unwrap();
    let gaps = world.result().await["not_checked"].to_string();
    assert!(!gaps.contains("revocation: no revocation list"), "{gaps}");
    world.refresh(&host, &attested, Some(&processor)).await.unwrap();

    // AMD takes the issuer back; the server learns it when the list is renewed.
    world.keep_list(&processor, "260601000000Z", &[2]);
    world.house.restart().await;
    let refusal = world.refresh(&host, &attested, Some(&processor)).await.unwrap_err();
    assert_eq!(refusal.code, "cert-revoked");
    let standing = world.house.node(&host.node_id()).await.standing;
    assert!(!standing.is_some_and(|standing| standing.live), "it ends at once");
    assert_eq!(self::code(world.attest(&host, &processor).await), "cert-revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_of_another_machine_or_another_exchange_is_refused() {
    type Change = fn(&mut BindingInput);
    let others: [(&str, Change); 6] = [
        ("another AK", |binding| binding.ak_name = Some([&[0, 0x0b][..], &[7; 32]].concat())),
        ("another nonce", |binding| binding.nonce = Nonce::from_bytes([7; 32])),
        ("another channel", |binding| binding.exporter = Some([7; 32])),
        ("another key", |binding| binding.spki_sha256 = Some([7; 32])),
        ("another purpose", |binding| binding.purpose = Purpose::Refresh),
        ("another trust domain", |binding| binding.trust_domain = "example.com".into()),
    ];
    for (processor, lines) in [(Processor::snp(), snp()), (Processor::tdx(), tdx())] {
        let world = World::open(&lines, &[&processor]).await;
        world.keep_collateral(&processor);
        let host = world.host(Some(&processor)).await;
        for (what, change) in others {
            let answer = world.attest_saying(&host, &processor, &Said::Other(change)).await;
            assert_eq!(code(answer), "report-data-mismatch", "{what}");
        }
        world.attest(&host, &processor).await.map(|_| ()).unwrap();
    }
    println!("{} bindings refused on 2 kinds of processor", others.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genuine_debug_guest_and_a_foreign_root_are_refused_by_their_names() {
    let debug = Processor::of(Machine::milan().with(|m| m.set(0x00a, &[0x0b])));
    let world = World::open(&snp(), &[&debug]).await;
    let host = world.host(Some(&debug)).await;
    assert_eq!(code(world.attest(&host, &debug).await), "snp-guest-policy-debug");
    let result = world.result().await;
    assert_eq!(result["tee"]["claims"]["debug"], true, "{result}");
    let world = World::open(&format!("{}allow_debug = true\n", snp()), &[&debug]).await;
    let host = world.host(Some(&debug)).await;
    world.attest(&host, &debug).await.map(|_| ()).unwrap();

    // An operator's root counts where it is configured, and where the policy allows it.
    let processor = Processor::snp();
    let strict = snp().replace("allow_operator_root = true", "");
    let world = World::open(&strict, &[&processor]).await;
    let host = world.host(Some(&processor)).await;
    assert_eq!(code(world.attest(&host, &processor).await), "root-operator-supplied");
    let world = World::open(&snp(), &[]).await;
    let host = world.host(Some(&processor)).await;
    assert_eq!(code(world.attest(&host, &processor).await), "root-not-trusted");

    // Another launch than those that the policy lists.
    let world = World::open(&snp().replace("4d", "4e"), &[&processor]).await;
    let host = world.host(Some(&processor)).await;
    assert_eq!(code(world.attest(&host, &processor).await), "snp-measurement-unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_vendor_would_have_to_say_is_unavailable_and_what_nobody_has_is_refused() {
    let leave_out = |host: &mut Host| host.facts.kinds.retain(|k| *k != MediaType::SnpHostCerts);
    // A VCEK can be had of AMD, though not now.
    let chip = Processor::snp();
    let world = World::open(&snp(), &[&chip]).await;
    let mut host = world.host(Some(&chip)).await;
    world.attest(&host, &chip).await.map(|_| ()).unwrap();
    leave_out(&mut host);
    let chip_alone = Processor::only_report(&chip);
    let (code, status) = refused(world.attest(&host, &chip_alone).await);
    assert_eq!((code.as_str(), status), ("endorsement-unavailable", tonic::Code::Unavailable));
    // Nor does a certificate help that the host kept from before its firmware was updated.
    let stale = Processor::of(Machine::milan().with(|m| {
        for (_, value) in m.vek.extensions.iter_mut().filter(|(oid, _)| *oid == amd(&[3, 3])) {
            *value = forge::integer(23);
        }
    }));
    let Processor::Snp { table, .. } = stale else { panic!() };
    let Processor::Snp { machine, .. } = chip.clone() else { panic!() };
    let kept = Processor::Snp { machine, table };
    host.facts.kinds.push(MediaType::SnpHostCerts);
    let (code, status) = refused(world.attest(&host, &kept).await);
    assert_eq!((code.as_str(), status), ("endorsement-unavailable", tonic::Code::Unavailable));
    // A VLEK only of its owner, who would put it into the host's table.
    let cloud = Processor::of(Machine::milan_vlek());
    let world = World::open(&snp(), &[&cloud]).await;
    let mut host = world.host(Some(&cloud)).await;
    world.attest(&host, &cloud).await.map(|_| ()).unwrap();
    leave_out(&mut host);
    let (code, status) = refused(world.attest(&host, &Processor::only_report(&cloud)).await);
    assert_eq!((code.as_str(), status), ("vek-missing", tonic::Code::PermissionDenied));

    // The same of Intel's collateral: what is not there yet is no verdict.
    let processor = Processor::tdx();
    let world = World::open(&tdx(), &[&processor]).await;
    let host = world.host(Some(&processor)).await;
    let (code, status) = refused(world.attest(&host, &processor).await);
    assert_eq!((code.as_str(), status), ("endorsement-unavailable", tonic::Code::Unavailable));
    world.keep_collateral(&processor);
    world.attest(&host, &processor).await.map(|_| ()).unwrap();
}

/// Two hosts on one chip, and refreshes of both: its vendor is asked once for each thing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_vendor_has_to_say_is_fetched_once_for_all_hosts_and_refreshes() {
    let list =
        forge::RevocationDraft { next_update: "491231000000Z", ..forge::RevocationDraft::empty() };
    let chip = Processor::of(Machine::milan().with(|m| m.crl = Some(list)));
    let chip = Processor::only_report(&chip);
    let domain = Processor::tdx();
    for (processor, lines, requests) in [(chip, snp().replace(NO_LIST, ""), 3), (domain, tdx(), 4)]
    {
        let vendor = VendorStandIn::of(processor.vendor_pages());
        let url = vendor.url();
        let services =
            format!("fetch = true\namd = \"{url}\"\namd_every = \"1s\"\nintel = \"{url}\"\n");
        let policy = format!("{POLICY}{lines}");
        let world = World::with_services("vtpm", &policy, &[&processor], &services).await;
        for name in ["one", "two"] {
            let mut host = world.house.admitted(name).await;
            let kinds = processor.kinds().into_iter();
            host.facts.kinds.extend(kinds.filter(|kind| *kind != MediaType::SnpHostCerts));
            let attested = world.attest(&host, &processor).await.unwrap();
            for _ in 0..3 {
                world.refresh(&host, &attested, Some(&processor)).await.unwrap();
            }
            let result = world.result().await;
            assert_eq!(result["tee"]["link"], "report-data", "{result}");
            assert!(!result["not_checked"].to_string().contains("no revocation list"), "{result}");
        }
        assert_eq!(vendor.requests(), requests, "{:?}", vendor.paths());
        println!("{requests} requests for 2 attestations and 6 refreshes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quote_of_a_trust_domain_ties_the_virtual_tpm_as_a_report_does() {
    let processor = Processor::tdx();
    let world = World::open(&tdx(), &[&processor]).await;
    world.keep_collateral(&processor);
    let host = world.host(Some(&processor)).await;
    let without = Said::Other(|binding| binding.ak_name = None);
    assert_eq!(code(world.attest_saying(&host, &processor, &without).await), "vtpm-unbound");
    assert_eq!(world.result().await["tee"]["link"], "nonce-only");
    let attested = world.attest(&host, &processor).await.unwrap();
    let result = world.result().await;
    assert_eq!(result["tee"]["kind"], "tdx", "{result}");
    assert_eq!(result["tee"]["link"], "report-data");
    assert_eq!(result["tee"]["claims"]["tcb_status"], "UpToDate");
    let mrtd = format!("tdx:mrtd:{}", "55".repeat(48));
    assert!(world.selectors().await.contains(&mrtd));
    world.refresh(&host, &attested, Some(&processor)).await.unwrap();

    // Another launch than those that the policy lists.
    let strict = World::open(&tdx().replace("55", "56"), &[&processor]).await;
    strict.keep_collateral(&processor);
    let stranger = strict.host(Some(&processor)).await;
    assert_eq!(code(strict.attest(&stranger, &processor).await), "register-mismatch");

    let mut debug = recipe();
    debug.attributes(tdx_forge::DEBUG | tdx_forge::SEPT_VE_DISABLE);
    let debug = Processor::Tdx(Box::new(debug));
    assert_eq!(code(world.attest(&host, &debug).await), "td-debug");
    assert_eq!(world.result().await["tee"]["claims"]["debug"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_log_of_a_trust_domain_leads_to_its_registers_or_is_refused() {
    const SHA384: u16 = 0x000c;
    let measured = crypto::sha384(b"a boot loader");
    let mut log = Draft::crypto_agile(&[(SHA384, 48)]);
    log.format = Format::Ccel;
    log.header.as_mut().unwrap().register = 1;
    log.events.push(EventRecord {
        register: 1,
        kind: EventType(0x0d),
        digests: vec![(SHA384, measured.to_vec())],
        data: b"a boot loader".to_vec(),
    });
    let mut recipe = recipe();
    // RTMR 0 as the log leads to it, 1 and 2 as at reset; 3 is somebody else's.
    let rtmr0 = crypto::sha384(&[&[0; 48][..], &measured].concat());
    recipe.set(0x148, &[&rtmr0[..], &[0; 96]].concat());
    let processor = Processor::Tdx(Box::new(recipe));
    let mut world = World::open(&tdx(), &[&processor]).await;
    world.keep_collateral(&processor);
    let mut host = world.host(Some(&processor)).await;
    world.attest(&host, &processor).await.map(|_| ()).unwrap();
    let gaps = world.result().await["not_checked"].to_string();
    assert!(gaps.contains("no boot log of the trust domain"), "{gaps}");

    host.facts.kinds.push(MediaType::Ccel);
    world.ccel = Some(log.write());
    world.attest(&host, &processor).await.map(|_| ()).unwrap();
    let gaps = world.result().await["not_checked"].to_string();
    assert!(gaps.contains("the log leads to RTMR 0 to 2"), "{gaps}");
    log.events[0].digests[0].1[0] ^= 1;
    world.ccel = Some(log.write());
    assert_eq!(code(world.attest(&host, &processor).await), "log-replay-mismatch");
    world.ccel = Some(b"no log".to_vec());
    assert_eq!(code(world.attest(&host, &processor).await), "log-malformed");
}

/// Server, agent, software TPM and a SIMULATED kernel: nothing of the exchange is the test's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_finds_the_processor_proves_it_and_leaves_what_verifies_offline() {
    for (processor, lines) in [(Processor::snp(), snp()), (Processor::tdx(), tdx())] {
        let world = World::open(&lines, &[&processor]).await;
        world.keep_collateral(&processor);
        let simulator = processor.simulator();
        // The agent has the TPM to itself.
        let Host { tpm, .. } = world.host(None).await;
        let folder = world.house.folder.path();
        let text = format!(
            "trust_domain = \"example.org\"\nserver = \"{}\"\ndata_dir = \"agent\"\n\
             socket = \"workload.sock\"\ndevice = \"{}\"\ntsm_folder = \"{}\"\n\
             [bootstrap]\nbundle = \"bundle.pem\"\n\
             [intervals]\nretry_first = \"1s\"\nretry_longest = \"1s\"\n",
            world.house.address(),
            tpm.tcti(),
            simulator.folder().display(),
        );
        fs::write(folder.join("agent.toml"), text).unwrap();
        let config = agent::Config::load(&folder.join("agent.toml")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            agent::run_until(config, Clock::machine(), stop).await.unwrap();
        });
        let first = world.standing(0).await;
        // It goes on by refreshes, each with a report of its own.
        world.standing(first + 2_000).await;
        let result = world.result().await;
        assert_eq!(result["tee"]["link"], "report-data", "{result}");
        stop.send(()).unwrap();
        running.await.unwrap();
        block_in_place(|| verify_offline(&world, &processor));
    }
}

impl Processor {
    /// What its vendor's service would say of it.
    fn vendor_pages(&self) -> BTreeMap<String, Reply> {
        let Processor::Snp { machine, .. } = self else {
            return stand_in::intel_pages(&recipe().build().collateral, "platform");
        };
        let shown = machine.show();
        let report = assay_snp::Report::parse(&shown.report).unwrap();
        let wanted = assay_snp::endorsement::wants(&report, None).unwrap();
        let chain = [&shown.issuer, &shown.ark].map(|der| tdx_forge::pem(der)).concat();
        BTreeMap::from([
            (wanted.vek_path().unwrap(), Reply::ok(shown.vek)),
            (wanted.chain_path(), Reply::ok(chain)),
            (wanted.crl_path(), Reply::ok(shown.crl.unwrap())),
        ])
    }

    /// One whose host hands out no certificates.
    fn only_report(of: &Processor) -> Processor {
        match of {
            Processor::Snp { machine, .. } => {
                Processor::Snp { machine: machine.clone(), table: Vec::new() }
            }
            tdx => tdx.clone(),
        }
    }
}

impl World {
    /// When the only node was seen last, once it stands and that is after `after_ms`.
    async fn standing(&self, after_ms: i64) -> i64 {
        let mut last = None;
        for _ in 0..1_200 {
            let nodes = self.house.admin().await.list_nodes(ListNodesRequest::default()).await;
            let node = nodes.unwrap().into_inner().nodes.into_iter().next();
            let live = node.as_ref().and_then(|n| n.standing.as_ref()).is_some_and(|s| s.live);
            let seen = node.as_ref().map_or(0, |node| node.last_seen_ms);
            if live && seen > after_ms {
                return seen;
            }
            last = node;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain; last seen: {last:?}")
    }
}

/// What the server kept of the attestation is all that it takes elsewhere.
fn verify_offline(world: &World, processor: &Processor) {
    let folder = world.house.folder.path();
    let socket = folder.join("data/private/api.sock");
    let run = |args: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_assay")).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|_| {
            panic!("{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr))
        })
    };
    let socket = socket.display().to_string();
    let records = run(&["record", "list", "--json", "--socket", &socket, "--type", "evidence"]);
    let first = records["records"].as_array().unwrap().last().unwrap()["seq"].to_string();
    let out = folder.join("evidence");
    let out_text = out.display().to_string();
    let seq = first.trim_matches('"');
    run(&["record", "export", "--json", "--socket", &socket, seq, "--out", &out_text]);
    let file = |name: &str| out.join(name).display().to_string();
    let report_data = fs::read_to_string(out.join("report-data.hex")).unwrap();
    let roots = out.join("root.der");
    fs::write(&roots, processor.root()).unwrap();
    let roots = roots.display().to_string();
    let (kind, report) = match processor {
        Processor::Snp { .. } => {
            ("snp", ["--report", "snp-report.bin", "--host-certs", "host-certs.bin"])
        }
        Processor::Tdx(_) => {
            ("tdx", ["--quote", "tdx-quote.bin", "--collateral", "collateral.json"])
        }
    };
    let [report_flag, report, beside_flag, beside] = report;
    let verify = |data: &str| {
        let (report, beside) = (file(report), file(beside));
        let mut args = vec!["verify", kind, "--json", report_flag, &report, beside_flag, &beside];
        args.extend(["--report-data", data, "--danger-extra-roots", &roots]);
        run(&args)
    };
    let answer = verify(&report_data);
    assert_eq!(answer["verdict"], "genuine", "{answer}");
    assert_eq!(answer["claims"]["root"], "operator-supplied", "{answer}");
    let answer = verify(&"00".repeat(64));
    assert_eq!(answer["verdict"], "refused", "{answer}");
}
