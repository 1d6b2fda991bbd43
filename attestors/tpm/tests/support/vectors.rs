//! The committed vectors, and the demand that they satisfy.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Time;
use assay_tpm::Anchors;
use assay_tpm::AttestationKey;
use assay_tpm::EkRoot;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::TpmClass;

pub const SELECTION: [PcrSelection; 4] = [
    PcrSelection::new(HashAlgorithm::Sha1, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha256, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha384, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha512, 0xffff),
];

/// 00…1f, as in the vectors of the binding.
pub const NONCE: [u8; 32] = {
    let mut nonce = [0; 32];
    let mut i = 0;
    while i < 32 {
        nonce[i] = i as u8;
        i += 1;
    }
    nonce
};

/// A day on which the vectors exist.
pub const NOW: Time = Time::from_unix_s(1_800_000_000);

pub fn read(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/swtpm");
    std::fs::read(format!("{folder}/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Of the device whose maker left keys in it.
pub fn read_device(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/device");
    std::fs::read(format!("{folder}/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn device_certificate(name: &str) -> Certificate {
    Certificate::parse(&read_device(name)).unwrap()
}

/// The attestation key of that kind, as the server knows it: enrolled earlier.
pub fn ak(kind: &str) -> ProvedKey {
    ProvedKey::enrolled(AttestationKey::parse(&read(&format!("ak-{kind}.public"))).unwrap())
}

pub fn expected() -> Expected<'static> {
    Expected::exchange(&NONCE, &SELECTION, false)
}

/// Owned bytes of a whole evidence, so that a test can change one of them.
#[derive(Clone)]
pub struct Shown {
    pub quote: Vec<u8>,
    pub certify: Option<Vec<u8>>,
    pub svid_public: Option<Vec<u8>>,
    pub pcrs: Option<Vec<u8>>,
}

impl Shown {
    pub fn quote(name: &str) -> Shown {
        let (quote, pcrs) = (read(name), Some(read("pcrs")));
        Shown { quote, certify: None, svid_public: None, pcrs }
    }

    pub fn with_svid_key() -> Shown {
        Shown {
            certify: Some(read("svid.certify")),
            svid_public: Some(read("svid.public")),
            ..Shown::quote("quote-p256")
        }
    }

    pub fn verify(
        &self,
        key: &ProvedKey,
        expected: &Expected<'_>,
    ) -> Result<assay_tpm::Claims, assay_tpm::Error> {
        let evidence = Evidence::from_items(
            &self.quote,
            self.certify.as_deref(),
            self.svid_public.as_deref(),
            self.pcrs.as_deref(),
        )?;
        let verdict = assay_tpm::verify(&evidence, key, expected);
        // The list of all faults begins with the one that decided, and is empty for genuine evidence.
        let faults = assay_tpm::verify::faults(&evidence, key, expected);
        assert_eq!(faults.first(), verdict.as_ref().err());
        verdict
    }
}

pub fn svid_spki() -> Vec<u8> {
    Public::parse(&read("svid.public")).unwrap().spki_der()
}

pub fn anchors() -> Anchors {
    let root = Certificate::parse_set(&read("root.pem")).unwrap().remove(0);
    let issuer = Certificate::parse_set(&read("issuer.pem")).unwrap();
    Anchors::new(vec![EkRoot { certificate: root, class: TpmClass::Software }], issuer)
}
