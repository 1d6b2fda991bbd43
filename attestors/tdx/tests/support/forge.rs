//! A forge of TDX evidence under a root of the test's own: a recipe says everything that can be
//! wrong, and the forge signs whatever it says.
//!
//! It writes DER, quotes and documents byte by byte, independently of the code under test.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::Mutex;

use assay_evidence::Certificate;
use assay_evidence::PublicKey;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SoftwareKey;
use serde_json::Value;
use serde_json::json;

pub struct Evidence {
    pub quote: Vec<u8>,
    pub collateral: Vec<u8>,
    pub root: Certificate,
}

/// Who holds a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Root,
    Ca,
    Pck,
    TcbSigning,
    Attestation,
    /// Like the root in name, with another key.
    ForeignRoot,
    Stranger,
}

#[derive(Clone)]
pub struct Cert {
    pub name: &'static str,
    pub key: Holder,
    pub issuer_name: &'static str,
    pub signer: Holder,
    pub serial: u8,
    /// YYMMDDHHMMSSZ
    pub from: &'static str,
    pub until: &'static str,
    pub is_ca: bool,
    /// More extensions, each a whole DER element.
    pub extensions: Vec<Vec<u8>>,
}

#[derive(Clone)]
pub struct Crl {
    pub issuer_name: &'static str,
    pub signer: Holder,
    pub from: &'static str,
    pub until: &'static str,
    pub revoked: Vec<u8>,
}

/// Everything there is to say of a piece of evidence; the default is genuine and acceptable.
#[derive(Clone)]
pub struct Recipe {
    // --- quote ---
    pub header: Vec<u8>,
    /// Written in version 5 only.
    pub body_type: u16,
    pub body_size: Option<u32>,
    pub body: Vec<u8>,
    pub quote_signer: Holder,
    pub certification_type: u16,
    pub certification_excess: u32,
    pub authentication_excess: u32,
    pub qe_report: Vec<u8>,
    /// Instead of the hash that belongs there.
    pub qe_report_data: Option<[u8; 64]>,
    pub qe_signer: Holder,
    pub qe_authentication: Vec<u8>,
    pub pck_certification_type: u16,
    pub pck_excess: u32,
    pub chain: Vec<Cert>,
    pub chain_text: Option<String>,
    pub padding: Vec<u8>,

    // --- platform ---
    pub ppid: Vec<u8>,
    pub sgx_svn: [u8; 16],
    pub pcesvn: u16,
    pub pce_id: Vec<u8>,
    pub fmspc: Vec<u8>,
    pub sgx_type: u8,
    pub piid: Option<Vec<u8>>,

    // --- collateral ---
    pub tcb_info: Value,
    pub tcb_info_text: Option<String>,
    pub tcb_info_signer: Holder,
    pub tcb_chain: Vec<Cert>,
    pub qe_identity: Value,
    pub qe_identity_signer: Holder,
    pub qe_chain: Vec<Cert>,
    pub root_crl: Crl,
    pub pck_crl: Crl,
    pub crl_chain: Vec<Cert>,
    pub pck_certificate_chain: Option<Vec<Cert>>,
    /// Applied to the text of the whole bundle.
    pub bundle: fn(String) -> String,
}

pub const NOW: &str = "2026-06-15T12:00:00Z";
pub const DEBUG: u64 = 1;
pub const SEPT_VE_DISABLE: u64 = 1 << 28;
/// Offsets in the TD body.
pub const TEE_TCB_SVN: usize = 0x00;
pub const MRSIGNERSEAM: usize = 0x40;
pub const SEAM_ATTRIBUTES: usize = 0x70;
pub const TD_ATTRIBUTES: usize = 0x78;
pub const REPORT_DATA: usize = 0x208;
pub const TEE_TCB_SVN2: usize = 0x248;
pub const MRSERVICETD: usize = 0x258;
pub const CURRENT_SERVICE_TD: usize = 885 - 56;
/// Offsets in the QE report.
pub const QE_MISCSELECT: usize = 16;
pub const QE_ATTRIBUTES: usize = 48;
pub const QE_MRSIGNER: usize = 128;
pub const QE_PRODUCT: usize = 256;
pub const QE_SVN: usize = 258;

pub fn now() -> Time {
    Time::parse_rfc3339(NOW).unwrap()
}

impl Recipe {
    pub fn new() -> Recipe {
        let mut recipe = Recipe {
            header: header(4),
            body_type: 2,
            body_size: None,
            body: body(2),
            quote_signer: Holder::Attestation,
            certification_type: 6,
            certification_excess: 0,
            authentication_excess: 0,
            qe_report: qe_report(),
            qe_report_data: None,
            qe_signer: Holder::Pck,
            qe_authentication: (0..32).collect(),
            pck_certification_type: 5,
            pck_excess: 0,
            chain: vec![pck(), ca(), root()],
            chain_text: None,
            padding: vec![0; 70],
            ppid: vec![0x11; 16],
            sgx_svn: [5, 5, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
            pcesvn: 13,
            pce_id: vec![0, 0],
            fmspc: vec![0x90, 0xc0, 0x6f, 0, 0, 0],
            sgx_type: 1,
            piid: Some(vec![0x22; 16]),
            tcb_info: tcb_info(),
            tcb_info_text: None,
            tcb_info_signer: Holder::TcbSigning,
            tcb_chain: vec![tcb_signing(), root()],
            qe_identity: qe_identity(),
            qe_identity_signer: Holder::TcbSigning,
            qe_chain: vec![tcb_signing(), root()],
            root_crl: Crl { issuer_name: ROOT_NAME, signer: Holder::Root, ..CRL },
            pck_crl: CRL,
            crl_chain: vec![ca(), root()],
            pck_certificate_chain: None,
            bundle: |text| text,
        };
        recipe.set(TEE_TCB_SVN, &[7, 1, 5]);
        recipe.attributes(SEPT_VE_DISABLE);
        recipe
    }

    /// The default with one change.
    pub fn with(change: impl FnOnce(&mut Recipe)) -> Recipe {
        let mut recipe = Recipe::new();
        change(&mut recipe);
        recipe
    }

    /// The same TD as a quote of version 5.
    pub fn version_5(body_type: u16) -> Recipe {
        Recipe::with(|recipe| {
            recipe.header = header(5);
            recipe.body_type = body_type;
            let mut longer = body(body_type);
            longer[..recipe.body.len()].copy_from_slice(&recipe.body);
            recipe.body = longer;
            if body_type > 2 {
                recipe.set(TEE_TCB_SVN2, &[7, 1, 5]);
            }
        })
    }

    /// An SGX enclave, on the same platform.
    pub fn enclave() -> Recipe {
        Recipe::with(|recipe| {
            recipe.header = header(3);
            recipe.header[4..8].fill(0);
            recipe.body = vec![0; 384];
            recipe.body[QE_ATTRIBUTES] = 5;
            recipe.body[64..96].fill(0x88);
            recipe.body[QE_MRSIGNER..QE_MRSIGNER + 32].fill(0x99);
            recipe.body[320..].fill(0x66);
            recipe.set_qe(QE_PRODUCT, &[1]);
            recipe.qe_identity["id"] = "QE".into();
            recipe.qe_identity["isvprodid"] = 1.into();
            recipe.tcb_info["id"] = "SGX".into();
            for name in ["tdxModule", "tdxModuleIdentities"] {
                recipe.tcb_info.as_object_mut().unwrap().remove(name);
            }
            for level in recipe.tcb_info["tcbLevels"].as_array_mut().unwrap() {
                level["tcb"].as_object_mut().unwrap().remove("tdxtcbcomponents");
            }
        })
    }

    /// Puts bytes into the TD body.
    pub fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.body[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub fn attributes(&mut self, bits: u64) {
        self.set(TD_ATTRIBUTES, &bits.to_le_bytes());
    }

    pub fn set_qe(&mut self, offset: usize, bytes: &[u8]) {
        self.qe_report[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub fn build(&self) -> Evidence {
        Evidence {
            quote: self.quote(),
            collateral: (self.bundle)(self.collateral()).into_bytes(),
            root: Certificate::parse(&self.der(&root())).unwrap(),
        }
    }

    fn quote(&self) -> Vec<u8> {
        let mut signed = self.header.clone();
        if self.header[0] == 5 {
            let size = self.body_size.unwrap_or(self.body.len() as u32);
            signed.extend(self.body_type.to_le_bytes());
            signed.extend(size.to_le_bytes());
        }
        signed.extend(&self.body);

        let attestation_key = point(Holder::Attestation);
        let mut report_data = [0; 64];
        let bound = [attestation_key.as_slice(), &self.qe_authentication].concat();
        report_data[..32].copy_from_slice(&crypto::sha256(&bound));
        let mut qe_report = self.qe_report.clone();
        qe_report[320..].copy_from_slice(&self.qe_report_data.unwrap_or(report_data));

        let text = match &self.chain_text {
            Some(text) => text.clone(),
            None => self.pem(&self.chain) + "\0",
        };
        let pck = certification(self.pck_certification_type, text.as_bytes(), self.pck_excess);
        let length = (self.qe_authentication.len() as u16).to_le_bytes();
        let inner = [
            qe_report.as_slice(),
            &sign(self.qe_signer, &qe_report),
            &length,
            &self.qe_authentication,
            &pck,
        ]
        .concat();
        let outer = match self.header[0] {
            3 => inner,
            _ => certification(self.certification_type, &inner, self.certification_excess),
        };
        let signature = sign(self.quote_signer, &signed);
        let authentication = [signature.as_slice(), &attestation_key, &outer].concat();
        let length = (authentication.len() as u32 + self.authentication_excess).to_le_bytes();
        [signed.as_slice(), &length, &authentication, &self.padding].concat()
    }

    fn collateral(&self) -> String {
        let tcb_info = self.tcb_info_text.clone().unwrap_or_else(|| self.tcb_info.to_string());
        let qe_identity = self.qe_identity.to_string();
        let mut bundle = json!({
            "tcb_info_signature": hex::encode(sign(self.tcb_info_signer, tcb_info.as_bytes())),
            "tcb_info": tcb_info,
            "tcb_info_issuer_chain": self.pem(&self.tcb_chain),
            "qe_identity_signature": hex::encode(sign(self.qe_identity_signer, qe_identity.as_bytes())),
            "qe_identity": qe_identity,
            "qe_identity_issuer_chain": self.pem(&self.qe_chain),
            "root_ca_crl": hex::encode(crl(&self.root_crl)),
            "pck_crl": hex::encode(crl(&self.pck_crl)),
            "pck_crl_issuer_chain": self.pem(&self.crl_chain),
        });
        if let Some(chain) = &self.pck_certificate_chain {
            bundle["pck_certificate_chain"] = self.pem(chain).into();
        }
        bundle.to_string()
    }

    pub fn pem(&self, chain: &[Cert]) -> String {
        chain.iter().map(|cert| pem(&self.der(cert))).collect()
    }

    /// The PCK certificate says what the platform is; any other certificate is as it says.
    fn der(&self, cert: &Cert) -> Vec<u8> {
        let mut extensions = cert.extensions.concat();
        if cert.key == Holder::Pck && cert.name == PCK_NAME {
            extensions.extend(extension(SGX, false, &self.sgx_extension()));
        }
        let basic = match cert.is_ca {
            true => element(0x30, &[1, 1, 0xff]),
            false => element(0x30, &[]),
        };
        extensions.extend(extension(&[0x55, 0x1d, 19], true, &basic));
        let usage = if cert.is_ca { [3, 2, 1, 0x06] } else { [3, 2, 6, 0xc0] };
        extensions.extend(extension(&[0x55, 0x1d, 15], true, &usage));
        let fields = [
            element(0xa0, &[2, 1, 2]),
            element(2, &[cert.serial]),
            ECDSA_SHA256.to_vec(),
            name(cert.issuer_name),
            element(0x30, &[time(cert.from), time(cert.until)].concat()),
            name(cert.name),
            key(cert.key).public_key().to_spki(),
            element(0xa3, &element(0x30, &extensions)),
        ];
        signed(cert.signer, &fields.concat())
    }

    fn sgx_extension(&self) -> Vec<u8> {
        let member = |last: &[u8], value: Vec<u8>| {
            element(0x30, &[element(6, &[SGX, last].concat()), value].concat())
        };
        let svn = |svn: u16| match svn {
            0..=0x7f => element(2, &[svn as u8]),
            0x80..=0x7fff => element(2, &svn.to_be_bytes()),
            _ => element(2, &[&[0], svn.to_be_bytes().as_slice()].concat()),
        };
        let mut tcb: Vec<u8> = (1..)
            .zip(self.sgx_svn)
            .flat_map(|(last, component)| member(&[2, last], svn(component.into())))
            .collect();
        tcb.extend(member(&[2, 17], svn(self.pcesvn)));
        tcb.extend(member(&[2, 18], element(4, &self.sgx_svn)));
        let mut members = [
            member(&[1], element(4, &self.ppid)),
            member(&[2], element(0x30, &tcb)),
            member(&[3], element(4, &self.pce_id)),
            member(&[4], element(4, &self.fmspc)),
            member(&[5], element(0x0a, &[self.sgx_type])),
        ]
        .concat();
        if let Some(piid) = &self.piid {
            members.extend(member(&[6], element(4, piid)));
            members.extend(member(&[7], element(0x30, &member(&[7, 1], vec![1, 1, 0xff]))));
        }
        element(0x30, &members)
    }
}

fn header(version: u16) -> Vec<u8> {
    let vendor = hex::decode("939a7233f79c4ca9940a0db3957f0607").unwrap();
    [&version.to_le_bytes()[..], &[2, 0], &[0x81, 0, 0, 0], &[0; 4], &vendor, &[0x33; 20]].concat()
}

fn body(body_type: u16) -> Vec<u8> {
    let mut body = vec![0; [0, 0, 584, 648, 885][usize::from(body_type)]];
    body[0x10..0x40].fill(0x44);
    body[0x88..0xb8].fill(0x55);
    for (index, register) in body[0x148..0x208].chunks_mut(48).enumerate() {
        register.fill(index as u8);
    }
    body[REPORT_DATA..REPORT_DATA + 64].fill(0x66);
    body
}

fn qe_report() -> Vec<u8> {
    let mut report = vec![0; 384];
    report[QE_ATTRIBUTES] = 0x11;
    report[QE_MRSIGNER..QE_MRSIGNER + 32].fill(0x77);
    report[QE_PRODUCT] = 2;
    report[QE_SVN] = 4;
    report
}

pub fn tcb_info() -> Value {
    let zeros = "00".repeat(48);
    let components = |svn: &[u8]| -> Vec<Value> {
        (0..16).map(|i| json!({"svn": svn.get(i).copied().unwrap_or(0)})).collect()
    };
    let level = |sgx: &[u8], pcesvn: u16, tdx: &[u8], status: &str, advisories: &[&str]| {
        let mut level = json!({
            "tcb": {
                "sgxtcbcomponents": components(sgx),
                "pcesvn": pcesvn,
                "tdxtcbcomponents": components(tdx),
            },
            "tcbDate": if status == "UpToDate" { "2026-02-11T00:00:00Z" } else { "2025-05-14T00:00:00Z" },
            "tcbStatus": status,
        });
        if !advisories.is_empty() {
            level["advisoryIDs"] = json!(advisories);
        }
        level
    };
    let module = |id: &str, svn: [u16; 2]| {
        json!({
            "id": id,
            "mrsigner": zeros,
            "attributes": "0000000000000000",
            "attributesMask": "FFFFFFFFFFFFFFFF",
            "tcbLevels": [
                {"tcb": {"isvsvn": svn[0]}, "tcbDate": "2026-02-11T00:00:00Z", "tcbStatus": "UpToDate"},
                {"tcb": {"isvsvn": svn[1]}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "OutOfDate",
                 "advisoryIDs": ["INTEL-SA-01036"]},
            ],
        })
    };
    json!({
        "id": "TDX",
        "version": 3,
        "issueDate": "2026-06-01T00:00:00Z",
        "nextUpdate": "2026-07-01T00:00:00Z",
        "fmspc": "90C06F000000",
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 20,
        "tdxModule": {
            "mrsigner": zeros,
            "attributes": "0000000000000000",
            "attributesMask": "FFFFFFFFFFFFFFFF",
        },
        "tdxModuleIdentities": [module("TDX_03", [5, 3]), module("TDX_01", [7, 4])],
        "tcbLevels": [
            level(&[5, 5, 2, 2, 4, 1, 0, 5], 13, &[7, 0, 5], "UpToDate", &[]),
            level(&[4, 4, 2, 2, 4, 1, 0, 5], 11, &[5, 0, 4], "OutOfDate", &["INTEL-SA-01245"]),
        ],
    })
}

pub fn qe_identity() -> Value {
    json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": "2026-06-01T00:00:00Z",
        "nextUpdate": "2026-07-01T00:00:00Z",
        "tcbEvaluationDataNumber": 20,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": "77".repeat(32),
        "isvprodid": 2,
        "tcbLevels": [
            {"tcb": {"isvsvn": 4}, "tcbDate": "2026-02-11T00:00:00Z", "tcbStatus": "UpToDate"},
            {"tcb": {"isvsvn": 2}, "tcbDate": "2024-11-13T00:00:00Z", "tcbStatus": "OutOfDate",
             "advisoryIDs": ["INTEL-SA-00999"]},
        ],
    })
}

const CERT: Cert = Cert {
    name: ROOT_NAME,
    key: Holder::Root,
    issuer_name: ROOT_NAME,
    signer: Holder::Root,
    serial: 1,
    from: "250101000000Z",
    until: "330101000000Z",
    is_ca: true,
    extensions: vec![],
};

pub const CRL: Crl = Crl {
    issuer_name: CA_NAME,
    signer: Holder::Ca,
    from: "260601000000Z",
    until: "260701000000Z",
    revoked: vec![],
};

pub fn root() -> Cert {
    CERT
}

pub fn foreign_root() -> Cert {
    Cert { key: Holder::ForeignRoot, signer: Holder::ForeignRoot, ..CERT }
}

pub fn ca() -> Cert {
    Cert { name: CA_NAME, key: Holder::Ca, serial: 2, ..CERT }
}

pub fn tcb_signing() -> Cert {
    Cert { name: TCB_NAME, key: Holder::TcbSigning, serial: 3, is_ca: false, ..CERT }
}

pub fn pck() -> Cert {
    Cert {
        name: PCK_NAME,
        key: Holder::Pck,
        issuer_name: CA_NAME,
        signer: Holder::Ca,
        serial: 4,
        is_ca: false,
        ..CERT
    }
}

pub const ROOT_NAME: &str = "Intel SGX Root CA";
pub const CA_NAME: &str = "Intel SGX PCK Platform CA";
pub const TCB_NAME: &str = "Intel SGX TCB Signing";
pub const PCK_NAME: &str = "Intel SGX PCK Certificate";

// --- bytes ---------------------------------------------------------------------------------------

fn certification(kind: u16, contents: &[u8], excess: u32) -> Vec<u8> {
    let length = contents.len() as u32 + excess;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), contents].concat()
}

fn crl(crl: &Crl) -> Vec<u8> {
    let entry = |serial: &u8| element(0x30, &[element(2, &[*serial]), time(crl.from)].concat());
    let entries: Vec<u8> = crl.revoked.iter().flat_map(entry).collect();
    let entries = if entries.is_empty() { vec![] } else { element(0x30, &entries) };
    let number = element(0x30, &extension(&[0x55, 0x1d, 20], false, &[2, 1, 1]));
    let fields = [
        vec![2, 1, 1],
        ECDSA_SHA256.to_vec(),
        name(crl.issuer_name),
        time(crl.from),
        time(crl.until),
        entries,
        element(0xa0, &number),
    ];
    signed(crl.signer, &fields.concat())
}

fn signed(signer: Holder, fields: &[u8]) -> Vec<u8> {
    let tbs = element(0x30, fields);
    let bits = element(3, &[vec![0], der_signature(signer, &tbs)].concat());
    element(0x30, &[tbs, ECDSA_SHA256.to_vec(), bits].concat())
}

/// The same for the same bytes within one run: a root is one certificate in every chain.
fn der_signature(signer: Holder, message: &[u8]) -> Vec<u8> {
    type Made = Mutex<BTreeMap<(u8, Vec<u8>), Vec<u8>>>;
    static MADE: LazyLock<Made> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap();
    let entry = made.entry((signer as u8, message.to_vec()));
    entry.or_insert_with(|| key(signer).sign(message).unwrap()).clone()
}

pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    element(0x30, &[&element(6, oid), flag, &element(4, value)].concat())
}

fn name(common: &str) -> Vec<u8> {
    let attribute = |last: u8, text: &str| {
        let fields = [element(6, &[0x55, 4, last]), element(0x0c, text.as_bytes())].concat();
        element(0x31, &element(0x30, &fields))
    };
    element(0x30, &[attribute(3, common), attribute(10, "Forge of the tests")].concat())
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

pub fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// r ‖ s.
fn sign(holder: Holder, message: &[u8]) -> Vec<u8> {
    let der = der_signature(holder, message);
    let mut fixed = vec![0; 64];
    let mut rest = &der[2..];
    for half in fixed.chunks_mut(32) {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        half[32 - number.len()..].copy_from_slice(number);
        rest = &rest[2 + length..];
    }
    fixed
}

fn point(holder: Holder) -> Vec<u8> {
    match key(holder).public_key() {
        PublicKey::Ec { point, .. } => point[1..].to_vec(),
        PublicKey::Rsa { .. } => unreachable!(),
    }
}

fn key(holder: Holder) -> &'static SoftwareKey {
    static KEYS: LazyLock<[SoftwareKey; 7]> =
        LazyLock::new(|| std::array::from_fn(|_| SoftwareKey::generate().unwrap()));
    &KEYS[holder as usize]
}

const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// 1.2.840.113741.1.13.1
pub const SGX: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
