//! How a server is reached.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use memory_core::{Error, Result};

use crate::TursoConfig;

/// Gives the token with which the store introduces itself to the server.
///
/// It is asked before the first request, and again when the server refuses the token it gave, as it does with one that has
/// expired. It is called on the store's own threads and may block. Closures that return a `Result<String>` are sources.
pub trait TokenSource: Send + Sync {
    /// A token that is valid now.
    ///
    /// # Errors
    /// Whatever keeps it from having one; the request fails with it.
    fn token(&self) -> Result<String>;
}

impl<F: Fn() -> Result<String> + Send + Sync> TokenSource for F {
    fn token(&self) -> Result<String> {
        self()
    }
}

/// Settings of a [`TursoStore`](crate::TursoStore) over a server. They are checked when the store is opened.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `store` | [`TursoConfig::default`], `max_bytes` unset | as there; `max_bytes` unset |
/// | `token` | none | |
/// | `timeout` | 30 s | 100 ms ..= 1 h |
/// | `attempts` | 6 | 1..=100 |
/// | `backoff` | 50 ms | 1 ms ..= 1 min |
///
/// ```
/// use std::time::Duration;
/// use memory_storage_turso::RemoteConfig;
/// let config = RemoteConfig::default().with_token("eyJ…").with_timeout(Duration::from_secs(5));
/// assert!(!format!("{config:?}").contains("eyJ"));
/// ```
#[non_exhaustive]
#[derive(Clone)]
pub struct RemoteConfig {
    /// Threads and queues of the store. `busy_timeout` is how long a commit waits for others that write.
    pub store: TursoConfig,
    /// Where tokens come from; `None` for a server that asks for none.
    pub token: Option<Arc<dyn TokenSource>>,
    /// The longest time that one request may take, its answer included.
    pub timeout: Duration,
    /// How often a request is sent at most, when the server cannot be reached or the connection to it is lost.
    pub attempts: u32,
    /// How long to wait before the second attempt; twice as long before each one after, up to two seconds.
    pub backoff: Duration,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            store: TursoConfig::default(),
            token: None,
            timeout: Duration::from_secs(30),
            attempts: 6,
            backoff: Duration::from_millis(50),
        }
    }
}

impl fmt::Debug for RemoteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, token, timeout, attempts, backoff } = self;
        f.debug_struct("RemoteConfig")
            .field("store", store)
            .field("token", &token.as_ref().map(|_| "…"))
            .field("timeout", timeout)
            .field("attempts", attempts)
            .field("backoff", backoff)
            .finish()
    }
}

impl RemoteConfig {
    const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
    const ATTEMPTS: RangeInclusive<u32> = 1..=100;
    const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
    const LONGEST_PAUSE: Duration = Duration::from_secs(2);

    /// Sets threads and queues.
    #[must_use]
    pub fn with_store(mut self, store: TursoConfig) -> Self {
        self.store = store;
        self
    }

    /// Sets a token that does not change.
    #[must_use]
    pub fn with_token(self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.with_token_source(move || Ok(token.clone()))
    }

    /// Sets where tokens come from.
    #[must_use]
    pub fn with_token_source(mut self, source: impl TokenSource + 'static) -> Self {
        self.token = Some(Arc::new(source));
        self
    }

    /// Sets the longest time that one request may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often a request is sent at most.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets how long to wait before the second attempt.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long to wait after so many failed attempts.
    pub(crate) fn pause(&self, failed: u32) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << failed.saturating_sub(1).min(16));
        doubled.min(Self::LONGEST_PAUSE.max(self.backoff))
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.store.validate()?;
        if let Some(bytes) = self.store.max_bytes {
            return Err(Error::invalid("max_bytes", bytes, "unset: the size of a server's database is the server's"));
        }
        if !Self::TIMEOUT.contains(&self.timeout) {
            return Err(Error::invalid("timeout", format_args!("{:?}", self.timeout), "100ms..=3600s"));
        }
        if !Self::ATTEMPTS.contains(&self.attempts) {
            return Err(Error::invalid("attempts", self.attempts, "1..=100"));
        }
        if !Self::BACKOFF.contains(&self.backoff) {
            return Err(Error::invalid("backoff", format_args!("{:?}", self.backoff), "1ms..=60s"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_two_seconds() {
        let config = RemoteConfig::default();
        let pauses: Vec<u128> = [1, 2, 3, 7, 100].map(|failed| config.pause(failed).as_millis()).into();
        assert_eq!(pauses, [50, 100, 200, 2_000, 2_000]);
        let slow = config.with_backoff(Duration::from_secs(5));
        assert_eq!(slow.pause(2), Duration::from_secs(5));
    }
}
