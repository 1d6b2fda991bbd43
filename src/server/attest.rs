//! The server's part of an exchange: it drives the verifier's machine, keeps the node's lock, and
//! turns what was verified into a verdict, a standing and records.
//!
//! Two streams come here: AttestAgent of SPIRE's API, whose frames are bytes, and Refresh, whose
//! frames are messages. Every exchange ends in one event of the log, and in records unless its
//! peer was never heard out.

mod rate;
mod record;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use assay_eventlog::ima::State;
use assay_evidence::binding::Purpose;
use assay_evidence::crypto::SystemRandom;
use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;
use assay_proto::attestation as wire;
use tonic::Status;

use crate::appraisal;
use crate::appraisal::Appraisal;
use crate::appraisal::FilesHeard;
use crate::appraisal::Logs;
use crate::appraisal::Standing;
use crate::appraisal::StandingRow;
use crate::appraisal::Subject;
use crate::appraisal::Tee;
use crate::envelope::MediaType;
use crate::exchange::Appraises;
use crate::exchange::Awaiting;
use crate::exchange::Channel;
use crate::exchange::Collected;
use crate::exchange::FromAgent;
use crate::exchange::Heard;
use crate::exchange::Hello;
use crate::exchange::Identified;
use crate::exchange::MAX_FRAME;
use crate::exchange::NodeId;
use crate::exchange::Refused;
use crate::exchange::Step;
use crate::exchange::Verified;
use crate::exchange::Vouchers;
use crate::reference::Profile;
use crate::server::domain::Domain;
use crate::server::domain::REFRESHES_PER_MINUTE;
use crate::server::nodes::Node;
use crate::server::refusal;
use crate::spiffe::SpiffeId;
use crate::store::Admission;
use crate::store::AffirmedBy;
use crate::store::Change;
use crate::store::Counters;
use crate::store::FilesJudged;
use crate::store::NodeKind;
use crate::store::NodeRow;
use crate::store::StoreError;

use record::blobs;

pub use rate::Counted;

/// A peer that was let in says hello within this time.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// The last word of an exchange waits so long for a peer who does not listen.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The stream that carries an exchange.
#[tonic::async_trait]
pub trait Line: Send {
    /// The next message; `None` when the peer has gone.
    async fn receive(&mut self) -> Result<Option<FromAgent>, Refused>;
    /// False when the peer has gone.
    async fn send(&mut self, message: wire::FromServer) -> bool;
}

/// What a stream's end with an error means: tonic reads no message beyond its limit.
pub fn broken(status: &Status) -> Result<Option<FromAgent>, Refused> {
    if status.code() != tonic::Code::OutOfRange {
        return Ok(None);
    }
    let expected = format!("at most {MAX_FRAME} bytes");
    Err(Refused::new(Reason::EvidenceTooLarge, "frame", "a larger one", expected))
}

/// One exchange, from its hello to its verdict.
pub struct Exchange<'a> {
    pub domain: &'a Domain,
    pub address: SocketAddr,
    /// The correlation id, which becomes the appraisal's.
    pub id: String,
    pub purpose: Purpose,
}

/// Why an exchange gave no standing.
#[derive(Debug)]
pub enum End {
    Refused(Box<Refused>),
    /// The store or the lower floors failed; the status is what the peer is told.
    Failed(Status),
    /// The peer went away: nobody to tell.
    Gone,
}

/// A node in good standing, fresh from its evidence.
pub struct Stood {
    pub node: Arc<Node>,
    pub standing: Standing,
    pub not_checked: Vec<String>,
    pub warnings: Vec<Finding>,
}

/// The list of files while it comes in, if the profile asks for it.
struct Files<'p> {
    profile: Option<&'p Profile>,
    /// Where an earlier round ended, if this one goes on there.
    from: Option<State>,
    heard: Option<FilesHeard<'p>>,
}

/// Which row an attestation is about, before anything is proved.
struct Candidate {
    /// As stored, or as an operator's word for a machine that nobody has seen makes it.
    row: Option<NodeRow>,
    kin: Vec<NodeRow>,
}

impl From<Refused> for End {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Failed(refusal::store(&error))
    }
}

impl<'p> Files<'p> {
    fn of(profile: Option<&'p Profile>) -> Self {
        Self { profile: profile.filter(|profile| profile.needs_ima()), from: None, heard: None }
    }

    /// Takes the next piece, in the order of the list.
    fn hear(&mut self, heard: Heard<'_>) {
        let Some(profile) = self.profile else { return };
        let Heard { quoted, reset_count, from, piece } = heard;
        let files = self.heard.get_or_insert_with(|| {
            let boot = State::boot(reset_count);
            let from = from.filter(|state| state.is_of_boot(reset_count));
            self.from = from.cloned();
            FilesHeard::begin(profile, from.unwrap_or(&boot), quoted).ignoring_columns()
        });
        files.hear(piece);
    }

    /// Nothing if the node was given another profile meanwhile: its next round is judged by that.
    fn heard_under(self, profile: &Profile) -> Option<FilesHeard<'p>> {
        self.heard.filter(|heard| heard.profile().sha256 == profile.sha256)
    }
}

impl Exchange<'_> {
    /// A whole attestation: who is it, may it join, does it hold what it says, is it good.
    pub async fn attest(
        &self,
        line: &mut dyn Line,
        hello: Hello,
        channel: Channel,
        counted: Counted,
    ) -> Result<Stood, End> {
        let domain = self.domain;
        let now = domain.clock.moment();
        let identified = Identified::attest(&domain.terms, hello, channel, now.wall)?;
        let candidate = self.candidate(&identified).await?;
        let profile = self.profile(candidate.row.as_ref());
        let identified =
            identified.appraising(appraises(profile.as_deref(), candidate.row.as_ref()));
        self.demand_rate(&counted, candidate.row.as_ref())?;
        let mut random = SystemRandom::new();
        let (challenge, awaiting) = identified.challenge(
            candidate.row.as_ref(),
            &candidate.kin,
            &mut random,
            domain.clock.moment(),
        )?;
        let mut files = Files::of(profile.as_deref());
        let collected = self.collect(line, challenge, awaiting, &mut files).await?;
        self.count_by_node(counted, candidate.row.as_ref())?;
        let collected = self.endorsed(collected, candidate.row.as_ref()).await;

        // The row as it is now: two exchanges of one node are judged one after the other.
        let id = self.spiffe_id(collected.node())?;
        let node = domain.nodes.node(&domain.store, &id).await?;
        let _newcomers = match &node {
            None => Some(domain.newcomers.lock().await),
            Some(_) => None,
        };
        let node = match node {
            None => domain.nodes.node(&domain.store, &id).await?,
            known => known,
        };
        if let Some(node) = node {
            let _guard = node.lock().await;
            let row = node.view().row;
            return self.judge(Some(&node), collected, files, Some(row)).await;
        }
        // What an operator said beforehand may have been retracted.
        let known = match collected.ek_spki_sha256() {
            Some(ek) => domain.store.ek(ek).await?,
            None => None,
        };
        let admission = known.and_then(|known| known.admission);
        let welcome = admission.is_some_and(|of| Some(of.kind) == collected.kind());
        let row = candidate.row.filter(|_| welcome);
        self.judge(None, collected, files, row).await
    }

    /// New evidence for a standing that goes on.
    pub async fn refresh(
        &self,
        line: &mut dyn Line,
        hello: Hello,
        exporter: Option<[u8; 32]>,
        node: &Arc<Node>,
    ) -> Result<Stood, End> {
        let domain = self.domain;
        let row = node.view().row;
        {
            let mut refreshing = domain.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
            refreshing.take(row.node_id.clone(), domain.clock.boot()).map_err(|wait| {
                let found = "more refreshes than that";
                let expected = format!("at most {REFRESHES_PER_MINUTE} a minute");
                Refused::new(Reason::OverLimit, "node.rate", found, expected).retry_after(wait)
            })?;
        }
        let identified = Identified::refresh(&domain.terms, hello, exporter, &row)?;
        let profile = self.profile(Some(&row));
        let identified = identified.appraising(appraises(profile.as_deref(), Some(&row)));
        let mut random = SystemRandom::new();
        let now = domain.clock.moment();
        let kin = domain.store.kin(&row.claimed_eks, None).await?;
        let (challenge, awaiting) = identified.challenge(Some(&row), &kin, &mut random, now)?;
        let mut files = Files::of(profile.as_deref());
        let collected = self.collect(line, challenge, awaiting, &mut files).await?;
        let collected = self.endorsed(collected, Some(&row)).await;
        let _guard = node.lock().await;
        let row = node.view().row;
        self.judge(Some(node), collected, files, Some(row)).await
    }

    async fn candidate(&self, identified: &Identified) -> Result<Candidate, End> {
        let store = &self.domain.store;
        let mut row = store.node(identified.node().as_str()).await?;
        if row.is_none() {
            let known = match identified.ek_spki_sha256() {
                Some(ek) => store.ek(ek).await?,
                None => None,
            };
            let now = self.domain.clock.now();
            let admission = known.and_then(|known| known.admission);
            let admission = admission.filter(|of| Some(of.kind) == identified.kind());
            row = admission.map(|admission| identified.admitted_by(&admission, now));
        }
        let kin =
            self.kin(row.as_ref(), identified.other_eks(), identified.ek_spki_sha256()).await?;
        Ok(Candidate { row, kin })
    }

    /// Nodes whose ban or flag holds for this one too.
    async fn kin(
        &self,
        row: Option<&NodeRow>,
        shown: &[[u8; 32]],
        own: Option<&[u8; 32]>,
    ) -> Result<Vec<NodeRow>, StoreError> {
        let mut claimed = shown.to_vec();
        claimed.extend(row.iter().flat_map(|row| &row.claimed_eks));
        claimed.sort_unstable();
        claimed.dedup();
        let admitted = row.is_some_and(|row| row.admission == Admission::Admitted);
        self.domain.store.kin(&claimed, own.filter(|_| !admitted)).await
    }

    /// Sends the challenge and takes the answers until everything is there or time is up. What comes
    /// of the list of files is judged on the way.
    async fn collect(
        &self,
        line: &mut dyn Line,
        challenge: wire::FromServer,
        mut awaiting: Awaiting,
        files: &mut Files<'_>,
    ) -> Result<Collected, End> {
        let clock = &self.domain.clock;
        let mut message = challenge;
        loop {
            let left = awaiting.deadline().saturating_sub(clock.boot());
            // A peer who does not read must not hold his place.
            match tokio::time::timeout(left, line.send(message)).await {
                Ok(true) => {}
                Ok(false) => return Err(End::Gone),
                Err(_) => return Err(awaiting.expire(clock.moment()).into()),
            }
            let left = awaiting.deadline().saturating_sub(clock.boot());
            let Ok(received) = tokio::time::timeout(left, line.receive()).await else {
                return Err(awaiting.expire(clock.moment()).into());
            };
            let Some(received) = received? else { return Err(End::Gone) };
            match awaiting.receive(received, clock.moment())? {
                Step::Collected(collected) => {
                    files.hear(collected.heard());
                    return Ok(collected);
                }
                Step::More(more, next) => (message, awaiting) = (more, next),
            }
            if let Some(heard) = awaiting.heard() {
                files.hear(heard);
            }
        }
    }

    /// With what vendors say of the processor whose report came. Whatever cannot be had in time is
    /// said with it: what that means is for the verifier. A node of ours counts as its own source.
    async fn endorsed(&self, collected: Collected, row: Option<&NodeRow>) -> Collected {
        let Some(wanted) = collected.wants() else { return collected };
        let address = self.address.ip().to_string();
        let node = row.filter(|row| row.admission == Admission::Admitted);
        let source = node.map_or(address, |row| row.node_id.clone());
        let left = collected.deadline().saturating_sub(self.domain.clock.boot());
        let found = tokio::time::timeout(left, self.domain.vouchers(&wanted, &source)).await;
        collected.endorsed(found.unwrap_or_else(|_| Vouchers::late()))
    }

    /// The verdict, under the node's lock: all that follows from it is one commit.
    async fn judge(
        &self,
        node: Option<&Arc<Node>>,
        collected: Collected,
        files: Files<'_>,
        row: Option<NodeRow>,
    ) -> Result<Stood, End> {
        let domain = self.domain;
        let moment = domain.clock.moment();
        let before = node.and_then(|node| node.standing());
        let live = before.as_ref().is_some_and(|standing| standing.is_fresh(moment));
        let counters_before = row.as_ref().and_then(|row| row.counters);
        let kin = self.kin(row.as_ref(), collected.other_eks(), collected.ek_spki_sha256()).await?;
        let verified = match collected.verify(row, &kin, live, moment.wall) {
            Ok(verified) => verified,
            Err(refused) if self.purpose == Purpose::Refresh && refused.voids() => {
                self.void(node, refused.reason()).await?;
                return Err(refused.into());
            }
            Err(refused) => return Err(refused.into()),
        };
        let id = self.spiffe_id(verified.node())?;
        if self.purpose == Purpose::Refresh {
            self.demand_same_boot(node, &verified, counters_before).await?;
        }
        let went_on_from = files.from.clone();
        let appraisal = self.appraise(&id, &verified, files, before.as_ref(), moment).await?;
        let policy = &domain.config.nodes.policy;
        let deny = domain.registry.deny(&domain.store).await?;
        let standing = Standing::from(&appraisal, verified.quoted(), policy.max_age, deny.sequence);

        let changed = !live
            || standing.is_none()
            || verified.replaced_ak().is_some()
            || before.as_ref().is_none_or(|before| {
                before.row().profile_sha256 != appraisal.profile().sha256
                    || before.row().reset_count != appraisal.reset_count()
            });
        let (blobs, kept) = blobs(&verified, went_on_from.as_ref(), changed)?;
        let mut changes: Vec<Change> = blobs.into_iter().map(Change::Blob).collect();
        changes.push(match &standing {
            Some(standing) => Change::Standing(standing.clone()),
            None => Change::VoidStanding { node: id.clone(), reason: reason(&appraisal) },
        });
        let mut drafts = Vec::new();
        drafts
            .extend(verified.replaced_ak().map(|before| self.ak_replaced(&id, before, &verified)));
        drafts.push(self.evidence(&id, &verified, kept));
        drafts.push(self.result(&id, &appraisal, &verified, standing.as_ref(), changed));
        let mut row = verified.row().clone();
        row.files_judged = FilesJudged::of(&appraisal);
        if let Some(standing) = &standing {
            let StandingRow { profile_id, profile_serial, .. } = standing.row();
            let (profile_id, serial) = (profile_id.clone(), *profile_serial);
            row.affirmed_by = Some(AffirmedBy { profile_id, serial });
        }
        let node = match node {
            Some(node) => {
                node.commit(&domain.store, row, changes, drafts).await?;
                node.clone()
            }
            None => {
                changes.insert(0, Change::Node(row));
                domain.store.commit(changes, drafts).await?;
                let node = domain.nodes.node(&domain.store, &id).await?;
                node.ok_or_else(|| End::Failed(Status::internal("a row went missing")))?
            }
        };
        match standing {
            Some(standing) => {
                node.stand(standing.clone());
                Ok(Stood {
                    node,
                    standing,
                    not_checked: gaps(&verified, &appraisal),
                    warnings: appraisal.warnings().to_vec(),
                })
            }
            None => {
                node.fall(reason(&appraisal));
                Err(Refused::appraised(&appraisal, verified.node()).into())
            }
        }
    }

    /// The node's profile; an unreadable one is told when it is to judge.
    fn profile(&self, row: Option<&NodeRow>) -> Option<Arc<Profile>> {
        self.domain.profile(row.and_then(|row| row.profile.as_deref())).ok()
    }

    /// The log of this round, or the one that the node sent before and that has not changed since.
    async fn boot_log(&self, verified: &Verified) -> Result<Option<Vec<u8>>, End> {
        if let Some(bytes) = verified.item(MediaType::TcgEventlog) {
            return Ok(Some(bytes.to_vec()));
        }
        // An attestation was asked for the log: then another one is none.
        let known = verified.row().logs.get(MediaType::TcgEventlog.word());
        let known = known.filter(|_| verified.purpose() == Purpose::Refresh);
        let sha256 = known.and_then(|text| hex::decode(text).ok()?.try_into().ok());
        let Some(sha256) = sha256 else { return Ok(None) };
        Ok(self.domain.store.blob(&sha256).await?.and_then(|blob| blob.bytes))
    }

    /// The agent's key was certified in one boot; a refresh out of another says nothing of it. A
    /// TPM Reset ends the key. A TPM Restart (Part 1, 12.2.4) keeps it, and what was measured since
    /// is another boot all the same: so both counts must be those of the attestation.
    async fn demand_same_boot(
        &self,
        node: Option<&Arc<Node>>,
        verified: &Verified,
        before: Option<Counters>,
    ) -> Result<(), End> {
        let boot = |counters: Option<Counters>| {
            counters.map(|counters| (counters.reset_count, counters.restart_count))
        };
        let found = boot(verified.counters());
        let before = boot(before);
        if found == before {
            return Ok(());
        }
        let written = |boot: Option<(u32, u32)>| {
            boot.map_or("none".to_owned(), |(reset, restart)| format!("{reset}, {restart}"))
        };
        let refused = Refused::new(
            Reason::ResetUnexplained,
            "tpm.boot_counts",
            written(found),
            format!("{}, as attested", written(before)),
        )
        .about_proved(verified.node());
        self.void(node, Reason::ResetUnexplained).await?;
        Err(refused.into())
    }

    async fn void(&self, node: Option<&Arc<Node>>, reason: Reason) -> Result<(), StoreError> {
        let Some(node) = node else { return Ok(()) };
        let void = Change::VoidStanding { node: node.id.clone(), reason };
        self.domain.store.commit(vec![void], Vec::new()).await?;
        node.fall(reason);
        Ok(())
    }

    async fn appraise(
        &self,
        id: &SpiffeId,
        verified: &Verified,
        files: Files<'_>,
        before: Option<&Standing>,
        moment: crate::clock::Moment,
    ) -> Result<Appraisal, End> {
        let row = verified.row();
        let profile = self.domain.profile(row.profile.as_deref()).map_err(|error| {
            let found = row.profile.clone().unwrap_or_default();
            tracing::error!(node = %id, error = %error, "the profile of a node cannot be read");
            Refused::new(Reason::ProfileMissing, "node.profile", found, "a readable profile")
                .about_proved(verified.node())
        })?;
        // A standing ends; what once judged the node does not come back for that.
        let standing = before.map(Standing::row).filter(|row| row.profile_id == profile.id);
        let affirmed = row.affirmed_by.as_ref().filter(|by| by.profile_id == profile.id);
        let last = standing.map(|row| row.profile_serial).max(affirmed.map(|by| by.serial));
        profile.accept_serial(last).map_err(|error| {
            let expected = last.unwrap_or_default().to_string();
            tracing::error!(node = %id, error = %error, "an older profile was put back");
            Refused::new(Reason::ProfileRollback, "profile.serial", profile.serial, expected)
                .about_proved(verified.node())
        })?;
        let class = row.class.ok_or_else(|| {
            Refused::new(Reason::TpmClassNotAllowed, "tpm.class", "unknown", "a known class")
                .about_proved(verified.node())
        })?;
        let subject = Subject {
            node: id.clone(),
            tpm_class: class,
            // A root of AK certificates is none of EKs, and no selector may say so.
            ek_root: row.ek_root.filter(|_| row.kind == NodeKind::TpmEk),
            device: row.device.as_ref().map(Into::into),
            key_in_tpm: verified.key_in_tpm(),
            channel_bound: verified.channel_bound(),
            labels: row.labels.clone(),
            warnings: verified.warnings().to_vec(),
        };
        let log = match profile.needs_log() {
            true => self.boot_log(verified).await?,
            false => None,
        };
        let ima = match profile.needs_ima() {
            true => Some(files.heard_under(&profile).ok_or_else(|| {
                let expected = "the list of files under this profile";
                Refused::new(Reason::EvidenceMissing, "ima", "judged by another", expected)
                    .about_proved(verified.node())
            })?),
            false => None,
        };
        let logs = Logs { eventlog: log.as_deref(), ima };
        let preimages: Vec<&[u8]> = verified.item(MediaType::KernelCmdline).into_iter().collect();
        let ccel = verified.item(MediaType::Ccel);
        let tee = verified.tee().map(|link| Tee { link, ccel });
        Ok(appraisal::appraise(
            self.id.clone(),
            &subject,
            verified.claims(),
            logs,
            &preimages,
            tee.as_ref(),
            &profile,
            &self.domain.config.nodes.launch_profiles,
            &self.domain.config.nodes.policy,
            verified.quoted().wall,
            moment.wall,
        ))
    }

    /// Ends the exchange towards the log, the records and the peer.
    pub async fn close(&self, end: End) -> Option<Status> {
        let refused = match end {
            End::Gone => {
                tracing::debug!(correlation_id = self.id, address = %self.address, "peer left");
                return None;
            }
            End::Failed(status) => return Some(status),
            End::Refused(refused) => refused,
        };
        let domain = self.domain;
        let detail = domain.config.nodes.policy.refusal_detail;
        let first = refused.findings().first();
        tracing::warn!(
            decision = "refused",
            purpose = self.purpose.as_str(),
            node = refused.node().map(NodeId::as_str),
            address = %self.address,
            code = refused.reason().code(),
            claim = first.map(|finding| finding.claim.as_str()),
            found = first.map(|finding| finding.found.as_str()),
            expected = first.map(|finding| finding.expected.as_str()),
            source = first.map(|finding| finding.source.as_str()),
            findings = refused.findings().len(),
            correlation_id = self.id,
            "evidence refused"
        );
        if let Err(error) = self.record_refusal(&refused).await {
            let status = refusal::store(&error);
            if refused.flag().is_some() {
                return Some(status);
            }
        }
        Some(refused.status(&self.id, detail))
    }

    fn spiffe_id(&self, node: &NodeId) -> Result<SpiffeId, End> {
        node.spiffe_id(&self.domain.config.trust_domain)
            .map_err(|error| End::Failed(Status::internal(error.to_string())))
    }
}

/// What a profile will look into, and where the list of files goes on for it.
fn appraises(profile: Option<&Profile>, row: Option<&NodeRow>) -> Appraises {
    let Some(profile) = profile else { return Appraises::default() };
    let judged = row.and_then(|row| row.files_judged.as_ref());
    Appraises {
        log: profile.needs_log(),
        files: profile.needs_ima(),
        files_from: judged.and_then(|judged| judged.under(&profile.sha256)).cloned(),
    }
}

/// What neither the exchange nor the appraisal could look at, each once.
fn gaps(verified: &Verified, appraisal: &Appraisal) -> Vec<String> {
    let mut gaps = verified.not_checked().to_vec();
    for gap in appraisal.not_checked() {
        if !gaps.contains(gap) {
            gaps.push(gap.clone());
        }
    }
    gaps
}

fn reason(appraisal: &Appraisal) -> Reason {
    appraisal.findings().first().map_or(Reason::AppraisalContraindicated, |finding| finding.code)
}
