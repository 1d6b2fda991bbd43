//! A real (software) TPM opens our challenges, and only the whole ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/issuer.rs"]
mod issuer;
#[path = "support/machine.rs"]
mod machine;

use assay_evidence::Certificate;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
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
use assay_tpm::structures::public::Shape;
use issuer::Extension;
use issuer::Issuer;
use machine::Machine;
use machine::assay_ak;
use machine::ek_template;

const NOW: Time = Time::from_unix_s(1_800_000_000);

/// A CA of our own for keys that swtpm gives no certificate for.
fn endorse(public: &Public) -> Endorsement {
    let vendor = Issuer::new("test vendor");
    let certificate = vendor.issue(&public.spki_der(), &[Extension::tcg_usage(1)]);
    let root = EkRoot { certificate: vendor.root(), class: TpmClass::Software };
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
    let mut answered = Vec::new();
    for template in Template::ALL {
        let made = machine.try_create_primary(Hierarchy::Endorsement, &ek_template(template));
        let Ok(ek) = made else {
            eprintln!("SKIPPED: this TPM makes no {template:?}: 0x{:x}", made.err().unwrap());
            continue;
        };
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
        let rsa = matches!(template.shape(), Shape::Rsa { .. });
        for (place, bit) in flips(credential.secret.len(), if rsa { 1 } else { 8 }) {
            let mut secret = credential.secret.clone();
            secret[place] ^= 1 << bit;
            assert!(!opens(&credential.blob, &secret), "{template:?} secret {place}.{bit}");
        }
        assert!(opens(&credential.blob, &credential.secret));

        // A second maker of credentials, written for this test, is believed too; each of its
        // flawed ones is not.
        for flaw in Flaw::ALL {
            let Some((blob, secret)) = make_credential(&ek.public, &ak.public, flaw) else {
                continue;
            };
            assert_eq!(opens(&blob, &secret), flaw == Flaw::None, "{template:?} {flaw:?}");
        }
        machine.flush(ak.handle);
        machine.flush(ek.handle);
        answered.push(template);
    }
    eprintln!("activated under {answered:?}, {} of {}", answered.len(), Template::ALL.len());
    assert!(answered.len() >= 6);
    machine.tpm.stop().unwrap();
}

/// What other makers of credentials got wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// The hash of the attestation key in place of that of the endorsement key.
    HashOfTheAttestationKey,
    /// 16 bytes of cipher key whatever the endorsement key says.
    ShortCipherKey,
    /// The number in place of the coordinate.
    UnpaddedCoordinate,
    LabelWithoutNul,
}

impl Flaw {
    const ALL: [Flaw; 5] = [
        Flaw::None,
        Flaw::HashOfTheAttestationKey,
        Flaw::ShortCipherKey,
        Flaw::UnpaddedCoordinate,
        Flaw::LabelWithoutNul,
    ];
}

/// Part 1, §24, written a second time. Nothing where the flaw makes no difference.
fn make_credential(ek: &Public, ak: &Public, flaw: Flaw) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut hash = ek.area().name_algorithm;
    let mut bits = ek.area().symmetric.unwrap().key_bits;
    match flaw {
        Flaw::HashOfTheAttestationKey if hash != ak.area().name_algorithm => {
            hash = ak.area().name_algorithm;
        }
        Flaw::ShortCipherKey if bits != 128 => bits = 128,
        Flaw::HashOfTheAttestationKey | Flaw::ShortCipherKey => return None,
        _ => {}
    }
    let label = |text: &str| match flaw {
        Flaw::LabelWithoutNul => text.as_bytes().to_vec(),
        _ => [text.as_bytes(), &[0]].concat(),
    };
    let mut random = SystemRandom::new();
    let (seed, secret) = match ek.key() {
        PublicKey::Rsa { .. } if flaw == Flaw::UnpaddedCoordinate => return None,
        PublicKey::Rsa { .. } => {
            let seed = vec![7; hash.size()];
            let secret = crypto::oaep_encrypt(ek.key(), hash, &label("IDENTITY"), &seed).unwrap();
            (seed, secret)
        }
        PublicKey::Ec { .. } => loop {
            let agreed = crypto::ecdh_ephemeral(ek.key(), &mut random).unwrap();
            let (x, y) = agreed.ephemeral.coordinates().unwrap();
            let short = x.strip_prefix(&[0]);
            let seen = match (flaw, short) {
                (Flaw::UnpaddedCoordinate, None) => continue,
                (Flaw::UnpaddedCoordinate, Some(short)) => short,
                _ => x,
            };
            let (peer, _) = ek.key().coordinates().unwrap();
            let one = 1u32.to_be_bytes();
            let parts = [&one[..], &agreed.shared, &label("IDENTITY"), seen, peer];
            let seed = crypto::hash(hash, &parts).unwrap().as_bytes().to_vec();
            break (seed, [sized(x), sized(y)].concat());
        },
    };
    let kdf = |text: &str, context: &[u8], bits: u16| {
        let (one, wanted) = (1u32.to_be_bytes(), u32::from(bits).to_be_bytes());
        let parts = [&one[..], &label(text), context, &wanted];
        let block = crypto::hmac(hash, &seed, &parts).unwrap();
        block.as_bytes()[..usize::from(bits / 8)].to_vec()
    };
    let name = ak.name();
    let mut identity = sized(b"a secret");
    crypto::aes_cfb_encrypt_once(&kdf("STORAGE", name.as_bytes(), bits), &mut identity).unwrap();
    let mac_key = kdf("INTEGRITY", &[], u16::try_from(8 * hash.size()).unwrap());
    let mac = crypto::hmac(hash, &mac_key, &[&identity, name.as_bytes()]).unwrap();
    Some(([sized(mac.as_bytes()), identity].concat(), secret))
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
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
