//! The verifier's side, one type for each state; each is consumed by the step to the next.
//!
//! The driver's part: it reads the node's row and hands it in, sends what comes out, keeps the
//! deadline ([`Awaiting::deadline`]), and holds the node's lock from reading the row for
//! [`Collected::verify`] until the row that came out is stored, so that two exchanges of one node
//! are judged one after the other.

mod awaiting;
mod collected;
mod identified;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use assay_eventlog::ima;
use assay_evidence::binding::BindingInput;
use assay_evidence::binding::Face;
use assay_evidence::binding::Purpose;
use assay_evidence::digest::Registers;
use assay_evidence::nonce::Nonce;
use assay_evidence::reason::Reason;
use assay_proto::attestation as wire;
use assay_tpm::AkAnchors;
use assay_tpm::Anchors;
use assay_tpm::AttestationKey;
use assay_tpm::PcrSelection;

use crate::clock::Moment;
use crate::envelope::MediaType;
use crate::exchange::Admission;
use crate::exchange::Budget;
use crate::exchange::Grounds;
use crate::exchange::Hello;
use crate::exchange::NodeId;
use crate::exchange::NonceLedger;
use crate::exchange::Refused;
use crate::exchange::TeeAnchors;
use crate::exchange::admission::Entrance;
use crate::exchange::admission::demand_face;
use crate::exchange::admission::demand_welcome;
use crate::exchange::hardware::Hardware;
use crate::exchange::nonce_ledger::Ticket;
use crate::spiffe::TrustDomain;
use crate::store;
use crate::store::NodeRow;

pub use awaiting::Awaiting;
pub use collected::Collected;
pub use identified::Identified;

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

/// What the node's profile looks into beside registers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Appraises {
    pub log: bool,
    pub files: bool,
    /// Where the last round ended under the same profile: a refresh asks for what came after it.
    /// An attestation may be of another boot and asks for the whole list.
    pub files_from: Option<ima::State>,
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

/// What the TPM's statements established.
#[derive(Debug)]
struct Genuine {
    claims: assay_tpm::Claims,
    ak: AttestationKey,
    binding: BindingInput,
    grounds: Grounds,
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
