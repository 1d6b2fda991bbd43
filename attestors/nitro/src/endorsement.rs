//! From the key that signed a document to AWS's root, along the bundle that the document carries.
//!
//! The bundle is read in its own order, root first; there is no search. All keys are P-384 and all
//! signatures ECDSA with SHA-384. Signatures hold for ever and are remembered; dates are asked anew
//! each time, because the leaf lives three hours and documents are judged years later.

use std::fmt;
use std::sync::Arc;

use assay_evidence::Certificate;
use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Time;
use assay_evidence::certificate::CertificateSignature;
use assay_evidence::crypto::SignatureScheme;
use assay_evidence::remembered::Remembered;
use assay_evidence::remembered::input_hash;

use crate::document::Document;
use crate::error::Fault;

/// Whom to believe: AWS's root, built in, and what an operator adds for tests.
pub struct Anchors {
    roots: Vec<Root>,
    verified: Remembered<Chain>,
    /// Links by their two certificates: a new leaf every three hours stands below old issuers.
    links: Remembered<()>,
}

#[derive(Clone, Debug)]
struct Root {
    certificate: Certificate,
    operator_supplied: bool,
}

/// The leaf first, the root last.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) operator_root: bool,
}

impl Anchors {
    /// AWS Nitro Enclaves Root-G1.
    pub fn aws() -> Anchors {
        let root = Certificate::parse(ROOT).ok();
        let roots = root.map(|certificate| Root { certificate, operator_supplied: false });
        Anchors {
            roots: roots.into_iter().collect(),
            verified: Remembered::new(MAX_REMEMBERED),
            links: Remembered::new(MAX_LINKS),
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

    /// How many chains are remembered; never more than 256.
    pub fn remembered_chains(&self) -> usize {
        self.verified.len()
    }

    pub(crate) fn chain(&self, document: &Document<'_>) -> Result<Arc<Chain>, Unchained> {
        let mut parts = vec![document.certificate];
        parts.extend_from_slice(&document.bundle);
        let input = input_hash(&parts);
        if let Some(chain) = self.verified.recall(&input) {
            return Ok(chain);
        }
        let mut certificates = Vec::new();
        let path = std::iter::once(&document.certificate).chain(document.bundle.iter().rev());
        for (depth, der) in path.enumerate() {
            let certificate = Certificate::parse(der).map_err(|error| {
                Unchained::from(Fault::Certificate { depth, source: error.into() })
            })?;
            certificates.push(certificate);
        }
        let faults = self.faults(&certificates);
        if !faults.is_empty() {
            return Err(Unchained { faults, leaf: certificates.into_iter().next() });
        }
        let operator_root = certificates.last().is_some_and(|last| {
            self.roots.iter().any(|root| root.operator_supplied && root.certificate == *last)
        });
        Ok(self.verified.keep(input, Chain { certificates, operator_root }))
    }

    /// What holds for ever: root, rights, keys, signatures.
    fn faults(&self, certificates: &[Certificate]) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(last) = certificates.last()
            && !self.roots.iter().any(|root| root.certificate == *last)
        {
            faults.push(Fault::Root { found: hex::encode(last.sha256()) });
        }
        for (depth, certificate) in certificates.iter().enumerate() {
            faults.extend(own_fault(certificate, depth));
        }
        for (depth, pair) in certificates.windows(2).enumerate() {
            if let [child, issuer] = pair {
                faults.extend(self.link_fault(child, issuer, depth));
            }
        }
        faults
    }

    fn link_fault(&self, child: &Certificate, issuer: &Certificate, depth: usize) -> Option<Fault> {
        let es384 = CertificateSignature::Known(SignatureScheme::EcdsaDer(HashAlgorithm::Sha384));
        if child.signature_scheme() != Some(es384) {
            return Some(Fault::CertificateSignature { depth });
        }
        let extensions = issuer.extensions();
        let may_sign = extensions.key_usage.is_none_or(|usage| usage & KEY_CERT_SIGN != 0);
        // pathLenConstraint counts the CA certificates between the issuer and the leaf.
        let below = u32::try_from(depth).unwrap_or(u32::MAX);
        let too_deep = extensions.path_len.is_some_and(|limit| below > limit);
        if !extensions.is_ca || !may_sign || too_deep {
            return Some(Fault::IssuerNotCa { depth });
        }
        if child.issuer() != issuer.subject() {
            return Some(Fault::ChainBroken { depth });
        }
        let link = input_hash(&[child.der(), issuer.der()]);
        if self.links.recall(&link).is_some() {
            return None;
        }
        if issuer.public_key().is_ok_and(|key| child.verify_signature(key).is_ok()) {
            self.links.keep(link, ());
            return None;
        }
        Some(Fault::ChainBroken { depth })
    }
}

/// Why there is no chain, and the leaf as far as it could be read.
pub(crate) struct Unchained {
    pub(crate) faults: Vec<Fault>,
    pub(crate) leaf: Option<Certificate>,
}

impl From<Fault> for Unchained {
    fn from(fault: Fault) -> Unchained {
        Unchained { faults: vec![fault], leaf: None }
    }
}

impl Chain {
    /// What does not hold for ever. The root is a name and a key; its dates are not judged.
    pub(crate) fn dates(&self, now: Time) -> Vec<Fault> {
        let below_root = self.certificates.split_last().map_or(&[][..], |(_, below)| below);
        below_root
            .iter()
            .enumerate()
            .filter_map(|(depth, certificate)| {
                let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
                let outside =
                    now.unix_s() < not_before.unix_s() || now.unix_s() > not_after.unix_s();
                outside.then_some(Fault::Expired { depth, not_before, not_after, at: now })
            })
            .collect()
    }
}

fn own_fault(certificate: &Certificate, depth: usize) -> Option<Fault> {
    if let Some(oid) = certificate.extensions().unknown_critical.first() {
        let source = format!("the critical extension {oid} is not understood");
        return Some(Fault::Certificate { depth, source: source.as_str().into() });
    }
    match certificate.public_key() {
        Ok(key @ PublicKey::Ec { curve: Curve::P384, .. }) => {
            key.fault().map(|fault| Fault::key(depth, fault))
        }
        _ => Some(Fault::Key { depth, what: "not a P-384 key".into(), weak: false }),
    }
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchors").field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// See roots/README.md.
const ROOT: &[u8] = include_bytes!("../roots/aws-nitro-root.der");
/// A promise of docs/reference/limits.md.
const MAX_REMEMBERED: usize = 256;
const MAX_LINKS: usize = 1024;
/// keyCertSign, RFC 5280 §4.2.1.3, bit 5.
const KEY_CERT_SIGN: u16 = 1 << 5;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_built_in_is_what_aws_published_and_signs_itself() {
        let anchors = Anchors::aws();
        let root = &anchors.roots.first().unwrap().certificate;
        assert!(include_str!("../roots/README.md").contains(&hex::encode(root.sha256())));
        assert_eq!(root.verify_signature(root.public_key().unwrap()), Ok(()));
    }
}
