//! The catalogue of attacks on TPM evidence, row by row: what is tried, and the reason it fails by.
//!
//! Each row that this library can see is carried out here on genuine evidence; its neighbours with
//! other means stand in the other tests. A row that needs a server, a log or a certificate zoo
//! names the test where it is carried out, and one that no test can carry out says why.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/forger.rs"]
mod forger;
#[path = "support/issuer.rs"]
mod issuer;
#[path = "support/vectors.rs"]
mod vectors;

use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::Registers;
use assay_evidence::crypto::SystemRandom;
use assay_tpm::Activation;
use assay_tpm::AttestationKey;
use assay_tpm::Claims;
use assay_tpm::Endorsement;
use assay_tpm::Error;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::endorsement;
use assay_tpm::idevid;
use assay_tpm::structures::public::Area;
use assay_tpm::structures::public::Attributes;
use assay_tpm::verify::Selection;
use assay_tpm::verify::Signed;
use assay_tpm::verify::UnknownParent;
use assay_tpm::verify::Values;
use forger::Forger;
use forger::sized;
use vectors::NONCE;
use vectors::NOW;
use vectors::SELECTION;
use vectors::Shown;
use vectors::ak;
use vectors::anchors;
use vectors::device_certificate;
use vectors::expected;
use vectors::read;
use vectors::read_device;
use vectors::svid_spki;

/// What was tried, and what came of it.
type Tries = Vec<(&'static str, Reason)>;

/// One row that is carried out here.
struct Row {
    number: &'static str,
    attack: &'static str,
    /// Any of these is right.
    reasons: &'static [Reason],
    tries: fn() -> Tries,
}

fn reason<T>(result: Result<T, Error>) -> Reason {
    let error = result.err().expect("the attack succeeded");
    let finding = error.finding();
    for text in [&finding.claim, &finding.found, &finding.expected, &finding.source] {
        assert!(!text.is_empty(), "{finding:?}");
    }
    error.reason()
}

const ROWS: &[Row] = &[
    Row {
        number: "A01",
        attack: "a quote of yesterday for the nonce of today",
        reasons: &[Reason::NonceMismatch],
        tries: replayed,
    },
    Row {
        number: "A02",
        attack: "a part of the nonce, more than it, its text, nothing",
        reasons: &[Reason::NonceMismatch],
        tries: nonce_forms,
    },
    Row {
        number: "A04",
        attack: "an unrestricted key signs an invented statement",
        reasons: &[Reason::AkNotRestricted],
        tries: unrestricted,
    },
    Row {
        number: "A05",
        attack: "a software key with flawless attributes",
        reasons: &[Reason::ActivationFailed],
        tries: software_key,
    },
    Row {
        number: "A06",
        attack: "a key that was imported or can be duplicated",
        reasons: &[Reason::AkNotFixed, Reason::AkExternalOrigin],
        tries: imported,
    },
    Row {
        number: "A07",
        attack: "a key that decrypts too, or has no scheme",
        reasons: &[Reason::AkAttributes, Reason::AkScheme],
        tries: decrypting,
    },
    Row {
        number: "A08",
        attack: "the attestation key of one TPM, the endorsement of another",
        reasons: &[Reason::ActivationFailed],
        tries: two_tpms,
    },
    Row {
        number: "A09",
        attack: "a genuine endorsement certificate beside another key",
        reasons: &[Reason::EkKeyCertMismatch],
        tries: borrowed_certificate,
    },
    Row {
        number: "A10",
        attack: "an endorsement public area of the client's making",
        reasons: &[Reason::EkTemplateUnknown],
        tries: odd_template,
    },
    Row {
        number: "A11",
        attack: "a DevID certificate of a software key, a certification of another",
        reasons: &[Reason::DevidKeyMismatch],
        tries: other_device_key,
    },
    Row {
        number: "A12",
        attack: "a certified key that can leave, or is restricted",
        reasons: &[Reason::KeyNotFixed, Reason::KeyAttributes],
        tries: loose_device_key,
    },
    Row {
        number: "A13",
        attack: "one type of statement in place of another",
        reasons: &[Reason::AttestType],
        tries: other_type,
    },
    Row {
        number: "A14",
        attack: "a statement that does not begin as a TPM's does",
        reasons: &[Reason::AttestMagic],
        tries: other_magic,
    },
    Row {
        number: "A15",
        attack: "other registers quoted, and called by the names of those asked for",
        reasons: &[Reason::PcrSelection, Reason::PcrNotSigned],
        tries: relabelled,
    },
    Row {
        number: "A16",
        attack: "a register value beside the quote that was not quoted",
        reasons: &[Reason::PcrNotSigned],
        tries: smuggled,
    },
    Row {
        number: "A17",
        attack: "no register, or fewer than are needed",
        reasons: &[Reason::PcrSelection],
        tries: too_few,
    },
    Row {
        number: "A18",
        attack: "a quote over nothing but SHA-1",
        reasons: &[Reason::PcrBankWeak],
        tries: weak_bank,
    },
    Row {
        number: "A19",
        attack: "a bank left out, so that nobody compares it",
        reasons: &[Reason::EvidenceMissing, Reason::PcrSelection],
        tries: bank_left_out,
    },
    Row {
        number: "A24",
        attack: "the TPM reset between two statements of one answer",
        reasons: &[Reason::ResetUnexplained],
        tries: reset_between,
    },
    Row {
        number: "A25",
        attack: "an attestation key in a hierarchy that blurs the counters",
        reasons: &[Reason::AkHierarchy],
        tries: other_hierarchy,
    },
    Row {
        number: "A26",
        attack: "a clock that is not safe, or is no clock",
        reasons: &[Reason::ClockUnsafe, Reason::TpmMalformed],
        tries: clocks,
    },
    Row {
        number: "A29",
        attack: "an identity for a key that the TPM did not certify",
        reasons: &[Reason::SvidKeyNotCertified, Reason::SvidKeyHierarchy, Reason::EvidenceMissing],
        tries: software_svid_key,
    },
    Row {
        number: "A38",
        attack: "an attestation key of the flawed library",
        reasons: &[Reason::KeyRoca],
        tries: roca,
    },
    Row {
        number: "A39",
        attack: "an attestation key that is too small, of a bad exponent, or off its curve",
        reasons: &[Reason::KeyWeak],
        tries: weak_keys,
    },
    Row {
        number: "A40",
        attack: "a signature by another scheme or hash, or with numbers that are none",
        reasons: &[Reason::SigScheme, Reason::SigInvalid, Reason::SignatureHashWeak],
        tries: signatures,
    },
    Row {
        number: "A41",
        attack: "lengths that lie, bytes too many",
        reasons: &[Reason::TpmMalformed],
        tries: lying_lengths,
    },
    Row {
        number: "A45",
        attack: "an answer to the challenge of another",
        reasons: &[Reason::NonceMismatch, Reason::ActivationFailed],
        tries: crossed,
    },
    Row {
        number: "A46",
        attack: "the activation secret guessed bit by bit, or read from a log",
        reasons: &[Reason::ActivationFailed],
        tries: guessed_secret,
    },
    Row {
        number: "A50",
        attack: "a part left out",
        reasons: &[Reason::EvidenceMissing],
        tries: left_out,
    },
];

/// Rows, or parts of them, that are carried out in other places.
const ELSEWHERE: &[(&str, Place)] = &[
    ("A03", Place::Tests(&[(EVIDENCE, "a_quote_played_again_is_refused")])),
    (
        "A20",
        Place::Tests(&[
            (LOG, "digests_are_one_of_each_bank_in_any_order"),
            (LOG, "an_unknown_bank_is_read_over_and_reported"),
        ]),
    ),
    (
        "A21",
        Place::Tests(&[(
            "attestors/eventlog/tests/mutations.rs",
            "no_mutation_of_any_log_is_taken",
        )]),
    ),
    (
        "A22",
        Place::Tests(&[
            (
                "attestors/eventlog/tests/properties.rs",
                "a_log_made_to_exhaust_the_reader_is_refused",
            ),
            (LOG, "sizes_come_from_the_header_and_have_to_be_right_there"),
        ]),
    ),
    (
        "A23",
        Place::Tests(&[(LOG, "a_locality_is_believed_once_and_before_register_0_is_extended")]),
    ),
    // The part of it that needs a memory.
    (
        "A26",
        Place::Tests(&[(
            STANDING,
            "counters_that_went_back_without_a_standing_wait_for_an_operator",
        )]),
    ),
    ("A27", Place::Tests(&[(EVIDENCE, "evidence_relayed_from_another_channel_is_refused")])),
    ("A28", Place::Untested("what runs beside the agent is the policy's and IMA's business")),
    ("A30", Place::Tests(&[(EK, "a_certificate_below_no_pinned_root_is_untrusted")])),
    ("A31", Place::Tests(&[(EK, "an_issuer_that_is_no_ca_or_stands_too_high_is_refused")])),
    (
        "A32",
        Place::Tests(&[(EK, "a_certificate_of_another_product_of_the_same_vendor_is_refused")]),
    ),
    (
        "A33",
        Place::Tests(&[
            (EK, "a_critical_extension_that_nobody_understands_is_refused_anywhere"),
            (ZOO, EVERY_CASE),
        ]),
    ),
    (
        "A34",
        Place::Tests(&[
            (EK, "a_name_outside_of_what_an_issuer_may_certify_is_refused"),
            (ZOO, EVERY_CASE),
        ]),
    ),
    (
        "A35",
        Place::Tests(&[(EK, "dates_are_inclusive_and_hold_for_every_certificate_but_the_root")]),
    ),
    ("A36", Place::Tests(&[(ZOO, EVERY_CASE)])),
    ("A37", Place::Tests(&[(STANDING, "a_copied_tpm_is_found_out_by_its_counters")])),
    (
        "A42",
        Place::Tests(&[
            (DEVICE, "firmware_with_a_known_fault_is_refused_and_borne_only_until_a_date"),
            ("attestors/tpm/tests/advisory.rs", "known_firmware_is_judged_as_its_maker_judges_it"),
        ]),
    ),
    (
        "A43",
        Place::Tests(&[
            (DEVICE, "a_kind_of_tpm_that_the_policy_does_not_allow_is_refused"),
            (EK, "the_endorsement_keys_of_the_vectors_are_those_of_their_certificates"),
        ]),
    ),
    (
        "A44",
        Place::Tests(&[
            (
                DEVICE,
                "a_virtual_tpm_that_nothing_ties_to_a_machine_is_refused_unless_the_policy_bears_it",
            ),
            ("attestors/hcl/tests/reports.rs", "var_data_that_the_report_does_not_name_is_unbound"),
        ]),
    ),
    (
        "A47",
        Place::Tests(&[(
            "tests/server_attacks/identity.rs",
            "one_source_cannot_attest_without_end",
        )]),
    ),
    // This crate opens no connection, so a certificate can send it nowhere.
    (
        "A48",
        Place::Tests(&[
            ("tests/layers.rs", "the_house_keeps_its_shape"),
            ("tests/layers.rs", "a_verifier_that_is_not_pure_is_caught"),
        ]),
    ),
    ("A49", Place::Tests(&[(ZOO, "a_stock_of_lists_refuses_what_is_revoked")])),
];

enum Place {
    /// A file of the repository, and the name of a test in it.
    Tests(&'static [(&'static str, &'static str)]),
    /// Why no test can carry it out.
    Untested(&'static str),
}

const EK: &str = "attestors/tpm/tests/endorsement.rs";
const ZOO: &str = "attestors/tpm/tests/endorsement_zoo.rs";
const EVERY_CASE: &str = "every_odd_certificate_is_accepted_and_every_twin_refused_for_its_fault";
const LOG: &str = "attestors/eventlog/tests/refusals.rs";
const EVIDENCE: &str = "tests/server_attacks/evidence.rs";
const STANDING: &str = "tests/server_attacks/standing.rs";
const DEVICE: &str = "tests/server_attacks/device.rs";

#[test]
fn every_row_of_the_catalogue_fails_by_its_reason() {
    let mut total = 0;
    for row in ROWS {
        let tries = (row.tries)();
        assert!(!tries.is_empty(), "{}", row.number);
        for (what, found) in &tries {
            assert!(row.reasons.contains(found), "{} {what}: {found}", row.number);
        }
        total += tries.len();
        let reasons: Vec<_> = row.reasons.iter().map(|reason| reason.code()).collect();
        println!("{} {:2} × {} → {}", row.number, tries.len(), row.attack, reasons.join(", "));
    }
    for (number, place) in ELSEWHERE {
        match place {
            Place::Tests(tests) => tests.iter().for_each(|(f, t)| println!("{number}  – {f}: {t}")),
            Place::Untested(why) => println!("{number}  – no test: {why}"),
        }
    }
    println!("{} rows and {total} tries here, {} rows elsewhere", ROWS.len(), ELSEWHERE.len());
}

#[test]
fn no_row_is_forgotten() {
    let mut numbers: Vec<_> = ROWS.iter().map(|row| row.number.to_owned()).collect();
    numbers.extend(ELSEWHERE.iter().map(|(number, _)| (*number).to_owned()));
    numbers.sort();
    // One row may be carried out in both places.
    numbers.dedup();
    let all: Vec<_> = (1..=50).map(|number| format!("A{number:02}")).collect();
    assert_eq!(numbers, all);
}

#[test]
fn every_test_of_another_place_is_there() {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut found = 0;
    for (number, place) in ELSEWHERE {
        let Place::Tests(tests) = place else { continue };
        assert!(!tests.is_empty(), "{number}");
        for (file, test) in *tests {
            let text = std::fs::read_to_string(format!("{repository}/{file}"))
                .unwrap_or_else(|error| panic!("{number}: {file}: {error}"));
            let lines: Vec<_> = text.lines().map(str::trim).collect();
            let line = lines.iter().position(|line| {
                let line = line.strip_prefix("async ").unwrap_or(line);
                line.strip_prefix("fn ").is_some_and(|line| line.starts_with(&format!("{test}(")))
            });
            let line = line.unwrap_or_else(|| panic!("{number}: {file} has no `{test}`"));
            let above = lines[..line].last().copied().unwrap_or_default();
            let is_test = above == "#[test]" || above.starts_with("#[tokio::test");
            assert!(is_test, "{number}: `{test}` of {file} is no test but below `{above}`");
            found += 1;
        }
    }
    println!("{found} tests of other places, all there");
}

// --- freshness ------------------------------------------------------------------------------

fn with_nonce(nonce: &[u8]) -> Reason {
    let demand = Expected { qualifying_data: nonce, ..expected() };
    reason(Shown::quote("quote-p256").verify(&ak("p256"), &demand))
}

fn replayed() -> Tries {
    ["p256", "p384", "rsassa", "rsapss"]
        .map(|kind| {
            let demand = Expected { qualifying_data: &[0x55; 32], ..expected() };
            let shown = Shown::quote(&format!("quote-{kind}"));
            (kind, reason(shown.verify(&ak(kind), &demand)))
        })
        .to_vec()
}

fn nonce_forms() -> Tries {
    vec![
        ("prefix", with_nonce(&NONCE[..31])),
        ("longer", with_nonce(&[&NONCE[..], &[0]].concat())),
        ("as hex text", with_nonce(hex::encode(NONCE).as_bytes())),
        ("as base64 text", with_nonce(b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")),
        ("none", with_nonce(&[])),
        ("signed empty", {
            let forger = Forger::new();
            // extraData emptied: its size, and the 32 bytes taken out.
            let quote = forged(&forger, &|attest| {
                attest.splice(42..76, [0, 0]);
            });
            refused(&forger, quote)
        }),
    ]
}

fn crossed() -> Tries {
    let endorsement = endorsed("ek-p384");
    let key = AttestationKey::parse(&read("ak-p256.public")).unwrap();
    let (_, first) = Activation::challenge(&endorsement, &key, &mut Counting(1)).unwrap();
    vec![
        ("nonce of another exchange", with_nonce(&[1; 32])),
        ("secret of another exchange", reason(first.prove(&[2; 32]))),
    ]
}

// --- keys -----------------------------------------------------------------------------------

fn ak_with(change: impl Fn(&mut Area)) -> Reason {
    let mut area = Public::parse(&read("ak-p256.public")).unwrap().area().clone();
    change(&mut area);
    reason(Public::from_area(area).and_then(AttestationKey::new))
}

fn unrestricted() -> Tries {
    vec![
        ("restricted clear", ak_with(|area| area.attributes.0 &= !Attributes::RESTRICTED)),
        ("an SVID key", reason(AttestationKey::parse(&read("svid.public")))),
        ("an IDevID", reason(AttestationKey::parse(&read_device("idevid-p256.public")))),
    ]
}

fn imported() -> Tries {
    let without = |bit: u32| ak_with(|area| area.attributes.0 &= !bit);
    vec![
        ("fixedTPM clear", without(Attributes::FIXED_TPM)),
        ("fixedParent clear", without(Attributes::FIXED_PARENT)),
        ("sensitiveDataOrigin clear", without(Attributes::SENSITIVE_DATA_ORIGIN)),
    ]
}

fn decrypting() -> Tries {
    vec![
        ("decrypt set", ak_with(|area| area.attributes.0 |= Attributes::DECRYPT)),
        ("sign clear", ak_with(|area| area.attributes.0 &= !Attributes::SIGN)),
        ("encryptedDuplication", {
            ak_with(|area| area.attributes.0 |= Attributes::ENCRYPTED_DUPLICATION)
        }),
        ("a reserved bit", ak_with(|area| area.attributes.0 |= 1 << 31)),
        ("no scheme", ak_with(|area| area.scheme = None)),
    ]
}

/// Random bytes that a test knows.
struct Counting(u8);

impl assay_evidence::crypto::Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), assay_evidence::crypto::RandomError> {
        bytes.fill(self.0);
        self.0 = self.0.wrapping_add(1);
        Ok(())
    }
}

fn endorsed(kind: &str) -> Endorsement {
    let none: [&[u8]; 0] = [];
    let certificate = read(&format!("{kind}.crt"));
    let public = read(&format!("{kind}.public"));
    endorsement::verify(&[certificate], &none, &public, &anchors(), NOW).unwrap()
}

/// Answers that somebody without the TPM can give, each to a challenge of its own.
fn unproved(endorsement: &str, public: &[u8]) -> Tries {
    let endorsement = endorsed(endorsement);
    let key = AttestationKey::parse(public).unwrap();
    let mut tries = Vec::new();
    let challenge = || Activation::challenge(&endorsement, &key, &mut SystemRandom::new()).unwrap();
    let (credential, open) = challenge();
    tries.push(("the credential itself", reason(open.prove(&credential.blob[36..]))));
    let (_, open) = challenge();
    tries.push(("zeros", reason(open.prove(&[0; 32]))));
    let (_, open) = challenge();
    tries.push(("nothing", reason(open.prove(&[]))));
    tries
}

fn software_key() -> Tries {
    unproved("ek-p384", Forger::new().public.raw())
}

fn two_tpms() -> Tries {
    // The vectors of `device` are of another TPM than those of `swtpm`. That a TPM opens no
    // credential for a key that it does not hold is shown on a real one in `activation`.
    [
        unproved("ek-p384", &read_device("ak-p256.public")),
        unproved("ek-rsa2048", &read_device("ak-p521.public")),
    ]
    .concat()
}

fn guessed_secret() -> Tries {
    let endorsement = endorsed("ek-rsa2048");
    let key = AttestationKey::parse(&read("ak-p256.public")).unwrap();
    let mut tries = Vec::new();
    for bit in 0..256 {
        // The first draw is the secret: 32 bytes of 1.
        let (_, open) = Activation::challenge(&endorsement, &key, &mut Counting(1)).unwrap();
        assert!(!format!("{open:?}").contains("01010101"));
        let mut guess = [1; 32];
        guess[bit / 8] ^= 1 << (bit % 8);
        tries.push(("one bit wrong", reason(open.prove(&guess))));
    }
    let (_, open) = Activation::challenge(&endorsement, &key, &mut Counting(1)).unwrap();
    assert!(open.prove(&[1; 32]).is_ok());
    tries
}

fn borrowed_certificate() -> Tries {
    let none: [&[u8]; 0] = [];
    let with = |certificate: &str, public: &str| {
        let certificates = [read(certificate)];
        reason(endorsement::verify(&certificates, &none, &read(public), &anchors(), NOW))
    };
    vec![
        ("of another size", with("ek-p384.crt", "ek-rsa2048.public")),
        ("without one", with("ek-rsa2048.crt", "ek-p256.public")),
    ]
}

fn odd_template() -> Tries {
    let none: [&[u8]; 0] = [];
    let with = |change: &dyn Fn(&mut Area)| {
        let mut area = Public::parse(&read("ek-p384.public")).unwrap().area().clone();
        change(&mut area);
        let public = Public::from_area(area).unwrap();
        let certificates = [read("ek-p384.crt")];
        reason(endorsement::verify(&certificates, &none, public.raw(), &anchors(), NOW))
    };
    vec![
        ("another name hash", with(&|area| area.name_algorithm = HashAlgorithm::Sha1)),
        ("no cipher", with(&|area| area.symmetric = None)),
        ("a cipher without bits", with(&|area| area.symmetric.as_mut().unwrap().key_bits = 0)),
        ("another mode", with(&|area| area.symmetric.as_mut().unwrap().mode = 0x0044)),
        ("another policy", with(&|area| area.auth_policy[0] ^= 1)),
        ("no policy", with(&|area| area.auth_policy.clear())),
        ("not restricted", with(&|area| area.attributes.0 &= !Attributes::RESTRICTED)),
        ("it signs", with(&|area| area.attributes.0 |= Attributes::SIGN)),
    ]
}

fn device_key(certificate: &str, certify: &str, public: &[u8]) -> Reason {
    let ak = AttestationKey::parse(&read_device("ak-p256.public")).unwrap();
    let key = device_certificate(certificate).public_key().unwrap().clone();
    let certify = read_device(certify);
    let certify = Signed::from_item(&certify).unwrap();
    let ak = ProvedKey::enrolled(ak);
    let min_hash = HashAlgorithm::Sha256;
    reason(idevid::verify_device_key(&key, certify, public, &ak, &NONCE, min_hash))
}

fn other_device_key() -> Tries {
    // A public area around the key of the certificate, for which the TPM never spoke.
    let mut area = Public::parse(&read_device("ldevid.public")).unwrap().area().clone();
    area.key = device_certificate("owner.crt").public_key().unwrap().clone();
    let claimed = Public::from_area(area).unwrap();
    let ldevid = read_device("ldevid.public");
    vec![
        ("certificate of a software key", device_key("owner.crt", "ldevid.certify", &ldevid)),
        ("and its public area", device_key("owner.crt", "ldevid.certify", claimed.raw())),
        ("certificate of another key", device_key("restricted.crt", "ldevid.certify", &ldevid)),
    ]
}

fn loose_device_key() -> Tries {
    let with = |bit: u32| {
        let mut area = Public::parse(&read_device("ldevid.public")).unwrap().area().clone();
        area.attributes.0 ^= bit;
        device_key("ldevid.crt", "ldevid.certify", Public::from_area(area).unwrap().raw())
    };
    let restricted = read_device("restricted.public");
    vec![
        ("fixedTPM clear", with(Attributes::FIXED_TPM)),
        ("fixedParent clear", with(Attributes::FIXED_PARENT)),
        ("sensitiveDataOrigin clear", with(Attributes::SENSITIVE_DATA_ORIGIN)),
        ("restricted", device_key("restricted.crt", "restricted.certify", &restricted)),
        ("decrypts", with(Attributes::DECRYPT)),
    ]
}

fn roca() -> Tries {
    let certificate = assay_evidence::Certificate::parse(&{
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/zoo");
        std::fs::read(format!("{folder}/roca.ek")).unwrap()
    })
    .unwrap();
    let mut area = Public::parse(&read("ak-rsassa.public")).unwrap().area().clone();
    area.key = certificate.public_key().unwrap().clone();
    let public = Public::from_area(area).unwrap();
    let bare = ProvedKey::enrolled_bare(public.key().clone());
    vec![("with attributes", reason(AttestationKey::new(public))), ("bare", reason(bare))]
}

fn weak_keys() -> Tries {
    let rsa = |size: usize, exponent: u64| {
        let mut area = Public::parse(&read("ak-rsassa.public")).unwrap().area().clone();
        let PublicKey::Rsa { modulus, .. } = &area.key else { unreachable!() };
        area.key = PublicKey::rsa(&modulus[..size], exponent);
        reason(Public::from_area(area).and_then(AttestationKey::new))
    };
    vec![
        ("RSA-1024", rsa(128, 65_537)),
        ("e = 1", rsa(256, 1)),
        ("e = 3", rsa(256, 3)),
        ("e even", rsa(256, 65_538)),
        (
            "off the curve",
            ak_with(|area| {
                if let PublicKey::Ec { point, .. } = &mut area.key {
                    point[64] ^= 1;
                }
            }),
        ),
    ]
}

fn other_hierarchy() -> Tries {
    let ek = Public::parse(&read("ek-p384.public")).unwrap();
    let lenient = Expected { unknown_parent: UnknownParent::Report, ..expected() };
    let child = Shown::quote("quote-child");
    vec![
        ("owner", reason(Shown::quote("quote-owner").verify(&ak("owner"), &expected()))),
        ("owner, offline", reason(Shown::quote("quote-owner").verify(&ak("owner"), &lenient))),
        ("an unknown parent", reason(child.verify(&ak("child"), &expected()))),
        ("another parent", reason(child.verify(&ak("child").beside(&ek), &lenient))),
    ]
}

// --- statements -----------------------------------------------------------------------------

/// The selection as a TPM with two banks signs it.
fn signed_selection() -> [PcrSelection; 4] {
    let mut signed = SELECTION;
    (signed[2].mask, signed[3].mask) = (0, 0);
    signed
}

fn forged(forger: &Forger, change: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    forger.quote(&signed_selection(), &read("pcrs"), change)
}

fn refused(forger: &Forger, quote: Vec<u8>) -> Reason {
    let shown = Shown { quote, ..Shown::quote("quote-p256") };
    reason(shown.verify(&forger.proved(), &expected()))
}

fn other_type() -> Tries {
    let certify = Shown { quote: read("svid.certify"), ..Shown::quote("quote-p256") };
    let swapped = Shown { certify: Some(read("quote-p256")), ..Shown::with_svid_key() };
    let iak = AttestationKey::parse(&read_device("iak-p256.public")).unwrap();
    let iak = ProvedKey::enrolled(iak);
    let creation = Shown { quote: read_device("ak-by-iak.creation"), ..Shown::quote("quote-p256") };
    let forger = Forger::new();
    let time = forged(&forger, &|attest| attest[5] = 0x19);
    vec![
        ("certify for quote", reason(certify.verify(&ak("p256"), &expected()))),
        ("quote for certify", reason(swapped.verify(&ak("p256"), &expected()))),
        ("creation for quote", reason(creation.verify(&iak, &expected()))),
        ("time for quote", refused(&forger, time)),
    ]
}

fn other_magic() -> Tries {
    let forger = Forger::new();
    let first = forged(&forger, &|attest| attest[0] ^= 1);
    let zeros = forged(&forger, &|attest| attest[..4].fill(0));
    vec![("one bit", refused(&forger, first)), ("zeros", refused(&forger, zeros))]
}

fn reset_between() -> Tries {
    let shown = Shown {
        quote: read("quote-after-reset"),
        pcrs: Some(read("pcrs-after-reset")),
        ..Shown::with_svid_key()
    };
    vec![("certified before, quoted after", reason(shown.verify(&ak("p256"), &expected())))]
}

fn clocks() -> Tries {
    let forger = Forger::new();
    let shown = |quote| Shown { quote, ..Shown::quote("quote-p256") };
    let warned = shown(forged(&forger, &|attest| attest[92] = 0));
    let claims: Claims = warned.verify(&forger.proved(), &expected()).unwrap();
    let odd = forged(&forger, &|attest| attest[92] = 2);
    // What a server compares, and refuses by (see `ELSEWHERE`): nothing that went back passes for
    // progress.
    let now = Shown::quote("quote-p256").verify(&ak("p256"), &expected()).unwrap().clock();
    let mut earlier = now;
    earlier.clock -= 1;
    assert!(now.not_before(&earlier) && now.not_before(&now) && !earlier.not_before(&now));
    let mut rebooted = now;
    (rebooted.reset_count, rebooted.clock) = (now.reset_count + 1, 0);
    assert!(rebooted.not_before(&now) && !now.not_before(&rebooted));
    vec![
        ("safe is clear: told, not refused", claims.warnings()[0].code),
        ("safe is neither", refused(&forger, odd)),
    ]
}

fn signatures() -> Tries {
    let item = read("quote-p256");
    let signed = Signed::from_item(&item).unwrap();
    let (r, s) = (&signed.signature[6..38], &signed.signature[40..72]);
    let with = |head: [u8; 4], r: &[u8], s: &[u8]| {
        let quote = [sized(signed.attest), head.to_vec(), sized(r), sized(s)].concat();
        reason(Shown { quote, ..Shown::quote("quote-p256") }.verify(&ak("p256"), &expected()))
    };
    let ecdsa = [0, 0x18, 0, 0x0b];
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let order = order.unwrap();
    let wide = |number: &[u8]| [&[0][..], number].concat();
    let zero = [0; 32];
    let rsa = |kind: &str, key: &str, min_hash| {
        let demand = Expected { min_hash, ..expected() };
        reason(Shown::quote(&format!("quote-{kind}")).verify(&ak(key), &demand))
    };
    let sha256 = HashAlgorithm::Sha256;
    let sha1 = Shown {
        quote: read_device("quote-sha1"),
        pcrs: Some(read_device("pcrs")),
        ..Shown::quote("quote-p256")
    };
    let sha1_key = AttestationKey::parse(&read_device("ak-sha1.public")).map(ProvedKey::enrolled);
    let sha1_key = sha1_key.unwrap();
    let allowed = Expected { min_hash: HashAlgorithm::Sha1, ..expected() };
    assert!(sha1.verify(&sha1_key, &allowed).is_ok());
    vec![
        ("named SHA-1", with([0, 0x18, 0, 0x04], r, s)),
        ("named SHA-384", with([0, 0x18, 0, 0x0c], r, s)),
        ("a key of SHA-1", reason(sha1.verify(&sha1_key, &expected()))),
        ("weaker than asked for", rsa("rsassa", "rsassa", HashAlgorithm::Sha384)),
        ("PSS by a key of RSASSA", rsa("rsapss", "rsassa", sha256)),
        ("RSASSA by a key of PSS", rsa("rsassa", "rsapss", sha256)),
        ("of another key", rsa("p256-da", "p256", sha256)),
        ("r is zero", with(ecdsa, &zero, s)),
        ("s is zero", with(ecdsa, r, &zero)),
        ("r is nothing", with(ecdsa, &[], s)),
        ("s is nothing", with(ecdsa, r, &[])),
        ("r is the order", with(ecdsa, &order, s)),
        ("s is the order", with(ecdsa, r, &order)),
        ("r is beyond the order", with(ecdsa, &[0xff; 32], s)),
        ("r is wider than the field", with(ecdsa, &wide(r), s)),
        ("s is wider than the field", with(ecdsa, r, &wide(s))),
        ("r and s swapped", with(ecdsa, s, r)),
    ]
}

fn lying_lengths() -> Tries {
    let quote = read("quote-p256");
    let with = |quote: Vec<u8>| {
        let shown = Shown { quote, ..Shown::quote("quote-p256") };
        reason(shown.verify(&ak("p256"), &expected()))
    };
    let mut tries = vec![
        ("a byte behind the signature", with([&quote[..], &[0]].concat())),
        ("nothing", with(Vec::new())),
        ("cut by one", with(quote[..quote.len() - 1].to_vec())),
    ];
    // Sizes: of the statement, the signer, the extra data, the digest; a count of selections.
    let attest = 2 + usize::from(u16::from_be_bytes([quote[0], quote[1]]));
    for place in [0, 2 + 6, 2 + 6 + 36, attest - 34, attest - 34 - 28, attest + 4] {
        let mut longer = quote.clone();
        longer[place] = 0xff;
        tries.push(("a size of 65,000", with(longer)));
    }
    tries
}

// --- registers ------------------------------------------------------------------------------

fn selecting(
    forger: &Forger,
    banks: &[PcrSelection],
    values: &[u8],
    demand: &Expected<'_>,
) -> Reason {
    let quote = forger.quote(banks, values, &|_| {});
    let shown = Shown { quote, certify: None, svid_public: None, pcrs: Some(values.to_vec()) };
    reason(shown.verify(&forger.proved(), demand))
}

fn at_least<'a>(required: &'a [PcrSelection]) -> Expected<'a> {
    let selection = Selection::AtLeast { required, min_bank: HashAlgorithm::Sha256 };
    Expected { selection, ..expected() }
}

fn relabelled() -> Tries {
    let forger = Forger::new();
    let sha256 = |mask| PcrSelection::new(HashAlgorithm::Sha256, mask);
    let clean = [0x11; 32];
    let asked = [sha256(1)];
    // PCR 16 and 23 are resettable: whoever owns the host puts any value there.
    let mut tries: Tries = [16, 23, 11]
        .map(|register| {
            (
                "quoted there",
                selecting(&forger, &[sha256(1 << register)], &clean, &at_least(&asked)),
            )
        })
        .to_vec();
    tries.push(("in an exchange", selecting(&forger, &[sha256(1 << 16)], &clean, &expected())));
    // And the list beside it says that it is PCR 0.
    let quote = forger.quote(&[sha256(1 << 16)], &clean, &|_| {});
    let mut listed = Registers::new();
    let value = assay_evidence::Digest::new(HashAlgorithm::Sha256, &clean).unwrap();
    assert!(listed.insert(0, value));
    let mut evidence = Evidence::from_items(&quote, None, None, None).unwrap();
    evidence.values = Some(Values::Listed(&listed));
    let found = assay_tpm::verify(&evidence, &forger.proved(), &at_least(&[]));
    tries.push(("listed as PCR 0", reason(found)));
    tries
}

fn smuggled() -> Tries {
    let claims = Shown::quote("quote-p256").verify(&ak("p256"), &expected()).unwrap();
    let with = |bank, register| {
        let mut listed = claims.registers().clone();
        assert!(listed.insert(register, assay_evidence::Digest::zero(bank)));
        let quote = read("quote-p256");
        let mut evidence = Evidence::from_items(&quote, None, None, None).unwrap();
        evidence.values = Some(Values::Listed(&listed));
        reason(assay_tpm::verify(&evidence, &ak("p256"), &expected()))
    };
    vec![
        ("another register", with(HashAlgorithm::Sha256, 16)),
        ("another bank", with(HashAlgorithm::Sha384, 0)),
        ("a bank that no TPM here has", with(HashAlgorithm::Sm3_256, 0)),
    ]
}

fn too_few() -> Tries {
    let forger = Forger::new();
    let none = PcrSelection::new(HashAlgorithm::Sha256, 0);
    let required = [PcrSelection::new(HashAlgorithm::Sha256, 1 << 16)];
    let values = &read("pcrs")[..320];
    let one = [PcrSelection::new(HashAlgorithm::Sha256, 1)];
    let mut cut = read("pcrs");
    cut.pop();
    let shown = Shown { pcrs: Some(cut), ..Shown::quote("quote-p256") };
    vec![
        ("no bank", selecting(&forger, &[], &[], &at_least(&[]))),
        ("a bank without registers", selecting(&forger, &[none], &[], &at_least(&[]))),
        ("not the one required", {
            reason(Shown::quote("quote-p256").verify(&ak("p256"), &at_least(&required)))
        }),
        ("one of sixteen", selecting(&forger, &one, &values[..32], &expected())),
        ("values cut", reason(shown.verify(&ak("p256"), &expected()))),
    ]
}

fn weak_bank() -> Tries {
    let forger = Forger::new();
    let values = &read("pcrs")[..320];
    let mut signed = signed_selection();
    signed[1].mask = 0;
    vec![
        ("in an exchange", selecting(&forger, &signed, values, &expected())),
        ("from a file", selecting(&forger, &signed[..1], values, &at_least(&[]))),
        ("SHA-256 where SHA-384 is asked for", {
            let min_bank = HashAlgorithm::Sha384;
            let selection = Selection::AtLeast { required: &[], min_bank };
            let demand = Expected { selection, ..expected() };
            reason(Shown::quote("quote-p256").verify(&ak("p256"), &demand))
        }),
    ]
}

fn bank_left_out() -> Tries {
    let with = |asked: &[PcrSelection], no_sha1| {
        let selection = Selection::Exactly { asked, no_sha1 };
        let demand = Expected { selection, ..expected() };
        reason(Shown::quote("quote-p256").verify(&ak("p256"), &demand))
    };
    let forger = Forger::new();
    let values = read("pcrs");
    vec![
        ("SHA-1 not asked for", with(&SELECTION[1..], false)),
        ("SHA-256 not asked for", with(&SELECTION[..1], false)),
        ("a bank asked for and not answered", {
            selecting(&forger, &signed_selection()[..2], &values, &expected())
        }),
    ]
}

// --- the key that asks for an identity, and what is missing ----------------------------------

fn software_svid_key() -> Tries {
    let software = assay_evidence::crypto::SoftwareKey::generate().unwrap().public_key().to_spki();
    let demand = expected().certifying(&software);
    let owner = Shown {
        certify: Some(read("svid-owner.certify")),
        svid_public: Some(read("svid-owner.public")),
        ..Shown::quote("quote-p256")
    };
    vec![
        ("another key certified", reason(Shown::with_svid_key().verify(&ak("p256"), &demand))),
        ("none certified", reason(Shown::quote("quote-p256").verify(&ak("p256"), &demand))),
        ("one that outlives the boot", reason(owner.verify(&ak("p256"), &expected()))),
    ]
}

fn left_out() -> Tries {
    let spki = svid_spki();
    let demand = expected().certifying(&spki);
    let whole = Shown::with_svid_key();
    let values = Shown { pcrs: None, ..Shown::quote("quote-p256") };
    let certify = Shown { certify: None, ..whole.clone() };
    let public = Shown { svid_public: None, ..whole };
    vec![
        ("register values", reason(values.verify(&ak("p256"), &expected()))),
        ("certification", reason(certify.verify(&ak("p256"), &demand))),
        ("public area", reason(public.verify(&ak("p256"), &demand))),
    ]
}
