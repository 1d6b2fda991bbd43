//! How much the store takes in a second: commits one after the other, commits of many sessions at
//! once (where group commit must pay), issuances, and reads of a node.
//!
//! Each commit is what a refresh writes: one node row and two records. Figures depend on the disk;
//! the ratio of many sessions to one does so less.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use assay::clock::Clock;
use assay::records::Actor;
use assay::records::Admin;
use assay::records::Data;
use assay::records::Draft;
use assay::records::Subject;
use assay::spiffe::TrustDomain;
use assay::store::Admission;
use assay::store::Change;
use assay::store::NodeKind;
use assay::store::NodeRow;
use assay::store::Store;

const FOR: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let trust_domain = TrustDomain::parse("example.org")?;
        let path = folder.path().join("state/assay.db");
        let store = Arc::new(Store::open(&path, &trust_domain, Clock::machine())?);
        println!("{:>9} {:>10} {:>12} {:>10}", "sessions", "commits/s", "records/s", "per flush");
        for sessions in [1, 8, 64, 256] {
            let before = store.tally();
            let start = Instant::now();
            let mut running = tokio::task::JoinSet::new();
            for session in 0..sessions {
                running.spawn(refreshes(store.clone(), format!("{sessions:03}{session:03}")));
            }
            while let Some(ended) = running.join_next().await {
                ended??;
            }
            let seconds = start.elapsed().as_secs_f64();
            let after = store.tally();
            let commits = (after.commits - before.commits) as f64;
            let flushes = (after.transactions - before.transactions) as f64;
            println!(
                "{sessions:>9} {:>10.0} {:>12.0} {:>10.1}",
                commits / seconds,
                2.0 * commits / seconds,
                commits / flushes
            );
        }
        let start = Instant::now();
        let mut reads = 0;
        while start.elapsed() < FOR {
            store.node("001000").await?;
            reads += 1;
        }
        println!("node reads/s, one after the other: {:.0}", f64::from(reads) / FOR.as_secs_f64());
        let start = Instant::now();
        let records = store.recount().await?;
        println!("recount of {records} records: {:.2} s", start.elapsed().as_secs_f64());
        store.close().await?;
        let start = Instant::now();
        let store = Store::open(&path, &trust_domain, Clock::machine())?;
        println!("opened in {:.1} ms: {}", start.elapsed().as_secs_f64() * 1e3, store.found());
        Ok(())
    })
}

/// One node that refreshes as fast as it is answered.
async fn refreshes(store: Arc<Store>, node_id: String) -> anyhow::Result<()> {
    let start = Instant::now();
    let now = Clock::machine().now();
    let mut row = NodeRow::new(node_id, NodeKind::TpmEk, Admission::Admitted, now);
    while start.elapsed() < FOR {
        let records = vec![record(), record()];
        row.revision = store
            .commit(vec![Change::Node(row.clone())], records)
            .await?
            .revisions
            .pop()
            .unwrap_or_default();
    }
    Ok(())
}

/// About as long as a result that affirms.
fn record() -> Draft {
    let arguments = BTreeMap::from([("text".to_owned(), "x".repeat(400))]);
    Draft {
        subject: Subject::TrustDomain,
        actor: Actor::Server,
        refs: Vec::new(),
        data: Data::Admin(Admin { act: "bench", arguments }),
    }
}
