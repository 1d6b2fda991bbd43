//! A server's SVID service for tests: signs for whatever entry is named, with a CA in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use assay_evidence::crypto::SoftwareKey;
use assay_proto::assay::v1::InstanceFacts;
use assay_proto::spire::api::server::svid::v1::batch_new_x509svid_response;
use assay_proto::spire::api::server::svid::v1::svid_server::Svid;
use assay_proto::spire::api::server::svid::v1::svid_server::SvidServer;
use assay_proto::spire::api::server::svid::v1::*;
use assay_proto::spire::api::types;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tonic::transport::Server;

use crate::ca::jwt;
use crate::clock::Clock;
use crate::spiffe::Bundle;
use crate::spiffe::JwtAuthority;
use crate::spiffe::TrustDomain;

/// A running signer.
pub struct Signer {
    desk: Desk,
    folder: tempfile::TempDir,
}

/// The service itself.
#[derive(Clone)]
struct Desk(Arc<Inner>);

struct Inner {
    trust_domain: TrustDomain,
    clock: Clock,
    ca: rcgen::Issuer<'static, rcgen::KeyPair>,
    ca_der: Vec<u8>,
    jwt_key: SoftwareKey,
    state: Mutex<State>,
    held: watch::Sender<bool>,
    reached: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    signed: u64,
    facts: Vec<Option<InstanceFacts>>,
    refused: BTreeSet<String>,
    confused: bool,
}

impl Signer {
    pub async fn start(trust_domain: TrustDomain, clock: Clock) -> Signer {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_der = params.self_signed(&key).unwrap().der().to_vec();
        let desk = Desk(Arc::new(Inner {
            trust_domain,
            clock,
            ca: rcgen::Issuer::new(params, key),
            ca_der,
            jwt_key: SoftwareKey::generate().unwrap(),
            state: Mutex::default(),
            held: watch::Sender::new(false),
            reached: watch::Sender::new(false),
        }));
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let service = SvidServer::new(desk.clone());
        // Ends with the test's runtime.
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        Signer { desk, folder }
    }

    pub fn channel(&self) -> Channel {
        let path = self.folder.path().join("s");
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://server").connect_with_connector_lazy(connector)
    }

    pub fn bundle(&self) -> Bundle {
        let inner = &self.desk.0;
        Bundle {
            trust_domain: inner.trust_domain.clone(),
            x509_authorities: vec![inner.ca_der.clone()],
            jwt_authorities: vec![JwtAuthority {
                key_id: "k1".to_owned(),
                public_key: inner.jwt_key.public_key().to_spki(),
                expires_at: inner.clock.now() + Duration::from_secs(86_400),
            }],
            sequence: 1,
            refresh_hint_s: 60,
        }
    }

    /// X.509-SVIDs signed so far.
    pub fn signed(&self) -> u64 {
        self.desk.0.state.lock().unwrap().signed
    }

    pub fn facts(&self) -> Vec<Option<InstanceFacts>> {
        self.desk.0.state.lock().unwrap().facts.clone()
    }

    pub fn refuse(&self, entry: &str) {
        self.desk.0.state.lock().unwrap().refused.insert(entry.to_owned());
    }

    /// Certificates for keys that nobody asked about.
    pub fn confuse_keys(&self, confused: bool) {
        self.desk.0.state.lock().unwrap().confused = confused;
    }

    /// From now on a signature takes until `release`.
    pub fn hold(&self) {
        self.desk.0.reached.send_replace(false);
        self.desk.0.held.send_replace(true);
    }

    pub fn release(&self) {
        self.desk.0.held.send_replace(false);
    }

    /// Returns when a call waits for the held device.
    pub async fn reached(&self) {
        self.desk.0.reached.subscribe().wait_for(|reached| *reached).await.unwrap();
    }
}

impl Desk {
    fn sign(&self, params: &NewX509svidParams) -> Vec<u8> {
        let mut state = self.0.state.lock().unwrap();
        state.signed += 1;
        state.facts.push(params.assay.clone());
        let csr = rcgen::CertificateSigningRequestParams::from_der(&params.csr.clone().into());
        let csr = csr.unwrap();
        let id = format!("spiffe://{}/{}", self.0.trust_domain, params.entry_id);
        let mut svid = rcgen::CertificateParams::new([]).unwrap();
        svid.subject_alt_names.push(rcgen::SanType::URI(id.try_into().unwrap()));
        let mut serial = [0x40; 16];
        serial[8..].copy_from_slice(&state.signed.to_be_bytes());
        svid.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
        let now = time::OffsetDateTime::from_unix_timestamp(self.0.clock.now().unix_s()).unwrap();
        svid.not_before = now;
        svid.not_after = now + Duration::from_secs(3_600);
        let certificate = match state.confused {
            false => svid.signed_by(&csr.public_key, &self.0.ca),
            true => svid.signed_by(&rcgen::KeyPair::generate().unwrap(), &self.0.ca),
        };
        certificate.unwrap().der().to_vec()
    }
}

#[tonic::async_trait]
impl Svid for Desk {
    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        if *self.0.held.borrow() {
            self.0.reached.send_replace(true);
            self.0.held.subscribe().wait_for(|held| !held).await.unwrap();
        }
        let result = |params: NewX509svidParams| {
            let refused = self.0.state.lock().unwrap().refused.contains(&params.entry_id);
            let status =
                |code, message: &str| Some(types::Status { code, message: message.to_owned() });
            match refused {
                true => {
                    batch_new_x509svid_response::Result { status: status(7, "refused"), svid: None }
                }
                false => batch_new_x509svid_response::Result {
                    status: status(0, ""),
                    svid: Some(types::X509svid {
                        cert_chain: vec![self.sign(&params)],
                        id: None,
                        expires_at: 0,
                        hint: String::new(),
                    }),
                },
            }
        };
        let results = request.into_inner().params.into_iter().map(result).collect();
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let request = request.into_inner();
        let path = format!("/{}", request.entry_id);
        let id = self.0.trust_domain.member(&path).unwrap();
        let now = self.0.clock.now().unix_s();
        let jti = format!("{:?}", std::time::Instant::now());
        let draft = jwt::Draft {
            sub: &id,
            aud: &request.audience,
            exp: now + 300,
            iat: now,
            jti: Some(&jti),
        };
        let input = jwt::signing_input("k1", &draft).unwrap();
        let signature = self.0.jwt_key.sign(input.as_bytes()).unwrap();
        let trust_domain = self.0.trust_domain.to_string();
        let svid = types::Jwtsvid {
            token: jwt::compact(&input, &fixed(&signature)),
            id: Some(types::Spiffeid { trust_domain, path }),
            expires_at: now + 300,
            issued_at: now,
            hint: String::new(),
        };
        Ok(Response::new(NewJwtsvidResponse { svid: Some(svid) }))
    }

    async fn mint_x509svid(
        &self,
        _: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn mint_jwtsvid(
        &self,
        _: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn mint_witsvid(
        &self,
        _: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// r ‖ s out of ECDSA-Sig-Value in DER.
fn fixed(der: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    let mut rest = &der[2..];
    for half in out.chunks_mut(32) {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[length.saturating_sub(32)..];
        half[32 - number.len()..].copy_from_slice(number);
        rest = &rest[2 + length..];
    }
    out
}
