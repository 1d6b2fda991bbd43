//! The key that signed a TPM statement, and every reason given to believe in it: the caller's word,
//! a certificate of the key, and beside them the endorsement certificate of the TPM.

use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::chain::ChainError;
use assay_evidence::chain::Lists;
use assay_evidence::chain::Rules;
use assay_evidence::crl::RevocationList;
use assay_tpm::Anchors;
use assay_tpm::AttestationKey;
use assay_tpm::EkRoot;
use assay_tpm::Error;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::TpmClass;
use assay_tpm::ak_certificate;
use assay_tpm::endorsement;
use assay_tpm::endorsement::EndorsementCertificate;
use assay_tpm::endorsement::Template;
use clap::Args;
use serde_json::json;

use crate::cli::input;
use crate::cli::input::Inputs;
use crate::cli::output::Failure;
use crate::cli::verdict::Verdict;

/// Options that say which key is believed, and why.
#[derive(Args, Debug)]
pub struct KeyArgs {
    /// Attestation key you vouch for: TPM2B_PUBLIC, TPMT_PUBLIC, or SubjectPublicKeyInfo (PEM, DER)
    #[arg(long, value_name = "FILE", required_unless_present = "ak_cert")]
    ak: Option<PathBuf>,
    /// Certificate of the attestation key; it must chain to --ak-roots and be of the same key
    #[arg(long, value_name = "FILE", requires = "ak_roots")]
    ak_cert: Option<PathBuf>,
    /// Trust anchors for the certificate of the attestation key: a file or a folder
    #[arg(long, value_name = "PATH", requires = "ak_cert")]
    ak_roots: Option<PathBuf>,
    /// EK certificate of the same TPM; verified too, though offline nothing ties the AK to it
    #[arg(long, value_name = "FILE", requires = "ek_roots")]
    ek_cert: Option<PathBuf>,
    /// Public area of the EK; the AK must then be a child of it or a primary of its hierarchy
    #[arg(long, value_name = "FILE")]
    ek_pub: Option<PathBuf>,
    /// Trust anchors for the EK certificate: a file or a folder
    #[arg(long, value_name = "PATH", requires = "ek_cert")]
    ek_roots: Option<PathBuf>,
    /// Intermediates for both chains; never anchors
    #[arg(long, value_name = "PATH")]
    intermediates: Option<PathBuf>,
    /// Revocation list of an issuer of either chain, DER or PEM
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,
    /// Weakest hash that a signature may be over
    #[arg(long, value_name = "HASH", default_value = "sha256")]
    pub min_hash: HashAlgorithm,
    /// Time to judge at, RFC 3339; now if left out
    #[arg(long, value_name = "TIME")]
    pub at: Option<Time>,
}

/// The files that [`KeyArgs`] name, read.
pub struct KeyFiles {
    ak: Option<Vec<u8>>,
    ak_certificate: Option<Vec<u8>>,
    ak_roots: Vec<Certificate>,
    ek_certificate: Option<Vec<u8>>,
    ek_public: Option<Vec<u8>>,
    ek_roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
    list: Option<Vec<u8>>,
    now: Time,
}

/// The files as values; nothing is believed yet.
pub struct Claimed {
    ak: Option<ClaimedKey>,
    ak_certificate: Option<Certificate>,
    ek_certificate: Option<Certificate>,
    ek_public: Option<Public>,
    lists: Vec<RevocationList>,
}

enum ClaimedKey {
    Area(Public),
    Bare(PublicKey),
}

/// What came of the key options.
pub struct Believed {
    pub key: ProvedKey,
    pub endorsement: Option<EndorsementCertificate>,
}

impl KeyArgs {
    pub fn read(&self, inputs: &Inputs) -> Result<KeyFiles, Failure> {
        if self.crl.is_some() && self.ak_cert.is_none() && self.ek_cert.is_none() {
            return Err(Failure::new(
                "--crl goes with --ak-cert or --ek-cert: without, no chain is verified",
            ));
        }
        let anchors = |option: &str, path: &Option<PathBuf>| {
            path.as_ref().map_or(Ok(Vec::new()), |path| inputs.anchors(option, path))
        };
        Ok(KeyFiles {
            ak: inputs.read_optional(self.ak.as_ref())?,
            ak_certificate: inputs.read_optional(self.ak_cert.as_ref())?,
            ak_roots: anchors("--ak-roots", &self.ak_roots)?,
            ek_certificate: inputs.read_optional(self.ek_cert.as_ref())?,
            ek_public: inputs.read_optional(self.ek_pub.as_ref())?,
            ek_roots: anchors("--ek-roots", &self.ek_roots)?,
            intermediates: inputs.intermediates(self.intermediates.as_ref())?,
            list: inputs.read_optional(self.crl.as_ref())?,
            now: input::at(self.at),
        })
    }
}

impl Believed {
    /// Says beside the claims what the endorsement certificate adds, and what it cannot add.
    pub fn add_to(&self, verdict: &mut Verdict) {
        if let Some(certificate) = self.key.certificate() {
            let gaps = certificate.not_checked().iter();
            verdict.not_checked.extend(gaps.map(|gap| format!("{gap} (AK chain)")));
        }
        let Some(ek) = &self.endorsement else { return };
        let claims = json!({
            "spki_sha256": hex::encode(ek.key().spki_sha256()),
            "root_sha256": hex::encode(ek.root_sha256()),
            "manufacturer": ek.device().manufacturer,
            "model": ek.device().model,
            "version": ek.device().version,
        });
        verdict.claims.insert("ek".to_owned(), claims);
        verdict.warnings.extend(ek.warnings());
        verdict.not_checked.extend(ek.not_checked().iter().map(|gap| format!("{gap} (EK chain)")));
        verdict.not_checked.push("activation: offline nothing ties the AK to this EK".to_owned());
    }
}

impl KeyFiles {
    /// Stage one: the shape of every file.
    pub fn parse(&self) -> Result<Claimed, Vec<Finding>> {
        let mut faults = Vec::new();
        let lists = input::revocation_lists(self.list.as_deref()).unwrap_or_else(|fault| {
            faults.push(fault);
            Vec::new()
        });
        let mut note = |error: Error| faults.push(error.finding());
        let claimed = Claimed {
            ak: parsed(&self.ak, attestation_key, &mut note),
            ak_certificate: parsed(
                &self.ak_certificate,
                endorsement::certificate_in_file,
                &mut note,
            ),
            ek_certificate: parsed(
                &self.ek_certificate,
                endorsement::certificate_in_file,
                &mut note,
            ),
            ek_public: parsed(&self.ek_public, Public::parse_file, &mut note),
            lists,
        };
        if faults.is_empty() { Ok(claimed) } else { Err(faults) }
    }

    /// Stages two and three: attributes of the keys, then the chains. All faults of both are told,
    /// those of keys first.
    pub fn believe(&self, mut claimed: Claimed) -> Result<Believed, Vec<Finding>> {
        let mut faults = Vec::new();
        let key = match claimed.ak.take() {
            Some(ClaimedKey::Area(public)) => {
                Some(AttestationKey::new(public).map(ProvedKey::enrolled))
            }
            Some(ClaimedKey::Bare(key)) => Some(ProvedKey::enrolled_bare(key)),
            None => None,
        };
        let key = key.transpose().unwrap_or_else(|error| {
            faults.push(error);
            None
        });
        let public = claimed.ek_public.as_ref();
        if claimed.ek_certificate.is_none() && public.is_some_and(|ek| Template::of(ek).is_none()) {
            faults.push(Error::EkTemplate);
        }
        let mut lists = ListUse { lists: &claimed.lists, now: self.now, passed_over: Vec::new() };
        let endorsement = match &self.ek_certificate {
            Some(file) => lists.verify(|rules| self.endorsement(rules, file, public)).map(Some),
            None => Ok(None),
        };
        let certified = match &claimed.ak_certificate {
            Some(certificate) => {
                lists.verify(|rules| self.certified(rules, key.as_ref(), certificate)).map(Some)
            }
            None => Ok(key),
        };
        let chains = [claimed.ek_certificate.is_some(), claimed.ak_certificate.is_some()];
        faults.extend(lists.of_no_chain(chains.into_iter().filter(|there| *there).count()));
        match (endorsement, certified) {
            (Ok(endorsement), Ok(Some(key))) if faults.is_empty() => {
                let key = match public {
                    Some(public) => key.beside(public),
                    None => key,
                };
                Ok(Believed { key, endorsement })
            }
            (endorsement, certified) => {
                faults.extend(endorsement.err().into_iter().flatten());
                faults.extend(certified.err().into_iter().flatten());
                // Stable: within a stage what was found first is told first.
                faults.sort_by_key(stage);
                Err(faults.iter().map(Error::finding).collect())
            }
        }
    }

    fn certified(
        &self,
        rules: &Rules<'_>,
        key: Option<&ProvedKey>,
        certificate: &Certificate,
    ) -> Result<ProvedKey, Vec<Error>> {
        let other = key.is_some_and(|key| certificate.public_key().ok() != Some(key.public_key()));
        let verified =
            ak_certificate::verify_by(rules, certificate, &self.intermediates, &self.ak_roots);
        let verified = match verified {
            Ok(verified) if !other => verified,
            verified => {
                let key = other.then_some(Error::AkCertificateKey);
                return Err(key.into_iter().chain(verified.err().into_iter().flatten()).collect());
            }
        };
        let key = match key {
            Some(key) => key.clone().certified_by(&verified),
            None => ProvedKey::certified(&verified),
        };
        key.map_err(|error| vec![error])
    }

    fn endorsement(
        &self,
        rules: &Rules<'_>,
        file: &[u8],
        public: Option<&Public>,
    ) -> Result<EndorsementCertificate, Vec<Error>> {
        // A root given by hand says nothing of the class, so the claims do not either.
        let roots = self.ek_roots.iter().cloned();
        let roots = roots.map(|certificate| EkRoot { certificate, class: TpmClass::Software });
        let anchors = Anchors::new(roots.collect(), Vec::new());
        endorsement::verify_file(rules, file, public, &self.intermediates, &anchors)
    }
}

/// The revocation list that was given, and the chains that it was not of.
struct ListUse<'a> {
    lists: &'a [RevocationList],
    now: Time,
    passed_over: Vec<Error>,
}

impl ListUse<'_> {
    /// A chain by the rules with the list; where all that is wrong is that the list is not of this
    /// chain, by those without.
    fn verify<T>(
        &mut self,
        chain: impl Fn(&Rules<'_>) -> Result<T, Vec<Error>>,
    ) -> Result<T, Vec<Error>> {
        let plain = Rules::at(self.now);
        if self.lists.is_empty() {
            return chain(&plain);
        }
        let verified = chain(&Rules { lists: Lists::Given(self.lists), ..plain });
        let foreign = |error: &Error| {
            let (Error::AkChain(fault) | Error::EkChain(fault)) = error else { return false };
            matches!(fault, ChainError::RevocationList { .. })
        };
        match verified {
            Err(faults) if faults.iter().all(foreign) => {
                self.passed_over.extend(faults.into_iter().next());
                chain(&plain)
            }
            verified => verified,
        }
    }

    /// The fault of a list that none of so many chains is of.
    fn of_no_chain(&mut self, chains: usize) -> Option<Error> {
        (self.passed_over.len() == chains).then(|| self.passed_over.pop()).flatten()
    }
}

/// Keys and their attributes before the chains (the decisive order).
fn stage(error: &Error) -> u8 {
    match error.reason() {
        Reason::AkNotRestricted
        | Reason::AkNotFixed
        | Reason::AkExternalOrigin
        | Reason::AkAttributes
        | Reason::AkScheme
        | Reason::KeyWeak
        | Reason::KeyRoca
        | Reason::EkKeyCertMismatch
        | Reason::EkTemplateUnknown => 0,
        _ if matches!(error, Error::AkCertificateKey) => 0,
        _ => 1,
    }
}

fn parsed<T>(
    bytes: &Option<Vec<u8>>,
    parse: impl Fn(&[u8]) -> Result<T, Error>,
    note: &mut impl FnMut(Error),
) -> Option<T> {
    match bytes.as_deref().map(parse)? {
        Ok(value) => Some(value),
        Err(error) => {
            note(error);
            None
        }
    }
}

/// TPM2B_PUBLIC, TPMT_PUBLIC, or a SubjectPublicKeyInfo in PEM or DER.
fn attestation_key(bytes: &[u8]) -> Result<ClaimedKey, Error> {
    if let Some(der) = input::pem_body(bytes, "PUBLIC KEY") {
        return bare_key(&der);
    }
    match Public::parse_file(bytes) {
        Ok(public) => Ok(ClaimedKey::Area(public)),
        // A DER SEQUENCE is no TPM structure: 0x30 is no TPM object type.
        Err(_) if bytes.first() == Some(&0x30) => bare_key(bytes),
        Err(error) => Err(error),
    }
}

fn bare_key(der: &[u8]) -> Result<ClaimedKey, Error> {
    PublicKey::from_spki(der)
        .map(ClaimedKey::Bare)
        .map_err(|_| Error::Malformed { place: "SubjectPublicKeyInfo of the attestation key" })
}
