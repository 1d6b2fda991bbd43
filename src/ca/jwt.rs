//! JWT-SVIDs: writing what is to be signed, and verifying what others present.
//!
//! Writing makes one fixed shape. Verifying is what `ValidateJWTSVID` and the command line do: the
//! bundle decides which key, the key decides which algorithms, and nothing in the token is read
//! before its signature held except the header that finds the key.
//!
//! Source: SPIFFE JWT-SVID sections 2 to 4, RFC 7515, RFC 7519, RFC 8725 section 3.

use std::time::Duration;

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SignatureScheme;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use crate::json;
use crate::spiffe::Bundle;
use crate::spiffe::IdError;
use crate::spiffe::SpiffeId;

/// What a verified token says.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    id: SpiffeId,
    expires_at: Time,
    all: Map<String, Value>,
}

impl Claims {
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub fn expires_at(&self) -> Time {
        self.expires_at
    }

    /// Every claim, as `ValidateJWTSVID` returns them.
    pub fn all(&self) -> &Map<String, Value> {
        &self.all
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    #[error("a token has at most {MAX_TOKEN_BYTES} bytes, found {0}")]
    TooLong(usize),
    #[error("{0} is not three parts of base64url around JSON objects without repeated names")]
    Malformed(&'static str),
    #[error("a token of type `{0}`, expected `JWT`")]
    Type(String),
    #[error("a header with `{0}`, expected `alg`, `kid` and `typ` alone")]
    Header(String),
    #[error("a token without `{0}`")]
    Missing(&'static str),
    #[error("`{0}` is not an algorithm for JWT-SVIDs, or not one of its key")]
    Algorithm(String),
    #[error("no authority of the bundle has key id `{0}`")]
    Authority(String),
    #[error("the signature does not verify")]
    Signature,
    #[error("claim `{0}` has a value that it cannot have")]
    Claim(&'static str),
    #[error("the subject is not a SPIFFE ID")]
    Subject(#[source] IdError),
    #[error("the subject is of trust domain `{found}`, expected `{expected}`")]
    TrustDomain { found: String, expected: String },
    #[error("the audience `{expected}` is not among those of the token")]
    Audience { expected: String },
    #[error("the token ended at {ended}, now is {now}")]
    Expired { ended: Time, now: Time },
    #[error("the token begins at {begins}, now is {now}")]
    Early { begins: Time, now: Time },
}

impl JwtError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLong(_) => Reason::OverLimit,
            Self::Malformed(_) => Reason::MessageMalformed,
            Self::Algorithm(_) => Reason::SigScheme,
            Self::Authority(_) => Reason::AuthorityMissing,
            Self::Signature => Reason::SigInvalid,
            Self::TrustDomain { .. } => Reason::TrustDomainMismatch,
            Self::Audience { .. } => Reason::AudienceInvalid,
            _ => Reason::SvidInvalid,
        }
    }
}

/// Verifies `token` for `audience` with the JWT authorities of `bundle`.
pub fn verify_jwt(
    token: &str,
    audience: &str,
    bundle: &Bundle,
    now: Time,
) -> Result<Claims, JwtError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(JwtError::TooLong(token.len()));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed("token"))?;
    let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed("token"))?;
    let (algorithm, key_id) = parse_header(&object(header, "header")?)?;
    let authority = bundle
        .jwt_authorities
        .iter()
        .find(|authority| authority.key_id == key_id && now < authority.expires_at)
        .ok_or(JwtError::Authority(key_id))?;
    let key = PublicKey::from_spki(&authority.public_key)
        .map_err(|_| JwtError::Authority(authority.key_id.clone()))?;
    let scheme = scheme(&algorithm, &key).ok_or(JwtError::Algorithm(algorithm))?;
    let signature =
        URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtError::Malformed("signature"))?;
    crypto::verify_signature(scheme, &key, signed.as_bytes(), &signature)
        .map_err(|_| JwtError::Signature)?;
    verify_claims(object(payload, "payload")?, audience, bundle, now)
}

/// JWT-SVID section 2: `alg`, `kid` and `typ`, nothing else.
fn parse_header(header: &Map<String, Value>) -> Result<(String, String), JwtError> {
    let known = ["alg", "kid", "typ"];
    if let Some(name) = header.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(JwtError::Header(name.clone()));
    }
    let text = |name: &'static str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(JwtError::Malformed("header")),
    };
    if let Some(kind) = text("typ")?.filter(|kind| kind != "JWT" && kind != "JOSE") {
        return Err(JwtError::Type(kind));
    }
    let algorithm = text("alg")?.ok_or(JwtError::Missing("alg"))?;
    let key_id = text("kid")?.filter(|id| !id.is_empty()).ok_or(JwtError::Missing("kid"))?;
    Ok((algorithm, key_id))
}

/// The list is closed, and an algorithm counts only with the kind of key it is for: no `none`, no
/// HMAC keyed with a public key, no curve with another hash than its own (RFC 7518 section 3.1).
fn scheme(algorithm: &str, key: &PublicKey) -> Option<SignatureScheme> {
    let hash = match algorithm.get(2..)? {
        "256" => HashAlgorithm::Sha256,
        "384" => HashAlgorithm::Sha384,
        "512" => HashAlgorithm::Sha512,
        _ => return None,
    };
    match (algorithm.get(..2)?, key) {
        ("ES", PublicKey::Ec { curve, .. }) => {
            let own = match curve {
                Curve::P256 => HashAlgorithm::Sha256,
                Curve::P384 => HashAlgorithm::Sha384,
                Curve::P521 => HashAlgorithm::Sha512,
            };
            (hash == own).then_some(SignatureScheme::EcdsaFixed(hash))
        }
        ("RS", PublicKey::Rsa { .. }) => Some(SignatureScheme::RsaPkcs1(hash)),
        ("PS", PublicKey::Rsa { .. }) => Some(SignatureScheme::RsaPss(hash)),
        _ => None,
    }
}

fn verify_claims(
    all: Map<String, Value>,
    audience: &str,
    bundle: &Bundle,
    now: Time,
) -> Result<Claims, JwtError> {
    let Some(Value::String(subject)) = all.get("sub") else {
        return Err(JwtError::Missing("sub"));
    };
    let id = SpiffeId::parse(subject).map_err(JwtError::Subject)?;
    if *id.trust_domain() != bundle.trust_domain {
        return Err(JwtError::TrustDomain {
            found: id.trust_domain().to_string(),
            expected: bundle.trust_domain.to_string(),
        });
    }
    let named = match all.get("aud") {
        None => return Err(JwtError::Missing("aud")),
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(list)) => {
            if list.is_empty() {
                return Err(JwtError::Missing("aud"));
            }
            if !list.iter().all(Value::is_string) {
                return Err(JwtError::Claim("aud"));
            }
            list.iter().any(|one| one.as_str() == Some(audience))
        }
        Some(_) => return Err(JwtError::Claim("aud")),
    };
    if !named || audience.is_empty() {
        return Err(JwtError::Audience { expected: audience.to_owned() });
    }
    let expires_at = date(&all, "exp")?.ok_or(JwtError::Missing("exp"))?;
    if now >= expires_at + LEEWAY {
        return Err(JwtError::Expired { ended: expires_at, now });
    }
    for name in ["nbf", "iat"] {
        if let Some(begins) = date(&all, name)?.filter(|begins| *begins > now + LEEWAY) {
            return Err(JwtError::Early { begins, now });
        }
    }
    Ok(Claims { id, expires_at, all })
}

/// RFC 7519 section 2, NumericDate: seconds, with a fraction allowed, which is cut off.
fn date(all: &Map<String, Value>, name: &'static str) -> Result<Option<Time>, JwtError> {
    let Some(value) = all.get(name) else { return Ok(None) };
    let number = value.as_number().ok_or(JwtError::Claim(name))?.to_string();
    let whole = number.split_once('.').map_or(number.as_str(), |(whole, _)| whole);
    let seconds = whole
        .parse::<i64>()
        .ok()
        .filter(|seconds| (0..=MAX_DATE_S).contains(seconds))
        .ok_or(JwtError::Claim(name))?;
    Ok(Some(Time::from_unix_s(seconds)))
}

fn object(part: &str, name: &'static str) -> Result<Map<String, Value>, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed(name))?;
    json::object(&bytes).ok_or(JwtError::Malformed(name))
}

/// What a token of ours says, before it is signed.
#[derive(Debug, Clone, Serialize)]
pub struct Draft<'a> {
    pub sub: &'a SpiffeId,
    pub aud: &'a [String],
    pub exp: i64,
    pub iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<&'a str>,
}

/// Header and payload with their dot: what the key signs (RFC 7515 section 5.1).
pub fn signing_input(key_id: &str, draft: &Draft<'_>) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Header<'a> {
        alg: &'a str,
        kid: &'a str,
        typ: &'a str,
    }
    let header = serde_json::to_vec(&Header { alg: "ES256", kid: key_id, typ: "JWT" })?;
    let payload = serde_json::to_vec(draft)?;
    Ok(format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload)))
}

/// The token: the signature as r ‖ s (RFC 7518 section 3.4).
pub fn compact(signing_input: &str, signature: &[u8; 64]) -> String {
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The key id under which the bundle lists a key: 32 characters of its hash.
pub fn key_id(spki_der: &[u8]) -> String {
    let mut text = hex::encode(crypto::sha256(spki_der));
    text.truncate(32);
    text
}

/// Longer tokens do not fit into the headers they travel in.
const MAX_TOKEN_BYTES: usize = 16 * 1_024;
/// Clocks of two machines differ; JWT-SVID section 3 leaves room for it.
const LEEWAY: Duration = Duration::from_secs(30);
/// 9999-12-31T23:59:59Z
const MAX_DATE_S: i64 = 253_402_300_799;

#[cfg(test)]
mod tests;
