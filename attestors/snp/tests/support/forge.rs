//! A processor of the tests' own: ARK, ASK or ASVK, signing key, report, revocation list, each
//! open to change before it is signed. The root is nobody's but the test's.

#![allow(dead_code)] // each test uses what it needs

use assay_evidence::Certificate;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_snp::Anchors;
use assay_snp::Claims;
use assay_snp::Evidence;
use assay_snp::Faults;
use num_bigint::BigUint;
use rcgen::SigningKey as _;

/// 2026-06-01T00:00:00Z, when everything here is in force.
pub const NOW: Time = Time::from_unix_s(1_780_272_000);
pub const REPORT_DATA: [u8; 64] = [0x5a; 64];
pub const CHIP: [u8; 64] = [0xc1; 64];

/// One certificate before it is signed.
#[derive(Clone)]
pub struct Draft {
    pub subject: String,
    pub issuer: String,
    pub serial: Vec<u8>,
    pub not_before: &'static str,
    pub not_after: &'static str,
    /// Key of the subject and of the issuer, by their names in `vectors/forge`.
    pub key: &'static str,
    pub signer: &'static str,
    /// OID and value of each extension.
    pub extensions: Vec<(Vec<u8>, Vec<u8>)>,
    pub algorithm: Vec<u8>,
}

/// Everything that a machine shows, each part open to change.
#[derive(Clone)]
pub struct Machine {
    pub ark: Draft,
    pub issuer: Draft,
    pub vek: Draft,
    /// The signed bytes of the report.
    pub report: Vec<u8>,
    pub report_signer: &'static str,
    /// Serial numbers on the revocation list, who signed it, and its dates.
    pub crl: Option<RevocationDraft>,
}

#[derive(Clone)]
pub struct RevocationDraft {
    pub issuer: String,
    pub signer: &'static str,
    pub this_update: &'static str,
    pub next_update: &'static str,
    pub revoked: Vec<Vec<u8>>,
    /// Contents of an issuingDistributionPoint (RFC 5280 §5.2.5).
    pub speaks_of: Option<Vec<u8>>,
}

/// The files of a machine.
pub struct Shown {
    pub report: Vec<u8>,
    pub vek: Vec<u8>,
    pub issuer: Vec<u8>,
    pub ark: Vec<u8>,
    pub crl: Option<Vec<u8>>,
}

impl Machine {
    /// A Milan machine with a VCEK, a report of version 3, TCB 4/0/24/219 all over.
    pub fn milan() -> Machine {
        let mut report = vec![0; 0x2a0];
        let tcb = [4, 0, 0, 0, 0, 0, 24, 219];
        let fields: [(usize, &[u8]); 12] = [
            (0x000, &[3, 0, 0, 0]),
            (0x008, &[0, 0, 3, 0, 0, 0, 0, 0]),
            (0x034, &[1, 0, 0, 0]),
            (0x038, &tcb),
            (0x040, &[0x25, 0, 0, 0, 0, 0, 0, 0]),
            (0x050, &REPORT_DATA),
            (0x090, &[0x4d; 48]),
            (0x180, &tcb),
            (0x188, &[0x19, 0x01, 0x01]),
            (0x1a0, &CHIP),
            (0x1e0, &tcb),
            (0x1e8, &[29, 55, 1, 0, 29, 55, 1, 0]),
        ];
        for (place, bytes) in fields {
            report[place..place + bytes.len()].copy_from_slice(bytes);
        }
        report[0x1f0..0x1f8].copy_from_slice(&tcb);
        Machine {
            ark: authority("ARK-Milan", "ARK-Milan", "ark", "ark", 1),
            issuer: authority("SEV-Milan", "ARK-Milan", "issuer", "ark", 2),
            vek: Draft {
                subject: "SEV-VCEK".into(),
                issuer: "SEV-Milan".into(),
                serial: vec![0],
                not_before: "230101000000Z",
                not_after: "300101000000Z",
                key: "vek",
                signer: "issuer",
                extensions: vek_extensions("Milan-B0", &[(1, 4), (2, 0), (3, 24), (8, 219)]),
                algorithm: pss(48),
            },
            report,
            report_signer: "vek",
            crl: None,
        }
    }

    /// The same with a VLEK, as a cloud provider has it: the chip hidden.
    pub fn milan_vlek() -> Machine {
        let mut machine = Machine::milan();
        machine.issuer.subject = "SEV-VLEK-Milan".into();
        machine.vek.issuer = "SEV-VLEK-Milan".into();
        machine.vek.subject = "SEV-VLEK".into();
        machine.vek.extensions.retain(|(oid, _)| *oid != amd(&[4]));
        machine.vek.extensions.push((amd(&[5]), element(0x16, b"CN=cloud.example")));
        machine.set(0x048, &[0x04]);
        machine.set(0x1a0, &[0; 64]);
        machine
    }

    /// A Turin machine: report version 5, FMC in front, eight bytes of hardware id.
    pub fn turin() -> Machine {
        let mut machine = Machine::milan();
        for draft in [&mut machine.ark, &mut machine.issuer, &mut machine.vek] {
            draft.subject = draft.subject.replace("Milan", "Turin");
            draft.issuer = draft.issuer.replace("Milan", "Turin");
        }
        machine.vek.extensions =
            vek_extensions("Turin", &[(9, 1), (1, 2), (2, 3), (3, 4), (8, 0x51)]);
        machine.vek.extension(&[4], CHIP[..8].to_vec());
        machine.set(0x000, &[5]);
        machine.set(0x188, &[0x1a, 0x02, 0x01]);
        machine.set(0x1a0, &[0; 64]);
        machine.set(0x1a0, &CHIP[..8]);
        for place in [0x038, 0x180, 0x1e0, 0x1f0] {
            machine.set(place, &[1, 2, 3, 4, 0, 0, 0, 0x51]);
        }
        machine.set(0x1f8, &[0x3f]);
        machine.set(0x200, &[0x3f]);
        machine
    }

    pub fn with(mut self, change: impl FnOnce(&mut Machine)) -> Machine {
        change(&mut self);
        self
    }

    /// Bytes of the report, before it is signed.
    pub fn set(&mut self, place: usize, bytes: &[u8]) {
        self.report[place..place + bytes.len()].copy_from_slice(bytes);
    }

    pub fn show(&self) -> Shown {
        Shown {
            report: signed_report(&self.report, self.report_signer),
            vek: self.vek.sign(),
            issuer: self.issuer.sign(),
            ark: self.ark.sign(),
            crl: self.crl.as_ref().map(RevocationDraft::sign),
        }
    }

    /// Verified with its own root as an operator's.
    pub fn verify(&self) -> Result<Claims, Faults> {
        let shown = self.show();
        shown.verify(&shown.anchors())
    }

    /// The code of the refusal, and the codes of all faults.
    #[track_caller]
    pub fn refusal(&self) -> (&'static str, Vec<&'static str>) {
        let faults = self.verify().expect_err("it must be refused");
        (faults.reason().code(), faults.iter().map(|fault| fault.reason().code()).collect())
    }
}

impl Shown {
    pub fn anchors(&self) -> Anchors {
        Anchors::amd().with_operator_roots(vec![Certificate::parse(&self.ark).unwrap()])
    }

    pub fn verify(&self, anchors: &Anchors) -> Result<Claims, Faults> {
        let chain: [&[u8]; 2] = [&self.issuer, &self.ark];
        assay_snp::verify(&self.evidence(&chain), anchors, Some(&REPORT_DATA), NOW)
    }

    /// As a host hands its certificates to a guest.
    pub fn host_table(&self, vlek: bool) -> Vec<u8> {
        let guid = |text: &str| hex::decode(text.replace('-', "")).unwrap();
        let vek = match vlek {
            true => "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
            false => "63da758d-e664-4564-adc5-f4b93be8accd",
        };
        let entries = [
            (vek, &self.vek),
            ("4ab7b379-bbac-4fe4-a02f-05aef327c782", &self.issuer),
            ("c0b406a4-a803-4952-9743-3fb6014cd0ae", &self.ark),
        ];
        let mut table = Vec::new();
        let mut certificates = Vec::new();
        for (name, certificate) in entries {
            let offset = 24 * (entries.len() + 1) + certificates.len();
            table.extend(guid(name));
            table.extend((offset as u32).to_le_bytes());
            table.extend((certificate.len() as u32).to_le_bytes());
            certificates.extend_from_slice(certificate);
        }
        table.extend([0; 24]);
        table.extend(certificates);
        table
    }

    pub fn evidence<'a>(&'a self, chain: &'a [&'a [u8]]) -> Evidence<'a> {
        Evidence {
            report: &self.report,
            vek: Some(&self.vek),
            chain,
            host_certificates: None,
            crl: self.crl.as_deref(),
        }
    }
}

impl Draft {
    /// Replaces an AMD extension, or adds it.
    pub fn extension(&mut self, arc: &[u8], value: Vec<u8>) {
        self.extensions.retain(|(oid, _)| *oid != amd(arc));
        self.extensions.push((amd(arc), value));
    }

    pub fn sign(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self
            .extensions
            .iter()
            .flat_map(|(oid, value)| element(0x30, &[element(6, oid), element(4, value)].concat()))
            .collect();
        let fields = [
            element(0xa0, &[2, 1, 2]),
            element(2, &self.serial),
            self.algorithm.clone(),
            name(&self.issuer),
            element(0x30, &[time(self.not_before), time(self.not_after)].concat()),
            name(&self.subject),
            spki(self.key),
            element(0xa3, &element(0x30, &extensions)),
        ];
        signed(&fields.concat(), &self.algorithm, self.signer)
    }
}

impl RevocationDraft {
    /// In force, of the machine's own root, with nothing on it.
    pub fn empty() -> RevocationDraft {
        RevocationDraft {
            issuer: "ARK-Milan".into(),
            signer: "ark",
            this_update: "260501000000Z",
            next_update: "260701000000Z",
            revoked: Vec::new(),
            speaks_of: None,
        }
    }

    fn sign(&self) -> Vec<u8> {
        let entries: Vec<u8> = self
            .revoked
            .iter()
            .flat_map(|serial| element(0x30, &[element(2, serial), time("260101000000Z")].concat()))
            .collect();
        let entries = if entries.is_empty() { Vec::new() } else { element(0x30, &entries) };
        let fields = [
            vec![2, 1, 1],
            pss(48),
            name(&self.issuer),
            time(self.this_update),
            time(self.next_update),
            entries,
            self.speaks_of.as_ref().map_or_else(Vec::new, |contents| {
                let point = element(4, &element(0x30, contents));
                let oid = element(6, &[0x55, 0x1d, 28]);
                let extension = element(0x30, &[oid, vec![1, 1, 0xff], point].concat());
                element(0xa0, &element(0x30, &extension))
            }),
        ];
        signed(&fields.concat(), &pss(48), self.signer)
    }
}

/// The signed bytes, the signature by this key, and the padding.
pub fn signed_report(bytes: &[u8], signer: &str) -> Vec<u8> {
    let mut report = bytes.to_vec();
    let signature = ecdsa(signer).sign(bytes).unwrap();
    let (r, s) = der_scalars(&signature);
    for scalar in [r, s] {
        let mut field = [0; 72];
        for (place, byte) in field.iter_mut().zip(scalar.iter().rev()) {
            *place = *byte;
        }
        report.extend_from_slice(&field);
    }
    report.resize(1184, 0);
    report
}

fn authority(
    subject: &str,
    issuer: &str,
    key: &'static str,
    signer: &'static str,
    serial: u8,
) -> Draft {
    Draft {
        subject: subject.into(),
        issuer: issuer.into(),
        serial: vec![serial],
        not_before: "201022172305Z",
        not_after: "451022172305Z",
        key,
        signer,
        extensions: vec![
            (vec![0x55, 0x1d, 0x13], element(0x30, &[1, 1, 0xff])), // basicConstraints, CA
            (vec![0x55, 0x1d, 0x0f], vec![3, 2, 1, 6]),             // keyCertSign, cRLSign
        ],
        algorithm: pss(48),
    }
}

fn vek_extensions(product: &str, levels: &[(u8, u8)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = vec![
        (amd(&[1]), vec![2, 1, 1]),
        (amd(&[2]), element(0x16, product.as_bytes())),
        (amd(&[4]), CHIP.to_vec()),
    ];
    all.extend(levels.iter().map(|&(part, level)| (amd(&[3, part]), integer(level))));
    all
}

/// 1.3.6.1.4.1.3704.1 and these arcs.
pub fn amd(arcs: &[u8]) -> Vec<u8> {
    [&[0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1], arcs].concat()
}

pub fn integer(number: u8) -> Vec<u8> {
    match number {
        0..=0x7f => vec![2, 1, number],
        _ => vec![2, 2, 0, number],
    }
}

/// RSASSA-PSS, SHA-384, MGF1 with SHA-384, and this salt.
pub fn pss(salt: u8) -> Vec<u8> {
    pss_with(0x02, salt)
}

/// The same with another member of the SHA-2 family: 1 is SHA-256, 3 SHA-512.
pub fn pss_with(hash: u8, salt: u8) -> Vec<u8> {
    let sha =
        element(0x30, &[&[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, hash][..], &[5, 0]].concat());
    let mgf = [&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8][..], &sha].concat();
    let parameters =
        [element(0xa0, &sha), element(0xa1, &element(0x30, &mgf)), element(0xa2, &[2, 1, salt])];
    let oid = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    element(0x30, &[&oid[..], &element(0x30, &parameters.concat())].concat())
}

fn signed(fields: &[u8], algorithm: &[u8], signer: &str) -> Vec<u8> {
    let tbs = element(0x30, fields);
    let signature = pss_sign(&Rsa::named(signer), &tbs);
    let bits = element(3, &[&[0][..], &signature].concat());
    element(0x30, &[&tbs[..], algorithm, &bits].concat())
}

struct Rsa {
    modulus: BigUint,
    private: BigUint,
}

impl Rsa {
    fn named(name: &str) -> Rsa {
        let text = rsa_text(name).unwrap_or_else(|| panic!("no key `{name}`"));
        let mut numbers = text.lines().map(|line| BigUint::parse_bytes(line.as_bytes(), 16));
        let mut next = || numbers.next().unwrap().unwrap();
        Rsa { modulus: next(), private: next() }
    }
}

/// EMSA-PSS with SHA-384 and a salt of 48 bytes (RFC 8017, 9.1.1), then the private key.
fn pss_sign(key: &Rsa, message: &[u8]) -> Vec<u8> {
    let salt = [0x17; 48];
    let digest = crypto::sha384(message);
    let hash = crypto::sha384(&[&[0; 8][..], &digest, &salt].concat());
    let mut block = vec![0; 256 - 48 - 1];
    let end = block.len();
    block[end - 49] = 1;
    block[end - 48..].copy_from_slice(&salt);
    let mut mask = Vec::new();
    for counter in 0_u32.. {
        if mask.len() >= end {
            break;
        }
        mask.extend(crypto::sha384(&[&hash[..], &counter.to_be_bytes()].concat()));
    }
    for (byte, mask) in block.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    block[0] &= 0x7f;
    block.extend(hash);
    block.push(0xbc);
    let signature = BigUint::from_bytes_be(&block).modpow(&key.private, &key.modulus).to_bytes_be();
    [vec![0; 256 - signature.len()], signature].concat()
}

fn ecdsa(name: &str) -> rcgen::KeyPair {
    let der = hex::decode(pkcs8_text(name).trim()).unwrap();
    rcgen::KeyPair::try_from(der).unwrap()
}

fn spki(key: &str) -> Vec<u8> {
    if rsa_text(key).is_some() {
        let modulus = Rsa::named(key).modulus.to_bytes_be();
        return assay_evidence::PublicKey::rsa(&modulus, 65_537).to_spki();
    }
    use rcgen::PublicKeyData as _;
    ecdsa(key).subject_public_key_info()
}

/// Relative to this file, so that any test may take it in by its path.
fn rsa_text(name: &str) -> Option<&'static str> {
    Some(match name {
        "ark" => include_str!("../../vectors/forge/ark.rsa"),
        "issuer" => include_str!("../../vectors/forge/issuer.rsa"),
        "other" => include_str!("../../vectors/forge/other.rsa"),
        _ => return None,
    })
}

fn pkcs8_text(name: &str) -> &'static str {
    match name {
        "vek" => include_str!("../../vectors/forge/vek.pkcs8"),
        "other" => include_str!("../../vectors/forge/other.pkcs8"),
        _ => panic!("no key `{name}`"),
    }
}

/// r and s of an ECDSA-Sig-Value.
fn der_scalars(signature: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let r_end = 4 + usize::from(signature[3]);
    let scalar = |bytes: &[u8]| {
        let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
        bytes[start..].to_vec()
    };
    (scalar(&signature[4..r_end]), scalar(&signature[r_end + 2..]))
}

/// A name as AMD writes it, so that only the signature tells the two apart.
fn name(common_name: &str) -> Vec<u8> {
    let attributes = [
        (11, 0x0c, "Engineering"),
        (6, 0x13, "US"),
        (7, 0x0c, "Santa Clara"),
        (8, 0x0c, "CA"),
        (10, 0x0c, "Advanced Micro Devices"),
        (3, 0x0c, common_name),
    ];
    let names: Vec<u8> = attributes
        .into_iter()
        .flat_map(|(kind, tag, text)| {
            let value = element(tag, text.as_bytes());
            let attribute = element(0x30, &[&[6, 3, 0x55, 4, kind][..], &value].concat());
            element(0x31, &attribute)
        })
        .collect();
    element(0x30, &names)
}

fn time(text: &str) -> Vec<u8> {
    element(0x17, text.as_bytes())
}

pub fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let head = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head, contents.to_vec()].concat()
}
