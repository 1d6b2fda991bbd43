//! What will be signed, between grant and signature.

use std::time::Duration;

use assay_evidence::Time;
use assay_evidence::crypto;

use crate::appraisal::AuthorityAct;
use crate::appraisal::CustodyClass;
use crate::appraisal::Grant;
use crate::appraisal::GrantKind;
use crate::ca::certificate::Tbs;
use crate::keys::ToSign;
use crate::keys::Urgency;
use crate::records::Actor;
use crate::records::Data;
use crate::records::Draft;
use crate::records::InstanceFacts;
use crate::records::Intent;
use crate::records::IssueJwt;
use crate::records::IssueX509;
use crate::records::Ref;
use crate::records::Subject;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;

/// What the caller may narrow; nothing here widens what the grant allows.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// At most this long, whatever the entry and the defaults say.
    pub max_ttl: Option<Duration>,
    /// For which process, where the entry gives each its own identity.
    pub instance: Option<InstanceFacts>,
    /// An identity that its holder has already and that is about to end.
    pub renewal: bool,
}

/// An X.509-SVID that is not signed yet. Private fields: [`Authority::prepare_x509`] alone makes
/// one.
///
/// [`Authority::prepare_x509`]: crate::ca::Authority::prepare_x509
#[derive(Debug)]
#[must_use]
pub struct PreparedX509 {
    pub(super) tbs: Tbs,
    pub(super) grant: Grant,
    pub(super) id: SpiffeId,
    pub(super) serial: Serial,
    pub(super) spki_sha256: [u8; 32],
    pub(super) not_before: Time,
    pub(super) not_after: Time,
    pub(super) terms: Terms,
    pub(super) custody: CustodyClass,
    pub(super) authority_id: String,
}

/// A JWT-SVID that is not signed yet.
#[derive(Debug)]
#[must_use]
pub struct PreparedJwt {
    pub(super) signing_input: String,
    pub(super) grant: Grant,
    pub(super) id: SpiffeId,
    pub(super) audience: Vec<String>,
    pub(super) issued_at: Time,
    pub(super) expires_at: Time,
    /// Names the token in the record; inside the token only where the entry asks for it.
    pub(super) jti: String,
    pub(super) key_id: String,
    pub(super) custody: CustodyClass,
}

/// A certificate that is no SVID, not signed yet: of an authority, or of an attestation key.
#[derive(Debug)]
#[must_use]
pub(super) struct PreparedCertificate {
    pub(super) tbs: Tbs,
    pub(super) grant: Grant,
    pub(super) serial: Serial,
    pub(super) spki_sha256: [u8; 32],
    pub(super) not_before: Time,
    pub(super) not_after: Time,
    pub(super) custody: CustodyClass,
    pub(super) authority_id: String,
}

impl PreparedX509 {
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub fn serial(&self) -> Serial {
        self.serial
    }

    pub fn not_after(&self) -> Time {
        self.not_after
    }

    pub fn tbs_sha256(&self) -> [u8; 32] {
        self.tbs.sha256()
    }
}

impl PreparedJwt {
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    pub fn expires_at(&self) -> Time {
        self.expires_at
    }
}

impl Intent for PreparedX509 {
    fn draft(&self) -> Draft {
        Draft {
            subject: Subject::Id(self.id.clone()),
            actor: actor(&self.grant),
            refs: refs(&self.grant),
            data: Data::IssueX509(IssueX509 {
                serial: self.serial,
                tbs_sha256: self.tbs.sha256(),
                spki_sha256: self.spki_sha256,
                not_before: self.not_before,
                not_after: self.not_after,
                entry_revision: self.grant.entry().map(|entry| entry.revision()),
                node: self.grant.standing().map(|standing| standing.node().clone()),
                instance: self.terms.instance.clone(),
                grant: self.grant.name(),
                custody: self.custody,
                authority: self.authority_id.clone(),
            }),
        }
    }
}

impl Intent for PreparedJwt {
    fn draft(&self) -> Draft {
        Draft {
            subject: Subject::Id(self.id.clone()),
            actor: actor(&self.grant),
            refs: refs(&self.grant),
            data: Data::IssueJwt(IssueJwt {
                jti: self.jti.clone(),
                signing_input_sha256: crypto::sha256(self.signing_input.as_bytes()),
                aud: self.audience.clone(),
                exp: self.expires_at,
                kid: self.key_id.clone(),
                entry_revision: self.grant.entry().map(|entry| entry.revision()),
                node: self.grant.standing().map(|standing| standing.node().clone()),
                grant: self.grant.name(),
                custody: self.custody,
            }),
        }
    }
}

impl Intent for PreparedCertificate {
    fn draft(&self) -> Draft {
        let node = self.grant.standing().map(|standing| standing.node().clone());
        Draft {
            subject: node.clone().map_or(Subject::TrustDomain, Subject::Id),
            actor: actor(&self.grant),
            refs: refs(&self.grant),
            data: Data::IssueX509(IssueX509 {
                serial: self.serial,
                tbs_sha256: self.tbs.sha256(),
                spki_sha256: self.spki_sha256,
                not_before: self.not_before,
                not_after: self.not_after,
                entry_revision: None,
                node,
                instance: None,
                grant: self.grant.name(),
                custody: self.custody,
                authority: self.authority_id.clone(),
            }),
        }
    }
}

impl ToSign for PreparedX509 {
    fn to_sign(&self) -> &[u8] {
        self.tbs.as_bytes()
    }

    fn urgency(&self) -> Urgency {
        match self.grant.kind() {
            GrantKind::Server { .. } => Urgency::Authority,
            _ if self.terms.renewal => Urgency::Renewal,
            _ => Urgency::New,
        }
    }
}

impl ToSign for PreparedJwt {
    fn to_sign(&self) -> &[u8] {
        self.signing_input.as_bytes()
    }

    fn urgency(&self) -> Urgency {
        Urgency::New
    }
}

impl ToSign for PreparedCertificate {
    fn to_sign(&self) -> &[u8] {
        self.tbs.as_bytes()
    }

    fn urgency(&self) -> Urgency {
        match self.grant.kind() {
            GrantKind::AttestationKey { .. } => Urgency::New,
            _ => Urgency::Authority,
        }
    }
}

/// Who brought it about: the node whose agent asked, an operator, or the server by itself.
pub(super) fn actor(grant: &Grant) -> Actor {
    match grant.kind() {
        GrantKind::Workload { standing, .. } | GrantKind::Agent { standing } => {
            Actor::Spiffe(standing.node().clone())
        }
        GrantKind::Authority { act: AuthorityAct::Operator { uid, pid }, .. } => {
            Actor::Unix { uid: *uid, pid: *pid }
        }
        GrantKind::Authority { .. }
        | GrantKind::AttestationKey { .. }
        | GrantKind::Server { .. } => Actor::Server,
    }
}

/// What the grant rests on.
fn refs(grant: &Grant) -> Vec<Ref> {
    let standing =
        grant.standing().map(|standing| Ref::Standing(standing.row().appraisal_id.clone()));
    let entry = grant.entry().map(|entry| Ref::Entry(entry.id().clone()));
    standing.into_iter().chain(entry).collect()
}
