//! Signatures over profiles and sets: DSSE envelopes (secure-systems-lab/dsse, protocol 1.0.2)
//! around canonical JSON, by P-256 keys.
//!
//! The envelope stands beside its file as `<file>.dsse`. The file stays what people read; that it
//! says the same as the signed payload is compared, never assumed.

use assay_evidence::PublicKey;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use assay_evidence::crypto::SoftwareKey;
use assay_evidence::digest::HashAlgorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::Serialize;

use crate::reference::ProfileError;

pub const PROFILE_TYPE: &str = "application/vnd.assay.firmware-profile+json";
pub const SET_TYPE: &str = "application/vnd.assay.reference-set+json";
/// One envelope has a few signatures; a payload is as large as a profile.
const MAX_SIGNATURES: usize = 16;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// Pre-authentication encoding: what is signed.
fn encoded(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// An envelope with one signature. The key id is SHA-256 of the public key in DER.
pub fn sign(
    payload_type: &str,
    payload: &[u8],
    key: &SoftwareKey,
) -> Result<String, crypto::SoftwareKeyError> {
    let signature = key.sign(&encoded(payload_type, payload))?;
    let envelope = Envelope {
        payload: STANDARD.encode(payload),
        payload_type: payload_type.to_owned(),
        signatures: vec![Signature {
            keyid: hex::encode(key.public_key().spki_sha256()),
            sig: STANDARD.encode(signature),
        }],
    };
    let mut text = serde_json::to_string(&envelope).unwrap_or_default();
    text.push('\n');
    Ok(text)
}

/// Accepts a text whose canonical form is `canonical` if one of `keys` signed exactly that. Says
/// which: SHA-256 of its public key.
pub fn verify(
    what: &str,
    payload_type: &str,
    canonical: &[u8],
    envelope: &str,
    keys: &[PublicKey],
) -> Result<[u8; 32], ProfileError> {
    let (payload, signer) = opened(what, payload_type, envelope, keys)?;
    if payload != canonical {
        return Err(refused(what, "what was signed is not what the file says"));
    }
    Ok(signer)
}

/// What one of `keys` signed, and which of them.
pub fn opened(
    what: &str,
    payload_type: &str,
    envelope: &str,
    keys: &[PublicKey],
) -> Result<(Vec<u8>, [u8; 32]), ProfileError> {
    let (envelope, payload) = parsed(what, payload_type, envelope)?;
    let message = encoded(payload_type, &payload);
    // The key id is a hint that anybody can write: each key is tried.
    let signer = envelope.signatures.iter().find_map(|signature| {
        let bytes = STANDARD.decode(&signature.sig).ok()?;
        let scheme = SignatureScheme::EcdsaDer(HashAlgorithm::Sha256);
        keys.iter().find(|key| crypto::verify_signature(scheme, key, &message, &bytes).is_ok())
    });
    let signer = signer.ok_or_else(|| refused(what, "none of the configured keys made it"))?;
    Ok((payload, signer.spki_sha256()))
}

/// What an envelope carries, whoever signed it.
pub fn unverified(what: &str, payload_type: &str, envelope: &str) -> Result<Vec<u8>, ProfileError> {
    parsed(what, payload_type, envelope).map(|(_, payload)| payload)
}

fn parsed(
    what: &str,
    payload_type: &str,
    envelope: &str,
) -> Result<(Envelope, Vec<u8>), ProfileError> {
    let envelope: Envelope =
        serde_json::from_str(envelope).map_err(|_| refused(what, "the envelope is no DSSE"))?;
    if envelope.payload_type != payload_type {
        return Err(refused(what, "it is for something of another kind"));
    }
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(refused(what, "it has too many signatures"));
    }
    let payload = STANDARD
        .decode(&envelope.payload)
        .map_err(|_| refused(what, "the payload is no base64"))?;
    Ok((envelope, payload))
}

fn refused(what: &str, fault: &str) -> ProfileError {
    ProfileError::Signature { what: what.to_owned(), fault: fault.to_owned() }
}

/// The DER of a public key in PEM.
pub fn spki_der(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let der = STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?;
    PublicKey::from_spki(&der).ok().map(|_| der)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // The example of the DSSE protocol text.
        assert_eq!(
            encoded("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_signed_text_is_accepted_and_every_changed_one_refused() {
        let (key, other) = (SoftwareKey::generate().unwrap(), SoftwareKey::generate().unwrap());
        let envelope = sign(PROFILE_TYPE, b"{}", &key).unwrap();
        let verify = |kind: &str, text: &[u8], envelope: &str, keys: &[PublicKey]| {
            verify("p", kind, text, envelope, keys).map_err(|error| error.to_string())
        };
        let keys = [other.public_key(), key.public_key()];
        let signer = verify(PROFILE_TYPE, b"{}", &envelope, &keys).unwrap();
        assert_eq!(signer, key.public_key().spki_sha256());
        assert!(verify(PROFILE_TYPE, b"{}", &envelope, &keys[..1]).unwrap_err().contains("none"));
        assert!(verify(PROFILE_TYPE, b"{ }", &envelope, &keys).unwrap_err().contains("not what"));
        assert!(verify(SET_TYPE, b"{}", &envelope, &keys).unwrap_err().contains("another kind"));
        assert!(verify(PROFILE_TYPE, b"{}", &envelope, &[]).is_err());
        let mut refused = 0;
        let text = envelope.trim_end();
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            // A change of the key id alone changes nothing: it is a hint.
            let in_keyid = changed.contains("\"keyid\"")
                && changed.contains("\"sig\"")
                && text.find("keyid").is_some_and(|start| (start + 8..start + 72).contains(&at));
            if !in_keyid {
                assert!(verify(PROFILE_TYPE, b"{}", &changed, &keys).is_err(), "{at}: {changed}");
                refused += 1;
            }
        }
        println!("{refused} changed envelopes refused");
    }
}
