//! The two exchanges with the server: attest (in full, on a connection of its own) and refresh (a
//! new quote over the mTLS channel). The protocol is `exchange`'s; here it is given a connection,
//! a TPM and deadlines.

use std::sync::Arc;
use std::time::Duration;

use assay_evidence::certificate::Certificate;
use assay_evidence::time::Time;
use assay_proto::assay::v1::node_client::NodeClient;
use assay_proto::attestation as wire;
use assay_proto::details;
use assay_proto::spire::api::server::agent::v1::AgentX509svidParams;
use assay_proto::spire::api::server::agent::v1::AttestAgentRequest;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::server::agent::v1::attest_agent_request::Params;
use assay_proto::spire::api::server::agent::v1::attest_agent_request::Step as Ask;
use assay_proto::spire::api::server::agent::v1::attest_agent_response::Step as Answer;
use assay_proto::spire::api::types::AttestationData;
use assay_proto::spire::api::types::permission_denied_details::Reason as SpireReason;
use assay_tpm::collect::Error as TpmError;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::Status;

use crate::agent::host_tpm::HostTpm;
use crate::agent::host_tpm::HostTpmError;
use crate::agent::rotation;
use crate::exchange::Attester;
use crate::exchange::Collect;
use crate::exchange::DATA_TYPE;
use crate::exchange::Demand;
use crate::exchange::Fault;
use crate::exchange::Gathered;
use crate::exchange::MAX_FRAME;
use crate::exchange::Outcome;
use crate::exchange::Told;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;
use crate::tls;

/// TCP, TLS and a signature of the TPM.
const CONNECT: Duration = Duration::from_secs(15);
/// A whole exchange; the server's own limits are 60 s for the quote and up to 300 s for logs.
const EXCHANGE: Duration = Duration::from_secs(360);
/// What the server's longest message may have.
const MAX_ANSWER: usize = MAX_FRAME + 64 * 1_024;

/// This host's own SVID.
#[derive(Debug, Clone)]
pub struct AgentSvid {
    pub id: SpiffeId,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    pub not_after: Time,
    /// Hex.
    pub serial: String,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    #[error("the tpm cannot be used")]
    Tpm(#[from] HostTpmError),
    #[error("the server is not within reach")]
    Connect(#[from] tls::ConnectError),
    #[error("the server broke off: {}", .0.message())]
    Away(#[source] Box<Status>),
    #[error("no end of the exchange within {0:?}")]
    Deadline(Duration),
    #[error("the server refused this host: {}", .0.code)]
    Refused(Told),
    #[error("the server said what no server says")]
    Fault(#[from] Fault),
    #[error("the server's svid for this host is unusable: {0}")]
    Svid(&'static str),
    #[error("the channel cannot be opened with this host's svid")]
    Identity(#[from] tls::IdentityError),
    #[error("a task of this agent ended early")]
    Task,
}

impl AttestationError {
    /// The SVID key ended with its boot: only a new one helps.
    pub fn key_is_gone(&self) -> bool {
        matches!(self, Self::Tpm(HostTpmError::Tpm(TpmError::KeyGone)))
    }
}

/// Attests in full, as a stranger, on a connection of its own.
pub async fn attest(
    address: &str,
    server: &tls::Server,
    trust_domain: &TrustDomain,
    tpm: &Arc<HostTpm>,
) -> Result<AgentSvid, AttestationError> {
    let connection = tls::connect(address, server, None, CONNECT).await?;
    let exchange = attest_over(connection, trust_domain, tpm);
    tokio::time::timeout(EXCHANGE, exchange)
        .await
        .unwrap_or(Err(AttestationError::Deadline(EXCHANGE)))
}

async fn attest_over(
    connection: tls::Connection,
    trust_domain: &TrustDomain,
    tpm: &Arc<HostTpm>,
) -> Result<AgentSvid, AttestationError> {
    let spki = tpm.svid_spki();
    let exporter = Some(connection.exporter);
    let (hello, attester) = Attester::attest(trust_domain, exporter, Some(&spki), tpm.facts());
    let csr = with_tpm(tpm, HostTpm::request).await?;
    let (send, asks) = mpsc::channel(2);
    let ask = async |step| {
        // Where the receiver is gone, the answers say why.
        let _ = send.send(AttestAgentRequest { step: Some(step) }).await;
    };
    let data = AttestationData { r#type: DATA_TYPE.to_owned(), payload: hello.encode_to_vec() };
    let params = Some(AgentX509svidParams { csr });
    ask(Ask::Params(Params { data: Some(data), params })).await;
    let mut client = AgentClient::new(connection.channel).max_decoding_message_size(MAX_ANSWER);
    let answers = client.attest_agent(ReceiverStream::new(asks)).await.map_err(judge)?;
    let mut answers = answers.into_inner();
    let mut next = async || {
        let answer = answers.message().await.map_err(judge)?.and_then(|answer| answer.step);
        answer.ok_or_else(|| broke_off("before its result"))
    };
    let frame = |challenge: Vec<u8>| {
        wire::FromServer::decode(challenge.as_slice()).map_err(|_| Fault::Malformed)
    };
    let first = match next().await? {
        Answer::Challenge(challenge) => frame(challenge)?,
        Answer::Result(_) => return Err(out_of_order("a result", "a challenge")),
    };
    let (collect, collecting) = attester.challenged(first)?;
    let gathered = gather(tpm, collect).await?;
    let (evidence, mut sending) = collecting.evidence(gathered)?;
    ask(Ask::ChallengeResponse(evidence.encode_to_vec())).await;
    loop {
        match next().await? {
            Answer::Challenge(challenge) => match sending.on(frame(challenge)?)? {
                Demand::Send(chunk, rest) => {
                    sending = rest;
                    ask(Ask::ChallengeResponse(chunk.encode_to_vec())).await;
                }
                Demand::Done(_) => return Err(out_of_order("an outcome", "a result")),
            },
            Answer::Result(result) => {
                let svid = result.svid.ok_or(AttestationError::Svid("there is none"))?;
                return agent_svid(svid.cert_chain, &spki, trust_domain);
            }
        }
    }
}

/// Opens the channel that everything else goes over, as this host.
pub async fn open_channel(
    address: &str,
    server: &tls::Server,
    tpm: &Arc<HostTpm>,
    svid: &AgentSvid,
) -> Result<tls::Connection, AttestationError> {
    let identity = tls::Identity::device(&svid.chain, tpm.tls_key())?;
    Ok(tls::connect(address, server, Some(&identity), CONNECT).await?)
}

/// Shows a new quote over the channel.
pub async fn refresh(
    connection: &tls::Connection,
    trust_domain: &TrustDomain,
    tpm: &Arc<HostTpm>,
) -> Result<Outcome, AttestationError> {
    let exchange = refresh_over(connection, trust_domain, tpm);
    tokio::time::timeout(EXCHANGE, exchange)
        .await
        .unwrap_or(Err(AttestationError::Deadline(EXCHANGE)))
}

async fn refresh_over(
    connection: &tls::Connection,
    trust_domain: &TrustDomain,
    tpm: &Arc<HostTpm>,
) -> Result<Outcome, AttestationError> {
    let (hello, attester) = Attester::refresh(trust_domain, connection.exporter, tpm.facts());
    let (send, asks) = mpsc::channel(2);
    // As above: where nobody listens, the answers say why.
    let _ = send.send(hello).await;
    let channel = connection.channel.clone();
    let mut client = NodeClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let answers = client.refresh(ReceiverStream::new(asks)).await.map_err(judge)?;
    let mut answers = answers.into_inner();
    let mut next = async || {
        answers.message().await.map_err(judge)?.ok_or_else(|| broke_off("before its outcome"))
    };
    let (collect, collecting) = attester.challenged(next().await?)?;
    let gathered = gather(tpm, collect).await?;
    let (evidence, mut sending) = collecting.evidence(gathered)?;
    let _ = send.send(evidence).await;
    loop {
        match sending.on(next().await?)? {
            Demand::Send(chunk, rest) => {
                sending = rest;
                let _ = send.send(chunk).await;
            }
            Demand::Done(outcome) => return Ok(outcome),
        }
    }
}

async fn gather(tpm: &Arc<HostTpm>, collect: Collect) -> Result<Gathered, AttestationError> {
    with_tpm(tpm, move |tpm| tpm.collect(&collect)).await
}

/// On a thread that may block.
pub async fn with_tpm<T: Send + 'static>(
    tpm: &Arc<HostTpm>,
    act: impl FnOnce(&HostTpm) -> Result<T, HostTpmError> + Send + 'static,
) -> Result<T, AttestationError> {
    let tpm = Arc::clone(tpm);
    let acted = tokio::task::spawn_blocking(move || act(&tpm)).await;
    Ok(acted.map_err(|_| AttestationError::Task)??)
}

/// The certificate must be for our key and for a node of our trust domain.
fn agent_svid(
    chain: Vec<Vec<u8>>,
    spki: &[u8],
    trust_domain: &TrustDomain,
) -> Result<AgentSvid, AttestationError> {
    let leaf = chain.first().ok_or(AttestationError::Svid("its chain is empty"))?;
    let leaf = Certificate::parse(leaf)
        .map_err(|_| AttestationError::Svid("its certificate cannot be read"))?;
    if leaf.spki_der() != spki {
        return Err(AttestationError::Svid("it is for another key"));
    }
    let id = rotation::identity(&leaf)
        .filter(|id| id.trust_domain() == trust_domain && id.path().starts_with("/spire/agent/"))
        .ok_or(AttestationError::Svid("it is not for an agent of this trust domain"))?;
    let serial = hex::encode(leaf.serial());
    Ok(AgentSvid { id, not_after: leaf.not_after(), serial, chain })
}

/// Refused, or only away: what the server says decides between trying again soon and standing
/// refused.
fn judge(status: Status) -> AttestationError {
    if let Some(told) = Told::from_status(&status)
        && !matches!(status.code(), Code::Unavailable | Code::ResourceExhausted)
    {
        return AttestationError::Refused(told);
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => {
            let banned = details::reason(&status) == Some(SpireReason::AgentBanned);
            let code = if banned { "banned".to_owned() } else { status.message().to_owned() };
            AttestationError::Refused(Told {
                code,
                correlation_id: String::new(),
                findings: Vec::new(),
                retry_after: None,
            })
        }
        _ => AttestationError::Away(Box::new(status)),
    }
}

fn broke_off(when: &str) -> AttestationError {
    AttestationError::Away(Box::new(Status::unavailable(format!("the stream ended {when}"))))
}

fn out_of_order(found: &'static str, expected: &'static str) -> AttestationError {
    Fault::Order { found, expected }.into()
}
