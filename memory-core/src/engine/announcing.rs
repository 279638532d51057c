//! The store as the engine has it: whoever watches it learns of the engine's commits at once.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    Batch, Change, Changes, Commit, Hit, Key, MemoryStore, Page, Result, Scan, Search, StoreHealth, StoreInfo, Stored,
    Version,
};

/// A store that tells of commits to the feed, and of its end. It is shown as the store inside.
#[derive(Debug)]
pub(super) struct Announcing {
    inner: Arc<dyn MemoryStore>,
    commits: watch::Sender<()>,
}

impl Announcing {
    /// The store, and what it tells.
    pub(super) fn new(inner: Arc<dyn MemoryStore>) -> (Self, watch::Receiver<()>) {
        let (commits, told) = watch::channel(());
        (Self { inner, commits }, told)
    }
}

/// Whether a batch changes what is in the feed.
fn is_told(batch: &Batch) -> bool {
    let put = |change: &Change| matches!(change, Change::Put(record) if record.key().kind().in_feed());
    let deleted = |change: &Change| matches!(change, Change::Delete(key) if key.kind().in_feed());
    batch.changes.iter().any(|change| put(change) || deleted(change))
}

impl fmt::Display for Announcing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MemoryStore for Announcing {
    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let result = self.inner.commit(batch).await;
        // After a failure, too: what became of the batch may be unknown.
        if is_told(batch) {
            self.commits.send_replace(());
        }
        result
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.inner.get(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.inner.scan(scan).await
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.inner.search(search).await
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.inner.changes(since, limit).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        let result = self.inner.close().await;
        self.commits.send_replace(());
        result
    }
}
