//! Evidence that is not what it claims to be: old, borrowed, relayed, bent.

use std::collections::BTreeMap;

use assay::exchange::Attester;
use assay::records::Ref;
use assay_evidence::binding::BindingInput;
use assay_evidence::binding::Face;
use assay_evidence::crypto;
use assay_evidence::digest::HashAlgorithm;
use assay_proto::attestation as wire;
use assay_tpm::AttestationKey;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::endorsement;
use assay_tpm::verify;
use prost::Message;
use tonic::Code;

use crate::host::Attestation;
use crate::host::Refusal;
use crate::host::challenged;
use crate::host::channel;
use crate::host::stranger;
use crate::house::House;
use crate::house::anchors;

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

/// The blobs of one exchange, by kind.
type Kept = BTreeMap<String, Vec<Vec<u8>>>;

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_was_kept_is_verified_again_without_the_server() {
    let mut house = House::open().await;
    let host = house.admitted("host").await;
    let attested = host.attest(&house).await.unwrap();
    let connection = channel(&house, &attested).await;
    host.refresh(&connection).await.unwrap();
    drop(connection);

    let store = house.left().await;
    let mut exchanges: Vec<Kept> = Vec::new();
    for record in store.records(0, 1_000).await.unwrap() {
        if record.body.kind() != "evidence" {
            continue;
        }
        assert!(record.body.refs().len() <= 32);
        let mut kept = Kept::new();
        for reference in record.body.refs() {
            let Ref::Blob(sha256) = reference else { continue };
            let blob = store.blob(sha256).await.unwrap().unwrap();
            let kind = blob.media_type.trim_start_matches("application/vnd.assay.").to_owned();
            kept.entry(kind).or_default().push(blob.bytes.unwrap());
        }
        exchanges.push(kept);
    }
    let [attested, refreshed] = &exchanges[..] else { panic!("two exchanges") };
    let one = |kept: &Kept, kind: &str| kept[kind][0].clone();

    // Whose TPM: the EK's certificate and chain, and the key itself.
    let certificates = &attested["application/pkix-cert"];
    let endorsement = endorsement::verify(
        &certificates[..1],
        &certificates[1..],
        &one(attested, "tpm-ek-public"),
        &anchors(),
        house.clock.now(),
    )
    .unwrap();
    assert_eq!(endorsement.spki_sha256(), &host.ek_sha256());

    // What it said, and what for.
    let ak = AttestationKey::parse(&one(attested, "tpm-ak-public")).unwrap();
    let key = ProvedKey::enrolled(ak).beside(endorsement.public());
    let message = one(attested, "binding");
    let binding = BindingInput::parse(&message).unwrap();
    let data = binding.binding().qualifying_data();
    let svid_public = one(attested, "tpm-svid-public");
    let spki = Public::parse(&svid_public).unwrap().spki_der();
    assert_eq!(binding.spki_sha256, Some(crypto::sha256(&spki)));
    let banks = host.facts.banks.iter();
    let banks = banks.filter_map(|(bank, _)| HashAlgorithm::from_tpm_id(*bank));
    let asked: Vec<_> = banks.map(|bank| PcrSelection::new(bank, 0xffff)).collect();
    let (quote, pcrs) = (one(attested, "tpm-quote"), one(attested, "tpm-pcrs"));
    let certify = one(attested, "tpm-certify");
    let parts = (Some(&certify[..]), Some(&svid_public[..]), Some(&pcrs[..]));
    let evidence = verify::Evidence::from_items(&quote, parts.0, parts.1, parts.2).unwrap();
    let expected = verify::Expected::exchange(&data, &asked, false).certifying(&spki);
    let claims = verify::verify(&evidence, &key, &expected).unwrap();
    assert!(claims.certified_key().is_some());

    // The refresh left its quote and the message; the quote of another exchange is not of this one.
    let message = one(refreshed, "binding");
    let data = BindingInput::parse(&message).unwrap().binding().qualifying_data();
    let quote = one(refreshed, "tpm-quote");
    let evidence = verify::Evidence::from_items(&quote, None, None, Some(&pcrs[..])).unwrap();
    let expected = verify::Expected::exchange(&data, &asked, false);
    verify::verify(&evidence, &key, &expected).unwrap();
    let quote = one(attested, "tpm-quote");
    let evidence = verify::Evidence::from_items(&quote, None, None, Some(&pcrs[..])).unwrap();
    assert!(verify::verify(&evidence, &key, &expected).is_err());
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
