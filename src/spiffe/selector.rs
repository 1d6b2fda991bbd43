//! A selector: a kind of fact and its value, `unix:uid:1000`.
//!
//! The type is everything before the first colon, the value everything after it, as on SPIRE's
//! command line.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

const MAX_TYPE_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 1_024;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a selector is `type:value` (type at most 64 bytes, value at most 1024), found `{0}`")]
pub struct SelectorError(pub String);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    kind: String,
    value: String,
}

impl Selector {
    pub fn new(kind: &str, value: &str) -> Result<Self, SelectorError> {
        let valid = (1..=MAX_TYPE_BYTES).contains(&kind.len())
            && (1..=MAX_VALUE_BYTES).contains(&value.len())
            && !kind.contains(':')
            && !kind.chars().chain(value.chars()).any(char::is_control);
        if !valid {
            return Err(SelectorError(format!("{kind}:{value}")));
        }
        Ok(Self { kind: kind.to_owned(), value: value.to_owned() })
    }

    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let (kind, value) = text.split_once(':').ok_or_else(|| SelectorError(text.to_owned()))?;
        Self::new(kind, value)
    }

    /// The type: `unix`, `assay`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;
    fn try_from(text: String) -> Result<Self, SelectorError> {
        Self::parse(&text)
    }
}

impl From<Selector> for String {
    fn from(value: Selector) -> Self {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_colon_divides() {
        let selector = Selector::parse("unix:path:/usr/bin/web").unwrap();
        assert_eq!((selector.kind(), selector.value()), ("unix", "path:/usr/bin/web"));
    }

    #[test]
    fn incomplete_selectors_are_refused() {
        for text in ["", "unix", "unix:", ":uid", "unix:a\nb"] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
        assert!(Selector::new("a:b", "c").is_err());
        assert!(Selector::new("unix", &"x".repeat(1_025)).is_err());
    }
}
