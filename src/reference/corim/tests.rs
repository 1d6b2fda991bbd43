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

/// A key, and what writes its value.
type Measurement<'m> = (&'m str, &'m dyn Fn(&mut Writer));

/// One of ours by hand, from one measurement each: its key, and what it is.
fn ours(measurements: &[Measurement<'_>]) -> Vec<u8> {
    let mut comid = Writer::default();
    comid.map(1);
    comid.unsigned(4);
    comid.map(1);
    comid.unsigned(0);
    comid.array(1);
    comid.array(2);
    comid.raw(ANY);
    comid.array(measurements.len());
    for (key, value) in measurements {
        comid.map(2);
        comid.unsigned(0);
        comid.text(key);
        comid.unsigned(1);
        comid.map(1);
        value(&mut comid);
    }
    let mut corim = Writer::default();
    corim.tag(501);
    corim.map(3);
    corim.unsigned(0);
    corim.text("x");
    corim.unsigned(1);
    corim.array(1);
    corim.tag(506);
    corim.bytes(&comid.into_bytes());
    corim.unsigned(3);
    corim.tag(32);
    corim.text("urn:x-assay:reference-values:1:tpm2");
    corim.into_bytes()
}

fn one_digest(writer: &mut Writer) {
    writer.unsigned(2);
    digest(writer);
}

/// A digest of SHA-1, by an algorithm number that nobody here decides by.
fn weak_digest(writer: &mut Writer) {
    writer.unsigned(2);
    writer.array(1);
    writer.array(2);
    writer.unsigned(99);
    writer.bytes(&[7; 20]);
}

#[test]
fn no_name_of_a_corim_becomes_a_line_of_the_draft() {
    for class in ["boot_app = {}\n[ima]\nallow = []\nx", "boot app", "no_such_class"] {
        let corim = ours(&[(&format!("c/v/4/{class}#0"), &one_digest)]);
        assert!(matches!(read(&corim, &[]), Err(ImportError::Malformed(_))), "{class}");
    }
    let corim = ours(&[("c\n[ima]/v\n\"/4/boot_app#0", &one_digest)]);
    let text = read(&corim, &[]).unwrap().profile("a/b\n[ima]");
    assert!(!text.lines().any(|line| line.starts_with("[ima]")), "{text}");
}

#[test]
fn a_row_that_cannot_be_taken_refuses_the_sequence() {
    let good = ("c/v/4/boot_app#0", &one_digest as &dyn Fn(&mut Writer));
    let weak = ("c/v/4/boot_app#1", &weak_digest as &dyn Fn(&mut Writer));
    assert!(read(&ours(&[good]), &[]).is_ok());
    assert!(matches!(read(&ours(&[good, weak]), &[]), Err(ImportError::Malformed(_))));
    // A register by a weak digest alone takes the whole measurement with it.
    let registers = by_hand(0, ANY, |w| {
        w.map(1);
        w.unsigned(1);
        w.map(1);
        w.unsigned(14);
        w.map(2);
        w.unsigned(4);
        digest(w);
        w.unsigned(7);
        w.array(1);
        w.array(2);
        w.unsigned(99);
        w.bytes(&[7; 20]);
    });
    assert!(matches!(read(&registers, &[]), Err(ImportError::Nothing { .. })));
}

#[test]
fn values_of_another_class_are_told_and_left_out() {
    let mut comid = Writer::default();
    comid.map(1);
    comid.unsigned(4);
    comid.map(1);
    comid.unsigned(0);
    comid.array(2);
    for vendor in ["one", "two"] {
        comid.array(2);
        comid.map(1);
        comid.unsigned(0);
        comid.map(1);
        comid.unsigned(1);
        comid.text(vendor);
        comid.array(1);
        comid.map(1);
        comid.unsigned(1);
        comid.map(1);
        one_digest(&mut comid);
    }
    let mut corim = Writer::default();
    corim.tag(501);
    corim.map(1);
    corim.unsigned(1);
    corim.array(1);
    corim.tag(506);
    corim.bytes(&comid.into_bytes());
    let imported = read(&corim.into_bytes(), &[]).unwrap();
    assert_eq!(imported.digests["digests"].rows.len(), 1);
    assert_eq!(imported.not_imported, ["a reference for another class than the first"]);
}

#[test]
fn variants_have_an_end() {
    let names: Vec<String> = (0..300).map(|at| format!("c/{at}/4/boot_app#0")).collect();
    let all: Vec<Measurement<'_>> =
        names.iter().map(|name| (name.as_str(), &one_digest as &dyn Fn(&mut Writer))).collect();
    assert!(matches!(read(&ours(&all), &[]), Err(ImportError::TooMany { what: "variants", .. })));
}

proptest! {
    #[test]
    fn whatever_a_profile_names_its_values_they_come_back(
        component in "[ -~]{1,12}",
        variants in proptest::collection::btree_map("[ -~é]{1,12}", any::<[u8; 32]>(), 1..6),
        rows in proptest::collection::vec(any::<[u8; 32]>(), 0..6),
        ordered in any::<bool>(),
    ) {
        use crate::reference::draft::quoted;
        let mut text = format!(
            "schema = \"firmware-profile/1\"\nid = \"a/b\"\nserial = 1\nroot = \"tpm2\"\n\
             banks = [\"sha256\"]\n[[component]]\nname = {}\non = [0]\n",
            quoted(&component)
        );
        for (name, value) in &variants {
            text.push_str(&format!(
                "[[component.variant]]\nname = {}\nstate = \"active\"\n\
                 pcr = {{ sha256 = {{ \"0\" = \"{}\" }} }}\n",
                quoted(name), hex::encode(value)
            ));
        }
        let rows: Vec<String> = rows.iter().map(|row| format!("\"{}\"", hex::encode(row))).collect();
        text.push_str(&format!(
            "[[component]]\nname = \"rows\"\non = [4]\nrule = \"boot_app*\"\n\
             [[component.variant]]\nname = \"all\"\nstate = \"active\"\n\
             boot_app = {{ ordered = {ordered}, sha256 = [{}] }}\n",
            rows.join(", ")
        ));
        let profile = Profile::parse(&text).unwrap();
        prop_assume!(component != "rows");
        let corim = write(&profile, now()).corim;
        let again = read(&corim, &[]).unwrap().profile("a/b");
        match (rows.is_empty(), Profile::parse(&again)) {
            (_, Ok(again)) => prop_assert_eq!(values(&again), values(&profile)),
            // A set of no rows is no measurement, and a rule without its set does not parse.
            (empty, Err(error)) => prop_assert!(empty, "{error}\n{again}"),
        }
    }

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
