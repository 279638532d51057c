//! Decorators one after the other.

use std::fmt::{Debug, Display};

use memory_core::Result;

use crate::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, RateLimit, RateLimitConfig, Retry, RetryConfig,
    Timeout, TimeoutConfig,
};

/// Decorates a store or an embedder, from the inside to the outside.
///
/// # Order
/// What is called last is outermost: it is asked first, and sees what those inside answer. This order is right for most:
///
/// ```
/// use memory_core::InMemoryStore;
/// use memory_resilience::{
///     BulkheadConfig, CircuitBreakerConfig, RateLimitConfig, ResilienceExt, RetryConfig, TimeoutConfig,
/// };
///
/// let stack = InMemoryStore::new()
///     .timeout(TimeoutConfig::default())? //                                   each attempt has its own time,
///     .circuit_breaker(CircuitBreakerConfig::default().with_name("server"))? // which the breaker hears of;
///     .rate_limit(RateLimitConfig::default())? //                              attempts are what a server counts;
///     .retry(RetryConfig::default())? //                                       an open breaker ends the attempts;
///     .bulkhead(BulkheadConfig::default())?; //                                and so many calls do all this at once.
/// assert_eq!(stack.to_string(), "Bulkhead(Retry(RateLimit(CircuitBreaker(Timeout(InMemoryStore)))))");
/// # Ok::<(), memory_core::Error>(())
/// ```
///
/// These stacks build and run, and do not what they seem to:
///
/// | stack | what goes wrong |
/// |---|---|
/// | `Timeout(Retry(…))` | all attempts and pauses share one limit: the first that hangs uses it up, and none follows |
/// | `Timeout(CircuitBreaker(…))` | a call that hangs is dropped before the breaker sees an error: it never opens |
/// | `CircuitBreaker(Retry(…))` | four failures look like one, so it opens late; and callers pause before a server that is known to be down |
/// | `CircuitBreaker(RateLimit(…))`, `CircuitBreaker(Bulkhead(…))` | refusals look like failures of the server: a rush of callers opens the breaker of a healthy one |
/// | `Retry(Retry(…))` | the outer one sees persistent errors and does nothing |
/// | a decorator twice, by a stack around a stack | pauses and limits add up; take one stack for one server |
pub trait ResilienceExt: Debug + Display + Send + Sync + Sized + 'static {
    /// See [`Retry`].
    ///
    /// # Errors
    /// As [`Retry::new`].
    fn retry(self, config: RetryConfig) -> Result<Retry<Self>> {
        Retry::new(self, config)
    }

    /// See [`CircuitBreaker`].
    ///
    /// # Errors
    /// As [`CircuitBreaker::new`].
    fn circuit_breaker(self, config: CircuitBreakerConfig) -> Result<CircuitBreaker<Self>> {
        CircuitBreaker::new(self, config)
    }

    /// See [`Timeout`].
    ///
    /// # Errors
    /// As [`Timeout::new`].
    fn timeout(self, config: TimeoutConfig) -> Result<Timeout<Self>> {
        Timeout::new(self, config)
    }

    /// See [`RateLimit`].
    ///
    /// # Errors
    /// As [`RateLimit::new`].
    fn rate_limit(self, config: RateLimitConfig) -> Result<RateLimit<Self>> {
        RateLimit::new(self, config)
    }

    /// See [`Bulkhead`].
    ///
    /// # Errors
    /// As [`Bulkhead::new`].
    fn bulkhead(self, config: BulkheadConfig) -> Result<Bulkhead<Self>> {
        Bulkhead::new(self, config)
    }
}

impl<S: Debug + Display + Send + Sync + 'static> ResilienceExt for S {}
