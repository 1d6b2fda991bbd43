//! A machine without an EK certificate: its maker's IAK, by a certificate below a root of its own
//! role, certifies the agent's key. On a real TPM: the exchange with every lie about it, and server
//! and agent end to end.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay::agent;
use assay::appraisal::Edge;
use assay::appraisal::Logs;
use assay::appraisal::Subject;
use assay::appraisal::Tee;
use assay::appraisal::appraise;
use assay::clock::Clock;
use assay::envelope::Item;
use assay::envelope::MediaType;
use assay::exchange::Admission;
use assay::exchange::Attester;
use assay::exchange::Budget;
use assay::exchange::Channel;
use assay::exchange::Facts;
use assay::exchange::FromAgent;
use assay::exchange::Gathered;
use assay::exchange::Hello;
use assay::exchange::Identified;
use assay::exchange::NodeId;
use assay::exchange::NonceLedger;
use assay::exchange::Refused;
use assay::exchange::Step;
use assay::exchange::TeeAnchors;
use assay::exchange::Terms;
use assay::exchange::Verified;
use assay::exchange::Vouchers;
use assay::exchange::Wanted;
use assay::policy::Policy;
use assay::reference::Profile;
use assay::server;
use assay::spiffe::TrustDomain;
use assay::store::Counters;
use assay::store::EkAdmission;
use assay::store::NodeKind;
use assay::store::NodeRow;
use assay_evidence::Certificate;
use assay_evidence::Curve;
use assay_evidence::Face;
use assay_evidence::PublicKey;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SystemRandom;
use assay_proto::assay::v1 as proto;
use assay_proto::assay::v1::admin_client::AdminClient;
use assay_proto::attestation as wire;
use assay_proto::attestation::from_agent::Message as Said;
use assay_proto::spire::api::server::agent::v1::BanAgentRequest;
use assay_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use assay_proto::spire::api::types;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use assay_tpm::AkAnchors;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::TpmClass;
use assay_tpm::collect::AkPurpose;
use assay_tpm::collect::Device;
use assay_tpm::collect::DeviceKey;
use assay_tpm::idevid;
use assay_tpm::structures::public::Shape;
use forge::Machine;
use issuer::Extension;
use issuer::Issuer;
use prost::Message;
use socket::unix;
use tokio::sync::oneshot;
use tonic::transport::Channel as Connection;

#[path = "../attestors/snp/tests/support/forge.rs"]
mod forge;
#[path = "../attestors/tpm/tests/support/issuer.rs"]
mod issuer;
#[path = "support/socket.rs"]
mod socket;

const EXPORTER: [u8; 32] = [0x22; 32];
const IAK: u32 = 0x8102_0001;
const OTHER_IAK: u32 = 0x8102_0002;
const DIGITAL_SIGNATURE: u8 = 0x80;
const AIK_CERTIFICATE: u8 = 3;
const EK_CERTIFICATE: u8 = 1;

/// A TPM with an IAK, its maker, and what its agent says of it.
struct Lab {
    device: Device,
    maker: Issuer,
    iak: DeviceKey,
    other_iak: DeviceKey,
    ak: DeviceKey,
    svid: DeviceKey,
    facts: Facts,
    /// The roots of the EK certificates that this TPM has as well, root and issuer.
    ek_roots: [Certificate; 2],
    ek_certs: Vec<Vec<u8>>,
    _tpm: RunningTpm,
    _folder: tempfile::TempDir,
}

struct House {
    terms: Terms,
    clock: Clock,
}

/// Makes the key from its template and leaves it under `handle` (Part 3, §24.1 and §28.5).
fn put_iak(tpm: &RunningTpm, shape: Shape, handle: u32) {
    let template = idevid::Kind::Iak.input(shape).unwrap();
    let password: &[u8] = &[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let size = u16::try_from(template.len()).unwrap().to_be_bytes();
    let nothing: &[u8] = &[0, 4, 0, 0, 0, 0];
    let tail: &[u8] = &[0, 0, 0, 0, 0, 0];
    let endorsement: &[u8] = &[0x40, 0, 0, 0x0b];
    let create = [endorsement, password, nothing, &size, &template, tail].concat();
    let made = command(tpm, 0x8002, 0x131, &create);
    let key = &made[10..14];
    let owner: &[u8] = &[0x40, 0, 0, 1];
    let evict = [owner, key, password, &handle.to_be_bytes()].concat();
    command(tpm, 0x8002, 0x120, &evict);
    command(tpm, 0x8001, 0x165, key);
}

fn command(tpm: &RunningTpm, tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(10 + body.len()).unwrap();
    let head = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes()].concat();
    let answer = tpm.command(&[&head, body].concat()).unwrap();
    assert_eq!(answer[6..10], [0; 4], "the TPM refused {code:#x}: {answer:02x?}");
    answer
}

fn certificate(path: &Path) -> Certificate {
    Certificate::parse_set(&fs::read(path).unwrap()).unwrap().remove(0)
}

/// As makers write them.
fn of_iak(maker: &Issuer, key: &DeviceKey) -> Certificate {
    let extensions = [
        Extension::key_usage(DIGITAL_SIGNATURE),
        Extension::tcg_usage(AIK_CERTIFICATE),
        Extension::hardware_module(2, b"TPM-0001"),
    ];
    maker.issue(&key.public().spki_der(), &extensions)
}

impl Lab {
    fn new() -> Option<Lab> {
        let missing = assay_swtpm::missing_programs();
        if !missing.is_empty() {
            eprintln!("SKIPPED: no software TPM without {}", missing.join(", "));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path().join("ca")).unwrap();
        let tpm = SoftwareTpm::provision(&ca, folder.path().join("tpm"), "host").unwrap();
        let tpm = tpm.start().unwrap();
        put_iak(&tpm, Shape::Ecc(Curve::P256), IAK);
        put_iak(&tpm, Shape::Ecc(Curve::P384), OTHER_IAK);
        let device = Device::open(&tpm.tcti()).unwrap();
        let iak = device.persistent_key(IAK).unwrap();
        let other_iak = device.persistent_key(OTHER_IAK).unwrap();
        let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
        let svid = device.svid_key().unwrap();
        let maker = Issuer::new("maker");
        let banks = device.banks().unwrap();
        let facts = Facts {
            face: Face::Native,
            agent_version: "0.1.0".to_owned(),
            kinds: vec![MediaType::TpmQuote, MediaType::TpmCertify, MediaType::TpmPcrs],
            ek_certs: Vec::new(),
            ek_public: Vec::new(),
            ek_chain: Vec::new(),
            ak_certs: vec![of_iak(&maker, &iak).der().to_vec()],
            ak_public: ak.public().raw().to_vec(),
            ak_name: ak.public().name().as_bytes().to_vec(),
            log_sha256: None,
            banks: banks.iter().map(|bank| (bank.algorithm.tpm_id(), bank.is_active())).collect(),
        };
        let ek_roots = tpm.ek_roots().each_ref().map(|path| certificate(path));
        let found = device.ek_certificates().unwrap();
        let ek_certs = found.certificates.iter().map(|one| one.der().to_vec()).collect();
        Some(Lab {
            device,
            maker,
            iak,
            other_iak,
            ak,
            svid,
            facts,
            ek_roots,
            ek_certs,
            _tpm: tpm,
            _folder: folder,
        })
    }

    fn spki(&self) -> Vec<u8> {
        self.svid.public().spki_der()
    }

    fn showing(&self, certificate: &Certificate) -> Facts {
        Facts { ak_certs: vec![certificate.der().to_vec()], ..self.facts.clone() }
    }

    /// The facts of the same host with its EK certificates.
    fn with_ek(&self) -> Facts {
        let ek = self.device.endorsement_key(&self.device.ek_certificates().unwrap()).unwrap();
        let ek_public = ek.public().raw().to_vec();
        Facts { ek_certs: self.ek_certs.clone(), ek_public, ..self.facts.clone() }
    }
}

impl House {
    fn new(lab: &Lab) -> House {
        let root = (lab.maker.root(), TpmClass::Software);
        let terms = Terms {
            trust_domain: example_org(),
            anchors: Arc::default(),
            ak_anchors: Arc::new(AkAnchors::new(vec![root], Vec::new())),
            tee: TeeAnchors::default(),
            admission: Arc::default(),
            max_age: Duration::from_secs(180),
            key_in_tpm: true,
            budget: Budget::default(),
            ledger: NonceLedger::default(),
        };
        House { terms, clock: Clock::manual(Time::from_unix_s(1_800_000_000)) }
    }

    fn identified(&self, lab: &Lab, facts: &Facts) -> Result<(Identified, Attester), Refused> {
        let (first, attester) =
            Attester::attest(&example_org(), Some(EXPORTER), Some(&lab.spki()), facts);
        let channel = Channel { exporter: Some(EXPORTER), svid_spki: Some(lab.spki()) };
        let identified = Identified::attest(&self.terms, hello(first), channel, self.clock.now())?;
        Ok((identified, attester))
    }

    /// The row that `node admit --ak-cert` leads to.
    fn admitted(&self, lab: &Lab) -> NodeRow {
        let (identified, _) = self.identified(lab, &lab.facts).unwrap();
        let admission = EkAdmission {
            kind: identified.kind().unwrap(),
            spki_sha256: *identified.ek_spki_sha256().unwrap(),
            owner: String::new(),
            labels: Default::default(),
            faces: vec![Face::Native],
            profile: None,
            no_sha1: false,
            class: None,
            admitted_at: self.clock.now(),
        };
        identified.admitted_by(&admission, self.clock.now())
    }

    /// One whole attestation; `alter` may change what the host gathered for that qualifying data.
    fn attest(
        &self,
        lab: &Lab,
        facts: &Facts,
        row: Option<NodeRow>,
        alter: impl FnOnce(&mut Gathered, &[u8; 32]),
    ) -> Result<Verified, Refused> {
        let (identified, attester) = self.identified(lab, facts)?;
        let mut random = SystemRandom::new();
        let now = self.clock.moment();
        let (challenge, awaiting) = identified.challenge(row.as_ref(), &[], &mut random, now)?;
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        assert!(collect.credential.is_none() && collect.certify && collect.certify_ak);
        let data = collect.qualifying_data;
        let quote = lab.device.quote(&lab.ak, &collect.selections, &data).unwrap();
        let certified = lab.device.certify(&lab.ak, &lab.svid, &data).unwrap();
        let mut gathered = Gathered {
            activated: None,
            quote: quote.statement,
            pcrs: quote.values,
            certified: Some((certified, lab.svid.public().raw().to_vec())),
            ak_certified: Some(lab.device.certify(&lab.iak, &lab.ak, &data).unwrap()),
            reports: Vec::new(),
            logs: Vec::new(),
        };
        alter(&mut gathered, &data);
        let (frame, _) = collecting.evidence(gathered).unwrap();
        match awaiting.receive(parsed(frame), self.clock.moment())? {
            Step::Collected(collected) => collected.verify(row, &[], false, self.clock.now()),
            Step::More(more, _) => panic!("more is due: {more:?}"),
        }
    }

    fn reason(&self, lab: &Lab, alter: impl FnOnce(&mut Gathered, &[u8; 32])) -> Reason {
        let row = self.admitted(lab);
        reason(self.attest(lab, &lab.facts, Some(row), alter))
    }

    fn refresh(&self, lab: &Lab, row: &NodeRow, facts: &Facts) -> Result<Verified, Refused> {
        let (first, attester) = Attester::refresh(&example_org(), EXPORTER, facts);
        let mut random = SystemRandom::new();
        let identified = Identified::refresh(&self.terms, hello(first), Some(EXPORTER), row)?;
        let now = self.clock.moment();
        let (challenge, awaiting) = identified.challenge(Some(row), &[], &mut random, now)?;
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        assert!(!collect.certify_ak && !collect.certify, "an enrolled AK is known");
        let data = &collect.qualifying_data;
        let quote = lab.device.quote(&lab.ak, &collect.selections, data).unwrap();
        let gathered =
            Gathered { quote: quote.statement, pcrs: quote.values, ..Gathered::default() };
        let (frame, _) = collecting.evidence(gathered).unwrap();
        match awaiting.receive(parsed(frame), now)? {
            Step::Collected(collected) => {
                collected.verify(Some(row.clone()), &[], true, self.clock.now())
            }
            Step::More(more, _) => panic!("more is due: {more:?}"),
        }
    }
}

fn example_org() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn parsed(message: wire::FromAgent) -> FromAgent {
    FromAgent::parse(&message.encode_to_vec()).unwrap()
}

fn hello(message: wire::FromAgent) -> Hello {
    parsed(message).into_hello().unwrap()
}

fn reason<T>(result: Result<T, Refused>) -> Reason {
    let refused = result.map(|_| ()).unwrap_err();
    assert!(!refused.findings().is_empty());
    refused.reason()
}

#[test]
fn a_machine_proves_itself_by_the_certificate_of_its_iak_and_then_refreshes_as_any_other() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab);
    let verified = house.attest(&lab, &lab.facts, Some(row), |_, _| {}).unwrap();
    let row = verified.row().clone();
    assert_eq!(row.kind, NodeKind::TpmAk);
    let id = NodeId::new(NodeKind::TpmAk, &lab.iak.public().spki_der());
    assert_eq!(row.node_id, id.as_str());
    assert_eq!(row.class, Some(TpmClass::Software));
    assert_eq!(row.ek_root, Some(lab.maker.root().sha256()));
    assert_eq!(row.ek_certs, lab.facts.ak_certs);
    assert_eq!(row.ak_name.as_deref(), Some(&lab.facts.ak_name[..]));
    assert!(row.svid_key_in_tpm && verified.channel_bound());
    assert!(verified.not_checked().iter().any(|gap| gap.starts_with("ak certificate: ")));
    // All that it takes to verify it again elsewhere.
    assert_eq!(verified.grounds().certificates, lab.facts.ak_certs);
    let kept = verified.items().iter().find(|item| item.media_type == MediaType::TpmAkCertify);
    assert!(kept.is_some_and(|item| item.bytes.is_some()));

    house.clock.advance(Duration::from_secs(60));
    let row = house.refresh(&lab, &row, &lab.facts).unwrap().row().clone();
    // A known AK is certified again: the certificate's key must still be there.
    assert!(house.attest(&lab, &lab.facts, Some(row.clone()), |_, _| {}).is_ok());
    let without = house
        .attest(&lab, &lab.facts, Some(row.clone()), |gathered, _| gathered.ak_certified = None);
    assert_eq!(reason(without), Reason::AkNotCertified);
    // Certificates have no place in a refresh.
    let (mut first, _) = Attester::refresh(&example_org(), EXPORTER, &lab.facts);
    let Some(Said::Hello(said)) = &mut first.message else { panic!() };
    said.ak_certs = lab.facts.ak_certs.clone();
    let refused = Identified::refresh(&house.terms, hello(first), Some(EXPORTER), &row);
    assert_eq!(reason(refused), Reason::MessageMalformed);
    // Counters, bans and clones are the node's, whatever vouched for it.
    let ahead = Some(Counters { reset_count: u32::MAX, restart_count: 0, clock: 0 });
    let copied = NodeRow { counters: ahead, ..row.clone() };
    assert_eq!(reason(house.refresh(&lab, &copied, &lab.facts)), Reason::CloneSuspected);
    let banned = NodeRow { banned: true, ..row };
    let refused = house.attest(&lab, &lab.facts, Some(banned), |_, _| {});
    assert_eq!(reason(refused), Reason::Banned);
}

#[test]
fn what_the_certified_key_did_not_say_of_this_ak_now_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let house = House::new(&lab);
    let device = &lab.device;
    let certify =
        |by: &DeviceKey, of: &DeviceKey, data: &[u8]| Some(device.certify(by, of, data).unwrap());
    let none = house.reason(&lab, |gathered, _| gathered.ak_certified = None);
    assert_eq!(none, Reason::AkNotCertified);
    let stale = house.reason(&lab, |gathered, _| {
        gathered.ak_certified = certify(&lab.iak, &lab.ak, &[9; 32]);
    });
    assert_eq!(stale, Reason::NonceMismatch);
    let file_ak = device.attestation_key(AkPurpose::File).unwrap();
    for other in [&file_ak, &lab.svid] {
        let other = house.reason(&lab, |gathered, data| {
            gathered.ak_certified = certify(&lab.iak, other, data);
        });
        assert_eq!(other, Reason::AkNotCertified);
    }
    for by in [&lab.other_iak, &lab.ak, &lab.svid] {
        let other = house.reason(&lab, |gathered, data| {
            gathered.ak_certified = certify(by, &lab.ak, data);
        });
        assert_eq!(other, Reason::AkNotCertified);
    }
    // A quote in its place is no certification.
    let quote = house.reason(&lab, |gathered, data| {
        let banks = device.all_banks().unwrap();
        gathered.ak_certified = Some(device.quote(&lab.iak, &banks, data).unwrap().statement);
    });
    assert_eq!(quote, Reason::AttestType);
    // An unreadable quote is named before a certification that is not true.
    let both = house.reason(&lab, |gathered, _| {
        gathered.ak_certified = certify(&lab.iak, &lab.ak, &[9; 32]);
        gathered.quote.push(0);
    });
    assert_eq!(both, Reason::TpmMalformed);
    let mut flipped = 0;
    for byte in (0..200).step_by(9) {
        let reason = house.reason(&lab, |gathered, _| {
            let statement = gathered.ak_certified.as_mut().unwrap();
            let byte = byte % statement.len();
            statement[byte] ^= 1 << (byte % 8);
        });
        assert_ne!(reason, Reason::Internal, "byte {byte}");
        flipped += 1;
    }
    println!("{flipped} single-bit changes of the certification, 0 accepted");
}

#[test]
fn a_certificate_that_does_not_count_is_refused_before_any_challenge() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab);
    let spki = lab.iak.public().spki_der();
    let refused = |house: &House, facts: &Facts| reason(house.identified(&lab, facts));
    let stranger = of_iak(&Issuer::new("maker"), &lab.iak);
    assert_eq!(refused(&house, &lab.showing(&stranger)), Reason::AkNotCertified);
    let usage = || Extension::key_usage(DIGITAL_SIGNATURE);
    let device_key = || Extension::hardware_module(2, b"TPM-0001");
    for extensions in [
        vec![usage(), Extension::tcg_usage(EK_CERTIFICATE)],
        vec![Extension::key_usage(0x20), Extension::tcg_usage(AIK_CERTIFICATE)],
        vec![Extension::ca()],
        // It may be the IDevID, and an unrestricted key signs whatever it is given.
        vec![usage(), device_key()],
    ] {
        let odd = lab.maker.issue(&spki, &extensions);
        assert_eq!(refused(&house, &lab.showing(&odd)), Reason::AkNotCertified);
    }
    // Of a cloud's AK some CAs say nothing; below a root that certifies such keys alone it counts.
    let plain = lab.maker.issue(&spki, &[usage()]);
    assert!(house.identified(&lab, &lab.showing(&plain)).is_ok());
    let mut cut = lab.facts.clone();
    cut.ak_certs[0].pop();
    assert_eq!(refused(&house, &cut), Reason::CertMalformed);
    let none = Facts { ak_certs: Vec::new(), ..lab.facts.clone() };
    assert_eq!(refused(&house, &none), Reason::TpmMalformed, "and no EK either");

    // The certificate of another key of that TPM does not fit what this one signs.
    let other = of_iak(&lab.maker, &lab.other_iak);
    let facts = lab.showing(&other);
    let admission =
        Admission { ak_roots: BTreeSet::from([lab.maker.root().sha256()]), ..Admission::default() };
    house.terms.admission = Arc::new(admission);
    let attested = house.attest(&lab, &facts, None, |_, _| {});
    assert_eq!(reason(attested), Reason::AkNotCertified);
}

#[test]
fn roots_have_a_role_and_endorsement_certificates_decide_where_there_are_any() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab);
    let [root, intermediate] = lab.ek_roots.clone();
    let ek_root = |certificate| EkRoot { certificate, class: TpmClass::Software };
    let ek_anchors = Anchors::new(vec![ek_root(root.clone())], vec![intermediate.clone()]);

    // The maker's root among those of EKs vouches for no AK certificate …
    house.terms.anchors = Arc::new(Anchors::new(vec![ek_root(lab.maker.root())], Vec::new()));
    house.terms.ak_anchors = Arc::default();
    assert_eq!(reason(house.identified(&lab, &lab.facts)), Reason::AkNotCertified);
    // … and a root of EKs among those of AK certificates for no EK.
    let class = TpmClass::Software;
    let swapped = AkAnchors::new(vec![(root, class)], vec![intermediate]);
    house.terms.ak_anchors = Arc::new(swapped);
    let with_ek = lab.with_ek();
    assert_eq!(reason(house.identified(&lab, &with_ek)), Reason::EkChainUntrusted);
    // Nor is an EK certificate one of an AK, below whichever root.
    let disguised = Facts { ak_certs: lab.ek_certs.clone(), ..lab.facts.clone() };
    assert_eq!(reason(house.identified(&lab, &disguised)), Reason::AkNotCertified);

    // With both, the EK is the identity, and the AK answers by activation.
    let mut house = House::new(&lab);
    house.terms.anchors = Arc::new(ek_anchors);
    let (identified, attester) = house.identified(&lab, &with_ek).unwrap();
    assert_eq!(identified.kind(), Some(NodeKind::TpmEk));
    let admitted = NodeRow::new(
        identified.node().to_string(),
        NodeKind::TpmEk,
        assay::store::Admission::Admitted,
        house.clock.now(),
    );
    let now = house.clock.moment();
    let (challenge, _) =
        identified.challenge(Some(&admitted), &[], &mut SystemRandom::new(), now).unwrap();
    let (collect, _) = attester.challenged(challenge).unwrap();
    assert!(collect.credential.is_some() && !collect.certify_ak);
    assert_ne!(admitted.node_id, house.admitted(&lab).node_id);
}

#[test]
fn a_genuine_machine_that_nobody_admitted_is_refused_or_waits() {
    let Some(lab) = Lab::new() else { return };
    let mut house = House::new(&lab);
    let root = lab.maker.root().sha256();
    let attest = |house: &House| house.attest(&lab, &lab.facts, None, |_, _| {});
    assert_eq!(reason(attest(&house)), Reason::NotAdmitted);
    // A root that admits EKs admits no AK certificates.
    let of_eks = Admission { roots: BTreeSet::from([root]), ..Admission::default() };
    house.terms.admission = Arc::new(of_eks);
    assert_eq!(reason(attest(&house)), Reason::NotAdmitted);
    let operator = Admission { operator: true, ..Admission::default() };
    house.terms.admission = Arc::new(operator);
    let refused = attest(&house).map(|_| ()).unwrap_err();
    assert_eq!(refused.reason(), Reason::NotAdmitted);
    assert_eq!(refused.pending().unwrap().kind, NodeKind::TpmAk);
    let of_aks = Admission { ak_roots: BTreeSet::from([root]), ..Admission::default() };
    house.terms.admission = Arc::new(of_aks);
    let admitted = attest(&house).unwrap();
    assert_eq!(admitted.row().admission, assay::store::Admission::Admitted);
}

// --- Azure ------------------------------------------------------------------------------------

/// Where Azure leaves the key of its AK certificate.
const AZURE_AK: u32 = 0x8100_0003;

/// An HCL report of the tests' own processor, over a var-data that names this key.
fn hcl_report(processor: &Machine, key: &PublicKey) -> Vec<u8> {
    use base64::Engine as _;
    let PublicKey::Rsa { modulus, .. } = key else { panic!("Azure's keys are RSA") };
    let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(modulus);
    let text = format!(
        "{{\"keys\":[{{\"kid\":\"HCLAkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"{n}\"}}],\
         \"vm-configuration\":{{\"secure-boot\":true}}}}"
    );
    let mut report = processor.report.clone();
    report[0x050..0x090].fill(0);
    report[0x050..0x070].copy_from_slice(&crypto::sha256(text.as_bytes()));
    let length = u32::try_from(text.len()).unwrap();
    let mut bytes = b"HCLA".to_vec();
    for number in [1, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0] {
        bytes.extend(u32::to_le_bytes(number));
    }
    bytes.extend(forge::signed_report(&report, "vek"));
    for number in [20 + length, 1, 2, 1, length] {
        bytes.extend(u32::to_le_bytes(number));
    }
    bytes.extend(text.as_bytes());
    bytes.resize(2_048, 0);
    bytes
}

/// The first finding and the selectors, of a virtual TPM under these lines of a policy.
fn judged(verified: &Verified, lines: &str) -> (Option<Reason>, Vec<String>) {
    let head = "tpm_class = [\"vtpm\"]\n";
    let lines = match lines.contains("[snp]") {
        true => lines.to_owned(),
        false => format!("{lines}[snp]\nallow_operator_root = true\n"),
    };
    let policy = Policy::parse(&format!("{head}{lines}")).unwrap();
    let profile = Profile::parse(&format!(
        "schema = \"firmware-profile/1\"\nid = \"p\"\nserial = 1\nroot = \"tpm2\"\n\
         banks = [\"sha256\"]\n[[component]]\nname = \"f\"\non = [0]\n\
         [[component.variant]]\nname = \"1\"\nstate = \"active\"\n\
         pcr = {{ sha256 = {{ \"0\" = \"{}\" }} }}\n",
        "00".repeat(32)
    ))
    .unwrap();
    let subject = Subject {
        node: verified.spiffe_id(&example_org()).unwrap(),
        tpm_class: TpmClass::Vtpm,
        ek_root: None,
        device: None,
        channel_bound: verified.channel_bound(),
        key_in_tpm: verified.key_in_tpm(),
        labels: Default::default(),
        warnings: Vec::new(),
    };
    let tee = verified.tee().map(|link| Tee { link, ccel: None });
    let now = verified.quoted().wall;
    let appraisal = appraise(
        "a".to_owned(),
        &subject,
        verified.claims(),
        Logs::default(),
        &[],
        tee.as_ref(),
        &profile,
        &[],
        &policy,
        now,
        now,
    );
    let selectors = appraisal.selectors().iter().map(|selector| selector.value().to_owned());
    (appraisal.findings().first().map(|finding| finding.code), selectors.collect())
}

#[test]
fn azures_report_ties_the_agents_key_through_the_key_that_certified_it() {
    let Some(lab) = Lab::new() else { return };
    put_iak(&lab._tpm, Shape::Rsa { bits: 2_048 }, AZURE_AK);
    let azure_ak = lab.device.persistent_key(AZURE_AK).unwrap();
    let certificate = of_iak(&lab.maker, &azure_ak);
    let kinds = lab.facts.kinds.iter().copied().chain([MediaType::HclReport]).collect();
    let facts = Facts { kinds, ..lab.showing(&certificate) };
    let processor = Machine::milan().with(|machine| machine.vek.not_after = "491231000000Z");
    let shown = processor.show();
    let mut house = House::new(&lab);
    house.terms.tee =
        TeeAnchors::new(vec![Certificate::parse(&shown.ark).unwrap()], Duration::ZERO, false);
    let (identified, _) = house.identified(&lab, &facts).unwrap();
    let node = identified.node().to_string();
    let admission = assay::store::Admission::Admitted;
    let row = NodeRow::new(node, NodeKind::TpmAk, admission, house.clock.now());
    let vouchers = || Vouchers {
        vek: Some(shown.vek.clone()),
        chain: vec![shown.issuer.clone()],
        ..Vouchers::default()
    };
    let attest = |report: Vec<u8>, vouchers: Vouchers| {
        let (identified, attester) = house.identified(&lab, &facts).unwrap();
        let now = house.clock.moment();
        let mut random = SystemRandom::new();
        let (challenge, awaiting) =
            identified.challenge(Some(&row), &[], &mut random, now).unwrap();
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        assert_eq!(collect.reports, [MediaType::HclReport]);
        let data = collect.qualifying_data;
        let quote = lab.device.quote(&lab.ak, &collect.selections, &data).unwrap();
        let certified = lab.device.certify(&lab.ak, &lab.svid, &data).unwrap();
        let gathered = Gathered {
            quote: quote.statement,
            pcrs: quote.values,
            certified: Some((certified, lab.svid.public().raw().to_vec())),
            ak_certified: Some(lab.device.certify(&azure_ak, &lab.ak, &data).unwrap()),
            reports: vec![Item { media_type: MediaType::HclReport, bytes: report }],
            ..Gathered::default()
        };
        let (frame, _) = collecting.evidence(gathered).unwrap();
        let Step::Collected(collected) = awaiting.receive(parsed(frame), now).unwrap() else {
            panic!("more is due")
        };
        let wanted = collected.wants();
        assert!(!matches!(wanted, Some(Wanted::Snp(wanted)) if wanted.chip.is_none()));
        let collected = collected.endorsed(vouchers);
        collected.verify(Some(row.clone()), &[], false, house.clock.now())
    };
    let own = hcl_report(&processor, azure_ak.public().key());
    let edge = |verified: &Verified| verified.tee().unwrap().edge();
    let verified = attest(own.clone(), vouchers()).unwrap();
    assert_eq!(edge(&verified), Edge::AkInVarData);

    // Any guest's root can write a var-data that names this key: it counts where the policy knows
    // the paravisor that was launched, and where that one asked.
    let nobody = judged(&verified, "");
    assert_eq!(nobody.0, Some(Reason::VtpmUnbound));
    assert!(nobody.1.iter().all(|value| !value.starts_with("snp:")), "{nobody:?}");
    let any = judged(&verified, "require_launch_digest = false\n");
    assert_eq!(any.0, Some(Reason::VtpmUnbound), "no nonce makes up for it");
    let listed = format!("measurement = [\"{}\"]\n", "4d".repeat(48));
    let paravisor = judged(&verified, &format!("[snp]\nallow_operator_root = true\n{listed}"));
    assert_eq!(paravisor.0, None, "{paravisor:?}");
    assert!(paravisor.1.iter().any(|value| value.starts_with("snp:measurement:")));
    let system = processor.clone().with(|machine| machine.set(0x030, &[2]));
    let asked = attest(hcl_report(&system, azure_ak.public().key()), vouchers()).unwrap();
    let asked = judged(&asked, &format!("[snp]\nallow_operator_root = true\n{listed}"));
    assert_eq!(asked.0, Some(Reason::VtpmUnbound), "asked for by the guest's system");

    // Genuine, and of a virtual TPM that is not this one.
    let other = PublicKey::rsa(&[0xb7; 256], 65_537);
    let verified = attest(hcl_report(&processor, &other), vouchers()).unwrap();
    assert_eq!(edge(&verified), Edge::None);
    // A var-data that the report does not name, a report by nobody's processor, and by one whose
    // certificate nobody has.
    let mut forged = own.clone();
    forged[32 + 1184 + 20 + 12] ^= 1;
    let unbound = reason(attest(forged, vouchers()));
    assert!([Reason::VtpmUnbound, Reason::HclMalformed].contains(&unbound), "{unbound:?}");
    let mut forged = own.clone();
    forged[32 + 0x090] ^= 1;
    assert_eq!(reason(attest(forged, vouchers())), Reason::ReportSignatureInvalid);
    assert_eq!(reason(attest(own.clone(), Vouchers::default())), Reason::VekMissing);

    // A refresh rests on the certification at the attestation.
    let row = attest(own.clone(), vouchers()).unwrap().row().clone();
    let refresh = |row: &NodeRow| {
        let (first, attester) = Attester::refresh(&example_org(), EXPORTER, &facts);
        let identified =
            Identified::refresh(&house.terms, hello(first), Some(EXPORTER), row).unwrap();
        let now = house.clock.moment();
        let (challenge, awaiting) =
            identified.challenge(Some(row), &[], &mut SystemRandom::new(), now).unwrap();
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        let data = &collect.qualifying_data;
        let quote = lab.device.quote(&lab.ak, &collect.selections, data).unwrap();
        let reports = vec![Item { media_type: MediaType::HclReport, bytes: own.clone() }];
        let (quote, pcrs) = (quote.statement, quote.values);
        let gathered = Gathered { quote, pcrs, reports, ..Gathered::default() };
        let (frame, _) = collecting.evidence(gathered).unwrap();
        let Step::Collected(collected) = awaiting.receive(parsed(frame), now).unwrap() else {
            panic!("more is due")
        };
        let collected = collected.endorsed(vouchers());
        collected.verify(Some(row.clone()), &[], true, house.clock.now()).unwrap()
    };
    assert_eq!(edge(&refresh(&row)), Edge::AkInVarData);
    let another = NodeRow { ek_spki_sha256: vec![[7; 32]], ..row };
    assert_eq!(edge(&refresh(&another)), Edge::None);
}

// --- server and agent -------------------------------------------------------------------------

struct World {
    folder: tempfile::TempDir,
    tpm: RunningTpm,
    ak_certificate: Certificate,
}

impl World {
    fn build() -> Option<World> {
        if !assay_swtpm::missing_programs().is_empty() {
            eprintln!("SKIPPED: no software TPM");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::create(folder.path().join("ca")).unwrap();
        let tpm = SoftwareTpm::provision(&ca, folder.path().join("tpm"), "host").unwrap();
        let tpm = tpm.start().unwrap();
        put_iak(&tpm, Shape::Ecc(Curve::P384), IAK);
        let maker = Issuer::new("maker");
        let iak = Device::open(&tpm.tcti()).unwrap().persistent_key(IAK).unwrap();
        let ak_certificate = of_iak(&maker, &iak);
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
        write("maker.der", maker.root().der());
        write("ak.der", ak_certificate.der());
        let policy = "tpm_class = [\"software\"]\nrefresh_every = \"1s\"\nmax_age = \"6s\"\n";
        write("policy.toml", policy.as_bytes());
        let profile = format!(
            "schema = \"firmware-profile/1\"\nid = \"p\"\nserial = 1\nroot = \"tpm2\"\n\
             banks = [\"sha256\"]\n[[component]]\nname = \"f\"\non = [0]\n\
             [[component.variant]]\nname = \"1\"\nstate = \"active\"\n\
             pcr = {{ sha256 = {{ \"0\" = \"{}\" }} }}\n",
            "00".repeat(32)
        );
        write("profile.toml", profile.as_bytes());
        write(
            "server.toml",
            b"trust_domain = \"example.org\"\ndata_dir = \"server\"\nlisten = \"127.0.0.1:0\"\n\
              [bootstrap]\nbundle = \"bundle.pem\"\n\
              [keys]\ncustody = \"software\"\ndanger_software_keys = true\n\
              [nodes]\nprofile = \"profile.toml\"\npolicy = \"policy.toml\"\n\
              [[nodes.ak_root]]\npath = \"maker.der\"\nclass = \"software\"\n",
        );
        Some(World { folder, tpm, ak_certificate })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn private(&self) -> Connection {
        unix(&self.path("server/private/api.sock")).await
    }

    /// The only node, once it is as `wanted`.
    async fn node(&self, wanted: impl Fn(&proto::NodeState) -> bool) -> proto::NodeState {
        let mut client = AdminClient::new(self.private().await);
        let mut last = None;
        for _ in 0..1_200 {
            let nodes = client.list_nodes(proto::ListNodesRequest::default()).await.unwrap();
            let node = nodes.into_inner().nodes.into_iter().next();
            if let Some(node) = node.clone().filter(&wanted) {
                return node;
            }
            last = node;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain; last seen: {last:?}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_without_ek_certificate_is_admitted_by_its_ak_certificate_and_stays() {
    let Some(world) = tokio::task::block_in_place(World::build) else { return };
    let config = server::validate(&world.path("server.toml")).unwrap();
    let server = server::start(config, Clock::machine()).await.unwrap();
    let text = format!(
        "trust_domain = \"example.org\"\nserver = \"127.0.0.1:{}\"\ndata_dir = \"agent\"\n\
         socket = \"workload.sock\"\ndevice = \"{}\"\n[bootstrap]\nbundle = \"bundle.pem\"\n\
         [intervals]\nretry_first = \"1s\"\nretry_longest = \"1s\"\n\
         [ak_certificate]\ncertificate = \"ak.der\"\nkey = {{ handle = \"{IAK:#010x}\" }}\n",
        server.address().port(),
        world.tpm.tcti()
    );
    fs::write(world.path("agent.toml"), text).unwrap();
    let config = agent::Config::load(&world.path("agent.toml")).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let stop = async {
            let _ = stopped.await;
        };
        agent::run_until(config, Clock::machine(), stop).await.unwrap();
    });

    // The agent may come first: it is refused, and tries again.
    let mut admin = AdminClient::new(world.private().await);
    let by = proto::admit_node_request::By::AkCertificate(world.ak_certificate.der().to_vec());
    let request = proto::AdmitNodeRequest { by: Some(by), ..Default::default() };
    let state = admin.admit_node(request).await.unwrap().into_inner();
    let digest = crypto::sha256(world.ak_certificate.spki_der());
    assert_eq!(state.hardware_digest, digest);
    assert_eq!(state.hardware, "tpm-ak");

    let node = world.node(|node| node.standing.as_ref().is_some_and(|s| s.live)).await;
    assert_eq!(node.hardware, "tpm-ak");
    assert_eq!(node.admission(), proto::node_state::Admission::Hash);
    assert_eq!(node.id, NodeId::new(NodeKind::TpmAk, world.ak_certificate.spki_der()).as_str());
    assert_eq!(node.tpm.as_ref().unwrap().class, "software");
    assert!(node.not_checked.iter().any(|gap| gap.starts_with("ak certificate: ")));
    let first = node.last_seen_ms;
    let later = world.node(|node| node.last_seen_ms > first + 1_500).await;
    assert_eq!(later.refusal_code, "");

    let id = types::Spiffeid {
        trust_domain: "example.org".to_owned(),
        path: format!("/spire/agent/assay/{}", node.id),
    };
    let mut agents = AgentClient::new(world.private().await);
    agents.ban_agent(BanAgentRequest { id: Some(id) }).await.unwrap();
    let banned = world.node(|node| !node.holds.is_empty()).await;
    assert!(banned.standing.is_none_or(|standing| !standing.live));

    stop.send(()).unwrap();
    running.await.unwrap();
    server.stop().await.unwrap();
}
