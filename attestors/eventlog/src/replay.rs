//! From events to register values, and those held against values that somebody signed.
//!
//! A register extends by H(value ‖ digest), bank by bank. Registers without events stay where a
//! reset leaves them; there is no register whose value does not matter. Which values are worth
//! being held against is the caller's business: nothing here knows a quote.

use std::collections::BTreeMap;

use assay_evidence::Digest;
use assay_evidence::Finding;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use assay_evidence::crypto;

use crate::error::Error;
use crate::log::Format;
use crate::log::Log;
use crate::quirk::Quirk;
use crate::quirk::Quirks;

/// What a log leads to, in every bank that can be computed here.
#[derive(Clone, Debug)]
pub struct Replay {
    format: Format,
    registers: Registers,
    banks: Vec<HashAlgorithm>,
    locality: u8,
    exits_boot_services: bool,
}

/// What came of holding a log against values.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Registers whose value does not follow from the log.
    pub faults: Vec<Error>,
    /// Banks that were given and that the log lacks, or that cannot be computed here.
    pub banks_missing: Vec<HashAlgorithm>,
    /// What could not be held against anything, each with its reason.
    pub not_checked: Vec<String>,
    pub quirks: Quirks,
}

impl Comparison {
    pub fn findings(&self) -> Vec<Finding> {
        let missing = self.banks_missing.iter().map(|&bank| Error::BankMissing { bank }.finding());
        self.faults.iter().map(Error::finding).chain(missing).collect()
    }
}

impl Log<'_> {
    pub fn replay(&self) -> Replay {
        let locality = self.startup_locality().unwrap_or(0);
        let banks: Vec<HashAlgorithm> = self.replayable().collect();
        let mut values: BTreeMap<u32, Vec<Digest>> = BTreeMap::new();
        let mut exits_boot_services = false;
        for event in self.events().filter(|event| event.extends()) {
            let register = event.register();
            exits_boot_services |= event.data().starts_with(INVOCATION);
            let reset = |&bank| reset_value(self.format(), bank, register, locality);
            let values =
                values.entry(register).or_insert_with(|| banks.iter().map(reset).collect());
            let computed = event.digests().filter(|digest| banks.contains(&digest.algorithm()));
            for (value, digest) in values.iter_mut().zip(computed) {
                *value = extended(value, &digest).unwrap_or(*value);
            }
        }
        let mut registers = Registers::new();
        for (register, values) in values {
            for value in values {
                // The map has each register once, so none is ever refused.
                let _kept = registers.insert(register, value);
            }
        }
        Replay { format: self.format(), registers, banks, locality, exits_boot_services }
    }
}

impl Replay {
    /// Only registers that have events.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    pub fn banks(&self) -> &[HashAlgorithm] {
        &self.banks
    }

    /// The value that a register must have if all of its events are in this log; nothing for a bank
    /// that was not replayed.
    pub fn value(&self, bank: HashAlgorithm, register: u32) -> Option<Digest> {
        if !self.banks.contains(&bank) {
            return None;
        }
        let replayed = self.registers.value(bank, register).copied();
        Some(replayed.unwrap_or_else(|| reset_value(self.format, bank, register, self.locality)))
    }

    /// Holds every given value against this log. Registers that other logs extend too (10 by IMA,
    /// 11 by user space) are named in `elsewhere` and reported instead.
    pub fn compare(&self, given: &Registers, elsewhere: &[u32], allowed: Quirks) -> Comparison {
        let mut comparison = Comparison::default();
        for (&bank, values) in given.iter() {
            if !self.banks.contains(&bank) {
                comparison.banks_missing.push(bank);
                continue;
            }
            for (&register, given) in values {
                if elsewhere.contains(&register) {
                    comparison.not_checked.push(format!(
                        "register {register} of bank {bank}: another log extends it too"
                    ));
                } else {
                    self.compare_one(bank, register, given, allowed, &mut comparison);
                }
            }
        }
        for (&bank, values) in self.registers.iter() {
            let lacks = |register: &&u32| given.value(bank, **register).is_none();
            comparison.not_checked.extend(
                values
                    .keys()
                    .filter(lacks)
                    .map(|register| format!("register {register} of bank {bank}: no value given")),
            );
        }
        comparison
    }

    fn compare_one(
        &self,
        bank: HashAlgorithm,
        register: u32,
        given: &Digest,
        allowed: Quirks,
        comparison: &mut Comparison,
    ) {
        let Some(found) = self.value(bank, register) else { return };
        if found == *given {
            return;
        }
        let completed = || EBS_COMPLETIONS.iter().any(|texts| completes(&found, texts, given));
        if register == EBS_REGISTER
            && self.format != Format::Ccel
            && !self.exits_boot_services
            && allowed.contains(Quirk::EbsPairMissing)
            && completed()
        {
            comparison.quirks = comparison.quirks.with(Quirk::EbsPairMissing);
            return;
        }
        // The values given are the ones that were signed: the log is what has to explain them.
        let (found, expected) = (found.to_hex(), given.to_hex());
        comparison.faults.push(Error::ReplayMismatch { bank, register, found, expected });
    }
}

/// TPM 2.0 Library, Part 1, §17.2 and PC Client Platform TPM Profile 1.05, §4.6.2: the D-RTM
/// registers are all ones until a dynamic launch; register 0 begins with the locality of Startup.
fn reset_value(format: Format, bank: HashAlgorithm, register: u32, locality: u8) -> Digest {
    let mut bytes = [0; HashAlgorithm::Sha512.size()];
    let size = bank.size();
    match register {
        _ if format == Format::Ccel => {}
        17..=22 => bytes.fill(0xff),
        0 => {
            if let Some(last) = bytes.get_mut(..size).and_then(<[u8]>::last_mut) {
                *last = locality;
            }
        }
        _ => {}
    }
    let value = bytes.get(..size).and_then(|bytes| Digest::new(bank, bytes));
    value.unwrap_or_else(|| Digest::zero(bank))
}

/// Nothing for a bank that cannot be computed.
fn extended(value: &Digest, digest: &Digest) -> Option<Digest> {
    crypto::hash(value.algorithm(), &[value.as_bytes(), digest.as_bytes()])
}

fn completes(value: &Digest, texts: &[&[u8]], given: &Digest) -> bool {
    let mut value = *value;
    for text in texts {
        let event = crypto::hash(value.algorithm(), &[text]);
        let Some(next) = event.and_then(|event| extended(&value, &event)) else { return false };
        value = next;
    }
    value == *given
}

const EBS_REGISTER: u32 = 5;
const INVOCATION: &[u8] = b"Exit Boot Services Invocation";
const SUCCESS: &[u8] = b"Exit Boot Services Returned with Success";
const FAILURE: &[u8] = b"Exit Boot Services Returned with Failure";
/// What the firmware measures when the boot loader leaves it, where the log ended before.
const EBS_COMPLETIONS: [&[&[u8]]; 3] =
    [&[INVOCATION, SUCCESS], &[INVOCATION, FAILURE], &[INVOCATION, FAILURE, SUCCESS]];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn registers_begin_where_a_reset_leaves_them() {
        let value = |format, register, locality| {
            reset_value(format, HashAlgorithm::Sha256, register, locality).to_hex()
        };
        let tpm = Format::CryptoAgile;
        assert_eq!(value(tpm, 1, 3), "00".repeat(32));
        assert_eq!(value(tpm, 0, 3), format!("{}03", "00".repeat(31)));
        assert_eq!(value(tpm, 17, 0), "ff".repeat(32));
        assert_eq!(value(tpm, 22, 0), "ff".repeat(32));
        assert_eq!(value(tpm, 23, 0), "00".repeat(32));
        assert_eq!(value(Format::Ccel, 0, 3), "00".repeat(32));
    }
}
