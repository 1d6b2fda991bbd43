//! `assay inspect report`: what a confidential machine's report claims to be, told apart by its
//! bytes. No signature is looked at; `assay verify snp|tdx|nitro|azure` does that.

use std::path::PathBuf;

use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::crypto;
use assay_hcl::Hardware;
use assay_hcl::HclReport;
use assay_nitro::Document;
use assay_snp::product::Product;
use assay_snp::report::Report;
use assay_snp::tcb::TcbBytes;
use assay_tdx::EnclaveQuote;
use assay_tdx::Quote;
use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::printable;
use crate::cli::verdict::Verdict;

#[derive(Args, Debug)]
pub struct ReportArgs {
    /// SNP report, TDX quote, Nitro document or HCL report; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// A report as it claims to be.
struct View {
    kind: &'static str,
    fields: Value,
    /// SHA-256 of this is the evidence's id.
    signed: Vec<u8>,
}

impl ReportArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let bytes = Inputs::default().read(&self.file)?;
        let view = match view(&bytes) {
            Ok(view) => view,
            Err(faults) => return Ok(Verdict::refused(faults, crypto::sha256(&bytes)).answer()),
        };
        let mut answer = Verdict::of(Vec::new(), crypto::sha256(&view.signed)).answer();
        answer.text = format!("{}, untrusted: no signature was looked at\n", view.kind);
        tree(&view.fields, 1, &mut answer.text);
        // What the bytes say is no claim that was established.
        if let Some(json) = answer.json.as_object_mut() {
            json.insert("claims".to_owned(), Value::Null);
            json.insert("untrusted".to_owned(), Value::Bool(true));
            json.insert("kind".to_owned(), json!(view.kind));
            json.insert("report".to_owned(), view.fields);
        }
        Ok(answer)
    }
}

/// By the first bytes, which differ: `HCLA`, an array of four in CBOR, a version and a TEE type, or
/// a report of SNP by its length.
fn view(bytes: &[u8]) -> Result<View, Vec<Finding>> {
    if bytes.starts_with(b"HCLA") {
        return hcl(bytes);
    }
    if bytes.first() == Some(&0x84) {
        return nitro(bytes);
    }
    // A report of SNP is told by its length. The TEE type of a quote, offset 4, is 0x81; guest SVN and
    // policy of a report stand there.
    if bytes.len() == SNP_REPORT && bytes.get(4..8) != Some(&TEE_TDX) {
        return snp(bytes);
    }
    if matches!(bytes.first(), Some(4 | 5)) && bytes.get(4..8) == Some(&TEE_TDX) {
        return tdx(bytes);
    }
    if bytes.starts_with(&ENCLAVE) {
        return enclave(bytes);
    }
    let found = match bytes.len() {
        0 => "an empty file".to_owned(),
        length => {
            let first: Vec<u8> = bytes.iter().take(8).copied().collect();
            format!("{length} bytes that begin {}", hex::encode(first))
        }
    };
    let expected = "a report of SNP or HCL, a quote of TDX, or a Nitro document";
    let source = "docs/guides/verify-evidence.md";
    Err(vec![Finding::new(Reason::UnsupportedEvidence, "report", found, expected, source)])
}

fn snp(bytes: &[u8]) -> Result<View, Vec<Finding>> {
    let report = Report::parse(bytes).map_err(|faults| faults.findings())?;
    Ok(View {
        kind: "snp",
        fields: snp_fields(&report),
        signed: bytes.get(..SNP_SIGNED).unwrap_or(bytes).to_vec(),
    })
}

fn snp_fields(report: &Report) -> Value {
    let product = report.cpuid.and_then(Product::from_cpuid);
    let tcb = |tcb: TcbBytes| match product.and_then(|product| tcb.read(product)) {
        Some(parts) => json!({ "bytes": tcb.to_string(), "parts": parts }),
        // Which byte is which depends on the product.
        None => json!({ "bytes": tcb.to_string() }),
    };
    json!({
        "version": report.version,
        "product": product.map(|product| product.to_string()),
        "guest_svn": report.guest_svn,
        "policy": format!("{:#x}", report.policy.0),
        "debug": report.policy.debug(),
        "vmpl": report.vmpl,
        "platform_info": format!("{:#x}", report.platform_info.0),
        "key_info": format!("{:#x}", report.key_info.0),
        "measurement": hex::encode(report.measurement),
        "report_data": hex::encode(report.report_data),
        "host_data": hex::encode(report.host_data),
        "family_id": hex::encode(report.family_id),
        "image_id": hex::encode(report.image_id),
        "id_key_digest": hex::encode(report.id_key_digest),
        "author_key_digest": hex::encode(report.author_key_digest),
        "report_id": hex::encode(report.report_id),
        "report_id_ma": hex::encode(report.report_id_ma),
        "chip_id": hex::encode(report.chip_id),
        "current_tcb": tcb(report.current_tcb),
        "reported_tcb": tcb(report.reported_tcb),
        "committed_tcb": tcb(report.committed_tcb),
        "launch_tcb": tcb(report.launch_tcb),
        "current_version": report.current_version.to_string(),
        "committed_version": report.committed_version.to_string(),
        "launch_mitigations": report.launch_mitigations.map(|bits| format!("{bits:#x}")),
        "current_mitigations": report.current_mitigations.map(|bits| format!("{bits:#x}")),
        "signature": hex::encode(report.signature),
    })
}

fn tdx(bytes: &[u8]) -> Result<View, Vec<Finding>> {
    let quote = Quote::parse(bytes).map_err(|error| vec![error.finding()])?;
    let body = quote.body();
    let fields = json!({
        "version": quote.version(),
        "body_type": quote.body_type(),
        "tee_tcb_svn": hex::encode(body.tee_tcb_svn),
        "mrseam": hex::encode(body.mrseam),
        "mrsignerseam": hex::encode(body.mrsignerseam),
        "seam_attributes": hex::encode(body.seam_attributes),
        "td_attributes": format!("{:#x}", body.td_attributes.0),
        "debug": body.td_attributes.debug(),
        "xfam": hex::encode(body.xfam),
        "mrtd": hex::encode(body.mrtd),
        "mrconfigid": hex::encode(body.mrconfigid),
        "mrowner": hex::encode(body.mrowner),
        "mrownerconfig": hex::encode(body.mrownerconfig),
        "rtmr": body.rtmr.iter().map(hex::encode).collect::<Vec<_>>(),
        "report_data": hex::encode(body.report_data),
        "service_td": body.has_service_td(),
        "mrservicetd": body.preserved.map(|td| hex::encode(td.mrservicetd)),
        "tee_tcb_svn2": body.preserved.map(|td| hex::encode(td.tee_tcb_svn2)),
        "td_id": body.extended.map(|td| hex::encode(td.td_id)),
    });
    Ok(View { kind: "tdx", fields, signed: quote.signed().to_vec() })
}

/// An enclave of SGX: no machine, but its quote looks like one of TDX.
fn enclave(bytes: &[u8]) -> Result<View, Vec<Finding>> {
    let quote = EnclaveQuote::parse(bytes).map_err(|error| vec![error.finding()])?;
    let report = quote.report();
    let fields = json!({
        "version": 3,
        "miscselect": hex::encode(report.miscselect),
        "attributes": hex::encode(report.attributes),
        "debug": report.debug(),
        "mrenclave": hex::encode(report.mrenclave),
        "mrsigner": hex::encode(report.mrsigner),
        "isv_prod_id": report.isv_prod_id,
        "isv_svn": report.isv_svn,
        "report_data": hex::encode(report.report_data),
    });
    Ok(View { kind: "sgx", fields, signed: quote.certified().signed().to_vec() })
}

fn nitro(bytes: &[u8]) -> Result<View, Vec<Finding>> {
    let document = Document::parse(bytes).map_err(|fault| vec![fault.finding()])?;
    let pcrs: serde_json::Map<String, Value> = document
        .pcrs
        .iter()
        .map(|(index, value)| (index.to_string(), json!(hex::encode(value))))
        .collect();
    let sha256 = |der: &[u8]| hex::encode(crypto::sha256(der));
    let fields = json!({
        "module_id": document.module_id,
        "digest": document.digest,
        "timestamp": document.timestamp,
        "pcrs": pcrs,
        "certificate_sha256": sha256(document.certificate),
        "bundle_sha256": document.bundle.iter().map(|der| sha256(der)).collect::<Vec<_>>(),
        "public_key": document.public_key.map(hex::encode),
        "user_data": document.user_data.map(hex::encode),
        "nonce": document.nonce.map(hex::encode),
        "signature": hex::encode(document.signature),
    });
    Ok(View { kind: "nitro", fields, signed: document.signed() })
}

fn hcl(bytes: &[u8]) -> Result<View, Vec<Finding>> {
    let report = HclReport::parse(bytes).map_err(|fault| vec![fault.finding()])?;
    let (hardware, inner) = match report.hardware {
        Hardware::SnpReport(bytes) => {
            ("snp", Report::parse(bytes).map_or(Value::Null, |report| snp_fields(&report)))
        }
        // Only its own machine can check it, and its layout is not that of a quote.
        Hardware::TdReport(bytes) => ("tdx", json!({ "td_report": hex::encode(bytes) })),
    };
    let text = String::from_utf8_lossy(report.raw_var_data);
    let fields = json!({
        "hardware": hardware,
        "var_data_sha256": hex::encode(crypto::sha256(report.raw_var_data)),
        "var_data": serde_json::from_str(&text).unwrap_or(Value::Null),
        "report": inner,
    });
    Ok(View { kind: "hcl", fields, signed: bytes.to_vec() })
}

/// One line for a value, its members below it.
fn tree(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let mut line = |name: &str, value: &Value| match value {
        Value::Object(_) | Value::Array(_) => {
            text.push_str(&format!("{indent}{}\n", printable(name)));
            tree(value, depth.saturating_add(1), text);
        }
        Value::Null => {}
        Value::String(told) => {
            text.push_str(&format!("{indent}{:<20} {}\n", printable(name), printable(told)));
        }
        other => text.push_str(&format!("{indent}{:<20} {other}\n", printable(name))),
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| line(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| line(&index.to_string(), value));
        }
        _ => {}
    }
}

/// SNP ABI rev. 1.58, ATTESTATION_REPORT: its length, and how much of it is signed.
const SNP_REPORT: usize = 1184;
const SNP_SIGNED: usize = 0x2a0;
/// TEE type 0x81 of a quote's header, little-endian.
const TEE_TDX: [u8; 4] = [0x81, 0, 0, 0];
/// Version 3, key type 2 (P-256), TEE type 0.
const ENCLAVE: [u8; 8] = [3, 0, 2, 0, 0, 0, 0, 0];
