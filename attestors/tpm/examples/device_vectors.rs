//! Makes the vectors under `vectors/device` anew, on a real software TPM with all banks on: keys
//! that a maker leaves in a device with certificates by a CA of our own, what they certify, and
//! quotes by keys that few TPMs have.
//!
//! `cargo run -p assay-tpm --example device_vectors -- attestors/tpm/vectors/device`

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_swtpm::Bank;
use assay_tpm::Hierarchy;
use assay_tpm::PcrSelection;
use assay_tpm::idevid::Kind;
use assay_tpm::structures::public::Shape;
use assay_tpm::structures::signature::SigningScheme;

#[path = "../tests/support/issuer.rs"]
mod issuer;
#[path = "../tests/support/machine.rs"]
mod machine;

use issuer::Extension;
use issuer::Issuer;
use machine::Machine;
use machine::ak_template;
use machine::assay_ak;

fn main() {
    let out = PathBuf::from(std::env::args().nth(1).expect("a folder to write to"));
    fs::create_dir_all(&out).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let banks = [Bank::Sha1, Bank::Sha256, Bank::Sha384, Bank::Sha512];
    let machine = Machine::start(folder.path(), &banks).expect("swtpm");
    let endorsement = Hierarchy::Endorsement;
    machine.tpm.pcr_extend(0, b"firmware").unwrap();
    machine.tpm.pcr_extend(8, b"kernel command line").unwrap();
    write("pcrs", &machine.pcr_values(&SELECTION));

    let empty = |curve| PublicKey::ec(curve, &[], &[]).unwrap();
    let modulus = |size| PublicKey::Rsa { modulus: vec![0xff; size], exponent: 65_537 };
    let (sha384, sha512) = (HashAlgorithm::Sha384, HashAlgorithm::Sha512);
    let keys = [
        ("p256", assay_ak()),
        ("p521", ak_template(0x0005_0472, SigningScheme::Ecdsa(sha512), empty(Curve::P521))),
        ("p256-sha384", ak_template(0x0005_0472, SigningScheme::Ecdsa(sha384), empty(Curve::P256))),
        ("rsassa-sha512", ak_template(0x0005_0472, SigningScheme::Rsassa(sha512), modulus(256))),
        ("rsapss-3072", ak_template(0x0005_0472, SigningScheme::Rsapss(sha384), modulus(384))),
        (
            "sha1",
            ak_template(0x0005_0472, SigningScheme::Ecdsa(HashAlgorithm::Sha1), empty(Curve::P256)),
        ),
    ];
    for (name, template) in keys {
        let ak = machine.create_primary(endorsement, &template);
        write(&format!("ak-{name}.public"), ak.public.raw());
        write(&format!("quote-{name}"), &machine.quote(&ak, &NONCE, &SELECTION));
        machine.flush(ak.handle);
    }

    let maker = Issuer::new("maker of devices");
    write("maker.crt", maker.root().der());
    let owner = Issuer::new("owner of the device");
    write("owner.crt", owner.root().der());
    let serial = Extension::hardware_module(2, b"TPM-0001");
    let usage = [Extension::tcg_usage(3), Extension::key_usage(0x80), serial];
    let ak = machine.create_primary(endorsement, &assay_ak());
    for (name, shape) in SHAPES {
        let idevid = machine.create_primary(endorsement, &Kind::Idevid.input(shape).unwrap());
        write(&format!("idevid-{name}.public"), idevid.public.raw());
        let certificate = maker.issue(&idevid.public.spki_der(), &usage[1..]);
        write(&format!("idevid-{name}.crt"), certificate.der());
        machine.flush(idevid.handle);

        let iak = machine.create_primary(endorsement, &Kind::Iak.input(shape).unwrap());
        write(&format!("iak-{name}.public"), iak.public.raw());
        let certificate = maker.issue(&iak.public.spki_der(), &usage);
        write(&format!("iak-{name}.crt"), certificate.der());
        write(&format!("iak-{name}.quote"), &machine.quote(&iak, &NONCE, &SELECTION));
        write(&format!("ak-by-iak-{name}.certify"), &machine.certify(&ak, &iak, &NONCE));
        if name == "p256" {
            let strange = machine.create_primary(Hierarchy::Owner, &assay_ak());
            write("ak-owner.public", strange.public.raw());
            write("ak-owner-by-iak.certify", &machine.certify(&strange, &iak, &NONCE));
            machine.flush(strange.handle);
            write("ak-by-iak.creation", &machine.certify_creation(&ak, &iak, &NONCE));
        }
        machine.flush(iak.handle);
    }

    // What the owner's CA certifies, once the TPM has certified it: and a key that could leave.
    let sha256 = SigningScheme::Ecdsa(HashAlgorithm::Sha256);
    for (name, attributes) in [("ldevid", 0x0004_0072), ("restricted", 0x0005_0072)] {
        let template = ak_template(attributes, sha256, empty(Curve::P256));
        let key = machine.create_primary(Hierarchy::Owner, &template);
        write(&format!("{name}.public"), key.public.raw());
        write(&format!("{name}.crt"), owner.issue(&key.public.spki_der(), &[]).der());
        write(&format!("{name}.certify"), &machine.certify(&key, &ak, &NONCE));
        machine.flush(key.handle);
    }
    machine.flush(ak.handle);
    machine.tpm.stop().unwrap();
}

const SHAPES: [(&str, Shape); 5] = [
    ("rsa2048", Shape::Rsa { bits: 2048 }),
    ("p256", Shape::Ecc(Curve::P256)),
    ("rsa3072", Shape::Rsa { bits: 3072 }),
    ("p384", Shape::Ecc(Curve::P384)),
    ("p521", Shape::Ecc(Curve::P521)),
];

const SELECTION: [PcrSelection; 4] = [
    PcrSelection::new(HashAlgorithm::Sha1, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha256, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha384, 0xffff),
    PcrSelection::new(HashAlgorithm::Sha512, 0xffff),
];

const NONCE: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    26, 27, 28, 29, 30, 31,
];
