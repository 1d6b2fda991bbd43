//! One change of the store's rows.

use assay_evidence::reason::Reason;

use crate::appraisal::Standing;
use crate::spiffe::Entry;
use crate::spiffe::EntryId;
use crate::spiffe::SpiffeId;
use crate::store::AuthorityRow;
use crate::store::Blob;
use crate::store::EkAdmission;
use crate::store::NodeRow;

/// What to change. Where a revision is expected, another one found there is a `Conflict` and
/// nothing of the commit happens.
#[derive(Debug, Clone)]
pub enum Change {
    /// The whole row; it must be stored at `row.revision` now (0: not stored). All its EKs are
    /// this node's from now on.
    Node(NodeRow),
    DeleteNode {
        node_id: String,
        revision: i64,
    },
    /// An operator enters an EK before the node was ever seen, or changes what he said.
    AdmitEk(EkAdmission),
    RetractEk {
        spki_sha256: [u8; 32],
    },
    /// A new standing of a node; refused if the one there rests on a later quote.
    Standing(Standing),
    /// The standing, if there is one, ends now.
    VoidStanding {
        node: SpiffeId,
        reason: Reason,
    },
    /// A new entry (`revision` `None`), or the next revision of one that is at `revision`. The
    /// store numbers the revisions; the one inside `entry` is not read.
    Entry {
        entry: Entry,
        revision: Option<i64>,
    },
    /// `revision` `None`: whatever it is.
    DeleteEntry {
        id: EntryId,
        revision: Option<i64>,
    },
    /// The whole row; it must be stored at `row.revision` now (0: not stored).
    Authority(AuthorityRow),
    /// The authority leaves the bundle.
    RetireAuthority {
        authority_id: String,
        revision: i64,
    },
    Blob(Blob),
}
