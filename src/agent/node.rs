//! The node's life: open the TPM, attest, keep the channel, show a new quote again and again, attest
//! anew at half of the SVID's life; and come back from whatever gets in between.
//!
//! ```text
//! open TPM → attest → channel → { refresh, follow, half-life } → …
//! ```
//! One task, which never blocks: TPM and server are waited for by jobs of which there is one at a
//! time, so that what the server says meanwhile is heard. What went wrong decides where to begin
//! again: a lost connection at the channel, a refusal at attest, a TPM reset at the TPM.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use assay_proto::spire::api::server::bundle::v1::GetBundleRequest;
use assay_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::agent::attestation;
use crate::agent::attestation::AgentSvid;
use crate::agent::attestation::AttestationError;
use crate::agent::bundle;
use crate::agent::bundle::BundleError;
use crate::agent::config::Bootstrap;
use crate::agent::config::Config;
use crate::agent::following;
use crate::agent::following::Follower;
use crate::agent::following::Notice;
use crate::agent::host::HostState;
use crate::agent::host_tpm::HostTpm;
use crate::agent::host_tpm::HostTpmError;
use crate::agent::identities::Identities;
use crate::agent::rotation::jitter;
use crate::agent::tokens::Tokens;
use crate::agent::upstream::Upstream;
use crate::agent::upstream::UpstreamError;
use crate::agent::upstream::Verdict;
use crate::clock::Clock;
use crate::clock::Moment;
use crate::exchange::Outcome;
use crate::exchange::Told;
use crate::private;
use crate::tls;
use crate::tls::Trust;

/// Until the server says otherwise.
const REFRESH_AFTER: Duration = Duration::from_secs(60);
const MAX_AGE: Duration = Duration::from_secs(180);
/// How often the clocks are compared.
const TICK: Duration = Duration::from_secs(2);
/// Clocks apart by more than this have jumped.
const JUMP: Duration = Duration::from_secs(5);
/// First pause before connecting again.
const RECONNECT: Duration = Duration::from_millis(500);
/// A connection that lived this long was well.
const STEADY: Duration = Duration::from_secs(10);
const BUNDLE_FILE: &str = "bundle.pem";

/// The driver of a node, and what it tells the rest of the agent.
pub struct Node {
    pub config: Config,
    pub clock: Clock,
    pub identities: Arc<Identities>,
    pub tokens: Arc<Tokens>,
    pub channel: watch::Sender<Option<Channel>>,
    pub upstream: Upstream,
    pub verdicts: mpsc::Receiver<Verdict>,
    /// Since boot: until then the server holds a standing of this host.
    pub stands_until: Duration,
}

/// Why a stretch of the node's life ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    #[error("the trust bundle")]
    Bundle(#[from] BundleError),
    #[error("an authority of the trust bundle cannot be used")]
    Trust(#[from] tls::TrustError),
    #[error("entries or bundle cannot be had")]
    Upstream(#[from] UpstreamError),
    #[error("the server did not give its bundle: {}", .0.message())]
    Bootstrap(#[source] Box<tonic::Status>),
    #[error("a task of this agent ended early")]
    Task,
}

/// Where to go on.
enum Next {
    /// With a new SVID key: the old one ended with its boot.
    Tpm,
    Attest,
}

/// The standing as far as this side knows: until when, since boot.
struct Standing {
    until: Duration,
    refresh_after: Duration,
    max_age: Duration,
    refresh_at: Instant,
    attest_at: Instant,
}

/// What the TPM and the server are busy with for us.
enum Job {
    Refresh(JoinHandle<Result<Outcome, AttestationError>>),
    Attest(JoinHandle<Result<AgentSvid, AttestationError>>),
}

enum Done {
    Refreshed(Outcome),
    Attested(AgentSvid),
}

impl Drop for Job {
    fn drop(&mut self) {
        match self {
            Self::Refresh(handle) => handle.abort(),
            Self::Attest(handle) => handle.abort(),
        }
    }
}

/// A connection with its follower; both end with it.
struct Session {
    connection: tls::Connection,
    follower: JoinHandle<()>,
    notices: mpsc::Receiver<Notice>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Node {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let intervals = &self.config.intervals;
        let mut pause = Pause::new(intervals.retry_first, intervals.retry_longest);
        let mut tpm: Option<Arc<HostTpm>> = None;
        loop {
            let next = self.live(&mut tpm, &mut pause).await;
            // What was opened with the old key or for the old standing is used no more.
            self.channel.send_replace(None);
            match next {
                Ok(Next::Tpm) => tpm = None,
                Ok(Next::Attest) => {}
                Err(error) => {
                    if needs_tpm_again(&error) {
                        tpm = None;
                    }
                    let wait = self.fall(&error, &mut pause);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One stretch from attestation to the next fault.
    async fn live(
        &mut self,
        tpm: &mut Option<Arc<HostTpm>>,
        pause: &mut Pause,
    ) -> Result<Next, NodeError> {
        let tpm = match tpm {
            Some(tpm) => Arc::clone(tpm),
            none => {
                let opened = Arc::new(self.open_tpm().await?);
                Arc::clone(none.insert(opened))
            }
        };
        let trust = self.trust().await?;
        let server = tls::Server::of(&trust);
        let mut svid = self.attest(&server, &tpm).await?;
        tracing::info!(
            node = %svid.id, serial = svid.serial, not_after = %svid.not_after, "attested"
        );
        let mut standing = Standing::new(&svid, &self.clock);
        let mut reconnect = Pause::new(RECONNECT, self.config.intervals.retry_longest);
        loop {
            self.stands_until = standing.until;
            let session = match self.open(&server, &trust, &tpm, &svid).await {
                Ok(session) => session,
                // The standing goes on without a connection, for a while.
                Err(error) if is_away(&error) && svid.not_after > self.clock.now() => {
                    let wait = self.fall(&error, &mut reconnect);
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let opened = self.clock.boot();
            if opened < standing.until {
                self.identities.set_state(HostState::Attested);
            } else {
                // It ran out while the server was away: nothing new before the next quote.
                standing.refresh_at = Instant::now();
            }
            self.identities.retry_now();
            let kept = self.keep(session, &mut standing, &server, &trust, &tpm).await?;
            self.stands_until = standing.until;
            if self.clock.boot().saturating_sub(opened) > STEADY {
                pause.reset();
                reconnect.reset();
            }
            match kept {
                Kept::Renewed(renewed) => {
                    tracing::info!(
                        serial = renewed.serial, not_after = %renewed.not_after, "attested anew"
                    );
                    standing = Standing::renewed(&standing, &renewed, &self.clock);
                    svid = renewed;
                }
                Kept::Lost => {
                    let wait = reconnect.next();
                    tracing::info!(?wait, "connection to the server lost");
                    tokio::time::sleep(wait).await;
                }
                Kept::AttestAgain => return Ok(Next::Attest),
                Kept::KeyGone => {
                    tracing::warn!("the tpm was reset: a new svid key is needed");
                    return Ok(Next::Tpm);
                }
            }
        }
    }

    async fn open_tpm(&self) -> Result<HostTpm, NodeError> {
        let (device, auth) = (self.config.device.clone(), self.config.endorsement_auth.clone());
        let ak_certificate = self.config.ak_certificate.clone();
        let (tsm_folder, logs) = (self.config.tsm_folder.clone(), self.config.logs.clone());
        let open = move || {
            let tsm_folder = tsm_folder.as_deref();
            HostTpm::open(&device, auth.as_deref(), ak_certificate.as_ref(), tsm_folder, &logs)
        };
        let opened = tokio::task::spawn_blocking(open).await.map_err(|_| NodeError::Task)?;
        Ok(opened.map_err(AttestationError::Tpm)?)
    }

    /// What was kept, else first trust.
    async fn trust(&self) -> Result<Trust, NodeError> {
        let kept = self.bundle_file();
        let trust_domain = self.config.trust_domain.clone();
        let authorities = match &self.config.bootstrap {
            _ if kept.exists() => bundle::load(&kept)?,
            Bootstrap::Bundle(path) => bundle::load(path)?,
            Bootstrap::DangerInsecure => {
                tracing::warn!(
                    "danger_insecure: whatever server answers first is believed from now on"
                );
                self.believe_anybody().await?
            }
        };
        Ok(Trust::new(trust_domain, &authorities)?)
    }

    async fn believe_anybody(&self) -> Result<Vec<Vec<u8>>, NodeError> {
        let server = tls::Server::danger_anybody(&self.config.trust_domain);
        let connection = tls::connect(&self.config.server, &server, None, CONNECT)
            .await
            .map_err(AttestationError::Connect)?;
        let mut client = BundleClient::new(connection.channel);
        let answer = client
            .get_bundle(GetBundleRequest { output_mask: None })
            .await
            .map_err(|status| NodeError::Bootstrap(Box::new(status)))?;
        let bundle = bundle::parse(answer.into_inner(), &self.config.trust_domain)?;
        self.keep_bundle(&bundle.x509_authorities)?;
        Ok(bundle.x509_authorities)
    }

    async fn attest(
        &self,
        server: &tls::Server,
        tpm: &Arc<HostTpm>,
    ) -> Result<AgentSvid, AttestationError> {
        attestation::attest(&self.config.server, server, &self.config.trust_domain, tpm).await
    }

    /// Opens the channel, brings bundle and entries up to date, and follows what changes.
    async fn open(
        &mut self,
        server: &tls::Server,
        trust: &Trust,
        tpm: &Arc<HostTpm>,
        svid: &AgentSvid,
    ) -> Result<Session, NodeError> {
        let connection = attestation::open_channel(&self.config.server, server, tpm, svid).await?;
        while self.verdicts.try_recv().is_ok() {}
        self.channel.send_replace(Some(connection.channel.clone()));
        let first = self.upstream.bundle().await?;
        self.take_bundle(trust, &first.x509_authorities)?;
        self.identities.set_bundle(first.clone());
        following::sync_entries(&self.upstream, &self.identities).await?;
        let (send, notices) = mpsc::channel(16);
        let follower = Follower {
            channel: connection.channel.clone(),
            upstream: self.upstream.clone(),
            identities: Arc::clone(&self.identities),
            notices: send,
            poll: self.config.intervals.sync,
        };
        let follower = tokio::spawn(follower.run(first));
        Ok(Session { connection, follower, notices })
    }

    /// Keeps the standing over one connection.
    async fn keep(
        &mut self,
        mut session: Session,
        standing: &mut Standing,
        server: &tls::Server,
        trust: &Trust,
        tpm: &Arc<HostTpm>,
    ) -> Result<Kept, NodeError> {
        let mut job: Option<Job> = None;
        let mut before = self.clock.moment();
        let mut ticked = Instant::now();
        let mut failures: u32 = 0;
        let mut changes = self.identities.changes();
        let mut kept_bundle = self.identities.bundle();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let refresh_at = standing.refresh_at;
            let attest_at = standing.attest_at;
            let idle = job.is_none();
            tokio::select! {
                done = finished(&mut job) => {
                    job = None;
                    match done {
                        Ok(Done::Attested(svid)) => return Ok(Kept::Renewed(svid)),
                        Ok(Done::Refreshed(outcome)) => {
                            failures = 0;
                            standing.refreshed(&outcome, &self.clock);
                            if self.identities.set_state(HostState::Attested) {
                                self.identities.retry_now();
                            }
                            tracing::debug!(expires_at = %outcome.expires_at, "standing goes on");
                        }
                        Err(error) if error.key_is_gone() => return Ok(Kept::KeyGone),
                        Err(error) => {
                            failures += 1;
                            if let Some(kept) = self.stumble(error, failures, standing)? {
                                return Ok(kept);
                            }
                        }
                    }
                }
                () = tokio::time::sleep_until(refresh_at), if idle => {
                    standing.refresh_at = Instant::now() + standing.refresh_after;
                    job = Some(self.refresh(&session.connection, tpm));
                }
                () = tokio::time::sleep_until(attest_at), if idle => {
                    standing.attest_at = Instant::now() + self.config.intervals.retry_longest;
                    job = Some(self.attest_again(server, tpm));
                }
                notice = session.notices.recv() => match notice {
                    Some(Notice::Settings(settings)) => standing.set(&settings),
                    Some(Notice::RefreshNow) => standing.refresh_at = Instant::now(),
                    Some(Notice::Draining(within)) => {
                        tracing::info!(?within, "the server is going down");
                    }
                    Some(Notice::Verdict(verdict)) => {
                        if let Some(kept) = self.obey(verdict, standing) {
                            return Ok(kept);
                        }
                    }
                    Some(Notice::Lost) | None => return Ok(Kept::Lost),
                },
                Some(verdict) = self.verdicts.recv() => {
                    if let Some(kept) = self.obey(verdict, standing) {
                        return Ok(kept);
                    }
                }
                changed = changes.changed() => {
                    if changed.is_ok() && self.identities.bundle() != kept_bundle {
                        kept_bundle = self.identities.bundle();
                        if let Some(bundle) = &kept_bundle {
                            self.take_bundle(trust, &bundle.x509_authorities)?;
                        }
                    }
                }
                _ = tick.tick() => {
                    let now = self.clock.moment();
                    if jumped(before, now, ticked.elapsed()) {
                        tracing::warn!("the clock jumped or the host slept: attesting anew");
                        return Ok(Kept::AttestAgain);
                    }
                    (before, ticked) = (now, Instant::now());
                    self.stands_until = standing.until;
                    self.run_out();
                }
            }
        }
    }

    fn refresh(&self, connection: &tls::Connection, tpm: &Arc<HostTpm>) -> Job {
        let (connection, tpm) = (connection.clone(), Arc::clone(tpm));
        let trust_domain = self.config.trust_domain.clone();
        Job::Refresh(tokio::spawn(async move {
            // A key that is gone means that the host rebooted under us: the quote would tell the
            // server, but only a new key and a whole attestation help.
            if !attestation::with_tpm(&tpm, HostTpm::has_svid_key).await? {
                return Err(HostTpmError::from(assay_tpm::collect::Error::KeyGone).into());
            }
            attestation::refresh(&connection, &trust_domain, &tpm).await
        }))
    }

    fn attest_again(&self, server: &tls::Server, tpm: &Arc<HostTpm>) -> Job {
        let (server, tpm) = (server.clone(), Arc::clone(tpm));
        let (address, trust_domain) =
            (self.config.server.clone(), self.config.trust_domain.clone());
        Job::Attest(tokio::spawn(async move {
            attestation::attest(&address, &server, &trust_domain, &tpm).await
        }))
    }

    /// A job failed while the channel is open. Nothing where the session goes on.
    fn stumble(
        &self,
        error: AttestationError,
        failures: u32,
        standing: &mut Standing,
    ) -> Result<Option<Kept>, NodeError> {
        match error {
            // The old standing is void or soon will be; whether a new one can be had, only a
            // whole attestation tells.
            AttestationError::Refused(told) => {
                self.refused(&told);
                Ok(Some(Kept::AttestAgain))
            }
            AttestationError::Away(_) | AttestationError::Connect(_) if failures > 2 => {
                Ok(Some(Kept::Lost))
            }
            // Perhaps it is not the same TPM device any more: open it anew.
            AttestationError::Tpm(_) if failures > 2 => Err(error.into()),
            error => {
                report(&error);
                let longest = self.config.intervals.retry_longest;
                let wait = self.config.intervals.retry_first * 2_u32.pow(failures.min(8) - 1);
                let at = Instant::now() + jitter(wait.min(longest));
                standing.refresh_at = standing.refresh_at.min(at);
                Ok(None)
            }
        }
    }

    /// What the server says of this host in answer to any call.
    fn obey(&self, verdict: Verdict, standing: &mut Standing) -> Option<Kept> {
        match verdict {
            Verdict::Banned => {
                self.banned();
                Some(Kept::AttestAgain)
            }
            // First a refresh; if that is refused, a whole attestation follows.
            Verdict::AttestAgain => {
                standing.refresh_at = standing.refresh_at.min(Instant::now());
                None
            }
        }
    }

    /// What a fault means for workloads, and how long to wait.
    fn fall(&self, error: &NodeError, pause: &mut Pause) -> Duration {
        match error {
            NodeError::Attestation(AttestationError::Refused(told)) => {
                self.refused(told);
                pause.next().max(told.retry_after.unwrap_or_default())
            }
            error => {
                let cause = causes(error);
                tracing::error!(error = %error, cause, "this host is not attested");
                self.run_out();
                pause.next()
            }
        }
    }

    /// A standing that ran out: what was issued is given out until it ends, nothing new is signed.
    fn run_out(&self) {
        if self.identities.state() == HostState::Attested && self.clock.boot() >= self.stands_until
        {
            tracing::warn!("this host's standing has run out");
            self.identities.set_state(HostState::Stale);
        }
    }

    fn refused(&self, told: &Told) {
        if told.code == "banned" {
            return self.banned();
        }
        tracing::error!(
            code = told.code, correlation_id = told.correlation_id, findings = %said(told),
            "the server refused this host"
        );
        self.tokens.clear();
        self.identities.set_state(HostState::refused(&told.code));
    }

    fn banned(&self) {
        tracing::error!("this host is banned");
        self.tokens.clear();
        self.identities.set_state(HostState::Banned);
    }

    fn take_bundle(&self, trust: &Trust, authorities: &[Vec<u8>]) -> Result<(), NodeError> {
        trust.replace(authorities)?;
        self.keep_bundle(authorities)
    }

    fn keep_bundle(&self, authorities: &[Vec<u8>]) -> Result<(), NodeError> {
        let path = self.bundle_file();
        let folder = |source| BundleError::Write { path: path.clone(), source };
        private::open_folder(&self.config.data_dir)
            .and_then(|opened| opened.map_err(io::Error::other))
            .map_err(folder)?;
        if bundle::load(&path).is_ok_and(|kept| kept == authorities) {
            return Ok(());
        }
        Ok(bundle::keep(authorities, &path)?)
    }

    fn bundle_file(&self) -> PathBuf {
        self.config.data_dir.join(BUNDLE_FILE)
    }
}

/// How a session ended.
enum Kept {
    Renewed(AgentSvid),
    Lost,
    AttestAgain,
    KeyGone,
}

/// TCP and TLS of the first contact.
const CONNECT: Duration = Duration::from_secs(15);

/// Waits for ever where there is no job.
async fn finished(job: &mut Option<Job>) -> Result<Done, AttestationError> {
    let ended = |_| AttestationError::Task;
    match job {
        Some(Job::Refresh(handle)) => handle.await.map_err(ended)?.map(Done::Refreshed),
        Some(Job::Attest(handle)) => handle.await.map_err(ended)?.map(Done::Attested),
        None => std::future::pending().await,
    }
}

/// The wall clock was set, or the host slept: boot time goes on in sleep, the timer does not.
fn jumped(before: Moment, now: Moment, timer: Duration) -> bool {
    let boot = now.boot.saturating_sub(before.boot);
    let due = before.wall + boot;
    let drift = now.wall.since(due).max(due.since(now.wall));
    drift > JUMP || boot.saturating_sub(timer) > JUMP
}

impl Standing {
    fn new(svid: &AgentSvid, clock: &Clock) -> Self {
        Self {
            until: clock.boot() + MAX_AGE,
            refresh_after: REFRESH_AFTER,
            max_age: MAX_AGE,
            refresh_at: Instant::now() + jitter(REFRESH_AFTER),
            attest_at: Instant::now() + half_life(svid, clock),
        }
    }

    /// After an attestation at half-life: the server's settings stay.
    fn renewed(old: &Self, svid: &AgentSvid, clock: &Clock) -> Self {
        Self {
            until: clock.boot() + old.max_age,
            refresh_at: Instant::now() + jitter(old.refresh_after),
            attest_at: Instant::now() + half_life(svid, clock),
            ..*old
        }
    }

    fn refreshed(&mut self, outcome: &Outcome, clock: &Clock) {
        let left = outcome.expires_at.since(outcome.quoted_at);
        self.until = clock.boot() + left;
        self.refresh_after = whole(outcome.refresh_after_s).unwrap_or(self.refresh_after);
        self.refresh_at = Instant::now() + jitter(self.refresh_after);
    }

    fn set(&mut self, settings: &assay_proto::assay::v1::Settings) {
        if let Some(max_age) = whole(settings.max_age_s) {
            self.until = (self.until + max_age).saturating_sub(self.max_age);
            self.max_age = max_age;
        }
        if let Some(refresh_after) = whole(settings.refresh_after_s) {
            self.refresh_after = refresh_after;
            let at = Instant::now() + jitter(refresh_after);
            self.refresh_at = self.refresh_at.min(at);
        }
    }
}

/// A server that says 0 says nothing.
fn whole(seconds: u32) -> Option<Duration> {
    (seconds != 0).then(|| Duration::from_secs(u64::from(seconds)))
}

fn half_life(svid: &AgentSvid, clock: &Clock) -> Duration {
    jitter(svid.not_after.since(clock.now()) / 2).max(Duration::from_secs(1))
}

/// From the first pause to the longest, doubling.
struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (self.next * 2).min(self.longest);
        jitter(now)
    }

    fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Whether it is worth while to try the same again with the same SVID.
fn is_away(error: &NodeError) -> bool {
    matches!(
        error,
        NodeError::Upstream(UpstreamError::Away | UpstreamError::Deadline(_))
            | NodeError::Attestation(
                AttestationError::Connect(
                    tls::ConnectError::Network { .. } | tls::ConnectError::Timeout { .. }
                ) | AttestationError::Away(_)
            )
    )
}

/// Whether the TPM must be opened anew: its key is gone, or it does not answer as it should.
fn needs_tpm_again(error: &NodeError) -> bool {
    matches!(error, NodeError::Attestation(AttestationError::Tpm(_)))
}

fn report(error: &AttestationError) {
    tracing::warn!(%error, cause = causes(error), "standing not renewed");
}

/// The chain of causes, for one event.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// claim found expected, of each finding.
fn said(told: &Told) -> String {
    let findings = told.findings.iter().map(|finding| {
        format!("{}: found `{}`, expected `{}`", finding.claim, finding.found, finding.expected)
    });
    findings.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use assay_evidence::time::Time;

    use super::*;

    #[test]
    fn a_set_clock_and_a_sleep_are_jumps_and_a_busy_machine_is_none() {
        let second = Duration::from_secs(1);
        let at = |wall: i64, boot: u64| Moment {
            wall: Time::from_unix_s(wall),
            boot: Duration::from_secs(boot),
        };
        assert!(!jumped(at(100, 10), at(102, 12), 2 * second));
        assert!(!jumped(at(100, 10), at(140, 50), 40 * second), "late, but all clocks agree");
        assert!(jumped(at(100, 10), at(112, 12), 2 * second), "set forward");
        assert!(jumped(at(100, 10), at(90, 12), 2 * second), "set back");
        assert!(jumped(at(100, 10), at(160, 70), 2 * second), "slept");
    }

    #[test]
    fn pauses_double_to_the_longest() {
        let mut pause = Pause {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(300),
            next: Duration::from_secs(5),
        };
        for expected in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0] {
            let found = pause.next().as_secs_f64() / expected;
            assert!((0.89..=1.11).contains(&found), "{found}");
        }
        pause.reset();
        assert!(pause.next() < Duration::from_secs(6));
    }
}
