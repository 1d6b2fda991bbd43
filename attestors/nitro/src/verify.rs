//! From a signed document to claims: the decisive list.
//!
//! 1. shape of document and certificates, sizes and counts first
//! 2. algorithms: ES384, SHA384, P-384 everywhere
//! 3. the chain to a pinned root, then the document's signature
//! 4. freshness: dates at the time of judging, the timestamp within them, the nonce
//!
//! A genuine document of an enclave in debug mode is genuine; refusing it is an appraisal's.

use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;

use crate::claims::Claims;
use crate::document::Document;
use crate::endorsement::Anchors;
use crate::error::Fault;
use crate::error::Faults;

/// Verifies a document: who signed it, that its chain held at `now`, and that it carries `nonce`
/// where one is expected.
pub fn verify(
    document: &[u8],
    anchors: &Anchors,
    nonce: Option<&[u8]>,
    now: Time,
) -> Result<Claims, Faults> {
    let document = Document::parse(document)?;
    let mut faults = Vec::new();
    if document.digest != "SHA384" {
        faults.push(Fault::Digest { found: document.digest.to_owned() });
    }
    let signed = document.signed();
    let chain = match anchors.chain(&document) {
        Ok(chain) => Some(chain),
        Err(unchained) => {
            faults.extend(unchained.faults);
            faults
                .extend(unchained.leaf.and_then(|leaf| signature_fault(&document, &signed, &leaf)));
            None
        }
    };
    if let Some(chain) = &chain {
        faults.extend(chain.dates(now));
        if let Some(leaf) = chain.certificates.first() {
            faults.extend(signature_fault(&document, &signed, leaf));
            faults.extend(timestamp_fault(&document, leaf, now));
        }
    }
    faults.extend(nonce.and_then(|expected| nonce_fault(&document, expected)));
    match (Faults::of(faults), chain) {
        (None, Some(chain)) => Ok(Claims::new(&document, &chain, &signed, nonce.is_some())),
        (Some(faults), _) => Err(faults),
        (None, None) => Err(Fault::NotADocument.into()),
    }
}

fn signature_fault(document: &Document<'_>, signed: &[u8], leaf: &Certificate) -> Option<Fault> {
    let scheme = SignatureScheme::EcdsaFixed(HashAlgorithm::Sha384);
    let verified = leaf
        .public_key()
        .is_ok_and(|key| crypto::verify_signature(scheme, key, signed, document.signature).is_ok());
    (!verified).then_some(Fault::Signature)
}

/// Signed while its key was certified, and not later than now.
fn timestamp_fault(document: &Document<'_>, leaf: &Certificate, now: Time) -> Option<Fault> {
    let timestamp = document.timestamp;
    let (not_before, not_after) = (leaf.not_before(), leaf.not_after());
    let latest = now + SKEW;
    let inside = (not_before.unix_s()..=not_after.unix_s()).contains(&timestamp.unix_s());
    (!inside || timestamp > latest).then(|| Fault::Timestamp {
        timestamp,
        expected: format!("{not_before} to {not_after}, and not after {latest}"),
    })
}

fn nonce_fault(document: &Document<'_>, expected: &[u8]) -> Option<Fault> {
    // An empty nonce would make every document without one fresh.
    if !expected.is_empty() && document.nonce == Some(expected) {
        return None;
    }
    let found = document.nonce.map_or_else(|| "none".to_owned(), hex::encode);
    Some(Fault::Nonce { found, expected: hex::encode(expected) })
}

/// How far clocks may differ.
const SKEW: Duration = Duration::from_secs(300);
