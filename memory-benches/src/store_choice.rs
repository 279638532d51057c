//! Which store is measured.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use memory_core::{InMemoryStore, MemoryStore, Result};
use memory_storage_redb::{HotCache, RedbStore};
use memory_storage_turso::TursoStore;

/// Where the memory is kept.
#[expect(clippy::exhaustive_enums, reason = "each is opened in its own way")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// In the memory of the process.
    Memory,
    /// In a libSQL file.
    Turso(PathBuf),
    /// In a redb file.
    Redb(PathBuf),
    /// In a libSQL file, behind a hot cache in a redb file.
    Cached(PathBuf, PathBuf),
}

/// What names no store.
#[non_exhaustive]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStore {
    /// A name of none.
    #[error("unknown; allowed: memory, turso:PATH, redb:PATH")]
    Unknown,
    /// A file without its path.
    #[error("a path is missing; allowed: {0}:PATH")]
    NoPath(&'static str),
    /// A cache before another store than a libSQL file.
    #[error("--cache goes with --store turso:PATH")]
    NoCache,
}

impl FromStr for StoreChoice {
    type Err = NoStore;

    fn from_str(text: &str) -> std::result::Result<Self, NoStore> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("memory", "") if text == "memory" => Ok(Self::Memory),
            ("turso", "") => Err(NoStore::NoPath("turso")),
            ("turso", path) => Ok(Self::Turso(path.into())),
            ("redb", "") => Err(NoStore::NoPath("redb")),
            ("redb", path) => Ok(Self::Redb(path.into())),
            _ => Err(NoStore::Unknown),
        }
    }
}

impl fmt::Display for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Turso(path) => write!(f, "turso:{}", path.display()),
            Self::Redb(path) => write!(f, "redb:{}", path.display()),
            Self::Cached(path, cache) => write!(f, "turso:{} behind redb:{}", path.display(), cache.display()),
        }
    }
}

impl StoreChoice {
    /// One of each kind, with its name; the files in this folder.
    pub fn each(folder: &Path) -> [(&'static str, Self); 4] {
        let file = |name| folder.join(name);
        [
            ("memory", Self::Memory),
            ("turso", Self::Turso(file("turso.db"))),
            ("redb", Self::Redb(file("store.redb"))),
            ("cached", Self::Cached(file("cached.db"), file("cache.redb"))),
        ]
    }

    /// Opens it; makes it if there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(&self) -> Result<Box<dyn MemoryStore>> {
        Ok(match self {
            Self::Memory => Box::new(InMemoryStore::new()),
            Self::Turso(path) => Box::new(TursoStore::open(path).await?),
            Self::Redb(path) => Box::new(RedbStore::open(path).await?),
            Self::Cached(path, cache) => Box::new(HotCache::open(TursoStore::open(path).await?, cache).await?),
        })
    }

    /// Gives the free pages of its file back to the disk, if it has one. Nobody may have it open.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn vacuum(&self) -> Result<()> {
        match self {
            Self::Memory => Ok(()),
            Self::Redb(path) => RedbStore::vacuum(path).await.map(drop),
            Self::Turso(path) | Self::Cached(path, _) => {
                let store = TursoStore::open(path).await?;
                store.vacuum().await?;
                store.close().await
            }
        }
    }

    /// The same behind a cache in this file, which only a libSQL file can have here.
    ///
    /// # Errors
    /// [`NoCache`](NoStore::NoCache) for a cache before another one.
    pub fn behind(&self, cache: Option<&Path>) -> std::result::Result<Self, NoStore> {
        match (self, cache) {
            (choice, None) => Ok(choice.clone()),
            (Self::Turso(path), Some(cache)) => Ok(Self::Cached(path.clone(), cache.to_owned())),
            _ => Err(NoStore::NoCache),
        }
    }

    /// Its file, if it has one; others of the same store have this name and an ending.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Memory => None,
            Self::Turso(path) | Self::Redb(path) | Self::Cached(path, _) => Some(path),
        }
    }

    /// The folder it is in; that of temporary files, if it is in none.
    pub fn folder(&self) -> PathBuf {
        match self.file().map(|file| file.parent().unwrap_or(Path::new(""))) {
            Some(folder) if folder.as_os_str().is_empty() => ".".into(),
            Some(folder) => folder.into(),
            None => std::env::temp_dir(),
        }
    }

    /// The bytes of all its files, if it has any.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn bytes(&self) -> std::io::Result<Option<u64>> {
        let Some(name) = self.file().and_then(Path::file_name) else { return Ok(None) };
        let mut bytes = match self {
            Self::Cached(_, cache) if cache.exists() => cache.metadata()?.len(),
            _ => 0,
        };
        for entry in std::fs::read_dir(self.folder())? {
            let entry = entry?;
            let found = entry.file_name();
            let ending = found.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
            if ending.is_some_and(|ending| matches!(ending, [] | [b'-', ..] | b".index")) {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_or_the_reason_is_told() {
        let choice = |text: &str| text.parse::<StoreChoice>();
        assert_eq!(choice("memory"), Ok(StoreChoice::Memory));
        assert_eq!(choice("turso:a:b"), Ok(StoreChoice::Turso("a:b".into())));
        for text in ["turso", "turso:"] {
            assert_eq!(choice(text), Err(NoStore::NoPath("turso")));
        }
        assert_eq!(choice("redb:x"), Ok(StoreChoice::Redb("x".into())));
        assert_eq!(choice("redb:"), Err(NoStore::NoPath("redb")));
        for text in ["", "memory:", "memory:x", "postgres:x"] {
            assert_eq!(choice(text), Err(NoStore::Unknown), "{text}");
        }
        let turso = choice("turso:a:b").unwrap();
        assert_eq!(turso.to_string(), "turso:a:b");
        assert_eq!(turso.behind(Some(Path::new("c"))).unwrap().to_string(), "turso:a:b behind redb:c");
        assert_eq!(choice("memory").unwrap().behind(Some(Path::new("c"))), Err(NoStore::NoCache));
    }

    #[test]
    fn all_files_of_a_store_count_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let choice = StoreChoice::Turso(folder.path().join("m.db"));
        for (name, bytes) in [("m.db", 3), ("m.db-wal", 20), ("m.db.index", 100), ("m.db.json", 400), ("other", 800)] {
            std::fs::write(folder.path().join(name), vec![0; bytes]).unwrap();
        }
        assert_eq!(choice.bytes().unwrap(), Some(123));
        let choice = choice.behind(Some(&folder.path().join("other"))).unwrap();
        assert_eq!(choice.bytes().unwrap(), Some(923), "its cache is one");
        assert_eq!(StoreChoice::Memory.bytes().unwrap(), None);
        assert_eq!(StoreChoice::Turso("m.db".into()).folder(), Path::new("."));
    }
}
