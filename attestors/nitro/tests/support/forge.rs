//! A security module of the tests' own: root, two intermediates, leaf, document, each open to
//! change before it is signed.

#![allow(dead_code)] // each test uses what it needs

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_nitro::Anchors;
use assay_nitro::Claims;
use assay_nitro::Faults;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SigningKey as _;
use rcgen::date_time_ymd;

/// 2026-06-01T00:00:00Z
pub const NOW: Time = Time::from_unix_s(1_780_272_000);
pub const NONCE: [u8; 32] = [0x5a; 32];

/// The parts of a document, each open to change.
pub struct Module {
    pub chain: Vec<Link>,
    pub protected: Vec<u8>,
    pub unprotected: Vec<u8>,
    /// Name and CBOR of each field.
    pub fields: Vec<(&'static str, Vec<u8>)>,
    pub indefinite: bool,
    /// Certificates of the bundle, root first; filled from the chain where it is empty.
    pub bundle: Vec<Vec<u8>>,
    pub leaf_key: KeyPair,
    pub signer: Option<KeyPair>,
}

/// One certificate of the chain, root first.
pub struct Link {
    pub parameters: CertificateParams,
    pub key: KeyPair,
    pub certificate: Vec<u8>,
}

impl Module {
    pub fn new() -> Module {
        Module::with_chain(|_, _| {})
    }

    /// Changes the certificate at a depth (0 is the root, 3 the leaf) before it is issued.
    pub fn with_chain(change: impl Fn(usize, &mut CertificateParams)) -> Module {
        Module::with_keys(change, || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())
    }

    pub fn with_keys(
        change: impl Fn(usize, &mut CertificateParams),
        key: impl Fn() -> KeyPair,
    ) -> Module {
        let mut chain: Vec<Link> = Vec::new();
        for depth in 0..4 {
            let mut parameters = CertificateParams::new(vec![]).unwrap();
            parameters.distinguished_name.push(DnType::CommonName, format!("level {depth}"));
            parameters.not_before = date_time_ymd(2026, 5, 31);
            parameters.not_after = date_time_ymd(2026, 6, 2);
            if depth < 3 {
                parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            } else {
                parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            }
            change(depth, &mut parameters);
            let key = key();
            let certificate = match chain.last() {
                None => parameters.self_signed(&key),
                Some(above) => {
                    let issuer = Issuer::from_params(&above.parameters, &above.key);
                    parameters.signed_by(&key, &issuer)
                }
            };
            let certificate = certificate.unwrap().der().to_vec();
            chain.push(Link { parameters, key, certificate });
        }
        let leaf_key = KeyPair::try_from(chain[3].key.serialize_der()).unwrap();
        let pcrs: Vec<u8> = (0..16_u8)
            .flat_map(|n| [unsigned(u64::from(n)), string(2, &[n + 1; 48])].concat())
            .collect();
        Module {
            chain,
            protected: vec![0xa1, 0x01, 0x38, 0x22],
            unprotected: vec![0xa0],
            fields: vec![
                ("module_id", string(3, b"i-0-enc0")),
                ("digest", string(3, b"SHA384")),
                ("timestamp", unsigned(1_780_272_000_136)),
                ("pcrs", [head(5, 16), pcrs].concat()),
                ("certificate", vec![]),
                ("cabundle", vec![]),
                ("public_key", vec![0xf6]),
                ("user_data", string(2, b"data")),
                ("nonce", string(2, &NONCE)),
            ],
            indefinite: false,
            bundle: Vec::new(),
            leaf_key,
            signer: None,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Module)) -> Module {
        change(&mut self);
        self
    }

    pub fn field(&mut self, name: &str, value: Vec<u8>) {
        self.fields.iter_mut().find(|(other, _)| *other == name).unwrap().1 = value;
    }

    pub fn payload(&self) -> Vec<u8> {
        let bundle = match self.bundle.as_slice() {
            [] => self.chain[..3].iter().map(|link| link.certificate.clone()).collect(),
            given => given.to_vec(),
        };
        let mut payload = match self.indefinite {
            true => vec![0xbf],
            false => head(5, self.fields.len() as u64),
        };
        for (name, value) in &self.fields {
            payload.extend(string(3, name.as_bytes()));
            match (*name, value.is_empty()) {
                ("certificate", true) => payload.extend(string(2, &self.chain[3].certificate)),
                ("cabundle", true) => {
                    payload.extend(head(4, bundle.len() as u64));
                    payload.extend(bundle.iter().flat_map(|der| string(2, der)));
                }
                _ => payload.extend(value),
            }
        }
        if self.indefinite {
            payload.push(0xff);
        }
        payload
    }

    pub fn document(&self) -> Vec<u8> {
        let payload = string(2, &self.payload());
        let protected = string(2, &self.protected);
        let signed = [b"\x84\x6aSignature1", protected.as_slice(), &[0x40], &payload].concat();
        let key = self.signer.as_ref().unwrap_or(&self.leaf_key);
        let signature = fixed(&key.sign(&signed).unwrap());
        [&[0x84], protected.as_slice(), &self.unprotected, &payload, &string(2, &signature)]
            .concat()
    }

    pub fn anchors(&self) -> Anchors {
        let root = Certificate::parse(&self.chain[0].certificate).unwrap();
        Anchors::aws().with_operator_roots(vec![root])
    }

    pub fn verify(&self) -> Result<Claims, Faults> {
        assay_nitro::verify(&self.document(), &self.anchors(), Some(&NONCE), NOW)
    }

    /// The codes of all faults, the decisive one first.
    #[track_caller]
    pub fn refusal(&self) -> Vec<&'static str> {
        let faults = self.verify().expect_err("it must be refused");
        faults.iter().map(|fault| fault.reason().code()).collect()
    }
}

pub fn head(major: u8, number: u64) -> Vec<u8> {
    let major = major << 5;
    match number {
        0..=23 => vec![major | number as u8],
        24..=0xff => vec![major | 24, number as u8],
        0x100..=0xffff => [&[major | 25][..], &(number as u16).to_be_bytes()].concat(),
        0x1_0000..=0xffff_ffff => [&[major | 26][..], &(number as u32).to_be_bytes()].concat(),
        _ => [&[major | 27][..], &number.to_be_bytes()].concat(),
    }
}

pub fn unsigned(number: u64) -> Vec<u8> {
    head(0, number)
}

pub fn string(major: u8, bytes: &[u8]) -> Vec<u8> {
    [head(major, bytes.len() as u64), bytes.to_vec()].concat()
}

/// r ‖ s of an ECDSA-Sig-Value.
fn fixed(signature: &[u8]) -> Vec<u8> {
    let r_end = 4 + usize::from(signature[3]);
    [&signature[4..r_end], &signature[r_end + 2..]]
        .into_iter()
        .flat_map(|scalar| {
            let start = scalar.iter().position(|&byte| byte != 0).unwrap_or(scalar.len());
            let scalar = &scalar[start..];
            [vec![0; 48 - scalar.len()], scalar.to_vec()].concat()
        })
        .collect()
}
