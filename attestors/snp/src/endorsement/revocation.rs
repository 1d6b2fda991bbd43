//! Whether AMD took an issuer back: the revocation list of a product's root.
//!
//! The list names ASKs and ASVKs. Signing keys all have serial number zero and cannot be on it.
//! It is believed only if the very root of the chain signed it; whether it is in force is asked
//! anew each time.

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_evidence::crl::RevocationList;
use assay_evidence::crl::Scope;

use super::Root;
use crate::error::Fault;
use crate::error::Role;

/// What a list that the root signed says of one issuer.
#[derive(Clone, Debug)]
pub(crate) struct Revocation {
    /// The issuer's serial number, if it is on the list.
    revoked: Option<String>,
    this_update: Time,
    next_update: Option<Time>,
}

impl Revocation {
    pub(super) fn read(
        list: &[u8],
        issuer: &Certificate,
        root: &Root,
    ) -> Result<Revocation, &'static str> {
        let list = RevocationList::parse(list).map_err(|_| "not a revocation list")?;
        accept_list(&list, root)?;
        if !list.speaks_of(issuer) {
            return Err("does not speak of this issuer");
        }
        let revoked = list.is_revoked(issuer.serial()).then(|| hex::encode(issuer.serial()));
        let (this_update, next_update) = (list.this_update(), list.next_update());
        Ok(Revocation { revoked, this_update, next_update })
    }

    /// The list by itself, whatever is on it.
    pub(super) fn of_list(list: &RevocationList) -> Revocation {
        let (this_update, next_update) = (list.this_update(), list.next_update());
        Revocation { revoked: None, this_update, next_update }
    }

    /// Also of a list that is stale: what was revoked once stays so.
    pub(crate) fn faults(&self, now: Time) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(serial) = &self.revoked {
            faults.push(Fault::Revoked { role: Role::Issuer, serial: serial.clone() });
        }
        let begun = self.this_update.unix_s() <= now.unix_s();
        let ended = self.next_update.is_none_or(|end| end.unix_s() < now.unix_s());
        if !begun || ended {
            faults.push(Fault::CrlStale {
                this_update: self.this_update,
                next_update: self.next_update.map_or_else(|| "no time".into(), |t| t.to_string()),
                at: now,
            });
        }
        faults
    }
}

/// Whether the root signed this list, and about issuers.
pub(super) fn accept_list(list: &RevocationList, root: &Root) -> Result<(), &'static str> {
    if list.issuer() != root.certificate.subject() {
        return Err("of another issuer");
    }
    let key = root.certificate.public_key().map_err(|_| "the root has no key")?;
    list.verify(key).map_err(|_| "a signature that does not verify")?;
    match list.scope() {
        Scope::EndEntities => Err("does not speak of issuers"),
        Scope::All | Scope::Authorities => Ok(()),
    }
}
