#![allow(clippy::unwrap_used)]

use super::*;
use crate::reference::signature;

/// By `systemd-measure sign` and `calculate` (systemd 252) for a kernel of `kernel\n` and a command
/// line of `quiet\n`: four phases in two banks.
const SIGNED: &[u8] = include_bytes!("signed.json");
const VALUES: &[u8] = include_bytes!("values.json");
const SIGNER: &str = include_str!("signer.pem");

fn keys() -> Vec<PublicKey> {
    vec![PublicKey::from_spki(&signature::spki_der(SIGNER).unwrap()).unwrap()]
}

/// Register 11 at a phase.
fn at(bank: HashAlgorithm, phase: usize) -> BTreeMap<u32, Digest> {
    let values: Value = serde_json::from_slice(VALUES).unwrap();
    let value = values[bank.name()][phase]["hash"].as_str().unwrap();
    BTreeMap::from([(11, Digest::new(bank, &hex::decode(value).unwrap()).unwrap())])
}

fn values(bank: HashAlgorithm) -> BTreeMap<u32, Digest> {
    at(bank, 0)
}

#[test]
fn values_that_a_listed_key_signed_are_vouched_for_and_no_others() {
    let signatures = PcrSignatures::parse(SIGNED).unwrap();
    for bank in [HashAlgorithm::Sha256, HashAlgorithm::Sha384] {
        for phase in 0..4 {
            assert_eq!(signatures.vouches(bank, &at(bank, phase), &keys()), Vouched::Signed);
        }
        assert_eq!(signatures.vouches(bank, &values(bank), &[]), Vouched::OtherKey);
        let other = BTreeMap::from([(11, Digest::zero(bank))]);
        assert_eq!(signatures.vouches(bank, &other, &keys()), Vouched::Nothing);
        let moved = values(bank).into_values().map(|value| (12, value)).collect();
        assert_eq!(signatures.vouches(bank, &moved, &keys()), Vouched::Nothing);
    }
    let other_bank = BTreeMap::from([(11, Digest::zero(HashAlgorithm::Sha512))]);
    let found = signatures.vouches(HashAlgorithm::Sha512, &other_bank, &keys());
    assert_eq!(found, Vouched::Nothing);
}

#[test]
fn every_bit_of_policy_and_signature_counts() {
    let json: Value = serde_json::from_slice(SIGNED).unwrap();
    let bank = HashAlgorithm::Sha256;
    let mut flipped = 0;
    for (member, base64) in [("pol", false), ("sig", true)] {
        let text = json["sha256"][0][member].as_str().unwrap();
        let bytes = match base64 {
            true => STANDARD.decode(text).unwrap(),
            false => hex::decode(text).unwrap(),
        };
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let mut json = json.clone();
                json["sha256"][0][member] = match base64 {
                    true => STANDARD.encode(&bytes).into(),
                    false => hex::encode(&bytes).into(),
                };
                let changed = PcrSignatures::parse(json.to_string().as_bytes()).unwrap();
                let found = changed.vouches(bank, &values(bank), &keys());
                assert_ne!(found, Vouched::Signed, "{member} {at} {bit}");
                flipped += 1;
            }
        }
    }
    println!("{flipped} single bits flipped, none vouched for");
}

#[test]
fn ill_formed_files_are_refused_and_nothing_panics() {
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"sha256":{}}"#,
        r#"{"md5":[]}"#,
        r#"{"sha256":[{}]}"#,
        r#"{"sha256":[{"pcrs":[],"pol":"00","sig":""}]}"#,
        r#"{"sha256":[],"sha256":[]}"#,
    ] {
        assert!(PcrSignatures::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let text = String::from_utf8(SIGNED.to_vec()).unwrap();
    for registers in ["[24]", "[11,11]", "[12,11]", "[\"11\"]", "[-1]"] {
        let changed = text.replace("[11]", registers);
        assert!(PcrSignatures::parse(changed.as_bytes()).is_err(), "{registers}");
    }
    let end = SIGNED.trim_ascii_end().len();
    for length in 0..end {
        assert!(PcrSignatures::parse(&SIGNED[..length]).is_err(), "{length}");
    }
}
