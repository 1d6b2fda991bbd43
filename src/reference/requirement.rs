//! Tests on content: what a claim that a digest binds must say.
//!
//! The claims are a closed list. What a log says beyond it, no digest binds: a profile that wants
//! to test such a field does not parse.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::reference::ProfileError;
use crate::reference::Sets;
use crate::reference::fields::Fields;
use crate::reference::fields::Node;
use crate::reference::fields::Written;
use crate::reference::fields::refused;
use crate::reference::pattern;
use crate::reference::set::Content;
use crate::reference::word::Word;

/// The claims of a boot that can be bound, and what kind of value each has.
pub const CLAIMS: [(&str, Kind); 14] = [
    ("sb.enabled", Kind::Truth),
    ("sb.pk", Kind::Words),
    ("sb.kek", Kind::Words),
    ("sb.db", Kind::Words),
    ("sb.dbx", Kind::Words),
    ("sb.authority", Kind::Words),
    ("sb.sbat", Kind::Floor),
    ("sb.mok_validation", Kind::Truth),
    ("boot.cmdline", Kind::Text),
    ("boot.dma_protection_disabled", Kind::Truth),
    ("boot.uefi_debug_mode", Kind::Truth),
    ("boot.exit_boot_services", Kind::Truth),
    ("fw.gce_technology", Kind::Text),
    ("fw.version", Kind::Text),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Truth,
    Text,
    Words,
    Floor,
}

/// A value as a log's bound facts give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    Truth(bool),
    /// One, or several of which a test has to hold for each.
    Texts(Vec<String>),
    Words(BTreeSet<Word>),
    Floor(BTreeMap<String, u64>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub claim: String,
    pub line: usize,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    IsTruth(bool),
    /// `*` and `?` stand for any text and any character.
    IsText(String),
    /// Every element is in the union of these sets.
    Within {
        words: BTreeSet<Word>,
        names: Vec<String>,
    },
    /// Every element of these sets is there.
    Includes {
        words: BTreeSet<Word>,
        names: Vec<String>,
    },
    /// No component is below its floor, and each that has one is there.
    AtLeast {
        floor: BTreeMap<String, u64>,
        name: String,
    },
}

impl Requirement {
    pub(super) fn from_fields(mut fields: Fields, sets: &Sets) -> Result<Self, ProfileError> {
        let line = fields.line;
        let claim = fields.required("claim")?;
        let kind = kind(&claim).ok_or_else(|| {
            let expected = "a claim that a digest binds, such as `sb.enabled`";
            refused(line, "claim", &claim, expected)
        })?;
        let tests = ["is", "within", "includes", "at_least"];
        let mut found = tests.iter().filter_map(|test| Some((*test, fields.take(test)?)));
        let (Some((test, node)), None) = (found.next(), found.next()) else {
            return Err(refused(
                line,
                "require",
                "no test or several",
                "one of `is`, `within`, `includes`, `at_least`",
            ));
        };
        let test = match (test, kind, &node.value) {
            ("is", Kind::Truth, Written::Truth(truth)) => Test::IsTruth(*truth),
            ("is", Kind::Text, Written::Text(text)) => Test::IsText(text.clone()),
            ("within", Kind::Words, _) => {
                let (words, names) = union(node, sets)?;
                Test::Within { words, names }
            }
            ("includes", Kind::Words, _) => {
                let (words, names) = union(node, sets)?;
                Test::Includes { words, names }
            }
            ("at_least", Kind::Floor, Written::Text(name)) => {
                match &sets.resolve(name, node.line)?.content {
                    Content::Floor(floor) => {
                        Test::AtLeast { floor: floor.clone(), name: name.clone() }
                    }
                    _ => return Err(refused(node.line, "at_least", name, "a set with a `floor`")),
                }
            }
            (test, _, _) => {
                let expected = match kind {
                    Kind::Truth => "`is` with true or false",
                    Kind::Text => "`is` with a text",
                    Kind::Words => "`within` or `includes` with sets",
                    Kind::Floor => "`at_least` with a set",
                };
                return Err(refused(node.line, &claim, test, expected));
            }
        };
        fields.finish()?;
        Ok(Self { claim, line, test })
    }

    /// What differs, as (found, expected); nothing where the test holds. A claim that is not there
    /// holds no test.
    pub fn differs(&self, fact: Option<&Fact>) -> Option<(String, String)> {
        let expected = || self.test.to_string();
        let Some(fact) = fact else { return Some(("no bound value".to_owned(), expected())) };
        match (&self.test, fact) {
            (Test::IsTruth(truth), Fact::Truth(found)) => {
                (truth != found).then(|| (found.to_string(), expected()))
            }
            (Test::IsText(glob), Fact::Texts(found)) => {
                let other = found.iter().find(|found| !pattern::matches(glob, found));
                other.map(|found| (found.clone(), expected()))
            }
            (Test::Within { words, .. }, Fact::Words(found)) => {
                let alien: Vec<_> = found.difference(words).collect();
                (!alien.is_empty()).then(|| (some_of(&alien), expected()))
            }
            (Test::Includes { words, .. }, Fact::Words(found)) => {
                let missing: Vec<_> = words.difference(found).collect();
                let text = || format!("without {}", some_of(&missing));
                (!missing.is_empty()).then(|| (text(), expected()))
            }
            (Test::AtLeast { floor, .. }, Fact::Floor(found)) => {
                let below = floor.iter().find(|(name, least)| found.get(*name) < Some(least));
                below.map(|(name, least)| {
                    let found = found.get(name).map_or("absent".to_owned(), u64::to_string);
                    (format!("{name} {found}"), format!("{name} {least} or later"))
                })
            }
            _ => Some(("a value of another kind".to_owned(), expected())),
        }
    }
}

pub fn kind(claim: &str) -> Option<Kind> {
    CLAIMS.iter().find(|(name, _)| *name == claim).map(|(_, kind)| *kind)
}

fn union(node: Node, sets: &Sets) -> Result<(BTreeSet<Word>, Vec<String>), ProfileError> {
    let line = node.line;
    let names = match node.value {
        Written::Text(name) => vec![name],
        Written::List(list) => {
            list.into_iter().map(|node| node.text("set")).collect::<Result<Vec<_>, _>>()?
        }
        _ => return Err(refused(line, "set", "something else", "`@set:name`, or a list")),
    };
    let mut words = BTreeSet::new();
    for name in &names {
        match &sets.resolve(name, line)?.content {
            Content::Words(set) => words.extend(set.iter().map(|word| Word::from(word.as_str()))),
            _ => return Err(refused(line, "set", name, "a set of `words`")),
        }
    }
    Ok((words, names))
}

/// Enough to act on: a list of revoked images has thousands.
fn some_of(words: &[&Word]) -> String {
    let mut text: Vec<String> = words.iter().take(3).map(ToString::to_string).collect();
    let more = words.len().saturating_sub(text.len());
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::IsTruth(truth) => write!(f, "{truth}"),
            Self::IsText(text) => f.write_str(text),
            Self::Within { names, .. } => write!(f, "nothing outside {}", names.join(", ")),
            Self::Includes { names, .. } => write!(f, "all of {}", names.join(", ")),
            Self::AtLeast { name, .. } => write!(f, "at least {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn requirement(text: &str) -> Result<Requirement, String> {
        let mut sets = Sets::default();
        for set in ["name = \"a\"\nwords = [\"1\", \"2\"]", "name = \"f\"\nfloor = { shim = 4 }"] {
            let head = "schema = \"reference-set/1\"\n";
            sets.insert(crate::reference::Set::parse(&format!("{head}{set}")).unwrap()).unwrap();
        }
        let (fields, _) = Fields::parse(text).unwrap();
        Requirement::from_fields(fields, &sets).map_err(|error| error.to_string())
    }

    fn words(list: &[&str]) -> Fact {
        Fact::Words(list.iter().map(|word| Word::from(*word)).collect())
    }

    #[test]
    fn a_field_that_no_digest_binds_does_not_compile() {
        for claim in ["boot.path", "sb", "event.3.text", ""] {
            let error = requirement(&format!("claim = \"{claim}\"\nis = true")).unwrap_err();
            assert!(error.contains("a digest binds"), "{error}");
        }
        assert!(requirement("claim = \"sb.enabled\"").is_err());
        assert!(requirement("claim = \"sb.enabled\"\nis = true\nwithin = []").is_err());
        assert!(requirement("claim = \"sb.enabled\"\nis = \"yes\"").is_err());
        assert!(requirement("claim = \"sb.db\"\nwithin = \"@set:f\"").is_err());
        assert!(requirement("claim = \"sb.db\"\nwithin = \"@set:none\"").is_err());
        assert!(requirement("claim = \"sb.sbat\"\nat_least = \"@set:a\"").is_err());
    }

    #[test]
    fn within_includes_floor_and_is_hold_or_differ() {
        let within = requirement("claim = \"sb.db\"\nwithin = [\"@set:a\"]").unwrap();
        assert_eq!(within.differs(Some(&words(&["1"]))), None);
        assert_eq!(within.differs(Some(&words(&["1", "3"]))).unwrap().0, "3");
        let includes = requirement("claim = \"sb.dbx\"\nincludes = \"@set:a\"").unwrap();
        assert_eq!(includes.differs(Some(&words(&["1", "2", "3"]))), None);
        assert_eq!(includes.differs(Some(&words(&["1"]))).unwrap().0, "without 2");
        let floor = requirement("claim = \"sb.sbat\"\nat_least = \"@set:f\"").unwrap();
        let fact = |n| Fact::Floor([("shim".to_owned(), n)].into());
        assert_eq!(floor.differs(Some(&fact(4))), None);
        assert_eq!(floor.differs(Some(&fact(3))).unwrap().0, "shim 3");
        assert!(floor.differs(Some(&Fact::Floor(BTreeMap::new()))).is_some());
        let is = requirement("claim = \"sb.enabled\"\nis = true").unwrap();
        assert_eq!(is.differs(Some(&Fact::Truth(true))), None);
        assert!(is.differs(Some(&Fact::Truth(false))).is_some());
        assert!(is.differs(None).is_some() && is.differs(Some(&fact(1))).is_some());
    }
}
