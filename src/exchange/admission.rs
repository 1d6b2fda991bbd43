//! Who may join: the rules by which a proved machine becomes a node.

use std::collections::BTreeSet;

use assay_evidence::binding::Face;
use assay_evidence::reason::Reason;

use crate::exchange::Refused;
use crate::exchange::refusal::flag_reason;
use crate::store;
use crate::store::NodeRow;

/// Which ways of admission are open beside the hash of the EK, which always is: its row is there
/// before the machine comes.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// A proved machine that nobody knows is recorded and waits for an operator.
    pub operator: bool,
    /// SHA-256 of the root certificates marked `admit = true`.
    pub roots: BTreeSet<[u8; 32]>,
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
        ek_spki_sha256: &[u8; 32],
        ek_root: Option<&[u8; 32]>,
    ) -> Result<Entrance, Refused> {
        if let Some(row) = row {
            demand_welcome(row)?;
            if row.admission == store::Admission::Admitted {
                return Ok(Entrance::Admitted);
            }
        }
        if ek_root.is_some_and(|root| self.roots.contains(root)) {
            return Ok(Entrance::Admitted);
        }
        if self.operator {
            return Ok(Entrance::AwaitsOperator);
        }
        Err(not_admitted(ek_spki_sha256))
    }
}

pub(super) fn not_admitted(ek_spki_sha256: &[u8; 32]) -> Refused {
    let found = format!("EK {}", hex::encode(ek_spki_sha256));
    Refused::new(Reason::NotAdmitted, "node.admission", found, "an admitted EK")
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
    use crate::store::NodeKind;

    fn row(admission: store::Admission) -> NodeRow {
        let id = "00112233445566778899aabbccddeeff".to_owned();
        NodeRow::new(id, NodeKind::TpmEk, admission, Time::from_unix_s(0))
    }

    fn admitted() -> NodeRow {
        row(store::Admission::Admitted)
    }

    #[test]
    fn an_unlisted_ek_is_refused_and_a_listed_one_goes_on() {
        let hash_only = Admission::default();
        let refused = hash_only.judge(None, &[1; 32], Some(&[2; 32])).unwrap_err();
        assert_eq!(refused.reason(), Reason::NotAdmitted);
        let entrance = hash_only.judge(Some(&admitted()), &[1; 32], None).unwrap();
        assert_eq!(entrance, Entrance::Admitted);
    }

    #[test]
    fn an_operator_may_be_awaited_and_a_marked_root_opens() {
        let operator = Admission { operator: true, roots: BTreeSet::new() };
        assert_eq!(operator.judge(None, &[1; 32], None).unwrap(), Entrance::AwaitsOperator);
        let pending = row(store::Admission::Pending);
        let entrance = operator.judge(Some(&pending), &[1; 32], None).unwrap();
        assert_eq!(entrance, Entrance::AwaitsOperator);
        let root = Admission { operator: false, roots: BTreeSet::from([[2; 32]]) };
        assert_eq!(root.judge(None, &[1; 32], Some(&[2; 32])).unwrap(), Entrance::Admitted);
        assert!(root.judge(None, &[1; 32], Some(&[3; 32])).is_err());
        assert!(root.judge(Some(&pending), &[1; 32], None).is_err());
    }

    #[test]
    fn a_ban_or_a_flag_wins_over_every_admission() {
        let everything = Admission { operator: true, roots: BTreeSet::from([[2; 32]]) };
        let reason = |row: NodeRow| {
            everything.judge(Some(&row), &[1; 32], Some(&[2; 32])).unwrap_err().reason()
        };
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
