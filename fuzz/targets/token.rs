//! A JWT-SVID: no token is good without a key in the bundle, whatever it says.

#![no_main]

use assay::ca::jwt::verify_jwt;
use assay::spiffe::Bundle;
use assay::spiffe::JwtAuthority;
use assay::spiffe::TrustDomain;
use assay_evidence::Time;
use libfuzzer_sys::fuzz_target;

/// The base point of P-256 (SEC 2), as an SPKI: its private key is one, and of no use to a fuzzer
/// that cannot do ECDSA.
const KEY: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e5\
    63a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6\
    406837bf51f5";

fuzz_target!(|bytes: &[u8]| {
    let Ok(token) = std::str::from_utf8(bytes) else { return };
    let Ok(trust_domain) = TrustDomain::parse("example.org") else { return };
    let key = JwtAuthority {
        key_id: "k".into(),
        public_key: hex::decode(KEY.replace(' ', "")).unwrap_or_default(),
        expires_at: Time::from_unix_s(i64::MAX),
    };
    let bundle = Bundle {
        trust_domain,
        x509_authorities: Vec::new(),
        jwt_authorities: vec![key],
        sequence: 1,
        refresh_hint_s: 60,
    };
    assert!(verify_jwt(token, "a", &bundle, Time::from_unix_s(1_000)).is_err());
});
