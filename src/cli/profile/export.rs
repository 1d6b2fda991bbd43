//! `assay profile export`: a profile's reference values as a CoRIM, or the result of an appraisal as
//! an EAR.
//!
//! An EAR is made from what `assay appraise … --json` answered, whatever the evidence was: the
//! appraisal is done in one place, and its result can be handed on later. Such an answer is not signed:
//! who signs the EAR vouches for having had it from an appraisal of their own.

use std::fs;
use std::path::PathBuf;

use assay_evidence::Finding;
use assay_evidence::Time;
use assay_evidence::crypto::SoftwareKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use clap::ValueEnum;
use serde_json::Value;
use serde_json::json;

use crate::appraisal::ear;
use crate::appraisal::ear::Appraised;
use crate::canonical;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::measured;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::profile::sign;
use crate::reference::corim;

const MAX_RESULT: u64 = 64 * 1_024 * 1_024;

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Profile: a file, or a folder with `profile.toml`
    #[arg(value_name = "PATH", required_if_eq("as", "corim"))]
    profile: Option<PathBuf>,
    /// What to write
    #[arg(long = "as", id = "as", value_name = "FORM")]
    form: Form,
    /// Where it goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// P-256 key in PKCS #8 to sign by: COSE_Sign1 around a CoRIM, a JWT of an EAR
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// For an EAR: what `assay appraise … --json` answered
    #[arg(long, value_name = "FILE", required_if_eq("as", "ear"))]
    appraisal: Option<PathBuf>,
    /// For an EAR: name of what was appraised, such as `tpm`, `snp`, `tdx`
    #[arg(long, value_name = "NAME", default_value = "host")]
    label: String,
    /// Time of export, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Reference triples of a CoRIM
    Corim,
    /// EAT attestation result (draft-04)
    Ear,
}

impl ExportArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let key = self.key.as_ref().map(|path| sign::signing_key(&inputs, path)).transpose()?;
        let now = input::at(self.at);
        let (bytes, mut json, text) = match self.form {
            Form::Corim => self.corim(key.as_ref(), now)?,
            Form::Ear => self.ear(&inputs, key.as_ref(), now)?,
        };
        fs::write(&self.out, &bytes).map_err(|error| {
            Failure::new(format!("cannot write `{}`: {error}", self.out.display()))
        })?;
        let common = json!({
            "verdict": "exported",
            "reason": null,
            "reasons": [],
            "file": self.out,
            "bytes": bytes.len(),
            "signer": key.map(|key| hex::encode(key.public_key().spki_sha256())),
            "not_checked": [],
        });
        measured::merge(&mut json, common);
        Ok(Answer::new(json, format!("{text}wrote {}\n", self.out.display())))
    }

    fn corim(&self, key: Option<&SoftwareKey>, now: Time) -> Result<Exported, Failure> {
        let path = self.profile.as_deref().ok_or_else(|| Failure::new("which profile?"))?;
        if self.appraisal.is_some() {
            return Err(Failure::new(
                "--appraisal: a CoRIM is of a profile, no appraisal is in it",
            ));
        }
        let profile = measured::profile(path)?.profile;
        let exported = corim::write(&profile, now);
        let bytes = match key {
            Some(key) => corim::seal(&exported.corim, &profile.id, key)
                .map_err(|error| Failure::new(error.to_string()))?,
            None => exported.corim,
        };
        let json = json!({
            "measurements": exported.measurements,
            "not_exported": exported.not_exported,
        });
        let mut text = format!("{} measurements\n", exported.measurements);
        for what in &exported.not_exported {
            text.push_str(&format!("  not exported  {what}\n"));
        }
        Ok((bytes, json, text))
    }

    fn ear(
        &self,
        inputs: &Inputs,
        key: Option<&SoftwareKey>,
        now: Time,
    ) -> Result<Exported, Failure> {
        let path = self.appraisal.as_deref().ok_or_else(|| Failure::new("give --appraisal"))?;
        if self.profile.is_some() {
            let text = "an EAR names the profile that its appraisal names, and no other";
            return Err(Failure::new(text).hint("leave the profile out"));
        }
        let wrong = |why: &str| {
            Failure::new(format!("`{}` is no answer of `assay appraise`: {why}", path.display()))
        };
        let answer: Value = serde_json::from_slice(&inputs.read_up_to(path, MAX_RESULT)?)
            .map_err(|error| wrong(&error.to_string()))?;
        let mut appraised = appraised(&answer).map_err(|why| wrong(&why))?;
        appraised.label.clone_from(&self.label);
        let set = ear::claims_set(&appraised, now);
        let text = format!("{}: {}\n", self.label, set["ear_status"].as_str().unwrap_or_default());
        let json = json!({ "ear_status": set["ear_status"] });
        let bytes = match key {
            Some(key) => jwt(&set, key)?.into_bytes(),
            None => {
                let mut bytes =
                    canonical::write(&set).map_err(|error| Failure::new(error.to_string()))?;
                bytes.push(b'\n');
                bytes
            }
        };
        Ok((bytes, json, text))
    }
}

/// Bytes, the members of the answer, and the text.
type Exported = (Vec<u8>, Value, String);

fn appraised(answer: &Value) -> Result<Appraised, String> {
    let member = |name: &str| answer.get(name).ok_or_else(|| format!("no `{name}`"));
    let verdict = member("verdict")?.as_str().unwrap_or_default().to_owned();
    if !["affirming", "warning", "contraindicated", "none"].contains(&verdict.as_str()) {
        return Err(format!("verdict `{verdict}`, expected one of an appraisal"));
    }
    let findings = |name: &str| -> Result<Vec<Finding>, String> {
        match answer.get(name) {
            None => Ok(Vec::new()),
            Some(list) => {
                serde_json::from_value(list.clone()).map_err(|e| format!("`{name}`: {e}"))
            }
        }
    };
    let (reasons, warnings) = (findings("reasons")?, findings("warnings")?);
    let id = member("evidence_id")?.as_str().unwrap_or_default().to_owned();
    if hex::decode(&id).map_or(true, |bytes| bytes.len() != 32) {
        return Err(format!("`evidence_id` is `{id}`, expected SHA-256 in hex"));
    }
    let evidence_id = id;
    if (verdict == "contraindicated") == reasons.is_empty() {
        return Err(format!("`{verdict}` with {} reasons", reasons.len()));
    }
    let claims = answer.get("claims").cloned().unwrap_or_default();
    let profile = claims.get("profile");
    let id = profile.and_then(|profile| profile.get("id")).and_then(Value::as_str);
    let serial = profile.and_then(|profile| profile.get("serial")).and_then(Value::as_u64);
    let not_checked = answer.get("not_checked").and_then(Value::as_array).into_iter().flatten();
    Ok(Appraised {
        label: String::new(),
        verdict,
        reasons,
        warnings,
        not_checked: not_checked.filter_map(|gap| gap.as_str().map(str::to_owned)).collect(),
        policies: id.map(|id| policy_id(id, serial.unwrap_or(0))).into_iter().collect(),
        claims,
        evidence_id,
    })
}

fn policy_id(id: &str, serial: u64) -> String {
    format!("firmware-profile:{id}@{serial}")
}

/// A JWS in compact form (RFC 7515), ES256.
fn jwt(set: &Value, key: &SoftwareKey) -> Result<String, Failure> {
    let failed = |error: String| Failure::new(error);
    let key_id = hex::encode(key.public_key().spki_sha256());
    let header = json!({ "alg": "ES256", "kid": key_id, "typ": "JWT" });
    let part = |value: &Value| {
        let bytes = canonical::write(value).map_err(|error| failed(error.to_string()))?;
        Ok::<_, Failure>(URL_SAFE_NO_PAD.encode(bytes))
    };
    let message = format!("{}.{}", part(&header)?, part(set)?);
    let signature = key.sign_fixed(message.as_bytes()).map_err(|e| failed(e.to_string()))?;
    Ok(format!("{message}.{}\n", URL_SAFE_NO_PAD.encode(signature)))
}
