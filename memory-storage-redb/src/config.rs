//! How a store is opened.

use std::ops::RangeInclusive;
use std::time::Duration;

use memory_core::{Error, Result};

/// Settings of a [`RedbStore`](crate::RedbStore). They are checked when the store is opened.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `busy_timeout` | 1 s | 0 s ..= 1 h |
/// | `readers` | 2 | 1..=64 |
/// | `cache_bytes` | 64 MiB | 1 MiB ..= 1 TiB |
/// | `check_on_open` | no | |
///
/// ```
/// use memory_storage_redb::RedbConfig;
/// let config = RedbConfig::default().with_readers(4).with_cache_bytes(256 << 20).with_check_on_open(true);
/// assert_eq!(config.cache_bytes, 268_435_456);
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedbConfig {
    /// How long to wait for whoever has the file open, before opening fails as [`Busy`](memory_core::ErrorKind::Busy). A store
    /// that was dropped and not [closed](memory_core::MemoryStore::close) has it open for a moment still.
    pub busy_timeout: Duration,
    /// How many threads read.
    pub readers: usize,
    /// How much memory pages of the file may take. A search is fastest when the vectors it compares are there: all of
    /// 100,000 episodes with 384 dimensions take about 160 MB.
    pub cache_bytes: usize,
    /// Whether all of the file is read and checked when it is opened. It takes about a second for each gigabyte, and then
    /// damage cannot hide a record; else only what is read is checked. After a crash the file is checked anyway.
    pub check_on_open: bool,
}

impl Default for RedbConfig {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(1), readers: 2, cache_bytes: 64 << 20, check_on_open: false }
    }
}

impl RedbConfig {
    const BUSY_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
    const READERS: RangeInclusive<usize> = 1..=64;
    const CACHE_BYTES: RangeInclusive<usize> = 1 << 20..=1 << 40;

    /// Sets how long to wait for whoever has the file open.
    #[must_use]
    pub fn with_busy_timeout(mut self, busy_timeout: Duration) -> Self {
        self.busy_timeout = busy_timeout;
        self
    }

    /// Sets how many threads read.
    #[must_use]
    pub fn with_readers(mut self, readers: usize) -> Self {
        self.readers = readers;
        self
    }

    /// Sets how much memory pages of the file may take.
    #[must_use]
    pub fn with_cache_bytes(mut self, cache_bytes: usize) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }

    /// Sets whether all of the file is checked when it is opened.
    #[must_use]
    pub fn with_check_on_open(mut self, check_on_open: bool) -> Self {
        self.check_on_open = check_on_open;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if !Self::BUSY_TIMEOUT.contains(&self.busy_timeout) {
            return Err(Error::invalid("busy_timeout", format_args!("{:?}", self.busy_timeout), "0s..=3600s"));
        }
        if !Self::READERS.contains(&self.readers) {
            return Err(Error::invalid("readers", self.readers, "1..=64"));
        }
        if !Self::CACHE_BYTES.contains(&self.cache_bytes) {
            return Err(Error::invalid("cache_bytes", self.cache_bytes, "1048576..=1099511627776"));
        }
        Ok(())
    }
}
