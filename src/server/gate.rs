//! The gate before every service: who calls, whether he may, and which node he speaks for.
//!
//! It reads what the transport proved (client certificate, peer credentials of the private
//! socket), looks the method up in the table of `authorization`, and for agents judges the node's
//! row and the certificate's serial. What passes carries a [`Caller`], and an agent's call its
//! [`Node`], in its extensions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use tonic::Request;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::Service;
use tonic::codegen::http;

use crate::exchange;
use crate::exchange::SerialUse;
use crate::records::Data;
use crate::records::Draft;
use crate::records::Outcome;
use crate::records::Subject;
use crate::server::authorization;
use crate::server::authorization::Caller;
use crate::server::authorization::Class;
use crate::server::domain::Domain;
use crate::server::nodes;
use crate::server::nodes::Node;
use crate::server::nodes::View;
use crate::server::refusal;
use crate::spiffe::Serial;
use crate::store::Change;
use crate::store::Flag;
use crate::store::StoreError;
use crate::tls::ConnectInfo;
use crate::tls::Operator;
use crate::tls::Peer;

/// Puts the gate before the services of one listener.
#[derive(Clone)]
pub struct Gate(pub Arc<Domain>);

#[derive(Clone)]
pub struct Gated<S> {
    domain: Arc<Domain>,
    inner: S,
}

impl<S> tower::Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { domain: self.0.clone(), inner }
    }
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The service that was polled ready goes into the call; its clone waits for the next.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let domain = self.domain.clone();
        Box::pin(async move {
            match pass(&domain, &mut request).await {
                Ok(()) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// The caller that the gate let through.
pub fn caller_of<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(ungated)
}

/// The node for which the calling agent speaks.
pub fn agent_of<T>(request: &Request<T>) -> Result<Arc<Node>, Status> {
    request.extensions().get::<Arc<Node>>().cloned().ok_or_else(ungated)
}

/// The TLS connection that carries the call.
pub fn connection_of<T>(request: &Request<T>) -> Result<ConnectInfo, Status> {
    request.extensions().get::<ConnectInfo>().cloned().ok_or_else(ungated)
}

fn ungated() -> Status {
    Status::internal("a call came around the gate")
}

async fn pass(domain: &Arc<Domain>, request: &mut http::Request<Body>) -> Result<(), Status> {
    let method = request.uri().path().to_owned();
    let Some(class) = authorization::class(&method) else {
        return Err(Status::unimplemented("no such method"));
    };
    let connection = request.extensions().get::<ConnectInfo>().cloned();
    let caller = caller(request, connection.as_ref())?;
    let denied = |expected: &str| {
        let correlation_id = refusal::correlation_id().unwrap_or_default();
        tracing::warn!(
            decision = "refused",
            caller = caller.name(),
            method,
            expected,
            correlation_id,
            "not for this caller"
        );
        Status::permission_denied(format!("for {expected} only ({correlation_id})"))
    };
    match (class, &caller) {
        (Class::Any, _)
        | (Class::Channel, Caller::Stranger { .. } | Caller::Peer { .. })
        | (Class::Local | Class::Admin, Caller::Local { .. }) => {}
        (Class::Channel, Caller::Local { .. }) => return Err(denied("the TLS listener")),
        (Class::Local, _) => return Err(denied("the private socket")),
        (Class::Admin, Caller::Peer { .. }) => {
            let peer = connection.as_ref().and_then(|connection| connection.peer.as_deref());
            let admitted = match peer {
                Some(peer) => administrator(domain, peer).await.map_err(|e| refusal::store(&e))?,
                None => false,
            };
            if !admitted {
                return Err(denied("administrators"));
            }
        }
        (Class::Admin, Caller::Stranger { .. }) => return Err(denied("administrators")),
        (Class::Agent, _) => {
            let peer = connection
                .as_ref()
                .and_then(|connection| connection.peer.as_ref().map(|peer| (connection, peer)));
            let Some((connection, peer)) = peer else { return Err(denied("attested agents")) };
            let node = agent(domain, connection, peer, &method).await?;
            request.extensions_mut().insert(node);
        }
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

fn caller(
    request: &http::Request<Body>,
    connection: Option<&ConnectInfo>,
) -> Result<Caller, Status> {
    if let Some(local) = request.extensions().get::<Operator>() {
        return Ok(Caller::Local { uid: local.uid, pid: local.pid });
    }
    let connection = connection.ok_or_else(ungated)?;
    let address = connection.address;
    Ok(match &connection.peer {
        None => Caller::Stranger { address },
        Some(peer) => Caller::Peer { address, id: peer.id.clone(), serial: peer.serial },
    })
}

/// Whether this SVID makes an administrator now. A connection outlives what it was opened with, so
/// each call asks again: is the certificate in force, is it one we issued, does the machine that it
/// was issued to still stand.
async fn administrator(domain: &Domain, peer: &Peer) -> Result<bool, StoreError> {
    let now = domain.clock.moment();
    let entries = domain.registry.entries(&domain.store).await?;
    if now.wall >= peer.not_after || !entries.admin(&peer.id, now.wall) {
        return Ok(false);
    }
    let issued = match &peer.serial {
        Some(serial) => domain.store.issued(serial).await?,
        None => None,
    };
    let Some(host) = issued.and_then(|issued| issued.node) else { return Ok(false) };
    let deny = domain.registry.deny(&domain.store).await?;
    let node = domain.nodes.node(&domain.store, &host).await?;
    let stands = |view: &View| {
        let fresh = view.standing.as_ref().is_some_and(|standing| standing.is_fresh(now));
        !view.row.banned && view.row.flag.is_none() && fresh
    };
    Ok(deny.denial(&peer.id, &host).is_none() && node.is_some_and(|node| node.with(stands)))
}

/// The node behind an agent's certificate, if its calls count now.
async fn agent(
    domain: &Arc<Domain>,
    connection: &ConnectInfo,
    peer: &Peer,
    method: &str,
) -> Result<Arc<Node>, Status> {
    let caller = peer.id.to_string();
    let refuse = |reason, detail: &str| Err(refusal::refuse(&caller, method, reason, detail));
    if peer.id.node_id().is_none() {
        return refuse(Reason::NotAttested, "not the SVID of a node");
    }
    let node = domain.nodes.node(&domain.store, &peer.id).await;
    let Some(node) = node.map_err(|error| refusal::store(&error))? else {
        return refuse(Reason::NotAttested, "no such node");
    };
    // A connection may outlive the certificate it was opened with.
    if domain.clock.now() >= peer.not_after {
        return refuse(Reason::SvidInvalid, &format!("expired {}", peer.not_after));
    }
    let Some(serial) = peer.serial else {
        return refuse(Reason::SvidInvalid, "a serial of another length than ours");
    };
    let opened = connection.opened.wall;
    let found = match node.with(|view| verdict(domain, view, &serial, opened)) {
        Ok(SerialUse::FirstUse | SerialUse::Clone) => {
            // The row changes: look again under the lock.
            let (domain, node) = (domain.clone(), node.clone());
            let address = connection.address;
            nodes::undivided(async move {
                let _guard = node.lock().await;
                let found = node.with(|view| verdict(&domain, view, &serial, opened));
                match found {
                    Ok(SerialUse::FirstUse) => succeed(&domain, &node).await?,
                    Ok(SerialUse::Clone) => suspect(&domain, &node, address, &serial).await?,
                    _ => {}
                }
                Ok(found)
            })
            .await?
        }
        found => found,
    };
    match found {
        Ok(SerialUse::Active | SerialUse::FirstUse | SerialUse::Fading) => Ok(node),
        Ok(SerialUse::Clone) => {
            refuse(Reason::CloneSuspected, &format!("replaced serial {serial} came back"))
        }
        Ok(SerialUse::Replaced | SerialUse::Unknown) => {
            refuse(Reason::SerialReplaced, &format!("serial {serial}"))
        }
        Err(reason) => refuse(reason, "by the node's row"),
    }
}

/// What the node's row says of a call under this serial.
fn verdict(
    domain: &Domain,
    view: &View,
    serial: &Serial,
    opened: Time,
) -> Result<SerialUse, Reason> {
    if view.row.banned {
        return Err(Reason::Banned);
    }
    match view.row.flag {
        Some(Flag::CloneSuspected) => return Err(Reason::CloneSuspected),
        Some(Flag::ClockRegression) => return Err(Reason::ClockRegression),
        None => {}
    }
    Ok(exchange::judge_serial(&view.row.serials, serial, opened, domain.clock.now()))
}

/// The successor is used for the first time; what it replaces begins to fade.
async fn succeed(domain: &Domain, node: &Node) -> Result<(), Status> {
    let mut row = node.view().row;
    nodes::succeed(&mut row, domain.clock.now());
    node.commit(&domain.store, row, Vec::new(), Vec::new())
        .await
        .map_err(|error| refusal::store(&error))
}

/// A serial that was replaced long ago is used on a new connection: two agents speak for one
/// node. Both are refused until an operator has looked.
async fn suspect(
    domain: &Domain,
    node: &Node,
    address: SocketAddr,
    serial: &Serial,
) -> Result<(), Status> {
    let mut row = node.view().row;
    row.flag = Some(Flag::CloneSuspected);
    let finding = assay_evidence::reason::Finding::new(
        Reason::CloneSuspected,
        "agent.serial",
        format!("{serial}, replaced before, from {address}"),
        row.serials.active.map(|active| active.to_string()).unwrap_or_default(),
        "node's serials",
    );
    let record = Draft {
        subject: Subject::Id(node.id.clone()),
        actor: crate::records::Actor::Address(address),
        refs: Vec::new(),
        data: Data::Result(Outcome::refused(vec![finding])),
    };
    let reason = Reason::CloneSuspected;
    let void = Change::VoidStanding { node: node.id.clone(), reason };
    node.commit(&domain.store, row, vec![void], vec![record])
        .await
        .map_err(|error| refusal::store(&error))?;
    node.fall(reason);
    Ok(())
}
