//! The trust domain at work: everything that the calls of this server share.
//!
//! It is made once at start and handed to every service. It holds no policy of its own; what it
//! offers are the questions that several services ask in the same words.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use assay_evidence::reason::Finding;
use assay_evidence::reason::Reason;
use tokio::sync::watch;
use tonic::Status;

use crate::appraisal::Standing;
use crate::ca::Authority;
use crate::clock::Clock;
use crate::endorsement::Endorsements;
use crate::endorsement::Unavailable;
use crate::exchange::Admission;
use crate::exchange::Budget;
use crate::exchange::NonceLedger;
use crate::exchange::TeeAnchors;
use crate::exchange::Terms;
use crate::exchange::Vouchers;
use crate::exchange::Wanted;
use crate::reference::Profile;
use crate::server::config;
use crate::server::config::Admit;
use crate::server::config::Config;
use crate::server::config::ConfigError;
use crate::server::limit::Limit;
use crate::server::limit::Places;
use crate::server::nodes::Node;
use crate::server::nodes::Nodes;
use crate::server::refusal;
use crate::server::registry::Registry;
use crate::spiffe::SpiffeId;
use crate::store::Flag;
use crate::store::Store;

/// Profiles of nodes kept in memory; the default one is kept apart.
const MAX_PROFILES: usize = 1_024;
/// Refreshes of one node: the shortest `refresh_every` is a second, and some are asked for.
pub const REFRESHES_PER_MINUTE: u32 = 120;
/// Refreshes that one node may have under way.
const REFRESHES_OF_ONE: usize = 4;
/// Refusals of strangers that are recorded: they must not fill the disk.
const STRANGERS_PER_MINUTE: u32 = 600;
const STRANGERS_PER_DAY: u32 = 10_000;
const DAY: Duration = Duration::from_secs(86_400);

pub struct Domain {
    pub config: Config,
    pub clock: Clock,
    pub store: Store,
    pub authority: Authority,
    pub registry: Registry,
    /// What vendors say of confidential machines.
    pub endorsements: Endorsements,
    pub nodes: Nodes,
    /// What every exchange is held to, and what they share.
    pub terms: Terms,
    /// Held while a node that nobody knows yet gets its row.
    pub newcomers: tokio::sync::Mutex<()>,
    /// Attestations under way: whoever attests is a stranger, known by his address alone.
    pub attestations: Places<IpAddr>,
    /// Refreshes under way, which strangers take no place of.
    pub refreshes: Places<String>,
    pub attesting: Mutex<Limit<Source>>,
    /// By node id.
    pub refreshing: Mutex<Limit<String>>,
    /// By the node's SPIFFE ID.
    pub signing: Mutex<Limit<String>>,
    strangers: Mutex<Strangers>,
    profiles: Mutex<BTreeMap<String, Arc<Profile>>>,
    drain: watch::Sender<bool>,
}

/// What becomes of a refusal that anybody can bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOfStranger {
    Whole,
    /// The day's number is used up: one record says so.
    Summary,
    None,
}

/// The refusals of strangers that were recorded since `day` began.
#[derive(Debug)]
struct Strangers {
    minute: Limit<()>,
    day: Duration,
    recorded: u32,
}

impl Strangers {
    fn new(now: Duration) -> Self {
        let minute = Limit::new(STRANGERS_PER_MINUTE, Duration::from_secs(60));
        Self { minute, day: now, recorded: 0 }
    }

    fn next(&mut self, now: Duration) -> RecordOfStranger {
        if now.saturating_sub(self.day) >= DAY {
            (self.day, self.recorded) = (now, 0);
        }
        if self.recorded > STRANGERS_PER_DAY || self.minute.take((), now).is_err() {
            return RecordOfStranger::None;
        }
        self.recorded += 1;
        match self.recorded > STRANGERS_PER_DAY {
            true => RecordOfStranger::Summary,
            false => RecordOfStranger::Whole,
        }
    }
}

/// The finding of the record that stands for those that are not written.
pub fn strangers_unrecorded() -> Finding {
    Finding::new(
        Reason::OverLimit,
        "strangers.recorded",
        format!("more than {STRANGERS_PER_DAY} refusals of strangers"),
        format!("at most {STRANGERS_PER_DAY} recorded a day, all in the log"),
        "attestation exchange",
    )
}

/// Who is counted when attestations are limited.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Everybody behind an address who has not proved to be a node of ours.
    Address(IpAddr),
    /// Who shows the certificate of a known node from an address where strangers used up theirs:
    /// they cannot lock it out, and its copied certificate is worth nothing elsewhere.
    Claimed(IpAddr, String),
    /// A node that has proved itself.
    Node(String),
}

impl Domain {
    pub fn new(
        config: Config,
        clock: Clock,
        store: Store,
        authority: Authority,
        endorsements: Endorsements,
    ) -> Self {
        let minute = Duration::from_secs(60);
        Self {
            attestations: Places::new(
                config.limits.attestations,
                config.limits.attestations_per_source,
            ),
            refreshes: Places::new(config.limits.attestations, REFRESHES_OF_ONE),
            attesting: Mutex::new(Limit::new(config.limits.attestations_per_minute, minute)),
            refreshing: Mutex::new(Limit::new(REFRESHES_PER_MINUTE, minute)),
            signing: Mutex::new(Limit::new(
                config.limits.signatures_per_second,
                Duration::from_secs(1),
            )),
            profiles: Mutex::new(BTreeMap::new()),
            drain: watch::Sender::new(false),
            registry: Registry::default(),
            endorsements,
            nodes: Nodes::new(config.nodes.policy.max_age),
            strangers: Mutex::new(Strangers::new(clock.boot())),
            newcomers: tokio::sync::Mutex::new(()),
            terms: Terms {
                trust_domain: config.trust_domain.clone(),
                anchors: Arc::new(config.nodes.anchors.clone()),
                ak_anchors: Arc::new(config.nodes.ak_anchors.clone()),
                tee: TeeAnchors::new(
                    config.nodes.danger_extra_roots.clone(),
                    config.nodes.policy.confidential.tdx.collateral_grace(),
                    config.nodes.policy.require_revocation,
                ),
                admission: Arc::new(Admission {
                    operator: config.nodes.admit.contains(&Admit::Operator),
                    roots: match config.nodes.admit.contains(&Admit::Root) {
                        true => config.nodes.admit_roots.clone(),
                        false => BTreeSet::new(),
                    },
                    ak_roots: match config.nodes.admit.contains(&Admit::Root) {
                        true => config.nodes.admit_ak_roots.clone(),
                        false => BTreeSet::new(),
                    },
                }),
                max_age: config.nodes.policy.max_age,
                key_in_tpm: config.nodes.policy.key_in_tpm,
                budget: Budget::default(),
                ledger: NonceLedger::default(),
            },
            config,
            clock,
            store,
            authority,
        }
    }

    /// What vendors say of a processor. `source` is who asks, as it is counted.
    pub async fn vouchers(&self, wanted: &Wanted, source: &str) -> Vouchers {
        let grace = self.config.nodes.policy.confidential.tdx.collateral_grace();
        let unavailable = |error: Unavailable| {
            tracing::warn!(%error, "an endorsement cannot be had");
            let why = Some(error.finding());
            Vouchers { unavailable: why.clone(), unrevoked: why, ..Vouchers::default() }
        };
        match wanted {
            Wanted::Snp(wanted) => match self.endorsements.snp(wanted, source).await {
                Ok(found) => Vouchers {
                    vek: found.vek,
                    chain: found.chain,
                    crl: found.crl,
                    warnings: found.warnings,
                    unrevoked: found.missing.map(|error| error.finding()),
                    ..Vouchers::default()
                },
                Err(error) => unavailable(error),
            },
            Wanted::Tdx(wanted) => match self.endorsements.tdx(wanted, source, grace).await {
                Ok(found) => Vouchers {
                    collateral: Some(found.collateral),
                    warnings: found.warnings,
                    ..Vouchers::default()
                },
                Err(error) => unavailable(error),
            },
        }
    }

    /// The profile that judges a node: its own, or the default. Read once; again after a restart.
    pub fn profile(&self, name: Option<&str>) -> Result<Arc<Profile>, ConfigError> {
        let Some(name) = name else { return Ok(self.config.nodes.profile.clone()) };
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = profiles.get(name) {
            return Ok(profile.clone());
        }
        let profile = Arc::new(config::load_profile(
            &self.profile_path(name),
            &self.config.nodes.profile_keys,
        )?);
        if profiles.len() < MAX_PROFILES {
            profiles.insert(name.to_owned(), profile.clone());
        }
        Ok(profile)
    }

    fn profile_path(&self, name: &str) -> PathBuf {
        self.config.nodes.folder.join(name)
    }

    /// The fresh standing of `node`, or a refusal after which its agent refreshes or attests.
    pub fn demand_standing(&self, node: &Node, method: &str) -> Result<Standing, Status> {
        let refuse = |reason, detail: &str| {
            Err(refusal::refuse(&node.id.to_string(), method, reason, detail))
        };
        match node.standing() {
            None => refuse(Reason::StandingMissing, "no standing"),
            Some(standing) if standing.is_fresh(self.clock.moment()) => Ok(standing),
            Some(standing) => {
                refuse(Reason::StandingStale, &format!("ended {}", standing.expires_at()))
            }
        }
    }

    /// Whether a standing that was granted on still holds: asked right before each signature and
    /// again before it is handed out, because evidence, bans and flags come in meanwhile.
    /// `appraisal` is the one it must rest on, where only that one will do.
    pub fn demand_still(
        &self,
        node: &Node,
        appraisal: Option<&str>,
        method: &str,
    ) -> Result<(), Status> {
        let now = self.clock.moment();
        let fault = node.with(|view| {
            if view.row.banned {
                return Some((Reason::Banned, "banned meanwhile"));
            }
            match view.row.flag {
                Some(Flag::CloneSuspected) => return Some((Reason::CloneSuspected, "held")),
                Some(Flag::ClockRegression) => return Some((Reason::ClockRegression, "held")),
                None => {}
            }
            let Some(standing) = &view.standing else {
                return Some((Reason::StandingMissing, "ended meanwhile"));
            };
            if !standing.is_fresh(now) {
                return Some((Reason::StandingStale, "ran out meanwhile"));
            }
            let other = appraisal.is_some_and(|id| id != standing.row().appraisal_id);
            other.then_some((Reason::StandingMissing, "attested anew meanwhile"))
        });
        match fault {
            None => Ok(()),
            Some((reason, detail)) => {
                Err(refusal::refuse(&node.id.to_string(), method, reason, detail))
            }
        }
    }

    /// The same for a workload's identity on this node, which may be denied by itself.
    pub async fn demand_still_for(
        &self,
        node: &Node,
        id: &SpiffeId,
        method: &str,
    ) -> Result<(), Status> {
        self.demand_still(node, None, method)?;
        let deny = self.registry.deny(&self.store).await;
        match deny.map_err(|error| refusal::store(&error))?.denial(id, &node.id) {
            None => Ok(()),
            Some(_) => {
                Err(refusal::refuse(&node.id.to_string(), method, Reason::Denied, &id.to_string()))
            }
        }
    }

    /// Takes a place among the signatures of `node` in this second.
    pub fn demand_signing_rate(&self, node: &Node, method: &str) -> Result<(), Status> {
        let mut signing = self.signing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.boot();
        signing.take(node.id.to_string(), now).map_err(|_| {
            refusal::refuse(&node.id.to_string(), method, Reason::OverLimit, "signatures")
        })
    }

    /// Whether one more refusal of somebody who proved nothing is written down; the log has them
    /// all.
    pub fn record_of_stranger(&self) -> RecordOfStranger {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.next(self.clock.boot())
    }

    /// From now on: no new connections, health says so, watching agents are told.
    pub fn begin_drain(&self) {
        self.drain.send_replace(true);
    }

    pub fn draining(&self) -> bool {
        *self.drain.borrow()
    }

    pub fn drain_signal(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_strangers_ends_in_one_record_and_the_next_begins_anew() {
        let mut strangers = Strangers::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..STRANGERS_PER_DAY {
            now += Duration::from_millis(100);
            assert_eq!(strangers.next(now), RecordOfStranger::Whole);
        }
        now += Duration::from_secs(1);
        assert_eq!(strangers.next(now), RecordOfStranger::Summary);
        for _ in 0..3 {
            now += Duration::from_secs(1);
            assert_eq!(strangers.next(now), RecordOfStranger::None);
        }
        assert_eq!(strangers.next(DAY), RecordOfStranger::Whole);
    }

    #[test]
    fn a_burst_of_strangers_is_recorded_up_to_a_minutes_number() {
        let mut strangers = Strangers::new(Duration::ZERO);
        let whole = (0..2 * STRANGERS_PER_MINUTE)
            .filter(|_| strangers.next(Duration::ZERO) == RecordOfStranger::Whole);
        assert_eq!(whole.count(), usize::try_from(STRANGERS_PER_MINUTE).unwrap_or_default());
    }
}
