//! `assay verify snp`: an AMD SEV-SNP report, up to AMD's root of its processor.

use std::path::PathBuf;

use assay_evidence::Time;
use assay_evidence::crypto;
use assay_snp::Anchors;
use assay_snp::Claims;
use assay_snp::Evidence;
use clap::Args;

use crate::cli::endorsement::OfReport;
use crate::cli::endorsement::Source;
use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::cli::verify::answer;

#[derive(Args, Debug)]
pub struct SnpArgs {
    /// ATTESTATION_REPORT, 1184 bytes; `-` is standard input
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    #[command(flatten)]
    keys: VekArgs,
    /// The host's certificate table (`auxblob`)
    #[arg(long, value_name = "FILE")]
    host_certs: Option<PathBuf>,
    /// A cache or a bundle of `assay endorsement`, for what is not given otherwise
    #[arg(long, value_name = "PATH")]
    endorsements: Option<PathBuf>,
    /// What the report must say, 64 bytes in hex
    #[arg(long, value_name = "HEX")]
    report_data: Option<String>,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    pub at: Option<Time>,
}

/// Who signed, and up to whom.
#[derive(Args, Debug)]
pub struct VekArgs {
    /// Certificate of the key that signed (VCEK or VLEK), exactly one, DER or PEM
    #[arg(long, value_name = "FILE")]
    vek: Option<PathBuf>,
    /// Certificates above it; AMD's own are built in, and none given here is trusted
    #[arg(long, value_name = "PATH")]
    chain: Option<PathBuf>,
    /// Revocation list of the chain's root, DER or PEM
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,
    /// Further roots, for test hardware: the claims then say so
    #[arg(long, value_name = "PATH")]
    danger_extra_roots: Option<PathBuf>,
}

/// The files that [`VekArgs`] name, read.
pub struct VekFiles {
    vek: Option<Vec<u8>>,
    chain: Vec<Vec<u8>>,
    crl: Option<Vec<u8>>,
    anchors: Anchors,
}

impl SnpArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let (verified, evidence_id) = self.verified(&Inputs::default())?;
        answer(verified.map_err(|faults| faults.findings()), evidence_id, genuine)
    }

    /// The claims or the faults, and the id of the evidence.
    pub fn verified(
        &self,
        inputs: &Inputs,
    ) -> Result<(Result<Claims, assay_snp::Faults>, [u8; 32]), Failure> {
        let report_data = input::report_data(self.report_data.as_deref())?;
        let report = inputs.read(&self.report)?;
        let host = inputs.read_optional(self.host_certs.as_ref())?;
        let mut keys = self.keys.read(inputs)?;
        if let Some(path) = &self.endorsements {
            let source = Source::open(inputs, path, self.keys.danger_extra_roots.as_ref())?;
            keys.complete(source.of_report(&report), host.is_some());
        }
        let now = input::at(self.at);
        let verified = keys.verify(&report, host.as_deref(), report_data.as_ref(), now);
        let evidence_id = match &verified {
            Ok(claims) => *claims.evidence_id(),
            Err(_) => crypto::sha256(signed_part(&report)),
        };
        Ok((verified, evidence_id))
    }
}

impl VekArgs {
    pub fn read(&self, inputs: &Inputs) -> Result<VekFiles, Failure> {
        let chain = match &self.chain {
            Some(path) => inputs.certificates(path)?,
            None => Vec::new(),
        };
        let extra = inputs.extra_roots(self.danger_extra_roots.as_ref())?;
        let anchors = Anchors::amd().with_operator_roots(extra);
        Ok(VekFiles {
            vek: inputs.read_optional(self.vek.as_ref())?,
            chain: chain.iter().map(|certificate| certificate.der().to_vec()).collect(),
            crl: inputs.read_optional(self.crl.as_ref())?,
            anchors,
        })
    }
}

impl VekFiles {
    /// What was given by itself counts first, and a host's table for its own certificates.
    fn complete(&mut self, found: OfReport, has_table: bool) {
        if self.vek.is_none() && !has_table {
            self.vek = found.vek;
            if self.chain.is_empty() {
                self.chain.extend(found.issuer);
            }
        }
        self.crl = self.crl.take().or(found.crl);
    }

    pub fn verify(
        &self,
        report: &[u8],
        host_certificates: Option<&[u8]>,
        report_data: Option<&[u8; 64]>,
        now: Time,
    ) -> Result<Claims, assay_snp::Faults> {
        let chain: Vec<&[u8]> = self.chain.iter().map(Vec::as_slice).collect();
        let evidence = Evidence {
            report,
            vek: self.vek.as_deref(),
            chain: &chain,
            host_certificates,
            crl: self.crl.as_deref(),
        };
        assay_snp::verify(&evidence, &self.anchors, report_data, now)
    }
}

pub fn genuine(claims: &Claims) -> Result<Verdict, Failure> {
    let summary = "the report was signed by the key of an AMD processor";
    Verdict::established(summary, claims, claims.not_checked(), *claims.evidence_id())
}

/// The signed bytes, as far as they are there.
pub fn signed_part(report: &[u8]) -> &[u8] {
    report.get(..assay_snp::report::SIGNED_SIZE).unwrap_or(report)
}
