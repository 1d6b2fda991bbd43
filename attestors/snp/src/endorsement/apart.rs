//! Endorsements by themselves, before there is a report: what was fetched is verified with these,
//! and kept only if it holds.

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_evidence::crl::RevocationList;

use super::Anchors;
use super::Authority;
use super::Revocation;
use super::Root;
use super::foreign_roots;
use super::is_stranger;
use super::revocation::accept_list;
use super::root_of;
use crate::error::Fault;
use crate::error::Faults;
use crate::error::Role;
use crate::product::Product;
use crate::report::SigningKey;

/// From when and until when something that was verified holds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    pub from: Time,
    /// Nothing if it does not say.
    pub until: Option<Time>,
}

/// Verifies a file with the issuer of keys of this kind (ASK or ASVK), with or without its root.
pub fn verify_issuer(
    file: &[u8],
    product: Product,
    kind: SigningKey,
    anchors: &Anchors,
    now: Time,
) -> Result<Dates, Faults> {
    let malformed = |source| Fault::Certificate { role: Role::Chain, source };
    let shown = Certificate::parse_set(file).map_err(malformed)?;
    if shown.len() > MAX_SHOWN {
        return Err(Fault::TooManyCertificates { max: MAX_SHOWN }.into());
    }
    let mut faults = foreign_roots(&shown, anchors.roots());
    if shown.iter().any(|certificate| is_stranger(certificate, anchors.roots())) {
        let field = "name of AMD's hierarchy";
        faults.push(Fault::CertificateField { role: Role::Chain, field });
    }
    let expected = Authority::issuer(product, kind);
    let Some(issuer) = shown.iter().find(|shown| Authority::of(shown) == Some(expected)) else {
        faults.push(Fault::ChainMissing(expected.name()));
        return Err(told(faults));
    };
    match root_of(issuer, &shown, anchors.roots()) {
        Ok(root) if is_root_of(&root, product) => {}
        Ok(root) => {
            let found = super::name(root.certificate());
            faults.push(Fault::Product { place: "chain.root", found, expected: product });
        }
        Err(fault) => faults.push(fault),
    }
    let (not_before, not_after) = (issuer.not_before(), issuer.not_after());
    if now.unix_s() < not_before.unix_s() || now.unix_s() > not_after.unix_s() {
        faults.push(Fault::Expired { role: Role::Issuer, not_before, not_after, at: now });
    }
    match Faults::of(faults) {
        Some(faults) => Err(faults),
        None => Ok(Dates { from: not_before, until: Some(not_after) }),
    }
}

/// Verifies the revocation list of a product's root: who signed it, that it speaks of issuers, and
/// that it is in force.
pub fn verify_list(
    list: &[u8],
    product: Product,
    anchors: &Anchors,
    now: Time,
) -> Result<Dates, Faults> {
    let list = RevocationList::parse(list).map_err(|_| Fault::Crl("not a revocation list"))?;
    let mut fault = "of another issuer";
    for root in anchors.roots().iter().filter(|root| is_root_of(root, product)) {
        match accept_list(&list, root) {
            Ok(()) => {
                return match Faults::of(Revocation::of_list(&list).faults(now)) {
                    Some(faults) => Err(faults),
                    None => Ok(Dates { from: list.this_update(), until: list.next_update() }),
                };
            }
            // Of several roots, the one of the list's name says what is wrong with it.
            Err(found) if root.certificate.subject() == list.issuer() => fault = found,
            Err(_) => {}
        }
    }
    Err(Fault::Crl(fault).into())
}

/// An operator vouches for his own roots, whatever they are called.
fn is_root_of(root: &Root, product: Product) -> bool {
    match Authority::of(&root.certificate) {
        Some(authority) => authority == Authority::Ark(product),
        None => root.operator_supplied,
    }
}

impl Authority {
    fn name(self) -> String {
        match self {
            Authority::Ark(product) => format!("ARK-{product}"),
            Authority::Ask(product) => format!("SEV-{product}"),
            Authority::Asvk(product) => format!("SEV-VLEK-{product}"),
        }
    }
}

fn told(faults: Vec<Fault>) -> Faults {
    Faults::of(faults).unwrap_or_else(|| Fault::VekMissing.into())
}

/// AMD answers with two.
const MAX_SHOWN: usize = 4;
