//! How a cache knows its primary again, and catches up with it.
//!
//! The file of a cache may be opened before another database, or before one that was restored from a backup. The versions of two
//! databases are numbers of one kind, so that nothing would fail: the cache would tell what is not there. So before it answers,
//! the primary must
//! - have a version that is not below that of the cache;
//! - tell the last 64 entries of the feed as it told them before, but for what has changed since;
//! - have the vector space that the cache remembers;
//! - have the versions that the cache knows of up to 17 records from all over it;
//! - have as many episodes and notes as the cache, if it does not change meanwhile.
//!
//! A primary can also be restored while the cache is open. So the first two are looked at from time to time, and at once when a
//! commit is acknowledged at a version that the cache had already.

use memory_core::{Changes, Error, ErrorKind, Key, MemoryStore, Result, StoreHealth, Stored, Version};

use super::Inner;
use super::shelf::Phase;
use super::state::State;

/// Records that are compared.
const SAMPLE: u32 = 16;

/// How often something may change while it is compared.
const ATTEMPTS: usize = 3;

/// How many stretches of the feed are read between two looks at how far that is.
const STRETCHES: usize = 64;

impl<P: MemoryStore> Inner<P> {
    /// Makes the cache ready to answer, in up to so many stretches of the feed; says whether it is.
    pub(super) async fn catch_up(&self, mut stretches: usize) -> Result<bool> {
        let _alone = self.catching_up.lock().await;
        let mut early = None;
        loop {
            match self.shelf.phase() {
                Phase::Ready => return Ok(true),
                Phase::Closed => return Ok(false),
                Phase::Lost(_) => {
                    // Both take their time.
                    let (_, health) = tokio::join!(self.local(|shelf| shelf.make()), self.primary.health());
                    early = Some(health?);
                }
                Phase::Behind => {}
            }
            if self.shelf.phase() != Phase::Behind {
                return Ok(false);
            }
            let met = self.meet(early.take()).await?;
            let stranger = match met {
                Err(stranger) => Some(stranger),
                Ok(health) if !self.read_on(&mut stretches, health.version).await? => return Ok(false),
                Ok(health) => self.compare(&health).await?,
            };
            let cursor = self.shelf.cursor();
            match stranger {
                Some(stranger) => self.shelf.disown(stranger),
                None if self.shelf.set_ready(&cursor) => return Ok(true),
                None => {}
            }
        }
    }

    /// Reads the feed to its end, or as many stretches as are left; says whether it reached the end.
    async fn read_on(&self, stretches: &mut usize, end: Version) -> Result<bool> {
        loop {
            let now = STRETCHES.min(*stretches);
            if self.rounds(now).await? {
                return Ok(true);
            }
            *stretches -= now;
            if *stretches == 0 || self.shelf.phase() != Phase::Behind {
                return Ok(false);
            }
            let (version, of) = (self.shelf.cursor().version.0, end.0);
            tracing::info!(version, of, "the cache is warming up; the primary answers meanwhile");
            self.local(|shelf| shelf.persist(false)).await;
        }
    }

    /// Looks whether it can be the primary that the cache remembers, whatever has changed since: how that is doing, or the error
    /// that says that it is another. How it was doing a moment ago may be known.
    async fn meet(&self, early: Option<StoreHealth>) -> Result<Result<StoreHealth, Error>> {
        // Before the primary is asked, which may go on meanwhile, but not back.
        let remembered = self.local(|shelf| shelf.remembered(0)).await.flatten();
        let remembered = remembered.map(|(state, _)| state).filter(|state| *state != State::default());
        let version = remembered.as_ref().map_or(Version(0), |state| state.version);
        let health = match early.filter(|early| early.version >= version) {
            Some(early) => early,
            None => self.primary.health().await?,
        };
        let Some(state) = remembered else { return Ok(Ok(health)) };
        if health.version < state.version {
            let why = format!("the primary is at version {}, the cache at {}", health.version.0, state.version.0);
            return Ok(Err(stranger(&why)));
        }
        if let Some(first) = state.tail.first() {
            let before = Version(first.version.0.saturating_sub(1));
            let told = self.primary.changes(before, 1_000).await?;
            if !tells_again(&state, &told) {
                return Ok(Err(stranger("the primary's feed tells another history")));
            }
        }
        Ok(Ok(health))
    }

    /// Looks again whether it is still the same primary, and gives the cache up if not.
    pub(super) async fn meet_again(&self) -> Result<()> {
        if let Err(stranger) = self.meet(None).await? {
            self.shelf.disown(stranger);
        }
        Ok(())
    }

    /// Compares what the cache has, once it has caught up, with the primary: the error if it is not the same.
    async fn compare(&self, health: &StoreHealth) -> Result<Option<Error>> {
        for _ in 0..ATTEMPTS {
            let version = self.shelf.cursor().version;
            let Some((state, sample)) = self.local(|shelf| shelf.remembered(SAMPLE)).await.flatten() else {
                return Ok(None);
            };
            let (mut keys, mut known): (Vec<Key>, Vec<Option<Version>>) =
                sample.into_iter().map(|(key, version)| (key, Some(version))).unzip();
            keys.push(Key::Space);
            known.push(state.space.as_ref().map(|stored| stored.version));
            let mut found = self.primary.get(&keys).await?;
            let versions = found.iter().map(|stored| stored.as_ref().map(|stored: &Stored| stored.version));
            let same = versions.eq(known) && found.pop().flatten() == state.space;
            if same && self.counts(health, version).await? {
                return Ok(None);
            }
            // It may have changed since.
            self.rounds(1).await?;
        }
        Ok(Some(stranger("the primary has other records")))
    }

    /// Whether the cache has as many records as the primary had, if that was at the same version.
    async fn counts(&self, health: &StoreHealth, version: Version) -> Result<bool> {
        let health = if health.version == version { health.clone() } else { self.primary.health().await? };
        let documents = self.local(|shelf| shelf.stats().index.documents).await;
        Ok(health.version != version || documents.is_none_or(|documents| documents == health.episodes + health.notes))
    }
}

fn stranger(why: &str) -> Error {
    Error::new(ErrorKind::Foreign, format!("the cache is of another database, or of another state of it: {why}"))
}

/// Whether a feed, read from before the first entry that is remembered, tells all of them again, and nothing else up to where they
/// end; what has changed since is told later.
fn tells_again(state: &State, told: &Changes) -> bool {
    let (earlier, later): (Vec<_>, Vec<_>) = told.entries.iter().partition(|entry| entry.version <= state.version);
    let whole = told.entries.len() < 1_000;
    let moved = |key: &Key| !whole || later.iter().any(|entry| entry.key == *key);
    earlier.iter().all(|entry| state.tail.iter().any(|known| known == *entry))
        && state.tail.iter().all(|known| earlier.contains(&known) || moved(&known.key))
}
