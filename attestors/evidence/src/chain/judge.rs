//! Everything about a path that is not who signed whom: keys, rights, dates, names, revocation.

use super::ChainError;
use super::Expired;
use super::Lists;
use super::Rules;
use super::Step;
use super::constraint;
use super::same_name;
use crate::certificate::Certificate;
use crate::certificate::Strength;
use crate::crl::RevocationList;

#[derive(Default)]
pub(super) struct Judged {
    /// The most decisive first.
    pub faults: Vec<ChainError>,
    pub warnings: Vec<ChainError>,
    pub not_checked: Vec<String>,
}

/// Judges the certificates from the leaf up, and `root` only for what it says of those below.
pub(super) fn path(rules: &Rules<'_>, steps: &[Step<'_>], root: Option<&Certificate>) -> Judged {
    let mut judged = Judged::default();
    for (depth, step) in steps.iter().enumerate() {
        let certificate = step.certificate;
        judged.faults.extend(key(certificate, depth));
        judged.faults.extend(critical_extension(certificate, depth));
        judged.faults.extend(weak_signature(certificate, depth));
        if let Some(expired) = dates(certificate, depth, rules) {
            match rules.expired {
                Expired::Refuse => judged.faults.push(expired),
                Expired::Warn => judged.warnings.push(expired),
            }
        }
        if step.strength == Some(Strength::Sha1) {
            judged.warnings.push(ChainError::SignatureWeak { depth, hash: "sha1" });
        }
        let (below, _) = steps.split_at(depth);
        if let Some(child) = depth.checked_sub(1) {
            judged.faults.extend(rights(certificate, below, child));
        }
        judged.faults.extend(name_constraints(certificate, below, depth));
    }
    if let Some(root) = root {
        judged.faults.extend(name_constraints(root, steps, steps.len()));
        revocation(rules, steps, root, &mut judged);
    }
    judged.faults.sort_by_key(ChainError::rank);
    judged
}

pub(super) fn key(certificate: &Certificate, depth: usize) -> Option<ChainError> {
    match certificate.public_key() {
        Ok(_) => certificate.key_fault().map(|fault| ChainError::KeyWeak { depth, fault }),
        Err(_) => Some(ChainError::Key { depth }),
    }
}

fn critical_extension(certificate: &Certificate, depth: usize) -> Option<ChainError> {
    let oid = certificate.extensions().unknown_critical.first()?.clone();
    Some(ChainError::CriticalExtension { depth, oid })
}

/// MD5 is refused by its name, whether or not anybody stands above.
fn weak_signature(certificate: &Certificate, depth: usize) -> Option<ChainError> {
    use crate::certificate::CertificateSignature::Md5;
    (certificate.signature_scheme() == Some(Md5))
        .then_some(ChainError::SignatureWeak { depth, hash: "md5" })
}

/// Inclusive at both ends; certificates count whole seconds.
fn dates(certificate: &Certificate, depth: usize, rules: &Rules<'_>) -> Option<ChainError> {
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    let valid = (not_before.unix_s()..=not_after.unix_s()).contains(&rules.now.unix_s());
    (!valid).then_some(ChainError::Expired { depth, not_before, not_after, at: rules.now })
}

/// What an issuer below the root must be to have signed the certificate at `child`.
fn rights(issuer: &Certificate, below: &[Step<'_>], child: usize) -> Option<ChainError> {
    let extensions = issuer.extensions();
    let may_sign = extensions.key_usage.is_none_or(|usage| usage & KEY_CERT_SIGN != 0);
    if !extensions.version_3 || !extensions.is_ca || !may_sign {
        return Some(ChainError::IssuerNotCa { depth: child });
    }
    // pathLenConstraint counts the CA certificates between this one and the leaf, without those
    // that a CA made for itself (RFC 5280 §4.2.1.9).
    let between = below.iter().skip(1).filter(|step| {
        let certificate = step.certificate;
        !same_name(certificate.subject(), certificate.issuer())
    });
    let between = u32::try_from(between.count()).unwrap_or(u32::MAX);
    extensions
        .path_len
        .is_some_and(|limit| between > limit)
        .then_some(ChainError::PathLength { depth: child })
}

/// The names of every certificate below `issuer` must lie in what it may certify.
fn name_constraints(issuer: &Certificate, below: &[Step<'_>], depth: usize) -> Option<ChainError> {
    let constraints = issuer.extensions().name_constraints.as_ref()?;
    below
        .iter()
        .any(|step| !constraint::allows(constraints, step.certificate))
        .then_some(ChainError::NameConstraint { depth })
}

/// Each certificate against the list of its issuer, if there is one.
fn revocation(rules: &Rules<'_>, steps: &[Step<'_>], root: &Certificate, judged: &mut Judged) {
    let lists = rules.lists.all();
    if lists.is_empty() {
        judged.not_checked.push("revocation: no CRL given".into());
        return;
    }
    let issuers = || steps.iter().skip(1).map(|step| step.certificate).chain([root]);
    // Which lists are of an issuer of this path.
    let mut used: Vec<(&RevocationList, &Certificate)> = Vec::new();
    for (index, list) in lists.iter().enumerate() {
        let signer = issuers().enumerate().find_map(|(place, issuer)| {
            let is_root = place + 1 == steps.len();
            let strength = signs(issuer, list, is_root)?;
            Some((issuer, strength))
        });
        match (signer, rules.lists) {
            (Some((issuer, strength)), _) => {
                used.push((list, issuer));
                if strength == Strength::Sha1 {
                    judged.warnings.push(ChainError::RevocationListWeak { list: index });
                }
                if !list.is_current(rules.now) {
                    judged.faults.push(ChainError::RevocationListStale {
                        list: index,
                        this_update: list.this_update(),
                        next_update: list.next_update(),
                        at: rules.now,
                    });
                }
            }
            (None, Lists::Stock(_)) => {}
            (None, _) => judged.faults.push(ChainError::RevocationList { list: index }),
        }
    }
    for (depth, (step, issuer)) in steps.iter().zip(issuers()).enumerate() {
        let certificate = step.certificate;
        let of_issuer =
            || used.iter().filter(|(_, by)| is_same_issuer(by, issuer)).map(|(list, _)| list);
        if !of_issuer().any(|list| list.speaks_of(certificate)) {
            judged
                .not_checked
                .push(format!("revocation of certificate {depth}: no CRL of its issuer"));
        }
        // A serial number is one certificate of its issuer, whichever part the list speaks of.
        if let Some(list) = of_issuer().find(|list| list.is_revoked(certificate.serial())) {
            let this_update = list.this_update();
            judged.faults.push(ChainError::Revoked { depth, this_update });
        }
    }
}

/// An issuer is a name and a key: whoever brings the path chooses by which of its certificates a
/// list is found to be its, and another one must not make the list a stranger's.
fn is_same_issuer(one: &Certificate, other: &Certificate) -> bool {
    let same_key = one.public_key().is_ok() && one.public_key() == other.public_key();
    same_key && same_name(one.subject(), other.subject())
}

/// Whether this issuer made the list and may make one. A root is a name and a key.
fn signs(issuer: &Certificate, list: &RevocationList, is_root: bool) -> Option<Strength> {
    let may_sign = issuer.extensions().key_usage.is_none_or(|usage| usage & CRL_SIGN != 0);
    if !same_name(issuer.subject(), list.issuer()) || !(is_root || may_sign) {
        return None;
    }
    list.verify_also_sha1(issuer.public_key().ok()?).ok()
}

/// keyCertSign and cRLSign, RFC 5280 §4.2.1.3, bits 5 and 6.
const KEY_CERT_SIGN: u16 = 1 << 5;
const CRL_SIGN: u16 = 1 << 6;
