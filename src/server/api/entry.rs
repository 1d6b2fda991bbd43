//! SPIRE's Entry service: registration by administrators, and what an agent is in charge of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::crypto::Random;
use assay_evidence::crypto::SystemRandom;
use assay_proto::spire::api::server::entry::v1::*;
use assay_proto::spire::api::types;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;

use crate::appraisal::authorized_entries;
use crate::records::Data;
use crate::records::Draft;
use crate::records::Ref;
use crate::records::Subject;
use crate::server::api::agent::spoken;
use crate::server::authorization::Caller;
use crate::server::domain::Domain;
use crate::server::gate::agent_of;
use crate::server::gate::caller_of;
use crate::server::refusal;
use crate::server::registry::Entries;
use crate::server::wire;
use crate::server::wire::SelectorFilter;
use crate::spiffe::Entry as Registered;
use crate::spiffe::EntryId;
use crate::spiffe::Instance;
use crate::spiffe::SpiffeId;
use crate::store::Change;
use crate::store::StoreError;

/// Entries in one batch.
const MAX_BATCH: usize = 1_000;
/// Up to here a sync sends everything at once (as SPIRE's server does).
const SYNC_PAGE: usize = 500;
/// Rounds in which one agent may ask for whole entries; as many as hold the most entries.
const MAX_SYNC_ROUNDS: usize = 1_000;
/// From one message of a sync to the next, either way.
const SYNC_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct EntryApi(pub Arc<Domain>);

/// Which entries a listing or a count is about.
#[derive(Default)]
struct Filter {
    spiffe_id: Option<SpiffeId>,
    parent_id: Option<SpiffeId>,
    selectors: Option<SelectorFilter>,
    hint: Option<String>,
    downstream: Option<bool>,
    /// Entries that federate: there are none.
    federated: bool,
}

impl Filter {
    fn admits(&self, entry: &Registered) -> bool {
        self.spiffe_id.as_ref().is_none_or(|id| entry.spiffe_id() == id)
            && self.parent_id.as_ref().is_none_or(|id| entry.parent_id() == id)
            && self.selectors.as_ref().is_none_or(|filter| filter.admits(entry.selectors()))
            && self.hint.as_ref().is_none_or(|hint| entry.hint() == hint)
            && self.downstream.is_none_or(|downstream| entry.downstream() == downstream)
            && !self.federated
    }
}

/// The two filter messages are one in all but name.
macro_rules! parse_filter {
    ($wire:expr) => {
        match $wire {
            None => Filter::default(),
            Some(wire) => {
                let parse = |field, id: Option<&types::Spiffeid>| {
                    id.map(|id| wire::parse_spiffe_id(field, Some(id))).transpose()
                };
                Filter {
                    spiffe_id: parse("by_spiffe_id", wire.by_spiffe_id.as_ref())?,
                    parent_id: parse("by_parent_id", wire.by_parent_id.as_ref())?,
                    selectors: wire.by_selectors.as_ref().map(SelectorFilter::parse).transpose()?,
                    hint: wire.by_hint,
                    downstream: wire.by_downstream,
                    federated: wire.by_federates_with.is_some(),
                }
            }
        }
    };
}

impl EntryApi {
    async fn entries(&self) -> Result<Arc<Entries>, Status> {
        let domain = &self.0;
        domain.registry.entries(&domain.store).await.map_err(|error| refusal::store(&error))
    }

    async fn stored(&self, id: &EntryId) -> Result<Registered, Status> {
        let stored = self.0.store.entry(id).await.map_err(|error| refusal::store(&error))?;
        stored.ok_or_else(|| not_found(id))
    }

    async fn create(
        &self,
        caller: &Caller,
        asked: &types::Entry,
        mask: Option<&types::EntryMask>,
    ) -> Result<types::Entry, (Status, Option<types::Entry>)> {
        let domain = &self.0;
        let id = match asked.id.as_str() {
            "" => fresh_id(),
            id => EntryId::parse(id).map_err(|error| Status::invalid_argument(error.to_string())),
        };
        let id = id.map_err(|status| (status, None))?;
        let params = wire::parse_entry(asked, id.clone()).map_err(|status| (status, None))?;
        let entry = Registered::new(params, &domain.config.trust_domain, domain.clock.now(), 0)
            .map_err(|error| (Status::invalid_argument(error.to_string()), None))?;
        let draft = record(caller, "entry-create", &entry);
        let change = Change::Entry { entry, revision: None };
        let stored = async |id: &EntryId| {
            let stored = domain.store.entry(id).await;
            let stored = stored.map_err(|error| (refusal::store(&error), None))?;
            Ok(stored.map(|entry| wire::entry(&entry, mask)))
        };
        match domain.store.commit(vec![change], vec![draft]).await {
            Ok(_) => {
                tracing::info!(decision = "entry-create", caller = caller.name(), entry = %id);
                let stored = stored(&id).await?;
                stored.ok_or_else(|| (Status::aborted("deleted meanwhile"), None))
            }
            Err(StoreError::Similar { id }) => {
                Err((Status::already_exists("a similar entry exists"), stored(&id).await?))
            }
            Err(StoreError::Conflict { .. }) => {
                Err((Status::already_exists("an entry with this id exists"), stored(&id).await?))
            }
            Err(error) => Err((refusal::store(&error), None)),
        }
    }

    async fn update(
        &self,
        caller: &Caller,
        asked: &types::Entry,
        input: Option<&types::EntryMask>,
        output: Option<&types::EntryMask>,
    ) -> Result<types::Entry, Status> {
        let domain = &self.0;
        let id = parse_id(&asked.id)?;
        let stored = self.stored(&id).await?;
        let params = wire::merge_entry(&stored, asked, input)?;
        let (created_at, revision) = (stored.created_at(), stored.revision());
        let entry = Registered::new(params, &domain.config.trust_domain, created_at, revision)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let draft = record(caller, "entry-update", &entry);
        let change = Change::Entry { entry, revision: Some(revision) };
        domain
            .store
            .commit(vec![change], vec![draft])
            .await
            .map_err(|error| refusal::store(&error))?;
        tracing::info!(decision = "entry-update", caller = caller.name(), entry = %id);
        Ok(wire::entry(&self.stored(&id).await?, output))
    }

    async fn delete(&self, caller: &Caller, id: &str) -> Result<(), Status> {
        let domain = &self.0;
        let id = parse_id(id)?;
        let draft = record(caller, "entry-delete", &self.stored(&id).await?);
        let change = Change::DeleteEntry { id: id.clone(), revision: None };
        domain
            .store
            .commit(vec![change], vec![draft])
            .await
            .map_err(|error| refusal::store(&error))?;
        tracing::info!(decision = "entry-delete", caller = caller.name(), entry = %id);
        Ok(())
    }
}

#[tonic::async_trait]
impl entry_server::Entry for EntryApi {
    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        let filter = parse_filter!(request.into_inner().filter);
        let entries = self.entries().await?;
        let count = entries.all.iter().filter(|entry| filter.admits(entry)).count();
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Response::new(CountEntriesResponse { count }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let filter = parse_filter!(request.filter);
        let limit = page_size(request.page_size)?;
        let entries = self.entries().await?;
        let mut found = entries
            .all
            .iter()
            .filter(|entry| entry.id().as_str() > request.page_token.as_str())
            .filter(|entry| filter.admits(entry));
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let next_page_token = match (found.next(), page.last()) {
            (Some(_), Some(last)) => last.id().to_string(),
            _ => String::new(),
        };
        let mask = request.output_mask.as_ref();
        let entries = page.into_iter().map(|entry| wire::entry(entry, mask)).collect();
        Ok(Response::new(ListEntriesResponse { entries, next_page_token }))
    }

    async fn get_entry(
        &self,
        request: Request<GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        let request = request.into_inner();
        let id = parse_id(&request.id)?;
        let entry = self.stored(&id).await?;
        Ok(Response::new(wire::entry(&entry, request.output_mask.as_ref())))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        demand_batch(request.entries.len())?;
        let mut results = Vec::new();
        for asked in &request.entries {
            let (status, entry) =
                match self.create(&caller, asked, request.output_mask.as_ref()).await {
                    Ok(entry) => (wire::ok(), Some(entry)),
                    Err((status, entry)) => (wire::status(&status), entry),
                };
            results.push(batch_create_entry_response::Result { status: Some(status), entry });
        }
        Ok(Response::new(BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        demand_batch(request.entries.len())?;
        let (input, output) = (request.input_mask.as_ref(), request.output_mask.as_ref());
        let mut results = Vec::new();
        for asked in &request.entries {
            let (status, entry) = match self.update(&caller, asked, input, output).await {
                Ok(entry) => (wire::ok(), Some(entry)),
                Err(status) => (wire::status(&status), None),
            };
            results.push(batch_update_entry_response::Result { status: Some(status), entry });
        }
        Ok(Response::new(BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        demand_batch(request.ids.len())?;
        let mut results = Vec::new();
        for id in request.ids {
            let status = match self.delete(&caller, &id).await {
                Ok(()) => wire::ok(),
                Err(status) => wire::status(&status),
            };
            results.push(batch_delete_entry_response::Result { status: Some(status), id });
        }
        Ok(Response::new(BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let agent = agent_of(&request)?;
        let standing = self.0.demand_standing(&agent, "GetAuthorizedEntries")?;
        let mask = request.into_inner().output_mask;
        let entries = self.entries().await?;
        let now = self.0.clock.now();
        let entries = authorized_entries(standing.node(), standing.selectors(), &entries.all, now)
            .iter()
            .map(|authorized| wire::entry(authorized.entry(), mask.as_ref()))
            .collect();
        Ok(Response::new(GetAuthorizedEntriesResponse { entries }))
    }

    type SyncAuthorizedEntriesStream =
        ReceiverStream<Result<SyncAuthorizedEntriesResponse, Status>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let agent = agent_of(&request)?;
        let standing = self.0.demand_standing(&agent, "SyncAuthorizedEntries")?;
        let mut asked = request.into_inner();
        let first = next(&mut asked)
            .await?
            .ok_or_else(|| Status::invalid_argument("the stream ended before its first message"))?;
        let mask = first.output_mask;
        if mask.is_some_and(|mask| !mask.revision_number) {
            return Err(Status::invalid_argument("the mask must ask for `revision_number`"));
        }
        let snapshot = self.entries().await?;
        let now = self.0.clock.now();
        let found: Vec<Registered> =
            authorized_entries(standing.node(), standing.selectors(), &snapshot.all, now)
                .iter()
                .map(|authorized| authorized.entry().clone())
                .collect();
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            // The stream ends when the sender is dropped; an agent that went away ends it too.
            let _ = sync(found, mask, asked, &sender).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Few entries go at once. Of many the revisions go first, and whole ones as they are asked for.
async fn sync(
    found: Vec<Registered>,
    mask: Option<types::EntryMask>,
    mut asked: Streaming<SyncAuthorizedEntriesRequest>,
    sender: &mpsc::Sender<Result<SyncAuthorizedEntriesResponse, Status>>,
) -> Option<()> {
    if found.len() <= SYNC_PAGE {
        let entries = found.iter().map(|entry| wire::entry(entry, mask.as_ref())).collect();
        let all = SyncAuthorizedEntriesResponse { entries, ..Default::default() };
        return say(sender, Ok(all)).await;
    }
    let mut pages = found.chunks(SYNC_PAGE).peekable();
    while let Some(page) = pages.next() {
        let entry_revisions = page
            .iter()
            .map(|entry| EntryRevision {
                id: entry.id().to_string(),
                revision_number: entry.revision(),
                created_at: entry.created_at().unix_s(),
            })
            .collect();
        let more = pages.peek().is_some();
        let page = SyncAuthorizedEntriesResponse { entry_revisions, more, ..Default::default() };
        say(sender, Ok(page)).await?;
    }
    for _ in 0..MAX_SYNC_ROUNDS {
        // An agent that asks for nothing more in time has what it wants.
        let Ok(Some(request)) = next(&mut asked).await else { return Some(()) };
        let wanted: BTreeSet<&str> = request.ids.iter().map(String::as_str).collect();
        let wanted: Vec<_> =
            found.iter().filter(|entry| wanted.contains(entry.id().as_str())).collect();
        let mut pages = wanted.chunks(SYNC_PAGE).peekable();
        if pages.peek().is_none() {
            say(sender, Ok(SyncAuthorizedEntriesResponse::default())).await?;
        }
        while let Some(page) = pages.next() {
            let entries = page.iter().map(|entry| wire::entry(entry, mask.as_ref())).collect();
            let more = pages.peek().is_some();
            let page = SyncAuthorizedEntriesResponse { entries, more, ..Default::default() };
            say(sender, Ok(page)).await?;
        }
    }
    let over = Status::resource_exhausted(format!("at most {MAX_SYNC_ROUNDS} rounds of a sync"));
    say(sender, Err(over)).await
}

/// The next message of a sync; a silent agent does not hold its stream.
async fn next(
    asked: &mut Streaming<SyncAuthorizedEntriesRequest>,
) -> Result<Option<SyncAuthorizedEntriesRequest>, Status> {
    let late = |_| Status::deadline_exceeded("no message of the sync in time");
    tokio::time::timeout(SYNC_WITHIN, asked.message()).await.map_err(late)?
}

/// Says it, unless the agent has gone or does not read.
async fn say(
    sender: &mpsc::Sender<Result<SyncAuthorizedEntriesResponse, Status>>,
    said: Result<SyncAuthorizedEntriesResponse, Status>,
) -> Option<()> {
    tokio::time::timeout(SYNC_WITHIN, sender.send(said)).await.ok()?.ok()
}

fn record(caller: &Caller, act: &'static str, entry: &Registered) -> Draft {
    let selectors: Vec<String> = entry.selectors().iter().map(ToString::to_string).collect();
    let json = |list: &[String]| spoken(serde_json::to_string(list).unwrap_or_default());
    let instance = match entry.instance() {
        Instance::Shared => "shared",
        Instance::Process => "process",
    };
    let arguments = [
        ("entry", entry.id().to_string()),
        ("spiffe_id", entry.spiffe_id().to_string()),
        ("parent_id", entry.parent_id().to_string()),
        ("selectors", json(&selectors)),
        ("x509_svid_ttl_s", entry.x509_svid_ttl().as_secs().to_string()),
        ("jwt_svid_ttl_s", entry.jwt_svid_ttl().as_secs().to_string()),
        ("dns_names", json(entry.dns_names())),
        ("instance", instance.to_owned()),
        ("expires_at", entry.expires_at().map(|at| at.to_string()).unwrap_or_default()),
        ("hint", spoken(entry.hint().to_owned())),
        ("admin", entry.admin().to_string()),
        ("downstream", entry.downstream().to_string()),
        ("admit_unattested", entry.admit_unattested().to_string()),
        ("jwt_include_jti", entry.jwt_include_jti().to_string()),
    ];
    Draft {
        subject: Subject::Id(entry.spiffe_id().clone()),
        actor: caller.actor(),
        refs: vec![Ref::Entry(entry.id().clone())],
        data: Data::Admin(crate::records::Admin {
            act,
            arguments: arguments.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        }),
    }
}

/// A random UUID (RFC 9562 5.4), the form of ids that SPIRE's programs expect.
fn fresh_id() -> Result<EntryId, Status> {
    let mut bytes = [0; 16];
    let exhausted = || Status::unavailable("no random bytes to be had");
    SystemRandom::new().fill(&mut bytes).map_err(|_| exhausted())?;
    let digits = hex::encode(bytes);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let text = format!(
        "{}-{}-4{}-a{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    );
    EntryId::parse(&text).map_err(|error| Status::internal(error.to_string()))
}

fn parse_id(id: &str) -> Result<EntryId, Status> {
    EntryId::parse(id).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn not_found(id: &EntryId) -> Status {
    Status::not_found(format!("no entry `{id}`"))
}

fn demand_batch(found: usize) -> Result<(), Status> {
    if found <= MAX_BATCH {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("at most {MAX_BATCH} entries in a batch, found {found}")))
}

/// 0 asks for everything.
fn page_size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(usize::MAX),
        Ok(size) => Ok(size),
        Err(_) => Err(Status::invalid_argument(format!("`page_size` is negative: {asked}"))),
    }
}
