//! Names inside the subtrees that an issuer may, or may not, certify (RFC 5280 §4.2.1.10).
//!
//! Directory names are compared relative name by relative name, letters without case and spaces
//! folded, whatever string type they came in. Where two cannot be compared, a permitted subtree
//! does not permit and an excluded one excludes. Constraints on other forms of name are not
//! evaluated: a certificate that has a name of such a form is refused, one without is not
//! concerned. A name that could not be read may be of any form, so that any constraint refuses it.

use crate::certificate::AltName;
use crate::certificate::Certificate;
use crate::certificate::Name;
use crate::certificate::NameConstraints;

pub(super) fn allows(constraints: &NameConstraints, certificate: &Certificate) -> bool {
    let alternatives = &certificate.extensions().subject_alt_names;
    if alternatives.iter().any(|name| name.form() == UNKNOWN_FORM) {
        return false;
    }
    let mut directories = alternatives.iter().filter_map(directory).collect::<Vec<_>>();
    // An empty subject names nobody.
    if !certificate.subject_name().is_empty() {
        directories.push(certificate.subject_name());
    }
    let permitted: Vec<_> = constraints.permitted.iter().filter_map(directory).collect();
    let excluded: Vec<_> = constraints.excluded.iter().filter_map(directory).collect();
    let inside = |name: &&Name| {
        (permitted.is_empty() || permitted.iter().any(|tree| is_below(tree, name) == Some(true)))
            && excluded.iter().all(|tree| is_below(tree, name) == Some(false))
    };
    let mut others = constraints
        .permitted
        .iter()
        .chain(&constraints.excluded)
        .filter(|tree| directory(tree).is_none());
    directories.iter().all(inside) && !others.any(|tree| concerns(tree.form(), certificate))
}

fn directory(name: &AltName) -> Option<&Name> {
    match name {
        AltName::Directory(name) => Some(name),
        _ => None,
    }
}

/// Whether a certificate has a name of this form. Addresses stand in the subject too.
fn concerns(form: &str, certificate: &Certificate) -> bool {
    let addresses = certificate.subject_name().relative_names.iter().flatten();
    form == UNKNOWN_FORM
        || certificate.extensions().subject_alt_names.iter().any(|name| name.form() == form)
        || (form == "rfc822Name" && addresses.clone().any(|(oid, _)| oid == EMAIL_ADDRESS))
}

/// Whether the name begins with all of the tree's relative names; nothing if that cannot be said.
fn is_below(tree: &Name, name: &Name) -> Option<bool> {
    if tree.relative_names.len() > name.relative_names.len() {
        return Some(false);
    }
    let mut all = Some(true);
    for (left, right) in tree.relative_names.iter().zip(&name.relative_names) {
        match same(left, right) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

/// Relative names are sets. A text that could not be read is empty and compares with nothing.
fn same(left: &[(String, String)], right: &[(String, String)]) -> Option<bool> {
    let folded = |set: &[(String, String)]| {
        let mut all: Vec<_> =
            set.iter().map(|(oid, text)| (oid.clone(), text.trim().to_owned())).collect();
        for (_, text) in &mut all {
            *text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        }
        all.sort_unstable();
        all
    };
    let (left, right) = (folded(left), folded(right));
    let kinds =
        |set: &[(String, String)]| set.iter().map(|(oid, _)| oid.clone()).collect::<Vec<_>>();
    if kinds(&left) != kinds(&right) {
        return Some(false);
    }
    let readable = left.iter().chain(&right).all(|(_, text)| !text.is_empty());
    readable.then(|| left == right)
}

const UNKNOWN_FORM: &str = "unknown";
const EMAIL_ADDRESS: &str = "1.2.840.113549.1.9.1";
