//! Machines that are not who they say, or whom nobody asked in; callers in the wrong place.

use assay::clock::Clock;
use assay::exchange::Attester;
use assay_proto::assay::v1::WatchRequest;
use assay_proto::assay::v1::node_client::NodeClient;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::server::agent::v1::*;
use assay_proto::spire::api::server::entry::v1::GetAuthorizedEntriesRequest;
use assay_proto::spire::api::server::entry::v1::ListEntriesRequest;
use assay_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use assay_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use assay_proto::spire::api::server::svid::v1::*;
use tonic::Code;

use crate::host::Attestation;
use crate::host::Refusal;
use crate::host::channel;
use crate::host::stranger;
use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_nobody_admitted_learns_a_code_and_no_more() {
    let house = House::open().await;
    let host = house.host("stranger").await;
    let refused = host.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!((refused.code.as_str(), refused.grpc), ("not-admitted", Code::PermissionDenied));
    assert!(refused.claims.is_empty() && !refused.correlation_id.is_empty());
    // The operator learns which EK it was.
    let explained = house.explain(&refused.correlation_id).await;
    assert!(explained.findings[0].found.contains(&hex::encode(host.ek_sha256())));

    house.admit(&host).await;
    host.attest(&house).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lets_in_what_has_proved_itself() {
    let clock = assay::clock::Clock::machine();
    let change = |text: String| text.replace("[nodes]\n", "[nodes]\nadmit = [\"operator\"]\n");
    let house = House::open_with(clock, change).await;
    let host = house.host("newcomer").await;
    let refused = host.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code, "not-admitted");
    assert_eq!(house.node(&host.node_id()).await.admission(), {
        assay_proto::assay::v1::node_state::Admission::Pending
    });
    let request = assay_proto::assay::v1::AdmitNodeRequest {
        by: Some(assay_proto::assay::v1::admit_node_request::By::NodeId(host.node_id())),
        ..Default::default()
    };
    house.admin().await.admit_node(request).await.unwrap();
    host.attest(&house).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ak_of_another_tpm_is_not_activated() {
    let house = House::open().await;
    let (host, other) = (house.admitted("host").await, house.host("other").await);
    let key = other.svid_key();
    let connection = stranger(&house).await;
    let mut facts = host.facts.clone();
    facts.ak_public.clone_from(&other.facts.ak_public);
    facts.ak_name.clone_from(&other.facts.ak_name);
    let spki = key.public().spki_der();
    let (hello, attester) =
        Attester::attest(&House::trust_domain(), Some(connection.exporter), Some(&spki), &facts);
    let mut attestation = Attestation::open(&connection, hello, other.csr(&key)).await.unwrap();
    let (collect, collecting) = attestation.challenge(attester).await.unwrap();
    // Only the host's TPM could open the credential, and it does not hold that AK.
    let mut gathered = other.gather(&without_credential(&collect), Some(&key));
    gathered.activated = Some(vec![0; 32].into());
    let refused = attestation.answer(collecting, gathered).await.unwrap_err();
    assert_eq!(refused.code, "activation-failed");
    assert!(refused.claims.is_empty(), "an unproved peer learns a code only");
}

fn without_credential(collect: &assay::exchange::Collect) -> assay::exchange::Collect {
    assay::exchange::Collect { credential: None, ..collect.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_another_tpm_is_not_this_ones() {
    let house = House::open().await;
    let (host, other) = (house.admitted("host").await, house.host("other").await);
    let key = other.svid_key();
    let connection = stranger(&house).await;
    let mut facts = other.facts.clone();
    facts.ek_certs.clone_from(&host.facts.ek_certs);
    let spki = key.public().spki_der();
    let (hello, _) =
        Attester::attest(&House::trust_domain(), Some(connection.exporter), Some(&spki), &facts);
    let mut attestation = Attestation::open(&connection, hello, other.csr(&key)).await.unwrap();
    let refused = attestation.challenge_frame().await.unwrap_err();
    assert_eq!(refused.code, "ek-key-cert-mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_node_is_refused_everywhere() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let attested = host.attest(&house).await.unwrap();
    let connection = channel(&house, &attested).await;
    let mut nodes = NodeClient::new(connection.channel.clone());
    let mut events = nodes.watch(WatchRequest::default()).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();

    house.ban(&host).await;
    // The open stream ends with it, whatever was on its way.
    let ended = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended well"),
            Err(status) => break Refusal::from(status),
        }
    };
    assert_eq!(ended.code, "banned");
    assert_eq!(host.refresh(&connection).await.unwrap_err().code, "banned");
    assert_eq!(host.attest(&house).await.map(|_| ()).unwrap_err().code, "banned");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_the_wrong_place_are_refused() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let entry_id = house.entry(&host, "/web").await;
    let code = |status: tonic::Status| status.code();

    // A stranger on the TLS listener.
    let connection = stranger(&house).await;
    let mut entries = EntryClient::new(connection.channel.clone());
    let listed = entries.list_entries(ListEntriesRequest::default()).await;
    assert_eq!(code(listed.unwrap_err()), Code::PermissionDenied);
    let authorized = entries.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await;
    assert_eq!(code(authorized.unwrap_err()), Code::PermissionDenied);
    let mut nodes = NodeClient::new(connection.channel.clone());
    let watched = nodes.watch(WatchRequest::default()).await;
    assert_eq!(code(watched.unwrap_err()), Code::PermissionDenied);
    let admin = assay_proto::assay::v1::GetAuthorityRequest {};
    let mut admins =
        assay_proto::assay::v1::admin_client::AdminClient::new(connection.channel.clone());
    assert_eq!(code(admins.get_authority(admin).await.unwrap_err()), Code::PermissionDenied);

    // Calls of agents on the private socket: it binds no channel.
    let private = house.private().await;
    let attestation = AgentClient::new(private.clone()).attest_agent(tokio_stream::empty()).await;
    assert_eq!(code(attestation.map(|_| ()).unwrap_err()), Code::PermissionDenied);
    let watched = NodeClient::new(private.clone()).watch(WatchRequest::default()).await;
    assert_eq!(code(watched.unwrap_err()), Code::PermissionDenied);
    let mut svids = SvidClient::new(private.clone());
    let request = NewJwtsvidRequest { entry_id: entry_id.clone(), audience: vec!["a".into()] };
    assert_eq!(code(svids.new_jwtsvid(request).await.unwrap_err()), Code::PermissionDenied);

    // Nothing is signed for the unattested, not even for the operator.
    let minted = svids.mint_x509svid(MintX509svidRequest::default()).await.unwrap_err();
    assert_eq!(minted.code(), Code::FailedPrecondition);
    assert_eq!(Refusal::from(minted).code, "not-attested");
    let token = CreateJoinTokenRequest { ttl: 60, ..CreateJoinTokenRequest::default() };
    let token = AgentClient::new(private).create_join_token(token).await.unwrap_err();
    assert_eq!(token.code(), Code::FailedPrecondition);

    // An agent is no administrator, renews by evidence alone, and gets what is its own.
    let (other, attested) = (house.admitted("other").await, host.attest(&house).await.unwrap());
    let connection = channel(&house, &attested).await;
    let mut entries = EntryClient::new(connection.channel.clone());
    let listed = entries.list_entries(ListEntriesRequest::default()).await;
    assert_eq!(code(listed.unwrap_err()), Code::PermissionDenied);
    let mut agents = AgentClient::new(connection.channel.clone());
    let renewed = agents.renew_agent(RenewAgentRequest::default()).await.unwrap_err();
    assert_eq!(
        assay_proto::details::reason(&renewed),
        Some({
            use assay_proto::spire::api::types::permission_denied_details::Reason;
            Reason::AgentMustReattest
        })
    );
    let others = house.entry(&other, "/theirs").await;
    let mut svids = SvidClient::new(connection.channel.clone());
    let request = NewJwtsvidRequest { entry_id: others, audience: vec!["a".into()] };
    let refused = Refusal::from(svids.new_jwtsvid(request).await.unwrap_err());
    assert_eq!(refused.code, "no-matching-entry");
    let request = NewJwtsvidRequest { entry_id: entry_id.clone(), audience: vec!["a".into()] };
    svids.new_jwtsvid(request).await.unwrap();

    // A workload's SVID makes nobody an agent.
    let key = host.svid_key();
    let params =
        NewX509svidParams { entry_id, csr: host.csr(&key), ..NewX509svidParams::default() };
    let request = BatchNewX509svidRequest { params: vec![params] };
    let response = svids.batch_new_x509svid(request).await.unwrap().into_inner();
    let chain = response.results[0].svid.clone().unwrap().cert_chain;
    let connection = channel(&house, &host.attested(&key, chain)).await;
    let mut nodes = NodeClient::new(connection.channel.clone());
    let refused = Refusal::from(nodes.watch(WatchRequest::default()).await.unwrap_err());
    assert_eq!(refused.code, "not-attested");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_cannot_attest_without_end() {
    let clock = assay::clock::Clock::machine();
    let change = |text: String| format!("{text}[limits]\nattestations_per_minute = 2\n");
    let house = House::open_with(clock, change).await;
    let strange = house.host("strange").await;
    for _ in 0..2 {
        let refused = strange.attest(&house).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code, "not-admitted");
    }
    let refused = strange.attest(&house).await.map(|_| ()).unwrap_err();
    assert_eq!((refused.code.as_str(), refused.grpc), ("over-limit", Code::ResourceExhausted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_holds_for_a_machine_that_shows_the_banned_ek_beside_its_own() {
    let house = House::open().await;
    let (mut host, other) = (house.admitted("host").await, house.admitted("other").await);
    other.attest(&house).await.unwrap();
    let own = host.facts.ek_certs.clone();
    host.facts.ek_certs.extend(other.facts.ek_certs.clone());
    let attested = host.attest(&house).await.unwrap();
    let connection = channel(&house, &attested).await;
    host.refresh(&connection).await.unwrap();

    house.ban(&other).await;
    assert_eq!(host.refresh(&connection).await.unwrap_err().code, "banned");
    // Not to show it any more does not help.
    host.facts.ek_certs = own;
    assert_eq!(host.attest(&house).await.map(|_| ()).unwrap_err().code, "banned");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ek_that_a_banned_machine_has_shown_is_no_stranger() {
    let any = |text: String| {
        text.replace("[nodes]", "[nodes]\nadmit = [\"hash\", \"root\"]")
            .replace("class = \"software\"", "class = \"software\"\nadmit = true")
    };
    let house = House::open_with(Clock::machine(), any).await;
    let (mut host, other) = (house.host("host").await, house.host("other").await);
    host.facts.ek_certs.extend(other.facts.ek_certs.clone());
    host.attest(&house).await.unwrap();
    house.ban(&host).await;
    assert_eq!(other.attest(&house).await.map(|_| ()).unwrap_err().code, "banned");
    let stranger = house.host("stranger").await;
    stranger.attest(&house).await.unwrap();
    // Somebody else's certificate may have been shown: an operator's word for the EK goes first.
    house.admit(&other).await;
    other.attest(&house).await.unwrap();
}
