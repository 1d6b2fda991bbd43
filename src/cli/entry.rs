//! `assay entry …`: registration entries, over SPIRE's Entry API on the private socket.

use std::collections::BTreeSet;
use std::time::Duration;

use assay_proto::assay::v1::EntryExtension;
use assay_proto::assay::v1::Instance;
use assay_proto::spire::api::server::entry::v1::BatchCreateEntryRequest;
use assay_proto::spire::api::server::entry::v1::BatchDeleteEntryRequest;
use assay_proto::spire::api::server::entry::v1::BatchUpdateEntryRequest;
use assay_proto::spire::api::server::entry::v1::GetEntryRequest;
use assay_proto::spire::api::server::entry::v1::ListEntriesRequest;
use assay_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use assay_proto::spire::api::types;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;
use tonic::transport::Channel;

use crate::cli::connect::ServerSocket;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::table;
use crate::clock::Span;
use crate::spiffe::Selector;
use crate::spiffe::SpiffeId;

#[derive(Subcommand, Debug)]
pub enum EntryCommand {
    /// Create an entry
    #[command(after_help = "Example:\n  assay entry create --parent \
        spiffe://example.org/spire/agent/assay/7f3a… \\\n    --id spiffe://example.org/web \
        --selector unix:uid:1000 --selector unix:sha256:9c0e…")]
    Create(CreateArgs),
    /// List entries
    List(ListArgs),
    /// Show one entry
    Show(OneArgs),
    /// Change the named parts of an entry, leaving the others
    Update(UpdateArgs),
    /// Delete an entry; its SVIDs are not renewed
    Delete(OneArgs),
}

#[derive(Args, Debug)]
pub struct CreateArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// SPIFFE ID of the workload
    #[arg(long)]
    id: SpiffeId,
    /// SPIFFE ID of the node, node alias or parent workload
    #[arg(long)]
    parent: SpiffeId,
    /// Fact the workload must show, `type:value`; repeat for several
    #[arg(long = "selector", required = true)]
    selectors: Vec<Selector>,
    /// Entry id; made by the server if left out
    #[arg(long)]
    entry_id: Option<String>,
    #[command(flatten)]
    parts: Parts,
}

#[derive(Args, Debug)]
pub struct UpdateArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// Entry id
    entry_id: String,
    /// New SPIFFE ID
    #[arg(long)]
    id: Option<SpiffeId>,
    /// New parent
    #[arg(long)]
    parent: Option<SpiffeId>,
    /// New selectors, in place of all old ones
    #[arg(long = "selector")]
    selectors: Vec<Selector>,
    #[command(flatten)]
    parts: Parts,
}

/// What creating and updating share.
#[derive(Args, Debug)]
pub struct Parts {
    /// Lifetime of X.509-SVIDs, such as `30m`
    #[arg(long, value_parser = span)]
    x509_ttl: Option<Duration>,
    /// Lifetime of JWT-SVIDs, such as `5m`
    #[arg(long, value_parser = span)]
    jwt_ttl: Option<Duration>,
    /// DNS name for the X.509-SVID; repeat for several
    #[arg(long = "dns")]
    dns_names: Vec<String>,
    /// Hint for workloads with several identities
    #[arg(long)]
    hint: Option<String>,
    /// One identity for all matching processes, or an own one for each
    #[arg(long, value_parser = ["shared", "process"])]
    instance: Option<String>,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub struct OneArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// Entry id
    entry_id: String,
}

impl EntryCommand {
    pub async fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Create(args) => create(args).await,
            Self::List(args) => list(&args).await,
            Self::Show(args) => show(&args).await,
            Self::Update(args) => update(args).await,
            Self::Delete(args) => delete(&args).await,
        }
    }
}

async fn create(args: CreateArgs) -> Result<Answer, Failure> {
    let mut client = client(&args.server).await?;
    let warning = weak_selectors(&args.selectors);
    let mut entry = types::Entry {
        id: args.entry_id.unwrap_or_default(),
        spiffe_id: Some(id_message(&args.id)),
        parent_id: Some(id_message(&args.parent)),
        selectors: selector_messages(&args.selectors),
        ..Default::default()
    };
    args.parts.apply(&mut entry);
    let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let response = client.batch_create_entry(request).await?.into_inner();
    let result = response.results.into_iter().next().ok_or_else(no_result)?;
    let created = outcome(result.status, result.entry)?;
    let mut json = entry_json(&created);
    let mut text = format!("created entry {}\n{}", created.id, entry_text(&created));
    if let Some(warning) = warning {
        text = format!("warning: {warning}\n{text}");
        if let Some(object) = json.as_object_mut() {
            object.insert("warning".to_owned(), json!(warning));
        }
    }
    Ok(Answer::new(json, text))
}

async fn list(args: &ListArgs) -> Result<Answer, Failure> {
    let mut client = client(&args.server).await?;
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEntriesRequest { page_token, page_size: 500, ..Default::default() };
        let page = client.list_entries(request).await?.into_inner();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut rows = vec![["ENTRY", "SPIFFE ID", "PARENT", "SELECTORS"].map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        let selectors: Vec<_> = entry.selectors.iter().map(selector_text).collect();
        vec![
            entry.id.clone(),
            id_text(entry.spiffe_id.as_ref()),
            id_text(entry.parent_id.as_ref()),
            selectors.join(" "),
        ]
    }));
    let text = if entries.is_empty() { "no entries\n".to_owned() } else { table(&rows) };
    Ok(Answer::new(json!({ "entries": entries.iter().map(entry_json).collect::<Vec<_>>() }), text))
}

async fn show(args: &OneArgs) -> Result<Answer, Failure> {
    let mut client = client(&args.server).await?;
    let entry = fetch(&mut client, &args.entry_id).await?;
    Ok(Answer::new(entry_json(&entry), entry_text(&entry)))
}

async fn update(args: UpdateArgs) -> Result<Answer, Failure> {
    let mut client = client(&args.server).await?;
    let mut entry = fetch(&mut client, &args.entry_id).await?;
    if let Some(id) = &args.id {
        entry.spiffe_id = Some(id_message(id));
    }
    if let Some(parent) = &args.parent {
        entry.parent_id = Some(id_message(parent));
    }
    if !args.selectors.is_empty() {
        entry.selectors = selector_messages(&args.selectors);
    }
    args.parts.apply(&mut entry);
    let request = BatchUpdateEntryRequest { entries: vec![entry], ..Default::default() };
    let response = client.batch_update_entry(request).await?.into_inner();
    let result = response.results.into_iter().next().ok_or_else(no_result)?;
    let updated = outcome(result.status, result.entry)?;
    Ok(Answer::new(entry_json(&updated), entry_text(&updated)))
}

async fn delete(args: &OneArgs) -> Result<Answer, Failure> {
    let mut client = client(&args.server).await?;
    let request = BatchDeleteEntryRequest { ids: vec![args.entry_id.clone()] };
    let response = client.batch_delete_entry(request).await?.into_inner();
    let result = response.results.into_iter().next().ok_or_else(no_result)?;
    outcome(result.status, Some(()))?;
    Ok(Answer::new(json!({ "deleted": args.entry_id }), format!("deleted {}", args.entry_id)))
}

async fn client(server: &ServerSocket) -> Result<EntryClient<Channel>, Failure> {
    Ok(EntryClient::new(server.connect().await?))
}

async fn fetch(client: &mut EntryClient<Channel>, id: &str) -> Result<types::Entry, Failure> {
    let request = GetEntryRequest { id: id.to_owned(), output_mask: None };
    Ok(client.get_entry(request).await?.into_inner())
}

impl Parts {
    fn apply(self, entry: &mut types::Entry) {
        let seconds = |ttl: Duration| i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX);
        if let Some(ttl) = self.x509_ttl {
            entry.x509_svid_ttl = seconds(ttl);
        }
        if let Some(ttl) = self.jwt_ttl {
            entry.jwt_svid_ttl = seconds(ttl);
        }
        if !self.dns_names.is_empty() {
            entry.dns_names = self.dns_names;
        }
        if let Some(hint) = self.hint {
            entry.hint = hint;
        }
        if let Some(instance) = self.instance {
            let instance = if instance == "process" { Instance::Process } else { Instance::Shared };
            let extension = entry.assay.get_or_insert_with(EntryExtension::default);
            extension.instance = instance.into();
        }
    }
}

/// The kernel says what the peer of a socket is, not who holds the socket later: facts about its
/// executable alone do not tell it from another process of the same user.
fn weak_selectors(selectors: &[Selector]) -> Option<String> {
    let kinds: BTreeSet<&str> = selectors
        .iter()
        .map(|selector| match selector.kind() {
            "unix" => selector.value().split(':').next().unwrap_or_default(),
            kind => kind,
        })
        .collect();
    let weak = kinds.iter().all(|kind| ["path", "sha256"].contains(kind));
    weak.then(|| {
        "only facts about the executable are asked for; a process of the same user can pass them \
         on. Add `unix:uid:…`, and run the workload as a user of its own"
            .to_owned()
    })
}

fn span(text: &str) -> Result<Duration, String> {
    Span::try_from(text.to_owned()).map(|span| span.0)
}

fn id_message(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().as_str().to_owned(),
        path: id.path().to_owned(),
    }
}

fn selector_messages(selectors: &[Selector]) -> Vec<types::Selector> {
    let message = |selector: &Selector| types::Selector {
        r#type: selector.kind().to_owned(),
        value: selector.value().to_owned(),
    };
    selectors.iter().map(message).collect()
}

fn id_text(id: Option<&types::Spiffeid>) -> String {
    id.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path)).unwrap_or_default()
}

fn selector_text(selector: &types::Selector) -> String {
    format!("{}:{}", selector.r#type, selector.value)
}

fn entry_json(entry: &types::Entry) -> Value {
    let extension = entry.assay.unwrap_or_default();
    json!({
        "id": entry.id,
        "spiffe_id": id_text(entry.spiffe_id.as_ref()),
        "parent_id": id_text(entry.parent_id.as_ref()),
        "selectors": entry.selectors.iter().map(selector_text).collect::<Vec<_>>(),
        "x509_svid_ttl": entry.x509_svid_ttl,
        "jwt_svid_ttl": entry.jwt_svid_ttl,
        "dns_names": entry.dns_names,
        "hint": entry.hint,
        "instance": instance_text(extension.instance),
        "revision": entry.revision_number,
        "created_at": entry.created_at,
    })
}

fn entry_text(entry: &types::Entry) -> String {
    let mut text = format!(
        "  spiffe id   {}\n  parent      {}\n",
        id_text(entry.spiffe_id.as_ref()),
        id_text(entry.parent_id.as_ref())
    );
    for selector in &entry.selectors {
        text.push_str(&format!("  selector    {}\n", selector_text(selector)));
    }
    let ttl = |seconds: i32| match seconds {
        0 => "default".to_owned(),
        seconds => format!("{seconds}s"),
    };
    text.push_str(&format!("  x509 ttl    {}\n", ttl(entry.x509_svid_ttl)));
    text.push_str(&format!("  jwt ttl     {}\n", ttl(entry.jwt_svid_ttl)));
    for name in &entry.dns_names {
        text.push_str(&format!("  dns name    {name}\n"));
    }
    if !entry.hint.is_empty() {
        text.push_str(&format!("  hint        {}\n", entry.hint));
    }
    let instance = instance_text(entry.assay.unwrap_or_default().instance);
    text.push_str(&format!("  instance    {instance}\n"));
    text.push_str(&format!("  revision    {}\n", entry.revision_number));
    text
}

fn instance_text(instance: i32) -> &'static str {
    match Instance::try_from(instance) {
        Ok(Instance::Process) => "process",
        _ => "shared",
    }
}

/// A batch answers per item: a status other than OK is the item's refusal.
fn outcome<T>(status: Option<types::Status>, value: Option<T>) -> Result<T, Failure> {
    match status {
        Some(status) if status.code != 0 => Err(Failure::refused(status.message)),
        _ => value.ok_or_else(no_result),
    }
}

fn no_result() -> Failure {
    Failure::new("the server answered without a result")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_entry_with_executable_facts_only_is_warned_about() {
        let selectors = |texts: &[&str]| -> Vec<Selector> {
            texts.iter().map(|text| Selector::parse(text).unwrap()).collect()
        };
        assert!(weak_selectors(&selectors(&["unix:path:/bin/web"])).is_some());
        assert!(weak_selectors(&selectors(&["unix:sha256:00", "unix:path:/x"])).is_some());
        assert!(weak_selectors(&selectors(&["unix:sha256:00", "unix:uid:7"])).is_none());
    }
}
