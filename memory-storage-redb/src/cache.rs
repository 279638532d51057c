//! A cache before another store.

mod config;
mod contents;
mod follow;
mod keeper;
mod place;
mod primary;
mod second_chance;
mod shelf;
mod state;
mod stats;
mod tables;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::{
    Batch, Change, Changes, Commit, Error, ErrorKind, Hit, Key, MemoryStore, Page, Result, Scan, Search, StoreHealth,
    StoreInfo, Stored, Version,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;

pub use config::{CacheConfig, WarmUp};
use follow::{Follower, is_kept};
use place::Place;
use shelf::{Shelf, joined};
pub use stats::{CacheMode, CacheStats};

/// A cache before any other store, the *primary*: it answers searches from an index of its own, and reads of episodes and notes from
/// a file of its own; everything else is the primary's. See the [crate's page](crate) for what it guarantees and costs.
///
/// Clones share one cache. [`close`](MemoryStore::close) it: what is merely dropped starts from the index that was persisted last,
/// and catches up.
///
/// # Order
/// It goes around the store that everybody who writes goes through, or one of them: it hears of what others write by the
/// change feed. What changes records on their way to the store goes around the cache, or its index has what is not stored. What
/// retries or limits calls goes around the primary, inside: the cache itself asks it, too.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use memory_core::{InMemoryStore, MemoryStore};
/// use memory_storage_redb::{CacheConfig, HotCache};
/// let cache = HotCache::in_memory(InMemoryStore::new(), CacheConfig::default()).await?;
/// assert_eq!(cache.to_string(), "HotCache(InMemoryStore)");
/// # cache.close().await
/// # }).unwrap();
/// ```
///
/// # Cancellation
/// Any call may be dropped. A dropped commit may have been written or not, as over the primary alone; the next read finds out. A
/// dropped read leaves what it had begun to others.
///
/// # Default
/// See [`CacheConfig`].
#[derive(Debug)]
pub struct HotCache<P> {
    inner: Arc<Inner<P>>,
}

impl<P> Clone for HotCache<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

#[derive(Debug)]
struct Inner<P> {
    primary: P,
    shelf: Arc<Shelf>,
    follower: Follower,
    catching_up: tokio::sync::Mutex<()>,
    wake: Arc<Notify>,
    /// Where what may block is done, wherever the cache is called.
    runtime: Handle,
}

impl<P> Drop for Inner<P> {
    fn drop(&mut self) {
        // Its keeper is to end.
        self.wake.notify_one();
    }
}

/// How many stretches of the feed opening waits for: some tenths of a second.
const AT_OPEN: usize = 16;

/// How often a read begins anew when something changes meanwhile, before the primary answers it as a whole.
const ATTEMPTS: usize = 3;

impl<P: MemoryStore> HotCache<P> {
    /// Opens a cache before a store, in this file, with the default settings.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub async fn open(primary: P, path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(primary, path, CacheConfig::default()).await
    }

    /// Opens a cache before a store, in this file; makes the file if there is none.
    ///
    /// That the file cannot be used is no error: it is made anew if it is damaged, or of another database, and the cache stays in
    /// memory if it is another program's, open elsewhere, or cannot be written. [`stats`](Self::stats) tell.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a setting outside its range, [`Unavailable`](ErrorKind::Unavailable) outside of a tokio
    /// runtime, whose timers must be enabled. The primary's own errors with [`WarmUp::BeforeOpen`]; otherwise, as long as it
    /// fails, there is nothing to answer from.
    pub async fn open_with(primary: P, path: impl AsRef<Path>, config: CacheConfig) -> Result<Self> {
        // It may be opened again when the working directory is another.
        let path = std::path::absolute(&path).unwrap_or_else(|_| path.as_ref().to_owned());
        Self::start(primary, Place::File(path.into()), config).await
    }

    /// The same in memory, without a file. Each start begins with nothing.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub async fn in_memory(primary: P, config: CacheConfig) -> Result<Self> {
        Self::start(primary, Place::Memory, config).await
    }

    async fn start(primary: P, place: Place, config: CacheConfig) -> Result<Self> {
        config.validate().map_err(|error| error.in_operation("open"))?;
        let runtime = Handle::try_current().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "a cache needs a tokio runtime").with_source(error).in_operation("open")
        })?;
        let (warm_up, interval) = (config.warm_up, config.snapshot_interval);
        let wake = Arc::new(Notify::new());
        let inner = Arc::new(Inner {
            primary,
            shelf: Arc::new(Shelf::new(place, config)),
            follower: Follower::default(),
            catching_up: tokio::sync::Mutex::default(),
            wake: Arc::clone(&wake),
            runtime: runtime.clone(),
        });
        let stretches = if warm_up == WarmUp::BeforeOpen { usize::MAX } else { AT_OPEN };
        match inner.catch_up(stretches).await {
            Ok(true) => {}
            Ok(false) => wake.notify_one(),
            Err(error) if warm_up == WarmUp::BeforeOpen => return Err(error.in_operation("open")),
            Err(error) => {
                inner.shelf.counters.failed(error);
                wake.notify_one();
            }
        }
        runtime.spawn(keeper::keep(Arc::downgrade(&inner), wake, interval));
        Ok(Self { inner })
    }
}

impl<P> HotCache<P> {
    /// The store inside: the primary.
    pub fn get_ref(&self) -> &P {
        &self.inner.primary
    }

    /// How it is doing.
    pub async fn stats(&self) -> CacheStats {
        // A runtime that ends lets nobody else work.
        self.inner.local(Shelf::stats).await.unwrap_or_else(|| self.inner.shelf.stats())
    }
}

impl<P: MemoryStore> HotCache<P> {
    /// Waits until the cache answers: until it is warm, or has recovered.
    ///
    /// # Errors
    /// The primary's own. [`Unavailable`](ErrorKind::Unavailable) if the cache is closed, or lost and not to be made anew.
    pub async fn warm_up(&self) -> Result<()> {
        if self.inner.catch_up(usize::MAX).await.map_err(|error| error.in_operation("warm_up"))? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "the cache is closed, or has no place").in_operation("warm_up"))
    }
}

impl<P> Inner<P> {
    /// Does what may block where it may. `None` if the runtime ends.
    async fn local<T: Send + 'static>(&self, job: impl FnOnce(&Shelf) -> T + Send + 'static) -> Option<T> {
        let shelf = Arc::clone(&self.shelf);
        self.runtime.spawn_blocking(move || job(&shelf)).await.ok()
    }

    /// Keeps records that were read from the primary, when there is time.
    fn keep(&self, records: Vec<Stored>) {
        if self.shelf.keep_later(records) {
            let shelf = Arc::clone(&self.shelf);
            drop(self.runtime.spawn_blocking(move || shelf.keep()));
        }
    }
}

impl<P: MemoryStore> Inner<P> {
    /// What the cache answers, with what the primary adds; `None` if the primary must answer.
    async fn get(&self, keys: &[Key]) -> Result<Option<Vec<Option<Stored>>>> {
        let shared: Arc<[Key]> = keys.into();
        let mut misfit = None;
        for attempt in 0..ATTEMPTS {
            let contents = self.shelf.cursor().generation;
            if let Some(answers) = self.shelf.look_up_at_once(keys) {
                if !self.is_current(attempt > 0).await {
                    return Ok(None);
                }
                if self.shelf.cursor().generation == contents {
                    self.shelf.counters.hits.add(keys.len());
                    return Ok(Some(answers));
                }
                continue;
            }
            let keys_of_job = Arc::clone(&shared);
            let looking = async {
                let is_current = self.is_current(attempt > 0).await;
                let look_up = async { self.local(move |shelf| shelf.look_up(&keys_of_job)).await.flatten() };
                (is_current, if is_current { look_up.await } else { None })
            };
            // What is not kept is read meanwhile; if that is too early, its version does not fit.
            let unkept = self.shelf.unkept_of(keys);
            let (read, (is_current, found)) = tokio::join!(self.ask(&unkept), looking);
            if !is_current {
                return Ok(None);
            }
            let Some(found) = found else { continue };
            let mut known: HashMap<&Key, Option<Stored>> = unkept.iter().zip(read?).collect();
            let missing = found.missing(keys);
            let rest: Vec<Key> = missing.iter().filter(|key| !known.contains_key(key)).cloned().collect();
            known.extend(rest.iter().zip(self.ask(&rest).await?));
            let read: Vec<Option<Stored>> = missing.iter().map(|key| known.get(key).cloned().flatten()).collect();
            let fresh: Vec<Stored> = read.iter().flatten().cloned().collect();
            match found.complete(read) {
                Ok(answers) => {
                    self.shelf.counters.hits.add(keys.len() - missing.len());
                    self.shelf.counters.misses.add(missing.len());
                    self.keep(fresh);
                    return Ok(Some(answers));
                }
                // It may have changed in between: then the feed tells, and it is another version that does not fit.
                Err(again) if misfit == Some(again) => {
                    self.shelf.contradict(keys, again);
                    return Ok(None);
                }
                Err(first) => misfit = Some(first),
            }
        }
        Ok(None)
    }

    async fn ask(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        if keys.is_empty() { Ok(Vec::new()) } else { self.primary.get(keys).await }
    }

    async fn search(&self, search: &Search) -> Option<Result<Vec<Hit>>> {
        for attempt in 0..ATTEMPTS {
            let contents = self.shelf.cursor().generation;
            // It searches while the primary looks into its feed.
            let at_once = async { self.shelf.search_at_once(search) };
            let (is_current, found) = tokio::join!(self.is_current(attempt > 0), at_once);
            if !is_current {
                return None;
            }
            if found.is_some() && self.shelf.cursor().generation == contents {
                return found;
            }
            let search = search.clone();
            if let Some(found) = self.local(move |shelf| shelf.search(&search)).await.flatten() {
                return Some(found);
            }
        }
        None
    }
}

/// A write through the cache: whatever comes of it, the next read asks the feed.
struct Write<'a, P>(&'a Inner<P>);

impl<P> Drop for Write<'_, P> {
    fn drop(&mut self) {
        self.0.follower.wrote();
        self.0.wake.notify_one();
    }
}

fn is_told(change: &Change) -> bool {
    match change {
        Change::Put(record) => record.key().kind().in_feed(),
        Change::Add(_) => false,
        Change::Delete(key) => key.kind().in_feed(),
    }
}

impl<P: fmt::Display> fmt::Display for HotCache<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HotCache({})", self.inner.primary)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: MemoryStore> MemoryStore for HotCache<P> {
    fn info(&self) -> StoreInfo {
        self.inner.primary.info()
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        let known = self.inner.shelf.cursor().version;
        let _write = batch.changes.iter().any(is_told).then(|| Write(&self.inner));
        let done = self.inner.primary.commit(batch).await?;
        if done.version < known {
            // Versions do not go back: this is another primary, or another state of it.
            self.inner.shelf.fall_behind();
        }
        Ok(done)
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        if !keys.is_empty() && keys.iter().all(|key| is_kept(key.kind())) {
            if let Some(answers) = self.inner.get(keys).await? {
                return Ok(answers);
            }
            self.inner.shelf.counters.passed_on.add(1);
        }
        self.inner.primary.get(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.inner.primary.scan(scan).await
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        if let Some(found) = self.inner.search(search).await {
            self.inner.shelf.counters.searches.add(1);
            return found.map_err(|error| error.in_operation("search"));
        }
        self.inner.shelf.counters.passed_on.add(1);
        self.inner.primary.search(search).await
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.inner.primary.changes(since, limit).await
    }

    async fn health(&self) -> Result<StoreHealth> {
        let mut health = self.inner.primary.health().await?;
        health.degraded = joined(self.inner.shelf.degraded().into_iter().chain(health.degraded));
        Ok(health)
    }

    async fn close(&self) -> Result<()> {
        self.inner.local(Shelf::close).await;
        self.inner.wake.notify_one();
        self.inner.primary.close().await
    }
}
