//! The SPIFFE Workload API: what a process on this host may ask the agent for.
//!
//! Who calls is not asked but looked at ([`Callers`]), when the call begins and again before
//! anything new is handed to a stream. Nothing here waits for the TPM or for the server where the
//! answer is there already.
//!
//! Source: SPIFFE Workload API, sections 4 (endpoint security), 5 (X.509), 6 (JWT).

use std::sync::Arc;
use std::time::Duration;

use assay_proto::workload as wire;
use assay_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use prost_types::Struct;
use prost_types::Value;
use prost_types::value::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::service::Interceptor;

use crate::agent::bundle;
use crate::agent::caller::Caller;
use crate::agent::caller::Callers;
use crate::agent::host::HostState;
use crate::agent::identities::Answer;
use crate::agent::identities::Held;
use crate::agent::identities::Identities;
use crate::agent::identities::Slot;
use crate::agent::identities::Whose;
use crate::agent::listener::ConnectedPeer;
use crate::agent::share::Places;
use crate::agent::tokens::Kept;
use crate::agent::tokens::TokenSlot;
use crate::agent::tokens::Tokens;
use crate::agent::upstream::Upstream;
use crate::agent::upstream::UpstreamError;
use crate::ca::jwt::verify_jwt;
use crate::clock::Clock;
use crate::spiffe::Bundle;
use crate::spiffe::Entry;
use crate::spiffe::Instance;
use crate::spiffe::JwtSvid;
use crate::spiffe::SpiffeId;
use crate::workload::Peer;
use crate::workload::WorkloadError;

/// How long a call that cannot be answered yet waits for its answer.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Streams open at once; a quarter of them for one user.
pub const MAX_STREAMS: usize = 4_096;
const MAX_AUDIENCES: usize = 16;
const MAX_AUDIENCE_BYTES: usize = 2_048;
const HEADER: &str = "workload.spiffe.io";

/// The service; cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkloadApi {
    pub clock: Clock,
    pub identities: Arc<Identities>,
    pub callers: Arc<Callers>,
    pub tokens: Arc<Tokens>,
    pub upstream: Upstream,
    pub streams: Arc<Places>,
    /// [`PATIENCE`]
    pub patience: Duration,
}

/// Workload API section 4.1: without the header a call may be one that a browser was tricked
/// into.
#[derive(Debug, Clone, Copy)]
pub struct RequireHeader;

impl Interceptor for RequireHeader {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match request.metadata().get(HEADER).map(|value| value.as_bytes()) {
            Some(b"true") => Ok(request),
            _ => Err(Status::invalid_argument("metadata `workload.spiffe.io: true` is missing")),
        }
    }
}

/// What a stream has to say at one moment. Equal marks are equal messages.
enum Look<T> {
    Say(Mark, T),
    /// Nothing to say yet.
    Wait(Status),
    End(Status),
}

type Mark = (Vec<String>, Option<u64>);

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = ReceiverStream<Result<wire::X509svidResponse, Status>>;
    type FetchX509BundlesStream = ReceiverStream<Result<wire::X509BundlesResponse, Status>>;
    type FetchJWTBundlesStream = ReceiverStream<Result<wire::JwtBundlesResponse, Status>>;
    type FetchWITSVIDStream = ReceiverStream<Result<wire::WitsvidResponse, Status>>;
    type FetchWITBundlesStream = ReceiverStream<Result<wire::WitBundlesResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<wire::X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.follow(peer(&request)?, "x509-svid", |api, caller| api.x509_svids(caller)).await
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<wire::X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.follow(peer(&request)?, "x509-bundles", |api, caller| {
            api.bundles(caller, |bundle| wire::X509BundlesResponse {
                crl: Vec::new(),
                bundles: [(bundle.trust_domain.id(), bundle::x509_form(bundle))].into(),
            })
        })
        .await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<wire::JwtsvidRequest>,
    ) -> Result<Response<wire::JwtsvidResponse>, Status> {
        let peer = peer(&request)?;
        let request = request.into_inner();
        let audience = audience(request.audience)?;
        let only = match request.spiffe_id.as_str() {
            "" => None,
            id => Some(SpiffeId::parse(id).map_err(|e| Status::invalid_argument(e.to_string()))?),
        };
        let mut caller = self.read(&peer).await?;
        let answer = self.jwt_svids(&mut caller, &audience, only.as_ref()).await;
        match &answer {
            Ok(svids) => tracing::info!(
                pid = peer.pid(),
                uid = peer.uid(),
                svids = svids.len(),
                ?audience,
                "jwt-svid given"
            ),
            Err(status) => refused(&peer, "jwt-svid", status),
        }
        Ok(Response::new(wire::JwtsvidResponse { svids: answer? }))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<wire::JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.follow(peer(&request)?, "jwt-bundles", |api, caller| {
            api.bundles(caller, |bundle| wire::JwtBundlesResponse {
                bundles: [(bundle.trust_domain.id(), bundle::jwt_form(bundle))].into(),
            })
        })
        .await
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<wire::ValidateJwtsvidRequest>,
    ) -> Result<Response<wire::ValidateJwtsvidResponse>, Status> {
        let peer = peer(&request)?;
        let request = request.into_inner();
        if request.audience.is_empty() {
            return Err(Status::invalid_argument("an audience is needed"));
        }
        if let Some(status) = self.stopped() {
            return Err(status);
        }
        let bundle = self.identities.bundle().ok_or_else(|| self.not_yet())?;
        let verified = verify_jwt(&request.svid, &request.audience, &bundle, self.clock.now());
        let claims = verified.map_err(|error| {
            let status = Status::invalid_argument(error.to_string());
            refused(&peer, "jwt-verify", &status);
            status
        })?;
        Ok(Response::new(wire::ValidateJwtsvidResponse {
            spiffe_id: claims.id().to_string(),
            claims: Some(structure(claims.all())),
        }))
    }

    async fn fetch_witsvid(
        &self,
        _: Request<wire::WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(Status::unimplemented("workload identity tokens are not issued"))
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<wire::WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(Status::unimplemented("workload identity tokens are not issued"))
    }
}

impl WorkloadApi {
    /// Opens a stream that says what `look` finds, and again whenever that becomes another thing.
    async fn follow<T: Send + 'static>(
        &self,
        peer: Arc<Peer>,
        what: &'static str,
        look: impl Fn(&Self, &Caller) -> Look<T> + Send + Sync + 'static,
    ) -> Result<Response<ReceiverStream<Result<T, Status>>>, Status> {
        let Some(place) = Places::take(&self.streams, peer.uid()) else {
            let status = Status::resource_exhausted("this user has too many streams open");
            refused(&peer, what, &status);
            return Err(status);
        };
        let mut caller = self.read(&peer).await?;
        let (say, stream) = mpsc::channel(1);
        let api = self.clone();
        // Ends with the stream, or with the agent: both close `say` or say so.
        tokio::spawn(async move {
            let _place = place;
            if let Err(status) = api.talk(&mut caller, what, look, &say).await {
                refused(&peer, what, &status);
                // The caller may have hung up.
                let _ = say.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    /// Returns when the caller has hung up, or why the stream must end.
    async fn talk<T: Send + 'static>(
        &self,
        caller: &mut Caller,
        what: &'static str,
        look: impl Fn(&Self, &Caller) -> Look<T>,
        say: &mpsc::Sender<Result<T, Status>>,
    ) -> Result<(), Status> {
        let mut changes = self.identities.changes();
        let mut said: Option<Mark> = None;
        let mut waited = false;
        let patience = tokio::time::sleep(self.patience);
        tokio::pin!(patience);
        loop {
            changes.borrow_and_update();
            if let Some(status) = self.stopped() {
                return Err(status);
            }
            self.complete(caller).await?;
            let mut why = None;
            match look(self, caller) {
                Look::End(status) => return Err(status),
                // A definite answer; who has been served already keeps what he has.
                Look::Wait(status) if said.is_none() && self.identities.state().is_down() => {
                    return Err(status);
                }
                Look::Wait(status) => why = Some(status),
                Look::Say(mark, _) if said.as_ref() == Some(&mark) => {}
                Look::Say(mut mark, mut message) => {
                    if waited {
                        // INVARIANT: what is handed out goes to a process that matches now.
                        *caller = self.read(&caller.peer).await?;
                        match look(self, caller) {
                            Look::Say(m, again) => (mark, message) = (m, again),
                            Look::End(status) => return Err(status),
                            Look::Wait(_) => continue,
                        }
                    }
                    tracing::info!(
                        pid = caller.peer.pid(), uid = caller.peer.uid(), serials = ?mark.0,
                        what, "given"
                    );
                    if say.send(Ok(message)).await.is_err() {
                        return Ok(());
                    }
                    said = Some(mark);
                }
            }
            let waits = said.is_none();
            waited = true;
            tokio::select! {
                changed = changes.changed() => {
                    changed.map_err(|_| Status::unavailable("the agent is stopping"))?;
                }
                () = say.closed() => return Ok(()),
                () = &mut patience, if waits => {
                    return Err(why.unwrap_or_else(|| self.not_yet()));
                }
            }
        }
    }

    fn x509_svids(&self, caller: &Caller) -> Look<wire::X509svidResponse> {
        match self.identities.answer(caller) {
            Answer::NotYet => Look::Wait(self.not_yet()),
            Answer::NoIdentity => Look::End(no_identity()),
            Answer::Identities { held, missing, .. } if missing > 0 || held.is_empty() => {
                Look::Wait(self.not_yet())
            }
            Answer::Identities { .. } if !self.identities.state().may_give() => {
                Look::Wait(self.not_yet())
            }
            Answer::Identities { held, bundle, .. } => {
                let serials = held.iter().map(|held| held.serial.clone()).collect();
                let authorities = bundle::x509_form(&bundle);
                let svids = held.iter().map(|held| x509_svid(held, &authorities)).collect();
                let crl = Vec::new();
                let federated_bundles = Default::default();
                let message = wire::X509svidResponse { svids, crl, federated_bundles };
                Look::Say((serials, Some(bundle.sequence)), message)
            }
        }
    }

    /// Bundles are public, but only workloads are told.
    fn bundles<T>(&self, caller: &Caller, form: impl Fn(&Bundle) -> T) -> Look<T> {
        let Some(matching) = self.identities.matching(caller) else {
            return Look::Wait(self.not_yet());
        };
        match self.identities.bundle() {
            _ if matching.is_empty() => Look::End(no_identity()),
            Some(bundle) => Look::Say((Vec::new(), Some(bundle.sequence)), form(&bundle)),
            None => Look::Wait(self.not_yet()),
        }
    }

    async fn jwt_svids(
        &self,
        caller: &mut Caller,
        audience: &[String],
        only: Option<&SpiffeId>,
    ) -> Result<Vec<wire::Jwtsvid>, Status> {
        let entries = self.entries_of(caller).await?;
        let wanted: Vec<_> =
            entries.iter().filter(|entry| only.is_none_or(|id| id == entry.spiffe_id())).collect();
        if wanted.is_empty() {
            return Err(no_identity());
        }
        let mut svids = Vec::with_capacity(wanted.len());
        for entry in wanted {
            let svid = self.jwt_svid(caller, entry, audience).await?;
            svids.push(wire::Jwtsvid {
                spiffe_id: svid.id.to_string(),
                svid: svid.token,
                hint: entry.hint().to_owned(),
            });
        }
        Ok(svids)
    }

    /// Out of memory where a token is in its first half; else a new one; else, where the server is
    /// not within reach, one that is still valid.
    async fn jwt_svid(
        &self,
        caller: &Caller,
        entry: &Entry,
        audience: &[String],
    ) -> Result<JwtSvid, Status> {
        let instance = match entry.instance() {
            Instance::Shared => Whose::Shared,
            Instance::Process => Whose::of(&caller.peer),
        };
        let slot = TokenSlot {
            slot: Slot { entry: entry.id().clone(), instance },
            revision: entry.revision(),
            audience: audience.to_vec(),
        };
        let keep = !entry.jwt_include_jti();
        let kept = self.tokens.recall(&slot, self.clock.now()).filter(|_| keep);
        let usable = match kept {
            Some(Kept::Fresh(svid)) => return Ok(svid),
            Some(Kept::Usable(svid)) => Some(svid),
            None => None,
        };
        if !self.identities.state().may_issue() {
            return usable.ok_or_else(|| self.not_yet());
        }
        match (self.upstream.jwt(entry, audience.to_vec()).await, usable) {
            (Ok(svid), _) => {
                if keep {
                    self.tokens.keep(slot, svid.clone());
                }
                Ok(svid)
            }
            (Err(UpstreamError::Away | UpstreamError::Deadline(_)), Some(svid)) => Ok(svid),
            (Err(error), _) => Err(upstream(&error)),
        }
    }

    /// The entries that match, waited for while the agent starts.
    async fn entries_of(&self, caller: &mut Caller) -> Result<Vec<Arc<Entry>>, Status> {
        let mut changes = self.identities.changes();
        let mut waited = false;
        let known = async {
            loop {
                if let Some(status) = self.stopped() {
                    return Err(status);
                }
                self.complete(caller).await?;
                let state = self.identities.state();
                match self.identities.matching(caller) {
                    Some(matching) if state.may_give() && !waited => return Ok(matching),
                    Some(_) if state.may_give() => {
                        // INVARIANT: what is issued goes to a process that matches now.
                        *caller = self.read(&caller.peer).await?;
                        waited = false;
                        continue;
                    }
                    _ if state.is_down() => return Err(self.not_yet()),
                    _ => {}
                }
                if changes.changed().await.is_err() {
                    return Err(Status::unavailable("the agent is stopping"));
                }
                waited = true;
            }
        };
        match tokio::time::timeout(self.patience, known).await {
            Ok(result) => result,
            Err(_) => Err(self.not_yet()),
        }
    }

    async fn read(&self, peer: &Arc<Peer>) -> Result<Caller, Status> {
        let read = self.callers.read(peer, self.identities.ask_for_digests()).await;
        read.map_err(|error| unseen(peer, &error))
    }

    /// Entries may have come to ask for more than was read.
    async fn complete(&self, caller: &mut Caller) -> Result<(), Status> {
        if self.identities.ask_for_digests() && !caller.digested {
            *caller = self.read(&caller.peer).await?;
        }
        Ok(())
    }

    /// States in which nobody is served any more.
    fn stopped(&self) -> Option<Status> {
        match self.identities.state() {
            HostState::Banned => Some(Status::permission_denied("this host is banned")),
            HostState::Stopping => Some(Status::unavailable("the agent is stopping")),
            _ => None,
        }
    }

    /// Why there is no answer yet.
    fn not_yet(&self) -> Status {
        let why = match self.identities.state() {
            HostState::Starting => "this host is not attested yet".to_owned(),
            HostState::Stale => {
                "this host's standing has run out and the server is not within reach".to_owned()
            }
            HostState::Refused { code } => format!("the server refused this host: {code}"),
            _ => "no svid could be had yet".to_owned(),
        };
        Status::unavailable(why)
    }
}

fn x509_svid(held: &Held, authorities: &[u8]) -> wire::X509svid {
    wire::X509svid {
        spiffe_id: held.id.to_string(),
        x509_svid: held.chain.concat(),
        x509_svid_key: held.key.to_vec(),
        bundle: authorities.to_vec(),
        hint: held.hint.clone(),
    }
}

fn peer<T>(request: &Request<T>) -> Result<Arc<Peer>, Status> {
    let peer = request.extensions().get::<ConnectedPeer>();
    Ok(Arc::clone(&peer.ok_or_else(|| Status::internal("a connection without a peer"))?.0))
}

/// Sorted, each once.
fn audience(mut audience: Vec<String>) -> Result<Vec<String>, Status> {
    audience.sort();
    audience.dedup();
    if !(1..=MAX_AUDIENCES).contains(&audience.len()) {
        return Err(Status::invalid_argument("1 to 16 audiences are needed"));
    }
    if audience.iter().any(|text| text.is_empty() || text.len() > MAX_AUDIENCE_BYTES) {
        return Err(Status::invalid_argument("an audience has 1 to 2048 bytes"));
    }
    Ok(audience)
}

fn no_identity() -> Status {
    Status::permission_denied("no identity issued")
}

fn upstream(error: &UpstreamError) -> Status {
    match error {
        UpstreamError::Refused(status) if status.code() == Code::PermissionDenied => {
            Status::permission_denied(error.to_string())
        }
        UpstreamError::Refused(status) if status.code() == Code::InvalidArgument => {
            Status::invalid_argument(error.to_string())
        }
        _ => Status::unavailable(error.to_string()),
    }
}

fn unseen(peer: &Peer, error: &WorkloadError) -> Status {
    let status = match error {
        WorkloadError::Gone { .. }
        | WorkloadError::CredentialsChanged { .. }
        | WorkloadError::Invisible => Status::permission_denied(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    };
    refused(peer, "facts", &status);
    status
}

/// One event per decision against a caller.
fn refused(peer: &Peer, what: &'static str, status: &Status) {
    let (pid, uid) = (peer.pid(), peer.uid());
    tracing::info!(pid, uid, what, code = ?status.code(), why = status.message(), "refused");
}

/// JSON claims as protobuf has them.
fn structure(map: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: map.iter().map(|(name, json)| (name.clone(), value(json))).collect() }
}

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(bool) => Kind::BoolValue(*bool),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(list) => {
            Kind::ListValue(prost_types::ListValue { values: list.iter().map(value).collect() })
        }
        serde_json::Value::Object(map) => Kind::StructValue(structure(map)),
    };
    Value { kind: Some(kind) }
}
