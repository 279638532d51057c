//! Where a cache keeps what it holds, and what is done about a file that cannot be used.
//!
//! A file may be thrown away only if it is known to be the file of a cache: it opens, and says so. What cannot be opened at all may be
//! somebody's data and is moved aside; what is somebody else's is left alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory_core::Result;
use redb::backends::InMemoryBackend;

use super::stats::CacheMode;
use super::tables::{LAYOUT, Tables};
use crate::config::Check;
use crate::error::from_io;
use crate::file::{File, Options};
use crate::index_file;

/// Where a cache keeps what it holds.
#[derive(Debug)]
pub(super) enum Place {
    Memory,
    File(Arc<Path>),
}

/// Bytes of a file that redb keeps in memory. What is read the most are vectors, which the cache itself keeps.
const FILE_IN_MEMORY: usize = 8 << 20;

/// Bytes that redb keeps of what is in memory anyway.
const MEMORY_IN_MEMORY: usize = 1 << 20;

/// What errors call a place in memory.
const MEMORY: &str = "(memory)";

impl Place {
    /// Opens it; makes it if there is nothing.
    ///
    /// # Errors
    /// As [`File::open`].
    pub(super) fn open(&self) -> Result<Tables> {
        match self {
            Self::Memory => in_memory(),
            Self::File(path) => {
                let options = Options { cache_bytes: FILE_IN_MEMORY, check: Check::IfChanged.applies_to(path) };
                Ok(Tables::new(File::open(Arc::clone(path), &LAYOUT, options)?, true))
            }
        }
    }

    /// What errors call it.
    pub(super) fn name(&self) -> Arc<Path> {
        match self {
            Self::File(path) => Arc::clone(path),
            Self::Memory => Path::new(MEMORY).into(),
        }
    }

    /// Where that is, for people.
    pub(super) fn mode(&self) -> CacheMode {
        match self {
            Self::Memory => CacheMode::InMemory(None),
            Self::File(_) => CacheMode::Persistent,
        }
    }

    /// Moves a file that cannot be opened out of the way, in place of one that was moved there before.
    pub(super) fn put_aside(&self) -> Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        let mut aside = path.as_os_str().to_owned();
        aside.push(".damaged");
        let aside = PathBuf::from(aside);
        tracing::warn!(file = %path.display(), to = %aside.display(), "a file that cannot be opened is moved aside");
        std::fs::rename(path, aside).map_err(|error| from_io(path, error))
    }

    /// Throws a cache's own file away.
    pub(super) fn remove(&self) -> Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        index_file::remove(path);
        std::fs::remove_file(path).map_err(|error| from_io(path, error))
    }
}

/// A place in memory.
pub(super) fn in_memory() -> Result<Tables> {
    let options = Options { cache_bytes: MEMORY_IN_MEMORY, check: false };
    Ok(Tables::new(File::in_backend(InMemoryBackend::new(), MEMORY, &LAYOUT, options)?, false))
}
