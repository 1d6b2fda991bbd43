//! An endorsement that holds: bytes of a vendor, verified for what they are said to be about.
//!
//! There is one way to an [`Entry`]: its signatures lead to a vendor's root, it is about its
//! subject, and it was in force when it was fetched. That it is in force now is asked at each use.
//!
//! ```compile_fail,E0451
//! fn forge(genuine: assay::endorsement::Entry) -> assay::endorsement::Entry {
//!     assay::endorsement::Entry { body: Vec::new(), ..genuine }
//! }
//! ```

use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::Finding;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_snp::Anchors;
use assay_snp::Product;
use assay_snp::endorsement::Chip;
use assay_snp::endorsement::verify_issuer;
use assay_snp::endorsement::verify_list;
use assay_snp::report::SigningKey;
use assay_snp::verify::verify_vek;
use assay_tdx::Collateral;
use assay_tdx::collateral::MAX_COLLATERAL;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::endorsement::Subject;

/// Whose word counts: the vendors' roots, and an operator's for test hardware.
#[derive(Debug)]
pub struct Roots {
    pub(super) snp: Anchors,
    pub(super) tdx: Vec<Certificate>,
}

impl Roots {
    /// The vendors', which are built in.
    pub fn vendors() -> Roots {
        Roots { snp: Anchors::amd(), tdx: Vec::new() }
    }

    /// Also these; whatever leads to them is said to be the operator's by whoever verifies with it.
    pub fn with_operator_roots(extra: Vec<Certificate>) -> Roots {
        Roots { snp: Anchors::amd().with_operator_roots(extra.clone()), tdx: extra }
    }

    /// Who issued these keys is built in.
    pub(super) fn know_issuer(&self, product: Product, kind: SigningKey) -> bool {
        self.snp.know_issuer(product, kind)
    }

    /// Nobody has to show the issuer of these keys. Below an operator's root may be another one, by
    /// the same name.
    pub(super) fn need_no_issuer(&self, product: Product, kind: SigningKey) -> bool {
        self.tdx.is_empty() && self.know_issuer(product, kind)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    subject: Subject,
    body: Vec<u8>,
    sha256: [u8; 32],
    fetched_at: Time,
    from: Time,
    until: Time,
    /// Grows with each issue of the same subject; what goes back is an old one played again.
    issue: (u32, i64),
}

/// Why bytes are no endorsement of their subject: the vendor's faults, or that they are about
/// something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{subject}` does not hold: {}", findings.first().map_or("no reason", |f| f.code.code()))]
pub struct Unfit {
    pub subject: Subject,
    /// Most decisive first.
    pub findings: Vec<Finding>,
}

impl Entry {
    /// Verifies what was fetched at `fetched_at`. `issuer` is the file of the issuer, where it is
    /// not built in.
    pub fn verify(
        subject: Subject,
        body: Vec<u8>,
        fetched_at: Time,
        roots: &Roots,
        issuer: Option<&[u8]>,
    ) -> Result<Entry, Unfit> {
        let held = match &subject {
            Subject::SnpVcek { product, chip } => {
                vcek(&body, *product, chip, fetched_at, roots, issuer)
            }
            Subject::SnpIssuer { product, kind } => {
                verify_issuer(&body, *product, *kind, &roots.snp, fetched_at)
                    .map(|dates| Held::new(dates.from, dates.until, (0, 0)))
                    .map_err(|faults| faults.findings())
            }
            Subject::SnpCrl { product, .. } => verify_list(&body, *product, &roots.snp, fetched_at)
                .map(|dates| Held::new(dates.from, dates.until, (0, dates.from.unix_s())))
                .map_err(|faults| faults.findings()),
            Subject::TdxCollateral(wanted) => collateral(&body, wanted, fetched_at, roots),
        };
        match held {
            Ok(Held { from, until, issue }) => {
                let sha256 = crypto::sha256(&body);
                Ok(Entry { subject, body, sha256, fetched_at, from, until, issue })
            }
            Err(findings) => Err(Unfit { subject, findings }),
        }
    }

    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Of the body.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub fn fetched_at(&self) -> Time {
        self.fetched_at
    }

    /// From when and until when all of it is in force.
    pub fn dates(&self) -> (Time, Time) {
        (self.from, self.until)
    }

    /// In force at this time, or overdue by no more than `grace`.
    pub fn is_current(&self, now: Time, grace: Duration) -> bool {
        now.unix_s() <= (self.until + grace).unix_s()
    }

    /// Whole days until it ends; 0 on its last day and after it.
    pub fn days_left(&self, now: Time) -> u64 {
        self.until.since(now).as_secs() / DAY_S
    }

    /// A warning in its last days, so that somebody looks before it refuses.
    pub fn ending(&self, now: Time) -> Option<Finding> {
        (self.until.since(now) < WARN_WITHIN).then(|| {
            let found = match self.until.unix_s() < now.unix_s() {
                true => format!("ended at {}", self.until),
                false => format!("expires in {} days, at {}", self.days_left(now), self.until),
            };
            let (code, expected) = (Reason::EndorsementEndsSoon, "a newer one within seven days");
            Finding::new(code, "endorsements", found, expected, self.subject.to_string())
        })
    }

    /// Of what its vendor issues again and again.
    pub fn is_renewable(&self) -> bool {
        matches!(self.subject, Subject::SnpCrl { .. } | Subject::TdxCollateral(_))
    }

    /// Issued before `other`, of the same subject.
    pub fn is_older_than(&self, other: &Entry) -> bool {
        self.issue < other.issue
    }

    /// As caches and bundles have it; the dates are for readers, and are found anew.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "subject": self.subject.to_string(),
            "sha256": hex::encode(self.sha256),
            "fetched_at": self.fetched_at,
            "valid_from": self.from,
            "valid_until": self.until,
            "body": STANDARD.encode(&self.body),
        })
    }
}

/// What verification found.
struct Held {
    from: Time,
    until: Time,
    issue: (u32, i64),
}

impl Held {
    /// What does not say until when it holds is overdue at once.
    fn new(from: Time, until: Option<Time>, issue: (u32, i64)) -> Held {
        Held { from, until: until.unwrap_or(from), issue }
    }
}

fn vcek(
    body: &[u8],
    product: Product,
    chip: &Chip,
    at: Time,
    roots: &Roots,
    issuer: Option<&[u8]>,
) -> Result<Held, Vec<Finding>> {
    let chain: Vec<&[u8]> = issuer.into_iter().collect();
    let vek = verify_vek(body, &chain, None, &roots.snp, at).map_err(|faults| faults.findings())?;
    let source = "specification 57230, VCEK Certificate Extensions";
    let other = |code, claim: &str, found: String, expected: String| {
        Err(vec![Finding::new(code, claim, found, expected, source)])
    };
    if vek.kind != SigningKey::Vcek {
        let (found, expected) = (vek.kind.to_string(), SigningKey::Vcek.to_string());
        return other(Reason::VekKindMismatch, "vek.kind", found, expected);
    }
    if vek.product != product {
        let (found, expected) = (vek.product.to_string(), product.to_string());
        return other(Reason::ProductMismatch, "vek.product", found, expected);
    }
    let found = vek.hardware_id.as_deref().unwrap_or_default();
    if found != chip.hardware_id {
        let expected = hex::encode(&chip.hardware_id);
        return other(Reason::VekChipMismatch, "vek.hardware_id", hex::encode(found), expected);
    }
    if vek.tcb != chip.tcb {
        let (found, expected) = (vek.tcb.to_string(), chip.tcb.to_string());
        return other(Reason::VekTcbMismatch, "vek.tcb", found, expected);
    }
    let certificate = &vek.certificate;
    Ok(Held::new(certificate.not_before(), Some(certificate.not_after()), (0, 0)))
}

fn collateral(
    body: &[u8],
    wanted: &assay_tdx::endorsement::Wanted,
    at: Time,
    roots: &Roots,
) -> Result<Held, Vec<Finding>> {
    let held = Collateral::parse(body)
        .map_err(|error| vec![error.finding()])?
        .verify(&roots.tdx)
        .map_err(|faults| faults.findings())?;
    let source = "Intel PCS API v4";
    let fmspc = held.tcb_info().fmspc;
    if fmspc != wanted.fmspc {
        let (found, expected) = (hex::encode(fmspc), hex::encode(wanted.fmspc));
        let finding = Finding::new(Reason::FmspcMismatch, "fmspc", found, expected, source);
        return Err(vec![finding]);
    }
    if held.pck_ca() != Some(wanted.ca) {
        let found = held.pck_ca().map_or("neither CA of PCK certificates", |ca| ca.name());
        let code = Reason::PckChainMismatch;
        return Err(vec![Finding::new(code, "pck_crl.ca", found, wanted.ca.name(), source)]);
    }
    let (from, until) = held.validity();
    let code = match at {
        at if at.unix_s() < from.unix_s() => Reason::CollateralNotYetValid,
        at if at.unix_s() > until.unix_s() => Reason::CollateralExpired,
        _ => {
            let number = held.tcb_info().evaluation_number;
            return Ok(Held { from, until, issue: (number, until.unix_s()) });
        }
    };
    let found = format!("valid from {from} to {until}");
    Err(vec![Finding::new(code, "collateral", found, format!("valid at {at}"), source)])
}

/// The largest body of all: a bundle of collateral.
pub(super) const MAX_BODY: usize = MAX_COLLATERAL;
const DAY_S: u64 = 86_400;
const WARN_WITHIN: Duration = Duration::from_secs(7 * DAY_S);
