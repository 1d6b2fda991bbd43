//! The corpus of tokens that must not verify, and the few that must.
#![allow(clippy::unwrap_used)]

use assay_evidence::crypto::SoftwareKey;

use super::*;
use crate::spiffe::JwtAuthority;
use crate::spiffe::TrustDomain;

const NOW_S: i64 = 1_800_000_000;
const KEY_ID: &str = "key-1";

fn now() -> Time {
    Time::from_unix_s(NOW_S)
}

fn bundle(key: &SoftwareKey) -> Bundle {
    Bundle {
        trust_domain: TrustDomain::parse("example.org").unwrap(),
        x509_authorities: Vec::new(),
        jwt_authorities: vec![JwtAuthority {
            key_id: KEY_ID.to_owned(),
            public_key: key.public_key().to_spki(),
            expires_at: now() + Duration::from_secs(86_400),
        }],
        sequence: 1,
        refresh_hint_s: 60,
    }
}

/// r ‖ s out of the DER form, by hand.
fn fixed(der: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    let r_length = usize::from(der[3]);
    let r = &der[4..4 + r_length];
    let s = &der[6 + r_length..];
    for (number, end) in [(r, 32), (s, 64)] {
        let digits: Vec<u8> = number.iter().copied().skip_while(|&byte| byte == 0).collect();
        out[end - digits.len()..end].copy_from_slice(&digits);
    }
    out
}

fn token(key: &SoftwareKey, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = fixed(&key.sign(signed.as_bytes()).unwrap());
    compact(&signed, &signature)
}

const HEADER: &str = r#"{"alg":"ES256","kid":"key-1","typ":"JWT"}"#;

fn payload() -> String {
    format!(
        r#"{{"sub":"spiffe://example.org/web","aud":["db","mail"],"exp":{},"iat":{NOW_S}}}"#,
        NOW_S + 300
    )
}

#[test]
fn a_good_token_gives_its_claims() {
    let key = SoftwareKey::generate().unwrap();
    let id = SpiffeId::parse("spiffe://example.org/web").unwrap();
    let audience = ["db".to_owned(), "mail".to_owned()];
    let draft = Draft { sub: &id, aud: &audience, exp: NOW_S + 300, iat: NOW_S, jti: Some("j1") };
    let signed = signing_input(KEY_ID, &draft).unwrap();
    let ours = compact(&signed, &fixed(&key.sign(signed.as_bytes()).unwrap()));
    let claims = verify_jwt(&ours, "db", &bundle(&key), now()).unwrap();
    assert_eq!(claims.id(), &id);
    assert_eq!(claims.expires_at(), Time::from_unix_s(NOW_S + 300));
    assert_eq!(claims.all().get("jti").unwrap(), "j1");
    assert!(verify_jwt(&ours, "mail", &bundle(&key), now()).is_ok());
}

#[test]
fn what_the_specification_leaves_open_is_accepted() {
    let key = SoftwareKey::generate().unwrap();
    let accepted = |header: &str, payload: &str| {
        verify_jwt(&token(&key, header, payload), "db", &bundle(&key), now()).is_ok()
    };
    assert!(accepted(r#"{"alg":"ES256","kid":"key-1"}"#, &payload()));
    assert!(accepted(r#"{"typ":"JOSE","alg":"ES256","kid":"key-1"}"#, &payload()));
    let one = payload().replace(r#"["db","mail"]"#, r#""db""#);
    assert!(accepted(HEADER, &one));
    let fraction = payload().replace(&format!("{}", NOW_S + 300), "1800000300.75");
    assert!(accepted(HEADER, &fraction));
    let within = payload().replace(&format!("{}", NOW_S + 300), &format!("{}", NOW_S - 29));
    assert!(accepted(HEADER, &within));
}

#[test]
fn the_corpus_of_bad_tokens_is_refused_each_by_its_name() {
    let key = SoftwareKey::generate().unwrap();
    let refused = |header: &str, payload: &str| {
        verify_jwt(&token(&key, header, payload), "db", &bundle(&key), now()).unwrap_err()
    };
    let header = |alg: &str| HEADER.replace("ES256", alg);
    for alg in ["none", "None", "HS256", "HS512", "ES384", "ES512", "RS256", "PS256", "EdDSA", ""] {
        assert_eq!(refused(&header(alg), &payload()), JwtError::Algorithm(alg.to_owned()));
    }
    assert_eq!(refused(r#"{"kid":"key-1"}"#, &payload()), JwtError::Missing("alg"));
    assert_eq!(refused(r#"{"alg":"ES256"}"#, &payload()), JwtError::Missing("kid"));
    assert_eq!(refused(r#"{"alg":"ES256","kid":""}"#, &payload()), JwtError::Missing("kid"));
    let foreign = HEADER.replace("key-1", "key-2");
    assert_eq!(refused(&foreign, &payload()), JwtError::Authority("key-2".to_owned()));
    assert_eq!(
        refused(&HEADER.replace("JWT", "at+jwt"), &payload()),
        JwtError::Type("at+jwt".to_owned())
    );
    for more in ["jwk", "jku", "x5c", "x5u", "crit", "b64", "cty"] {
        let header = HEADER.replace('}', &format!(r#","{more}":"x"}}"#));
        assert_eq!(refused(&header, &payload()), JwtError::Header(more.to_owned()));
    }
    assert!(matches!(
        refused(r#"{"alg":"ES256","alg":"ES256","kid":"key-1"}"#, &payload()),
        JwtError::Malformed("header")
    ));

    let without = |name: &str| {
        let mut map = json::object(payload().as_bytes()).unwrap();
        map.remove(name);
        Value::Object(map).to_string()
    };
    for name in ["sub", "aud", "exp"] {
        assert!(
            matches!(refused(HEADER, &without(name)), JwtError::Missing(found) if found == name)
        );
    }
    let aud = |list: &str| payload().replace(r#"["db","mail"]"#, list);
    assert_eq!(refused(HEADER, &aud("[]")), JwtError::Missing("aud"));
    assert_eq!(refused(HEADER, &aud(r#"["db",1]"#)), JwtError::Claim("aud"));
    assert_eq!(refused(HEADER, &aud("{}")), JwtError::Claim("aud"));
    for list in [r#"["mail"]"#, r#""dbx""#, r#"["DB"]"#] {
        assert!(matches!(refused(HEADER, &aud(list)), JwtError::Audience { .. }), "{list}");
    }
    let twice = payload().replace(r#""aud""#, r#""aud":["other"],"aud""#);
    assert_eq!(refused(HEADER, &twice), JwtError::Malformed("payload"));

    let sub = |id: &str| payload().replace("spiffe://example.org/web", id);
    assert!(matches!(
        refused(HEADER, &sub("spiffe://other.org/web")),
        JwtError::TrustDomain { .. }
    ));
    assert!(matches!(refused(HEADER, &sub("web")), JwtError::Subject(_)));
    assert!(matches!(refused(HEADER, &sub("spiffe://example.org")), JwtError::Subject(_)));

    let exp = |date: &str| payload().replace(&format!("{}", NOW_S + 300), date);
    assert!(matches!(refused(HEADER, &exp("1799999970")), JwtError::Expired { .. }));
    for odd in ["\"1800000300\"", "-1", "1e300", "99999999999999", "null"] {
        assert_eq!(refused(HEADER, &exp(odd)), JwtError::Claim("exp"), "{odd}");
    }
    for name in ["nbf", "iat"] {
        let later = without("iat").replacen('{', &format!(r#"{{"{name}":{},"#, NOW_S + 31), 1);
        assert!(matches!(refused(HEADER, &later), JwtError::Early { .. }), "{name}");
    }
}

#[test]
fn the_bytes_of_a_token_cannot_be_changed() {
    let key = SoftwareKey::generate().unwrap();
    let good = token(&key, HEADER, &payload());
    let refused = |token: &str| verify_jwt(token, "db", &bundle(&key), now()).unwrap_err();
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        refused(&String::from_utf8(bytes).unwrap());
    }
    for bad in ["", ".", "..", "a.b", &format!("{good}="), &format!("{good}."), &format!(" {good}")]
    {
        refused(bad);
    }
    assert_eq!(refused(&"a".repeat(MAX_TOKEN_BYTES + 1)).reason(), Reason::OverLimit);
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_eq!(refused(&format!("{signed}.")), JwtError::Signature);
    // Zeros in place of r and s verify under careless implementations.
    assert_eq!(refused(&compact(signed, &[0; 64])), JwtError::Signature);
    // A signature in DER is not the form of RFC 7518.
    let der = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).unwrap());
    assert_eq!(refused(&format!("{signed}.{der}")), JwtError::Signature);
}

#[test]
fn a_key_whose_time_is_over_verifies_nothing() {
    let key = SoftwareKey::generate().unwrap();
    let good = token(&key, HEADER, &payload());
    let mut bundle = bundle(&key);
    bundle.jwt_authorities[0].expires_at = now();
    assert_eq!(
        verify_jwt(&good, "db", &bundle, now()).unwrap_err(),
        JwtError::Authority(KEY_ID.to_owned())
    );
    let other = SoftwareKey::generate().unwrap();
    bundle.jwt_authorities[0].public_key = other.public_key().to_spki();
    bundle.jwt_authorities[0].expires_at = now() + Duration::from_secs(1);
    assert_eq!(verify_jwt(&good, "db", &bundle, now()).unwrap_err(), JwtError::Signature);
}
