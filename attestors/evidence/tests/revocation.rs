//! Revocation lists, written here byte by byte and signed by a key of the test: what is read, what
//! is refused, and that no bit and no length of a signed list can be changed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use assay_evidence::RevocationList;
use assay_evidence::Time;
use assay_evidence::certificate::SignedError;
use assay_evidence::crl::CrlError;
use assay_evidence::crl::MAX_LIST;
use assay_evidence::crl::Scope;
use assay_evidence::crypto::SoftwareKey;
use proptest::prelude::*;

/// The fields of a list, each open to change.
struct List {
    version: Vec<u8>,
    this_update: Vec<u8>,
    next_update: Vec<u8>,
    /// Serial number and extensions.
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    extensions: Vec<Vec<u8>>,
}

impl List {
    fn new() -> List {
        List {
            version: vec![2, 1, 1],
            this_update: time("250101000000Z"),
            next_update: time("250201000000Z"),
            entries: vec![(vec![0x05], vec![]), (vec![0x00, 0x80], vec![]), (vec![0xfe], vec![])],
            extensions: vec![],
        }
    }

    fn with(change: impl FnOnce(&mut List)) -> List {
        let mut list = List::new();
        change(&mut list);
        list
    }

    fn signed_by(&self, key: &SoftwareKey) -> Vec<u8> {
        let entries: Vec<u8> = self
            .entries
            .iter()
            .flat_map(|(serial, extensions)| {
                element(
                    0x30,
                    &[element(2, serial), time("241231000000Z"), extensions.clone()].concat(),
                )
            })
            .collect();
        let entries = if entries.is_empty() { vec![] } else { element(0x30, &entries) };
        let extensions = match self.extensions.as_slice() {
            [] => vec![],
            some => element(0xa0, &element(0x30, &some.concat())),
        };
        let fields = [
            self.version.clone(),
            ECDSA_SHA256.to_vec(),
            ISSUER.to_vec(),
            self.this_update.clone(),
            self.next_update.clone(),
            entries,
            extensions,
        ];
        let tbs = element(0x30, &fields.concat());
        let signature = key.sign(&tbs).unwrap();
        let bits = element(3, &[vec![0], signature].concat());
        element(0x30, &[tbs, ECDSA_SHA256.to_vec(), bits].concat())
    }

    fn parse(&self) -> Result<RevocationList, CrlError> {
        RevocationList::parse(&self.signed_by(&SoftwareKey::generate().unwrap()))
    }
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let head = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        0x100..=0xffff => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        _ => vec![tag, 0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8],
    };
    [head, contents.to_vec()].concat()
}

fn time(text: &str) -> Vec<u8> {
    element(0x17, text.as_bytes())
}

/// An extension below 2.5.29.
fn extension(last: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    let oid = element(6, &[0x55, 0x1d, last]);
    element(0x30, &[&oid, flag, &element(4, value)].concat())
}

fn entry_extension(last: u8, critical: bool) -> Vec<u8> {
    element(0x30, &extension(last, critical, &[10, 1, 1]))
}

fn at(text: &str) -> Time {
    Time::parse_rfc3339(text).unwrap()
}

const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// CN=A
const ISSUER: &[u8] = &[0x30, 12, 0x31, 10, 0x30, 8, 6, 3, 0x55, 4, 3, 0x0c, 1, b'A'];

#[test]
fn a_list_says_who_when_and_which() {
    let key = SoftwareKey::generate().unwrap();
    let der = List::new().signed_by(&key);
    let list = RevocationList::parse(&der).unwrap();
    assert_eq!(list.issuer(), ISSUER);
    assert_eq!(list.this_update(), at("2025-01-01T00:00:00Z"));
    assert_eq!(list.next_update(), Some(at("2025-02-01T00:00:00Z")));
    assert_eq!((list.len(), list.scope()), (3, Scope::All));
    assert_eq!(list.verify(&key.public_key()), Ok(()));
    let other = SoftwareKey::generate().unwrap().public_key();
    assert_eq!(list.verify(&other), Err(SignedError::Invalid));
}

#[test]
fn a_serial_is_found_as_received_and_leading_zeros_make_no_difference() {
    let list = List::new().parse().unwrap();
    for serial in [&[5][..], &[0, 5], &[0x80], &[0, 0x80], &[0, 0, 0x80], &[0xfe]] {
        assert!(list.is_revoked(serial), "{serial:?}");
    }
    for serial in [&[][..], &[0], &[6], &[5, 0], &[0xff, 0xfe]] {
        assert!(!list.is_revoked(serial), "{serial:?}");
    }
    assert!(!List::with(|list| list.entries.clear()).parse().unwrap().is_revoked(&[5]));
}

#[test]
fn a_list_speaks_of_its_time_both_ends_included() {
    let list = List::new().parse().unwrap();
    for (time, current) in [
        ("2024-12-31T23:59:59Z", false),
        ("2025-01-01T00:00:00Z", true),
        ("2025-02-01T00:00:00.9Z", true),
        ("2025-02-01T00:00:01Z", false),
    ] {
        assert_eq!(list.is_current(at(time)), current, "{time}");
    }
    let endless = List::with(|list| list.next_update.clear()).parse().unwrap();
    assert_eq!(endless.next_update(), None);
    assert!(!endless.is_current(at("2025-01-15T00:00:00Z")));
}

#[test]
fn version_1_has_no_extensions_and_no_other_version_is_read() {
    assert!(List::with(|list| list.version.clear()).parse().is_ok());
    let extended = List::with(|list| {
        list.version.clear();
        list.extensions = vec![extension(20, false, &[2, 1, 1])];
    });
    assert_eq!(extended.parse().err(), Some(CrlError::Malformed));
    for version in [0, 2] {
        let odd = List::with(|list| list.version = vec![2, 1, version]);
        assert_eq!(odd.parse().err(), Some(CrlError::Malformed));
    }
}

#[test]
fn a_list_that_is_not_a_full_one_of_its_signer_is_refused() {
    let with = |extensions: Vec<Vec<u8>>| List::with(|list| list.extensions = extensions).parse();
    let number = extension(20, false, &[2, 1, 1]);
    assert!(with(vec![number.clone(), extension(35, false, &[0x30, 0])]).is_ok());
    for critical in [true, false] {
        let delta = with(vec![number.clone(), extension(27, critical, &[2, 1, 1])]);
        assert_eq!(delta.err(), Some(CrlError::Delta));
    }
    let scope = |fields: &[u8]| with(vec![extension(28, true, &element(0x30, fields))]);
    assert_eq!(scope(&[]).unwrap().scope(), Scope::All);
    let place = [0xa0, 5, 0xa0, 3, 0x86, 1, b'a', 0x81, 1, 0xff];
    assert_eq!(scope(&place).unwrap().scope(), Scope::EndEntities);
    assert_eq!(scope(&[0xa0, 4, 0xa1, 2, 0x30, 0]).unwrap().scope(), Scope::All);
    assert_eq!(scope(&[0x82, 1, 0xff]).unwrap().scope(), Scope::Authorities);
    assert_eq!(scope(&[0x82, 1, 0, 0x84, 1, 0]).unwrap().scope(), Scope::All);
    // For others, for some reasons, for attribute certificates; both kinds; out of order; unknown;
    // to be had nowhere, in no way, in two ways, twice.
    for partial in [
        &[0x84, 1, 0xff][..],
        &[0x83, 2, 0, 0x80],
        &[0x85, 1, 0xff],
        &[0x81, 1, 0xff, 0x82, 1, 0xff],
        &[0x82, 1, 0, 0x81, 1, 0xff],
        &[0x86, 1, 0],
        &[0xa0, 0],
        &[0xa0, 2, 0xa0, 0],
        &[0xa0, 2, 0x86, 0],
        &[0xa0, 3, 0xa0, 1, 0x86],
        &[0xa0, 8, 0xa0, 2, 0x86, 0, 0xa1, 2, 0x30, 0],
        &[0xa0, 4, 0xa0, 2, 0x86, 0, 0xa0, 4, 0xa0, 2, 0x86, 0],
    ] {
        assert_eq!(scope(partial).err(), Some(CrlError::Partial), "{partial:?}");
    }
    let places = |count: usize| {
        let names = element(0xa0, &element(0xa0, &[0x86, 0].repeat(count)));
        scope(&names).map(|list| list.scope())
    };
    assert_eq!((places(32), places(33)), (Ok(Scope::All), Err(CrlError::Partial)));
    let foreign = List::with(|list| list.entries[1].1 = entry_extension(29, true));
    assert_eq!(foreign.parse().err(), Some(CrlError::Partial));
}

#[test]
fn critical_extensions_that_nobody_understands_are_refused_and_reasons_are_understood() {
    let unknown = CrlError::CriticalExtension("2.5.29.99".into());
    let list = |critical| List::with(|list| list.extensions = vec![extension(99, critical, &[])]);
    assert_eq!(list(true).parse().err(), Some(unknown.clone()));
    assert!(list(false).parse().is_ok());
    let entry =
        |last, critical| List::with(|list| list.entries[0].1 = entry_extension(last, critical));
    assert_eq!(entry(99, true).parse().err(), Some(unknown));
    assert!(entry(99, false).parse().unwrap().is_revoked(&[5]));
    assert!(entry(21, true).parse().unwrap().is_revoked(&[5]));
    let number = extension(20, false, &[2, 1, 1]);
    let twice = List::with(|list| list.extensions = vec![number.clone(), number]);
    assert_eq!(twice.parse().err(), Some(CrlError::DuplicateExtension("2.5.29.20".into())));
}

#[test]
fn pem_is_read_and_more_than_one_list_is_not() {
    let der = List::new().signed_by(&SoftwareKey::generate().unwrap());
    let base64 = |bytes: &[u8]| {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let wide = chunk.iter().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte))
                << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                text.push(match digit <= chunk.len() {
                    true => DIGITS[(wide >> (18 - 6 * digit)) as usize & 63].into(),
                    false => '=',
                });
            }
        }
        text
    };
    let pem = format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", base64(&der));
    assert_eq!(RevocationList::parse(pem.as_bytes()).unwrap().len(), 3);
    let twice = RevocationList::parse(pem.repeat(2).as_bytes());
    assert_eq!(twice.err(), Some(CrlError::Malformed));
    let other = pem.replace("X509 CRL", "CERTIFICATE");
    assert_eq!(RevocationList::parse(other.as_bytes()).err(), Some(CrlError::Malformed));
}

#[test]
fn a_list_has_a_largest_size_and_is_searched_whole_up_to_it() {
    let key = SoftwareKey::generate().unwrap();
    let many = |count: u32| {
        List::with(|list| {
            list.entries =
                (0..count).map(|serial| (serial.to_be_bytes().to_vec(), vec![])).collect();
        })
        .signed_by(&key)
    };
    let list = RevocationList::parse(&many(44_000)).unwrap();
    assert!(list.is_revoked(&43_999u32.to_be_bytes()));
    assert!(!list.is_revoked(&44_000u32.to_be_bytes()));
    let large = many(60_000);
    let size = CrlError::Size { found: large.len(), max: MAX_LIST };
    assert_eq!(RevocationList::parse(&large).err(), Some(size));
}

#[test]
fn no_bit_of_a_signed_list_and_no_length_can_be_changed() {
    let key = SoftwareKey::generate().unwrap();
    let public = key.public_key();
    let der =
        List::with(|list| list.extensions = vec![extension(20, false, &[2, 1, 1])]).signed_by(&key);
    let accepted =
        |bytes: &[u8]| RevocationList::parse(bytes).is_ok_and(|list| list.verify(&public).is_ok());
    assert!(accepted(&der));
    for bit in 0..der.len() * 8 {
        let mut flipped = der.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepted(&flipped), "bit {bit}");
    }
    for length in 0..der.len() {
        assert!(!accepted(&der[..length]), "{length} bytes");
    }
    for behind in [&[0][..], &[0xff], &der] {
        let longer = [&der, behind].concat();
        assert_eq!(RevocationList::parse(&longer).err(), Some(CrlError::Trailing(behind.len())));
    }
    println!("revocation list: {} bits and {} lengths refused", der.len() * 8, der.len() + 3);
}

#[test]
fn what_is_outside_of_the_signature_has_one_encoding() {
    let key = SoftwareKey::generate().unwrap();
    // Every length that can stand outside, each in one byte too many.
    for count in [3, 40] {
        let der = List::with(|list| list.entries = vec![(vec![5], vec![]); count]).signed_by(&key);
        let (whole, tbs) = (head(&der), head(&der[head(&der)..]));
        let tbs = &der[whole..whole + tbs + length(&der[whole..])];
        let behind = &der[whole + tbs.len()..];
        let (algorithm, bits) = behind.split_at(ECDSA_SHA256.len());
        let longer = |element: &[u8]| {
            let (size, contents) = (length(element), &element[head(element)..]);
            let size = u32::try_from(size).unwrap().to_be_bytes();
            [&[element[0], 0x84][..], &size, contents].concat()
        };
        let wrap = |bits: &[u8]| element(0x30, &[tbs, algorithm, bits].concat());
        assert_eq!(wrap(bits), der);
        assert!(RevocationList::parse(&der).is_ok());
        for other in [longer(&der), wrap(&longer(bits))] {
            assert_eq!(RevocationList::parse(&other).err(), Some(CrlError::Malformed));
        }
    }
}

/// How many bytes of tag and length an element has, and how many of contents.
fn head(element: &[u8]) -> usize {
    match element[1] {
        0..=0x7f => 2,
        long => 2 + usize::from(long & 0x7f),
    }
}

fn length(element: &[u8]) -> usize {
    match element[1] {
        short @ 0..=0x7f => usize::from(short),
        _ => element[2..head(element)].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)),
    }
}

#[test]
fn what_is_no_list_is_told_apart_from_a_list_of_the_wrong_kind() {
    let number = extension(20, false, &[2, 1, 1]);
    let twice = List::with(|list| list.extensions = vec![number.clone(), number]);
    let longer = [List::new().signed_by(&SoftwareKey::generate().unwrap()), vec![0]].concat();
    for fault in [
        RevocationList::parse(&[]).unwrap_err(),
        RevocationList::parse(b"<html>").unwrap_err(),
        RevocationList::parse(&longer).unwrap_err(),
        RevocationList::parse(&vec![0; 2 * MAX_LIST]).unwrap_err(),
        twice.parse().unwrap_err(),
    ] {
        assert_eq!(fault.reason().code(), "crl-malformed", "{fault}");
    }
    for extension in [extension(27, true, &[2, 1, 1]), extension(99, true, &[])] {
        let fault = List::with(|list| list.extensions = vec![extension]).parse().unwrap_err();
        assert_eq!(fault.reason().code(), "crl-invalid", "{fault}");
    }
}

proptest! {
    #[test]
    fn no_bytes_do_any_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = RevocationList::parse(&bytes);
    }

    #[test]
    fn what_is_listed_is_revoked_and_nothing_else(
        serials in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..22), 0..40),
        other in prop::collection::vec(any::<u8>(), 1..22),
    ) {
        let list = List::with(|list| {
            list.entries = serials.iter().map(|serial| (serial.clone(), vec![])).collect();
        });
        let list = list.parse().unwrap();
        for serial in &serials {
            prop_assert!(list.is_revoked(serial));
        }
        let bare = |serial: &[u8]| {
            serial.iter().copied().skip_while(|&byte| byte == 0).collect::<Vec<_>>()
        };
        let listed = serials.iter().any(|serial| bare(serial) == bare(&other));
        prop_assert_eq!(list.is_revoked(&other), listed);
    }
}
