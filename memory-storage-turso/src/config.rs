//! How a store is opened.

use std::ops::RangeInclusive;
use std::time::Duration;

use memory_core::{Error, Result};

/// Settings of a [`TursoStore`](crate::TursoStore). They are checked when the store is opened.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `busy_timeout` | 30 s | 0 s ..= 1 h |
/// | `readers` | 2 | 1..=64 |
/// | `max_bytes` | none | 1 MiB and more |
///
/// ```
/// use memory_storage_turso::TursoConfig;
/// let config = TursoConfig::default().with_readers(4).with_max_bytes(1 << 30);
/// assert_eq!(config.max_bytes, Some(1_073_741_824));
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TursoConfig {
    /// How long to wait for another process that writes, before a call fails as
    /// [`Busy`](memory_core::ErrorKind::Busy).
    pub busy_timeout: Duration,
    /// How many threads read, each with a connection of its own.
    pub readers: usize,
    /// The quota: the size that the database file may reach, in bytes, without its write-ahead log. Beyond it commits fail as
    /// [`Full`](memory_core::ErrorKind::Full); a batch that deletes an episode may take 1 MiB more, so that there is a
    /// way back. A file that is larger already does not grow.
    pub max_bytes: Option<u64>,
}

impl Default for TursoConfig {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(30), readers: 2, max_bytes: None }
    }
}

impl TursoConfig {
    const BUSY_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
    const READERS: RangeInclusive<usize> = 1..=64;
    const LEAST_BYTES: u64 = 1 << 20;

    /// Sets how long to wait for another process that writes.
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

    /// Sets the quota.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = Some(max_bytes);
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if !Self::BUSY_TIMEOUT.contains(&self.busy_timeout) {
            return Err(Error::invalid("busy_timeout", format_args!("{:?}", self.busy_timeout), "0s..=3600s"));
        }
        if !Self::READERS.contains(&self.readers) {
            return Err(Error::invalid("readers", self.readers, "1..=64"));
        }
        if let Some(bytes) = self.max_bytes.filter(|bytes| *bytes < Self::LEAST_BYTES) {
            return Err(Error::invalid("max_bytes", bytes, format_args!("{} and more", Self::LEAST_BYTES)));
        }
        Ok(())
    }
}
