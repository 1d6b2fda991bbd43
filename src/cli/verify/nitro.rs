//! `assay verify nitro`: an AWS Nitro attestation document, up to AWS's root.

use std::path::PathBuf;

use assay_evidence::Time;
use assay_evidence::crypto;
use assay_nitro::Anchors;
use assay_nitro::Claims;
use clap::Args;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::cli::verify::answer;

#[derive(Args, Debug)]
pub struct NitroArgs {
    /// COSE_Sign1 document; `-` is standard input
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
    /// The nonce that it must carry, 1 to 1024 bytes in hex
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// Further roots, for test hardware: the claims then say so
    #[arg(long, value_name = "PATH")]
    danger_extra_roots: Option<PathBuf>,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    pub at: Option<Time>,
}

impl NitroArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let (verified, evidence_id) = self.verified(&Inputs::default())?;
        answer(verified.map_err(|faults| faults.findings()), evidence_id, genuine)
    }

    /// The claims or the faults, and the id of the evidence.
    pub fn verified(
        &self,
        inputs: &Inputs,
    ) -> Result<(Result<Claims, assay_nitro::Faults>, [u8; 32]), Failure> {
        let nonce = self.nonce.as_deref().map(|text| input::bytes("--nonce", text, MAX_NONCE));
        let nonce = nonce.transpose()?;
        let document = inputs.read(&self.document)?;
        let extra = inputs.extra_roots(self.danger_extra_roots.as_ref())?;
        let anchors = Anchors::aws().with_operator_roots(extra);
        let verified =
            assay_nitro::verify(&document, &anchors, nonce.as_deref(), input::at(self.at));
        let evidence_id = match &verified {
            Ok(claims) => *claims.evidence_id(),
            Err(_) => crypto::sha256(&document),
        };
        Ok((verified, evidence_id))
    }
}

pub fn genuine(claims: &Claims) -> Result<Verdict, Failure> {
    let summary = "the document was signed for this enclave by AWS";
    Verdict::established(summary, claims, claims.not_checked(), *claims.evidence_id())
}

/// AWS lets a document carry that much.
const MAX_NONCE: usize = 1_024;
