//! How a cache keeps in step with its primary.
//!
//! The change feed says all there is to say: what changed after a version, up to another. A *round* reads the feed from where
//! the cache stands, reads the records that it names, and applies both at once. What is applied is one committed state of the
//! primary: each record must have exactly the version that the feed told; if one has changed again in between, the round begins
//! anew, and the feed tells that, too.
//!
//! A read must see every batch that was acknowledged before it began. So it may rely on a round only if that began after the read
//! did. Readers take a ticket when they come, and a number of them that wait share the next round; whoever gets the lock runs
//! it. One that is dropped leaves the lock to the next; whatever of its round is still under way is applied only if nothing
//! else was meanwhile ([`Cursor`](super::shelf::Cursor)).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::{FeedEntry, Key, MemoryStore, RecordKind, Result, Stored};
use tokio::time::Instant;

use super::Inner;
use super::shelf::{Phase, Told};

/// How many entries of the feed are read, and applied, at once.
const STRETCH: usize = 128;

/// How many stretches a reader waits for: some tens of milliseconds. What is more is read beside the callers.
const READERS: usize = 3;

/// Who waits for a round, and how the last one went.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// Tickets that were taken.
    taken: AtomicU64,
    turn: tokio::sync::Mutex<Turn>,
    fresh: Mutex<Fresh>,
}

#[derive(Debug, Default)]
struct Fresh {
    /// When the last round began that reached the end of the feed; `None` if something was written through the cache since.
    since: Option<Instant>,
    /// How often something was written through the cache.
    writes: u64,
}

#[derive(Debug, Default)]
struct Turn {
    /// The last ticket that was taken before the last round began.
    covered: u64,
    /// Whether that round reached the end of the feed.
    reached: bool,
}

impl Follower {
    /// Whether the end of the feed was reached less than so long ago, and nothing was written through the cache since.
    fn is_fresh(&self, staleness: Duration) -> bool {
        staleness > Duration::ZERO && self.fresh().since.is_some_and(|since| since.elapsed() < staleness)
    }

    /// Something was, or may have been, written through the cache: the next read asks the feed.
    pub(super) fn wrote(&self) {
        let mut fresh = self.fresh();
        fresh.since = None;
        fresh.writes += 1;
    }

    /// The end of the feed was reached in a round that began at this moment, after so many writes.
    fn reached(&self, began: Instant, writes: u64) {
        let mut fresh = self.fresh();
        if fresh.writes == writes {
            fresh.since = Some(began);
        }
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether records of this kind can be answered from the cache: those that the feed tells of, and that nothing outside the feed
/// must agree with. Watermarks are read in one state with patterns, which are not in the feed.
pub(super) const fn is_kept(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::Space | RecordKind::Episode | RecordKind::Note)
}

impl<P: MemoryStore> Inner<P> {
    /// Brings the cache to a state that has every batch acknowledged before this call; or that is as old as the settings allow,
    /// unless `now` is asked for. False if it cannot: then the primary must answer.
    pub(super) async fn is_current(&self, now: bool) -> bool {
        if self.shelf.phase() != Phase::Ready {
            return false;
        }
        if !now && self.follower.is_fresh(self.shelf.config.staleness) {
            return true;
        }
        self.follow().await
    }

    /// Sees to it that a round begins and ends, or shares one that others wait for; says whether it reached the end of the feed.
    pub(super) async fn follow(&self) -> bool {
        let ticket = self.follower.taken.fetch_add(1, Ordering::SeqCst) + 1;
        let mut turn = self.follower.turn.lock().await;
        if turn.covered >= ticket {
            return turn.reached;
        }
        let covered = self.follower.taken.load(Ordering::SeqCst);
        let (began, writes) = (Instant::now(), self.follower.fresh().writes);
        let reached = self.rounds(READERS).await.unwrap_or_else(|error| {
            self.shelf.counters.failed(error);
            false
        });
        *turn = Turn { covered, reached };
        drop(turn);
        if reached {
            self.follower.reached(began, writes);
        } else {
            self.shelf.fall_behind();
            self.wake.notify_one();
        }
        reached
    }

    /// Reads and applies up to so many stretches of the feed; says whether its end was reached.
    pub(super) async fn rounds(&self, most: usize) -> Result<bool> {
        let mut read = HashMap::new();
        for _ in 0..most {
            let cursor = self.shelf.cursor();
            let told = self.primary.changes(cursor.version, STRETCH).await?;
            if told.entries.is_empty() {
                if self.shelf.heard_nothing(&cursor, told.upto) {
                    return Ok(true);
                }
                continue;
            }
            if !self.read(&told.entries, &mut read).await? {
                continue;
            }
            let complete = told.entries.len() < STRETCH;
            let told = Told { cursor, changes: told, records: std::mem::take(&mut read), complete };
            if self.local(|shelf| shelf.apply(told)).await == Some(true) && complete {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the records of these entries, beside those that are read already. False if one of them is not, or no more, at the
    /// version that its entry tells.
    async fn read(&self, entries: &[FeedEntry], read: &mut HashMap<Key, Stored>) -> Result<bool> {
        let kept = || entries.iter().filter(|entry| !entry.deleted && is_kept(entry.key.kind()));
        let version = |read: &HashMap<Key, Stored>, key: &Key| read.get(key).map(|stored| stored.version);
        let wanted = kept().filter(|entry| version(read, &entry.key) != Some(entry.version));
        let wanted: Vec<Key> = wanted.map(|entry| entry.key.clone()).collect();
        if !wanted.is_empty() {
            let found = self.primary.get(&wanted).await?;
            for (key, stored) in wanted.into_iter().zip(found) {
                match stored {
                    Some(stored) => drop(read.insert(key, stored)),
                    None => drop(read.remove(&key)),
                }
            }
        }
        Ok(kept().all(|entry| version(read, &entry.key) == Some(entry.version)))
    }
}
