//! `assay attest --out DIR`: evidence from this machine's TPM, into files.
//!
//! The attestation key used here is one of its own (`unique` = "ASSAY-FILE"), never the key of the
//! exchange: what is written to files can never be played into a live exchange.

use std::path::PathBuf;

use clap::Args;

use crate::cli::output::Answer;
use crate::cli::output::Failure;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  assay attest --out evidence --nonce $(openssl rand -hex 32)\n  \
    assay verify tpm --quote evidence/quote.msg --signature evidence/quote.sig \\\n    \
    --ak evidence/ak.pub --pcrs evidence/pcrs --nonce …"
)]
pub struct AttestArgs {
    /// Folder to write to; created if it is not there
    #[arg(long, value_name = "DIR")]
    #[cfg_attr(not(feature = "tpm"), allow(dead_code))]
    out: PathBuf,
    /// What the TPM is to sign, 1 to 64 bytes in hex
    #[arg(long, value_name = "HEX")]
    #[cfg_attr(not(feature = "tpm"), allow(dead_code))]
    nonce: String,
    /// TPM to ask: `device:PATH` or `swtpm:host=…,port=…`
    #[arg(long, value_name = "TCTI", default_value = "device:/dev/tpmrm0")]
    #[cfg_attr(not(feature = "tpm"), allow(dead_code))]
    device: String,
}

#[cfg(not(feature = "tpm"))]
impl AttestArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        Err(Failure::new("this build talks to no TPM (feature `tpm` is off)"))
    }
}

#[cfg(feature = "tpm")]
impl AttestArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        tpm::collect(&self)
    }
}

#[cfg(feature = "tpm")]
mod tpm {
    use std::fs;
    use std::io;

    use assay_tpm::Public;
    use assay_tpm::Signed;
    use assay_tpm::collect::AkPurpose;
    use assay_tpm::collect::Device;
    use assay_tpm::collect::Error;
    use assay_tpm::collect::LogPaths;
    use serde_json::json;

    use super::Answer;
    use super::AttestArgs;
    use super::Failure;
    use crate::cli::input;

    pub fn collect(args: &AttestArgs) -> Result<Answer, Failure> {
        let nonce = input::nonce(&args.nonce)?;
        let device = Device::open(&args.device).map_err(|error| device_failure(&error))?;
        let files = files(&device, &nonce).map_err(|error| device_failure(&error))?;
        let failed = |error: io::Error| {
            Failure::new(format!("cannot write to `{}`: {error}", args.out.display()))
        };
        fs::create_dir_all(&args.out).map_err(failed)?;
        let mut text = String::new();
        for (name, bytes) in &files {
            let path = args.out.join(name);
            fs::write(&path, bytes).map_err(failed)?;
            text.push_str(&format!("wrote {} ({} bytes)\n", path.display(), bytes.len()));
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        Ok(Answer::new(json!({ "out": args.out, "nonce": args.nonce, "files": names }), text))
    }

    /// Everything in the forms that tpm2-tools read too.
    fn files(device: &Device, nonce: &[u8]) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
        let ak = device.attestation_key(AkPurpose::File)?;
        let banks = device.all_banks()?;
        let quote = device.quote(&ak, &banks, nonce)?;
        let mut files = vec![("ak.pub", sized(ak.public())), ("pcrs", quote.values)];
        if let Ok(signed) = Signed::from_item(&quote.statement) {
            files.push(("quote.msg", signed.attest.to_vec()));
            files.push(("quote.sig", signed.signature.to_vec()));
        }
        // A machine without EK certificates (many clouds) still quotes.
        let found = device.ek_certificates()?;
        if !found.certificates.is_empty() {
            let ek = device.endorsement_key(&found)?;
            files.push(("ek.pub", sized(ek.public())));
            files.push(("ek.crt", ek.certificate().der().to_vec()));
        }
        let logs = LogPaths::default();
        files.extend(logs.boot()?.map(|log| ("eventlog", log)));
        match logs.ima_binary()? {
            Some(list) => files.push(("ima", list)),
            None => files.extend(logs.ima_ascii()?.map(|list| ("ima.txt", list))),
        }
        Ok(files)
    }

    /// TPM2B_PUBLIC (TPM 2.0 Library, Part 2, 12.2.5).
    fn sized(public: &Public) -> Vec<u8> {
        let raw = public.raw();
        let mut bytes = u16::try_from(raw.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        bytes.extend(raw);
        bytes
    }

    fn device_failure(error: &Error) -> Failure {
        let failure = Failure::new(error.to_string());
        match error.cure() {
            Some(cure) => failure.hint(cure),
            None => failure,
        }
    }
}
