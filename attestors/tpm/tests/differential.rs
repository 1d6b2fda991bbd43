//! A second opinion: another parser of TPM structures, and another verifier of quotes.
//!
//! Where both read a structure they must read the same; where one refuses what the other reads, the
//! difference must be one that is known.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/vectors.rs"]
mod vectors;

use std::process::Command;

use assay_evidence::reader::ReadError;
use assay_tpm::Attest;
use assay_tpm::Error;
use assay_tpm::Public;
use assay_tpm::Signature;
use assay_tpm::Signed;
use tpm2_protocol::TpmField;
use tpm2_protocol::data::TpmsAttest;
use tpm2_protocol::data::TpmtPublic;
use tpm2_protocol::data::TpmtSignature;
use vectors::NONCE;
use vectors::read;
use vectors::read_device;

/// What both say of the same bytes: the fields that ours and the other parser have in common.
type Opinion = Option<Vec<Vec<u8>>>;

fn attest(bytes: &[u8]) -> (Opinion, Opinion) {
    let ours = Attest::parse(bytes).ok().map(|attest| {
        vec![
            attest.qualified_signer.to_vec(),
            attest.extra_data.to_vec(),
            attest.firmware_version.to_be_bytes().to_vec(),
        ]
    });
    let theirs = <TpmsAttest as TpmField<'_>>::cast_prefix_field(bytes).ok();
    let theirs = theirs.filter(|(_, rest)| rest.is_empty()).map(|(attest, _)| {
        vec![
            attest.qualified_signer.data().to_vec(),
            attest.extra_data.data().to_vec(),
            attest.firmware_version.to_be_bytes().to_vec(),
        ]
    });
    (ours, theirs)
}

fn public(bytes: &[u8]) -> (Opinion, Opinion) {
    let ours = Public::parse(bytes).ok().map(|public| {
        vec![
            public.area().name_algorithm.tpm_id().to_be_bytes().to_vec(),
            public.attributes().0.to_be_bytes().to_vec(),
            public.area().auth_policy.clone(),
        ]
    });
    let theirs = <TpmtPublic as TpmField<'_>>::cast_prefix_field(bytes).ok();
    let theirs = theirs.filter(|(_, rest)| rest.is_empty()).map(|(public, _)| {
        vec![
            (public.name_alg as u16).to_be_bytes().to_vec(),
            public.object_attributes.bits().to_be_bytes().to_vec(),
            public.auth_policy.data().to_vec(),
        ]
    });
    (ours, theirs)
}

fn signature(bytes: &[u8]) -> (Opinion, Opinion) {
    let ours = Signature::parse(bytes).ok().map(|_| Vec::new());
    let theirs = <TpmtSignature as TpmField<'_>>::cast_prefix_field(bytes).ok();
    (ours, theirs.filter(|(_, rest)| rest.is_empty()).map(|_| Vec::new()))
}

#[derive(Default)]
struct Count {
    both: usize,
    neither: usize,
    ours_alone: usize,
    theirs_alone: usize,
}

/// Every genuine structure, each with one bit flipped, and each at every shorter length.
fn compare(kind: &str, genuine: &[Vec<u8>], opinions: fn(&[u8]) -> (Opinion, Opinion)) -> Count {
    let mut count = Count::default();
    let mut judge = |bytes: &[u8], genuine: bool| {
        let (ours, theirs) = opinions(bytes);
        assert!(!genuine || (ours.is_some() && theirs.is_some()), "{kind}: {}", hex::encode(bytes));
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                assert_eq!(ours, theirs, "{kind}: {}", hex::encode(bytes));
                count.both += 1;
            }
            (None, None) => count.neither += 1,
            (Some(_), None) => {
                assert!(is_judged_later(kind, bytes), "{kind}: {}", hex::encode(bytes));
                count.ours_alone += 1;
            }
            (None, Some(_)) => {
                assert!(is_stricter(kind, bytes), "{kind}: {}", hex::encode(bytes));
                count.theirs_alone += 1;
            }
        }
    };
    for bytes in genuine {
        judge(bytes, true);
        let mut changed = bytes.clone();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                changed[place] ^= 1 << bit;
                judge(&changed, false);
                changed[place] ^= 1 << bit;
            }
            judge(&bytes[..place], false);
        }
        judge(&[&bytes[..], &[0]].concat(), false);
    }
    let Count { both, neither, ours_alone, theirs_alone } = &count;
    eprintln!(
        "{kind}: {} genuine; both read {both}, neither {neither}, ours alone {ours_alone}, \
         theirs alone {theirs_alone}",
        genuine.len()
    );
    count
}

/// What we read and the other does not: magic and type, which are told after the signature; and
/// ciphers of a size or mode that no template has, which are told by the template.
fn is_judged_later(kind: &str, bytes: &[u8]) -> bool {
    match kind {
        "statements" => !matches!(bytes, [0xff, 0x54, 0x43, 0x47, 0x80, 0x17 | 0x18 | 0x1a, ..]),
        "public areas" => Public::parse(bytes).is_ok_and(|public| {
            let cipher = public.area().symmetric.map(|cipher| (cipher.key_bits, cipher.mode));
            !matches!(cipher, None | Some((128 | 192 | 256, 0x0043)))
        }),
        _ => false,
    }
}

/// What we refuse and the other reads: algorithms and curves that nothing here computes, a modulus
/// of another size than said, a bank named twice, fields that are wider than their curve.
fn is_stricter(kind: &str, bytes: &[u8]) -> bool {
    let error = match kind {
        "statements" => Attest::parse(bytes).err(),
        "signatures" => Signature::parse(bytes).err(),
        _ => Public::parse(bytes).err(),
    };
    matches!(
        error,
        Some(
            Error::UnknownAlgorithm { .. }
                | Error::UnknownCurve { .. }
                | Error::Malformed { place: "RSA modulus" | "PCR selection" }
                | Error::Shape(ReadError::TooLong { .. })
        )
    )
}

fn items() -> Vec<Vec<u8>> {
    let swtpm = ["p256", "p256-da", "p384", "rsassa", "rsapss", "owner", "child", "after-reset"];
    let device = ["p256", "p521", "p256-sha384", "rsassa-sha512", "rsapss-3072", "sha1"];
    let mut items: Vec<_> = swtpm.iter().map(|name| read(&format!("quote-{name}"))).collect();
    items.extend(device.iter().map(|name| read_device(&format!("quote-{name}"))));
    items.extend(["svid.certify", "svid-owner.certify"].map(read));
    items.extend(["ak-by-iak.creation", "ak-by-iak-p521.certify"].map(read_device));
    items
}

#[test]
fn another_parser_reads_statements_alike() {
    let statements: Vec<_> =
        items().iter().map(|item| Signed::from_item(item).unwrap().attest.to_vec()).collect();
    let count = compare("statements", &statements, attest);
    assert!(count.both > 0);
}

#[test]
fn another_parser_reads_signatures_alike() {
    let signatures: Vec<_> =
        items().iter().map(|item| Signed::from_item(item).unwrap().signature.to_vec()).collect();
    let count = compare("signatures", &signatures, signature);
    assert!(count.both > 0);
}

#[test]
fn another_parser_reads_public_areas_alike() {
    let mut areas: Vec<_> = ["ak-p256", "ak-p384", "ak-rsassa", "ak-rsapss", "svid", "ek-p384"]
        .map(|name| read(&format!("{name}.public")))
        .to_vec();
    areas.extend(["ek-rsa2048", "ek-p256"].map(|name| read(&format!("{name}.public"))));
    areas.extend(
        ["ak-p521", "iak-rsa3072", "iak-p521", "idevid-rsa2048", "idevid-p384"]
            .map(|name| read_device(&format!("{name}.public"))),
    );
    let count = compare("public areas", &areas, public);
    assert!(count.both > 0);
}

/// `tpm2_checkquote` before 5.7.1 lacks the checks of CVE-2024-29038 and 29039 and fails on every
/// genuine RSAPSS quote: no oracle.
#[test]
fn another_verifier_judges_quotes_alike() {
    let version = Command::new("tpm2_checkquote").arg("--version").output();
    let Ok(version) = version else {
        eprintln!("SKIPPED: tpm2_checkquote is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    let number = text.split("version=\"").nth(1).and_then(|rest| rest.split('"').next());
    let number = number.unwrap_or("unknown");
    let parts: Vec<u32> = number.split('.').filter_map(|part| part.parse().ok()).collect();
    if parts.as_slice() < [5, 7, 1].as_slice() {
        eprintln!("SKIPPED: tpm2_checkquote {number} is no oracle, 5.7.1 is needed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut alike = 0;
    for kind in ["p256", "p384", "rsassa", "rsapss"] {
        let item = read(&format!("quote-{kind}"));
        let signed = Signed::from_item(&item).unwrap();
        let area = read(&format!("ak-{kind}.public"));
        let size = u16::try_from(area.len()).unwrap().to_be_bytes();
        std::fs::write(path("ak"), [&size[..], &area].concat()).unwrap();
        for flipped in 0..signed.attest.len() + 1 {
            let mut attest = signed.attest.to_vec();
            attest.iter_mut().skip(flipped).take(1).for_each(|byte| *byte ^= 1);
            std::fs::write(path("quote"), &attest).unwrap();
            std::fs::write(path("signature"), signed.signature).unwrap();
            let theirs = Command::new("tpm2_checkquote")
                .args(["-u", path("ak").to_str().unwrap()])
                .args(["-m", path("quote").to_str().unwrap()])
                .args(["-s", path("signature").to_str().unwrap()])
                .args(["-q", &hex::encode(NONCE)])
                .output()
                .unwrap();
            let genuine = flipped == signed.attest.len();
            assert_eq!(theirs.status.success(), genuine, "{kind} {flipped}");
            alike += 1;
        }
    }
    eprintln!("tpm2_checkquote {number}: {alike} quotes judged alike");
}
