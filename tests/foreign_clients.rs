//! Workloads as others write them: the crate `spiffe` and the Python package `spiffe`, both
//! unmodified, fetch X.509- and JWT-SVIDs from an agent and verify them by their own lights.
//! What they accept and refuse is the measure, not what our own client thinks of our server.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use assay::demo::stage::Setup;
use assay::demo::stage::Stage;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::UnixTime;
use spiffe::WorkloadApiClient;
use webpki::EndEntityCert;
use webpki::KeyUsage;

const AUDIENCE: &str = "foreign";
const IDENTITY: &str = "spiffe://example.org/foreign";

/// What a client established by itself.
#[derive(Debug, PartialEq)]
struct Seen {
    spiffe_id: String,
    jwt_spiffe_id: String,
}

/// The Rust crate: parses what comes, asks the agent about the token; webpki walks the path.
async fn rust_client(endpoint: &str) -> Result<Seen, String> {
    let says = |error: spiffe::WorkloadApiError| error.to_string();
    let client = WorkloadApiClient::connect_to(endpoint).await.map_err(says)?;
    let context = client.fetch_x509_context().await.map_err(says)?;
    let svid = context.default_svid().ok_or("no SVID")?;
    let bundle =
        context.bundle_set().get(svid.spiffe_id().trust_domain()).ok_or("no bundle of its own")?;

    let chain: Vec<CertificateDer<'_>> =
        svid.cert_chain().iter().map(|c| CertificateDer::from(c.as_bytes())).collect();
    let roots: Vec<CertificateDer<'_>> =
        bundle.authorities().iter().map(|c| CertificateDer::from(c.as_bytes())).collect();
    let anchors: Vec<_> =
        roots.iter().map(|root| webpki::anchor_from_trusted_cert(root).unwrap()).collect();
    let leaf = EndEntityCert::try_from(&chain[0]).map_err(|e| e.to_string())?;
    for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
        leaf.verify_for_usage(
            &[webpki::ring::ECDSA_P256_SHA256],
            &anchors,
            &chain[1..],
            UnixTime::now(),
            usage,
            None,
            None,
        )
        .map_err(|e| e.to_string())?;
    }

    let token = client.fetch_jwt_svid([AUDIENCE], None).await.map_err(says)?;
    let accepted = client.validate_jwt_token(AUDIENCE, token.token()).await.map_err(says)?;
    let other = client.validate_jwt_token("other", token.token()).await;
    if other.is_ok() {
        return Err("a token for another audience was accepted".to_owned());
    }
    Ok(Seen {
        spiffe_id: svid.spiffe_id().to_string(),
        jwt_spiffe_id: accepted.spiffe_id().to_string(),
    })
}

/// The Python package, in its own process and its own virtual environment.
fn python_client(endpoint: &str) -> Result<Seen, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/workload_client.py");
    let output = Command::new(venv().join("bin/python"))
        .arg(script)
        .arg(AUDIENCE)
        .env("SPIFFE_ENDPOINT_SOCKET", endpoint)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let facts: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| format!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let fact = |name: &str| facts[name].as_str().unwrap_or_default().to_owned();
    match output.status.code() {
        Some(0) => Ok(Seen { spiffe_id: fact("spiffe_id"), jwt_spiffe_id: fact("jwt_spiffe_id") }),
        code => Err(format!("exit {code:?}: {}", fact("error"))),
    }
}

/// Made once for each target folder; pip finds it complete afterwards and leaves it alone.
fn venv() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-venv");
        let needs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/requirements.txt");
        if !venv.join("complete").exists() {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
            let pip = venv.join("bin/pip");
            run(Command::new(pip).args(["install", "--quiet", "--requirement"]).arg(needs));
            std::fs::write(venv.join("complete"), []).unwrap();
        }
        venv
    })
}

fn run(command: &mut Command) {
    let hint = "`make test` installs python3-venv; pip needs its registry once";
    let output = command.output().expect(hint);
    assert!(output.status.success(), "{hint}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn without_an_agent_both_clients_say_so() {
    let endpoint = "unix:///nonexistent/assay.sock";
    assert!(rust_client(endpoint).await.is_err());
    let error = python_client(endpoint).unwrap_err();
    assert!(error.starts_with("exit Some(2)"), "{error}");
}

/// A server, a host that has attested, and one entry for this very user: the stage of the demo.
fn stage() -> (Stage, String) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut stage = Stage::set(Setup {
        program: PathBuf::from(env!("CARGO_BIN_EXE_assay")),
        hosts: &["host-a"],
        refresh: 5,
        interrupted: Arc::default(),
    })
    .unwrap();
    stage.start_server().unwrap();
    let socket = stage.server_socket();
    stage
        .until("the server's start", PATIENCE, |stage| {
            Ok(yes(socket.exists() && stage.ask(&["authority", "show"], &socket)?.1))
        })
        .unwrap();
    let [certificate, _] = stage.host(0).unwrap().tpm.tpm().ek_certificates();
    let certificate = certificate.display().to_string();
    stage.demand(&["node", "admit", "--ek-cert", &certificate], &socket).unwrap();
    stage.start_agent(0).unwrap();
    let node = stage
        .until("the host's attestation", PATIENCE, |stage| {
            let (json, _) = stage.ask(&["node", "list"], &socket)?;
            let live = json.pointer("/nodes/0/standing/live") == Some(&true.into());
            Ok(live.then(|| json["nodes"][0]["spiffe_id"].as_str().unwrap().to_owned()))
        })
        .unwrap();
    let user = format!("unix:uid:{}", nix::unistd::getuid());
    let create = ["entry", "create", "--id", IDENTITY, "--parent", &node, "--selector", &user];
    stage.demand(&create, &socket).unwrap();
    let workload = stage.workload_socket(stage.host(0).unwrap());
    stage
        .until("the workload's SVID", PATIENCE, |stage| {
            Ok(yes(stage.ask(&["fetch", "x509"], &workload)?.1))
        })
        .unwrap();
    (stage, format!("unix://{}", workload.display()))
}

fn yes(done: bool) -> Option<()> {
    done.then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_fetch_and_verify_what_the_agent_gives() {
    let (_stage, endpoint) = tokio::task::spawn_blocking(stage).await.unwrap();
    let rust = rust_client(&endpoint).await.unwrap();
    let python = tokio::task::spawn_blocking(move || python_client(&endpoint)).await.unwrap();
    let expected = Seen { spiffe_id: IDENTITY.into(), jwt_spiffe_id: IDENTITY.into() };
    assert_eq!(rust, expected);
    assert_eq!(python.unwrap(), expected);
}
