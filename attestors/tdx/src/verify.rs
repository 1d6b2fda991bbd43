//! From a quote and collateral to claims: the decisive list.
//!
//! 1. shape of the quote and of the collateral, trailing bytes included
//! 2. chains to a trusted root, names, revocation
//! 3. signatures: QE report by the PCK, attestation key by the QE report, quote by that key
//! 4. dates of certificates, collateral and lists; the report data, whole and exact
//! 5. whether the parts belong together: PCK chain, FMSPC, PCE, quoting enclave, TDX module
//! 6. the TCB level: a claim, not a verdict
//!
//! All faults are told, those of an earlier stage first. Everything is an argument: the same bytes
//! give the same verdict years later. A debug TD, a TD with a service TD, a revoked TCB: all of
//! that is authentic here and judged by `appraise`.

use std::sync::Arc;
use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;

use crate::claims::Claims;
use crate::claims::EnclaveClaims;
use crate::claims::Endorsed;
use crate::collateral::CollateralCache;
use crate::collateral::Recent;
use crate::collateral::Tee;
use crate::collateral::VerifiedCollateral;
use crate::endorsement;
use crate::endorsement::Chain;
use crate::endorsement::PckFacts;
use crate::endorsement::Root;
use crate::error::Error;
use crate::error::Faults;
use crate::error::Place;
use crate::pem;
use crate::quote::Body;
use crate::quote::Certified;
use crate::quote::EnclaveQuote;
use crate::quote::EnclaveReport;
use crate::quote::Quote;

mod level;
mod together;

pub(crate) use level::module_id;

/// What the verifier demands.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The time to judge at.
    pub now: Time,
    /// All 64 bytes; without them whatever the TD put there is a claim.
    pub report_data: Option<&'a [u8; 64]>,
    /// How long documents and revocation lists may be overdue; zero unless a policy says otherwise
    /// ([`TdxPolicy::collateral_grace`](crate::TdxPolicy::collateral_grace)).
    pub collateral_grace: Duration,
}

impl<'a> Expected<'a> {
    /// Everything valid at this time, whatever the report data.
    pub const fn at(now: Time) -> Expected<'a> {
        Expected { now, report_data: None, collateral_grace: Duration::ZERO }
    }

    #[must_use]
    pub const fn binding(self, report_data: &'a [u8; 64]) -> Expected<'a> {
        Expected { report_data: Some(report_data), ..self }
    }
}

/// A platform whose PCK chain holds: what is needed of it for each quote.
#[derive(Debug)]
pub(crate) struct Platform {
    key: PublicKey,
    facts: PckFacts,
    root: Root,
    root_sha256: [u8; 32],
    issuer_name: String,
    serial: Vec<u8>,
    from: Time,
    until: Time,
    /// Whether the collateral's own PCK chain, if it brings one, is this one.
    named_by_collateral: bool,
    /// QE reports whose signatures were verified: an enclave keeps its key until it is restarted.
    qe_reports: Recent<()>,
}

/// Verifies a quote against collateral that is believed, under the roots it is believed under.
///
/// Under the same collateral the chain of a platform is verified once, and so is the report of its
/// quoting enclave. One signature is then verified for each further quote, two after the enclave
/// was restarted.
pub fn verify(
    quote: &[u8],
    collateral: &VerifiedCollateral,
    expected: &Expected<'_>,
) -> Result<Claims, Faults> {
    examine(quote, Some(collateral), collateral.extra_roots(), expected)
}

/// Verifies a quote against a bundle as bytes, and tells the faults of both together.
pub fn verify_with(
    quote: &[u8],
    collateral_json: &[u8],
    extra_roots: &[Certificate],
    expected: &Expected<'_>,
    cache: &CollateralCache,
) -> Result<Claims, Faults> {
    match cache.verified(collateral_json, extra_roots) {
        Ok(collateral) => verify(quote, &collateral, expected),
        Err(of_collateral) => {
            Err(both(of_collateral, examine(quote, None, extra_roots, expected).err()))
        }
    }
}

/// The faults of the collateral, and those of the quote as far as they can be seen without it.
fn both(of_collateral: Faults, of_quote: Option<Faults>) -> Faults {
    let mut faults = of_collateral.into_vec();
    faults.extend(of_quote.into_iter().flat_map(Faults::into_vec));
    told(faults)
}

/// Verifies signatures, chain, dates of certificates and report data, without collateral.
///
/// Nothing is known then of revocation, of the quoting enclave and of the TCB: the claims say so in
/// `not_checked`, and no default policy accepts them.
pub fn verify_signatures(
    quote: &[u8],
    extra_roots: &[Certificate],
    expected: &Expected<'_>,
) -> Result<Claims, Faults> {
    examine(quote, None, extra_roots, expected)
}

fn examine(
    bytes: &[u8],
    collateral: Option<&VerifiedCollateral>,
    extra_roots: &[Certificate],
    expected: &Expected<'_>,
) -> Result<Claims, Faults> {
    let quote = Quote::parse(bytes).map_err(|fault| unread(fault, collateral, expected))?;
    let subject = Subject::Domain(quote.body());
    let ground = establish(quote.certified(), subject, collateral, extra_roots, expected)?;
    Ok(Claims::new(&quote, ground, expected))
}

/// Verifies the quote of an SGX enclave as [`verify_with`] does that of a trust domain; without
/// collateral as [`verify_signatures`] does.
///
/// An enclave is not a trust domain: what it proves is told by claims of another type, and nothing
/// that judges machines takes them.
pub fn verify_enclave(
    quote: &[u8],
    collateral_json: Option<&[u8]>,
    extra_roots: &[Certificate],
    expected: &Expected<'_>,
    cache: &CollateralCache,
) -> Result<EnclaveClaims, Faults> {
    let examined = |collateral: Option<&VerifiedCollateral>| {
        let parsed = EnclaveQuote::parse(quote);
        let quote = parsed.map_err(|fault| unread(fault, collateral, expected))?;
        let subject = Subject::Enclave(quote.report());
        let ground = establish(quote.certified(), subject, collateral, extra_roots, expected)?;
        Ok(EnclaveClaims::new(&quote, ground, expected))
    };
    let Some(json) = collateral_json else { return examined(None) };
    match cache.verified(json, extra_roots) {
        Ok(collateral) => examined(Some(&collateral)),
        Err(of_collateral) => Err(both(of_collateral, examined(None).err())),
    }
}

/// Whose quote it is.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Domain(&'a Body),
    Enclave(&'a EnclaveReport),
}

impl Subject<'_> {
    fn report_data(&self) -> &[u8; 64] {
        match self {
            Subject::Domain(body) => &body.report_data,
            Subject::Enclave(report) => &report.report_data,
        }
    }

    pub(crate) const fn tee(&self) -> Tee {
        match self {
            Subject::Domain(_) => Tee::Tdx,
            Subject::Enclave(_) => Tee::Sgx,
        }
    }
}

/// What claims rest on, whoever makes them.
pub(crate) struct Ground {
    pub qe_report: EnclaveReport,
    pub platform: Arc<Platform>,
    pub endorsed: Option<Endorsed>,
}

/// Nothing of the quote can be believed; the dates of the collateral still can.
fn unread(
    fault: Error,
    collateral: Option<&VerifiedCollateral>,
    expected: &Expected<'_>,
) -> Faults {
    let mut faults = vec![fault];
    faults.extend(overdue(collateral, expected));
    told(faults)
}

fn overdue<'a>(
    collateral: Option<&'a VerifiedCollateral>,
    expected: &Expected<'_>,
) -> impl Iterator<Item = Error> + 'a {
    let (now, grace) = (expected.now, expected.collateral_grace);
    collateral.into_iter().flat_map(move |given| given.date_faults(now, grace))
}

fn establish(
    certified: &Certified<'_>,
    subject: Subject<'_>,
    collateral: Option<&VerifiedCollateral>,
    extra_roots: &[Certificate],
    expected: &Expected<'_>,
) -> Result<Ground, Faults> {
    let mut faults = Vec::new();
    let qe_report = EnclaveReport::parse(certified.qe_report())?;
    let platform = match platform(certified, collateral, extra_roots) {
        Ok(platform) => Some(platform),
        Err(found) => {
            faults.extend(found);
            None
        }
    };
    if let Some(platform) = &platform {
        if !platform.signed(certified.qe_report(), certified.qe_signature()) {
            faults.push(Error::QeReportSignature);
        }
        let dates = (platform.from, platform.until);
        faults.extend(endorsement::date_fault(Place::PckChain, dates.0, dates.1, expected.now));
    }
    faults.extend(binding_fault(certified, &qe_report));
    if !is_signed_by_attestation_key(certified) {
        faults.push(Error::QuoteSignature);
    }
    faults.extend(overdue(collateral, expected));
    let report_data = subject.report_data();
    if let Some(wanted) = expected.report_data.filter(|wanted| *wanted != report_data) {
        faults.push(Error::ReportData { found: report_data.to_vec(), expected: wanted.to_vec() });
    }
    if let (Some(platform), Some(collateral)) = (&platform, collateral) {
        if !platform.named_by_collateral {
            faults.push(Error::PckChainDiffers);
        }
        faults.extend(together::faults(subject, &qe_report, &platform.facts, collateral));
    }
    let (Some(platform), None) = (platform, Faults::of(faults.clone())) else {
        return Err(told(faults));
    };
    let endorsed = collateral.map(|collateral| Endorsed {
        standing: level::standing(subject, &qe_report, &platform.facts, collateral),
        collateral_sha256: collateral.sha256(),
        tcb_info_issue_date: collateral.tcb_info().issue_date,
        tcb_info_next_update: collateral.tcb_info().next_update,
        tcb_info_number: collateral.tcb_info().evaluation_number,
        qe_identity_issue_date: collateral.qe_identity().issue_date,
        qe_identity_next_update: collateral.qe_identity().next_update,
        qe_identity_number: collateral.qe_identity().evaluation_number,
        valid_until: collateral.validity().1,
    });
    Ok(Ground { qe_report, platform, endorsed })
}

/// The platform above the quote: remembered by the hash of its chain's text, or verified now.
fn platform(
    certified: &Certified<'_>,
    collateral: Option<&VerifiedCollateral>,
    extra_roots: &[Certificate],
) -> Result<Arc<Platform>, Vec<Error>> {
    let key = crypto::sha256(certified.pck_chain_pem());
    if let Some(found) = collateral.and_then(|collateral| collateral.platform(&key)) {
        return Ok(found);
    }
    let one = |fault| vec![fault];
    let certificates = pem::certificates(certified.pck_chain_pem(), pem::Form::Quote)
        .map_err(|fault| one(Error::PckPem(fault)))?;
    let names = endorsement::PCK_CHAIN;
    let chain = endorsement::verify_chain(Place::PckChain, &certificates, names, extra_roots)
        .map_err(one)?;
    let platform = Arc::new(Platform::parse(&chain, collateral).map_err(one)?);
    if let Some(collateral) = collateral {
        let faults = collateral.pck_chain_faults(&chain);
        if !faults.is_empty() {
            return Err(faults);
        }
        collateral.keep_platform(key, platform.clone());
    }
    Ok(platform)
}

impl Platform {
    fn parse(chain: &Chain, collateral: Option<&VerifiedCollateral>) -> Result<Platform, Error> {
        let leaf = chain.leaf().ok_or(Error::PckExtension("certificate"))?;
        let issuer = chain.issuer().ok_or(Error::PckExtension("issuer"))?;
        let named = collateral.and_then(|collateral| collateral.pck_chain());
        Ok(Platform {
            key: leaf.public_key().map_err(|_| Error::PckExtension("key"))?.clone(),
            facts: PckFacts::parse(leaf)?,
            root: chain.root,
            root_sha256: chain.root_sha256,
            issuer_name: issuer.subject_common_name().unwrap_or_default().to_owned(),
            serial: leaf.serial().to_vec(),
            from: chain.from,
            until: chain.until,
            named_by_collateral: named.is_none_or(|named| named == chain.certificates),
            qe_reports: Recent::new(QE_REPORTS),
        })
    }

    /// Whether the PCK signed this QE report: remembered, or verified now.
    fn signed(&self, qe_report: &[u8], signature: &[u8]) -> bool {
        let mut key = crypto::Sha256::new();
        key.update(qe_report);
        key.update(signature);
        let key = key.finish();
        if self.qe_reports.find(&key).is_some() {
            return true;
        }
        let signed = is_signed(&self.key, qe_report, signature);
        if signed {
            self.qe_reports.keep(key, Arc::new(()));
        }
        signed
    }

    pub fn facts(&self) -> &PckFacts {
        &self.facts
    }

    pub fn root(&self) -> Root {
        self.root
    }

    pub fn root_sha256(&self) -> [u8; 32] {
        self.root_sha256
    }

    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }

    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The dates of PCK certificate and CA together.
    pub fn dates(&self) -> (Time, Time) {
        (self.from, self.until)
    }
}

/// The QE puts SHA-256(attestation key ‖ authentication data) first in its report data, and zeros
/// behind it.
fn binding_fault(certified: &Certified<'_>, qe_report: &EnclaveReport) -> Option<Error> {
    let mut hash = crypto::Sha256::new();
    hash.update(certified.attestation_key());
    hash.update(certified.qe_authentication());
    let mut expected = hash.finish().to_vec();
    expected.resize(qe_report.report_data.len(), 0);
    (qe_report.report_data.as_slice() != expected)
        .then(|| Error::QeBinding { found: qe_report.report_data.to_vec(), expected })
}

fn is_signed_by_attestation_key(certified: &Certified<'_>) -> bool {
    let (x, y) = certified.attestation_key().split_at_checked(32).unwrap_or_default();
    let key = PublicKey::ec(Curve::P256, x, y);
    key.is_some_and(|key| is_signed(&key, certified.signed(), certified.signature()))
}

fn is_signed(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let scheme = SignatureScheme::EcdsaFixed(HashAlgorithm::Sha256);
    crypto::verify_signature(scheme, key, message, signature).is_ok()
}

/// The faults of which there is at least one.
fn told(faults: Vec<Error>) -> Faults {
    Faults::of(faults).unwrap_or_else(|| Error::QuoteSignature.into())
}

/// QE reports remembered of one platform: those of a few restarts.
const QE_REPORTS: usize = 4;
