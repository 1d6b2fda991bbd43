//! A real server of its own in a temporary folder, and the operator who talks to it over the
//! private socket. Its issuing keys are software keys: what is attacked here is the exchange.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use assay::clock::Clock;
use assay::server;
use assay::server::Running;
use assay::server::config::Config;
use assay::spiffe::TrustDomain;
use assay::store::Store;
use assay::tls::Trust;
use assay_evidence::certificate::Certificate;
use assay_proto::assay::v1::NodeState;
use assay_proto::assay::v1::admin_client::AdminClient;
use assay_proto::assay::v1::admit_node_request::By;
use assay_proto::assay::v1::*;
use assay_proto::spire::api::server::agent::v1::BanAgentRequest;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::server::bundle::v1::GetBundleRequest;
use assay_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use assay_proto::spire::api::server::entry::v1::BatchCreateEntryRequest;
use assay_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use assay_proto::spire::api::types;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use assay_tpm::endorsement::Anchors;
use assay_tpm::endorsement::EkRoot;
use assay_tpm::endorsement::TpmClass;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use crate::host::Host;

pub const TRUST_DOMAIN: &str = "example.org";

pub struct House {
    pub folder: TempDir,
    pub clock: Clock,
    running: Option<Running>,
}

/// The roots of the hosts' TPMs.
pub fn anchors() -> Anchors {
    let [root, issuer] =
        ca().1.certificates().map(|path| Certificate::parse_set(&fs::read(path).unwrap()).unwrap());
    let class = TpmClass::Software;
    let roots = root.into_iter().map(|certificate| EkRoot { certificate, class }).collect();
    Anchors::new(roots, issuer)
}

/// One CA vouches for every TPM of this process: making one takes seconds.
fn ca() -> &'static (TempDir, LocalCa) {
    static CA: OnceLock<(TempDir, LocalCa)> = OnceLock::new();
    CA.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path()).unwrap();
        (folder, ca)
    })
}

impl House {
    pub async fn open() -> Self {
        Self::open_with(Clock::machine(), |text| text).await
    }

    /// With a clock that only the test moves. It stands a little ahead, because the certificates of
    /// the TPMs are made after it; TLS keeps its own time.
    pub async fn with_its_own_clock() -> Self {
        Self::open_with(Clock::manual(Clock::machine().now() + Duration::from_secs(20)), |text| {
            text
        })
        .await
    }

    /// `change` may rewrite `server.toml`.
    pub async fn open_with(clock: Clock, change: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let [root, issuer] = ca().1.certificates();
        fs::write(path("profile.toml"), profile()).unwrap();
        fs::write(
            path("policy.toml"),
            "tpm_class = [\"software\"]\nrefresh_every = \"5s\"\nmax_age = \"30s\"\n",
        )
        .unwrap();
        let text = format!(
            r#"trust_domain = "{TRUST_DOMAIN}"
data_dir = "data"
listen = "127.0.0.1:0"
drain = "1s"
[bootstrap]
bundle = "bundle.pem"
[keys]
custody = "software"
danger_software_keys = true
[nodes]
profile = "profile.toml"
policy = "policy.toml"
[[nodes.ek_root]]
path = "{}"
intermediates = "{}"
class = "software"
"#,
            root.display(),
            issuer.display(),
        );
        fs::write(path("server.toml"), change(text)).unwrap();
        let config = Config::load(&path("server.toml")).unwrap();
        let running = server::start(config, clock.clone()).await.unwrap();
        Self { folder, clock, running: Some(running) }
    }

    pub fn trust_domain() -> TrustDomain {
        TrustDomain::parse(TRUST_DOMAIN).unwrap()
    }

    pub fn address(&self) -> String {
        self.running.as_ref().unwrap().address().to_string()
    }

    /// Stops and starts again on the same state.
    pub async fn restart(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
        let config = Config::load(&self.folder.path().join("server.toml")).unwrap();
        self.running = Some(server::start(config, self.clock.clone()).await.unwrap());
    }

    /// Stops, and opens what it left.
    pub async fn left(&mut self) -> Store {
        self.running.take().unwrap().stop().await.unwrap();
        let path = self.folder.path().join("data/assay.db");
        Store::open(&path, &Self::trust_domain(), self.clock.clone()).unwrap()
    }

    /// A host with a new TPM, which nobody has admitted.
    pub async fn host(&self, name: &str) -> Host {
        let folder = self.folder.path().join(name);
        let tpm = SoftwareTpm::provision(&ca().1, folder, name).unwrap();
        Host::new(tpm.start().unwrap())
    }

    /// Another machine with the state that this one's TPM has now.
    pub async fn clone_of(&self, host: &Host, name: &str) -> Host {
        let folder = self.folder.path().join(name);
        Host::new(host.tpm.duplicate(folder, name).unwrap().start().unwrap())
    }

    /// A host that an operator has admitted by the hash of its EK.
    pub async fn admitted(&self, name: &str) -> Host {
        let host = self.host(name).await;
        self.admit(&host).await;
        host
    }

    pub async fn admit(&self, host: &Host) -> NodeState {
        let request = AdmitNodeRequest {
            by: Some(By::EkSha256(host.ek_sha256().to_vec())),
            ..AdmitNodeRequest::default()
        };
        self.admin().await.admit_node(request).await.unwrap().into_inner()
    }

    pub async fn private(&self) -> Channel {
        let path = self.folder.path().join("data/private/api.sock");
        private(&path).await
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.private().await)
    }

    pub async fn node(&self, node_id: &str) -> NodeState {
        let request = GetNodeRequest { node_id: node_id.to_owned() };
        self.admin().await.get_node(request).await.unwrap().into_inner()
    }

    /// Why the exchange with this correlation id ended as it did.
    pub async fn explain(&self, correlation_id: &str) -> ExplainNodeResponse {
        let by = explain_node_request::By::CorrelationId(correlation_id.to_owned());
        let request = ExplainNodeRequest { by: Some(by) };
        self.admin().await.explain_node(request).await.unwrap().into_inner()
    }

    pub async fn ban(&self, host: &Host) {
        let id = types::Spiffeid {
            trust_domain: TRUST_DOMAIN.to_owned(),
            path: format!("/spire/agent/assay/{}", host.node_id()),
        };
        let mut agents = AgentClient::new(self.private().await);
        agents.ban_agent(BanAgentRequest { id: Some(id) }).await.unwrap();
    }

    /// An entry for uid 0 below this host; its id.
    pub async fn entry(&self, host: &Host, path: &str) -> String {
        let id =
            |path: String| Some(types::Spiffeid { trust_domain: TRUST_DOMAIN.to_owned(), path });
        let entry = types::Entry {
            spiffe_id: id(path.to_owned()),
            parent_id: id(format!("/spire/agent/assay/{}", host.node_id())),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:0".into() }],
            ..types::Entry::default()
        };
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let mut entries = EntryClient::new(self.private().await);
        let response = entries.batch_create_entry(request).await.unwrap().into_inner();
        let result = response.results.into_iter().next().unwrap();
        assert_eq!(result.status.unwrap().code, 0);
        result.entry.unwrap().id
    }

    /// The trust that agents bootstrap from.
    pub async fn trust(&self) -> Trust {
        let mut bundles = BundleClient::new(self.private().await);
        let bundle = bundles.get_bundle(GetBundleRequest::default()).await.unwrap().into_inner();
        let authorities: Vec<_> =
            bundle.x509_authorities.into_iter().map(|authority| authority.asn1).collect();
        Trust::new(Self::trust_domain(), &authorities).unwrap()
    }
}

/// A TPM for the server's own keys.
pub fn tpm_of_the_server() -> RunningTpm {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path().join("server");
    SoftwareTpm::provision(&ca().1, folder, "server").unwrap().start().unwrap()
}

/// `server.toml` with the issuing keys in this TPM.
pub fn with_custody_in(tpm: &RunningTpm, text: &str) -> String {
    let [root, issuer] = tpm.ek_roots();
    let keys = format!(
        "custody = \"tpm\"\ndevice = \"{}\"\n[[keys.ek_root]]\npath = \"{}\"\n\
         intermediates = \"{}\"\nclass = \"software\"\n",
        tpm.tcti(),
        root.display(),
        issuer.display()
    );
    text.replace("custody = \"software\"\ndanger_software_keys = true\n", &keys)
}

pub async fn private(path: &Path) -> Channel {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://private").connect_with_connector(connect).await.unwrap()
}

/// Registers 0 and 8 as a TPM has them that nobody extended.
fn profile() -> String {
    let zero = "00".repeat(32);
    format!(
        r#"schema = "firmware-profile/1"
id = "test/swtpm"
serial = 1
root = "tpm2"
banks = ["sha256"]
[[component]]
name = "firmware"
on = [0, 8]
[[component.variant]]
name = "1"
state = "active"
pcr = {{ sha256 = {{ "0" = "{zero}", "8" = "{zero}" }} }}
"#
    )
}
