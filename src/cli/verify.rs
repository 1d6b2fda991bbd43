//! `assay verify …`: is this evidence authentic? Files in, verdict out; offline, pure, repeatable.
//!
//! Authenticity alone: signature, freshness, consistency. Whether the state is acceptable is
//! appraisal and another command's question.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_tpm::Anchors;
use assay_tpm::AttestationKey;
use assay_tpm::Claims;
use assay_tpm::EkRoot;
use assay_tpm::Error;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::Signed;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;
use assay_tpm::pcr_file::PcrFile;
use assay_tpm::verify::Selection;
use assay_tpm::verify::UnknownParent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

use crate::cli::output::AFFIRMED;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::output::REFUSED;
use crate::clock::Clock;

/// No input of these commands is longer.
const MAX_FILE: u64 = 1_024 * 1_024;
const MAX_NONCE: usize = 64;

#[derive(Subcommand, Debug)]
pub enum VerifyCommand {
    /// Tell whether a TPM quote is genuine
    #[command(after_help = "Example:\n  assay verify tpm --quote quote.msg --signature quote.sig \
        --nonce 00ff… --ak ak.pub \\\n    --pcrs pcrs --require sha256:0-7")]
    Tpm(Box<TpmArgs>),
}

#[derive(Args, Debug)]
pub struct TpmArgs {
    /// TPMS_ATTEST, bare or as TPM2B_ATTEST; `-` is standard input
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// TPMT_SIGNATURE
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// What was asked to be signed, 1 to 64 bytes in hex
    #[arg(long, value_name = "HEX")]
    nonce: String,
    /// Attestation key you vouch for: TPM2B_PUBLIC, TPMT_PUBLIC, or SubjectPublicKeyInfo (PEM, DER)
    #[arg(long, value_name = "FILE")]
    ak: PathBuf,
    /// Register values: `tpm2_pcrread` text, or `tpm2_quote -F serialized` or `-F values`
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// Registers that must be covered, such as `sha256:0-7+sha384:0,4`
    #[arg(long, value_name = "SELECTION")]
    require: Option<String>,
    /// EK certificate of the same TPM; verified too, though offline nothing ties the AK to it
    #[arg(long, value_name = "FILE", requires = "ek_roots")]
    ek_cert: Option<PathBuf>,
    /// Public area of the EK; the AK may then be its child
    #[arg(long, value_name = "FILE")]
    ek_pub: Option<PathBuf>,
    /// Trust anchors for the EK certificate: a file or a folder
    #[arg(long, value_name = "PATH", requires = "ek_cert")]
    ek_roots: Option<PathBuf>,
    /// Intermediates for the EK certificate; never anchors
    #[arg(long, value_name = "PATH")]
    intermediates: Option<PathBuf>,
    /// Weakest bank that may cover a register
    #[arg(long, value_name = "HASH", default_value = "sha256")]
    min_bank: HashAlgorithm,
    /// Weakest hash that the signature may be over
    #[arg(long, value_name = "HASH", default_value = "sha256")]
    min_hash: HashAlgorithm,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

/// What a verification came to.
struct Verdict {
    claims: Result<Claims, Error>,
    ek: Option<Result<endorsement::Endorsement, Error>>,
    evidence_id: [u8; 32],
}

impl VerifyCommand {
    pub fn run(self) -> Result<Answer, Failure> {
        let Self::Tpm(args) = self;
        args.run()
    }
}

impl TpmArgs {
    fn run(self) -> Result<Answer, Failure> {
        let nonce = nonce(&self.nonce)?;
        let required = self.require.as_deref().map(selection).transpose()?.unwrap_or_default();
        let quote = read(&self.quote)?;
        let signature = read(&self.signature)?;
        let ak = read(&self.ak)?;
        let pcrs = self.pcrs.as_deref().map(read).transpose()?;
        let ek_pub = self.ek_pub.as_deref().map(read).transpose()?;
        let ek = self.endorsement()?;

        let claims =
            self.claims(&quote, &signature, &ak, pcrs.as_deref(), ek_pub, &nonce, &required);
        let signed = Signed::from_files(&quote, &signature);
        Ok(Verdict { claims, ek, evidence_id: crypto::sha256(signed.attest) }.answer())
    }

    fn claims(
        &self,
        quote: &[u8],
        signature: &[u8],
        ak: &[u8],
        pcrs: Option<&[u8]>,
        ek_pub: Option<Vec<u8>>,
        nonce: &[u8],
        required: &[PcrSelection],
    ) -> Result<Claims, Error> {
        let pcrs = pcrs.map(PcrFile::parse).transpose()?;
        let mut key = attestation_key(ak)?;
        if let Some(bytes) = ek_pub {
            key = key.beside(&Public::parse_file(&bytes)?);
        }
        let evidence = Evidence {
            quote: Signed::from_files(quote, signature),
            certify: None,
            svid_public: None,
            values: pcrs.as_ref().map(PcrFile::values),
        };
        let expected = Expected {
            qualifying_data: nonce,
            selection: Selection::AtLeast { required, min_bank: self.min_bank },
            svid_spki: None,
            min_hash: self.min_hash,
            unknown_parent: UnknownParent::Report,
        };
        assay_tpm::verify(&evidence, &key, &expected)
    }

    /// The EK certificate given beside, verified up to the roots given with it.
    fn endorsement(&self) -> Result<Option<Result<endorsement::Endorsement, Error>>, Failure> {
        let (Some(cert), Some(roots)) = (&self.ek_cert, &self.ek_roots) else { return Ok(None) };
        let roots = certificates(roots)?;
        if roots.is_empty() {
            return Err(Failure::new("--ek-roots holds no certificate"));
        }
        // The class is told by the owner of a root pack; a root given by hand says nothing of it.
        let roots = roots
            .into_iter()
            .map(|certificate| EkRoot { certificate, class: TpmClass::Software })
            .collect();
        let intermediates = match &self.intermediates {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        let now = self.at.unwrap_or_else(|| Clock::machine().now());
        let bytes = der_of(&read(cert)?);
        let Some(public) = &self.ek_pub else {
            return Err(Failure::new("--ek-cert needs --ek-pub, the public area it is about"));
        };
        let public = read(public)?;
        let anchors = Anchors::new(roots, intermediates);
        let no_chain: [&[u8]; 0] = [];
        let verified = Public::parse_file(&public).and_then(|public| {
            endorsement::verify(&[bytes], &no_chain, public.raw(), &anchors, now)
        });
        Ok(Some(verified))
    }
}

impl Verdict {
    fn answer(self) -> Answer {
        let mut findings: Vec<Finding> = Vec::new();
        if let Err(error) = &self.claims {
            findings.push(error.finding());
        }
        if let Some(Err(error)) = &self.ek {
            findings.push(error.finding());
        }
        let reason = findings.first().map(|finding| finding.code);
        let verdict = match reason {
            None => "genuine",
            Some(Reason::TpmMalformed | Reason::TrailingBytes | Reason::EkCertMalformed) => {
                "malformed"
            }
            Some(_) => "refused",
        };
        let mut not_checked: Vec<String> = Vec::new();
        let mut warnings = Vec::new();
        let mut claims = Value::Null;
        if let (None, Ok(verified)) = (reason, &self.claims) {
            not_checked.extend(verified.not_checked().iter().map(|gap| (*gap).to_owned()));
            warnings.extend(verified.warnings().iter().cloned());
            claims = serde_json::to_value(verified).unwrap_or(Value::Null);
            if let (Some(Ok(ek)), Some(object)) = (&self.ek, claims.as_object_mut()) {
                not_checked.push("activation: offline nothing ties the AK to this EK".to_owned());
                let ek = json!({
                    "spki_sha256": hex::encode(ek.spki_sha256()),
                    "root_sha256": hex::encode(ek.root_sha256()),
                    "manufacturer": ek.manufacturer(),
                });
                object.insert("ek".to_owned(), ek);
            }
        }
        let json = json!({
            "verdict": verdict,
            "reason": reason,
            "reasons": findings,
            "claims": claims,
            "warnings": warnings,
            "not_checked": not_checked,
            "evidence_id": hex::encode(self.evidence_id),
        });
        let text = match findings.as_slice() {
            [] => genuine_text(&json),
            findings => refused_text(verdict, findings),
        };
        Answer { json, text, exit: if reason.is_none() { AFFIRMED } else { REFUSED } }
    }
}

fn genuine_text(json: &Value) -> String {
    let mut text = "genuine: the quote was signed by this key, over this nonce\n".to_owned();
    for (bank, values) in
        json.pointer("/claims/registers").and_then(Value::as_object).into_iter().flatten()
    {
        for (register, value) in values.as_object().into_iter().flatten() {
            text.push_str(&format!(
                "  pcr.{bank}.{register:<3} {}\n",
                value.as_str().unwrap_or("")
            ));
        }
    }
    for warning in json.pointer("/warnings").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!(
            "  warning: {}\n",
            warning.pointer("/code").and_then(Value::as_str).unwrap_or("")
        ));
    }
    for gap in json.pointer("/not_checked").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("  not checked: {}\n", gap.as_str().unwrap_or("")));
    }
    text
}

fn refused_text(verdict: &str, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!(
            "{verdict}: {}\n  {}\n    found     {}\n    expected  {}\n    by        {}\nhint: {}\n",
            finding.code,
            finding.claim,
            finding.found,
            finding.expected,
            finding.source,
            finding.code.remedy()
        ));
    }
    text
}

/// TPM2B_PUBLIC, TPMT_PUBLIC, or a SubjectPublicKeyInfo in PEM or DER.
fn attestation_key(bytes: &[u8]) -> Result<ProvedKey, Error> {
    if let Some(der) = pem_body(bytes, "PUBLIC KEY") {
        return bare_key(&der);
    }
    match Public::parse_file(bytes) {
        Ok(public) => AttestationKey::new(public).map(ProvedKey::enrolled),
        // A DER SEQUENCE is no TPM structure: 0x30 is no TPM object type.
        Err(_) if bytes.first() == Some(&0x30) => bare_key(bytes),
        Err(error) => Err(error),
    }
}

fn bare_key(der: &[u8]) -> Result<ProvedKey, Error> {
    match PublicKey::from_spki(der) {
        Ok(key) => ProvedKey::enrolled_bare(key),
        Err(_) => Err(Error::Malformed { place: "SubjectPublicKeyInfo of the attestation key" }),
    }
}

pub fn nonce(text: &str) -> Result<Vec<u8>, Failure> {
    let bytes = hex::decode(text).ok().filter(|bytes| (1..=MAX_NONCE).contains(&bytes.len()));
    bytes.ok_or_else(|| {
        Failure::new(format!("--nonce is 1 to {MAX_NONCE} bytes in hex, found `{text}`"))
    })
}

/// `sha256:0-7,9+sha384:0`.
fn selection(text: &str) -> Result<Vec<PcrSelection>, Failure> {
    let refused = |part: &str| {
        Failure::new(format!("--require is `bank:registers`, such as `sha256:0-7`; found `{part}`"))
    };
    let mut selections: Vec<PcrSelection> = Vec::new();
    for part in text.split('+') {
        let (bank, registers) = part.split_once(':').ok_or_else(|| refused(part))?;
        let bank: HashAlgorithm = bank.parse().map_err(|_| refused(part))?;
        let mut mask = 0u32;
        for range in registers.split(',') {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| {
                text.parse::<u32>().ok().filter(|n| *n < 24).ok_or_else(|| refused(part))
            };
            let (low, high) = (number(low)?, number(high)?);
            if low > high {
                return Err(refused(part));
            }
            mask |= (low..=high).fold(0, |mask, register| mask | 1 << register);
        }
        if selections.iter().any(|selection| selection.bank == bank) {
            return Err(Failure::new(format!("--require names bank `{bank}` twice")));
        }
        selections.push(PcrSelection::new(bank, mask));
    }
    Ok(selections)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot read `{}`: {error}", path.display()));
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(fs::File::open(path).map_err(failed)?)
    };
    source.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Failure::new(format!("`{}` is longer than 1 MiB", path.display())));
    }
    Ok(bytes)
}

/// Every certificate of a file, or of the files of a folder.
fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let mut files = vec![path.to_path_buf()];
    if path.is_dir() {
        let entries = fs::read_dir(path)
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?;
        files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.sort();
    }
    let mut found = Vec::new();
    for file in files {
        let set = Certificate::parse_set(&read(&file)?).map_err(|error| {
            Failure::new(format!("`{}` holds no certificate: {error}", file.display()))
        })?;
        found.extend(set);
    }
    Ok(found)
}

/// DER, also where the file is PEM.
fn der_of(bytes: &[u8]) -> Vec<u8> {
    pem_body(bytes, "CERTIFICATE").unwrap_or_else(|| bytes.to_vec())
}

fn pem_body(bytes: &[u8], label: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_selection_is_banks_and_ranges() {
        let found = selection("sha256:0-2,7+sha384:4").unwrap();
        assert_eq!(found[0], PcrSelection::new(HashAlgorithm::Sha256, 0b1000_0111));
        assert_eq!(found[1], PcrSelection::new(HashAlgorithm::Sha384, 0b1_0000));
        for text in ["", "sha256", "sha256:", "sha257:0", "sha256:24", "sha256:3-1", "sha256:a"] {
            assert!(selection(text).is_err(), "{text}");
        }
        assert!(selection("sha256:0+sha256:1").is_err());
    }

    #[test]
    fn a_nonce_is_one_to_sixty_four_bytes_of_hex() {
        assert_eq!(nonce("00FF").unwrap(), [0, 0xff]);
        for text in ["", "0", "0x00", "zz", &"00".repeat(65)] {
            assert!(nonce(text).is_err(), "{text}");
        }
    }
}
