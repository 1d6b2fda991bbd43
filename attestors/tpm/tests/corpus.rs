//! Evidence of real machines, where the shared corpus is at hand: `$ASSAY_CORPUS`, else
//! `../shared/corpus`. Without it these tests say that they were skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::HashAlgorithm;
use assay_evidence::Reader;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_tpm::AttestationKey;
use assay_tpm::Error;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::Name;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::ak_certificate;
use assay_tpm::credential::identity_object;
use assay_tpm::endorsement;
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

fn certificates(folder: &Path) -> Vec<Certificate> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "der") {
            all.push(Certificate::parse(&read(&path)).unwrap());
        }
    }
    all
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

/// How the corpus says that a case ends.
struct Case {
    folder: PathBuf,
    toml: toml::Table,
}

impl Case {
    fn read(folder: PathBuf) -> Case {
        let text = String::from_utf8(read(folder.join("case.toml"))).unwrap();
        Case { folder, toml: text.parse().unwrap() }
    }

    fn text(&self, name: &str) -> &str {
        self.toml.get(name).and_then(toml::Value::as_str).unwrap_or_default()
    }

    fn claim(&self, name: &str) -> Option<&toml::Value> {
        self.toml["claims"].get(name)
    }

    fn nonce(&self) -> Vec<u8> {
        hex::decode(self.claim("extra_data").unwrap().as_str().unwrap()).unwrap()
    }

    fn at(&self) -> Time {
        match self.text("verify_at") {
            "" => at("2021-06-01T00:00:00Z"),
            text => at(text),
        }
    }

    fn key(&self, name: &str) -> ProvedKey {
        let path = self.folder.join(name);
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("tpmt" | "tpm2b") => {
                let public = Public::parse_file(&read(path)).and_then(AttestationKey::new);
                ProvedKey::enrolled(public.unwrap())
            }
            _ => spki_of(&self.folder, name),
        }
    }

    fn certificate(&self, name: &str) -> Certificate {
        Certificate::parse(&read(self.folder.join(name))).unwrap()
    }

    /// The claims of a quote are those that the corpus knows.
    fn assert_claims(&self, claims: &assay_tpm::Claims) {
        let json = serde_json::to_value(claims).unwrap();
        let number = |name: &str| self.claim(name).unwrap().as_integer().unwrap().to_string();
        assert_eq!(json["clock"]["clock"], number("clock"));
        assert_eq!(json["clock"]["reset_count"].to_string(), number("reset_count"));
        assert_eq!(json["clock"]["restart_count"].to_string(), number("restart_count"));
        assert_eq!(json["clock"]["safe"], number("safe") == "1");
        let text = |name: &str| self.claim(name).unwrap().as_str().unwrap();
        let firmware = text("firmware_version").trim_start_matches("0x");
        assert_eq!(claims.firmware_version(), u64::from_str_radix(firmware, 16).unwrap());
        assert_eq!(json["pcr_digest"], text("pcr_digest"));
        let selection = self.claim("pcr_selection").unwrap().as_array().unwrap();
        let selection: Vec<_> = selection.iter().filter_map(toml::Value::as_str).collect();
        assert_eq!(claims.selection().to_string(), selection.join("+"));
    }
}

/// Judges a case as its text says that it is to be read: without the name of a key to believe,
/// the way to a verdict ends at "nobody certified it".
fn judged(case: &Case, certs: &Path) -> Result<(), Error> {
    let folder = &case.folder;
    let files = ["attest.bin", "sig.bin"];
    let nonce = hex::encode(case.nonce());
    let enrolled = |key: &ProvedKey, pcrs: Option<&str>| {
        let claims = quote(folder, files, pcrs, key, &nonce)?;
        case.assert_claims(&claims);
        Ok(claims)
    };
    match case.text("id") {
        "gce-cos85-nonce" => {
            let key = case.key("ak.tpmt");
            enrolled(&key, None)?;
            // The other two quotes of the boot: over a bank that is too weak, and over a stronger.
            let weak = quote(folder, ["attest-sha1.bin", "sig-sha1.bin"], None, &key, &nonce);
            assert_eq!(weak.unwrap_err().reason(), Reason::PcrBankWeak);
            let files = ["attest-sha384.bin", "sig-sha384.bin"];
            quote(folder, files, None, &key, &nonce).map(drop)
        }
        "cmc-quote" => {
            let (ak, ca) = (case.certificate("ak.der"), case.certificate("ca.der"));
            let ak = ak_certificate::verify(&ak, &[], &[ca], ak.not_before())?;
            enrolled(&ProvedKey::certified(&ak)?, None).map(drop)
        }
        "azure-trusted-launch-uncertified-ak" => {
            let key = case.key("ak.pem");
            let claims = enrolled(&key, Some("pcrs.bin"))?;
            assert_eq!(claims.registers()[&HashAlgorithm::Sha256].len(), 8);
            // The certificate beside it is good, and of another key.
            let other = case.certificate("other-akcert.der");
            let folder = certs.join("azure-vtpm-ca");
            let chain = certificates(&folder);
            let root = Certificate::parse(&read(folder.join("azure-vtpm-root-2023.der"))).unwrap();
            let other = ak_certificate::verify(&other, &chain, &[root], other.not_before())?;
            key.certified_by_any(&[other]).map(drop)
        }
        "keylime-emulator" => {
            let key = case.key("ak.tpm2b");
            enrolled(&key, Some("pcrs.bin"))?;
            enrolled(&case.key("ak.pem"), Some("pcrs.bin"))?;
            key.certified_by_any(&[]).map(drop)
        }
        "trustee-tpm" => {
            let key = case.key("ak.der");
            enrolled(&key, None)?;
            key.certified_by_any(&[]).map(drop)
        }
        "win-intel-rsa" | "win-nuvoton-ecc" | "win-stm-rsa" | "fido-conformance-sha256" => {
            windows(case, certs)
        }
        other => panic!("a case that this test does not know: {other}"),
    }
}

/// TPM2_Certify by a key that Microsoft certified. Windows keys of these years sign over SHA-1:
/// refused unless asked for.
fn windows(case: &Case, certs: &Path) -> Result<(), Error> {
    let root = Certificate::parse(&read(certs.join("ms-tpm-root-2014/ms-tpm-root-2014.der")));
    let (aik, ica) = (case.certificate("aik.der"), case.certificate("ica.der"));
    let aik = ak_certificate::verify(&aik, &[ica], &[root.unwrap()], case.at())?;
    assert!(aik.device().manufacturer.starts_with("id:"));
    let key = ProvedKey::certified(&aik)?;
    let (attest, bare) = (read(case.folder.join("attest.bin")), read(case.folder.join("sig.bin")));
    let public = read(case.folder.join("pubarea.bin"));
    let nonce = case.nonce();
    let signature = framed(&bare, 0x04);
    let verify = |min_hash| {
        let signed = Signed::from_files(&attest, &signature);
        verify_certify(signed, &public, &key, &nonce, min_hash, UnknownParent::Report)
    };
    let weak = verify(HashAlgorithm::Sha256).unwrap_err();
    assert_eq!(weak.reason(), Reason::SignatureHashWeak);
    let found = verify(HashAlgorithm::Sha1)?;
    assert_eq!(found.signature_hash(), HashAlgorithm::Sha1);
    assert_eq!(found.not_checked().len(), 2);
    let name = case.claim("certified_name").unwrap().as_str().unwrap();
    assert_eq!(found.certified_key().name().to_string(), name);
    Ok(())
}

#[test]
fn every_quote_of_the_corpus_is_judged_as_it_says() {
    let (Some(quotes), Some(certs)) = (corpus("tpm-quote"), corpus("ek-certs")) else { return };
    let (mut seen, mut left_out) = (0, Vec::new());
    let mut folders: Vec<_> =
        std::fs::read_dir(&quotes).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let case = Case::read(folder);
        let id = case.text("id").to_owned();
        if id == "parsec-tpm" {
            left_out.push("parsec-tpm: the public key that signed is not in it");
            continue;
        }
        let verdict = judged(&case, &certs).map_err(|error| error.reason().code());
        // A root that is not trusted is one way not to be certified.
        let expected = match (case.text("verdict"), case.text("reason")) {
            ("genuine", _) => Ok(()),
            (_, "root-not-trusted") => Err("ak-not-certified"),
            (_, reason) => Err(reason),
        };
        assert_eq!(verdict, expected, "{id}");
        seen += 1;
    }
    eprintln!("tpm-quote: {seen} of {seen} as the corpus says; left out: {left_out:?}");
    assert!(seen >= 9);
}

#[test]
fn azure_certifies_attestation_keys() {
    let Some(certs) = corpus("ek-certs") else { return };
    let folder = certs.join("azure-ak-cert");
    let chain = certificates(&folder);
    let leaf = Certificate::parse(&read(folder.join("ak.der"))).unwrap();
    let top = Certificate::parse(&read(folder.join("issuer-2.der"))).unwrap();
    let roots = [certificates(&certs.join("azure-vtpm-ca")), vec![top]].concat();
    ak_certificate::verify(&leaf, &chain, &roots, leaf.not_before()).unwrap();
    // A certificate of an endorsement key is none of an attestation key.
    let ek = endorsement::certificate_in_nv(&read(certs.join("gce-rsa/ek.der"))).unwrap();
    let found = ak_certificate::verify(&ek, &[], &roots, ek.not_before());
    assert_eq!(found.unwrap_err().reason(), Reason::AkNotCertified);
}

#[test]
fn credentials_of_other_makers_are_what_this_maker_makes() {
    let Some(folder) = corpus("credential") else { return };
    // All random bytes are zero, so that every step can be followed but the RSA one.
    let case = Case::read(folder.join("makecredential-rsa"));
    let blob = read(case.folder.join("activation-blob.bin"));
    let mut reader = Reader::new(&blob);
    let found = reader.sized16(256).unwrap();
    assert_eq!(reader.sized16(512).unwrap().len(), 256);
    reader.finish().unwrap();
    let digest = read(case.folder.join("ak-name-digest.bin"));
    let name = Name::from_bytes(&[&[0x00, 0x0b][..], &digest].concat()).unwrap();
    assert_eq!(name.to_string(), case.claim("ak_name").unwrap().as_str().unwrap());
    let secret = read(case.folder.join("secret.bin"));
    let made = identity_object(HashAlgorithm::Sha256, 128, &[0; 16], &name, &secret).unwrap();
    assert_eq!(hex::encode(found), hex::encode(&made));
    let mac = case.claim("integrity_hmac").unwrap().as_str().unwrap();
    assert_eq!(hex::encode(&made[2..34]), mac);
    // With the hash or the cipher of another key it is another credential.
    for (hash, bits) in [(HashAlgorithm::Sha256, 256), (HashAlgorithm::Sha384, 128)] {
        assert_ne!(identity_object(hash, bits, &[0; 16], &name, &secret).unwrap(), found);
    }

    // In the frame of tpm2-tools; only structure and names can be seen without the private key.
    let case = Case::read(folder.join("keylime-mkcred"));
    let file = read(case.folder.join("mkcred.out"));
    let mut reader = Reader::new(&file);
    assert_eq!((reader.u32().unwrap(), reader.u32().unwrap()), (0xbadc_c0de, 1));
    let object = reader.sized16(256).unwrap();
    let ek = Public::parse_file(&read(case.folder.join("ek.tpm2b"))).unwrap();
    assert_eq!(endorsement::Template::of(&ek), Some(endorsement::Template::L1));
    assert_eq!(reader.sized16(512).unwrap().len(), 256);
    let secret = read(case.folder.join("secret.bin"));
    assert_eq!(object.len(), 2 + 32 + 2 + secret.len());
    let ak = Public::parse_file(&read(case.folder.join("ak.tpm2b"))).unwrap();
    assert_eq!(ak.name().as_bytes(), read(case.folder.join("ak.name")));
    eprintln!("credential: 2 of 2");
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
