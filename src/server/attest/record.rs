//! What an exchange leaves behind: the evidence and the verdict as records, the bytes as blobs, and
//! of a refusal what the log and the node's row have to keep.

use assay_eventlog::ima::State;
use assay_evidence::binding::Purpose;

use crate::appraisal::Appraisal;
use crate::appraisal::Standing;
use crate::appraisal::Verdict;
use crate::envelope::MediaType;
use crate::exchange::Refused;
use crate::exchange::Verified;
use crate::records;
use crate::records::Actor;
use crate::records::Data;
use crate::records::Draft;
use crate::records::Ref;
use crate::server::domain::RecordOfStranger;
use crate::server::domain::strangers_unrecorded;
use crate::spiffe::SpiffeId;
use crate::store::Blob;
use crate::store::Change;
use crate::store::Keep;
use crate::store::NodeRow;
use crate::store::StoreError;

use super::Exchange;
use super::gaps;

/// Kinds of blobs beside the items of evidence: M of attestation.md §1, three TPMT_PUBLIC, where a
/// list of files goes on, what vendors say of a processor, and certificates in DER.
const BINDING: &str = "application/vnd.assay.binding";
const AK_PUBLIC: &str = "application/vnd.assay.tpm-ak-public";
const EK_PUBLIC: &str = "application/vnd.assay.tpm-ek-public";
const SVID_PUBLIC: &str = "application/vnd.assay.tpm-svid-public";
const IMA_STATE: &str = "application/vnd.assay.ima-state";
const SNP_VEK: &str = "application/vnd.assay.snp-vek";
const SNP_CHAIN: &str = "application/vnd.assay.snp-chain";
const SNP_CRL: &str = "application/vnd.assay.snp-crl";
const TDX_COLLATERAL: &str = "application/vnd.assay.tdx-collateral";
const CERTIFICATE: &str = "application/pkix-cert";

impl Exchange<'_> {
    fn draft(&self, id: &SpiffeId, mut refs: Vec<Ref>, data: Data) -> Draft {
        refs.insert(0, Ref::Standing(self.id.clone()));
        let actor = match self.purpose {
            Purpose::Refresh => Actor::Spiffe(id.clone()),
            _ => Actor::Address(self.address),
        };
        Draft { subject: records::Subject::Id(id.clone()), actor, refs, data }
    }

    pub(super) fn evidence(&self, id: &SpiffeId, verified: &Verified, kept: Vec<Ref>) -> Draft {
        let clock = verified.claims().clock();
        let row = verified.row();
        let evidence = records::Evidence {
            purpose: verified.purpose(),
            face: verified.face(),
            nonce: *verified.nonce(),
            exporter_sha256: verified.exporter_sha256(),
            ek_spki_sha256: row.ek_spki_sha256.first().copied(),
            ak_name: row.ak_name.clone(),
            counters: Some(records::Counters {
                reset_count: clock.reset_count,
                restart_count: clock.restart_count,
                clock: clock.clock,
                safe: clock.safe,
            }),
            items: verified
                .items()
                .iter()
                .map(|item| records::Item {
                    media_type: item.media_type.to_string(),
                    size: item.size,
                    sha256: item.sha256,
                })
                .collect(),
        };
        self.draft(id, kept, Data::Evidence(evidence))
    }

    pub(super) fn result(
        &self,
        id: &SpiffeId,
        appraisal: &Appraisal,
        verified: &Verified,
        standing: Option<&Standing>,
        changed: bool,
    ) -> Draft {
        let profile = appraisal.profile();
        let outcome = records::Outcome {
            verdict: match appraisal.verdict() {
                Verdict::Affirming => records::Verdict::Affirming,
                Verdict::Contraindicated => records::Verdict::Contraindicated,
            },
            findings: appraisal.findings().to_vec(),
            warnings: appraisal.warnings().to_vec(),
            not_checked: gaps(verified, appraisal),
            profile: Some((profile.id.clone(), profile.serial, profile.sha256)),
            policy_sha256: Some(*appraisal.policy_sha256()),
            quoted_at: Some(appraisal.quoted_at()),
            expires_at: standing.map(Standing::expires_at),
            tee: verified.tee().cloned(),
            tee_in_full: changed || verified.purpose() == Purpose::Attest,
        };
        self.draft(id, Vec::new(), Data::Result(outcome))
    }

    pub(super) fn ak_replaced(&self, id: &SpiffeId, before: &[u8], verified: &Verified) -> Draft {
        let after = verified.row().ak_name.as_ref().map(hex::encode).unwrap_or_default();
        let arguments = [("before".to_owned(), hex::encode(before)), ("after".to_owned(), after)];
        let admin = records::Admin { act: "ak-replaced", arguments: arguments.into() };
        self.draft(id, Vec::new(), Data::Admin(admin))
    }

    /// Keeps the refusal, and what it does to the node's row. An appraisal is recorded with its
    /// evidence already, and so many strangers may fail that not each of them is written down.
    pub(super) async fn record_refusal(&self, refused: &Refused) -> Result<(), StoreError> {
        let domain = self.domain;
        let kind = records::RefKind::Standing;
        if !domain.store.records_by_ref(kind, &self.id, None, 1).await?.is_empty() {
            return Ok(());
        }
        let id = match refused.node() {
            Some(node) => node.spiffe_id(&domain.config.trust_domain).ok(),
            None => None,
        };
        let node = match &id {
            Some(id) => domain.nodes.node(&domain.store, id).await?,
            None => None,
        };
        // Anybody who has a copy of a certificate can be refused in its name. What was proved is
        // bounded by what nodes do; a hold and a new machine each come once.
        let once = refused.flag().is_some() || (refused.pending().is_some() && node.is_none());
        let recording = match refused.proved() || once {
            true => RecordOfStranger::Whole,
            false => domain.record_of_stranger(),
        };
        let about = |subject, findings| Draft {
            subject,
            actor: Actor::Address(self.address),
            refs: vec![Ref::Standing(self.id.clone())],
            data: Data::Result(records::Outcome::refused(findings)),
        };
        let draft = match recording {
            RecordOfStranger::Whole => {
                let subject = match &id {
                    Some(id) => records::Subject::Id(id.clone()),
                    None => records::Subject::TrustDomain,
                };
                about(subject, refused.findings().to_vec())
            }
            RecordOfStranger::Summary => {
                let draft = about(records::Subject::TrustDomain, vec![strangers_unrecorded()]);
                domain.store.commit(Vec::new(), vec![draft]).await?;
                return Ok(());
            }
            RecordOfStranger::None => return Ok(()),
        };
        match (node, refused.flag(), refused.pending()) {
            (Some(node), Some(flag), _) => {
                let _guard = node.lock().await;
                let mut row = node.view().row;
                row.flag = Some(flag);
                let reason = refused.reason();
                let void = Change::VoidStanding { node: node.id.clone(), reason };
                node.commit(&domain.store, row, vec![void], vec![draft]).await?;
                node.fall(reason);
            }
            (Some(node), None, Some(pending)) => {
                let _guard = node.lock().await;
                let row = NodeRow { revision: node.view().row.revision, ..pending.clone() };
                node.commit(&domain.store, row, Vec::new(), vec![draft]).await?;
            }
            (None, _, Some(pending)) => {
                domain.store.commit(vec![Change::Node(pending.clone())], vec![draft]).await?;
            }
            _ => {
                domain.store.commit(Vec::new(), vec![draft]).await?;
            }
        }
        Ok(())
    }
}

/// The full set at an attestation and where something changed, with all that it takes to verify it
/// again elsewhere; otherwise the quote and what it signed. Kept for long only where something
/// changed. Fewer than a record may refer to: ten items, four public parts, a list's state, three of
/// a vendor, and the EK's or AK's certificate with a chain of eight.
pub(super) fn blobs(
    verified: &Verified,
    went_on_from: Option<&State>,
    changed: bool,
) -> Result<(Vec<Blob>, Vec<Ref>), StoreError> {
    let full = changed || verified.purpose() == Purpose::Attest;
    let mut blobs = Vec::new();
    for item in verified.items() {
        let Some(bytes) = &item.bytes else { continue };
        if full || item.media_type == MediaType::TpmQuote {
            let keep = keep(item.media_type, changed);
            blobs.push(Blob::new(&item.media_type.to_string(), bytes.clone(), keep)?);
        }
    }
    let keep = if changed { Keep::Full } else { Keep::Routine };
    let grounds = verified.grounds();
    blobs.push(Blob::new(BINDING, grounds.message.clone(), keep)?);
    if full {
        // A tail says nothing without the place that it follows.
        if let Some(state) = went_on_from {
            blobs.push(Blob::new(IMA_STATE, state.to_bytes(), keep)?);
        }
        blobs.push(Blob::new(AK_PUBLIC, grounds.ak_public.clone(), keep)?);
        let publics = [(EK_PUBLIC, &grounds.ek_public), (SVID_PUBLIC, &grounds.svid_public)];
        for (media_type, public) in publics {
            if let Some(public) = public {
                blobs.push(Blob::new(media_type, public.clone(), keep)?);
            }
        }
        for certificate in &grounds.certificates {
            blobs.push(Blob::new(CERTIFICATE, certificate.clone(), keep)?);
        }
        let vouchers = verified.vouchers();
        let of_processor = [
            (SNP_VEK, vouchers.vek.clone()),
            (SNP_CHAIN, (!vouchers.chain.is_empty()).then(|| vouchers.chain.concat())),
            (SNP_CRL, vouchers.crl.clone()),
            (TDX_COLLATERAL, vouchers.collateral.clone()),
        ];
        for (media_type, bytes) in of_processor {
            if let Some(bytes) = bytes {
                blobs.push(Blob::new(media_type, bytes, keep)?);
            }
        }
    }
    let blobs: Vec<_> =
        blobs.into_iter().map(|blob| blob.of_node(verified.node().as_str())).collect();
    let refs = blobs.iter().map(|blob| Ref::Blob(*blob.sha256())).collect();
    Ok((blobs, refs))
}

/// Kept as long as the verdict's other grounds: the boot log, which a refresh is judged by again.
/// Lists of files are what a host can make as large as it likes.
fn keep(media_type: MediaType, changed: bool) -> Keep {
    match media_type {
        MediaType::TpmQuote
        | MediaType::TpmCertify
        | MediaType::TpmAkCertify
        | MediaType::TpmPcrs
        | MediaType::TcgEventlog
        | MediaType::KernelCmdline
        | MediaType::SnpReport
        | MediaType::SnpHostCerts
        | MediaType::TdxQuote
        | MediaType::Ccel
        | MediaType::HclReport
            if changed =>
        {
            Keep::Full
        }
        _ => Keep::Routine,
    }
}
