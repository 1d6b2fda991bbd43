//! Certificates of attestation keys: that a TPM answered this server's challenge, in a form that
//! others can believe later.
//!
//! Activation convinces only the verifier that ran it. The certificate makes it transferable: with
//! it, `assay verify tpm --ak-cert … --ak-roots … --at …` judges a quote of that node years from now.
//! It says that the key is in a TPM that was admitted; it is no SVID, and it says nothing of what the
//! machine booted.
//!
//! The issuer is the hardware key of the X.509 authority under a name of its own, bound by its
//! extended key usage to this one purpose and never part of the bundle, so neither kind of
//! certificate can be taken for the other.

use std::time::Duration;

use assay_evidence::Time;
use assay_evidence::crypto;

use crate::appraisal::Grant;
use crate::appraisal::GrantKind;
use crate::ca::Authority;
use crate::ca::CaError;
use crate::ca::authority::BACKDATED;
use crate::ca::authority::Kept;
use crate::ca::authority::authority_id;
use crate::ca::authority::first_certificate;
use crate::ca::authority::kept;
use crate::ca::authority::whole_seconds;
use crate::ca::certificate::AuthorityCertificate;
use crate::ca::prepared::PreparedCertificate;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::store::AuthorityKind;

/// A signed certificate of an attestation key and the one it stands below, both DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationCertificate {
    pub certificate: Vec<u8>,
    pub authority: Vec<u8>,
    pub serial: Serial,
    pub not_after: Time,
}

impl Authority {
    /// Spends a grant for an attestation key: prepares, records and signs its certificate.
    pub async fn certify_attestation_key(
        &self,
        grant: Grant,
        within: Duration,
    ) -> Result<AttestationCertificate, CaError> {
        let own = &self.0;
        let GrantKind::AttestationKey { standing, spki_der } = grant.kind() else {
            let expected = "the certificate of an attestation key";
            return Err(CaError::GrantKind { found: grant.name(), expected });
        };
        let name = format!("attestation key {}", node_id(standing.node()));
        let key = &own.keys.x509;
        let issuer = self.attestation_authority().await?;
        let now = own.clock.now();
        let serial = Serial::from_random(self.random_bytes()?);
        let not_before = whole_seconds(now - BACKDATED);
        let not_after = whole_seconds((now + LIFETIME).min(issuer.not_after()));
        let tbs = issuer.attestation_key(&name, spki_der, serial, not_before, not_after)?;
        let prepared = PreparedCertificate {
            tbs,
            serial,
            spki_sha256: crypto::sha256(spki_der),
            not_before,
            not_after,
            custody: key.custody().class(),
            authority_id: authority_id(AuthorityKind::Attestation, key),
            grant,
        };
        let recorded = own.store.record(vec![prepared]).await?.pop().ok_or(CaError::Random)?;
        self.demand_standing(&recorded.intent().grant)?;
        let (prepared, signature) = key.sign(recorded, within).await?;
        Ok(AttestationCertificate {
            certificate: prepared.tbs.signed(signature.der()),
            authority: issuer.der().to_vec(),
            serial,
            not_after,
        })
    }

    /// The authority of attestation keys; made when it is first asked for.
    async fn attestation_authority(&self) -> Result<AuthorityCertificate, CaError> {
        let own = &self.0;
        let _one_at_a_time = own.making_attestation_authority.lock().await;
        let now = own.clock.now();
        let (kind, key) = (AuthorityKind::Attestation, &own.keys.x509);
        match kept(&own.store, kind, key, now).await? {
            Kept::Alive(row) => Ok(AuthorityCertificate::from_der(&row.public)?),
            Kept::Gone { revision } => {
                let serial = self.random_bytes()?;
                first_certificate(kind, key, &own.store, &own.config, now, serial, revision).await
            }
        }
    }
}

/// The last part of `/spire/agent/assay/<node id>`.
fn node_id(node: &SpiffeId) -> String {
    node.to_string().rsplit('/').next().unwrap_or_default().to_owned()
}

/// A TPM keeps its attestation key for life; the certificate is renewed where it is still wanted.
const LIFETIME: Duration = Duration::from_secs(365 * 86_400);
