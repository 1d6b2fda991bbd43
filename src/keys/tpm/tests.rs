//! Custody on real software TPMs.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use assay_evidence::crypto::SoftwareKey;
use assay_evidence::crypto::SystemRandom;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use assay_tpm::EkRoot;
use assay_tpm::TpmClass;
use tempfile::TempDir;

use super::*;
use crate::appraisal::CustodyClass;
use crate::clock::Clock;
use crate::keys;
use crate::keys::KeysConfig;
use crate::records::Actor;
use crate::records::Data;
use crate::records::Draft;
use crate::records::Intent;
use crate::records::KeyAct;
use crate::records::KeyEvent;
use crate::records::Subject;
use crate::store::Store;

struct Lab {
    folder: TempDir,
    ca: LocalCa,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path().join("ca")).unwrap();
        Self { folder, ca }
    }

    fn tpm(&self, name: &str) -> RunningTpm {
        let folder = self.folder.path().join(name);
        SoftwareTpm::provision(&self.ca, folder, name).unwrap().start().unwrap()
    }

    fn state(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }
}

fn anchors(tpm: &RunningTpm) -> Anchors {
    let read = |path: &Path| {
        Certificate::parse_set(&std::fs::read(path).unwrap()).unwrap().into_iter().next().unwrap()
    };
    let [root, intermediate] = tpm.ek_roots();
    let root = EkRoot { certificate: read(root), class: TpmClass::Software };
    Anchors::new(vec![root], vec![read(intermediate)])
}

fn open_with(tpm: &RunningTpm, anchors: Anchors, state: &Path) -> Result<IssuingKeys, KeysError> {
    let config = TpmConfig { tcti: tpm.tcti(), settings: Settings::default(), anchors };
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let random = &mut SystemRandom::new();
    keys::open(&KeysConfig::Tpm(config), state, &trust_domain, &Clock::machine(), random)
}

fn open(tpm: &RunningTpm, state: &Path) -> Result<IssuingKeys, KeysError> {
    open_with(tpm, anchors(tpm), state)
}

/// Anything that is recorded can be signed.
#[derive(Debug)]
struct Note(Vec<u8>);

impl Intent for Note {
    fn draft(&self) -> Draft {
        Draft {
            subject: Subject::TrustDomain,
            actor: Actor::Server,
            refs: Vec::new(),
            data: Data::KeyEvent(KeyEvent {
                act: KeyAct::Opened,
                authority: String::new(),
                spki_sha256: crypto::sha256(&self.0),
                custody: CustodyClass::HwTpmCertified,
            }),
        }
    }
}

impl keys::ToSign for Note {
    fn to_sign(&self) -> &[u8] {
        &self.0
    }

    fn urgency(&self) -> keys::Urgency {
        keys::Urgency::New
    }
}

#[tokio::test]
async fn keys_in_a_tpm_are_proved_at_each_start_and_stay_the_same() {
    let lab = Lab::new();
    let tpm = lab.tpm("server");
    let first = open(&tpm, &lab.state()).unwrap();
    for key in [&first.x509, &first.jwt] {
        assert_eq!(key.custody().class(), CustodyClass::HwTpmCertified);
        assert_eq!(key.custody().spki_sha256(), &key.spki_sha256());
        let addresses: Vec<String> = first.evidence.iter().map(address).collect();
        assert!(key.custody().evidence().iter().all(|one| addresses.contains(one)));
    }
    assert!(first.x509.capacity().signatures_per_second() > 1.0);

    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let path = lab.folder.path().join("store/assay.db");
    let store = Store::open(&path, &trust_domain, Clock::machine()).unwrap();
    for key in [&first.x509, &first.jwt] {
        let recorded = store.record(vec![Note(b"recorded".to_vec())]).await.unwrap().pop().unwrap();
        let within = std::time::Duration::from_secs(20);
        let (note, signature) = key.sign(recorded, within).await.unwrap();
        let scheme = crypto::SignatureScheme::EcdsaDer(HashAlgorithm::Sha256);
        crypto::verify_signature(scheme, key.public(), &note.0, signature.der()).unwrap();
    }

    let names = [first.x509.spki_sha256(), first.jwt.spki_sha256()];
    drop(first);
    tpm.reset().unwrap();
    let again = open(&tpm, &lab.state()).unwrap();
    assert_eq!([again.x509.spki_sha256(), again.jwt.spki_sha256()], names);
}

#[test]
fn the_keys_of_another_tpm_are_refused() {
    let lab = Lab::new();
    let one = lab.tpm("one");
    drop(open(&one, &lab.state()).unwrap());
    let other = lab.tpm("other");
    let refused = open(&other, &lab.state()).unwrap_err();
    let KeysError::Tpm(TpmKeysError::Device(collect::Error::Tpm { cause, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(cause, collect::Cause::Integrity);
    // The files are as they were: the right TPM still opens them.
    assert!(open(&one, &lab.state()).is_ok());
}

#[test]
fn a_tpm_below_no_configured_root_is_refused() {
    let lab = Lab::new();
    let tpm = lab.tpm("server");
    let stranger = Lab::new();
    let anchors = anchors(&stranger.tpm("stranger"));
    let refused = open_with(&tpm, anchors, &lab.state()).unwrap_err();
    assert_eq!(refused.reason(), Reason::CustodyUnproved);
    let none = Anchors::default();
    assert_eq!(open_with(&tpm, none, &lab.state()).unwrap_err().reason(), Reason::CustodyUnproved);
    // Nothing was made for a TPM that proved nothing.
    assert!(!lab.state().join("keys/x509.blob").exists());
}

#[test]
fn a_certification_counts_for_one_key_one_nonce_and_one_attestation_key() {
    let lab = Lab::new();
    let tpm = lab.tpm("server");
    let device = Device::open(&tpm.tcti()).unwrap();
    let random = &mut SystemRandom::new();
    let own = OwnTpm::prove(&device, &anchors(&tpm), Clock::machine().now(), random).unwrap();
    let auth = [7; 32];
    let make =
        || device.load_issuing_key(&device.create_issuing_key(&auth).unwrap(), &auth).unwrap();
    let key = make();
    let data = [1; 32];
    let statement = device.certify(&own.ak, &key, &data).unwrap();
    let spki = key.public().key().spki_sha256();
    let public = key.public().raw();
    let judge = |statement: &[u8], public: &[u8], proved: &ProvedKey, data: &[u8], spki| {
        accept(KeyName::X509, statement, public, proved, data, spki)
    };
    assert!(judge(&statement, public, &own.proved, &data, &spki).is_ok());

    let other = make();
    let other_public = other.public().raw();
    assert!(judge(&statement, other_public, &own.proved, &data, &spki).is_err());
    assert!(judge(&statement, public, &own.proved, &[2; 32], &spki).is_err());
    let software = SoftwareKey::generate().unwrap().public_key().spki_sha256();
    let refused = judge(&statement, public, &own.proved, &data, &software).unwrap_err();
    assert!(matches!(refused, KeysError::Tpm(TpmKeysError::OtherKey("x509"))));
    let mut changed = statement.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert!(judge(&changed, public, &own.proved, &data, &spki).is_err());

    // A restricted key, such as the attestation key itself, is no issuing key.
    let of_ak = device.certify(&own.ak, &own.ak, &data).unwrap();
    let ak_spki = own.ak.public().key().spki_sha256();
    assert!(judge(&of_ak, own.ak.public().raw(), &own.proved, &data, &ak_spki).is_err());

    // Another TPM vouches for its own keys only.
    let stranger = lab.tpm("stranger");
    let strange = Device::open(&stranger.tcti()).unwrap();
    let now = Clock::machine().now();
    let theirs = OwnTpm::prove(&strange, &anchors(&stranger), now, random).unwrap();
    assert!(judge(&statement, public, &theirs.proved, &data, &spki).is_err());
}

#[test]
fn half_a_key_is_an_error_and_never_a_new_key() {
    let lab = Lab::new();
    let tpm = lab.tpm("server");
    drop(open(&tpm, &lab.state()).unwrap());
    let auth = lab.state().join("keys/x509.auth");
    let kept = std::fs::read(&auth).unwrap();
    assert_eq!(kept.len(), 32);
    std::fs::remove_file(&auth).unwrap();
    let refused = open(&tpm, &lab.state()).unwrap_err();
    assert!(matches!(refused, KeysError::Tpm(TpmKeysError::HalfAKey(_))));
    let folder = Folder::open(&lab.state().join("keys")).unwrap();
    folder.write("x509.auth", &[0; 32]).unwrap();
    assert!(open(&tpm, &lab.state()).is_err());
    folder.write("x509.auth", &kept).unwrap();
    assert!(open(&tpm, &lab.state()).is_ok());
}
