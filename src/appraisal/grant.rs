//! Grant: who may be signed for, and why. The CA takes one by value: one grant, one signature.

use std::time::Duration;

use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_tpm::ProvedKey;
use serde::Serialize;

use crate::appraisal::Authorized;
use crate::appraisal::CustodyProof;
use crate::appraisal::DenySet;
use crate::appraisal::Standing;
use crate::clock::Moment;
use crate::spiffe::Entry;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;

/// Leave to sign once. It cannot be forged, copied or kept:
/// ```compile_fail,E0451
/// # fn forge(kind: assay::appraisal::GrantKind) -> assay::appraisal::Grant {
/// assay::appraisal::Grant { kind }
/// # }
/// ```
/// ```compile_fail,E0599
/// # fn copy(grant: &assay::appraisal::Grant) -> assay::appraisal::Grant {
/// grant.clone()
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Grant {
    kind: GrantKind,
}

/// Why something may be signed; readable by all, turned into a [`Grant`] by this file alone.
#[derive(Debug, Clone)]
pub enum GrantKind {
    /// A workload of a node in good standing, by a matching entry.
    Workload { standing: Standing, entry: Box<Entry> },
    /// The agent of a node in good standing.
    Agent { standing: Standing },
    /// The server's own TLS certificate.
    Server { id: SpiffeId, custody: CustodyProof },
    /// A certificate that says which TPM an attestation key is in.
    AttestationKey { standing: Standing, spki_der: Vec<u8> },
    /// An act on the authority itself: creation, rotation, revocation list.
    Authority { trust_domain: TrustDomain, act: AuthorityAct },
}

/// By whose will an authority is made or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityAct {
    Operator {
        uid: u32,
        pid: i32,
    },
    Configured {
        #[serde(with = "hex::serde")]
        sha256: [u8; 32],
    },
}

/// Proof that a `danger_` switch of the configuration is on.
#[derive(Debug, Clone)]
pub struct DangerPermit {
    switch: &'static str,
}

/// A grant that was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{claim} is {found}, expected {expected}")]
pub struct Refused {
    pub reason: Reason,
    pub claim: &'static str,
    pub found: String,
    pub expected: String,
}

impl DangerPermit {
    /// `on` is the value of the switch named `switch`; off gives no permit.
    pub fn from_switch(switch: &'static str, on: bool) -> Option<Self> {
        (on && switch.starts_with("danger_")).then_some(Self { switch })
    }

    pub fn switch(&self) -> &'static str {
        self.switch
    }
}

impl Grant {
    /// A workload's grant: the entry must have been authorized for this very node, and the node's
    /// standing be fresh now.
    pub fn workload(
        standing: &Standing,
        authorized: &Authorized<'_>,
        deny: &DenySet,
        now: Moment,
    ) -> Result<Self, Refused> {
        let entry = authorized.entry();
        if authorized.node() != standing.node() {
            return Err(Refused {
                reason: Reason::NoMatchingEntry,
                claim: "entry.node",
                found: authorized.node().to_string(),
                expected: standing.node().to_string(),
            });
        }
        if entry.expired(now.wall) {
            return Err(Refused {
                reason: Reason::NoMatchingEntry,
                claim: "entry.expires_at",
                found: entry.expires_at().map(|t| t.to_string()).unwrap_or_default(),
                expected: format!("after {}", now.wall),
            });
        }
        demand_standing(standing, entry.spiffe_id(), deny, now)?;
        let standing = standing.clone();
        Ok(Self { kind: GrantKind::Workload { standing, entry: Box::new(entry.clone()) } })
    }

    /// The agent's own grant.
    pub fn agent(standing: &Standing, deny: &DenySet, now: Moment) -> Result<Self, Refused> {
        demand_standing(standing, standing.node(), deny, now)?;
        Ok(Self { kind: GrantKind::Agent { standing: standing.clone() } })
    }

    /// The server's TLS certificate; the custody proof of the issuing key is the reason.
    pub fn server(trust_domain: &TrustDomain, custody: CustodyProof) -> Self {
        Self { kind: GrantKind::Server { id: trust_domain.server(), custody } }
    }

    /// The certificate of a node's attestation key: the node must stand, and the key be one that
    /// is believed for a reason. It names no SPIFFE ID, so nothing else can be signed with it.
    pub fn attestation_key(
        standing: &Standing,
        key: &ProvedKey,
        deny: &DenySet,
        now: Moment,
    ) -> Result<Self, Refused> {
        demand_standing(standing, standing.node(), deny, now)?;
        let spki_der = key.public_key().to_spki();
        Ok(Self { kind: GrantKind::AttestationKey { standing: standing.clone(), spki_der } })
    }

    pub fn authority(trust_domain: &TrustDomain, act: AuthorityAct) -> Self {
        Self { kind: GrantKind::Authority { trust_domain: trust_domain.clone(), act } }
    }

    pub fn kind(&self) -> &GrantKind {
        &self.kind
    }

    /// The word for records: `workload`, `agent`, `server`, `attestation-key`, `authority`.
    pub fn name(&self) -> &'static str {
        match &self.kind {
            GrantKind::Workload { .. } => "workload",
            GrantKind::Agent { .. } => "agent",
            GrantKind::Server { .. } => "server",
            GrantKind::AttestationKey { .. } => "attestation-key",
            GrantKind::Authority { .. } => "authority",
        }
    }

    /// Whose identity may be signed; `None` where the grant is for no identity.
    pub fn subject(&self) -> Option<&SpiffeId> {
        match &self.kind {
            GrantKind::Workload { entry, .. } => Some(entry.spiffe_id()),
            GrantKind::Agent { standing } => Some(standing.node()),
            GrantKind::Server { id, .. } => Some(id),
            GrantKind::AttestationKey { .. } | GrantKind::Authority { .. } => None,
        }
    }

    pub fn entry(&self) -> Option<&Entry> {
        match &self.kind {
            GrantKind::Workload { entry, .. } => Some(entry),
            _ => None,
        }
    }

    pub fn standing(&self) -> Option<&Standing> {
        match &self.kind {
            GrantKind::Workload { standing, .. }
            | GrantKind::AttestationKey { standing, .. }
            | GrantKind::Agent { standing } => Some(standing),
            _ => None,
        }
    }

    /// The end that the entry itself sets, if it sets one.
    pub fn not_after(&self) -> Option<Time> {
        self.entry().and_then(Entry::expires_at)
    }

    /// The X.509 lifetime the entry asks for; zero or no entry means the default.
    pub fn x509_ttl(&self) -> Duration {
        self.entry().map_or(Duration::ZERO, Entry::x509_svid_ttl)
    }

    /// The JWT lifetime the entry asks for; zero or no entry means the default.
    pub fn jwt_ttl(&self) -> Duration {
        self.entry().map_or(Duration::ZERO, Entry::jwt_svid_ttl)
    }
}

fn demand_standing(
    standing: &Standing,
    subject: &SpiffeId,
    deny: &DenySet,
    now: Moment,
) -> Result<(), Refused> {
    if let Some(denial) = deny.denial(subject, standing.node()) {
        return Err(Refused {
            reason: Reason::Denied,
            claim: "deny_set",
            found: format!("{denial:?}"),
            expected: "no denial in force".to_owned(),
        });
    }
    if !standing.is_fresh(now) {
        return Err(Refused {
            reason: Reason::StandingStale,
            claim: "standing.expires_at",
            found: standing.expires_at().to_string(),
            expected: format!("after {}", now.wall),
        });
    }
    Ok(())
}
