//! Trying again what may succeed later.
//!
//! The pauses are not backon's: there, jitter is added to the delay after the delay was bounded, and is never more than the first
//! delay, so that callers who failed together stay together.

mod budget;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use memory_core::{Error, Result};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use crate::check::{TIMES, within};
use crate::decorate::{Operation, decorate};
use budget::Budget;

/// When to try again, and when to give up.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `attempts` | 4 | 1 ..= 100 |
/// | `first_pause` | 50 ms | 1 ms ..= `max_pause` |
/// | `max_pause` | 2 s | 1 ms ..= 1 day |
/// | `total` | 30 s | 1 ms ..= 1 day |
/// | `budget_percent` | 20 | 0 ..= 10,000 |
/// | `budget_reserve` | 100 | 0 ..= 1,000,000 |
/// | `seed` | none: from the operating system | |
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// How often a call is made at most, the first time included.
    pub attempts: u32,
    /// The longest pause after the first failure; twice as long after each one more.
    pub first_pause: Duration,
    /// The longest pause of all.
    pub max_pause: Duration,
    /// No attempt begins later than this after the first. One that is under way is not ended by it; see
    /// [`Timeout`](crate::Timeout).
    pub total: Duration,
    /// How many retries a hundred calls may cause in the long run, all calls together.
    pub budget_percent: u32,
    /// How many more may come at once, after a time without any.
    pub budget_reserve: u32,
    /// What the random part of the pauses is made from; the same seed gives the same ones.
    pub seed: Option<u64>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 4,
            first_pause: Duration::from_millis(50),
            max_pause: Duration::from_secs(2),
            total: Duration::from_secs(30),
            budget_percent: 20,
            budget_reserve: 100,
            seed: None,
        }
    }
}

impl RetryConfig {
    /// Sets how often a call is made at most.
    #[must_use]
    pub const fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the longest pause after the first failure, and the longest of all.
    #[must_use]
    pub const fn with_pauses(mut self, first: Duration, max: Duration) -> Self {
        (self.first_pause, self.max_pause) = (first, max);
        self
    }

    /// Sets how long after the first attempt the last one may begin.
    #[must_use]
    pub const fn with_total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Sets how many retries a hundred calls may cause, and how many more may come at once.
    #[must_use]
    pub const fn with_budget(mut self, percent: u32, reserve: u32) -> Self {
        (self.budget_percent, self.budget_reserve) = (percent, reserve);
        self
    }

    /// Sets the seed of the pauses.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    fn validate(&self) -> Result<()> {
        within("attempts", self.attempts, 1..=100)?;
        within("max_pause", self.max_pause, TIMES)?;
        within("first_pause", self.first_pause, *TIMES.start()..=self.max_pause)?;
        within("total", self.total, TIMES)?;
        within("budget_percent", self.budget_percent, 0..=10_000)?;
        within("budget_reserve", self.budget_reserve, 0..=1_000_000)
    }

    /// The longest pause after so many failures.
    fn ceiling(&self, failed: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failed - 1).unwrap_or(u32::MAX);
        self.first_pause.saturating_mul(doubled).min(self.max_pause)
    }
}

/// What a [`Retry`] has done.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryStats {
    /// Calls, each once, however often it was tried.
    pub calls: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Calls that were given up, for whatever reason.
    pub given_up: u64,
    /// Those of them for which the budget was used up.
    pub refused_by_budget: u64,
}

/// A store or an embedder whose calls are made again when they fail with a [temporary](Error::is_temporary) error.
///
/// - **Pauses** are random, between none and a bound that doubles with each failure up to `max_pause` (full jitter), so that
///   callers who failed together do not come back together.
/// - **Hints** ([`Error::retry_after`]) are kept: no attempt comes sooner. Where a hint asks for a longer pause than
///   `max_pause`, or for one beyond `total`, the call is given up at once.
/// - **A budget** for all calls together keeps retries from becoming a storm: each call pays in `budget_percent` of a
///   retry, each retry takes one out. When there is none left, calls are made once.
/// - **Given up**, the error is [persistent](Error::into_persistent), so that no other `Retry` begins anew; its message tells
///   after how many attempts, how long and why, and a hint stays in it.
///
/// # Commits
/// Every call of a store may be made again, commits too: puts and deletes are idempotent, and a batch that adds has a
/// condition. When an attempt was written and only its answer was lost, the next one meets its own batch:
///
/// - Without conditions, the batch is written again, with new versions. What others wrote in between is replaced: the
///   batch counts as written last.
/// - With a condition on what the batch itself changes, the answer is [`Conflict`](memory_core::ErrorKind::Conflict), though
///   the batch is there; the message says so. Who gets it reads again, as after every conflict. The engine does: recording,
///   steps, completions and projections that were written count once and succeed. `Memory::start` fails, and leaves an
///   open episode without steps that a sweep deletes; `Memory::delete` answers `NotFound`.
///
/// # Order
/// Outside [`Timeout`](crate::Timeout) and [`CircuitBreaker`](crate::CircuitBreaker): each attempt has its own time, each failed
/// attempt is told the breaker, and an open breaker, whose hint is longer than `max_pause`, ends the call at once. Only one in
/// a stack.
///
/// # Cancellation
/// Dropping a call drops the attempt that is under way, or ends its pause; no other follows.
#[derive(Debug)]
pub struct Retry<S> {
    inner: S,
    config: RetryConfig,
    random: Mutex<StdRng>,
    budget: Budget,
    calls: AtomicU64,
    retries: AtomicU64,
    given_up: AtomicU64,
    refused_by_budget: AtomicU64,
}

impl<S> Retry<S> {
    /// Tries calls of `inner` again.
    ///
    /// # Errors
    /// [`Invalid`](memory_core::ErrorKind::Invalid) for a setting out of its range; see [`RetryConfig`].
    pub fn new(inner: S, config: RetryConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            inner,
            config,
            random: Mutex::new(config.seed.map_or_else(rand::make_rng, StdRng::seed_from_u64)),
            budget: Budget::new(config.budget_percent, config.budget_reserve),
            calls: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            refused_by_budget: AtomicU64::new(0),
        })
    }

    /// What it has done.
    pub fn stats(&self) -> RetryStats {
        RetryStats {
            calls: self.calls.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
            refused_by_budget: self.refused_by_budget.load(Ordering::Relaxed),
        }
    }

    async fn run<T, F: Future<Output = Result<T>>>(&self, operation: Operation, call: impl Fn() -> F) -> Result<T> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.budget.pay_in();
        let begun = Instant::now();
        let mut failed = 0;
        loop {
            let error = match call().await {
                Err(error) if error.is_temporary() => error,
                Err(error) if failed > 0 => return Err(met_itself(operation, error)),
                done => return done,
            };
            failed += 1;
            let pause = self.pause(failed, begun.elapsed(), &error);
            let pause = pause.map_err(|why| self.give_up(error, failed, begun.elapsed(), &why))?;
            sleep(pause).await;
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long to wait after so many failures, or why not to try again.
    fn pause(&self, failed: u32, elapsed: Duration, error: &Error) -> Result<Duration, String> {
        let RetryConfig { attempts, max_pause, total, .. } = self.config;
        let hint = error.retry_after().unwrap_or_default();
        if failed >= attempts {
            return Err("no more are allowed".to_owned());
        }
        if hint > max_pause {
            return Err(format!("it may succeed after {hint:.1?}, and the longest pause is {max_pause:?}"));
        }
        let pause = self.between(hint, self.config.ceiling(failed).max(hint));
        if elapsed + pause > total {
            return Err(format!("the next would begin later than {total:.1?} after the first"));
        }
        if !self.budget.take_out() {
            self.refused_by_budget.fetch_add(1, Ordering::Relaxed);
            return Err("too many calls are being tried again".to_owned());
        }
        Ok(pause)
    }

    fn between(&self, shortest: Duration, longest: Duration) -> Duration {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(shortest..=longest)
    }

    fn give_up(&self, error: Error, failed: u32, elapsed: Duration, why: &str) -> Error {
        self.given_up.fetch_add(1, Ordering::Relaxed);
        let attempts = if failed == 1 { "attempt" } else { "attempts" };
        error.adding(format_args!("given up after {failed} {attempts} in {elapsed:.1?}: {why}")).into_persistent()
    }
}

/// Says that a batch may have met itself.
fn met_itself(operation: Operation, error: Error) -> Error {
    if operation == Operation::Commit && error.is_conflict() {
        return error.adding("an attempt before this one failed, and may have written the batch all the same");
    }
    error
}

decorate!(Retry);
