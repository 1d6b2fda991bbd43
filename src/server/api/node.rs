//! Our Node service, for attested agents: new evidence, and what changed.

use std::sync::Arc;
use std::time::Duration;

use assay_evidence::binding::Purpose;
use assay_evidence::reason::Reason;
use assay_proto::assay::v1::*;
use assay_proto::attestation;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::exchange::FromAgent;
use crate::exchange::NodeId;
use crate::exchange::Refused;
use crate::server::attest;
use crate::server::attest::End;
use crate::server::attest::Exchange;
use crate::server::attest::Line;
use crate::server::attest::Stood;
use crate::server::domain::Domain;
use crate::server::gate::agent_of;
use crate::server::gate::connection_of;
use crate::server::nodes::Node;
use crate::server::nodes::Signal;
use crate::server::refusal;
use crate::server::wire;

/// Events that an agent may be behind before its stream waits.
const EVENTS: usize = 16;

#[derive(Clone)]
pub struct NodeApi(pub Arc<Domain>);

/// Refresh as a line: frames are messages.
struct RefreshLine {
    asked: Streaming<attestation::FromAgent>,
    answers: mpsc::Sender<Result<attestation::FromServer, Status>>,
}

#[tonic::async_trait]
impl Line for RefreshLine {
    async fn receive(&mut self) -> Result<Option<FromAgent>, Refused> {
        match self.asked.message().await {
            Ok(Some(message)) => FromAgent::from_wire(message).map(Some),
            Ok(None) => Ok(None),
            Err(status) => attest::broken(&status),
        }
    }

    async fn send(&mut self, message: attestation::FromServer) -> bool {
        self.answers.send(Ok(message)).await.is_ok()
    }
}

impl NodeApi {
    async fn refresh(
        &self,
        exchange: &Exchange<'_>,
        line: &mut RefreshLine,
        exporter: [u8; 32],
        node: &Arc<Node>,
    ) -> Result<Stood, End> {
        let id = node.with(|view| NodeId::parse(&view.row.node_id));
        let about = |refused: Refused| match &id {
            Some(id) => refused.about_proved(id),
            None => refused,
        };
        let first = tokio::time::timeout(attest::HELLO_WITHIN, line.receive()).await;
        let Ok(first) = first else {
            let expected = format!("within {} s", attest::HELLO_WITHIN.as_secs());
            let refused = Refused::new(Reason::ChallengeExpired, "hello", "none", expected);
            return Err(about(refused).into());
        };
        let Some(first) = first.map_err(about)? else { return Err(End::Gone) };
        if node.with(|view| view.must_reattest) {
            let refused = Refused::new(
                Reason::StandingMissing,
                "standing",
                "ended by the last evidence",
                "one to go on from",
            );
            return Err(about(refused).into());
        }
        exchange.refresh(line, first.into_hello().map_err(about)?, Some(exporter), node).await
    }
}

#[tonic::async_trait]
impl node_server::Node for NodeApi {
    type RefreshStream = ReceiverStream<Result<attestation::FromServer, Status>>;

    async fn refresh(
        &self,
        request: Request<Streaming<attestation::FromAgent>>,
    ) -> Result<Response<Self::RefreshStream>, Status> {
        let api = self.clone();
        let node = agent_of(&request)?;
        let connection = connection_of(&request)?;
        let id = refusal::correlation_id()?;
        let Some(place) = self.0.refreshes.enter(node.id.to_string()) else {
            return Err(refusal::status(Reason::OverLimit, id, 5));
        };
        let (answers, receiver) = mpsc::channel(2);
        let mut line = RefreshLine { asked: request.into_inner(), answers };
        tokio::spawn(async move {
            let _place = place;
            let exchange = Exchange {
                domain: &api.0,
                address: connection.address,
                id,
                purpose: Purpose::Refresh,
            };
            let answer = match api.refresh(&exchange, &mut line, connection.exporter, &node).await {
                Ok(stood) => Ok(api.outcome(&exchange, &stood)),
                Err(end) => match exchange.close(end).await {
                    Some(status) => Err(status),
                    None => return,
                },
            };
            // An agent that went away meanwhile asks again.
            let _ = tokio::time::timeout(attest::ANSWER_WITHIN, line.answers.send(answer)).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type WatchStream = ReceiverStream<Result<WatchEvent, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let node = agent_of(&request)?;
        let known = request.into_inner();
        let Some(signal) = node.subscribe() else {
            let caller = node.id.to_string();
            return Err(refusal::refuse(&caller, "Watch", Reason::OverLimit, "open streams"));
        };
        let (events, receiver) = mpsc::channel(EVENTS);
        let domain = self.0.clone();
        tokio::spawn(async move {
            if let Err(status) = tell(&domain, &node, signal, known, &events).await {
                let _ = events.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl NodeApi {
    fn outcome(&self, exchange: &Exchange<'_>, stood: &Stood) -> attestation::FromServer {
        let standing = stood.standing.row();
        tracing::info!(
            decision = "refreshed",
            node = %stood.node.id,
            profile = standing.profile_id,
            expires_at = %standing.expires_at,
            correlation_id = exchange.id,
            "standing goes on"
        );
        let outcome = attestation::Outcome {
            node_id: stood.node.id.node_id().unwrap_or_default().to_owned(),
            appraisal_id: standing.appraisal_id.clone(),
            quoted_at: standing.quoted_at.unix_ms(),
            expires_at: standing.expires_at.unix_ms(),
            refresh_after_s: seconds(self.0.config.nodes.policy.refresh_every),
            not_checked: stood.not_checked.clone(),
            warnings: stood.warnings.iter().map(wire::finding).collect(),
        };
        let message = attestation::from_server::Message::Outcome(outcome);
        attestation::FromServer { message: Some(message) }
    }
}

/// Says what changes until the agent leaves, the node falls or the server drains.
async fn tell(
    domain: &Domain,
    node: &Node,
    mut signal: watch::Receiver<Signal>,
    known: WatchRequest,
    events: &mpsc::Sender<Result<WatchEvent, Status>>,
) -> Result<(), Status> {
    use watch_event::Event;
    let mut sequences = domain.store.subscribe();
    let mut drain = domain.drain_signal();
    let mut bundle = domain.authority.bundle().sequence;
    let policy = &domain.config.nodes.policy;
    let settings = Settings {
        node_id: node.id.node_id().unwrap_or_default().to_owned(),
        refresh_after_s: seconds(policy.refresh_every),
        max_age_s: seconds(policy.max_age),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        not_checked: Vec::new(),
    };
    let gone = |_| Status::cancelled("the agent left");
    let send =
        async |event: Event| events.send(Ok(WatchEvent { event: Some(event) })).await.map_err(gone);
    send(Event::Settings(settings)).await?;
    let mut told = known;
    if told.bundle_sequence == 0 {
        told.bundle_sequence = bundle;
    }
    let mut refresh = signal.borrow_and_update().refresh;
    loop {
        if *drain.borrow_and_update() {
            let within_s = seconds(domain.config.drain);
            return send(Event::Draining(Draining { within_s })).await;
        }
        let now = *signal.borrow_and_update();
        if let Some(reason) = now.ended {
            let id = refusal::correlation_id()?;
            return Err(refusal::status(reason, id, 0));
        }
        if now.refresh != refresh {
            refresh = now.refresh;
            send(Event::RefreshNow(RefreshNow {})).await?;
        }
        let newest = *sequences.borrow_and_update();
        if newest.entries_revision > told.entries_revision {
            told.entries_revision = newest.entries_revision;
            let revision = newest.entries_revision;
            send(Event::EntriesChanged(EntriesChanged { revision })).await?;
        }
        if newest.deny_sequence > told.rev_seq {
            told.rev_seq = newest.deny_sequence;
            send(Event::Quarantine(Quarantine { rev_seq: newest.deny_sequence })).await?;
        }
        if newest.bundle_sequence > bundle.max(told.bundle_sequence)
            && let Ok(read) = domain.authority.reload_bundle().await
        {
            bundle = read.sequence;
        }
        if bundle > told.bundle_sequence {
            told.bundle_sequence = bundle;
            send(Event::BundleChanged(BundleChanged { sequence: bundle })).await?;
        }
        tokio::select! {
            changed = signal.changed() => changed.map_err(|_| Status::aborted("node deleted"))?,
            changed = sequences.changed() => {
                changed.map_err(|_| Status::unavailable("the store is closed"))?;
            }
            changed = drain.changed() => changed.map_err(|_| Status::unavailable("stopped"))?,
            () = events.closed() => return Err(Status::cancelled("the agent left")),
        }
    }
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}
