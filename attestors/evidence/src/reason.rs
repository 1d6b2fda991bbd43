//! Every reason for which the product refuses, warns or cannot tell: one enum, one list.
//!
//! A code is a promise to scripts and auditors and never changes its meaning. The list below is the
//! single source: the reference page of the documents is generated from it ([`reasons_md`]). Which
//! fault is told first where there are several is decided by the verifiers, not here.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

mod list;

pub use list::Reason;

impl Reason {
    /// The code as a heading, what it means, where it likely comes from, and what to do.
    fn paragraph(self) -> String {
        format!(
            "## {}\n\n{}.\n\n*Likely cause:* {}.\n\n*What to do:* {}.\n",
            self.code(),
            self.meaning(),
            self.cause(),
            self.remedy()
        )
    }
}

/// The page `docs/reference/reasons.md`, in the order of the alphabet.
pub fn reasons_md() -> String {
    let mut page = String::from(
        "# Reasons\n\n\
         Every code with which Assay refuses, warns or says that it could not tell. This page is\n\
         generated from the program; a code never changes its meaning.\n",
    );
    let mut all: Vec<Reason> = Reason::ALL.to_vec();
    all.sort_by_key(|reason| reason.code());
    for reason in all {
        let _ = write!(page, "\n{}", reason.paragraph());
    }
    page
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a reason code")]
pub struct UnknownReason(String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Reason, UnknownReason> {
        Reason::ALL
            .iter()
            .copied()
            .find(|reason| reason.code() == text)
            .ok_or_else(|| UnknownReason(text.into()))
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One fault as an operator reads it: which claim, found what, expected what, and which line of a
/// profile or policy, or which clause of a specification, asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub code: Reason,
    pub claim: String,
    pub found: String,
    pub expected: String,
    pub source: String,
}

impl Finding {
    pub fn new(
        code: Reason,
        claim: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
        source: impl Into<String>,
    ) -> Finding {
        Finding {
            code,
            claim: claim.into(),
            found: found.into(),
            expected: expected.into(),
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn codes_are_lower_case_words_and_unlike_each_other() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        for code in &codes {
            assert!(
                code.split('-').all(|word| {
                    !word.is_empty()
                        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                }),
                "{code}"
            );
        }
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }

    #[test]
    fn every_code_is_read_again_and_says_what_to_do() {
        for &reason in Reason::ALL {
            assert_eq!(reason.code().parse::<Reason>().unwrap(), reason);
            for text in [reason.meaning(), reason.cause(), reason.remedy()] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{reason}: {text}");
            }
        }
        assert!("nonce_mismatch".parse::<Reason>().is_err());
    }

    #[test]
    fn the_page_has_a_paragraph_for_each() {
        let page = reasons_md();
        assert_eq!(page.matches("\n## ").count(), Reason::ALL.len());
        assert!(page.lines().all(|line| !line.ends_with("..")));
    }
}
