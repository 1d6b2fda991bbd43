//! What a verified document establishes; nothing in it was not covered by a checked signature.
//!
//! Claims can be written out and never read in: the only way to have some is to verify a document.
//!
//! ```compile_fail,E0451
//! fn forge(genuine: assay_nitro::Claims) -> assay_nitro::Claims {
//!     assay_nitro::Claims { debug: false, ..genuine }
//! }
//! ```
//!
//! The written form: `module_id`, `digest`, `timestamp` (RFC 3339), `timestamp_ms`, `pcrs` (hex by
//! number), `pcr_count`, `debug` (PCR 0 is zero), `nonce`, `user_data`, `public_key` (hex, empty
//! where absent), `cabundle_count`, `nonce_checked`, `root` (`aws`, or `operator-supplied` and then
//! `tier` is `none`).

use std::collections::BTreeMap;

use assay_evidence::Time;
use assay_evidence::crypto;
use serde::Serialize;
use serde::Serializer;

use crate::document::Document;
use crate::endorsement::Chain;

#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    module_id: String,
    digest: &'static str,
    timestamp: Time,
    timestamp_ms: i64,
    #[serde(serialize_with = "hex_values")]
    pcrs: BTreeMap<u8, Vec<u8>>,
    pcr_count: usize,
    debug: bool,
    #[serde(serialize_with = "hex_or_empty")]
    nonce: Option<Vec<u8>>,
    #[serde(serialize_with = "hex_or_empty")]
    user_data: Option<Vec<u8>>,
    #[serde(serialize_with = "hex_or_empty")]
    public_key: Option<Vec<u8>>,
    cabundle_count: usize,
    nonce_checked: bool,
    root: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'static str>,
    #[serde(skip)]
    evidence_id: [u8; 32],
    #[serde(skip)]
    not_checked: Vec<&'static str>,
}

impl Claims {
    pub(crate) fn new(
        document: &Document<'_>,
        chain: &Chain,
        signed: &[u8],
        nonce_checked: bool,
    ) -> Claims {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let zero = |value: &&[u8]| value.iter().all(|&byte| byte == 0);
        let mut not_checked = vec!["revocation: AWS publishes no revocation list"];
        if !nonce_checked {
            not_checked.push("nonce: no value was expected");
        }
        Claims {
            module_id: document.module_id.to_owned(),
            digest: "SHA384",
            timestamp: document.timestamp,
            timestamp_ms: document.timestamp.unix_ms(),
            pcr_count: document.pcrs.len(),
            // A debug enclave measures nothing; a document that leaves register 0 out says no more.
            debug: document.pcrs.get(&0).is_none_or(zero),
            pcrs: document.pcrs.iter().map(|(&n, value)| (n, value.to_vec())).collect(),
            nonce: owned(document.nonce),
            user_data: owned(document.user_data),
            public_key: owned(document.public_key),
            cabundle_count: document.bundle.len(),
            nonce_checked,
            root: if chain.operator_root { "operator-supplied" } else { "aws" },
            tier: chain.operator_root.then_some("none"),
            evidence_id: crypto::sha256(signed),
            not_checked,
        }
    }

    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    pub fn timestamp(&self) -> Time {
        self.timestamp
    }

    /// 0 image, 1 kernel and boot, 2 application, 3 role of the parent, 4 its instance id, 8 the
    /// certificate that signed the image, 16 and above the enclave's own.
    pub fn pcrs(&self) -> &BTreeMap<u8, Vec<u8>> {
        &self.pcrs
    }

    pub fn debug(&self) -> bool {
        self.debug
    }

    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }

    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// The chain leads to a root that the operator added, so to no vendor.
    pub fn operator_supplied_root(&self) -> bool {
        self.tier.is_some()
    }

    /// SHA-256 of the bytes that were signed.
    pub fn evidence_id(&self) -> &[u8; 32] {
        &self.evidence_id
    }

    /// Checks that could not be made with what was given, each with its reason.
    pub fn not_checked(&self) -> &[&'static str] {
        &self.not_checked
    }
}

fn hex_or_empty<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes.as_deref().unwrap_or_default()))
}

fn hex_values<S: Serializer>(
    pcrs: &BTreeMap<u8, Vec<u8>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pcrs.iter().map(|(number, value)| (number, hex::encode(value))))
}
