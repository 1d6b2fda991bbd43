//! Makes the zoo of odd endorsement certificates under `vectors/zoo` anew, byte for byte the same.
//!
//! `cargo run -p assay-tpm --example zoo -- attestors/tpm/vectors/zoo`
//!
//! For each oddity of genuine certificates there is one to accept, and a twin that looks like it
//! and must be refused. All keys come from a fixed seed and all signatures are RSA without
//! randomness, so a run gives the same bytes; EC keys are the generators of their curves, for
//! which everybody knows the private key. Nothing here may ever be trusted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

mod zoo_parts {
    pub mod der;
    pub mod rsa;
}

use zoo_parts::der;
use zoo_parts::der::bits;
use zoo_parts::der::boolean;
use zoo_parts::der::generalized_time;
use zoo_parts::der::integer;
use zoo_parts::der::octets;
use zoo_parts::der::oid;
use zoo_parts::der::printable;
use zoo_parts::der::sequence;
use zoo_parts::der::set;
use zoo_parts::der::tlv;
use zoo_parts::der::utc_time;
use zoo_parts::der::utf8;
use zoo_parts::rsa::Hash;
use zoo_parts::rsa::RsaKey;

/// A certificate before it is signed, each field open to change.
#[derive(Clone)]
struct Certificate {
    version: Vec<u8>,
    /// Contents of the INTEGER.
    serial: Vec<u8>,
    scheme: Scheme,
    /// The algorithm outside, where it is not the one inside.
    outer: Option<Vec<u8>>,
    issuer: Vec<u8>,
    from: Vec<u8>,
    to: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    extensions: Vec<Extension>,
    unused_bits: u8,
    /// The length of the signature in a byte more than need be.
    long_signature: bool,
}

#[derive(Clone)]
struct Extension {
    oid: &'static [u64],
    /// Nothing is the default, FALSE.
    critical: Option<bool>,
    value: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Scheme {
    Pkcs1(Hash),
    Pss(Hash, usize),
    /// The name of MD5 over a signature of SHA-256, for the name alone decides.
    Md5,
}

impl Scheme {
    fn identifier(self) -> Vec<u8> {
        let null = tlv(5, &[]);
        match self {
            Scheme::Pkcs1(hash) => sequence(&[&oid(hash.pkcs1()), &null]),
            Scheme::Md5 => sequence(&[&oid(&[1, 2, 840, 113_549, 1, 1, 4]), &null]),
            Scheme::Pss(hash, salt) => {
                let digest = sequence(&[&oid(hash.oid()), &null]);
                let mask = sequence(&[&oid(&[1, 2, 840, 113_549, 1, 1, 8]), &digest]);
                let salt = u8::try_from(salt).unwrap();
                let parameters = sequence(&[
                    &tlv(0xa0, &[&digest]),
                    &tlv(0xa1, &[&mask]),
                    &tlv(0xa2, &[&integer(&[salt])]),
                ]);
                sequence(&[&oid(&[1, 2, 840, 113_549, 1, 1, 10]), &parameters])
            }
        }
    }

    fn sign(self, key: &RsaKey, message: &[u8]) -> Vec<u8> {
        match self {
            Scheme::Pkcs1(hash) => key.sign(hash, message),
            Scheme::Md5 => key.sign(Hash::Sha256, message),
            Scheme::Pss(hash, salt) => key.sign_pss(hash, message, salt),
        }
    }
}

impl Certificate {
    fn signed_by(&self, key: &RsaKey) -> Vec<u8> {
        let extensions = match self.extensions.as_slice() {
            [] => vec![],
            some => {
                let all: Vec<u8> = some.iter().flat_map(Extension::der).collect();
                tlv(0xa3, &[&sequence(&[&all])])
            }
        };
        let tbs = sequence(&[
            &self.version,
            &tlv(2, &[&self.serial]),
            &self.scheme.identifier(),
            &self.issuer,
            &sequence(&[&self.from, &self.to]),
            &self.subject,
            &self.spki,
            &extensions,
        ]);
        let signature = self.scheme.sign(key, &tbs);
        let outer = self.outer.clone().unwrap_or_else(|| self.scheme.identifier());
        let bits = bits(self.unused_bits, &signature);
        sequence(&[&tbs, &outer, &if self.long_signature { der::longer(&bits) } else { bits }])
    }

    fn extension(&mut self, oid: &'static [u64]) -> &mut Extension {
        self.extensions.iter_mut().find(|extension| extension.oid == oid).unwrap()
    }

    fn without(&mut self, oid: &'static [u64]) {
        self.extensions.retain(|extension| extension.oid != oid);
    }

    fn add(&mut self, oid: &'static [u64], critical: bool, value: Vec<u8>) {
        self.extensions.push(Extension { oid, critical: critical.then_some(true), value });
    }
}

impl Extension {
    fn der(&self) -> Vec<u8> {
        let critical = self.critical.map(boolean).unwrap_or_default();
        sequence(&[&oid(self.oid), &critical, &octets(&self.value)])
    }
}

/// The keys of the zoo, and the certificates above its inhabitants.
struct Keys {
    root: RsaKey,
    issuer: RsaKey,
    endorsement: RsaKey,
    small: RsaKey,
    roca: RsaKey,
}

/// What one case consists of; the file names follow from its name.
#[derive(Clone)]
struct Case {
    name: &'static str,
    expected: &'static str,
    why: &'static str,
    file: Vec<u8>,
    /// Instead of the usual one; the leaf's issuer first.
    issuers: Option<Vec<Vec<u8>>>,
    root: Option<Vec<u8>>,
    list: Option<Vec<u8>>,
}

impl Case {
    fn new(name: &'static str, expected: &'static str, why: &'static str, file: Vec<u8>) -> Case {
        Case { name, expected, why, file, issuers: None, root: None, list: None }
    }

    fn below(mut self, issuers: &[Vec<u8>]) -> Case {
        self.issuers = Some(issuers.to_vec());
        self
    }
}

fn name(text: &str) -> Vec<u8> {
    let organisation = attribute(&[2, 5, 4, 10], &utf8("Zoo"));
    let common_name = attribute(&[2, 5, 4, 3], &utf8(text));
    sequence(&[&set(&[&organisation]), &set(&[&common_name])])
}

fn attribute(kind: &[u64], value: &[u8]) -> Vec<u8> {
    sequence(&[&oid(kind), value])
}

/// directoryName of a TPM (TCG EK Credential Profile 2.5, §3.1.2).
fn device(manufacturer: &str) -> Vec<u8> {
    let of = |last: u64, text: &str| set(&[&attribute(&[2, 23, 133, 2, last], &utf8(text))]);
    sequence(&[&of(1, manufacturer), &of(2, "Zoo TPM"), &of(3, "id:00010002")])
}

fn directory(name: &[u8]) -> Vec<u8> {
    tlv(0xa4, &[name])
}

fn dns(name: &str) -> Vec<u8> {
    tlv(0x82, &[name.as_bytes()])
}

fn key_usage(bit: u8) -> Vec<u8> {
    bits(7 - bit, &[0x80 >> bit])
}

fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let trees = |tag, names: &[Vec<u8>]| match names {
        [] => vec![],
        some => {
            let all: Vec<u8> = some.iter().flat_map(|base| sequence(&[base])).collect();
            tlv(tag, &[&all])
        }
    };
    sequence(&[&trees(0xa0, permitted), &trees(0xa1, excluded)])
}

fn ca(subject: &str, issuer: &str, key: &RsaKey) -> Certificate {
    Certificate {
        version: tlv(0xa0, &[&integer(&[2])]),
        serial: vec![1],
        scheme: Scheme::Pkcs1(Hash::Sha256),
        outer: None,
        issuer: name(issuer),
        from: utc_time("200101000000Z"),
        to: generalized_time("99991231235959Z"),
        subject: name(subject),
        spki: key.spki(RSA_ENCRYPTION),
        extensions: vec![
            Extension {
                oid: BASIC_CONSTRAINTS,
                critical: Some(true),
                value: sequence(&[&boolean(true)]),
            },
            // keyCertSign and cRLSign
            Extension { oid: KEY_USAGE, critical: Some(true), value: bits(1, &[0x06]) },
        ],
        unused_bits: 0,
        long_signature: false,
    }
}

/// What a vendor issues: an RSA endorsement key, empty subject, the device in the alternative name.
fn endorsement(key: &RsaKey) -> Certificate {
    Certificate {
        serial: vec![0x12, 0x34],
        subject: sequence(&[]),
        from: utc_time("250101000000Z"),
        to: utc_time("350101000000Z"),
        spki: key.spki(RSA_ENCRYPTION),
        extensions: vec![
            Extension {
                oid: ALTERNATIVE_NAME,
                critical: Some(true),
                value: sequence(&[&directory(&device("id:5A4F4F00"))]),
            },
            Extension { oid: BASIC_CONSTRAINTS, critical: Some(true), value: sequence(&[]) },
            Extension { oid: KEY_USAGE, critical: Some(true), value: key_usage(2) },
            Extension {
                oid: EXTENDED_KEY_USAGE,
                critical: None,
                value: sequence(&[&oid(EK_CERTIFICATE)]),
            },
        ],
        ..ca("", "Zoo issuer", key)
    }
}

fn ec_spki(curve: &[u64], point: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[&oid(&[1, 2, 840, 10_045, 2, 1]), &oid(curve)]);
    sequence(&[&algorithm, &bits(0, point)])
}

fn main() {
    let out = PathBuf::from(std::env::args().nth(1).expect("a folder to write to"));
    fs::create_dir_all(&out).unwrap();
    for (name, bytes) in files() {
        fs::write(out.join(name), bytes).unwrap();
    }
}

/// All files of the zoo by their names.
pub fn files() -> BTreeMap<String, Vec<u8>> {
    let keys = Keys {
        root: RsaKey::generate("root", 2048),
        issuer: RsaKey::generate("issuer", 2048),
        endorsement: RsaKey::generate("endorsement", 2048),
        small: RsaKey::generate("small", 1024),
        roca: RsaKey::generate_flawed("roca"),
    };
    let mut files = BTreeMap::new();
    let root = ca("Zoo root", "Zoo root", &keys.root).signed_by(&keys.root);
    let issuer = ca("Zoo issuer", "Zoo root", &keys.issuer).signed_by(&keys.root);
    files.extend([("root.der".to_owned(), root), ("issuer.der".to_owned(), issuer)]);
    let mut table = String::from("# name\texpected\twhy\n");
    for case in cases(&keys) {
        table += &format!("{}\t{}\t{}\n", case.name, case.expected, case.why);
        files.insert(format!("{}.ek", case.name), case.file);
        for (index, issuer) in case.issuers.into_iter().flatten().enumerate() {
            files.insert(format!("{}.issuer-{}", case.name, index + 1), issuer);
        }
        files.extend(case.root.map(|root| (format!("{}.root", case.name), root)));
        files.extend(case.list.map(|list| (format!("{}.crl", case.name), list)));
    }
    files.insert("cases.tsv".into(), table.into_bytes());
    files
}

fn cases(keys: &Keys) -> Vec<Case> {
    [shapes(keys), extensions(keys), issuers(keys), weak_keys(keys), dates_and_lists(keys)].concat()
}

/// A case of one changed field of the usual certificate.
fn changed(
    keys: &Keys,
    name: &'static str,
    expected: &'static str,
    why: &'static str,
    change: impl FnOnce(&mut Certificate),
) -> Case {
    let mut certificate = endorsement(&keys.endorsement);
    change(&mut certificate);
    Case::new(name, expected, why, certificate.signed_by(&keys.issuer))
}

fn shapes(keys: &Keys) -> Vec<Case> {
    let plain = endorsement(&keys.endorsement).signed_by(&keys.issuer);
    let length = u16::try_from(plain.len()).unwrap();
    let header = |kind: u8, length: u16, long: bool| {
        let head = [&[0x10, 0x01, kind][..], &length.to_be_bytes()].concat();
        if long { [&head[..], &[0x10, 0x02]].concat() } else { head }
    };
    let around = |name, expected, why, before: &[u8], after: &[u8]| {
        Case::new(name, expected, why, [before, &plain, after].concat())
    };
    let changed = |name, expected, why, change: &dyn Fn(&mut Certificate)| {
        changed(keys, name, expected, why, change)
    };
    let set_of = |order: [usize; 3]| {
        let parts = [
            attribute(&[2, 5, 4, 6], &printable("AQ")),
            attribute(&[2, 5, 4, 10], &utf8("Zoo")),
            attribute(&[2, 5, 4, 3], &utf8("Unordered")),
        ];
        sequence(&[&set(&order.map(|index| parts[index].as_slice()))])
    };
    let unordered = {
        let mut issuer = ca("", "Zoo root", &keys.issuer);
        issuer.subject = set_of([2, 0, 1]);
        issuer.signed_by(&keys.root)
    };
    vec![
        around("plain", GENUINE, "as the profile has it", &[], &[]),
        around("padding-00", GENUINE, "an index larger than the certificate", &[], &[0; 40]),
        around("padding-ff", GENUINE, "an index that was never written whole", &[], &[0xff; 40]),
        around("padding-mixed", MALFORMED, "padding of two kinds", &[], &[0, 0, 0xff]),
        around("padding-other", MALFORMED, "a byte that is no padding", &[], &[0xff, 0x01]),
        around("two-certificates", MALFORMED, "a second certificate behind", &[], &plain),
        around("header", GENUINE, "the header of an index", &header(0, length, false), &[]),
        around(
            "header-padding",
            GENUINE,
            "a header that counts the padding too",
            &header(0, length + 7, false),
            &[0; 7],
        ),
        around(
            "header-long",
            GENUINE,
            "the long header, which counts its own end",
            &header(0, length + 2, true),
            &[0xff; 3],
        ),
        around(
            "header-length",
            MALFORMED,
            "a header that counts wrong",
            &header(0, length - 1, false),
            &[],
        ),
        around(
            "header-long-length",
            MALFORMED,
            "the long header without its own end counted",
            &header(0, length, true),
            &[],
        ),
        around(
            "header-partial",
            MALFORMED,
            "the header of a partial certificate",
            &header(1, length, false),
            &[],
        ),
        changed("serial-negative", GENUINE, "a negative serial number", &|c| c.serial = vec![0xfe]),
        changed("serial-zero", GENUINE, "serial number 0", &|c| c.serial = vec![0]),
        changed("serial-padded", GENUINE, "serial number `00 01`", &|c| c.serial = vec![0, 1]),
        changed("serial-long", GENUINE, "22 bytes of serial", &|c| c.serial = vec![0x5a; 22]),
        changed("serial-empty", MALFORMED, "a serial number of no byte", &|c| c.serial = vec![]),
        changed("oaep-key", GENUINE, "the key as RSAES-OAEP", &|c| {
            c.spki = keys.endorsement.spki(RSAES_OAEP);
        }),
        changed("key-unused-bits", MALFORMED, "unused bits in the key", &|c| {
            let last = c.spki.iter().rposition(|_| true).unwrap();
            let place = der::place_of_unused_bits(&c.spki).unwrap();
            (c.spki[place], c.spki[last]) = (1, c.spki[last] & 0xfe);
        }),
        changed("signature-unused-bits", MALFORMED, "unused bits in the signature", &|c| {
            c.unused_bits = 1;
        }),
        Case::new("length-long", MALFORMED, "its length in a byte too many", der::longer(&plain)),
        {
            let mut longer = endorsement(&keys.endorsement);
            longer.long_signature = true;
            let file = longer.signed_by(&keys.issuer);
            Case::new("length-long-signature", MALFORMED, "that of the signature", file)
        },
        changed("algorithm-outside", MALFORMED, "two algorithms named", &|c| {
            c.outer = Some(Scheme::Pkcs1(Hash::Sha384).identifier());
        }),
        changed("unordered-set", GENUINE, "an issuer whose name is one unordered set", &|c| {
            c.issuer = set_of([2, 0, 1]);
        })
        .below(std::slice::from_ref(&unordered)),
        changed("reordered-set", GENUINE, "the same set in another order", &|c| {
            c.issuer = set_of([0, 1, 2]);
        })
        .below(std::slice::from_ref(&unordered)),
        changed("other-set", UNTRUSTED, "a set with one member twice", &|c| {
            c.issuer = set_of([0, 1, 1]);
        })
        .below(&[unordered]),
        changed("version-1", PROFILE, "version 1, which has no extensions", &|c| {
            c.version = vec![];
            c.extensions = vec![];
        }),
        changed("extension-twice", MALFORMED, "an extension that is there twice", &|c| {
            let first = c.extensions[0].clone();
            c.extensions.push(first);
        }),
    ]
}

fn extensions(keys: &Keys) -> Vec<Case> {
    let changed = |name, expected, why, change: &dyn Fn(&mut Certificate)| {
        changed(keys, name, expected, why, change)
    };
    let ec = |change: &mut Certificate, usage: u8| {
        change.spki = ec_spki(P256, &der::hex(P256_G));
        change.extension(KEY_USAGE).value = key_usage(usage);
    };
    vec![
        changed("explicit-false", GENUINE, "defaults that are written out", &|c| {
            c.extension(BASIC_CONSTRAINTS).value = sequence(&[&boolean(false)]);
            c.extension(EXTENDED_KEY_USAGE).critical = Some(false);
        }),
        changed("leaf-is-ca", PROFILE, "an endorsement certificate that may certify", &|c| {
            c.extension(BASIC_CONSTRAINTS).value = sequence(&[&boolean(true)]);
        }),
        changed("alternative-name-not-critical", GENUINE, "beside an empty subject", &|c| {
            c.extension(ALTERNATIVE_NAME).critical = None;
        }),
        changed("alternative-name-behind", CRITICAL, "more names behind the names", &|c| {
            let names = c.extension(ALTERNATIVE_NAME);
            names.value.extend(sequence(&[&dns("tpm.example.org")]));
        }),
        changed("critical-policies", GENUINE, "critical certificatePolicies", &|c| {
            c.add(&[2, 5, 29, 32], true, sequence(&[&sequence(&[&oid(&[2, 5, 29, 32, 0])])]));
        }),
        changed("critical-attributes", GENUINE, "critical subjectDirectoryAttributes", &|c| {
            let version = attribute(&[2, 23, 133, 2, 16], &set(&[&sequence(&[])]));
            c.add(&[2, 5, 29, 9], true, sequence(&[&version]));
        }),
        changed("critical-usage", GENUINE, "critical extKeyUsage", &|c| {
            c.extension(EXTENDED_KEY_USAGE).critical = Some(true);
        }),
        changed("critical-unknown", CRITICAL, "a critical extension that nobody knows", &|c| {
            c.add(&[1, 3, 6, 1, 4, 1, 99_999, 1], true, tlv(5, &[]));
        }),
        changed("unknown", GENUINE, "the same, not critical", &|c| {
            c.add(&[1, 3, 6, 1, 4, 1, 99_999, 1], false, tlv(5, &[]));
        }),
        changed(
            "issuer-address",
            GENUINE,
            "an address inside the network, which nobody asks",
            &|c| {
                let address = tlv(0x86, &[b"http://169.254.169.254/latest"]);
                let issuers = sequence(&[&oid(&[1, 3, 6, 1, 5, 5, 7, 48, 2]), &address]);
                c.add(&[1, 3, 6, 1, 5, 5, 7, 1, 1], false, sequence(&[&issuers]));
            },
        ),
        changed("critical-key-identifier", CRITICAL, "critical where none may be", &|c| {
            c.add(&[2, 5, 29, 14], true, octets(&[1; 20]));
        }),
        changed("critical-policy-constraints", CRITICAL, "critical and not evaluated", &|c| {
            c.add(&[2, 5, 29, 36], true, sequence(&[&tlv(0x80, &[&[0]])]));
        }),
        changed("usage-unreadable", CRITICAL, "a key usage that cannot be read", &|c| {
            *c.extension(KEY_USAGE) =
                Extension { oid: KEY_USAGE, critical: None, value: vec![0x30, 0x01] };
        }),
        changed("no-key-usage", GENUINE, "genuine certificates without one exist", &|c| {
            c.without(KEY_USAGE);
        }),
        changed("signs-only", PROFILE, "key usage digitalSignature alone", &|c| {
            c.extension(KEY_USAGE).value = key_usage(0);
        }),
        changed("ec-agrees", GENUINE, "an EC key with keyAgreement", &|c| ec(c, 4)),
        changed("ec-enciphers", PROFILE, "an EC key with keyEncipherment", &|c| ec(c, 2)),
        changed("usage-among-others", GENUINE, "extKeyUsage with others beside", &|c| {
            let client = oid(&[1, 3, 6, 1, 5, 5, 7, 3, 2]);
            c.extension(EXTENDED_KEY_USAGE).value = sequence(&[&client, &oid(EK_CERTIFICATE)]);
        }),
        changed("usage-of-attestation-key", PROFILE, "tcg-kp-AIKCertificate", &|c| {
            c.extension(EXTENDED_KEY_USAGE).value = sequence(&[&oid(&[2, 23, 133, 8, 3])]);
        }),
        changed("usage-any", PROFILE, "anyExtendedKeyUsage is not said of a TPM", &|c| {
            c.extension(EXTENDED_KEY_USAGE).value = sequence(&[&oid(&[2, 5, 29, 37, 0])]);
        }),
        changed("no-usage", GENUINE, "no extKeyUsage, but the name of a TPM", &|c| {
            c.without(EXTENDED_KEY_USAGE);
        }),
        changed("no-usage-no-device", PROFILE, "neither usage nor device", &|c| {
            c.without(EXTENDED_KEY_USAGE);
            c.without(ALTERNATIVE_NAME);
        }),
    ]
}

fn issuers(keys: &Keys) -> Vec<Case> {
    let plain = endorsement(&keys.endorsement);
    let below = |name, expected, why, change: &dyn Fn(&mut Certificate)| {
        let mut issuer = ca("Zoo issuer", "Zoo root", &keys.issuer);
        change(&mut issuer);
        Case::new(name, expected, why, plain.signed_by(&keys.issuer))
            .below(&[issuer.signed_by(&keys.root)])
    };
    let signed =
        |name, expected, why, scheme| changed(keys, name, expected, why, |c| c.scheme = scheme);
    let constrained = |name, expected, why, permitted: &[Vec<u8>], excluded: &[Vec<u8>]| {
        below(name, expected, why, &|c| {
            c.add(NAME_CONSTRAINTS, true, constraints(permitted, excluded));
        })
    };
    let maker = |text: &str| {
        let attribute = attribute(&[2, 23, 133, 2, 1], &printable(text));
        directory(&sequence(&[&set(&[&attribute])]))
    };
    // A sub-CA below an issuer that allows none, or just one.
    let deep = |name, expected, why, limit: u8| {
        let mut upper = ca("Zoo upper", "Zoo root", &keys.issuer);
        upper.extension(BASIC_CONSTRAINTS).value = sequence(&[&boolean(true), &integer(&[limit])]);
        let lower = ca("Zoo issuer", "Zoo upper", &keys.issuer).signed_by(&keys.issuer);
        Case::new(name, expected, why, plain.signed_by(&keys.issuer))
            .below(&[lower, upper.signed_by(&keys.root)])
    };
    let mut named_dns = plain.clone();
    named_dns.extension(ALTERNATIVE_NAME).value =
        sequence(&[&directory(&device("id:5A4F4F00")), &dns("tpm.example.org")]);
    let mut form = constrained(
        "constraint-form",
        NAME,
        "a form that is not evaluated",
        &[dns("example.org")],
        &[],
    );
    form.file = named_dns.signed_by(&keys.issuer);
    let mut free_of_form = constrained(
        "constraint-other-form",
        GENUINE,
        "of a form it lacks",
        &[dns("example.org")],
        &[],
    );
    free_of_form.file = plain.signed_by(&keys.issuer);
    let mut unreadable_name = constrained(
        "constraint-unreadable-name",
        NAME,
        "a name that may be of any form",
        &[],
        &[dns("example.org")],
    );
    let mut named_in_no_text = plain.clone();
    named_in_no_text.extension(ALTERNATIVE_NAME).value =
        sequence(&[&directory(&device("id:5A4F4F00")), &tlv(0x82, &[b"tpm.example.org\xff"])]);
    unreadable_name.file = named_in_no_text.signed_by(&keys.issuer);
    // What excludes the maker, behind a list of permitted subtrees that cannot be understood.
    let half = |name, why, trees: &[u8]| {
        let excluded = constraints(&[], &[maker("id:5A4F4F00")]);
        let value = sequence(&[&tlv(0xa0, &[trees]), &excluded[2..]]);
        below(name, CRITICAL, why, &|c| c.add(NAME_CONSTRAINTS, true, value.clone()))
    };

    let mut small_root = ca("Zoo root", "Zoo root", &keys.small);
    small_root.to = utc_time("210101000000Z");
    small_root.version = vec![];
    small_root.extensions = vec![];
    let mut weak_root = Case::new(
        "weak-root",
        GENUINE,
        "a root of 1024 bits, version 1, out of date: a name and a key",
        plain.signed_by(&keys.issuer),
    )
    .below(&[ca("Zoo issuer", "Zoo root", &keys.issuer).signed_by(&keys.small)]);
    weak_root.root = Some(small_root.signed_by(&keys.small));

    let mut own = plain.clone();
    own.issuer = name("Somebody");
    let mut roca_issuer = Case::new(
        "roca-issuer",
        ROCA,
        "an issuer whose key can be factored",
        plain.signed_by(&keys.roca),
    );
    roca_issuer.issuers =
        Some(vec![ca("Zoo issuer", "Zoo root", &keys.roca).signed_by(&keys.root)]);
    let small_issuer =
        Case::new("small-issuer", KEY_WEAK, "an issuer of 1024 bits", plain.signed_by(&keys.small))
            .below(&[ca("Zoo issuer", "Zoo root", &keys.small).signed_by(&keys.root)]);

    vec![
        Case::new("forged", INVALID, "signed by another key", plain.signed_by(&keys.root)),
        Case::new("self-signed", UNTRUSTED, "of nobody's", own.signed_by(&keys.endorsement)),
        signed("sha1", GENUINE_WEAK, "an old vendor CA", Scheme::Pkcs1(Hash::Sha1)),
        signed("md5", SIGNATURE_WEAK, "too old a vendor CA", Scheme::Md5),
        signed("sha384", GENUINE, "another hash", Scheme::Pkcs1(Hash::Sha384)),
        signed("pss", GENUINE, "RSASSA-PSS with all said", Scheme::Pss(Hash::Sha256, 32)),
        signed("pss-salt", INVALID, "a salt of another length", Scheme::Pss(Hash::Sha256, 20)),
        below("issuer-plain", GENUINE, "the usual issuer, given beside", &|_| ()),
        below("issuer-not-ca", INVALID, "an issuer that is no CA", &|c| {
            c.extension(BASIC_CONSTRAINTS).value = sequence(&[]);
        }),
        below("issuer-version-1", INVALID, "an issuer that says nothing", &|c| {
            c.version = vec![];
            c.extensions = vec![];
        }),
        below("issuer-no-usage", GENUINE, "an issuer without key usage", &|c| {
            c.without(KEY_USAGE);
        }),
        below("issuer-signs-data", INVALID, "an issuer that may not certify", &|c| {
            c.extension(KEY_USAGE).value = key_usage(0);
        }),
        below("issuer-critical-policies", GENUINE, "as 21 vendor CAs have them", &|c| {
            c.add(&[2, 5, 29, 32], true, sequence(&[&sequence(&[&oid(&[2, 5, 29, 32, 0])])]));
        }),
        below("issuer-critical-unknown", CRITICAL, "what nobody knows, above", &|c| {
            c.add(&[1, 3, 6, 1, 4, 1, 99_999, 1], true, tlv(5, &[]));
        }),
        below("issuer-printable", GENUINE, "its name in another string type", &|c| {
            let organisation = attribute(&[2, 5, 4, 10], &printable("Zoo"));
            let common_name = attribute(&[2, 5, 4, 3], &printable("Zoo issuer"));
            c.subject = sequence(&[&set(&[&organisation]), &set(&[&common_name])]);
        }),
        deep("path-length-exact", GENUINE, "one CA below a limit of one", 1),
        deep("path-length-exceeded", INVALID, "one CA below a limit of none", 0),
        constrained(
            "constraint-kept",
            GENUINE,
            "a device of the permitted maker",
            &[maker("ID:5a4f4f00")],
            &[],
        ),
        constrained(
            "constraint-broken",
            NAME,
            "a device of another maker",
            &[maker("id:49465800")],
            &[],
        ),
        constrained(
            "constraint-not-excluded",
            GENUINE,
            "another maker is excluded",
            &[],
            &[maker("id:49465800")],
        ),
        constrained(
            "constraint-excluded",
            NAME,
            "the maker is excluded",
            &[],
            &[maker("id:5A4F4F00")],
        ),
        form,
        free_of_form,
        below("constraint-unreadable", CRITICAL, "a constraint behind the readable ones", &|c| {
            let whole = constraints(&[], &[maker("id:49465800")]);
            let behind = constraints(&[maker("id:49465800")], &[]);
            c.add(NAME_CONSTRAINTS, false, sequence(&[&whole[2..], &behind[2..]]));
        }),
        half("constraint-behind-none", "a list of no subtree", &[]),
        half("constraint-behind-set", "a subtree that is a set", &set(&[&maker("id:5A4F4F00")])),
        half("constraint-behind-text", "a base that is no name", &sequence(&[&utf8("Zoo")])),
        unreadable_name,
        weak_root,
        roca_issuer,
        small_issuer,
    ]
}

fn weak_keys(keys: &Keys) -> Vec<Case> {
    let of =
        |name, expected, why, spki: Vec<u8>| changed(keys, name, expected, why, |c| c.spki = spki);
    let ec = |name, expected, why, curve: &[u64], point: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut point = der::hex(point);
        change(&mut point);
        changed(keys, name, expected, why, |c| {
            c.spki = ec_spki(curve, &point);
            c.extension(KEY_USAGE).value = key_usage(4);
        })
    };
    let same = |_: &mut Vec<u8>| ();
    vec![
        of("roca", ROCA, "CVE-2017-15361", keys.roca.spki(RSA_ENCRYPTION)),
        of("rsa-1024", KEY_WEAK, "too short", keys.small.spki(RSA_ENCRYPTION)),
        of("exponent-3", KEY_WEAK, "too small an exponent", keys.endorsement.spki_with(3)),
        of("exponent-1", KEY_WEAK, "no encryption at all", keys.endorsement.spki_with(1)),
        of("exponent-even", KEY_WEAK, "no exponent of RSA", keys.endorsement.spki_with(65_538)),
        of("modulus-even", KEY_WEAK, "no modulus of RSA", keys.endorsement.even_spki()),
        ec("p256", GENUINE, "the generator as key", P256, P256_G, &same),
        ec("p384", GENUINE, "the generator as key", P384, P384_G, &same),
        ec("p521", GENUINE, "the generator as key", P521, P521_G, &same),
        ec("off-curve", KEY_WEAK, "a point beside its curve", P256, P256_G, &|p| p[64] ^= 1),
        ec("zero-point", KEY_WEAK, "no point at all", P256, P256_G, &|p| p[1..].fill(0)),
        ec("compressed", KEY_WEAK, "half a point", P256, P256_G, &|p| {
            p.truncate(33);
            p[0] = 3;
        }),
        ec("unknown-curve", KEY_WEAK, "secp256k1", &[1, 3, 132, 0, 10], K256_G, &same),
    ]
}

fn dates_and_lists(keys: &Keys) -> Vec<Case> {
    let dated = |name, expected, why, from: &str, to: &str| {
        changed(keys, name, expected, why, |c| {
            (c.from, c.to) = (utc_time(from), utc_time(to));
        })
    };
    let listed = |name, expected, why, serials: &[u8], span: [&str; 2], of: &str, by: &RsaKey| {
        let mut case = changed(keys, name, expected, why, |c| c.serial = vec![7]);
        case.list = Some(revocation_list(serials, span, of, by));
        case
    };
    let now = ["260501000000Z", "260701000000Z"];
    let (issuer, root) = (&keys.issuer, &keys.root);
    let mut old_issuer = changed(keys, "issuer-expired", EXPIRED, "the CA ran out", |_| ());
    let mut old = ca("Zoo issuer", "Zoo root", &keys.issuer);
    old.to = utc_time("251231235959Z");
    old_issuer.issuers = Some(vec![old.signed_by(&keys.root)]);
    // Issued by the root itself, which was certified anew: an issuer is a name and a key.
    let below_root = |name, expected, why, serials: &[u8]| {
        let mut leaf = endorsement(&keys.endorsement);
        (leaf.serial, leaf.issuer) = (vec![7], self::name("Zoo root"));
        let mut second = ca("Zoo root", "Zoo root", root);
        second.serial = vec![2];
        let mut case =
            Case::new(name, expected, why, leaf.signed_by(root)).below(&[second.signed_by(root)]);
        case.list = Some(revocation_list(serials, now, "Zoo root", root));
        case
    };
    vec![
        dated("last-second", GENUINE, "both ends are inside", "250101000000Z", "260601000000Z"),
        dated("first-second", GENUINE, "both ends are inside", "260601000000Z", "270101000000Z"),
        dated("expired", EXPIRED, "one second late", "250101000000Z", "260531235959Z"),
        dated("not-yet", EXPIRED, "one second early", "260601000001Z", "270101000000Z"),
        changed(keys, "year-9999", GENUINE, "no end that matters", |c| {
            c.to = generalized_time("99991231235959Z");
        }),
        old_issuer,
        listed("on-no-list", GENUINE, "another one is revoked", &[6], now, "Zoo issuer", issuer),
        listed("revoked", REVOKED, "its serial is listed", &[6, 7], now, "Zoo issuer", issuer),
        below_root("on-no-list-of-root", GENUINE, "the root's list names another", &[6]),
        below_root("revoked-by-root", REVOKED, "also below the root's second certificate", &[7]),
        listed(
            "list-stale",
            STALE,
            "a list of last year",
            &[],
            ["250501000000Z", "250701000000Z"],
            "Zoo issuer",
            issuer,
        ),
        listed("list-forged", LIST, "a list signed by another", &[], now, "Zoo issuer", root),
        listed("list-foreign", LIST, "a list of nobody here", &[], now, "Somebody", issuer),
    ]
}

fn revocation_list(serials: &[u8], span: [&str; 2], issuer: &str, key: &RsaKey) -> Vec<u8> {
    let algorithm = Scheme::Pkcs1(Hash::Sha256).identifier();
    let entries: Vec<u8> = serials
        .iter()
        .flat_map(|&serial| sequence(&[&integer(&[serial]), &utc_time(span[0])]))
        .collect();
    let entries = if entries.is_empty() { vec![] } else { sequence(&[&entries]) };
    let tbs = sequence(&[
        &integer(&[1]),
        &algorithm,
        &name(issuer),
        &utc_time(span[0]),
        &utc_time(span[1]),
        &entries,
    ]);
    let signature = key.sign(Hash::Sha256, &tbs);
    sequence(&[&tbs, &algorithm, &bits(0, &signature)])
}

const GENUINE: &str = "genuine";
const GENUINE_WEAK: &str = "genuine cert-signature-weak";
const MALFORMED: &str = "ek-cert-malformed";
const PROFILE: &str = "ek-profile";
const UNTRUSTED: &str = "ek-chain-untrusted";
const INVALID: &str = "ek-chain-invalid";
const CRITICAL: &str = "ek-critical-ext";
const NAME: &str = "ek-name-constraint";
const EXPIRED: &str = "ek-expired";
const REVOKED: &str = "ek-revoked";
const STALE: &str = "crl-stale";
const LIST: &str = "crl-invalid";
const SIGNATURE_WEAK: &str = "cert-signature-weak";
const KEY_WEAK: &str = "key-weak";
const ROCA: &str = "key-roca";

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const EK_CERTIFICATE: &[u64] = &[2, 23, 133, 8, 1];
const RSA_ENCRYPTION: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
const RSAES_OAEP: &[u64] = &[1, 2, 840, 113_549, 1, 1, 7];
const P256: &[u64] = &[1, 2, 840, 10_045, 3, 1, 7];
const P384: &[u64] = &[1, 3, 132, 0, 34];
const P521: &[u64] = &[1, 3, 132, 0, 35];

/// Generators, SEC 2 §2.4 to §2.6, uncompressed.
const P256_G: &str = "04\
    6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
    4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
const P384_G: &str = "04\
    aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b98\
    59f741e082542a385502f25dbf55296c3a545e3872760ab7\
    3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147c\
    e9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f";
const P521_G: &str = "04\
    00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d\
    3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66\
    011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e\
    662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650";
const K256_G: &str = "04\
    79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
    483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
