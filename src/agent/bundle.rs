//! The trust bundle: as the server sends it, as it is kept on disk, and in the two forms that
//! workloads are given.
//!
//! On disk are the X.509 authorities alone, as PEM: enough to know the server again after a
//! restart, and readable with any tool. JWT authorities are asked for anew at each start.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use assay_evidence::certificate::Certificate;
use assay_evidence::certificate::CertificateError;
use assay_evidence::key::Curve;
use assay_evidence::key::PublicKey;
use assay_evidence::time::Time;
use assay_proto::spire::api::types;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use crate::spiffe::Bundle;
use crate::spiffe::JwtAuthority;
use crate::spiffe::TrustDomain;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    #[error("{}: cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: not certificates in PEM", path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("a bundle of trust domain `{found}`, expected `{expected}`")]
    TrustDomain { found: String, expected: TrustDomain },
    #[error("a bundle with {found} {what}, expected 1 to {MOST_AUTHORITIES}")]
    Authorities { what: &'static str, found: usize },
    #[error("an authority of the bundle is no certificate")]
    Certificate(#[source] CertificateError),
    #[error("JWT authority `{0}` has no public key")]
    JwtKey(String),
}

/// Authorities of each kind; more is no trust domain of ours.
const MOST_AUTHORITIES: usize = 64;
const MAX_FILE: u64 = 1_024 * 1_024;
/// 9999-12-31T23:59:59Z: how a key without an end is written.
const NO_END: Time = Time::from_unix_s(253_402_300_799);

/// Reads what a server sent.
pub fn parse(bundle: types::Bundle, expected: &TrustDomain) -> Result<Bundle, BundleError> {
    let of_domain = TrustDomain::parse(&bundle.trust_domain).is_ok_and(|td| td == *expected);
    if !of_domain {
        let expected = expected.clone();
        return Err(BundleError::TrustDomain { found: bundle.trust_domain, expected });
    }
    let x509_authorities: Vec<_> =
        bundle.x509_authorities.into_iter().map(|authority| authority.asn1).collect();
    require_certificates(&x509_authorities)?;
    if bundle.jwt_authorities.len() > MOST_AUTHORITIES {
        let found = bundle.jwt_authorities.len();
        return Err(BundleError::Authorities { what: "JWT authorities", found });
    }
    let jwt_authorities =
        bundle.jwt_authorities.into_iter().map(jwt_authority).collect::<Result<_, _>>()?;
    Ok(Bundle {
        trust_domain: expected.clone(),
        x509_authorities,
        jwt_authorities,
        sequence: bundle.sequence_number,
        refresh_hint_s: bundle.refresh_hint,
    })
}

fn jwt_authority(key: types::JwtKey) -> Result<JwtAuthority, BundleError> {
    if PublicKey::from_spki(&key.public_key).is_err() || key.key_id.is_empty() {
        return Err(BundleError::JwtKey(key.key_id));
    }
    let expires_at = match key.expires_at {
        0 => NO_END,
        at => Time::from_unix_s(at),
    };
    Ok(JwtAuthority { key_id: key.key_id, public_key: key.public_key, expires_at })
}

fn require_certificates(authorities: &[Vec<u8>]) -> Result<(), BundleError> {
    if !(1..=MOST_AUTHORITIES).contains(&authorities.len()) {
        let found = authorities.len();
        return Err(BundleError::Authorities { what: "X.509 authorities", found });
    }
    for der in authorities {
        Certificate::parse(der).map_err(BundleError::Certificate)?;
    }
    Ok(())
}

/// The X.509 authorities of a PEM file: what an operator gave, or what was kept.
pub fn load(path: &Path) -> Result<Vec<Vec<u8>>, BundleError> {
    let unreadable = |source| BundleError::Read { path: path.to_path_buf(), source };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut pem))
        .map_err(unreadable)?;
    let authorities: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|source| BundleError::Pem { path: path.to_path_buf(), source })?;
    require_certificates(&authorities)?;
    Ok(authorities)
}

/// Keeps the X.509 authorities: written beside, then renamed, so that a crash leaves one of the
/// two whole.
pub fn keep(authorities: &[Vec<u8>], path: &Path) -> Result<(), BundleError> {
    let write = || {
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(pem(authorities).as_bytes())?;
        file.sync_all()?;
        fs::rename(beside, path)
    };
    write().map_err(|source| BundleError::Write { path: path.to_path_buf(), source })
}

fn pem(authorities: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for der in authorities {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let base64 = STANDARD.encode(der);
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = tail;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// X.509 authorities as the Workload API gives them: DER, one after another.
pub fn x509_form(bundle: &Bundle) -> Vec<u8> {
    bundle.x509_authorities.concat()
}

/// JWT authorities as a JWK set (SPIFFE Trust Domain and Bundle, section 4).
pub fn jwt_form(bundle: &Bundle) -> Vec<u8> {
    let keys: Vec<_> = bundle.jwt_authorities.iter().filter_map(jwk).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// RFC 7518 sections 6.2 and 6.3.
fn jwk(authority: &JwtAuthority) -> Option<serde_json::Value> {
    let key = PublicKey::from_spki(&authority.public_key).ok()?;
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (kid, usage) = (&authority.key_id, "jwt-svid");
    match &key {
        PublicKey::Ec { curve, .. } => {
            let (x, y) = key.coordinates()?;
            let crv = match curve {
                Curve::P256 => "P-256",
                Curve::P384 => "P-384",
                Curve::P521 => "P-521",
            };
            let (x, y) = (encode(x), encode(y));
            Some(json!({ "kty": "EC", "use": usage, "kid": kid, "crv": crv, "x": x, "y": y }))
        }
        PublicKey::Rsa { modulus, exponent } => {
            let exponent = exponent.to_be_bytes();
            let zeros = exponent.iter().take_while(|byte| **byte == 0).count();
            let e = encode(exponent.get(zeros..).unwrap_or_default());
            Some(json!({ "kty": "RSA", "use": usage, "kid": kid, "n": encode(modulus), "e": e }))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use assay_evidence::crypto::SoftwareKey;

    use super::*;

    fn authority() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn sent() -> types::Bundle {
        types::Bundle {
            trust_domain: "example.org".to_owned(),
            x509_authorities: vec![types::X509Certificate { asn1: authority(), tainted: false }],
            jwt_authorities: vec![types::JwtKey {
                public_key: SoftwareKey::generate().unwrap().public_key().to_spki(),
                key_id: "k1".to_owned(),
                expires_at: 0,
                tainted: false,
            }],
            refresh_hint: 60,
            sequence_number: 7,
            wit_authorities: Vec::new(),
        }
    }

    fn domain() -> TrustDomain {
        TrustDomain::parse("example.org").unwrap()
    }

    #[test]
    fn a_bundle_is_read_and_written_in_both_forms() {
        let bundle = parse(sent(), &domain()).unwrap();
        assert_eq!(x509_form(&bundle), bundle.x509_authorities[0]);
        let jwks: serde_json::Value = serde_json::from_slice(&jwt_form(&bundle)).unwrap();
        let key = &jwks["keys"][0];
        assert_eq!((key["kid"].as_str(), key["kty"].as_str()), (Some("k1"), Some("EC")));
        assert_eq!((key["use"].as_str(), key["crv"].as_str()), (Some("jwt-svid"), Some("P-256")));
        assert_eq!(key["x"].as_str().unwrap().len(), 43);
    }

    #[test]
    fn a_bundle_that_cannot_be_ours_is_refused() {
        let refused = |change: fn(&mut types::Bundle)| {
            let mut bundle = sent();
            change(&mut bundle);
            parse(bundle, &domain()).unwrap_err()
        };
        assert!(matches!(
            refused(|b| b.trust_domain = "other.org".to_owned()),
            BundleError::TrustDomain { .. }
        ));
        assert!(matches!(
            refused(|b| b.x509_authorities.clear()),
            BundleError::Authorities { found: 0, .. }
        ));
        assert!(matches!(
            refused(|b| b.x509_authorities[0].asn1.truncate(20)),
            BundleError::Certificate(_)
        ));
        assert!(matches!(
            refused(|b| b.jwt_authorities[0].public_key.clear()),
            BundleError::JwtKey(_)
        ));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle.pem");
        let authorities = vec![authority(), authority()];
        keep(&authorities, &path).unwrap();
        assert_eq!(load(&path).unwrap(), authorities);
        fs::write(&path, "no certificate").unwrap();
        assert!(matches!(load(&path), Err(BundleError::Authorities { found: 0, .. })));
        assert!(matches!(load(&folder.path().join("none")), Err(BundleError::Read { .. })));
    }
}
