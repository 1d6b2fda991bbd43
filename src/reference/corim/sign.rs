//! COSE_Sign1 around a CoRIM (RFC 9052 §4.2): ES256, and ES384 when others made it.
//!
//! The signature is over the bytes as they came. What stands in the unprotected header nobody
//! signs, so nothing may stand there.

use assay_evidence::PublicKey;
use assay_evidence::cbor::Cbor;
use assay_evidence::cbor::Kind;
use assay_evidence::cbor::Writer;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_evidence::crypto::SoftwareKey;
use assay_evidence::crypto::SoftwareKeyError;
use assay_evidence::digest::HashAlgorithm;

use crate::reference::corim::Signed;
use crate::reference::corim::malformed;
use crate::reference::corim::map;
use crate::reference::corim::skip;
use crate::reference::corim::tuple;
use crate::reference::import::ImportError;

/// The payload, and whose it is. A bare CoRIM is one that nobody signed.
pub(super) fn open<'a>(
    bytes: &'a [u8],
    keys: &[PublicKey],
) -> Result<(Signed, &'a [u8]), ImportError> {
    let mut cbor = Cbor::lenient(bytes);
    if cbor.kind() != Some(Kind::Tag) || cbor.tag() != Ok(TAG_SIGN1) {
        return match keys {
            [] => Ok((Signed::Not, bytes)),
            _ => Err(ImportError::Signature("there is none, and keys were given".to_owned())),
        };
    }
    const WHAT: &str = "COSE_Sign1";
    tuple(&mut cbor, WHAT, 4)?;
    let protected = cbor.bytes().map_err(|error| malformed("protected header", error))?;
    let algorithm = header(protected)?;
    map(&mut cbor, "unprotected header", &mut |key, _| {
        Err(ImportError::Malformed(format!("unprotected header {key}, which nobody signs")))
    })?;
    let payload = cbor.bytes().map_err(|error| malformed("payload", error))?;
    let signature = cbor.bytes().map_err(|error| malformed("signature", error))?;
    cbor.finish().map_err(|error| malformed(WHAT, error))?;
    if keys.is_empty() {
        return Ok((Signed::Unverified, payload));
    }
    let hash = match algorithm {
        ES256 => HashAlgorithm::Sha256,
        ES384 => HashAlgorithm::Sha384,
        other => {
            let text = format!("algorithm {other}, expected ES256 (-7) or ES384 (-35)");
            return Err(ImportError::Signature(text));
        }
    };
    let (scheme, message) = (SignatureScheme::EcdsaFixed(hash), to_be_signed(protected, payload));
    let by = keys
        .iter()
        .find(|key| crypto::verify_signature(scheme, key, &message, signature).is_ok())
        .ok_or_else(|| ImportError::Signature("none of the given keys made it".to_owned()))?;
    Ok((Signed::By(by.spki_sha256()), payload))
}

/// The algorithm. Metadata of the signer is his own word; a critical header is not understood.
fn header(protected: &[u8]) -> Result<i64, ImportError> {
    const WHAT: &str = "protected header";
    let mut cbor = Cbor::lenient(protected);
    let mut algorithm = None;
    map(&mut cbor, WHAT, &mut |key, cbor| {
        match key {
            ALGORITHM => algorithm = Some(cbor.integer().map_err(|e| malformed(WHAT, e))?),
            CONTENT_TYPE => {
                let found = match cbor.kind() {
                    Some(Kind::Text) => cbor.text().map_err(|e| malformed(WHAT, e))?.to_owned(),
                    _ => cbor.unsigned().map_err(|e| malformed(WHAT, e))?.to_string(),
                };
                // Older drafts and tools name the unsigned form.
                if !MEDIA_TYPES.contains(&found.as_str()) {
                    let text = format!("content type `{found}`, expected `{}`", MEDIA_TYPES[0]);
                    return Err(ImportError::Malformed(text));
                }
            }
            CORIM_META | CWT_CLAIMS | KEY_ID | X5CHAIN | X5T => skip(cbor, WHAT)?,
            other => return Err(ImportError::Malformed(format!("{WHAT} {other}, unknown"))),
        }
        Ok(())
    })?;
    cbor.finish().map_err(|error| malformed(WHAT, error))?;
    algorithm.ok_or_else(|| ImportError::Malformed(format!("{WHAT}: no algorithm")))
}

/// Signs a CoRIM by ES256; `signer` is the name that its metadata gives.
pub fn seal(corim: &[u8], signer: &str, key: &SoftwareKey) -> Result<Vec<u8>, SoftwareKeyError> {
    // corim-meta-map: {0: {0: signer-name}}
    let mut meta = Writer::default();
    meta.map(1);
    meta.unsigned(0);
    meta.map(1);
    meta.unsigned(0);
    meta.text(signer);
    let mut protected = Writer::default();
    protected.map(3);
    protected.integer(ALGORITHM);
    protected.integer(ES256);
    protected.integer(CONTENT_TYPE);
    protected.text(MEDIA_TYPES[0]);
    protected.integer(CORIM_META);
    protected.bytes(&meta.into_bytes());
    let protected = protected.into_bytes();
    let signature = key.sign_fixed(&to_be_signed(&protected, corim))?;
    let mut sealed = Writer::default();
    sealed.tag(TAG_SIGN1);
    sealed.array(4);
    sealed.bytes(&protected);
    sealed.map(0);
    sealed.bytes(corim);
    sealed.bytes(&signature);
    Ok(sealed.into_bytes())
}

/// Sig_structure (RFC 9052 §4.4), without external data.
fn to_be_signed(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.array(4);
    writer.text("Signature1");
    writer.bytes(protected);
    writer.bytes(&[]);
    writer.bytes(payload);
    writer.into_bytes()
}

const TAG_SIGN1: u64 = 18;
/// RFC 9053 §2.1
const ES256: i64 = -7;
const ES384: i64 = -35;
/// COSE header parameters; 8 is `corim-meta`, 15 CWT claims (RFC 9597).
const ALGORITHM: i64 = 1;
const CONTENT_TYPE: i64 = 3;
const KEY_ID: i64 = 4;
const CORIM_META: i64 = 8;
const CWT_CLAIMS: i64 = 15;
const X5CHAIN: i64 = 33;
const X5T: i64 = 34;
const MEDIA_TYPES: [&str; 3] =
    ["application/rim+cbor", "application/corim-unsigned+cbor", "application/corim+cbor"];
