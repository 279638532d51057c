//! The store.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::{
    Batch, Changes, Commit, Durability, Hit, Key, MemoryStore, Page, Result, Scan, Search, StoreHealth, StoreInfo,
    Stored, Version,
};

use crate::RedbConfig;
use crate::error::from_io;
use crate::read;
use crate::worker::{self, Workers};
use crate::write::Prepared;
use crate::writer;

/// A [`MemoryStore`] in a redb database file. See the [crate's page](crate) for guarantees and layout.
///
/// Clones share one store. Its threads end when the last clone is dropped, after what is queued, and then others can open the
/// file; [`close`](MemoryStore::close) also waits for that.
///
/// Of writes and of reads up to 10,000 each may wait; further ones are refused as [`Overloaded`](memory_core::ErrorKind::Overloaded).
///
/// # Cancellation
/// A read that is dropped while it waits is not done. A dropped commit was written, or not.
///
/// # After a crash
/// Derivable batches that were not durable yet are gone, and their versions may be given again: a position in the change feed that
/// was kept elsewhere may then be behind changes that it has not seen. While the store is open, versions only rise.
#[derive(Clone, Debug)]
pub struct RedbStore {
    path: Arc<Path>,
    workers: Arc<Workers>,
}

impl RedbStore {
    /// Opens a file with the default settings; makes it if there is none.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, RedbConfig::default()).await
    }

    /// Opens a file; makes it if there is none. Its folder must be there.
    ///
    /// # Errors
    /// - [`Invalid`](memory_core::ErrorKind::Invalid) for a setting outside its range, or a path that cannot be a file;
    /// - [`Busy`](memory_core::ErrorKind::Busy) if another process, or another store of this one, has it open;
    /// - [`Foreign`](memory_core::ErrorKind::Foreign) for another program's database, or no redb database at all;
    /// - [`SchemaTooNew`](memory_core::ErrorKind::SchemaTooNew) if a newer version of this library has made it;
    /// - [`SchemaEdited`](memory_core::ErrorKind::SchemaEdited) if its tables have other types;
    /// - [`Corrupt`](memory_core::ErrorKind::Corrupt), [`ReadOnly`](memory_core::ErrorKind::ReadOnly),
    ///   [`Full`](memory_core::ErrorKind::Full) and [`Io`](memory_core::ErrorKind::Io) for what is wrong with file or disk.
    pub async fn open_with(path: impl AsRef<Path>, config: RedbConfig) -> Result<Self> {
        let opened = async {
            config.validate()?;
            let path = absolute(path.as_ref())?;
            let workers = Workers::start(Arc::clone(&path), config).await?;
            Ok(Self { path, workers: Arc::new(workers) })
        };
        opened.await.map_err(|error: memory_core::Error| error.in_operation("open"))
    }

    /// Gives the pages of a file that are free back to the disk, and tells how many bytes they were. What is written to a file takes
    /// them first, but it never becomes smaller by itself: after many writes more than half of it is free. No store may have it open.
    /// It takes about five seconds for each gigabyte; if the process ends meanwhile, all is as it was.
    ///
    /// # Errors
    /// [`Io`](memory_core::ErrorKind::Io) if there is no such file; otherwise as [`open_with`](Self::open_with).
    pub async fn vacuum(path: impl AsRef<Path>) -> Result<u64> {
        let freed = async {
            let path = absolute(path.as_ref())?;
            worker::once(&Arc::clone(&path), move || writer::vacuum(path, RedbConfig::default())).await
        };
        freed.await.map_err(|error| error.in_operation("vacuum"))
    }
}

fn absolute(path: &Path) -> Result<Arc<Path>> {
    std::path::absolute(path).map(Arc::from).map_err(|error| from_io(path, error))
}

impl fmt::Display for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedbStore({})", self.path.display())
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MemoryStore for RedbStore {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("redb", Durability::Durable)
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let done = async { self.workers.write(Prepared::new(batch)?).await };
        done.await.map_err(|error| error.in_operation("commit"))
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        let keys = keys.to_vec();
        let done = self.workers.read(move |searching| read::get(&searching.tables(), &keys)).await;
        done.map_err(|error| error.in_operation("get"))
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        let scan = scan.clone();
        let done = self.workers.read(move |searching| read::scan(&searching.tables(), &scan)).await;
        done.map_err(|error| error.in_operation("scan"))
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        let search = search.clone();
        let done = self.workers.read(move |searching| {
            search.validate(searching.tables().space.as_ref())?;
            searching.search(&search)
        });
        done.await.map_err(|error| error.in_operation("search"))
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        let done = self.workers.read(move |searching| read::changes(&searching.tables(), since, limit)).await;
        done.map_err(|error| error.in_operation("changes"))
    }

    async fn health(&self) -> Result<StoreHealth> {
        let done = self.workers.read(|searching| Ok(read::health(&searching.tables()))).await;
        done.map_err(|error| error.in_operation("health"))
    }

    async fn close(&self) -> Result<()> {
        self.workers.close().await;
        Ok(())
    }
}
