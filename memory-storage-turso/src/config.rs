//! How a store is opened.

use std::ops::RangeInclusive;
use std::time::Duration;

use memory_core::{Error, Result};

use crate::encryption::EncryptionKey;

/// Settings of a [`TursoStore`](crate::TursoStore). They are checked when the store is opened.
///
/// # Default
///
/// | setting | value | allowed |
/// |---|---|---|
/// | `busy_timeout` | 30 s | 0 s ..= 1 h |
/// | `readers` | 2 | 1..=64 |
/// | `max_waiting` | 10,000 | 1..=1,000,000 |
/// | `max_waiting_bytes` | 256 MiB | 1 MiB and more |
/// | `max_bytes` | none | 1 MiB and more |
/// | encryption key | none | 32 bytes (feature `encryption`) |
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
    /// How many writes, and how many reads, may wait at the same time. One more is refused as
    /// [`Overloaded`](memory_core::ErrorKind::Overloaded).
    pub max_waiting: usize,
    /// How many bytes the writes that wait may have together; the same then.
    pub max_waiting_bytes: usize,
    /// The quota: the size that the database file may reach, in bytes, without its write-ahead log. Beyond it commits fail as
    /// [`Full`](memory_core::ErrorKind::Full). What is derived, so that searches go on, may take 1 MiB more, beyond which they fail
    /// the same; a batch that deletes an episode or a note 2 MiB, so that there is a way back. A file that is larger already does not grow.
    pub max_bytes: Option<u64>,
    /// Not public, since there is no such type without the feature.
    pub(crate) encryption_key: Option<EncryptionKey>,
}

impl Default for TursoConfig {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(30),
            readers: 2,
            max_waiting: 10_000,
            max_waiting_bytes: 256 << 20,
            max_bytes: None,
            encryption_key: None,
        }
    }
}

impl TursoConfig {
    const BUSY_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
    const READERS: RangeInclusive<usize> = 1..=64;
    const WAITING: RangeInclusive<usize> = 1..=1_000_000;
    const LEAST_BYTES: u64 = 1 << 20;
    const LEAST_WAITING_BYTES: usize = 1 << 20;

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

    /// Sets how many requests may wait.
    #[must_use]
    pub fn with_max_waiting(mut self, max_waiting: usize) -> Self {
        self.max_waiting = max_waiting;
        self
    }

    /// Sets how many bytes of writes may wait.
    #[must_use]
    pub fn with_max_waiting_bytes(mut self, max_waiting_bytes: usize) -> Self {
        self.max_waiting_bytes = max_waiting_bytes;
        self
    }

    /// Sets the quota.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = Some(max_bytes);
        self
    }

    /// Encrypts the file, its write-ahead log, and backups of it, with this key. A file is encrypted from its beginning, with the
    /// same key for ever: see [the crate's page](crate#encryption).
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn with_encryption_key(mut self, encryption_key: crate::EncryptionKey) -> Self {
        self.encryption_key = Some(encryption_key);
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if !Self::BUSY_TIMEOUT.contains(&self.busy_timeout) {
            return Err(Error::invalid("busy_timeout", format_args!("{:?}", self.busy_timeout), "0s..=3600s"));
        }
        if !Self::READERS.contains(&self.readers) {
            return Err(Error::invalid("readers", self.readers, "1..=64"));
        }
        if !Self::WAITING.contains(&self.max_waiting) {
            return Err(Error::invalid("max_waiting", self.max_waiting, "1..=1000000"));
        }
        if self.max_waiting_bytes < Self::LEAST_WAITING_BYTES {
            let range = format_args!("{} and more", Self::LEAST_WAITING_BYTES);
            return Err(Error::invalid("max_waiting_bytes", self.max_waiting_bytes, range));
        }
        if let Some(bytes) = self.max_bytes.filter(|bytes| *bytes < Self::LEAST_BYTES) {
            return Err(Error::invalid("max_bytes", bytes, format_args!("{} and more", Self::LEAST_BYTES)));
        }
        Ok(())
    }
}
