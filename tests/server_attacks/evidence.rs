//! Evidence that is not what it claims to be: old, borrowed, relayed, bent.

use assay::exchange::Attester;
use assay_evidence::binding::Face;
use assay_proto::attestation as wire;
use prost::Message;
use tonic::Code;

use crate::host::Attestation;
use crate::host::Refusal;
use crate::host::challenged;
use crate::host::stranger;
use crate::house::House;

/// The refusal of an attestation whose hello alone is wrong.
async fn refused_hello(house: &House, hello: wire::FromAgent, csr: Vec<u8>) -> Refusal {
    let connection = stranger(house).await;
    let mut attestation = Attestation::open(&connection, hello, csr).await.unwrap();
    attestation.challenge_frame().await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_played_again_is_refused() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let key = host.svid_key();
    let connection = stranger(&house).await;
    let (mut first, collect, collecting) = challenged(&host, &connection, &key).await.unwrap();
    let (evidence, _) = collecting.evidence(host.gather(&collect, Some(&key))).unwrap();
    first.send(evidence.encode_to_vec()).await;
    first.end().await.unwrap();

    // The same evidence again, on the same connection: its nonce is used up. The AK is enrolled
    // by now, so no activation is asked for.
    let (mut again, collect, _) = challenged(&host, &connection, &key).await.unwrap();
    assert!(collect.credential.is_none());
    let mut old = evidence.clone();
    if let Some(wire::from_agent::Message::Evidence(evidence)) = &mut old.message {
        evidence.activated.clear();
    }
    again.send(old.encode_to_vec()).await;
    assert_eq!(again.end().await.unwrap_err().code, "nonce-consumed");

    // And again, with a lie about what was signed.
    let (mut again, collect, collecting) = challenged(&host, &connection, &key).await.unwrap();
    let (fresh, _) = collecting.evidence(host.gather(&collect, Some(&key))).unwrap();
    if let (
        Some(wire::from_agent::Message::Evidence(old)),
        Some(wire::from_agent::Message::Evidence(fresh)),
    ) = (&mut old.message, fresh.message)
    {
        old.binding_input = fresh.binding_input;
    }
    again.send(old.encode_to_vec()).await;
    assert_eq!(again.end().await.unwrap_err().code, "nonce-mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_quote_voids_older_challenges_of_its_node() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let key = host.svid_key();
    // Two exchanges of one node are open; the younger one is answered first.
    let (one, other) = (stranger(&house).await, stranger(&house).await);
    let (mut older, old_collect, old_collecting) = challenged(&host, &one, &key).await.unwrap();
    let (mut younger, collect, collecting) = challenged(&host, &other, &key).await.unwrap();
    let gathered = host.gather(&collect, Some(&key));
    younger.answer(collecting, gathered).await.unwrap();
    let gathered = host.gather(&old_collect, Some(&key));
    let refused = older.answer(old_collecting, gathered).await.unwrap_err();
    assert_eq!(refused.code, "challenge-unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_the_challenge_of_another_agent_is_refused() {
    let house = House::open().await;
    let (host, other) = (house.admitted("host").await, house.admitted("other").await);
    let (key, other_key) = (host.svid_key(), other.svid_key());
    let connection = stranger(&house).await;
    let (_open, others_collect, others) =
        challenged(&other, &stranger(&house).await, &other_key).await.unwrap();
    let (mut attestation, collect, collecting) =
        challenged(&host, &connection, &key).await.unwrap();
    // The host's TPM signs what the other's challenge asks for.
    let mut bent = collect.clone();
    bent.qualifying_data = others_collect.qualifying_data;
    let gathered = host.gather(&bent, Some(&key));
    drop(collecting);
    let (mut evidence, _) = others.evidence(gathered).unwrap();
    if let Some(wire::from_agent::Message::Evidence(evidence)) = &mut evidence.message {
        evidence.svid_public = key.public().raw().to_vec();
    }
    attestation.send(evidence.encode_to_vec()).await;
    assert_eq!(attestation.end().await.unwrap_err().code, "challenge-unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_relayed_from_another_channel_is_refused() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let key = host.svid_key();
    // The victim speaks to the relay, thinks it is the server, and binds to that channel.
    let (relay, victims) = (stranger(&house).await, stranger(&house).await);
    let spki = key.public().spki_der();
    let exporter = Some(victims.exporter);
    let (hello, attester) =
        Attester::attest(&House::trust_domain(), exporter, Some(&spki), &host.facts);
    let mut attestation = Attestation::open(&relay, hello, host.csr(&key)).await.unwrap();
    let (collect, collecting) = attestation.challenge(attester).await.unwrap();
    let gathered = host.gather(&collect, Some(&key));
    let refused = attestation.answer(collecting, gathered).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.grpc), ("channel-binding", Code::PermissionDenied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_face_that_knows_no_channel_is_refused_over_one() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let key = host.svid_key();
    let mut facts = host.facts.clone();
    facts.face = Face::SpirePlugin;
    let spki = key.public().spki_der();
    let (hello, _) = Attester::attest(&House::trust_domain(), None, Some(&spki), &facts);
    let refused = refused_hello(&house, hello, host.csr(&key)).await;
    assert_eq!(refused.code, "face-not-allowed");

    // Native in the hello, another face in what the TPM signed.
    let connection = stranger(&house).await;
    let (hello, _) = Attester::attest(
        &House::trust_domain(),
        Some(connection.exporter),
        Some(&spki),
        &host.facts,
    );
    let (_, attester) = Attester::attest(&House::trust_domain(), None, Some(&spki), &facts);
    let mut attestation = Attestation::open(&connection, hello, host.csr(&key)).await.unwrap();
    let (collect, collecting) = attestation.challenge(attester).await.unwrap();
    let gathered = host.gather(&collect, Some(&key));
    let refused = attestation.answer(collecting, gathered).await.unwrap_err();
    assert_eq!(refused.code, "face-not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_svid_key_that_the_ak_did_not_certify_is_refused() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let key = host.svid_key();
    let connection = stranger(&house).await;
    let (mut attestation, collect, collecting) =
        challenged(&host, &connection, &key).await.unwrap();
    let gathered = host.gather(&collect, None);
    let refused = attestation.answer(collecting, gathered).await.unwrap_err();
    assert_eq!(refused.code, "svid-key-not-certified");

    // Another key of the same TPM is certified than the one that the certificate is for.
    let (mut attestation, collect, collecting) =
        challenged(&host, &connection, &key).await.unwrap();
    let gathered = host.gather(&collect, Some(&host.svid_key()));
    let refused = attestation.answer(collecting, gathered).await.unwrap_err();
    assert_eq!(refused.code, "svid-key-not-certified");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_another_host_gets_no_certificate() {
    let house = House::open().await;
    let (host, other) = (house.admitted("host").await, house.admitted("other").await);
    let (key, other_key) = (host.svid_key(), other.svid_key());
    let connection = stranger(&house).await;
    // The request is for the other's key; the host's own is certified and bound.
    let spki = key.public().spki_der();
    let (hello, attester) = Attester::attest(
        &House::trust_domain(),
        Some(connection.exporter),
        Some(&spki),
        &host.facts,
    );
    let mut attestation =
        Attestation::open(&connection, hello, other.csr(&other_key)).await.unwrap();
    let (collect, collecting) = attestation.challenge(attester).await.unwrap();
    let gathered = host.gather(&collect, Some(&key));
    let refused = attestation.answer(collecting, gathered).await.unwrap_err();
    assert_eq!(refused.code, "svid-key-not-certified");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_by_name() {
    let house = House::open().await;
    let host = house.admitted("host").await;
    let key = host.svid_key();
    let csr = host.csr(&key);
    let connection = stranger(&house).await;
    let spki = key.public().spki_der();
    let (hello, _) = Attester::attest(
        &House::trust_domain(),
        Some(connection.exporter),
        Some(&spki),
        &host.facts,
    );
    let hello = hello.encode_to_vec();
    let refused = async |kind: &str, payload: Vec<u8>, csr: Vec<u8>| {
        let attestation = Attestation::open_as(&connection, kind, payload, csr).await;
        match attestation {
            Ok(mut attestation) => attestation.challenge_frame().await.unwrap_err(),
            Err(refused) => refused,
        }
    };
    let cut = hello[..hello.len() - 1].to_vec();
    let found = refused("assay", cut, csr.clone()).await;
    assert_eq!((found.code.as_str(), found.grpc), ("message-malformed", Code::InvalidArgument));
    let found = refused("assay", Vec::new(), csr.clone()).await;
    assert_eq!(found.code, "message-malformed");
    let found = refused("x509pop", hello.clone(), csr.clone()).await;
    assert_eq!(found.code, "not-supported");
    let found = refused("assay", hello.clone(), Vec::new()).await;
    assert_eq!((found.code.as_str(), found.grpc), ("csr-malformed", Code::InvalidArgument));
    let mut bent = csr.clone();
    let last = bent.len() - 1;
    bent[last] ^= 1;
    assert_eq!(refused("assay", hello.clone(), bent).await.code, "csr-malformed");
    let large = refused("assay", vec![0; 300 * 1_024], csr.clone()).await;
    assert_eq!(large.code, "evidence-too-large");
    let huge = refused("assay", vec![0; 2 * 1_024 * 1_024], csr.clone()).await;
    assert_eq!((huge.code.as_str(), huge.grpc), ("evidence-too-large", Code::ResourceExhausted));

    // Evidence that is no evidence.
    let (mut attestation, ..) = challenged(&host, &connection, &key).await.unwrap();
    attestation.send(vec![0xff; 64]).await;
    assert_eq!(attestation.end().await.unwrap_err().code, "message-malformed");
    let (mut attestation, ..) = challenged(&host, &connection, &key).await.unwrap();
    attestation.send(hello).await;
    assert_eq!(attestation.end().await.unwrap_err().code, "message-malformed");
    // After all that the honest one is still served.
    host.attest(&house).await.unwrap();
}
