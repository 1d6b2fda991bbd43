//! Evidence of real machines, where the shared corpus is at hand: `$ASSAY_CORPUS`, else
//! `../shared/corpus`. Without it these tests say that they were skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_tpm::AttestationKey;
use assay_tpm::Error;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::ak_certificate;
use assay_tpm::pcr_file::PcrFile;
use assay_tpm::verify::Selection;
use assay_tpm::verify::Signed;
use assay_tpm::verify::UnknownParent;
use assay_tpm::verify_certify;

fn corpus(kind: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    let folder = root.join(kind);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no folder {}: real evidence of that kind not run", folder.display());
    None
}

fn read(file: impl AsRef<Path>) -> Vec<u8> {
    let file = file.as_ref();
    std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn at(text: &str) -> Time {
    Time::parse_rfc3339(text).unwrap()
}

fn offline<'a>(nonce: &'a [u8]) -> Expected<'a> {
    Expected {
        qualifying_data: nonce,
        selection: Selection::AtLeast { required: &[], min_bank: HashAlgorithm::Sha256 },
        svid_spki: None,
        min_hash: HashAlgorithm::Sha256,
        unknown_parent: UnknownParent::Report,
    }
}

fn quote(
    folder: &Path,
    files: [&str; 2],
    pcrs: Option<&str>,
    key: &ProvedKey,
    nonce: &str,
) -> Result<assay_tpm::Claims, Error> {
    let (attest, signature) =
        (read(folder.join(files[0])), framed(&read(folder.join(files[1])), 0x0b));
    let pcrs = pcrs.map(|name| PcrFile::parse(&read(folder.join(name)))).transpose()?;
    let evidence = Evidence {
        quote: Signed::from_files(&attest, &signature),
        certify: None,
        svid_public: None,
        values: pcrs.as_ref().map(PcrFile::values),
    };
    assay_tpm::verify(&evidence, key, &offline(&hex::decode(nonce).unwrap()))
}

/// Some collectors drop the frame of an RSASSA signature; here it comes back.
fn framed(signature: &[u8], hash: u8) -> Vec<u8> {
    match signature.len() {
        256 => [&[0x00, 0x14, 0x00, hash, 0x01, 0x00][..], signature].concat(),
        _ => signature.to_vec(),
    }
}

fn spki_of(folder: &Path, name: &str) -> ProvedKey {
    let bytes = read(folder.join(name));
    let der = pem_contents(&bytes).unwrap_or(bytes);
    ProvedKey::enrolled_bare(assay_evidence::PublicKey::from_spki(&der).unwrap()).unwrap()
}

/// The contents of a PEM block, read the plain way.
fn pem_contents(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let digit = |c: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            .iter()
            .position(|&d| d == c)
    };
    let digits: Vec<usize> = body.bytes().map_while(digit).collect();
    let mut out = Vec::new();
    for chunk in digits.chunks(4) {
        let bits = chunk.iter().fold(0, |sum, digit| sum << 6 | digit) << (6 * (4 - chunk.len()));
        out.extend_from_slice(&u32::try_from(bits).unwrap().to_be_bytes()[1..chunk.len()]);
    }
    Some(out)
}

#[test]
fn quotes_of_real_tpms_are_genuine_under_their_keys() {
    let Some(folder) = corpus("tpm-quote") else { return };
    let gce = folder.join("gce-cos85-nonce");
    let key = AttestationKey::parse(&read(gce.join("ak.tpmt"))).map(ProvedKey::enrolled);
    let claims = quote(&gce, ["attest.bin", "sig.bin"], None, &key.unwrap(), "9009").unwrap();
    assert_eq!(claims.signature_hash(), HashAlgorithm::Sha256);

    let azure = folder.join("azure-trusted-launch-uncertified-ak");
    let nonce = "0efb4d54837cedf4f66dd77ffcb32a4d4bd315dffd6cbfa5977e4c018c1f372a";
    let key = spki_of(&azure, "ak.pem");
    let claims = quote(&azure, ["attest.bin", "sig.bin"], Some("pcrs.bin"), &key, nonce).unwrap();
    assert!(!claims.registers().is_empty());

    let keylime = folder.join("keylime-emulator");
    let key = Public::parse_file(&read(keylime.join("ak.tpm2b"))).and_then(AttestationKey::new);
    let key = key.map(ProvedKey::enrolled).unwrap();
    let nonce = "db1db298db6d60e6385b7231743e9c3056a18003";
    let claims = quote(&keylime, ["attest.bin", "sig.bin"], Some("pcrs.bin"), &key, nonce).unwrap();
    assert!(!claims.registers().is_empty());

    let trustee = folder.join("trustee-tpm");
    let nonce = "a04182b506878d4f29b91ee606a71a0d3361ccf1b22db20c98adcaa537bea393\
                 ef0e41a18b3569ab678f1497fbc5c12000000000000000000000000000000000";
    let key = spki_of(&trustee, "ak.der");
    quote(&trustee, ["attest.bin", "sig.bin"], None, &key, nonce).unwrap();
}

#[test]
fn windows_keys_are_certified_by_certified_keys() {
    let (Some(quotes), Some(certs)) = (corpus("tpm-quote"), corpus("ek-certs")) else { return };
    let root = Certificate::parse(&read(certs.join("ms-tpm-root-2014/ms-tpm-root-2014.der")));
    let roots = [root.unwrap()];
    let cases = [
        ("win-intel-rsa", "2021-05-01T23:11:27Z", "600b44284199f3d312495b041ff4e7fb29c8028f"),
        ("win-nuvoton-ecc", "2022-02-11T22:15:18Z", "b4c2270f75ad1927561cf5a28ccad6fd37d8a3e8"),
        ("win-stm-rsa", "2020-09-26T15:12:30Z", "702cecbb1383acb00263b1113ff9231ca9323463"),
    ];
    for (case, time, nonce) in cases {
        let folder = quotes.join(case);
        let aik = Certificate::parse(&read(folder.join("aik.der"))).unwrap();
        let ica = Certificate::parse(&read(folder.join("ica.der"))).unwrap();
        let aik = ak_certificate::verify(&aik, &[ica], &roots, at(time));
        let aik = aik.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert!(aik.device().manufacturer.starts_with("id:"), "{case}");
        let key = ProvedKey::certified(&aik).unwrap();
        let (attest, bare) = (read(folder.join("attest.bin")), read(folder.join("sig.bin")));
        let (public, nonce) = (read(folder.join("pubarea.bin")), hex::decode(nonce).unwrap());
        let verify = |hash: u8, min_hash| {
            let signature = framed(&bare, hash);
            let signed = Signed::from_files(&attest, &signature);
            verify_certify(signed, &public, &key, &nonce, min_hash, UnknownParent::Report)
        };
        // Windows keys of these years sign over SHA-1: refused unless asked for.
        let weak = verify(0x04, HashAlgorithm::Sha256).unwrap_err();
        assert_eq!(weak.reason(), Reason::SignatureHashWeak, "{case}");
        verify(0x04, HashAlgorithm::Sha1).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    }
    // The same chain under a root that is not Microsoft's.
    let folder = quotes.join("fido-conformance-sha256");
    let aik = Certificate::parse(&read(folder.join("aik.der"))).unwrap();
    let ica = Certificate::parse(&read(folder.join("ica.der"))).unwrap();
    let aik = ak_certificate::verify(&aik, &[ica], &roots, at("2020-01-01T00:00:00Z"));
    assert_eq!(aik.unwrap_err().reason(), Reason::AkNotCertified);
}

#[test]
fn quotes_of_booted_machines_are_genuine_with_their_registers() {
    let Some(folder) = corpus("qemu-ovmf-swtpm") else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let case = entry.unwrap().path();
        if !case.join("nonce.hex").is_file() {
            continue;
        }
        let ak = Public::parse_file(&read(case.join("ak.pub"))).and_then(AttestationKey::new);
        let ek = Public::parse_file(&read(case.join("ek.pub"))).unwrap();
        let key = ProvedKey::enrolled(ak.unwrap()).beside(&ek);
        let nonce = String::from_utf8(read(case.join("nonce.hex"))).unwrap();
        let files = ["quote-sha256.msg", "quote-sha256.sig"];
        let claims = quote(&case, files, None, &key, nonce.trim())
            .unwrap_or_else(|error| panic!("{}: {error:?}", case.display()));
        assert!(claims.not_checked().iter().all(|text| !text.starts_with("hierarchy")));
        // The text lists more registers than were quoted, which is told by name.
        let with = quote(&case, files, Some("pcrs.yaml"), &key, nonce.trim());
        assert_eq!(with.unwrap_err().reason(), Reason::PcrNotSigned);
        seen += 1;
    }
    assert!(seen >= 10, "{seen} cases");
}
