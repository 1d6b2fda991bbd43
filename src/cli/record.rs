//! `assay record …`: the append-only record of what was appraised and issued.

mod export;

use assay_proto::assay::v1::GetRecordRequest;
use assay_proto::assay::v1::ListRecordsRequest;
use assay_proto::assay::v1::Record;
use assay_proto::assay::v1::admin_client::AdminClient;
use assay_proto::assay::v1::get_record_request::By;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::cli::connect::ServerSocket;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::table;

#[derive(Subcommand, Debug)]
pub enum RecordCommand {
    /// List records, newest first
    List(ListArgs),
    /// Show one record, and with --way-back everything it rests on
    #[command(after_help = "Example:\n  assay record show --serial 4f1c… --way-back")]
    Show(ShowArgs),
    /// Write the evidence of a record as files, to judge it again elsewhere
    #[command(
        after_help = "Example:\n  assay record export 42 --out evidence\n  assay verify tpm \
        --quote evidence/quote.msg --signature evidence/quote.sig \\\n    \
        --nonce $(cat evidence/nonce.hex) --ak evidence/ak.pub --pcrs evidence/pcrs"
    )]
    Export(export::ExportArgs),
}

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// Only records of this type; repeat for several
    #[arg(long = "type", value_parser =
        ["issue-x509", "issue-jwt", "evidence", "result", "admin", "key-event"])]
    types: Vec<String>,
    /// Only records about this SPIFFE ID
    #[arg(long, default_value = "")]
    subject: String,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// Sequence number
    #[arg(group = "by")]
    seq: Option<u64>,
    /// Serial of an X.509-SVID, in hex
    #[arg(long, group = "by")]
    serial: Option<String>,
    /// `jti` of a JWT-SVID
    #[arg(long, group = "by")]
    jti: Option<String>,
    /// Show also the records this one rests on, down to the evidence
    #[arg(long)]
    way_back: bool,
}

impl RecordCommand {
    pub async fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::List(args) => list(args).await,
            Self::Show(args) => show(args).await,
            Self::Export(args) => export::export(&args).await,
        }
    }
}

async fn list(args: ListArgs) -> Result<Answer, Failure> {
    let mut client = AdminClient::new(args.server.connect().await?);
    let request = ListRecordsRequest {
        from_seq: 0,
        limit: args.limit,
        newest_first: true,
        types: args.types,
        subject: args.subject,
    };
    let response = client.list_records(request).await?.into_inner();
    let records: Vec<Value> = response.records.iter().map(record_json).collect();
    let mut rows = vec![["SEQ", "TIME", "TYPE", "SUBJECT", "OUTCOME"].map(str::to_owned).to_vec()];
    rows.extend(records.iter().map(|record| {
        let text = |pointer: &str| match record.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let outcome =
            ["/body/data/verdict", "/body/data/serial", "/body/data/jti", "/body/data/act"]
                .map(text)
                .into_iter()
                .find(|text| !text.is_empty())
                .unwrap_or_default();
        vec![text("/seq"), text("/body/ts"), text("/body/type"), text("/body/subject"), outcome]
    }));
    let text = format!("{}{} records in all\n", table(&rows), response.size);
    Ok(Answer::new(json!({ "records": records, "size": response.size }), text))
}

async fn show(args: ShowArgs) -> Result<Answer, Failure> {
    let by = match (args.seq, args.serial, args.jti) {
        (Some(seq), None, None) => By::Seq(seq),
        (None, Some(serial), None) => By::X509Serial(serial.to_lowercase().replace(':', "")),
        (None, None, Some(jti)) => By::Jti(jti),
        _ => return Err(Failure::new("name the record: SEQ, --serial or --jti")),
    };
    let mut client = AdminClient::new(args.server.connect().await?);
    let request = GetRecordRequest { by: Some(by), with_refs: args.way_back };
    let response = client.get_record(request).await?.into_inner();
    let record =
        response.record.ok_or_else(|| Failure::new("the server answered without a record"))?;
    let json = json!({
        "record": record_json(&record),
        "way_back": response.refs.iter().map(record_json).collect::<Vec<_>>(),
    });
    let mut text = record_text(&record);
    for reference in &response.refs {
        text.push_str("which rests on\n");
        text.push_str(&record_text(reference));
    }
    Ok(Answer::new(json, text))
}

fn body(record: &Record) -> Value {
    serde_json::from_slice(&record.body).unwrap_or(Value::Null)
}

fn record_json(record: &Record) -> Value {
    json!({ "seq": record.seq, "leaf": hex::encode(&record.leaf), "body": body(record) })
}

fn record_text(record: &Record) -> String {
    let body = serde_json::to_string_pretty(&body(record)).unwrap_or_default();
    format!("record {} (leaf {})\n{body}\n", record.seq, hex::encode(&record.leaf))
}
