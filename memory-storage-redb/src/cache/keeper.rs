//! What is done beside the callers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use memory_core::{MemoryStore, Result};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::Inner;
use super::shelf::Phase;

/// How long writes are let come together before they are followed: one look at the feed serves many.
const BREATH: Duration = Duration::from_millis(20);

/// How long to wait when the primary fails.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a cache up to date until it is closed or dropped.
pub(super) async fn keep<P: MemoryStore>(cache: Weak<Inner<P>>, wake: Arc<Notify>, interval: Duration) {
    let mut round = Instant::now() + interval;
    let mut next = round;
    loop {
        let woken = timeout_at(next, wake.notified()).await.is_ok();
        if woken {
            sleep(BREATH).await;
        }
        let Some(cache) = cache.upgrade() else { return };
        if cache.shelf.phase() == Phase::Closed {
            return;
        }
        let whole = Instant::now() >= round;
        if whole {
            round = Instant::now() + interval;
        }
        next = if cache.tend(whole).await { round } else { round.min(Instant::now() + PATIENCE) };
    }
}

impl<P: MemoryStore> Inner<P> {
    /// Does what is to be done; of what need not be done often, too, if that is asked for. Says whether all went well.
    async fn tend(&self, whole: bool) -> bool {
        let current = self.see_to_it(whole).await.unwrap_or_else(|error| {
            self.shelf.counters.failed(error);
            false
        });
        let kept = self.local(move |shelf| {
            if whole {
                shelf.expire();
            }
            shelf.persist(whole);
        });
        kept.await.is_some() && current
    }

    /// Sees to it that the cache is of its primary, and up to date.
    async fn see_to_it(&self, whole: bool) -> Result<bool> {
        if whole && self.shelf.phase() == Phase::Ready {
            self.meet_again().await?;
        }
        if self.shelf.phase() == Phase::Ready { Ok(self.follow().await) } else { self.catch_up(usize::MAX).await }
    }
}
