//! What a log says that its digests bind: the facts that a policy may read.
//!
//! A fact comes from a bound event only and carries the numbers of its events. Where two events
//! contradict each other there is no fact, and where something did *not* happen the fact rests on
//! the digest that it would have had, since a text can be relabelled and a digest cannot.
//!
//! Facts are worth as much as the registers they were replayed to. They can be written out and
//! never read in:
//!
//! ```compile_fail,E0451
//! fn forge(genuine: assay_eventlog::Facts) -> assay_eventlog::Facts {
//!     assay_eventlog::Facts { facts: Default::default(), ..genuine }
//! }
//! ```

use std::collections::BTreeMap;

use assay_evidence::HashAlgorithm;
use serde::Serialize;
use serde::Serializer;

use crate::grade::Grades;
use crate::log::Format;
use crate::log::Log;
use crate::variable::Guid;
use crate::variable::Signature;

mod boot;
mod secure_boot;

/// Facts by name, as in the specification of profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    facts: BTreeMap<&'static str, Fact>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    value: Value,
    events: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Value {
    Flag(bool),
    Text(String),
    /// Several texts that all hold; a rule about one of them has to hold for each.
    Texts(Vec<String>),
    /// Entries of db, dbx, KEK, PK.
    Signatures(Vec<Signature>),
    /// Who signed what was started.
    Authorities(Vec<Authority>),
    /// SBAT: component → generation.
    Generations(BTreeMap<String, u32>),
    /// Sections of a unified kernel image, in the order in which they were measured.
    Sections(Vec<Section>),
    /// Register → `ok`, `error` or `repeated`.
    Separators(BTreeMap<u32, &'static str>),
}

/// The certificate, or the digest, by which Secure Boot or shim let something run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authority {
    /// The list it was found in: `db`, `Shim`, `MokListRT`, `vendor_db`, …
    pub variable: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Guid>,
    /// Of the certificate; of a digest entry the digest itself.
    pub sha256: String,
    pub event: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    pub name: String,
    /// Of the contents, by bank.
    pub digests: BTreeMap<HashAlgorithm, String>,
    pub event: usize,
}

impl Facts {
    pub fn fact(&self, name: &str) -> Option<&Fact> {
        self.facts.get(name)
    }

    pub fn value(&self, name: &str) -> Option<&Value> {
        self.facts.get(name).map(|fact| &fact.value)
    }

    /// Nothing where there is no such fact, or it is no flag.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The one text, or all of several; empty where there is none.
    pub fn texts(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::Text(text)) => std::slice::from_ref(text),
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    pub fn signatures(&self, name: &str) -> Option<&[Signature]> {
        match self.value(name)? {
            Value::Signatures(signatures) => Some(signatures),
            _ => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Fact)> {
        self.facts.iter().map(|(name, fact)| (*name, fact))
    }

    fn insert(&mut self, name: &'static str, value: Value, events: Vec<usize>) {
        self.facts.insert(name, Fact { value, events });
    }
}

impl Fact {
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Numbers of the events that it rests on; none where it rests on what is not in the log.
    pub fn events(&self) -> &[usize] {
        &self.events
    }
}

impl Log<'_> {
    /// What the log says, as far as `grades` bind it. `preimages` are the texts that were given for
    /// grading.
    pub fn facts(&self, grades: &Grades, preimages: &[&[u8]]) -> Facts {
        let mut facts = Facts::default();
        secure_boot::facts(self, grades, &mut facts);
        boot::facts(self, grades, preimages, &mut facts);
        facts
    }
}

impl Format {
    /// Where this kind of log holds what a TPM has in register `pcr` (TDX: UEFI 2.10, §38.4.1).
    pub const fn register_of_pcr(self, pcr: u32) -> u32 {
        match (self, pcr) {
            (Format::CryptoAgile | Format::Sha1, pcr) => pcr,
            (Format::Ccel, 0 | 1 | 7) => 1,
            (Format::Ccel, 2..=6) => 2,
            (Format::Ccel, _) => 3,
        }
    }
}

impl Serialize for Facts {
    /// Names and bare values; [`Facts::iter`] tells the events.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.facts.iter().map(|(name, fact)| (name, &fact.value)))
    }
}
