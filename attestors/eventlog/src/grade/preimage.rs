//! Texts that a log has only as digests: the host sends them, and hashing says whether to listen.
//!
//! A text that hashes to an event's digest is what was measured, whoever sent it. One that does
//! not is worth nothing.

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::crypto;

use crate::event_type::EventType;
use crate::grade::Rule;
use crate::log::Event;

/// What each text hashes to, under each rule and in each bank.
pub(super) struct Preimages(Vec<(Rule, Vec<Digest>)>);

impl Preimages {
    pub fn new(texts: &[&[u8]], banks: impl Iterator<Item = HashAlgorithm>) -> Preimages {
        if texts.is_empty() {
            return Preimages(Vec::new());
        }
        let banks: Vec<HashAlgorithm> = banks.collect();
        let mut all = Vec::new();
        for (which, text) in texts.iter().enumerate().take(MAX_PREIMAGES) {
            let text = preimage_text(text);
            if text.is_empty() || text.len() > MAX_PREIMAGE {
                continue;
            }
            let digests = |parts: &[&[u8]]| -> Vec<Digest> {
                banks.iter().filter_map(|&bank| crypto::hash(bank, parts)).collect()
            };
            if let Ok(text) = std::str::from_utf8(text) {
                let wide: Vec<u8> = text
                    .encode_utf16()
                    .chain([0])
                    .flat_map(|unit: u16| unit.to_le_bytes())
                    .collect();
                all.push((Rule::PreimageUtf16(which), digests(&[&wide])));
            }
            all.push((Rule::Preimage(which), digests(&[text])));
            all.push((Rule::PreimageNul(which), digests(&[text, &[0]])));
        }
        Preimages(all)
    }

    /// The Linux stub measures its load options, systemd-stub the section and what was added to it.
    pub fn rule(&self, event: &Event<'_>) -> Option<Rule> {
        if !matches!(event.kind(), EventType::IPL | EventType::EVENT_TAG) {
            return None;
        }
        let binds = |digests: &[Digest]| {
            !digests.is_empty()
                && digests.iter().all(|digest| event.digest(digest.algorithm()) == Some(*digest))
        };
        self.0.iter().find(|(_, digests)| binds(digests)).map(|(rule, _)| *rule)
    }
}

/// `/proc/cmdline` ends with a line break that nobody measured.
pub(crate) fn preimage_text(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

/// Texts that are tried at most.
pub const MAX_PREIMAGES: usize = 16;
/// Bytes of such a text.
pub const MAX_PREIMAGE: usize = 64 * 1024;
