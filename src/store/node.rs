//! A node as the store knows it: its hardware, what operators said of it, how far it has come.

use std::collections::BTreeMap;

use assay_evidence::binding::Face;
use assay_evidence::time::Time;
use assay_tpm::endorsement::Device;
use assay_tpm::endorsement::TpmClass;
use serde::Deserialize;
use serde::Serialize;

use crate::spiffe::Serial;
use crate::store::FilesJudged;
use crate::store::files_judged;
use crate::store::hexadecimal;

/// What a node's identity is taken from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// The SPKI of the EK certificate's key.
    #[default]
    TpmEk,
    /// The SPKI of the AK certificate's key.
    TpmAk,
}

/// Whether an operator's rule lets the node in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Proved, but unknown: refused with `not-admitted` until somebody admits it.
    Pending,
    Admitted,
}

/// Why a node is refused until an operator speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// Until `node release`.
    CloneSuspected,
    /// Until `node reset-counters`.
    ClockRegression,
}

/// How far the node's TPM had come at its last accepted quote; compared in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Counters {
    pub reset_count: u32,
    pub restart_count: u32,
    pub clock: u64,
}

/// The serials of the agent's certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Serials {
    pub active: Option<Serial>,
    /// Issued, not used yet; becomes the active one on its first use.
    pub next: Option<Serial>,
    /// Serials whose successor has been used.
    pub replaced: Vec<Replaced>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub serial: Serial,
    /// When its successor was first used.
    pub since: Time,
}

/// The maker's words in an EK certificate, as they were verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmDevice {
    /// The vendor id, such as `id:49465800`.
    pub manufacturer: String,
    pub model: String,
    pub version: String,
}

impl From<&Device> for TpmDevice {
    fn from(device: &Device) -> Self {
        let Device { manufacturer, model, version } = device.clone();
        Self { manufacturer, model, version }
    }
}

impl From<&TpmDevice> for Device {
    fn from(device: &TpmDevice) -> Self {
        let TpmDevice { manufacturer, model, version } = device.clone();
        Self { manufacturer, model, version }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffirmedBy {
    pub profile_id: String,
    pub serial: u64,
}

/// All that is stored about a node. Make one by [`NodeRow::new`], change one that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    pub node_id: String,
    /// As read; 0 while it is not stored.
    #[serde(skip)]
    pub revision: i64,
    pub kind: NodeKind,
    /// SPKI SHA-256 of every key that stood for this node: its EKs, or the key of its AK certificate.
    #[serde(with = "hexadecimal::list", default)]
    pub ek_spki_sha256: Vec<[u8; 32]>,
    /// EKs whose certificates came along and that were not proved: somebody else's may be among
    /// them. Good for refusing, never for allowing.
    #[serde(with = "hexadecimal::list", default)]
    pub claimed_eks: Vec<[u8; 32]>,
    /// Every such certificate seen, in DER.
    #[serde(with = "hexadecimal::list", default)]
    pub ek_certs: Vec<Vec<u8>>,
    /// SHA-256 of the root certificate that their chain ended in.
    #[serde(with = "hexadecimal::option", default)]
    pub ek_root: Option<[u8; 32]>,
    pub class: Option<TpmClass>,
    /// What the verified EK certificate says of the TPM; nothing before the first attestation.
    #[serde(default)]
    pub device: Option<TpmDevice>,
    /// TPMS_ATTEST firmwareVersion of its last accepted quote.
    #[serde(default)]
    pub firmware_version: Option<u64>,
    /// The class is an operator's word, not a root's.
    #[serde(default)]
    pub class_asserted: bool,
    #[serde(with = "hexadecimal::option", default)]
    pub ak_name: Option<Vec<u8>>,
    /// TPMT_PUBLIC.
    #[serde(with = "hexadecimal::option", default)]
    pub ak_public: Option<Vec<u8>>,
    #[serde(default)]
    pub owner: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Which faces the node may use.
    #[serde(with = "hexadecimal::faces")]
    pub faces: Vec<Face>,
    /// The profile that judges it, where it is not the server's default.
    pub profile: Option<String>,
    /// The TPM has no SHA-1 bank to quote; said at admission.
    #[serde(default)]
    pub no_sha1: bool,
    pub admission: Admission,
    pub first_seen: Time,
    pub counters: Option<Counters>,
    #[serde(default)]
    pub serials: Serials,
    #[serde(default)]
    pub svid_key_in_tpm: bool,
    #[serde(default)]
    pub banned: bool,
    pub flag: Option<Flag>,
    /// What the agent says of itself.
    #[serde(default)]
    pub agent_version: String,
    pub last_quoted_at: Option<Time>,
    /// SHA-256 of the newest log of each kind, by the word of its media type.
    #[serde(default)]
    pub logs: BTreeMap<String, String>,
    /// Where the next refresh goes on in the list of files.
    #[serde(default, with = "files_judged")]
    pub files_judged: Option<FilesJudged>,
    /// The profile that last found the node good: an older one of the same name is none.
    #[serde(default)]
    pub affirmed_by: Option<AffirmedBy>,
}

/// What an operator said of a node that is known by the hash alone of its EK, or of its AK
/// certificate's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EkAdmission {
    /// Whose key it is; what was written before there was a choice is of EKs.
    #[serde(default)]
    pub kind: NodeKind,
    #[serde(with = "hex::serde")]
    pub spki_sha256: [u8; 32],
    #[serde(default)]
    pub owner: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(with = "hexadecimal::faces")]
    pub faces: Vec<Face>,
    pub profile: Option<String>,
    #[serde(default)]
    pub no_sha1: bool,
    /// For TPMs whose EK chain ends in no root that says it.
    pub class: Option<TpmClass>,
    pub admitted_at: Time,
}

/// What is known of an EK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EkRow {
    pub spki_sha256: [u8; 32],
    /// The node it belongs to, once it was seen.
    pub node_id: Option<String>,
    pub admission: Option<EkAdmission>,
    pub first_seen: Time,
}

impl NodeRow {
    /// A node that nothing is known of but its identity.
    pub fn new(node_id: String, kind: NodeKind, admission: Admission, first_seen: Time) -> Self {
        Self {
            node_id,
            revision: 0,
            kind,
            ek_spki_sha256: Vec::new(),
            claimed_eks: Vec::new(),
            ek_certs: Vec::new(),
            ek_root: None,
            class: None,
            device: None,
            firmware_version: None,
            class_asserted: false,
            ak_name: None,
            ak_public: None,
            owner: String::new(),
            labels: BTreeMap::new(),
            faces: vec![Face::Native],
            profile: None,
            no_sha1: false,
            admission,
            first_seen,
            counters: None,
            serials: Serials::default(),
            svid_key_in_tpm: false,
            banned: false,
            flag: None,
            agent_version: String::new(),
            last_quoted_at: None,
            logs: BTreeMap::new(),
            files_judged: None,
            affirmed_by: None,
        }
    }

    /// Takes over what an operator said before the node was seen.
    pub fn admitted_by(mut self, admission: &EkAdmission) -> Self {
        self.admission = Admission::Admitted;
        self.owner.clone_from(&admission.owner);
        self.labels.clone_from(&admission.labels);
        self.faces.clone_from(&admission.faces);
        self.profile.clone_from(&admission.profile);
        self.no_sha1 = admission.no_sha1;
        if self.class.is_none() && admission.class.is_some() {
            self.class = admission.class;
            self.class_asserted = true;
        }
        self
    }
}

impl NodeKind {
    pub const ALL: [Self; 2] = [Self::TpmEk, Self::TpmAk];

    /// The word that goes into the node id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TpmEk => "tpm-ek",
            Self::TpmAk => "tpm-ak",
        }
    }
}
