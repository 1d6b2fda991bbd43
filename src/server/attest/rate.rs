//! How many attestations one source may ask for: by its address while it is a stranger, by its node
//! once it has proved to be one.

use std::sync::PoisonError;
use std::time::Duration;

use assay_evidence::reason::Reason;

use crate::exchange::Refused;
use crate::server::domain::Source;
use crate::store::Admission;
use crate::store::NodeRow;

use super::Exchange;

/// An attestation that was counted by its address.
pub struct Counted {
    source: Source,
    /// Until there is room again, where the address had used up its number.
    wait: Option<Duration>,
}

impl Exchange<'_> {
    /// Counts this attestation among those of its address; it stays there until the peer has
    /// proved to be a node of ours.
    pub fn count(&self) -> Counted {
        let source = Source::Address(self.address.ip());
        let mut attesting = self.domain.attesting.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = attesting.take(source.clone(), self.domain.clock.boot()).err();
        Counted { source, wait }
    }

    /// Before anything costly: is this one still within its address's number? A known node's
    /// certificate, shown where strangers used that up, is counted by itself.
    pub(super) fn demand_rate(
        &self,
        counted: &Counted,
        row: Option<&NodeRow>,
    ) -> Result<(), Refused> {
        let Some(wait) = counted.wait else { return Ok(()) };
        match row.filter(|row| row.ak_name.is_some()) {
            Some(row) => self.take(Source::Claimed(self.address.ip(), row.node_id.clone())),
            None => Err(self.over_rate(wait)),
        }
    }

    /// The AK has answered: a node that an operator let in counts as its own source, and the
    /// others behind its address (NAT) have their number back.
    pub(super) fn count_by_node(
        &self,
        counted: Counted,
        row: Option<&NodeRow>,
    ) -> Result<(), Refused> {
        let Some(row) = row.filter(|row| row.admission == Admission::Admitted) else {
            return Ok(());
        };
        if counted.wait.is_none() {
            let attesting = self.domain.attesting.lock();
            attesting.unwrap_or_else(PoisonError::into_inner).give_back(&counted.source);
        }
        self.take(Source::Node(row.node_id.clone()))
    }

    fn take(&self, source: Source) -> Result<(), Refused> {
        let mut attesting = self.domain.attesting.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = attesting.take(source, self.domain.clock.boot());
        taken.map_err(|wait| self.over_rate(wait))
    }

    fn over_rate(&self, wait: Duration) -> Refused {
        let found = "more attestations than that";
        let limit = self.domain.config.limits.attestations_per_minute;
        let expected = format!("at most {limit} a minute from one source");
        Refused::new(Reason::OverLimit, "source.rate", found, expected).retry_after(wait)
    }
}
