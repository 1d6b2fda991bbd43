#![allow(clippy::unwrap_used)]

use assay_evidence::cbor::Writer;
use assay_evidence::crypto::SoftwareKey;
use assay_evidence::time::Time;
use proptest::prelude::*;

use super::*;
use crate::reference::Profile;
use crate::reference::import::Variant;

/// PKCS #8 of a P-256 key that signs nothing else.
const KEY: &str = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420\
    1111111111111111111111111111111111111111111111111111111111111111a14403420004\
    0217e617f0b6443928278f96999e69a23a4f2c152bdf6d6cdf66e5b80282d4ed\
    194a7debcb97712d2dda3ca85aa8765a56f45fc758599652f2897c65306e5794";

fn key() -> SoftwareKey {
    SoftwareKey::from_pkcs8(&hex::decode(KEY.replace(char::is_whitespace, "")).unwrap()).unwrap()
}

fn now() -> Time {
    Time::parse_rfc3339("2026-11-24T00:00:00Z").unwrap()
}

fn profile() -> Profile {
    let (a, b, c) = ("11".repeat(32), "22".repeat(32), "33".repeat(32));
    let (wa, wb) = ("11".repeat(48), "22".repeat(48));
    Profile::parse(&format!(
        r#"
        schema = "firmware-profile/1"
        id = "acme/web"
        serial = 7
        root = "tpm2"
        banks = ["sha256", "sha384"]
        [[component]]
        name = "firm/ware"
        on = [0, 2]
        [[component.variant]]
        name = "1.59 #2"
        state = "active"
        pcr = {{ sha256 = {{ "0" = "{a}", "2" = "{b}" }}, sha384 = {{ "0" = "{wa}", "2" = "{wb}" }} }}
        [[component.variant]]
        name = "1.58"
        state = "retiring"
        until = 2027-01-01
        pcr = {{ sha256 = {{ "0" = "{b}", "2" = "{b}" }}, sha384 = {{ "0" = "{wb}", "2" = "{wb}" }} }}
        [[component.variant]]
        name = "1.57"
        state = "revoked"
        pcr = {{ sha256 = {{ "0" = "{c}", "2" = "{b}" }}, sha384 = {{ "0" = "{wb}", "2" = "{wb}" }} }}
        [[component]]
        name = "boot-chain"
        on = [4]
        rule = "action? separator boot_app{{2}}"
        [[component.variant]]
        name = "6.1"
        state = "active"
        boot_app = {{ "4" = {{ ordered = true, sha256 = ["{a}", "{b}"], sha384 = ["{wa}", "{wb}"] }} }}
        [[component]]
        name = "keys"
        on = [14]
        rule = "mok*"
        [[component.variant]]
        name = "any"
        state = "active"
        mok = {{ sha256 = ["{a}", "{b}"], sha384 = ["{wa}", "{wb}"] }}
        "#
    ))
    .unwrap()
}

/// Component, rules and values of variants in force: what a CoRIM carries.
fn values(profile: &Profile) -> Vec<(String, String, Variant)> {
    let admits = |state: &crate::reference::State| match state {
        crate::reference::State::Active => true,
        crate::reference::State::Retiring { until } => now() < *until,
        _ => false,
    };
    profile
        .variants()
        .filter(|(_, variant)| admits(&variant.state))
        .map(|(component, variant)| {
            let rules = match &component.demand {
                crate::reference::Demand::Rule(rules) => format!("{rules:?}"),
                other => format!("{other:?}"),
            };
            let sets = variant.sets.iter();
            let sets = sets.map(|(key, allowed)| (key.clone(), allowed.set.clone())).collect();
            let found =
                Variant { name: variant.name.clone(), literals: variant.literals.clone(), sets };
            (component.name.clone(), rules, found)
        })
        .collect()
}

#[test]
fn what_is_exported_comes_back_with_the_same_values() {
    let profile = profile();
    let exported = write(&profile, now());
    assert_eq!(exported.not_exported.len(), 2, "{:?}", exported.not_exported);
    let imported = read(&exported.corim, &[]).unwrap();
    assert!(imported.origin.ends_with("unsigned"), "{}", imported.origin);
    assert!(imported.not_imported.is_empty(), "{:?}", imported.not_imported);
    let text = imported.profile("acme/web");
    let again = Profile::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(values(&again), values(&profile), "{text}");
    let twice = write(&again, now()).corim;
    assert_eq!(read(&twice, &[]).unwrap().components, imported.components);
    assert_eq!(write(&profile, now()).corim, exported.corim, "one order");
}

#[test]
fn a_signature_is_told_or_verified_and_every_bit_of_it_counts() {
    let corim = write(&profile(), now()).corim;
    let sealed = seal(&corim, "acme", &key()).unwrap();
    let known = [key().public_key()];
    let by = read(&sealed, &known).unwrap().origin;
    assert!(by.ends_with(&hex::encode(known[0].spki_sha256())), "{by}");
    assert!(read(&sealed, &[]).unwrap().origin.ends_with("not verified"));
    let other = [SoftwareKey::generate().unwrap().public_key()];
    assert!(matches!(read(&sealed, &other), Err(ImportError::Signature(_))));
    assert!(matches!(read(&corim, &known), Err(ImportError::Signature(_))));
    let mut flipped = 0;
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut bytes = sealed.clone();
            bytes[at] ^= 1 << bit;
            assert!(read(&bytes, &known).is_err(), "byte {at}, bit {bit}");
            flipped += 1;
        }
    }
    for length in 0..sealed.len() {
        assert!(read(&sealed[..length], &known).is_err(), "{length}");
    }
    assert!(read(&[&sealed[..], &[0]].concat(), &known).is_err());
    println!("{flipped} single bits flipped in a signed CoRIM, none accepted");
}

#[test]
fn a_bare_corim_cut_or_changed_is_refused_or_says_something_else() {
    let corim = write(&profile(), now()).corim;
    let whole = read(&corim, &[]).unwrap();
    for length in 0..corim.len() {
        assert!(read(&corim[..length], &[]).is_err(), "{length}");
    }
    assert!(read(&[&corim[..], &[0]].concat(), &[]).is_err());
    let (mut refused, mut same) = (0, Vec::new());
    for at in 0..corim.len() {
        for bit in 0..8 {
            let mut bytes = corim.clone();
            bytes[at] ^= 1 << bit;
            match read(&bytes, &[]) {
                Err(_) => refused += 1,
                Ok(other) if other == whole => same.push(at),
                Ok(_) => {}
            }
        }
    }
    // Only the class and the identity of the tag decide nothing.
    let comid = corim.windows(8).position(|window| window == b"acme/web").unwrap();
    println!("{refused} of {} bits refused, {} say the same", corim.len() * 8, same.len());
    assert!(same.len() <= 400 && same.iter().all(|at| *at < comid + 200), "{}", same.len());
}

/// A CoRIM by hand, its one triple given.
fn by_hand(triples: i64, environment: &[u8], measurement: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut comid = Writer::default();
    comid.map(1);
    comid.unsigned(4);
    comid.map(1);
    comid.integer(triples);
    comid.array(1);
    comid.array(2);
    comid.raw(environment);
    comid.array(1);
    measurement(&mut comid);
    let mut corim = Writer::default();
    corim.tag(501);
    corim.map(2);
    corim.unsigned(0);
    corim.text("theirs");
    corim.unsigned(1);
    corim.array(1);
    corim.tag(506);
    corim.bytes(&comid.into_bytes());
    corim.into_bytes()
}

fn digest(writer: &mut Writer) {
    writer.array(1);
    writer.array(2);
    writer.unsigned(1);
    writer.bytes(&[7; 32]);
}

/// `{}`: an environment of whatever class.
const ANY: &[u8] = &[0xa0];

#[test]
fn what_others_wrote_becomes_sets_or_is_told_and_never_widens() {
    let plain = by_hand(0, ANY, |w| {
        w.map(2);
        w.unsigned(0);
        w.text("boot loader");
        w.unsigned(1);
        w.map(1);
        w.unsigned(2);
        digest(w);
    });
    let imported = read(&plain, &[]).unwrap();
    assert_eq!(imported.digests["boot-loader"].rows.len(), 1);
    assert!(!imported.is_profile());
    crate::reference::Set::parse(&imported.sets()[0].1).unwrap();
    // The same with a least security version beside the digest.
    let constrained = by_hand(0, ANY, |w| {
        w.map(1);
        w.unsigned(1);
        w.map(2);
        w.unsigned(1);
        w.unsigned(3);
        w.unsigned(2);
        digest(w);
    });
    let Err(ImportError::Nothing { told }) = read(&constrained, &[]) else { panic!() };
    assert_eq!(told, ["measurements with svn"]);
    // {1: h'00'}: one instance.
    let instance = by_hand(0, &[0xa1, 1, 0x41, 0], |w| {
        w.map(1);
        w.unsigned(1);
        w.map(1);
        w.unsigned(2);
        digest(w);
    });
    assert!(matches!(read(&instance, &[]), Err(ImportError::Nothing { .. })));
    let unknown = by_hand(11, ANY, |w| w.map(0));
    assert!(matches!(read(&unknown, &[]), Err(ImportError::Malformed(_))));
    let keys = by_hand(3, ANY, |w| w.map(0));
    assert!(matches!(read(&keys, &[]), Err(ImportError::Nothing { told }) if told.len() == 1));
}

proptest! {
    #[test]
    fn anything_at_all_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes, &[]);
        let mut begun = vec![0xd9, 0x01, 0xf5, 0xa2, 0x00, 0x61, 0x78, 0x01, 0x81, 0xd9, 0x01, 0xfa];
        begun.extend_from_slice(&bytes);
        let _ = read(&begun, &[]);
    }

    #[test]
    fn a_comid_of_anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let corim = by_hand(0, ANY, |w| w.raw(&bytes));
        let _ = read(&corim, &[]);
    }
}
