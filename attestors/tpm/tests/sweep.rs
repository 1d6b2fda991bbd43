//! Every single bit of the evidence matters: flip it, cut it, add to it, and it is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/vectors.rs"]
mod vectors;

use std::path::Path;
use std::path::PathBuf;

use assay_evidence::HashAlgorithm;
use assay_tpm::AttestationKey;
use assay_tpm::Evidence;
use assay_tpm::Expected;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::endorsement;
use assay_tpm::verify::Selection;
use assay_tpm::verify::Signed;
use assay_tpm::verify::UnknownParent;
use assay_tpm::verify::Values;
use vectors::NOW;
use vectors::SELECTION;
use vectors::Shown;
use vectors::ak;
use vectors::anchors;
use vectors::expected;
use vectors::read;
use vectors::read_device;
use vectors::svid_spki;

/// Calls `accepts` with each neighbour of `bytes` and collects those that it takes.
fn accepted_flips(bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) -> Vec<(usize, u8)> {
    assert!(accepts(bytes), "the vector itself must be genuine");
    let mut changed = bytes.to_vec();
    let mut taken = Vec::new();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            changed[place] ^= 1 << bit;
            if accepts(&changed) {
                taken.push((place, bit));
            }
            changed[place] ^= 1 << bit;
        }
    }
    taken
}

fn accepted_lengths(bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) -> Vec<usize> {
    let mut taken: Vec<usize> = (0..bytes.len()).filter(|&end| accepts(&bytes[..end])).collect();
    for more in 1..=64 {
        for filler in [0x00, 0x01, 0xff] {
            let longer = [bytes, &vec![filler; more]].concat();
            if accepts(&longer) {
                taken.push(longer.len());
            }
        }
    }
    taken
}

fn nothing_else_is_accepted(name: &str, bytes: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert_eq!(accepted_flips(bytes, &accepts), [], "{name}: flips");
    assert_eq!(accepted_lengths(bytes, &accepts), [], "{name}: lengths");
}

/// Genuine evidence in its parts.
struct Set {
    name: String,
    attest: Vec<u8>,
    signature: Vec<u8>,
    /// TPMT_PUBLIC of the key that signed.
    public: Vec<u8>,
    /// Of the endorsement key that it is a child of, if it is one.
    parent: Option<Public>,
    nonce: Vec<u8>,
    pcrs: Option<Vec<u8>>,
    min_hash: HashAlgorithm,
    unknown_parent: UnknownParent,
}

impl Set {
    fn ours(name: &str, public: Vec<u8>, quote: &[u8], pcrs: Vec<u8>) -> Set {
        let signed = Signed::from_item(quote).unwrap();
        Set {
            name: name.into(),
            attest: signed.attest.to_vec(),
            signature: signed.signature.to_vec(),
            public,
            parent: None,
            nonce: vectors::NONCE.to_vec(),
            pcrs: Some(pcrs),
            min_hash: HashAlgorithm::Sha256,
            unknown_parent: UnknownParent::Refuse,
        }
    }

    fn accepts(&self, attest: &[u8], signature: &[u8], public: &[u8]) -> bool {
        let demand = Expected {
            qualifying_data: &self.nonce,
            selection: Selection::AtLeast { required: &[], min_bank: HashAlgorithm::Sha256 },
            svid_spki: None,
            min_hash: self.min_hash,
            unknown_parent: self.unknown_parent,
        };
        let evidence = Evidence {
            quote: Signed { attest, signature },
            certify: None,
            svid_public: None,
            values: self.pcrs.as_deref().map(Values::Bare),
        };
        AttestationKey::parse(public).is_ok_and(|key| {
            let key = ProvedKey::enrolled(key);
            let key = match &self.parent {
                Some(parent) => key.beside(parent),
                None => key,
            };
            assay_tpm::verify(&evidence, &key, &demand).is_ok()
        })
    }

    /// Flips, cuts and extends each part; gives the number of neighbours, and the flips of the
    /// public area that nothing covers.
    fn sweep(&self) -> (usize, usize) {
        let Set { name, attest, signature, public, .. } = self;
        nothing_else_is_accepted(name, attest, |attest| self.accepts(attest, signature, public));
        nothing_else_is_accepted(name, signature, |signature| {
            self.accepts(attest, signature, public)
        });
        let by_public = |public: &[u8]| self.accepts(attest, signature, public);
        assert_eq!(accepted_lengths(public, by_public), [], "{name}: lengths");
        let uncovered = accepted_flips(public, by_public);
        // Attributes from byte 4, then the policy: the key and its scheme begin behind them. They
        // are in the Name, but a Name is seen only in a qualified name whose parent is known.
        let policy = usize::from(u16::from_be_bytes([public[8], public[9]]));
        let free = |&(place, _): &(usize, u8)| (2..10 + policy).contains(&place);
        assert!(uncovered.iter().all(free), "{name}: {uncovered:?}");
        let size = attest.len() + signature.len() + public.len();
        (8 * size + size + 3 * 192, uncovered.len())
    }
}

/// Sets of our own, for which every bit is covered.
fn own_sets() -> Vec<Set> {
    let first = ["p256", "p256-da", "p384", "rsassa", "rsapss"].map(|kind| {
        let public = read(&format!("ak-{kind}.public"));
        Set::ours(kind, public, &read(&format!("quote-{kind}")), read("pcrs"))
    });
    let child = Set {
        parent: Some(Public::parse(&read("ek-p256.public")).unwrap()),
        ..Set::ours("child", read("ak-child.public"), &read("quote-child"), read("pcrs"))
    };
    let device = |name: &str, quote: &str, public: &str| {
        let pcrs = read_device("pcrs");
        Set::ours(name, read_device(public), &read_device(quote), pcrs)
    };
    let more = ["p521", "p256-sha384", "rsassa-sha512", "rsapss-3072"]
        .map(|kind| device(kind, &format!("quote-{kind}"), &format!("ak-{kind}.public")));
    let iaks = ["p256", "p521", "rsa2048"].map(|kind| {
        let name = format!("iak {kind}");
        device(&name, &format!("iak-{kind}.quote"), &format!("iak-{kind}.public"))
    });
    let sha1 = Set {
        min_hash: HashAlgorithm::Sha1,
        ..device("sha1, allowed", "quote-sha1", "ak-sha1.public")
    };
    first.into_iter().chain([child]).chain(more).chain(iaks).chain([sha1]).collect()
}

/// Sets of other people's TPMs; of some the parent of the key is not known.
fn corpus_sets() -> Vec<Set> {
    let root = std::env::var_os("ASSAY_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("SKIPPED: no folder {}: real quotes not swept", root.display());
        return Vec::new();
    }
    let read = |file: &str| std::fs::read(root.join(file)).unwrap();
    let set = |name: &str, files: [&str; 3], nonce: Vec<u8>, parent: Option<&str>| Set {
        name: name.into(),
        attest: read(&format!("{name}/{}", files[0])),
        signature: read(&format!("{name}/{}", files[1])),
        public: Public::parse_file(&read(&format!("{name}/{}", files[2]))).unwrap().raw().to_vec(),
        parent: parent.map(|ek| Public::parse_file(&read(&format!("{name}/{ek}"))).unwrap()),
        nonce,
        pcrs: None,
        min_hash: HashAlgorithm::Sha256,
        unknown_parent: UnknownParent::Report,
    };
    let hex = |text: &str| hex::decode(text.trim()).unwrap();
    let quoted = ["quote-sha256.msg", "quote-sha256.sig", "ak.pub"];
    let mut all = vec![
        set("tpm-quote/gce-cos85-nonce", ["attest.bin", "sig.bin", "ak.tpmt"], hex("9009"), None),
        set(
            "tpm-quote/keylime-emulator",
            ["attest.bin", "sig.bin", "ak.tpm2b"],
            hex("db1db298db6d60e6385b7231743e9c3056a18003"),
            None,
        ),
    ];
    for case in ["uki-baseline", "uki-ak-rsassa", "uki-secureboot"] {
        let name = format!("qemu-ovmf-swtpm/{case}");
        let nonce = String::from_utf8(read(&format!("{name}/nonce.hex"))).unwrap();
        all.push(set(&name, quoted, hex(&nonce), Some("ek.pub")));
    }
    all
}

#[test]
fn no_other_quote_signature_or_key_is_accepted() {
    let own = own_sets();
    assert!(own.len() >= 6);
    let known: Vec<_> = own.iter().map(|set| set.name.clone()).collect();
    let mut total = 0;
    let sets: Vec<Set> = own.into_iter().chain(corpus_sets()).collect();
    let swept: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = sets.iter().map(|set| scope.spawn(|| set.sweep())).collect();
        running.into_iter().map(|sweep| sweep.join().unwrap()).collect()
    });
    for (set, (tried, uncovered)) in sets.iter().zip(swept) {
        total += tried;
        let why = match uncovered {
            0 => "",
            _ => "; the caller vouches for attributes and policy, as no parent is known",
        };
        eprintln!("{}: {tried} neighbours, 0 accepted; {uncovered} bits free{why}", set.name);
        let covered = known.contains(&set.name) || set.parent.is_some();
        assert!(!covered || uncovered == 0, "{}", set.name);
    }
    eprintln!("{total} neighbours of genuine sets in all");
}

#[test]
fn no_other_register_value_is_accepted() {
    let genuine = Shown::quote("quote-p256");
    let key = ak("p256");
    nothing_else_is_accepted("pcrs", &read("pcrs"), |pcrs| {
        let shown = Shown { pcrs: Some(pcrs.to_vec()), ..genuine.clone() };
        shown.verify(&key, &expected()).is_ok()
    });
}

#[test]
fn no_other_certification_or_certified_key_is_accepted() {
    let (genuine, key, spki) = (Shown::with_svid_key(), ak("p256"), svid_spki());
    let accepts = |shown: Shown| shown.verify(&key, &expected().certifying(&spki)).is_ok();
    nothing_else_is_accepted("certify", &read("svid.certify"), |certify| {
        accepts(Shown { certify: Some(certify.to_vec()), ..genuine.clone() })
    });
    nothing_else_is_accepted("svid public", &read("svid.public"), |public| {
        accepts(Shown { svid_public: Some(public.to_vec()), ..genuine.clone() })
    });
    nothing_else_is_accepted("svid spki", &spki, |spki| {
        genuine.verify(&key, &expected().certifying(spki)).is_ok()
    });
}

#[test]
fn no_other_nonce_is_accepted() {
    let (genuine, key) = (Shown::quote("quote-p256"), ak("p256"));
    nothing_else_is_accepted("nonce", &vectors::NONCE, |nonce| {
        let demand = assay_tpm::Expected::exchange(nonce, &SELECTION, false);
        genuine.verify(&key, &demand).is_ok()
    });
}

#[test]
fn no_other_endorsement_certificate_or_public_area_is_accepted() {
    let anchors = anchors();
    let none: [&[u8]; 0] = [];
    for kind in ["ek-p384", "ek-rsa2048"] {
        let (certificate, public) = (read(&format!("{kind}.crt")), read(&format!("{kind}.public")));
        assert_eq!(
            accepted_flips(&certificate, |certificate| {
                endorsement::verify(&[certificate], &none, &public, &anchors, NOW).is_ok()
            }),
            []
        );
        nothing_else_is_accepted(kind, &public, |public| {
            endorsement::verify(&[&certificate], &none, public, &anchors, NOW).is_ok()
        });
        // Behind a certificate only padding may stand, as NV indexes have it.
        let cut = (0..certificate.len())
            .filter(|&end| {
                let certificates = [&certificate[..end]];
                endorsement::verify(&certificates, &none, &public, &anchors, NOW).is_ok()
            })
            .count();
        assert_eq!(cut, 0);
    }
}

#[test]
fn public_areas_read_back_as_they_were_written() {
    for name in ["ak-p256", "ak-p384", "ak-rsapss", "ek-p384", "ek-rsa2048", "svid"] {
        let raw = read(&format!("{name}.public"));
        let public = Public::parse(&raw).unwrap();
        assert_eq!(Public::from_area(public.area().clone()).unwrap().raw(), raw, "{name}");
    }
}
