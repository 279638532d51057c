//! What a cache holds: the files, and what is in memory of them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use memory_core::index::{Entry, HybridIndex, IndexStats};
use memory_core::{
    Changes, Error, ErrorKind, FeedEntry, Hit, Key, Result, Search, Stored, Vector, VectorSpace, Version,
};
use redb::Durability;

use super::config::CacheConfig;
use super::second_chance::SecondChance;
use super::state::State;
use super::tables::{Reading, Row, Tables, Writing};
use crate::searching;

/// The files, and what is in memory of them.
#[derive(Debug)]
pub(super) struct Contents {
    tables: Arc<Tables>,
    state: State,
    index: HybridIndex,
    /// The records that are kept whole, at the versions that the cache knows.
    rows: RwLock<SecondChance<KeptRow>>,
    /// Vectors that need not be read from the file; `None` of a record that has none.
    vectors: RwLock<SecondChance<Option<Vector>>>,
    /// Whether the last search found all its vectors in memory.
    at_once: AtomicBool,
}

/// A record that is kept in the file; and in memory, too, since it was last kept or asked for.
#[derive(Debug)]
struct KeptRow {
    /// When it was read from the primary.
    read_at: DateTime<Utc>,
    whole: OnceLock<Stored>,
}

impl KeptRow {
    const fn new(read_at: DateTime<Utc>) -> Self {
        Self { read_at, whole: OnceLock::new() }
    }
}

/// When there is no room for all, one in so many that are read together stays: to keep each of them would only drive others out that are
/// as likely to be asked for next.
const ONE_IN: usize = 16;

/// What the cache has of some records.
#[derive(Debug, Default)]
pub(super) struct Found {
    answers: Vec<Option<Stored>>,
    /// What it has not: where the answer belongs, and the version that it must have.
    missing: Vec<(usize, Option<Version>)>,
    /// How many it had for too long.
    pub(super) expired: usize,
}

impl Found {
    /// What is to be read from the primary.
    pub(super) fn missing(&self, keys: &[Key]) -> Vec<Key> {
        self.missing.iter().map(|(place, _)| keys[*place].clone()).collect()
    }

    /// All answers, if those of the primary are of the same state as the others: at the versions that the cache knows.
    ///
    /// # Errors
    /// The first that is not.
    pub(super) fn complete(self, read: Vec<Option<Stored>>) -> Result<Vec<Option<Stored>>, Misfit> {
        let Self { mut answers, missing, .. } = self;
        for ((place, known), stored) in missing.into_iter().zip(read) {
            let found = stored.as_ref().map(|stored| stored.version);
            if found != known {
                return Err(Misfit { place, known, found });
            }
            answers[place] = stored;
        }
        Ok(answers)
    }
}

/// A record that the cache knows at another version than the primary answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    place: usize,
    known: Option<Version>,
    found: Option<Version>,
}

impl Misfit {
    pub(super) fn error(&self, keys: &[Key]) -> Error {
        let Self { place, known, found } = self;
        let message = format!("the cache has {:?} at {known:?}, the primary at {found:?}", keys.get(*place));
        Error::new(ErrorKind::Corrupt, message)
    }
}

/// What there is of a record.
enum Has {
    /// All, or that there is nothing.
    Whole(Option<Box<Stored>>),
    /// The version that it must have; whether more was there for too long.
    Only { version: Option<Version>, expired: bool },
}

/// Changes that the feed told, made ready while nobody waits.
#[derive(Debug)]
pub(super) struct Prepared(Vec<(FeedEntry, Change)>);

#[derive(Debug)]
enum Change {
    Put {
        entry: Box<Entry>,
        vector: Option<Vector>,
        row: Option<Row>,
    },
    Remove,
    Space(Box<Stored>),
    /// Of what the cache does not hold.
    Other,
}

impl Prepared {
    /// Records are kept whole if that is asked for.
    pub(super) fn new(changes: &Changes, mut records: HashMap<Key, Stored>, whole: bool, now: DateTime<Utc>) -> Self {
        let prepare = |entry: &FeedEntry| {
            let stored = records.remove(&entry.key).filter(|_| !entry.deleted);
            (entry.clone(), Change::new(&entry.key, stored, whole, now))
        };
        Self(changes.entries.iter().map(prepare).collect())
    }
}

impl Change {
    fn new(key: &Key, stored: Option<Stored>, whole: bool, now: DateTime<Utc>) -> Self {
        match (key, stored) {
            (Key::Space, Some(stored)) => Self::Space(Box::new(stored)),
            (Key::Episode(_) | Key::Note(_), Some(stored)) => Self::put(&stored, whole, now),
            (Key::Episode(_) | Key::Note(_), None) => Self::Remove,
            _ => Self::Other,
        }
    }

    fn put(stored: &Stored, whole: bool, now: DateTime<Utc>) -> Self {
        let Some(entry) = searching::entry(&stored.record) else { return Self::Other };
        let vector = stored.record.searchable().and_then(|searchable| searchable.vector.cloned());
        let row = if whole { Row::of(stored, now) } else { None };
        Self::Put { entry: Box::new(entry), vector, row }
    }
}

/// Figures of what there is.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) vectors: u64,
    pub(super) vector_bytes: u64,
    pub(super) index: IndexStats,
}

/// The index and the state, to be persisted while others go on.
pub(super) struct Image {
    tables: Arc<Tables>,
    index: Vec<u8>,
    state: State,
}

impl Image {
    /// Persists them.
    pub(super) fn write(&self) -> Result<()> {
        self.tables.persist(&self.index, &self.state)
    }
}

impl Contents {
    /// Nothing yet. The tables must be empty.
    pub(super) fn empty(tables: Tables, config: &CacheConfig) -> Result<Self> {
        Ok(Self::load(tables, config)?.0)
    }

    /// What the tables hold; and whether that is less than there was, because the index is lost.
    pub(super) fn load(tables: Tables, config: &CacheConfig) -> Result<(Self, bool)> {
        let state = tables.state()?;
        let known = state != State::default();
        let index = if known { tables.index()? } else { None };
        let lost = known && index.is_none();
        let mut rows = SecondChance::new(config.episodes, config.bytes);
        let mut all = tables.reading()?.rows()?;
        all.sort_by_key(|(_, read_at, _)| *read_at);
        let gone: Vec<Key> =
            all.into_iter().flat_map(|(key, read_at, bytes)| rows.put(key, bytes, KeptRow::new(read_at))).collect();
        if !gone.is_empty() {
            tables.write(Durability::None, |writing| writing.remove_rows(gone.iter()))?;
        }
        let vectors = RwLock::new(SecondChance::new(usize::MAX, config.vector_bytes));
        let (tables, index, rows) = (Arc::new(tables), index.unwrap_or_default(), RwLock::new(rows));
        Ok((Self { tables, state, index, rows, vectors, at_once: AtomicBool::new(true) }, lost))
    }

    /// Ends in order.
    pub(super) fn close(self) -> Result<()> {
        match Arc::try_unwrap(self.tables) {
            Ok(tables) => tables.close(),
            // Somebody still reads, and is the last.
            Err(_) => Ok(()),
        }
    }

    /// Where the feed goes on.
    pub(super) fn version(&self) -> Version {
        self.index.version().min(self.state.version)
    }

    pub(super) fn space(&self) -> Option<&VectorSpace> {
        self.state.vector_space()
    }

    /// How many records are searched.
    pub(super) fn documents(&self) -> u64 {
        self.index.stats().documents
    }

    /// What is to be persisted, where the cache stands at this version. `None` if there is nowhere to.
    pub(super) fn image(&self, version: Version) -> Option<Image> {
        self.tables.is_persistent().then(|| Image {
            tables: Arc::clone(&self.tables),
            index: self.index.to_bytes(),
            state: State { version: self.state.version.max(version), ..self.state.clone() },
        })
    }

    pub(super) fn remembered(&self, most: u32) -> Result<(State, Vec<(Key, Version)>)> {
        Ok((self.state.clone(), self.tables.reading()?.sample(most)?))
    }

    pub(super) fn stats(&self) -> Kept {
        let (rows, vectors) = (read(&self.rows), read(&self.vectors));
        Kept {
            entries: rows.len() as u64,
            bytes: rows.bytes(),
            vectors: vectors.len() as u64,
            vector_bytes: vectors.bytes(),
            index: self.index.stats(),
        }
    }
}

/// What the feed tells.
impl Contents {
    /// Whether the primary has moved to another vector space: then all vectors are other ones, which the feed does not tell.
    pub(super) fn are_of_another_space(&self, prepared: &Prepared) -> bool {
        let other = |space: &Stored| self.state.space.as_ref().is_some_and(|known| known.record != space.record);
        prepared.0.iter().any(|(_, change)| matches!(change, Change::Space(space) if other(space)))
    }

    /// Makes the changes; says how many records had to make room for others.
    pub(super) fn apply(&mut self, prepared: Prepared, upto: Version) -> Result<usize> {
        let Prepared(changes) = prepared;
        let mut state = State { version: upto, ..self.state.clone() };
        for (entry, change) in &changes {
            state.tail.push(entry.clone());
            if let Change::Space(space) = change {
                state.space = Some(Stored::clone(space));
            }
        }
        let evicted = self.tables.write(Durability::None, |writing| {
            writing.put_state(&state)?;
            self.write(writing, &changes)
        })?;
        self.state = state;
        let mut vectors = write(&self.vectors);
        for (entry, change) in changes {
            match change {
                Change::Put { entry: indexed, vector, .. } => {
                    self.index.put(entry.version, *indexed);
                    vectors.put(entry.key, bytes_of(vector.as_ref()), vector);
                }
                Change::Remove => {
                    self.index.remove(entry.version, &entry.key);
                    vectors.remove(&entry.key);
                }
                Change::Space(_) | Change::Other => {}
            }
        }
        Ok(evicted)
    }

    fn write(&self, writing: &Writing<'_>, changes: &[(FeedEntry, Change)]) -> Result<usize> {
        writing.put_documents(changes.iter().filter_map(|(told, change)| match change {
            Change::Put { vector, .. } => Some((&told.key, told.version, vector.as_ref())),
            _ => None,
        }))?;
        let removed = changes.iter().filter(|(_, change)| matches!(change, Change::Remove));
        writing.remove_documents(removed.map(|(told, _)| &told.key))?;
        // What has changed is not what was kept.
        let known = |key: &&Key| read(&self.rows).contains(key);
        let changed: Vec<&Key> = changes.iter().map(|(told, _)| &told.key).filter(known).collect();
        self.forget(&changed);
        writing.remove_rows(changed.into_iter())?;
        self.put_rows(
            writing,
            changes.iter().filter_map(|(told, change)| match change {
                Change::Put { row: Some(row), .. } => Some((&told.key, row)),
                _ => None,
            }),
        )
    }

    fn forget(&self, keys: &[&Key]) {
        let mut kept = write(&self.rows);
        for key in keys {
            kept.remove(key);
        }
    }

    /// Puts rows, each of another record; says how many others had to make room.
    fn put_rows<'a>(
        &self,
        writing: &Writing<'_>,
        rows: impl Iterator<Item = (&'a Key, &'a Row)> + Clone,
    ) -> Result<usize> {
        let mut gone = Vec::new();
        {
            let mut kept = write(&self.rows);
            for (key, row) in rows.clone() {
                gone.extend(kept.put(key.clone(), row.len(), KeptRow::new(row.read_at)));
            }
        }
        writing.put_rows(rows)?;
        writing.remove_rows(gone.iter())?;
        Ok(gone.len())
    }
}

/// What it answers.
impl Contents {
    pub(super) fn look_up(&self, keys: &[Key], now: DateTime<Utc>, ttl: Duration) -> Result<Found> {
        let reading = self.tables.reading()?;
        let mut found = Found::default();
        for (place, key) in keys.iter().enumerate() {
            let answer = match self.look_up_one(&reading, key, |read_at| is_alive(read_at, now, ttl))? {
                Has::Whole(stored) => stored.map(|stored| *stored),
                Has::Only { version, expired } => {
                    found.expired += usize::from(expired);
                    found.missing.push((place, version));
                    None
                }
            };
            found.answers.push(answer);
        }
        Ok(found)
    }

    /// Which of these have no row; `None` if somebody is at work on the rows.
    pub(super) fn unkept_of(&self, keys: &[Key]) -> Option<Vec<Key>> {
        let rows = self.rows.try_read().ok()?;
        Some(keys.iter().filter(|key| **key != Key::Space && !rows.contains(key)).cloned().collect())
    }

    fn look_up_one(&self, reading: &Reading<'_>, key: &Key, is_alive: impl Fn(DateTime<Utc>) -> bool) -> Result<Has> {
        if *key == Key::Space {
            return Ok(Has::Whole(self.state.space.clone().map(Box::new)));
        }
        // A damaged file may have lost a key: that nothing is there is for the primary to say.
        let Some(version) = reading.document(key)? else { return Ok(Has::Only { version: None, expired: false }) };
        let only = |expired| Ok(Has::Only { version: Some(version), expired });
        let Some(row) = reading.row(key)? else { return only(false) };
        if !is_alive(row.read_at) {
            return only(true);
        }
        let vector = read(&self.vectors).get(key).cloned();
        let vector = vector.map_or_else(|| reading.vector(key), Ok)?;
        let stored = row.stored(key, vector)?;
        if stored.version != version {
            return only(false);
        }
        // It was asked for, and stays.
        if let Some(kept) = read(&self.rows).get(key) {
            let _ = kept.whole.set(stored.clone());
        }
        Ok(Has::Whole(Some(Box::new(stored))))
    }

    /// Keeps records that are of the versions that the cache knows, as long as there is room, then some; says how many others had to
    /// make room.
    pub(super) fn keep(&self, records: Vec<Stored>, now: DateTime<Utc>) -> Result<usize> {
        let mut rows = BTreeMap::new();
        for (place, stored) in records.into_iter().enumerate() {
            let key = stored.record.key();
            let row = Row::of(&stored, now).filter(|row| place % ONE_IN == 0 || read(&self.rows).has_room(row.len()));
            if let (Key::Episode(_) | Key::Note(_), Some(row)) = (&key, row) {
                rows.insert(key, (stored, row));
            }
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let gone = self.tables.write(Durability::None, |writing| {
            let documents = writing.documents(rows.keys())?;
            let mut known = documents.into_iter();
            rows.retain(|_, (stored, _)| known.next().flatten() == Some(stored.version));
            self.put_rows(writing, rows.iter().map(|(key, (_, row))| (key, row)))
        })?;
        let kept = read(&self.rows);
        for (key, (stored, _)) in rows {
            if let Some(row) = kept.peek(&key) {
                let _ = row.whole.set(stored);
            }
        }
        Ok(gone)
    }

    /// These records, if all of them are in memory and nobody is at work on them.
    pub(super) fn look_up_at_once(
        &self,
        keys: &[Key],
        now: DateTime<Utc>,
        ttl: Duration,
    ) -> Option<Vec<Option<Stored>>> {
        let rows = self.rows.try_read().ok()?;
        let alive = |row: &&KeptRow| is_alive(row.read_at, now, ttl);
        keys.iter().map(|key| rows.get(key).filter(alive)?.whole.get().cloned().map(Some)).collect()
    }

    /// What is found without reading the file; `None` if that would take long, or is not likely to be enough, or somebody is at work
    /// on what it needs.
    pub(super) fn search_at_once(&self, search: &Search) -> Option<Vec<Hit>> {
        if search.exact || !self.at_once.load(Ordering::Relaxed) {
            return None;
        }
        let kept = self.vectors.try_read().ok()?;
        let enough = Cell::new(true);
        let hits = self.index.search(search, |key| {
            let found = kept.get(key);
            enough.set(enough.get() && found.is_some());
            found.cloned().flatten()
        });
        if !enough.get() {
            self.at_once.store(false, Ordering::Relaxed);
        }
        enough.get().then_some(hits)
    }

    pub(super) fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        let reading = self.tables.reading()?;
        let kept = read(&self.vectors);
        let (fetched, failure) = (RefCell::new(Vec::new()), Cell::new(None));
        let hits = self.index.search(search, |key| {
            if let Some(vector) = kept.get(key) {
                return vector.clone();
            }
            let vector = reading.vector(key).unwrap_or_else(|error| {
                failure.set(Some(error));
                None
            });
            fetched.borrow_mut().push((key.clone(), vector.clone()));
            vector
        });
        if let Some(error) = failure.take() {
            return Err(error);
        }
        drop(kept);
        self.remember(fetched.into_inner());
        Ok(hits)
    }

    /// Keeps vectors in memory that were read from the file: all of them as long as there is room.
    fn remember(&self, fetched: Vec<(Key, Option<Vector>)>) {
        self.at_once.store(fetched.is_empty(), Ordering::Relaxed);
        if fetched.is_empty() {
            return;
        }
        let mut kept = write(&self.vectors);
        for (place, (key, vector)) in fetched.into_iter().enumerate() {
            let bytes = bytes_of(vector.as_ref());
            if kept.has_room(bytes) || place % ONE_IN == 0 {
                kept.put(key, bytes, vector);
            }
        }
    }

    /// Clears away what has expired; says how much that was.
    pub(super) fn expire(&self, now: DateTime<Utc>, ttl: Duration) -> Result<usize> {
        let old: Vec<Key> = {
            let kept = read(&self.rows);
            kept.iter().filter(|(_, row)| !is_alive(row.read_at, now, ttl)).map(|(key, _)| key.clone()).collect()
        };
        if old.is_empty() {
            return Ok(0);
        }
        self.tables.write(Durability::None, |writing| {
            self.forget(&old.iter().collect::<Vec<_>>());
            writing.remove_rows(old.iter())
        })?;
        Ok(old.len())
    }
}

/// A moment in the future is as good as none: a clock was wrong.
fn is_alive(read_at: DateTime<Utc>, now: DateTime<Utc>, ttl: Duration) -> bool {
    let age = now.signed_duration_since(read_at);
    age >= TimeDelta::zero() && age.to_std().is_ok_and(|age| age < ttl)
}

/// What a vector takes in memory, with what tells where it is.
fn bytes_of(vector: Option<&Vector>) -> u64 {
    const AROUND: u64 = 120;
    AROUND + vector.map_or(0, |vector| size_of_val(vector.as_slice()) as u64)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
