//! No more calls in a span of time than are allowed.
//!
//! The generic cell rate algorithm: one moment says all about a bucket of tokens. Not governor's: there, those who wait race for
//! the next token, without order or bound, by a timer that is not tokio's.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use crate::check::{TIMES, WAITS, within};
use crate::decorate::{Operation, decorate};

/// How many calls are allowed.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `calls` | 100 | 1 ..= 1,000,000 |
/// | `per` | 1 s | 1 ms ..= 1 day |
/// | `burst` | 100 | 1 ..= 1,000,000 |
/// | `max_wait` | 1 s | 0 ..= 1 day |
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitConfig {
    /// How many calls are allowed in the time `per`.
    pub calls: u32,
    /// See `calls`.
    pub per: Duration,
    /// How many may come at once, after a time without any.
    pub burst: u32,
    /// How long a call waits at most until it is allowed. What would have to wait longer is refused at once.
    pub max_wait: Duration,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self { calls: 100, per: Duration::from_secs(1), burst: 100, max_wait: Duration::from_secs(1) }
    }
}

impl RateLimitConfig {
    /// Sets how many calls are allowed in which time.
    #[must_use]
    pub const fn with_calls(mut self, calls: u32, per: Duration) -> Self {
        (self.calls, self.per) = (calls, per);
        self
    }

    /// Sets how many may come at once.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }

    /// Sets how long a call waits at most.
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    fn validate(&self) -> Result<()> {
        within("calls", self.calls, 1..=1_000_000)?;
        within("per", self.per, TIMES)?;
        within("burst", self.burst, 1..=1_000_000)?;
        within("max_wait", self.max_wait, WAITS)?;
        within("per / calls", self.per / self.calls, Duration::from_nanos(1)..=*TIMES.end())
    }
}

/// What a [`RateLimit`] sees.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimitStats {
    /// Calls that wait now until they are allowed.
    pub waiting: u32,
    /// Calls that have waited.
    pub delayed: u64,
    /// Calls that were refused.
    pub refused: u64,
}

/// A store or an embedder that is called so often in a span of time and no more. Calls beyond that wait in order, if they need
/// not wait too long; or else are refused with [`RateLimited`](ErrorKind::RateLimited), which is temporary and says when the
/// same call will be taken ([`Error::retry_after`]), if no other comes before it.
///
/// Calls are counted, not texts or records: an `embed` of a hundred texts is one. `close` is always let through.
///
/// # Order
/// Outside [`CircuitBreaker`](crate::CircuitBreaker), which must not take a refusal for a failure of what is inside. Inside
/// [`Retry`](crate::Retry) it counts attempts, which is what a server counts; outside, it counts calls.
///
/// # Cancellation
/// Dropping a call that waits takes it out of the queue, and those behind it move up.
#[derive(Debug)]
pub struct RateLimit<S> {
    inner: S,
    config: RateLimitConfig,
    bucket: Mutex<Bucket>,
    /// Held by the first of those who wait; the others wait for it, in order.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Bucket {
    /// The time between two calls at full rate.
    interval: Duration,
    /// How much earlier than that a call may come.
    tolerance: Duration,
    /// When the next call would come, if all came evenly.
    due: Instant,
    stats: RateLimitStats,
}

impl Bucket {
    /// How long a call must wait that comes now, after so many others that wait.
    fn wait(&self, waiting: u32) -> Duration {
        let now = Instant::now();
        let due = self.due.max(now) + self.interval * waiting;
        due.saturating_duration_since(now + self.tolerance)
    }

    fn take(&mut self) {
        self.due = self.due.max(Instant::now()) + self.interval;
    }
}

/// A call in the queue, until this is dropped.
struct Place<'a> {
    bucket: &'a Mutex<Bucket>,
    is_allowed: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut bucket = lock(self.bucket);
        bucket.stats.waiting -= 1;
        if self.is_allowed {
            bucket.take();
        }
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> RateLimit<S> {
    /// Limits the calls of `inner`. It begins with a full burst.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a setting out of its range; see [`RateLimitConfig`].
    pub fn new(inner: S, config: RateLimitConfig) -> Result<Self> {
        config.validate()?;
        let interval = config.per / config.calls;
        let tolerance = interval.saturating_mul(config.burst - 1);
        let bucket = Bucket { interval, tolerance, due: Instant::now(), stats: RateLimitStats::default() };
        Ok(Self { inner, config, bucket: Mutex::new(bucket), turn: tokio::sync::Mutex::default() })
    }

    /// What it sees.
    pub fn stats(&self) -> RateLimitStats {
        lock(&self.bucket).stats
    }

    async fn run<T, F: Future<Output = Result<T>>>(&self, operation: Operation, call: impl Fn() -> F) -> Result<T> {
        if operation != Operation::Close
            && let Some(place) = self.admit(operation)?
        {
            self.wait(place).await;
        }
        call().await
    }

    /// Lets a call through, or into the queue, or refuses it.
    fn admit(&self, operation: Operation) -> Result<Option<Place<'_>>> {
        let mut bucket = lock(&self.bucket);
        let wait = bucket.wait(bucket.stats.waiting);
        if wait.is_zero() && bucket.stats.waiting == 0 {
            bucket.take();
            return Ok(None);
        }
        if wait > self.config.max_wait {
            bucket.stats.refused += 1;
            return Err(self.refusal(operation, wait));
        }
        bucket.stats.waiting += 1;
        bucket.stats.delayed += 1;
        Ok(Some(Place { bucket: &self.bucket, is_allowed: false }))
    }

    /// Waits for its turn, and then until it is allowed.
    async fn wait(&self, mut place: Place<'_>) {
        let _turn = self.turn.lock().await;
        let wait = lock(&self.bucket).wait(0);
        if !wait.is_zero() {
            sleep(wait).await;
        }
        place.is_allowed = true;
        // While it is still its turn: the next one must find it taken.
        drop(place);
    }

    fn refusal(&self, operation: Operation, wait: Duration) -> Error {
        let RateLimitConfig { calls, per, max_wait, .. } = self.config;
        let message = format!(
            "{}: {calls} calls in {per:?} are allowed; this one would have to wait {wait:?}, longer than {max_wait:?}",
            operation.as_str()
        );
        Error::new(ErrorKind::RateLimited, message).with_retry_after(wait - max_wait)
    }
}

decorate!(RateLimit);
