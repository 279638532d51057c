//! No call takes longer than it may.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};

use crate::check::{TIMES, within};
use crate::decorate::{Operation, decorate};

/// How long calls may take.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `limit` | 10 s | 1 ms ..= 1 day |
/// | `close` | 60 s | 1 ms ..= 1 day |
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutConfig {
    /// For every call but `close`.
    pub limit: Duration,
    /// For `close`, which may have much to bring to an end.
    pub close: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self { limit: Duration::from_secs(10), close: Duration::from_secs(60) }
    }
}

impl TimeoutConfig {
    /// Sets how long every call but `close` may take.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how long `close` may take.
    #[must_use]
    pub const fn with_close(mut self, close: Duration) -> Self {
        self.close = close;
        self
    }
}

/// What a [`Timeout`] has seen.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutStats {
    /// Calls that took too long.
    pub timed_out: u64,
}

/// A store or an embedder of which no call takes longer than it may: it is then dropped, and answered with
/// [`TimedOut`](ErrorKind::TimedOut), which is temporary and names the call and the limit.
///
/// The limit is for all that the call does inside, the waiting there included. What was dropped may still go on elsewhere, on a
/// thread or at a server: of a `commit` nobody knows whether it was written.
///
/// # Order
/// Next to what may hang, inside [`Retry`](crate::Retry), so that each attempt has the limit for itself, and inside
/// [`CircuitBreaker`](crate::CircuitBreaker), so that it hears of what took too long.
///
/// # Cancellation
/// Dropping a call drops what is inside.
#[derive(Debug)]
pub struct Timeout<S> {
    inner: S,
    config: TimeoutConfig,
    timed_out: AtomicU64,
}

impl<S> Timeout<S> {
    /// Bounds the calls of `inner`.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a setting out of its range; see [`TimeoutConfig`].
    pub fn new(inner: S, config: TimeoutConfig) -> Result<Self> {
        within("limit", config.limit, TIMES)?;
        within("close", config.close, TIMES)?;
        Ok(Self { inner, config, timed_out: AtomicU64::new(0) })
    }

    /// What it has seen.
    pub fn stats(&self) -> TimeoutStats {
        TimeoutStats { timed_out: self.timed_out.load(Ordering::Relaxed) }
    }

    async fn run<T, F: Future<Output = Result<T>>>(&self, operation: Operation, call: impl Fn() -> F) -> Result<T> {
        let limit = if operation == Operation::Close { self.config.close } else { self.config.limit };
        tokio::time::timeout(limit, call()).await.unwrap_or_else(|_| Err(self.expired(operation, limit)))
    }

    fn expired(&self, operation: Operation, limit: Duration) -> Error {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
        Error::new(ErrorKind::TimedOut, format!("{} took longer than {limit:?}", operation.as_str()))
    }
}

decorate!(Timeout);
