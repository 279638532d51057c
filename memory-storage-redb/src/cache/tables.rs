//! The file of a cache.
//!
//! | table | a row is |
//! |---|---|
//! | `primary` | what is remembered of the primary (one row) |
//! | `documents` | by key, a record that is searched: its version |
//! | `vectors` | by key, its vector; see [`VECTORS`] |
//! | `records` | by key, a record that is kept whole: when it was read, and its bytes |
//!
//! Every row has a checksum that also knows the key, so that one that was damaged, or is found where another should be, is not taken
//! for what was written. The index lies beside the file; see [`index_file`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use memory_core::index::HybridIndex;
use memory_core::{Error, ErrorKind, Key, Result, Stored, Vector, Version};
use redb::{
    AccessGuard, Durability, ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition,
    WriteTransaction,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::state::State;
use crate::codec::{self, key_bytes};
use crate::file::{File, Layout};
use crate::index_file;
use crate::searching::{self, VECTORS, VectorTable};

type Bytes = &'static [u8];
type ByKey = TableDefinition<'static, Bytes, Bytes>;

const PRIMARY: ByKey = TableDefinition::new("primary");
const DOCUMENTS: ByKey = TableDefinition::new("documents");
const RECORDS: ByKey = TableDefinition::new("records");

/// The one row of the table `primary`.
const STATE: &[u8] = b"state";

/// What such a file is.
pub(super) const LAYOUT: Layout = Layout {
    name: "hot cache",
    format: 1,
    tables: |transaction| {
        [PRIMARY, DOCUMENTS, VECTORS, RECORDS].into_iter().try_for_each(|table| transaction.open_table(table).map(drop))
    },
};

/// An open file, or the like in memory.
#[derive(Debug)]
pub(super) struct Tables {
    file: File,
    /// Whether it outlasts the process.
    persistent: bool,
    /// How often it was written.
    writes: AtomicU64,
}

/// One of so many writes is durable in any case: until then redb remembers something of each that is not.
const DURABLE_ONE_IN: u64 = 1_024;

/// A record that is kept whole, without its vector, which is kept for the search.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// When it was read from the primary.
    pub(super) read_at: DateTime<Utc>,
    /// By [`codec::encode`].
    bytes: Vec<u8>,
}

impl Tables {
    /// Those of this file.
    pub(super) fn new(file: File, persistent: bool) -> Self {
        Self { file, persistent, writes: AtomicU64::new(0) }
    }

    /// The present state.
    pub(super) fn reading(&self) -> Result<Reading<'_>> {
        let file = &self.file;
        let transaction = file.read()?;
        let table = |table: ByKey| transaction.open_table(table).map_err(|error| file.error(error));
        let (documents, vectors, records) = (table(DOCUMENTS)?, table(VECTORS)?, table(RECORDS)?);
        Ok(Reading { file, documents, vectors, records, transaction })
    }

    /// Makes changes together, or none; waits for others who write. They outlast the process with the next that are durable.
    pub(super) fn write<T>(&self, durability: Durability, work: impl FnOnce(&Writing<'_>) -> Result<T>) -> Result<T> {
        let file = &self.file;
        let due = (self.writes.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(DURABLE_ONE_IN);
        let durability = if due { Durability::Immediate } else { durability };
        file.write(durability, |transaction| work(&Writing { file, transaction }))
    }

    /// What the file remembers of the primary; nothing if it is empty.
    pub(super) fn state(&self) -> Result<State> {
        let transaction = self.file.read()?;
        let table = transaction.open_table(PRIMARY).map_err(|error| self.file.error(error))?;
        let found = table.get(STATE).map_err(|error| self.file.error(error))?;
        match found {
            Some(bytes) => State::from_bytes(bytes.value()),
            // It is written with every document.
            None if self.reading()?.sample(0)?.is_empty() => Ok(State::default()),
            None => Err(damaged("what is remembered of the primary")),
        }
    }

    /// The index as it was persisted last, if it is whole.
    pub(super) fn index(&self) -> Result<Option<HybridIndex>> {
        if self.persistent { index_file::read(&self.file) } else { Ok(None) }
    }

    /// Whether it outlasts the process.
    pub(super) fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Persists the index, and before it all that was written until now, with this state.
    pub(super) fn persist(&self, index: &[u8], state: &State) -> Result<()> {
        let token = self.write(Durability::Immediate, |writing| {
            writing.put_state(state)?;
            index_file::announce(&self.file, writing.transaction)
        })?;
        index_file::write(self.file.path(), token, index)
    }

    /// Ends in order: the next one who opens the file need not check it.
    pub(super) fn close(self) -> Result<()> {
        let path = Arc::clone(self.file.path());
        self.file.close()?;
        if self.persistent {
            index_file::stamp(&path);
        }
        Ok(())
    }
}

/// One state of the file.
pub(super) struct Reading<'a> {
    file: &'a File,
    documents: ReadOnlyTable<Bytes, Bytes>,
    vectors: VectorTable,
    records: ReadOnlyTable<Bytes, Bytes>,
    #[expect(dead_code, reason = "the tables are read in it")]
    transaction: ReadTransaction,
}

impl Reading<'_> {
    /// The version of a record that is searched.
    pub(super) fn document(&self, key: &Key) -> Result<Option<Version>> {
        document(self.file, &self.documents, key)
    }

    /// The vector of a record that is searched; `None` if it has none.
    pub(super) fn vector(&self, key: &Key) -> Result<Option<Vector>> {
        searching::vector(self.file.path(), &self.vectors, key)
    }

    pub(super) fn row(&self, key: &Key) -> Result<Option<Row>> {
        let found = self.records.get(&*key_bytes(key)).map_err(|error| self.file.error(error))?;
        found.map(|row| Row::from_bytes(row.value())).transpose()
    }

    /// All rows of records: the key, when it was read, and how many bytes it takes.
    pub(super) fn rows(&self) -> Result<Vec<(Key, DateTime<Utc>, u64)>> {
        let all = self.records.iter().map_err(|error| self.file.error(error))?;
        let row = |found: Result<Pair<'_>, StorageError>| {
            let (key, bytes) = found.map_err(|error| self.file.error(error))?;
            let row = Row::from_bytes(bytes.value())?;
            Ok((codec::key(key.value())?, row.read_at, row.len()))
        };
        all.map(row).collect()
    }

    /// Up to so many documents, and one, from all over the table.
    pub(super) fn sample(&self, most: u32) -> Result<Vec<(Key, Version)>> {
        let failed = |error| self.file.error(error);
        let ends = (self.documents.first().map_err(failed)?, self.documents.last().map_err(failed)?);
        let (Some((first, _)), Some((last, _))) = ends else { return Ok(Vec::new()) };
        let mut sample = Vec::new();
        for part in 0..=most {
            let from = between(first.value(), last.value(), (part, most));
            if let Some(found) = self.documents.range(&*from..).map_err(failed)?.next() {
                let (key, row) = found.map_err(failed)?;
                let key = codec::key(key.value())?;
                let version = version_of(&key, row.value())?;
                sample.push((key, version));
            }
        }
        sample.dedup();
        Ok(sample)
    }
}

type Pair<'a> = (AccessGuard<'a, Bytes>, AccessGuard<'a, Bytes>);

/// The bytes that lie so many parts of the way from some bytes to others. Their first 16 count.
fn between(first: &[u8], last: &[u8], (part, parts): (u32, u32)) -> Vec<u8> {
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |high| u128::from_be_bytes(*high));
    let (low, high) = (number(first), number(last));
    if part == parts {
        return last.to_vec();
    }
    let step = high.saturating_sub(low) / u128::from(parts);
    low.saturating_add(step.saturating_mul(part.into())).to_be_bytes().to_vec()
}

/// Changes that are made together.
pub(super) struct Writing<'a> {
    file: &'a File,
    transaction: &'a WriteTransaction,
}

impl Writing<'_> {
    fn table(&self, table: ByKey) -> Result<Table<'_, Bytes, Bytes>> {
        self.transaction.open_table(table).map_err(|error| self.file.error(error))
    }

    fn put(&self, table: &mut Table<'_, Bytes, Bytes>, key: &[u8], row: &[u8]) -> Result<()> {
        table.insert(key, row).map(drop).map_err(|error| self.file.error(error))
    }

    fn remove<'a>(&self, table: ByKey, keys: impl Iterator<Item = &'a Key>) -> Result<()> {
        let mut table = self.table(table)?;
        let mut remove = |key| table.remove(&*key_bytes(key)).map(drop).map_err(|error| self.file.error(error));
        keys.into_iter().try_for_each(&mut remove)
    }

    pub(super) fn put_state(&self, state: &State) -> Result<()> {
        self.put(&mut self.table(PRIMARY)?, STATE, &state.to_bytes()?)
    }

    pub(super) fn put_documents<'a>(
        &self,
        documents: impl Iterator<Item = (&'a Key, Version, Option<&'a Vector>)>,
    ) -> Result<()> {
        let (mut table, mut vectors) = (self.table(DOCUMENTS)?, self.table(VECTORS)?);
        for (key, version, vector) in documents {
            self.put(&mut table, &key_bytes(key), &document_bytes(key, version))?;
            searching::put_vector(&mut vectors, key, vector).map_err(|error| self.file.error(error))?;
        }
        Ok(())
    }

    pub(super) fn remove_documents<'a>(&self, keys: impl Iterator<Item = &'a Key> + Clone) -> Result<()> {
        self.remove(DOCUMENTS, keys.clone())?;
        self.remove(VECTORS, keys)
    }

    /// The versions of these records, as of this write.
    pub(super) fn documents<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Result<Vec<Option<Version>>> {
        let table = self.table(DOCUMENTS)?;
        keys.map(|key| document(self.file, &table, key)).collect()
    }

    pub(super) fn put_rows<'a>(&self, rows: impl Iterator<Item = (&'a Key, &'a Row)>) -> Result<()> {
        let mut table = self.table(RECORDS)?;
        rows.into_iter().try_for_each(|(key, row)| self.put(&mut table, &key_bytes(key), &row.to_bytes()))
    }

    pub(super) fn remove_rows<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Result<()> {
        self.remove(RECORDS, keys)
    }
}

impl Row {
    /// That of this record. `None` if it is too large to be kept.
    pub(super) fn of(stored: &Stored, read_at: DateTime<Utc>) -> Option<Self> {
        let encoded = codec::encode(&stored.record).ok()?;
        Some(Self { read_at, bytes: encoded.at(stored.version) })
    }

    /// How many bytes it takes in the file.
    pub(super) fn len(&self) -> u64 {
        (size_of::<i64>() + self.bytes.len()) as u64
    }

    pub(super) fn stored(&self, key: &Key, vector: Option<Vector>) -> Result<Stored> {
        codec::decode(key, &self.bytes, vector)
    }

    /// The moment needs no checksum: with another one the record is read again sooner or later, and nothing else.
    fn to_bytes(&self) -> Vec<u8> {
        [&self.read_at.timestamp_micros().to_le_bytes(), &*self.bytes].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (moment, bytes) = bytes.split_first_chunk().ok_or_else(|| damaged("a record"))?;
        let read_at = DateTime::from_timestamp_micros(i64::from_le_bytes(*moment)).unwrap_or_default();
        Ok(Self { read_at, bytes: bytes.to_vec() })
    }
}

fn document(file: &File, table: &impl ReadableTable<Bytes, Bytes>, key: &Key) -> Result<Option<Version>> {
    let found = table.get(&*key_bytes(key)).map_err(|error| file.error(error))?;
    found.map(|row| version_of(key, row.value())).transpose()
}

/// Version and checksum.
fn document_bytes(key: &Key, version: Version) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&version.0.to_le_bytes());
    bytes[8..].copy_from_slice(&checksum(key, version).to_le_bytes());
    bytes
}

fn version_of(key: &Key, bytes: &[u8]) -> Result<Version> {
    let version = bytes.first_chunk().map(|version| Version(u64::from_le_bytes(*version)));
    let version = version.filter(|version| bytes == document_bytes(key, *version));
    version.ok_or_else(|| damaged("the version of a record"))
}

fn checksum(key: &Key, version: Version) -> u64 {
    xxh3_64_with_seed(&version.0.to_le_bytes(), xxh3_64(&key_bytes(key)))
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{what} in the file of the cache is not what was written"))
}

#[cfg(test)]
mod tests {
    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::file::Options;

    /// Counts syncs.
    #[derive(Debug)]
    struct Backend(InMemoryBackend, Arc<AtomicU64>);

    impl StorageBackend for Backend {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> std::io::Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.0.write(offset, data)
        }
    }

    /// redb remembers something of each commit until one is durable: a cache that was only read grew without bound.
    #[test]
    fn one_of_many_writes_is_durable() {
        let syncs = Arc::new(AtomicU64::new(0));
        let options = Options { cache_bytes: 1 << 20, check: false };
        let backend = Backend(InMemoryBackend::new(), Arc::clone(&syncs));
        let tables = Tables::new(File::in_backend(backend, "test", &LAYOUT, options).unwrap(), false);
        let before = syncs.load(Ordering::Relaxed);
        let write = || tables.write(Durability::None, |writing| writing.put_state(&State::default())).unwrap();
        (1..DURABLE_ONE_IN).for_each(|_| write());
        assert_eq!(syncs.load(Ordering::Relaxed), before);
        write();
        assert!(syncs.load(Ordering::Relaxed) > before);
    }
}
