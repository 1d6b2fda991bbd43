//! One whole list for the command line: what it says, what it replays to, how much is covered.
//!
//! It decides nothing. Where register values are given and the list does not lead to them, the
//! refusal stands beside what was read.

use assay_evidence::Digest;
use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use serde::Serialize;

use crate::Quirks;
use crate::ima::boot_aggregate::Rule;
use crate::ima::entry::Entry;
use crate::ima::error::Error;
use crate::ima::reader::Reader;
use crate::ima::replay::Covered;
use crate::ima::replay::Replay;
use crate::ima::seen::Violation;
use crate::ima::state::State;

#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub entries: u64,
    /// Of them, those of files: none means that IMA is on and measures nothing.
    pub files: u64,
    pub violations: u64,
    /// The first of them; their paths are bound by nothing.
    pub claimed_violations: Vec<Violation>,
    /// In the order of their first use.
    pub templates: Vec<String>,
    pub text: bool,
    /// What the whole list replays to, in the way of the given registers, else by each bank's hash.
    pub registers: Registers,
    pub boot_aggregate: Option<Aggregate>,
    /// Entries of the longest prefix that leads to the given registers.
    pub covered: Option<u64>,
    pub quirks: Quirks,
    /// Given banks whose hash is not computed here.
    pub not_replayed: Vec<HashAlgorithm>,
    pub warnings: Vec<Finding>,
    /// Why the list does not lead to the given registers.
    #[serde(skip)]
    pub refusal: Option<Error>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Aggregate {
    pub algorithm: HashAlgorithm,
    pub digest: Digest,
    /// By which it is that of the given registers.
    pub rule: Option<Rule>,
}

impl Inspection {
    /// Reads a binary or a text list and replays it; with `given`, towards its PCR 10.
    pub fn of(bytes: &[u8], given: Option<&Registers>) -> Result<Inspection, Error> {
        let start = State::boot(0);
        let mut whole = Replay::without_end();
        let towards = given.map(|given| Replay::new(&start, given)).transpose()?;
        let mut towards = towards.map(|towards| towards.with_quirks(Quirks::ALL));
        let mut templates: Vec<String> = Vec::new();

        let mut reader = Reader::new();
        let mut entries = reader.entries(bytes);
        while let Some(entry) = entries.next()? {
            note_template(&mut templates, &entry);
            whole.advance(&entry)?;
            if let Some(towards) = &mut towards {
                towards.advance(&entry)?;
            }
        }
        let text = reader.is_text().ok_or(Error::Empty)?;
        let count = reader.finish()?;

        let covered = towards.map(Replay::finish);
        let state = covered.as_ref().and_then(|covered| covered.as_ref().ok());
        let registers = whole.values(state.map(Covered::state));
        let mut warnings = whole.told().warnings();
        let mut rule = None;
        if let Some(given) = given {
            match whole.state().verify_boot(given) {
                Ok(found) => rule = Some(found),
                Err(error) => warnings.push(error.finding()),
            }
        }
        let not_replayed =
            state.map_or_else(Vec::new, |covered| covered.banks_not_replayed().to_vec());
        let (covered, quirks, refusal) = match covered {
            None => (None, Quirks::NONE, None),
            Some(Ok(covered)) => (Some(covered.state().entries()), covered.quirks(), None),
            Some(Err(error)) => (None, Quirks::NONE, Some(error)),
        };
        Ok(Inspection {
            entries: count,
            files: whole.state().files(),
            violations: whole.state().violations(),
            claimed_violations: whole.told().violations().to_vec(),
            templates,
            text,
            registers,
            boot_aggregate: whole.state().boot_aggregate().map(|aggregate| Aggregate {
                algorithm: aggregate.digest().algorithm(),
                digest: *aggregate.digest(),
                rule,
            }),
            covered,
            quirks,
            not_replayed,
            warnings,
            refusal,
        })
    }
}

fn note_template(templates: &mut Vec<String>, entry: &Entry<'_>) {
    let name = entry.template().name();
    if templates.len() < MAX_TEMPLATES && !templates.iter().any(|known| known == name) {
        templates.push(name.to_owned());
    }
}

/// A kernel knows nine.
const MAX_TEMPLATES: usize = 64;
