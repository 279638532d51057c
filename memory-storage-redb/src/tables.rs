//! The tables of a store, and one committed state of them.
//!
//! | table | a row is |
//! |---|---|
//! | `records` | a record as [`codec`] writes it, by its key |
//! | `vectors` | the vector of an episode or a note, by its key; see [`searching`] |
//! | `feed` | the last change of a record: by version, whether it was deleted, and its key |
//! | `deleted` | the version of a deletion, by key, so that its row in `feed` is found when the record comes back |
//! | `scoped` | where the records of a scope, and the episodes of all, are, in the order of scans: [`scoped_key`] |
//! | `about` | what the file is, and the [`State`] |

use std::sync::Arc;

use memory_core::{Error, ErrorKind, Key, Record, RecordKind, Result, Scope, Stored, VectorSpace, Version};
use redb::{ReadOnlyTable, ReadableTableMetadata, TableDefinition};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::codec::{self, key_bytes, kind_byte};
use crate::file::{ABOUT, File, Layout};
use crate::searching::{self, VECTORS, VectorTable};

pub(crate) type Bytes = &'static [u8];

pub(crate) const RECORDS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("records");
pub(crate) const FEED: TableDefinition<'static, u64, Bytes> = TableDefinition::new("feed");
pub(crate) const DELETED: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("deleted");
pub(crate) const SCOPED: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("scoped");

/// The row of `about` that holds the [`State`].
pub(crate) const STATE: &str = "state";

/// The file of a store.
pub(crate) const LAYOUT: Layout = Layout {
    name: "knowhow-store",
    format: 1,
    tables: |transaction| {
        transaction.open_table(RECORDS)?;
        transaction.open_table(FEED)?;
        transaction.open_table(DELETED)?;
        transaction.open_table(SCOPED)?;
        transaction.open_table(VECTORS).map(drop)
    },
};

/// What stands for all scopes together where episodes are: no scope is empty.
pub(crate) const LOG: &str = "";

/// Where a record stands among those of its kind and scope: kind, scope, 0xFF (which no scope contains), and its place. That
/// is the version of an episode, whose id is then the value, and the key of any other record.
pub(crate) fn scoped_key(kind: RecordKind, scope: &str, place: &[u8]) -> Vec<u8> {
    [&[kind_byte(kind)], scope.as_bytes(), &[0xFF], place].concat()
}

/// What is counted, in one row that every commit writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The version of the last change.
    pub(crate) version: u64,
    /// How many records there are of each kind, by [`kind_byte`] from 1.
    counts: [u64; RecordKind::ALL.len()],
}

impl State {
    /// How many records there are of this kind.
    pub(crate) fn count(&self, kind: RecordKind) -> u64 {
        self.counts[usize::from(kind_byte(kind)) - 1]
    }

    pub(crate) fn count_mut(&mut self, kind: RecordKind) -> &mut u64 {
        &mut self.counts[usize::from(kind_byte(kind)) - 1]
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let numbers = std::iter::once(&self.version).chain(&self.counts);
        let mut bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (numbers, checksum) = bytes.split_last_chunk::<8>()?;
        let (all, []) = numbers.as_chunks::<8>() else { return None };
        let [version, counts @ ..] = &all.iter().map(|number| u64::from_le_bytes(*number)).collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let state = Self { version: *version, counts: counts.try_into().ok()? };
        (xxh3_64(numbers).to_le_bytes() == *checksum).then_some(state)
    }
}

/// One committed state of the store: all that readers read is read through it.
pub(crate) struct Moment {
    file: FileName,
    pub(crate) records: ReadOnlyTable<Bytes, Bytes>,
    pub(crate) feed: ReadOnlyTable<u64, Bytes>,
    pub(crate) scoped: ReadOnlyTable<Bytes, Bytes>,
    pub(crate) vectors: VectorTable,
    pub(crate) state: State,
    pub(crate) space: Option<VectorSpace>,
}

/// The path of the file, for errors.
#[derive(Clone, Debug)]
pub(crate) struct FileName(pub(crate) Arc<std::path::Path>);

impl FileName {
    pub(crate) fn error(&self, error: impl Into<redb::Error>) -> Error {
        crate::error::from_redb(&self.0, error)
    }

    pub(crate) fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        crate::error::guarded(&self.0, work)
    }

    pub(crate) fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Corrupt, format!("{}: {what}", self.0.display()))
    }
}

/// The order of the rows of a table that is read from one end to the other. A damaged tree can tell a row twice.
#[derive(Debug, Default)]
pub(crate) struct Rising<T>(Option<T>);

impl<T: PartialOrd> Rising<T> {
    /// Rows that come after this one.
    pub(crate) fn after(row: T) -> Self {
        Self(Some(row))
    }

    /// Takes in the next row.
    pub(crate) fn check(&mut self, file: &FileName, row: T) -> Result<()> {
        if self.0.as_ref().is_some_and(|last| *last >= row) {
            return Err(file.corrupt("rows of a table are out of order"));
        }
        self.0 = Some(row);
        Ok(())
    }
}

impl Moment {
    /// The present state of the file.
    pub(crate) fn of(file: &File) -> Result<Self> {
        let name = FileName(Arc::clone(file.path()));
        let transaction = file.read()?;
        file.guarded(|| {
            let failed = |error| name.error(error);
            let state = match transaction.open_table(ABOUT).map_err(failed)?.get(STATE).map_err(|e| name.error(e))? {
                Some(row) => State::of(row.value()).ok_or_else(|| name.corrupt("the row of counts is damaged"))?,
                None => State::default(),
            };
            let mut moment = Self {
                records: transaction.open_table(RECORDS).map_err(failed)?,
                feed: transaction.open_table(FEED).map_err(failed)?,
                scoped: transaction.open_table(SCOPED).map_err(failed)?,
                vectors: transaction.open_table(VECTORS).map_err(failed)?,
                file: name.clone(),
                state,
                space: None,
            };
            if let Some(Stored { record: Record::Space(space), .. }) = moment.record(&Key::Space)? {
                moment.space = Some(space);
            }
            // Were it hidden by damage, another could be put.
            if u64::from(moment.space.is_some()) != moment.state.count(RecordKind::Space) {
                return Err(name.corrupt("the vector space is missing"));
            }
            let there = moment.records.len().map_err(|error| name.error(error))?;
            let counted: u64 = moment.state.counts.iter().sum();
            if there == counted { Ok(moment) } else { Err(name.corrupt(format_args!("{there} records of {counted}"))) }
        })
    }

    pub(crate) fn file(&self) -> &FileName {
        &self.file
    }

    /// Reads a record.
    pub(crate) fn record(&self, key: &Key) -> Result<Option<Stored>> {
        let row = self.records.get(&*key_bytes(key)).map_err(|error| self.file.error(error))?;
        row.map(|row| self.decode(key, row.value())).transpose()
    }

    /// Reads a record that another row speaks of.
    pub(crate) fn record_of(&self, key: &Key) -> Result<Stored> {
        self.record(key)?.ok_or_else(|| self.file.corrupt(format_args!("{key:?} is missing")))
    }

    /// The record with this key, of its row.
    pub(crate) fn decode(&self, key: &Key, row: &[u8]) -> Result<Stored> {
        let vector = match key {
            Key::Episode(_) | Key::Note(_) => searching::vector(&self.file.0, &self.vectors, key)?,
            _ => None,
        };
        codec::decode(key, row, vector)
    }
}

/// A row of the feed at this version. Its checksum knows the version, so that a row in another place is none.
pub(crate) fn feed_row(version: u64, key: &Key, deleted: bool) -> Vec<u8> {
    let row = [&[u8::from(deleted)], &*key_bytes(key)].concat();
    with_checksum(row, version)
}

/// The key and whether it was deleted, of the row of the feed at this version.
pub(crate) fn read_feed_row(version: u64, row: &[u8]) -> Result<(Key, bool)> {
    match without_checksum(row, version) {
        Some([deleted @ 0..=1, key @ ..]) => Ok((codec::key(key)?, *deleted == 1)),
        _ => Err(Error::new(ErrorKind::Corrupt, format!("the row of the feed at version {version} is damaged"))),
    }
}

/// A row of `deleted`.
pub(crate) fn deleted_row(key: &Key, version: u64) -> Vec<u8> {
    with_checksum(version.to_le_bytes().to_vec(), xxh3_64(&key_bytes(key)))
}

/// The version in a row of `deleted`.
pub(crate) fn read_deleted_row(key: &Key, row: &[u8]) -> Result<u64> {
    let version = without_checksum(row, xxh3_64(&key_bytes(key))).and_then(|version| version.try_into().ok());
    let damaged = || Error::new(ErrorKind::Corrupt, format!("the row for the deletion of {key:?} is damaged"));
    version.map(u64::from_le_bytes).ok_or_else(damaged)
}

fn with_checksum(mut row: Vec<u8>, seed: u64) -> Vec<u8> {
    let checksum = xxh3_64_with_seed(&row, seed);
    row.extend_from_slice(&checksum.to_le_bytes());
    row
}

fn without_checksum(row: &[u8], seed: u64) -> Option<&[u8]> {
    let (row, checksum) = row.split_last_chunk::<8>()?;
    (xxh3_64_with_seed(row, seed).to_le_bytes() == *checksum).then_some(row)
}

/// The version that these bytes of a [`scoped_key`] are.
pub(crate) fn place_of(version: Version) -> [u8; 8] {
    version.0.to_be_bytes()
}

/// The scope of a record as text; empty if it has none.
pub(crate) fn scope_text(scope: Option<&Scope>) -> &str {
    scope.map_or("", Scope::as_str)
}
