//! `assay verify tpm`: a quote, by a key that is believed for a stated reason, over this nonce.

use std::path::PathBuf;

use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;
use assay_tpm::Claims;
use assay_tpm::Error;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::PcrSelection;
use assay_tpm::Signed;
use assay_tpm::pcr_file::PcrFile;
use assay_tpm::verify::Selection;
use assay_tpm::verify::UnknownParent;
use clap::Args;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict;
use crate::cli::verdict::Verdict;
use crate::cli::verify::answer;
use crate::cli::verify::key::Believed;
use crate::cli::verify::key::KeyArgs;
use crate::cli::verify::key::KeyFiles;

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
    /// Register values: `tpm2_pcrread` text, or `tpm2_quote -F serialized` or `-F values`
    #[arg(long, value_name = "FILE")]
    pcrs: Option<PathBuf>,
    /// Registers that must be covered, such as `sha256:0-7+sha384:0,4`
    #[arg(long, value_name = "SELECTION")]
    require: Option<String>,
    /// Weakest bank that may cover a register
    #[arg(long, value_name = "HASH", default_value = "sha256")]
    min_bank: HashAlgorithm,
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Claims and the key they rest on, or every fault.
pub type Verified = Result<(Claims, Believed), Vec<Finding>>;

/// The files of a quote, read.
struct Files {
    quote: Vec<u8>,
    signature: Vec<u8>,
    pcrs: Option<Vec<u8>>,
    key: KeyFiles,
}

impl TpmArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let (verified, evidence_id) = self.verified(&Inputs::default())?;
        answer(verified, evidence_id, |(claims, believed)| genuine(claims, believed, evidence_id))
    }

    /// What the quote proves, or all that is wrong with it; and the evidence's id.
    pub fn verified(&self, inputs: &Inputs) -> Result<(Verified, [u8; 32]), Failure> {
        let nonce = input::nonce(&self.nonce)?;
        let required = self.require.as_deref().map(selection).transpose()?.unwrap_or_default();
        let files = Files {
            quote: inputs.read(&self.quote)?,
            signature: inputs.read(&self.signature)?,
            pcrs: inputs.read_optional(self.pcrs.as_ref())?,
            key: self.key.read(inputs)?,
        };
        let signed = Signed::from_files(&files.quote, &files.signature);
        let evidence_id = crypto::sha256(signed.attest);
        Ok((self.judge(&files, &nonce, &required), evidence_id))
    }

    fn judge(&self, files: &Files, nonce: &[u8], required: &[PcrSelection]) -> Verified {
        // Shape, all files of it, before any key is looked at.
        let signed = Signed::from_files(&files.quote, &files.signature);
        let mut faults: Vec<Finding> =
            signed.parse().err().into_iter().map(|error| error.finding()).collect();
        let pcrs = match files.pcrs.as_deref().map(PcrFile::parse).transpose() {
            Ok(pcrs) => pcrs,
            Err(error) => {
                faults.push(error.finding());
                None
            }
        };
        let claimed = files.key.parse();
        let claimed = match claimed {
            Ok(claimed) if faults.is_empty() => claimed,
            Ok(_) => return Err(faults),
            Err(more) => {
                faults.extend(more);
                return Err(faults);
            }
        };
        let believed = files.key.believe(claimed)?;
        let evidence = Evidence {
            quote: signed,
            certify: None,
            svid_public: None,
            values: pcrs.as_ref().map(PcrFile::values),
        };
        let expected = Expected {
            qualifying_data: nonce,
            selection: Selection::AtLeast { required, min_bank: self.min_bank },
            svid_spki: None,
            min_hash: self.key.min_hash,
            unknown_parent: UnknownParent::Report,
        };
        match assay_tpm::verify(&evidence, &believed.key, &expected) {
            Ok(claims) => Ok((claims, believed)),
            Err(_) => {
                let faults = assay_tpm::verify::faults(&evidence, &believed.key, &expected);
                Err(faults.iter().map(Error::finding).collect())
            }
        }
    }
}

fn genuine(
    claims: &Claims,
    believed: &Believed,
    evidence_id: [u8; 32],
) -> Result<Verdict, Failure> {
    let mut verdict = Verdict {
        warnings: claims.warnings().to_vec(),
        not_checked: claims.not_checked().iter().map(|gap| (*gap).to_owned()).collect(),
        ..Verdict::genuine(
            "the quote was signed by this key, over this nonce",
            verdict::claims(claims)?,
            evidence_id,
        )
    };
    believed.add_to(&mut verdict);
    Ok(verdict)
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
}
