//! What operators register, through SPIRE's own API.

use assay_proto::assay::v1::EntryExtension;
use assay_proto::assay::v1::Instance;
use assay_proto::assay::v1::ListRecordsRequest;
use assay_proto::assay::v1::WatchRequest;
use assay_proto::assay::v1::node_client::NodeClient;
use assay_proto::assay::v1::watch_event::Event;
use assay_proto::spire::api::server::agent::v1::CountAgentsRequest;
use assay_proto::spire::api::server::agent::v1::DeleteAgentRequest;
use assay_proto::spire::api::server::agent::v1::ListAgentsRequest;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use assay_proto::spire::api::server::entry::v1::*;
use assay_proto::spire::api::types;
use tonic::Code;

use crate::host::channel;
use crate::house::House;
use crate::house::TRUST_DOMAIN;

fn id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid { trust_domain: TRUST_DOMAIN.to_owned(), path: path.to_owned() })
}

fn entry(path: &str, parent: &str) -> types::Entry {
    types::Entry {
        spiffe_id: id(path),
        parent_id: id(parent),
        selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:0".into() }],
        ..types::Entry::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_created_listed_changed_and_deleted() {
    let house = House::open().await;
    let mut entries = EntryClient::new(house.private().await);
    let wanted: Vec<_> = (0..5).map(|n| entry(&format!("/web/{n}"), "/rack")).collect();
    let mut batch = wanted.clone();
    batch.push(wanted[0].clone());
    batch.push(entry("/spire/web", "/rack"));
    let request = BatchCreateEntryRequest { entries: batch, output_mask: None };
    let created = entries.batch_create_entry(request).await.unwrap().into_inner().results;
    let codes: Vec<_> =
        created.iter().map(|r| Code::from(r.status.clone().unwrap().code)).collect();
    assert_eq!(codes[..5], [Code::Ok; 5]);
    assert_eq!(codes[5..], [Code::AlreadyExists, Code::InvalidArgument]);
    // The one that is there is shown.
    assert_eq!(created[5].entry.clone().unwrap().id, created[0].entry.clone().unwrap().id);

    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEntriesRequest { page_size: 2, page_token, ..Default::default() };
        let page = entries.list_entries(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= 2);
        seen.extend(page.entries.into_iter().map(|entry| entry.spiffe_id.unwrap().path));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, ["/web/0", "/web/1", "/web/2", "/web/3", "/web/4"]);

    let filter = list_entries_request::Filter { by_spiffe_id: id("/web/3"), ..Default::default() };
    let request = ListEntriesRequest { filter: Some(filter), ..Default::default() };
    let found = entries.list_entries(request).await.unwrap().into_inner().entries;
    assert_eq!(found.len(), 1);

    let mut change = found[0].clone();
    change.hint = "main".to_owned();
    change.assay =
        Some(EntryExtension { instance: Instance::Process.into(), admit_unattested: false });
    let mask = types::EntryMask { hint: true, ..types::EntryMask::default() };
    let request = BatchUpdateEntryRequest {
        entries: vec![change.clone()],
        input_mask: Some(mask),
        output_mask: None,
    };
    let updated = entries.batch_update_entry(request).await.unwrap().into_inner().results;
    let updated = updated[0].entry.clone().unwrap();
    assert_eq!((updated.hint.as_str(), updated.revision_number > found[0].revision_number), {
        ("main", true)
    });
    assert_eq!(updated.assay.unwrap().instance(), Instance::Process);

    let ids = vec![updated.id.clone(), "unknown".to_owned()];
    let deleted = entries.batch_delete_entry(BatchDeleteEntryRequest { ids }).await.unwrap();
    let codes: Vec<_> = deleted
        .into_inner()
        .results
        .into_iter()
        .map(|r| Code::from(r.status.unwrap().code))
        .collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound]);
    let count = entries.count_entries(CountEntriesRequest { filter: None }).await.unwrap();
    assert_eq!(count.into_inner().count, 4);
    let request = GetEntryRequest { id: updated.id, output_mask: None };
    assert_eq!(entries.get_entry(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_syncs_what_hangs_below_it_and_hears_of_changes() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let own = format!("/spire/agent/assay/{}", host.node_id());
    let mut alias = entry("/rack", "/spire/server");
    alias.selectors =
        vec![types::Selector { r#type: "assay".into(), value: "profile:test/swtpm".into() }];
    let batch = vec![
        alias,
        entry("/by-alias", "/rack"),
        entry("/own", &own),
        entry("/below", "/own"),
        entry("/elsewhere", "/spire/agent/assay/00"),
    ];
    let mut operator = EntryClient::new(house.private().await);
    let request = BatchCreateEntryRequest { entries: batch, output_mask: None };
    operator.batch_create_entry(request).await.unwrap();

    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    let mut entries = EntryClient::new(connection.channel.clone());
    let request = GetAuthorizedEntriesRequest { output_mask: None };
    let found = entries.get_authorized_entries(request).await.unwrap().into_inner().entries;
    let mut paths: Vec<_> = found.into_iter().map(|e| e.spiffe_id.unwrap().path).collect();
    paths.sort();
    assert_eq!(paths, ["/below", "/by-alias", "/own"]);

    let ask = tokio_stream::once(SyncAuthorizedEntriesRequest::default());
    let mut synced = entries.sync_authorized_entries(ask).await.unwrap().into_inner();
    let first = synced.message().await.unwrap().unwrap();
    assert_eq!((first.entries.len(), first.entry_revisions.len(), first.more), (3, 0, false));

    let mut nodes = NodeClient::new(connection.channel.clone());
    let mut events = nodes.watch(WatchRequest::default()).await.unwrap().into_inner();
    let mut next = async || events.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(next().await, Event::Settings(_)));
    let Event::EntriesChanged(before) = next().await else { panic!("no revision") };
    let request = BatchCreateEntryRequest { entries: vec![entry("/new", &own)], output_mask: None };
    operator.batch_create_entry(request).await.unwrap();
    let Event::EntriesChanged(after) = next().await else { panic!("no change") };
    assert!(after.revision > before.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_entries_than_a_page_are_synced_by_revision_first() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let own = format!("/spire/agent/assay/{}", host.node_id());
    let batch: Vec<_> = (0..620).map(|n| entry(&format!("/w/{n}"), &own)).collect();
    let mut operator = EntryClient::new(house.private().await);
    let request = BatchCreateEntryRequest { entries: batch, output_mask: None };
    operator.batch_create_entry(request).await.unwrap();
    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    let mut entries = EntryClient::new(connection.channel.clone());
    let (asked, receiver) = tokio::sync::mpsc::channel(2);
    asked.send(SyncAuthorizedEntriesRequest::default()).await.unwrap();
    let ask = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut synced = entries.sync_authorized_entries(ask).await.unwrap().into_inner();
    let mut ids = Vec::new();
    loop {
        let page = synced.message().await.unwrap().unwrap();
        assert!(page.entries.is_empty() && page.entry_revisions.len() <= 500);
        ids.extend(page.entry_revisions.into_iter().map(|revision| revision.id));
        if !page.more {
            break;
        }
    }
    assert_eq!(ids.len(), 620);
    let wanted = vec![ids[0].clone(), ids[619].clone(), "unknown".to_owned()];
    asked.send(SyncAuthorizedEntriesRequest { ids: wanted, output_mask: None }).await.unwrap();
    let page = synced.message().await.unwrap().unwrap();
    assert_eq!((page.entries.len(), page.more), (2, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_listed_and_evicted() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let attested = host.attest(&house).await.unwrap();
    let connection = channel(&house, &attested).await;
    host.refresh(&connection).await.unwrap();
    let mut agents = AgentClient::new(house.private().await);
    let listed = agents.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
    let agent = listed.agents[0].clone();
    assert_eq!(agent.attestation_type, "assay");
    assert!(!agent.banned && agent.can_reattest && agent.x509svid_expires_at > 0);
    let selectors: Vec<_> = agent.selectors.iter().map(|s| s.value.as_str()).collect();
    assert!(selectors.contains(&"profile:test/swtpm") && selectors.contains(&"tpm:class:software"));

    agents.delete_agent(DeleteAgentRequest { id: agent.id }).await.unwrap();
    let count = agents.count_agents(CountAgentsRequest { filter: None }).await.unwrap();
    assert_eq!(count.into_inner().count, 0);
    // Evicted, not banned: the old certificate is worth nothing, new evidence is.
    assert_eq!(host.refresh(&connection).await.unwrap_err().code, "not-attested");
    host.attest(&house).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_records_is_read_in_pages_both_ways() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    for n in 0..5 {
        house.entry(&host, &format!("/web/{n}")).await;
    }
    let mut admin = house.admin().await;
    let mut list = async |from_seq, newest_first| {
        let request = ListRecordsRequest { from_seq, limit: 3, newest_first, ..Default::default() };
        let page = admin.list_records(request).await.unwrap().into_inner();
        let seqs: Vec<_> = page.records.iter().map(|record| record.seq).collect();
        (seqs, page.next_seq, page.size)
    };
    let (first, next, size) = list(0, false).await;
    assert_eq!((first, next), (vec![0, 1, 2], Some(3)));
    let (second, ..) = list(3, false).await;
    assert_eq!(second, [3, 4, 5]);
    let (last, next, _) = list(size - 1, false).await;
    assert_eq!((last, next), (vec![size - 1], None));
    let (newest, next, _) = list(0, true).await;
    assert_eq!(newest, [size - 1, size - 2, size - 3]);
    assert_eq!(next, Some(size - 4));
    let (oldest, next, _) = list(1, true).await;
    assert_eq!((oldest, next), (vec![1, 0], None));

    let only = ListRecordsRequest { types: vec!["admin".to_owned()], ..Default::default() };
    let found = admin.list_records(only).await.unwrap().into_inner().records;
    assert_eq!(found.len(), 6, "one admission, five entries");
}
