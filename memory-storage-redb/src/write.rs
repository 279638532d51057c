//! Commits.

use memory_core::index::Entry;
use memory_core::{
    Batch, Change, Commit, Condition, Durability, Error, ErrorKind, Key, LoggedEpisode, Pattern, Record, RecordKind,
    Result, StoredNote, Vector, VectorSpace, Version, check_vector,
};
use redb::{ReadableTable, Table, WriteTransaction};

use crate::codec::{self, Encoded, encode, key_bytes};
use crate::file::{ABOUT, File};
use crate::searching::{self, VECTORS, entry, put_vector, remove_vector};
use crate::tables::{
    Bytes, DELETED, FEED, LOG, RECORDS, SCOPED, STATE, State, deleted_row, feed_row, place_of, read_deleted_row,
    read_feed_row, scope_text, scoped_key,
};

/// A batch on its way to the writer, with all done that is not the writer's.
pub(crate) struct Prepared {
    conditions: Vec<Condition>,
    changes: Vec<PreparedChange>,
    pub(crate) derivable: bool,
}

enum PreparedChange {
    Put(Box<Put>),
    Add(Box<Pattern>),
    Delete(Key),
}

struct Put {
    key: Key,
    /// As text; empty if it has none.
    scope: String,
    encoded: Encoded,
    vector: Option<Vector>,
    entry: Option<Box<Entry>>,
    space: Option<VectorSpace>,
}

impl Prepared {
    pub(crate) fn new(batch: &Batch) -> Result<Self> {
        batch.validate()?;
        let changes = batch.changes.iter().map(PreparedChange::new).collect::<Result<_>>()?;
        Ok(Self { conditions: batch.conditions.clone(), changes, derivable: batch.derivable })
    }

    /// What the index has to follow when each change got this version, or did nothing.
    pub(crate) fn for_index(self, versions: Vec<Option<Version>>) -> impl Iterator<Item = searching::Change> {
        self.changes.into_iter().zip(versions).filter_map(|(change, version)| {
            Some(match change {
                PreparedChange::Put(put) => searching::Change::Put(version?, put.entry),
                PreparedChange::Add(_) => return None,
                PreparedChange::Delete(key) => searching::Change::Remove(version?, key),
            })
        })
    }
}

impl PreparedChange {
    fn new(change: &Change) -> Result<Self> {
        let record = match change {
            Change::Put(record) => record,
            Change::Add(pattern) => return Ok(Self::Add(Box::new(pattern.clone()))),
            Change::Delete(key) => return Ok(Self::Delete(key.clone())),
        };
        let encoded = encode(record)?;
        let (mut vector, mut space) = (None, None);
        match record {
            Record::Episode(LoggedEpisode { vector: own, .. }) | Record::Note(StoredNote { vector: own, .. }) => {
                vector = own.clone();
            }
            Record::Space(own) => space = Some(own.clone()),
            _ => {}
        }
        let scope = scope_text(record.scope()).to_owned();
        Ok(Self::Put(Box::new(Put {
            key: record.key(),
            scope,
            encoded,
            vector,
            entry: entry(record).map(Box::new),
            space,
        })))
    }
}

/// What became of a batch in a transaction that went well: written, with the version of each change that changed something, or
/// refused without a trace.
pub(crate) type Outcome = Result<(Commit, Vec<Option<Version>>)>;

/// All tables, to write to, and what is counted.
pub(crate) struct WriteTables<'a> {
    file: &'a File,
    records: Table<'a, Bytes, Bytes>,
    vectors: Table<'a, Bytes, Bytes>,
    feed: Table<'a, u64, Bytes>,
    deleted: Table<'a, Bytes, Bytes>,
    scoped: Table<'a, Bytes, Bytes>,
    about: Table<'a, &'static str, Bytes>,
    state: State,
    space: Option<VectorSpace>,
}

impl<'a> WriteTables<'a> {
    /// The tables in a transaction on the state that has these counts and this space.
    pub(crate) fn open(
        file: &'a File,
        transaction: &'a WriteTransaction,
        state: State,
        space: Option<VectorSpace>,
    ) -> Result<Self> {
        let failed = |error| file.error(error);
        Ok(Self {
            file,
            records: transaction.open_table(RECORDS).map_err(failed)?,
            vectors: transaction.open_table(VECTORS).map_err(failed)?,
            feed: transaction.open_table(FEED).map_err(failed)?,
            deleted: transaction.open_table(DELETED).map_err(failed)?,
            scoped: transaction.open_table(SCOPED).map_err(failed)?,
            about: transaction.open_table(ABOUT).map_err(failed)?,
            state,
            space,
        })
    }

    /// Writes the counts.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.about.insert(STATE, &self.state.to_bytes()[..]).map(drop).map_err(|error| self.file.error(error))
    }

    /// The version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.state.version
    }

    /// Makes the changes of a batch, or none of them if one may not be made.
    ///
    /// # Errors
    /// What is wrong with the file; then the transaction is of no use.
    pub(crate) fn apply(&mut self, batch: &Prepared) -> Result<Outcome> {
        if let Some(refused) = self.refusal(batch)? {
            return Ok(Err(refused));
        }
        let mut of_patterns = None;
        let versions = batch.changes.iter().map(|change| {
            let pattern = match change {
                PreparedChange::Put(put) => matches!(put.key, Key::Pattern(_) | Key::Habit(_)),
                PreparedChange::Add(_) => true,
                PreparedChange::Delete(key) => matches!(key, Key::Pattern(_) | Key::Habit(_)),
            };
            let version = if pattern { of_patterns } else { None }.unwrap_or(Version(self.state.version + 1));
            if pattern {
                of_patterns = Some(version);
                self.state.version = self.state.version.max(version.0);
            }
            match change {
                PreparedChange::Put(put) => self.put(put, version).map(Some),
                PreparedChange::Add(pattern) => self.add(pattern, version).map(Some),
                PreparedChange::Delete(key) => self.delete(key, version),
            }
        });
        let versions = versions.collect::<Result<Vec<_>>>()?;
        let durability = if batch.derivable { Durability::Volatile } else { Durability::Durable };
        Ok(Ok((Commit { version: Version(self.state.version), durability }, versions)))
    }

    /// Why a batch may not be written, if it may not.
    fn refusal(&self, batch: &Prepared) -> Result<Option<Error>> {
        for condition in &batch.conditions {
            let version = self.version_of(condition.key())?;
            let holds = match condition {
                Condition::Absent(_) => version.is_none(),
                Condition::Present(_) => version.is_some(),
                Condition::Unchanged(_, expected) => version == Some(*expected),
            };
            if !holds {
                return Ok(Some(condition.conflict(version)));
            }
        }
        let mut space = self.space.as_ref();
        for change in &batch.changes {
            match change {
                PreparedChange::Put(put) => {
                    match (&put.space, space) {
                        (Some(new), Some(old)) if old != new => return Ok(Some(old.mismatch(new))),
                        (Some(new), _) => space = Some(new),
                        _ => {}
                    }
                    if let Some(Err(error)) = put.vector.as_ref().map(|vector| check_vector(vector, space)) {
                        return Ok(Some(error));
                    }
                }
                PreparedChange::Add(_) | PreparedChange::Delete(_) => {}
            }
        }
        Ok(None)
    }

    fn version_of(&self, key: &Key) -> Result<Option<Version>> {
        let row = self.records.get(&*key_bytes(key)).map_err(|error| self.file.error(error))?;
        row.map(|row| codec::version(key, row.value())).transpose()
    }

    /// Adds to the pattern that is there, or puts it.
    fn add(&mut self, pattern: &Pattern, version: Version) -> Result<Version> {
        let key = pattern.key();
        let row = self.records.get(&*key_bytes(&key)).map_err(|error| self.file.error(error))?;
        let known = row.map(|row| codec::decode(&key, row.value(), None)).transpose()?;
        let sum = match known.map(|stored| stored.record) {
            Some(Record::Pattern(mut known)) => {
                known.add(pattern);
                known
            }
            _ => pattern.clone(),
        };
        let record = Record::Pattern(sum);
        let (encoded, scope) = (encode(&record)?, scope_text(record.scope()).to_owned());
        self.put(&Put { key, scope, encoded, vector: None, entry: None, space: None }, version)
    }

    fn put(&mut self, put: &Put, version: Version) -> Result<Version> {
        let Put { key, scope, encoded, vector, entry, space } = put;
        let failed = |error| self.file.error(error);
        self.state.version = self.state.version.max(version.0);
        let bytes = key_bytes(key);
        let row = self.records.insert(&*bytes, &encoded.at(version)[..]).map_err(failed)?;
        let before = row.map(|row| Before::of(key, row.value())).transpose()?;
        if entry.is_some() {
            put_vector(&mut self.vectors, key, vector.as_ref()).map_err(failed)?;
        }
        if before.is_none() {
            *self.state.count_mut(key.kind()) += 1;
        }
        self.move_in_scope(key, before.as_ref(), Some((scope, version)))?;
        self.tell(key, before.as_ref(), version, false)?;
        if let Some(space) = space {
            self.space = Some(space.clone());
        }
        Ok(version)
    }

    fn delete(&mut self, key: &Key, version: Version) -> Result<Option<Version>> {
        let failed = |error| self.file.error(error);
        let row = self.records.remove(&*key_bytes(key)).map_err(failed)?;
        let Some(before) = row.map(|row| Before::of(key, row.value())).transpose()? else { return Ok(None) };
        self.state.version = self.state.version.max(version.0);
        if matches!(key, Key::Episode(_) | Key::Note(_)) {
            remove_vector(&mut self.vectors, key).map_err(failed)?;
        }
        let count = self.state.count_mut(key.kind());
        *count = count.saturating_sub(1);
        self.move_in_scope(key, Some(&before), None)?;
        self.tell(key, Some(&before), version, true)?;
        Ok(Some(version))
    }

    /// Keeps the rows by scope: the record was like this before, and is now in this scope with this version.
    fn move_in_scope(&mut self, key: &Key, before: Option<&Before>, now: Option<(&str, Version)>) -> Result<()> {
        let failed = |error| self.file.error(error);
        let old = before.map(|before| places(key, &before.scope, before.version)).unwrap_or_default();
        let new = now.map(|(scope, version)| places(key, scope, version)).unwrap_or_default();
        if old == new {
            return Ok(());
        }
        for place in old {
            self.scoped.remove(&place[..]).map_err(failed)?;
        }
        let id = match key {
            Key::Episode(id) => &id.as_uuid().as_bytes()[..],
            _ => &[],
        };
        for place in new {
            self.scoped.insert(&place[..], id).map_err(failed)?;
        }
        Ok(())
    }

    /// Keeps the feed: the last change of the record is this one.
    fn tell(&mut self, key: &Key, before: Option<&Before>, version: Version, deleted: bool) -> Result<()> {
        if !key.kind().in_feed() {
            return Ok(());
        }
        let failed = |error| self.file.error(error);
        let bytes = key_bytes(key);
        let told = match before {
            Some(before) => Some(before.version.0),
            None => {
                let row = self.deleted.remove(&*bytes).map_err(failed)?;
                row.map(|row| read_deleted_row(key, row.value())).transpose()?
            }
        };
        if let Some(told) = told {
            let row = self.feed.remove(told).map_err(failed)?;
            let told_of = row.map(|row| read_feed_row(told, row.value())).transpose()?;
            if told_of.is_none_or(|(told_of, _)| told_of != *key) {
                let message = format!("the row of the feed at version {told} is not that of {key:?}");
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
        }
        self.feed.insert(version.0, &feed_row(version.0, key, deleted)[..]).map_err(failed)?;
        if deleted {
            self.deleted.insert(&*bytes, &deleted_row(key, version.0)[..]).map_err(failed)?;
        }
        Ok(())
    }
}

/// Where scans find a record: in its scope, if it has one, and an episode also in the log.
fn places(key: &Key, scope: &str, version: Version) -> Vec<Vec<u8>> {
    match key {
        Key::Episode(_) => [LOG, scope].map(|scope| scoped_key(RecordKind::Episode, scope, &place_of(version))).into(),
        _ if scope.is_empty() => Vec::new(),
        _ => vec![scoped_key(key.kind(), scope, &key_bytes(key))],
    }
}

/// What is to be known of a record that is replaced or deleted.
struct Before {
    version: Version,
    scope: String,
}

impl Before {
    fn of(key: &Key, row: &[u8]) -> Result<Self> {
        Ok(Self { version: codec::version(key, row)?, scope: codec::scope(key, row)?.to_owned() })
    }
}
