//! How far a node's list of measured files was judged, for the next refresh to go on from there.
//!
//! Kept of an affirming appraisal alone, so it says: every entry so far was replayed to a quote and
//! found good under this one profile. Under any other profile, and in another boot, it says nothing,
//! and a list is judged from its beginning. So it is with a row that another version wrote: what
//! cannot be read is as if it had never been kept.

use assay_eventlog::ima::State;
use hex::FromHex;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::appraisal::Appraisal;

/// Below 1 KiB, however long the list is.
///
/// It cannot be forged: the fields are private and no constructor takes them.
/// ```compile_fail,E0451
/// # fn forge(state: assay_eventlog::ima::State) -> assay::store::FilesJudged {
/// assay::store::FilesJudged { profile_sha256: [0; 32], state }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesJudged {
    profile_sha256: [u8; 32],
    state: State,
}

/// As the row has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    profile_sha256: String,
    state: String,
}

impl FilesJudged {
    /// `None` unless the appraisal is affirming and judged a list.
    pub fn of(appraisal: &Appraisal) -> Option<Self> {
        let state = appraisal.files_judged()?.clone();
        Some(Self { profile_sha256: appraisal.profile().sha256, state })
    }

    /// Where to go on under the profile with this digest.
    pub fn under(&self, profile_sha256: &[u8; 32]) -> Option<&State> {
        (self.profile_sha256 == *profile_sha256).then_some(&self.state)
    }

    fn restored(stored: &Stored) -> Option<Self> {
        let profile_sha256 = FromHex::from_hex(&stored.profile_sha256).ok()?;
        let state = State::restored(&hex::decode(&stored.state).ok()?).ok()?;
        Some(Self { profile_sha256, state })
    }
}

pub fn serialize<S: Serializer>(files: &Option<FilesJudged>, s: S) -> Result<S::Ok, S::Error> {
    let stored = files.as_ref().map(|files| Stored {
        profile_sha256: hex::encode(files.profile_sha256),
        state: hex::encode(files.state.to_bytes()),
    });
    stored.serialize(s)
}

pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<FilesJudged>, D::Error> {
    let stored = Option::<serde_json::Value>::deserialize(d)?;
    let stored = stored.and_then(|value| serde_json::from_value(value).ok());
    Ok(stored.as_ref().and_then(FilesJudged::restored))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use assay_evidence::time::Time;
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::store::Admission;
    use crate::store::NodeKind;
    use crate::store::NodeRow;

    fn row() -> NodeRow {
        let judged = FilesJudged { profile_sha256: [7; 32], state: State::boot(3) };
        let now = Time::from_unix_s(1);
        let row = NodeRow::new("0f".repeat(16), NodeKind::TpmEk, Admission::Admitted, now);
        NodeRow { files_judged: Some(judged), ..row }
    }

    fn stored_as(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> NodeRow {
        let mut stored = serde_json::to_value(row()).unwrap();
        change(stored.as_object_mut().unwrap());
        serde_json::from_value(stored).unwrap()
    }

    #[test]
    fn how_far_a_list_was_judged_comes_back_from_the_row() {
        assert_eq!(stored_as(|_| {}), row());
        let judged = row().files_judged.unwrap();
        assert!(judged.under(&[7; 32]).unwrap().is_of_boot(3));
    }

    #[test]
    fn under_another_profile_nothing_was_judged() {
        assert_eq!(row().files_judged.unwrap().under(&[8; 32]), None);
    }

    #[test]
    fn a_row_from_before_lists_were_kept_says_nothing_of_one() {
        let older = stored_as(|row| drop(row.remove("files_judged")));
        assert_eq!(older, NodeRow { files_judged: None, ..row() });
    }

    #[test]
    fn what_another_version_kept_is_as_if_it_had_not() {
        let state = serde_json::to_value(row()).unwrap()["files_judged"]["state"].clone();
        let state = state.as_str().unwrap().to_owned();
        let digest = "07".repeat(32);
        for kept in [
            json!(null),
            json!(7),
            json!({}),
            json!({ "profile_sha256": digest, "state": "" }),
            json!({ "profile_sha256": digest, "state": "zz" }),
            json!({ "profile_sha256": "07", "state": state }),
            json!({ "profile_sha256": digest, "state": format!("ff{}", &state[2..]) }),
            json!({ "profile_sha256": digest, "state": format!("{state}00") }),
        ] {
            let read = stored_as(|row| drop(row.insert("files_judged".to_owned(), kept.clone())));
            assert_eq!(read.files_judged, None, "{kept}");
        }
    }
}
