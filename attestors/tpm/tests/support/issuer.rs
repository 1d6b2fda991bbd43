//! A CA for tests that certifies any key, with any extensions: certificates written by hand,
//! because no library at hand writes those of P-521 keys or a hardwareModuleName.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::Certificate;
use assay_evidence::crypto::SoftwareKey;

pub struct Issuer {
    key: SoftwareKey,
    name: Vec<u8>,
    root: Certificate,
}

/// One extension: OID contents, criticality, DER value.
pub struct Extension(pub &'static [u8], pub bool, pub Vec<u8>);

impl Issuer {
    pub fn new(name: &str) -> Issuer {
        let key = SoftwareKey::generate().unwrap();
        let name = common_name(name);
        let ca = [
            Extension(&[0x55, 0x1d, 0x13], true, der(0x30, &[&der(0x01, &[&[0xff]])])),
            // keyCertSign
            Extension(&[0x55, 0x1d, 0x0f], true, vec![0x03, 0x02, 0x02, 0x04]),
        ];
        let spki = key.public_key().to_spki();
        let root = Certificate::parse(&certificate(&key, &name, &name, &spki, &ca)).unwrap();
        Issuer { key, name, root }
    }

    pub fn root(&self) -> Certificate {
        self.root.clone()
    }

    /// An end certificate that is valid for ever.
    pub fn issue(&self, spki: &[u8], extensions: &[Extension]) -> Certificate {
        let subject = common_name("device");
        let der = certificate(&self.key, &self.name, &subject, spki, extensions);
        Certificate::parse(&der).unwrap()
    }
}

impl Extension {
    /// id-kp of TCG: 1 is of an endorsement key, 3 of an attestation key.
    pub fn tcg_usage(last: u8) -> Extension {
        let purpose = der(0x06, &[&[0x67, 0x81, 0x05, 0x08, last]]);
        Extension(&[0x55, 0x1d, 0x25], false, der(0x30, &[&purpose]))
    }

    /// digitalSignature, or another single bit string.
    pub fn key_usage(bits: u8) -> Extension {
        let unused = u8::try_from(bits.trailing_zeros()).unwrap();
        Extension(&[0x55, 0x1d, 0x0f], true, vec![0x03, 0x02, unused, bits])
    }

    pub fn ca() -> Extension {
        Extension(&[0x55, 0x1d, 0x13], true, der(0x30, &[&der(0x01, &[&[0xff]])]))
    }

    /// hardwareModuleName with hwType 2.23.133.1.`kind` and a serial number.
    pub fn hardware_module(kind: u8, serial: &[u8]) -> Extension {
        let module =
            der(0x30, &[&der(0x06, &[&[0x67, 0x81, 0x05, 0x01, kind]]), &der(0x04, &[serial])]);
        let on = der(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 8, 4]]);
        let other = der(0xa0, &[&on, &der(0xa0, &[&module])]);
        Extension(&[0x55, 0x1d, 0x11], true, der(0x30, &[&other]))
    }
}

fn certificate(
    signer: &SoftwareKey,
    issuer: &[u8],
    subject: &[u8],
    spki: &[u8],
    extensions: &[Extension],
) -> Vec<u8> {
    // ecdsa-with-SHA256
    let algorithm = der(0x30, &[&der(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]);
    let tbs = certificate_body(&algorithm, issuer, subject, spki, extensions);
    signed(&tbs, &algorithm, &signer.sign(&tbs).unwrap())
}

/// A TBSCertificate that is valid for ever.
pub fn certificate_body(
    algorithm: &[u8],
    issuer: &[u8],
    subject: &[u8],
    spki: &[u8],
    extensions: &[Extension],
) -> Vec<u8> {
    let validity =
        der(0x30, &[&der(0x18, &[b"20200101000000Z"]), &der(0x18, &[b"99991231235959Z"])]);
    let extensions: Vec<u8> = extensions.iter().flat_map(extension).collect();
    der(
        0x30,
        &[
            &der(0xa0, &[&der(0x02, &[&[2]])]),
            &der(0x02, &[&[1]]),
            algorithm,
            issuer,
            &validity,
            subject,
            spki,
            &der(0xa3, &[&der(0x30, &[&extensions])]),
        ],
    )
}

/// A body with its signature: a certificate, or a revocation list.
pub fn signed(tbs: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    der(0x30, &[tbs, algorithm, &der(0x03, &[&[0], signature])])
}

fn extension(Extension(oid, critical, value): &Extension) -> Vec<u8> {
    let critical = if *critical { der(0x01, &[&[0xff]]) } else { Vec::new() };
    der(0x30, &[&der(0x06, &[oid]), &critical, &der(0x04, &[value])])
}

pub fn common_name(name: &str) -> Vec<u8> {
    let attribute = der(0x30, &[&der(0x06, &[&[0x55, 4, 3]]), &der(0x0c, &[name.as_bytes()])]);
    der(0x30, &[&der(0x31, &[&attribute])])
}

pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len();
    let head = match length {
        0..=0x7f => vec![tag, u8::try_from(length).unwrap()],
        0x80..=0xff => vec![tag, 0x81, u8::try_from(length).unwrap()],
        _ => [&[tag, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
    };
    [head, contents].concat()
}
