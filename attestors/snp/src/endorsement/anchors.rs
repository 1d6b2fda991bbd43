//! Whom to believe: AMD's root keys, built in, and what an operator adds for test hardware.
//!
//! It also remembers chains whose signatures were verified, by a hash of everything that went into
//! that verdict, so that the next report of the same chip costs one signature. A hit and a miss
//! give the same answer: only what holds for ever is remembered, and nothing that was refused.

use std::fmt;

use assay_evidence::Certificate;
use assay_evidence::remembered::Remembered;

use super::Authority;
use super::Chain;
use crate::product::Product;
use crate::report::SigningKey;

pub struct Anchors {
    roots: Vec<Root>,
    /// ASK and ASVK of each product; no trust comes from them.
    authorities: Vec<Certificate>,
    verified: Remembered<Chain>,
}

/// A key that certificates may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub(crate) certificate: Certificate,
    /// Added by the operator; whatever leads here is of no vendor.
    pub(crate) operator_supplied: bool,
}

impl Anchors {
    /// AMD's keys for Milan, Genoa and Turin.
    pub fn amd() -> Anchors {
        let parse = |der: &[u8]| Certificate::parse(der).ok();
        let roots = ROOTS.iter().filter_map(|der| parse(der));
        Anchors {
            roots: roots
                .map(|certificate| Root { certificate, operator_supplied: false })
                .collect(),
            authorities: AUTHORITIES.iter().filter_map(|der| parse(der)).collect(),
            verified: Remembered::new(MAX_REMEMBERED),
        }
    }

    /// Also believes these, and says so of everything that leads to them.
    #[must_use]
    pub fn with_operator_roots(mut self, extra: Vec<Certificate>) -> Anchors {
        let extra =
            extra.into_iter().map(|certificate| Root { certificate, operator_supplied: true });
        self.roots.extend(extra);
        self.verified = Remembered::new(MAX_REMEMBERED);
        self
    }

    pub(crate) fn roots(&self) -> &[Root] {
        &self.roots
    }

    pub(crate) fn authorities(&self) -> &[Certificate] {
        &self.authorities
    }

    /// Whether the issuer of such keys is built in, so that nobody has to show it.
    pub fn know_issuer(&self, product: Product, kind: SigningKey) -> bool {
        let wanted = Some(Authority::issuer(product, kind));
        self.authorities.iter().any(|known| Authority::of(known) == wanted)
    }

    pub(crate) fn verified(&self) -> &Remembered<Chain> {
        &self.verified
    }

    /// How many chains are remembered; never more than 1024.
    pub fn remembered_chains(&self) -> usize {
        self.verified.len()
    }
}

impl Root {
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchors").field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// A promise of docs/reference/limits.md: about 16 KiB each.
const MAX_REMEMBERED: usize = 1024;

/// See roots/README.md; a test holds them to their fingerprints.
const ROOTS: [&[u8]; 3] = [
    include_bytes!("../../roots/milan-ark.der"),
    include_bytes!("../../roots/genoa-ark.der"),
    include_bytes!("../../roots/turin-ark.der"),
];
const AUTHORITIES: [&[u8]; 6] = [
    include_bytes!("../../roots/milan-ask.der"),
    include_bytes!("../../roots/milan-asvk.der"),
    include_bytes!("../../roots/genoa-ask.der"),
    include_bytes!("../../roots/genoa-asvk.der"),
    include_bytes!("../../roots/turin-ask.der"),
    include_bytes!("../../roots/turin-asvk.der"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_built_in_is_what_amd_published_and_signs_itself() {
        let anchors = Anchors::amd();
        let all = anchors.roots.iter().map(|root| &root.certificate).chain(&anchors.authorities);
        let readme = include_str!("../../roots/README.md");
        let mut count = 0;
        for certificate in all {
            assert!(readme.contains(&hex::encode(certificate.sha256())));
            let root = anchors
                .roots
                .iter()
                .find(|root| root.certificate.subject() == certificate.issuer())
                .unwrap();
            let key = root.certificate.public_key().unwrap();
            assert_eq!(certificate.verify_signature(key), Ok(()));
            assert!(Authority::of(certificate).is_some());
            count += 1;
        }
        assert_eq!(count, 9);
    }
}
