//! Every fault of refused evidence, for the one who has to mend it.
//!
//! `verify` stops at the first fault, which decides. This asks the same questions in the same order
//! and goes on, so its first fault is that of `verify`; what cannot be asked any more, because its
//! subject could not be read, is left out and not guessed.

use assay_evidence::HashAlgorithm;

use crate::ak::ProvedKey;
use crate::certified;
use crate::error::Error;
use crate::structures::public::Public;
use crate::verify::Evidence;
use crate::verify::Expected;
use crate::verify::Selection;
use crate::verify::Signed;
use crate::verify::UnknownParent;
use crate::verify::accept_fresh;
use crate::verify::accept_same_boot;
use crate::verify::accept_signer;
use crate::verify::certification;
use crate::verify::certified_key;
use crate::verify::certified_names;
use crate::verify::certified_svid_key;
use crate::verify::quoted;
use crate::verify::registers;

/// All faults, the decisive one first; none where `verify` accepts.
pub fn faults(evidence: &Evidence<'_>, key: &ProvedKey, expected: &Expected<'_>) -> Vec<Error> {
    let mut found = Faults(Vec::new());

    // 1. Shape.
    let quote = found.ok(evidence.quote.parse());
    let shown = found.ok(certification(evidence)).flatten();

    // 2. Keys.
    if let Some(shown) = &shown {
        found.ok(certified::accept_svid_public(&shown.public));
    }

    // 3. Signatures.
    if let Some((quote, signature)) = &quote {
        found.ok(key.verify_signature(quote.raw(), signature, expected.min_hash));
    }
    if let Some(shown) = &shown {
        let message = shown.attest.raw();
        found.ok(key.verify_signature(message, &shown.signature, expected.min_hash));
    }

    // 4. Magic and type.
    let covered = quote.as_ref().and_then(|(quote, _)| found.ok(quoted(quote)));
    let names = shown.as_ref().and_then(|shown| found.ok(certified_names(&shown.attest)));

    // 5. Place of the keys.
    if let Some((quote, _)) = &quote {
        found.ok(accept_signer(quote, key, expected.unknown_parent, &mut Vec::new()));
    }
    if let (Some(shown), Some((name, qualified_name))) = (&shown, names) {
        let parent: UnknownParent = expected.unknown_parent;
        found.ok(accept_signer(&shown.attest, key, parent, &mut Vec::new()));
        found.ok(certified::accept_svid_hierarchy(name, qualified_name));
    }

    // 6. Freshness.
    if let Some((quote, _)) = &quote {
        found.ok(accept_fresh(quote, expected.qualifying_data));
    }
    if let Some(shown) = &shown {
        found.ok(accept_fresh(&shown.attest, expected.qualifying_data));
    }

    // 7. The certified key, the selection and the values.
    let certified = match (shown, names) {
        (Some(shown), Some(names)) => {
            found.ok(certified_svid_key(shown, names, expected.svid_spki))
        }
        (None, _) if expected.svid_spki.is_some() && evidence.certify.is_none() => {
            found.ok(Err(Error::Missing("key certification")))
        }
        _ => None,
    };
    if let (Some((_, signature)), Some((selections, pcr_digest))) = (&quote, covered) {
        found.ok(registers::accept_selection(&selections, &expected.selection));
        let hash = signature.scheme.hash();
        match evidence.values {
            Some(values) => {
                found.ok(registers::registers(&selections, values, pcr_digest, hash));
            }
            None if matches!(expected.selection, Selection::Exactly { .. }) => {
                found.ok::<()>(Err(Error::Missing("register values")));
            }
            None => {}
        }
    }

    // 8. Counters.
    if let (Some((quote, _)), Some(certified)) = (&quote, &certified) {
        found.ok(accept_same_boot(quote, certified));
    }
    found.0
}

/// All faults of one certification by itself, the decisive one first; none where `verify_certify`
/// accepts.
pub fn certify_faults(
    certify: Signed<'_>,
    public: &[u8],
    key: &ProvedKey,
    qualifying_data: &[u8],
    min_hash: HashAlgorithm,
    unknown_parent: UnknownParent,
) -> Vec<Error> {
    let mut found = Faults(Vec::new());

    // 1. Shape.
    let shown = found.ok(certify.parse());
    let public = found.ok(Public::parse_file(public));

    // 2. Keys.
    if let Some(fault) = public.as_ref().and_then(|public| public.key().fault()) {
        found.ok::<()>(Err(Error::KeyWeak(fault)));
    }

    let Some((attest, signature)) = shown else { return found.0 };
    // 3. Signature.
    found.ok(key.verify_signature(attest.raw(), &signature, min_hash));

    // 4. Magic and type.
    let names = found.ok(certified_names(&attest));

    // 5. Place of the signer.
    found.ok(accept_signer(&attest, key, unknown_parent, &mut Vec::new()));

    // 6. Freshness.
    found.ok(accept_fresh(&attest, qualifying_data));

    // 7. The certified key.
    if let (Some((name, qualified_name)), Some(public)) = (names, public) {
        found.ok(certified_key(&attest, public, name, qualified_name));
    }
    found.0
}

/// At most one per question. The same fault of both statements is told once.
struct Faults(Vec<Error>);

impl Faults {
    fn ok<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(fault) => {
                if !self.0.contains(&fault) {
                    self.0.push(fault);
                }
                None
            }
        }
    }
}
