//! Who may join: the rules by which a proved machine becomes a node.

use std::collections::BTreeSet;

use assay_evidence::binding::Face;
use assay_evidence::reason::Reason;

use crate::exchange::Refused;
use crate::exchange::refusal::flag_reason;
use crate::store;
use crate::store::NodeKind;
use crate::store::NodeRow;

/// Which ways of admission are open beside the hash of the EK, which always is: its row is there
/// before the machine comes.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// A proved machine that nobody knows is recorded and waits for an operator.
    pub operator: bool,
    /// SHA-256 of the root certificates marked `admit = true`.
    pub roots: BTreeSet<[u8; 32]>,
    /// The same for certificates of attestation keys, which stand below roots of their own.
    pub ak_roots: BTreeSet<[u8; 32]>,
}

/// What a machine showed of itself, verified up to `root` and not proved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) kind: NodeKind,
    pub(super) spki_sha256: &'a [u8; 32],
    pub(super) root: &'a [u8; 32],
}

/// How an exchange may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    Admitted,
    /// Let it prove itself, record it, and refuse it.
    AwaitsOperator,
}

impl Admission {
    /// Judged before any costly cryptography is done for the peer.
    pub(super) fn judge(
        &self,
        row: Option<&NodeRow>,
        hardware: Shown<'_>,
    ) -> Result<Entrance, Refused> {
        if let Some(row) = row {
            demand_welcome(row)?;
            if row.admission == store::Admission::Admitted {
                return Ok(Entrance::Admitted);
            }
        }
        if self.roots_of(hardware.kind).contains(hardware.root) {
            return Ok(Entrance::Admitted);
        }
        if self.operator {
            return Ok(Entrance::AwaitsOperator);
        }
        Err(not_admitted(hardware.kind, hardware.spki_sha256))
    }

    /// The roots that admit nodes of this kind.
    pub fn roots_of(&self, kind: NodeKind) -> &BTreeSet<[u8; 32]> {
        match kind {
            NodeKind::TpmEk => &self.roots,
            NodeKind::TpmAk => &self.ak_roots,
        }
    }
}

pub(super) fn not_admitted(kind: NodeKind, spki_sha256: &[u8; 32]) -> Refused {
    let (word, expected) = match kind {
        NodeKind::TpmEk => ("EK", "an admitted EK"),
        NodeKind::TpmAk => ("AK certificate of key", "an admitted AK certificate"),
    };
    let found = format!("{word} {}", hex::encode(spki_sha256));
    Refused::new(Reason::NotAdmitted, "node.admission", found, expected)
}

/// Nobody forbade this node to speak.
pub(super) fn demand_welcome(row: &NodeRow) -> Result<(), Refused> {
    if row.banned {
        return Err(Refused::new(Reason::Banned, "node.banned", "true", "false"));
    }
    match row.flag.map(flag_reason) {
        Some(reason) => Err(Refused::new(reason, "node.flag", reason, "none")),
        None => Ok(()),
    }
}

/// The face must be one of those the node's row allows; a stranger may be native.
pub(super) fn demand_face(allowed: &[Face], face: Face) -> Result<(), Refused> {
    if allowed.contains(&face) {
        return Ok(());
    }
    let words: Vec<_> = allowed.iter().map(|face| face.as_str()).collect();
    Err(Refused::new(Reason::FaceNotAllowed, "binding.face", face, words.join(" or ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use assay_evidence::time::Time;

    use super::*;
    use crate::store::Flag;

    fn row(admission: store::Admission) -> NodeRow {
        let id = "00112233445566778899aabbccddeeff".to_owned();
        NodeRow::new(id, NodeKind::TpmEk, admission, Time::from_unix_s(0))
    }

    fn shown(root: &[u8; 32]) -> Shown<'_> {
        Shown { kind: NodeKind::TpmEk, spki_sha256: &[1; 32], root }
    }

    fn admitted() -> NodeRow {
        row(store::Admission::Admitted)
    }

    #[test]
    fn an_unlisted_ek_is_refused_and_a_listed_one_goes_on() {
        let hash_only = Admission::default();
        let refused = hash_only.judge(None, shown(&[2; 32])).unwrap_err();
        assert_eq!(refused.reason(), Reason::NotAdmitted);
        let entrance = hash_only.judge(Some(&admitted()), shown(&[9; 32])).unwrap();
        assert_eq!(entrance, Entrance::Admitted);
    }

    #[test]
    fn an_operator_may_be_awaited_and_a_marked_root_opens() {
        let operator = Admission { operator: true, ..Admission::default() };
        assert_eq!(operator.judge(None, shown(&[9; 32])).unwrap(), Entrance::AwaitsOperator);
        let pending = row(store::Admission::Pending);
        let entrance = operator.judge(Some(&pending), shown(&[9; 32])).unwrap();
        assert_eq!(entrance, Entrance::AwaitsOperator);
        let root = Admission { roots: BTreeSet::from([[2; 32]]), ..Admission::default() };
        assert_eq!(root.judge(None, shown(&[2; 32])).unwrap(), Entrance::Admitted);
        assert!(root.judge(None, shown(&[3; 32])).is_err());
        assert!(root.judge(Some(&pending), shown(&[9; 32])).is_err());
        // A root admits in its own role.
        let by_ak = Shown { kind: NodeKind::TpmAk, ..shown(&[2; 32]) };
        assert!(root.judge(None, by_ak).is_err());
        let ak_root = Admission { ak_roots: BTreeSet::from([[2; 32]]), ..Admission::default() };
        assert_eq!(ak_root.judge(None, by_ak).unwrap(), Entrance::Admitted);
        assert!(ak_root.judge(None, shown(&[2; 32])).is_err());
    }

    #[test]
    fn a_ban_or_a_flag_wins_over_every_admission() {
        let everything =
            Admission { operator: true, roots: BTreeSet::from([[2; 32]]), ..Admission::default() };
        let reason =
            |row: NodeRow| everything.judge(Some(&row), shown(&[2; 32])).unwrap_err().reason();
        assert_eq!(reason(NodeRow { banned: true, ..admitted() }), Reason::Banned);
        for flag in [Flag::CloneSuspected, Flag::ClockRegression] {
            assert_eq!(reason(NodeRow { flag: Some(flag), ..admitted() }), flag_reason(flag));
        }
    }

    #[test]
    fn a_face_that_the_row_does_not_name_is_refused() {
        demand_face(&admitted().faces, Face::Native).unwrap();
        let refused = demand_face(&admitted().faces, Face::SpirePlugin).unwrap_err();
        assert_eq!(refused.reason(), Reason::FaceNotAllowed);
    }
}
