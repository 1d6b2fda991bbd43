//! The report of a confidential machine's processor in an exchange: what is asked for, what it takes
//! to verify it, and its verification.
//!
//! The report is verified after the TPM's statements, by the driver's leave: what vendors say of the
//! processor has to be found first, and that is neither pure nor quick. Here it is an argument.
//!
//! Hello.kinds is a claim: a machine that leaves out what it has is judged as one that lacks it. What
//! is shown has to be genuine and of this exchange; a machine is not better off for showing a report
//! that is not its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use assay_evidence::Reason;
use assay_evidence::binding::BindingInput;
use assay_evidence::certificate::Certificate;
use assay_evidence::reason::Finding;
use assay_evidence::time::Time;
use assay_hcl::Hardware;
use assay_hcl::HclReport;
use assay_snp::endorsement::Vek;
use assay_snp::host_certificates::HostCertificates;
use assay_tdx::CollateralCache;
use assay_tdx::Quote;
use assay_tdx::endorsement::TcbUpdate;

use crate::appraisal::Link;
use crate::appraisal::expected_report_data;
use crate::envelope::MediaType;
use crate::envelope::TeeClaims;
use crate::exchange::Received;
use crate::exchange::Refused;
use crate::exchange::intake::item;

/// Whose word counts about processors; a clone shares what was verified before.
#[derive(Clone)]
pub struct TeeAnchors {
    snp: Arc<assay_snp::Anchors>,
    extra_roots: Vec<Certificate>,
    collateral: Arc<CollateralCache>,
    /// By how much collateral may be overdue.
    grace: Duration,
    require_revocation: bool,
}

/// What it takes to verify the report that came, beside itself; read from a report that is not
/// verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Snp(assay_snp::endorsement::Wanted),
    Tdx(assay_tdx::endorsement::Wanted),
}

/// What vendors say of a processor, as bytes; believed no more for where they came from.
#[derive(Debug, Clone, Default)]
pub struct Vouchers {
    /// Certificate of the key that signed an SNP report; without one, the host's table is asked.
    pub vek: Option<Vec<u8>>,
    /// Files of certificates above it.
    pub chain: Vec<Vec<u8>>,
    /// Revocation list of their root.
    pub crl: Option<Vec<u8>>,
    /// Of a TDX platform, as JSON.
    pub collateral: Option<Vec<u8>>,
    /// Told with the verdict: what ends soon.
    pub warnings: Vec<Finding>,
    /// Why what was wanted is not here: not a fault of the machine, and perhaps over soon.
    pub unavailable: Option<Finding>,
    /// The same of the revocation list.
    pub unrevoked: Option<Finding>,
}

impl Vouchers {
    /// They did not come while the exchange could wait.
    pub fn late() -> Self {
        let late = unavailable("endorsements", "attestation exchange, its deadline");
        Self { unavailable: Some(late.clone()), unrevoked: Some(late), ..Self::default() }
    }
}

fn unavailable(claim: &str, source: &str) -> Finding {
    let code = Reason::EndorsementUnavailable;
    Finding::new(code, claim, "none", "what the vendor says, in time", source)
}

/// Of what an agent can give: one report, and what goes with it. A machine has one processor, so
/// whoever offers the reports of two is asked for the first.
pub(super) fn wanted(offered: &[MediaType]) -> impl Iterator<Item = MediaType> + '_ {
    const REPORTS: [&[MediaType]; 3] = [
        &[MediaType::SnpReport, MediaType::SnpHostCerts],
        &[MediaType::TdxQuote, MediaType::Ccel],
        &[MediaType::HclReport, MediaType::SnpHostCerts],
    ];
    let asked =
        REPORTS.into_iter().find(|kinds| kinds.first().is_some_and(|k| offered.contains(k)));
    asked.unwrap_or_default().iter().copied().filter(|kind| offered.contains(kind))
}

/// Nothing where no report came, where everything is there, or where it cannot be read: then its
/// verification says so.
pub(super) fn wants(items: &[Received]) -> Option<Wanted> {
    if let Some(quote) = item(items, MediaType::TdxQuote) {
        let quote = Quote::parse(quote).ok()?;
        return assay_tdx::endorsement::wants(&quote, TcbUpdate::Standard).ok().map(Wanted::Tdx);
    }
    let report = match (item(items, MediaType::SnpReport), item(items, MediaType::HclReport)) {
        (Some(report), _) => report,
        (None, Some(hcl)) => match HclReport::parse(hcl).ok()?.hardware {
            Hardware::SnpReport(report) => report,
            Hardware::TdReport(_) => return None,
        },
        (None, None) => return None,
    };
    let report = assay_snp::Report::parse(report).ok()?;
    let table = item(items, MediaType::SnpHostCerts).and_then(|t| HostCertificates::parse(t).ok());
    let kind = report.key_info.signing_key()?;
    let at_hand = table.and_then(|table| Vek::read(table.vek(kind)?.clone()).ok());
    // A report of version 2 does not name its product; the certificate beside it does.
    let product = at_hand.as_ref().map(|vek| vek.product);
    let wants = |product| assay_snp::endorsement::wants(&report, product);
    let mut wanted = wants(None).or_else(|| wants(product))?;
    // The host's table saves the way to AMD, where it is of the TCB that the report is of; what it
    // holds is judged as anything else.
    let fits = |vek: &Vek| report.reported_tcb.read(vek.product) == Some(vek.tcb);
    if at_hand.as_ref().is_some_and(fits) {
        wanted.chip = None;
    }
    Some(Wanted::Snp(wanted))
}

/// Verifies the report that came, if one did. `vouching` are SHA-256 of the SPKI of the keys that
/// certified this node's AK.
pub(super) fn verify(
    items: &[Received],
    vouchers: &Vouchers,
    anchors: &TeeAnchors,
    binding: &BindingInput,
    vouching: &[[u8; 32]],
    now: Time,
) -> Result<Option<Link>, Refused> {
    let by_report_data = |claims| Some(Link::by_report_data(claims, binding));
    if let Some(report) = item(items, MediaType::SnpReport) {
        let said = assay_snp::Report::parse(report).ok().map(|report| report.report_data);
        let expected = expected_report_data(binding, said.as_ref());
        let claims = verify_snp(report, &expected, items, vouchers, anchors, now)?;
        return Ok(by_report_data(claims));
    }
    if let Some(quote) = item(items, MediaType::TdxQuote) {
        let said = Quote::parse(quote).ok().map(|quote| quote.body().report_data);
        let expected = expected_report_data(binding, said.as_ref());
        return Ok(by_report_data(verify_tdx(quote, &expected, vouchers, anchors, now)?));
    }
    let Some(hcl) = item(items, MediaType::HclReport) else { return Ok(None) };
    let refused = |fault: assay_hcl::Fault| Refused::contradicted(vec![fault.finding()]);
    let report = HclReport::parse(hcl).map_err(refused)?;
    let Hardware::SnpReport(hardware) = report.hardware else {
        let expected = "an SNP report: a TDREPORT can be checked by its own machine alone";
        let (claim, found) = ("hcl-report.hardware", "a TDREPORT");
        return Err(Refused::new(Reason::UnsupportedEvidence, claim, found, expected));
    };
    let bound = report.bound().map_err(refused)?;
    let claims = verify_snp(hardware, bound.report_data(), items, vouchers, anchors, now)?;
    Ok(Some(Link::by_var_data(claims, &bound, vouching)))
}

fn verify_snp(
    report: &[u8],
    report_data: &[u8; 64],
    items: &[Received],
    vouchers: &Vouchers,
    anchors: &TeeAnchors,
    now: Time,
) -> Result<TeeClaims, Refused> {
    let chain: Vec<&[u8]> = vouchers.chain.iter().map(Vec::as_slice).collect();
    let evidence = assay_snp::Evidence {
        report,
        vek: vouchers.vek.as_deref(),
        chain: &chain,
        host_certificates: item(items, MediaType::SnpHostCerts),
        crl: vouchers.crl.as_deref(),
    };
    let verified = assay_snp::verify(&evidence, &anchors.snp, Some(report_data), now);
    let claims = verified.map_err(|faults| {
        // The certificate of the chip was asked for, in vain: none is at hand, or one of another TCB.
        let vain = matches!(wants(items), Some(Wanted::Snp(wanted)) if wanted.chip.is_some());
        match &vouchers.unavailable {
            Some(unavailable) if vain => Refused::contradicted(vec![unavailable.clone()]),
            _ => Refused::contradicted(faults.findings()),
        }
    })?;
    if anchors.require_revocation && vouchers.crl.is_none() {
        let why = vouchers.unrevoked.clone();
        let why = why.unwrap_or_else(|| unavailable("snp.crl", "policy, `require_revocation`"));
        return Err(Refused::contradicted(vec![why]));
    }
    Ok(TeeClaims::Snp(Box::new(claims)))
}

/// Without collateral nothing is known of revocation and TCB: what the vendor's silence means then
/// is not a verdict about the machine.
fn verify_tdx(
    quote: &[u8],
    report_data: &[u8; 64],
    vouchers: &Vouchers,
    anchors: &TeeAnchors,
    now: Time,
) -> Result<TeeClaims, Refused> {
    let expected = assay_tdx::Expected {
        collateral_grace: anchors.grace,
        ..assay_tdx::Expected::at(now).binding(report_data)
    };
    let roots = &anchors.extra_roots;
    let verified = match &vouchers.collateral {
        Some(json) => assay_tdx::verify_with(quote, json, roots, &expected, &anchors.collateral),
        None => assay_tdx::verify_signatures(quote, roots, &expected),
    };
    let claims = verified.map_err(|faults| Refused::contradicted(faults.findings()))?;
    match &vouchers.unavailable {
        Some(unavailable) if vouchers.collateral.is_none() => {
            Err(Refused::contradicted(vec![unavailable.clone()]))
        }
        _ => Ok(TeeClaims::Tdx(Box::new(claims))),
    }
}

impl TeeAnchors {
    /// The vendors, and roots of the operator for test hardware: the claims then say so.
    /// Of SNP, `require_revocation` wants the list at hand; TDX collateral always has its own.
    pub fn new(
        extra_roots: Vec<Certificate>,
        collateral_grace: Duration,
        require_revocation: bool,
    ) -> Self {
        let snp = assay_snp::Anchors::amd().with_operator_roots(extra_roots.clone());
        Self {
            snp: Arc::new(snp),
            extra_roots,
            collateral: Arc::default(),
            grace: collateral_grace,
            require_revocation,
        }
    }
}

impl Default for TeeAnchors {
    fn default() -> Self {
        Self::new(Vec::new(), Duration::ZERO, true)
    }
}

impl fmt::Debug for TeeAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeeAnchors").field("snp", &self.snp).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_report_is_asked_for_and_only_what_is_offered() {
        let asked = |offered: &[MediaType]| wanted(offered).collect::<Vec<_>>();
        assert_eq!(asked(&[MediaType::TpmQuote, MediaType::SnpHostCerts]), []);
        assert_eq!(
            asked(&MediaType::ALL),
            [MediaType::SnpReport, MediaType::SnpHostCerts],
            "of one processor"
        );
        assert_eq!(asked(&[MediaType::TdxQuote]), [MediaType::TdxQuote]);
        assert_eq!(asked(&[MediaType::HclReport]), [MediaType::HclReport]);
    }
}
