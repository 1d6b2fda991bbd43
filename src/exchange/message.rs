//! The messages of the exchange, parsed: what arrives is either one of these values or a refusal
//! with a name. Nothing here knows the state of an exchange; all of it is pure and fit to be fuzzed.

use assay_evidence::binding::Face;
use assay_evidence::digest::HashAlgorithm;
use assay_evidence::nonce::Nonce;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_proto::attestation as wire;
use assay_tpm::PcrSelection;
use prost::Message;
use zeroize::Zeroizing;

use crate::envelope::MediaType;
use crate::exchange::Refused;
use crate::exchange::limits;

/// What an agent says.
#[derive(Debug)]
pub enum FromAgent {
    Hello(Hello),
    Evidence(Evidence),
    Chunk(Chunk),
}

/// What the agent claims to be and to be able to show. Nothing of it is proved.
#[derive(Debug, Clone)]
pub struct Hello {
    pub face: Face,
    pub agent_version: String,
    /// Kinds that this build does not know are left out.
    pub kinds: Vec<MediaType>,
    pub ek_certs: Vec<Vec<u8>>,
    pub ek_public: Vec<u8>,
    pub ek_chain: Vec<Vec<u8>>,
    /// The certificate of the key that certifies this AK, then its chain.
    pub ak_certs: Vec<Vec<u8>>,
    pub ak_public: Vec<u8>,
    pub log_sha256: Option<[u8; 32]>,
    /// TPM_ALG_ID and whether the bank is said to be allocated.
    pub banks: Vec<(u16, bool)>,
}

#[derive(Debug)]
pub struct Evidence {
    pub(super) items: Vec<Item>,
    pub(super) activated: Zeroizing<Vec<u8>>,
    pub(super) svid_public: Option<Vec<u8>>,
    pub(super) binding_input: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: u32,
    pub(super) media_type: MediaType,
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
    /// Whole, or empty.
    pub(super) data: Vec<u8>,
}

#[derive(Debug)]
pub struct Chunk {
    pub(super) id: u32,
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
}

/// What a server says. The attester trusts it as far as its TLS peer, and bounds it all the same.
#[derive(Debug)]
pub(super) enum FromServer {
    Challenge(Challenge),
    Continue { want: Vec<u32> },
    Outcome(Outcome),
}

#[derive(Debug, Clone)]
pub struct Challenge {
    pub nonce: Nonce,
    /// Blob and secret for TPM2_ActivateCredential.
    pub credential: Option<(Vec<u8>, Vec<u8>)>,
    /// In the order to be quoted.
    pub pcrs: Vec<PcrSelection>,
    pub want_log: bool,
    pub ima_from: u64,
    pub ima_limit: u64,
    pub want: Vec<MediaType>,
}

/// The end of a refresh that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub node_id: String,
    pub appraisal_id: String,
    pub quoted_at: Time,
    pub expires_at: Time,
    pub refresh_after_s: u32,
    pub not_checked: Vec<String>,
    pub warnings: Vec<wire::Finding>,
}

/// The server said something that no server of ours says at this point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    #[error("the server's message cannot be read")]
    Malformed,
    #[error("the server's message has {found} bytes, at most {max} are read")]
    TooLong { found: usize, max: usize },
    #[error("`{field}` of the server's message is {found}, expected {expected}")]
    Field { field: &'static str, found: String, expected: &'static str },
    #[error("the server sent `{found}` where {expected} is due")]
    Order { found: &'static str, expected: &'static str },
    #[error("the server asks for activation of the key; none was collected")]
    NoActivation,
    #[error("item `{0}` is larger than a server takes")]
    ItemTooLarge(&'static str),
}

impl FromAgent {
    /// Reads one frame as it arrives in AttestAgent: payload or challenge response.
    pub fn parse(frame: &[u8]) -> Result<Self, Refused> {
        demand_size("frame", frame.len(), limits::MAX_FRAME)?;
        demand_few_fields(frame)?;
        let message = wire::FromAgent::decode(frame)
            .map_err(|error| malformed("frame", error, "a message of the exchange"))?;
        Self::from_wire(message)
    }

    /// Takes one message as tonic decoded it (Refresh).
    pub fn from_wire(message: wire::FromAgent) -> Result<Self, Refused> {
        use wire::from_agent::Message as Said;
        demand_size("frame", message.encoded_len(), limits::MAX_FRAME)?;
        match message.message {
            Some(Said::Hello(hello)) => Hello::from_wire(hello).map(Self::Hello),
            Some(Said::Evidence(evidence)) => Evidence::from_wire(evidence).map(Self::Evidence),
            Some(Said::Chunk(chunk)) => Chunk::from_wire(chunk).map(Self::Chunk),
            None => Err(malformed("frame", "empty", "a hello, evidence or a chunk")),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Evidence(_) => "evidence",
            Self::Chunk(_) => "chunk",
        }
    }

    /// The first message must be a hello.
    pub fn into_hello(self) -> Result<Hello, Refused> {
        match self {
            Self::Hello(hello) => Ok(hello),
            other => Err(malformed("frame", other.name(), "a hello")),
        }
    }
}

impl Hello {
    fn from_wire(hello: wire::Hello) -> Result<Self, Refused> {
        demand_size("hello", hello.encoded_len(), limits::MAX_HELLO)?;
        let face = Face::parse(&hello.face).ok_or_else(|| {
            let found = format!("{} bytes that name no face", hello.face.len());
            malformed("hello.face", found, "`native` or `spire-plugin`")
        })?;
        demand_size("hello.agent_version", hello.agent_version.len(), limits::MAX_WORD)?;
        let plain = hello.agent_version.bytes().all(|b| b.is_ascii_graphic());
        if !plain {
            return Err(malformed("hello.agent_version", "odd bytes", "printable ASCII"));
        }
        demand_count("hello.kinds", hello.kinds.len(), limits::MAX_KINDS)?;
        demand_count("hello.ek_certs", hello.ek_certs.len(), limits::MAX_EK_CERTIFICATES)?;
        demand_count("hello.ek_chain", hello.ek_chain.len(), limits::MAX_CHAIN)?;
        demand_count("hello.ak_certs", hello.ak_certs.len(), limits::MAX_AK_CERTIFICATES)?;
        demand_count("hello.banks", hello.banks.len(), limits::MAX_BANKS)?;
        let certificates = hello.ek_certs.iter().chain(&hello.ek_chain).chain(&hello.ak_certs);
        for certificate in certificates {
            demand_size("hello.certificate", certificate.len(), limits::MAX_CERTIFICATE)?;
        }
        demand_size("hello.ek_public", hello.ek_public.len(), limits::MAX_PUBLIC)?;
        demand_size("hello.ak_public", hello.ak_public.len(), limits::MAX_PUBLIC)?;
        let mut banks: Vec<(u16, bool)> = Vec::with_capacity(hello.banks.len());
        for bank in hello.banks {
            let algorithm = u16::try_from(bank.alg)
                .map_err(|_| malformed("hello.banks", bank.alg, "a TPM_ALG_ID"))?;
            if banks.iter().any(|(known, _)| *known == algorithm) {
                return Err(malformed("hello.banks", "a bank named twice", "each bank once"));
            }
            banks.push((algorithm, bank.active));
        }
        Ok(Self {
            face,
            agent_version: hello.agent_version,
            kinds: hello.kinds.iter().filter_map(|kind| kind.parse().ok()).collect(),
            ek_certs: hello.ek_certs,
            ek_public: hello.ek_public,
            ek_chain: hello.ek_chain,
            ak_certs: hello.ak_certs,
            ak_public: hello.ak_public,
            log_sha256: optional_digest("hello.log_sha256", &hello.log_sha256)?,
            banks,
        })
    }
}

impl Evidence {
    fn from_wire(evidence: wire::Evidence) -> Result<Self, Refused> {
        let activated = Zeroizing::new(evidence.activated);
        demand_size("evidence.activated", activated.len(), limits::MAX_ACTIVATED)?;
        demand_size("evidence.svid_public", evidence.svid_public.len(), limits::MAX_PUBLIC)?;
        let input = evidence.binding_input;
        demand_size("evidence.binding_input", input.len(), limits::MAX_BINDING_INPUT)?;
        demand_count("evidence.items", evidence.items.len(), limits::MAX_ITEMS)?;
        let mut items: Vec<Item> = Vec::with_capacity(evidence.items.len());
        for item in evidence.items {
            let item = Item::from_wire(item)?;
            let twin = items
                .iter()
                .any(|known| known.id == item.id || known.media_type == item.media_type);
            if twin {
                let found = format!("`{}`, id {}, twice", item.media_type.word(), item.id);
                return Err(malformed("evidence.items", found, "each id and each kind once"));
            }
            items.push(item);
        }
        let total = items.iter().fold(0_u64, |sum, item| sum.saturating_add(item.size));
        if total > limits::MAX_EVIDENCE {
            return Err(too_large("evidence.items", total, limits::MAX_EVIDENCE));
        }
        let svid_public = evidence.svid_public;
        Ok(Self {
            items,
            activated,
            svid_public: (!svid_public.is_empty()).then_some(svid_public),
            binding_input: input,
        })
    }
}

impl Item {
    fn from_wire(item: wire::Item) -> Result<Self, Refused> {
        let media_type: MediaType = item
            .media_type
            .starts_with("application/")
            .then(|| item.media_type.parse().ok())
            .flatten()
            .ok_or_else(|| {
                let found = format!("unknown, {} bytes long", item.media_type.len());
                Refused::new(
                    Reason::UnsupportedEvidence,
                    "item.media_type",
                    found,
                    "a kind that was asked for",
                )
            })?;
        if item.size > media_type.limit() {
            return Err(too_large(media_type.word(), item.size, media_type.limit()));
        }
        if item.size == 0 {
            return Err(malformed("item.size", 0, "an item that has bytes"));
        }
        let inline = u64::try_from(item.data.len()).unwrap_or(u64::MAX);
        if inline != 0 && inline != item.size {
            let found = format!("{inline} bytes of {}", item.size);
            return Err(malformed("item.data", found, "the whole item or nothing of it"));
        }
        let sha256 = optional_digest("item.sha256", &item.sha256)?
            .ok_or_else(|| malformed("item.sha256", "absent", "32 bytes"))?;
        Ok(Self { id: item.id, media_type, size: item.size, sha256, data: item.data })
    }
}

impl Chunk {
    fn from_wire(chunk: wire::Chunk) -> Result<Self, Refused> {
        if chunk.data.is_empty() {
            return Err(malformed("chunk.data", "empty", "at least one byte"));
        }
        Ok(Self { id: chunk.id, offset: chunk.offset, data: chunk.data })
    }
}

impl FromServer {
    pub(super) fn parse(message: wire::FromServer) -> Result<Self, Fault> {
        use wire::from_server::Message as Said;
        let length = message.encoded_len();
        if length > limits::MAX_FRAME {
            return Err(Fault::TooLong { found: length, max: limits::MAX_FRAME });
        }
        match message.message.ok_or(Fault::Malformed)? {
            Said::Challenge(challenge) => Challenge::parse(challenge).map(Self::Challenge),
            Said::Continue(more) if more.want.len() > limits::MAX_ITEMS => {
                Err(field("continue.want", more.want.len(), "at most 16 ids"))
            }
            Said::Continue(more) => Ok(Self::Continue { want: more.want }),
            Said::Outcome(outcome) => Ok(Self::Outcome(Outcome::from_wire(outcome))),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Challenge(_) => "challenge",
            Self::Continue { .. } => "continue",
            Self::Outcome(_) => "outcome",
        }
    }
}

impl Challenge {
    fn parse(challenge: wire::Challenge) -> Result<Self, Fault> {
        let nonce = Nonce::try_from(challenge.nonce.as_slice())
            .map_err(|_| field("challenge.nonce", challenge.nonce.len(), "32 bytes"))?;
        let (blob, secret) = (challenge.credential_blob, challenge.credential_secret);
        if blob.len() > limits::MAX_PUBLIC || secret.len() > limits::MAX_PUBLIC {
            return Err(field("challenge.credential", blob.len(), "at most 1024 bytes"));
        }
        let credential = match (blob.is_empty(), secret.is_empty()) {
            (true, true) => None,
            (false, false) => Some((blob, secret)),
            _ => return Err(field("challenge.credential", "one half", "both halves or none")),
        };
        if challenge.pcrs.is_empty() || challenge.pcrs.len() > limits::MAX_BANKS {
            return Err(field("challenge.pcrs", challenge.pcrs.len(), "1 to 16 banks"));
        }
        let mut pcrs = Vec::with_capacity(challenge.pcrs.len());
        for selection in challenge.pcrs {
            let bank = u16::try_from(selection.alg).ok().and_then(HashAlgorithm::from_tpm_id);
            let bank =
                bank.ok_or_else(|| field("challenge.pcrs.alg", selection.alg, "a known bank"))?;
            // TPM 2.0 Part 2, §10.6.2: sizeofSelect is 3 in practice.
            let selection = PcrSelection::from_octets(bank, &selection.mask).ok_or_else(|| {
                field("challenge.pcrs.mask", selection.mask.len(), "at most 4 bytes")
            })?;
            pcrs.push(selection);
        }
        if challenge.want.len() > limits::MAX_KINDS {
            return Err(field("challenge.want", challenge.want.len(), "at most 32 kinds"));
        }
        Ok(Self {
            nonce,
            credential,
            pcrs,
            want_log: challenge.want_log,
            ima_from: challenge.ima_from,
            ima_limit: challenge.ima_limit,
            want: challenge.want.iter().filter_map(|kind| kind.parse().ok()).collect(),
        })
    }
}

impl Outcome {
    fn from_wire(outcome: wire::Outcome) -> Self {
        Self {
            node_id: outcome.node_id,
            appraisal_id: outcome.appraisal_id,
            quoted_at: Time::from_unix_ms(outcome.quoted_at),
            expires_at: Time::from_unix_ms(outcome.expires_at),
            refresh_after_s: outcome.refresh_after_s,
            not_checked: outcome.not_checked,
            warnings: outcome.warnings,
        }
    }
}

/// Counts the protobuf fields of a frame, two levels deep, before it is decoded: prost allocates
/// for each repeated message, so a mebibyte of empty items would become 50 of memory.
/// Wire format: protobuf encoding guide, "Message Structure".
fn demand_few_fields(frame: &[u8]) -> Result<(), Refused> {
    let mut budget = limits::MAX_FIELDS;
    // What is no message inside is a string or bytes: then there is nothing to count.
    let whole = count_fields(frame, 0, &mut budget);
    if budget == 0 {
        return Err(too_large("frame.fields", "more", limits::MAX_FIELDS));
    }
    whole.ok_or_else(|| malformed("frame", "not in wire format", "a message of the exchange"))
}

fn count_fields(mut rest: &[u8], depth: u8, budget: &mut usize) -> Option<()> {
    while !rest.is_empty() {
        *budget = budget.checked_sub(1)?;
        if *budget == 0 {
            return None;
        }
        let (key, after) = varint(rest)?;
        rest = match key & 7 {
            0 => varint(after)?.1,
            1 => after.get(8..)?,
            2 => {
                let (length, after) = varint(after)?;
                let length = usize::try_from(length).ok()?;
                let inner = after.get(..length)?;
                if depth == 0 {
                    count_fields(inner, 1, budget)?;
                }
                after.get(length..)?
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    Some(())
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let shift = u32::try_from(index).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index.checked_add(1)?..)?));
        }
    }
    None
}

fn optional_digest(claim: &'static str, bytes: &[u8]) -> Result<Option<[u8; 32]>, Refused> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let digest = bytes
        .try_into()
        .map_err(|_| malformed(claim, format!("{} bytes", bytes.len()), "32 bytes"))?;
    Ok(Some(digest))
}

fn demand_size(claim: &'static str, found: usize, max: usize) -> Result<(), Refused> {
    if found > max { Err(too_large(claim, found, max)) } else { Ok(()) }
}

fn demand_count(claim: &'static str, found: usize, max: usize) -> Result<(), Refused> {
    demand_size(claim, found, max)
}

pub(super) fn malformed(
    claim: &str,
    found: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> Refused {
    Refused::new(Reason::MessageMalformed, claim, found, expected)
}

fn too_large(claim: &str, found: impl std::fmt::Display, max: impl std::fmt::Display) -> Refused {
    Refused::new(Reason::EvidenceTooLarge, claim, found, format!("at most {max}"))
}

fn field(field: &'static str, found: impl ToString, expected: &'static str) -> Fault {
    Fault::Field { field, found: found.to_string(), expected }
}
