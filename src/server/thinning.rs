//! Evidence is let go once it has been kept for as long as the configuration promises.
//!
//! What it was stays known: digest, size and kind are in the store and in the records for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::server::domain::Domain;
use crate::store::Retention;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Thinned;

const EVERY: Duration = Duration::from_secs(3_600);

/// A round at once and one each hour, until it is aborted.
pub fn hourly(domain: Arc<Domain>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut hours = tokio::time::interval(EVERY);
        hours.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            hours.tick().await;
            match thin(&domain.store, &domain.config.retention).await {
                Ok(Thinned { blobs: 0, .. }) => {}
                Ok(Thinned { blobs, bytes, .. }) => {
                    tracing::info!(blobs, bytes, "evidence let go after its time");
                }
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(%error, "evidence was not let go; again in an hour"),
            }
        }
    })
}

/// All that may go, a batch at a time: commits of others come between.
async fn thin(store: &Store, retention: &Retention) -> Result<Thinned, StoreError> {
    let mut all = Thinned::default();
    loop {
        let Thinned { blobs, bytes, more } = store.thin(retention).await?;
        all.blobs += blobs;
        all.bytes += bytes;
        if !more {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use assay_evidence::time::Time;

    use super::*;
    use crate::clock::Clock;
    use crate::spiffe::TrustDomain;
    use crate::store::Blob;
    use crate::store::Change;
    use crate::store::Keep;

    #[tokio::test]
    async fn a_round_goes_on_until_nothing_is_left_that_may_go() {
        let private = PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        let clock = Clock::manual(Time::from_unix_s(1_000_000));
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        let path = folder.path().join("assay.db");
        let store = Store::open(&path, &trust_domain, clock.clone()).unwrap();
        let blob = |n: u64, keep| Blob::new("m", n.to_be_bytes().to_vec(), keep).unwrap();
        let routine = (0..1_200).map(|n| Change::Blob(blob(n, Keep::Routine)));
        store.commit(routine.collect(), Vec::new()).await.unwrap();
        let full = blob(9_999, Keep::Full);
        let sha256 = *full.sha256();
        store.commit(vec![Change::Blob(full)], Vec::new()).await.unwrap();

        let retention = Retention::default();
        assert_eq!(thin(&store, &retention).await.unwrap(), Thinned::default());
        clock.advance(retention.routine + Duration::from_secs(1));
        let thinned = thin(&store, &retention).await.unwrap();
        assert_eq!((thinned.blobs, thinned.bytes), (1_200, 9_600));
        assert!(store.blob(&sha256).await.unwrap().unwrap().bytes.is_some());
    }
}
