//! SPIRE's SVID service: what gets signed.
//!
//! Each item is granted, prepared and recorded before anything is signed; a batch is recorded by
//! one commit. Then the device signs one after the other, until two seconds before the caller
//! stops listening; what is left over is told to come back.

use std::sync::Arc;
use std::time::Duration;

use assay_evidence::reason::Reason;
use assay_proto::assay::v1::InstanceFacts as WireFacts;
use assay_proto::spire::api::server::svid::v1::*;
use futures_util::StreamExt;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::appraisal::Authorized;
use crate::appraisal::DenySet;
use crate::appraisal::Grant;
use crate::appraisal::Standing;
use crate::appraisal::authorized_entries;
use crate::ca::CaError;
use crate::ca::PreparedX509;
use crate::ca::SubjectKey;
use crate::ca::Terms;
use crate::records::InstanceFacts;
use crate::server::domain::Domain;
use crate::server::gate::agent_of;
use crate::server::nodes::Node;
use crate::server::refusal;
use crate::server::wire;
use crate::spiffe::EntryId;
use crate::spiffe::Instance;
use crate::spiffe::X509Svid;
use crate::store::Recorded;

/// Items in one batch (SPIRE's agents begin with this many).
const MAX_BATCH: usize = 500;
/// Signatures of one batch that are asked of the device at once.
const AHEAD: usize = 8;
/// The longest a call may wait for signatures, whatever its caller says.
const LONGEST: Duration = Duration::from_secs(30);
/// What the answer needs to reach the caller before he stops listening.
const BEFORE_DEADLINE: Duration = Duration::from_secs(2);
const BATCH: &str = "BatchNewX509SVID";
const JWT: &str = "NewJWTSVID";

#[derive(Clone)]
pub struct SvidApi(pub Arc<Domain>);

impl SvidApi {
    /// Everything of one item that comes before its record.
    fn prepare(
        &self,
        node: &Node,
        standing: &Standing,
        authorized: &[Authorized<'_>],
        deny: &DenySet,
        params: &NewX509svidParams,
    ) -> Result<PreparedX509, Status> {
        let domain = &self.0;
        let caller = node.id.to_string();
        domain.demand_signing_rate(node, BATCH)?;
        let authorized = find(authorized, &params.entry_id, &caller, BATCH)?;
        let key = SubjectKey::from_csr(&params.csr)
            .map_err(|error| refusal::refuse(&caller, BATCH, error.reason(), &error.to_string()))?;
        let entry = authorized.entry();
        let instance = instance(entry.instance(), params.assay.as_ref())?;
        let grant = Grant::workload(standing, authorized, deny, domain.clock.moment())
            .map_err(|refused| refusal::grant(&caller, BATCH, &refused))?;
        let terms = Terms { instance: Some(instance), ..Terms::default() };
        domain
            .authority
            .prepare_x509(grant, key, terms)
            .map_err(|error| unsigned(&caller, BATCH, &error))
    }

    /// One item of a batch: signed before `end` or not at all, and said in the log when it was.
    async fn issue_until(
        &self,
        node: &Node,
        recorded: Recorded<PreparedX509>,
        end: Duration,
    ) -> Result<X509Svid, Status> {
        let within = end.saturating_sub(self.0.clock.boot());
        let seq = recorded.seq();
        if within.is_zero() {
            let wait = "the device has more to sign than time, try again in 1 s";
            return Err(Status::unavailable(wait));
        }
        let svid = self.issue(node, recorded, within).await?;
        tracing::info!(
            decision = "issued",
            kind = "x509",
            id = %svid.id,
            node = %node.id,
            serial = %svid.serial,
            record = seq,
        );
        Ok(svid)
    }

    /// The signature of one item. Those before it took their time: what is known of the node now
    /// decides, and once more when the signature is there.
    async fn issue(
        &self,
        node: &Node,
        recorded: Recorded<PreparedX509>,
        within: Duration,
    ) -> Result<X509Svid, Status> {
        let domain = &self.0;
        let id = recorded.intent().id().clone();
        domain.demand_still_for(node, &id, BATCH).await?;
        let issued = domain.authority.issue_x509(recorded, within).await;
        let svid = issued.map_err(|error| unsigned(&node.id.to_string(), BATCH, &error))?;
        domain.demand_still_for(node, &id, BATCH).await?;
        Ok(svid)
    }
}

#[tonic::async_trait]
impl svid_server::Svid for SvidApi {
    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let domain = &self.0;
        let node = agent_of(&request)?;
        let end = domain.clock.boot() + patience(&request);
        let params = request.into_inner().params;
        if params.len() > MAX_BATCH {
            let fault = format!("at most {MAX_BATCH} SVIDs in a batch, found {}", params.len());
            return Err(Status::invalid_argument(fault));
        }
        let standing = domain.demand_standing(&node, BATCH)?;
        let store = |error| refusal::store(&error);
        let entries = domain.registry.entries(&domain.store).await.map_err(store)?;
        let deny = domain.registry.deny(&domain.store).await.map_err(store)?;
        let authorized = authorized_entries(
            standing.node(),
            standing.selectors(),
            &entries.all,
            domain.clock.now(),
        );
        let mut outcomes: Vec<Option<Status>> = Vec::new();
        let mut prepared = Vec::new();
        for params in &params {
            match self.prepare(&node, &standing, &authorized, &deny, params) {
                Ok(one) => {
                    prepared.push(one);
                    outcomes.push(None);
                }
                Err(status) => outcomes.push(Some(status)),
            }
        }
        let recorded = if prepared.is_empty() {
            Vec::new()
        } else {
            domain.store.record(prepared).await.map_err(store)?
        };
        // The device signs one after another; what comes before and after a signature is done
        // while it is busy with the next.
        let mut issued = futures_util::stream::iter(recorded)
            .map(|recorded| self.issue_until(&node, recorded, end))
            .buffered(AHEAD);
        let mut results = Vec::new();
        for outcome in outcomes {
            let outcome = match outcome {
                Some(status) => Err(status),
                None => match issued.next().await {
                    Some(issued) => issued,
                    None => Err(Status::internal("a record is missing")),
                },
            };
            let (status, svid) = match outcome {
                Ok(svid) => (wire::ok(), Some(wire::x509_svid(&svid))),
                Err(status) => (wire::status(&status), None),
            };
            results.push(batch_new_x509svid_response::Result { status: Some(status), svid });
        }
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let domain = &self.0;
        let node = agent_of(&request)?;
        let caller = node.id.to_string();
        let within = patience(&request);
        let asked = request.into_inner();
        let standing = domain.demand_standing(&node, JWT)?;
        domain.demand_signing_rate(&node, JWT)?;
        let store = |error| refusal::store(&error);
        let entries = domain.registry.entries(&domain.store).await.map_err(store)?;
        let deny = domain.registry.deny(&domain.store).await.map_err(store)?;
        let authorized = authorized_entries(
            standing.node(),
            standing.selectors(),
            &entries.all,
            domain.clock.now(),
        );
        let authorized = find(&authorized, &asked.entry_id, &caller, JWT)?;
        let grant = Grant::workload(&standing, authorized, &deny, domain.clock.moment())
            .map_err(|refused| refusal::grant(&caller, JWT, &refused))?;
        if asked.audience.len() > 1 {
            tracing::warn!(
                node = caller,
                entry = asked.entry_id,
                audiences = asked.audience.len(),
                "a token for several audiences can be replayed among them"
            );
        }
        let prepared = domain
            .authority
            .prepare_jwt(grant, asked.audience)
            .map_err(|error| unsigned(&caller, JWT, &error))?;
        let mut recorded = domain.store.record(vec![prepared]).await.map_err(store)?;
        let recorded = recorded.pop().ok_or_else(|| Status::internal("a record is missing"))?;
        let seq = recorded.seq();
        let id = recorded.intent().id().clone();
        domain.demand_still_for(&node, &id, JWT).await?;
        let svid = domain
            .authority
            .issue_jwt(recorded, within)
            .await
            .map_err(|error| unsigned(&caller, JWT, &error))?;
        domain.demand_still_for(&node, &id, JWT).await?;
        tracing::info!(
            decision = "issued",
            kind = "jwt",
            id = %svid.id,
            node = caller,
            record = seq,
        );
        Ok(Response::new(NewJwtsvidResponse { svid: Some(wire::jwt_svid(&svid)) }))
    }

    async fn mint_x509svid(
        &self,
        _: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        unattested("MintX509SVID")
    }

    async fn mint_jwtsvid(
        &self,
        _: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        unattested("MintJWTSVID")
    }

    async fn mint_witsvid(
        &self,
        _: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        unattested("MintWITSVID")
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        Err(Status::unimplemented("WIT-SVIDs are not served"))
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        Err(Status::unimplemented("downstream authorities are not served"))
    }
}

/// Mint signs for somebody whom no machine vouches for.
fn unattested<T>(method: &str) -> Result<Response<T>, Status> {
    let correlation_id = refusal::correlation_id()?;
    tracing::warn!(
        decision = "refused",
        method,
        code = Reason::NotAttested.code(),
        correlation_id,
        "nothing is signed for the unattested"
    );
    let message = format!("{} ({correlation_id})", Reason::NotAttested.code());
    let refusal = assay_proto::attestation::Refusal {
        code: Reason::NotAttested.code().to_owned(),
        correlation_id,
        ..Default::default()
    };
    let code = tonic::Code::FailedPrecondition;
    Err(assay_proto::details::refuse(code, &message, &refusal, None))
}

fn find<'a, 'b>(
    authorized: &'a [Authorized<'b>],
    entry_id: &str,
    caller: &str,
    method: &str,
) -> Result<&'a Authorized<'b>, Status> {
    let id =
        EntryId::parse(entry_id).map_err(|error| Status::invalid_argument(error.to_string()))?;
    authorized.iter().find(|one| *one.entry().id() == id).ok_or_else(|| {
        refusal::refuse(caller, method, Reason::NoMatchingEntry, &format!("entry `{id}`"))
    })
}

/// For whom exactly, as the agent says; an entry of single processes must be told which.
fn instance(wanted: Instance, facts: Option<&WireFacts>) -> Result<InstanceFacts, Status> {
    let (Instance::Process, Some(facts)) = (wanted, facts) else {
        return match wanted {
            Instance::Shared => Ok(InstanceFacts::Shared),
            Instance::Process => Err(Status::invalid_argument(
                "the entry is for single processes: `assay` must say which",
            )),
        };
    };
    if facts.parent_serial.len() > 64 || !facts.parent_serial.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Err(Status::invalid_argument("`assay.parent_serial` is not a serial in hex"));
    }
    let executable_sha256 =
        match facts.executable_sha256.as_slice() {
            [] => None,
            bytes => Some(bytes.try_into().map_err(|_| {
                Status::invalid_argument("`assay.executable_sha256` has not 32 bytes")
            })?),
        };
    Ok(InstanceFacts::Process {
        pid: facts.pid,
        start_time: facts.start_time,
        parent_serial: (!facts.parent_serial.is_empty()).then(|| facts.parent_serial.clone()),
        executable_sha256,
    })
}

/// The device or the authority did not sign; a proved node may know why.
fn unsigned(caller: &str, method: &str, error: &CaError) -> Status {
    let reason = error.reason();
    let correlation_id = refusal::correlation_id().unwrap_or_default();
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(
        decision = "refused",
        caller,
        method,
        code = reason.code(),
        correlation_id,
        error = %error,
        cause,
        "nothing was signed"
    );
    let retry_after = error.retry_after().map_or(0, |span| span.as_secs().max(1));
    refusal::status(reason, correlation_id, u32::try_from(retry_after).unwrap_or(u32::MAX))
}

/// How long this call may wait for the device, from its `grpc-timeout`.
pub fn patience<T>(request: &Request<T>) -> Duration {
    let asked = request
        .metadata()
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(parse_timeout)
        .unwrap_or(LONGEST);
    asked.min(LONGEST).saturating_sub(BEFORE_DEADLINE)
}

/// gRPC over HTTP/2: at most eight digits and a unit of `HMSmun`.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse::<u64>().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3_600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_call_signs_until_two_seconds_before_its_deadline() {
        let with = |timeout: Option<&str>| {
            let mut request = Request::new(());
            if let Some(timeout) = timeout {
                request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
            }
            patience(&request)
        };
        assert_eq!(with(Some("10S")), Duration::from_secs(8));
        assert_eq!(with(Some("5000m")), Duration::from_secs(3));
        assert_eq!(with(Some("1S")), Duration::ZERO);
        assert_eq!(with(Some("1H")), Duration::from_secs(28));
        assert_eq!(with(None), Duration::from_secs(28));
        for odd in ["S", "1", "-1S", "123456789S", "1s"] {
            assert_eq!(parse_timeout(odd), None, "{odd}");
        }
    }

    #[test]
    fn an_entry_for_single_processes_must_be_told_which() {
        let facts = WireFacts { pid: 7, start_time: 9, ..WireFacts::default() };
        assert_eq!(instance(Instance::Shared, Some(&facts)).unwrap(), InstanceFacts::Shared);
        assert!(instance(Instance::Process, None).is_err());
        assert!(matches!(
            instance(Instance::Process, Some(&facts)).unwrap(),
            InstanceFacts::Process { pid: 7, start_time: 9, .. }
        ));
        let odd = WireFacts { executable_sha256: vec![1; 31], ..facts.clone() };
        assert!(instance(Instance::Process, Some(&odd)).is_err());
        let odd = WireFacts { parent_serial: "zz".to_owned(), ..facts };
        assert!(instance(Instance::Process, Some(&odd)).is_err());
    }
}
