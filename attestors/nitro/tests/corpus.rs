//! Documents of real enclaves: verdict, reason and claims, and every bit of each.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../snp/tests/support/corpus.rs"]
mod corpus;

use assay_nitro::Anchors;
use assay_nitro::Claims;
use assay_nitro::Policy;
use assay_nitro::appraise;
use assay_nitro::verify;
use corpus::Case;

#[test]
fn every_document_gets_its_verdict_and_its_claims() {
    let mut documents = 0;
    for case in corpus::cases("nitro") {
        let document = case.file("document").unwrap();
        let verified = verify(&document, &Anchors::aws(), None, case.at());
        let found = match &verified {
            Err(faults) => faults.reason().code(),
            Ok(claims) => appraise(claims, &Policy::default(), case.at())
                .first()
                .map_or("", |finding| finding.code.code()),
        };
        assert!(case.reasons().contains(&found), "{}: {found}", case.id);
        assert_eq!(found.is_empty(), case.text("verdict") == "genuine", "{}: {found}", case.id);
        if let Ok(claims) = verified {
            same_claims(&case, &claims);
        }
        documents += 1;
    }
    println!("{documents} of {documents} documents");
}

fn same_claims(case: &Case, claims: &Claims) {
    let written = serde_json::to_value(claims).unwrap();
    for (name, expected) in case.claims() {
        let found = &written[name];
        let same = match expected {
            toml::Value::Integer(number) => found.as_i64() == Some(*number),
            toml::Value::Boolean(flag) => found.as_bool() == Some(*flag),
            toml::Value::String(text) => found.as_str() == Some(text),
            // Only registers that are not zero are listed.
            toml::Value::Table(pcrs) => found.as_object().unwrap().iter().all(|(n, value)| {
                let value = value.as_str().unwrap();
                match pcrs.get(n).and_then(toml::Value::as_str) {
                    Some(known) => known == value,
                    None => value.bytes().all(|digit| digit == b'0'),
                }
            }),
            _ => false,
        };
        assert!(same, "{}: {name}: {found} where {expected} is right", case.id);
    }
}

#[test]
fn a_nonce_is_compared_whole() {
    for case in corpus::cases("nitro") {
        let (document, nonce) = (case.file("document").unwrap(), case.claims()["nonce"].as_str());
        let nonce = hex::decode(nonce.unwrap()).unwrap();
        let judge = |nonce: &[u8]| verify(&document, &Anchors::aws(), Some(nonce), case.at());
        if case.text("verdict") != "genuine" {
            continue;
        }
        assert_eq!(judge(&nonce).is_ok(), !nonce.is_empty(), "{}", case.id);
        let longer = [nonce.as_slice(), &[0]].concat();
        assert_eq!(judge(&longer).unwrap_err().reason().code(), "nonce-mismatch");
    }
}

#[test]
fn no_other_bit_and_no_other_length_is_accepted() {
    let cases = corpus::cases("nitro");
    let swept: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = cases.iter().map(|case| scope.spawn(|| sweep(case))).collect();
        running.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    let flips: u32 = swept.iter().map(|(flips, _)| flips).sum();
    let lengths: u32 = swept.iter().map(|(_, lengths)| lengths).sum();
    let documents = swept.len();
    println!("{documents} genuine documents: {flips} flips and {lengths} lengths, none accepted");
}

/// How many flips and lengths were tried; nothing for a document that is refused as it is.
fn sweep(case: &Case) -> Option<(u32, u32)> {
    let genuine = case.file("document").unwrap();
    let anchors = Anchors::aws();
    let judge = |bytes: &[u8]| verify(bytes, &anchors, None, case.at()).is_ok();
    if !judge(&genuine) {
        return None;
    }
    let (mut flips, mut lengths) = (0, 0);
    let mut changed = genuine.clone();
    for place in 0..genuine.len() {
        for bit in 0..8 {
            changed[place] ^= 1 << bit;
            assert!(!judge(&changed), "{}: byte {place}, bit {bit}", case.id);
            changed[place] ^= 1 << bit;
            flips += 1;
        }
    }
    for end in 0..genuine.len() {
        assert!(!judge(&genuine[..end]), "{}: {end}", case.id);
        lengths += 1;
    }
    for more in 1..=64 {
        assert!(!judge(&[genuine.as_slice(), &vec![0; more]].concat()));
        lengths += 1;
    }
    Some((flips, lengths))
}
