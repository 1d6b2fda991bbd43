//! A real (software) TPM opens our challenges, and only the whole ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/machine.rs"]
mod machine;

use assay_evidence::Certificate;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto::SystemRandom;
use assay_swtpm::Bank;
use assay_tpm::Activation;
use assay_tpm::Anchors;
use assay_tpm::AttestationKey;
use assay_tpm::EkRoot;
use assay_tpm::Endorsement;
use assay_tpm::Hierarchy;
use assay_tpm::Public;
use assay_tpm::TpmClass;
use assay_tpm::Trust;
use assay_tpm::endorsement;
use assay_tpm::endorsement::Template;
use machine::Machine;
use machine::assay_ak;
use machine::ek_template;

const NOW: Time = Time::from_unix_s(1_800_000_000);

/// A CA of our own for keys that swtpm gives no certificate for.
fn endorse(public: &Public) -> Endorsement {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "test vendor");
    let root = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);

    let mut leaf = rcgen::CertificateParams::default();
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
    let key = rcgen::SubjectPublicKeyInfo::from_der(&public.spki_der()).unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();

    let root = Certificate::parse(root.der()).unwrap();
    let root = EkRoot { certificate: root, class: TpmClass::Software };
    let none: [&[u8]; 0] = [];
    let anchors = Anchors::new(vec![root], vec![]);
    endorsement::verify(&[certificate.der()], &none, public.raw(), &anchors, NOW).unwrap()
}

/// `each` bits of every byte, not always the same one.
fn flips(size: usize, each: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..size).flat_map(move |place| (0..each).map(move |bit| (place, (place + bit) % 8)))
}

#[test]
fn a_tpm_answers_a_challenge_to_each_kind_of_endorsement_key() {
    let folder = tempfile::tempdir().unwrap();
    let Some(machine) = Machine::start(folder.path(), &[Bank::Sha256]) else { return };
    for template in Template::ALL {
        let ek = machine.create_primary(Hierarchy::Endorsement, &ek_template(template));
        let endorsement = endorse(&ek.public);
        assert_eq!(endorsement.template(), template);
        let ak = machine.create_primary(Hierarchy::Endorsement, &assay_ak());
        let key = AttestationKey::parse(ak.public.raw()).unwrap();
        let challenge =
            || Activation::challenge(&endorsement, &key, &mut SystemRandom::new()).unwrap();

        let (credential, activation) = challenge();
        let answer = machine.activate(&ak, &ek, &credential.blob, &credential.secret).unwrap();
        assert_eq!(activation.prove(&answer).unwrap().trust(), Trust::Activation, "{template:?}");

        // The answer to one challenge is none to another, nor is a part of it or nothing.
        for wrong in [&answer[..], &answer[..31], &[]] {
            let (_, other) = challenge();
            assert_eq!(other.prove(wrong).unwrap_err().reason(), Reason::ActivationFailed);
        }

        // Another key of the same TPM is not the one that was challenged.
        let other = machine.create_primary(Hierarchy::Owner, &assay_ak());
        let refused = machine.activate(&other, &ek, &credential.blob, &credential.secret);
        assert!(refused.is_err());
        machine.flush(other.handle);

        // No bit of the credential can be changed; of an RSA ciphertext one bit in each byte, as
        // the TPM takes ten milliseconds to find out.
        let opens = |blob: &[u8], secret: &[u8]| machine.activate(&ak, &ek, blob, secret).is_ok();
        for (place, bit) in flips(credential.blob.len(), 8) {
            let mut blob = credential.blob.clone();
            blob[place] ^= 1 << bit;
            assert!(!opens(&blob, &credential.secret), "{template:?} blob {place}.{bit}");
        }
        for (place, bit) in
            flips(credential.secret.len(), if template == Template::L1 { 1 } else { 8 })
        {
            let mut secret = credential.secret.clone();
            secret[place] ^= 1 << bit;
            assert!(!opens(&credential.blob, &secret), "{template:?} secret {place}.{bit}");
        }
        assert!(opens(&credential.blob, &credential.secret));
        machine.flush(ak.handle);
        machine.flush(ek.handle);
    }
    machine.tpm.stop().unwrap();
}

#[test]
fn a_software_tpm_endorses_its_keys_by_its_own_ca() {
    let folder = tempfile::tempdir().unwrap();
    let Some(machine) = Machine::start(folder.path(), &[Bank::Sha256]) else { return };
    let read =
        |path: &std::path::PathBuf| Certificate::parse_set(&std::fs::read(path).unwrap()).unwrap();
    let [root, issuer] = machine.tpm.ek_roots();
    let root = EkRoot { certificate: read(root).remove(0), class: TpmClass::Software };
    let anchors = Anchors::new(vec![root], read(issuer));
    let certificates: Vec<Vec<u8>> = machine
        .tpm
        .tpm()
        .ek_certificates()
        .iter()
        .map(|path| read(path).remove(0).der().to_vec())
        .collect();
    let none: [&[u8]; 0] = [];
    for template in [Template::H3, Template::L1] {
        let ek = machine.create_primary(Hierarchy::Endorsement, &ek_template(template));
        let found =
            endorsement::verify(&certificates, &none, ek.public.raw(), &anchors, NOW).unwrap();
        assert_eq!(found.class(), TpmClass::Software);
        assert_eq!(found.claimed_others().len(), 1);
        assert!(!found.manufacturer().is_empty());
        machine.flush(ek.handle);
    }
    // A key for which there is no certificate.
    let ek = machine.create_primary(Hierarchy::Endorsement, &ek_template(Template::L2));
    let found = endorsement::verify(&certificates, &none, ek.public.raw(), &anchors, NOW);
    assert_eq!(found.unwrap_err().reason(), Reason::EkKeyCertMismatch);
    machine.tpm.stop().unwrap();
}
