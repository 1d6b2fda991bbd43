//! The authority as a whole, on a real store, with keys in memory.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SoftwareKey;
use assay_evidence::crypto::SystemRandom;
use assay_tpm::ProvedKey;
use assay_tpm::ak_certificate;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::*;
use crate::appraisal::AuthorityAct;
use crate::appraisal::DenySet;
use crate::appraisal::Grant;
use crate::appraisal::Standing;
use crate::appraisal::StandingRow;
use crate::appraisal::authorized_entries;
use crate::clock::Clock;
use crate::keys;
use crate::keys::IssuingKeys;
use crate::keys::KeysConfig;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::EntryParams;
use crate::spiffe::Instance;
use crate::spiffe::Selector;
use crate::spiffe::TrustDomain;
use crate::spiffe::X509Svid;
use crate::store::AuthorityKind;
use crate::store::AuthorityRow;
use crate::store::Change;
use crate::store::Store;

const NOW_S: i64 = 1_800_000_000;
const NODE: &str = "/spire/agent/assay/00112233445566778899aabbccddeeff";
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    folder: TempDir,
    clock: Clock,
    store: Store,
    authority: Authority,
}

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn keys(folder: &Path, clock: &Clock) -> IssuingKeys {
    let config = KeysConfig::software(true).unwrap();
    keys::open(&config, folder, &trust_domain(), clock, &mut SystemRandom::new()).unwrap()
}

async fn authority(keys: IssuingKeys, store: &Store, clock: &Clock) -> Result<Authority, CaError> {
    let config = AuthorityConfig::new(trust_domain(), [9; 32]);
    let random = Box::new(SystemRandom::new());
    Authority::open(keys, store, config, clock.clone(), random).await
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Time::from_unix_s(NOW_S));
    let keys = keys(folder.path(), &clock);
    world_with(folder, clock, keys).await
}

async fn world_with(folder: TempDir, clock: Clock, keys: IssuingKeys) -> World {
    let path = folder.path().join("store").join("assay.db");
    let store = Store::open(&path, &trust_domain(), clock.clone()).unwrap();
    let authority = authority(keys, &store, &clock).await.unwrap();
    World { folder, clock, store, authority }
}

impl World {
    fn entry(&self, change: impl FnOnce(&mut EntryParams)) -> Entry {
        let mut params = EntryParams {
            id: EntryId::parse("web").unwrap(),
            spiffe_id: trust_domain().member("/web").unwrap(),
            parent_id: trust_domain().member(NODE).unwrap(),
            selectors: BTreeSet::from([Selector::parse("unix:uid:1000").unwrap()]),
            x509_svid_ttl: Duration::ZERO,
            jwt_svid_ttl: Duration::ZERO,
            admin: false,
            downstream: false,
            expires_at: None,
            dns_names: vec!["web.example.org".to_owned()],
            hint: "external".to_owned(),
            instance: Instance::Shared,
            admit_unattested: false,
            jwt_include_jti: false,
        };
        change(&mut params);
        Entry::new(params, &trust_domain(), self.clock.now(), 3).unwrap()
    }

    fn standing(&self) -> Standing {
        let quoted_at = self.clock.now();
        let row = StandingRow {
            node: trust_domain().member(NODE).unwrap(),
            appraisal_id: "a1".to_owned(),
            quoted_at,
            expires_at: quoted_at + Duration::from_secs(180),
            reset_count: 1,
            profile_id: "p".to_owned(),
            profile_serial: 1,
            profile_sha256: [0; 32],
            policy_sha256: [0; 32],
            revocation_sequence: 0,
            selectors: BTreeSet::new(),
        };
        Standing::restored(row, self.clock.moment())
    }

    fn grant(&self, change: impl FnOnce(&mut EntryParams)) -> Grant {
        let entries = [self.entry(change)];
        let standing = self.standing();
        let now = self.clock.now();
        let authorized = authorized_entries(standing.node(), &BTreeSet::new(), &entries, now);
        let deny = DenySet::default();
        Grant::workload(&standing, &authorized[0], &deny, self.clock.moment()).unwrap()
    }

    async fn svid(&self, grant: Grant, key: SubjectKey) -> X509Svid {
        let prepared = self.authority.prepare_x509(grant, key, Terms::default()).unwrap();
        let recorded = self.store.record(vec![prepared]).await.unwrap().pop().unwrap();
        self.authority.issue_x509(recorded, PATIENCE).await.unwrap()
    }
}

fn subject_key() -> SubjectKey {
    let key = SoftwareKey::generate().unwrap();
    SubjectKey::from_spki(&key.public_key().to_spki()).unwrap()
}

fn pem(folder: &Path, name: &str, der: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    std::fs::write(&path, text).unwrap();
    path
}

fn openssl_verifies(world: &World, leaf: &[u8], purpose: &str) -> bool {
    let root = pem(world.folder.path(), "root.pem", world.authority.certificate());
    let leaf = pem(world.folder.path(), "leaf.pem", leaf);
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose, "-attime"])
        .arg(NOW_S.to_string())
        .arg("-CAfile")
        .args([&root, &leaf])
        .output()
        .unwrap();
    output.status.success()
}

#[tokio::test]
async fn an_issued_chain_passes_the_strict_verification_of_openssl() {
    let world = world().await;
    let keys = [
        subject_key(),
        SubjectKey::from_spki(&rcgen::PublicKeyData::subject_public_key_info(
            &rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        ))
        .unwrap(),
    ];
    for key in keys {
        let svid = world.svid(world.grant(|_| ()), key).await;
        assert_eq!(svid.chain.len(), 1);
        assert!(openssl_verifies(&world, &svid.chain[0], "sslserver"));
        assert!(openssl_verifies(&world, &svid.chain[0], "sslclient"));
        let mut changed = svid.chain[0].clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        assert!(!openssl_verifies(&world, &changed, "sslclient"));
    }
}

#[tokio::test]
async fn what_is_signed_is_what_was_recorded() {
    let world = world().await;
    let key = subject_key();
    let spki_sha256 = hex::encode(key.spki_sha256());
    let prepared = world.authority.prepare_x509(world.grant(|_| ()), key, Terms::default());
    let recorded = world.store.record(vec![prepared.unwrap()]).await.unwrap().pop().unwrap();
    let seq = recorded.seq();
    let svid = world.authority.issue_x509(recorded, PATIENCE).await.unwrap();
    let (_, certificate) = X509Certificate::from_der(&svid.chain[0]).unwrap();
    let signed = hex::encode(crypto::sha256(certificate.tbs_certificate.as_ref()));

    let record = world.store.record_at(seq).await.unwrap().unwrap();
    let datum = |name: &str| record.body.datum(name).unwrap().as_str().unwrap().to_owned();
    assert_eq!(record.body.kind(), "issue-x509");
    assert_eq!(record.body.subject(), "spiffe://example.org/web");
    assert_eq!(datum("tbs_sha256"), signed);
    assert_eq!(datum("spki_sha256"), spki_sha256);
    assert_eq!(datum("serial"), svid.serial.to_string());
    assert_eq!(datum("grant"), "workload");
    assert_eq!(datum("custody"), "software");
    assert_eq!(datum("entry_revision"), "3");
    assert_eq!(record.body.refs().len(), 2);

    let prepared = world.authority.prepare_jwt(world.grant(|_| ()), vec!["db".to_owned()]);
    let recorded = world.store.record(vec![prepared.unwrap()]).await.unwrap().pop().unwrap();
    let seq = recorded.seq();
    let svid = world.authority.issue_jwt(recorded, PATIENCE).await.unwrap();
    let (signed, _) = svid.token.rsplit_once('.').unwrap();
    let record = world.store.record_at(seq).await.unwrap().unwrap();
    let datum = |name: &str| record.body.datum(name).unwrap().as_str().unwrap().to_owned();
    assert_eq!(datum("signing_input_sha256"), hex::encode(crypto::sha256(signed.as_bytes())));
}

#[tokio::test]
async fn every_signature_of_the_authority_has_its_record() {
    let world = world().await;
    let (_, root) = X509Certificate::from_der(world.authority.certificate()).unwrap();
    let signed = hex::encode(crypto::sha256(root.tbs_certificate.as_ref()));
    let records = world.store.records(0, 100).await.unwrap();
    let kinds: Vec<&str> = records.iter().map(|record| record.body.kind()).collect();
    assert_eq!(kinds, ["issue-x509", "key-event", "key-event"]);
    let datum = |name: &str| records[0].body.datum(name).unwrap().as_str().unwrap().to_owned();
    assert_eq!(datum("tbs_sha256"), signed);
    assert_eq!(datum("grant"), "authority");
    assert_eq!(records[0].body.subject(), "spiffe://example.org");
}

#[tokio::test]
async fn serials_of_ten_thousand_certificates_differ() {
    let world = world().await;
    let key = subject_key();
    let serials: BTreeSet<_> = (0..10_000)
        .map(|_| {
            let grant = world.grant(|_| ());
            let prepared = world.authority.prepare_x509(grant, key.clone(), Terms::default());
            prepared.unwrap().serial()
        })
        .collect();
    assert_eq!(serials.len(), 10_000);
}

#[tokio::test]
async fn an_identity_ends_with_the_earliest_of_its_bounds() {
    let world = world().await;
    let end_after = |change: fn(&mut EntryParams), terms: Terms| {
        let prepared = world.authority.prepare_x509(world.grant(change), subject_key(), terms);
        prepared.map(|prepared| prepared.not_after().unix_s() - NOW_S)
    };
    let none = Terms::default;
    assert_eq!(end_after(|_| (), none()).unwrap(), 3_600);
    assert_eq!(end_after(|p| p.x509_svid_ttl = Duration::from_secs(600), none()).unwrap(), 600);
    assert_eq!(
        end_after(|p| p.expires_at = Some(Time::from_unix_s(NOW_S + 90)), none()).unwrap(),
        90
    );
    let most = |seconds| Terms { max_ttl: Some(Duration::from_secs(seconds)), ..none() };
    assert_eq!(end_after(|_| (), most(270)).unwrap(), 270);
    assert_eq!(end_after(|_| (), most(90_000)).unwrap(), 3_600);
    assert!(matches!(end_after(|_| (), most(0)), Err(CaError::Ended { .. })));

    world.clock.advance(Duration::from_secs(90 * 86_400 - 100));
    assert_eq!(end_after(|_| (), none()).unwrap(), 90 * 86_400);
    let jwt = world.authority.prepare_jwt(world.grant(|_| ()), vec!["db".to_owned()]).unwrap();
    assert_eq!(jwt.expires_at().unix_s() - NOW_S, 90 * 86_400);
    world.clock.advance(Duration::from_secs(100));
    assert!(matches!(end_after(|_| (), none()), Err(CaError::AuthorityOver { .. })));
}

#[tokio::test]
async fn agents_and_the_server_get_certificates_of_their_own_kind() {
    let world = world().await;
    let agent = Grant::agent(&world.standing(), &DenySet::default(), world.clock.moment()).unwrap();
    let svid = world.svid(agent, subject_key()).await;
    assert_eq!(svid.id.path(), NODE);
    let server = Grant::server(&trust_domain(), world.authority.custody().clone());
    let svid = world.svid(server, subject_key()).await;
    assert_eq!(svid.id.to_string(), "spiffe://example.org/spire/server");
    assert!(openssl_verifies(&world, &svid.chain[0], "sslserver"));
}

#[tokio::test]
async fn a_grant_over_the_authority_is_no_grant_for_an_identity() {
    let world = world().await;
    let act = AuthorityAct::Operator { uid: 0, pid: 1 };
    let grant = Grant::authority(&trust_domain(), act.clone());
    let refused = world.authority.prepare_x509(grant, subject_key(), Terms::default());
    assert!(matches!(refused, Err(CaError::GrantKind { found: "authority", .. })));
    let grant = Grant::authority(&trust_domain(), act);
    let refused = world.authority.prepare_jwt(grant, vec!["db".to_owned()]);
    assert!(matches!(refused, Err(CaError::GrantKind { .. })));
    let elsewhere = TrustDomain::parse("other.org").unwrap();
    let grant = Grant::server(&elsewhere, world.authority.custody().clone());
    let refused = world.authority.prepare_x509(grant, subject_key(), Terms::default());
    assert!(matches!(refused, Err(CaError::TrustDomain { .. })));
}

#[tokio::test]
async fn a_certified_attestation_key_is_believed_as_one_and_is_no_identity() {
    let world = world().await;
    let subject = SoftwareKey::generate().unwrap().public_key();
    let key = ProvedKey::enrolled_bare(subject).unwrap();
    let grant = || {
        let now = world.clock.moment();
        Grant::attestation_key(&world.standing(), &key, &DenySet::default(), now).unwrap()
    };
    let refused = world.authority.prepare_x509(grant(), subject_key(), Terms::default());
    assert!(matches!(refused, Err(CaError::GrantKind { found: "attestation-key", .. })));

    let signed = world.authority.certify_attestation_key(grant(), PATIENCE).await.unwrap();
    let again = world.authority.certify_attestation_key(grant(), PATIENCE).await.unwrap();
    assert_eq!(signed.authority, again.authority);
    let leaf = Certificate::parse(&signed.certificate).unwrap();
    let root = |der: &[u8]| [Certificate::parse(der).unwrap()];
    let now = world.clock.now();
    let verify = |root: &[Certificate]| ak_certificate::verify(&leaf, &[], root, now);
    assert_eq!(verify(&root(&signed.authority)).unwrap().key(), key.public_key());
    // The same key signed both, and yet the authority of SVIDs is no authority of this.
    assert!(verify(&root(world.authority.certificate())).is_err());
    let bundle = world.authority.reload_bundle().await.unwrap();
    assert_eq!(bundle.x509_authorities, [world.authority.certificate()]);

    let gone = world.standing();
    world.clock.advance(Duration::from_secs(200));
    let now = world.clock.moment();
    assert!(Grant::attestation_key(&gone, &key, &DenySet::default(), now).is_err());
}

#[tokio::test]
async fn nothing_is_signed_once_the_standing_ended() {
    let world = world().await;
    let x509 = world.authority.prepare_x509(world.grant(|_| ()), subject_key(), Terms::default());
    let x509 = world.store.record(vec![x509.unwrap()]).await.unwrap().pop().unwrap();
    let jwt = world.authority.prepare_jwt(world.grant(|_| ()), vec!["db".to_owned()]).unwrap();
    let jwt = world.store.record(vec![jwt]).await.unwrap().pop().unwrap();
    world.clock.advance(Duration::from_secs(180));
    let refused = world.authority.issue_x509(x509, PATIENCE).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::StandingStale);
    let refused = world.authority.issue_jwt(jwt, PATIENCE).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::StandingStale);
}

#[tokio::test]
async fn a_token_verifies_with_the_bundle_and_says_what_was_asked() {
    let world = world().await;
    let audience = vec!["db".to_owned(), "mail".to_owned()];
    for jti in [false, true] {
        let grant = world.grant(|p| p.jwt_include_jti = jti);
        let prepared = world.authority.prepare_jwt(grant, audience.clone()).unwrap();
        let recorded = world.store.record(vec![prepared]).await.unwrap().pop().unwrap();
        let svid = world.authority.issue_jwt(recorded, PATIENCE).await.unwrap();
        let bundle = world.authority.bundle();
        let claims = jwt::verify_jwt(&svid.token, "mail", &bundle, world.clock.now()).unwrap();
        assert_eq!(claims.id(), &svid.id);
        assert_eq!(claims.expires_at(), Time::from_unix_s(NOW_S + 300));
        assert_eq!(claims.all().contains_key("jti"), jti);
        assert!(jwt::verify_jwt(&svid.token, "web", &bundle, world.clock.now()).is_err());
    }
}

#[tokio::test]
async fn audiences_are_one_to_sixteen() {
    let world = world().await;
    let prepare = |count: usize, size: usize| {
        let audience = (0..count).map(|i| format!("{i:0size$}")).collect();
        world.authority.prepare_jwt(world.grant(|_| ()), audience).map(drop)
    };
    assert!(prepare(1, 1).is_ok() && prepare(16, 2_048).is_ok());
    for (count, size) in [(0, 1), (17, 2), (1, 2_049)] {
        let refused = prepare(count, size).unwrap_err();
        assert_eq!(refused.reason(), Reason::AudienceInvalid);
    }
    let empty = world.authority.prepare_jwt(world.grant(|_| ()), vec![String::new()]);
    assert!(matches!(empty, Err(CaError::Audience)));
}

#[tokio::test]
async fn a_restart_keeps_the_authority_and_its_end_makes_the_next() {
    let world = world().await;
    let bundle = world.authority.bundle();
    assert_eq!(bundle.x509_authorities, [world.authority.certificate()]);
    assert_eq!(bundle.jwt_authorities.len(), 1);
    assert!(matches!(world.authority.life(), Life::Good { .. }));

    let reopened = keys(world.folder.path(), &world.clock);
    let again = authority(reopened, &world.store, &world.clock).await.unwrap();
    assert_eq!(again.certificate(), world.authority.certificate());
    assert_eq!(again.bundle(), bundle);

    world.clock.advance(Duration::from_secs(75 * 86_400));
    assert!(matches!(world.authority.life(), Life::NearEnd { .. }));
    world.clock.advance(Duration::from_secs(15 * 86_400));
    assert_eq!(world.authority.life(), Life::Over);

    let reopened = keys(world.folder.path(), &world.clock);
    let next = authority(reopened, &world.store, &world.clock).await.unwrap();
    assert_ne!(next.certificate(), world.authority.certificate());
    assert_eq!(next.bundle().x509_authorities, [next.certificate()]);
    assert_eq!(next.bundle().jwt_authorities.len(), 1);
    assert!(matches!(next.life(), Life::Good { .. }));
}

#[tokio::test]
async fn an_authority_that_was_taken_out_of_use_stays_so() {
    let world = world().await;
    let (rows, _) = world.store.authorities().await.unwrap();
    let row = rows.into_iter().find(|row| row.kind == AuthorityKind::X509).unwrap();
    let tainted = AuthorityRow { tainted: true, ..row };
    world.store.commit(vec![Change::Authority(tainted)], Vec::new()).await.unwrap();
    assert!(world.authority.reload_bundle().await.unwrap().x509_authorities.is_empty());
    let reopened = keys(world.folder.path(), &world.clock);
    let refused = authority(reopened, &world.store, &world.clock).await.unwrap_err();
    assert!(matches!(refused, CaError::Retired { .. }));
}

#[test]
fn an_authority_of_another_trust_domain_is_refused() {
    let der = {
        let key = SoftwareKey::generate().unwrap();
        let tbs = certificate::authority(
            &TrustDomain::parse("other.org").unwrap(),
            certificate::AuthorityUse::Svids,
            &key.public_key().to_spki(),
            crate::spiffe::Serial::from_random([1; 16]),
            Time::from_unix_s(NOW_S),
            Time::from_unix_s(NOW_S + 10),
        )
        .unwrap();
        tbs.signed(&key.sign(tbs.as_bytes()).unwrap())
    };
    let read = certificate::AuthorityCertificate::from_der(&der).unwrap();
    assert_eq!(read.trust_domain(), "spiffe://other.org");
}

#[cfg(feature = "tpm")]
#[tokio::test]
async fn a_key_in_a_tpm_issues_and_its_proof_is_kept_with_the_records() {
    use assay_evidence::Certificate;
    use assay_tpm::EkRoot;
    use assay_tpm::collect::Settings;

    let folder = tempfile::tempdir().unwrap();
    let ca = assay_swtpm::LocalCa::create(folder.path().join("tpm-ca")).unwrap();
    let tpm = assay_swtpm::SoftwareTpm::provision(&ca, folder.path().join("tpm"), "server");
    let tpm = tpm.unwrap().start().unwrap();
    let [root, intermediate] = tpm
        .ek_roots()
        .clone()
        .map(|path| Certificate::parse_set(&std::fs::read(path).unwrap()).unwrap().remove(0));
    let root = EkRoot { certificate: root, class: assay_tpm::TpmClass::Software };
    let config = KeysConfig::Tpm(keys::TpmConfig {
        tcti: tpm.tcti(),
        settings: Settings::default(),
        anchors: assay_tpm::Anchors::new(vec![root], vec![intermediate]),
    });
    let clock = Clock::manual(Clock::machine().now());
    let random = &mut SystemRandom::new();
    let keys = keys::open(&config, folder.path(), &trust_domain(), &clock, random).unwrap();
    let evidence = keys.evidence.clone();
    let world = world_with(folder, clock, keys).await;

    let svid = world.svid(world.grant(|_| ()), subject_key()).await;
    let bundle = world.authority.bundle();
    let (_, leaf) = X509Certificate::from_der(&svid.chain[0]).unwrap();
    let root = Certificate::parse(&bundle.x509_authorities[0]).unwrap();
    crypto::verify_signature(
        crypto::SignatureScheme::EcdsaDer(assay_evidence::HashAlgorithm::Sha256),
        root.public_key().unwrap(),
        leaf.tbs_certificate.as_ref(),
        &leaf.signature_value.data,
    )
    .unwrap();
    let issued = world.store.issued(&svid.serial).await.unwrap().unwrap();
    let record = world.store.record_at(issued.seq).await.unwrap().unwrap();
    assert_eq!(record.body.datum("custody").unwrap(), "hw_tpm_certified");

    for item in &evidence {
        let kept = world.store.blob(&crypto::sha256(&item.bytes)).await.unwrap().unwrap();
        assert_eq!(kept.bytes.as_deref(), Some(item.bytes.as_slice()));
    }
    let opened = world.store.records(0, 2).await.unwrap();
    for record in &opened {
        assert_eq!(record.body.datum("act").unwrap(), "opened");
        assert!(record.body.refs().len() >= evidence.len() - 1);
    }

    let prepared = world.authority.prepare_jwt(world.grant(|_| ()), vec!["db".to_owned()]).unwrap();
    let recorded = world.store.record(vec![prepared]).await.unwrap().pop().unwrap();
    let svid = world.authority.issue_jwt(recorded, PATIENCE).await.unwrap();
    assert!(jwt::verify_jwt(&svid.token, "db", &bundle, world.clock.now()).is_ok());
}
