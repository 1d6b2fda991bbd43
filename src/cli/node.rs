//! `assay node …`: which machines are admitted, how they stand, and why.

use std::collections::HashMap;
use std::path::PathBuf;

use assay_proto::assay::v1::AdmitNodeRequest;
use assay_proto::assay::v1::CertifyAttestationKeyRequest;
use assay_proto::assay::v1::ExplainNodeRequest;
use assay_proto::assay::v1::ExplainNodeResponse;
use assay_proto::assay::v1::GetNodeRequest;
use assay_proto::assay::v1::ListNodesRequest;
use assay_proto::assay::v1::NodeState;
use assay_proto::assay::v1::ReleaseNodeRequest;
use assay_proto::assay::v1::ResetCountersRequest;
use assay_proto::assay::v1::admin_client::AdminClient;
use assay_proto::assay::v1::admit_node_request;
use assay_proto::assay::v1::explain_node_request;
use assay_proto::assay::v1::node_state::Admission;
use assay_proto::attestation::Finding;
use assay_proto::spire::api::server::agent::v1::BanAgentRequest;
use assay_proto::spire::api::server::agent::v1::DeleteAgentRequest;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::types;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::cli::bundle::pem;
use crate::cli::connect::ServerSocket;
use crate::cli::input;
use crate::cli::output::AFFIRMED;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::REFUSED;
use crate::cli::output::table;
use crate::spiffe::SpiffeId;

#[derive(Subcommand, Debug)]
pub enum NodeCommand {
    /// Admit a machine by its EK, or a proved one by its node id
    #[command(after_help = "Example:\n  assay node admit --ek-cert ek.der --label rack=12")]
    Admit(AdmitArgs),
    /// List nodes and how they stand
    List(ListArgs),
    /// Show one node
    Show(OneArgs),
    /// Say why a node was affirmed or refused, claim by claim
    Explain(ExplainArgs),
    /// Refuse a node from now on
    Ban(OneArgs),
    /// Forget a node; it must attest again to come back
    Delete(OneArgs),
    /// End a hold after `clone-suspected`
    Release(OneArgs),
    /// Accept counters that went back, after a TPM was cleared
    ResetCounters(OneArgs),
    /// Certify a node's attestation key, so that others can believe its quotes without this server
    #[command(after_help = "Example:\n  assay node certify-ak NODE_ID --out evidence\n  \
        assay verify tpm … --ak-cert evidence/ak.crt --ak-roots evidence/attestation-ca.crt")]
    CertifyAk(CertifyAkArgs),
}

#[derive(Args, Debug)]
pub struct AdmitArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// Node id of a machine that has proved itself and waits
    #[arg(group = "by")]
    node_id: Option<String>,
    /// SHA-256 of the EK's SubjectPublicKeyInfo, in hex
    #[arg(long, value_name = "HEX", group = "by")]
    ek_sha256: Option<String>,
    /// EK certificate, DER or PEM
    #[arg(long, value_name = "FILE", group = "by")]
    ek_cert: Option<PathBuf>,
    /// SHA-256 of the SubjectPublicKeyInfo of the AK certificate's key, in hex
    #[arg(long, value_name = "HEX", group = "by")]
    ak_sha256: Option<String>,
    /// AK certificate, DER or PEM, of a machine without an EK certificate
    #[arg(long, value_name = "FILE", group = "by")]
    ak_cert: Option<PathBuf>,
    /// Firmware profile that this node must fit, in place of the default one
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Label `key=value`; becomes the selector `assay:label:key:value`
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Who answers for the machine
    #[arg(long, default_value = "")]
    owner: String,
    /// The TPM has no SHA-1 bank
    #[arg(long)]
    no_sha1: bool,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    server: ServerSocket,
}

#[derive(Args, Debug)]
pub struct OneArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// Node id, or the SPIFFE ID of the node
    node_id: String,
}

#[derive(Args, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// Node id, SPIFFE ID of the node, or the correlation id of a refusal
    id: String,
}

#[derive(Args, Debug)]
pub struct CertifyAkArgs {
    #[command(flatten)]
    node: OneArgs,
    /// Folder for `ak.crt` and `attestation-ca.crt`; without it both are printed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl NodeCommand {
    pub async fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Admit(args) => admit(args).await,
            Self::List(args) => list(&args).await,
            Self::Show(args) => {
                let request = GetNodeRequest { node_id: node_id(&args.node_id) };
                let mut client = AdminClient::new(args.server.connect().await?);
                state(&client.get_node(request).await?.into_inner())
            }
            Self::Explain(args) => explain(&args).await,
            Self::Ban(args) => {
                let (mut client, id) = agent(&args).await?;
                client.ban_agent(BanAgentRequest { id: Some(id) }).await?;
                done("banned", &args.node_id)
            }
            Self::Delete(args) => {
                let (mut client, id) = agent(&args).await?;
                client.delete_agent(DeleteAgentRequest { id: Some(id) }).await?;
                done("deleted", &args.node_id)
            }
            Self::Release(args) => {
                let request = ReleaseNodeRequest { node_id: node_id(&args.node_id) };
                let mut client = AdminClient::new(args.server.connect().await?);
                state(&client.release_node(request).await?.into_inner())
            }
            Self::CertifyAk(args) => certify_ak(&args).await,
            Self::ResetCounters(args) => {
                let request = ResetCountersRequest { node_id: node_id(&args.node_id) };
                let mut client = AdminClient::new(args.server.connect().await?);
                state(&client.reset_counters(request).await?.into_inner())
            }
        }
    }
}

async fn admit(args: AdmitArgs) -> Result<Answer, Failure> {
    let by = whom(&args)?;
    // The server reads the profile: a relative path means what the caller sees.
    let profile = match &args.profile {
        Some(path) => std::fs::canonicalize(path)
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?
            .to_string_lossy()
            .into_owned(),
        None => String::new(),
    };
    let request = AdmitNodeRequest {
        by: Some(by),
        profile,
        labels: args.labels.into_iter().collect::<HashMap<_, _>>(),
        no_sha1: args.no_sha1,
        owner: args.owner,
        ..Default::default()
    };
    let mut client = AdminClient::new(args.server.connect().await?);
    let node = client.admit_node(request).await?.into_inner();
    let named = if node.id.is_empty() {
        format!(
            "{} {}",
            key_word(&node),
            node.ek_sha256.first().map(hex::encode).unwrap_or_default()
        )
    } else {
        format!("node {}", node.id)
    };
    Ok(Answer::new(node_json(&node), format!("admitted {named}\n{}", node_text(&node))))
}

/// The command line takes one of these at most.
fn whom(args: &AdmitArgs) -> Result<admit_node_request::By, Failure> {
    use admit_node_request::By;
    let digest = |flag: &str, text: &str| {
        let digest = hex::decode(text).ok().filter(|bytes| bytes.len() == 32);
        digest.ok_or_else(|| Failure::new(format!("{flag} is 64 hex digits, found `{text}`")))
    };
    let certificate = |path: &PathBuf| {
        let read = std::fs::read(path);
        let unread = |error| Failure::new(format!("cannot read `{}`: {error}", path.display()));
        read.map(|bytes| input::der_of(&bytes)).map_err(unread)
    };
    if let Some(id) = &args.node_id {
        return Ok(By::NodeId(node_id(id)));
    }
    if let Some(text) = &args.ek_sha256 {
        return Ok(By::EkSha256(digest("--ek-sha256", text)?));
    }
    if let Some(path) = &args.ek_cert {
        return Ok(By::EkCertificate(certificate(path)?));
    }
    if let Some(text) = &args.ak_sha256 {
        return Ok(By::AkSha256(digest("--ak-sha256", text)?));
    }
    if let Some(path) = &args.ak_cert {
        return Ok(By::AkCertificate(certificate(path)?));
    }
    Err(Failure::new("name the node: NODE_ID, --ek-sha256, --ek-cert, --ak-sha256 or --ak-cert"))
}

/// What a key stands for in the words of a person.
fn key_word(node: &NodeState) -> &'static str {
    match node.hardware.as_str() {
        "tpm-ak" => "AK",
        _ => "EK",
    }
}

async fn list(args: &ListArgs) -> Result<Answer, Failure> {
    let mut client = AdminClient::new(args.server.connect().await?);
    let mut nodes = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListNodesRequest { page_size: 0, page_token };
        let page = client.list_nodes(request).await?.into_inner();
        nodes.extend(page.nodes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut rows =
        vec![["NODE", "ADMISSION", "STANDING", "TPM", "QUOTED", "HOLDS"].map(str::to_owned).into()];
    rows.extend(nodes.iter().map(|node| {
        let id = match node.id.as_str() {
            "" => format!(
                "({} {}…)",
                key_word(node),
                node.ek_sha256.first().map(hex::encode).unwrap_or_default().get(..12).unwrap_or("")
            ),
            id => id.to_owned(),
        };
        let standing = node.standing.as_ref();
        vec![
            id,
            admission_text(node),
            standing_text(node),
            node.tpm.as_ref().map(|tpm| tpm.class.clone()).unwrap_or_default(),
            standing.map(|standing| time_text(standing.quoted_ms)).unwrap_or_default(),
            node.holds.join(" "),
        ]
    }));
    let text = if nodes.is_empty() {
        "no nodes; admit one with `assay node admit --ek-cert FILE`\n".to_owned()
    } else {
        table(&rows)
    };
    Ok(Answer::new(json!({ "nodes": nodes.iter().map(node_json).collect::<Vec<_>>() }), text))
}

async fn explain(args: &ExplainArgs) -> Result<Answer, Failure> {
    let id = node_id(&args.id);
    let mut client = AdminClient::new(args.server.connect().await?);
    let by_node = explain_node_request::By::NodeId(id.clone());
    let response = match client.explain_node(ExplainNodeRequest { by: Some(by_node) }).await {
        Err(status) if status.code() == tonic::Code::NotFound => {
            let by = Some(explain_node_request::By::CorrelationId(id));
            client.explain_node(ExplainNodeRequest { by }).await?
        }
        other => other?,
    };
    let response = response.into_inner();
    let affirmed = response.code.is_empty();
    Ok(Answer {
        json: explanation_json(&response),
        text: explanation_text(&response),
        exit: if affirmed { AFFIRMED } else { REFUSED },
    })
}

async fn certify_ak(args: &CertifyAkArgs) -> Result<Answer, Failure> {
    let mut client = AdminClient::new(args.node.server.connect().await?);
    let request = CertifyAttestationKeyRequest { node_id: node_id(&args.node.node_id) };
    let signed = client.certify_attestation_key(request).await?.into_inner();
    let files =
        [("ak.crt", pem(&signed.certificate)), ("attestation-ca.crt", pem(&signed.authority))];
    let mut text = String::new();
    for (name, certificate) in &files {
        let Some(folder) = &args.out else {
            text.push_str(certificate);
            continue;
        };
        let path = folder.join(name);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, certificate))
            .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", path.display())))?;
        text.push_str(&format!("wrote {}\n", path.display()));
    }
    let [(_, certificate), (_, authority)] = &files;
    let json = json!({
        "certificate": certificate,
        "authority": authority,
        "not_after": time_text(signed.not_after_ms),
    });
    Ok(Answer::new(json, text))
}

async fn agent(
    args: &OneArgs,
) -> Result<(AgentClient<tonic::transport::Channel>, types::Spiffeid), Failure> {
    let channel = args.server.connect().await?;
    let mut admin = AdminClient::new(channel.clone());
    let request = GetNodeRequest { node_id: node_id(&args.node_id) };
    let node = admin.get_node(request).await?.into_inner();
    let id = SpiffeId::parse(&node.spiffe_id)
        .map_err(|error| Failure::new(format!("the server named a node oddly: {error}")))?;
    let message = types::Spiffeid {
        trust_domain: id.trust_domain().as_str().to_owned(),
        path: id.path().to_owned(),
    };
    Ok((AgentClient::new(channel), message))
}

fn done(what: &str, node: &str) -> Result<Answer, Failure> {
    Ok(Answer::new(json!({ what: node_id(node) }), format!("{what} {}", node_id(node))))
}

fn state(node: &NodeState) -> Result<Answer, Failure> {
    Ok(Answer::new(node_json(node), node_text(node)))
}

/// A node may be named by its SPIFFE ID too.
fn node_id(text: &str) -> String {
    SpiffeId::parse(text)
        .ok()
        .and_then(|id| id.node_id().map(str::to_owned))
        .unwrap_or_else(|| text.to_owned())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("a label is `key=value`, found `{text}`"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn admission_text(node: &NodeState) -> String {
    match Admission::try_from(node.admission) {
        Ok(Admission::Hash) => "hash",
        Ok(Admission::Operator) => "operator",
        Ok(Admission::Root) => "root",
        Ok(Admission::Pending) => "pending",
        Ok(Admission::Token) => "token",
        _ => "none",
    }
    .to_owned()
}

fn standing_text(node: &NodeState) -> String {
    match &node.standing {
        None => "none".to_owned(),
        Some(standing) if standing.live => standing.verdict.clone(),
        Some(standing) if standing.verdict == "affirming" => "stale".to_owned(),
        Some(standing) => standing.verdict.clone(),
    }
}

fn time_text(unix_ms: i64) -> String {
    match unix_ms {
        0 => String::new(),
        ms => assay_evidence::Time::from_unix_ms(ms).to_string(),
    }
}

fn node_json(node: &NodeState) -> Value {
    let tpm = node.tpm.as_ref().map(|tpm| {
        json!({
            "class": tpm.class,
            "class_asserted": tpm.class_asserted,
            "manufacturer": tpm.manufacturer,
            "model": tpm.model,
            "firmware_version": tpm.firmware_version.to_string(),
            "ek_root_sha256": hex::encode(&tpm.ek_root_sha256),
            "reset_count": tpm.reset_count,
            "restart_count": tpm.restart_count,
            "clock": tpm.clock.to_string(),
        })
    });
    let standing = node.standing.as_ref().map(|standing| {
        json!({
            "appraisal_id": standing.appraisal_id,
            "verdict": standing.verdict,
            "quoted_at": time_text(standing.quoted_ms),
            "expires_at": time_text(standing.expires_ms),
            "profile_sha256": hex::encode(&standing.profile_sha256),
            "policy_sha256": hex::encode(&standing.policy_sha256),
            "live": standing.live,
        })
    });
    json!({
        "id": node.id,
        "spiffe_id": node.spiffe_id,
        "hardware": node.hardware,
        "ek_sha256": node.ek_sha256.iter().map(hex::encode).collect::<Vec<_>>(),
        "admission": admission_text(node),
        "owner": node.owner,
        "labels": node.labels,
        "faces": node.faces,
        "profile": node.profile,
        "no_sha1": node.no_sha1,
        "first_seen": time_text(node.first_seen_ms),
        "last_seen": time_text(node.last_seen_ms),
        "holds": node.holds,
        "tpm": tpm,
        "standing": standing,
        "x509svid_serial": node.x509svid_serial,
        "agent_version": node.agent_version,
        "not_checked": node.not_checked,
        "refusal": (!node.refusal_code.is_empty()).then(|| json!({
            "code": node.refusal_code,
            "correlation_id": node.refusal_correlation_id,
            "at": time_text(node.refused_ms),
        })),
    })
}

fn node_text(node: &NodeState) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<12} {value}\n"));
        }
    };
    line("node", &node.id);
    line("spiffe id", &node.spiffe_id);
    for ek in &node.ek_sha256 {
        line(&format!("{} sha256", key_word(node).to_lowercase()), &hex::encode(ek));
    }
    line("admission", &admission_text(node));
    line("owner", &node.owner);
    let mut labels: Vec<_> = node.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    labels.sort();
    line("labels", &labels.join(" "));
    line("profile", &node.profile);
    line("standing", &standing_text(node));
    if let Some(standing) = &node.standing {
        line("appraisal", &standing.appraisal_id);
        line("quoted", &time_text(standing.quoted_ms));
        line("expires", &time_text(standing.expires_ms));
    }
    if let Some(tpm) = &node.tpm {
        let asserted = if tpm.class_asserted { " (asserted)" } else { "" };
        let known: Vec<&str> = [&tpm.manufacturer, &tpm.model]
            .into_iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        line("tpm", &format!("{}{asserted} {}", tpm.class, known.join(" ")));
        if tpm.firmware_version != 0 {
            line("firmware", &format!("0x{:016x}", tpm.firmware_version));
        }
        line("counters", &format!("reset {}, restart {}", tpm.reset_count, tpm.restart_count));
    }
    line("agent", &node.agent_version);
    line("holds", &node.holds.join(" "));
    for gap in &node.not_checked {
        line("not checked", gap);
    }
    if !node.refusal_code.is_empty() {
        line("refused", &format!("{} at {}", node.refusal_code, time_text(node.refused_ms)));
        line("explain", &format!("assay node explain {}", node.refusal_correlation_id));
    }
    text
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "code": finding.code,
        "claim": finding.claim,
        "found": finding.found,
        "expected": finding.expected,
        "source": finding.source,
    })
}

fn explanation_json(response: &ExplainNodeResponse) -> Value {
    json!({
        "node_id": response.node_id,
        "verdict": response.verdict,
        "reason": (!response.code.is_empty()).then_some(&response.code),
        "reasons": response.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "warnings": response.warnings.iter().map(finding_json).collect::<Vec<_>>(),
        "not_checked": response.not_checked,
        "appraisal_id": response.appraisal_id,
        "correlation_id": response.correlation_id,
        "purpose": response.purpose,
        "face": response.face,
        "at": time_text(response.at_ms),
        "profile": {
            "id": response.profile_id,
            "serial": response.profile_serial,
            "sha256": hex::encode(&response.profile_sha256),
        },
        "policy_sha256": hex::encode(&response.policy_sha256),
        "record": response.record_seq,
        "remedy": response.remedy,
    })
}

/// Refusal first, one line per claim that differs.
fn explanation_text(response: &ExplainNodeResponse) -> String {
    let mut text = if response.code.is_empty() {
        format!("node `{}` is {}\n", response.node_id, response.verdict)
    } else {
        format!(
            "node `{}` refused: {} ({} of its claims differ)\n",
            response.node_id,
            response.code,
            response.findings.len()
        )
    };
    for finding in &response.findings {
        text.push_str(&format!(
            "  {}\n    found     {}\n    expected  {}\n    asked by  {}\n",
            finding.claim, finding.found, finding.expected, finding.source
        ));
    }
    for warning in &response.warnings {
        let claim = (&warning.code, &warning.claim, &warning.found);
        text.push_str(&format!("  warning: {}: {} is {}\n", claim.0, claim.1, claim.2));
    }
    for gap in &response.not_checked {
        text.push_str(&format!("  not checked: {gap}\n"));
    }
    text.push_str(&format!("  at          {}\n", time_text(response.at_ms)));
    if !response.appraisal_id.is_empty() {
        text.push_str(&format!("  appraisal   {}\n", response.appraisal_id));
    }
    if !response.profile_id.is_empty() {
        let profile = (&response.profile_id, response.profile_serial);
        text.push_str(&format!("  profile     {}, serial {}\n", profile.0, profile.1));
    }
    text.push_str(&format!("  record      assay record show {}\n", response.record_seq));
    if !response.remedy.is_empty() {
        text.push_str(&format!("hint: {}\n", response.remedy));
    }
    text
}
