//! A stand-in for a vendor's service, on this machine: AMD's and Intel's are never asked by a test.
//! It answers what a test tells it, and keeps the time of each request.

#![allow(dead_code)] // each test uses what it needs

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

/// What it says to one request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Before the first byte.
    pub delay: Duration,
    /// Says a longer body than it sends, and hangs up.
    pub cut: bool,
}

/// Path and query of a request, and how many there were for the same one before.
type Answering = dyn Fn(&str, usize) -> Reply + Send + Sync;

pub struct VendorStandIn {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, Instant)>>>,
    answering: Arc<Mutex<Arc<Answering>>>,
    stopped: Arc<AtomicBool>,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        let (headers, delay) = (Vec::new(), Duration::ZERO);
        Reply { status: 200, headers, body: body.into(), delay, cut: false }
    }

    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::ok("no") }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

impl VendorStandIn {
    pub fn start(answering: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stand_in = VendorStandIn {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            answering: Arc::new(Mutex::new(Arc::new(answering))),
            stopped: Arc::default(),
        };
        let (seen, answering) = (stand_in.seen.clone(), stand_in.answering.clone());
        let stopped = stand_in.stopped.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, answering) = (seen.clone(), answering.lock().unwrap().clone());
                thread::spawn(move || serve(&mut { stream }, &seen, &*answering));
            }
        });
        stand_in
    }

    /// The answers of a map from paths; 404 for everything else.
    pub fn of(pages: BTreeMap<String, Reply>) -> Self {
        VendorStandIn::start(move |path, _| {
            pages.get(path).cloned().unwrap_or_else(|| Reply::status(404))
        })
    }

    /// Listens on another port too, over TLS, by this certificate and key; says which.
    pub fn behind_tls(&self, certificate: Vec<u8>, key: Vec<u8>) -> u16 {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key);
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, answering) = (self.seen.clone(), self.answering.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let session = rustls::ServerConnection::new(config.clone()).unwrap();
                let (seen, answering) = (seen.clone(), answering.lock().unwrap().clone());
                thread::spawn(move || {
                    let mut stream = rustls::StreamOwned::new(session, stream);
                    serve(&mut stream, &seen, &*answering);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                });
            }
        });
        port
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answer(&self, answering: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) {
        *self.answering.lock().unwrap() = Arc::new(answering);
    }

    /// From here on nobody answers at its address.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn paths(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    /// Between one request and the next.
    pub fn distances(&self) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).map(|pair| pair[1].1.duration_since(pair[0].1)).collect()
    }
}

impl Drop for VendorStandIn {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(
    stream: &mut (impl Read + Write),
    seen: &Mutex<Vec<(String, Instant)>>,
    answering: &Answering,
) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) || head.len() > 16_384 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let before = {
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|(other, _)| *other == path).count();
        seen.push((path.clone(), Instant::now()));
        before
    };
    let reply = answering(&path, before);
    thread::sleep(reply.delay);
    let length = reply.body.len() + if reply.cut { 100 } else { 0 };
    let mut text = format!("HTTP/1.1 {} Stand-in\r\ncontent-length: {length}\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("connection: close\r\n\r\n");
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.write_all(&reply.body);
}

/// What Intel's service would say where this bundle is right, by path.
pub fn intel_pages(bundle: &[u8], ca: &str) -> BTreeMap<String, Reply> {
    let bundle: Value = serde_json::from_slice(bundle).unwrap();
    let text = |name: &str| bundle[name].as_str().unwrap().to_owned();
    let document = |name: &str, field: &str, header: &str| {
        let body = format!(
            r#"{{"{name}":{},"signature":"{}"}}"#,
            text(field),
            text(&format!("{field}_signature"))
        );
        Reply::ok(body).header(header, percent(&text(&format!("{field}_issuer_chain"))))
    };
    let tcb: Value = serde_json::from_str(&text("tcb_info")).unwrap();
    let fmspc = tcb["fmspc"].as_str().unwrap().to_uppercase();
    let tcb = document("tcbInfo", "tcb_info", "TCB-Info-Issuer-Chain");
    let qe = document("enclaveIdentity", "qe_identity", "SGX-Enclave-Identity-Issuer-Chain");
    let list = Reply::ok(hex::decode(text("pck_crl")).unwrap())
        .header("SGX-PCK-CRL-Issuer-Chain", percent(&text("pck_crl_issuer_chain")));
    BTreeMap::from([
        (format!("/tdx/certification/v4/tcb?fmspc={fmspc}&update=standard"), tcb),
        ("/tdx/certification/v4/qe/identity?update=standard".to_owned(), qe),
        (format!("/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"), list),
        // In hex, as the service has it.
        ("/sgx/certification/v4/rootcacrl".to_owned(), Reply::ok(text("root_ca_crl"))),
    ])
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
