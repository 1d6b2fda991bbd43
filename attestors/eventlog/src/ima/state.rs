//! What is kept of a node between two rounds: below 1 KiB, however long its list is.
//!
//! A state says how far a list was verified and what its registers were there. It is made only by
//! verifying ([`Replay::finish`](crate::ima::Replay::finish)) or for a boot of which nothing was
//! seen yet; a list that the kernel trimmed can be taken up only where a state of our own ends.
//! Whoever restores one says by that it comes from our own store.
//!
//! It belongs to one boot. Whether the machine booted again is told by the TPM's resetCount, never
//! by what an agent says.

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::Registers;
use assay_evidence::crypto;

use crate::ima::REGISTER;
use crate::ima::boot_aggregate;
use crate::ima::boot_aggregate::BootAggregate;
use crate::ima::boot_aggregate::Rule;
use crate::ima::error::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(super) reset_count: u32,
    pub(super) entries: u64,
    /// Of them, those of files.
    pub(super) files: u64,
    pub(super) violations: u64,
    pub(super) boots: Boots,
    pub(super) banks: Vec<Bank>,
    pub(super) watched: Vec<Watched>,
}

/// Boot aggregates seen: one for each kernel since the reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Boots {
    pub(super) first: Option<BootAggregate>,
    pub(super) latest: Option<BootAggregate>,
    /// A kexec was measured, and no kernel has begun since.
    pub(super) kexec: bool,
    /// Kernels that began without a kexec that was measured.
    pub(super) unexplained: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bank {
    pub(super) value: Digest,
    /// What is still possible; one of them once the bank told.
    pub(super) modes: Modes,
}

/// How a kernel makes what it extends a bank with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The bank's own hash of the template data; a violation is ones.
    Hashed,
    /// The kernel lacks the bank's hash: SHA-1 of the template data and zeros; a violation is ones.
    PaddedSha1,
    /// As before Linux 5.8: a violation is twenty bytes of ones and zeros, too
    /// ([`Quirk::ImaViolationZeroPad`](crate::Quirk)).
    PaddedSha1AndViolations,
}

/// A set of modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes(pub(super) u8);

/// A file that is followed over all rounds: the agent's own, the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pub(super) path: [u8; 16],
    pub(super) digest: Option<Digest>,
    pub(super) changes: u32,
}

impl State {
    /// Of a boot of which no entry was verified yet.
    pub fn boot(reset_count: u32) -> State {
        State {
            reset_count,
            entries: 0,
            files: 0,
            violations: 0,
            boots: Boots::default(),
            banks: Vec::new(),
            watched: Vec::new(),
        }
    }

    /// Whether the state is of the boot that a quote with this resetCount is of.
    pub fn is_of_boot(&self, reset_count: u32) -> bool {
        self.reset_count == reset_count
    }

    /// Entries verified so far: the index from which the agent has to send.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub fn violations(&self) -> u64 {
        self.violations
    }

    /// Entries of files, the coverage of the list.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// An IMA that measured not one file: no policy, or one that leaves out the file system
    /// everything runs from (an initramfs on tmpfs).
    pub fn is_blind(&self) -> bool {
        self.files == 0
    }

    /// Of the kernel that runs now.
    pub fn boot_aggregate(&self) -> Option<&BootAggregate> {
        self.boots.latest.as_ref()
    }

    /// The list is of this boot: it begins with an aggregate of the quoted registers, and so does
    /// each kernel that a measured kexec started. To be asked in every round, with that round's
    /// registers.
    pub fn verify_boot(&self, registers: &Registers) -> Result<Rule, Error> {
        let (Some(first), Some(latest)) = (&self.boots.first, &self.boots.latest) else {
            return Err(Error::BootAggregateMissing);
        };
        if self.boots.unexplained > 0 {
            return Err(Error::BootAggregateRepeated);
        }
        boot_aggregate::matches(first, registers)?;
        boot_aggregate::matches(latest, registers)
    }

    /// Values of PCR 10 at the end of what was verified.
    pub fn registers(&self) -> Registers {
        let mut registers = Registers::new();
        for bank in &self.banks {
            let _ = registers.insert(REGISTER, bank.value);
        }
        registers
    }

    /// How a bank is extended, where that is clear.
    pub fn mode(&self, bank: HashAlgorithm) -> Option<Mode> {
        self.banks.iter().find(|kept| kept.value.algorithm() == bank)?.modes.only()
    }

    /// Nothing for a path that was not watched.
    pub fn watched(&self, path: &[u8]) -> Option<&Watched> {
        let short = short_hash(path);
        self.watched.iter().find(|watched| watched.path == short)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.reset_count.to_be_bytes());
        out.extend_from_slice(&self.entries.to_be_bytes());
        out.extend_from_slice(&self.files.to_be_bytes());
        out.extend_from_slice(&self.violations.to_be_bytes());
        out.push(u8::from(self.boots.kexec));
        out.extend_from_slice(&self.boots.unexplained.to_be_bytes());
        for boot in [self.boots.first, self.boots.latest] {
            put(&mut out, boot.as_ref().map(BootAggregate::digest));
        }
        out.push(u8::try_from(self.banks.len()).unwrap_or(u8::MAX));
        for bank in &self.banks {
            out.push(bank.modes.0);
            put(&mut out, Some(&bank.value));
        }
        out.push(u8::try_from(self.watched.len()).unwrap_or(u8::MAX));
        for watched in &self.watched {
            out.extend_from_slice(&watched.path);
            out.extend_from_slice(&watched.changes.to_be_bytes());
            put(&mut out, watched.digest.as_ref());
        }
        out
    }

    /// One that our own store kept. It is believed: nothing from outside may come this way.
    pub fn restored(bytes: &[u8]) -> Result<State, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::State("another version"));
        }
        let mut state = State::boot(reader.u32()?);
        state.entries = reader.u64()?;
        state.files = reader.u64()?;
        state.violations = reader.u64()?;
        state.boots.kexec = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Error::State("neither yes nor no")),
        };
        state.boots.unexplained = reader.u32()?;
        state.boots.first = taken(&mut reader)?.map(BootAggregate::from_digest);
        state.boots.latest = taken(&mut reader)?.map(BootAggregate::from_digest);
        for _ in 0..reader.u8()? {
            let modes = Modes(reader.u8()?);
            let value = taken(&mut reader)?.ok_or(Error::State("a bank without a value"))?;
            let known = modes.0 != 0 && modes.0 & !Modes::ALL.0 == 0;
            let ascending =
                state.banks.last().is_none_or(|last| last.value.algorithm() < value.algorithm());
            if !known || !ascending {
                return Err(Error::State("a bank out of place"));
            }
            state.banks.push(Bank { value, modes });
        }
        let watched = reader.u8()?;
        if usize::from(watched) > MAX_WATCHED {
            return Err(Error::State("too many watched files"));
        }
        for _ in 0..watched {
            let path = reader.array()?;
            let changes = reader.u32()?;
            state.watched.push(Watched { path, changes, digest: taken(&mut reader)? });
        }
        reader.finish()?;
        Ok(state)
    }
}

impl Modes {
    pub(super) const ALL: Modes = Modes(0b111);
    pub(super) const NONE: Modes = Modes(0);

    pub(super) fn with(self, mode: Mode) -> Modes {
        Modes(self.0 | mode.bit())
    }

    pub(super) fn has(self, mode: Mode) -> bool {
        self.0 & mode.bit() != 0
    }

    fn only(self) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.bit() == self.0)
    }
}

impl Mode {
    pub(super) const ALL: [Mode; 3] =
        [Mode::Hashed, Mode::PaddedSha1, Mode::PaddedSha1AndViolations];

    fn bit(self) -> u8 {
        match self {
            Mode::Hashed => 0b001,
            Mode::PaddedSha1 => 0b010,
            Mode::PaddedSha1AndViolations => 0b100,
        }
    }
}

impl Watched {
    /// What was measured there last; nothing if the list does not name the path, or only by a
    /// digest that is not known here.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// How often another digest was measured there than before; 0 if the list does not name it.
    pub fn changes(&self) -> u32 {
        self.changes
    }
}

pub(super) fn short_hash(path: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.iter_mut().zip(crypto::sha256(path)).for_each(|(short, byte)| *short = byte);
    short
}

fn put(out: &mut Vec<u8>, digest: Option<&Digest>) {
    out.extend_from_slice(&digest.map_or(0, |digest| digest.algorithm().tpm_id()).to_be_bytes());
    out.extend_from_slice(digest.map_or(&[], |digest| digest.as_bytes()));
}

fn taken(reader: &mut Reader<'_>) -> Result<Option<Digest>, Error> {
    let id = reader.u16()?;
    if id == 0 {
        return Ok(None);
    }
    let algorithm = HashAlgorithm::from_tpm_id(id).ok_or(Error::State("an unknown algorithm"))?;
    Ok(Digest::new(algorithm, reader.take(algorithm.size())?))
}

const VERSION: u8 = 1;
/// The agent, the policy, and two to spare; with every bank a state stays below 1 KiB.
pub(super) const MAX_WATCHED: usize = 4;
