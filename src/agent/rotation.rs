//! Keeps SVIDs fresh: makes keys, has them signed in batches, and does so again at half-life.
//!
//! Every SVID has a key of its own, made here and never reused. The certificate that comes back
//! must be for that key and that identity, or it is thrown away.

use std::sync::Arc;
use std::time::Duration;

use assay_evidence::certificate::AltName;
use assay_evidence::certificate::Certificate;
use assay_evidence::crypto::Random;
use assay_evidence::crypto::SoftwareKey;
use assay_evidence::crypto::SystemRandom;
use assay_evidence::key::PublicKey;
use assay_proto::assay::v1::InstanceFacts;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;

use crate::agent::caller::Callers;
use crate::agent::identities::Due;
use crate::agent::identities::Held;
use crate::agent::identities::Identities;
use crate::agent::upstream::Request;
use crate::agent::upstream::Signed;
use crate::agent::upstream::Upstream;
use crate::clock::Clock;
use crate::spiffe::SpiffeId;

/// SVIDs asked for by one call.
const BATCH: usize = 64;

/// What rotation needs.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub clock: Clock,
    pub identities: Arc<Identities>,
    pub callers: Arc<Callers>,
    pub upstream: Upstream,
}

/// A key and what to have signed for it.
struct Asked {
    due: Due,
    key: SoftwareKey,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("no certificate in it")]
    Empty,
    #[error("its certificate cannot be read")]
    Certificate,
    #[error("its certificate is for another key")]
    Key,
    #[error("its certificate is for `{0}`")]
    Identity(String),
    #[error("it has run out already")]
    Expired,
}

impl Rotation {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut changes = self.identities.changes();
        loop {
            if self.identities.state().may_issue() {
                let due = self.identities.due(BATCH);
                if !due.is_empty() {
                    self.renew(due).await;
                    continue;
                }
                tokio::select! {
                    () = self.identities.woken() => {}
                    () = tokio::time::sleep(self.identities.next_due()) => {}
                }
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn renew(&self, due: Vec<Due>) {
        let mut asked = Vec::with_capacity(due.len());
        let mut requests = Vec::with_capacity(due.len());
        for due in due {
            let Some(facts) = self.facts(&due).await else { continue };
            match SoftwareKey::generate().ok().and_then(|key| Some((request(&key)?, key))) {
                Some((csr, key)) => {
                    requests.push(Request { entry: due.slot.entry.clone(), csr, facts });
                    asked.push(Asked { due, key });
                }
                None => self.identities.fail(&due.slot),
            }
        }
        if requests.is_empty() {
            return;
        }
        match self.upstream.sign(requests).await {
            Ok(results) => {
                for (asked, result) in asked.into_iter().zip(results) {
                    self.take(asked, result);
                }
            }
            Err(error) => {
                tracing::warn!(count = asked.len(), %error, "svids not issued");
                for asked in &asked {
                    self.identities.fail(&asked.due.slot);
                }
            }
        }
    }

    /// For a process's own SVID: the process as it is now, which must still match its entry.
    /// Nothing where it does not.
    async fn facts(&self, due: &Due) -> Option<Option<InstanceFacts>> {
        let Some(peer) = &due.peer else { return Some(None) };
        let caller = self.callers.read(peer, self.identities.ask_for_digests()).await;
        match caller {
            Ok(caller) if due.entry.matches(&caller.selectors) => Some(Some(InstanceFacts {
                pid: caller.facts.pid,
                start_time: caller.facts.start_time,
                parent_serial: String::new(),
                executable_sha256: caller.facts.sha256.map(Vec::from).unwrap_or_default(),
            })),
            Ok(_) => {
                tracing::info!(
                    pid = peer.pid(),
                    entry = due.slot.entry.as_str(),
                    "no longer matches"
                );
                self.identities.drop_slot(&due.slot);
                None
            }
            Err(error) => {
                tracing::debug!(pid = peer.pid(), %error, "process not looked at");
                self.identities.fail(&due.slot);
                None
            }
        }
    }

    fn take(&self, asked: Asked, result: Result<Signed, String>) {
        let entry = asked.due.entry.id().as_str();
        let signed = match result {
            Ok(signed) => signed,
            Err(fault) => {
                tracing::warn!(entry, fault, "svid refused");
                return self.identities.fail(&asked.due.slot);
            }
        };
        match self.usable(&asked, &signed) {
            Ok(svid) => {
                let left = svid.not_after().since(self.clock.now());
                let held = Held {
                    id: asked.due.entry.spiffe_id().clone(),
                    chain: signed.chain,
                    serial: hex::encode(svid.serial()),
                    not_after: svid.not_after(),
                    hint: asked.due.entry.hint().to_owned(),
                    key: asked.key.pkcs8_der().clone(),
                    entry_revision: asked.due.entry.revision(),
                    renew_at: self.clock.boot() + jitter(left / 2),
                    peer: asked.due.peer,
                };
                tracing::info!(
                    entry, id = %held.id, serial = held.serial, not_after = %held.not_after,
                    pid = held.peer.as_ref().map(|peer| peer.pid()),
                    "svid issued"
                );
                self.identities.hold(asked.due.slot, held);
            }
            Err(fault) => {
                tracing::error!(entry, %fault, "the server's svid is unusable");
                self.identities.fail(&asked.due.slot);
            }
        }
    }

    /// The certificate, if it is what was asked for.
    fn usable(&self, asked: &Asked, signed: &Signed) -> Result<Certificate, Unusable> {
        let leaf = signed.chain.first().ok_or(Unusable::Empty)?;
        let svid = Certificate::parse(leaf).map_err(|_| Unusable::Certificate)?;
        if svid.spki_der() != asked.key.public_key().to_spki() {
            return Err(Unusable::Key);
        }
        match identity(&svid) {
            Some(id) if id == *asked.due.entry.spiffe_id() => {}
            Some(id) => return Err(Unusable::Identity(id.to_string())),
            None => return Err(Unusable::Identity("nobody".to_owned())),
        }
        match svid.not_after() > self.clock.now() {
            true => Ok(svid),
            false => Err(Unusable::Expired),
        }
    }
}

/// X509-SVID section 2: exactly one URI, the SPIFFE ID.
pub fn identity(certificate: &Certificate) -> Option<SpiffeId> {
    let mut uris =
        certificate.extensions().subject_alt_names.iter().filter_map(|name| match name {
            AltName::Uri(uri) => Some(uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => SpiffeId::parse(uri).ok(),
        _ => None,
    }
}

/// `around`, up to a tenth more or less, so that a fleet does not come all at once.
pub fn jitter(around: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter, and nothing is lost.
    let _ = SystemRandom::new().fill(&mut byte);
    around.mul_f64(0.9 + f64::from(byte[0]) / 255.0 * 0.2)
}

/// A certificate request says which key, and proves that we have it; the rest is the entry's.
fn request(key: &SoftwareKey) -> Option<Vec<u8>> {
    let public = key.public_key();
    let PublicKey::Ec { point, .. } = &public else { return None };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let signer = Signer { key, point };
    Some(params.serialize_request(&signer).ok()?.der().to_vec())
}

/// A key in memory as rcgen wants one.
struct Signer<'a> {
    key: &'a SoftwareKey,
    point: &'a [u8],
}

impl rcgen::PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
