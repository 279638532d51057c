//! The store that forgets when the process ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::index::{Entry, HybridIndex};
use crate::store::{check_limit, check_vector};
use crate::{
    Batch, Change, Changes, Commit, Condition, Cursor, Durability, EpisodeId, Error, ErrorKind, FeedEntry, Hit, Key,
    LearnerId, LoggedEpisode, MemoryStore, NoteId, Page, Pattern, PatternId, Record, RecordKind, Result, Scan, Search,
    StoreHealth, StoreInfo, Stored, StoredNote, VectorSpace, Version,
};

/// A [`MemoryStore`] in the memory of this process: for tests, for trying things out, and for agents whose memory need not
/// outlive them. What it acknowledges is [`Volatile`](Durability::Volatile).
///
/// Clones share one store.
#[derive(Clone, Debug, Default)]
pub struct InMemoryStore {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    version: u64,
    records: HashMap<Key, Stored, RandomState>,
    /// The keys of the records, in order, for scans.
    keys: BTreeSet<Key>,
    /// How many records there are of each kind.
    counts: BTreeMap<RecordKind, u64>,
    /// The episodes in the order of the log.
    log: BTreeMap<Version, EpisodeId>,
    feed: BTreeMap<Version, (Key, bool)>,
    /// Where each key stands in the feed.
    feed_places: HashMap<Key, Version>,
    index: HybridIndex,
}

impl InMemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the index that answers searches: what it holds, or how it is as bytes. Writers wait meanwhile.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the store is closed.
    pub fn with_index<T>(&self, look: impl FnOnce(&HybridIndex) -> T) -> Result<T> {
        Ok(look(&self.read()?.index))
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, State>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(closed()) } else { Ok(state) }
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, State>> {
        let state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(closed()) } else { Ok(state) }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is closed")
}

impl fmt::Display for InMemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InMemoryStore")
    }
}

#[async_trait]
impl MemoryStore for InMemoryStore {
    fn info(&self) -> StoreInfo {
        StoreInfo::new("in-memory", Durability::Volatile)
    }

    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        batch.validate()?;
        // Before the others are kept waiting.
        let entries: Vec<Option<Entry>> = batch.changes.iter().map(entry).collect();
        let mut state = self.write()?;
        state.check(batch)?;
        let mut of_patterns = None;
        for (change, entry) in batch.changes.iter().zip(entries) {
            match change {
                Change::Put(Record::Pattern(pattern)) => {
                    let version = state.version_of_patterns(&mut of_patterns);
                    state.place(version, Record::Pattern(pattern.clone()));
                }
                Change::Put(record) => state.put(record.clone(), entry),
                Change::Add(pattern) => {
                    let version = state.version_of_patterns(&mut of_patterns);
                    state.add(version, pattern);
                }
                Change::Delete(key @ (Key::Pattern(_) | Key::Habit(_))) => {
                    state.version_of_patterns(&mut of_patterns);
                    drop(state.take(key));
                }
                Change::Delete(key) => state.delete(key),
            }
        }
        Ok(Commit { version: Version(state.version), durability: Durability::Volatile })
    }

    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        let state = self.read()?;
        Ok(keys.iter().map(|key| state.records.get(key).cloned()).collect())
    }

    async fn scan(&self, scan: &Scan) -> Result<Page> {
        scan.validate()?;
        let state = self.read()?;
        let mut records: Vec<Stored> = if scan.kind == RecordKind::Episode {
            let after = match scan.after {
                Some(Cursor::Version(version)) => Version(version.0.saturating_add(1)),
                _ => Version(0),
            };
            let keys = state.log.range(after..).map(|(_, id)| Key::Episode(*id));
            let stored = keys.filter_map(|key| state.records.get(&key));
            stored.filter(|stored| matches(scan, stored)).take(scan.limit + 1).cloned().collect()
        } else {
            let first = first_key(scan.kind);
            let after = match &scan.after {
                Some(Cursor::Key(key)) if *key >= first => Bound::Excluded(key),
                _ => Bound::Included(&first),
            };
            let keys = state.keys.range((after, Bound::Unbounded));
            let keys = keys.take_while(|key| key.kind() == scan.kind);
            let stored = keys.filter_map(|key| state.records.get(key));
            stored.filter(|stored| matches(scan, stored)).take(scan.limit + 1).cloned().collect()
        };
        let more = records.len() > scan.limit;
        records.truncate(scan.limit);
        let next = records.last().filter(|_| more).map(|last| match last.record {
            Record::Episode(_) => Cursor::Version(last.version),
            _ => Cursor::Key(last.record.key()),
        });
        Ok(Page { records, next })
    }

    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        let state = self.read()?;
        search.validate(state.space())?;
        Ok(state.index.search(search, |_| None))
    }

    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        check_limit(limit)?;
        let state = self.read()?;
        let rest = state.feed.range(Version(since.0.saturating_add(1))..);
        let entries: Vec<FeedEntry> = rest
            .take(limit)
            .map(|(version, (key, deleted))| FeedEntry { version: *version, key: key.clone(), deleted: *deleted })
            .collect();
        let upto = match entries.last() {
            Some(last) if entries.len() == limit => last.version,
            _ => Version(state.version.max(since.0)),
        };
        Ok(Changes { entries, upto })
    }

    async fn health(&self) -> Result<StoreHealth> {
        let state = self.read()?;
        let count = |kind: RecordKind| state.counts.get(&kind).copied().unwrap_or_default();
        Ok(StoreHealth {
            version: Version(state.version),
            episodes: count(RecordKind::Episode),
            open_episodes: count(RecordKind::Open),
            patterns: count(RecordKind::Pattern) + count(RecordKind::Habit),
            notes: count(RecordKind::Note),
            degraded: None,
        })
    }

    async fn close(&self) -> Result<()> {
        self.state.write().unwrap_or_else(PoisonError::into_inner).closed = true;
        Ok(())
    }
}

/// The key before which there is none of this kind: keys sort by kind first.
const fn first_key(kind: RecordKind) -> Key {
    const NIL: Uuid = Uuid::nil();
    match kind {
        RecordKind::Space => Key::Space,
        RecordKind::Watermark => Key::Watermark(LearnerId::new(NIL)),
        RecordKind::Episode => Key::Episode(EpisodeId::new(NIL)),
        RecordKind::Open => Key::Open(EpisodeId::new(NIL)),
        RecordKind::Step => Key::Step(EpisodeId::new(NIL), 0),
        RecordKind::Pattern => Key::Pattern(PatternId::new(NIL)),
        RecordKind::Habit => Key::Habit(PatternId::new(NIL)),
        RecordKind::Note => Key::Note(NoteId::new(NIL)),
        RecordKind::Unembedded => Key::Unembedded(NIL),
    }
}

fn entry(change: &Change) -> Option<Entry> {
    match change {
        Change::Put(record) => Entry::of(record),
        Change::Add(_) | Change::Delete(_) => None,
    }
}

fn matches(scan: &Scan, stored: &Stored) -> bool {
    let scope = scan.scope.as_ref().is_none_or(|scope| stored.record.scope() == Some(scope));
    scope
        && match &stored.record {
            Record::Episode(logged) => scan.filter.matches(&logged.episode),
            Record::Note(stored) => scan.notes.matches(&stored.note),
            _ => true,
        }
}

impl State {
    fn space(&self) -> Option<&VectorSpace> {
        match self.records.get(&Key::Space) {
            Some(Stored { record: Record::Space(space), .. }) => Some(space),
            _ => None,
        }
    }

    /// Checks conditions and records, so that nothing can fail once the first change is made.
    fn check(&self, batch: &Batch) -> Result<()> {
        for condition in &batch.conditions {
            let version = self.records.get(condition.key()).map(|stored| stored.version);
            let holds = match condition {
                Condition::Absent(_) => version.is_none(),
                Condition::Present(_) => version.is_some(),
                Condition::Unchanged(_, expected) => version == Some(*expected),
            };
            if !holds {
                return Err(condition.conflict(version));
            }
        }
        let mut space = self.space();
        for change in &batch.changes {
            match change {
                Change::Put(Record::Space(new)) => match space {
                    Some(old) if old != new => return Err(old.mismatch(new)),
                    _ => space = Some(new),
                },
                Change::Put(
                    Record::Episode(LoggedEpisode { vector: Some(vector), .. })
                    | Record::Note(StoredNote { vector: Some(vector), .. }),
                ) => check_vector(vector, space)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, record: Record, entry: Option<Entry>) {
        let key = record.key();
        self.version += 1;
        let version = Version(self.version);
        if let Record::Episode(logged) = &record {
            if let Some(before) = self.records.get(&key) {
                self.log.remove(&before.version);
            }
            self.log.insert(version, logged.episode.id);
        }
        if let Some(entry) = entry {
            self.index.put(version, entry);
        }
        self.tell(version, &key, false);
        self.place(version, record);
    }

    /// The one version of all patterns that a batch changes.
    fn version_of_patterns(&mut self, taken: &mut Option<Version>) -> Version {
        *taken.get_or_insert_with(|| {
            self.version += 1;
            Version(self.version)
        })
    }

    fn add(&mut self, version: Version, pattern: &Pattern) {
        match self.records.get_mut(&pattern.key()) {
            Some(Stored { version: last, record: Record::Pattern(known) }) => {
                known.add(pattern);
                *last = version;
            }
            _ => self.place(version, Record::Pattern(pattern.clone())),
        }
    }

    fn place(&mut self, version: Version, record: Record) {
        let (key, kind) = (record.key(), record.key().kind());
        if self.records.insert(key.clone(), Stored { version, record }).is_none() {
            self.keys.insert(key);
            *self.counts.entry(kind).or_default() += 1;
        }
    }

    fn take(&mut self, key: &Key) -> Option<Stored> {
        let stored = self.records.remove(key)?;
        self.keys.remove(key);
        self.counts.entry(key.kind()).and_modify(|count| *count -= 1);
        Some(stored)
    }

    fn delete(&mut self, key: &Key) {
        let Some(stored) = self.take(key) else { return };
        self.version += 1;
        self.log.remove(&stored.version);
        self.index.remove(Version(self.version), key);
        self.tell(Version(self.version), key, true);
    }

    fn tell(&mut self, version: Version, key: &Key, deleted: bool) {
        if key.kind().in_feed() {
            if let Some(before) = self.feed_places.insert(key.clone(), version) {
                self.feed.remove(&before);
            }
            self.feed.insert(version, (key.clone(), deleted));
        }
    }
}
