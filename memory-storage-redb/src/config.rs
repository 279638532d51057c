//! How a store is opened.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use memory_core::{Error, Result};

use crate::index_file;

/// Settings of a [`RedbStore`](crate::RedbStore). They are checked when the store is opened.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `busy_timeout` | 1 s | 0 s ..= 1 h |
/// | `readers` | 2 | 1..=64 |
/// | `cache_bytes` | 64 MiB | 1 MiB ..= 1 TiB |
/// | `check` | `Check::IfChanged` | |
///
/// ```
/// use memory_storage_redb::{Check, RedbConfig};
/// let config = RedbConfig::default().with_readers(4).with_cache_bytes(256 << 20).with_check(Check::Always);
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
    /// When all of the file is read and checked before it is used.
    pub check: Check,
}

/// When a file is read and checked as a whole while it is opened, which takes more than a second for each gigabyte.
///
/// What was not checked is checked when it is read, but not all of it: damage to a key can hide its record, and redb ends the
/// process when it meets damage in a few places of its own. After a crash the file is checked anyway.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Never.
    Never,
    /// If it is not as it was closed last: it has another size, or was changed at another time, than the store has noted then.
    /// Copies are checked unless they keep that time.
    #[default]
    IfChanged,
    /// Always: this also finds what a disk has silently lost.
    Always,
}

impl Check {
    /// Whether this file is checked now.
    pub(crate) fn applies_to(self, path: &Path) -> bool {
        match self {
            Self::Never => false,
            Self::IfChanged => !index_file::is_as_it_was_closed(path),
            Self::Always => true,
        }
    }
}

impl Default for RedbConfig {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(1), readers: 2, cache_bytes: 64 << 20, check: Check::default() }
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

    /// Sets when all of the file is checked.
    #[must_use]
    pub fn with_check(mut self, check: Check) -> Self {
        self.check = check;
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
