//! How a cache is doing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_core::index::IndexStats;
use memory_core::{Error, Version};

/// Where a cache keeps what it holds.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum CacheMode {
    /// In its file: the next start is warm.
    Persistent,
    /// In the memory of this process, and gone with it. The error tells why its file cannot be used; there is none if no file
    /// was asked for.
    InMemory(Option<Arc<Error>>),
}

/// How a cache is doing. Numbers of events are counted since it was opened.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct CacheStats {
    /// Where it keeps what it holds.
    pub mode: CacheMode,
    /// Whether it answers. As long as it does not, because it is still warming up or lost its file, the primary answers all.
    pub ready: bool,
    /// The version of the primary of which it has heard everything.
    pub version: Version,
    /// Records read by key that it had.
    pub hits: u64,
    /// Records read by key that the primary was asked for.
    pub misses: u64,
    /// Searches that it answered.
    pub searches: u64,
    /// Reads by key of episodes and notes, and searches, that the primary answered as a whole, because the cache was not ready or
    /// could not catch up.
    pub passed_on: u64,
    /// Changes that the primary's feed told.
    pub changes: u64,
    /// Records that had to make room for others.
    pub evictions: u64,
    /// Records that were there for longer than the `ttl`.
    pub expirations: u64,
    /// How often all of it was thrown away and read again: its file was damaged, or the primary is not the one it was.
    pub rebuilds: u64,
    /// How often the index was persisted.
    pub snapshots: u64,
    /// Records that are kept whole.
    pub entries: u64,
    /// Bytes that these take in the file.
    pub bytes: u64,
    /// Vectors in memory.
    pub vectors: u64,
    /// Bytes that these take.
    pub vector_bytes: u64,
    /// What the index holds.
    pub index: IndexStats,
    /// What went wrong last, if anything did. No call failed because of it, unless the primary failed, too.
    pub last_error: Option<Arc<Error>>,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) searches: Counter,
    pub(super) passed_on: Counter,
    pub(super) changes: Counter,
    pub(super) evictions: Counter,
    pub(super) expirations: Counter,
    pub(super) rebuilds: Counter,
    pub(super) snapshots: Counter,
    last_error: Mutex<Option<Arc<Error>>>,
}

impl Counters {
    /// Keeps what went wrong.
    pub(super) fn failed(&self, error: Error) -> Arc<Error> {
        let error = Arc::new(error);
        *self.last_error_lock() = Some(Arc::clone(&error));
        error
    }

    pub(super) fn last_error(&self) -> Option<Arc<Error>> {
        self.last_error_lock().clone()
    }

    fn last_error_lock(&self) -> MutexGuard<'_, Option<Arc<Error>>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number of events.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, events: usize) {
        self.0.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
