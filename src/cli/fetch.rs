//! `assay fetch …` and `assay validate …`: the Workload API as a workload uses it.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use assay_proto::workload::JwtsvidRequest;
use assay_proto::workload::ValidateJwtsvidRequest;
use assay_proto::workload::X509svid;
use assay_proto::workload::X509svidRequest;
use assay_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;
use tonic::Request;
use tonic::metadata::MetadataValue;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

use crate::cli::bundle::pem;
use crate::cli::bundle::pem_of;
use crate::cli::connect::WorkloadSocket;
use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Subcommand, Debug)]
pub enum FetchCommand {
    /// Fetch the X.509-SVIDs of this process
    #[command(after_help = "Example:\n  assay fetch x509 --out .")]
    X509(X509Args),
    /// Fetch a JWT-SVID for an audience
    #[command(after_help = "Example:\n  assay fetch jwt --audience spiffe://example.org/db")]
    Jwt(JwtArgs),
}

#[derive(Args, Debug)]
pub struct X509Args {
    #[command(flatten)]
    agent: WorkloadSocket,
    /// Write svid.N.pem, svid.N.key (mode 0600) and bundle.N.pem into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct JwtArgs {
    #[command(flatten)]
    agent: WorkloadSocket,
    /// Who the token is for; repeat for several
    #[arg(long, required = true)]
    audience: Vec<String>,
    /// Only the identity with this SPIFFE ID
    #[arg(long, default_value = "")]
    id: String,
}

#[derive(Subcommand, Debug)]
pub enum ValidateCommand {
    /// Tell whether a JWT-SVID is good for an audience
    Jwt(ValidateArgs),
}

#[derive(Args, Debug)]
pub struct ValidateArgs {
    #[command(flatten)]
    agent: WorkloadSocket,
    /// Who the token must be for
    #[arg(long)]
    audience: String,
    /// The token, or `-` to read it from standard input
    token: String,
}

impl FetchCommand {
    pub async fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::X509(args) => x509(args).await,
            Self::Jwt(args) => jwt(args).await,
        }
    }
}

async fn x509(args: X509Args) -> Result<Answer, Failure> {
    let mut client = SpiffeWorkloadApiClient::new(args.agent.connect().await?);
    let mut stream =
        client.fetch_x509svid(request(X509svidRequest {})).await.map_err(no_identity)?.into_inner();
    let response = stream
        .message()
        .await
        .map_err(no_identity)?
        .ok_or_else(|| Failure::new("the agent ended the stream without an answer"))?;
    let mut svids = Vec::new();
    let mut text = String::new();
    for (index, svid) in response.svids.iter().enumerate() {
        let chain = certificates(&svid.x509_svid)?;
        let leaf = chain.first().ok_or_else(|| Failure::new("the agent sent an empty chain"))?;
        let facts = leaf_facts(leaf)?;
        text.push_str(&format!(
            "{}\n  serial      {}\n  not after   {}\n",
            svid.spiffe_id, facts.serial, facts.not_after
        ));
        if !svid.hint.is_empty() {
            text.push_str(&format!("  hint        {}\n", svid.hint));
        }
        if let Some(folder) = &args.out {
            text.push_str(&write(folder, index, svid, &chain)?);
        }
        svids.push(json!({
            "spiffe_id": svid.spiffe_id,
            "serial": facts.serial,
            "not_after": facts.not_after,
            "hint": svid.hint,
            "chain": chain.iter().map(|der| pem(der)).collect::<Vec<_>>(),
        }));
    }
    Ok(Answer::new(json!({ "svids": svids }), text))
}

async fn jwt(args: JwtArgs) -> Result<Answer, Failure> {
    let mut client = SpiffeWorkloadApiClient::new(args.agent.connect().await?);
    let message = JwtsvidRequest { audience: args.audience, spiffe_id: args.id };
    let response = client.fetch_jwtsvid(request(message)).await.map_err(no_identity)?.into_inner();
    let svids: Vec<Value> = response
        .svids
        .iter()
        .map(|svid| json!({ "spiffe_id": svid.spiffe_id, "svid": svid.svid, "hint": svid.hint }))
        .collect();
    // The bare tokens, so that `$(assay fetch jwt …)` is usable as it is.
    let text = response.svids.iter().map(|svid| format!("{}\n", svid.svid)).collect::<String>();
    Ok(Answer::new(json!({ "svids": svids }), text))
}

impl ValidateCommand {
    pub async fn run(self) -> Result<Answer, Failure> {
        let Self::Jwt(args) = self;
        let token = match args.token.as_str() {
            "-" => std::io::read_to_string(std::io::stdin())
                .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?,
            token => token.to_owned(),
        };
        let mut client = SpiffeWorkloadApiClient::new(args.agent.connect().await?);
        let message =
            ValidateJwtsvidRequest { audience: args.audience, svid: token.trim().to_owned() };
        let response =
            client.validate_jwtsvid(request(message)).await.map_err(Failure::from)?.into_inner();
        let claims = Value::Object(
            response
                .claims
                .unwrap_or_default()
                .fields
                .into_iter()
                .map(|(k, v)| (k, plain(v)))
                .collect(),
        );
        let text = format!(
            "{} is good\n{}",
            response.spiffe_id,
            serde_json::to_string_pretty(&claims).unwrap_or_default()
        );
        Ok(Answer::new(json!({ "spiffe_id": response.spiffe_id, "claims": claims }), text))
    }
}

/// Every call to the Workload API carries this header (SPIFFE Workload API, section 4.2).
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

fn no_identity(status: tonic::Status) -> Failure {
    let denied = status.code() == tonic::Code::PermissionDenied;
    let failure = Failure::from(status);
    if denied {
        failure.hint("an entry must match this process: see `assay entry list` on the server")
    } else {
        failure
    }
}

/// The Workload API concatenates the DER certificates of a chain without any framing.
fn certificates(mut der: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut chain = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).map_err(|error| {
            Failure::new(format!("the agent sent a chain that is none: {error}"))
        })?;
        let (certificate, _) = der.split_at(der.len() - rest.len());
        chain.push(certificate.to_vec());
        der = rest;
    }
    Ok(chain)
}

struct LeafFacts {
    serial: String,
    not_after: String,
}

fn leaf_facts(der: &[u8]) -> Result<LeafFacts, Failure> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| {
        Failure::new(format!("the agent sent a certificate that is none: {error}"))
    })?;
    let not_after = certificate.validity().not_after.timestamp();
    Ok(LeafFacts {
        serial: hex::encode(certificate.raw_serial()),
        not_after: assay_evidence::Time::from_unix_s(not_after).to_string(),
    })
}

fn write(
    folder: &Path,
    index: usize,
    svid: &X509svid,
    chain: &[Vec<u8>],
) -> Result<String, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(format!("cannot write `{}`: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let bundle = certificates(&svid.bundle)?;
    let pems = |ders: &[Vec<u8>]| ders.iter().map(|der| pem(der)).collect::<String>();
    let files = [
        (format!("svid.{index}.pem"), pems(chain), 0o644),
        (format!("svid.{index}.key"), pem_of("PRIVATE KEY", &svid.x509_svid_key), 0o600),
        (format!("bundle.{index}.pem"), pems(&bundle), 0o644),
    ];
    let mut text = String::new();
    for (name, content, mode) in files {
        let path = folder.join(name);
        // A key must never be readable in between, nor keep the mode of a file it replaces.
        if path.exists() {
            fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(|error| failed(&path, error))?;
        std::io::Write::write_all(&mut file, content.as_bytes())
            .map_err(|error| failed(&path, error))?;
        text.push_str(&format!("  wrote       {}\n", path.display()));
    }
    Ok(text)
}

/// A protobuf value as JSON.
fn plain(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        // Claims such as `exp` are whole numbers; protobuf knows only doubles.
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() < 9e15 => {
            json!(value as i64)
        }
        Some(Kind::NumberValue(value)) => json!(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(plain).collect()),
        Some(Kind::StructValue(fields)) => {
            Value::Object(fields.fields.into_iter().map(|(k, v)| (k, plain(v))).collect())
        }
    }
}
