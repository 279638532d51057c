//! Searching: the hybrid index in memory, the vectors in the database, and both of one moment.
//!
//! The index holds words, one bit for each dimension of the vectors, and what filters ask; a search compares the full vectors
//! of only a few hundred records, and reads those by key from a table of their own. So 100,000 episodes take about 80 MB of
//! memory instead of 230.
//!
//! A reader must not see the index of one moment and the vectors of another. So a [`Searching`] holds the index together
//! with the tables of the read transaction that shows the very same state, and whoever writes exchanges both at once.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use memory_core::index::{Entry, HybridIndex, IndexStats};
use memory_core::{Error, ErrorKind, Hit, Key, Record, Result, Search, Vector, Version};
use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};

use crate::codec::{KeyBytes, decode_vector, encode_no_vector, encode_vector, key_bytes};
use crate::error::{from_redb, guarded};
use crate::tables::Moment;

/// The vectors of all records that are searched, by key; a row without floats for a record that has none, so that a missing row is
/// damage and not a record without a vector.
pub(crate) const VECTORS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("vectors");

/// The table of vectors in a read transaction.
pub(crate) type VectorTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Puts the vector of a record that is searched, or that it has none.
pub(crate) fn put_vector(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    key: &Key,
    vector: Option<&Vector>,
) -> Result<(), redb::StorageError> {
    let row = vector.map_or_else(|| encode_no_vector(key).to_vec(), |vector| encode_vector(key, vector));
    table.insert(&*key_bytes(key), &row[..]).map(drop)
}

/// Removes the vector of a record that is no more.
pub(crate) fn remove_vector(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    key: &Key,
) -> Result<(), redb::StorageError> {
    table.remove(&*key_bytes(key)).map(drop)
}

/// Reads the vector of a record that is searched; `None` if it has none.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) if nothing was put for it, or what is there is not what was put.
pub(crate) fn vector(
    path: &Path,
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &Key,
) -> Result<Option<Vector>> {
    let bytes: KeyBytes = key_bytes(key);
    let row = table.get(&*bytes).map_err(|error| from_redb(path, error))?;
    let row =
        row.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("the row for the vector of {key:?} is missing")))?;
    let row = row.value();
    if row == encode_no_vector(key) { Ok(None) } else { decode_vector(key, row).map(Some) }
}

/// What a record is in the index: without the vector, which the database has.
pub(crate) fn entry(record: &Record) -> Option<Entry> {
    Entry::of(record).map(Entry::without_vector)
}

/// One change that the index follows.
#[derive(Debug)]
pub(crate) enum Change {
    /// A record was put; its [`entry`] is given, if it is searched.
    Put(Version, Option<Box<Entry>>),
    /// A record is no more, or is not searched.
    Remove(Version, Key),
}

impl Change {
    /// Whether it is of a record that is searched.
    pub(crate) fn is_searched(&self) -> bool {
        match self {
            Self::Put(_, entry) => entry.is_some(),
            Self::Remove(_, key) => matches!(key, Key::Episode(_) | Key::Note(_)),
        }
    }

    /// Makes the index follow it.
    pub(crate) fn apply_to(self, index: &mut HybridIndex) {
        match self {
            Self::Put(version, Some(entry)) => index.put(version, *entry),
            // The key of what is never in the index: only the version counts.
            Self::Put(version, None) => index.remove(version, &Key::Space),
            Self::Remove(version, key) => index.remove(version, &key),
        }
    }
}

/// An index with the tables of the same moment.
pub(crate) struct Searching {
    path: Arc<Path>,
    state: RwLock<State>,
}

struct State {
    index: HybridIndex,
    tables: Arc<Moment>,
}

impl Searching {
    /// This index, and the tables of the moment it is of. The path is that of the database, for messages.
    pub(crate) fn new(path: Arc<Path>, index: HybridIndex, tables: Moment) -> Self {
        Self { path, state: RwLock::new(State { index, tables: Arc::new(tables) }) }
    }

    /// Follows changes, all at once: no reader sees some of them. `tables` show the state right after them. Versions rise.
    pub(crate) fn advance(&self, changes: impl IntoIterator<Item = Change>, tables: Moment) {
        let tables = Arc::new(tables);
        let mut state = self.write();
        changes.into_iter().for_each(|change| change.apply_to(&mut state.index));
        state.tables = tables;
    }

    /// Takes another index, and the tables of the moment it is of, in place of the present one.
    pub(crate) fn replace(&self, index: HybridIndex, tables: Moment) {
        let new = State { index, tables: Arc::new(tables) };
        // The old one is dropped when nobody waits.
        drop(std::mem::replace(&mut *self.write(), new));
    }

    /// The tables of the present moment, to read from as long as they are held.
    pub(crate) fn tables(&self) -> Arc<Moment> {
        Arc::clone(&self.read().tables)
    }

    /// What [`MemoryStore::search`](memory_core::MemoryStore::search) answers, for a search that was
    /// [validated](Search::validate). Writers wait meanwhile.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) for a damaged vector among those that are compared; errors of the database.
    pub(crate) fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        let state = self.read();
        let failed = RefCell::new(None);
        let hits = guarded(&self.path, || {
            let hits = state.index.search(search, |key| {
                let found = vector(&self.path, &state.tables.vectors, key);
                found.unwrap_or_else(|error| {
                    failed.borrow_mut().get_or_insert(error);
                    None
                })
            });
            Ok(hits)
        })?;
        failed.into_inner().map_or(Ok(hits), Err)
    }

    /// The version of the last change that the index was told.
    pub(crate) fn version(&self) -> Version {
        self.read().index.version()
    }

    /// What the index holds.
    pub(crate) fn stats(&self) -> IndexStats {
        self.read().index.stats()
    }

    /// The index as bytes. Writers wait meanwhile.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.read().index.to_bytes()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Searching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Searching").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
