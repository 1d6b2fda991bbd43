//! `assay verify certify`: a key that the attestation key says sits in the same TPM.

use std::path::PathBuf;

use assay_evidence::Finding;
use assay_evidence::crypto;
use assay_tpm::Error;
use assay_tpm::Public;
use assay_tpm::Signed;
use assay_tpm::verify::UnknownParent;
use assay_tpm::verify::certify_faults;
use assay_tpm::verify_certify;
use clap::Args;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict;
use crate::cli::verdict::Verdict;
use crate::cli::verify::key::KeyArgs;

#[derive(Args, Debug)]
pub struct CertifyArgs {
    /// TPMS_ATTEST of TPM2_Certify, bare or as TPM2B_ATTEST; `-` is standard input
    #[arg(long, value_name = "FILE")]
    certify: PathBuf,
    /// TPMT_SIGNATURE
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// What was asked to be signed, 1 to 64 bytes in hex
    #[arg(long, value_name = "HEX")]
    nonce: String,
    /// Public area of the certified key: TPMT_PUBLIC or TPM2B_PUBLIC
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    #[command(flatten)]
    key: KeyArgs,
}

impl CertifyArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let nonce = input::nonce(&self.nonce)?;
        let inputs = Inputs::default();
        let statement = inputs.read(&self.certify)?;
        let signature = inputs.read(&self.signature)?;
        let public = inputs.read(&self.public)?;
        let keys = self.key.read(&inputs)?;
        let signed = Signed::from_files(&statement, &signature);
        let evidence_id = crypto::sha256(signed.attest);

        // Shape, all files of it, before any key is looked at.
        let mut faults: Vec<Finding> = [signed.parse().err(), Public::parse_file(&public).err()]
            .into_iter()
            .flatten()
            .map(|error| error.finding())
            .collect();
        let claimed = match keys.parse() {
            Ok(claimed) if faults.is_empty() => claimed,
            Ok(_) => return Ok(Verdict::refused(faults, evidence_id).answer()),
            Err(more) => {
                faults.extend(more);
                return Ok(Verdict::refused(faults, evidence_id).answer());
            }
        };
        let believed = match keys.believe(claimed) {
            Ok(believed) => believed,
            Err(faults) => return Ok(Verdict::refused(faults, evidence_id).answer()),
        };
        let verified = verify_certify(
            signed,
            &public,
            &believed.key,
            &nonce,
            self.key.min_hash,
            UnknownParent::Report,
        );
        let certification = match verified {
            Ok(certification) => certification,
            Err(error) => {
                let faults = certify_faults(
                    signed,
                    &public,
                    &believed.key,
                    &nonce,
                    self.key.min_hash,
                    UnknownParent::Report,
                );
                debug_assert_eq!(faults.first().map(Error::reason), Some(error.reason()));
                let faults = faults.iter().map(Error::finding).collect();
                return Ok(Verdict::refused(faults, evidence_id).answer());
            }
        };
        let mut verdict = Verdict {
            warnings: certification.warnings().to_vec(),
            not_checked: certification.not_checked().iter().map(|gap| (*gap).to_owned()).collect(),
            ..Verdict::genuine(
                "the key is in the TPM of this attestation key",
                verdict::claims(&certification)?,
                evidence_id,
            )
        };
        believed.add_to(&mut verdict);
        Ok(verdict.answer())
    }
}
