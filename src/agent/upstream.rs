//! What the agent asks the server for once it is attested, each call with a deadline.
//!
//! The channel is whatever the node's driver has open at the moment; nothing here connects. A
//! refusal that concerns the whole host is passed on to the driver, which alone acts on it.

use std::time::Duration;

use assay_evidence::time::Time;
use assay_proto::assay::v1::EntryExtension;
use assay_proto::assay::v1::Instance as WireInstance;
use assay_proto::assay::v1::InstanceFacts;
use assay_proto::details;
use assay_proto::spire::api::server::bundle::v1::GetBundleRequest;
use assay_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use assay_proto::spire::api::server::entry::v1::SyncAuthorizedEntriesRequest;
use assay_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use assay_proto::spire::api::server::svid::v1::BatchNewX509svidRequest;
use assay_proto::spire::api::server::svid::v1::NewJwtsvidRequest;
use assay_proto::spire::api::server::svid::v1::NewX509svidParams;
use assay_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use assay_proto::spire::api::types;
use assay_proto::spire::api::types::permission_denied_details::Reason as SpireReason;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tonic::Code;
use tonic::Status;
use tonic::transport::Channel;

use crate::agent::bundle;
use crate::agent::bundle::BundleError;
use crate::spiffe::Bundle;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::EntryParams;
use crate::spiffe::Instance;
use crate::spiffe::JwtSvid;
use crate::spiffe::Selector;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;

/// One call of the server.
const CALL: Duration = Duration::from_secs(30);
/// Signing a batch may take as long as a slow device needs; the server stops before the deadline.
const BATCH_CALL: Duration = Duration::from_secs(60);
/// Entries one host may have; the rest is left out, with a warning.
const MOST_ENTRIES: usize = 10_000;
/// Entries asked for by one message.
const PAGE: usize = 500;

/// What the server says about the whole host, in answer to any call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The standing is gone or the SVID is not known: attest again.
    AttestAgain,
    Banned,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    #[error("the server is not within reach")]
    Away,
    #[error("the server did not answer within {0:?}")]
    Deadline(Duration),
    #[error("the server refused: {}", .0.message())]
    Refused(#[source] Box<Status>),
    #[error("the server's answer makes no sense: {0}")]
    Answer(&'static str),
    #[error("the server's bundle cannot be used")]
    Bundle(#[source] BundleError),
}

/// The server, as far as it is within reach.
#[derive(Debug, Clone)]
pub struct Upstream {
    trust_domain: TrustDomain,
    channel: watch::Receiver<Option<Channel>>,
    verdicts: mpsc::Sender<Verdict>,
}

/// One SVID to sign.
#[derive(Debug)]
pub struct Request {
    pub entry: EntryId,
    /// PKCS #10, DER.
    pub csr: Vec<u8>,
    pub facts: Option<InstanceFacts>,
}

/// One signed SVID, as it came.
#[derive(Debug)]
pub struct Signed {
    pub chain: Vec<Vec<u8>>,
}

impl Upstream {
    pub fn new(
        trust_domain: TrustDomain,
        channel: watch::Receiver<Option<Channel>>,
        verdicts: mpsc::Sender<Verdict>,
    ) -> Self {
        Self { trust_domain, channel, verdicts }
    }

    /// One answer for each request, in their order.
    pub async fn sign(
        &self,
        requests: Vec<Request>,
    ) -> Result<Vec<Result<Signed, String>>, UpstreamError> {
        let expected = requests.len();
        let params = requests
            .into_iter()
            .map(|request| NewX509svidParams {
                entry_id: request.entry.as_str().to_owned(),
                csr: request.csr,
                assay: request.facts,
            })
            .collect();
        let mut client = SvidClient::new(self.channel()?);
        let call = client.batch_new_x509svid(timed(BatchNewX509svidRequest { params }, BATCH_CALL));
        let results = self.within(BATCH_CALL, call).await?.results;
        if results.len() != expected {
            return Err(UpstreamError::Answer("another number of SVIDs than asked for"));
        }
        let signed = results.into_iter().map(|result| match (result.status, result.svid) {
            (None, Some(svid)) => Ok(Signed { chain: svid.cert_chain }),
            (Some(status), Some(svid)) if status.code == 0 => Ok(Signed { chain: svid.cert_chain }),
            (Some(status), _) => Err(status.message),
            (None, None) => Err("neither an SVID nor a status".to_owned()),
        });
        Ok(signed.collect())
    }

    pub async fn jwt(
        &self,
        entry: &Entry,
        audience: Vec<String>,
    ) -> Result<JwtSvid, UpstreamError> {
        let request = NewJwtsvidRequest { entry_id: entry.id().as_str().to_owned(), audience };
        let mut client = SvidClient::new(self.channel()?);
        let call = client.new_jwtsvid(timed(request, CALL));
        let svid = self.within(CALL, call).await?.svid;
        let svid = svid.ok_or(UpstreamError::Answer("no JWT-SVID"))?;
        let id = svid.id.as_ref().and_then(spiffe_id);
        if id.as_ref() != Some(entry.spiffe_id()) {
            return Err(UpstreamError::Answer("a JWT-SVID of another identity"));
        }
        Ok(JwtSvid {
            id: entry.spiffe_id().clone(),
            token: svid.token,
            issued_at: Time::from_unix_s(svid.issued_at),
            expires_at: Time::from_unix_s(svid.expires_at),
            hint: svid.hint,
        })
    }

    pub async fn bundle(&self) -> Result<Bundle, UpstreamError> {
        let mut client = BundleClient::new(self.channel()?);
        let call = client.get_bundle(timed(GetBundleRequest { output_mask: None }, CALL));
        let found = self.within(CALL, call).await?;
        bundle::parse(found, &self.trust_domain).map_err(UpstreamError::Bundle)
    }

    /// Every entry this host is in charge of; those in `known` that did not change are not asked
    /// for again.
    pub async fn entries(
        &self,
        known: &[std::sync::Arc<Entry>],
    ) -> Result<Vec<Entry>, UpstreamError> {
        match tokio::time::timeout(CALL, self.sync(known)).await {
            Ok(result) => result,
            Err(_) => Err(UpstreamError::Deadline(CALL)),
        }
    }

    async fn sync(&self, known: &[std::sync::Arc<Entry>]) -> Result<Vec<Entry>, UpstreamError> {
        let (send, receive) = mpsc::channel(1);
        let ask = |ids, output_mask| SyncAuthorizedEntriesRequest { output_mask, ids };
        // The mask counts in the first message; without a receiver the call below says why.
        let _ = send.send(ask(Vec::new(), Some(everything()))).await;
        let mut client = EntryClient::new(self.channel()?);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
        let call = client.sync_authorized_entries(stream);
        let mut answers = self.within(CALL, call).await?;
        let mut entries = Vec::new();
        let mut wanted = Vec::new();
        loop {
            let answer = answers.message().await.map_err(|status| self.judge(status))?;
            let answer = answer.ok_or(UpstreamError::Answer("the list of entries broke off"))?;
            entries.extend(answer.entries.into_iter().filter_map(|e| self.parse(e)));
            for revision in answer.entry_revisions {
                let same = known.iter().find(|entry| {
                    entry.id().as_str() == revision.id
                        && entry.revision() == revision.revision_number
                });
                match same {
                    Some(entry) => entries.push(Entry::clone(entry)),
                    None => wanted.push(revision.id),
                }
            }
            if entries.len() + wanted.len() > MOST_ENTRIES {
                return Err(UpstreamError::Answer("more than 10,000 entries for one host"));
            }
            if !answer.more {
                break;
            }
        }
        while !wanted.is_empty() {
            let page: Vec<_> = wanted.drain(..wanted.len().min(PAGE)).collect();
            if send.send(ask(page, None)).await.is_err() {
                return Err(UpstreamError::Answer("the list of entries broke off"));
            }
            loop {
                let answer = answers.message().await.map_err(|status| self.judge(status))?;
                let answer =
                    answer.ok_or(UpstreamError::Answer("the list of entries broke off"))?;
                entries.extend(answer.entries.into_iter().filter_map(|e| self.parse(e)));
                if !answer.more {
                    break;
                }
            }
        }
        Ok(entries)
    }

    fn parse(&self, entry: types::Entry) -> Option<Entry> {
        let id = entry.id.clone();
        match parse_entry(entry, &self.trust_domain) {
            Ok(entry) => Some(entry),
            Err(fault) => {
                tracing::warn!(entry = %id, %fault, "entry left out");
                None
            }
        }
    }

    fn channel(&self) -> Result<Channel, UpstreamError> {
        self.channel.borrow().clone().ok_or(UpstreamError::Away)
    }

    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, UpstreamError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.judge(status)),
            Err(_) => Err(UpstreamError::Deadline(limit)),
        }
    }

    /// Tells the driver where the answer concerns the whole host.
    fn judge(&self, status: Status) -> UpstreamError {
        if let Some(verdict) = verdict(&status) {
            // A full queue holds the same verdict already.
            let _ = self.verdicts.try_send(verdict);
        }
        match status.code() {
            Code::Unavailable | Code::Cancelled | Code::Unknown => UpstreamError::Away,
            _ => UpstreamError::Refused(Box::new(status)),
        }
    }
}

/// What a refusal says about the whole host.
pub fn verdict(status: &Status) -> Option<Verdict> {
    if status.code() == Code::Unauthenticated {
        return Some(Verdict::AttestAgain);
    }
    match details::reason(status)? {
        SpireReason::AgentBanned => Some(Verdict::Banned),
        SpireReason::AgentExpired
        | SpireReason::AgentNotAttested
        | SpireReason::AgentNotActive
        | SpireReason::AgentMustReattest => Some(Verdict::AttestAgain),
        SpireReason::Unknown => None,
    }
}

/// The deadline travels along, so that the server can stop in time.
fn timed<T>(message: T, limit: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

fn everything() -> types::EntryMask {
    types::EntryMask {
        spiffe_id: true,
        parent_id: true,
        selectors: true,
        x509_svid_ttl: true,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: true,
        dns_names: true,
        revision_number: true,
        store_svid: true,
        jwt_svid_ttl: true,
        hint: true,
        created_at: true,
        additional_attributes: true,
    }
}

fn spiffe_id(id: &types::Spiffeid) -> Option<SpiffeId> {
    TrustDomain::parse(&id.trust_domain).ok()?.member(&id.path).ok()
}

/// An entry as the server sent it, judged like any other.
fn parse_entry(entry: types::Entry, trust_domain: &TrustDomain) -> Result<Entry, String> {
    let id = |id: Option<types::Spiffeid>, name: &str| {
        id.as_ref().and_then(spiffe_id).ok_or_else(|| format!("its {name} is no SPIFFE ID"))
    };
    let seconds = |s: i32| Duration::from_secs(u64::try_from(s).unwrap_or(0));
    let extension = entry.assay.unwrap_or(EntryExtension { instance: 0, admit_unattested: false });
    let instance = match WireInstance::try_from(extension.instance) {
        Ok(WireInstance::Shared) => Instance::Shared,
        Ok(WireInstance::Process) => Instance::Process,
        Err(_) => return Err("its instance is of a kind that this agent does not know".to_owned()),
    };
    let params = EntryParams {
        id: EntryId::parse(&entry.id).map_err(|error| error.to_string())?,
        spiffe_id: id(entry.spiffe_id, "identity")?,
        parent_id: id(entry.parent_id, "parent")?,
        selectors: entry
            .selectors
            .iter()
            .map(|selector| Selector::new(&selector.r#type, &selector.value))
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?,
        x509_svid_ttl: seconds(entry.x509_svid_ttl),
        jwt_svid_ttl: seconds(entry.jwt_svid_ttl),
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: (entry.expires_at != 0).then(|| Time::from_unix_s(entry.expires_at)),
        dns_names: entry.dns_names,
        hint: entry.hint,
        instance,
        admit_unattested: extension.admit_unattested,
        jwt_include_jti: entry.additional_attributes.is_some_and(|a| a.jwt_svid_include_jti),
    };
    let created_at = Time::from_unix_s(entry.created_at);
    Entry::new(params, trust_domain, created_at, entry.revision_number)
        .map_err(|error| error.to_string())
}
