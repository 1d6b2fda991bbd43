//! What holds for all bytes and all keys, not only for those that somebody thought of.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/vectors.rs"]
mod vectors;

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_tpm::Attest;
use assay_tpm::Hierarchy;
use assay_tpm::Name;
use assay_tpm::PcrSelection;
use assay_tpm::Public;
use assay_tpm::Selections;
use assay_tpm::Signature;
use assay_tpm::pcr_file::PcrFile;
use assay_tpm::structures::public::Area;
use assay_tpm::structures::public::Attributes;
use assay_tpm::structures::public::Scheme;
use assay_tpm::structures::public::Symmetric;
use assay_tpm::structures::signature::SigningScheme;
use proptest::prelude::*;

fn hashes() -> impl Strategy<Value = HashAlgorithm> {
    prop_oneof![
        Just(HashAlgorithm::Sha1),
        Just(HashAlgorithm::Sha256),
        Just(HashAlgorithm::Sha384),
        Just(HashAlgorithm::Sha512),
    ]
}

fn curves() -> impl Strategy<Value = Curve> {
    prop_oneof![Just(Curve::P256), Just(Curve::P384), Just(Curve::P521)]
}

fn keys() -> impl Strategy<Value = PublicKey> {
    let rsa = (proptest::collection::vec(any::<u8>(), 256), 1..=u32::MAX).prop_map(|(mut n, e)| {
        n[0] |= 0x80;
        PublicKey::rsa(&n, u64::from(e))
    });
    let bytes = || proptest::collection::vec(any::<u8>(), 0..=32);
    let ec = (curves(), bytes(), bytes())
        .prop_map(|(curve, x, y)| PublicKey::ec(curve, &x, &y).unwrap());
    prop_oneof![rsa, ec]
}

fn areas() -> impl Strategy<Value = Area> {
    let symmetric =
        proptest::option::of(any::<(u16, u16)>().prop_map(|(key_bits, mode)| Symmetric {
            algorithm: 0x0006,
            key_bits,
            mode,
        }));
    let policy = proptest::collection::vec(any::<u8>(), 0..=64);
    (
        hashes(),
        any::<u32>(),
        policy,
        symmetric,
        proptest::option::of(hashes()),
        any::<bool>(),
        keys(),
    )
        .prop_map(|(name_algorithm, attributes, auth_policy, symmetric, hash, pss, key)| {
            Area {
                name_algorithm,
                attributes: Attributes(attributes),
                auth_policy,
                symmetric,
                scheme: hash.map(|hash| {
                    Scheme::Signing(match (&key, pss) {
                        (PublicKey::Ec { .. }, _) => SigningScheme::Ecdsa(hash),
                        (_, true) => SigningScheme::Rsapss(hash),
                        (_, false) => SigningScheme::Rsassa(hash),
                    })
                }),
                key,
            }
        })
}

proptest! {
    #[test]
    fn a_written_public_area_is_read_as_it_was_meant(area in areas()) {
        let written = Public::from_area(area.clone()).unwrap();
        let read = Public::parse(written.raw()).unwrap();
        prop_assert_eq!(read.area(), &area);
        prop_assert_eq!(read.name(), written.name());
        let sized = [&u16::try_from(read.raw().len()).unwrap().to_be_bytes(), read.raw()].concat();
        prop_assert_eq!(Public::parse_file(&sized).unwrap(), read);
    }

    #[test]
    fn one_key_has_one_spki(key in keys()) {
        let spki = key.to_spki();
        prop_assert_eq!(PublicKey::from_spki(&spki).unwrap(), key);
    }

    #[test]
    fn names_differ_where_areas_differ_and_places_give_other_qualified_names(area in areas()) {
        let name = Public::from_area(area.clone()).unwrap().name();
        let mut other = area;
        other.attributes.0 ^= 1;
        prop_assert_ne!(Public::from_area(other).unwrap().name(), name);
        prop_assert_eq!(Name::from_bytes(name.as_bytes()), Some(name));
        for hierarchy in Hierarchy::ALL {
            let qualified = name.primary_in(hierarchy).unwrap();
            prop_assert_eq!(Hierarchy::of_primary(&name, qualified.as_bytes()), Some(hierarchy));
            prop_assert_ne!(qualified, name.child_of(&qualified).unwrap());
        }
    }

    #[test]
    fn a_selection_survives_its_octets(bank in hashes(), mask: u32) {
        let selection = PcrSelection::new(bank, mask);
        prop_assert_eq!(PcrSelection::from_octets(bank, &selection.octets()), Some(selection));
        let listed: u32 = selection.registers().map(|register| 1 << register).sum();
        prop_assert_eq!(listed, mask);
        prop_assert!(Selections::new(&[selection, selection]).is_none());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Public::parse(&bytes);
        let _ = Attest::parse(&bytes);
        let _ = Signature::parse(&bytes);
        let _ = PcrFile::parse(&bytes);
        let _ = assay_tpm::endorsement::certificate_in_nv(&bytes);
    }

    #[test]
    fn listed_values_are_read_in_either_case(upper: bool) {
        // tpm2_pcrread writes text; in whatever case, the listed values are the quoted ones.
        let shown = vectors::Shown::quote("quote-p256");
        let claims = shown.verify(&vectors::ak("p256"), &vectors::expected()).unwrap();
        let mut text = String::new();
        for (bank, values) in claims.registers().iter() {
            text.push_str(&format!("  {bank}:\n"));
            for (register, value) in values {
                let hex = value.to_hex();
                let hex = if upper { hex.to_uppercase() } else { hex };
                text.push_str(&format!("    {register:<2}: 0x{hex}\n"));
            }
        }
        text.push_str("  sha384:\n");
        let file = PcrFile::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(file, PcrFile::Listed(claims.registers().clone()));
    }
}
