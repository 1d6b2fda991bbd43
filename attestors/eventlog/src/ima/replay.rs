//! Entries into register values, until they are those that were quoted.
//!
//! A list is read after its quote and goes on meanwhile, so it may be longer than the quote: what
//! counts is the longest prefix that leads to the quoted value in *every* quoted bank. Since each
//! value is a hash over the one before, there is at most one such prefix, and the first is the
//! longest. Entries behind it are covered by nothing and are only counted.
//!
//! Until [`Replay::finish`] nothing that was read is a fact: a list that never leads there may say
//! what it likes.
//!
//! How a kernel extends a bank (see [`Mode`]) is not written anywhere. A node's first round tries
//! each way; the state then keeps the one that led to the quote.

use assay_evidence::Digest;
use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use assay_evidence::crypto;

use crate::Quirk;
use crate::Quirks;
use crate::ima::REGISTER;
use crate::ima::boot_aggregate;
use crate::ima::boot_aggregate::BootAggregate;
use crate::ima::boot_aggregate::Rule;
use crate::ima::entry;
use crate::ima::entry::Entry;
use crate::ima::entry::Kind;
use crate::ima::error::Error;
use crate::ima::lane::Hashed;
use crate::ima::lane::Lane;
use crate::ima::lane::ROOM;
use crate::ima::seen::Seen;
use crate::ima::seen::Violation;
use crate::ima::state;
use crate::ima::state::Bank;
use crate::ima::state::Mode;
use crate::ima::state::Modes;
use crate::ima::state::State;
use crate::ima::state::Watched;

/// A list on its way to the quoted values.
#[derive(Clone, Debug)]
pub struct Replay<'a> {
    state: State,
    quoted: Vec<Digest>,
    /// Registers of the boot among them, which every boot aggregate is of.
    boot: Registers,
    /// Quoted banks that nothing here computes.
    unknown: Vec<HashAlgorithm>,
    lanes: Vec<Lane>,
    room: [u8; ROOM],
    watched: Vec<&'a [u8]>,
    columns: Columns,
    quirks: Quirks,
    /// The lanes hold an entry by which they are not extended yet.
    loaded: bool,
    reached: bool,
    within: u64,
    beyond: u64,
    seen: Seen,
}

/// Where an entry stands to the quote, if the quote is reached at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Within,
    /// Behind the covered prefix: appended after the quote, or by anybody.
    Beyond,
}

/// Whether the digest column is held against the computed digest. It never decides; comparing it
/// costs one more hash where the column's algorithm is no quoted bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    Compare,
    Ignore,
}

/// A verified prefix of a list. It can be made only by replaying one to quoted values.
///
/// ```compile_fail,E0451
/// fn forge(genuine: assay_eventlog::ima::Covered) -> assay_eventlog::ima::Covered {
///     assay_eventlog::ima::Covered { within: 7, ..genuine }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Covered {
    state: State,
    within: u64,
    beyond: u64,
    unknown: Vec<HashAlgorithm>,
    seen: Seen,
}

impl<'a> Replay<'a> {
    /// Goes on where `state` ends, towards the value of PCR 10 in every bank of `quoted` that can be
    /// computed: what is not is told by [`Covered::banks_not_replayed`]. Other registers in it do
    /// not matter here.
    pub fn new(state: &State, quoted: &Registers) -> Result<Replay<'a>, Error> {
        let boot = quoted.clone();
        let quoted: Vec<Digest> =
            quoted.keys().filter_map(|bank| quoted.value(*bank, REGISTER).copied()).collect();
        if quoted.is_empty() {
            return Err(Error::NotQuoted { register: REGISTER });
        }
        let computed = |value: &Digest| crypto::hash(value.algorithm(), &[]).is_some();
        let (quoted, unknown): (Vec<_>, Vec<_>) = quoted.into_iter().partition(computed);
        let unknown: Vec<HashAlgorithm> = unknown.iter().map(Digest::algorithm).collect();
        if let (Some(bank), true) = (unknown.first(), quoted.is_empty()) {
            return Err(Error::BankUnknown { bank: *bank });
        }
        let mut state = state.clone();
        if state.entries == 0 {
            state.banks = quoted.iter().map(Bank::at_reset).collect();
        }
        let same = |bank: &Bank, value: &Digest| bank.value.algorithm() == value.algorithm();
        if state.banks.len() != quoted.len()
            || !state.banks.iter().zip(&quoted).all(|(bank, value)| same(bank, value))
        {
            let kept: Vec<Digest> = state.banks.iter().map(|bank| bank.value).collect();
            return Err(Error::Banks { found: names(&quoted), expected: names(&kept) });
        }
        let mut replay = Replay {
            lanes: Lane::of(&state.banks),
            state,
            quoted,
            boot,
            unknown,
            room: [0; ROOM],
            watched: Vec::new(),
            columns: Columns::Compare,
            quirks: Quirks::NONE,
            loaded: false,
            reached: false,
            within: 0,
            beyond: 0,
            seen: Seen::default(),
        };
        replay.compare();
        Ok(replay)
    }

    /// Which quirks may be used. Only [`Quirk::ImaViolationZeroPad`] matters here: violations are
    /// then also taken as kernels before 5.8 extended them.
    #[must_use]
    pub fn with_quirks(mut self, quirks: Quirks) -> Replay<'a> {
        self.quirks = quirks;
        self
    }

    /// Says how a bank is extended, where that is known: the other ways are not tried.
    #[must_use]
    pub fn declaring(mut self, bank: HashAlgorithm, mode: Mode) -> Replay<'a> {
        if let Some(kept) = self.state.banks.iter_mut().find(|b| b.value.algorithm() == bank) {
            kept.modes = Modes::NONE.with(mode);
            self.lanes = Lane::of(&self.state.banks);
        }
        self
    }

    #[must_use]
    pub fn with_columns(mut self, columns: Columns) -> Replay<'a> {
        self.columns = columns;
        self
    }

    /// Follows what is measured at this path: from the first entry of a boot on, and then in every
    /// round.
    pub fn watching(mut self, path: &'a [u8]) -> Result<Replay<'a>, Error> {
        let full = self.state.watched.len() >= state::MAX_WATCHED;
        if self.state.watched(path).is_none() {
            if self.state.entries > 0 || full {
                return Err(Error::NotWatched { path: entry::shown(path) });
            }
            let path = state::short_hash(path);
            self.state.watched.push(Watched { path, digest: None, changes: 0 });
        }
        if !self.watched.contains(&path) {
            self.watched.push(path);
        }
        Ok(self)
    }

    /// Takes the next entry. Entries come in the order of the list, beginning with the one whose
    /// index is [`State::entries`].
    pub fn advance(&mut self, entry: &Entry<'_>) -> Result<Place, Error> {
        self.settle();
        if self.reached {
            self.beyond = self.beyond.saturating_add(1);
            return Ok(Place::Beyond);
        }
        let index = self.state.entries;
        if entry.register() != REGISTER {
            let found = entry.register();
            return Err(Error::Register { index, found, expected: REGISTER });
        }
        if entry.is_violation() {
            self.load_violation();
        } else {
            self.load(entry, index);
        }
        self.remember(entry, index);
        self.state.entries = index.saturating_add(1);
        self.within = self.within.saturating_add(1);
        self.loaded = true;
        Ok(Place::Within)
    }

    /// Entries taken in, those behind the covered prefix included.
    pub fn count(&self) -> u64 {
        self.within.saturating_add(self.beyond)
    }

    /// The covered prefix and what is kept of it, or a refusal: the list does not lead there.
    pub fn finish(mut self) -> Result<Covered, Error> {
        self.settle();
        if !self.reached {
            let (found, expected) = self.nearest().map(|value| value.to_string()).into();
            return Err(Error::NotReached { entries: self.state.entries, found, expected });
        }
        if self.watched.len() != self.state.watched.len() {
            return Err(Error::State("a file that was watched so far was not in this round"));
        }
        Ok(Covered {
            state: self.state,
            within: self.within,
            beyond: self.beyond,
            unknown: self.unknown,
            seen: self.seen,
        })
    }

    /// Towards nothing: every bank in every way, to the end of the list. For inspection only.
    pub(super) fn without_end() -> Replay<'a> {
        let mut state = State::boot(0);
        let banks =
            HashAlgorithm::ALL.into_iter().filter(|bank| crypto::hash(*bank, &[]).is_some());
        state.banks = banks.map(|bank| Bank::at_reset(&Digest::zero(bank))).collect();
        Replay {
            lanes: Lane::of(&state.banks),
            state,
            quoted: Vec::new(),
            boot: Registers::new(),
            unknown: Vec::new(),
            room: [0; ROOM],
            watched: Vec::new(),
            columns: Columns::Compare,
            quirks: Quirks::ALL,
            loaded: false,
            reached: false,
            within: 0,
            beyond: 0,
            seen: Seen::default(),
        }
    }

    /// Where each bank stands, extended in the way that `known` says, else by its own hash.
    pub(super) fn values(&mut self, known: Option<&State>) -> Registers {
        self.settle();
        let mut registers = Registers::new();
        for bank in &self.state.banks {
            let bank = bank.value.algorithm();
            let mode = known.and_then(|known| known.mode(bank)).unwrap_or(Mode::Hashed);
            let of = |lane: &&Lane| lane.bank == bank && lane.mode == mode;
            let value = self.lanes.iter().find(of).map(Lane::value);
            let _ = value.is_some_and(|value| registers.insert(REGISTER, value));
        }
        registers
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// What was read, whether covered or not.
    pub(super) fn told(&self) -> &Seen {
        &self.seen
    }

    /// Extends by the entry before. That is left until here because a processor then works on two
    /// hashes at once: this one, and the next entry's template digest, which does not need it.
    fn settle(&mut self) {
        if std::mem::take(&mut self.loaded) {
            self.lanes.iter_mut().for_each(Lane::extend);
            self.compare();
        }
    }

    fn load(&mut self, entry: &Entry<'_>, index: u64) {
        let column = entry.untrusted_column();
        let compared = self.columns == Columns::Compare;
        let by_sha1 = |lane: &Lane| lane.bank == HashAlgorithm::Sha1 || lane.mode != Mode::Hashed;
        let sha1 = (compared && column.len() == SHA1_SIZE) || self.lanes.iter().any(by_sha1);
        let hashed = Hashed::of(entry.data, &mut self.room, sha1);
        for lane in &mut self.lanes {
            lane.load_entry(&hashed);
        }
        if compared && !hashed.is_told_by(column) {
            self.seen.mismatch(index);
        }
    }

    fn load_violation(&mut self) {
        let allowed = self.quirks.contains(Quirk::ImaViolationZeroPad);
        if allowed && self.state.violations == 0 {
            // Until its first violation a bank of older kernels goes the same way.
            let padded = |lane: &&Lane| lane.mode == Mode::PaddedSha1;
            let older: Vec<Lane> = self.lanes.iter().filter(padded).map(Lane::of_older).collect();
            self.lanes.extend(older);
        }
        self.lanes.iter_mut().for_each(Lane::load_violation);
    }

    /// What an entry changes beside the registers.
    fn remember(&mut self, entry: &Entry<'_>, index: u64) {
        let boots = &mut self.state.boots;
        match entry.kind() {
            Kind::Violation { claimed_path } => {
                self.state.violations = self.state.violations.saturating_add(1);
                self.seen.violation(index, claimed_path);
            }
            Kind::BootAggregate(_) => {
                if index == 0 {
                    boots.first = BootAggregate::of(entry);
                } else {
                    // The first and the latest are told to whoever asks; one between is seen for
                    // the last time here. It must not be the name under which a file gets past.
                    let between = boots.latest.filter(|latest| boots.first != Some(*latest));
                    let genuine = |one: &BootAggregate| boot_aggregate::matches(one, &self.boot);
                    let lost =
                        boots.latest.is_none() || between.is_some_and(|b| genuine(&b).is_err());
                    if lost || !std::mem::take(&mut boots.kexec) {
                        boots.unexplained = boots.unexplained.saturating_add(1);
                    }
                }
                boots.latest = BootAggregate::of(entry);
            }
            Kind::Buffer { name, .. } if KEXEC.contains(&name) => boots.kexec = true,
            Kind::File(file) => {
                self.state.files = self.state.files.saturating_add(1);
                if let Some(path) = self.watched.iter().find(|path| **path == file.path) {
                    let path = state::short_hash(path);
                    let found = file.digest.digest();
                    let kept = self.state.watched.iter_mut().find(|kept| kept.path == path);
                    if let Some(kept) =
                        kept.filter(|kept| kept.changes == 0 || kept.digest != found)
                    {
                        kept.changes = kept.changes.saturating_add(1);
                        kept.digest = found;
                    }
                }
            }
            Kind::Buffer { .. } | Kind::Anonymous => {}
        }
    }

    /// Whether every bank stands at its quoted value, by at least one way each.
    fn compare(&mut self) {
        let there = |quoted: &Digest| self.lanes.iter().any(|lane| lane.stands_at(quoted));
        if self.quoted.is_empty() || !self.quoted.iter().all(there) {
            return;
        }
        self.reached = true;
        for bank in &mut self.state.banks {
            let algorithm = bank.value.algorithm();
            let quoted = self.quoted.iter().find(|quoted| quoted.algorithm() == algorithm);
            let Some(quoted) = quoted else { continue };
            bank.value = *quoted;
            bank.modes = self
                .lanes
                .iter()
                .filter(|lane| lane.stands_at(quoted))
                .fold(Modes::NONE, |modes, lane| modes.with(lane.mode));
        }
    }

    /// The strongest bank that does not stand where it should, at the end of the list.
    fn nearest(&self) -> [Digest; 2] {
        let apart = self.quoted.iter().rev().find_map(|quoted| {
            let mut lanes = self.lanes.iter().filter(|lane| lane.bank == quoted.algorithm());
            let first = lanes.next()?;
            (!first.stands_at(quoted)).then_some([first.value(), *quoted])
        });
        let none = Digest::zero(HashAlgorithm::Sha256);
        apart.unwrap_or([none, self.quoted.last().copied().unwrap_or(none)])
    }
}

impl Covered {
    /// What to keep of the node for the next round.
    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn into_state(self) -> State {
        self.state
    }

    /// New entries that the quote covers.
    pub fn within(&self) -> u64 {
        self.within
    }

    /// Entries that came after the quote; the next round judges them.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// As [`State::verify_boot`].
    pub fn verify_boot(&self, registers: &Registers) -> Result<Rule, Error> {
        self.state.verify_boot(registers)
    }

    /// The first violations among the new entries; [`State::violations`] counts all.
    pub fn violations(&self) -> &[Violation] {
        self.seen.violations()
    }

    /// Quoted banks to which the list was not replayed, since their hash is not computed here.
    pub fn banks_not_replayed(&self) -> &[HashAlgorithm] {
        &self.unknown
    }

    /// Quirks without which the list would not have led to the quote.
    pub fn quirks(&self) -> Quirks {
        let older = |bank: &Bank| bank.modes == Modes::NONE.with(Mode::PaddedSha1AndViolations);
        self.state
            .banks
            .iter()
            .filter(|bank| older(bank))
            .map(|_| Quirk::ImaViolationZeroPad)
            .collect()
    }

    /// Digest columns that are not the hash of their entry: the first few, then a count.
    pub fn warnings(&self) -> Vec<Finding> {
        self.seen.warnings()
    }

    /// One finding for each of [`Covered::violations`]. Whether they refuse is the policy's
    /// business; the path is only claimed.
    pub fn violation_findings(&self) -> Vec<Finding> {
        self.seen.violation_findings()
    }
}

impl Bank {
    /// PCR 10 begins at zero; SHA-1 has one way only.
    fn at_reset(quoted: &Digest) -> Bank {
        let modes = match quoted.algorithm() {
            HashAlgorithm::Sha1 => Modes::NONE.with(Mode::Hashed),
            _ => Modes::NONE.with(Mode::Hashed).with(Mode::PaddedSha1),
        };
        Bank { value: Digest::zero(quoted.algorithm()), modes }
    }
}

fn names(values: &[Digest]) -> String {
    values.iter().map(|value| value.algorithm().name()).collect::<Vec<_>>().join("+")
}

/// Buffers that a kernel measures when it is told to start another: the command line, and, with
/// critical data, the steps of the load.
const KEXEC: [&[u8]; 3] = [b"kexec-cmdline", b"kexec_load", b"kexec_execute"];
const SHA1_SIZE: usize = HashAlgorithm::Sha1.size();
