//! Issuing keys in a TPM of the server's own, fast and slow.

use std::time::Duration;

use assay::clock::Clock;
use assay_proto::assay::v1::GetAuthorityRequest;
use assay_proto::assay::v1::GetRecordRequest;
use assay_proto::assay::v1::get_record_request::By;
use assay_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use assay_proto::spire::api::server::svid::v1::*;
use tonic::Code;
use tonic::Request;

use crate::host::channel;
use crate::house;
use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_device_signs_what_it_can_and_says_what_it_could_not() {
    let own = house::tpm_of_the_server();
    let change = |text: String| house::with_custody_in(&own, &text);
    let house = House::open_with(Clock::machine(), change).await;
    let authority = house.admin().await.get_authority(GetAuthorityRequest {}).await.unwrap();
    for authority in authority.into_inner().authorities {
        let custody = authority.custody.unwrap();
        assert_eq!((custody.class.as_str(), custody.tpm_class.as_str()), {
            ("hw_tpm_certified", "software")
        });
        assert_eq!(custody.ek_sha256.len(), 32);
        assert!(!custody.evidence_sha256.is_empty() && authority.capacity > 0.0);
    }

    let host = house.admitted("host").await;
    let entry_id = house.entry(&host, "/web").await;
    let connection = channel(&house, &host.attest(&house).await.unwrap()).await;
    let csr = host.csr(&host.svid_key());
    let params = NewX509svidParams { entry_id, csr, ..NewX509svidParams::default() };
    let mut svids = SvidClient::new(connection.channel.clone());
    let mut batch = async |count: usize| {
        let mut request =
            Request::new(BatchNewX509svidRequest { params: vec![params.clone(); count] });
        request.set_timeout(Duration::from_secs(4));
        svids.batch_new_x509svid(request).await.unwrap().into_inner().results
    };
    let quick = batch(3).await;
    assert!(quick.iter().all(|result| result.status.clone().unwrap().code == 0));

    own.slow_down(Duration::from_millis(300)).unwrap();
    let slow = batch(30).await;
    own.slow_down(Duration::ZERO).unwrap();
    let codes: Vec<_> = slow.iter().map(|r| Code::from(r.status.clone().unwrap().code)).collect();
    let signed = codes.iter().filter(|code| **code == Code::Ok).count();
    assert!((1..15).contains(&signed), "{codes:?}");
    assert!(codes[signed..].iter().all(|code| *code == Code::Unavailable), "{codes:?}");

    // The way back from one SVID to the quote and to the key's custody.
    let der = &quick[0].svid.clone().unwrap().cert_chain[0];
    let serial = assay_evidence::certificate::Certificate::parse(der).unwrap();
    let by = By::X509Serial(hex::encode(serial.serial()));
    let request = GetRecordRequest { by: Some(by), with_refs: true };
    let found = house.admin().await.get_record(request).await.unwrap().into_inner();
    let kinds: Vec<String> = found
        .refs
        .iter()
        .map(|record| {
            let body: serde_json::Value = serde_json::from_slice(&record.body).unwrap();
            body["type"].as_str().unwrap().to_owned()
        })
        .collect();
    for kind in ["evidence", "result", "key-event"] {
        assert!(kinds.iter().any(|found| found == kind), "{kinds:?}");
    }
}
