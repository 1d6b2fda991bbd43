//! The story of the demo, link by link; each is shown by the commands a user has.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;

use crate::demo::screen::Screen;
use crate::demo::stage::Stage;

/// Generous, for slow machines; the demo shows what was really needed.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn tell(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.section("1. Three software TPMs: the server's, host A's, host B's");
    screen.link("each has an endorsement key and a certificate of its maker; both hosts booted");

    server_with_a_key_in_its_tpm(stage, screen)?;
    hosts_prove_themselves(stage, screen)?;
    workloads_get_identities(stage, screen)?;
    workloads_talk(stage, screen)?;
    the_way_back(stage, screen)?;
    host_b_turns_bad(stage, screen)?;
    screen.note("Every link held, and the broken one was refused.");
    Ok(())
}

fn server_with_a_key_in_its_tpm(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.section("2. A server whose CA key is made inside its TPM and never leaves it");
    screen.command("assay server run --config server.toml");
    let started = Instant::now();
    stage.start_server()?;
    let socket = stage.server_socket();
    let authority = stage.until("the server's start", PATIENCE, |stage| {
        if !socket.exists() {
            return Ok(None);
        }
        let (json, ok) = stage.ask(&["authority", "show"], &socket)?;
        Ok(ok.then_some(json))
    })?;
    screen.link(&format!("the server is ready after {:.1} s", started.elapsed().as_secs_f32()));
    let keys = authority.get("authorities").and_then(Value::as_array).context("no authority")?;
    for key in keys {
        let class = text(key, "/custody/class");
        ensure!(class == "hw_tpm_certified", "the {} key is `{class}`", text(key, "/use"));
        screen.link(&format!(
            "the {} key is certified by its TPM's attestation key: custody {class}",
            text(key, "/use")
        ));
    }
    Ok(())
}

fn hosts_prove_themselves(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.section("3. Two hosts prove themselves");
    let socket = stage.server_socket();
    for index in 0..stage.hosts().len() {
        let host = stage.host(index)?;
        let name = host.name;
        let [certificate, _] = host.tpm.tpm().ek_certificates();
        let certificate = certificate.display().to_string();
        screen.command(&format!("assay node admit --ek-cert {name}/ek.pem --label name={name}"));
        let label = format!("name={name}");
        let admit = ["node", "admit", "--ek-cert", &certificate, "--label", &label];
        stage.demand(&admit, &socket)?;
        screen.command(&format!("assay agent run --config {name}/agent.toml"));
        stage.start_agent(index)?;
        let node = stage.until("the host's attestation", PATIENCE, |stage| {
            let (json, _) = stage.ask(&["node", "list"], &socket)?;
            let nodes = json.get("nodes").and_then(Value::as_array).cloned().unwrap_or_default();
            Ok(nodes.into_iter().find(|node| {
                text(node, "/labels/name") == name
                    && node.pointer("/standing/live") == Some(&Value::Bool(true))
            }))
        })?;
        let id = text(&node, "/id");
        screen.link(&format!("{name}: EK certificate, credential activation, quote and profile"));
        screen.link(&format!("{name} is node {id}, standing {}", text(&node, "/standing/verdict")));
        stage.name_node(index, id);
    }
    Ok(())
}

fn workloads_get_identities(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.section("4. Workloads get identities over the SPIFFE Workload API");
    let socket = stage.server_socket();
    let user = String::from_utf8(Command::new("id").arg("-u").output()?.stdout)?;
    let selector = format!("unix:uid:{}", user.trim());
    for (index, workload) in ["web", "db"].into_iter().enumerate() {
        let host = stage.host(index)?;
        let (name, out) = (host.name, stage.path(host.name).display().to_string());
        let parent = format!("spiffe://example.org/spire/agent/assay/{}", host.node);
        let id = format!("spiffe://example.org/{workload}");
        screen.command(&format!(
            "assay entry create --id {id} --parent …/{:.8}… --selector {selector} --x509-ttl 1m",
            host.node
        ));
        // Short lives, so that one can watch them being renewed, and not.
        let create = [
            "entry",
            "create",
            "--id",
            &id,
            "--parent",
            &parent,
            "--selector",
            &selector,
            "--x509-ttl",
            "1m",
            "--jwt-ttl",
            "1m",
        ];
        stage.demand(&create, &socket)?;
        let workload_socket = stage.workload_socket(stage.host(index)?);
        let svid = stage.until("the workload's SVID", PATIENCE, |stage| {
            let (json, ok) = stage.ask(&["fetch", "x509", "--out", &out], &workload_socket)?;
            Ok(ok.then_some(json))
        })?;
        screen.command(&format!("assay fetch x509 --out {name}   # on {name}"));
        screen.link(&format!(
            "{} has serial {} until {}",
            text(&svid, "/svids/0/spiffe_id"),
            text(&svid, "/svids/0/serial"),
            text(&svid, "/svids/0/not_after")
        ));
    }
    let (a, b) = (stage.workload_socket(stage.host(0)?), stage.workload_socket(stage.host(1)?));
    let audience = "spiffe://example.org/db";
    let jwt = stage.demand(&["fetch", "jwt", "--audience", audience], &a)?;
    let token = text(&jwt, "/svids/0/svid");
    let good = stage.demand(&["validate", "jwt", "--audience", audience, &token], &b)?;
    screen.command(&format!("assay fetch jwt --audience {audience}"));
    screen.link(&format!("host B accepts A's JWT-SVID for {}", text(&good, "/spiffe_id")));
    let (_, accepted) =
        stage.ask(&["validate", "jwt", "--audience", "spiffe://example.org/else", &token], &b)?;
    ensure!(!accepted, "a JWT-SVID was accepted for another audience");
    screen.refusal("the same token for another audience is refused");
    Ok(())
}

fn workloads_talk(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.section("5. They verify each other and talk mTLS");
    let verify = ["verify", "-x509_strict", "-CAfile", "host-a/bundle.0.pem", "host-b/svid.0.pem"];
    let output = stage.openssl(&verify)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    screen.command(&format!("openssl {}", verify.join(" ")));
    screen.link("B's chain verifies against A's bundle");

    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let folder = stage.path("");
    let mut server = mtls_server(&folder, port)?;
    let talked = stage.until("the mTLS handshake", PATIENCE, |stage| {
        let address = format!("127.0.0.1:{port}");
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-verify_return_error", "-brief"])
            .args(["-CAfile", "host-a/bundle.0.pem"])
            .args(["-cert", "host-a/svid.0.pem", "-key", "host-a/svid.0.key"])
            .current_dir(stage.path(""))
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.success() && said.contains("Verification: OK")).then_some(said))
    });
    let _ = server.kill();
    let mut heard = String::new();
    if let Some(mut stdout) = server.stdout.take() {
        let _ = stdout.read_to_string(&mut heard);
    }
    let _ = server.wait();
    let said = talked?;
    let protocol = said.lines().find(|line| line.starts_with("Protocol version"));
    screen.link(&format!(
        "A and B spoke with both certificates verified ({})",
        protocol.unwrap_or("")
    ));
    Ok(())
}

/// B waits for one connection whose client certificate its own bundle verifies.
fn mtls_server(folder: &Path, port: u16) -> Result<std::process::Child> {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "openssl", "s_server", "-brief", "-quiet"])
        .args(["-accept", &format!("127.0.0.1:{port}"), "-Verify", "2", "-verify_return_error"])
        .args(["-CAfile", "host-b/bundle.0.pem"])
        .args(["-cert", "host-b/svid.0.pem", "-key", "host-b/svid.0.key"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start openssl s_server")
}

fn the_way_back(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.section("6. The way back, for one SVID: why was this signed?");
    let socket = stage.server_socket();
    let svid = stage.demand(&["fetch", "x509"], &stage.workload_socket(stage.host(0)?))?;
    let serial = text(&svid, "/svids/0/serial");
    screen.command(&format!("assay record show --serial {serial} --way-back"));
    let shown = stage.demand(&["record", "show", "--serial", &serial, "--way-back"], &socket)?;
    let issue = shown.pointer("/record").context("no record of the SVID")?;
    screen.link(&format!(
        "record {}: issued to {} by grant `{}`, CA key custody `{}`",
        text(issue, "/seq"),
        text(issue, "/body/subject"),
        text(issue, "/body/data/grant"),
        text(issue, "/body/data/custody")
    ));
    let back = shown.get("way_back").and_then(Value::as_array).cloned().unwrap_or_default();
    for wanted in ["result", "evidence"] {
        let record = back
            .iter()
            .find(|record| text(record, "/body/type") == wanted)
            .with_context(|| format!("no `{wanted}` record behind it"))?;
        let what = match wanted {
            "result" => format!(
                "appraisal {} against profile {}",
                text(record, "/body/data/verdict"),
                text(record, "/body/data/profile/id")
            ),
            _ => format!("quote for nonce {:.16}…", text(record, "/body/data/nonce")),
        };
        screen.link(&format!("record {}: {what}", text(record, "/seq")));
    }
    let node = stage.demand(&["node", "show", &stage.host(0)?.node], &socket)?;
    screen.link(&format!(
        "by the TPM with EK {:.16}…, whose maker's root is {:.16}…",
        text(&node, "/ek_sha256/0"),
        text(&node, "/tpm/ek_root_sha256")
    ));
    Ok(())
}

fn host_b_turns_bad(stage: &mut Stage, screen: &Screen) -> Result<()> {
    screen.section("7. Host B runs something that nobody reviewed");
    let socket = stage.server_socket();
    let node = stage.host(1)?.node.clone();
    let b = stage.workload_socket(stage.host(1)?);
    let a = stage.workload_socket(stage.host(0)?);
    let before = stage.demand(&["fetch", "x509"], &a)?;
    stage.host(1)?.tpm.pcr_extend(8, b"a kernel nobody reviewed")?;
    screen.link("PCR 8 of host B was extended");
    let changed = Instant::now();
    let refused = stage.until("the refusal of host B", PATIENCE, |stage| {
        let (json, affirmed) = stage.ask(&["node", "explain", &node], &socket)?;
        Ok((!affirmed && json.get("reason").is_some_and(Value::is_string)).then_some(json))
    })?;
    screen.refusal(&format!(
        "host B refused after {:.1} s: {}",
        changed.elapsed().as_secs_f32(),
        text(&refused, "/reason")
    ));
    screen.command(&format!("assay node explain {node:.8}…"));
    screen.output(&stage.text(&["node", "explain", &node], &socket)?);
    let (answer, got) =
        stage.ask(&["fetch", "jwt", "--audience", "spiffe://example.org/fresh"], &b)?;
    if got {
        bail!("host B's workload still got something new: {answer}");
    }
    screen.refusal("B's workload asks for a new JWT-SVID and gets none");
    stage.demand(&["fetch", "jwt", "--audience", "spiffe://example.org/fresh"], &a)?;
    screen.link("A's workload gets one: A goes on undisturbed");
    let serial = text(&before, "/svids/0/serial");
    let renewed = stage.until("the renewal of A's SVID", PATIENCE, |stage| {
        let (json, ok) = stage.ask(&["fetch", "x509"], &a)?;
        let now = text(&json, "/svids/0/serial");
        Ok((ok && now != serial).then_some(now))
    })?;
    screen.link(&format!("A's X.509-SVID was renewed at half its life: serial {renewed}"));
    Ok(())
}

/// What to type while `--keep` keeps everything running.
pub fn next_steps(stage: &Stage) -> Vec<String> {
    let mut lines = vec![
        format!("export ASSAY_SERVER_SOCKET={}", stage.server_socket().display()),
        "assay node list".to_owned(),
        "assay entry list".to_owned(),
        "assay record list".to_owned(),
        "assay authority show".to_owned(),
    ];
    if let Some(host) = stage.hosts().first() {
        let socket = stage.workload_socket(host).display().to_string();
        lines.push(format!("export SPIFFE_ENDPOINT_SOCKET=unix:{socket}"));
        lines.push("assay fetch x509".to_owned());
    }
    lines
}

fn text(json: &Value, pointer: &str) -> String {
    match json.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}
