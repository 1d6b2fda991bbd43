//! Keeps entries and bundle as the server has them: told by `Watch` where the server has it, by
//! asking again and again where it has not (a SPIRE server) or while the stream is down.
//!
//! One follower lives as long as one connection. What concerns the node as a whole it passes on.

use std::sync::Arc;
use std::time::Duration;

use assay_proto::assay::v1::Settings;
use assay_proto::assay::v1::WatchRequest;
use assay_proto::assay::v1::node_client::NodeClient;
use assay_proto::assay::v1::watch_event::Event;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::agent::identities::Identities;
use crate::agent::rotation::jitter;
use crate::agent::upstream;
use crate::agent::upstream::Upstream;
use crate::agent::upstream::UpstreamError;
use crate::agent::upstream::Verdict;
use crate::spiffe::Bundle;

/// Polling slows down to this many times its first pause while nothing changes.
const SLOWEST: u32 = 48;
/// Where `Watch` tells of changes, a look now and then still: a lost event must not last.
const LOOK_ANYWAY: Duration = Duration::from_secs(300);
/// How soon a broken `Watch` stream is opened again, while the connection itself is well.
const WATCH_AGAIN: Duration = Duration::from_secs(2);

/// What the node's driver must know.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    Settings(Settings),
    RefreshNow,
    /// The server goes down within this time.
    Draining(Duration),
    /// The connection is over.
    Lost,
    Verdict(Verdict),
}

/// Follows the server over one connection.
#[derive(Debug)]
pub struct Follower {
    pub channel: Channel,
    pub upstream: Upstream,
    pub identities: Arc<Identities>,
    pub notices: mpsc::Sender<Notice>,
    /// First pause of polling.
    pub poll: Duration,
}

/// What was told last, so that a stream opened again tells what came in between.
#[derive(Debug, Default)]
struct Known {
    entries_revision: u64,
    bundle_sequence: u64,
    rev_seq: u64,
}

enum WatchState {
    Open(Box<Streaming<assay_proto::assay::v1::WatchEvent>>),
    /// To be opened again after a while.
    Closed,
    /// The server has no such thing.
    Unknown,
}

impl Follower {
    /// Runs until the connection is lost or the driver drops it.
    pub async fn run(self, first: Bundle) {
        let mut known = Known { bundle_sequence: first.sequence, ..Known::default() };
        let mut pause = self.poll;
        let mut watch = self.watch(&known).await;
        loop {
            let wait = match &watch {
                WatchState::Open(_) => jitter(LOOK_ANYWAY),
                WatchState::Closed => WATCH_AGAIN,
                WatchState::Unknown => jitter(pause),
            };
            let event = match &mut watch {
                WatchState::Open(stream) => tokio::time::timeout(wait, stream.message()).await.ok(),
                WatchState::Closed | WatchState::Unknown => {
                    tokio::time::sleep(wait).await;
                    None
                }
            };
            let looked = match event {
                Some(Ok(Some(event))) => match event.event {
                    Some(event) => self.take(event, &mut known).await,
                    None => Ok(false),
                },
                Some(Ok(None)) => {
                    watch = WatchState::Closed;
                    Ok(false)
                }
                Some(Err(status)) => {
                    tracing::debug!(why = status.message(), "watch stream ended");
                    self.pass_on(&status).await;
                    watch = WatchState::Closed;
                    Ok(false)
                }
                None => {
                    if matches!(watch, WatchState::Closed) {
                        watch = self.watch(&known).await;
                    }
                    self.look(&mut known).await
                }
            };
            match looked {
                Ok(true) => pause = self.poll,
                Ok(false) => pause = (pause * 2).min(self.poll * SLOWEST),
                Err(UpstreamError::Away) => {
                    // The driver finds out how it stands with the server.
                    let _ = self.notices.send(Notice::Lost).await;
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "entries and bundle not brought up to date");
                }
            }
        }
    }

    async fn watch(&self, known: &Known) -> WatchState {
        let request = WatchRequest {
            entries_revision: known.entries_revision,
            bundle_sequence: known.bundle_sequence,
            rev_seq: known.rev_seq,
        };
        match NodeClient::new(self.channel.clone()).watch(request).await {
            Ok(stream) => WatchState::Open(Box::new(stream.into_inner())),
            Err(status) if status.code() == Code::Unimplemented => WatchState::Unknown,
            Err(status) => {
                self.pass_on(&status).await;
                WatchState::Closed
            }
        }
    }

    /// What the stream's end says about the node as a whole.
    async fn pass_on(&self, status: &Status) {
        if let Some(verdict) = upstream::verdict(status) {
            // Where the driver is gone, this task goes too.
            let _ = self.notices.send(Notice::Verdict(verdict)).await;
        }
    }

    /// True if something changed.
    async fn take(&self, event: Event, known: &mut Known) -> Result<bool, UpstreamError> {
        let notice = match event {
            Event::Settings(settings) => Notice::Settings(settings),
            Event::RefreshNow(_) => Notice::RefreshNow,
            Event::Draining(draining) => {
                Notice::Draining(Duration::from_secs(u64::from(draining.within_s)))
            }
            Event::EntriesChanged(changed) => {
                known.entries_revision = changed.revision;
                return sync_entries(&self.upstream, &self.identities).await.map(|()| true);
            }
            Event::BundleChanged(changed) => {
                known.bundle_sequence = changed.sequence;
                return sync_bundle(&self.upstream, &self.identities).await.map(|_| true);
            }
            Event::Quarantine(quarantine) => {
                // Who is meant, the next call says: it is refused, or it is not us.
                known.rev_seq = quarantine.rev_seq;
                return sync_entries(&self.upstream, &self.identities).await.map(|()| true);
            }
        };
        let _ = self.notices.send(notice).await;
        Ok(false)
    }

    async fn look(&self, known: &mut Known) -> Result<bool, UpstreamError> {
        let before = (self.identities.entries(), self.identities.bundle());
        sync_entries(&self.upstream, &self.identities).await?;
        known.bundle_sequence = sync_bundle(&self.upstream, &self.identities).await?;
        Ok(before != (self.identities.entries(), self.identities.bundle()))
    }
}

/// Takes over the server's entries for this host.
pub async fn sync_entries(
    upstream: &Upstream,
    identities: &Identities,
) -> Result<(), UpstreamError> {
    let entries = upstream.entries(&identities.entries()).await?;
    let count = entries.len();
    if identities.set_entries(entries) {
        tracing::info!(count, "entries of this host");
    }
    Ok(())
}

/// Takes over the server's bundle; its sequence.
pub async fn sync_bundle(
    upstream: &Upstream,
    identities: &Identities,
) -> Result<u64, UpstreamError> {
    let bundle = upstream.bundle().await?;
    let sequence = bundle.sequence;
    if identities.set_bundle(bundle) {
        tracing::info!(sequence, "trust bundle");
    }
    Ok(sequence)
}
