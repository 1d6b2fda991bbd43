//! Verified evidence: what an exchange established, for whoever appraises, stores and records it.
//!
//! Only the verifier makes one. It says nothing of whether the machine is good.

use assay_evidence::binding::Face;
use assay_evidence::binding::Purpose;
use assay_evidence::crypto;
use assay_evidence::nonce::Nonce;
use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;

use crate::appraisal::Link;
use crate::clock::Moment;
use crate::envelope::Claims;
use crate::envelope::MediaType;
use crate::exchange::NodeId;
use crate::exchange::Received;
use crate::exchange::Refused;
use crate::exchange::Vouchers;
use crate::exchange::intake;
use crate::exchange::limits::Lease;
use crate::spiffe::SpiffeId;
use crate::spiffe::TrustDomain;
use crate::store::Counters;
use crate::store::NodeRow;

/// Verified evidence of an admitted node, ready to be appraised.
#[derive(Debug)]
pub struct Verified {
    pub(super) row: NodeRow,
    pub(super) replaced_ak: Option<Vec<u8>>,
    pub(super) node: NodeId,
    pub(super) purpose: Purpose,
    pub(super) face: Face,
    pub(super) nonce: Nonce,
    pub(super) exporter: Option<[u8; 32]>,
    pub(super) claims: Claims,
    pub(super) tee: Option<Link>,
    pub(super) vouchers: Vouchers,
    pub(super) grounds: Grounds,
    pub(super) quoted: Moment,
    pub(super) items: Vec<Received>,
    pub(super) not_checked: Vec<String>,
    pub(super) warnings: Vec<Finding>,
    pub(super) _lease: Lease,
}

/// What the TPM's statements were verified against, beside themselves: with the items, all that
/// is needed to verify them again without this server.
#[derive(Debug, Clone)]
pub struct Grounds {
    /// M, as this server built it: the bytes whose digest was signed.
    pub message: Vec<u8>,
    /// TPMT_PUBLIC of the AK.
    pub ak_public: Vec<u8>,
    /// TPMT_PUBLIC of the key that was certified.
    pub svid_public: Option<Vec<u8>>,
    /// TPMT_PUBLIC of the EK, where one vouched; none on refresh.
    pub ek_public: Option<Vec<u8>>,
    /// The certificate of the EK, or of the key that certified the AK, then the chain that came
    /// with it, in DER; none on refresh.
    pub certificates: Vec<Vec<u8>>,
}

impl Verified {
    /// The node's row with what this exchange adds; store it at the revision it was read at, and
    /// with it the items that were kept: a log it names will not be asked for again.
    pub fn row(&self) -> &NodeRow {
        &self.row
    }

    /// The Name of the AK that the node had before, if this exchange activated another: a record.
    pub fn replaced_ak(&self) -> Option<&[u8]> {
        self.replaced_ak.as_deref()
    }

    pub fn node(&self) -> &NodeId {
        &self.node
    }

    pub fn spiffe_id(&self, trust_domain: &TrustDomain) -> Result<SpiffeId, Refused> {
        self.node
            .spiffe_id(trust_domain)
            .map_err(|error| Refused::new(Reason::Internal, "node.spiffe_id", error, "a SPIFFE ID"))
    }

    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub fn face(&self) -> Face {
        self.face
    }

    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// For the record; the exporter itself stays out of it.
    pub fn exporter_sha256(&self) -> Option<[u8; 32]> {
        self.exporter.as_ref().map(|exporter| crypto::sha256(exporter))
    }

    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What the processor of a confidential machine says, and how it is tied to the TPM.
    pub fn tee(&self) -> Option<&Link> {
        self.tee.as_ref()
    }

    /// What that was verified with, beside the items.
    pub fn vouchers(&self) -> &Vouchers {
        &self.vouchers
    }

    pub fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// Whether the binding that was signed covers the TLS channel.
    pub fn channel_bound(&self) -> bool {
        self.exporter.is_some()
    }

    /// The agent's key was certified: now, or at the attestation its certificate rests on.
    pub fn key_in_tpm(&self) -> bool {
        self.row.svid_key_in_tpm
    }

    /// When the challenge was sent, on both clocks.
    pub fn quoted(&self) -> Moment {
        self.quoted
    }

    pub fn counters(&self) -> Option<Counters> {
        self.row.counters
    }

    pub fn items(&self) -> &[Received] {
        &self.items
    }

    /// The bytes of one kind, if they came and were kept.
    pub fn item(&self, kind: MediaType) -> Option<&[u8]> {
        intake::item(&self.items, kind)
    }

    /// What the verdict will not cover, each with its reason; the claims' own list included.
    pub fn not_checked(&self) -> &[String] {
        &self.not_checked
    }

    /// What was borne in the chain of whoever vouches for the machine; the claims have their own.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }
}
