//! The path from a certificate to a pinned root at a given time.
//!
//! A root is a name and a key: its own dates, path length and version are not judged. Everything
//! else between is: signature over the raw bytes, CA flag, key usage, path length, dates, name
//! constraints, critical extensions, key strength. Our own walk, because 21 of 143 current vendor
//! intermediates carry critical policies that web validators refuse by design.
//!
//! It builds no path through the network, reads no clock, and does not know revocation yet.

mod name;

use crate::certificate::AltName;
use crate::certificate::Certificate;
use crate::certificate::CertificateSignature;
use crate::certificate::NameConstraints;
use crate::crypto;
use crate::crypto::SignatureScheme;
use crate::der;
use crate::digest::HashAlgorithm;
use crate::key::KeyFault;
use crate::time::Time;

pub use name::same_name;

/// The certificates of a verified path, the leaf first, the root that was matched last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    certificates: Vec<Certificate>,
    root: usize,
    weak_signature: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    #[error("no pinned root stands above it")]
    Untrusted,
    #[error("more than {max} certificates, or more tries than a walk may make")]
    TooLong { max: usize },
    #[error("the signature on certificate {depth} does not verify by its issuer's key")]
    Signature { depth: usize },
    #[error("certificate {depth} is signed by an algorithm that is not supported")]
    SignatureAlgorithm { depth: usize },
    #[error("certificate {depth} is signed over MD5")]
    SignatureWeak { depth: usize },
    #[error("the issuer of certificate {depth} is not a CA")]
    IssuerNotCa { depth: usize },
    #[error("certificate {depth} stands deeper than its path length allows")]
    PathLength { depth: usize },
    #[error("certificate {depth} is valid from {not_before} to {not_after}, judged at {at}")]
    Expired { depth: usize, not_before: Time, not_after: Time, at: Time },
    #[error("certificate {depth} has the critical extension {oid}, which is not understood")]
    CriticalExtension { depth: usize, oid: String },
    #[error("a name is outside of what certificate {depth} may certify")]
    NameConstraint { depth: usize },
    #[error("certificate {depth} has a key that is not supported")]
    Key { depth: usize },
    #[error("certificate {depth}: {fault}")]
    KeyWeak { depth: usize, fault: KeyFault },
}

impl Path {
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Which of the given roots was matched.
    pub fn root(&self) -> usize {
        self.root
    }

    /// An issuer signed over SHA-1; to be said, not refused.
    pub fn weak_signature(&self) -> bool {
        self.weak_signature
    }
}

/// Walks from `leaf` over `intermediates` to one of `roots`.
///
/// Where several issuers have the right name, all are tried within a budget of signatures. If no
/// path holds, the fault of the walk that came furthest is told.
pub fn verify(
    leaf: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
    now: Time,
) -> Result<Path, ChainError> {
    let mut walk =
        Walk { intermediates, roots, now, tries: 0, worst: ChainError::Untrusted, depth: 0 };
    walk.accept(leaf, 0)?;
    let mut path = vec![leaf.clone()];
    match walk.climb(&mut path) {
        Some(root) => {
            let weak_signature = path.iter().any(is_weakly_signed);
            if let Some(anchor) = roots.get(root) {
                path.push(anchor.clone());
            }
            Ok(Path { certificates: path, root, weak_signature })
        }
        None => Err(walk.worst),
    }
}

struct Walk<'a> {
    intermediates: &'a [Certificate],
    roots: &'a [Certificate],
    now: Time,
    tries: usize,
    worst: ChainError,
    depth: usize,
}

impl Walk<'_> {
    /// Finds a root above the last certificate of `path`, extending it by intermediates.
    fn climb(&mut self, path: &mut Vec<Certificate>) -> Option<usize> {
        let child = path.last()?.clone();
        let depth = path.len().saturating_sub(1);
        for (index, root) in self.roots.iter().enumerate() {
            if !same_name(root.subject(), child.issuer()) {
                continue;
            }
            let step = self.signed_by(&child, root, depth);
            match step.and_then(|()| self.names(path, root, depth + 1)) {
                Ok(()) => return Some(index),
                Err(fault) => self.note(depth, fault, &child, root),
            }
        }
        if path.len() >= MAX_DEPTH {
            self.worst = ChainError::TooLong { max: MAX_DEPTH };
            self.depth = depth;
            return None;
        }
        let candidates = self.intermediates;
        let named = |issuer: &&Certificate| same_name(issuer.subject(), child.issuer());
        for issuer in candidates.iter().filter(named) {
            if path.contains(issuer) {
                continue;
            }
            let step = self
                .accept_issuer(issuer, depth)
                .and_then(|()| self.signed_by(&child, issuer, depth))
                .and_then(|()| self.names(path, issuer, depth + 1));
            if let Err(fault) = step {
                self.note(depth, fault, &child, issuer);
                continue;
            }
            path.push(issuer.clone());
            if let Some(root) = self.climb(path) {
                return Some(root);
            }
            path.pop();
        }
        None
    }

    /// What any certificate below a root must satisfy by itself.
    fn accept(&self, certificate: &Certificate, depth: usize) -> Result<(), ChainError> {
        if let Some(oid) = certificate.extensions().unknown_critical.first() {
            return Err(ChainError::CriticalExtension { depth, oid: oid.clone() });
        }
        let key = certificate.public_key().map_err(|_| ChainError::Key { depth })?;
        if let Some(fault) = key.fault() {
            return Err(ChainError::KeyWeak { depth, fault });
        }
        let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
        // Inclusive at both ends; certificates count whole seconds.
        if self.now.unix_s() < not_before.unix_s() || self.now.unix_s() > not_after.unix_s() {
            return Err(ChainError::Expired { depth, not_before, not_after, at: self.now });
        }
        Ok(())
    }

    fn accept_issuer(&self, issuer: &Certificate, child_depth: usize) -> Result<(), ChainError> {
        let extensions = issuer.extensions();
        let may_sign = extensions.key_usage.is_none_or(|usage| usage & KEY_CERT_SIGN != 0);
        if !extensions.is_ca || !may_sign {
            return Err(ChainError::IssuerNotCa { depth: child_depth });
        }
        // pathLenConstraint counts the CA certificates between this one and the leaf.
        let below = u32::try_from(child_depth).unwrap_or(u32::MAX);
        if extensions.path_len.is_some_and(|limit| below > limit) {
            return Err(ChainError::PathLength { depth: child_depth });
        }
        self.accept(issuer, child_depth + 1)
    }

    fn signed_by(
        &mut self,
        child: &Certificate,
        issuer: &Certificate,
        depth: usize,
    ) -> Result<(), ChainError> {
        self.tries += 1;
        if self.tries > MAX_SIGNATURES {
            return Err(ChainError::TooLong { max: MAX_DEPTH });
        }
        let scheme = match child.signature_scheme() {
            Some(CertificateSignature::Known(scheme)) => scheme,
            Some(CertificateSignature::Md5) => return Err(ChainError::SignatureWeak { depth }),
            None => return Err(ChainError::SignatureAlgorithm { depth }),
        };
        let key = issuer.public_key().map_err(|_| ChainError::Key { depth: depth + 1 })?;
        crypto::verify_signature(scheme, key, child.tbs(), child.signature())
            .map_err(|_| ChainError::Signature { depth })
    }

    /// The names of every certificate below `issuer` must lie in what it may certify.
    fn names(
        &self,
        below: &[Certificate],
        issuer: &Certificate,
        depth: usize,
    ) -> Result<(), ChainError> {
        let Some(constraints) = &issuer.extensions().name_constraints else {
            return Ok(());
        };
        let fault = ChainError::NameConstraint { depth };
        for certificate in below {
            let mut subject = certificate.subject();
            // An empty subject (SEQUENCE of nothing) names nobody.
            if subject == [0x30, 0x00] {
                subject = &[];
            }
            let alternatives = &certificate.extensions().subject_alt_names;
            let directories = alternatives.iter().filter_map(|name| match name {
                AltName::Directory(name) => Some(name.raw.as_slice()),
                _ => None,
            });
            for directory in std::iter::once(subject).chain(directories) {
                if !directory.is_empty() && !allows_directory(constraints, directory) {
                    return Err(fault);
                }
            }
            // Constraints on another form of name are not evaluated: a certificate that has a name
            // of that form is then refused, one without is not concerned.
            let concerned = constraints.permitted.iter().chain(&constraints.excluded).any(|tree| {
                !matches!(tree, AltName::Directory(_))
                    && alternatives
                        .iter()
                        .any(|name| std::mem::discriminant(name) == std::mem::discriminant(tree))
            });
            if concerned {
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Keeps the fault of the deepest try, the first one at that depth. An issuer with the right
    /// name but, by the key identifiers, another key is not the one that signed: no fault at all.
    fn note(&mut self, depth: usize, fault: ChainError, child: &Certificate, issuer: &Certificate) {
        let names = &child.extensions().authority_key_id;
        let has = &issuer.extensions().subject_key_id;
        let stranger = names.is_some() && has.is_some() && names != has;
        let deeper = self.worst == ChainError::Untrusted || depth > self.depth;
        if deeper && !(stranger && matches!(fault, ChainError::Signature { .. })) {
            self.worst = fault;
            self.depth = depth;
        }
    }
}

/// RFC 5280 §6.1.3: inside one permitted subtree if there are any of this form, and in no excluded
/// one. Names are compared as bytes, relative name by relative name.
fn allows_directory(constraints: &NameConstraints, name: &[u8]) -> bool {
    let directories = |trees: &[AltName]| {
        trees
            .iter()
            .filter_map(|tree| match tree {
                AltName::Directory(name) => Some(name.raw.clone()),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let permitted = directories(&constraints.permitted);
    let excluded = directories(&constraints.excluded);
    (permitted.is_empty() || permitted.iter().any(|tree| is_below(tree, name)))
        && !excluded.iter().any(|tree| is_below(tree, name))
}

/// Whether the contents of one SEQUENCE begin with those of the other. Relative names are whole
/// TLVs, so a prefix of bytes that ends at a TLV of the tree ends at one of the name.
fn is_below(tree: &[u8], name: &[u8]) -> bool {
    match (sequence_contents(tree), sequence_contents(name)) {
        (Some(tree), Some(name)) => name.starts_with(tree),
        _ => false,
    }
}

fn sequence_contents(mut name: &[u8]) -> Option<&[u8]> {
    der::take(&mut name).map(|name| name.contents)
}

fn is_weakly_signed(certificate: &Certificate) -> bool {
    matches!(
        certificate.signature_scheme(),
        Some(CertificateSignature::Known(
            SignatureScheme::RsaPkcs1(HashAlgorithm::Sha1)
                | SignatureScheme::EcdsaDer(HashAlgorithm::Sha1)
        ))
    )
}

/// Certificates in a path, the root not counted; a promise of docs/reference/limits.md.
pub const MAX_DEPTH: usize = 8;
/// Signatures that one walk may verify, whatever it is given.
const MAX_SIGNATURES: usize = 32;
/// keyCertSign, RFC 5280 §4.2.1.3, bit 5.
const KEY_CERT_SIGN: u16 = 1 << 5;
