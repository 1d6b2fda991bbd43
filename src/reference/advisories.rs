//! Lists of TPM firmware with known faults: the one that ships, and an operator's own.
//!
//! The list is dated data. Which of it concerns a TPM is asked of `assay_tpm::advisory`; which of
//! it is bearable, of the policy.

use std::sync::LazyLock;

use assay_evidence::crypto;
use assay_tpm::advisory::Advisories;
use assay_tpm::advisory::Advisory;

/// A list with its name and digest, so that a verdict can say what it was judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvisoryList {
    /// `built in`, or the path it came from.
    pub name: String,
    /// The day on which somebody last looked for news.
    pub as_of: String,
    pub advisories: Vec<Advisory>,
    /// SHA-256 of the text.
    pub sha256: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdvisoryError {
    #[error("{0}")]
    Syntax(String),
    #[error("`{key}` is `{found}`, expected {expected}")]
    Value { key: &'static str, found: String, expected: &'static str },
}

impl AdvisoryList {
    pub fn parse(name: &str, text: &str) -> Result<Self, AdvisoryError> {
        let list: Advisories = toml::from_str(text)
            .map_err(|error| AdvisoryError::Syntax(error.to_string().trim_end().to_owned()))?;
        let value = |key, found: &str, expected| AdvisoryError::Value {
            key,
            found: found.to_owned(),
            expected,
        };
        if list.advisory.len() > MAX_ADVISORIES {
            return Err(value("advisory", &list.advisory.len().to_string(), "at most 4096"));
        }
        let dates = list.advisory.iter().map(|advisory| ("date", &advisory.date));
        for (key, date) in std::iter::once(("as_of", &list.as_of)).chain(dates) {
            if !is_day(date) {
                return Err(value(key, date, "a day such as 2026-11-24"));
            }
        }
        for advisory in &list.advisory {
            if advisory.id.is_empty() {
                return Err(value("id", "", "a name such as CVE-2019-16863"));
            }
            let range = (advisory.firmware_from, advisory.firmware_below);
            if matches!(range, (Some(from), Some(below)) if from >= below) {
                let expected = "a `firmware_from` below its `firmware_below`";
                return Err(value("firmware_below", &advisory.id, expected));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            as_of: list.as_of,
            advisories: list.advisory,
            sha256: crypto::sha256(text.as_bytes()),
        })
    }

    /// The list that ships: `firmware-profiles/advisories/tpm.toml`.
    pub fn builtin() -> Self {
        static LIST: LazyLock<Option<AdvisoryList>> =
            LazyLock::new(|| AdvisoryList::parse("built in", TEXT).ok());
        // INVARIANT: the shipped text parses; a test below holds it.
        LIST.clone().unwrap_or_else(|| Self {
            name: "built in".to_owned(),
            as_of: String::new(),
            advisories: Vec::new(),
            sha256: crypto::sha256(TEXT.as_bytes()),
        })
    }
}

/// `2026-11-24`, as far as its form goes.
fn is_day(text: &str) -> bool {
    let form = |(index, byte): (usize, u8)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    text.len() == 10 && text.bytes().enumerate().all(form)
}

const TEXT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-profiles/advisories/tpm.toml"));
const MAX_ADVISORIES: usize = 4_096;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_shipped_list_parses_and_names_its_sources() {
        let list = AdvisoryList::parse("built in", TEXT).unwrap();
        assert_eq!(list, AdvisoryList::builtin());
        assert!(!list.advisories.is_empty());
        for advisory in &list.advisories {
            assert!(advisory.source.starts_with("https://"), "{}", advisory.id);
            assert!(advisory.manufacturer.starts_with("id:"), "{}", advisory.id);
        }
        println!("{} ranges as of {}", list.advisories.len(), list.as_of);
    }

    #[test]
    fn a_list_that_could_mean_anything_is_refused() {
        let refused = |text: &str| AdvisoryList::parse("x", text).unwrap_err().to_string();
        assert!(refused("").contains("as_of"));
        assert!(refused("as_of = \"today\"").contains("as_of"));
        assert!(refused("as_of = \"2026-11-24\"\nadvisories = []").contains("advisories"));
        let advisory = |keys: &str| {
            refused(&format!(
                "as_of = \"2026-11-24\"\n[[advisory]]\nid = \"A\"\ndate = \"2020-01-01\"\n\
                 manufacturer = \"id:0\"\nseverity = \"low\"\nsource = \"s\"\n{keys}\n"
            ))
        };
        let empty =
            "firmware_from = \"0x0000000000000002\"\nfirmware_below = \"0x0000000000000002\"";
        assert!(advisory(empty).contains("firmware_below"));
        assert!(advisory("firmware = \"1\"").contains("firmware"));
    }
}
