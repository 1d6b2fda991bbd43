//! `assay appraise host`: a folder of captured evidence, judged together. `assay attest --out`
//! writes such folders.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use assay_evidence::Time;
use assay_evidence::chain::Expired;
use assay_evidence::chain::Lists;
use assay_evidence::chain::Rules;
use assay_tpm::AttestationKey;
use assay_tpm::Claims;
use assay_tpm::Error;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::Signed;
use assay_tpm::endorsement;
use assay_tpm::endorsement::EndorsementCertificate;
use assay_tpm::pcr_file::PcrFile;
use assay_tpm::structures::attest::Attested;
use assay_tpm::verify::Selection;
use assay_tpm::verify::UnknownParent;
use assay_tpm::verify::Values;
use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::appraise::measurements;
use crate::cli::appraise::measurements::Reference;
use crate::cli::appraise::measurements::ReferenceArgs;
use crate::cli::appraise::measurements::Said;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::judgement::Judgement;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verify::ek;

/// Names by which a folder may hold each thing, ours first.
const LOGS: [&str; 3] = ["eventlog", "eventlog.bin", "binary_bios_measurements"];
const LISTS: [&str; 5] = ["ima", "ima.bin", "binary_runtime_measurements", "ima.txt", "ima.ascii"];
const VALUES: [&str; 3] = ["pcrs", "pcrs.yaml", "pcrs.bin"];
const KEYS: [&str; 2] = ["ak.pub", "ak.pem"];
const TEXTS: [&str; 2] = ["cmdline", "cmdline.txt"];
const STATES: [&str; 1] = ["ima.state"];
const SIGNATURES: [&str; 2] = ["tpm2-pcr-signature.json", "pcrsig"];
const EK_CERTIFICATES: [&str; 2] = ["ek.crt", "ek-rsa.crt"];
const NONCES: [&str; 2] = ["nonce.hex", "nonce"];
/// Quotes of one folder: one per bank.
const MAX_QUOTES: usize = 8;

#[derive(Args, Debug)]
pub struct HostArgs {
    /// Folder of evidence
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// What was asked to be signed; the folder's own `nonce.hex` if left out, which proves no
    /// freshness
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// Signatures of the boot's registers, as `systemd-measure sign` writes them; the folder's own
    /// `tpm2-pcr-signature.json` if left out
    #[arg(long, value_name = "FILE")]
    pcrsig: Option<PathBuf>,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

struct Files {
    /// Statement and signature of each quote.
    quotes: Vec<(Vec<u8>, Vec<u8>)>,
    ak: Vec<u8>,
    values: Option<Vec<u8>>,
    nonce: Vec<u8>,
    ek_certificate: Option<Vec<u8>>,
    said: Said,
}

/// A folder, judged.
pub struct Judged {
    /// The evidence is genuine, whatever else is said of it.
    pub genuine: bool,
    /// Its list goes on from another and is not judged.
    pub tail: bool,
    pub judgement: Judgement,
    /// What to show beside: events, and the nearest variants.
    pub shown: Value,
}

impl HostArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let reference = self.reference.read(&inputs)?;
        measurements::demand_tpm(&reference)?;
        let signatures = inputs.read_optional(self.pcrsig.as_ref())?;
        let nonce = self.nonce.as_deref();
        let now = input::at(self.at);
        let judged = judge(&self.folder, nonce, signatures, &inputs, &reference, now)?;
        let mut answer = judged.judgement.answer();
        measured::merge(&mut answer.json, judged.shown);
        Ok(answer)
    }
}

/// Reads a folder and judges it. Without `nonce` the folder's own counts, and that is told.
pub fn judge(
    folder: &Path,
    nonce: Option<&str>,
    signatures: Option<Vec<u8>>,
    inputs: &Inputs,
    reference: &Reference,
    now: Time,
) -> Result<Judged, Failure> {
    let mut files = Files::read(folder, nonce, inputs)?;
    if let Some(signatures) = signatures {
        files.said.texts.push(signatures);
    }
    let statements: Vec<&[u8]> = files
        .quotes
        .iter()
        .map(|(quote, signature)| Signed::from_files(quote, signature).attest)
        .collect();
    let mut judgement = reference.judgement(measured::evidence_id(&statements));
    if nonce.is_none() {
        let text = "freshness: the nonce is the folder's own word";
        judgement.not_checked.push(text.to_owned());
    }
    let mut shown = json!({});
    let verified = verified(&files);
    let genuine = verified.is_ok();
    match verified {
        Err(faults) => judgement.findings.extend(faults),
        Ok((claims, registers)) => {
            judgement.claims = claims_json(&claims, &registers);
            for claims in &claims {
                judgement.warnings.extend(claims.warnings().iter().cloned());
                let gaps = claims.not_checked().iter().map(ToString::to_string);
                judgement.not_checked.extend(gaps);
            }
            if let Some(first) = claims.first() {
                let endorsement = files.endorsement(now);
                let known = measurements::known(first, endorsement.as_ref());
                reference.judge_policy(&known, now, &mut judgement);
            }
            shown = reference.judge(&files.said, &registers, now, &mut judgement);
        }
    }
    judgement.not_checked.sort();
    judgement.not_checked.dedup();
    Ok(Judged { genuine, tail: files.said.tail, judgement, shown })
}

impl Files {
    fn read(folder: &Path, nonce: Option<&str>, inputs: &Inputs) -> Result<Files, Failure> {
        let missing = |what: &str| {
            Failure::new(format!("`{}` holds no {what}", folder.display()))
                .hint("`assay attest --out DIR --nonce HEX` writes such a folder")
        };
        let entries = fs::read_dir(folder).map_err(|error| {
            Failure::new(format!("cannot read `{}`: {error}", folder.display()))
        })?;
        let mut statements: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                name.starts_with("quote") && name.ends_with(".msg")
            })
            .take(MAX_QUOTES)
            .collect();
        statements.sort();
        let mut quotes = Vec::new();
        for path in &statements {
            quotes.push((inputs.read(path)?, inputs.read(&path.with_extension("sig"))?));
        }
        if quotes.is_empty() {
            return Err(missing("quote (`quote.msg` with `quote.sig`)"));
        }
        let ak = found(folder, &KEYS).ok_or_else(|| missing("attestation key (`ak.pub`)"))?;
        let nonce = match (nonce, found(folder, &NONCES)) {
            (Some(nonce), _) => input::nonce(nonce)?,
            (None, Some(path)) => {
                let text = String::from_utf8_lossy(&inputs.read(&path)?).trim().to_owned();
                input::nonce(&text)?
            }
            (None, None) => return Err(missing("nonce; give --nonce")),
        };
        let read = |path: Option<PathBuf>| path.map(|path| inputs.read(&path)).transpose();
        let said = Said {
            log: found(folder, &LOGS).map(|p| measured::read_log(inputs, &p)).transpose()?,
            list: found(folder, &LISTS).map(|p| measured::read_list(inputs, &p)).transpose()?,
            tail: found(folder, &STATES).is_some(),
            texts: read(found(folder, &TEXTS))?
                .into_iter()
                .chain(read(found(folder, &SIGNATURES))?)
                .collect(),
        };
        Ok(Files {
            quotes,
            ak: inputs.read(&ak)?,
            values: read(found(folder, &VALUES))?,
            nonce,
            ek_certificate: read(found(folder, &EK_CERTIFICATES))?,
            said,
        })
    }

    /// Only what leads to a root that ships counts; nothing here ties it to the attestation key.
    fn endorsement(&self, now: Time) -> Option<EndorsementCertificate> {
        let file = self.ek_certificate.as_deref()?;
        let rules = Rules { now, expired: Expired::Warn, lists: Lists::None };
        endorsement::verify_file(&rules, file, None, &[], &ek::built_in()).ok()
    }
}

/// Empty files count: a log of no bytes was sent, and is no log.
fn found(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

fn claims_json(claims: &[Claims], registers: &Registers) -> Value {
    let mut json = claims
        .first()
        .and_then(|claims| serde_json::to_value(claims).ok())
        .unwrap_or_else(|| json!({}));
    if let Some(object) = json.as_object_mut() {
        object.insert("registers".to_owned(), json!(registers));
    }
    json
}

/// Every quote by the folder's key, and the registers of all of them together.
fn verified(files: &Files) -> Result<(Vec<Claims>, Registers), Vec<Finding>> {
    let one = |error: Error| vec![error.finding()];
    let listed = files.values.as_deref().map(PcrFile::parse).transpose().map_err(one)?;
    let key = Public::parse_file(&files.ak)
        .and_then(AttestationKey::new)
        .map(ProvedKey::enrolled)
        .map_err(one)?;
    let mut all = Vec::new();
    let mut registers = Registers::new();
    for (quote, signature) in &files.quotes {
        let signed = Signed::from_files(quote, signature);
        // A folder lists all registers of the machine; a quote covers what it names.
        let named = match &listed {
            Some(PcrFile::Listed(listed)) => Some(covered(signed, listed).map_err(one)?),
            _ => None,
        };
        let values = match (&named, &listed) {
            (Some(named), _) => Some(Values::Listed(named)),
            (None, Some(file)) => Some(file.values()),
            (None, None) => None,
        };
        let evidence = Evidence { quote: signed, certify: None, svid_public: None, values };
        let expected = Expected {
            qualifying_data: &files.nonce,
            selection: Selection::AtLeast { required: &[], min_bank: HashAlgorithm::Sha256 },
            svid_spki: None,
            min_hash: HashAlgorithm::Sha256,
            unknown_parent: UnknownParent::Report,
        };
        let claims = assay_tpm::verify(&evidence, &key, &expected).map_err(|_| {
            let faults = assay_tpm::verify::faults(&evidence, &key, &expected);
            faults.iter().map(Error::finding).collect::<Vec<_>>()
        })?;
        for (_, values) in claims.registers().iter() {
            for (register, value) in values {
                // The same register of two quotes has to be the same value.
                if !registers.insert(*register, *value)
                    && registers.value(value.algorithm(), *register) != Some(value)
                {
                    return Err(vec![Finding::new(
                        assay_evidence::Reason::PcrDigestMismatch,
                        format!("pcr.{}.{register}", value.algorithm()),
                        "two values in two quotes",
                        "one",
                        "the folder's quotes",
                    )]);
                }
            }
        }
        all.push(claims);
    }
    Ok((all, registers))
}

/// The listed registers that the statement names.
fn covered(signed: Signed<'_>, listed: &Registers) -> Result<Registers, Error> {
    let (attest, _) = signed.parse()?;
    let mut covered = Registers::new();
    if let Attested::Quote { selections, .. } = &attest.attested {
        for selection in selections.as_slice() {
            for register in selection.registers() {
                if let Some(value) = listed.value(selection.bank, register) {
                    // A signed selection names each register once.
                    let _ = covered.insert(register, *value);
                }
            }
        }
    }
    Ok(covered)
}
