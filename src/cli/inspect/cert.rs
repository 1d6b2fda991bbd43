//! `assay inspect cert`: one certificate as it claims to be, odd encodings included. No signature
//! is looked at; `assay verify ek` does that.

use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::Curve;
use assay_evidence::PublicKey;
use assay_evidence::certificate::AltName;
use assay_evidence::crypto;
use assay_tpm::endorsement;
use clap::Args;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::objects::oid_registry;
use x509_parser::objects::oid2sn;
use x509_parser::prelude::FromDer;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::printable;
use crate::cli::verdict::Verdict;

#[derive(Args, Debug)]
pub struct CertArgs {
    /// DER or PEM, also as read from an NV index; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl CertArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let bytes = input::der_of(&Inputs::default().read(&self.file)?);
        let certificate = match endorsement::certificate_in_nv(&bytes) {
            Ok(certificate) => certificate,
            Err(error) => {
                let evidence_id = crypto::sha256(&bytes);
                return Ok(Verdict::refused(vec![error.finding()], evidence_id).answer());
            }
        };
        let Some(shown) = view(&certificate, bytes.len()) else {
            return Err(Failure::new("the certificate was read and cannot be shown"));
        };
        let held = Verdict::of(Vec::new(), crypto::sha256(certificate.tbs()));
        let mut answer = held.answer();
        answer.text = text(&shown);
        // What the bytes say is no claim that was established.
        if let Some(json) = answer.json.as_object_mut() {
            json.insert("claims".to_owned(), Value::Null);
            json.insert("untrusted".to_owned(), Value::Bool(true));
            json.insert("certificate".to_owned(), Value::Object(shown));
        }
        Ok(answer)
    }
}

/// The view for people: names, dates and key first, one line each.
fn text(shown: &Map<String, Value>) -> String {
    let of = |pointer: &str| {
        let (name, rest) = pointer.split_once('/').unwrap_or((pointer, ""));
        let value = shown.get(name).unwrap_or(&Value::Null);
        let value = if rest.is_empty() { value } else { &value[rest] };
        match value {
            Value::Null => "-".to_owned(),
            Value::String(text) if text.is_empty() => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                items.join(" ")
            }
            other => other.to_string(),
        }
    };
    let extensions: Vec<String> = shown["extensions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|extension| {
            let critical = if extension["critical"] == true { " (critical)" } else { "" };
            format!("{}{critical}", extension["oid"].as_str().unwrap_or("-"))
        })
        .collect();
    let mut text = "a certificate as it claims to be; nothing of it was verified\n".to_owned();
    for (label, value) in [
        ("subject", of("subject")),
        ("issuer", of("issuer")),
        ("serial", of("serial")),
        ("valid", format!("{} to {}", of("not_before"), of("not_after"))),
        ("key", format!("{}, SPKI SHA-256 {}", of("key/type"), of("key/spki_sha256"))),
        ("key fault", of("key/fault")),
        ("signature", of("signature")),
        ("ca", format!("{}, path length {}", of("ca"), of("path_length"))),
        ("key usage", of("key_usage")),
        ("extended", of("extended_key_usage")),
        ("tpm", format!("{} {} {}", of("tpm/manufacturer"), of("tpm/model"), of("tpm/version"))),
        ("extensions", extensions.join(", ")),
        ("sha256", of("sha256")),
        ("size", format!("{} bytes, {} around it", of("bytes"), of("bytes_around"))),
    ] {
        if value != "-" && value != "- - -" {
            text.push_str(&format!("  {label:<10}  {}\n", printable(&value)));
        }
    }
    text
}

fn view(certificate: &Certificate, file_size: usize) -> Option<Map<String, Value>> {
    let (_, parsed) = X509Certificate::from_der(certificate.der()).ok()?;
    let extensions = certificate.extensions();
    let listed: Vec<Value> = parsed
        .extensions()
        .iter()
        .map(|extension| {
            json!({ "oid": extension.oid.to_id_string(), "critical": extension.critical })
        })
        .collect();
    let view = json!({
        "subject": parsed.subject().to_string(),
        "issuer": parsed.issuer().to_string(),
        "serial": hex::encode(certificate.serial()),
        "not_before": certificate.not_before().to_string(),
        "not_after": certificate.not_after().to_string(),
        "sha256": hex::encode(certificate.sha256()),
        "bytes": certificate.der().len(),
        "bytes_around": file_size.saturating_sub(certificate.der().len()),
        "version": parsed.version().0.saturating_add(1),
        "key": key(certificate),
        "signature": signature(&parsed),
        "ca": extensions.is_ca,
        "path_length": extensions.path_len,
        "key_usage": extensions.key_usage.map(key_usages),
        "extended_key_usage": extensions.extended_key_usage,
        "subject_alt_names": extensions.subject_alt_names.iter().map(alt_name).collect::<Vec<_>>(),
        "tpm": tpm(certificate),
        "subject_key_id": extensions.subject_key_id.as_ref().map(hex::encode),
        "authority_key_id": extensions.authority_key_id.as_ref().map(hex::encode),
        "extensions": listed,
    });
    match view {
        Value::Object(view) => Some(view),
        _ => None,
    }
}

fn key(certificate: &Certificate) -> Value {
    let spki_sha256 = hex::encode(crypto::sha256(certificate.spki_der()));
    match certificate.public_key() {
        Ok(key) => {
            let kind = match key {
                PublicKey::Rsa { modulus, .. } => {
                    let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros());
                    format!("rsa-{}", (modulus.len() * 8).saturating_sub(zeros as usize))
                }
                PublicKey::Ec { curve, .. } => match curve {
                    Curve::P256 => "ec-p256".to_owned(),
                    Curve::P384 => "ec-p384".to_owned(),
                    Curve::P521 => "ec-p521".to_owned(),
                },
            };
            let fault = key.fault().map(|fault| fault.to_string());
            json!({ "type": kind, "spki_sha256": spki_sha256, "fault": fault })
        }
        Err(error) => json!({ "type": error.to_string(), "spki_sha256": spki_sha256 }),
    }
}

fn signature(certificate: &X509Certificate<'_>) -> String {
    let oid = &certificate.signature_algorithm.algorithm;
    oid2sn(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned)
}

/// RFC 5280 §4.2.1.3, from bit 0 on.
fn key_usages(bits: u16) -> Vec<&'static str> {
    let names = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    ];
    names.into_iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, n)| n).collect()
}

fn alt_name(name: &AltName) -> Value {
    match name {
        AltName::Directory(name) => {
            let attributes: Vec<String> = name
                .relative_names
                .iter()
                .flatten()
                .map(|(oid, text)| format!("{oid}={text}"))
                .collect();
            json!({ "directory": attributes })
        }
        AltName::Uri(uri) => json!({ "uri": uri }),
        AltName::Dns(name) => json!({ "dns": name }),
        other => json!({ "other": format!("{other:?}") }),
    }
}

/// What an endorsement or attestation key certificate says of its TPM.
fn tpm(certificate: &Certificate) -> Value {
    let device = endorsement::device(certificate);
    if device == endorsement::Device::default() {
        return Value::Null;
    }
    json!({
        "manufacturer": device.manufacturer,
        "model": device.model,
        "version": device.version,
    })
}
