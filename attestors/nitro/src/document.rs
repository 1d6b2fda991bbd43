//! A document as values: COSE_Sign1 outside, the map of the Nitro security module inside.
//!
//! ```text
//! 84 ‖ 44 a1 01 38 22 (protected: ES384) ‖ a0 ‖ payload ‖ 58 60 signature
//! payload: {module_id, digest, timestamp, pcrs, certificate, cabundle, public_key, user_data, nonce}
//! ```
//!
//! RFC 9052 §4.2 and the AWS Nitro Enclaves user guide, "Attestation process". Sizes and counts are
//! looked at before anything is kept. Nothing here is verified.

use std::collections::BTreeMap;

use assay_evidence::Time;
use assay_evidence::cbor::Cbor;
use assay_evidence::cbor::CborError;
use assay_evidence::cbor::Length;

use crate::error::Fault;

/// The fields of a document. Nothing here is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    pub module_id: &'a str,
    pub digest: &'a str,
    pub timestamp: Time,
    /// Index to 32, 48 or 64 bytes.
    pub pcrs: BTreeMap<u8, &'a [u8]>,
    /// DER certificate of the key that signed.
    pub certificate: &'a [u8],
    /// DER certificates from the root to the issuer of that one.
    pub bundle: Vec<&'a [u8]>,
    pub public_key: Option<&'a [u8]>,
    pub user_data: Option<&'a [u8]>,
    pub nonce: Option<&'a [u8]>,
    /// The payload as it was signed.
    pub payload: &'a [u8],
    /// r ‖ s.
    pub signature: &'a [u8],
}

impl<'a> Document<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Document<'a>, Fault> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(Fault::Limits { what: "document", max: MAX_DOCUMENT });
        }
        // An array of four, untagged, is what every such document begins with.
        let Some((&ARRAY_OF_FOUR, rest)) = bytes.split_first() else {
            return Err(Fault::NotADocument);
        };
        let mut outside = Cbor::strict(rest);
        let protected = outside.bytes().map_err(|_| Fault::NotADocument)?;
        if protected != ES384 {
            return Err(Fault::Algorithm { found: hex::encode(protected) });
        }
        if outside.map() != Ok(Length::Definite(0)) {
            return Err(malformed("unprotected header", CborError::Trailing));
        }
        let payload = outside.bytes().map_err(|error| malformed("payload", error))?;
        let signature = outside.bytes().map_err(|error| malformed("signature", error))?;
        outside.finish().map_err(|error| malformed("document", error))?;
        if signature.len() != SIGNATURE {
            return Err(malformed("signature", CborError::Short));
        }
        Fields::parse(payload)?.document(payload, signature)
    }

    /// What the signature is over: Sig_structure (RFC 9052 §4.4), with no external data.
    pub fn signed(&self) -> Vec<u8> {
        let mut signed = Vec::with_capacity(self.payload.len() + 32);
        signed.extend_from_slice(b"\x84\x6aSignature1");
        signed.extend_from_slice(&[0x44]);
        signed.extend_from_slice(ES384);
        signed.push(0x40);
        // The payload is at most MAX_DOCUMENT, so its length has two bytes or fewer.
        let length = u16::try_from(self.payload.len()).unwrap_or(u16::MAX);
        match length {
            0..=23 => signed.push(0x40 | length.to_be_bytes()[1]),
            24..=255 => signed.extend_from_slice(&[0x58, length.to_be_bytes()[1]]),
            _ => {
                signed.push(0x59);
                signed.extend_from_slice(&length.to_be_bytes());
            }
        }
        signed.extend_from_slice(self.payload);
        signed
    }
}

/// The map inside, in whatever order it came.
#[derive(Default)]
struct Fields<'a> {
    module_id: Option<&'a str>,
    digest: Option<&'a str>,
    timestamp: Option<u64>,
    pcrs: Option<BTreeMap<u8, &'a [u8]>>,
    certificate: Option<&'a [u8]>,
    bundle: Option<Vec<&'a [u8]>>,
    public_key: Option<Option<&'a [u8]>>,
    user_data: Option<Option<&'a [u8]>>,
    nonce: Option<Option<&'a [u8]>>,
}

impl<'a> Fields<'a> {
    fn parse(payload: &'a [u8]) -> Result<Fields<'a>, Fault> {
        let mut cbor = Cbor::lenient(payload);
        let mut fields = Fields::default();
        let length = cbor.map().map_err(|error| malformed("payload", error))?;
        let mut index = 0;
        while cbor.more(length, index) {
            if index == FIELDS {
                return Err(Fault::Limits { what: "fields", max: 9 });
            }
            index += 1;
            let name = cbor.text().map_err(|error| malformed("payload", error))?;
            fields.field(name, &mut cbor)?;
        }
        cbor.finish().map_err(|error| malformed("payload", error))?;
        Ok(fields)
    }

    fn field(&mut self, name: &str, cbor: &mut Cbor<'a>) -> Result<(), Fault> {
        match name {
            "module_id" => {
                let text = cbor.text().map_err(|error| malformed("module_id", error))?;
                limited("module_id", text.as_bytes(), 1, MAX_TEXT)?;
                once("module_id", &mut self.module_id, text)
            }
            "digest" => {
                let text = cbor.text().map_err(|error| malformed("digest", error))?;
                once("digest", &mut self.digest, text)
            }
            "timestamp" => {
                let time = cbor.unsigned().map_err(|error| malformed("timestamp", error))?;
                once("timestamp", &mut self.timestamp, time)
            }
            "pcrs" => once("pcrs", &mut self.pcrs, registers(cbor)?),
            "certificate" => {
                let der = cbor.bytes().map_err(|error| malformed("certificate", error))?;
                limited("certificate", der, 1, MAX_CERTIFICATE)?;
                once("certificate", &mut self.certificate, der)
            }
            "cabundle" => once("cabundle", &mut self.bundle, bundle(cbor)?),
            "public_key" => once("public_key", &mut self.public_key, optional("public_key", cbor)?),
            "user_data" => once("user_data", &mut self.user_data, optional("user_data", cbor)?),
            "nonce" => once("nonce", &mut self.nonce, optional("nonce", cbor)?),
            _ => Err(Fault::Malformed { field: "payload", what: "an unknown field".into() }),
        }
    }

    fn document(self, payload: &'a [u8], signature: &'a [u8]) -> Result<Document<'a>, Fault> {
        let missing = |field| Fault::Malformed { field, what: "missing".into() };
        let timestamp = self.timestamp.ok_or(missing("timestamp"))?;
        let timestamp = i64::try_from(timestamp)
            .map_err(|_| Fault::Malformed { field: "timestamp", what: "out of range".into() })?;
        Ok(Document {
            module_id: self.module_id.ok_or(missing("module_id"))?,
            digest: self.digest.ok_or(missing("digest"))?,
            timestamp: Time::from_unix_ms(timestamp),
            pcrs: self.pcrs.ok_or(missing("pcrs"))?,
            certificate: self.certificate.ok_or(missing("certificate"))?,
            bundle: self.bundle.ok_or(missing("cabundle"))?,
            // These three may be left out as well as null.
            public_key: self.public_key.flatten(),
            user_data: self.user_data.flatten(),
            nonce: self.nonce.flatten(),
            payload,
            signature,
        })
    }
}

fn registers<'a>(cbor: &mut Cbor<'a>) -> Result<BTreeMap<u8, &'a [u8]>, Fault> {
    let malformed = |error| malformed("pcrs", error);
    let length = cbor.map().map_err(malformed)?;
    let mut registers = BTreeMap::new();
    let mut index = 0;
    while cbor.more(length, index) {
        index += 1;
        let register = cbor.unsigned().map_err(malformed)?;
        let register = u8::try_from(register).ok().filter(|register| *register < REGISTERS);
        let register = register.ok_or(Fault::Limits { what: "register number", max: 31 })?;
        let value = cbor.bytes().map_err(malformed)?;
        if ![32, 48, 64].contains(&value.len()) {
            return Err(Fault::Limits { what: "register", max: 64 });
        }
        if registers.insert(register, value).is_some() {
            return Err(Fault::Malformed { field: "pcrs", what: "a register twice".into() });
        }
    }
    if registers.is_empty() {
        return Err(Fault::Malformed { field: "pcrs", what: "empty".into() });
    }
    Ok(registers)
}

fn bundle<'a>(cbor: &mut Cbor<'a>) -> Result<Vec<&'a [u8]>, Fault> {
    let malformed = |error| malformed("cabundle", error);
    let length = cbor.array().map_err(malformed)?;
    let mut bundle = Vec::new();
    let mut index = 0;
    while cbor.more(length, index) {
        if bundle.len() == MAX_BUNDLE {
            return Err(Fault::Limits { what: "cabundle", max: MAX_BUNDLE });
        }
        index += 1;
        let der = cbor.bytes().map_err(malformed)?;
        limited("cabundle", der, 1, MAX_CERTIFICATE)?;
        bundle.push(der);
    }
    if bundle.is_empty() {
        return Err(Fault::Malformed { field: "cabundle", what: "empty".into() });
    }
    Ok(bundle)
}

fn optional<'a>(field: &'static str, cbor: &mut Cbor<'a>) -> Result<Option<&'a [u8]>, Fault> {
    let value = cbor.bytes_or_null().map_err(|error| malformed(field, error))?;
    limited(field, value.unwrap_or_default(), 0, MAX_FIELD)?;
    Ok(value)
}

fn limited(what: &'static str, bytes: &[u8], min: usize, max: usize) -> Result<(), Fault> {
    if bytes.len() < min || bytes.len() > max {
        return Err(Fault::Limits { what, max });
    }
    Ok(())
}

fn once<T>(field: &'static str, place: &mut Option<T>, value: T) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Malformed { field, what: "there twice".into() }),
    }
}

fn malformed(field: &'static str, error: CborError) -> Fault {
    Fault::Malformed { field, what: error.to_string() }
}

/// CBOR: an array of four items.
const ARRAY_OF_FOUR: u8 = 0x84;
/// {1: -35}, alg: ES384 (RFC 9053 §2.1).
const ES384: &[u8] = &[0xa1, 0x01, 0x38, 0x22];
const SIGNATURE: usize = 96;
const FIELDS: u64 = 9;
const REGISTERS: u8 = 32;
/// Promises of docs/reference/limits.md.
const MAX_DOCUMENT: usize = 16 * 1024;
const MAX_CERTIFICATE: usize = 1024;
const MAX_BUNDLE: usize = 8;
const MAX_FIELD: usize = 1024;
const MAX_TEXT: usize = 256;
