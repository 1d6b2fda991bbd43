//! A machine with a real software TPM, driven by raw commands: what the verifier's tests and the
//! generator of its vectors need, and no more. The product's collector is not used, so that a
//! mistake in it cannot hide one in the verifier.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use assay_evidence::Curve;
use assay_evidence::HashAlgorithm;
use assay_evidence::PublicKey;
use assay_evidence::Reader;
use assay_swtpm::Bank;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use assay_tpm::Hierarchy;
use assay_tpm::PcrSelection;
use assay_tpm::Public;
use assay_tpm::endorsement::Template;
use assay_tpm::structures::public::Area;
use assay_tpm::structures::public::Attributes;
use assay_tpm::structures::public::Scheme;
use assay_tpm::structures::signature::SigningScheme;

pub struct Machine {
    pub tpm: RunningTpm,
}

/// A loaded key. There is room for three.
pub struct Key {
    pub handle: u32,
    pub public: Public,
    /// TPM2B(creationHash) and TPMT_TK_CREATION of a primary key.
    creation: Vec<u8>,
}

/// How a command is authorised.
#[derive(Clone, Copy)]
pub enum Auth {
    /// The empty password.
    Password,
    Policy(u32),
}

impl Machine {
    /// None, and a line that says so, where swtpm is not installed.
    pub fn start(folder: &Path, banks: &[Bank]) -> Option<Machine> {
        let missing = assay_swtpm::missing_programs();
        if !missing.is_empty() {
            eprintln!("SKIPPED: not installed: {}", missing.join(", "));
            return None;
        }
        let ca = LocalCa::create(folder.join("ca")).unwrap();
        let tpm = SoftwareTpm::provision_with(&ca, folder.join("tpm"), "vector-host", banks);
        Some(Machine { tpm: tpm.unwrap().start().unwrap() })
    }

    pub fn create_primary(&self, hierarchy: Hierarchy, template: &[u8]) -> Key {
        self.try_create_primary(hierarchy, template)
            .unwrap_or_else(|error| panic!("no such key: 0x{error:x}"))
    }

    /// The key, or the error of a TPM that cannot make it.
    pub fn try_create_primary(&self, hierarchy: Hierarchy, template: &[u8]) -> Result<Key, u32> {
        let parameters = [
            &[0, 4, 0, 0, 0, 0][..], // TPM2B_SENSITIVE_CREATE: no auth, no data
            &sized(template),
            &[0, 0],       // outsideInfo
            &[0, 0, 0, 0], // creationPCR
        ]
        .concat();
        let answer = self.try_run(0x131, &[hierarchy.handle()], &[Auth::Password], &parameters, 1);
        answer.map(|answer| key(&answer))
    }

    /// A child of an endorsement key, created and loaded under its policy.
    pub fn create_child(&self, parent: &Key, template: &[u8]) -> Key {
        let parameters =
            [&[0, 4, 0, 0, 0, 0][..], &sized(template), &[0, 0], &[0, 0, 0, 0]].concat();
        let policy = Auth::Policy(self.endorsement_policy(parent));
        let answer = self.run(0x153, &[parent.handle], &[policy], &parameters, 0);
        let mut reader = Reader::new(&answer);
        let private = reader.sized16(1024).unwrap();
        let public = reader.sized16(1024).unwrap();
        let parameters = [sized(private), sized(public)].concat();
        let policy = Auth::Policy(self.endorsement_policy(parent));
        let answer = self.run(0x157, &[parent.handle], &[policy], &parameters, 1);
        let (handle, _) = answer.split_first_chunk::<4>().unwrap();
        let handle = u32::from_be_bytes(*handle);
        Key { handle, public: Public::parse(public).unwrap(), creation: Vec::new() }
    }

    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE.
    pub fn quote(&self, signer: &Key, nonce: &[u8], selections: &[PcrSelection]) -> Vec<u8> {
        let parameters = [&sized(nonce)[..], &[0, 0x10], &selection_list(selections)].concat();
        self.run(0x158, &[signer.handle], &[Auth::Password], &parameters, 0)
    }

    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE.
    pub fn certify(&self, object: &Key, signer: &Key, nonce: &[u8]) -> Vec<u8> {
        let parameters = [&sized(nonce)[..], &[0, 0x10]].concat();
        let auths = [Auth::Password, Auth::Password];
        self.run(0x148, &[object.handle, signer.handle], &auths, &parameters, 0)
    }

    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE: that the primary was made here, from what template.
    pub fn certify_creation(&self, object: &Key, signer: &Key, nonce: &[u8]) -> Vec<u8> {
        let mut reader = Reader::new(&object.creation);
        let hash = reader.sized16(64).unwrap();
        let ticket = reader.rest();
        let parameters = [&sized(nonce)[..], &sized(hash), &[0, 0x10], ticket].concat();
        self.run(0x14a, &[signer.handle, object.handle], &[Auth::Password], &parameters, 0)
    }

    /// The values in the order of the selection, read as often as the TPM needs; a bank that is
    /// off has none.
    pub fn pcr_values(&self, selections: &[PcrSelection]) -> Vec<u8> {
        let mut values = Vec::new();
        for selection in selections {
            for register in selection.registers() {
                let one = PcrSelection::new(selection.bank, 1 << register);
                let answer = self.run(0x17e, &[], &[], &selection_list(&[one]), 0);
                let mut reader = Reader::new(&answer);
                reader.u32().unwrap(); // update counter
                for _ in 0..reader.u32().unwrap() {
                    reader.u16().unwrap();
                    let octets = reader.u8().unwrap();
                    reader.take(usize::from(octets)).unwrap();
                }
                for _ in 0..reader.u32().unwrap() {
                    values.extend_from_slice(reader.sized16(64).unwrap());
                }
            }
        }
        values
    }

    /// What the credential hides, or the TPM's error.
    pub fn activate(&self, ak: &Key, ek: &Key, blob: &[u8], secret: &[u8]) -> Result<Vec<u8>, u32> {
        let policy = self.endorsement_policy(ek);
        let parameters = [sized(blob), sized(secret)].concat();
        let auths = [Auth::Password, Auth::Policy(policy)];
        let handles = [ak.handle, ek.handle];
        let answer = self.try_run(0x147, &handles, &auths, &parameters, 0);
        if answer.is_err() {
            // A policy session ends with the command only if that succeeds.
            self.flush(policy);
        }
        answer.map(|answer| Reader::new(&answer).sized16(64).unwrap().to_vec())
    }

    pub fn flush(&self, handle: u32) {
        self.run(0x165, &[], &[], &handle.to_be_bytes(), 0);
    }

    /// PolicySecret of the endorsement hierarchy; for the high templates the OR around it.
    fn endorsement_policy(&self, ek: &Key) -> u32 {
        let hash = ek.public.area().name_algorithm;
        let parameters =
            [&sized(&[7; 16])[..], &[0, 0], &[1], &[0, 0x10], &hash.tpm_id().to_be_bytes()]
                .concat();
        let null = Hierarchy::Null.handle();
        let answer = self.run(0x176, &[null, null], &[], &parameters, 1);
        let session = u32::from_be_bytes(*answer.first_chunk::<4>().unwrap());
        let handles = [Hierarchy::Endorsement.handle(), session];
        self.run(0x151, &handles, &[Auth::Password], &[0; 10], 0);
        let template = Template::of(&ek.public).unwrap();
        if template.is_high() {
            let [a, c] = template.branches();
            let policies = [&2u32.to_be_bytes()[..], &sized(a), &sized(c)];
            self.run(0x171, &[session], &[], &policies.concat(), 0);
        }
        session
    }

    fn run(&self, code: u32, handles: &[u32], auths: &[Auth], rest: &[u8], out: usize) -> Vec<u8> {
        self.try_run(code, handles, auths, rest, out)
            .unwrap_or_else(|error| panic!("command 0x{code:x} answers 0x{error:x}"))
    }

    /// One command; the answer is its handles (`out` of them) and its parameters.
    fn try_run(
        &self,
        code: u32,
        handles: &[u32],
        auths: &[Auth],
        parameters: &[u8],
        out: usize,
    ) -> Result<Vec<u8>, u32> {
        let mut body = Vec::new();
        handles.iter().for_each(|handle| body.extend_from_slice(&handle.to_be_bytes()));
        if !auths.is_empty() {
            body.extend_from_slice(&(9 * u32::try_from(auths.len()).unwrap()).to_be_bytes());
            for auth in auths {
                let handle = match auth {
                    Auth::Password => 0x4000_0009,
                    Auth::Policy(session) => *session,
                };
                body.extend_from_slice(&handle.to_be_bytes());
                body.extend_from_slice(&[0; 5]);
            }
        }
        body.extend_from_slice(parameters);
        let tag: u16 = if auths.is_empty() { 0x8001 } else { 0x8002 };
        let size = u32::try_from(10 + body.len()).unwrap();
        let frame =
            [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes(), &body].concat();
        for _ in 0..8 {
            let answer = self.tpm.command(&frame).unwrap();
            let mut reader = Reader::new(&answer);
            let tag = reader.u16().unwrap();
            reader.u32().unwrap();
            match reader.u32().unwrap() {
                0 => {
                    let mut kept = reader.take(4 * out).unwrap().to_vec();
                    let size = match tag {
                        0x8002 => usize::try_from(reader.u32().unwrap()).unwrap(),
                        _ => reader.rest().len(),
                    };
                    kept.extend_from_slice(reader.take(size).unwrap());
                    return Ok(kept);
                }
                // TPM_RC_RETRY, TPM_RC_YIELDED, TPM_RC_TESTING
                0x922 | 0x908 | 0x90a => continue,
                error => return Err(error),
            }
        }
        panic!("command 0x{code:x} asks for ever to be tried again")
    }
}

pub fn ek_template(template: Template) -> Vec<u8> {
    template.input().unwrap()
}

pub fn ak_template(attributes: u32, scheme: SigningScheme, key: PublicKey) -> Vec<u8> {
    with_area(Area {
        name_algorithm: HashAlgorithm::Sha256,
        attributes: Attributes(attributes),
        auth_policy: Vec::new(),
        symmetric: None,
        scheme: Some(Scheme::Signing(scheme)),
        key,
    })
}

/// The product's attestation key: `unique` is "ASSAY-AK" in x.
pub fn assay_ak() -> Vec<u8> {
    let mut raw = ak_template(
        0x0005_0472,
        SigningScheme::Ecdsa(HashAlgorithm::Sha256),
        PublicKey::ec(Curve::P256, &[], &[]).unwrap(),
    );
    let start = raw.len() - 2 * 34;
    raw.truncate(start);
    raw.extend_from_slice(&sized(b"ASSAY-AK"));
    raw.extend_from_slice(&[0, 0]);
    raw
}

fn with_area(area: Area) -> Vec<u8> {
    Public::from_area(area).unwrap().raw().to_vec()
}

fn key(answer: &[u8]) -> Key {
    let mut reader = Reader::new(answer);
    let handle = reader.u32().unwrap();
    let public = Public::parse(reader.sized16(1024).unwrap()).unwrap();
    reader.sized16(1024).unwrap(); // creationData
    let hash = reader.sized16(64).unwrap();
    let ticket = reader.take(6).unwrap();
    let digest = reader.sized16(64).unwrap();
    let creation = [&sized(hash)[..], ticket, &sized(digest)].concat();
    Key { handle, public, creation }
}

fn selection_list(selections: &[PcrSelection]) -> Vec<u8> {
    let mut out = u32::try_from(selections.len()).unwrap().to_be_bytes().to_vec();
    for selection in selections {
        let octets = selection.octets();
        out.extend_from_slice(&selection.bank.tpm_id().to_be_bytes());
        out.push(u8::try_from(octets.len()).unwrap());
        out.extend_from_slice(&octets);
    }
    out
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
