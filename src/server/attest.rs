//! The server's part of an exchange: it drives the verifier's machine, keeps the node's lock, and
//! turns what was verified into a verdict, a standing and records.
//!
//! Two streams come here: AttestAgent of SPIRE's API, whose frames are bytes, and Refresh, whose
//! frames are messages. Every exchange ends in one event of the log, and in records unless its
//! peer was never heard out.

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
use crate::appraisal::Verdict;
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
use crate::records;
use crate::records::Actor;
use crate::records::Data;
use crate::records::Draft;
use crate::records::Ref;
use crate::reference::Profile;
use crate::server::domain::Domain;
use crate::server::domain::REFRESHES_PER_MINUTE;
use crate::server::domain::RecordOfStranger;
use crate::server::domain::Source;
use crate::server::domain::strangers_unrecorded;
use crate::server::nodes::Node;
use crate::server::refusal;
use crate::spiffe::SpiffeId;
use crate::store::Admission;
use crate::store::AffirmedBy;
use crate::store::Blob;
use crate::store::Change;
use crate::store::Counters;
use crate::store::FilesJudged;
use crate::store::Keep;
use crate::store::NodeKind;
use crate::store::NodeRow;
use crate::store::StoreError;

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

/// An attestation that was counted by its address.
pub struct Counted {
    source: Source,
    /// Until there is room again, where the address had used up its number.
    wait: Option<Duration>,
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

    /// Counts this attestation among those of its address; it stays there until the peer has
    /// proved to be a node of ours.
    pub fn count(&self) -> Counted {
        let source = Source::Address(self.address.ip());
        let mut attesting = self.domain.attesting.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = attesting.take(source.clone(), self.domain.clock.boot()).err();
        Counted { source, wait }
    }

    /// Before anything costly: is this one still within its address's number? A known node's
    /// certificate, shown where strangers used that up, is counted by itself.
    fn demand_rate(&self, counted: &Counted, row: Option<&NodeRow>) -> Result<(), Refused> {
        let Some(wait) = counted.wait else { return Ok(()) };
        match row.filter(|row| row.ak_name.is_some()) {
            Some(row) => self.take(Source::Claimed(self.address.ip(), row.node_id.clone())),
            None => Err(self.over_rate(wait)),
        }
    }

    /// The AK has answered: a node that an operator let in counts as its own source, and the
    /// others behind its address (NAT) have their number back.
    fn count_by_node(&self, counted: Counted, row: Option<&NodeRow>) -> Result<(), Refused> {
        let Some(row) = row.filter(|row| row.admission == Admission::Admitted) else {
            return Ok(());
        };
        if counted.wait.is_none() {
            let attesting = self.domain.attesting.lock();
            attesting.unwrap_or_else(PoisonError::into_inner).give_back(&counted.source);
        }
        self.take(Source::Node(row.node_id.clone()))
    }

    fn take(&self, source: Source) -> Result<(), Refused> {
        let mut attesting = self.domain.attesting.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = attesting.take(source, self.domain.clock.boot());
        taken.map_err(|wait| self.over_rate(wait))
    }

    fn over_rate(&self, wait: Duration) -> Refused {
        let found = "more attestations than that";
        let limit = self.domain.config.limits.attestations_per_minute;
        let expected = format!("at most {limit} a minute from one source");
        Refused::new(Reason::OverLimit, "source.rate", found, expected).retry_after(wait)
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
        if let Some(bytes) = item(verified, MediaType::TcgEventlog) {
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
        let preimages: Vec<&[u8]> = item(verified, MediaType::KernelCmdline).into_iter().collect();
        let ccel = item(verified, MediaType::Ccel);
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

    fn draft(&self, id: &SpiffeId, mut refs: Vec<Ref>, data: Data) -> Draft {
        refs.insert(0, Ref::Standing(self.id.clone()));
        let actor = match self.purpose {
            Purpose::Refresh => Actor::Spiffe(id.clone()),
            _ => Actor::Address(self.address),
        };
        Draft { subject: records::Subject::Id(id.clone()), actor, refs, data }
    }

    fn evidence(&self, id: &SpiffeId, verified: &Verified, kept: Vec<Ref>) -> Draft {
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

    fn result(
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

    fn ak_replaced(&self, id: &SpiffeId, before: &[u8], verified: &Verified) -> Draft {
        let after = verified.row().ak_name.as_ref().map(hex::encode).unwrap_or_default();
        let arguments = [("before".to_owned(), hex::encode(before)), ("after".to_owned(), after)];
        let admin = records::Admin { act: "ak-replaced", arguments: arguments.into() };
        self.draft(id, Vec::new(), Data::Admin(admin))
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

    /// Keeps the refusal, and what it does to the node's row. An appraisal is recorded with its
    /// evidence already, and so many strangers may fail that not each of them is written down.
    async fn record_refusal(&self, refused: &Refused) -> Result<(), StoreError> {
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

    fn spiffe_id(&self, node: &NodeId) -> Result<SpiffeId, End> {
        node.spiffe_id(&self.domain.config.trust_domain)
            .map_err(|error| End::Failed(Status::internal(error.to_string())))
    }
}

/// The full set at an attestation and where something changed, with all that it takes to verify it
/// again elsewhere; otherwise the quote and what it signed. Kept for long only where something
/// changed. Fewer than a record may refer to: ten items, four public parts, a list's state, three of
/// a vendor, and the EK's or AK's certificate with a chain of eight.
fn blobs(
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

fn item(verified: &Verified, kind: MediaType) -> Option<&[u8]> {
    verified.items().iter().find(|item| item.media_type == kind)?.bytes.as_deref()
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
