//! The store that forgets when the process ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use uuid::Uuid;

use crate::ranking::{Candidate, Collection, Posting, Scorer, best, frequencies};
use crate::store::{check_limit, check_vector};
use crate::{
    Batch, Change, Changes, Commit, Condition, Cursor, Durability, EpisodeId, Error, ErrorKind, FeedEntry, Hit, Key,
    LearnerId, LoggedEpisode, MemoryStore, NoteId, Page, PatternId, Record, RecordKind, Result, Scan, Scope, Search,
    Searchable, Searched, StoreHealth, StoreInfo, Stored, StoredNote, VectorSpace, Version,
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
    records: HashMap<Key, Stored>,
    /// The keys of the records, in order, for scans.
    keys: BTreeSet<Key>,
    /// How many records there are of each kind.
    counts: BTreeMap<RecordKind, u64>,
    /// The episodes in the order of the log.
    log: BTreeMap<Version, EpisodeId>,
    feed: BTreeMap<Version, (Key, bool)>,
    /// Where each key stands in the feed.
    feed_places: HashMap<Key, Version>,
    index: HashMap<(Searched, Scope), ScopeIndex>,
}

/// What word and vector search need to know of the episodes or the notes of one scope; documents are numbered by version.
#[derive(Debug, Default)]
struct ScopeIndex {
    collection: Collection,
    postings: HashMap<String, BTreeMap<u64, Posting>>,
    documents: HashMap<u64, Record>,
}

impl InMemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
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
        let mut state = self.write()?;
        state.check(batch)?;
        for change in &batch.changes {
            match change {
                Change::Put(record) => state.put(record.clone()),
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
        let Some(index) = state.index.get(&(search.kind, search.scope.clone())) else { return Ok(Vec::new()) };
        Ok(index.search(search))
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
                Change::Put(Record::Episode(LoggedEpisode { episode, vector })) => {
                    episode.check_encoded_size()?;
                    if let Some(vector) = vector {
                        check_vector(vector, space)?;
                    }
                }
                Change::Put(Record::Note(StoredNote { vector: Some(vector), .. })) => check_vector(vector, space)?,
                Change::Delete(Key::Space) => {
                    return Err(Error::invalid("delete", "the vector space", "other records"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, record: Record) {
        let key = record.key();
        if record.searchable().is_some() {
            self.delete(&key); // From the index, too.
        }
        self.version += 1;
        let version = Version(self.version);
        if let Record::Episode(logged) = &record {
            self.log.insert(version, logged.episode.id);
        }
        if let Some(Searchable { kind, scope, text, .. }) = record.searchable() {
            self.index.entry((kind, scope.clone())).or_default().insert(version, text, &record);
        }
        self.tell(version, &key, false);
        let kind = key.kind();
        if self.records.insert(key.clone(), Stored { version, record }).is_none() {
            self.keys.insert(key);
            *self.counts.entry(kind).or_default() += 1;
        }
    }

    fn delete(&mut self, key: &Key) {
        let Some(stored) = self.records.remove(key) else { return };
        self.keys.remove(key);
        self.counts.entry(key.kind()).and_modify(|count| *count -= 1);
        self.version += 1;
        self.log.remove(&stored.version);
        if let Some(Searchable { kind, scope, text, .. }) = stored.record.searchable() {
            let place = (kind, scope.clone());
            if let Some(index) = self.index.get_mut(&place) {
                index.remove(stored.version, text);
                if index.documents.is_empty() {
                    self.index.remove(&place);
                }
            }
        }
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

impl ScopeIndex {
    fn insert(&mut self, version: Version, text: &str, record: &Record) {
        let frequencies = frequencies(text);
        let length = frequencies.values().sum();
        for (term, frequency) in frequencies {
            let posting = Posting { document: version.0, frequency, length };
            self.postings.entry(term).or_default().insert(version.0, posting);
        }
        self.collection.documents += 1;
        self.collection.terms += length;
        self.documents.insert(version.0, record.clone());
    }

    fn remove(&mut self, version: Version, text: &str) {
        let frequencies = frequencies(text);
        for term in frequencies.keys() {
            if let Some(postings) = self.postings.get_mut(term) {
                postings.remove(&version.0);
                if postings.is_empty() {
                    self.postings.remove(term);
                }
            }
        }
        self.collection.documents -= 1;
        self.collection.terms -= frequencies.values().sum::<u64>();
        self.documents.remove(&version.0);
    }

    fn search(&self, search: &Search) -> Vec<Hit> {
        let accepted = |record: &Record| match record {
            Record::Episode(logged) => search.filter.matches(&logged.episode),
            Record::Note(stored) => search.notes.matches(&stored.note),
            _ => false,
        };
        let words = search.text.as_deref().map(|text| self.words(text, accepted)).unwrap_or_default();
        let wanted: BTreeSet<u64> = if search.vector.is_some() {
            self.documents.iter().filter(|(_, record)| accepted(record)).map(|(document, _)| *document).collect()
        } else {
            words.keys().copied().collect()
        };
        let candidates = wanted.into_iter().filter_map(|document| {
            let record = &self.documents[&document];
            let Searchable { vector, at, .. } = record.searchable()?;
            let cosine = search.vector.as_ref().zip(vector).map(|(query, own)| query.cosine(own));
            let hit = Hit {
                key: record.key(),
                version: Version(document),
                words: words.get(&document).copied().unwrap_or_default(),
                vector: cosine.unwrap_or_default(),
            };
            Some(Candidate { hit, at, compared: cosine.is_some() })
        });
        best(candidates.collect(), search.k)
    }

    fn words(&self, text: &str, accepted: impl Fn(&Record) -> bool) -> HashMap<u64, f64> {
        let mut scorer = Scorer::new(self.collection);
        for term in frequencies(text).keys() {
            let postings: Vec<Posting> =
                self.postings.get(term).into_iter().flat_map(|all| all.values().copied()).collect();
            scorer.add_term(&postings, |document| accepted(&self.documents[&document]));
        }
        scorer.finish()
    }
}
