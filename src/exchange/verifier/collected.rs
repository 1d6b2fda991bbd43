//! All evidence is in: the last step, by the node's row as it is then.

use std::time::Duration;

use assay_evidence::digest::HashAlgorithm;
use assay_evidence::reason::Reason;
use assay_evidence::time::Time;
use assay_tpm::Trust;

use crate::envelope::Claims;
use crate::envelope::MediaType;
use crate::exchange::NodeId;
use crate::exchange::Received;
use crate::exchange::Refused;
use crate::exchange::Verified;
use crate::exchange::Vouchers;
use crate::exchange::Wanted;
use crate::exchange::admission::Entrance;
use crate::exchange::admission::demand_welcome;
use crate::exchange::admission::not_admitted;
use crate::exchange::continuity::demand_progress;
use crate::exchange::hardware::Hardware;
use crate::exchange::limits;
use crate::exchange::limits::Lease;
use crate::exchange::tee;
use crate::store;
use crate::store::Counters;
use crate::store::NodeKind;
use crate::store::NodeRow;

use super::Genuine;
use super::Heard;
use super::Open;
use super::entrance;

/// All evidence is in, and the TPM's part of it is genuine and fresh.
#[derive(Debug)]
pub struct Collected {
    pub(super) open: Open,
    pub(super) proved: Genuine,
    pub(super) items: Vec<Received>,
    pub(super) heard: Vec<u8>,
    pub(super) lease: Lease,
    pub(super) vouchers: Vouchers,
}

impl Collected {
    pub fn node(&self) -> &NodeId {
        &self.open.node
    }

    /// As [`Awaiting::heard`].
    pub fn heard(&self) -> Heard<'_> {
        self.open.heard(&self.proved, &self.heard)
    }

    /// As [`Identified::kind`].
    pub fn kind(&self) -> Option<NodeKind> {
        self.open.hardware.as_ref().map(Hardware::kind)
    }

    /// As [`Identified::ek_spki_sha256`].
    pub fn ek_spki_sha256(&self) -> Option<&[u8; 32]> {
        self.open.hardware.as_ref().map(Hardware::spki_sha256)
    }

    /// As [`Identified::other_eks`].
    pub fn other_eks(&self) -> &[[u8; 32]] {
        self.open.hardware.as_ref().map_or(&[], Hardware::claimed_others)
    }

    /// Boot time until which what vendors say may be waited for: that of the logs.
    pub fn deadline(&self) -> Duration {
        let within = limits::logs_within(self.open.terms.max_age);
        self.open.challenged.boot.saturating_add(within)
    }

    /// What it takes to verify the report of a confidential machine: to be found before the last
    /// step, and given by [`Collected::endorsed`]. Nothing where none came.
    pub fn wants(&self) -> Option<Wanted> {
        tee::wants(&self.items)
    }

    /// With what vendors say of the machine's processor.
    #[must_use]
    pub fn endorsed(self, vouchers: Vouchers) -> Self {
        Self { vouchers, ..self }
    }

    /// The last step, under the node's lock: `row` and `kin` as they are now, and whether the node
    /// has a live standing. Consumes the challenge, voids the node's older ones, and compares the counters
    /// with those of the last accepted quote.
    pub fn verify(
        self,
        row: Option<NodeRow>,
        kin: &[NodeRow],
        live_standing: bool,
        now: Time,
    ) -> Result<Verified, Refused> {
        let Self { open, proved, items, heard, lease, vouchers } = self;
        let node = open.node.clone();
        let hardware = open.hardware.as_ref();
        let entrance = kin
            .iter()
            .try_for_each(demand_welcome)
            .and_then(|()| entrance(&open.terms, &node, hardware, open.hello.face, row.as_ref()))
            .map_err(|refused| open.refused(refused))?;
        let admitted = entrance == Entrance::Admitted;
        Self { open, proved, items, heard, lease, vouchers }
            .verify_unless_refused(row, entrance, live_standing, now)
            .map_err(|refused| {
                let refused = refused.about(&node);
                // Its AK answered for this very challenge.
                if admitted { refused.into_proved() } else { refused }
            })
    }

    fn verify_unless_refused(
        self,
        row: Option<NodeRow>,
        entrance: Entrance,
        live_standing: bool,
        now: Time,
    ) -> Result<Verified, Refused> {
        let Self { open, proved, items, lease, vouchers, .. } = self;
        let Genuine { claims, ak, binding, grounds } = proved;
        let not_checked = open.not_checked(&claims);
        let vouching = open.vouching(row.as_ref());
        open.ticket.accept()?;
        let before = row.as_ref().and_then(|row| row.ak_name.clone());
        let ak_name = ak.name().as_bytes().to_vec();
        let ak_is_new = before.as_ref() != Some(&ak_name);
        let proved = matches!(claims.ak_trust(), Trust::Activation | Trust::Iak);
        if ak_is_new && !proved {
            let expected = hex::encode(before.unwrap_or_default());
            let found = hex::encode(ak_name);
            return Err(Refused::new(Reason::AkMismatch, "ak.name", found, expected));
        }
        let tee = tee::verify(&items, &vouchers, &open.terms.tee, &binding, &vouching, now)?;
        let clock = claims.clock();
        let counters = Counters {
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
            clock: clock.clock,
        };
        let last = row.as_ref().and_then(|row| row.counters);
        demand_progress(counters, last, live_standing)?;

        let admission = match entrance {
            Entrance::Admitted => store::Admission::Admitted,
            Entrance::AwaitsOperator => store::Admission::Pending,
        };
        let hardware = open.hardware.as_ref();
        let kind = hardware.map_or(NodeKind::TpmEk, Hardware::kind);
        let mut row =
            row.unwrap_or_else(|| NodeRow::new(open.node.to_string(), kind, admission, now));
        if entrance == Entrance::Admitted {
            // A pending node below a root that admits; an operator's word only ever adds.
            row.admission = store::Admission::Admitted;
        }
        if let Some(hardware) = hardware {
            hardware.put(&mut row, &open.hello);
            row.ak_public = Some(open.hello.ak_public.clone());
            row.svid_key_in_tpm = claims.certified_key().is_some();
        }
        row.ak_name = Some(ak_name);
        row.counters = Some(counters);
        row.firmware_version = Some(claims.firmware_version());
        row.last_quoted_at = Some(open.challenged.wall);
        row.agent_version.clone_from(&open.hello.agent_version);
        for item in &items {
            if matches!(item.media_type, MediaType::TcgEventlog) && item.bytes.is_some() {
                row.logs.insert(item.media_type.word().to_owned(), hex::encode(item.sha256));
            }
        }
        if row.admission == store::Admission::Pending {
            let spki_sha256 = hardware.map_or([0; 32], |hardware| *hardware.spki_sha256());
            return Err(not_admitted(kind, &spki_sha256).with_pending(row));
        }
        let warnings = open.hardware.iter().flat_map(Hardware::warnings);
        let warnings = warnings.chain(vouchers.warnings.iter().cloned()).collect();
        Ok(Verified {
            row,
            replaced_ak: before.filter(|_| ak_is_new),
            node: open.node,
            purpose: open.purpose,
            face: open.hello.face,
            nonce: open.nonce,
            exporter: open.channel.exporter,
            claims: Claims::Tpm(claims),
            tee,
            vouchers,
            grounds,
            quoted: open.challenged,
            items,
            not_checked,
            warnings,
            _lease: lease,
        })
    }
}

/// What no exchange looks at so far, said in each result: a reader must not take silence for a yes.
const NOT_CHECKED_YET: [&str; 1] = ["revocation: no list of revoked EK certificates is consulted"];

impl Open {
    /// SHA-256 of the SPKI of the keys that certified the AK in use: now, or at the attestation
    /// that this refresh rests on.
    fn vouching(&self, row: Option<&NodeRow>) -> Vec<[u8; 32]> {
        match (&self.hardware, row) {
            (Some(hardware @ Hardware::Ak { .. }), _) => vec![*hardware.spki_sha256()],
            (None, Some(row)) if row.kind == NodeKind::TpmAk => row.ek_spki_sha256.clone(),
            _ => Vec::new(),
        }
    }

    fn not_checked(&self, claims: &assay_tpm::Claims) -> Vec<String> {
        let mut list: Vec<String> = claims.not_checked().iter().map(ToString::to_string).collect();
        if self.channel.exporter.is_none() {
            list.push("channel: this face does not see it".to_owned());
        }
        list.extend(self.hardware.iter().flat_map(Hardware::not_checked));
        list.extend(NOT_CHECKED_YET.map(str::to_owned));
        for (algorithm, _) in &self.hello.banks {
            if HashAlgorithm::from_tpm_id(*algorithm).is_none() {
                list.push(format!("bank 0x{algorithm:04x}: the algorithm is not known"));
            }
        }
        list
    }
}
