//! The path from a certificate to a pinned root at a given time.
//!
//! A root is a name and a key: its own dates, path length, version and strength are not judged, and
//! it need not have signed itself. Everything below it is: signature over the raw bytes, CA flag,
//! key usage, path length, dates, name constraints, critical extensions, keys, revocation. Our own
//! walk, because 21 of 143 current vendor intermediates carry critical policies that web validators
//! refuse by design.
//!
//! First a path of signatures is looked for, then each certificate on it is judged, so that all its
//! faults are told and not only the first one met. What the last certificate is for, its profile,
//! is not asked here. It builds no path through the network and reads no clock.

mod constraint;
mod judge;
mod name;

use crate::certificate::Certificate;
use crate::certificate::SignedError;
use crate::certificate::Strength;
use crate::crl::RevocationList;
use crate::key::KeyFault;
use crate::key::PublicKey;
use crate::time::Time;

pub use name::same_name;

/// What a path is held against beside the roots.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub now: Time,
    pub expired: Expired,
    pub lists: Lists<'a>,
}

impl Rules<'_> {
    /// The strict ones; revocation is not known.
    pub const fn at(now: Time) -> Rules<'static> {
        Rules { now, expired: Expired::Refuse, lists: Lists::None }
    }
}

/// What becomes of a certificate outside of its dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expired {
    #[default]
    Refuse,
    /// Accepted, and said in [`Path::warnings`].
    Warn,
}

/// Revocation lists at hand. One is an issuer's if it has its name, its key signed it, and the
/// issuer's key usage allows that; such a list must be current. For whom there is none that speaks
/// of it, [`Path::not_checked`] says so.
#[derive(Clone, Copy, Debug)]
pub enum Lists<'a> {
    None,
    /// Given for this one path: a list of no issuer of the path is a fault.
    Given(&'a [RevocationList]),
    /// A stock for many paths: a list of no issuer of this path is passed over, also one that has
    /// an issuer's name but not its signature.
    Stock(&'a [RevocationList]),
}

impl<'a> Lists<'a> {
    fn all(self) -> &'a [RevocationList] {
        match self {
            Lists::None => &[],
            Lists::Given(lists) | Lists::Stock(lists) => lists,
        }
    }
}

/// The certificates of a verified path, the leaf first, the root that was matched last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    certificates: Vec<Certificate>,
    root: usize,
    warnings: Vec<ChainError>,
    not_checked: Vec<String>,
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
    #[error("certificate {depth} is signed over {hash}")]
    SignatureWeak { depth: usize, hash: &'static str },
    #[error("the issuer of certificate {depth} is not a CA")]
    IssuerNotCa { depth: usize },
    #[error("certificate {depth} stands deeper than its path length allows")]
    PathLength { depth: usize },
    #[error("certificate {depth} is valid from {not_before} to {not_after}, judged at {at}")]
    Expired { depth: usize, not_before: Time, not_after: Time, at: Time },
    #[error("certificate {depth} has the extension {oid}, which is critical or cannot be read")]
    CriticalExtension { depth: usize, oid: String },
    #[error("a name is outside of what certificate {depth} may certify")]
    NameConstraint { depth: usize },
    #[error("certificate {depth} has a key that is not supported")]
    Key { depth: usize },
    #[error("certificate {depth}: {fault}")]
    KeyWeak { depth: usize, fault: KeyFault },
    #[error("certificate {depth} is revoked by its issuer's list of {this_update}")]
    Revoked { depth: usize, this_update: Time },
    #[error("revocation list {list} is of no issuer of the path, or not signed by it")]
    RevocationList { list: usize },
    #[error("revocation list {list} is signed over sha1")]
    RevocationListWeak { list: usize },
    #[error("revocation list {list} of {this_update} does not speak of {at}")]
    RevocationListStale { list: usize, this_update: Time, next_update: Option<Time>, at: Time },
}

impl ChainError {
    /// What would have been right, for a line of a refusal.
    pub const fn expected(&self) -> &'static str {
        match self {
            ChainError::Untrusted => "a path to a pinned root",
            ChainError::TooLong { .. } => "a path within the limits",
            ChainError::Signature { .. } => "a signature by the issuer's key",
            ChainError::SignatureAlgorithm { .. } => "RSA or ECDSA over SHA-2",
            ChainError::SignatureWeak { .. } | ChainError::RevocationListWeak { .. } => {
                "a signature over SHA-256 or more"
            }
            ChainError::IssuerNotCa { .. } => "a CA that may sign certificates",
            ChainError::PathLength { .. } => "no more CAs below than the issuer allows",
            ChainError::Expired { .. } => "dates around the time of judging",
            ChainError::CriticalExtension { .. } => "critical extensions that are understood",
            ChainError::NameConstraint { .. } => "names that the issuer may certify",
            ChainError::Key { .. } | ChainError::KeyWeak { .. } => "a key that may be relied on",
            ChainError::Revoked { .. } => "a certificate on no revocation list",
            ChainError::RevocationList { .. } => "a list signed by an issuer of the path",
            ChainError::RevocationListStale { .. } => "a list in force at the time of judging",
        }
    }

    /// How decisive a fault is, the most decisive 0: keys, then signatures and trust, then the
    /// rights of issuers, then what may change with time.
    pub const fn rank(&self) -> u8 {
        match self {
            ChainError::Key { .. } | ChainError::KeyWeak { .. } => 0,
            ChainError::SignatureWeak { .. } | ChainError::SignatureAlgorithm { .. } => 1,
            ChainError::Signature { .. } => 2,
            ChainError::Untrusted => 3,
            ChainError::TooLong { .. } => 4,
            ChainError::IssuerNotCa { .. } | ChainError::PathLength { .. } => 5,
            ChainError::CriticalExtension { .. } => 6,
            ChainError::NameConstraint { .. } => 7,
            ChainError::Expired { .. } => 8,
            ChainError::Revoked { .. } => 9,
            ChainError::RevocationList { .. } => 10,
            ChainError::RevocationListStale { .. } => 11,
            ChainError::RevocationListWeak { .. } => 12,
        }
    }
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
        self.warnings.iter().any(|warning| matches!(warning, ChainError::SignatureWeak { .. }))
    }

    /// What was accepted but must be said: signatures over SHA-1, and dates if the rules say so.
    pub fn warnings(&self) -> &[ChainError] {
        &self.warnings
    }

    /// What could not be asked, each with its reason.
    pub fn not_checked(&self) -> &[String] {
        &self.not_checked
    }
}

/// Walks from `leaf` over `intermediates` to one of `roots` by the strict rules, without lists. The
/// most decisive fault is told.
pub fn verify(
    leaf: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
    now: Time,
) -> Result<Path, ChainError> {
    verify_by(&Rules::at(now), leaf, intermediates, roots)
        .map_err(|faults| faults.into_iter().next().unwrap_or(ChainError::Untrusted))
}

/// The same by other rules, with all faults of the path, the most decisive first; at least one.
///
/// Where several issuers have the right name all are tried within a budget of signatures, those
/// first that the key identifiers point to. If no path is faultless, the faults of the best one are
/// told: one that reaches a root, else the one that comes furthest.
pub fn verify_by(
    rules: &Rules<'_>,
    leaf: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
) -> Result<Path, Vec<ChainError>> {
    let mut walk = Walk { rules, intermediates, roots, tries: 0, best: None };
    let mut steps = vec![Step { certificate: leaf, strength: None }];
    if let Some(path) = walk.climb(&mut steps) {
        return Ok(path);
    }
    let faults = walk.best.map(|best| best.faults).unwrap_or_default();
    Err(if faults.is_empty() { vec![ChainError::Untrusted] } else { faults })
}

/// One certificate on the way up, with what the signature of the next one above it is worth.
#[derive(Clone, Copy)]
struct Step<'a> {
    certificate: &'a Certificate,
    strength: Option<Strength>,
}

struct Walk<'a> {
    rules: &'a Rules<'a>,
    intermediates: &'a [Certificate],
    roots: &'a [Certificate],
    tries: usize,
    best: Option<Ending>,
}

/// A walk that did not come to a good end.
struct Ending {
    anchored: bool,
    length: usize,
    faults: Vec<ChainError>,
}

impl Ending {
    fn is_better_than(&self, other: &Ending) -> bool {
        let score = |ending: &Ending| {
            (ending.anchored, ending.length, std::cmp::Reverse(ending.faults.len()))
        };
        match (self.anchored, other.anchored) {
            (true, true) => self.faults.len() < other.faults.len(),
            _ => score(self) > score(other),
        }
    }
}

impl<'a> Walk<'a> {
    /// Finds a faultless path above the last of `steps`.
    fn climb(&mut self, steps: &mut Vec<Step<'a>>) -> Option<Path> {
        let child = steps.last()?.certificate;
        let mut fault = ChainError::Untrusted;
        for (index, root) in by_hint(self.roots, child) {
            if !self.may_try() {
                fault = ChainError::TooLong { max: MAX_DEPTH };
                break;
            }
            match self.signed_by(steps, root, true) {
                Ok(strength) => {
                    sign(steps, Some(strength));
                    if let Some(path) = self.arrive(steps, index, root) {
                        return Some(path);
                    }
                }
                Err(found) => fault = worse(fault, found, child, root),
            }
        }
        for (_, issuer) in by_hint(self.intermediates, child) {
            if steps.iter().any(|step| step.certificate == issuer) {
                continue;
            }
            if steps.len() >= MAX_DEPTH || !self.may_try() {
                fault = ChainError::TooLong { max: MAX_DEPTH };
                break;
            }
            // A key that may not be relied on proves nothing, but is the fault to tell.
            if let Some(weak) = judge::key(issuer, steps.len()) {
                fault = worse(fault, weak, child, issuer);
                continue;
            }
            match self.signed_by(steps, issuer, false) {
                Ok(strength) => {
                    sign(steps, Some(strength));
                    steps.push(Step { certificate: issuer, strength: None });
                    if let Some(path) = self.climb(steps) {
                        return Some(path);
                    }
                    steps.pop();
                }
                Err(found) => fault = worse(fault, found, child, issuer),
            }
        }
        sign(steps, None);
        self.give_up(steps, fault);
        None
    }

    /// Every issuer that is looked at costs one of the budget.
    fn may_try(&mut self) -> bool {
        self.tries += 1;
        self.tries <= MAX_SIGNATURES
    }

    fn signed_by(
        &self,
        steps: &[Step<'_>],
        issuer: &Certificate,
        is_root: bool,
    ) -> Result<Strength, ChainError> {
        let depth = steps.len().saturating_sub(1);
        let child = steps.last().ok_or(ChainError::Untrusted)?.certificate;
        let key: &PublicKey =
            issuer.public_key().map_err(|_| ChainError::Key { depth: depth + 1 })?;
        let verified = match is_root {
            true => child.verify_signature_of_root(key),
            false => child.verify_signature_also_sha1(key),
        };
        verified.map_err(|error| match error {
            SignedError::Weak { hash } => ChainError::SignatureWeak { depth, hash },
            SignedError::Algorithm => ChainError::SignatureAlgorithm { depth },
            SignedError::Invalid => ChainError::Signature { depth },
        })
    }

    /// At a root: all below it is judged.
    fn arrive(&mut self, steps: &[Step<'_>], index: usize, root: &Certificate) -> Option<Path> {
        let judged = judge::path(self.rules, steps, Some(root));
        if judged.faults.is_empty() {
            let certificates = steps.iter().map(|step| step.certificate).chain([root]).cloned();
            return Some(Path {
                certificates: certificates.collect(),
                root: index,
                warnings: judged.warnings,
                not_checked: judged.not_checked,
            });
        }
        self.note(Ending { anchored: true, length: steps.len(), faults: judged.faults });
        None
    }

    /// Below no root: what is wrong with the way so far, and why it ends.
    fn give_up(&mut self, steps: &[Step<'_>], fault: ChainError) {
        let mut faults = judge::path(self.rules, steps, None).faults;
        faults.push(fault);
        faults.sort_by_key(ChainError::rank);
        faults.dedup();
        self.note(Ending { anchored: false, length: steps.len(), faults });
    }

    fn note(&mut self, ending: Ending) {
        if self.best.as_ref().is_none_or(|best| ending.is_better_than(best)) {
            self.best = Some(ending);
        }
    }
}

fn sign(steps: &mut [Step<'_>], strength: Option<Strength>) {
    if let Some(last) = steps.last_mut() {
        last.strength = strength;
    }
}

/// The candidates that have the issuer's name, those first whose key identifier is the one that
/// the certificate names. The identifier is a hint: one that matches nobody is no fault.
fn by_hint<'a>(
    candidates: &'a [Certificate],
    child: &'a Certificate,
) -> impl Iterator<Item = (usize, &'a Certificate)> {
    let named = move |hinted: bool| {
        candidates.iter().enumerate().filter(move |(_, issuer)| {
            same_name(issuer.subject(), child.issuer()) && is_hinted(child, issuer) == hinted
        })
    };
    named(true).chain(named(false))
}

fn is_hinted(child: &Certificate, issuer: &Certificate) -> bool {
    let named = &child.extensions().authority_key_id;
    named.is_some() && *named == issuer.extensions().subject_key_id
}

/// Of two faults at one place the more decisive one. An issuer with the right name but, by the key
/// identifiers, another key is not the one that signed: no fault at all.
fn worse(
    before: ChainError,
    found: ChainError,
    child: &Certificate,
    issuer: &Certificate,
) -> ChainError {
    let (named, has) = (&child.extensions().authority_key_id, &issuer.extensions().subject_key_id);
    let stranger = named.is_some() && has.is_some() && named != has;
    let says_nothing = matches!(before, ChainError::Untrusted) && !stranger;
    if says_nothing || (!stranger && found.rank() < before.rank()) { found } else { before }
}

/// Certificates in a path, the root not counted; a promise of docs/reference/limits.md.
pub const MAX_DEPTH: usize = 8;
/// Signatures that one walk may verify, whatever it is given.
pub const MAX_SIGNATURES: usize = 32;
