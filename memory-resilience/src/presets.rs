//! Stacks that fit what they are around, to begin with.
//!
//! Each is a few lines of [`ResilienceExt`]: take them as an example where other settings fit better.

use std::time::Duration;

use memory_core::{Embedder, MemoryStore, Result};

use crate::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, ResilienceExt, Retry, RetryConfig, Timeout,
    TimeoutConfig,
};

/// What is around a store in a local file.
pub type LocalFile<S> = Retry<Timeout<S>>;

/// What is around a server.
pub type Server<S> = Bulkhead<Retry<CircuitBreaker<Timeout<S>>>>;

/// For a store in a local file: waits for others who write.
///
/// A file is busy for milliseconds, when other processes write: up to 8 attempts with pauses of 10 ms to 500 ms, within 5 s. A call
/// that takes longer than 30 s, because a disk hangs, is given up. No breaker: a file does not recover by being left
/// alone. No bulkhead: the stores of this project bound themselves what waits.
///
/// # Errors
/// None, with these settings.
pub fn local_file<S: MemoryStore>(store: S) -> Result<LocalFile<S>> {
    let pauses = (Duration::from_millis(10), Duration::from_millis(500));
    store.timeout(TimeoutConfig::default().with_limit(Duration::from_secs(30)))?.retry(
        RetryConfig::default()
            .with_attempts(8)
            .with_pauses(pauses.0, pauses.1)
            .with_total(Duration::from_secs(5))
            .with_budget(100, 1_000),
    )
}

/// For a store on a server: bridges glitches, and is quick to say when the server is down.
///
/// Each attempt has 10 s, a call up to 4 attempts with pauses up to 2 s, within 30 s. After 5 failures one after the other
/// within 60 s all calls fail at once, until after 30 s one tries again. 64 calls at once, 256 more wait up to 10 s.
///
/// `name` is what events and errors call it.
///
/// # Errors
/// [`Invalid`](memory_core::ErrorKind::Invalid) for an empty name, or one longer than 128 bytes.
pub fn remote_server<S: MemoryStore>(store: S, name: &str) -> Result<Server<S>> {
    server(store, name, Duration::from_secs(10), BulkheadConfig::default().with_max_wait(Duration::from_secs(10)))
}

/// For an embedder behind a server: as [`remote_server`], with less at once, since models work one after the other, and with more
/// time for each, since they may have to be loaded.
///
/// Each attempt has 30 s, and none begins later than 60 s after the first; 8 calls at once, 256 more wait up to 60 s. Rate limits of providers differ: put a
/// [`RateLimit`](crate::RateLimit) inside where there is one.
///
/// # Errors
/// [`Invalid`](memory_core::ErrorKind::Invalid) for an empty name, or one longer than 128 bytes.
pub fn embedder<E: Embedder>(embedder: E, name: &str) -> Result<Server<E>> {
    let bulkhead = BulkheadConfig::default().with_at_once(8).with_max_wait(Duration::from_secs(60));
    server(embedder, name, Duration::from_secs(30), bulkhead)
}

fn server<S: ResilienceExt>(inner: S, name: &str, limit: Duration, bulkhead: BulkheadConfig) -> Result<Server<S>> {
    inner
        .timeout(TimeoutConfig::default().with_limit(limit))?
        .circuit_breaker(CircuitBreakerConfig::default().with_name(name))?
        .retry(RetryConfig::default().with_total(Duration::from_secs(30).max(limit * 2)))?
        .bulkhead(bulkhead)
}

#[cfg(test)]
mod tests {
    use memory_core::{HashEmbedder, InMemoryStore};

    use super::*;

    #[test]
    fn presets_are_valid_and_say_what_they_are() {
        assert_eq!(local_file(InMemoryStore::new()).unwrap().to_string(), "Retry(Timeout(InMemoryStore))");
        let server = remote_server(InMemoryStore::new(), "server").unwrap();
        assert_eq!(server.to_string(), "Bulkhead(Retry(CircuitBreaker(Timeout(InMemoryStore))))");
        embedder(HashEmbedder::new(), "model").unwrap();
        assert!(remote_server(InMemoryStore::new(), "").unwrap_err().to_string().contains("name is \"\""));
    }
}
