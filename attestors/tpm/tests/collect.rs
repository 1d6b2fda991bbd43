//! The collector against a real software TPM, and its evidence against the verifier: what one side
//! sends is what the other demands.
#![cfg(feature = "attest")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_evidence::crypto::SystemRandom;
use assay_swtpm::Bank;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use assay_tpm::Activation;
use assay_tpm::Anchors;
use assay_tpm::AttestationKey;
use assay_tpm::Claims;
use assay_tpm::EkRoot;
use assay_tpm::Endorsement;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::Hierarchy;
use assay_tpm::ProvedKey;
use assay_tpm::Signed;
use assay_tpm::TpmClass;
use assay_tpm::collect::AkPurpose;
use assay_tpm::collect::Cause;
use assay_tpm::collect::Device;
use assay_tpm::collect::DeviceKey;
use assay_tpm::collect::Error;
use assay_tpm::collect::Settings;
use assay_tpm::endorsement;
use assay_tpm::verify;
use assay_tpm::verify::UnknownParent;
use tempfile::TempDir;

/// One authority for all tests; each test has a TPM of its own.
fn ca() -> Option<&'static LocalCa> {
    static CA: OnceLock<Option<(TempDir, LocalCa)>> = OnceLock::new();
    let made = CA.get_or_init(|| {
        let missing = assay_swtpm::missing_programs();
        if !missing.is_empty() {
            eprintln!("SKIPPED: no software TPM without {}", missing.join(", "));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path().join("ca")).unwrap();
        Some((folder, ca))
    });
    made.as_ref().map(|(_, ca)| ca)
}

struct Machine {
    tpm: RunningTpm,
    _folder: TempDir,
}

fn machine() -> Option<Machine> {
    let folder = tempfile::tempdir().unwrap();
    let tpm = SoftwareTpm::provision(ca()?, folder.path(), "collect test").unwrap();
    Some(Machine { tpm: tpm.start().unwrap(), _folder: folder })
}

fn certificate(pem: &Path) -> Certificate {
    let bytes = std::fs::read(pem).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&bytes).unwrap();
    Certificate::parse(&pem.contents).unwrap()
}

fn anchors(tpm: &RunningTpm) -> Anchors {
    let [root, intermediate] = tpm.ek_roots();
    let root = EkRoot { certificate: certificate(root), class: TpmClass::Software };
    Anchors::new(vec![root], vec![certificate(intermediate)])
}

fn now() -> Time {
    Time::from_unix_s(1_800_000_000)
}

fn endorse(device: &Device, anchors: &Anchors) -> Endorsement {
    let found = device.ek_certificates().unwrap();
    let key = device.endorsement_key(&found).unwrap();
    let ders = |list: &[Certificate]| list.iter().map(|c| c.der().to_vec()).collect::<Vec<_>>();
    let (certificates, chain) = (ders(&found.certificates), ders(&found.chain));
    endorsement::verify(&certificates, &chain, key.public().raw(), anchors, now()).unwrap()
}

/// Challenge and answer: the attestation key is in the TPM of the endorsement key.
fn prove(device: &Device, anchors: &Anchors, ak: &DeviceKey) -> ProvedKey {
    let endorsement = endorse(device, anchors);
    let key = AttestationKey::parse(ak.public().raw()).unwrap();
    let (credential, activation) =
        Activation::challenge(&endorsement, &key, &mut SystemRandom::new()).unwrap();
    let ek = device.endorsement_key(&device.ek_certificates().unwrap()).unwrap();
    let answer = device.activate(&ek, ak, &credential.blob, &credential.secret).unwrap();
    activation.prove(&answer).unwrap()
}

/// Quote of all banks and certification of the SVID key, verified.
fn attest(device: &Device, proved: &ProvedKey, ak: &DeviceKey, svid: &DeviceKey) -> Claims {
    let data = [7; 32];
    let asked = device.all_banks().unwrap();
    let quote = device.quote(ak, &asked, &data).unwrap();
    let certify = device.certify(ak, svid, &data).unwrap();
    let evidence = Evidence::from_items(
        &quote.statement,
        Some(&certify),
        Some(svid.public().raw()),
        Some(&quote.values),
    )
    .unwrap();
    let spki = svid.public().spki_der();
    verify(&evidence, proved, &Expected::exchange(&data, &asked, false).certifying(&spki)).unwrap()
}

#[test]
fn the_whole_exchange_passes_the_verifier() {
    let Some(machine) = machine() else { return };
    machine.tpm.pcr_extend(8, b"kernel command line").unwrap();
    let anchors = anchors(&machine.tpm);
    let device = Device::open(&machine.tpm.tcti()).unwrap();

    let endorsement = endorse(&device, &anchors);
    assert_eq!(endorsement.class(), TpmClass::Software);
    assert_eq!(endorsement.template(), endorsement::Template::H3);

    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    let svid = device.svid_key().unwrap();
    let proved = prove(&device, &anchors, &ak);
    let claims = attest(&device, &proved, &ak, &svid);

    let certified = claims.certified_key().unwrap();
    assert_eq!(certified.hierarchy(), Some(Hierarchy::Null));
    assert_eq!(certified.attributes().0, 0x0004_0472);
    assert_eq!(
        claims.banks_off(),
        [HashAlgorithm::Sha1, HashAlgorithm::Sha384, HashAlgorithm::Sha512]
    );
    let measured = crypto::sha256(b"kernel command line");
    let expected = crypto::sha256(&[[0; 32], measured].concat());
    let found = claims.registers().value(HashAlgorithm::Sha256, 8).unwrap();
    assert_eq!(found.as_bytes(), expected);
}

#[test]
fn every_allocated_bank_is_quoted_with_its_values() {
    let Some(ca) = ca() else { return };
    let folder = tempfile::tempdir().unwrap();
    let banks = [Bank::Sha1, Bank::Sha256, Bank::Sha384];
    let tpm = SoftwareTpm::provision_with(ca, folder.path(), "banks", &banks).unwrap();
    let tpm = tpm.start().unwrap();
    tpm.pcr_extend(0, b"firmware").unwrap();
    let device = Device::open(&tpm.tcti()).unwrap();
    let active = device.banks().unwrap().iter().filter(|bank| bank.is_active()).count();
    assert_eq!(active, 3);
    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    let proved = prove(&device, &anchors(&tpm), &ak);
    let claims = attest(&device, &proved, &ak, &device.svid_key().unwrap());
    assert_eq!(claims.banks_off(), [HashAlgorithm::Sha512]);
    for bank in [HashAlgorithm::Sha1, HashAlgorithm::Sha256, HashAlgorithm::Sha384] {
        assert_eq!(claims.registers().bank(bank).unwrap().len(), 16);
    }
}

#[test]
fn all_endorsement_certificates_are_found_and_an_rsa_key_activates_too() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let mut found = device.ek_certificates().unwrap();
    let files = machine.tpm.tpm().ek_certificates().map(|file| std::fs::read(file).unwrap());
    assert_eq!(found.certificates.len(), 2);
    for certificate in &found.certificates {
        assert!(files.iter().any(|file| file.starts_with(certificate.der())));
    }
    found.certificates.retain(|certificate| {
        matches!(certificate.public_key(), Ok(assay_evidence::PublicKey::Rsa { .. }))
    });
    let ek = device.endorsement_key(&found).unwrap();
    let ders: Vec<&[u8]> = found.certificates.iter().map(|c| c.der()).collect();
    let anchors = anchors(&machine.tpm);
    let endorsement =
        endorsement::verify(&ders, &[] as &[&[u8]], ek.public().raw(), &anchors, now()).unwrap();
    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    let key = AttestationKey::parse(ak.public().raw()).unwrap();
    let (credential, activation) =
        Activation::challenge(&endorsement, &key, &mut SystemRandom::new()).unwrap();
    let answer = device.activate(&ek, &ak, &credential.blob, &credential.secret).unwrap();
    activation.prove(&answer).unwrap();
}

#[test]
fn a_challenge_for_another_key_is_not_answered() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let endorsement = endorse(&device, &anchors(&machine.tpm));
    let ek = device.endorsement_key(&device.ek_certificates().unwrap()).unwrap();
    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    let other = device.attestation_key(AkPurpose::File).unwrap();
    assert_ne!(ak.public().name(), other.public().name());
    let key = AttestationKey::parse(other.public().raw()).unwrap();
    let (credential, _activation) =
        Activation::challenge(&endorsement, &key, &mut SystemRandom::new()).unwrap();
    let refused = device.activate(&ek, &ak, &credential.blob, &credential.secret).unwrap_err();
    assert!(matches!(refused, Error::Tpm { cause: Cause::Integrity, .. }), "{refused}");
    assert!(refused.cure().is_some());
    // And the right one still is.
    prove(&device, &anchors(&machine.tpm), &ak);
}

#[test]
fn a_reboot_ends_the_svid_key_and_keeps_the_attestation_key() {
    let Some(machine) = machine() else { return };
    let anchors = anchors(&machine.tpm);
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    let svid = device.svid_key().unwrap();
    device.sign(&svid, &[1; 32]).unwrap();
    let proved = prove(&device, &anchors, &ak);
    let before = attest(&device, &proved, &ak, &svid).clock();

    machine.tpm.reset().unwrap();

    assert!(matches!(device.sign(&svid, &[1; 32]), Err(Error::KeyGone)));
    assert!(matches!(device.certify(&ak, &svid, &[7; 32]), Err(Error::KeyGone)));
    let again = device.attestation_key(AkPurpose::Exchange).unwrap();
    assert_eq!(again.public(), ak.public());
    let after = attest(&device, &proved, &ak, &device.svid_key().unwrap()).clock();
    assert_eq!(after.reset_count, before.reset_count + 1);
}

#[test]
fn svid_keys_of_two_processes_differ() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let (one, two) = (device.svid_key().unwrap(), device.svid_key().unwrap());
    assert_ne!(one.public().name(), two.public().name());
}

#[test]
fn a_clone_has_the_same_identity_and_counts_by_itself() {
    let Some(machine) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    let clone = machine.tpm.duplicate(folder.path(), "clone").unwrap().start().unwrap();
    let anchors = anchors(&machine.tpm);
    let (one, two) =
        (Device::open(&machine.tpm.tcti()).unwrap(), Device::open(&clone.tcti()).unwrap());
    let id = |device: &Device| *endorse(device, &anchors).spki_sha256();
    assert_eq!(id(&one), id(&two));
    let ak = |device: &Device| device.attestation_key(AkPurpose::Exchange).unwrap();
    assert_eq!(ak(&one).public(), ak(&two).public());
    clone.reset().unwrap();
    let clock = |device: &Device| {
        let ak = ak(device);
        attest(device, &prove(device, &anchors, &ak), &ak, &device.svid_key().unwrap()).clock()
    };
    assert_ne!(clock(&one).reset_count, clock(&two).reset_count);
}

#[test]
fn an_issuing_key_signs_is_certified_and_survives_a_reboot() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let auth = [9; 32];
    let blob = device.create_issuing_key(&auth).unwrap();
    let key = device.load_issuing_key(&blob, &auth).unwrap();
    assert_eq!(key.public().attributes().0, 0x0004_0472);
    let signed = |key: &DeviceKey| {
        let message = b"to be signed";
        let signature = device.sign(key, &crypto::sha256(message)).unwrap();
        let scheme = SignatureScheme::EcdsaDer(HashAlgorithm::Sha256);
        crypto::verify_signature(scheme, key.public().key(), message, &signature.der()).unwrap();
        let scheme = SignatureScheme::EcdsaFixed(HashAlgorithm::Sha256);
        crypto::verify_signature(scheme, key.public().key(), message, signature.fixed()).unwrap();
    };
    (0..64).for_each(|_| signed(&key)); // short r or s among them, sooner or later

    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    let proved = prove(&device, &anchors(&machine.tpm), &ak);
    let certify = device.certify(&ak, &key, &[3; 32]).unwrap();
    let certified = assay_tpm::verify_certify(
        Signed::from_item(&certify).unwrap(),
        key.public().raw(),
        &proved,
        &[3; 32],
        HashAlgorithm::Sha256,
        UnknownParent::Refuse,
    )
    .unwrap();
    certified.certified_key().accept_as_issuing_key().unwrap();
    device.flush(&ak).unwrap();

    machine.tpm.reset().unwrap();
    signed(&key);
    let wrong = device.load_issuing_key(&blob, &[8; 32]).unwrap();
    device.flush(&key).unwrap();
    let refused = device.sign(&wrong, &[0; 32]);
    assert!(matches!(refused, Err(Error::Tpm { cause: Cause::Authorisation, .. })), "{refused:?}");
}

#[test]
fn a_blob_of_another_tpm_is_refused() {
    let (Some(one), Some(two)) = (machine(), machine()) else { return };
    let auth = [9; 32];
    let blob = Device::open(&one.tpm.tcti()).unwrap().create_issuing_key(&auth).unwrap();
    let refused = Device::open(&two.tpm.tcti()).unwrap().load_issuing_key(&blob, &auth);
    assert!(matches!(refused, Err(Error::Tpm { cause: Cause::Integrity, .. })), "{refused:?}");
}

#[test]
fn more_keys_than_the_tpm_has_room_for_take_turns() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let auth = [9; 32];
    let mut keys = vec![device.svid_key().unwrap()];
    for _ in 0..3 {
        let blob = device.create_issuing_key(&auth).unwrap();
        keys.push(device.load_issuing_key(&blob, &auth).unwrap());
    }
    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    for _ in 0..3 {
        for key in &keys {
            device.sign(key, &[5; 32]).unwrap();
            device.certify(&ak, key, &[5; 32]).unwrap();
            assert!(machine.tpm.loaded_handles().unwrap().len() <= 3);
        }
    }
    prove(&device, &anchors(&machine.tpm), &ak);
}

#[test]
fn a_device_that_vanishes_is_a_clear_error_and_works_again_when_it_is_back() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let auth = [9; 32];
    let blob = device.create_issuing_key(&auth).unwrap();
    let key = device.load_issuing_key(&blob, &auth).unwrap();
    let svid = device.svid_key().unwrap();

    machine.tpm.slow_down(Duration::from_secs(60)).unwrap();
    let in_flight = {
        let (device, key) = (device.clone(), key.clone());
        std::thread::spawn(move || device.sign(&key, &[1; 32]))
    };
    std::thread::sleep(Duration::from_millis(100));
    machine.tpm.vanish().unwrap();
    let error = in_flight.join().unwrap().unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error}");
    assert!(error.cure().is_some());
    assert!(matches!(device.sign(&key, &[1; 32]), Err(Error::Open { .. })));

    machine.tpm.slow_down(Duration::ZERO).unwrap();
    machine.tpm.come_back().unwrap();
    device.sign(&key, &[1; 32]).unwrap();
    // The boot is the same, so is the key.
    device.sign(&svid, &[1; 32]).unwrap();
}

#[test]
fn a_slow_device_meets_the_deadline_and_a_full_queue_is_refused() {
    let Some(machine) = machine() else { return };
    let settings = Settings { deadline: Duration::from_millis(300), ..Settings::default() };
    let device = Device::open_with(&machine.tpm.tcti(), settings).unwrap();
    let svid = device.svid_key().unwrap();
    machine.tpm.slow_down(Duration::from_millis(700)).unwrap();
    let start = Instant::now();
    let late = device.sign(&svid, &[1; 32]);
    assert!(matches!(late, Err(Error::Deadline { .. })), "{late:?}");
    assert!(start.elapsed() < Duration::from_millis(600));

    let asking: Vec<_> = (0..80)
        .map(|_| {
            let (device, svid) = (device.clone(), svid.clone());
            std::thread::spawn(move || device.sign(&svid, &[1; 32]))
        })
        .collect();
    let answers: Vec<_> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(answers.iter().any(|answer| matches!(answer, Err(Error::QueueFull { .. }))));
    assert!(answers.iter().any(|answer| matches!(answer, Err(Error::Deadline { .. }))));
    machine.tpm.slow_down(Duration::ZERO).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while device.sign(&svid, &[1; 32]).is_err() {
        assert!(Instant::now() < deadline, "the device never came to itself again");
    }
}

#[test]
fn a_terminal_line_has_one_client() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let svid = device.svid_key().unwrap();
    let second = Device::open(&machine.tpm.tcti());
    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    device.sign(&svid, &[1; 32]).unwrap();
    drop(device);
    Device::open(&machine.tpm.tcti()).unwrap();
}

#[test]
fn neither_a_lockout_nor_power_cuts_keep_a_machine_from_attesting() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let anchors = anchors(&machine.tpm);
    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    for _ in 0..5 {
        let proved = prove(&device, &anchors, &ak);
        attest(&device, &proved, &ak, &device.svid_key().unwrap());
        machine.tpm.lose_power().unwrap();
    }
    // TPM2_DictionaryAttackParameters, no tries allowed: locked from now on.
    let mut frame = vec![0x80, 2, 0, 0, 0, 39, 0, 0, 1, 0x3a, 0x40, 0, 0, 0x0a];
    frame.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    frame.extend([0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 3, 0xe8]);
    assert_eq!(machine.tpm.command(&frame).unwrap()[6..10], [0; 4]);
    // TPM_PT_PERMANENT, inLockout.
    let mut frame = vec![0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7a];
    frame.extend([0, 0, 0, 6, 0, 0, 2, 0, 0, 0, 0, 1]);
    let permanent = machine.tpm.command(&frame).unwrap().last_chunk().copied().unwrap();
    assert_eq!(u32::from_be_bytes(permanent) & 1 << 9, 1 << 9);

    let proved = prove(&device, &anchors, &ak);
    attest(&device, &proved, &ak, &device.svid_key().unwrap());
}

#[test]
fn a_node_that_is_no_device_or_not_there_is_a_clear_error() {
    assert!(matches!(Device::open("device:/nonexistent/tpm0"), Err(Error::Open { .. })));
    assert!(matches!(Device::open("device:/etc/hostname"), Err(Error::Open { .. })));
    assert!(matches!(Device::open("swtpm:path=/tmp/x"), Err(Error::Address { .. })));
}

/// Not a test of its own: the client that the next one kills.
#[test]
#[ignore = "started by a_killed_client_leaves_nothing_loaded"]
fn client_that_waits_for_its_end() {
    let Some(tcti) = std::env::var_os("ASSAY_COLLECT_TEST_TCTI") else { return };
    let device = Device::open(tcti.to_str().unwrap()).unwrap();
    let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
    let svid = device.svid_key().unwrap();
    println!("loaded");
    loop {
        device.certify(&ak, &svid, &[1; 32]).unwrap();
    }
}

#[test]
fn a_killed_client_leaves_nothing_loaded() {
    let Some(machine) = machine() else { return };
    for _ in 0..4 {
        let mut client = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "client_that_waits_for_its_end", "--ignored", "--nocapture"])
            .env("ASSAY_COLLECT_TEST_TCTI", machine.tpm.tcti())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("loaded")));
        assert!(machine.tpm.loaded_handles().unwrap().len() >= 2);
        client.kill().unwrap();
        client.wait().unwrap();
        assert_eq!(machine.tpm.loaded_handles().unwrap(), Vec::<u32>::new());
    }
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    device.svid_key().unwrap();
}

#[test]
fn nothing_stays_loaded_when_the_device_is_dropped() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    device.attestation_key(AkPurpose::Exchange).unwrap();
    device.svid_key().unwrap();
    assert_eq!(machine.tpm.loaded_handles().unwrap().len(), 2);
    drop(device);
    assert_eq!(machine.tpm.loaded_handles().unwrap(), Vec::<u32>::new());
}

#[test]
fn the_sign_rate_is_worth_knowing() {
    let Some(machine) = machine() else { return };
    let device = Device::open(&machine.tpm.tcti()).unwrap();
    let auth = [9; 32];
    let blob = device.create_issuing_key(&auth).unwrap();
    let key = device.load_issuing_key(&blob, &auth).unwrap();
    let (start, count) = (Instant::now(), 200);
    (0..count).for_each(|_| drop(device.sign(&key, &[1; 32]).unwrap()));
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    println!("{rate:.0} signatures per second, one caller, password session, this build");
    assert!(rate > 20.0, "{rate}");
}
