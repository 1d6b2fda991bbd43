//! A host with a real software TPM, and an agent made for attacks: every step of an exchange is a
//! call of its own, so that a test can bend any one of them.

use std::sync::Arc;
use std::time::Duration;

use assay::envelope::MediaType;
use assay::exchange::Attester;
use assay::exchange::Collect;
use assay::exchange::Collecting;
use assay::exchange::DATA_TYPE;
use assay::exchange::Demand;
use assay::exchange::Facts;
use assay::exchange::Gathered;
use assay::exchange::NodeId;
use assay::exchange::Outcome;
use assay::exchange::Sending;
use assay::exchange::Told;
use assay::store::NodeKind;
use assay::tls;
use assay::tls::Connection;
use assay::tls::DeviceKey as TlsKey;
use assay::tls::Identity;
use assay::tls::Server;
use assay_evidence::binding::Face;
use assay_evidence::crypto;
use assay_proto::assay::v1::node_client::NodeClient;
use assay_proto::attestation as wire;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::server::agent::v1::*;
use assay_proto::spire::api::types;
use assay_swtpm::RunningTpm;
use assay_tpm::collect::AkPurpose;
use assay_tpm::collect::Device;
use assay_tpm::collect::DeviceKey;
use assay_tpm::collect::EndorsementKey;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::Streaming;

use crate::house::House;

const WITHIN: Duration = Duration::from_secs(20);

pub struct Host {
    pub tpm: RunningTpm,
    pub device: Device,
    pub ek: EndorsementKey,
    pub ak: DeviceKey,
    /// What its agent says in a hello.
    pub facts: Facts,
}

/// A key of an agent with the certificate it got.
pub struct Attested {
    pub identity: Identity,
}

/// What a refused call said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub correlation_id: String,
    pub claims: Vec<String>,
    pub grpc: tonic::Code,
}

/// An AttestAgent stream.
pub struct Attestation {
    asked: mpsc::Sender<AttestAgentRequest>,
    answers: Streaming<AttestAgentResponse>,
}

/// A Refresh stream.
pub struct Refreshing {
    asked: mpsc::Sender<wire::FromAgent>,
    answers: Streaming<wire::FromServer>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let told = Told::from_status(&status);
        Self {
            code: told
                .as_ref()
                .map(|told| told.code.clone())
                .unwrap_or_else(|| format!("{:?}: {}", status.code(), status.message())),
            correlation_id: told
                .as_ref()
                .map(|told| told.correlation_id.clone())
                .unwrap_or_default(),
            claims: told
                .map(|told| told.findings.into_iter().map(|f| f.claim).collect())
                .unwrap_or_default(),
            grpc: status.code(),
        }
    }
}

impl Host {
    pub fn new(tpm: RunningTpm) -> Self {
        let device = block_in_place(|| Device::open(&tpm.tcti()).unwrap());
        let (ek, ak, facts) = block_in_place(|| {
            let found = device.ek_certificates().unwrap();
            let ek = device.endorsement_key(&found).unwrap();
            let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
            let banks = device.banks().unwrap();
            let facts = Facts {
                face: Face::Native,
                agent_version: "0.1.0".to_owned(),
                kinds: vec![MediaType::TpmQuote, MediaType::TpmPcrs, MediaType::TpmCertify],
                ek_certs: found.certificates.iter().map(|c| c.der().to_vec()).collect(),
                ek_public: ek.public().raw().to_vec(),
                ek_chain: found.chain.iter().map(|c| c.der().to_vec()).collect(),
                ak_certs: Vec::new(),
                ak_public: ak.public().raw().to_vec(),
                ak_name: ak.public().name().as_bytes().to_vec(),
                log_sha256: None,
                banks: banks
                    .iter()
                    .map(|bank| (bank.algorithm.tpm_id(), bank.is_active()))
                    .collect(),
            };
            (ek, ak, facts)
        });
        Self { tpm, device, ek, ak, facts }
    }

    pub fn ek_sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.ek.public().spki_der())
    }

    pub fn node_id(&self) -> String {
        NodeId::new(NodeKind::TpmEk, &self.ek.public().spki_der()).to_string()
    }

    pub fn svid_key(&self) -> DeviceKey {
        block_in_place(|| self.device.svid_key().unwrap())
    }

    pub fn csr(&self, key: &DeviceKey) -> Vec<u8> {
        csr(&self.device, key)
    }

    /// What an honest agent asks of its TPM for this challenge.
    pub fn gather(&self, collect: &Collect, svid_key: Option<&DeviceKey>) -> Gathered {
        block_in_place(|| {
            let activated = collect.credential.as_ref().map(|(blob, secret)| {
                self.device.activate(&self.ek, &self.ak, blob, secret).unwrap()
            });
            let data = &collect.qualifying_data;
            let quote = self.device.quote(&self.ak, &collect.selections, data).unwrap();
            let certified = svid_key.filter(|_| collect.certify).map(|key| {
                let certify = self.device.certify(&self.ak, key, data).unwrap();
                (certify, key.public().raw().to_vec())
            });
            Gathered {
                activated,
                quote: quote.statement,
                pcrs: quote.values,
                certified,
                ak_certified: None,
                reports: Vec::new(),
                logs: Vec::new(),
            }
        })
    }

    /// A whole honest attestation.
    pub async fn attest(&self, house: &House) -> Result<Attested, Refusal> {
        self.attest_with(house, &self.svid_key()).await
    }

    /// The same with a key it has already, as at half of an SVID's life.
    pub async fn attest_with(&self, house: &House, key: &DeviceKey) -> Result<Attested, Refusal> {
        let connection = stranger(house).await;
        let spki = key.public().spki_der();
        let (hello, attester) = Attester::attest(
            &House::trust_domain(),
            Some(connection.exporter),
            Some(&spki),
            &self.facts,
        );
        let mut attestation = Attestation::open(&connection, hello, self.csr(key)).await?;
        let (collect, collecting) = attestation.challenge(attester).await?;
        let gathered = self.gather(&collect, Some(key));
        let chain = attestation.answer(collecting, gathered).await?;
        Ok(self.attested(key, chain))
    }

    pub fn attested(&self, key: &DeviceKey, chain: Vec<Vec<u8>>) -> Attested {
        let (device, signing) = (self.device.clone(), key.clone());
        let sign = move |message: &[u8]| {
            let signed = device.sign(&signing, &crypto::sha256(message));
            signed.map(|signature| signature.der()).map_err(|error| error.to_string())
        };
        let tls_key = TlsKey::new(key.public().spki_der(), Arc::new(sign));
        let identity = Identity::device(&chain, tls_key).unwrap();
        Attested { identity }
    }

    /// A whole honest refresh over `connection`.
    pub async fn refresh(&self, connection: &Connection) -> Result<Outcome, Refusal> {
        let (hello, attester) =
            Attester::refresh(&House::trust_domain(), connection.exporter, &self.facts);
        let mut refreshing = Refreshing::open(connection, hello).await?;
        let (collect, collecting) = refreshing.challenge(attester).await?;
        let gathered = self.gather(&collect, None);
        refreshing.answer(collecting, gathered).await
    }
}

/// Opens an honest attestation up to its challenge, over `connection`.
pub async fn challenged(
    host: &Host,
    connection: &Connection,
    key: &DeviceKey,
) -> Result<(Attestation, Collect, Collecting), Refusal> {
    let spki = key.public().spki_der();
    let (hello, attester) = Attester::attest(
        &House::trust_domain(),
        Some(connection.exporter),
        Some(&spki),
        &host.facts,
    );
    let mut attestation = Attestation::open(connection, hello, host.csr(key)).await?;
    let (collect, collecting) = attestation.challenge(attester).await?;
    Ok((attestation, collect, collecting))
}

/// A request signed by a TPM key.
pub fn csr(device: &Device, key: &DeviceKey) -> Vec<u8> {
    struct Signing<'a>(&'a Device, &'a DeviceKey, Vec<u8>);
    impl rcgen::PublicKeyData for Signing<'_> {
        fn der_bytes(&self) -> &[u8] {
            &self.2
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }
    impl rcgen::SigningKey for Signing<'_> {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            let digest = crypto::sha256(message);
            let signed = block_in_place(|| self.0.sign(self.1, &digest));
            signed.map(|signature| signature.der()).map_err(|_| rcgen::Error::RemoteKeyError)
        }
    }
    let spki = key.public().spki_der();
    // The point is the end of a P-256 SubjectPublicKeyInfo.
    let point = spki[spki.len() - 65..].to_vec();
    let params = rcgen::CertificateParams::default();
    params.serialize_request(&Signing(device, key, point)).unwrap().der().to_vec()
}

/// A connection without client certificate.
pub async fn stranger(house: &House) -> Connection {
    let server = Server::of(&house.trust().await);
    tls::connect(&house.address(), &server, None, WITHIN).await.unwrap()
}

/// A connection as an attested agent.
pub async fn channel(house: &House, attested: &Attested) -> Connection {
    let server = Server::of(&house.trust().await);
    tls::connect(&house.address(), &server, Some(&attested.identity), WITHIN).await.unwrap()
}

impl Attestation {
    pub async fn open(
        connection: &Connection,
        hello: wire::FromAgent,
        csr: Vec<u8>,
    ) -> Result<Self, Refusal> {
        Self::open_as(connection, DATA_TYPE, hello.encode_to_vec(), csr).await
    }

    pub async fn open_as(
        connection: &Connection,
        kind: &str,
        payload: Vec<u8>,
        csr: Vec<u8>,
    ) -> Result<Self, Refusal> {
        let (asked, receiver) = mpsc::channel(4);
        let params = attest_agent_request::Params {
            data: Some(types::AttestationData { r#type: kind.to_owned(), payload }),
            params: Some(AgentX509svidParams { csr }),
        };
        let step = Some(attest_agent_request::Step::Params(params));
        asked.send(AttestAgentRequest { step }).await.unwrap();
        let mut agents = AgentClient::new(connection.channel.clone());
        let answers = agents.attest_agent(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { asked, answers })
    }

    async fn next(&mut self) -> Result<attest_agent_response::Step, Refusal> {
        let answer = self.answers.message().await?;
        answer.and_then(|answer| answer.step).ok_or_else(|| Status::aborted("ended").into())
    }

    pub async fn challenge(
        &mut self,
        attester: Attester,
    ) -> Result<(Collect, Collecting), Refusal> {
        let frame = self.challenge_frame().await?;
        let message = wire::FromServer::decode(frame.as_slice()).unwrap();
        Ok(attester.challenged(message).unwrap())
    }

    /// The challenge as it came.
    pub async fn challenge_frame(&mut self) -> Result<Vec<u8>, Refusal> {
        match self.next().await? {
            attest_agent_response::Step::Challenge(frame) => Ok(frame),
            attest_agent_response::Step::Result(_) => panic!("a result without evidence"),
        }
    }

    /// The chain that evidence was good for.
    pub async fn answer(
        &mut self,
        collecting: Collecting,
        gathered: Gathered,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        let (evidence, mut sending) = collecting.evidence(gathered).unwrap();
        self.send(evidence.encode_to_vec()).await;
        loop {
            match self.next().await? {
                attest_agent_response::Step::Result(result) => {
                    return Ok(result.svid.unwrap().cert_chain);
                }
                attest_agent_response::Step::Challenge(frame) => {
                    let message = wire::FromServer::decode(frame.as_slice()).unwrap();
                    sending = match sending.on(message).unwrap() {
                        Demand::Send(chunk, next) => {
                            self.send(chunk.encode_to_vec()).await;
                            next
                        }
                        Demand::Done(_) => panic!("an outcome ends a refresh only"),
                    };
                }
            }
        }
    }

    /// Sends any bytes as a challenge response.
    pub async fn send(&mut self, frame: Vec<u8>) {
        let step = Some(attest_agent_request::Step::ChallengeResponse(frame));
        let _ = self.asked.send(AttestAgentRequest { step }).await;
    }

    /// What the server says to the last frame, where that is no challenge.
    pub async fn end(&mut self) -> Result<Vec<Vec<u8>>, Refusal> {
        match self.next().await? {
            attest_agent_response::Step::Result(result) => Ok(result.svid.unwrap().cert_chain),
            attest_agent_response::Step::Challenge(_) => panic!("a challenge at the end"),
        }
    }
}

impl Refreshing {
    pub async fn open(connection: &Connection, hello: wire::FromAgent) -> Result<Self, Refusal> {
        let (asked, receiver) = mpsc::channel(4);
        asked.send(hello).await.unwrap();
        let mut nodes = NodeClient::new(connection.channel.clone());
        let answers = nodes.refresh(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { asked, answers })
    }

    async fn next(&mut self) -> Result<wire::FromServer, Refusal> {
        self.answers.message().await?.ok_or_else(|| Status::aborted("ended").into())
    }

    pub async fn challenge(
        &mut self,
        attester: Attester,
    ) -> Result<(Collect, Collecting), Refusal> {
        let message = self.next().await?;
        Ok(attester.challenged(message).unwrap())
    }

    pub async fn answer(
        &mut self,
        collecting: Collecting,
        gathered: Gathered,
    ) -> Result<Outcome, Refusal> {
        let (evidence, mut sending): (_, Sending) = collecting.evidence(gathered).unwrap();
        let _ = self.asked.send(evidence).await;
        loop {
            let message = self.next().await?;
            sending = match sending.on(message).unwrap() {
                Demand::Done(outcome) => return Ok(outcome),
                Demand::Send(chunk, next) => {
                    let _ = self.asked.send(chunk).await;
                    next
                }
            };
        }
    }
}
