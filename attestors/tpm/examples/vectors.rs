//! Makes the vectors under `vectors/swtpm` anew, on a real software TPM.
//!
//! `cargo run -p assay-tpm --example vectors -- attestors/tpm/vectors/swtpm`
//!
//! Keys and so all bytes differ at each run; the tests read what is there and do not care. The
//! vectors are committed so that the tests of the verifier need no TPM.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;

use assay_evidence::Certificate;
use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_swtpm::Bank;
use assay_tpm::Hierarchy;
use assay_tpm::PcrSelection;
use assay_tpm::endorsement::Template;
use assay_tpm::structures::signature::SigningScheme;

#[path = "../tests/support/machine.rs"]
mod machine;

use machine::Machine;
use machine::ak_template;
use machine::assay_ak;
use machine::ek_template;

fn main() {
    let out = PathBuf::from(std::env::args().nth(1).expect("a folder to write to"));
    fs::create_dir_all(&out).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::start(folder.path(), &[Bank::Sha1, Bank::Sha256]).expect("swtpm");
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).unwrap();

    for (file, name) in machine.tpm.ek_roots().iter().zip(["root.pem", "issuer.pem"]) {
        write(name, &fs::read(file).unwrap());
    }
    for (file, name) in machine.tpm.tpm().ek_certificates().iter().zip(["ek-p384", "ek-rsa2048"]) {
        let certificate = Certificate::parse_set(&fs::read(file).unwrap()).unwrap();
        write(&format!("{name}.crt"), certificate[0].der());
    }
    let endorsement = Hierarchy::Endorsement;
    for (template, name) in
        [(Template::H3, "ek-p384"), (Template::L1, "ek-rsa2048"), (Template::L2, "ek-p256")]
    {
        let ek = machine.create_primary(endorsement, &ek_template(template));
        write(&format!("{name}.public"), ek.public.raw());
        machine.flush(ek.handle);
    }

    machine.tpm.pcr_extend(0, b"firmware").unwrap();
    machine.tpm.pcr_extend(8, b"kernel command line").unwrap();
    let values = machine.pcr_values(&SELECTION);
    write("pcrs", &values);

    // Each kind of attestation key that is accepted, and one that is not.
    let empty = |curve| PublicKey::ec(curve, &[], &[]).unwrap();
    let modulus = || PublicKey::Rsa { modulus: vec![0xff; 256], exponent: 65_537 };
    let sha256 = HashAlgorithm::Sha256;
    let (ecdsa, rsassa, rsapss) = (
        SigningScheme::Ecdsa(sha256),
        SigningScheme::Rsassa(sha256),
        SigningScheme::Rsapss(sha256),
    );
    let p384 = SigningScheme::Ecdsa(HashAlgorithm::Sha384);
    let kinds = [
        ("p256", endorsement, assay_ak()),
        ("p256-da", endorsement, ak_template(0x0005_0072, ecdsa, empty(Curve::P256))),
        ("p384", endorsement, ak_template(0x0005_0472, p384, empty(Curve::P384))),
        ("rsassa", endorsement, ak_template(0x0005_0472, rsassa, modulus())),
        ("rsapss", endorsement, ak_template(0x0005_0472, rsapss, modulus())),
        ("owner", Hierarchy::Owner, assay_ak()),
    ];
    let svid_template = ak_template(0x0004_0472, ecdsa, empty(Curve::P256));
    for (name, hierarchy, template) in kinds {
        let ak = machine.create_primary(hierarchy, &template);
        write(&format!("ak-{name}.public"), ak.public.raw());
        write(&format!("quote-{name}"), &machine.quote(&ak, &NONCE, &SELECTION));
        if name == "p256" {
            for (place, hierarchy) in [("svid", Hierarchy::Null), ("svid-owner", Hierarchy::Owner)]
            {
                let svid = machine.create_primary(hierarchy, &svid_template);
                write(&format!("{place}.public"), svid.public.raw());
                write(&format!("{place}.certify"), &machine.certify(&svid, &ak, &NONCE));
                machine.flush(svid.handle);
            }
        }
        machine.flush(ak.handle);
    }

    // An attestation key that is a child of the endorsement key.
    let ek = machine.create_primary(endorsement, &ek_template(Template::L2));
    let child = machine.create_child(&ek, &ak_template(0x0005_0072, ecdsa, empty(Curve::P256)));
    write("ak-child.public", child.public.raw());
    write("quote-child", &machine.quote(&child, &NONCE, &SELECTION));
    machine.flush(child.handle);
    machine.flush(ek.handle);

    // The same key after the machine restarted: later counters, other register values.
    machine.tpm.reset().unwrap();
    let ak = machine.create_primary(endorsement, &assay_ak());
    write("quote-after-reset", &machine.quote(&ak, &NONCE, &SELECTION));
    write("pcrs-after-reset", &machine.pcr_values(&SELECTION));
    machine.flush(ak.handle);
    machine.tpm.stop().unwrap();
}

/// As the exchange asks: every bank that the TPM lists, allocated or not.
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
