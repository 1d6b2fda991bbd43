//! What a standing lasts through, and what ends it: other boot state, age, clones, restarts.

use std::time::Duration;

use assay_proto::assay::v1::ReleaseNodeRequest;
use assay_proto::assay::v1::ResetCountersRequest;
use assay_proto::assay::v1::WatchRequest;
use assay_proto::assay::v1::node_client::NodeClient;
use assay_proto::assay::v1::watch_event::Event;
use assay_proto::details;
use assay_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use assay_proto::spire::api::server::svid::v1::*;
use assay_proto::spire::api::types::permission_denied_details::Reason as SpireReason;

use crate::host::Refusal;
use crate::host::channel;
use crate::house::House;

async fn token(
    connection: &assay::tls::Connection,
    entry_id: &str,
) -> Result<String, tonic::Status> {
    let request =
        NewJwtsvidRequest { entry_id: entry_id.to_owned(), audience: vec!["db".to_owned()] };
    let mut svids = SvidClient::new(connection.channel.clone());
    let response = svids.new_jwtsvid(request).await?.into_inner();
    Ok(response.svid.unwrap().token)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_host_attests_refreshes_and_gets_svids() {
    let house = House::open().await;
    let host = house.admitted("honest").await;
    let entry_id = house.entry(&host, "/web").await;
    let attested = host.attest(&house).await.unwrap();
    let connection = channel(&house, &attested).await;

    let outcome = host.refresh(&connection).await.unwrap();
    assert_eq!(outcome.node_id, host.node_id());
    assert_eq!(outcome.refresh_after_s, 5);

    let mut nodes = NodeClient::new(connection.channel.clone());
    let mut events = nodes.watch(WatchRequest::default()).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(first, Event::Settings(settings) if settings.max_age_s == 30));

    let mut svids = SvidClient::new(connection.channel.clone());
    let key = host.svid_key();
    let params = NewX509svidParams {
        entry_id: entry_id.clone(),
        csr: host.csr(&key),
        ..NewX509svidParams::default()
    };
    let unknown = NewX509svidParams { entry_id: "unknown".to_owned(), ..params.clone() };
    let request = BatchNewX509svidRequest { params: vec![params, unknown] };
    let response = svids.batch_new_x509svid(request).await.unwrap().into_inner();
    let codes: Vec<_> =
        response.results.iter().map(|result| result.status.clone().unwrap().code).collect();
    assert_eq!(codes, [0, tonic::Code::PermissionDenied.into()]);
    assert_eq!(response.results[0].svid.clone().unwrap().id.unwrap().path, "/web");
    assert_eq!(token(&connection, &entry_id).await.unwrap().split('.').count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_register_ends_the_standing_at_once() {
    let house = House::open().await;
    let (host, other) = (house.admitted("host").await, house.admitted("other").await);
    let (entry_id, others) =
        (house.entry(&host, "/web").await, house.entry(&other, "/other").await);
    let attested = host.attest(&house).await.unwrap();
    let connection = channel(&house, &attested).await;
    let others_connection = channel(&house, &other.attest(&house).await.unwrap()).await;
    let mut nodes = NodeClient::new(connection.channel.clone());
    let mut events = nodes.watch(WatchRequest::default()).await.unwrap().into_inner();
    token(&connection, &entry_id).await.unwrap();

    host.tpm.pcr_extend(8, b"another kernel").unwrap();
    let refused = host.refresh(&connection).await.unwrap_err();
    // A proved node is told what differs.
    assert_eq!(refused.code, "register-mismatch");
    assert_eq!(refused.claims, ["pcr.sha256.8"]);
    let denied = token(&connection, &entry_id).await.unwrap_err();
    assert_eq!(details::reason(&denied), Some(SpireReason::AgentMustReattest));
    let ended = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(status) => break Refusal::from(status),
        }
    };
    assert_eq!(ended.code, "register-mismatch");
    // Neither another refresh nor a new attestation helps, and the other host goes on.
    assert_eq!(host.refresh(&connection).await.unwrap_err().code, "standing-missing");
    let again = host.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!(again.code, "register-mismatch");
    token(&others_connection, &others).await.unwrap();

    let explained = house.explain(&refused.correlation_id).await;
    assert_eq!((explained.verdict.as_str(), explained.code.as_str()), {
        ("contraindicated", "register-mismatch")
    });
    assert!(explained.findings[0].source.contains("profile `test/swtpm`"));
    let state = house.node(&host.node_id()).await;
    assert_eq!(state.refusal_code, "register-mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standing_ends_with_its_age_and_a_refresh_brings_it_back() {
    let house = House::with_its_own_clock().await;
    let host = house.admitted("host").await;
    let entry_id = house.entry(&host, "/web").await;
    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    token(&connection, &entry_id).await.unwrap();
    house.clock.advance(Duration::from_secs(30));
    let denied = token(&connection, &entry_id).await.unwrap_err();
    assert_eq!(details::reason(&denied), Some(SpireReason::AgentMustReattest));
    assert_eq!(Refusal::from(denied).code, "standing-stale");
    host.refresh(&connection).await.unwrap();
    token(&connection, &entry_id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_rebooted_attests_anew_and_needs_nobody() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let attested = host.attest(&house).await.unwrap();
    let connection = channel(&house, &attested).await;
    host.tpm.reset().unwrap();
    // The old channel speaks for a key that is gone.
    assert_eq!(host.refresh(&connection).await.unwrap_err().code, "reset-unexplained");
    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    host.refresh(&connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_tpm_is_found_out_by_its_counters() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let copy = house.clone_of(&host, "copy").await;
    // The original goes on: it counts more resets than the copy.
    host.tpm.reset().unwrap();
    host.tpm.reset().unwrap();
    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    let refused = copy.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code, "clone-suspected");
    // Nobody can tell which of the two is the machine: both are refused.
    assert_eq!(host.refresh(&connection).await.unwrap_err().code, "clone-suspected");
    assert_eq!(host.attest(&house).await.map(|_| ()).unwrap_err().code, "clone-suspected");
    assert_eq!(house.node(&host.node_id()).await.holds, ["clone-suspected"]);

    let request = ReleaseNodeRequest { node_id: host.node_id() };
    house.admin().await.release_node(request).await.unwrap();
    // Released, and to be attested again.
    assert_eq!(host.refresh(&connection).await.unwrap_err().code, "serial-replaced");
    host.attest(&house).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_went_back_without_a_standing_wait_for_an_operator() {
    let house = House::with_its_own_clock().await;
    let host = house.admitted("host").await;
    let copy = house.clone_of(&host, "copy").await;
    host.tpm.reset().unwrap();
    host.tpm.reset().unwrap();
    host.attest(&house).await.unwrap();
    house.clock.advance(Duration::from_secs(31));
    let refused = copy.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code, "clock-regression");
    assert_eq!(copy.attest(&house).await.map(|_| ()).unwrap_err().code, "clock-regression");
    let request = ResetCountersRequest { node_id: host.node_id() };
    house.admin().await.reset_counters(request).await.unwrap();
    copy.attest(&house).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_live_channels_of_one_node_are_found_out() {
    let house = House::with_its_own_clock().await;
    let host = house.admitted("host").await;
    let first = host.attest(&house).await.unwrap();
    host.refresh(&channel(&house, &first).await).await.unwrap();
    let second = host.attest(&house).await.unwrap();
    // Issued and not used: the first is still the one.
    let old_channel = channel(&house, &first).await;
    host.refresh(&old_channel).await.unwrap();
    // Used: the first fades for 30 s.
    let new_channel = channel(&house, &second).await;
    host.refresh(&new_channel).await.unwrap();
    host.refresh(&channel(&house, &first).await).await.unwrap();
    house.clock.advance(Duration::from_secs(31));
    // An old channel that lingers is no clone.
    assert_eq!(host.refresh(&old_channel).await.unwrap_err().code, "serial-replaced");
    host.refresh(&new_channel).await.unwrap();
    // A new channel with the old certificate is one.
    let refused = host.refresh(&channel(&house, &first).await).await.unwrap_err();
    assert_eq!(refused.code, "clone-suspected");
    assert_eq!(host.refresh(&new_channel).await.unwrap_err().code, "clone-suspected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_remembers_standings_and_bans() {
    let mut house = House::open().await;
    let (host, banned) = (house.admitted("host").await, house.admitted("banned").await);
    let entry_id = house.entry(&host, "/web").await;
    let attested = host.attest(&house).await.unwrap();
    host.refresh(&channel(&house, &attested).await).await.unwrap();
    banned.attest(&house).await.unwrap();
    house.ban(&banned).await;

    house.restart().await;
    let connection = channel(&house, &attested).await;
    token(&connection, &entry_id).await.unwrap();
    host.refresh(&connection).await.unwrap();
    assert_eq!(banned.attest(&house).await.map(|_| ()).unwrap_err().code, "banned");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_says_so() {
    let mut house = House::open().await;
    let host = house.admitted("host").await;
    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    let mut nodes = NodeClient::new(connection.channel.clone());
    let mut events = nodes.watch(WatchRequest::default()).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();
    house.restart().await;
    let mut last = None;
    while let Ok(Some(event)) = events.message().await {
        last = event.event;
    }
    assert!(matches!(last, Some(Event::Draining(draining)) if draining.within_s == 1), "{last:?}");
}
