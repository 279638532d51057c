//! No more calls at once than a store or an embedder bears.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::check::{WAITS, within};
use crate::decorate::{Operation, decorate};

/// How many calls may be under way.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `at_once` | 64 | 1 ..= 100,000 |
/// | `waiting` | 256 | 0 ..= 100,000 |
/// | `max_wait` | 1 s | 0 ..= 1 day |
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkheadConfig {
    /// How many calls are let in at once.
    pub at_once: usize,
    /// How many more may wait to be let in.
    pub waiting: usize,
    /// How long each of them waits at most.
    pub max_wait: Duration,
}

impl Default for BulkheadConfig {
    fn default() -> Self {
        Self { at_once: 64, waiting: 256, max_wait: Duration::from_secs(1) }
    }
}

impl BulkheadConfig {
    /// Sets how many calls are let in at once.
    #[must_use]
    pub const fn with_at_once(mut self, at_once: usize) -> Self {
        self.at_once = at_once;
        self
    }

    /// Sets how many more may wait.
    #[must_use]
    pub const fn with_waiting(mut self, waiting: usize) -> Self {
        self.waiting = waiting;
        self
    }

    /// Sets how long each of them waits at most.
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    fn validate(&self) -> Result<()> {
        within("at_once", self.at_once, 1..=100_000)?;
        within("waiting", self.waiting, 0..=100_000)?;
        within("max_wait", self.max_wait, WAITS)
    }
}

/// What a [`Bulkhead`] sees.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkheadStats {
    /// Calls that are inside now.
    pub under_way: usize,
    /// Calls that wait now.
    pub waiting: usize,
    /// Calls that were refused.
    pub refused: u64,
}

/// A store or an embedder that is asked by so many at once and no more. Some more wait, in order; others, and those who have
/// waited too long, get [`Overloaded`](ErrorKind::Overloaded), which is temporary: nothing was done for them.
///
/// `close` is always let in.
///
/// # Order
/// Outside [`CircuitBreaker`](crate::CircuitBreaker), which must not take a refusal for a failure of what is inside. Outside
/// [`Retry`](crate::Retry), calls keep their place while they pause, and what is refused is not tried again; inside, only
/// attempts count, and refusals are.
///
/// # Cancellation
/// Dropping a call frees its place, inside or in the queue.
#[derive(Debug)]
pub struct Bulkhead<S> {
    inner: S,
    config: BulkheadConfig,
    inside: Semaphore,
    queue: Semaphore,
    refused: AtomicU64,
}

impl<S> Bulkhead<S> {
    /// Bounds the calls of `inner`.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a setting out of its range; see [`BulkheadConfig`].
    pub fn new(inner: S, config: BulkheadConfig) -> Result<Self> {
        config.validate()?;
        let (inside, queue) = (Semaphore::new(config.at_once), Semaphore::new(config.waiting));
        Ok(Self { inner, config, inside, queue, refused: AtomicU64::new(0) })
    }

    /// What it sees.
    pub fn stats(&self) -> BulkheadStats {
        BulkheadStats {
            under_way: self.config.at_once.saturating_sub(self.inside.available_permits()),
            waiting: self.config.waiting.saturating_sub(self.queue.available_permits()),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    async fn run<T, F: Future<Output = Result<T>>>(&self, operation: Operation, call: impl Fn() -> F) -> Result<T> {
        let _place = if operation == Operation::Close { None } else { Some(self.enter(operation).await?) };
        call().await
    }

    async fn enter(&self, operation: Operation) -> Result<SemaphorePermit<'_>> {
        // Places go to those who wait first: this finds one only if nobody does.
        if let Ok(place) = self.inside.try_acquire() {
            return Ok(place);
        }
        let Ok(_queued) = self.queue.try_acquire() else {
            return Err(self.refusal(operation, format_args!("and {} wait", self.config.waiting)));
        };
        match timeout(self.config.max_wait, self.inside.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(self.refusal(operation, format_args!("and none ended within {:?}", self.config.max_wait))),
        }
    }

    fn refusal(&self, operation: Operation, why: std::fmt::Arguments<'_>) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let message = format!("{}: {} calls are under way, {why}", operation.as_str(), self.config.at_once);
        Error::new(ErrorKind::Overloaded, message)
    }
}

decorate!(Bulkhead);
