//! Custody as a server sees it.
#![allow(clippy::unwrap_used)]

use assay_evidence::Time;
use assay_evidence::crypto::SystemRandom;

use super::*;
use crate::appraisal::CustodyClass;

fn open_software(folder: &Path) -> Result<IssuingKeys, KeysError> {
    let config = KeysConfig::software(true).unwrap();
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let clock = Clock::manual(Time::from_unix_s(1_800_000_000));
    open(&config, folder, &trust_domain, &clock, &mut SystemRandom::new())
}

#[test]
fn keys_in_memory_need_the_switch() {
    let refused = KeysConfig::software(false).unwrap_err();
    assert_eq!(refused.reason(), Reason::DangerSwitchOff);
    assert!(KeysConfig::software(true).is_ok());
}

#[test]
fn software_keys_are_kept_and_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let first = open_software(folder.path()).unwrap();
    assert_eq!(first.x509.custody().class(), CustodyClass::Software);
    assert_eq!(first.jwt.custody().spki_sha256(), &first.jwt.spki_sha256());
    assert_ne!(first.x509.spki_der(), first.jwt.spki_der());
    assert!(first.x509.capacity().signatures_per_second() > 1.0);
    let again = open_software(folder.path()).unwrap();
    assert_eq!(again.x509.spki_der(), first.x509.spki_der());
    assert_eq!(again.jwt.spki_der(), first.jwt.spki_der());
}

#[test]
fn a_damaged_key_file_is_an_error_and_never_a_new_key() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_software(folder.path()).unwrap());
    std::fs::write(folder.path().join("keys/x509.p8"), b"not a key").unwrap();
    assert!(matches!(open_software(folder.path()), Err(KeysError::KeyFile(_))));
}
