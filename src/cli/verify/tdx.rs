//! `assay verify tdx`: an Intel TDX quote, with collateral of its time.

use std::path::PathBuf;
use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_tdx::Claims;
use assay_tdx::CollateralCache;
use assay_tdx::EnclaveClaims;
use assay_tdx::Expected;
use assay_tdx::Quote;
use assay_tdx::TdxPolicy;
use assay_tdx::quote::version;
use clap::Args;

use crate::cli::endorsement::Source;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::cli::verify::answer;

#[derive(Args, Debug)]
pub struct TdxArgs {
    /// TD quote, version 4 or 5, or an SGX enclave's of version 3; `-` is standard input
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// Collateral of the platform as JSON: TCB info, QE identity, their chains, revocation lists
    #[arg(long, value_name = "FILE", required_unless_present = "endorsements")]
    collateral: Option<PathBuf>,
    /// A cache or a bundle of `assay endorsement` that has the collateral
    #[arg(long, value_name = "PATH", conflicts_with = "collateral")]
    endorsements: Option<PathBuf>,
    /// What the quote must say, 64 bytes in hex
    #[arg(long, value_name = "HEX")]
    report_data: Option<String>,
    /// Further roots, for test hardware: the claims then say so
    #[arg(long, value_name = "PATH")]
    danger_extra_roots: Option<PathBuf>,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    pub at: Option<Time>,
}

/// A quote and what it is held against, read.
pub struct TdFiles {
    pub quote: Vec<u8>,
    /// Without it only signatures are verified.
    pub collateral: Option<Vec<u8>>,
    pub extra_roots: Vec<Certificate>,
}

/// Who made a genuine quote.
pub enum Attester {
    Domain(Box<Claims>),
    /// Not a machine, but asked about by the same command: the quotes look alike.
    Enclave(Box<EnclaveClaims>),
}

impl TdxArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let (verified, evidence_id) = self.verified(&Inputs::default(), Duration::ZERO)?;
        answer(verified.map_err(|faults| faults.findings()), evidence_id, Attester::genuine)
    }

    /// The claims or the faults, and the id of the evidence. Collateral may be overdue by as much as
    /// a policy bears.
    pub fn verified(
        &self,
        inputs: &Inputs,
        collateral_grace: Duration,
    ) -> Result<(Result<Attester, assay_tdx::Faults>, [u8; 32]), Failure> {
        let report_data = input::report_data(self.report_data.as_deref())?;
        let quote = inputs.read(&self.quote)?;
        let files = TdFiles {
            collateral: self.collateral(inputs, &quote)?,
            quote,
            extra_roots: inputs.extra_roots(self.danger_extra_roots.as_ref())?,
        };
        let now = input::at(self.at);
        if version(&files.quote) == Some(ENCLAVE) {
            let verified = files.verify_enclave(report_data.as_ref(), now, collateral_grace);
            let evidence_id = match &verified {
                Ok(claims) => *claims.evidence_id(),
                Err(_) => crypto::sha256(&files.quote),
            };
            return Ok((verified.map(|claims| Attester::Enclave(claims.into())), evidence_id));
        }
        let verified = files.verify(report_data.as_ref(), now, collateral_grace);
        let evidence_id = files.evidence_id(&verified);
        Ok((verified.map(|claims| Attester::Domain(claims.into())), evidence_id))
    }
}

impl TdxArgs {
    /// Nothing only for a quote that cannot be read, which is then the answer.
    fn collateral(&self, inputs: &Inputs, quote: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let Some(path) = &self.endorsements else {
            return inputs.read_optional(self.collateral.as_ref());
        };
        let source = Source::open(inputs, path, self.danger_extra_roots.as_ref())?;
        match source.of_quote(quote) {
            None if Quote::parse(quote).is_ok() || version(quote) == Some(ENCLAVE) => {
                let path = path.display();
                Err(Failure::new(format!("`{path}` has no collateral for this quote"))
                    .hint("get it where there is a way out: `assay endorsement fetch --quote`"))
            }
            found => Ok(found),
        }
    }
}

impl TdFiles {
    pub fn verify(
        &self,
        report_data: Option<&[u8; 64]>,
        now: Time,
        collateral_grace: Duration,
    ) -> Result<Claims, assay_tdx::Faults> {
        let expected = Expected { report_data, collateral_grace, ..Expected::at(now) };
        match &self.collateral {
            Some(json) => {
                let cache = CollateralCache::new(1);
                assay_tdx::verify_with(&self.quote, json, &self.extra_roots, &expected, &cache)
            }
            None => assay_tdx::verify_signatures(&self.quote, &self.extra_roots, &expected),
        }
    }

    fn verify_enclave(
        &self,
        report_data: Option<&[u8; 64]>,
        now: Time,
        collateral_grace: Duration,
    ) -> Result<EnclaveClaims, assay_tdx::Faults> {
        let expected = Expected { report_data, collateral_grace, ..Expected::at(now) };
        let (json, cache) = (self.collateral.as_deref(), CollateralCache::new(1));
        assay_tdx::verify_enclave(&self.quote, json, &self.extra_roots, &expected, &cache)
    }

    pub fn evidence_id(&self, verified: &Result<Claims, assay_tdx::Faults>) -> [u8; 32] {
        match verified {
            Ok(claims) => *claims.evidence_id(),
            Err(_) => crypto::sha256(
                Quote::parse(&self.quote).map_or(self.quote.as_slice(), |quote| quote.signed()),
            ),
        }
    }
}

impl Attester {
    pub fn appraise(&self, policy: &TdxPolicy) -> Vec<Finding> {
        match self {
            Self::Domain(claims) => assay_tdx::appraise(claims, policy),
            Self::Enclave(claims) => assay_tdx::appraise_enclave(claims, policy),
        }
    }

    pub fn genuine(&self) -> Result<Verdict, Failure> {
        match self {
            Self::Domain(claims) => genuine(claims),
            Self::Enclave(claims) => {
                let summary = "the quote of an enclave was signed on an Intel platform";
                Verdict::established(summary, claims, claims.not_checked(), *claims.evidence_id())
            }
        }
    }
}

pub fn genuine(claims: &Claims) -> Result<Verdict, Failure> {
    let summary = "the quote was signed on an Intel platform";
    Verdict::established(summary, claims, claims.not_checked(), *claims.evidence_id())
}

/// Version of the quotes of enclaves.
const ENCLAVE: u16 = 3;
