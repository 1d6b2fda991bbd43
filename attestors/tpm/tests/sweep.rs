//! Every single bit of the evidence matters: flip it, cut it, add to it, and it is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/vectors.rs"]
mod vectors;

use assay_tpm::AttestationKey;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::endorsement;
use vectors::NOW;
use vectors::SELECTION;
use vectors::Shown;
use vectors::ak;
use vectors::anchors;
use vectors::expected;
use vectors::read;
use vectors::svid_spki;

/// Calls `accepts` with each neighbour of `bytes` and collects those that it takes.
fn accepted_flips(bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) -> Vec<(usize, u8)> {
    assert!(accepts(bytes), "the vector itself must be genuine");
    let mut changed = bytes.to_vec();
    let mut taken = Vec::new();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            changed[place] ^= 1 << bit;
            if accepts(&changed) {
                taken.push((place, bit));
            }
            changed[place] ^= 1 << bit;
        }
    }
    taken
}

fn accepted_lengths(bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) -> Vec<usize> {
    let mut taken: Vec<usize> = (0..bytes.len()).filter(|&end| accepts(&bytes[..end])).collect();
    for more in 1..=64 {
        for filler in [0x00, 0x01, 0xff] {
            let longer = [bytes, &vec![filler; more]].concat();
            if accepts(&longer) {
                taken.push(longer.len());
            }
        }
    }
    taken
}

fn nothing_else_is_accepted(name: &str, bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert_eq!(accepted_flips(bytes, &accepts), [], "{name}: flips");
    assert_eq!(accepted_lengths(bytes, &accepts), [], "{name}: lengths");
}

#[test]
fn no_other_quote_signature_or_value_is_accepted() {
    for kind in ["p256", "p384", "rsassa", "rsapss"] {
        let genuine = Shown::quote(&format!("quote-{kind}"));
        let key = ak(kind);
        nothing_else_is_accepted(kind, &genuine.quote, |quote| {
            let shown = Shown { quote: quote.to_vec(), ..genuine.clone() };
            shown.verify(&key, &expected()).is_ok()
        });
    }
    let genuine = Shown::quote("quote-p256");
    let key = ak("p256");
    nothing_else_is_accepted("pcrs", &read("pcrs"), |pcrs| {
        let shown = Shown { pcrs: Some(pcrs.to_vec()), ..genuine.clone() };
        shown.verify(&key, &expected()).is_ok()
    });
}

#[test]
fn no_other_certification_or_certified_key_is_accepted() {
    let (genuine, key, spki) = (Shown::with_svid_key(), ak("p256"), svid_spki());
    let accepts = |shown: Shown| shown.verify(&key, &expected().certifying(&spki)).is_ok();
    nothing_else_is_accepted("certify", &read("svid.certify"), |certify| {
        accepts(Shown { certify: Some(certify.to_vec()), ..genuine.clone() })
    });
    nothing_else_is_accepted("svid public", &read("svid.public"), |public| {
        accepts(Shown { svid_public: Some(public.to_vec()), ..genuine.clone() })
    });
    nothing_else_is_accepted("svid spki", &spki, |spki| {
        genuine.verify(&key, &expected().certifying(spki)).is_ok()
    });
}

#[test]
fn no_other_attestation_key_verifies_the_quote() {
    for kind in ["p256", "p384", "rsassa"] {
        let genuine = Shown::quote(&format!("quote-{kind}"));
        nothing_else_is_accepted(kind, &read(&format!("ak-{kind}.public")), |public| {
            AttestationKey::parse(public)
                .and_then(|key| genuine.verify(&ProvedKey::enrolled(key), &expected()))
                .is_ok()
        });
    }
}

#[test]
fn no_other_nonce_is_accepted() {
    let (genuine, key) = (Shown::quote("quote-p256"), ak("p256"));
    nothing_else_is_accepted("nonce", &vectors::NONCE, |nonce| {
        let demand = assay_tpm::Expected::exchange(nonce, &SELECTION, false);
        genuine.verify(&key, &demand).is_ok()
    });
}

#[test]
fn no_other_endorsement_certificate_or_public_area_is_accepted() {
    let anchors = anchors();
    let none: [&[u8]; 0] = [];
    for kind in ["ek-p384", "ek-rsa2048"] {
        let (certificate, public) = (read(&format!("{kind}.crt")), read(&format!("{kind}.public")));
        assert_eq!(
            accepted_flips(&certificate, |certificate| {
                endorsement::verify(&[certificate], &none, &public, &anchors, NOW).is_ok()
            }),
            []
        );
        nothing_else_is_accepted(kind, &public, |public| {
            endorsement::verify(&[&certificate], &none, public, &anchors, NOW).is_ok()
        });
        // Behind a certificate only padding may stand, as NV indexes have it.
        let cut = (0..certificate.len())
            .filter(|&end| {
                let certificates = [&certificate[..end]];
                endorsement::verify(&certificates, &none, &public, &anchors, NOW).is_ok()
            })
            .count();
        assert_eq!(cut, 0);
    }
}

#[test]
fn public_areas_read_back_as_they_were_written() {
    for name in ["ak-p256", "ak-p384", "ak-rsapss", "ek-p384", "ek-rsa2048", "svid"] {
        let raw = read(&format!("{name}.public"));
        let public = Public::parse(&raw).unwrap();
        assert_eq!(Public::from_area(public.area().clone()).unwrap().raw(), raw, "{name}");
    }
}
