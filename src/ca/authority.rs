//! The authority of a trust domain: its certificate, its two keys, and what is issued below them.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use assay_evidence::Time;
use assay_evidence::crypto::Random;

use crate::appraisal::AuthorityAct;
use crate::appraisal::CustodyProof;
use crate::appraisal::Grant;
use crate::appraisal::GrantKind;
use crate::ca::CaError;
use crate::ca::MAX_AUDIENCE_BYTES;
use crate::ca::MAX_AUDIENCES;
use crate::ca::certificate;
use crate::ca::certificate::AuthorityCertificate;
use crate::ca::certificate::AuthorityUse;
use crate::ca::jwt;
use crate::ca::prepared::PreparedCertificate;
use crate::ca::prepared::PreparedJwt;
use crate::ca::prepared::PreparedX509;
use crate::ca::prepared::Terms;
use crate::ca::prepared::actor;
use crate::ca::request::SubjectKey;
use crate::clock::Clock;
use crate::keys::IssuingKey;
use crate::keys::IssuingKeys;
use crate::records::Data;
use crate::records::Draft;
use crate::records::KeyAct;
use crate::records::KeyEvent;
use crate::records::Ref;
use crate::records::Subject;
use crate::spiffe::Bundle;
use crate::spiffe::JwtAuthority;
use crate::spiffe::JwtSvid;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;
use crate::spiffe::X509Svid;
use crate::store::AuthorityKind;
use crate::store::AuthorityRow;
use crate::store::AuthorityState;
use crate::store::Blob;
use crate::store::Change;
use crate::store::Keep;
use crate::store::Recorded;
use crate::store::Store;

#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    pub trust_domain: TrustDomain,
    /// How long a new authority lives; nothing that it signs outlives it.
    pub ca_ttl: Duration,
    /// For workloads whose entry does not say, and for the server itself.
    pub x509_svid_ttl: Duration,
    pub jwt_svid_ttl: Duration,
    pub agent_svid_ttl: Duration,
    pub refresh_hint: Duration,
    /// SHA-256 of the configuration file: by whose will a first authority is made.
    pub config_sha256: [u8; 32],
}

/// The authority; cheap to clone.
#[derive(Clone)]
pub struct Authority(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) config: AuthorityConfig,
    pub(super) keys: IssuingKeys,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) random: Mutex<Box<dyn Random + Send>>,
    pub(super) certificate: AuthorityCertificate,
    pub(super) jwt_key_id: String,
    pub(super) jwt_not_after: Time,
    pub(super) bundle: RwLock<Bundle>,
    pub(super) making_attestation_authority: tokio::sync::Mutex<()>,
}

/// How far the authority's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Good {
        left: Duration,
    },
    /// The last sixth: time to make the next one.
    NearEnd {
        left: Duration,
    },
    Over,
}

impl AuthorityConfig {
    pub fn new(trust_domain: TrustDomain, config_sha256: [u8; 32]) -> Self {
        Self {
            trust_domain,
            ca_ttl: Duration::from_secs(90 * 86_400),
            x509_svid_ttl: Duration::from_secs(3_600),
            jwt_svid_ttl: Duration::from_secs(300),
            agent_svid_ttl: Duration::from_secs(3_600),
            refresh_hint: Duration::from_secs(60),
            config_sha256,
        }
    }
}

impl Authority {
    /// Opens the authority that these keys had before, or makes one: a self-signed certificate of
    /// the trust domain for the X.509 key, and an entry in the bundle for the JWT key.
    pub async fn open(
        keys: IssuingKeys,
        store: &Store,
        config: AuthorityConfig,
        clock: Clock,
        mut random: Box<dyn Random + Send>,
    ) -> Result<Self, CaError> {
        let now = clock.now();
        keep_evidence(store, &keys).await?;
        let certificate = match kept(store, AuthorityKind::X509, &keys.x509, now).await? {
            Kept::Alive(row) => AuthorityCertificate::from_der(&row.public)?,
            Kept::Gone { revision } => {
                let serial = sixteen(random.as_mut())?;
                let kind = AuthorityKind::X509;
                first_certificate(kind, &keys.x509, store, &config, now, serial, revision).await?
            }
        };
        if certificate.trust_domain() != config.trust_domain.id() {
            return Err(CaError::TrustDomain {
                found: certificate.trust_domain().to_owned(),
                expected: config.trust_domain.id(),
            });
        }
        let jwt = match kept(store, AuthorityKind::Jwt, &keys.jwt, now).await? {
            Kept::Alive(row) => row,
            Kept::Gone { revision } => {
                first_jwt_authority(&keys.jwt, store, &config, now, revision).await?
            }
        };
        let bundle = read_bundle(store, &config, now).await?;
        Ok(Self(Arc::new(Inner {
            jwt_key_id: jwt.authority_id,
            jwt_not_after: jwt.not_after,
            bundle: RwLock::new(bundle),
            making_attestation_authority: tokio::sync::Mutex::new(()),
            random: Mutex::new(random),
            store: store.clone(),
            certificate,
            config,
            keys,
            clock,
        })))
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.config.trust_domain
    }

    /// The bundle as last read.
    pub fn bundle(&self) -> Bundle {
        self.0.bundle.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the bundle again: other servers add their authorities to the same store. Call it when
    /// the store's bundle sequence has moved.
    pub async fn reload_bundle(&self) -> Result<Bundle, CaError> {
        let bundle = read_bundle(&self.0.store, &self.0.config, self.0.clock.now()).await?;
        *self.0.bundle.write().unwrap_or_else(PoisonError::into_inner) = bundle.clone();
        Ok(bundle)
    }

    /// The authority's certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        self.0.certificate.der()
    }

    /// Where the key of X.509-SVIDs lives; a grant for the server's own certificate needs it.
    pub fn custody(&self) -> &CustodyProof {
        self.0.keys.x509.custody()
    }

    pub fn keys(&self) -> &IssuingKeys {
        &self.0.keys
    }

    /// Of the shorter-lived of both authorities.
    pub fn life(&self) -> Life {
        let now = self.0.clock.now();
        let end = self.0.certificate.not_after().min(self.0.jwt_not_after);
        let left = end.since(now);
        if left.is_zero() {
            Life::Over
        } else if left <= self.0.config.ca_ttl / NEAR_END {
            Life::NearEnd { left }
        } else {
            Life::Good { left }
        }
    }

    /// Spends a grant for a workload, an agent or the server; signs nothing.
    pub fn prepare_x509(
        &self,
        grant: Grant,
        key: SubjectKey,
        terms: Terms,
    ) -> Result<PreparedX509, CaError> {
        let own = &self.0;
        let id = self.subject(&grant, "an X.509-SVID")?;
        let default = match grant.kind() {
            GrantKind::Agent { .. } => own.config.agent_svid_ttl,
            _ => own.config.x509_svid_ttl,
        };
        let now = own.clock.now();
        let asked = if grant.x509_ttl().is_zero() { default } else { grant.x509_ttl() };
        let not_after =
            end(now, asked, terms.max_ttl, grant.not_after(), own.certificate.not_after())?;
        let not_before = whole_seconds(now - BACKDATED);
        let serial = Serial::from_random(self.random_bytes()?);
        let dns_names = grant.entry().map_or(&[][..], |entry| entry.dns_names());
        let tbs = own.certificate.svid(&id, dns_names, &key, serial, not_before, not_after)?;
        Ok(PreparedX509 {
            tbs,
            id,
            serial,
            spki_sha256: key.spki_sha256(),
            not_before,
            not_after,
            terms,
            custody: own.keys.x509.custody().class(),
            authority_id: own.certificate.id(),
            grant,
        })
    }

    /// Spends a grant for a workload's token; signs nothing.
    pub fn prepare_jwt(&self, grant: Grant, audience: Vec<String>) -> Result<PreparedJwt, CaError> {
        let own = &self.0;
        let id = self.subject(&grant, "a JWT-SVID")?;
        let sizes = audience.iter().all(|one| (1..=MAX_AUDIENCE_BYTES).contains(&one.len()));
        if !(1..=MAX_AUDIENCES).contains(&audience.len()) || !sizes {
            return Err(CaError::Audience);
        }
        let now = own.clock.now();
        let asked =
            if grant.jwt_ttl().is_zero() { own.config.jwt_svid_ttl } else { grant.jwt_ttl() };
        let expires_at = end(now, asked, None, grant.not_after(), own.jwt_not_after)?;
        let issued_at = whole_seconds(now);
        let jti = hex::encode(self.random_bytes()?);
        let inside = grant.entry().is_some_and(|entry| entry.jwt_include_jti());
        let draft = jwt::Draft {
            sub: &id,
            aud: &audience,
            exp: expires_at.unix_s(),
            iat: issued_at.unix_s(),
            jti: inside.then_some(jti.as_str()),
        };
        let signing_input = jwt::signing_input(&own.jwt_key_id, &draft).map_err(CaError::Token)?;
        Ok(PreparedJwt {
            signing_input,
            id,
            audience,
            issued_at,
            expires_at,
            jti,
            key_id: own.jwt_key_id.clone(),
            custody: own.keys.jwt.custody().class(),
            grant,
        })
    }

    /// Has the recorded bytes signed, at most `within` from now.
    pub async fn issue_x509(
        &self,
        recorded: Recorded<PreparedX509>,
        within: Duration,
    ) -> Result<X509Svid, CaError> {
        self.demand_standing(&recorded.intent().grant)?;
        let (prepared, signature) = self.0.keys.x509.sign(recorded, within).await?;
        Ok(X509Svid {
            chain: vec![prepared.tbs.signed(signature.der())],
            hint: hint(&prepared.grant),
            id: prepared.id,
            serial: prepared.serial,
            not_before: prepared.not_before,
            not_after: prepared.not_after,
        })
    }

    /// Has the recorded token signed, at most `within` from now.
    pub async fn issue_jwt(
        &self,
        recorded: Recorded<PreparedJwt>,
        within: Duration,
    ) -> Result<JwtSvid, CaError> {
        self.demand_standing(&recorded.intent().grant)?;
        let (prepared, signature) = self.0.keys.jwt.sign(recorded, within).await?;
        Ok(JwtSvid {
            token: jwt::compact(&prepared.signing_input, signature.fixed()),
            hint: hint(&prepared.grant),
            id: prepared.id,
            issued_at: prepared.issued_at,
            expires_at: prepared.expires_at,
        })
    }

    fn subject(&self, grant: &Grant, expected: &'static str) -> Result<SpiffeId, CaError> {
        let id = grant.subject().ok_or(CaError::GrantKind { found: grant.name(), expected })?;
        if id.trust_domain() != self.trust_domain() {
            return Err(CaError::TrustDomain {
                found: id.trust_domain().to_string(),
                expected: self.trust_domain().to_string(),
            });
        }
        Ok(id.clone())
    }

    /// Records and queues take time; the standing must still count when the key signs.
    pub(super) fn demand_standing(&self, grant: &Grant) -> Result<(), CaError> {
        let now = self.0.clock.moment();
        match grant.standing() {
            Some(standing) if !standing.is_fresh(now) => Err(CaError::StandingStale),
            _ => Ok(()),
        }
    }

    pub(super) fn random_bytes(&self) -> Result<[u8; 16], CaError> {
        let mut random = self.0.random.lock().unwrap_or_else(PoisonError::into_inner);
        sixteen(random.as_mut())
    }
}

/// The proof of custody is evidence like any other, and kept as long as the records.
async fn keep_evidence(store: &Store, keys: &IssuingKeys) -> Result<(), CaError> {
    if keys.evidence.is_empty() {
        return Ok(());
    }
    let mut changes = Vec::new();
    let mut refs = Vec::new();
    for item in &keys.evidence {
        let blob = Blob::new(item.media_type, item.bytes.clone(), Keep::Forever)?;
        refs.push(Ref::Blob(*blob.sha256()));
        changes.push(Change::Blob(blob));
    }
    let opened = [(AuthorityKind::X509, &keys.x509), (AuthorityKind::Jwt, &keys.jwt)];
    let drafts = opened.map(|(kind, key)| Draft {
        subject: Subject::TrustDomain,
        actor: crate::records::Actor::Server,
        refs: refs.clone(),
        data: key_event(KeyAct::Opened, authority_id(kind, key), key),
    });
    store.commit(changes, drafts.into()).await?;
    Ok(())
}

/// What the store knows of an authority with this key.
pub(super) enum Kept {
    Alive(AuthorityRow),
    /// There is none, or its time is over; the row that takes its place replaces this revision.
    Gone {
        revision: i64,
    },
}

/// An authority that was taken out of use is not brought back by a restart.
pub(super) async fn kept(
    store: &Store,
    kind: AuthorityKind,
    key: &IssuingKey,
    now: Time,
) -> Result<Kept, CaError> {
    let (rows, _) = store.authorities().await?;
    let spki = key.spki_sha256();
    match rows.into_iter().find(|row| row.kind == kind && row.spki_sha256 == spki) {
        None => Ok(Kept::Gone { revision: 0 }),
        Some(row) if row.tainted || row.state != AuthorityState::Active => {
            Err(CaError::Retired { authority: row.authority_id })
        }
        Some(row) if now >= row.not_after => Ok(Kept::Gone { revision: row.revision }),
        Some(row) => Ok(Kept::Alive(row)),
    }
}

/// Records what will be signed, signs it, and only then puts it into the bundle.
pub(super) async fn first_certificate(
    kind: AuthorityKind,
    key: &IssuingKey,
    store: &Store,
    config: &AuthorityConfig,
    now: Time,
    serial: [u8; 16],
    revision: i64,
) -> Result<AuthorityCertificate, CaError> {
    let act = AuthorityAct::Configured { sha256: config.config_sha256 };
    let grant = Grant::authority(&config.trust_domain, act);
    let usage = match kind {
        AuthorityKind::Attestation => AuthorityUse::AttestationKeys,
        AuthorityKind::X509 | AuthorityKind::Jwt => AuthorityUse::Svids,
    };
    let serial = Serial::from_random(serial);
    let not_before = whole_seconds(now - BACKDATED);
    let not_after = whole_seconds(now + config.ca_ttl);
    let tbs = certificate::authority(
        &config.trust_domain,
        usage,
        key.spki_der(),
        serial,
        not_before,
        not_after,
    )?;
    let prepared = PreparedCertificate {
        tbs,
        grant,
        serial,
        spki_sha256: key.spki_sha256(),
        not_before,
        not_after,
        custody: key.custody().class(),
        authority_id: authority_id(kind, key),
    };
    let recorded = store.record(vec![prepared]).await?.pop().ok_or(CaError::Random)?;
    let seq = recorded.seq();
    let (prepared, signature) = key.sign(recorded, AUTHORITY_PATIENCE).await?;
    let der = prepared.tbs.signed(signature.der());
    let certificate = AuthorityCertificate::from_der(&der)?;
    let row =
        AuthorityRow { revision, public: der, ..authority_row(kind, key, not_before, not_after) };
    let event = Draft {
        subject: Subject::TrustDomain,
        actor: actor(&prepared.grant),
        refs: vec![Ref::Record(seq)],
        data: key_event(KeyAct::Created, row.authority_id.clone(), key),
    };
    store.commit(vec![Change::Authority(row)], vec![event]).await?;
    Ok(certificate)
}

async fn first_jwt_authority(
    key: &IssuingKey,
    store: &Store,
    config: &AuthorityConfig,
    now: Time,
    revision: i64,
) -> Result<AuthorityRow, CaError> {
    let act = AuthorityAct::Configured { sha256: config.config_sha256 };
    let grant = Grant::authority(&config.trust_domain, act);
    let not_before = whole_seconds(now - BACKDATED);
    let not_after = whole_seconds(now + config.ca_ttl);
    let row = AuthorityRow {
        revision,
        public: key.spki_der().to_vec(),
        ..authority_row(AuthorityKind::Jwt, key, not_before, not_after)
    };
    let event = Draft {
        subject: Subject::TrustDomain,
        actor: actor(&grant),
        refs: Vec::new(),
        data: key_event(KeyAct::Created, row.authority_id.clone(), key),
    };
    store.commit(vec![Change::Authority(row.clone())], vec![event]).await?;
    Ok(row)
}

fn authority_row(
    kind: AuthorityKind,
    key: &IssuingKey,
    not_before: Time,
    not_after: Time,
) -> AuthorityRow {
    AuthorityRow {
        authority_id: authority_id(kind, key),
        revision: 0,
        server_id: String::new(),
        kind,
        spki_sha256: key.spki_sha256(),
        public: Vec::new(),
        not_before,
        not_after,
        state: AuthorityState::Active,
        tainted: false,
        custody: key.custody().class(),
    }
}

fn key_event(act: KeyAct, authority: String, key: &IssuingKey) -> Data {
    let custody = key.custody().class();
    Data::KeyEvent(KeyEvent { act, authority, spki_sha256: key.spki_sha256(), custody })
}

/// Names the authority in records; unlike for each use of a key.
pub(super) fn authority_id(kind: AuthorityKind, key: &IssuingKey) -> String {
    let key_id = || hex::encode(crate::ca::lint::key_id(key.spki_der()));
    match kind {
        AuthorityKind::X509 => key_id(),
        AuthorityKind::Jwt => jwt::key_id(key.spki_der()),
        AuthorityKind::Attestation => format!("attestation-{}", key_id()),
    }
}

async fn read_bundle(
    store: &Store,
    config: &AuthorityConfig,
    now: Time,
) -> Result<Bundle, CaError> {
    let (rows, sequence) = store.authorities().await?;
    let mut bundle = Bundle {
        trust_domain: config.trust_domain.clone(),
        x509_authorities: Vec::new(),
        jwt_authorities: Vec::new(),
        sequence,
        refresh_hint_s: i64::try_from(config.refresh_hint.as_secs()).unwrap_or(i64::MAX),
    };
    for row in rows.into_iter().filter(|row| now < row.not_after && !row.tainted) {
        match row.kind {
            AuthorityKind::X509 => bundle.x509_authorities.push(row.public),
            AuthorityKind::Jwt => bundle.jwt_authorities.push(JwtAuthority {
                key_id: row.authority_id,
                public_key: row.public,
                expires_at: row.not_after,
            }),
            // Who trusts workloads is not asked to trust anything about attestation keys.
            AuthorityKind::Attestation => {}
        }
    }
    Ok(bundle)
}

/// The earliest of all ends that apply, in whole seconds; it must lie ahead.
fn end(
    now: Time,
    asked: Duration,
    at_most: Option<Duration>,
    entry_end: Option<Time>,
    authority_end: Time,
) -> Result<Time, CaError> {
    if authority_end <= now {
        return Err(CaError::AuthorityOver { end: authority_end });
    }
    let ttl = at_most.map_or(asked, |most| most.min(asked));
    let end = (now + ttl).min(authority_end);
    let end = whole_seconds(entry_end.map_or(end, |entry_end| entry_end.min(end)));
    if end <= now { Err(CaError::Ended { end, now }) } else { Ok(end) }
}

/// Certificates and tokens know whole seconds only (RFC 5280 section 4.1.2.5).
pub(super) fn whole_seconds(time: Time) -> Time {
    Time::from_unix_s(time.unix_s())
}

fn hint(grant: &Grant) -> String {
    grant.entry().map(|entry| entry.hint().to_owned()).unwrap_or_default()
}

fn sixteen(random: &mut (dyn Random + Send)) -> Result<[u8; 16], CaError> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes).map_err(|_| CaError::Random)?;
    Ok(bytes)
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("trust_domain", self.trust_domain())
            .field("x509", &self.0.keys.x509)
            .field("jwt", &self.0.keys.jwt)
            .finish_non_exhaustive()
    }
}

/// For clocks that are behind ours.
pub(super) const BACKDATED: Duration = Duration::from_secs(30);
/// From the last such part of its life on, the next authority is due.
const NEAR_END: u32 = 6;
/// A server that starts has nothing else to do; the slowest devices sign once in five seconds.
const AUTHORITY_PATIENCE: Duration = Duration::from_secs(30);
