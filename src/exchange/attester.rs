//! The attester's side: what to say, what to collect from the TPM, what to send, and when it is
//! over.
//!
//! ```text
//! Attester --challenged--> Collect + Collecting --evidence--> FromAgent + Sending --on*--> Done
//! ```
//! An attestation over AttestAgent ends with SPIRE's Result, which the driver sees itself; a
//! refresh ends with an Outcome, which [`Sending::on`] hands out.
//!
//! The machine builds the binding itself, from what the driver knows of trust domain, channel and
//! key: nothing that a server says is signed as it came.

use std::collections::BTreeMap;
use std::fmt;

use assay_evidence::binding::BindingInput;
use assay_evidence::binding::Face;
use assay_evidence::binding::Purpose;
use assay_evidence::crypto;
use assay_proto::attestation as wire;
use assay_tpm::PcrSelection;
use prost::Message;
use zeroize::Zeroizing;

use crate::envelope::Item;
use crate::envelope::MediaType;
use crate::exchange::Fault;
use crate::exchange::Outcome;
use crate::exchange::limits;
use crate::exchange::message::Challenge;
use crate::exchange::message::FromServer;
use crate::spiffe::TrustDomain;

/// What an agent knows of its host before it speaks.
#[derive(Debug, Clone)]
pub struct Facts {
    pub face: Face,
    pub agent_version: String,
    /// Kinds of evidence it can give.
    pub kinds: Vec<MediaType>,
    /// Every EK certificate found, DER; not sent on refresh.
    pub ek_certs: Vec<Vec<u8>>,
    /// TPMT_PUBLIC of the EK that is used; not sent on refresh.
    pub ek_public: Vec<u8>,
    /// Intermediates from the TPM, DER; not sent on refresh.
    pub ek_chain: Vec<Vec<u8>>,
    /// The certificate of the key that certifies this host's AK, then its chain, DER: where there
    /// is no EK certificate. Not sent on refresh.
    pub ak_certs: Vec<Vec<u8>>,
    /// TPMT_PUBLIC.
    pub ak_public: Vec<u8>,
    /// Name of the AK: 000b ‖ SHA-256(ak_public).
    pub ak_name: Vec<u8>,
    /// Of the boot log, if there is one.
    pub log_sha256: Option<[u8; 32]>,
    /// Every bank the TPM lists: TPM_ALG_ID, allocated.
    pub banks: Vec<(u16, bool)>,
}

/// The hello is said; a challenge is due.
#[derive(Debug)]
pub struct Attester {
    purpose: Purpose,
    face: Face,
    trust_domain: TrustDomain,
    spki_sha256: Option<[u8; 32]>,
    ak_name: Vec<u8>,
    exporter: Option<[u8; 32]>,
}

/// What to ask of the TPM, in this order: activate, quote, read, certify the SVID key, the AK.
#[derive(Debug, Clone)]
pub struct Collect {
    /// Blob and secret for TPM2_ActivateCredential; absent for an AK that the server knows.
    pub credential: Option<(Vec<u8>, Vec<u8>)>,
    /// For TPM2_Quote and TPM2_Certify.
    pub qualifying_data: [u8; 32],
    /// For a report of the processor.
    pub report_data: [u8; 64],
    /// What to ask of the processor, of what the agent can give.
    pub reports: Vec<MediaType>,
    pub selections: Vec<PcrSelection>,
    /// Certify the SVID key.
    pub certify: bool,
    /// Have the AK certified by the key of its certificate.
    pub certify_ak: bool,
    /// Logs to send, of those the agent can give.
    pub logs: Vec<MediaType>,
    /// The IMA list from this entry on, at most so many bytes.
    pub ima_from: u64,
    pub ima_limit: u64,
}

/// What came of it.
#[derive(Clone, Default)]
pub struct Gathered {
    /// The secret of the credential.
    pub activated: Option<Zeroizing<Vec<u8>>>,
    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE.
    pub quote: Vec<u8>,
    /// Bare values in the order of the signed selection.
    pub pcrs: Vec<u8>,
    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE of the certification, and the TPMT_PUBLIC it is of.
    pub certified: Option<(Vec<u8>, Vec<u8>)>,
    /// TPM2B_ATTEST ‖ TPMT_SIGNATURE of the AK's certification.
    pub ak_certified: Option<Vec<u8>>,
    /// What the processor gave, and what goes with it.
    pub reports: Vec<Item>,
    pub logs: Vec<Log>,
}

/// A log as it stood when it was read.
#[derive(Clone)]
pub struct Log {
    pub media_type: MediaType,
    pub bytes: Vec<u8>,
}

/// The challenge is there; the TPM works.
#[derive(Debug)]
pub struct Collecting {
    binding: BindingInput,
    challenge: Challenge,
}

/// The evidence is sent, or goes in chunks.
#[derive(Debug)]
pub struct Sending {
    due: BTreeMap<u32, Part>,
}

/// An item on its way.
struct Part {
    bytes: Vec<u8>,
    sent: usize,
}

/// What follows from a server's message.
#[derive(Debug)]
pub enum Demand {
    Send(wire::FromAgent, Sending),
    /// A refresh is through.
    Done(Outcome),
}

/// Bytes of one chunk: what a frame takes, with room for the fields around it.
const CHUNK: usize = limits::MAX_FRAME - 1_024;
/// Logs up to this go with the evidence; the statements take less than the rest of the frame.
const INLINE: usize = limits::MAX_FRAME - 64 * 1_024;

impl Attester {
    /// Begins an attestation: the hello to send, and the machine that awaits the challenge.
    /// `exporter` is absent for a face inside SPIRE; its `svid_spki` is that of the key it will
    /// have certified, if any.
    pub fn attest(
        trust_domain: &TrustDomain,
        exporter: Option<[u8; 32]>,
        svid_spki: Option<&[u8]>,
        facts: &Facts,
    ) -> (wire::FromAgent, Self) {
        let attester = Self::new(Purpose::Attest, trust_domain, exporter, svid_spki, facts);
        let mut hello = hello(facts);
        hello.ek_certs.clone_from(&facts.ek_certs);
        hello.ek_public.clone_from(&facts.ek_public);
        hello.ek_chain.clone_from(&facts.ek_chain);
        hello.ak_certs.clone_from(&facts.ak_certs);
        (from_agent(wire::from_agent::Message::Hello(hello)), attester)
    }

    /// Begins a refresh over the agent's own mTLS channel.
    pub fn refresh(
        trust_domain: &TrustDomain,
        exporter: [u8; 32],
        facts: &Facts,
    ) -> (wire::FromAgent, Self) {
        let attester = Self::new(Purpose::Refresh, trust_domain, Some(exporter), None, facts);
        (from_agent(wire::from_agent::Message::Hello(hello(facts))), attester)
    }

    fn new(
        purpose: Purpose,
        trust_domain: &TrustDomain,
        exporter: Option<[u8; 32]>,
        svid_spki: Option<&[u8]>,
        facts: &Facts,
    ) -> Self {
        Self {
            purpose,
            face: facts.face,
            trust_domain: trust_domain.clone(),
            spki_sha256: svid_spki.map(crypto::sha256),
            ak_name: facts.ak_name.clone(),
            exporter,
        }
    }

    /// Takes the server's first message.
    pub fn challenged(self, message: wire::FromServer) -> Result<(Collect, Collecting), Fault> {
        let challenge = match FromServer::parse(message)? {
            FromServer::Challenge(challenge) => challenge,
            other => return Err(Fault::Order { found: other.name(), expected: "a challenge" }),
        };
        let binding = BindingInput {
            purpose: self.purpose,
            face: self.face,
            trust_domain: self.trust_domain.as_str().to_owned(),
            nonce: challenge.nonce,
            spki_sha256: self.spki_sha256,
            ak_name: Some(self.ak_name),
            exporter: self.exporter,
        };
        let wants = |kind: MediaType| challenge.want.contains(&kind);
        let logs = [
            (MediaType::TcgEventlog, challenge.want_log),
            (MediaType::ImaBinary, challenge.ima_limit > 0),
            (MediaType::ImaAscii, challenge.ima_limit > 0),
            (MediaType::KernelCmdline, true),
            (MediaType::Ccel, true),
        ];
        let bound = binding.binding();
        let collect = Collect {
            credential: challenge.credential.clone(),
            qualifying_data: bound.qualifying_data(),
            report_data: *bound.report_data(),
            reports: challenge
                .want
                .iter()
                .copied()
                .filter(|kind| kind.is_of_the_processor() && *kind != MediaType::Ccel)
                .collect(),
            selections: challenge.pcrs.clone(),
            certify: wants(MediaType::TpmCertify),
            certify_ak: wants(MediaType::TpmAkCertify),
            logs: logs
                .into_iter()
                .filter(|(kind, asked)| *asked && wants(*kind))
                .map(|(kind, _)| kind)
                .collect(),
            ima_from: challenge.ima_from,
            ima_limit: challenge.ima_limit,
        };
        Ok((collect, Collecting { binding, challenge }))
    }
}

impl Collecting {
    /// Takes what the TPM gave; the evidence to send. Logs that do not fit follow in chunks.
    pub fn evidence(self, gathered: Gathered) -> Result<(wire::FromAgent, Sending), Fault> {
        if self.challenge.credential.is_some() != gathered.activated.is_some() {
            return Err(Fault::NoActivation);
        }
        let mut evidence = wire::Evidence {
            items: Vec::new(),
            activated: gathered.activated.map(|secret| secret.to_vec()).unwrap_or_default(),
            svid_public: Vec::new(),
            binding_input: self.binding.message(),
        };
        let mut room = INLINE;
        let mut due = BTreeMap::new();
        let mut id = 0_u32;
        let mut put = |media_type: MediaType, bytes: Vec<u8>, whole: bool| {
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if size > media_type.limit() {
                return Err(Fault::ItemTooLarge(media_type.word()));
            }
            id += 1;
            let mut item = wire::Item {
                id,
                media_type: media_type.to_string(),
                size,
                sha256: crypto::sha256(&bytes).to_vec(),
                data: Vec::new(),
            };
            match room.checked_sub(bytes.len()) {
                left if whole || left.is_some() => {
                    room = left.unwrap_or(room);
                    item.data = bytes;
                }
                _ => {
                    due.insert(id, Part { bytes, sent: 0 });
                }
            }
            evidence.items.push(item);
            Ok(())
        };
        put(MediaType::TpmQuote, gathered.quote, true)?;
        put(MediaType::TpmPcrs, gathered.pcrs, true)?;
        let mut svid_public = Vec::new();
        if let Some((certify, public)) = gathered.certified {
            put(MediaType::TpmCertify, certify, true)?;
            svid_public = public;
        }
        if let Some(certify) = gathered.ak_certified {
            put(MediaType::TpmAkCertify, certify, true)?;
        }
        for Item { media_type, bytes } in gathered.reports {
            put(media_type, bytes, true)?;
        }
        for log in gathered.logs {
            // An empty log is no evidence of anything; the server sees that it is missing.
            if !log.bytes.is_empty() {
                put(log.media_type, log.bytes, false)?;
            }
        }
        evidence.svid_public = svid_public;
        let frame = from_agent(wire::from_agent::Message::Evidence(evidence));
        let found = frame.encoded_len();
        if found > limits::MAX_FRAME {
            return Err(Fault::TooLong { found, max: limits::MAX_FRAME });
        }
        Ok((frame, Sending { due }))
    }
}

impl Sending {
    /// Takes the server's next message.
    pub fn on(mut self, message: wire::FromServer) -> Result<Demand, Fault> {
        let want = match FromServer::parse(message)? {
            FromServer::Continue { want } => want,
            FromServer::Outcome(outcome) => return Ok(Demand::Done(outcome)),
            other @ FromServer::Challenge(_) => {
                return Err(Fault::Order { found: other.name(), expected: "continue" });
            }
        };
        let wanted = want.into_iter().find(|id| self.due.contains_key(id));
        let Some((id, part)) = wanted.and_then(|id| Some((id, self.due.get_mut(&id)?))) else {
            return Err(Fault::Order { found: "continue", expected: "a want that is due" });
        };
        let end = part.sent.saturating_add(CHUNK).min(part.bytes.len());
        let data = part.bytes.get(part.sent..end).unwrap_or_default().to_vec();
        let offset = u64::try_from(part.sent).unwrap_or(u64::MAX);
        part.sent = end;
        if end == part.bytes.len() {
            self.due.remove(&id);
        }
        let chunk = wire::Chunk { id, offset, data };
        Ok(Demand::Send(from_agent(wire::from_agent::Message::Chunk(chunk)), self))
    }

    /// Everything is with the server.
    pub fn is_through(&self) -> bool {
        self.due.is_empty()
    }
}

fn hello(facts: &Facts) -> wire::Hello {
    wire::Hello {
        face: facts.face.to_string(),
        agent_version: facts.agent_version.clone(),
        kinds: facts.kinds.iter().map(|kind| kind.word().to_owned()).collect(),
        ek_certs: Vec::new(),
        ek_public: Vec::new(),
        ek_chain: Vec::new(),
        ak_certs: Vec::new(),
        ak_public: facts.ak_public.clone(),
        log_sha256: facts.log_sha256.map(Vec::from).unwrap_or_default(),
        banks: facts
            .banks
            .iter()
            .map(|(alg, active)| wire::PcrBank { alg: u32::from(*alg), active: *active })
            .collect(),
    }
}

fn from_agent(message: wire::from_agent::Message) -> wire::FromAgent {
    wire::FromAgent { message: Some(message) }
}

impl fmt::Debug for Gathered {
    /// The secret of the credential is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered").field("logs", &self.logs).finish_non_exhaustive()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({}, {} bytes)", self.media_type.word(), self.bytes.len())
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({} of {} bytes)", self.sent, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn attester() -> Attester {
        let facts = Facts {
            face: Face::Native,
            agent_version: "0.1.0".to_owned(),
            kinds: MediaType::ALL.to_vec(),
            ek_certs: vec![vec![1]],
            ek_public: vec![2],
            ek_chain: Vec::new(),
            ak_certs: vec![vec![4]],
            ak_public: vec![3],
            ak_name: vec![0, 0x0b],
            log_sha256: None,
            banks: vec![(0x000b, true)],
        };
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        let (hello, attester) = Attester::refresh(&trust_domain, [1; 32], &facts);
        let Some(wire::from_agent::Message::Hello(hello)) = hello.message else { unreachable!() };
        assert!(hello.ek_certs.is_empty() && hello.ek_public.is_empty());
        assert!(hello.ak_certs.is_empty());
        attester
    }

    fn challenge() -> wire::Challenge {
        wire::Challenge {
            nonce: vec![7; 32],
            pcrs: vec![wire::PcrSelection { alg: 0x000b, mask: vec![0xff, 0xff, 0] }],
            want_log: true,
            want: vec!["tpm-quote".to_owned(), "tcg-eventlog".to_owned(), "crystal".to_owned()],
            ..wire::Challenge::default()
        }
    }

    fn from_server(message: wire::from_server::Message) -> wire::FromServer {
        wire::FromServer { message: Some(message) }
    }

    fn challenged(challenge: wire::Challenge) -> Result<(Collect, Collecting), Fault> {
        attester().challenged(from_server(wire::from_server::Message::Challenge(challenge)))
    }

    fn more(want: Vec<u32>) -> wire::FromServer {
        from_server(wire::from_server::Message::Continue(wire::Continue { want }))
    }

    fn sending(log: usize) -> (wire::FromAgent, Sending) {
        let gathered = Gathered {
            quote: vec![1],
            pcrs: vec![2],
            logs: vec![Log { media_type: MediaType::TcgEventlog, bytes: vec![3; log] }],
            ..Gathered::default()
        };
        challenged(challenge()).unwrap().1.evidence(gathered).unwrap()
    }

    #[test]
    fn a_sound_challenge_says_what_to_collect() {
        let (collect, _) = challenged(challenge()).unwrap();
        assert_eq!(collect.logs, [MediaType::TcgEventlog]);
        assert_eq!(collect.selections.first().unwrap().mask, 0xffff);
        assert!(!collect.certify && collect.credential.is_none());
    }

    #[test]
    fn an_unsound_challenge_is_refused() {
        let refused = |change: fn(&mut wire::Challenge)| {
            let mut challenge = challenge();
            change(&mut challenge);
            challenged(challenge).unwrap_err()
        };
        assert!(matches!(refused(|c| c.nonce.truncate(31)), Fault::Field { .. }));
        assert!(matches!(refused(|c| c.credential_blob = vec![1]), Fault::Field { .. }));
        assert!(matches!(refused(|c| c.pcrs.clear()), Fault::Field { .. }));
        let many = |c: &mut wire::Challenge| c.pcrs = vec![wire::PcrSelection::default(); 17];
        assert!(matches!(refused(many), Fault::Field { .. }));
        let unknown = |c: &mut wire::Challenge| c.pcrs.iter_mut().for_each(|p| p.alg = 0x1_000b);
        assert!(matches!(refused(unknown), Fault::Field { .. }));
        let out_of_turn = attester().challenged(more(vec![1])).unwrap_err();
        assert!(matches!(out_of_turn, Fault::Order { .. }));
        let empty = attester().challenged(wire::FromServer::default()).unwrap_err();
        assert_eq!(empty, Fault::Malformed);
    }

    #[test]
    fn a_challenge_with_a_credential_is_not_answered_without_its_secret() {
        let mut challenge = challenge();
        challenge.credential_blob = vec![1];
        challenge.credential_secret = vec![2];
        let (_, collecting) = challenged(challenge).unwrap();
        assert_eq!(collecting.evidence(Gathered::default()).unwrap_err(), Fault::NoActivation);
    }

    #[test]
    fn the_server_can_want_only_what_is_due() {
        let (frame, sending) = sending(INLINE);
        assert!(frame.encoded_len() <= limits::MAX_FRAME);
        assert!(!sending.is_through());
        let Demand::Send(_, sending) = sending.on(more(vec![9, 3])).unwrap() else {
            unreachable!()
        };
        assert!(sending.is_through());
        assert!(matches!(sending.on(more(vec![3])).unwrap_err(), Fault::Order { .. }));
    }

    #[test]
    fn a_log_larger_than_a_server_takes_is_not_sent() {
        let gathered = Gathered {
            quote: vec![1],
            pcrs: vec![2],
            logs: vec![Log {
                media_type: MediaType::TcgEventlog,
                bytes: vec![3; 2 * limits::MAX_FRAME],
            }],
            ..Gathered::default()
        };
        let fault = challenged(challenge()).unwrap().1.evidence(gathered).unwrap_err();
        assert_eq!(fault, Fault::ItemTooLarge("tcg-eventlog"));
    }

    #[test]
    fn an_outcome_ends_a_refresh() {
        let outcome = wire::Outcome { node_id: "00".to_owned(), ..wire::Outcome::default() };
        let message = from_server(wire::from_server::Message::Outcome(outcome));
        let Demand::Done(outcome) = sending(1).1.on(message).unwrap() else { unreachable!() };
        assert_eq!(outcome.node_id, "00");
    }
}
