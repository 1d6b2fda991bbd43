//! Channels between a real acceptor and a real client on a real socket: who is let in, who is not,
//! and what both ends know of the connection afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use assay::clock::Clock;
use assay::spiffe::TrustDomain;
use assay::tls;
use assay::tls::AcceptLimits;
use assay::tls::Acceptor;
use assay::tls::ConnectError;
use assay::tls::ConnectInfo;
use assay::tls::DeviceKey;
use assay::tls::Identity;
use assay::tls::PeerError;
use assay::tls::Server;
use assay::tls::ServerIdentity;
use assay::tls::Trust;
use assay_evidence::crypto::SoftwareKey;
use assay_evidence::time::Time;
use assay_proto::health::v1::HealthCheckRequest;
use assay_proto::health::v1::HealthCheckResponse;
use assay_proto::health::v1::HealthListRequest;
use assay_proto::health::v1::HealthListResponse;
use assay_proto::health::v1::health_client::HealthClient;
use assay_proto::health::v1::health_server::Health;
use assay_proto::health::v1::health_server::HealthServer;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PublicKeyData;
use rcgen::SanType;
use rcgen::SerialNumber;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Server as GrpcServer;

const AGENT: &str = "spiffe://example.org/spire/agent/assay/00112233445566778899aabbccddeeff";
const SERVER: &str = "spiffe://example.org/spire/server";
const SOON: Duration = Duration::from_secs(5);

/// An authority as the CA would make one.
struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(uri: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// A leaf for `key` with these names, altered by `change`.
    fn leaf(
        &self,
        key: &impl PublicKeyData,
        uris: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<Vec<u8>> {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(SerialNumber::from(vec![0x41; 16]));
        change(&mut params);
        vec![params.signed_by(key, &self.issuer).unwrap().der().to_vec()]
    }

    fn trust(&self) -> Trust {
        Trust::new(example_org(), std::slice::from_ref(&self.der)).unwrap()
    }

    fn identity(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = SoftwareKey::generate().unwrap();
        let pair = KeyPair::try_from(key.pkcs8_der().as_slice()).unwrap();
        Identity::software(&self.leaf(&pair, uris, change), &key).unwrap()
    }
}

fn example_org() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn as_is(_: &mut CertificateParams) {}

/// Tells the test what the server knew of each call.
struct Watching(mpsc::UnboundedSender<ConnectInfo>);

#[tonic::async_trait]
impl Health for Watching {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let info = request.extensions().get::<ConnectInfo>().unwrap().clone();
        self.0.send(info).unwrap();
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    async fn list(
        &self,
        _request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A server with `identity`, on a port of its own, for as long as the test runs.
async fn serve(
    trust: &Trust,
    identity: Identity,
    limits: AcceptLimits,
) -> (SocketAddr, mpsc::UnboundedReceiver<ConnectInfo>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = tls::server_config(trust, &ServerIdentity::new(identity)).unwrap();
    let acceptor = Acceptor::new(listener, config, limits, Clock::machine()).unwrap();
    let address = acceptor.address();
    let (sender, receiver) = mpsc::unbounded_channel();
    let service = HealthServer::new(Watching(sender));
    tokio::spawn(GrpcServer::builder().add_service(service).serve_with_incoming(acceptor));
    (address, receiver)
}

async fn good_server(authority: &Authority) -> (SocketAddr, mpsc::UnboundedReceiver<ConnectInfo>) {
    let identity = authority.identity(&[SERVER], as_is);
    serve(&authority.trust(), identity, AcceptLimits::default()).await
}

/// Connects and makes one call: in TLS 1.3 a refused client sees it only then.
async fn call(
    address: SocketAddr,
    trust: &Trust,
    identity: Option<&Identity>,
) -> Result<tls::Connection, String> {
    let connection = tls::connect(&address.to_string(), &Server::of(trust), identity, SOON)
        .await
        .map_err(|error| format!("{error:?}"))?;
    HealthClient::new(connection.channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .map_err(|status| status.to_string())?;
    Ok(connection)
}

#[tokio::test]
async fn both_ends_know_each_other_and_hold_the_same_exporter() {
    let authority = Authority::new("spiffe://example.org");
    let (address, mut seen) = good_server(&authority).await;
    let agent = authority.identity(&[AGENT], as_is);
    let connection = call(address, &authority.trust(), Some(&agent)).await.unwrap();
    let info = seen.recv().await.unwrap();
    assert_eq!(info.exporter, connection.exporter);
    assert_ne!(info.exporter, [0; 32]);
    let peer = info.peer.unwrap();
    assert_eq!(peer.id.to_string(), AGENT);
    assert_eq!(peer.serial.unwrap().to_string(), "41".repeat(16));
    assert_eq!(connection.peer.id.to_string(), SERVER);

    let other = call(address, &authority.trust(), Some(&agent)).await.unwrap();
    assert_ne!(other.exporter, connection.exporter, "another connection is another channel");
    assert_eq!(seen.recv().await.unwrap().exporter, other.exporter);
}

#[tokio::test]
async fn a_stranger_is_let_in_without_a_name() {
    let authority = Authority::new("spiffe://example.org");
    let (address, mut seen) = good_server(&authority).await;
    call(address, &authority.trust(), None).await.unwrap();
    assert!(seen.recv().await.unwrap().peer.is_none());
}

#[tokio::test]
async fn the_server_refuses_certificates_that_are_no_svid_of_its_trust_domain() {
    let authority = Authority::new("spiffe://example.org");
    let foreign = Authority::new("spiffe://example.com");
    let (address, mut seen) = good_server(&authority).await;
    let past = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    };
    let server_only = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let other_td = "spiffe://example.com/spire/agent/assay/00112233445566778899aabbccddeeff";
    for (what, identity) in [
        ("of another authority", foreign.identity(&[AGENT], as_is)),
        ("of another trust domain", foreign.identity(&[other_td], as_is)),
        ("another trust domain under our authority", authority.identity(&[other_td], as_is)),
        ("expired", authority.identity(&[AGENT], past)),
        ("of a server only", authority.identity(&[AGENT], server_only)),
    ] {
        let refused = call(address, &authority.trust(), Some(&identity)).await;
        assert!(refused.is_err(), "a certificate {what} was accepted");
    }
    assert!(seen.try_recv().is_err(), "no call came through");
    // And a good one still is.
    let agent = authority.identity(&[AGENT], as_is);
    call(address, &authority.trust(), Some(&agent)).await.unwrap();
}

#[tokio::test]
async fn an_identity_that_is_no_svid_is_not_even_offered() {
    let authority = Authority::new("spiffe://example.org");
    let key = SoftwareKey::generate().unwrap();
    let pair = KeyPair::try_from(key.pkcs8_der().as_slice()).unwrap();
    let ca = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    for chain in [
        authority.leaf(&pair, &[AGENT, SERVER], as_is),
        authority.leaf(&pair, &[], as_is),
        authority.leaf(&pair, &["https://example.org/a"], as_is),
        authority.leaf(&pair, &[AGENT], ca),
    ] {
        assert!(Identity::software(&chain, &key).is_err());
    }
    let other = SoftwareKey::generate().unwrap();
    assert!(Identity::software(&authority.leaf(&pair, &[AGENT], as_is), &other).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_uri_names_are_refused_on_the_wire_too() {
    let authority = Authority::new("spiffe://example.org");
    let (address, mut seen) = good_server(&authority).await;
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    for (name, uris) in [("two", &[AGENT, SERVER][..]), ("one", &[AGENT][..])] {
        let der = authority.leaf(&key, uris, as_is).remove(0);
        let certificate = folder.path().join(format!("{name}.der"));
        std::fs::write(&certificate, der).unwrap();
        let key_file = folder.path().join("key.pem");
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let output = openssl(
            address,
            &[
                "-tls1_3",
                "-certform",
                "DER",
                "-cert",
                certificate.to_str().unwrap(),
                "-key",
                key_file.to_str().unwrap(),
            ],
        );
        assert_eq!(output.contains("alert"), name == "two", "{output}");
    }
    assert!(seen.try_recv().is_err());
}

/// A foreign client that speaks for a second and is then told to stop.
fn openssl(address: SocketAddr, arguments: &[&str]) -> String {
    let mut child = Command::new("timeout")
        .args(["3", "openssl", "s_client", "-alpn", "h2", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let _ = stdin.write_all(b"Q\n");
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_tls_1_3_without_tickets_is_spoken() {
    let authority = Authority::new("spiffe://example.org");
    let (address, _seen) = good_server(&authority).await;
    let output = openssl(address, &["-tls1_2"]);
    assert!(output.contains("protocol version"), "{output}");
    let output = openssl(address, &["-tls1_3"]);
    assert!(output.contains("TLSv1.3"), "{output}");
    assert!(!output.contains("New Session Ticket"), "{output}");
    assert!(output.contains("Early data was not sent"), "{output}");
}

async fn refused_server(authority: &Authority, identity: Identity, trust: &Trust) -> PeerError {
    let (address, _seen) = serve(&authority.trust(), identity, AcceptLimits::default()).await;
    let error = tls::connect(&address.to_string(), &Server::of(trust), None, SOON).await;
    match error.map(|_| ()).unwrap_err() {
        ConnectError::Peer(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_agent_accepts_exactly_the_server_of_its_trust_domain() {
    let authority = Authority::new("spiffe://example.org");
    let foreign = Authority::new("spiffe://example.com");
    let trust = authority.trust();

    let of_another = foreign.identity(&[SERVER], as_is);
    let error = refused_server(&authority, of_another, &trust).await;
    assert!(matches!(error, PeerError::Chain { .. }), "{error:?}");

    let workload = authority.identity(&["spiffe://example.org/shop/web"], as_is);
    let error = refused_server(&authority, workload, &trust).await;
    assert!(matches!(error, PeerError::Unexpected { .. }), "{error:?}");

    let agent = authority.identity(&[AGENT], as_is);
    let error = refused_server(&authority, agent, &trust).await;
    assert!(matches!(error, PeerError::Unexpected { .. }), "{error:?}");

    let elsewhere = authority.identity(&["spiffe://example.com/spire/server"], as_is);
    let error = refused_server(&authority, elsewhere, &trust).await;
    assert!(matches!(error, PeerError::TrustDomain { .. }), "{error:?}");

    let expired = authority.identity(&[SERVER], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    let error = refused_server(&authority, expired, &trust).await;
    assert!(matches!(error, PeerError::Chain { .. }), "{error:?}");
}

#[tokio::test]
async fn authorities_are_swapped_while_the_server_runs() {
    let old = Authority::new("spiffe://example.org");
    let new = Authority::new("spiffe://example.org");
    let trust = old.trust();
    let server = old.identity(&[SERVER], as_is);
    let (address, _seen) = serve(&trust, server, AcceptLimits::default()).await;
    let of_old = old.identity(&[AGENT], as_is);
    let of_new = new.identity(&[AGENT], as_is);
    call(address, &old.trust(), Some(&of_old)).await.unwrap();
    assert!(call(address, &old.trust(), Some(&of_new)).await.is_err());
    trust.replace(std::slice::from_ref(&new.der)).unwrap();
    assert!(call(address, &old.trust(), Some(&of_old)).await.is_err());
    call(address, &old.trust(), Some(&of_new)).await.unwrap();
    assert!(trust.replace(&[b"rubbish".to_vec()]).is_err());
    call(address, &old.trust(), Some(&of_new)).await.unwrap();
}

#[tokio::test]
async fn a_first_contact_by_danger_still_wants_the_name_of_the_server() {
    let foreign = Authority::new("spiffe://example.org");
    let anybody = Server::danger_anybody(&example_org());
    let named = foreign.identity(&[SERVER], as_is);
    let (address, _seen) = serve(&foreign.trust(), named, AcceptLimits::default()).await;
    tls::connect(&address.to_string(), &anybody, None, SOON).await.unwrap();
    let workload = foreign.identity(&["spiffe://example.org/shop/web"], as_is);
    let (address, _seen) = serve(&foreign.trust(), workload, AcceptLimits::default()).await;
    assert!(tls::connect(&address.to_string(), &anybody, None, SOON).await.is_err());
}

#[tokio::test]
async fn slow_handshakes_block_nobody_and_end_in_time() {
    let authority = Authority::new("spiffe://example.org");
    let limits = AcceptLimits { handshake: Duration::from_millis(800), ..AcceptLimits::default() };
    let server = authority.identity(&[SERVER], as_is);
    let (address, _seen) = serve(&authority.trust(), server, limits).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    call(address, &authority.trust(), None).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    for stream in &mut silent {
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "a silent peer was kept");
    }
}

#[tokio::test]
async fn one_source_cannot_take_all_handshakes() {
    let authority = Authority::new("spiffe://example.org");
    let limits = AcceptLimits { handshakes_per_source: 2, ..AcceptLimits::default() };
    let server = authority.identity(&[SERVER], as_is);
    let (address, _seen) = serve(&authority.trust(), server, limits).await;
    let held = [TcpStream::connect(address).await, TcpStream::connect(address).await];
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut third = TcpStream::connect(address).await.unwrap();
    let ended = tokio::time::timeout(SOON, third.read(&mut [0; 16])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))));
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    call(address, &authority.trust(), None).await.unwrap();
}

#[tokio::test]
async fn strangers_of_one_source_have_a_share_and_an_end_and_peers_have_neither() {
    let authority = Authority::new("spiffe://example.org");
    let limits = AcceptLimits {
        strangers_per_source: 2,
        stranger: Duration::from_millis(1_500),
        ..AcceptLimits::default()
    };
    let identity = authority.identity(&[SERVER], as_is);
    let (address, _seen) = serve(&authority.trust(), identity, limits).await;
    let server = Server::of(&authority.trust());
    let mut held = Vec::new();
    for _ in 0..2 {
        let connection = tls::connect(&address.to_string(), &server, None, SOON).await.unwrap();
        let mut client = HealthClient::new(connection.channel.clone());
        client.check(HealthCheckRequest::default()).await.unwrap();
        held.push((connection, client));
    }
    assert!(call(address, &authority.trust(), None).await.is_err());
    let agent = authority.identity(&[AGENT], as_is);
    let peer = tls::connect(&address.to_string(), &server, Some(&agent), SOON).await.unwrap();
    let mut peer_client = HealthClient::new(peer.channel.clone());
    peer_client.check(HealthCheckRequest::default()).await.unwrap();

    tokio::time::sleep(Duration::from_secs(2)).await;
    for (_, client) in &mut held {
        assert!(client.check(HealthCheckRequest::default()).await.is_err());
    }
    peer_client.check(HealthCheckRequest::default()).await.unwrap();
    call(address, &authority.trust(), None).await.unwrap();
}

#[tokio::test]
async fn a_channel_never_connects_a_second_time() {
    let authority = Authority::new("spiffe://example.org");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let identity = ServerIdentity::new(authority.identity(&[SERVER], as_is));
    let config = tls::server_config(&authority.trust(), &identity).unwrap();
    let mut acceptor =
        Acceptor::new(listener, config, AcceptLimits::default(), Clock::machine()).unwrap();
    let address = acceptor.address().to_string();
    let server = Server::of(&authority.trust());
    let (connection, accepted) =
        tokio::join!(tls::connect(&address, &server, None, SOON), acceptor.next());
    let connection = connection.unwrap();
    drop(accepted);
    for _ in 0..3 {
        let mut client = HealthClient::new(connection.channel.clone());
        let check = client.check(HealthCheckRequest::default());
        let failed = tokio::time::timeout(SOON, check).await.expect("fails at once");
        assert!(failed.is_err());
    }
    let second = tokio::time::timeout(Duration::from_millis(200), acceptor.next()).await;
    assert!(second.is_err(), "it connected again");
}

#[tokio::test(flavor = "current_thread")]
async fn a_slow_device_key_keeps_nobody_else_waiting() {
    let authority = Authority::new("spiffe://example.org");
    let (address, mut seen) = good_server(&authority).await;
    let key = SoftwareKey::generate().unwrap();
    let pair = KeyPair::try_from(key.pkcs8_der().as_slice()).unwrap();
    let chain = authority.leaf(&pair, &[AGENT], as_is);
    let spki = key.public_key().to_spki();
    let slow = move |message: &[u8]| {
        std::thread::sleep(Duration::from_millis(500));
        key.sign(message).map_err(|error| error.to_string())
    };
    let identity = Identity::device(&chain, DeviceKey::new(spki, Arc::new(slow))).unwrap();
    let trust = authority.trust();
    let connecting = tokio::spawn(async move { call(address, &trust, Some(&identity)).await });
    let mut longest = Duration::ZERO;
    while !connecting.is_finished() {
        let before = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        longest = longest.max(before.elapsed());
    }
    connecting.await.unwrap().unwrap();
    assert_eq!(seen.recv().await.unwrap().peer.unwrap().id.to_string(), AGENT);
    assert!(longest < Duration::from_millis(250), "the loop stood still for {longest:?}");
}

#[tokio::test]
async fn a_certificate_says_when_it_ends() {
    let authority = Authority::new("spiffe://example.org");
    let (address, mut seen) = good_server(&authority).await;
    let agent = authority.identity(&[AGENT], |params| {
        params.not_after = rcgen::date_time_ymd(2099, 1, 1);
    });
    call(address, &authority.trust(), Some(&agent)).await.unwrap();
    let info = seen.recv().await.unwrap();
    assert_eq!(info.peer.unwrap().not_after, Time::parse_rfc3339("2099-01-01T00:00:00Z").unwrap());
}
