//! A peer whose hello is sound, up to its challenge: who it is and whether it may speak.

use std::collections::BTreeSet;

use assay_eventlog::ima;
use assay_evidence::binding::Face;
use assay_evidence::binding::Purpose;
use assay_evidence::crypto::Random;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::nonce::Nonce;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_proto::attestation as wire;
use assay_tpm::Activation;
use assay_tpm::AttestationKey;
use assay_tpm::Credential;
use assay_tpm::PcrSelection;
use assay_tpm::ProvedKey;

use crate::clock::Moment;
use crate::envelope::MediaType;
use crate::exchange::Hello;
use crate::exchange::NodeId;
use crate::exchange::Refused;
use crate::exchange::admission::demand_welcome;
use crate::exchange::hardware::Hardware;
use crate::exchange::message::malformed;
use crate::exchange::tee;
use crate::store;
use crate::store::NodeKind;
use crate::store::NodeRow;

use super::Appraises;
use super::Channel;
use super::Open;
use super::Terms;
use super::awaiting::Awaiting;
use super::awaiting::Key;
use super::awaiting::State;
use super::entrance;

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
