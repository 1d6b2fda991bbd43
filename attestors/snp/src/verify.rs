//! From a signed report to claims: the decisive list.
//!
//! 1. shape of every part: length, version, reserved bits by version and product, certificates
//! 2. keys: which kind signed, and that certificate and chain are of that kind and product
//! 3. signatures: chain to a pinned root, revocation, dates; then the report, over the raw bytes
//! 4. freshness: all 64 bytes of report data
//! 5. values: chip, TCB of the certificate, order of the TCBs
//!
//! All faults are told, those of an earlier stage first. Everything is an argument. A genuine
//! debug guest is genuine: what is acceptable is asked by [`appraise`](crate::policy::appraise).

use std::sync::Arc;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Time;
use assay_evidence::certificate::CertificateError;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_evidence::remembered::input_hash;

use crate::claims::Claims;
use crate::endorsement::Anchors;
use crate::endorsement::Chain;
use crate::endorsement::Vek;
use crate::error::Fault;
use crate::error::Faults;
use crate::error::Role;
use crate::host_certificates::HostCertificates;
use crate::product::Product;
use crate::report::Report;
use crate::report::SIGNED_SIZE;
use crate::report::SigningKey;
use crate::tcb::Tcb;

/// A report and whatever came with it, as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// 1184 bytes.
    pub report: &'a [u8],
    /// The certificate of the key that signed, DER or PEM. Without it the host's table is asked.
    pub vek: Option<&'a [u8]>,
    /// Certificates above it, each file DER or PEM. AMD's own are built in; a chain adds no trust.
    pub chain: &'a [&'a [u8]],
    /// The host's certificate table (`auxblob`).
    pub host_certificates: Option<&'a [u8]>,
    /// Revocation list of the chain's root, DER or PEM.
    pub crl: Option<&'a [u8]>,
}

/// Verifies a report: who signed it, and that it says `report_data` where that is expected.
pub fn verify(
    evidence: &Evidence<'_>,
    anchors: &Anchors,
    report_data: Option<&[u8; 64]>,
    now: Time,
) -> Result<Claims, Faults> {
    // 1. Shape of the report.
    let report = Report::parse(evidence.report)?;
    let signed = evidence
        .report
        .get(..SIGNED_SIZE)
        .ok_or(Fault::ReportLength { found: evidence.report.len() })?;

    // 2. and 3. The key, its certificate and the chain above it.
    let mut faults = key_faults(&report);
    let Some(kind) = report.key_info.signing_key() else {
        return Err(Faults::of(faults).unwrap_or_else(|| Fault::SigningKeyNone.into()));
    };
    let chain = match endorse(evidence, kind, anchors) {
        Ok(chain) => Some(chain),
        Err(unendorsed) => {
            faults.extend(unendorsed.faults);
            // Without a chain the rest still says what else is wrong.
            if let Some(vek) = &unendorsed.vek {
                faults.extend(report_faults(&report, signed, kind, vek, report_data));
            }
            None
        }
    };
    if let Some(chain) = &chain {
        faults.extend(standing_faults(chain, now));
        faults.extend(report_faults(&report, signed, kind, &chain.vek, report_data));
    }
    match (Faults::of(faults), chain) {
        (None, Some(chain)) => Ok(Claims::new(report, signed, &chain, report_data.is_some())),
        (Some(faults), _) => Err(faults),
        (None, None) => Err(Fault::VekMissing.into()),
    }
}

/// Verifies the certificate of a signing key by itself, without a report.
pub fn verify_vek(
    vek: &[u8],
    chain: &[&[u8]],
    crl: Option<&[u8]>,
    anchors: &Anchors,
    now: Time,
) -> Result<Vek, Faults> {
    let evidence = Evidence { vek: Some(vek), chain, crl, ..Evidence::default() };
    // Which kind only matters for a host's table.
    let chain = endorse(&evidence, SigningKey::Vcek, anchors).map_err(|unendorsed| {
        Faults::of(unendorsed.faults).unwrap_or_else(|| Fault::VekMissing.into())
    })?;
    match Faults::of(standing_faults(&chain, now)) {
        Some(faults) => Err(faults),
        None => Ok(chain.vek.clone()),
    }
}

fn key_faults(report: &Report) -> Vec<Fault> {
    let mut faults = Vec::new();
    if report.key_info.is_unsigned() {
        faults.push(Fault::SigningKeyNone);
    }
    if report.key_info.chip_key_masked() {
        faults.push(Fault::ChipKeyMasked);
    }
    if !report.signature_in_range() {
        faults.push(Fault::SignatureRange { scalar: "r or s" });
    }
    faults
}

/// Why there is no chain, and the certificate as far as it could be read.
struct Unendorsed {
    faults: Vec<Fault>,
    vek: Option<Box<Vek>>,
}

impl From<Fault> for Unendorsed {
    fn from(fault: Fault) -> Unendorsed {
        Unendorsed { faults: vec![fault], vek: None }
    }
}

/// The verified chain of the key that signed, remembered or walked.
fn endorse(
    evidence: &Evidence<'_>,
    kind: SigningKey,
    anchors: &Anchors,
) -> Result<Arc<Chain>, Unendorsed> {
    let input = endorsement_input(evidence, kind);
    if let Some(chain) = anchors.verified().recall(&input) {
        return Ok(chain);
    }
    let host = match evidence.host_certificates {
        Some(table) => HostCertificates::parse(table)?,
        None => HostCertificates::default(),
    };
    let mut shown = Vec::new();
    for file in evidence.chain {
        let malformed = |source| Fault::Certificate { role: Role::Chain, source };
        shown.extend(Certificate::parse_set(file).map_err(malformed)?);
    }
    shown.extend(host.issuer.iter().chain(&host.root).cloned());
    if shown.len() > MAX_CHAIN {
        return Err(Fault::TooManyCertificates { max: MAX_CHAIN }.into());
    }
    let certificate = match evidence.vek {
        Some(bytes) => one_certificate(bytes)?,
        None => host.vek(kind).cloned().ok_or(Fault::VekMissing)?,
    };
    let vek = Vek::read(certificate)?;
    let known = anchors.authorities();
    match Chain::build(vek.clone(), &shown, known, anchors.roots(), evidence.crl) {
        Ok(chain) => Ok(anchors.verified().keep(input, chain)),
        Err(faults) => Err(Unendorsed { faults, vek: Some(Box::new(vek)) }),
    }
}

/// Everything that decides about a chain, as one hash.
fn endorsement_input(evidence: &Evidence<'_>, kind: SigningKey) -> [u8; 32] {
    let kind = kind.as_str().as_bytes();
    let [vek, host, crl] = [evidence.vek, evidence.host_certificates, evidence.crl]
        // Absent is told from empty.
        .map(|part| part.map_or((&[][..], &[0][..]), |bytes| (bytes, &[1][..])));
    let mut parts = vec![kind, vek.1, vek.0, host.1, host.0, crl.1, crl.0];
    parts.extend_from_slice(evidence.chain);
    input_hash(&parts)
}

fn one_certificate(bytes: &[u8]) -> Result<Certificate, Fault> {
    let malformed = |source| Fault::Certificate { role: Role::Vek, source };
    let mut set = Certificate::parse_set(bytes).map_err(malformed)?;
    match (set.pop(), set.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => Err(malformed(CertificateError::Malformed)),
    }
}

/// What does not hold for ever: dates, both ends included, and revocation. A root is a name and a
/// key; its dates are not judged.
fn standing_faults(chain: &Chain, now: Time) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (role, certificate) in [(Role::Vek, &chain.vek.certificate), (Role::Issuer, &chain.issuer)]
    {
        let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
        if now.unix_s() < not_before.unix_s() || now.unix_s() > not_after.unix_s() {
            faults.push(Fault::Expired { role, not_before, not_after, at: now });
        }
    }
    faults.extend(chain.revocation.iter().flat_map(|revocation| revocation.faults(now)));
    faults
}

/// The report against the certificate of its key.
fn report_faults(
    report: &Report,
    signed: &[u8],
    kind: SigningKey,
    vek: &Vek,
    report_data: Option<&[u8; 64]>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    if vek.kind != kind {
        faults.push(Fault::VekKind { found: vek.kind.to_string(), expected: kind });
    }
    faults.extend(cpuid_fault(report, vek.product));
    if report.cpuid.is_none() {
        // Only now it is known which bytes the product reserves.
        faults.extend(report.tcb_faults(vek.product));
    }
    let scheme = SignatureScheme::EcdsaFixed(HashAlgorithm::Sha384);
    if crypto::verify_signature(scheme, &vek.key, signed, &report.signature).is_err() {
        faults.push(Fault::ReportSignature);
    }
    if let Some(expected) = report_data.filter(|expected| **expected != report.report_data) {
        let (found, expected) = (hex::encode(report.report_data), hex::encode(expected));
        faults.push(Fault::ReportData { found, expected });
    }
    faults.extend(chip_fault(report, vek));
    faults.extend(tcb_faults(report, vek));
    faults
}

/// A report that names its processor names one of the product of its key.
fn cpuid_fault(report: &Report, expected: Product) -> Option<Fault> {
    let cpuid = report.cpuid?;
    (Product::from_cpuid(cpuid) != Some(expected)).then(|| Fault::Product {
        place: "cpuid_fms",
        found: cpuid.to_string(),
        expected,
    })
}

/// A masked chip id names no chip; a VLEK belongs to none. Both are told in `not_checked`.
fn chip_fault(report: &Report, vek: &Vek) -> Option<Fault> {
    let hardware_id = vek.hardware_id.as_ref()?;
    if report.chip_id == [0; 64] {
        return None;
    }
    let (used, rest) = report.chip_id.split_at_checked(hardware_id.len())?;
    (used != hardware_id || rest.iter().any(|&byte| byte != 0)).then(|| Fault::Chip {
        found: hex::encode(hardware_id),
        expected: hex::encode(report.chip_id),
    })
}

/// The key is derived from the reported TCB, part by part; and the host may report less than it
/// has committed, which is at most what runs. Launch may lie above what is reported.
fn tcb_faults(report: &Report, vek: &Vek) -> Vec<Fault> {
    let read = |bytes: crate::tcb::TcbBytes| bytes.read(vek.product);
    let (Some(reported), Some(committed), Some(current)) =
        (read(report.reported_tcb), read(report.committed_tcb), read(report.current_tcb))
    else {
        // Told as reserved bits.
        return Vec::new();
    };
    let mut faults = Vec::new();
    if reported != vek.tcb {
        faults.push(Fault::VekTcb { found: vek.tcb, expected: reported });
    }
    let order = |lower_name, lower: Tcb, upper_name, upper: Tcb| {
        (!lower.is_at_most(&upper)).then_some(Fault::TcbOrder {
            lower_name,
            lower,
            upper_name,
            upper,
        })
    };
    faults.extend(order("reported", reported, "committed", committed));
    faults.extend(order("committed", committed, "current", current));
    faults
}

/// Certificates above a signing key that are looked at: AMD's whole set is nine.
const MAX_CHAIN: usize = 16;
