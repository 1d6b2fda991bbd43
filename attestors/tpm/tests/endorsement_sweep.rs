//! Every bit, every length: what a vendor signed cannot be changed, and what no signature covers
//! leaves no choice but the padding of an index.
//!
//! Bits that may be flipped without refusal: none. Bytes that may be added: 00s or FFs behind the
//! certificate, as an NV index larger than its contents has them; they say nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/corpus_certificates.rs"]
mod corpus_certificates;
#[path = "support/zoo.rs"]
mod zoo;

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_evidence::chain;
use assay_evidence::chain::Rules;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::Error;
use assay_tpm::TpmClass;
use assay_tpm::endorsement;
use assay_tpm::endorsement::EndorsementCertificate;
use proptest::prelude::*;

/// A certificate as a TPM holds it, and what stands above.
struct Set {
    name: String,
    file: Vec<u8>,
    issuers: Vec<Certificate>,
    root: Certificate,
    now: Time,
}

impl Set {
    fn verify(&self, file: &[u8]) -> Result<EndorsementCertificate, Vec<Error>> {
        let root = EkRoot { certificate: self.root.clone(), class: TpmClass::Discrete };
        let anchors = Anchors::new(vec![root], self.issuers.clone());
        endorsement::verify_file(&Rules::at(self.now), file, None, &[], &anchors)
    }
}

/// Of the zoo those whose bytes differ in kind: keys, signatures, what stands around.
fn zoo_sets() -> Vec<Set> {
    let kinds = ["plain", "header-long", "padding-ff", "oaep-key", "unordered-set", "p521", "pss"];
    zoo::cases()
        .into_iter()
        .filter(|case| kinds.contains(&case.name.as_str()))
        .map(|case| Set {
            name: format!("zoo {}", case.name),
            file: case.file,
            issuers: case.issuers,
            root: case.root,
            now: zoo::now(),
        })
        .collect()
}

/// A software TPM's, by EC keys.
fn swtpm_sets() -> Vec<Set> {
    let folder = zoo::folder().join("../swtpm");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let pem = |name: &str| Certificate::parse_set(&read(name)).unwrap();
    let set = |name: &str| Set {
        name: format!("swtpm {name}"),
        file: read(name),
        issuers: pem("issuer.pem"),
        root: pem("root.pem").remove(0),
        now: Certificate::parse(&read(name)).unwrap().not_before(),
    };
    vec![set("ek-p384.crt"), set("ek-rsa2048.crt")]
}

/// Those of real TPMs, where the corpus is at hand.
fn vendor_sets() -> Vec<Set> {
    let Some(folder) = corpus_certificates::corpus() else { return vec![] };
    let set = |(name, time): (&str, &str)| {
        let mut issuers = corpus_certificates::issuers(name);
        Set {
            name: name.into(),
            file: corpus_certificates::read(folder.join(name).join("ek.der")),
            root: issuers.pop().unwrap(),
            issuers,
            now: corpus_certificates::at(time),
        }
    };
    [
        ("gce-rsa", "2023-10-07T20:28:50Z"),
        ("intel-epid", "2016-05-21T00:00:00Z"),
        ("nuvoton-unordered-set", "2022-11-07T06:42:51Z"),
        ("stm-ecc", "2019-07-26T00:00:00Z"),
        ("stm-nv-prefix", "2015-02-23T00:00:00Z"),
        ("stm-rsa-oaep-sha1", "2015-02-22T00:00:00Z"),
    ]
    .map(set)
    .into()
}

fn sets() -> Vec<Set> {
    let sets: Vec<_> = vendor_sets().into_iter().chain(zoo_sets()).chain(swtpm_sets()).collect();
    for set in &sets {
        set.verify(&set.file).unwrap_or_else(|faults| panic!("{}: {faults:?}", set.name));
    }
    sets
}

fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

#[test]
fn no_bit_of_an_endorsement_certificate_can_be_flipped() {
    let mut all = 0;
    for set in sets() {
        let accepted: Vec<_> = flips(&set.file)
            .enumerate()
            .filter(|(_, flipped)| set.verify(flipped).is_ok())
            .map(|(bit, _)| bit)
            .collect();
        println!("{}: {} bits, accepted: {}", set.name, set.file.len() * 8, accepted.len());
        assert!(accepted.is_empty(), "{}: bits {accepted:?}", set.name);
        all += set.file.len() * 8;
    }
    println!("endorsement certificates: {all} bits flipped, 0 accepted");
}

#[test]
fn no_bit_of_an_issuer_can_be_flipped() {
    let mut all = 0;
    for set in sets() {
        let leaf = endorsement::certificate_in_nv(&set.file).unwrap();
        let roots = [set.root.clone()];
        for (place, issuer) in set.issuers.iter().enumerate() {
            for flipped in flips(issuer.der()) {
                all += 1;
                let Ok(flipped) = Certificate::parse(&flipped) else { continue };
                let mut issuers = set.issuers.clone();
                issuers[place] = flipped;
                let found = chain::verify(&leaf, &issuers, &roots, set.now);
                assert!(found.is_err(), "{}, issuer {place}", set.name);
            }
        }
    }
    println!("issuers: {all} bits flipped, 0 accepted");
}

#[test]
fn an_endorsement_certificate_can_be_cut_nowhere() {
    let mut all = 0;
    for set in sets() {
        let whole = endorsement::certificate_in_nv(&set.file).unwrap().der().len();
        let before = set.file.windows(2).position(|two| two == [0x30, 0x82]).unwrap();
        // Padding may be cut; that is the same certificate in a smaller index.
        for length in 0..before + whole {
            assert!(set.verify(&set.file[..length]).is_err(), "{}: {length} bytes", set.name);
        }
        all += before + whole;
    }
    println!("endorsement certificates: {all} lengths cut, 0 accepted");
}

#[test]
fn nothing_but_padding_can_be_added() {
    let (mut refused, mut padded) = (0, 0);
    for set in sets() {
        let der = endorsement::certificate_in_nv(&set.file).unwrap().der().to_vec();
        for byte in 0..=255u8 {
            let found = set.verify(&[&der[..], &[byte]].concat());
            assert_eq!(found.is_ok(), matches!(byte, 0 | 0xff), "{}: {byte:02x}", set.name);
            refused += usize::from(found.is_err());
        }
        for count in 2..=64 {
            for byte in [0, 0xff] {
                let mut behind = vec![byte; count];
                assert!(set.verify(&[&der[..], &behind].concat()).is_ok(), "{}", set.name);
                padded += 1;
                behind[count / 2] ^= 0xff;
                assert!(set.verify(&[&der[..], &behind].concat()).is_err(), "{}", set.name);
                refused += 1;
            }
        }
        // A byte more anywhere before the end.
        for place in 0..der.len() {
            let mut longer = der.clone();
            longer.insert(place, 0);
            assert!(set.verify(&longer).is_err(), "{}: a byte at {place}", set.name);
            refused += 1;
        }
    }
    println!("endorsement certificates: {refused} additions refused, {padded} of padding accepted");
}

proptest! {
    #[test]
    fn no_bytes_do_any_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let plain = zoo::cases().into_iter().find(|case| case.name == "plain").unwrap();
        prop_assert!(plain.verify(&bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is changed in a certificate, it is read or refused; what is read is read again the
    /// same; and unless nothing was changed that was signed, it is not genuine.
    #[test]
    fn changed_certificates_are_never_genuine(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let cases = zoo::cases();
        let case = which.get(&cases);
        let mut file = case.file.clone();
        for (place, byte) in changes {
            *place.get_mut(file.as_mut_slice()) = byte;
        }
        let before = endorsement::certificate_in_file(&case.file);
        if let Ok(certificate) = endorsement::certificate_in_file(&file) {
            let again = Certificate::parse(certificate.der()).unwrap();
            prop_assert_eq!(again.tbs(), certificate.tbs());
            prop_assert_eq!(again.serial(), certificate.serial());
            if before.is_ok_and(|before| before != certificate) {
                prop_assert!(case.verify(&file).is_err());
            }
        }
    }
}
