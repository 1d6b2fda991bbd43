//! A boot log's facts as the claims that profiles test.

use assay_eventlog::Facts;
use assay_eventlog::Value;
use assay_eventlog::variable::Signature;
use assay_eventlog::variable::SignatureKind;

use crate::reference::requirement::Fact;
use crate::reference::word::Word;

/// What a warning of firmware in register 7 says by its absence needs that register to be known.
const BY_ABSENCE: [&str; 2] = ["boot.dma_protection_disabled", "boot.uefi_debug_mode"];

/// Nothing where the log binds no such thing.
pub(super) fn fact(facts: &Facts, claim: &str, register_7_follows: bool) -> Option<Fact> {
    if BY_ABSENCE.contains(&claim) && !register_7_follows {
        return None;
    }
    Some(match facts.value(claim)? {
        Value::Flag(flag) => Fact::Truth(*flag),
        Value::Text(text) => Fact::Texts(vec![text.clone()]),
        Value::Texts(texts) => Fact::Texts(texts.clone()),
        Value::Signatures(signatures) => Fact::Words(signatures.iter().map(word).collect()),
        Value::Authorities(authorities) => {
            let word = |text: String| Word::from(text.as_str());
            Fact::Words(authorities.iter().map(|a| word(format!("x509:{}", a.sha256))).collect())
        }
        Value::Generations(generations) => Fact::Floor(
            generations.iter().map(|(name, least)| (name.clone(), u64::from(*least))).collect(),
        ),
        _ => return None,
    })
}

fn word(signature: &Signature) -> Word {
    match signature.kind {
        SignatureKind::Sha256 => Word::Sha256(signature.sha256),
        SignatureKind::X509 => Word::X509(signature.sha256),
        kind => Word::Other(format!("{kind}:{}", hex::encode(signature.sha256))),
    }
}
