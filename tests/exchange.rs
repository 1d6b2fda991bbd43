//! Both machines of the exchange back to back, with a real TPM on the attester's side: the way it
//! goes well, and every attack on it with the name it is refused by.
#![cfg(feature = "tpm")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../attestors/eventlog/tests/support/kernel_list.rs"]
mod kernel_list;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use assay::clock::Clock;
use assay::envelope::MediaType;
use assay::exchange::Admission;
use assay::exchange::Appraises;
use assay::exchange::Attester;
use assay::exchange::Awaiting;
use assay::exchange::Budget;
use assay::exchange::Channel;
use assay::exchange::Collect;
use assay::exchange::Collected;
use assay::exchange::Demand;
use assay::exchange::Facts;
use assay::exchange::FromAgent;
use assay::exchange::Gathered;
use assay::exchange::Hello;
use assay::exchange::Identified;
use assay::exchange::Log;
use assay::exchange::MAX_FRAME;
use assay::exchange::NonceLedger;
use assay::exchange::Refused;
use assay::exchange::Step;
use assay::exchange::TeeAnchors;
use assay::exchange::Terms;
use assay::exchange::Verified;
use assay::policy::RefusalDetail;
use assay::spiffe::TrustDomain;
use assay::store::Counters;
use assay::store::EkAdmission;
use assay::store::Flag;
use assay::store::NodeKind;
use assay::store::NodeRow;
use assay_eventlog::ima;
use assay_evidence::Certificate;
use assay_evidence::Face;
use assay_evidence::Reason;
use assay_evidence::Time;
use assay_evidence::crypto;
use assay_evidence::crypto::SystemRandom;
use assay_proto::attestation as wire;
use assay_proto::attestation::from_agent::Message as Said;
use assay_swtpm::LocalCa;
use assay_swtpm::RunningTpm;
use assay_swtpm::SoftwareTpm;
use assay_tpm::Anchors;
use assay_tpm::EkRoot;
use assay_tpm::TpmClass;
use assay_tpm::collect::AkPurpose;
use assay_tpm::collect::Device;
use assay_tpm::collect::DeviceKey;
use assay_tpm::collect::EndorsementKey;
use proptest::prelude::*;
use prost::Message;
use tempfile::TempDir;

const EXPORTER: [u8; 32] = [0x22; 32];
const OTHER_EXPORTER: [u8; 32] = [0x33; 32];

/// Two hosts with TPMs of one maker, shared by the tests that run at a time.
struct Lab {
    a: Host,
    b: Host,
    anchors: Arc<Anchors>,
    _folder: TempDir,
}

struct Host {
    device: Device,
    ek: EndorsementKey,
    ak: DeviceKey,
    svid: DeviceKey,
    facts: Facts,
    _tpm: RunningTpm,
}

/// A server's side.
struct House {
    terms: Terms,
    clock: Clock,
}

fn lab() -> Option<Arc<Lab>> {
    static LAB: Mutex<Weak<Lab>> = Mutex::new(Weak::new());
    let mut shared = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lab) = shared.upgrade() {
        return Some(lab);
    }
    let missing = assay_swtpm::missing_programs();
    if !missing.is_empty() {
        eprintln!("SKIPPED: no software TPM without {}", missing.join(", "));
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let ca = LocalCa::create(folder.path().join("ca")).unwrap();
    let a = Host::start(&ca, &folder.path().join("a"), "host-a");
    let b = Host::start(&ca, &folder.path().join("b"), "host-b");
    let [root, intermediate] = a._tpm.ek_roots();
    let root = EkRoot { certificate: certificate(root), class: TpmClass::Software };
    let anchors = Arc::new(Anchors::new(vec![root], vec![certificate(intermediate)]));
    let lab = Arc::new(Lab { a, b, anchors, _folder: folder });
    *shared = Arc::downgrade(&lab);
    Some(lab)
}

fn certificate(pem: &Path) -> Certificate {
    let bytes = std::fs::read(pem).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&bytes).unwrap();
    Certificate::parse(&pem.contents).unwrap()
}

impl Host {
    fn start(ca: &LocalCa, folder: &Path, name: &str) -> Self {
        let tpm = SoftwareTpm::provision(ca, folder, name).unwrap().start().unwrap();
        let device = Device::open(&tpm.tcti()).unwrap();
        let found = device.ek_certificates().unwrap();
        let ek = device.endorsement_key(&found).unwrap();
        let ak = device.attestation_key(AkPurpose::Exchange).unwrap();
        let svid = device.svid_key().unwrap();
        let ders = |list: &[Certificate]| list.iter().map(|c| c.der().to_vec()).collect();
        let banks = device.banks().unwrap();
        let facts = Facts {
            face: Face::Native,
            agent_version: "0.1.0".to_owned(),
            kinds: MediaType::ALL.to_vec(),
            ek_certs: ders(&found.certificates),
            ek_public: ek.public().raw().to_vec(),
            ek_chain: ders(&found.chain),
            ak_certs: Vec::new(),
            ak_public: ak.public().raw().to_vec(),
            ak_name: ak.public().name().as_bytes().to_vec(),
            log_sha256: None,
            banks: banks.iter().map(|bank| (bank.algorithm.tpm_id(), bank.is_active())).collect(),
        };
        Self { device, ek, ak, svid, facts, _tpm: tpm }
    }

    fn spki(&self) -> Vec<u8> {
        self.svid.public().spki_der()
    }

    fn channel(&self) -> Channel {
        Channel { exporter: Some(EXPORTER), svid_spki: Some(self.spki()) }
    }

    fn attester(&self) -> (wire::FromAgent, Attester) {
        Attester::attest(&example_org(), Some(EXPORTER), Some(&self.spki()), &self.facts)
    }

    /// Does what the challenge asks, honestly.
    fn gather(&self, collect: &Collect) -> Gathered {
        let activated = collect
            .credential
            .as_ref()
            .map(|(blob, secret)| self.device.activate(&self.ek, &self.ak, blob, secret).unwrap());
        let data = &collect.qualifying_data;
        let quote = self.device.quote(&self.ak, &collect.selections, data).unwrap();
        let certified = collect.certify.then(|| {
            let statement = self.device.certify(&self.ak, &self.svid, data).unwrap();
            (statement, self.svid.public().raw().to_vec())
        });
        Gathered {
            activated,
            quote: quote.statement,
            pcrs: quote.values,
            certified,
            ak_certified: None,
            reports: Vec::new(),
            logs: Vec::new(),
        }
    }
}

fn example_org() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

impl House {
    fn new(lab: &Lab) -> Self {
        let terms = Terms {
            trust_domain: example_org(),
            anchors: Arc::clone(&lab.anchors),
            ak_anchors: Arc::default(),
            tee: TeeAnchors::default(),
            admission: Arc::new(Admission::default()),
            max_age: Duration::from_secs(180),
            key_in_tpm: true,
            budget: Budget::default(),
            ledger: NonceLedger::default(),
        };
        Self { terms, clock: Clock::manual(Time::from_unix_s(1_800_000_000)) }
    }

    /// The row that `node admit --ek-sha256` leads to.
    fn admitted(&self, host: &Host) -> NodeRow {
        let identified = self.identified(hello(host.attester().0), host.channel()).unwrap();
        let admission = EkAdmission {
            kind: NodeKind::TpmEk,
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

    fn identified(&self, hello: Hello, channel: Channel) -> Result<Identified, Refused> {
        Identified::attest(&self.terms, hello, channel, self.clock.now())
    }

    fn challenge(
        &self,
        hello: Hello,
        channel: Channel,
        row: Option<&NodeRow>,
    ) -> Result<(wire::FromServer, Awaiting), Refused> {
        let mut random = SystemRandom::new();
        self.identified(hello, channel)?.challenge(row, &[], &mut random, self.clock.moment())
    }

    fn receive(&self, awaiting: Awaiting, message: wire::FromAgent) -> Result<Step, Refused> {
        awaiting.receive(parsed(message)?, self.clock.moment())
    }

    /// One whole attestation; `alter` may change what the host gathered, and the frame.
    fn attest(
        &self,
        host: &Host,
        row: Option<NodeRow>,
        alter: impl FnOnce(&mut Gathered, &mut dyn FnMut(Edit)),
    ) -> Result<Verified, Refused> {
        let (first, attester) = host.attester();
        let (challenge, awaiting) = self.challenge(hello(first), host.channel(), row.as_ref())?;
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        let mut gathered = host.gather(&collect);
        let mut edits = Vec::new();
        alter(&mut gathered, &mut |edit| edits.push(edit));
        let (mut frame, _) = collecting.evidence(gathered).unwrap();
        for edit in edits {
            let Some(Said::Evidence(evidence)) = &mut frame.message else { panic!() };
            edit(evidence);
        }
        collected(self.receive(awaiting, frame)?).verify(row, &[], false, self.clock.now())
    }

    fn reason(
        &self,
        host: &Host,
        alter: impl FnOnce(&mut Gathered, &mut dyn FnMut(Edit)),
    ) -> Reason {
        let row = self.admitted(host);
        self.attest(host, Some(row), alter).map(|_| ()).unwrap_err().reason()
    }

    fn honest(&self, host: &Host) -> Verified {
        let row = self.admitted(host);
        self.attest(host, Some(row), |_, _| {}).unwrap()
    }

    fn refresh(
        &self,
        host: &Host,
        row: &NodeRow,
        exporters: ([u8; 32], [u8; 32]),
    ) -> Result<Verified, Refused> {
        let (first, attester) = Attester::refresh(&example_org(), exporters.0, &host.facts);
        let mut random = SystemRandom::new();
        let identified = Identified::refresh(&self.terms, hello(first), Some(exporters.1), row)?;
        let (challenge, awaiting) =
            identified.challenge(Some(row), &[], &mut random, self.clock.moment())?;
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        assert!(collect.credential.is_none() && !collect.certify);
        let (frame, _) = collecting.evidence(host.gather(&collect)).unwrap();
        let collected = collected(self.receive(awaiting, frame)?);
        collected.verify(Some(row.clone()), &[], true, self.clock.now())
    }
}

type Lie = fn(&mut wire::Evidence);
type Edit = Box<dyn FnOnce(&mut wire::Evidence)>;

/// As it arrives: through bytes.
fn parsed(message: wire::FromAgent) -> Result<FromAgent, Refused> {
    FromAgent::parse(&message.encode_to_vec())
}

fn hello(message: wire::FromAgent) -> Hello {
    parsed(message).unwrap().into_hello().unwrap()
}

fn collected(step: Step) -> Collected {
    match step {
        Step::Collected(collected) => collected,
        Step::More(more, _) => panic!("more is due: {more:?}"),
    }
}

fn refusal<T>(result: Result<T, Refused>) -> Refused {
    result.map(|_| ()).unwrap_err()
}

// --- the way it goes well ---------------------------------------------------------------------

#[test]
fn a_host_attests_and_refreshes_and_attests_again_without_activation() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let verified = house.honest(&lab.a);
    let row = verified.row().clone();
    assert!(verified.channel_bound() && verified.key_in_tpm());
    assert!(verified.replaced_ak().is_none());
    assert_eq!(row.node_id, verified.node().as_str());
    assert_eq!(row.class, Some(TpmClass::Software));
    assert_eq!(row.ak_name.as_deref(), Some(&lab.a.facts.ak_name[..]));
    assert_eq!(row.ek_spki_sha256.len(), 1, "only the verified EK is the node's");
    assert!(row.counters.is_some());
    assert_eq!(verified.quoted().wall, house.clock.now());
    assert_eq!(verified.items().len(), 3);

    house.clock.advance(Duration::from_secs(60));
    let refreshed = house.refresh(&lab.a, &row, (OTHER_EXPORTER, OTHER_EXPORTER)).unwrap();
    assert!(refreshed.key_in_tpm() && refreshed.channel_bound());
    assert!(refreshed.counters() >= row.counters);

    let (first, attester) = lab.a.attester();
    let row = refreshed.row();
    let (challenge, _awaiting) = house.challenge(hello(first), lab.a.channel(), Some(row)).unwrap();
    let (collect, _) = attester.challenged(challenge).unwrap();
    assert!(collect.credential.is_none(), "the AK is known");
}

#[test]
fn logs_larger_than_memory_come_in_chunks_and_small_ones_are_kept() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let (first, attester) = lab.a.attester();
    let (challenge, awaiting) = house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    assert_eq!(collect.logs, [MediaType::TcgEventlog, MediaType::ImaBinary]);
    let mut gathered = lab.a.gather(&collect);
    let list: Vec<u8> = (0..3 * 1_024 * 1_024 + 5_u32).map(|n| n.to_le_bytes()[1]).collect();
    gathered.logs = vec![
        Log { media_type: MediaType::TcgEventlog, bytes: vec![1; 40_000] },
        Log { media_type: MediaType::ImaBinary, bytes: list.clone() },
    ];
    let (mut frame, mut sending) = collecting.evidence(gathered).unwrap();
    let mut awaiting = awaiting;
    assert!(awaiting.heard().is_none(), "no quote, nothing that a list could lead to");
    let mut heard = Vec::new();
    let mut chunks = 0;
    let collected = loop {
        assert!(frame.encoded_len() <= MAX_FRAME);
        match house.receive(awaiting, frame).unwrap() {
            Step::Collected(collected) => {
                heard.extend_from_slice(collected.heard().piece);
                break collected;
            }
            Step::More(more, next) => match sending.on(more).unwrap() {
                Demand::Send(chunk, rest) => (frame, sending, awaiting) = (chunk, rest, next),
                Demand::Done(outcome) => panic!("{outcome:?}"),
            },
        }
        heard.extend_from_slice(awaiting.heard().unwrap().piece);
        chunks += 1;
    };
    assert_eq!(chunks, 4);
    assert!(sending.is_through());
    assert_eq!(heard, list, "who judges it has heard all of it, in its order");
    assert!(house.terms.budget.used() < 1_024 * 1_024);
    let verified = collected.verify(Some(row), &[], false, house.clock.now()).unwrap();
    let item = |kind| verified.items().iter().find(|item| item.media_type == kind).unwrap();
    let ima = item(MediaType::ImaBinary);
    assert_eq!((ima.size, ima.sha256), (list.len() as u64, crypto::sha256(&list)));
    assert!(ima.bytes.is_none(), "too large to be kept");
    let log = item(MediaType::TcgEventlog);
    assert_eq!(log.bytes.as_deref(), Some(&[1; 40_000][..]));

    // The log is known now: an agent that names its digest need not send it.
    let mut facts = lab.a.facts.clone();
    facts.log_sha256 = Some(log.sha256);
    let (first, attester) = Attester::refresh(&example_org(), EXPORTER, &facts);
    let identified =
        Identified::refresh(&house.terms, hello(first), Some(EXPORTER), verified.row()).unwrap();
    let (challenge, _awaiting) = identified
        .challenge(Some(verified.row()), &[], &mut SystemRandom::new(), house.clock.moment())
        .unwrap();
    assert!(attester.challenged(challenge).unwrap().0.logs.is_empty());
    drop(verified);
    assert_eq!(house.terms.budget.used(), 0);
}

#[test]
fn a_refresh_asks_for_what_is_new_of_a_list_and_an_attestation_for_all_of_it() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.honest(&lab.a).row().clone();
    let items = kernel_list::every_template();
    let quoted = kernel_list::quoted(&items, &[kernel_list::SHA256]);
    let mut replay = ima::Replay::new(&ima::State::boot(1), &quoted).unwrap();
    let list = kernel_list::binary(&items);
    let mut reader = ima::Reader::new();
    let mut entries = reader.entries(&list);
    while let Some(entry) = entries.next().unwrap() {
        replay.advance(&entry).unwrap();
    }
    let state = replay.finish().unwrap().into_state();
    let appraises =
        |from: Option<&ima::State>| Appraises { log: true, files: true, files_from: from.cloned() };
    let asked = |identified: Identified, attester: Attester| {
        let (challenge, _awaiting) = identified
            .challenge(Some(&row), &[], &mut SystemRandom::new(), house.clock.moment())
            .unwrap();
        attester.challenged(challenge).unwrap().0
    };
    for (from, expected) in [(None, 0), (Some(&state), items.len() as u64)] {
        let (first, attester) = Attester::refresh(&example_org(), EXPORTER, &lab.a.facts);
        let exporter = Some(EXPORTER);
        let identified = Identified::refresh(&house.terms, hello(first), exporter, &row).unwrap();
        let collect = asked(identified.appraising(appraises(from)), attester);
        assert_eq!(collect.ima_from, expected);
        assert!(collect.logs.contains(&MediaType::ImaBinary));
    }
    let (first, attester) = lab.a.attester();
    let identified = house.identified(hello(first), lab.a.channel()).unwrap();
    let collect = asked(identified.appraising(appraises(Some(&state))), attester);
    assert_eq!(collect.ima_from, 0, "it may be another boot");
}

// --- freshness and binding --------------------------------------------------------------------

#[test]
fn a_replayed_quote_is_refused_by_what_it_was() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let (first, attester) = lab.a.attester();
    let (challenge, awaiting) = house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
    let recorded = frame.clone();
    let verified = collected(house.receive(awaiting, frame).unwrap())
        .verify(Some(row), &[], false, house.clock.now())
        .unwrap();
    let row = verified.row().clone();

    let replay = |change: &dyn Fn(&mut wire::Evidence)| {
        let (first, _) = lab.a.attester();
        let (_, awaiting) = house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
        let mut frame = recorded.clone();
        let Some(Said::Evidence(evidence)) = &mut frame.message else { panic!() };
        // The AK is enrolled by now, so no answer is asked for.
        evidence.activated.clear();
        change(evidence);
        refusal(house.receive(awaiting, frame)).reason()
    };
    assert_eq!(replay(&|_| {}), Reason::NonceConsumed);
    assert_eq!(replay(&|evidence| evidence.binding_input.clear()), Reason::NonceMismatch);
    house.clock.advance(Duration::from_secs(601));
    assert_eq!(replay(&|_| {}), Reason::NonceMismatch, "no longer remembered");
}

#[test]
fn the_challenge_of_another_agent_is_none_of_ones_own() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row_a = house.admitted(&lab.a);
    let row_b = house.honest(&lab.b).row().clone();
    let (first, _) = lab.a.attester();
    let (for_a, _open) = house.challenge(hello(first), lab.a.channel(), Some(&row_a)).unwrap();
    let (first, attester) = lab.b.attester();
    let (_, awaiting) = house.challenge(hello(first), lab.b.channel(), Some(&row_b)).unwrap();
    // B answers what A was asked.
    let mut stolen = for_a;
    let Some(wire::from_server::Message::Challenge(challenge)) = &mut stolen.message else {
        panic!()
    };
    challenge.credential_blob.clear();
    challenge.credential_secret.clear();
    let (collect, collecting) = attester.challenged(stolen).unwrap();
    let (frame, _) = collecting.evidence(lab.b.gather(&collect)).unwrap();
    assert_eq!(refusal(house.receive(awaiting, frame)).reason(), Reason::ChallengeUnknown);
}

#[test]
fn a_relay_over_another_channel_is_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let (first, attester) = lab.a.attester();
    // The host speaks to the relay over one channel, the relay to the server over another.
    let relayed = Channel { exporter: Some(OTHER_EXPORTER), ..lab.a.channel() };
    let (challenge, awaiting) = house.challenge(hello(first), relayed, Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
    assert_eq!(refusal(house.receive(awaiting, frame)).reason(), Reason::ChannelBinding);

    let none = Channel { exporter: None, ..lab.a.channel() };
    let refused = refusal(house.challenge(hello(lab.a.attester().0), none, Some(&row)));
    assert_eq!(refused.reason(), Reason::ChannelBinding, "native without exporter");

    let row = house.honest(&lab.a).row().clone();
    let refused = refusal(house.refresh(&lab.a, &row, (EXPORTER, OTHER_EXPORTER)));
    assert_eq!(refused.reason(), Reason::ChannelBinding);
}

#[test]
fn a_changed_face_is_refused_where_it_is_said_and_where_it_is_signed() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let plugin = Facts { face: Face::SpirePlugin, ..lab.a.facts.clone() };
    let said = Attester::attest(&example_org(), None, None, &plugin).0;

    // A relay claims to be the face that knows no channel, over a channel that we know.
    let refused = refusal(house.challenge(hello(said.clone()), lab.a.channel(), Some(&row)));
    assert_eq!(refused.reason(), Reason::FaceNotAllowed);
    // Inside SPIRE there is none; but the node's row does not allow it.
    let refused = refusal(house.challenge(hello(said), Channel::default(), Some(&row)));
    assert_eq!(refused.reason(), Reason::FaceNotAllowed);

    // The hello says native, the TPM signed for the plugin.
    let (first, _) = lab.a.attester();
    let (_, attester) =
        Attester::attest(&example_org(), Some(EXPORTER), Some(&lab.a.spki()), &plugin);
    let (challenge, awaiting) = house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
    assert_eq!(refusal(house.receive(awaiting, frame)).reason(), Reason::FaceNotAllowed);
}

#[test]
fn a_plugin_that_its_row_allows_is_verified_without_a_channel_and_says_so() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let mut row = house.admitted(&lab.a);
    row.faces = vec![Face::SpirePlugin];
    let plugin = Facts { face: Face::SpirePlugin, ..lab.a.facts.clone() };
    let (first, attester) = Attester::attest(&example_org(), None, Some(&lab.a.spki()), &plugin);
    let (challenge, awaiting) =
        house.challenge(hello(first), Channel::default(), Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
    let verified = collected(house.receive(awaiting, frame).unwrap())
        .verify(Some(row), &[], false, house.clock.now())
        .unwrap();
    assert!(!verified.channel_bound() && verified.key_in_tpm());
    assert!(verified.not_checked().iter().any(|text| text.starts_with("channel")));
}

#[test]
fn another_purpose_or_trust_domain_is_named() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.honest(&lab.a).row().clone();
    let reason = |attester: Attester| {
        let (first, _) = Attester::refresh(&example_org(), EXPORTER, &lab.a.facts);
        let identified =
            Identified::refresh(&house.terms, hello(first), Some(EXPORTER), &row).unwrap();
        let (challenge, awaiting) = identified
            .challenge(Some(&row), &[], &mut SystemRandom::new(), house.clock.moment())
            .unwrap();
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
        refusal(house.receive(awaiting, frame)).reason()
    };
    let attest = Attester::attest(&example_org(), Some(EXPORTER), None, &lab.a.facts).1;
    assert_eq!(reason(attest), Reason::AttestPurpose);
    let elsewhere = TrustDomain::parse("example.com").unwrap();
    let refresh = Attester::refresh(&elsewhere, EXPORTER, &lab.a.facts).1;
    assert_eq!(reason(refresh), Reason::TrustDomainMismatch);
}

#[test]
fn what_comes_too_late_is_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let open = || {
        let (first, attester) = lab.a.attester();
        let (challenge, awaiting) =
            house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        let mut gathered = lab.a.gather(&collect);
        let bytes = vec![1; 2 * MAX_FRAME];
        gathered.logs = vec![Log { media_type: MediaType::ImaBinary, bytes }];
        let (frame, sending) = collecting.evidence(gathered).unwrap();
        (awaiting, frame, sending)
    };
    let (awaiting, frame, _) = open();
    assert_eq!(awaiting.deadline(), house.clock.boot() + Duration::from_secs(60));
    house.clock.advance(Duration::from_secs(61));
    assert_eq!(refusal(house.receive(awaiting, frame)).reason(), Reason::ChallengeExpired);

    let (awaiting, frame, sending) = open();
    house.clock.advance(Duration::from_secs(59));
    let Step::More(more, awaiting) = house.receive(awaiting, frame).unwrap() else { panic!() };
    let Demand::Send(chunk, sending) = sending.on(more).unwrap() else { panic!() };
    house.clock.advance(Duration::from_secs(91));
    let Step::More(more, awaiting) = house.receive(awaiting, chunk).unwrap() else { panic!() };
    let Demand::Send(chunk, _) = sending.on(more).unwrap() else { panic!() };
    house.clock.advance(Duration::from_secs(1));
    let refused = refusal(house.receive(awaiting, chunk));
    assert_eq!(refused.reason(), Reason::ChallengeExpired, "150 s is max_age less 30 s");
    assert_eq!(house.terms.budget.used(), 0);
}

#[test]
fn an_accepted_quote_voids_the_older_challenge_of_its_node() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let open = || {
        let (first, attester) = lab.a.attester();
        let (challenge, awaiting) =
            house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
        house.clock.advance(Duration::from_millis(1));
        (awaiting, frame)
    };
    let (older, older_frame) = open();
    let (younger, younger_frame) = open();
    let older = collected(house.receive(older, older_frame).unwrap());
    let younger = collected(house.receive(younger, younger_frame).unwrap());
    let row =
        younger.verify(Some(row.clone()), &[], false, house.clock.now()).unwrap().row().clone();
    let refused = refusal(older.verify(Some(row), &[], true, house.clock.now()));
    assert_eq!(refused.reason(), Reason::ChallengeUnknown);
    assert_eq!(refused.flag(), None, "an older answer is no clone");
}

// --- keys of others ---------------------------------------------------------------------------

#[test]
fn the_ak_of_another_tpm_cannot_be_activated() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    // Host B shows A's endorsement and its own AK; it holds no key that could read the secret.
    let borrowed = Facts {
        ak_public: lab.b.facts.ak_public.clone(),
        ak_name: lab.b.facts.ak_name.clone(),
        ..lab.a.facts.clone()
    };
    let spki = lab.b.spki();
    let (first, attester) =
        Attester::attest(&example_org(), Some(EXPORTER), Some(&spki), &borrowed);
    let (challenge, awaiting) = house.challenge(hello(first), lab.b.channel(), Some(&row)).unwrap();
    let (mut collect, collecting) = attester.challenged(challenge).unwrap();
    let (blob, secret) = collect.credential.take().unwrap();
    assert!(lab.b.device.activate(&lab.b.ek, &lab.b.ak, &blob, &secret).is_err());
    assert!(lab.a.device.activate(&lab.a.ek, &lab.a.ak, &blob, &secret).is_err());
    let mut gathered = lab.b.gather(&collect);
    gathered.activated = Some(vec![0; 32].into());
    let (frame, _) = collecting.evidence(gathered).unwrap();
    assert_eq!(refusal(house.receive(awaiting, frame)).reason(), Reason::ActivationFailed);
}

#[test]
fn the_ek_certificate_of_another_tpm_helps_nobody() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let mixed = Facts { ek_certs: lab.a.facts.ek_certs.clone(), ..lab.b.facts.clone() };
    let said = Attester::attest(&example_org(), Some(EXPORTER), None, &mixed).0;
    let refused = refusal(house.challenge(hello(said), lab.b.channel(), Some(&row)));
    assert_eq!(refused.reason(), Reason::EkKeyCertMismatch);

    // With A's key beside A's certificate the secret is for A's TPM.
    let reason = house.reason(&lab.a, |gathered, _| gathered.activated = Some(vec![1; 32].into()));
    assert_eq!(reason, Reason::ActivationFailed);
    let reason = house.reason(&lab.a, |_, edit| edit(Box::new(|e| e.activated.clear())));
    assert_eq!(reason, Reason::ActivationFailed);
}

#[test]
fn a_refresh_by_another_ak_is_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.honest(&lab.a).row().clone();
    let refused = refusal(house.refresh(&lab.b, &row, (EXPORTER, EXPORTER)));
    assert_eq!(refused.reason(), Reason::AkMismatch);
    // Announced rightly, and signed by another all the same.
    let (first, attester) = Attester::refresh(&example_org(), EXPORTER, &lab.a.facts);
    let identified = Identified::refresh(&house.terms, hello(first), Some(EXPORTER), &row).unwrap();
    let (challenge, awaiting) = identified
        .challenge(Some(&row), &[], &mut SystemRandom::new(), house.clock.moment())
        .unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.b.gather(&collect)).unwrap();
    assert_eq!(refusal(house.receive(awaiting, frame)).reason(), Reason::SigInvalid);
}

#[test]
fn a_changed_ak_is_activated_anew_and_told() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let mut row = house.honest(&lab.a).row().clone();
    let before = [&[0, 0x0b][..], &[9; 32]].concat();
    row.ak_name = Some(before.clone());
    let verified = house.attest(&lab.a, Some(row), |_, _| {}).unwrap();
    assert_eq!(verified.replaced_ak(), Some(&before[..]));
    assert_eq!(verified.row().ak_name.as_deref(), Some(&lab.a.facts.ak_name[..]));
}

// --- the SVID key -----------------------------------------------------------------------------

#[test]
fn an_svid_key_that_the_tpm_did_not_certify_is_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let reason = house.reason(&lab.a, |gathered, _| gathered.certified = None);
    assert_eq!(reason, Reason::SvidKeyNotCertified);
    let mut lenient = House::new(&lab);
    lenient.terms.key_in_tpm = false;
    let row = lenient.admitted(&lab.a);
    let without = |gathered: &mut Gathered, _: &mut dyn FnMut(Edit)| gathered.certified = None;
    let verified = lenient.attest(&lab.a, Some(row), without).unwrap();
    assert!(!verified.key_in_tpm(), "allowed, and said");
    let half = |_: &mut Gathered, edit: &mut dyn FnMut(Edit)| {
        edit(Box::new(|e| e.svid_public.clear()));
    };
    assert_eq!(lenient.reason(&lab.a, half), Reason::SvidKeyNotCertified);
    // A key that is fixed, but not of the null hierarchy: the AK itself.
    let reason = house.reason(&lab.a, |gathered, _| {
        let (statement, _) = gathered.certified.take().unwrap();
        gathered.certified = Some((statement, lab.a.ak.public().raw().to_vec()));
    });
    assert_eq!(reason, Reason::KeyAttributes);
}

#[test]
fn an_svid_key_in_the_request_of_another_host_is_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    // B's request rides on A's evidence: A's TPM signed for A's key.
    let (first, attester) = lab.a.attester();
    let riding = Channel { svid_spki: Some(lab.b.spki()), ..lab.a.channel() };
    let (challenge, awaiting) = house.challenge(hello(first), riding.clone(), Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
    assert_eq!(refusal(house.receive(awaiting, frame)).reason(), Reason::SvidKeyNotCertified);

    // A's agent helps and binds B's key; its TPM still certifies its own.
    let (first, attester) =
        Attester::attest(&example_org(), Some(EXPORTER), Some(&lab.b.spki()), &lab.a.facts);
    let (challenge, awaiting) = house.challenge(hello(first), riding, Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
    assert_eq!(refusal(house.receive(awaiting, frame)).reason(), Reason::SvidKeyNotCertified);
}

// --- registers, counters, admission -----------------------------------------------------------

#[test]
fn altered_registers_are_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let reason = house.reason(&lab.a, |gathered, _| gathered.pcrs[5] ^= 1);
    assert_eq!(reason, Reason::PcrDigestMismatch);
    let reason = house.reason(&lab.a, |gathered, _| gathered.pcrs.truncate(32));
    assert_eq!(reason, Reason::PcrSelection);
    let drop_item = |kind: MediaType| {
        move |_: &mut Gathered, edit: &mut dyn FnMut(Edit)| {
            let media_type = kind.to_string();
            edit(Box::new(move |e| e.items.retain(|item| item.media_type != media_type)));
        }
    };
    assert_eq!(house.reason(&lab.a, drop_item(MediaType::TpmPcrs)), Reason::EvidenceMissing);
    assert_eq!(house.reason(&lab.a, drop_item(MediaType::TpmQuote)), Reason::EvidenceMissing);
}

#[test]
fn a_bank_left_out_is_refused_unless_the_row_knows_it() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let mut row = house.admitted(&lab.a);
    let mut facts = lab.a.facts.clone();
    facts.banks.retain(|(algorithm, _)| *algorithm != 0x0004);
    let said = Attester::attest(&example_org(), Some(EXPORTER), None, &facts).0;
    let refused = refusal(house.challenge(hello(said.clone()), lab.a.channel(), Some(&row)));
    assert_eq!(refused.reason(), Reason::EvidenceMissing);
    row.no_sha1 = true;
    house.challenge(hello(said), lab.a.channel(), Some(&row)).unwrap();
    facts.banks.retain(|(algorithm, _)| *algorithm != 0x000b);
    let said = Attester::attest(&example_org(), Some(EXPORTER), None, &facts).0;
    let refused = refusal(house.challenge(hello(said), lab.a.channel(), Some(&row)));
    assert_eq!(refused.reason(), Reason::EvidenceMissing);
}

#[test]
fn counters_that_went_back_flag_the_node() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let mut row = house.honest(&lab.a).row().clone();
    let counters = row.counters.unwrap();
    row.counters = Some(Counters { reset_count: counters.reset_count + 1, ..counters });
    for (live, flag) in [(true, Flag::CloneSuspected), (false, Flag::ClockRegression)] {
        let (first, attester) = lab.a.attester();
        let (challenge, awaiting) =
            house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
        let collected = collected(house.receive(awaiting, frame).unwrap());
        let refused = refusal(collected.verify(Some(row.clone()), &[], live, house.clock.now()));
        assert_eq!(refused.flag(), Some(flag));
        assert_eq!(refused.node().unwrap().as_str(), row.node_id);
        // From now on the row says so, and the next hello ends at once.
        let flagged = NodeRow { flag: Some(flag), ..row.clone() };
        let said = hello(lab.a.attester().0);
        let next = refusal(house.challenge(said, lab.a.channel(), Some(&flagged)));
        assert_eq!(next.reason(), refused.reason());
        assert_eq!(next.flag(), None);
    }
}

#[test]
fn an_unlisted_ek_is_refused_before_a_challenge_is_made() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let refused = refusal(house.challenge(hello(lab.a.attester().0), lab.a.channel(), None));
    assert_eq!(refused.reason(), Reason::NotAdmitted);
    assert!(house.terms.ledger.is_empty());
    let of_b = house.admitted(&lab.b);
    let said = hello(lab.a.attester().0);
    let refused = refusal(house.challenge(said, lab.a.channel(), Some(&of_b)));
    assert_eq!(refused.reason(), Reason::IdentityChanged);
}

#[test]
fn an_unknown_root_is_no_vendor() {
    let Some(lab) = lab() else { return };
    let mut house = House::new(&lab);
    house.terms.anchors = Arc::new(Anchors::default());
    let refused = refusal(house.identified(hello(lab.a.attester().0), lab.a.channel()));
    assert_eq!(refused.reason(), Reason::EkChainUntrusted);
}

#[test]
fn a_banned_relative_bars_the_way() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let identified = house.identified(hello(lab.a.attester().0), lab.a.channel()).unwrap();
    assert_eq!(identified.other_eks().len(), 1, "swtpm has two endorsement keys");
    let banned = NodeRow { banned: true, ..house.admitted(&lab.b) };
    let mut random = SystemRandom::new();
    let refused =
        refusal(identified.challenge(Some(&row), &[banned], &mut random, house.clock.moment()));
    assert_eq!(refused.reason(), Reason::Banned);
}

#[test]
fn a_proved_stranger_waits_for_an_operator_or_enters_by_its_root() {
    let Some(lab) = lab() else { return };
    let mut house = House::new(&lab);
    let admission = Admission { operator: true, ..Admission::default() };
    house.terms.admission = Arc::new(admission);
    let refused = refusal(house.attest(&lab.a, None, |_, _| {}));
    assert_eq!(refused.reason(), Reason::NotAdmitted);
    let pending = refused.pending().unwrap();
    assert_eq!(pending.admission, assay::store::Admission::Pending);
    assert_eq!(pending.ak_name.as_deref(), Some(&lab.a.facts.ak_name[..]));
    let told = refused.told("c0ffee", RefusalDetail::Claims);
    assert!(told.findings.is_empty(), "proved, but not admitted");

    let roots = BTreeSet::from([pending.ek_root.unwrap()]);
    let admission = Admission { roots, ..Admission::default() };
    house.terms.admission = Arc::new(admission);
    let verified = house.attest(&lab.a, None, |_, _| {}).unwrap();
    assert_eq!(verified.row().admission, assay::store::Admission::Admitted);
    let verified = house.attest(&lab.a, Some(pending.clone()), |_, _| {}).unwrap();
    assert_eq!(verified.row().admission, assay::store::Admission::Admitted);
}

#[test]
fn a_node_that_was_deleted_meanwhile_does_not_come_back_by_itself() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let (first, attester) = lab.a.attester();
    let (challenge, awaiting) = house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
    let collected = collected(house.receive(awaiting, frame).unwrap());
    let refused = refusal(collected.verify(None, &[], false, house.clock.now()));
    assert_eq!(refused.reason(), Reason::NotAdmitted);
}

#[test]
fn a_ban_that_came_meanwhile_holds() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let (first, attester) = lab.a.attester();
    let (challenge, awaiting) = house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
    let collected = collected(house.receive(awaiting, frame).unwrap());
    let banned = NodeRow { banned: true, ..row };
    let refused = refusal(collected.verify(Some(banned), &[], false, house.clock.now()));
    assert_eq!(refused.reason(), Reason::Banned);
}

#[test]
fn a_ban_on_another_ek_that_came_meanwhile_holds() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let (row, other) = (house.admitted(&lab.a), house.admitted(&lab.b));
    let evidence = || {
        let (first, attester) = lab.a.attester();
        let (challenge, awaiting) =
            house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
        let (collect, collecting) = attester.challenged(challenge).unwrap();
        let (frame, _) = collecting.evidence(lab.a.gather(&collect)).unwrap();
        collected(house.receive(awaiting, frame).unwrap())
    };
    let kin = [other.clone(), NodeRow { banned: true, ..other.clone() }];
    let refused = refusal(evidence().verify(Some(row.clone()), &kin, true, house.clock.now()));
    assert_eq!(refused.reason(), Reason::Banned);
    evidence().verify(Some(row.clone()), &[other], true, house.clock.now()).unwrap();
}

// --- what is told -----------------------------------------------------------------------------

#[test]
fn a_stranger_learns_a_code_and_a_proved_node_learns_the_claim() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let stranger = refusal(house.attest(&lab.a, Some(row), |gathered, _| gathered.pcrs[0] ^= 1));
    let told = stranger.told("c0ffee", RefusalDetail::Claims);
    assert_eq!((told.code.as_str(), told.findings.len()), ("pcr-digest-mismatch", 0));
    assert!(!stranger.findings().is_empty(), "the log has it");
    let status = stranger.status("c0ffee", RefusalDetail::Claims);
    assert_eq!(status.message(), "pcr-digest-mismatch (c0ffee)");

    let row = house.honest(&lab.a).row().clone();
    let node = refusal(house.refresh(&lab.a, &row, (EXPORTER, OTHER_EXPORTER)));
    let told = node.told("c0ffee", RefusalDetail::Claims);
    assert_eq!((told.code.as_str(), told.findings.len()), ("channel-binding", 1));
    assert!(node.told("c0ffee", RefusalDetail::Code).findings.is_empty());
}

// --- frames -----------------------------------------------------------------------------------

#[test]
fn messages_out_of_turn_are_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let open = || house.challenge(hello(lab.a.attester().0), lab.a.channel(), Some(&row)).unwrap();
    let chunk = || {
        let chunk = wire::Chunk { id: 1, offset: 0, data: vec![1] };
        wire::FromAgent { message: Some(Said::Chunk(chunk)) }
    };
    let refused = refusal(house.receive(open().1, lab.a.attester().0));
    assert_eq!(refused.reason(), Reason::MessageMalformed);
    let refused = refusal(house.receive(open().1, chunk()));
    assert_eq!(refused.reason(), Reason::MessageMalformed);
    assert_eq!(
        refusal(parsed(chunk()).unwrap().into_hello()).reason(),
        Reason::MessageMalformed,
        "the first word is a hello"
    );
    // Evidence a second time, while a log is due.
    let (first, attester) = lab.a.attester();
    let (challenge, awaiting) = house.challenge(hello(first), lab.a.channel(), Some(&row)).unwrap();
    let (collect, collecting) = attester.challenged(challenge).unwrap();
    let mut gathered = lab.a.gather(&collect);
    let bytes = vec![1; MAX_FRAME];
    gathered.logs = vec![Log { media_type: MediaType::ImaBinary, bytes }];
    let (frame, _) = collecting.evidence(gathered).unwrap();
    let Step::More(_, awaiting) = house.receive(awaiting, frame.clone()).unwrap() else { panic!() };
    let refused = refusal(house.receive(awaiting, frame));
    assert_eq!(refused.reason(), Reason::MessageMalformed);
}

#[test]
fn items_that_lie_about_themselves_are_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let edited =
        |edit: fn(&mut wire::Evidence)| house.reason(&lab.a, move |_, put| put(Box::new(edit)));
    let cases: [(Lie, Reason); 9] = [
        (|e| e.items[0].sha256[0] ^= 1, Reason::MessageMalformed),
        (|e| e.items[0].sha256.truncate(31), Reason::MessageMalformed),
        (|e| e.items[0].size += 1, Reason::MessageMalformed),
        (|e| e.items[0].size = 1 << 40, Reason::EvidenceTooLarge),
        (|e| e.items[1].id = e.items[0].id, Reason::MessageMalformed),
        (|e| e.items.push(e.items[0].clone()), Reason::MessageMalformed),
        (
            |e| e.items[0].media_type = "application/vnd.assay.crystal-ball".to_owned(),
            Reason::UnsupportedEvidence,
        ),
        (|e| e.binding_input = vec![0; 4_096], Reason::EvidenceTooLarge),
        (|e| e.items[0].data.clear(), Reason::MessageMalformed),
    ];
    for (index, (edit, expected)) in cases.into_iter().enumerate() {
        assert_eq!(edited(edit), expected, "case {index}");
    }
}

#[test]
fn oversized_and_bloated_frames_are_refused_before_they_are_decoded() {
    let reason = |frame: &[u8]| FromAgent::parse(frame).map(|_| ()).unwrap_err().reason();
    assert_eq!(reason(&vec![0; MAX_FRAME + 1]), Reason::EvidenceTooLarge);
    assert_eq!(reason(&[]), Reason::MessageMalformed);
    // Evidence with a hundred thousand empty items: 200 kB that would decode to many times that.
    let items = [0x0a, 0x00].repeat(100_000);
    let mut frame = vec![0x12];
    prost::encoding::encode_varint(items.len() as u64, &mut frame);
    frame.extend_from_slice(&items);
    assert_eq!(reason(&frame), Reason::EvidenceTooLarge);
    let hello = wire::Hello {
        face: "native".to_owned(),
        ek_certs: vec![vec![0; 16 * 1_024]; 8],
        ek_chain: vec![vec![0; 16 * 1_024]; 8],
        ..wire::Hello::default()
    };
    let frame = wire::FromAgent { message: Some(Said::Hello(hello)) };
    assert_eq!(reason(&frame.encode_to_vec()), Reason::EvidenceTooLarge, "beyond 256 KiB");
}

#[test]
fn any_bit_flipped_in_the_evidence_is_refused() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.honest(&lab.a).row().clone();
    // Statements only: an enrolled key, so that one quote serves for each flip's own exchange.
    let sweep = |pick: fn(&mut Gathered) -> &mut Vec<u8>| {
        let mut flipped = 0;
        for round in 0..24_usize {
            let result = house.attest(&lab.a, Some(row.clone()), |gathered, _| {
                let bytes = pick(gathered);
                let index = round * bytes.len() / 24;
                bytes[index] ^= 1 << (round % 8);
                flipped += 1;
            });
            assert!(result.is_err(), "round {round}");
        }
        assert_eq!(flipped, 24);
    };
    sweep(|gathered| &mut gathered.quote);
    sweep(|gathered| &mut gathered.pcrs);
    sweep(|gathered| &mut gathered.certified.as_mut().unwrap().0);
    sweep(|gathered| &mut gathered.certified.as_mut().unwrap().1);
}

/// Messages that look right in part.
fn odd_messages() -> impl Strategy<Value = wire::FromAgent> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..80);
    let hello = (".{0,12}", bytes(), bytes(), proptest::collection::vec(bytes(), 0..10)).prop_map(
        |(face, ek_public, ak_public, ek_certs)| {
            let face = if face.len() % 2 == 0 { "native".to_owned() } else { face };
            Said::Hello(wire::Hello { face, ek_public, ak_public, ek_certs, ..Default::default() })
        },
    );
    let item = (any::<u32>(), 0..8_usize, any::<u64>(), bytes(), bytes()).prop_map(
        |(id, kind, size, sha256, data)| {
            let known = MediaType::ALL.get(kind).map(ToString::to_string);
            wire::Item { id, media_type: known.unwrap_or_default(), size, sha256, data }
        },
    );
    let evidence = (proptest::collection::vec(item, 0..20), bytes(), bytes(), bytes()).prop_map(
        |(items, activated, svid_public, binding_input)| {
            Said::Evidence(wire::Evidence { items, activated, svid_public, binding_input })
        },
    );
    let chunk = (any::<u32>(), any::<u64>(), bytes())
        .prop_map(|(id, offset, data)| Said::Chunk(wire::Chunk { id, offset, data }));
    prop_oneof![hello, evidence, chunk]
        .prop_map(|message| wire::FromAgent { message: Some(message) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_frames_end_in_a_named_refusal_or_a_message(
        frame in proptest::collection::vec(any::<u8>(), 0..400)
    ) {
        if let Err(refused) = FromAgent::parse(&frame) {
            prop_assert!(!refused.reason().code().is_empty());
        }
    }

    #[test]
    fn odd_messages_never_get_through(message in odd_messages(), cut in any::<usize>()) {
        let mut frame = message.encode_to_vec();
        let end = if cut % 3 == 0 { cut % (frame.len() + 1) } else { frame.len() };
        frame.truncate(end);
        let terms = Terms {
            trust_domain: example_org(),
            anchors: Arc::new(Anchors::default()),
            ak_anchors: Arc::default(),
            tee: TeeAnchors::default(),
            admission: Arc::new(Admission::default()),
            max_age: Duration::from_secs(180),
            key_in_tpm: true,
            budget: Budget::default(),
            ledger: NonceLedger::default(),
        };
        let channel = Channel { exporter: Some(EXPORTER), svid_spki: Some(vec![0]) };
        let refused = FromAgent::parse(&frame)
            .and_then(FromAgent::into_hello)
            .and_then(|hello| Identified::attest(&terms, hello, channel, Time::from_unix_s(0)));
        prop_assert!(refused.is_err());
    }
}

#[test]
fn odd_messages_in_an_open_exchange_end_in_a_named_refusal() {
    let Some(lab) = lab() else { return };
    let house = House::new(&lab);
    let row = house.admitted(&lab.a);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    runner
        .run(&odd_messages(), |message| {
            let said = hello(lab.a.attester().0);
            let (_, awaiting) = house.challenge(said, lab.a.channel(), Some(&row)).unwrap();
            let refused = refusal(house.receive(awaiting, message));
            prop_assert!(!refused.reason().code().is_empty());
            prop_assert_eq!(house.terms.budget.used(), 0);
            Ok(())
        })
        .unwrap();
}
