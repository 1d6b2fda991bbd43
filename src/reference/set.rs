//! Named sets of reference values, kept apart from profiles so that an update touches one file.
//!
//! A set is a list of digests (in columns, one per bank), of words (certificates, revoked images,
//! files, each as its kind writes it), or of floors by name. It has its own serial and issuer and
//! is signed like a profile. What `@set:name` in a profile means is found at parse time: a profile
//! that names a set nobody has does not parse.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use assay_evidence::crypto;
use assay_evidence::digest::Digest;
use assay_evidence::digest::HashAlgorithm;
use serde_json::Value;

use crate::canonical;
use crate::reference::ProfileError;
use crate::reference::fields::Fields;
use crate::reference::fields::Node;
use crate::reference::fields::Written;
use crate::reference::fields::refused;

pub const SCHEMA: &str = "reference-set/1";
/// Files of a large host; every other set is far smaller.
const MAX_VALUES: usize = 1_000_000;
const MAX_NAME: usize = 128;
const BANKS: [(&str, HashAlgorithm); 3] = [
    ("sha256", HashAlgorithm::Sha256),
    ("sha384", HashAlgorithm::Sha384),
    ("sha512", HashAlgorithm::Sha512),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub serial: u64,
    pub issuer: String,
    pub content: Content,
    /// SHA-256 of the set's canonical JSON.
    pub sha256: [u8; 32],
    /// What is signed.
    pub canonical: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Digests(DigestSet),
    /// Values by the word that names each: `x509:<sha256>`, `sha256:<hash>`.
    Words(BTreeSet<String>),
    /// The least generation of each component.
    Floor(BTreeMap<String, u64>),
}

/// Digests in rows; a row has one digest per bank of the set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DigestSet {
    /// The events must be these, all of them, in this order.
    pub ordered: bool,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    pub digests: BTreeMap<HashAlgorithm, Digest>,
    /// SHA-256 of the event's data as it was when the row was learned. Where the digest does not
    /// bind that text nothing signs it, so another text is a warning and no more.
    pub text_sha256: Option<[u8; 32]>,
}

/// The sets that a profile may name.
#[derive(Debug, Clone, Default)]
pub struct Sets(BTreeMap<String, Set>);

impl Set {
    /// A file of `sets/`.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let (mut fields, json) = Fields::parse(text)?;
        let schema = fields.required("schema")?;
        if schema != SCHEMA {
            return Err(refused(1, "schema", &schema, SCHEMA));
        }
        Self::from_fields(fields, &json)
    }

    pub(super) fn from_fields(mut fields: Fields, json: &Value) -> Result<Self, ProfileError> {
        let line = fields.line;
        let name = fields.required("name")?;
        if !is_name(&name) {
            return Err(refused(line, "name", &name, "letters, digits, `.`, `_` and `-`"));
        }
        let serial = fields.number("serial")?.unwrap_or(0);
        let issuer = fields.text("issuer")?.unwrap_or_default();
        let content = Content::from_fields(&mut fields)?;
        fields.finish()?;
        let canonical =
            canonical::write(json).map_err(|error| ProfileError::Syntax(error.to_string()))?;
        let sha256 = crypto::sha256(&canonical);
        Ok(Self { name, serial, issuer, content, sha256, canonical })
    }
}

impl Content {
    /// Takes the columns; what else stands there is the caller's.
    pub(super) fn from_fields(fields: &mut Fields) -> Result<Self, ProfileError> {
        let line = fields.line;
        let words = fields.texts("words")?;
        let floor = fields.table("floor")?;
        let digests = DigestSet::from_fields(fields)?;
        match (words, floor, digests) {
            (Some(words), None, None) if words.len() <= MAX_VALUES => {
                Ok(Self::Words(words.into_iter().collect()))
            }
            (None, Some(floor), None) => floor
                .rest()
                .into_iter()
                .map(|(name, node)| match node.value {
                    Written::Number(number) => Ok((name, number)),
                    _ => Err(refused(node.line, "floor", "something else", "a generation")),
                })
                .collect::<Result<_, _>>()
                .map(Self::Floor),
            (None, None, Some(digests)) => Ok(Self::Digests(digests)),
            _ => {
                let expected = "either digests by bank, or `words`, or a `floor`";
                Err(refused(line, "set", "none or several", expected))
            }
        }
    }
}

impl DigestSet {
    fn from_fields(fields: &mut Fields) -> Result<Option<Self>, ProfileError> {
        let line = fields.line;
        let ordered = fields.truth("ordered")?;
        let texts = fields.texts("text")?;
        let mut rows: Vec<Row> = Vec::new();
        let mut length = None;
        for (name, bank) in BANKS {
            let Some(node) = fields.take(name) else { continue };
            let column = node.list(name)?;
            if column.len() > MAX_VALUES || length.is_some_and(|length| length != column.len()) {
                let expected = "as many digests in each bank";
                return Err(refused(line, name, &column.len().to_string(), expected));
            }
            length = Some(column.len());
            rows.resize_with(column.len(), Row::default);
            for (row, node) in rows.iter_mut().zip(column) {
                row.digests.insert(bank, digest(node, name, bank)?);
            }
        }
        let Some(length) = length else {
            return match (ordered, texts) {
                (None, None) => Ok(None),
                _ => Err(refused(line, "ordered", "no digests", "`sha256`, `sha384` or `sha512`")),
            };
        };
        if let Some(texts) = texts {
            if texts.len() != length {
                let found = texts.len().to_string();
                return Err(refused(line, "text", &found, "as many texts as digests"));
            }
            for (row, text) in rows.iter_mut().zip(texts) {
                let bytes = hex::decode(&text).ok().filter(|_| !text.is_empty());
                row.text_sha256 = bytes.and_then(|bytes| bytes.try_into().ok());
                if row.text_sha256.is_none() && !text.is_empty() {
                    return Err(refused(line, "text", &text, "SHA-256 in hex, or nothing"));
                }
            }
        }
        Ok(Some(Self { ordered: ordered.unwrap_or(false), rows }))
    }

    /// The rows that match `digests` in every bank that both have, at least one of them a bank of
    /// `deciding`.
    pub fn rows_for<'a>(
        &'a self,
        digests: &'a dyn Fn(HashAlgorithm) -> Option<Digest>,
        deciding: &'a [HashAlgorithm],
    ) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.matches(digests, deciding))
    }

    pub fn contains(&self, digest: &Digest) -> bool {
        self.rows.iter().any(|row| row.digests.get(&digest.algorithm()) == Some(digest))
    }
}

impl Row {
    pub fn matches(
        &self,
        digests: &dyn Fn(HashAlgorithm) -> Option<Digest>,
        deciding: &[HashAlgorithm],
    ) -> bool {
        let mut compared = false;
        for bank in deciding {
            let (Some(expected), Some(found)) = (self.digests.get(bank), digests(*bank)) else {
                continue;
            };
            if *expected != found {
                return false;
            }
            compared = true;
        }
        compared
    }
}

impl Sets {
    /// Adds a set; a name that is there already is refused.
    pub fn insert(&mut self, set: Set) -> Result<(), ProfileError> {
        if self.0.contains_key(&set.name) {
            return Err(ProfileError::Syntax(format!("set `{}` is there twice", set.name)));
        }
        self.0.insert(set.name.clone(), set);
        Ok(())
    }

    pub fn named(&self, name: &str) -> Option<&Set> {
        self.0.get(name)
    }

    /// What `@set:name` names.
    pub(super) fn resolve(&self, reference: &str, line: usize) -> Result<&Set, ProfileError> {
        let name = reference
            .strip_prefix("@set:")
            .ok_or_else(|| refused(line, "set", reference, "`@set:name`"))?;
        self.named(name)
            .ok_or_else(|| refused(line, "set", reference, "a set of this profile or of `sets/`"))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Set> {
        self.0.values()
    }
}

fn digest(node: Node, name: &str, bank: HashAlgorithm) -> Result<Digest, ProfileError> {
    let line = node.line;
    let text = node.text(name)?;
    hex::decode(&text)
        .ok()
        .and_then(|bytes| Digest::new(bank, &bytes))
        .ok_or_else(|| refused(line, name, &text, "digests of that bank in hex"))
}

pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEAD: &str = "schema = \"reference-set/1\"\nname = \"n\"\nserial = 2\nissuer = \"us\"\n";

    fn parse(body: &str) -> Result<Set, String> {
        Set::parse(&format!("{HEAD}{body}")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_set_is_digests_or_words_or_floors() {
        let one = "11".repeat(32);
        let set = parse(&format!("ordered = true\nsha256 = [\"{one}\"]\ntext = [\"\"]")).unwrap();
        let Content::Digests(digests) = &set.content else { panic!("{set:?}") };
        assert!(digests.ordered && digests.rows.len() == 1);
        assert!(digests.contains(&Digest::new(HashAlgorithm::Sha256, &[0x11; 32]).unwrap()));
        assert!(!digests.contains(&Digest::zero(HashAlgorithm::Sha256)));
        assert!(matches!(parse("words = [\"x509:00\"]").unwrap().content, Content::Words(_)));
        assert!(matches!(parse("floor = { shim = 4 }").unwrap().content, Content::Floor(_)));
    }

    #[test]
    fn ill_formed_sets_are_refused_with_the_line() {
        let one = "11".repeat(32);
        let both = format!("sha256 = [\"{one}\"]\nwords = []");
        let uneven = format!("sha256 = [\"{one}\", \"{one}\"]\nsha384 = []");
        for body in ["", "ordered = true", &both, &uneven, "sha256 = [\"11\"]", "sha1 = []"] {
            let error = parse(body).unwrap_err();
            assert!(error.contains("line"), "{body}: {error}");
        }
        assert!(parse("floor = { shim = \"4\" }").unwrap_err().contains("line 5"));
        assert!(Set::parse("schema = \"reference-set/1\"\nname = \"a/b\"\nwords = []").is_err());
    }

    #[test]
    fn a_row_matches_by_every_bank_that_both_have_and_by_one_at_least() {
        let digest = |bank: HashAlgorithm, byte| Digest::new(bank, &vec![byte; bank.size()]);
        let row = Row {
            digests: [HashAlgorithm::Sha256, HashAlgorithm::Sha384]
                .map(|bank| (bank, digest(bank, 1).unwrap()))
                .into(),
            text_sha256: None,
        };
        let all = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
        assert!(row.matches(&|bank| digest(bank, 1), &all));
        let mixed = |bank| digest(bank, u8::from(bank == HashAlgorithm::Sha256));
        assert!(!row.matches(&mixed, &all));
        assert!(row.matches(&mixed, &all[..1]));
        assert!(!row.matches(&|_| None, &all), "nothing compared is no match");
        assert!(!row.matches(&|bank| digest(bank, 1), &all[2..]));
    }
}
