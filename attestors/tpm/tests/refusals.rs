//! For each thing that is accepted there is one that is refused, by its own reason.
//!
//! Statements that no TPM would sign are signed by a software key with a flawless public area:
//! what an attacker has who got a key enrolled.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/forger.rs"]
mod forger;
#[path = "support/vectors.rs"]
mod vectors;

use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::Registers;
use assay_tpm::AttestationKey;
use assay_tpm::Error;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::Selections;
use assay_tpm::structures::public::Area;
use assay_tpm::structures::public::Attributes;
use assay_tpm::structures::public::Scheme;
use assay_tpm::structures::signature::SigningScheme;
use assay_tpm::verify;
use assay_tpm::verify::Selection;
use assay_tpm::verify::Signed;
use assay_tpm::verify::UnknownParent;
use assay_tpm::verify::Values;
use assay_tpm::verify_certify;
use forger::Forger;
use forger::sized;
use vectors::NONCE;
use vectors::SELECTION;
use vectors::Shown;
use vectors::ak;
use vectors::expected;
use vectors::read;
use vectors::svid_spki;

fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> Reason {
    let error = result.expect_err("it should have been refused");
    let finding = error.finding();
    assert_eq!(finding.code, error.reason());
    for text in [&finding.claim, &finding.found, &finding.expected, &finding.source] {
        assert!(!text.is_empty(), "{finding:?}");
    }
    error.reason()
}

// --- keys -----------------------------------------------------------------------------------

fn ak_with(change: impl Fn(&mut Area)) -> Result<AttestationKey, Error> {
    let mut area = Public::parse(&read("ak-p256.public")).unwrap().area().clone();
    change(&mut area);
    AttestationKey::new(Public::from_area(area).unwrap())
}

fn ak_with_bits(attributes: u32) -> Reason {
    reason(ak_with(|area| area.attributes = Attributes(attributes)))
}

#[test]
fn an_attestation_key_with_wrong_attributes_is_refused_by_name() {
    assert!(ak_with(|_| {}).is_ok());
    assert_eq!(ak_with_bits(0x0004_0472), Reason::AkNotRestricted);
    assert_eq!(ak_with_bits(0x0005_0470), Reason::AkNotFixed);
    assert_eq!(ak_with_bits(0x0005_0462), Reason::AkNotFixed);
    assert_eq!(ak_with_bits(0x0005_0452), Reason::AkExternalOrigin);
    assert_eq!(ak_with_bits(0x0001_0472), Reason::AkAttributes);
    assert_eq!(ak_with_bits(0x0007_0472), Reason::AkAttributes);
    // encryptedDuplication, stClear, x509sign and reserved bits
    for bit in [1, 1 << 2, 1 << 11, 1 << 19, 1 << 31] {
        assert_eq!(ak_with_bits(0x0005_0472 | bit), Reason::AkAttributes);
    }
}

#[test]
fn an_attestation_key_without_a_scheme_or_off_its_curve_is_refused() {
    assert_eq!(reason(ak_with(|area| area.scheme = None)), Reason::AkScheme);
    let off_curve = ak_with(|area| {
        if let assay_evidence::PublicKey::Ec { point, .. } = &mut area.key {
            point[64] ^= 1;
        }
    });
    assert_eq!(reason(off_curve), Reason::KeyWeak);
}

#[test]
fn an_rsa_key_that_is_weak_is_refused() {
    let rsa = |modulus: Vec<u8>, exponent: u64| {
        let mut area = Public::parse(&read("ak-rsassa.public")).unwrap().area().clone();
        area.key = assay_evidence::PublicKey::rsa(&modulus, exponent);
        reason(Public::from_area(area).and_then(AttestationKey::new))
    };
    let genuine = match Public::parse(&read("ak-rsassa.public")).unwrap().key() {
        assay_evidence::PublicKey::Rsa { modulus, .. } => modulus.clone(),
        assay_evidence::PublicKey::Ec { .. } => unreachable!(),
    };
    assert_eq!(rsa(vec![0xff; 128], 65_537), Reason::KeyWeak);
    assert_eq!(rsa(genuine.clone(), 3), Reason::KeyWeak);
    assert_eq!(rsa(genuine, 65_538), Reason::KeyWeak);
}

#[test]
fn a_key_of_the_owner_hierarchy_is_refused() {
    let shown = Shown::quote("quote-owner");
    assert_eq!(reason(shown.verify(&ak("owner"), &expected())), Reason::AkHierarchy);
}

#[test]
fn a_child_of_an_unknown_or_another_parent_is_refused() {
    let shown = Shown::quote("quote-child");
    assert_eq!(reason(shown.verify(&ak("child"), &expected())), Reason::AkHierarchy);
    let other = Public::parse(&read("ek-p384.public")).unwrap();
    let key = ak("child").beside(&other);
    assert_eq!(reason(shown.verify(&key, &expected())), Reason::AkHierarchy);
}

// --- signature and freshness ----------------------------------------------------------------

#[test]
fn a_quote_by_another_key_is_refused() {
    let shown = Shown::quote("quote-p256-da");
    assert_eq!(reason(shown.verify(&ak("p256"), &expected())), Reason::SigInvalid);
    let shown = Shown::quote("quote-rsapss");
    assert_eq!(reason(shown.verify(&ak("rsassa"), &expected())), Reason::SigScheme);
    assert_eq!(reason(shown.verify(&ak("p256"), &expected())), Reason::SigScheme);
    let shown = Shown::quote("quote-p384");
    assert_eq!(reason(shown.verify(&ak("p256"), &expected())), Reason::SigScheme);
}

#[test]
fn a_statement_over_a_weaker_hash_than_asked_for_is_refused() {
    let demand = Expected { min_hash: HashAlgorithm::Sha384, ..expected() };
    let shown = Shown::quote("quote-p256");
    assert_eq!(reason(shown.verify(&ak("p256"), &demand)), Reason::SignatureHashWeak);
    assert!(Shown::quote("quote-p384").verify(&ak("p384"), &demand).is_ok());
}

#[test]
fn another_nonce_a_part_of_it_or_more_than_it_is_refused() {
    let shown = Shown::quote("quote-p256");
    let longer = [&NONCE[..], &[0]].concat();
    let text = hex::encode(NONCE);
    for nonce in [&[9; 32][..], &NONCE[..31], &longer, text.as_bytes(), &[]] {
        let demand = Expected { qualifying_data: nonce, ..expected() };
        assert_eq!(reason(shown.verify(&ak("p256"), &demand)), Reason::NonceMismatch);
    }
}

// --- selection and values -------------------------------------------------------------------

fn with_asked(asked: &[PcrSelection], no_sha1: bool) -> Reason {
    let selection = Selection::Exactly { asked, no_sha1 };
    let shown = Shown::quote("quote-p256");
    reason(shown.verify(&ak("p256"), &Expected { selection, ..expected() }))
}

#[test]
fn a_quote_over_other_registers_than_asked_for_is_refused() {
    let mut other = SELECTION;
    other[1].mask = 0x7fff;
    assert_eq!(with_asked(&other, false), Reason::PcrSelection);
    other[1].mask = 0x1_ffff;
    assert_eq!(with_asked(&other, false), Reason::PcrSelection);
    let mut swapped = SELECTION;
    swapped.swap(0, 1);
    assert_eq!(with_asked(&swapped, false), Reason::PcrSelection);
    assert_eq!(with_asked(&SELECTION[..3], false), Reason::PcrSelection);
}

#[test]
fn a_request_that_leaves_a_bank_out_is_no_evidence() {
    assert_eq!(with_asked(&SELECTION[..1], false), Reason::EvidenceMissing);
    assert_eq!(with_asked(&SELECTION[1..], false), Reason::EvidenceMissing);
    // Where the TPM is known not to list SHA-1, its absence is only another selection.
    assert_eq!(with_asked(&SELECTION[1..], true), Reason::PcrSelection);
}

#[test]
fn values_that_are_cut_extended_changed_or_left_out_are_refused() {
    let genuine = Shown::quote("quote-p256");
    let with = |pcrs: Option<Vec<u8>>| {
        reason(Shown { pcrs, ..genuine.clone() }.verify(&ak("p256"), &expected()))
    };
    let values = read("pcrs");
    assert_eq!(with(None), Reason::EvidenceMissing);
    assert_eq!(with(Some(values[..831].to_vec())), Reason::PcrSelection);
    assert_eq!(with(Some([&values[..], &[0]].concat())), Reason::PcrSelection);
    assert_eq!(with(Some(read("pcrs-after-reset"))), Reason::PcrDigestMismatch);
}

fn listed() -> Registers {
    let claims = Shown::quote("quote-p256").verify(&ak("p256"), &expected()).unwrap();
    claims.registers().clone()
}

fn verify_listed(registers: &Registers) -> Result<assay_tpm::Claims, Error> {
    let quote = read("quote-p256");
    let mut evidence = Evidence::from_items(&quote, None, None, None)?;
    evidence.values = Some(Values::Listed(registers));
    assay_tpm::verify(&evidence, &ak("p256"), &expected())
}

#[test]
fn a_listed_register_that_was_not_quoted_is_refused() {
    assert!(verify_listed(&listed()).is_ok());
    let mut more = listed();
    let value = assay_evidence::Digest::zero(HashAlgorithm::Sha256);
    assert!(more.insert(16, value));
    assert_eq!(reason(verify_listed(&more)), Reason::PcrNotSigned);
    let mut other_bank = listed();
    assert!(other_bank.insert(0, assay_evidence::Digest::zero(HashAlgorithm::Sha384)));
    assert_eq!(reason(verify_listed(&other_bank)), Reason::PcrNotSigned);
}

#[test]
fn a_quoted_register_that_is_not_listed_is_refused() {
    let mut fewer = Registers::new();
    for value in listed()[&HashAlgorithm::Sha1].values() {
        let _ = fewer.insert(u32::try_from(fewer.len()).unwrap(), *value);
    }
    assert_eq!(reason(verify_listed(&fewer)), Reason::PcrSelection);
}

// --- certified key --------------------------------------------------------------------------

#[test]
fn an_svid_key_that_was_not_certified_is_refused() {
    let spki = svid_spki();
    let other = Public::parse(&read("svid-owner.public")).unwrap().spki_der();
    let demand = expected().certifying(&spki);
    let genuine = Shown::with_svid_key();
    assert_eq!(
        reason(genuine.verify(&ak("p256"), &expected().certifying(&other))),
        Reason::SvidKeyNotCertified
    );
    let without = Shown::quote("quote-p256");
    assert_eq!(reason(without.verify(&ak("p256"), &demand)), Reason::EvidenceMissing);
    let half = Shown { certify: None, ..genuine.clone() };
    assert_eq!(reason(half.verify(&ak("p256"), &demand)), Reason::EvidenceMissing);
    let half = Shown { svid_public: None, ..genuine.clone() };
    assert_eq!(reason(half.verify(&ak("p256"), &demand)), Reason::EvidenceMissing);
    // A good public area beside the certification of another key.
    let borrowed = Shown { svid_public: Some(read("svid-owner.public")), ..genuine };
    assert_eq!(reason(borrowed.verify(&ak("p256"), &demand)), Reason::SvidKeyNotCertified);
}

#[test]
fn an_svid_key_that_outlives_the_boot_is_refused() {
    let shown = Shown {
        certify: Some(read("svid-owner.certify")),
        svid_public: Some(read("svid-owner.public")),
        ..Shown::quote("quote-p256")
    };
    assert_eq!(reason(shown.verify(&ak("p256"), &expected())), Reason::SvidKeyHierarchy);
}

#[test]
fn an_svid_key_with_other_attributes_or_scheme_is_refused() {
    let with = |change: &dyn Fn(&mut Area)| {
        let mut area = Public::parse(&read("svid.public")).unwrap().area().clone();
        change(&mut area);
        let public = Public::from_area(area).unwrap();
        let svid_public = Some(public.raw().to_vec());
        let shown = Shown { svid_public, ..Shown::with_svid_key() };
        reason(shown.verify(&ak("p256"), &expected()))
    };
    assert_eq!(with(&|area| area.attributes.0 &= !(1 << 1)), Reason::KeyNotFixed);
    assert_eq!(with(&|area| area.attributes.0 |= 1 << 16), Reason::KeyAttributes);
    assert_eq!(with(&|area| area.attributes.0 &= !(1 << 10)), Reason::KeyAttributes);
    assert_eq!(with(&|area| area.scheme = None), Reason::KeyAttributes);
    let sha1 = Scheme::Signing(SigningScheme::Ecdsa(HashAlgorithm::Sha1));
    assert_eq!(with(&|area| area.scheme = Some(sha1)), Reason::KeyAttributes);
}

#[test]
fn a_key_certified_before_a_restart_is_refused_beside_a_quote_after_it() {
    let shown = Shown {
        quote: read("quote-after-reset"),
        pcrs: Some(read("pcrs-after-reset")),
        ..Shown::with_svid_key()
    };
    assert_eq!(reason(shown.verify(&ak("p256"), &expected())), Reason::ResetUnexplained);
}

#[test]
fn a_certification_where_a_quote_belongs_is_refused_and_the_reverse() {
    let certify = read("svid.certify");
    let swapped = Shown { quote: certify, ..Shown::quote("quote-p256") };
    assert_eq!(reason(swapped.verify(&ak("p256"), &expected())), Reason::AttestType);
    let swapped = Shown { certify: Some(read("quote-p256")), ..Shown::with_svid_key() };
    assert_eq!(reason(swapped.verify(&ak("p256"), &expected())), Reason::AttestType);
}

// --- what no TPM would sign -----------------------------------------------------------------

fn refused(forger: &Forger, quote: Vec<u8>, pcrs: &[u8], demand: &Expected<'_>) -> Reason {
    let shown = Shown { quote, certify: None, svid_public: None, pcrs: Some(pcrs.to_vec()) };
    reason(shown.verify(&forger.proved(), demand))
}

#[test]
fn the_forger_is_believed_when_it_does_everything_right() {
    // Else the refusals below would prove nothing. A key that the caller enrolled is believed;
    // that it sits in a TPM is proved by activation alone.
    let forger = Forger::new();
    let values = read("pcrs");
    let mut signed = SELECTION;
    (signed[2].mask, signed[3].mask) = (0, 0);
    let quote = forger.quote(&signed, &values, &|_| {});
    let shown = Shown { quote, certify: None, svid_public: None, pcrs: Some(values) };
    assert!(shown.verify(&forger.proved(), &expected()).is_ok());
}

#[test]
fn a_statement_with_another_magic_or_type_is_refused() {
    let (forger, values) = (Forger::new(), read("pcrs"));
    let quote = forger.quote(&SELECTION, &values, &|attest| attest[0] = 0xfe);
    assert_eq!(refused(&forger, quote, &values, &expected()), Reason::AttestMagic);
    let quote = forger.quote(&SELECTION, &values, &|attest| attest[5] = 0x19);
    assert_eq!(refused(&forger, quote, &values, &expected()), Reason::AttestType);
}

#[test]
fn a_clock_that_is_neither_safe_nor_unsafe_is_malformed() {
    let (forger, values) = (Forger::new(), read("pcrs"));
    let quote = forger.quote(&SELECTION, &values, &|attest| attest[92] = 2);
    assert_eq!(refused(&forger, quote, &values, &expected()), Reason::TpmMalformed);
}

#[test]
fn an_unsafe_clock_is_a_warning_and_no_refusal() {
    let (forger, values) = (Forger::new(), read("pcrs"));
    let mut signed = SELECTION;
    (signed[2].mask, signed[3].mask) = (0, 0);
    let quote = forger.quote(&signed, &values, &|attest| attest[92] = 0);
    let shown = Shown { quote, certify: None, svid_public: None, pcrs: Some(values) };
    let claims = shown.verify(&forger.proved(), &expected()).unwrap();
    assert_eq!(claims.warnings()[0].code, Reason::ClockUnsafe);
}

#[test]
fn a_bank_named_twice_in_the_signed_selection_is_malformed() {
    let (forger, values) = (Forger::new(), read("pcrs"));
    let twice = [SELECTION[1], SELECTION[1]];
    let quote = forger.quote(&twice, &values, &|_| {});
    assert_eq!(refused(&forger, quote, &values, &expected()), Reason::TpmMalformed);
    assert!(Selections::new(&twice).is_none());
}

#[test]
fn a_tpm_with_only_its_sha1_bank_on_is_refused() {
    let forger = Forger::new();
    let values = &read("pcrs")[..320];
    let mut signed = SELECTION;
    (signed[1].mask, signed[2].mask, signed[3].mask) = (0, 0, 0);
    let quote = forger.quote(&signed, values, &|_| {});
    assert_eq!(refused(&forger, quote, values, &expected()), Reason::PcrBankWeak);
    let selection = Selection::AtLeast { required: &[], min_bank: HashAlgorithm::Sha256 };
    let quote = forger.quote(&signed[..1], values, &|_| {});
    let demand = Expected { selection, ..expected() };
    assert_eq!(refused(&forger, quote, values, &demand), Reason::PcrBankWeak);
}

#[test]
fn an_empty_selection_is_no_quote() {
    let forger = Forger::new();
    let selection = Selection::AtLeast { required: &[], min_bank: HashAlgorithm::Sha256 };
    let demand = Expected { selection, ..expected() };
    for banks in [&[][..], &[PcrSelection::new(HashAlgorithm::Sha256, 0)]] {
        let quote = forger.quote(banks, &[], &|_| {});
        assert_eq!(refused(&forger, quote, &[], &demand), Reason::PcrSelection);
    }
}

#[test]
fn a_required_register_outside_of_the_quote_is_refused() {
    let required = [PcrSelection::new(HashAlgorithm::Sha256, 1 << 16)];
    let selection = Selection::AtLeast { required: &required, min_bank: HashAlgorithm::Sha256 };
    let shown = Shown::quote("quote-p256");
    let demand = Expected { selection, ..expected() };
    assert_eq!(reason(shown.verify(&ak("p256"), &demand)), Reason::PcrSelection);
}

#[test]
fn signature_numbers_may_be_short_but_never_zero_wide_or_beyond_the_order() {
    let item = read("quote-p256");
    let signed = Signed::from_item(&item).unwrap();
    let signature = assay_tpm::Signature::parse(signed.signature).unwrap();
    assert_eq!(signature.scheme, SigningScheme::Ecdsa(HashAlgorithm::Sha256));
    let half = |from: usize| signed.signature[from..from + 32].to_vec();
    let (r, s) = (half(6), half(40));
    let with = |r: &[u8], s: &[u8]| {
        let signature = [&[0x00, 0x18, 0x00, 0x0b][..], &sized(r), &sized(s)].concat();
        let quote = [sized(signed.attest), signature].concat();
        Shown { quote, ..Shown::quote("quote-p256") }.verify(&ak("p256"), &expected())
    };
    assert!(with(&r, &s).is_ok());
    let wide = [&[0][..], &r].concat();
    let order =
        hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    for (r, s) in [(&wide, &s), (&vec![0; 32], &s), (&r, &vec![0; 32]), (&r, &order), (&r, &vec![])]
    {
        assert_eq!(reason(with(r, s)), Reason::SigInvalid);
    }
}

#[test]
fn a_short_number_in_a_signature_is_genuine() {
    let (forger, values) = (Forger::new(), read("pcrs"));
    let mut signed = SELECTION;
    (signed[2].mask, signed[3].mask) = (0, 0);
    // One signature in about 128 has a number with a leading zero byte, which is not written.
    for _ in 0..4000 {
        let quote = forger.quote(&signed, &values, &|_| {});
        let whole = 2 + usize::from(u16::from_be_bytes([quote[0], quote[1]])) + 4 + 2 * 34;
        let short = quote.len() < whole;
        if short {
            let pcrs = Some(values.clone());
            let shown = Shown { quote, certify: None, svid_public: None, pcrs };
            assert!(shown.verify(&forger.proved(), &expected()).is_ok());
            return;
        }
    }
    panic!("no short number in 4000 signatures");
}

#[test]
fn what_the_registry_knows_and_nobody_here_computes_is_unsupported_and_not_malformed() {
    let public = |place: usize, id: u16| {
        let mut raw = read("ak-p256.public");
        raw[place..place + 2].copy_from_slice(&id.to_be_bytes());
        reason(Public::parse(&raw))
    };
    // Type, name hash; the curve stands behind an empty policy, no cipher, and a scheme.
    for (place, id) in [(0, 0x0008), (0, 0x0025), (2, 0x0027), (16, 0x0020), (16, 0x0010)] {
        assert_eq!(public(place, id), Reason::UnsupportedEvidence, "{place} {id:04x}");
        assert_eq!(public(place, 0x7777), Reason::TpmMalformed, "{place}");
    }
    let signature = |bytes: &[u8]| reason(assay_tpm::Signature::parse(bytes));
    assert_eq!(signature(&[0x00, 0x1b, 0x00, 0x12, 0, 0, 0, 0]), Reason::UnsupportedEvidence);
    assert_eq!(signature(&[0x00, 0x05, 0x00, 0x0b]), Reason::UnsupportedEvidence);
    assert_eq!(signature(&[0x77, 0x77, 0x00, 0x0b]), Reason::TpmMalformed);

    // SM3 parses wherever a hash may stand, and decides nothing.
    let mut raw = read("ak-p256.public");
    raw[14..16].copy_from_slice(&0x0012_u16.to_be_bytes());
    let key = ProvedKey::enrolled(AttestationKey::parse(&raw).unwrap());
    let mut quote = read("quote-p256");
    let size = usize::from(u16::from_be_bytes([quote[0], quote[1]]));
    quote[2 + size + 3] = 0x12;
    let shown = Shown { quote, ..Shown::quote("quote-p256") };
    assert_eq!(reason(shown.verify(&key, &expected())), Reason::UnsupportedEvidence);
}

// --- a certification by itself ---------------------------------------------------------------

/// All faults of a certification, of which the first is the one that `verify_certify` tells.
fn certify_faults(
    certify: Signed<'_>,
    public: &[u8],
    key: &ProvedKey,
    nonce: &[u8],
) -> Vec<Reason> {
    let (min_hash, parent) = (HashAlgorithm::Sha256, UnknownParent::Refuse);
    let faults = verify::certify_faults(certify, public, key, nonce, min_hash, parent);
    let decisive = verify_certify(certify, public, key, nonce, min_hash, parent).err();
    assert_eq!(faults.first(), decisive.as_ref());
    faults.iter().map(Error::reason).collect()
}

#[test]
fn all_faults_of_a_certification_are_told_the_decisive_one_first() {
    let (certify, public) = (read("svid.certify"), read("svid.public"));
    let (quote, other) = (read("quote-p256"), read("svid-owner.public"));
    let signed = Signed::from_item(&certify).unwrap();
    let quote = Signed::from_item(&quote).unwrap();
    let faults = |signed, public: &[u8], key: &str, nonce: &[u8]| {
        certify_faults(signed, public, &ak(key), nonce)
    };
    assert_eq!(faults(signed, &public, "p256", &NONCE), []);
    assert_eq!(
        faults(signed, &other, "p256-da", &[9; 32]),
        [Reason::SigInvalid, Reason::AkHierarchy, Reason::NonceMismatch, Reason::KeyNameMismatch,]
    );
    // What is no certification names no key that could be another.
    assert_eq!(
        faults(quote, &other, "p256", &[9; 32]),
        [Reason::AttestType, Reason::NonceMismatch]
    );
    // Where the statement or the public area cannot be read, the other is judged for itself.
    let cut = Signed { attest: &signed.attest[..40], ..signed };
    let malformed = Reason::TpmMalformed;
    assert_eq!(faults(cut, &public[..9], "p256", &NONCE), [malformed, malformed]);
    assert_eq!(faults(signed, &public[..9], "p256", &[9; 32]), [malformed, Reason::NonceMismatch]);
    let mut area = Public::parse(&public).unwrap().area().clone();
    if let assay_evidence::PublicKey::Ec { point, .. } = &mut area.key {
        point[64] ^= 1;
    }
    let off_curve = Public::from_area(area).unwrap();
    assert_eq!(
        faults(signed, off_curve.raw(), "p256", &NONCE),
        [Reason::KeyWeak, Reason::KeyNameMismatch]
    );
}

#[test]
fn wherever_a_certification_is_changed_the_first_fault_is_the_decisive_one() {
    let (item, public) = (read("svid.certify"), read("svid.public"));
    let mut tried = 0;
    let mut several = 0;
    for place in 0..item.len() + public.len() {
        let (mut item, mut public) = (item.clone(), public.clone());
        match place.checked_sub(item.len()) {
            None => item[place] ^= 1,
            Some(place) => public[place] ^= 1,
        }
        let Ok(signed) = Signed::from_item(&item) else { continue };
        let faults = certify_faults(signed, &public, &ak("p256"), &NONCE);
        assert!(!faults.is_empty(), "{place}");
        several += usize::from(faults.len() > 1);
        tried += 1;
    }
    eprintln!("{tried} changed certifications, {several} with several faults");
    assert!(several > 10);
}
