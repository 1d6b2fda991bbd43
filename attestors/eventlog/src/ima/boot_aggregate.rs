//! The first entry of a list: one digest over the boot's registers, which ties the list to them.
//!
//! SHA-1 is taken over registers 0 to 7. Every other algorithm is taken over 0 to 9 by current
//! kernels and over 0 to 7 by older ones, and nothing in the entry says which; both are tried, and
//! the answer says which it was. It is compared with the *quoted* registers of the digest's own
//! bank, never with a stored value and never with what a boot log replays to.

use assay_evidence::Digest;
use assay_evidence::HashAlgorithm;
use assay_evidence::Registers;
use assay_evidence::crypto;
use serde::Serialize;

use crate::ima::entry::Entry;
use crate::ima::entry::Kind;
use crate::ima::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct BootAggregate {
    digest: Digest,
}

/// Which registers a boot aggregate was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    #[serde(rename = "pcr-0-7")]
    Registers0To7,
    #[serde(rename = "pcr-0-9")]
    Registers0To9,
}

impl BootAggregate {
    /// Nothing for any other entry, and for one whose algorithm no bank has.
    pub fn of(entry: &Entry<'_>) -> Option<BootAggregate> {
        match entry.kind() {
            Kind::BootAggregate(digest) => digest.digest().map(|digest| BootAggregate { digest }),
            _ => None,
        }
    }

    pub(super) fn from_digest(digest: Digest) -> BootAggregate {
        BootAggregate { digest }
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// By which rule the aggregate is that of these registers.
pub fn matches(aggregate: &BootAggregate, registers: &Registers) -> Result<Rule, Error> {
    let found = aggregate.digest;
    let bank = found.algorithm();
    let over = |last: u32| {
        let values: Option<Vec<&[u8]>> = (0..=last)
            .map(|register| registers.value(bank, register).map(Digest::as_bytes))
            .collect();
        crypto::hash(bank, &values?)
    };
    let short = over(7).ok_or(Error::BootAggregateBank { bank })?;
    if found == short {
        return Ok(Rule::Registers0To7);
    }
    match over(9).filter(|_| bank != HashAlgorithm::Sha1) {
        Some(long) if long == found => Ok(Rule::Registers0To9),
        expected => Err(Error::BootAggregateMismatch {
            found: found.to_string(),
            expected: expected.unwrap_or(short).to_string(),
        }),
    }
}
