//! `assay verify ek`: is this key in a genuine TPM? Its certificate says so, up to a vendor's root.

use std::path::PathBuf;

use assay_evidence::Finding;
use assay_evidence::Time;
use assay_evidence::chain::Expired;
use assay_evidence::chain::Lists;
use assay_evidence::chain::Rules;
use assay_evidence::crypto;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::Error;
use assay_tpm::Public;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;
use assay_tpm::endorsement::EndorsementCertificate;
use clap::Args;
use clap::ValueEnum;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Answer;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;
use crate::reference::ek_roots;

#[derive(Args, Debug)]
pub struct EkArgs {
    /// EK certificate: DER or PEM, also as read from an NV index; `-` is standard input
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Public area of the EK, TPMT_PUBLIC or TPM2B_PUBLIC: must be a known template around the key
    #[arg(long = "pub", value_name = "FILE")]
    public: Option<PathBuf>,
    /// Intermediates; never anchors
    #[arg(long, value_name = "PATH")]
    intermediates: Option<PathBuf>,
    /// Trust anchors, a file or a folder; the packs that are built in if left out
    #[arg(long, value_name = "PATH")]
    roots: Option<PathBuf>,
    /// Revocation list of an issuer of the chain, DER or PEM
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,
    /// What becomes of certificates outside of their dates
    #[arg(long, value_name = "WORD", default_value = "refuse")]
    expired: ExpiredWord,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExpiredWord {
    Refuse,
    Warn,
}

impl EkArgs {
    pub fn run(self) -> Result<Answer, Failure> {
        let inputs = Inputs::default();
        let file = inputs.read(&self.cert)?;
        let public = inputs.read_optional(self.public.as_ref())?;
        let intermediates = inputs.intermediates(self.intermediates.as_ref())?;
        let list = inputs.read_optional(self.crl.as_ref())?;
        let given = match &self.roots {
            Some(path) => Some(inputs.anchors("--roots", path)?),
            None => None,
        };
        let anchors = match given {
            // A root given by hand says nothing of the class; it is not told below either.
            Some(roots) => Anchors::new(
                roots
                    .into_iter()
                    .map(|certificate| EkRoot { certificate, class: TpmClass::Software })
                    .collect(),
                Vec::new(),
            ),
            None => built_in(),
        };

        // Shape, all files of it, before any key is looked at.
        let mut faults: Vec<Finding> = Vec::new();
        let certificate = endorsement::certificate_in_file(&file);
        faults.extend(certificate.as_ref().err().map(Error::finding));
        let public = match public.as_deref().map(Public::parse_file).transpose() {
            Ok(public) => public,
            Err(error) => {
                faults.push(error.finding());
                None
            }
        };
        let lists = match input::revocation_lists(list.as_deref()) {
            Ok(lists) => lists,
            Err(fault) => {
                faults.push(fault);
                Vec::new()
            }
        };
        let evidence_id = match &certificate {
            Ok(certificate) => crypto::sha256(certificate.tbs()),
            Err(_) => crypto::sha256(&file),
        };
        if !faults.is_empty() {
            return Ok(Verdict::refused(faults, evidence_id).answer());
        }

        let rules = Rules {
            now: input::at(self.at),
            expired: match self.expired {
                ExpiredWord::Refuse => Expired::Refuse,
                ExpiredWord::Warn => Expired::Warn,
            },
            lists: if lists.is_empty() { Lists::None } else { Lists::Given(&lists) },
        };
        let verified =
            endorsement::verify_file(&rules, &file, public.as_ref(), &intermediates, &anchors);
        let verdict = match verified {
            Ok(verified) => {
                let mut verdict = genuine(&verified, self.roots.is_none(), evidence_id);
                if public.is_none() {
                    let gap = "template: no public area given";
                    verdict.not_checked.push(gap.to_owned());
                }
                verdict
            }
            Err(faults) => {
                Verdict::refused(faults.iter().map(Error::finding).collect(), evidence_id)
            }
        };
        Ok(verdict.answer())
    }
}

/// All packs with roots of endorsement keys: what kind of TPM a root vouches for is told with the
/// verdict.
pub fn built_in() -> Anchors {
    let packs: Vec<_> =
        ek_roots::shipped().iter().filter(|pack| pack.is_of_endorsement_keys()).collect();
    Anchors::new(
        packs.iter().flat_map(|pack| pack.ek_roots()).collect(),
        packs.iter().flat_map(|pack| pack.intermediate_certificates()).collect(),
    )
}

/// `class_known`: the root came from a pack, which says the class.
fn genuine(verified: &EndorsementCertificate, class_known: bool, id: [u8; 32]) -> Verdict {
    let device = verified.device();
    let certificate = verified.certificate();
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    claim("spki_sha256", json!(hex::encode(verified.key().spki_sha256())));
    claim("certificate_sha256", json!(hex::encode(certificate.sha256())));
    claim("root_sha256", json!(hex::encode(verified.root_sha256())));
    claim("manufacturer", json!(device.manufacturer));
    claim("model", json!(device.model));
    claim("version", json!(device.version));
    claim("serial", json!(hex::encode(certificate.serial())));
    claim("not_before", json!(certificate.not_before()));
    claim("not_after", json!(certificate.not_after()));
    if class_known {
        claim("class", json!(verified.class()));
    }
    Verdict {
        warnings: verified.warnings(),
        not_checked: verified.not_checked().to_vec(),
        ..Verdict::genuine("a vendor says that this key is in one of its TPMs", claims, id)
    }
}
