//! A challenge is out: the answers come in, and what the TPM states is verified as soon as it is
//! there, before anything larger is taken.

use std::time::Duration;

use assay_evidence::binding::BindingInput;
use assay_evidence::binding::Face;
use assay_evidence::binding::NonceState;
use assay_evidence::binding::Purpose;
use assay_evidence::crypto;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::reason::Reason;
use assay_proto::attestation as wire;
use assay_tpm::Activation;
use assay_tpm::AkCertificate;
use assay_tpm::AttestationKey;
use assay_tpm::ProvedKey;
use assay_tpm::Public;
use assay_tpm::ak_certificate;
use assay_tpm::verify;
use assay_tpm::verify::Signed;

use crate::clock::Moment;
use crate::envelope::MediaType;
use crate::exchange::FromAgent;
use crate::exchange::Grounds;
use crate::exchange::NodeId;
use crate::exchange::Refused;
use crate::exchange::Vouchers;
use crate::exchange::hardware::Hardware;
use crate::exchange::intake::Intake;
use crate::exchange::limits;
use crate::exchange::message::Evidence;
use crate::exchange::message::malformed;

use super::Genuine;
use super::Heard;
use super::Open;
use super::Step;
use super::collected::Collected;

/// A challenge is out.
#[derive(Debug)]
pub struct Awaiting {
    pub(super) open: Open,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Challenged(Key),
    Streaming(Genuine, Intake),
}

#[derive(Debug)]
pub(super) enum Key {
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
    pub(super) fn refused(&self, refused: Refused) -> Refused {
        let refused = refused.about(&self.node);
        if self.purpose == Purpose::Refresh { refused.into_proved() } else { refused }
    }

    pub(super) fn heard<'a>(&'a self, genuine: &'a Genuine, piece: &'a [u8]) -> Heard<'a> {
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
