//! Attacks on a real server, by a hostile agent with real software TPMs: each is refused with its
//! reason, and beside each stands what is accepted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod house;

use assay_proto::assay::v1::WatchRequest;
use assay_proto::assay::v1::node_client::NodeClient;
use assay_proto::assay::v1::watch_event::Event;
use assay_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use assay_proto::spire::api::server::svid::v1::*;

use crate::host::channel;
use crate::house::House;

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
    let request = BatchNewX509svidRequest { params: vec![params] };
    let response = svids.batch_new_x509svid(request).await.unwrap().into_inner();
    let result = response.results.into_iter().next().unwrap();
    assert_eq!(result.status.unwrap().code, 0);
    assert_eq!(result.svid.unwrap().id.unwrap().path, "/web");

    let request = NewJwtsvidRequest { entry_id, audience: vec!["db".to_owned()] };
    let token = svids.new_jwtsvid(request).await.unwrap().into_inner().svid.unwrap().token;
    assert_eq!(token.split('.').count(), 3);
}
