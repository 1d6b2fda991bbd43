//! A word of a set that names a value of a signature list: a kind, a colon, SHA-256 in hex.
//!
//! A revocation list has hundreds of them, so the usual kinds are kept as bytes: they are compared
//! with what a log holds without being written out. What is written otherwise stays as it is, and
//! is equal to nothing but itself.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// The digest of an image.
    Sha256([u8; 32]),
    /// That of a certificate.
    X509([u8; 32]),
    Other(String),
}

impl From<&str> for Word {
    /// Only lower-case hex is read, so that a word is always written as it was read.
    fn from(text: &str) -> Self {
        let bytes = |hex: &str| {
            let mut bytes = [0; 32];
            let lower = !hex.bytes().any(|byte| byte.is_ascii_uppercase());
            (lower && hex::decode_to_slice(hex, &mut bytes).is_ok()).then_some(bytes)
        };
        let known = match text.split_once(':') {
            Some(("sha256", hex)) => bytes(hex).map(Self::Sha256),
            Some(("x509", hex)) => bytes(hex).map(Self::X509),
            _ => None,
        };
        known.unwrap_or_else(|| Self::Other(text.to_owned()))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(bytes) => write!(f, "sha256:{}", hex::encode(bytes)),
            Self::X509(bytes) => write!(f, "x509:{}", hex::encode(bytes)),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_written_as_it_was_read_and_kept_as_bytes_if_it_is_a_digest() {
        let (one, upper) = ("ab".repeat(32), "AB".repeat(32));
        assert_eq!(Word::from(format!("sha256:{one}").as_str()), Word::Sha256([0xab; 32]));
        assert_eq!(Word::from(format!("x509:{one}").as_str()), Word::X509([0xab; 32]));
        let kinds = ["sha256", "x509", "sha1", ""];
        let values = [one.as_str(), &upper, &one[1..], "", "zz"];
        for text in kinds.iter().flat_map(|kind| values.map(|value| format!("{kind}:{value}"))) {
            let word = Word::from(text.as_str());
            assert_eq!(word.to_string(), text);
            let digest = text.ends_with(&format!("256:{one}")) || text == format!("x509:{one}");
            assert_eq!(!matches!(word, Word::Other(_)), digest, "{text}");
        }
    }
}
