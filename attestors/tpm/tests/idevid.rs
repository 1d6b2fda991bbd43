//! Keys that a maker left in a device, and what they say of other keys.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/issuer.rs"]
mod issuer;
#[path = "support/machine.rs"]
mod machine;
#[path = "support/vectors.rs"]
mod vectors;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::crypto::SoftwareKey;
use assay_swtpm::Bank;
use assay_tpm::DeviceIdentity;
use assay_tpm::Error;
use assay_tpm::Hierarchy;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::Trust;
use assay_tpm::idevid;
use assay_tpm::idevid::Kind;
use assay_tpm::structures::attest::Attest;
use assay_tpm::structures::attest::Attested;
use assay_tpm::structures::public::Area;
use assay_tpm::structures::public::Shape;
use assay_tpm::verify::Signed;
use issuer::Extension;
use issuer::Issuer;
use machine::Machine;
use vectors::NONCE;
use vectors::NOW;
use vectors::Shown;
use vectors::device_certificate;
use vectors::expected;
use vectors::read_device;

const SHAPES: [&str; 5] = ["rsa2048", "p256", "rsa3072", "p384", "p521"];
const MIN_HASH: HashAlgorithm = HashAlgorithm::Sha256;

fn reason<T>(result: Result<T, Error>) -> Reason {
    let error = result.err().expect("it should have been refused");
    assert!(!error.finding().claim.is_empty());
    error.reason()
}

fn identity(kind: Kind, name: &str) -> Result<DeviceIdentity, Error> {
    let prefix = match kind {
        Kind::Idevid => "idevid",
        Kind::Iak => "iak",
    };
    let certificate = device_certificate(&format!("{prefix}-{name}.crt"));
    let public = read_device(&format!("{prefix}-{name}.public"));
    let roots = [device_certificate("maker.crt")];
    idevid::verify(kind, &certificate, &[], &roots, &public, NOW)
}

fn prove(iak: &DeviceIdentity, certify: &[u8], public: &[u8]) -> Result<ProvedKey, Error> {
    idevid::prove_ak(iak, Signed::from_item(certify)?, public, &NONCE, MIN_HASH)
}

#[test]
fn a_device_is_known_by_the_keys_that_its_maker_left_in_it() {
    for name in SHAPES {
        for kind in Kind::ALL {
            let found = identity(kind, name).unwrap_or_else(|e| panic!("{kind:?} {name}: {e}"));
            assert_eq!(found.hardware_serial(), b"TPM-0001");
            assert_eq!(found.kind(), kind);
            assert_eq!(found.attestation_key().is_some(), kind == Kind::Iak);
            assert_eq!(found.root_sha256(), &device_certificate("maker.crt").sha256());
        }
    }
}

#[test]
fn an_iak_says_that_an_attestation_key_is_in_its_tpm() {
    for name in SHAPES {
        let iak = identity(Kind::Iak, name).unwrap();
        let certify = read_device(&format!("ak-by-iak-{name}.certify"));
        let key = prove(&iak, &certify, &read_device("ak-p256.public")).unwrap();
        assert_eq!(key.trust(), Trust::Iak);
        // The key is then good for a quote.
        let shown = Shown {
            quote: read_device("quote-p256"),
            pcrs: Some(read_device("pcrs")),
            certify: None,
            svid_public: None,
        };
        let claims = shown.verify(&key, &expected()).unwrap();
        assert!(claims.banks_off().is_empty());
        // And the IAK itself quotes.
        let shown = Shown { quote: read_device(&format!("iak-{name}.quote")), ..shown };
        let claims = shown.verify(&iak.attestation_key().unwrap(), &expected()).unwrap();
        assert_eq!(claims.ak_trust(), Trust::Certificate);
    }
}

#[test]
fn what_an_iak_did_not_say_is_refused() {
    let iak = identity(Kind::Iak, "p256").unwrap();
    let certify = read_device("ak-by-iak-p256.certify");
    let public = read_device("ak-p256.public");
    let stale = Signed::from_item(&certify).unwrap();
    let refused = idevid::prove_ak(&iak, stale, &public, &[9; 32], MIN_HASH);
    assert_eq!(reason(refused), Reason::NonceMismatch);
    // Of another key, by another key, for a key in another place.
    let other = read_device("ak-p256-sha384.public");
    assert_eq!(reason(prove(&iak, &certify, &other)), Reason::KeyNameMismatch);
    let by_other = read_device("ak-by-iak-p384.certify");
    assert_eq!(reason(prove(&iak, &by_other, &public)), Reason::SigScheme);
    let by_ak = read_device("ldevid.certify");
    assert_eq!(reason(prove(&iak, &by_ak, &public)), Reason::SigInvalid);
    let owner = read_device("ak-owner.public");
    let certified = read_device("ak-owner-by-iak.certify");
    assert_eq!(reason(prove(&iak, &certified, &owner)), Reason::AkHierarchy);
    // A key that is no attestation key, and a statement of another type.
    assert_eq!(
        reason(prove(&iak, &certify, &read_device("ldevid.public"))),
        Reason::AkNotRestricted
    );
    let quote = read_device("iak-p256.quote");
    assert_eq!(reason(prove(&iak, &quote, &public)), Reason::AttestType);
    let creation = read_device("ak-by-iak.creation");
    assert_eq!(reason(prove(&iak, &creation, &public)), Reason::AttestType);
    // An IDevID signs anything, so what it signs says nothing.
    let device = identity(Kind::Idevid, "p256").unwrap();
    assert_eq!(reason(prove(&device, &certify, &public)), Reason::AkNotRestricted);
}

#[test]
fn a_statement_that_cannot_be_read_decides_before_any_key() {
    let iak = identity(Kind::Iak, "p256").unwrap();
    let certify = read_device("ak-by-iak-p256.certify");
    let whole = Signed::from_item(&certify).unwrap();
    let cut = Signed { attest: &whole.attest[..whole.attest.len() - 1], ..whole };
    // No attestation key, certified by a key that is none either.
    let (loose, device) = (read_device("ldevid.public"), identity(Kind::Idevid, "p256").unwrap());
    for signer in [&iak, &device] {
        let refused = idevid::prove_ak(signer, cut, &loose, &NONCE, MIN_HASH);
        assert_eq!(reason(refused), Reason::TpmMalformed);
        let refused = idevid::prove_ak(signer, whole, &loose[..9], &NONCE, MIN_HASH);
        assert_eq!(reason(refused), Reason::TpmMalformed);
        let refused = idevid::prove_ak(signer, whole, &loose, &NONCE, MIN_HASH);
        assert_eq!(reason(refused), Reason::AkNotRestricted);
    }
    // A device key of another certificate.
    let ak = iak.attestation_key().unwrap();
    let other = device_certificate("owner.crt").public_key().unwrap().clone();
    let verify =
        |certify| reason(idevid::verify_device_key(&other, certify, &loose, &ak, &NONCE, MIN_HASH));
    assert_eq!(verify(cut), Reason::TpmMalformed);
    assert_eq!(verify(whole), Reason::DevidKeyMismatch);
}

#[test]
fn a_statement_of_creation_is_read() {
    let item = read_device("ak-by-iak.creation");
    let attest = Attest::parse(Signed::from_item(&item).unwrap().attest).unwrap();
    let Attested::Creation { name, creation_hash } = attest.attested else {
        panic!("another type: {attest:?}")
    };
    assert_eq!(name, Public::parse(&read_device("ak-p256.public")).unwrap().name().as_bytes());
    assert_eq!(creation_hash.len(), 32);
}

#[test]
fn a_device_certificate_of_another_key_or_by_nobody_is_refused() {
    let roots = [device_certificate("maker.crt")];
    let certificate = device_certificate("iak-p256.crt");
    let verify = |kind, certificate: &Certificate, public: &str, roots: &[Certificate]| {
        idevid::verify(kind, certificate, &[], roots, &read_device(public), NOW)
    };
    let other = verify(Kind::Iak, &certificate, "iak-p384.public", &roots);
    assert_eq!(reason(other), Reason::DevidKeyMismatch);
    let owner = [device_certificate("owner.crt")];
    let strange = verify(Kind::Iak, &certificate, "iak-p256.public", &owner);
    assert_eq!(reason(strange), Reason::AkNotCertified);
    // One kind is not the other.
    let swapped = verify(Kind::Idevid, &certificate, "iak-p256.public", &roots);
    assert_eq!(reason(swapped), Reason::KeyAttributes);
    let certificate = device_certificate("idevid-p256.crt");
    let swapped = verify(Kind::Iak, &certificate, "idevid-p256.public", &roots);
    assert_eq!(reason(swapped), Reason::AkNotRestricted);
}

#[test]
fn a_device_certificate_without_the_name_of_a_tpm_is_refused() {
    let maker = Issuer::new("maker");
    let public = read_device("iak-p256.public");
    let spki = Public::parse(&public).unwrap().spki_der();
    let with = |extensions: &[Extension]| {
        let certificate = maker.issue(&spki, extensions);
        idevid::verify(Kind::Iak, &certificate, &[], &[maker.root()], &public, NOW)
    };
    let tpm = || Extension::hardware_module(2, b"7");
    assert!(with(&[tpm()]).is_ok());
    assert_eq!(reason(with(&[])), Reason::AkNotCertified);
    // hwType of a TPM 1.2
    assert_eq!(reason(with(&[Extension::hardware_module(1, b"7")])), Reason::AkNotCertified);
    assert_eq!(reason(with(&[tpm(), Extension::ca()])), Reason::AkNotCertified);
    assert_eq!(reason(with(&[tpm(), Extension::key_usage(0x20)])), Reason::AkNotCertified);
}

/// A certified device key with a changed public area.
fn device_with(change: impl Fn(&mut Area)) -> Result<DeviceIdentity, Error> {
    let mut area = Public::parse(&read_device("idevid-p256.public")).unwrap().area().clone();
    change(&mut area);
    let public = Public::from_area(area).unwrap();
    let roots = [device_certificate("maker.crt")];
    let certificate = device_certificate("idevid-p256.crt");
    idevid::verify(Kind::Idevid, &certificate, &[], &roots, public.raw(), NOW)
}

#[test]
fn a_device_key_that_follows_no_template_is_refused() {
    assert!(device_with(|_| {}).is_ok());
    let without = |bit: u32| device_with(|area| area.attributes.0 &= !(1 << bit));
    for bit in [1, 4, 5] {
        assert_eq!(reason(without(bit)), Reason::KeyNotFixed);
    }
    for bit in [6, 7, 18] {
        assert_eq!(reason(without(bit)), Reason::KeyAttributes);
    }
    assert_eq!(reason(device_with(|area| area.attributes.0 |= 1 << 16)), Reason::KeyAttributes);
    assert_eq!(reason(device_with(|area| area.auth_policy[0] ^= 1)), Reason::KeyAttributes);
    assert_eq!(reason(device_with(|area| area.scheme = None)), Reason::KeyAttributes);
    let other_hash = |area: &mut Area| area.name_algorithm = HashAlgorithm::Sha384;
    assert_eq!(reason(device_with(other_hash)), Reason::KeyAttributes);
}

fn ldevid(certificate: &str, certify: &[u8], public: &[u8]) -> Result<(), Error> {
    let ak = Public::parse(&read_device("ak-p256.public"))?;
    let ak = ProvedKey::enrolled(assay_tpm::AttestationKey::new(ak)?);
    let key = device_certificate(certificate).public_key().unwrap().clone();
    let certify = Signed::from_item(certify)?;
    let found = idevid::verify_device_key(&key, certify, public, &ak, &NONCE, MIN_HASH)?;
    assert_eq!(found.certified_key().spki_der(), key.to_spki());
    Ok(())
}

#[test]
fn a_certificate_of_the_owner_names_a_key_that_the_tpm_certified() {
    let (certify, public) = (read_device("ldevid.certify"), read_device("ldevid.public"));
    ldevid("ldevid.crt", &certify, &public).unwrap();

    // The certificate is of a software key, the TPM speaks of its own: whichever is shown.
    let strange = reason(ldevid("owner.crt", &certify, &public));
    assert_eq!(strange, Reason::DevidKeyMismatch);
    let software = SoftwareKey::generate().unwrap();
    let mut area = Public::parse(&public).unwrap().area().clone();
    area.key = software.public_key();
    let claimed = Public::from_area(area).unwrap();
    let ak = Public::parse(&read_device("ak-p256.public")).unwrap();
    let ak = ProvedKey::enrolled(assay_tpm::AttestationKey::new(ak).unwrap());
    let shown = Signed::from_item(&certify).unwrap();
    let key = software.public_key();
    let found = idevid::verify_device_key(&key, shown, claimed.raw(), &ak, &NONCE, MIN_HASH);
    assert_eq!(reason(found), Reason::DevidKeyMismatch);

    // What can leave the TPM, or signs only what that made, is no device key.
    let (certify, public) = (read_device("restricted.certify"), read_device("restricted.public"));
    assert_eq!(reason(ldevid("restricted.crt", &certify, &public)), Reason::KeyAttributes);
    let mut area = Public::parse(&read_device("ldevid.public")).unwrap().area().clone();
    area.attributes.0 &= !(1 << 1);
    let loose = Public::from_area(area).unwrap();
    let certify = read_device("ldevid.certify");
    assert_eq!(reason(ldevid("ldevid.crt", &certify, loose.raw())), Reason::KeyNotFixed);
}

#[test]
fn a_real_tpm_makes_the_keys_of_the_templates_and_speaks_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let Some(machine) = Machine::start(folder.path(), &[Bank::Sha256]) else { return };
    let maker = Issuer::new("maker");
    let ak = machine.create_primary(Hierarchy::Endorsement, &machine::assay_ak());
    let mut made = Vec::new();
    for shape in Kind::SHAPES {
        let template = Kind::Iak.input(shape).unwrap();
        let key = match machine.try_create_primary(Hierarchy::Endorsement, &template) {
            Ok(key) => key,
            Err(error) => {
                eprintln!("SKIPPED: this TPM makes no IAK of {shape:?}: 0x{error:x}");
                continue;
            }
        };
        let serial = Extension::hardware_module(2, b"fresh");
        let certificate = maker.issue(&key.public.spki_der(), &[serial]);
        let roots = [maker.root()];
        let iak = idevid::verify(Kind::Iak, &certificate, &[], &roots, key.public.raw(), NOW);
        let iak = iak.unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        let nonce = [u8::try_from(made.len()).unwrap(); 32];
        let certify = machine.certify(&ak, &key, &nonce);
        let certify = Signed::from_item(&certify).unwrap();
        let proved = idevid::prove_ak(&iak, certify, ak.public.raw(), &nonce, MIN_HASH).unwrap();

        let asked = [PcrSelection::new(HashAlgorithm::Sha256, 0xff)];
        let shown = Shown {
            quote: machine.quote(&ak, &nonce, &asked),
            certify: None,
            svid_public: None,
            pcrs: Some(machine.pcr_values(&asked)),
        };
        let demand = assay_tpm::Expected::exchange(&nonce, &asked, true);
        shown.verify(&proved, &demand).unwrap();
        machine.flush(key.handle);
        made.push(shape);
    }
    eprintln!("IAKs of {made:?}, {} of {}", made.len(), Kind::SHAPES.len());
    assert!(made.len() >= 4 && made.contains(&Shape::Rsa { bits: 2048 }));
    machine.tpm.stop().unwrap();
}
