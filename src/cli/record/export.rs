//! `assay record export`: the evidence of one record as files that the offline commands read, so
//! that a verdict can be repeated where this server is not at hand.

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::BindingInput;
use assay_proto::assay::v1::GetBlobRequest;
use assay_proto::assay::v1::GetBlobResponse;
use assay_proto::assay::v1::GetRecordRequest;
use assay_proto::assay::v1::admin_client::AdminClient;
use assay_proto::assay::v1::get_record_request::By;
use assay_tpm::Signed;
use clap::Args;
use serde_json::Value;
use serde_json::json;
use tonic::transport::Channel;

use crate::cli::connect::ServerSocket;
use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Args, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    server: ServerSocket,
    /// Sequence number of a record of type `evidence`
    seq: u64,
    /// Folder for the files; made where it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A file's name and contents.
type File = (String, Vec<u8>);

pub async fn export(args: &ExportArgs) -> Result<Answer, Failure> {
    let mut client = AdminClient::new(args.server.connect().await?);
    let request = GetRecordRequest { by: Some(By::Seq(args.seq)), with_refs: false };
    let record = client.get_record(request).await?.into_inner().record;
    let record = record.ok_or_else(|| Failure::refused(format!("no record {}", args.seq)))?;
    let body: Value = serde_json::from_slice(&record.body)
        .map_err(|_| Failure::new(format!("record {} cannot be read", args.seq)))?;
    let mut files: Vec<File> = vec![("record.json".to_owned(), record.body.clone())];
    let mut thinned = Vec::new();
    for digest in blobs(&body) {
        match blob(&mut client, &digest).await? {
            Some(blob) => files.extend(files_of(blob, files.len())?),
            None => thinned.push(digest),
        }
    }
    if files.len() == 1 {
        return Err(Failure::refused(format!("record {} has no evidence that is kept", args.seq))
            .hint("`assay record list --type evidence` names those that have"));
    }
    let mut text = write(&args.out, &files)?;
    for digest in &thinned {
        text.push_str(&format!("not kept any more: {digest}\n"));
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    Ok(Answer::new(json!({ "files": names, "not_kept": thinned }), text))
}

/// SHA-256, in hex, of each blob that the record refers to.
fn blobs(body: &Value) -> Vec<String> {
    let refs = body.get("refs").and_then(Value::as_array).into_iter().flatten();
    refs.filter(|one| one.get("kind").and_then(Value::as_str) == Some("blob"))
        .filter_map(|one| one.get("id").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

/// Nothing where its time is over.
async fn blob(
    client: &mut AdminClient<Channel>,
    digest: &str,
) -> Result<Option<GetBlobResponse>, Failure> {
    let sha256 = hex::decode(digest)
        .map_err(|_| Failure::new(format!("the record names a blob oddly: `{digest}`")))?;
    match client.get_blob(GetBlobRequest { sha256 }).await {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) if status.code() == tonic::Code::DataLoss => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// One item as the files that `assay verify` and `assay inspect` take.
fn files_of(blob: GetBlobResponse, number: usize) -> Result<Vec<File>, Failure> {
    let GetBlobResponse { media_type, data } = blob;
    let kind = media_type.strip_prefix("application/vnd.assay.").unwrap_or(&media_type);
    let one = |name: &str| vec![(name.to_owned(), data.clone())];
    Ok(match kind {
        "tpm-quote" => statement("quote", &data)?,
        "tpm-certify" => statement("certify", &data)?,
        "tpm-pcrs" => one("pcrs"),
        "tpm-ak-public" => one("ak.pub"),
        "tpm-ek-public" => one("ek.pub"),
        "tpm-svid-public" => one("svid.pub"),
        "tcg-eventlog" => one("eventlog.bin"),
        "ima-binary" => one("ima.bin"),
        "ima-ascii" => one("ima.ascii"),
        "kernel-cmdline" => one("cmdline"),
        "ima-state" => one("ima.state"),
        "snp-report" => one("snp-report.bin"),
        "snp-host-certs" => one("host-certs.bin"),
        "snp-vek" => one("vek.crt"),
        "snp-chain" => one("chain.crt"),
        "snp-crl" => one("crl.bin"),
        "tdx-quote" => one("tdx-quote.bin"),
        "tdx-collateral" => one("collateral.json"),
        "ccel" => one("ccel.bin"),
        "hcl-report" => one("hcl-report.bin"),
        "binding" => {
            let input = BindingInput::parse(&data)
                .map_err(|_| Failure::new("the binding of the record cannot be read"))?;
            let nonce = hex::encode(input.binding().qualifying_data());
            // A report of the processor carries all of the hash, a TPM half of it.
            let report_data = hex::encode(input.binding().report_data());
            vec![
                ("binding.bin".to_owned(), data),
                ("nonce.hex".to_owned(), nonce.into_bytes()),
                ("report-data.hex".to_owned(), report_data.into_bytes()),
            ]
        }
        "application/pkix-cert" => one(&format!("certificate-{number}.der")),
        _ => one(&format!("item-{number}.bin")),
    })
}

/// TPM2B_ATTEST ‖ TPMT_SIGNATURE, cut in two.
fn statement(name: &str, item: &[u8]) -> Result<Vec<File>, Failure> {
    let signed = Signed::from_item(item)
        .map_err(|error| Failure::new(format!("the {name} of the record: {error}")))?;
    Ok(vec![
        (format!("{name}.msg"), signed.attest.to_vec()),
        (format!("{name}.sig"), signed.signature.to_vec()),
    ])
}

fn write(folder: &Path, files: &[File]) -> Result<String, Failure> {
    let mut text = String::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, bytes))
            .map_err(|error| Failure::new(format!("cannot write `{}`: {error}", path.display())))?;
        text.push_str(&format!("wrote {} ({} bytes)\n", path.display(), bytes.len()));
    }
    Ok(text)
}
