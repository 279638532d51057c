//! How a cache is opened.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use memory_core::{Clock, Error, Result, SystemClock};

/// Whether opening a cache waits until it holds everything that is searched.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WarmUp {
    /// Opening catches up on what a short look at the change feed tells; what is more is read beside the callers, whom the
    /// primary answers meanwhile.
    #[default]
    Background,
    /// Opening waits for all of it, however long that takes, and fails if the primary does.
    BeforeOpen,
}

/// Settings of a [`HotCache`](crate::HotCache). They are checked when the cache is opened.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `episodes` | 10,000 | 1..=1,000,000 |
/// | `bytes` | 64 MiB | 64 KiB ..= 64 GiB |
/// | `vector_bytes` | 192 MiB | 0 ..= 64 GiB |
/// | `ttl` | 1 h | 1 ms ..= 1 year |
/// | `staleness` | zero | 0 s ..= 1 h |
/// | `snapshot_changes` | 1,000 | 1 and more |
/// | `snapshot_interval` | 5 min | 1 ms ..= 1 day |
/// | `warm_up` | `Background` | |
/// | `clock` | the machine's | |
///
/// ```
/// use std::time::Duration;
/// use memory_storage_redb::CacheConfig;
/// let config = CacheConfig::default().with_episodes(50_000).with_staleness(Duration::from_millis(200));
/// assert_eq!((config.episodes, config.ttl), (50_000, Duration::from_secs(3_600)));
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// How many records, episodes and notes together, are kept whole. All that is searched is in the index, whatever this is.
    pub episodes: usize,
    /// How many bytes these records may take in the file.
    pub bytes: u64,
    /// How many bytes of memory vectors may take. The file has all of them; those in memory need not be read from it, a few
    /// hundred for each search by vector. 1,000 vectors of 384 dimensions are 1.7 MB.
    pub vector_bytes: u64,
    /// How long a record is answered from the cache after it was read from the primary, though nothing says that it changed.
    pub ttl: Duration,
    /// How old an answer may be. With zero every read asks the primary's change feed first, so that no answer is stale;
    /// otherwise only the first read after so long does. What was written through this cache is in every later answer all the
    /// same.
    pub staleness: Duration,
    /// After how many changes the index is persisted; in a large one, after a sixteenth of what it holds. What has changed since is
    /// read again when the cache was not closed in order.
    pub snapshot_changes: u64,
    /// How long it takes until it is persisted all the same, if at least one in 256 have changed. In the same rhythm what has expired is
    /// cleared away, what others wrote is caught up on though nobody reads, and the primary is looked at: whether it is the same.
    pub snapshot_interval: Duration,
    /// Whether opening waits until everything is there.
    pub warm_up: WarmUp,
    /// What time it is, for `ttl`.
    pub clock: Arc<dyn Clock>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            episodes: 10_000,
            bytes: 64 << 20,
            vector_bytes: 192 << 20,
            ttl: Duration::from_secs(3_600),
            staleness: Duration::ZERO,
            snapshot_changes: 1_000,
            snapshot_interval: Duration::from_secs(300),
            warm_up: WarmUp::Background,
            clock: Arc::new(SystemClock),
        }
    }
}

impl CacheConfig {
    const EPISODES: RangeInclusive<usize> = 1..=1_000_000;
    const BYTES: RangeInclusive<u64> = 64 << 10..=64 << 30;
    const VECTOR_BYTES: RangeInclusive<u64> = 0..=64 << 30;
    const TTL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(365 * 86_400);
    const STALENESS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
    const SNAPSHOT_CHANGES: RangeInclusive<u64> = 1..=u64::MAX;
    const SNAPSHOT_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

    /// Sets how many records are kept whole.
    #[must_use]
    pub fn with_episodes(mut self, episodes: usize) -> Self {
        self.episodes = episodes;
        self
    }

    /// Sets how many bytes of the file records may take.
    #[must_use]
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets how many bytes of memory vectors may take.
    #[must_use]
    pub fn with_vector_bytes(mut self, vector_bytes: u64) -> Self {
        self.vector_bytes = vector_bytes;
        self
    }

    /// Sets how long a record is answered from the cache.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how old an answer may be.
    #[must_use]
    pub fn with_staleness(mut self, staleness: Duration) -> Self {
        self.staleness = staleness;
        self
    }

    /// Sets after how many changes the index is persisted.
    #[must_use]
    pub fn with_snapshot_changes(mut self, snapshot_changes: u64) -> Self {
        self.snapshot_changes = snapshot_changes;
        self
    }

    /// Sets how long changes stay without being persisted.
    #[must_use]
    pub fn with_snapshot_interval(mut self, snapshot_interval: Duration) -> Self {
        self.snapshot_interval = snapshot_interval;
        self
    }

    /// Sets whether opening waits until everything is there.
    #[must_use]
    pub fn with_warm_up(mut self, warm_up: WarmUp) -> Self {
        self.warm_up = warm_up;
        self
    }

    /// Sets what tells the time.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        within("episodes", self.episodes, &Self::EPISODES)?;
        within("bytes", self.bytes, &Self::BYTES)?;
        within("vector_bytes", self.vector_bytes, &Self::VECTOR_BYTES)?;
        within("ttl", self.ttl, &Self::TTL)?;
        within("staleness", self.staleness, &Self::STALENESS)?;
        within("snapshot_changes", self.snapshot_changes, &Self::SNAPSHOT_CHANGES)?;
        within("snapshot_interval", self.snapshot_interval, &Self::SNAPSHOT_INTERVAL)
    }
}

fn within<T: PartialOrd + std::fmt::Debug>(field: &str, value: T, range: &RangeInclusive<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(field, format_args!("{value:?}"), format_args!("{range:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_its_range_is_named_with_it() {
        let config = CacheConfig::default;
        config().validate().unwrap();
        let cases = [
            (config().with_episodes(0), "episodes is 0; allowed: 1..=1000000"),
            (config().with_bytes(9), "bytes is 9; allowed: 65536..=68719476736"),
            (config().with_vector_bytes(u64::MAX), "vector_bytes is 18446744073709551615; allowed: 0..=68719476736"),
            (config().with_ttl(Duration::ZERO), "ttl is 0ns; allowed: 1ms..=31536000s"),
            (config().with_staleness(Duration::from_secs(3_601)), "staleness is 3601s; allowed: 0ns..=3600s"),
            (config().with_snapshot_changes(0), "snapshot_changes is 0; allowed: 1..=18446744073709551615"),
            (
                config().with_snapshot_interval(Duration::from_secs(86_401)),
                "snapshot_interval is 86401s; allowed: 1ms..=86400s",
            ),
        ];
        for (config, message) in cases {
            assert_eq!(config.validate().unwrap_err().to_string(), format!("invalid value: {message}"));
        }
    }
}
