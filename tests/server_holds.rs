//! What the server holds on to while others come, go and interfere: bans in the middle of a batch,
//! administrators whose host fell, a TPM that was restarted, strangers who only take up places.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "server_attacks/host.rs"]
mod host;
#[allow(dead_code)]
#[path = "server_attacks/house.rs"]
mod house;

use std::time::Duration;

use assay::clock::Clock;
use assay::tls::Connection;
use assay_proto::assay::v1::AdmitNodeRequest;
use assay_proto::assay::v1::ExplainNodeRequest;
use assay_proto::assay::v1::ListRecordsRequest;
use assay_proto::assay::v1::admit_node_request::By;
use assay_proto::assay::v1::explain_node_request;
use assay_proto::spire::api::server::agent::v1::AttestAgentRequest;
use assay_proto::spire::api::server::agent::v1::DeleteAgentRequest;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::server::entry::v1::BatchCreateEntryRequest;
use assay_proto::spire::api::server::entry::v1::ListEntriesRequest;
use assay_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use assay_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use assay_proto::spire::api::server::svid::v1::*;
use assay_proto::spire::api::types;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::Request;
use tonic::transport::Channel;

use crate::host::Host;
use crate::host::Refusal;
use crate::host::channel;
use crate::host::stranger;
use crate::house::House;
use crate::house::TRUST_DOMAIN;

fn id(path: String) -> Option<types::Spiffeid> {
    Some(types::Spiffeid { trust_domain: TRUST_DOMAIN.to_owned(), path })
}

fn id_of(host: &Host) -> Option<types::Spiffeid> {
    id(format!("/spire/agent/assay/{}", host.node_id()))
}

/// A connection of a workload on `host` that is an administrator, by an SVID that lives a minute.
async fn administrator(house: &House, host: &Host, agent: &Connection) -> Channel {
    let entry = types::Entry {
        spiffe_id: id("/admin".to_owned()),
        parent_id: id_of(host),
        selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:0".into() }],
        admin: true,
        x509_svid_ttl: 60,
        ..types::Entry::default()
    };
    let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let mut entries = EntryClient::new(house.private().await);
    let created = entries.batch_create_entry(request).await.unwrap().into_inner().results;
    let entry_id = created[0].entry.clone().unwrap().id;
    let key = host.svid_key();
    let params =
        NewX509svidParams { entry_id, csr: host.csr(&key), ..NewX509svidParams::default() };
    let request = BatchNewX509svidRequest { params: vec![params] };
    let mut svids = SvidClient::new(agent.channel.clone());
    let issued = svids.batch_new_x509svid(request).await.unwrap().into_inner().results;
    let chain = issued[0].svid.clone().unwrap().cert_chain;
    channel(house, &host.attested(&key, chain)).await.channel
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_is_one_while_svid_and_host_stand() {
    let house = House::with_its_own_clock().await;
    let host = house.admitted("host").await;
    let agent = channel(&house, &host.attest(&house).await.unwrap()).await;
    let mut admin = EntryClient::new(administrator(&house, &host, &agent).await);
    let list = ListEntriesRequest::default;
    // The host goes on standing, the SVID ends.
    for _ in 0..2 {
        admin.list_entries(list()).await.unwrap();
        house.clock.advance(Duration::from_secs(25));
        host.refresh(&agent).await.unwrap();
    }
    admin.list_entries(list()).await.unwrap();
    house.clock.advance(Duration::from_secs(12));
    host.refresh(&agent).await.unwrap();
    let ended = admin.list_entries(list()).await.unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_falls_with_his_host_and_cannot_delete_what_is_held() {
    let house = House::open().await;
    let (host, other) = (house.admitted("host").await, house.admitted("other").await);
    let agent = channel(&house, &host.attest(&house).await.unwrap()).await;
    other.attest(&house).await.unwrap();
    let remote = administrator(&house, &host, &agent).await;
    let (mut admin, mut remote) = (EntryClient::new(remote.clone()), AgentClient::new(remote));
    admin.list_entries(ListEntriesRequest::default()).await.unwrap();

    // Only the private socket deletes what was banned there.
    house.ban(&other).await;
    let delete = || DeleteAgentRequest { id: id_of(&other) };
    let refused = remote.delete_agent(delete()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(house.node(&other.node_id()).await.holds, ["banned"]);
    AgentClient::new(house.private().await).delete_agent(delete()).await.unwrap();

    house.ban(&host).await;
    let fallen = admin.list_entries(ListEntriesRequest::default()).await.unwrap_err();
    assert_eq!(fallen.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_stops_a_batch_in_the_middle() {
    let own = house::tpm_of_the_server();
    let change = |text: String| house::with_custody_in(&own, &text);
    let house = House::open_with(Clock::machine(), change).await;
    let host = house.admitted("host").await;
    let entry_id = house.entry(&host, "/web").await;
    let agent = channel(&house, &host.attest(&house).await.unwrap()).await;
    let csr = host.csr(&host.svid_key());
    let params = NewX509svidParams { entry_id, csr, ..NewX509svidParams::default() };
    let mut svids = SvidClient::new(agent.channel.clone());
    own.slow_down(Duration::from_millis(300)).unwrap();
    let mut request = Request::new(BatchNewX509svidRequest { params: vec![params; 12] });
    request.set_timeout(Duration::from_secs(25));
    let ban = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        house.ban(&host).await;
    };
    let (answer, ()) = tokio::join!(svids.batch_new_x509svid(request), ban);
    own.slow_down(Duration::ZERO).unwrap();
    let codes: Vec<_> = answer
        .unwrap()
        .into_inner()
        .results
        .iter()
        .map(|result| Code::from(result.status.clone().unwrap().code))
        .collect();
    let signed = codes.iter().filter(|code| **code == Code::Ok).count();
    assert!((1..12).contains(&signed), "{codes:?}");
    assert!(codes[signed..].iter().all(|code| *code == Code::PermissionDenied), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_that_was_restarted_attests_anew_before_it_goes_on() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    host.refresh(&connection).await.unwrap();
    let before = house.node(&host.node_id()).await.tpm.unwrap();

    // TPM2_Shutdown(STATE), no power, TPM2_Startup(CLEAR): a TPM Restart (Part 1, 12.2.4).
    let shutdown = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 1];
    let answer = host.tpm.command(&shutdown).unwrap();
    assert_eq!(answer[6..10], [0; 4]);
    host.tpm.lose_power().unwrap();

    let refused = host.refresh(&connection).await.unwrap_err();
    assert_eq!(refused.code, "reset-unexplained");
    // It has proved which node it is: it is told what differs, and its operator finds it.
    assert_eq!(refused.claims, ["tpm.boot_counts"]);
    let by = Some(explain_node_request::By::NodeId(host.node_id()));
    let explained = house.admin().await.explain_node(ExplainNodeRequest { by }).await.unwrap();
    assert_eq!(explained.into_inner().code, "reset-unexplained");
    assert_eq!(host.refresh(&connection).await.unwrap_err().code, "standing-missing");

    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    host.refresh(&connection).await.unwrap();
    let after = house.node(&host.node_id()).await.tpm.unwrap();
    assert_eq!(after.reset_count, before.reset_count);
    assert!(after.restart_count > before.restart_count);
}

/// An attestation that never says a word.
async fn silent(
    connection: &Connection,
) -> Result<(mpsc::Sender<AttestAgentRequest>, impl Sized), Refusal> {
    let (asked, receiver) = mpsc::channel(1);
    let mut agents = AgentClient::new(connection.channel.clone());
    let answers = agents.attest_agent(ReceiverStream::new(receiver)).await?;
    Ok((asked, answers))
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_take_no_place_of_a_node() {
    let change = |text| format!("{text}[limits]\nattestations_per_source = 3\n");
    let house = House::open_with(Clock::machine(), change).await;
    let host = house.admitted("host").await;
    let agent = channel(&house, &host.attest(&house).await.unwrap()).await;
    let strange = stranger(&house).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(silent(&strange).await.unwrap());
    }
    let refused = silent(&strange).await.map(|_| ()).unwrap_err();
    assert_eq!((refused.code.as_str(), refused.grpc), ("over-limit", Code::ResourceExhausted));
    host.refresh(&agent).await.unwrap();
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_use_up_their_address_and_not_the_node_behind_it() {
    let change = |text| format!("{text}[limits]\nattestations_per_minute = 3\n");
    let house = House::open_with(Clock::machine(), change).await;
    let (host, strange) = (house.admitted("host").await, house.host("strange").await);
    // A node gives the address its number back.
    host.attest(&house).await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(strange.attest(&house).await.map(|_| ()).unwrap_err().code);
    }
    assert_eq!(codes, ["not-admitted", "not-admitted", "not-admitted", "over-limit"]);
    for _ in 0..2 {
        host.attest(&house).await.unwrap();
    }
    // It has a number of its own, whatever its address does.
    assert_eq!(host.attest(&house).await.map(|_| ()).unwrap_err().code, "over-limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_is_recorded_with_what_it_said() {
    let house = House::open().await;
    let host = house.host("host").await;
    let request = AdmitNodeRequest {
        by: Some(By::EkSha256(host.ek_sha256().to_vec())),
        owner: "shop".to_owned(),
        labels: [("rack".to_owned(), "7".to_owned())].into(),
        ..AdmitNodeRequest::default()
    };
    let asserted = AdmitNodeRequest { tpm_class: "discrete".to_owned(), ..request.clone() };
    let refused = house.admin().await.admit_node(asserted).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("cannot be enrolled yet"), "{}", refused.message());
    house.admin().await.admit_node(request).await.unwrap();
    house.entry(&host, "/web").await;

    let request = ListRecordsRequest { types: vec!["admin".to_owned()], ..Default::default() };
    let listed = house.admin().await.list_records(request).await.unwrap().into_inner();
    let said: Vec<serde_json::Value> = listed
        .records
        .iter()
        .map(|record| serde_json::from_slice::<serde_json::Value>(&record.body).unwrap())
        .map(|body| body["data"].clone())
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    let (admit, entry) = (&said[0]["arguments"], &said[1]["arguments"]);
    assert_eq!(said[0]["act"], "node-admit");
    assert_eq!(admit["owner"], "shop");
    assert_eq!(admit["labels"], r#"{"rack":"7"}"#);
    assert_eq!(admit["faces"], "native");
    assert_eq!(admit["no_sha1"], "false");
    assert_eq!(said[1]["act"], "entry-create");
    assert_eq!(entry["selectors"], r#"["unix:uid:0"]"#);
    assert_eq!(entry["instance"], "shared");
    assert_eq!(entry["expires_at"], "");
}
