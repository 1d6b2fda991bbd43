//! SPIRE's Agent service: how an agent comes, and how operators see, evict and ban it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::binding::Purpose;
use assay_evidence::crypto;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_proto::attestation as exchange_wire;
use assay_proto::details;
use assay_proto::spire::api::server::agent::v1::*;
use assay_proto::spire::api::types;
use assay_proto::spire::api::types::permission_denied_details::Reason as SpireReason;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::appraisal::Grant;
use crate::ca::SubjectKey;
use crate::ca::Terms;
use crate::exchange;
use crate::exchange::Channel;
use crate::exchange::FromAgent;
use crate::exchange::Refused;
use crate::records::Admin;
use crate::records::Data;
use crate::records::Draft;
use crate::records::Subject;
use crate::server::attest;
use crate::server::attest::End;
use crate::server::attest::Exchange;
use crate::server::attest::Line;
use crate::server::attest::Stood;
use crate::server::authorization::Caller;
use crate::server::domain::Domain;
use crate::server::gate::agent_of;
use crate::server::gate::caller_of;
use crate::server::gate::connection_of;
use crate::server::limit::Place;
use crate::server::nodes;
use crate::server::nodes::Node;
use crate::server::refusal;
use crate::server::wire;
use crate::server::wire::SelectorFilter;
use crate::spiffe::SpiffeId;
use crate::spiffe::X509Svid;
use crate::store::Admission;
use crate::store::Change;
use crate::store::NodeRow;

/// Nodes read from the store at once when a listing walks over them.
const PAGE: usize = 1_000;
/// What the device may take for an agent's certificate.
const SIGNATURE_WITHIN: Duration = Duration::from_secs(30);
const MAX_VERSION: usize = 64;
/// A record has room for a few arguments of this length.
const MAX_ARGUMENT: usize = 8 * 1_024;
const BEGINNING: usize = 256;

#[derive(Clone)]
pub struct AgentApi(pub Arc<Domain>);

/// AttestAgent as a line: frames are bytes in SPIRE's messages.
struct AttestLine {
    asked: Streaming<AttestAgentRequest>,
    answers: mpsc::Sender<Result<AttestAgentResponse, Status>>,
}

#[tonic::async_trait]
impl Line for AttestLine {
    async fn receive(&mut self) -> Result<Option<FromAgent>, Refused> {
        use attest_agent_request::Step;
        match self.asked.message().await {
            Ok(Some(AttestAgentRequest { step: Some(Step::ChallengeResponse(frame)) })) => {
                FromAgent::parse(&frame).map(Some)
            }
            Ok(Some(_)) => {
                let expected = "a challenge response";
                Err(Refused::new(Reason::MessageMalformed, "step", "another one", expected))
            }
            Ok(None) => Ok(None),
            Err(status) => attest::broken(&status),
        }
    }

    async fn send(&mut self, message: exchange_wire::FromServer) -> bool {
        let step = attest_agent_response::Step::Challenge(message.encode_to_vec());
        self.answers.send(Ok(AttestAgentResponse { step: Some(step) })).await.is_ok()
    }
}

/// What AttestAgent needs of its connection and its place.
struct Attestation {
    domain: Arc<Domain>,
    id: String,
    address: SocketAddr,
    exporter: [u8; 32],
    _place: Place<IpAddr>,
}

impl Attestation {
    async fn run(self, mut line: AttestLine) {
        let domain = self.domain.clone();
        let exchange = Exchange {
            domain: &domain,
            address: self.address,
            id: self.id.clone(),
            purpose: Purpose::Attest,
        };
        let answer = match self.attest(&exchange, &mut line).await {
            Ok(svid) => {
                let result = attest_agent_response::Result {
                    svid: Some(wire::x509_svid(&svid)),
                    reattestable: true,
                };
                let step = Some(attest_agent_response::Step::Result(result));
                Ok(AttestAgentResponse { step })
            }
            Err(end) => match exchange.close(end).await {
                Some(status) => Err(status),
                None => return,
            },
        };
        // An agent that went away meanwhile attests again.
        let _ = tokio::time::timeout(attest::ANSWER_WITHIN, line.answers.send(answer)).await;
    }

    async fn attest(
        &self,
        exchange: &Exchange<'_>,
        line: &mut AttestLine,
    ) -> Result<X509Svid, End> {
        // Counted before it has said a word: who fails early or stays silent has had his try.
        let counted = exchange.count();
        let (hello, csr) = first(&mut line.asked).await?;
        let key = SubjectKey::from_csr(&csr).map_err(|error| {
            Refused::new(error.reason(), "csr", error, "a request signed by its own key")
        })?;
        let channel =
            Channel { exporter: Some(self.exporter), svid_spki: Some(key.spki_der().to_vec()) };
        let stood = exchange.attest(line, hello, channel, counted).await?;
        let svid = self.issue(&stood, key).await.map_err(End::Failed)?;
        let standing = stood.standing.row();
        tracing::info!(
            decision = "attested",
            node = %stood.node.id,
            address = %self.address,
            profile = standing.profile_id,
            expires_at = %standing.expires_at,
            serial = %svid.serial,
            warnings = stood.warnings.len(),
            correlation_id = self.id,
            "node in good standing"
        );
        Ok(svid)
    }

    /// The agent's certificate. Its serial becomes the node's next in the same commit that
    /// records it; it replaces the one in use when it is used.
    async fn issue(&self, stood: &Stood, key: SubjectKey) -> Result<X509Svid, Status> {
        let domain = &self.domain;
        let node = &stood.node;
        let caller = node.id.to_string();
        let store = |error| refusal::store(&error);
        let unsigned = |error: &crate::ca::CaError| {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(node = caller, error = %error, cause, "no agent certificate");
            refusal::status(error.reason(), self.id.clone(), 5)
        };
        let appraisal = Some(stood.standing.row().appraisal_id.as_str());
        let recorded = {
            let _guard = node.lock().await;
            domain.demand_still(node, appraisal, "AttestAgent")?;
            let deny = domain.registry.deny(&domain.store).await.map_err(store)?;
            let grant = Grant::agent(&stood.standing, &deny, domain.clock.moment())
                .map_err(|refused| refusal::grant(&caller, "AttestAgent", &refused))?;
            let mut row = node.view().row;
            let terms = Terms { renewal: row.serials.active.is_some(), ..Terms::default() };
            let prepared = domain
                .authority
                .prepare_x509(grant, key, terms)
                .map_err(|error| unsigned(&error))?;
            nodes::issued(&mut row, prepared.serial(), domain.clock.now());
            let changes = vec![Change::Node(row)];
            let recorded =
                domain.store.record_with(changes, vec![prepared]).await.map_err(store)?;
            node.reload(&domain.store).await.map_err(store)?;
            recorded.into_iter().next().ok_or_else(|| Status::internal("a record is missing"))?
        };
        let svid = domain
            .authority
            .issue_x509(recorded, SIGNATURE_WITHIN)
            .await
            .map_err(|error| unsigned(&error))?;
        domain.demand_still(node, appraisal, "AttestAgent")?;
        Ok(svid)
    }
}

/// The first message: attestation data of our type with a hello in it, and the request.
async fn first(
    asked: &mut Streaming<AttestAgentRequest>,
) -> Result<(exchange::Hello, Vec<u8>), End> {
    let malformed = |found: &str, expected: &str| {
        Refused::new(Reason::MessageMalformed, "params", found.to_owned(), expected)
    };
    let received = tokio::time::timeout(attest::HELLO_WITHIN, asked.message()).await;
    let first = match received {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None)) => return Err(End::Gone),
        Ok(Err(status)) => {
            attest::broken(&status)?;
            return Err(End::Gone);
        }
        Err(_) => {
            let expected = format!("within {} s", attest::HELLO_WITHIN.as_secs());
            return Err(Refused::new(Reason::ChallengeExpired, "hello", "none", expected).into());
        }
    };
    let Some(attest_agent_request::Step::Params(params)) = first.step else {
        return Err(malformed("absent", "the first message").into());
    };
    let data = params.data.ok_or_else(|| malformed("no data", "attestation data"))?;
    if data.r#type != exchange::DATA_TYPE {
        let found = data.r#type.chars().take(64).collect::<String>();
        let refused = Refused::new(Reason::NotSupported, "data.type", found, exchange::DATA_TYPE);
        return Err(refused.into());
    }
    let hello = FromAgent::parse(&data.payload)?.into_hello()?;
    let csr = params.params.map(|params| params.csr).unwrap_or_default();
    Ok((hello, csr))
}

impl AgentApi {
    /// Every row that passes `filter`, with its node.
    async fn rows(&self, filter: &Filter) -> Result<Vec<(NodeRow, types::Agent)>, Status> {
        let domain = &self.0;
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = domain
                .store
                .nodes(after.as_deref(), PAGE)
                .await
                .map_err(|error| refusal::store(&error))?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.node_id.clone());
            for row in page {
                if row.admission == Admission::Pending {
                    // Not an agent yet; `assay node list` shows it.
                    continue;
                }
                let agent = self.agent(&row).await?;
                if filter.admits(&agent)? {
                    found.push((row, agent));
                }
            }
        }
    }

    async fn agent(&self, row: &NodeRow) -> Result<types::Agent, Status> {
        let domain = &self.0;
        let store = |error| refusal::store(&error);
        let id = domain
            .config
            .trust_domain
            .node(&row.node_id)
            .map_err(|error| Status::internal(error.to_string()))?;
        let standing = match domain.nodes.node(&domain.store, &id).await.map_err(store)? {
            Some(node) => node.standing(),
            None => None,
        };
        let serial = row.serials.next.or(row.serials.active);
        let issued = match &serial {
            Some(serial) => domain.store.issued(serial).await.map_err(store)?,
            None => None,
        };
        Ok(types::Agent {
            id: Some(wire::spiffe_id(&id)),
            attestation_type: exchange::DATA_TYPE.to_owned(),
            x509svid_serial_number: serial.map(|serial| serial.to_string()).unwrap_or_default(),
            x509svid_expires_at: issued.map_or(0, |issued| issued.not_after.unix_s()),
            selectors: standing.map(|s| wire::selectors(s.selectors())).unwrap_or_default(),
            banned: row.banned,
            can_reattest: true,
            agent_version: row.agent_version.clone(),
        })
    }

    async fn node(&self, id: Option<&types::Spiffeid>) -> Result<Arc<Node>, Status> {
        let domain = &self.0;
        let id = wire::parse_spiffe_id("id", id)?;
        let node = domain.nodes.node(&domain.store, &id).await;
        node.map_err(|error| refusal::store(&error))?
            .ok_or_else(|| Status::not_found(format!("no agent `{id}`")))
    }
}

/// An administrative act on a node.
pub fn act(caller: &Caller, act: &'static str, node: &SpiffeId) -> Draft {
    act_with(caller, act, node, BTreeMap::new())
}

/// The same with what was said of the node.
pub fn act_with(
    caller: &Caller,
    act: &'static str,
    node: &SpiffeId,
    mut arguments: BTreeMap<String, String>,
) -> Draft {
    arguments.insert("node".to_owned(), node.to_string());
    Draft {
        subject: Subject::Id(node.clone()),
        actor: caller.actor(),
        refs: Vec::new(),
        data: Data::Admin(Admin { act, arguments }),
    }
}

/// An argument of a record: as it is, or where it is too long by its hash and its beginning.
pub fn spoken(text: String) -> String {
    if text.len() <= MAX_ARGUMENT {
        return text;
    }
    let beginning: String = text.chars().take(BEGINNING).collect();
    let digest = hex::encode(crypto::sha256(text.as_bytes()));
    format!("{} bytes, sha256 {digest}, beginning {beginning}", text.len())
}

#[derive(Default)]
struct Filter {
    attestation_type: String,
    selectors: Option<SelectorFilter>,
    banned: Option<bool>,
    can_reattest: Option<bool>,
    expires_before: Option<Time>,
}

impl Filter {
    fn admits(&self, agent: &types::Agent) -> Result<bool, Status> {
        let selectors = match &self.selectors {
            Some(filter) => filter.admits(&wire::parse_selectors_unbounded(&agent.selectors)?),
            None => true,
        };
        let kind = &self.attestation_type;
        Ok(selectors
            && (kind.is_empty() || *kind == agent.attestation_type)
            && self.banned.is_none_or(|banned| banned == agent.banned)
            && self.can_reattest.is_none_or(|can| can == agent.can_reattest)
            && self.expires_before.is_none_or(|end| agent.x509svid_expires_at < end.unix_s()))
    }
}

macro_rules! parse_filter {
    ($wire:expr) => {
        match $wire {
            None => Filter::default(),
            Some(wire) => Filter {
                attestation_type: wire.by_attestation_type,
                selectors: wire
                    .by_selector_match
                    .as_ref()
                    .map(SelectorFilter::parse)
                    .transpose()?,
                banned: wire.by_banned,
                can_reattest: wire.by_can_reattest,
                expires_before: match wire.by_expires_before.as_str() {
                    "" => None,
                    text => Some(Time::parse_rfc3339(text).map_err(|_| {
                        Status::invalid_argument("`by_expires_before` is not an RFC 3339 time")
                    })?),
                },
            },
        }
    };
}

#[tonic::async_trait]
impl agent_server::Agent for AgentApi {
    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        let filter = parse_filter!(request.into_inner().filter);
        let count = i32::try_from(self.rows(&filter).await?.len()).unwrap_or(i32::MAX);
        Ok(Response::new(CountAgentsResponse { count }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let filter = parse_filter!(request.filter);
        let limit = match usize::try_from(request.page_size) {
            Ok(0) => usize::MAX,
            Ok(size) => size,
            Err(_) => return Err(Status::invalid_argument("`page_size` is negative")),
        };
        let mut found = self
            .rows(&filter)
            .await?
            .into_iter()
            .filter(|(row, _)| row.node_id > request.page_token);
        let mut agents = Vec::new();
        let mut last = String::new();
        for (row, agent) in found.by_ref().take(limit) {
            last = row.node_id;
            agents.push(masked(agent, request.output_mask.as_ref()));
        }
        let next_page_token = if found.next().is_some() { last } else { String::new() };
        Ok(Response::new(ListAgentsResponse { agents, next_page_token }))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        let request = request.into_inner();
        let node = self.node(request.id.as_ref()).await?;
        let agent = self.agent(&node.view().row).await?;
        Ok(Response::new(masked(agent, request.output_mask.as_ref())))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let caller = caller_of(&request)?;
        let domain = &self.0;
        let node = self.node(request.get_ref().id.as_ref()).await?;
        let domain = domain.clone();
        nodes::undivided(async move {
            let _guard = node.lock().await;
            let row = node.view().row;
            // A deleted node may come again: whoever was kept out must not get in that way.
            let held = row.banned || row.flag.is_some();
            if held && !matches!(caller, Caller::Local { .. }) {
                let fault = "the node is banned or held: only the private socket deletes it";
                return Err(Status::failed_precondition(fault));
            }
            let reason = Reason::NotAttested;
            let changes = vec![
                Change::VoidStanding { node: node.id.clone(), reason },
                Change::DeleteNode { node_id: row.node_id, revision: row.revision },
            ];
            let record = act(&caller, "node-delete", &node.id);
            let store = |error| refusal::store(&error);
            domain.store.commit(changes, vec![record]).await.map_err(store)?;
            node.fall(reason);
            domain.nodes.forget(&node.id);
            tracing::info!(decision = "node-delete", caller = caller.name(), node = %node.id);
            Ok(Response::new(()))
        })
        .await
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let caller = caller_of(&request)?;
        let domain = &self.0;
        let node = self.node(request.get_ref().id.as_ref()).await?;
        let domain = domain.clone();
        nodes::undivided(async move {
            let _guard = node.lock().await;
            let row = NodeRow { banned: true, ..node.view().row };
            let reason = Reason::Banned;
            let void = Change::VoidStanding { node: node.id.clone(), reason };
            let record = act(&caller, "node-ban", &node.id);
            node.commit(&domain.store, row, vec![void], vec![record])
                .await
                .map_err(|error| refusal::store(&error))?;
            node.fall(reason);
            tracing::info!(decision = "node-ban", caller = caller.name(), node = %node.id);
            Ok(Response::new(()))
        })
        .await
    }

    type AttestAgentStream = ReceiverStream<Result<AttestAgentResponse, Status>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let domain = self.0.clone();
        let connection = connection_of(&request)?;
        let id = refusal::correlation_id()?;
        let Some(place) = domain.attestations.enter(connection.address.ip()) else {
            return Err(refusal::status(Reason::OverLimit, id, 5));
        };
        let attestation = Attestation {
            domain,
            id,
            address: connection.address,
            exporter: connection.exporter,
            _place: place,
        };
        let (answers, receiver) = mpsc::channel(2);
        let line = AttestLine { asked: request.into_inner(), answers };
        tokio::spawn(attestation.run(line));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        agent_of(&request)?;
        Err(details::deny("evidence comes first: attest again", SpireReason::AgentMustReattest))
    }

    async fn create_join_token(
        &self,
        _: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        let id = refusal::correlation_id()?;
        tracing::warn!(
            decision = "refused",
            method = "CreateJoinToken",
            code = Reason::DangerSwitchOff.code(),
            correlation_id = id
        );
        Err(refusal::status(Reason::DangerSwitchOff, id, 0))
    }

    async fn post_status(
        &self,
        request: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        let domain = &self.0;
        let node = agent_of(&request)?;
        let version = request.into_inner().agent_version;
        if version.len() > MAX_VERSION || version.chars().any(char::is_control) {
            return Err(Status::invalid_argument("`agent_version` has at most 64 bytes of text"));
        }
        if !version.is_empty() && node.with(|view| view.row.agent_version != version) {
            domain.demand_signing_rate(&node, "PostStatus")?;
            let domain = domain.clone();
            nodes::undivided(async move {
                let _guard = node.lock().await;
                let row = NodeRow { agent_version: version, ..node.view().row };
                node.commit(&domain.store, row, Vec::new(), Vec::new())
                    .await
                    .map_err(|error| refusal::store(&error))
            })
            .await?;
        }
        Ok(Response::new(PostStatusResponse {}))
    }
}

fn masked(agent: types::Agent, mask: Option<&types::AgentMask>) -> types::Agent {
    let Some(mask) = mask else { return agent };
    let mut out = types::Agent { id: agent.id, ..types::Agent::default() };
    macro_rules! take {
        ($($field:ident)*) => { $(if mask.$field { out.$field = agent.$field; })* };
    }
    take!(attestation_type x509svid_serial_number x509svid_expires_at selectors);
    take!(banned can_reattest agent_version);
    out
}
