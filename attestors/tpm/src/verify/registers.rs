//! Which registers a quote covers, and whether the values beside it are those that were signed.
//!
//! A value counts under the bank and number that the *signed* selection gives its place; a list
//! that says otherwise is refused, not corrected.

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::Registers;
use assay_evidence::crypto;

use crate::error::Error;
use crate::structures::selection::PcrSelection;
use crate::structures::selection::Selections;

/// Register values beside a quote.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// One after another in the order of the signed selection, and nothing else.
    Bare(&'a [u8]),
    /// By bank and number, as a file lists them.
    Listed(&'a Registers),
}

/// Which registers the quote must cover.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// Exactly these, bank by bank; a bank may come back empty, which proves it off. Values are
    /// required. SHA-256 and, unless the TPM is known not to list it, SHA-1 must be among them.
    Exactly { asked: &'a [PcrSelection], no_sha1: bool },
    /// These and perhaps more: statements that somebody else asked for. Every register needs a
    /// bank as strong as `min_bank`.
    AtLeast { required: &'a [PcrSelection], min_bank: HashAlgorithm },
}

/// The list as the TPM signed it, against what was asked for.
pub(super) fn accept_selection(signed: &Selections, expected: &Selection<'_>) -> Result<(), Error> {
    match expected {
        Selection::Exactly { asked, no_sha1 } => accept_exactly(signed, asked, *no_sha1),
        Selection::AtLeast { required, min_bank } => accept_at_least(signed, required, *min_bank),
    }
}

fn accept_exactly(signed: &Selections, asked: &[PcrSelection], no_sha1: bool) -> Result<(), Error> {
    let listed = |bank: HashAlgorithm| asked.iter().any(|selection| selection.bank == bank);
    if !listed(HashAlgorithm::Sha256) {
        return Err(Error::Missing("sha256 bank"));
    }
    if !listed(HashAlgorithm::Sha1) && !no_sha1 {
        return Err(Error::Missing("sha1 bank"));
    }
    // Same banks in the same order; each whole, or empty because the TPM does not have it on.
    let same = signed.as_slice().len() == asked.len()
        && signed.as_slice().iter().zip(asked).all(|(signed, asked)| {
            signed.bank == asked.bank && (signed.mask == asked.mask || signed.mask == 0)
        });
    if !same {
        return Err(Error::Selection {
            found: signed.to_string(),
            expected: Selections::new(asked).map(|asked| asked.to_string()).unwrap_or_default(),
        });
    }
    let asked = asked.iter().fold(0, |mask, selection| mask | selection.mask);
    accept_strong(signed, asked, HashAlgorithm::Sha256)
}

fn accept_at_least(
    signed: &Selections,
    required: &[PcrSelection],
    min_bank: HashAlgorithm,
) -> Result<(), Error> {
    let covered = |asked: &PcrSelection| {
        signed.bank(asked.bank).is_some_and(|signed| signed.mask & asked.mask == asked.mask)
    };
    let selected = signed.as_slice().iter().fold(0, |mask, selection| mask | selection.mask);
    if selected == 0 || !required.iter().all(covered) {
        let expected: Vec<String> = required.iter().map(ToString::to_string).collect();
        return Err(Error::Selection {
            found: signed.to_string(),
            expected: match expected.as_slice() {
                [] => "at least one register".into(),
                _ => expected.join("+"),
            },
        });
    }
    accept_strong(signed, selected, min_bank)
}

/// Each register needs a bank that may decide; SHA-1 is compared, but never decides.
fn accept_strong(
    signed: &Selections,
    registers: u32,
    min_bank: HashAlgorithm,
) -> Result<(), Error> {
    let strong = signed
        .as_slice()
        .iter()
        .filter(|selection| selection.bank.strength() >= min_bank.strength())
        .fold(0, |mask, selection| mask | selection.mask);
    match PcrSelection::new(min_bank, registers & !strong).registers().next() {
        Some(register) => Err(Error::BankWeak { register, expected: min_bank }),
        None => Ok(()),
    }
}

/// pcrDigest = H(the selected values one after another), H being the hash of the signature
/// (Part 3, §18.4). Each value takes the place that the signed selection gives it.
pub(super) fn registers(
    signed: &Selections,
    values: Values<'_>,
    pcr_digest: &[u8],
    hash: HashAlgorithm,
) -> Result<Registers, Error> {
    let joined;
    let bare = match values {
        Values::Bare(bare) => bare,
        Values::Listed(listed) => {
            joined = joined_values(signed, listed)?;
            &joined
        }
    };
    if bare.len() != signed.values_size() {
        return Err(Error::ValuesSize { found: bare.len(), expected: signed.values_size() });
    }
    let found = crypto::hash(hash, &[bare])
        .ok_or(Error::UnknownAlgorithm { place: "signature", id: hash.tpm_id() })?;
    if found.as_bytes() != pcr_digest {
        return Err(Error::RegisterDigest {
            found: found.to_hex(),
            expected: hex::encode(pcr_digest),
        });
    }
    let mut reader = Reader::new(bare);
    let mut registers = Registers::new();
    for selection in signed.as_slice() {
        for register in selection.registers() {
            let place = Error::Malformed { place: "register values" };
            let value = Digest::new(selection.bank, reader.take(selection.bank.size())?);
            if !value.is_some_and(|value| registers.insert(register, value)) {
                return Err(place);
            }
        }
    }
    reader.finish()?;
    Ok(registers)
}

fn joined_values(signed: &Selections, listed: &Registers) -> Result<Vec<u8>, Error> {
    for (&bank, values) in listed.iter() {
        let mask = signed.bank(bank).map_or(0, |selection| selection.mask);
        let selected = PcrSelection::new(bank, mask);
        if let Some(&register) =
            values.keys().find(|&&register| !selected.registers().any(|one| one == register))
        {
            return Err(Error::NotSigned { bank, register });
        }
    }
    let mut joined = Vec::with_capacity(signed.values_size());
    for selection in signed.as_slice() {
        for register in selection.registers() {
            let value = listed
                .value(selection.bank, register)
                .ok_or(Error::ValueMissing { bank: selection.bank, register })?;
            joined.extend_from_slice(value.as_bytes());
        }
    }
    Ok(joined)
}

pub(super) fn banks_off(signed: &Selections) -> Vec<HashAlgorithm> {
    let off = signed.as_slice().iter().filter(|selection| selection.mask == 0);
    off.map(|selection| selection.bank).collect()
}
