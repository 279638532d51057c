//! Vectors of texts that were asked before.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lru::LruCache;
use memory_core::{Embedder, Error, Result, Role, Vector, VectorSpace};
use tokio::sync::watch;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::asking::ask;

/// Bounds of a [`CachedEmbedder`]. They are checked when it is made.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `entries` | 10,000 | 1 or more |
/// | `bytes` | 64 MiB | room for one vector or more |
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Vectors that are kept at most.
    pub entries: usize,
    /// Bytes that these take at most.
    pub bytes: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { entries: 10_000, bytes: 64 << 20 }
    }
}

impl CacheConfig {
    /// Sets [`entries`](Self::entries).
    #[must_use]
    pub const fn with_entries(mut self, entries: usize) -> Self {
        self.entries = entries;
        self
    }

    /// Sets [`bytes`](Self::bytes).
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    fn validate(&self, vector: usize) -> Result<()> {
        if self.entries == 0 {
            return Err(Error::invalid("cache.entries", 0, "1 or more"));
        }
        if self.bytes < vector {
            let range = format_args!("{vector} or more, which one vector takes").to_string();
            return Err(Error::invalid("cache.bytes", self.bytes, range));
        }
        Ok(())
    }
}

/// How a [`CachedEmbedder`] is doing. Numbers of events are counted since it was made.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Texts whose vector it had, or that another call, or the same one, had asked for already.
    pub hits: u64,
    /// Texts that the embedder was asked for.
    pub misses: u64,
    /// Vectors that had to make room for others.
    pub evictions: u64,
    /// Vectors that are kept.
    pub entries: usize,
    /// Bytes that these take.
    pub bytes: usize,
}

/// An embedder that keeps the vectors of the texts asked last. Calls at once for the same text ask once. Errors are not kept.
///
/// Texts are told apart by a 128-bit hash of space, role and text, and are not kept themselves.
///
/// # Cancellation
/// If the call that asks is dropped, or fails, those that waited for it ask by themselves.
///
/// # Order
/// Outside of [`BatchingEmbedder`](crate::BatchingEmbedder), so that hits do not wait for a batch; outside of retries.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use memory_core::{Embedder, HashEmbedder, Role};
/// use memory_embed::{CacheConfig, CachedEmbedder};
/// let embedder = CachedEmbedder::new(HashEmbedder::new(), CacheConfig::default())?;
/// embedder.embed(Role::Query, &["log in", "log in"]).await?;
/// embedder.embed(Role::Query, &["log in"]).await?;
/// assert_eq!((embedder.stats().misses, embedder.stats().hits), (1, 2));
/// # Ok::<(), memory_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct CachedEmbedder<E> {
    inner: E,
    /// A seed for texts of each role, from the space.
    seeds: [u64; 2],
    shelf: Mutex<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    vectors: LruCache<u128, Vector>,
    /// What is being asked for; the channels close when it is there, or will not be.
    flights: HashMap<u128, watch::Receiver<()>>,
    config: CacheConfig,
    stats: CacheStats,
}

/// What a vector takes beside its numbers: key, place in the table and in the list, header.
const OVERHEAD: usize = 128;

fn cost(dimensions: usize) -> usize {
    dimensions * size_of::<f32>() + OVERHEAD
}

impl<E: Embedder> CachedEmbedder<E> {
    /// The embedder with a cache of these bounds.
    ///
    /// # Errors
    /// [`Invalid`](memory_core::ErrorKind::Invalid) for bounds that leave no room for a vector.
    pub fn new(inner: E, config: CacheConfig) -> Result<Self> {
        config.validate(cost(inner.space().dimensions))?;
        let space = xxh3_64(format!("{:?}", inner.space()).as_bytes());
        let (vectors, flights) = (LruCache::unbounded(), HashMap::new());
        let shelf = Mutex::new(Shelf { vectors, flights, config, stats: CacheStats::default() });
        Ok(Self { inner, seeds: [space, !space], shelf })
    }
}

impl<E> CachedEmbedder<E> {
    /// The embedder that is asked for what is not there.
    pub fn get_ref(&self) -> &E {
        &self.inner
    }

    /// How it is doing.
    pub fn stats(&self) -> CacheStats {
        let shelf = self.shelf();
        CacheStats { entries: shelf.vectors.len(), ..shelf.stats }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, role: Role, text: &str) -> u128 {
        let seed = match role {
            Role::Query => self.seeds[0],
            Role::Document => self.seeds[1],
        };
        xxh3_128_with_seed(text.as_bytes(), seed)
    }

    /// What is there goes to `known`. The rest is to be asked for, each text once, or to be waited for, if that is wished.
    fn look<'t>(
        &self,
        keys: &[u128],
        texts: &[&'t str],
        known: &mut HashMap<u128, Vector>,
        may_wait: bool,
    ) -> Flight<'_, 't> {
        let mut flight = Flight { shelf: &self.shelf, keys: vec![], texts: vec![], waits: vec![], landing: None };
        let (mut shelf, mut seen) = (self.shelf(), HashSet::new());
        for (key, text) in keys.iter().zip(texts) {
            if known.contains_key(key) || !seen.insert(*key) {
                continue;
            }
            if let Some(vector) = shelf.vectors.get(key) {
                known.insert(*key, vector.clone());
            } else if let Some(wait) = shelf.flights.get(key).filter(|_| may_wait) {
                flight.waits.push(wait.clone());
            } else {
                flight.keys.push(*key);
                flight.texts.push(text);
            }
        }
        if may_wait && !flight.keys.is_empty() {
            let (landing, landed) = watch::channel(());
            shelf.flights.extend(flight.keys.iter().map(|key| (*key, landed.clone())));
            flight.landing = Some(landing);
        }
        flight
    }
}

impl Shelf {
    fn put(&mut self, key: u128, vector: &Vector) {
        if self.vectors.put(key, vector.clone()).is_none() {
            self.stats.bytes += cost(vector.dimensions());
        }
        while self.vectors.len() > self.config.entries || self.stats.bytes > self.config.bytes {
            let Some((_, old)) = self.vectors.pop_lru() else { break };
            self.stats.bytes -= cost(old.dimensions());
            self.stats.evictions += 1;
        }
    }
}

/// Texts that one call asks for, and others may wait for. It ends when it is dropped, whatever came of it.
struct Flight<'a, 't> {
    shelf: &'a Mutex<Shelf>,
    keys: Vec<u128>,
    texts: Vec<&'t str>,
    /// Flights of other calls that have what this one needs, too.
    waits: Vec<watch::Receiver<()>>,
    /// Closes when this is dropped; there, if others know of it.
    landing: Option<watch::Sender<()>>,
}

impl Drop for Flight<'_, '_> {
    fn drop(&mut self) {
        if self.landing.is_some() {
            let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
            self.keys.iter().for_each(|key| drop(shelf.flights.remove(key)));
        }
    }
}

impl<E: Embedder> CachedEmbedder<E> {
    /// Asks for what a flight is for, and keeps the answers.
    async fn fly(&self, role: Role, flight: &Flight<'_, '_>, known: &mut HashMap<u128, Vector>) -> Result<()> {
        if flight.texts.is_empty() {
            return Ok(());
        }
        self.shelf().stats.misses += count(flight.texts.len());
        let vectors = ask(&self.inner, role, &flight.texts).await?;
        let mut shelf = self.shelf();
        for (key, vector) in flight.keys.iter().zip(vectors) {
            shelf.put(*key, &vector);
            known.insert(*key, vector);
        }
        Ok(())
    }
}

fn count(texts: usize) -> u64 {
    u64::try_from(texts).unwrap_or(u64::MAX)
}

impl<E: fmt::Display> fmt::Display for CachedEmbedder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedEmbedder({})", self.inner)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<E: Embedder> Embedder for CachedEmbedder<E> {
    fn space(&self) -> &VectorSpace {
        self.inner.space()
    }

    async fn embed(&self, role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        let keys: Vec<u128> = texts.iter().map(|text| self.key(role, text)).collect();
        let (mut known, mut asked) = (HashMap::with_capacity(keys.len()), 0);
        // Whoever has waited once for another call in vain asks by itself.
        for may_wait in [true, false] {
            let mut flight = self.look(&keys, texts, &mut known, may_wait);
            asked += flight.texts.len();
            self.fly(role, &flight, &mut known).await?;
            let waits = std::mem::take(&mut flight.waits);
            drop(flight);
            for mut landed in waits {
                let _closed = landed.changed().await;
            }
        }
        self.shelf().stats.hits += count(texts.len() - asked);
        Ok(keys.iter().filter_map(|key| known.get(key).cloned()).collect())
    }

    async fn health(&self) -> Result<()> {
        self.inner.health().await
    }
}
