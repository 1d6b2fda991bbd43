//! The verifier's side, one type for each state; each is consumed by the step to the next.
//!
//! The driver's part: it reads the node's row and hands it in, sends what comes out, keeps the
//! deadline ([`Awaiting::deadline`]), and holds the node's lock from reading the row for
//! [`Collected::verify`] until the row that came out is stored, so that two exchanges of one node
//! are judged one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use assay_eventlog::ima;
use assay_evidence::binding::BindingInput;
use assay_evidence::binding::Face;
use assay_evidence::binding::NonceState;
use assay_evidence::binding::Purpose;
use assay_evidence::crypto;
use assay_evidence::crypto::Random;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::digest::Registers;
use assay_evidence::nonce::Nonce;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_proto::attestation as wire;
use assay_tpm::Activation;
use assay_tpm::AkAnchors;
use assay_tpm::AkCertificate;
use assay_tpm::Anchors;
use assay_tpm::AttestationKey;
use assay_tpm::Credential;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::Trust;
use assay_tpm::ak_certificate;
use assay_tpm::verify;
use assay_tpm::verify::Signed;

use crate::clock::Moment;
use crate::envelope::Claims;
use crate::envelope::MediaType;
use crate::exchange::Admission;
use crate::exchange::Budget;
use crate::exchange::FromAgent;
use crate::exchange::Grounds;
use crate::exchange::Hello;
use crate::exchange::NodeId;
use crate::exchange::NonceLedger;
use crate::exchange::Received;
use crate::exchange::Refused;
use crate::exchange::TeeAnchors;
use crate::exchange::Verified;
use crate::exchange::Vouchers;
use crate::exchange::Wanted;
use crate::exchange::admission::Entrance;
use crate::exchange::admission::demand_face;
use crate::exchange::admission::demand_welcome;
use crate::exchange::admission::not_admitted;
use crate::exchange::continuity::demand_progress;
use crate::exchange::hardware::Hardware;
use crate::exchange::intake::Intake;
use crate::exchange::limits;
use crate::exchange::limits::Lease;
use crate::exchange::message::Evidence;
use crate::exchange::message::malformed;
use crate::exchange::nonce_ledger::Ticket;
use crate::exchange::tee;
use crate::spiffe::TrustDomain;
use crate::store;
use crate::store::Counters;
use crate::store::NodeKind;
use crate::store::NodeRow;

/// What a server demands of every exchange, and what its exchanges share. A clone shares.
#[derive(Debug, Clone)]
pub struct Terms {
    pub trust_domain: TrustDomain,
    pub anchors: Arc<Anchors>,
    /// Of machines without an EK certificate.
    pub ak_anchors: Arc<AkAnchors>,
    /// Of confidential machines.
    pub tee: TeeAnchors,
    pub admission: Arc<Admission>,
    pub max_age: Duration,
    /// The policy's `key_in_tpm`: an attestation without a certified key is refused at once.
    pub key_in_tpm: bool,
    pub budget: Budget,
    pub ledger: NonceLedger,
}

/// What the driver knows of the stream that carries the exchange.
#[derive(Debug, Clone, Default)]
pub struct Channel {
    /// Exported from the TLS 1.3 connection, where there is one that the server sees.
    pub exporter: Option<[u8; 32]>,
    /// SPKI (DER) of the key in the certificate request, whose own signature was verified.
    pub svid_spki: Option<Vec<u8>>,
}

/// A peer whose hello is sound: a genuine TPM's certificate, or a node that attested before.
/// Nothing is proved yet: certificates and public areas can be copied.
#[derive(Debug)]
pub struct Identified {
    terms: Terms,
    purpose: Purpose,
    hello: Hello,
    channel: Channel,
    node: NodeId,
    hardware: Option<Hardware>,
    ak: AttestationKey,
    appraises: Appraises,
}

/// What the node's profile looks into beside registers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Appraises {
    pub log: bool,
    pub files: bool,
    /// Where the last round ended under the same profile: a refresh asks for what came after it.
    /// An attestation may be of another boot and asks for the whole list.
    pub files_from: Option<ima::State>,
}

/// A challenge is out.
#[derive(Debug)]
pub struct Awaiting {
    open: Open,
    state: State,
}

/// All evidence is in, and the TPM's part of it is genuine and fresh.
#[derive(Debug)]
pub struct Collected {
    open: Open,
    proved: Genuine,
    items: Vec<Received>,
    heard: Vec<u8>,
    lease: Lease,
    vouchers: Vouchers,
}

/// A piece of the list of files, in its order, and what the list has to lead to. It is here until the
/// next message: a list is kept only where memory is left, so who judges it takes each piece.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// Genuine and fresh; whose they are is judged at the end.
    pub quoted: &'a Registers,
    pub reset_count: u32,
    /// Where the list goes on, if only what is new was asked for.
    pub from: Option<&'a ima::State>,
    pub piece: &'a [u8],
}

/// What follows from a message.
#[derive(Debug)]
pub enum Step {
    /// Send this and wait for the next message.
    More(wire::FromServer, Awaiting),
    /// Everything that was asked for is there.
    Collected(Collected),
}

/// What stays the same from the challenge on.
#[derive(Debug)]
struct Open {
    terms: Terms,
    purpose: Purpose,
    hello: Hello,
    channel: Channel,
    node: NodeId,
    hardware: Option<Hardware>,
    nonce: Nonce,
    ticket: Ticket,
    selections: Vec<PcrSelection>,
    no_sha1: bool,
    wanted: BTreeSet<MediaType>,
    files_from: Option<ima::State>,
    challenged: Moment,
}

#[derive(Debug)]
enum State {
    Challenged(Key),
    Streaming(Genuine, Intake),
}

#[derive(Debug)]
enum Key {
    Unproved(Activation),
    /// The key of this certificate is to certify it.
    Uncertified(AttestationKey, AkCertificate),
    Enrolled(ProvedKey),
}

/// Of an AK: given before the statements are looked at, or one of them.
enum Proof {
    Given(ProvedKey),
    Due(AttestationKey, AkCertificate),
}

/// What the TPM's statements established.
#[derive(Debug)]
struct Genuine {
    claims: assay_tpm::Claims,
    ak: AttestationKey,
    binding: BindingInput,
    grounds: Grounds,
}

/// Registers of the platform's boot; what stands above them belongs to the operating system.
const BOOT_REGISTERS: u32 = 0xffff;

impl Identified {
    /// The hello of AttestAgent: certificates, template, face and channel are judged here; who
    /// may join is asked of the row, by [`Identified::challenge`].
    pub fn attest(
        terms: &Terms,
        hello: Hello,
        channel: Channel,
        now: Time,
    ) -> Result<Self, Refused> {
        demand_channel(hello.face, &channel)?;
        if hello.face == Face::Native && channel.svid_spki.is_none() {
            return Err(Refused::new(Reason::CsrMalformed, "csr", "absent", "a request"));
        }
        let hardware = Hardware::verify(&hello, terms, now)?;
        let ak = AttestationKey::parse(&hello.ak_public).map_err(|error| Refused::tpm(&error))?;
        let node = NodeId::new(hardware.kind(), &hardware.spki_der());
        let terms = terms.clone();
        let hardware = Some(hardware);
        let (purpose, appraises) = (Purpose::Attest, Appraises::default());
        Ok(Self { terms, purpose, hello, channel, node, hardware, ak, appraises })
    }

    /// The hello of a refresh: `row` is the node that the connection's certificate names. Only
    /// its enrolled AK may speak.
    pub fn refresh(
        terms: &Terms,
        hello: Hello,
        exporter: Option<[u8; 32]>,
        row: &NodeRow,
    ) -> Result<Self, Refused> {
        let node = NodeId::parse(&row.node_id).ok_or_else(|| {
            Refused::new(Reason::Internal, "node.id", &row.node_id, "32 hex digits")
        })?;
        let refused = |refused: Refused| refused.about(&node).into_proved();
        if hello.face != Face::Native {
            let expected = Face::Native;
            let fault = Refused::new(Reason::FaceNotAllowed, "binding.face", hello.face, expected);
            return Err(refused(fault));
        }
        let channel = Channel { exporter, svid_spki: None };
        demand_channel(hello.face, &channel).map_err(refused)?;
        let shown = [&hello.ek_certs, &hello.ek_chain, &hello.ak_certs];
        if !(hello.ek_public.is_empty() && shown.iter().all(|list| list.is_empty())) {
            return Err(refused(malformed("hello.certificates", "present", "none on refresh")));
        }
        let ak = AttestationKey::parse(&hello.ak_public)
            .map_err(|error| refused(Refused::tpm(&error)))?;
        let enrolled = row.ak_name.as_deref().unwrap_or_default();
        if ak.name().as_bytes() != enrolled {
            let found = hex::encode(ak.name().as_bytes());
            let expected = hex::encode(enrolled);
            return Err(refused(Refused::new(Reason::AkMismatch, "ak.name", found, expected)));
        }
        let terms = terms.clone();
        let (purpose, appraises, hardware) = (Purpose::Refresh, Appraises::default(), None);
        Ok(Self { terms, purpose, hello, channel, node, hardware, ak, appraises })
    }

    /// Asks for what the node's profile will look into: of the list of files at a refresh what is
    /// new, and at an attestation the boot log even where it is known.
    #[must_use]
    pub fn appraising(self, appraises: Appraises) -> Self {
        Self { appraises, ..self }
    }

    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// What the node's identity is made of; none on refresh.
    pub fn kind(&self) -> Option<NodeKind> {
        self.hardware.as_ref().map(Hardware::kind)
    }

    /// SHA-256 of the SPKI of the EK that is used, or of the AK certificate's key: the row is
    /// looked up by it.
    pub fn ek_spki_sha256(&self) -> Option<&[u8; 32]> {
        self.hardware.as_ref().map(Hardware::spki_sha256)
    }

    /// The other EKs whose certificates came along. A ban on any of them holds: hand their rows in
    /// as `kin`. None on refresh: the node's row has those of its attestation.
    pub fn other_eks(&self) -> &[[u8; 32]] {
        self.hardware.as_ref().map_or(&[], Hardware::claimed_others)
    }

    /// A new row for a machine that an operator admitted by the hash of its key.
    pub fn admitted_by(&self, admission: &store::EkAdmission, now: Time) -> NodeRow {
        self.new_row(store::Admission::Admitted, now).admitted_by(admission)
    }

    fn new_row(&self, admission: store::Admission, now: Time) -> NodeRow {
        let kind = self.kind().unwrap_or(NodeKind::TpmEk);
        NodeRow::new(self.node.to_string(), kind, admission, now)
    }

    /// Judges admission and face by the row, and only then makes a challenge. `row` is the node
    /// of the used EK, if it is known; `kin` the nodes of the other EKs.
    pub fn challenge(
        self,
        row: Option<&NodeRow>,
        kin: &[NodeRow],
        random: &mut dyn Random,
        now: Moment,
    ) -> Result<(wire::FromServer, Awaiting), Refused> {
        let node = self.node.clone();
        let proved = self.purpose == Purpose::Refresh;
        self.challenge_unless_refused(row, kin, random, now).map_err(|refused| {
            let refused = refused.about(&node);
            if proved { refused.into_proved() } else { refused }
        })
    }

    fn challenge_unless_refused(
        self,
        row: Option<&NodeRow>,
        kin: &[NodeRow],
        random: &mut dyn Random,
        now: Moment,
    ) -> Result<(wire::FromServer, Awaiting), Refused> {
        for row in kin {
            demand_welcome(row)?;
        }
        entrance(&self.terms, &self.node, self.hardware.as_ref(), self.hello.face, row)?;
        let no_sha1 = row.is_some_and(|row| row.no_sha1);
        let selections = self.selections(no_sha1)?;
        let wanted = self.wanted(row);

        let nonce = Nonce::fresh(random)
            .map_err(|error| Refused::new(Reason::Internal, "nonce", error, "random bytes"))?;
        // Before the costly part: the ledger is what bounds open challenges.
        let ticket = self.terms.ledger.issue(&nonce, &self.node, now.boot)?;
        let enrolled = row.and_then(|row| row.ak_name.as_deref());
        let (key, credential) = match &self.hardware {
            // Asked of a known key as well: it costs one signature, and shows that the key of the
            // certificate is still there.
            Some(Hardware::Ak { certificate, .. }) => {
                (Key::Uncertified(self.ak.clone(), certificate.clone()), None)
            }
            Some(Hardware::Ek(endorsement)) if enrolled != Some(self.ak.name().as_bytes()) => {
                let (credential, activation) = Activation::challenge(endorsement, &self.ak, random)
                    .map_err(|error| Refused::tpm(&error))?;
                (Key::Unproved(activation), Some(credential))
            }
            Some(Hardware::Ek(endorsement)) => {
                let key = ProvedKey::enrolled(self.ak.clone()).beside(endorsement.public());
                (Key::Enrolled(key), None)
            }
            None => (Key::Enrolled(ProvedKey::enrolled(self.ak.clone())), None),
        };
        let refresh = self.purpose == Purpose::Refresh;
        let files_from = self.appraises.files_from.filter(|_| refresh);
        let ima_from = files_from.as_ref().map_or(0, ima::State::entries);
        let challenge = said(&nonce, credential, &selections, &wanted, ima_from);
        let open = Open {
            terms: self.terms,
            purpose: self.purpose,
            hello: self.hello,
            channel: self.channel,
            node: self.node,
            hardware: self.hardware,
            nonce,
            ticket,
            selections,
            no_sha1,
            wanted,
            files_from,
            challenged: now,
        };
        Ok((challenge, Awaiting { open, state: State::Challenged(key) }))
    }

    /// Every bank that the TPM lists, the boot's registers of each. Allocated or not is the TPM's
    /// to say, in the signed selection.
    fn selections(&self, no_sha1: bool) -> Result<Vec<PcrSelection>, Refused> {
        let listed: BTreeSet<_> = self
            .hello
            .banks
            .iter()
            .filter_map(|(algorithm, _)| HashAlgorithm::from_tpm_id(*algorithm))
            .collect();
        let demand = |bank: HashAlgorithm| {
            if listed.contains(&bank) {
                return Ok(());
            }
            let found = listed.iter().map(|bank| bank.name()).collect::<Vec<_>>().join(", ");
            Err(Refused::new(Reason::EvidenceMissing, "hello.banks", found, bank))
        };
        demand(HashAlgorithm::Sha256)?;
        if !no_sha1 {
            demand(HashAlgorithm::Sha1)?;
        }
        Ok(listed.into_iter().map(|bank| PcrSelection::new(bank, BOOT_REGISTERS)).collect())
    }

    fn wanted(&self, row: Option<&NodeRow>) -> BTreeSet<MediaType> {
        let mut wanted = BTreeSet::from([MediaType::TpmQuote, MediaType::TpmPcrs]);
        let gives = |kind: MediaType| self.hello.kinds.contains(&kind);
        let known = |digest: [u8; 32]| {
            let digest = hex::encode(digest);
            row.is_some_and(|row| row.logs.values().any(|known| *known == digest))
        };
        let again = self.appraises.log && self.purpose == Purpose::Attest;
        let new = again || !self.hello.log_sha256.is_some_and(known);
        if gives(MediaType::TcgEventlog) && new {
            wanted.insert(MediaType::TcgEventlog);
        }
        if self.appraises.log && gives(MediaType::KernelCmdline) {
            wanted.insert(MediaType::KernelCmdline);
        }
        if self.purpose == Purpose::Attest {
            wanted.insert(MediaType::TpmCertify);
            if self.kind() == Some(NodeKind::TpmAk) {
                wanted.insert(MediaType::TpmAkCertify);
            }
        }
        if self.purpose == Purpose::Attest || self.appraises.files {
            // One form of the list is enough; the binary one is what the kernel hashes.
            let lists = [MediaType::ImaBinary, MediaType::ImaAscii];
            wanted.extend(lists.into_iter().find(|kind| gives(*kind)));
        }
        wanted.extend(tee::wanted(&self.hello.kinds));
        wanted
    }
}

impl Awaiting {
    pub fn node(&self) -> &NodeId {
        &self.open.node
    }

    /// When the challenge was sent: `quoted_at` of what comes of it.
    pub fn challenged(&self) -> Moment {
        self.open.challenged
    }

    /// Boot time at which the peer has been silent for too long; then [`Awaiting::expire`].
    pub fn deadline(&self) -> Duration {
        let within = match self.state {
            State::Challenged(_) => limits::QUOTE_WITHIN,
            State::Streaming(..) => limits::logs_within(self.open.terms.max_age),
        };
        self.open.challenged.boot.saturating_add(within)
    }

    /// The refusal of a peer that did not answer in time.
    pub fn expire(self, now: Moment) -> Refused {
        let refused = self.late(now);
        self.open.refused(refused)
    }

    /// Takes the next message of the agent.
    pub fn receive(self, message: FromAgent, now: Moment) -> Result<Step, Refused> {
        if now.boot > self.deadline() {
            return Err(self.expire(now));
        }
        let Self { open, state } = self;
        let received = match (state, message) {
            (State::Challenged(key), FromAgent::Evidence(evidence)) => {
                open.take_evidence(key, evidence)
            }
            (State::Streaming(genuine, mut intake), FromAgent::Chunk(chunk)) => {
                intake.chunk(chunk).map(|()| (genuine, intake))
            }
            (State::Challenged(_), message) => {
                Err(malformed("frame", message.name(), "evidence for the challenge"))
            }
            (State::Streaming(..), message) => {
                Err(malformed("frame", message.name(), "a chunk of what is due"))
            }
        };
        let (genuine, intake) = match received {
            Ok(received) => received,
            Err(refused) => return Err(open.refused(refused)),
        };
        let due = intake.due();
        if due.is_empty() {
            let heard = intake.heard().to_vec();
            let (items, lease) = intake.received();
            let vouchers = Vouchers::default();
            let collected = Collected { open, proved: genuine, items, heard, lease, vouchers };
            return Ok(Step::Collected(collected));
        }
        let more = wire::from_server::Message::Continue(wire::Continue { want: due });
        let answer = wire::FromServer { message: Some(more) };
        Ok(Step::More(answer, Self { open, state: State::Streaming(genuine, intake) }))
    }

    /// What the last message brought of the list of files; nothing before the quote is verified.
    pub fn heard(&self) -> Option<Heard<'_>> {
        match &self.state {
            State::Challenged(_) => None,
            State::Streaming(genuine, intake) => Some(self.open.heard(genuine, intake.heard())),
        }
    }

    fn late(&self, now: Moment) -> Refused {
        let age = now.boot.saturating_sub(self.open.challenged.boot);
        let limit = self.deadline().saturating_sub(self.open.challenged.boot);
        let found = format!("{} s after the challenge", age.as_secs());
        let expected = format!("within {} s", limit.as_secs());
        Refused::new(Reason::ChallengeExpired, "challenge.age", found, expected)
    }
}

impl Open {
    /// How much a peer is told depends on what it is: over an agent's own channel it has proved
    /// itself before.
    fn refused(&self, refused: Refused) -> Refused {
        let refused = refused.about(&self.node);
        if self.purpose == Purpose::Refresh { refused.into_proved() } else { refused }
    }

    fn heard<'a>(&'a self, genuine: &'a Genuine, piece: &'a [u8]) -> Heard<'a> {
        let claims = &genuine.claims;
        Heard {
            quoted: claims.registers(),
            reset_count: claims.clock().reset_count,
            from: self.files_from.as_ref(),
            piece,
        }
    }

    /// The statements of the TPM, before a byte of the logs is listened to.
    fn take_evidence(&self, key: Key, evidence: Evidence) -> Result<(Genuine, Intake), Refused> {
        let Evidence { items, activated, svid_public, binding_input } = evidence;
        let key = match key {
            Key::Unproved(activation) => {
                Proof::Given(activation.prove(&activated).map_err(|error| Refused::tpm(&error))?)
            }
            _ if !activated.is_empty() => {
                return Err(malformed("evidence.activated", "present", "no answer: none asked"));
            }
            Key::Enrolled(key) => Proof::Given(key),
            Key::Uncertified(ak, certificate) => Proof::Due(ak, certificate),
        };
        let intake = Intake::open(items, &self.wanted, self.terms.budget.lease())?;
        let item = |kind: MediaType| {
            intake.bytes(kind).ok_or_else(|| {
                Refused::new(Reason::EvidenceMissing, "evidence.items", "absent", kind.word())
            })
        };
        let certify = intake.bytes(MediaType::TpmCertify);
        self.demand_certification(certify.is_some(), svid_public.is_some())?;
        let svid_spki = self.svid_spki(svid_public.as_deref())?;

        let ak_name = match &key {
            Proof::Given(key) => key.name(),
            Proof::Due(ak, _) => Some(ak.name()),
        };
        let ak_name = ak_name.map(|name| name.as_bytes().to_vec());
        let binding = BindingInput {
            purpose: self.purpose,
            face: self.hello.face,
            trust_domain: self.terms.trust_domain.as_str().to_owned(),
            nonce: self.nonce,
            spki_sha256: svid_spki.as_deref().map(crypto::sha256),
            ak_name,
            exporter: self.channel.exporter,
        };
        let qualifying_data = binding.binding().qualifying_data();
        let mut expected =
            verify::Expected::exchange(&qualifying_data, &self.selections, self.no_sha1);
        if let (Some(_), Some(spki)) = (&svid_public, &svid_spki) {
            expected = expected.certifying(spki);
        }
        let explained = |error: assay_tpm::Error| self.explain(&error, &binding, &binding_input);
        let evidence = verify::Evidence::from_items(
            item(MediaType::TpmQuote)?,
            certify,
            svid_public.as_deref(),
            Some(item(MediaType::TpmPcrs)?),
        )
        .map_err(explained)?;
        let key = match key {
            Proof::Given(key) => key,
            Proof::Due(ak, certificate) => {
                // What cannot be read comes before what is not true.
                evidence.quote.parse().map_err(explained)?;
                evidence.certify.map(Signed::parse).transpose().map_err(explained)?;
                let statement = intake.bytes(MediaType::TpmAkCertify).ok_or_else(|| {
                    let expected = "certified by the key of its certificate";
                    Refused::new(Reason::AkNotCertified, "ak", "not certified", expected)
                })?;
                prove_ak(&ak, &certificate, statement, &qualifying_data).map_err(|error| {
                    match says_nothing_of_the_ak(&error) {
                        true => explained(error).renamed(Reason::AkNotCertified),
                        false => explained(error),
                    }
                })?
            }
        };
        let claims = verify::verify(&evidence, &key, &expected).map_err(explained)?;
        let ak = key.attestation_key().cloned().ok_or_else(|| {
            Refused::new(Reason::Internal, "ak", "a bare key", "an attestation key")
        })?;
        let ek = match &self.hardware {
            Some(Hardware::Ek(ek)) => Some(ek),
            _ => None,
        };
        let grounds = Grounds {
            message: binding.message(),
            ak_public: self.hello.ak_public.clone(),
            svid_public,
            ek_public: ek.map(|ek| ek.public().raw().to_vec()),
            certificates: self
                .hardware
                .as_ref()
                .map_or_else(Vec::new, |hardware| hardware.certificates(&self.hello)),
        };
        Ok((Genuine { claims, ak, binding, grounds }, intake))
    }

    fn demand_certification(&self, certify: bool, public: bool) -> Result<(), Refused> {
        let refused = |found: &str, expected: &str| {
            Err(Refused::new(Reason::SvidKeyNotCertified, "svid_key", found, expected))
        };
        match (self.purpose, certify, public) {
            (Purpose::Attest, true, true) => Ok(()),
            (Purpose::Attest, false, false) if !self.terms.key_in_tpm => Ok(()),
            (Purpose::Attest, false, _) => refused("not certified", "certified by the AK"),
            (Purpose::Attest, true, false) => refused("without public area", "its public area"),
            (_, _, true) => Err(malformed("evidence.svid_public", "present", "none on refresh")),
            // An item that was not asked for was refused before.
            (_, _, false) => Ok(()),
        }
    }

    /// The key that the evidence must be bound to (attestation.md §1, the table of tags).
    fn svid_spki(&self, svid_public: Option<&[u8]>) -> Result<Option<Vec<u8>>, Refused> {
        match (self.purpose, self.hello.face) {
            (Purpose::Attest, Face::Native) => Ok(self.channel.svid_spki.clone()),
            (Purpose::Attest, Face::SpirePlugin) => svid_public
                .map(|public| Public::parse(public).map(|public| public.spki_der()))
                .transpose()
                .map_err(|error| Refused::tpm(&error)),
            (Purpose::Refresh | Purpose::Custody, _) => Ok(None),
        }
    }

    /// Names the fault of a statement that was made for another binding. The agent's own account
    /// of it decides nothing but the word.
    fn explain(&self, error: &assay_tpm::Error, binding: &BindingInput, claimed: &[u8]) -> Refused {
        let refused = Refused::tpm(error);
        let assay_tpm::Error::Nonce { found, .. } = error else { return refused };
        let state = BindingInput::parse(claimed)
            .map_or(NonceState::Unknown, |input| self.terms.ledger.state(&input.nonce));
        refused.renamed(binding.explain(claimed, found, state))
    }
}

impl Collected {
    pub fn node(&self) -> &NodeId {
        &self.open.node
    }

    /// As [`Awaiting::heard`].
    pub fn heard(&self) -> Heard<'_> {
        self.open.heard(&self.proved, &self.heard)
    }

    /// As [`Identified::kind`].
    pub fn kind(&self) -> Option<NodeKind> {
        self.open.hardware.as_ref().map(Hardware::kind)
    }

    /// As [`Identified::ek_spki_sha256`].
    pub fn ek_spki_sha256(&self) -> Option<&[u8; 32]> {
        self.open.hardware.as_ref().map(Hardware::spki_sha256)
    }

    /// As [`Identified::other_eks`].
    pub fn other_eks(&self) -> &[[u8; 32]] {
        self.open.hardware.as_ref().map_or(&[], Hardware::claimed_others)
    }

    /// Boot time until which what vendors say may be waited for: that of the logs.
    pub fn deadline(&self) -> Duration {
        let within = limits::logs_within(self.open.terms.max_age);
        self.open.challenged.boot.saturating_add(within)
    }

    /// What it takes to verify the report of a confidential machine: to be found before the last
    /// step, and given by [`Collected::endorsed`]. Nothing where none came.
    pub fn wants(&self) -> Option<Wanted> {
        tee::wants(&self.items)
    }

    /// With what vendors say of the machine's processor.
    #[must_use]
    pub fn endorsed(self, vouchers: Vouchers) -> Self {
        Self { vouchers, ..self }
    }

    /// The last step, under the node's lock: `row` and `kin` as they are now, and whether the node
    /// has a live standing. Consumes the challenge, voids the node's older ones, and compares the counters
    /// with those of the last accepted quote.
    pub fn verify(
        self,
        row: Option<NodeRow>,
        kin: &[NodeRow],
        live_standing: bool,
        now: Time,
    ) -> Result<Verified, Refused> {
        let Self { open, proved, items, heard, lease, vouchers } = self;
        let node = open.node.clone();
        let hardware = open.hardware.as_ref();
        let entrance = kin
            .iter()
            .try_for_each(demand_welcome)
            .and_then(|()| entrance(&open.terms, &node, hardware, open.hello.face, row.as_ref()))
            .map_err(|refused| open.refused(refused))?;
        let admitted = entrance == Entrance::Admitted;
        Self { open, proved, items, heard, lease, vouchers }
            .verify_unless_refused(row, entrance, live_standing, now)
            .map_err(|refused| {
                let refused = refused.about(&node);
                // Its AK answered for this very challenge.
                if admitted { refused.into_proved() } else { refused }
            })
    }

    fn verify_unless_refused(
        self,
        row: Option<NodeRow>,
        entrance: Entrance,
        live_standing: bool,
        now: Time,
    ) -> Result<Verified, Refused> {
        let Self { open, proved, items, lease, vouchers, .. } = self;
        let Genuine { claims, ak, binding, grounds } = proved;
        let not_checked = open.not_checked(&claims);
        let vouching = open.vouching(row.as_ref());
        open.ticket.accept()?;
        let before = row.as_ref().and_then(|row| row.ak_name.clone());
        let ak_name = ak.name().as_bytes().to_vec();
        let ak_is_new = before.as_ref() != Some(&ak_name);
        let proved = matches!(claims.ak_trust(), Trust::Activation | Trust::Iak);
        if ak_is_new && !proved {
            let expected = hex::encode(before.unwrap_or_default());
            let found = hex::encode(ak_name);
            return Err(Refused::new(Reason::AkMismatch, "ak.name", found, expected));
        }
        let tee = tee::verify(&items, &vouchers, &open.terms.tee, &binding, &vouching, now)?;
        let clock = claims.clock();
        let counters = Counters {
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
            clock: clock.clock,
        };
        let last = row.as_ref().and_then(|row| row.counters);
        demand_progress(counters, last, live_standing)?;

        let admission = match entrance {
            Entrance::Admitted => store::Admission::Admitted,
            Entrance::AwaitsOperator => store::Admission::Pending,
        };
        let hardware = open.hardware.as_ref();
        let kind = hardware.map_or(NodeKind::TpmEk, Hardware::kind);
        let mut row =
            row.unwrap_or_else(|| NodeRow::new(open.node.to_string(), kind, admission, now));
        if entrance == Entrance::Admitted {
            // A pending node below a root that admits; an operator's word only ever adds.
            row.admission = store::Admission::Admitted;
        }
        if let Some(hardware) = hardware {
            hardware.put(&mut row, &open.hello);
            row.ak_public = Some(open.hello.ak_public.clone());
            row.svid_key_in_tpm = claims.certified_key().is_some();
        }
        row.ak_name = Some(ak_name);
        row.counters = Some(counters);
        row.firmware_version = Some(claims.firmware_version());
        row.last_quoted_at = Some(open.challenged.wall);
        row.agent_version.clone_from(&open.hello.agent_version);
        for item in &items {
            if matches!(item.media_type, MediaType::TcgEventlog) && item.bytes.is_some() {
                row.logs.insert(item.media_type.word().to_owned(), hex::encode(item.sha256));
            }
        }
        if row.admission == store::Admission::Pending {
            let spki_sha256 = hardware.map_or([0; 32], |hardware| *hardware.spki_sha256());
            return Err(not_admitted(kind, &spki_sha256).with_pending(row));
        }
        let warnings = open.hardware.iter().flat_map(Hardware::warnings);
        let warnings = warnings.chain(vouchers.warnings.iter().cloned()).collect();
        Ok(Verified {
            row,
            replaced_ak: before.filter(|_| ak_is_new),
            node: open.node,
            purpose: open.purpose,
            face: open.hello.face,
            nonce: open.nonce,
            exporter: open.channel.exporter,
            claims: Claims::Tpm(claims),
            tee,
            vouchers,
            grounds,
            quoted: open.challenged,
            items,
            not_checked,
            warnings,
            _lease: lease,
        })
    }
}

/// What no exchange looks at so far, said in each result: a reader must not take silence for a yes.
const NOT_CHECKED_YET: [&str; 1] = ["revocation: no list of revoked EK certificates is consulted"];

impl Open {
    /// SHA-256 of the SPKI of the keys that certified the AK in use: now, or at the attestation
    /// that this refresh rests on.
    fn vouching(&self, row: Option<&NodeRow>) -> Vec<[u8; 32]> {
        match (&self.hardware, row) {
            (Some(hardware @ Hardware::Ak { .. }), _) => vec![*hardware.spki_sha256()],
            (None, Some(row)) if row.kind == NodeKind::TpmAk => row.ek_spki_sha256.clone(),
            _ => Vec::new(),
        }
    }

    fn not_checked(&self, claims: &assay_tpm::Claims) -> Vec<String> {
        let mut list: Vec<String> = claims.not_checked().iter().map(ToString::to_string).collect();
        if self.channel.exporter.is_none() {
            list.push("channel: this face does not see it".to_owned());
        }
        list.extend(self.hardware.iter().flat_map(Hardware::not_checked));
        list.extend(NOT_CHECKED_YET.map(str::to_owned));
        for (algorithm, _) in &self.hello.banks {
            if HashAlgorithm::from_tpm_id(*algorithm).is_none() {
                list.push(format!("bank 0x{algorithm:04x}: the algorithm is not known"));
            }
        }
        list
    }
}

/// May this node speak, and what for? Asked before the challenge, and again at the end by the row
/// as it is then. A stranger may be native and nothing else.
fn entrance(
    terms: &Terms,
    node: &NodeId,
    hardware: Option<&Hardware>,
    face: Face,
    row: Option<&NodeRow>,
) -> Result<Entrance, Refused> {
    if let Some(row) = row
        && row.node_id != node.as_str()
    {
        return Err(Refused::new(Reason::IdentityChanged, "node.id", node, &row.node_id));
    }
    let entrance = match hardware {
        Some(hardware) => terms.admission.judge(row, hardware.shown())?,
        None => {
            let admitted = row.filter(|row| row.admission == store::Admission::Admitted);
            let row = admitted.ok_or_else(|| {
                let expected = "an admitted node";
                Refused::new(Reason::NotAdmitted, "node.admission", "none", expected)
            })?;
            demand_welcome(row)?;
            Entrance::Admitted
        }
    };
    demand_face(row.map_or(&[Face::Native][..], |row| &row.faces), face)?;
    Ok(entrance)
}

fn prove_ak(
    ak: &AttestationKey,
    certificate: &AkCertificate,
    statement: &[u8],
    qualifying_data: &[u8],
) -> Result<ProvedKey, assay_tpm::Error> {
    let certify = Signed::from_item(statement)?;
    let (public, least) = (ak.public().raw(), HashAlgorithm::Sha256);
    ak_certificate::prove_ak(certificate, certify, public, qualifying_data, least)
}

/// The statement is by another key than the certificate's, or of another than the AK.
fn says_nothing_of_the_ak(error: &assay_tpm::Error) -> bool {
    matches!(
        error,
        assay_tpm::Error::SignatureInvalid
            | assay_tpm::Error::SignatureScheme { .. }
            | assay_tpm::Error::CertifiedName { .. }
    )
}

/// Native evidence belongs to a channel; without an exporter it belongs to none.
fn demand_channel(face: Face, channel: &Channel) -> Result<(), Refused> {
    match (face, channel.exporter) {
        (Face::Native, None) => {
            let expected = "the exporter of this TLS channel";
            Err(Refused::new(Reason::ChannelBinding, "binding.exporter", "absent", expected))
        }
        (Face::SpirePlugin, Some(_)) => {
            // Claims to see no channel, and comes over one that is seen: a downgrade.
            let expected = Face::Native;
            Err(Refused::new(Reason::FaceNotAllowed, "binding.face", face, expected))
        }
        (Face::Native, Some(_)) | (Face::SpirePlugin, None) => Ok(()),
    }
}

fn said(
    nonce: &Nonce,
    credential: Option<Credential>,
    selections: &[PcrSelection],
    wanted: &BTreeSet<MediaType>,
    ima_from: u64,
) -> wire::FromServer {
    let (credential_blob, credential_secret) =
        credential.map_or_else(Default::default, |credential| (credential.blob, credential.secret));
    let ima = [MediaType::ImaBinary, MediaType::ImaAscii].iter().any(|kind| wanted.contains(kind));
    let challenge = wire::Challenge {
        nonce: nonce.as_bytes().to_vec(),
        credential_blob,
        credential_secret,
        pcrs: selections
            .iter()
            .map(|selection| wire::PcrSelection {
                alg: u32::from(selection.bank.tpm_id()),
                mask: selection.octets(),
            })
            .collect(),
        want_log: wanted.contains(&MediaType::TcgEventlog),
        ima_from,
        ima_limit: if ima { MediaType::ImaBinary.limit() } else { 0 },
        want: wanted.iter().map(|kind| kind.word().to_owned()).collect(),
    };
    wire::FromServer { message: Some(wire::from_server::Message::Challenge(challenge)) }
}
