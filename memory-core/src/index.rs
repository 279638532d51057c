//! The index of a store that keeps it in memory: words, vectors and filters of everything that is searched.
//!
//! [`HybridIndex`] answers [`MemoryStore::search`](crate::MemoryStore::search) without reading a record: it only asks for the
//! full vectors of the few records that are compared at the end. A record is added in O(1) of what is indexed, and removed in
//! O(1). It serves [`InMemoryStore`](crate::InMemoryStore), and can stand before any other store: it follows the change feed
//! from [`version`](HybridIndex::version) on, and [`to_bytes`](HybridIndex::to_bytes) keeps it for the next start.
//!
//! # How it searches
//! - *Words* by postings, [rare words first](crate::ranking#rare-words-first).
//! - *Vectors* as one bit a dimension after a fixed rotation, compared by counting the bits that differ; the nearest of these
//!   are compared by their full vectors. Measured recall of the best ten against an exact search: see
//!   [`HybridIndex::search`].
//! - *Filters* by bitmaps, before anything is scored: a filter costs nothing but makes the search faster.

mod bits;
mod codes;
mod facts;
mod snapshot;
mod words;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::ranking::{Candidate, Terms, ordered};
use crate::{EpisodeId, Filter, Hit, Key, NoteId, Record, Scope, Search, Searched, Vector, Version};
use bits::Bits;
use codes::{Code, Codes};
use facts::{FactIndex, Facts};
use words::{Asked, Scores, WordIndex};

/// A record that was made ready for the index: what costs time is done already.
#[derive(Clone, Debug)]
pub struct Entry {
    kind: Searched,
    scope: Scope,
    id: Uuid,
    at: DateTime<Utc>,
    words: Terms,
    trace: Terms,
    code: Option<Code>,
    vector: Option<Vector>,
    facts: Facts,
}

impl Entry {
    /// The entry of a record; `None` if it is of a kind that is not searched.
    pub fn of(record: &Record) -> Option<Self> {
        let searchable = record.searchable()?;
        Some(Self {
            kind: searchable.kind,
            scope: searchable.scope.clone(),
            id: id_of(&record.key())?,
            at: searchable.at,
            words: searchable.words(),
            trace: searchable.trace(),
            code: searchable.direction().map(Code::of),
            vector: searchable.direction().cloned(),
            facts: Facts::of(record),
        })
    }

    /// The same without the full vector, which is then read from the store when a search compares it. An index of such entries
    /// takes far less memory where the records are not in memory themselves.
    #[must_use]
    pub fn without_vector(self) -> Self {
        Self { vector: None, ..self }
    }
}

/// The kind of what is searched by this key, and its id.
fn searched(key: &Key) -> Option<(Searched, Uuid)> {
    match key {
        Key::Episode(id) => Some((Searched::Episodes, *id.as_uuid())),
        Key::Note(id) => Some((Searched::Notes, *id.as_uuid())),
        _ => None,
    }
}

fn id_of(key: &Key) -> Option<Uuid> {
    searched(key).map(|(_, id)| id)
}

fn key_of(kind: Searched, id: Uuid) -> Key {
    match kind {
        Searched::Episodes => Key::Episode(EpisodeId::new(id)),
        Searched::Notes => Key::Note(NoteId::new(id)),
    }
}

/// What an index holds.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Records that can be found.
    pub documents: u64,
    /// Records that were removed and still take place.
    pub removed: u64,
    /// Distinct terms, of each scope and kind apart.
    pub terms: u64,
    /// Pairs of a term and a record that has it.
    pub postings: u64,
    /// Bytes of memory, without what the allocator adds.
    pub bytes: u64,
}

/// Where a record is: its scope, and its number among the documents of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    scope: u32,
    document: u32,
}

/// Words, vectors and filters of all records that are searched, of all scopes.
#[derive(Default)]
pub struct HybridIndex {
    version: Version,
    names: HashMap<(Searched, Scope), u32, RandomState>,
    scopes: Vec<ScopeIndex>,
    /// Scopes that are empty and can be used for others.
    free: Vec<u32>,
    places: HashMap<(Searched, Uuid), Place, RandomState>,
    /// Room to compute in, used again by the next search.
    scratch: Mutex<Vec<Scratch>>,
}

/// What the searches of one scope and kind need. Documents are numbered by version.
#[derive(Debug, Default)]
struct ScopeIndex {
    /// Whose they are; `None` as long as there is none.
    name: Option<(Searched, Scope)>,
    documents: Vec<Document>,
    /// The documents that were not removed.
    live: Bits,
    removed: usize,
    words: WordIndex,
    trace: WordIndex,
    codes: Codes,
    facts: FactIndex,
}

#[derive(Clone, Debug, PartialEq)]
struct Document {
    id: Uuid,
    version: Version,
    at: DateTime<Utc>,
    /// Shared with the record; `None` if there is none, or it is in the store alone.
    vector: Option<Vector>,
}

/// Room to compute in.
#[derive(Debug, Default)]
struct Scratch {
    words: Scores,
    trace: Scores,
    distances: Vec<u16>,
}

impl Scratch {
    fn bytes(&self) -> u64 {
        let distances = self.distances.capacity() * size_of::<u16>();
        (self.words.bytes() + self.trace.bytes() + distances) as u64
    }
}

impl HybridIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// The version of the last change that it was told.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What it holds.
    pub fn stats(&self) -> IndexStats {
        let mut stats = IndexStats::default();
        for scope in &self.scopes {
            stats.documents += (scope.documents.len() - scope.removed) as u64;
            stats.removed += scope.removed as u64;
            for words in [&scope.words, &scope.trace] {
                stats.terms += words.terms() as u64;
                stats.postings += words.postings();
            }
            stats.bytes += scope.bytes();
        }
        let place = size_of::<((Searched, Uuid), Place)>() + 1;
        stats.bytes += (self.places.capacity() * place) as u64;
        stats.bytes += self.scratch().iter().map(Scratch::bytes).sum::<u64>();
        stats
    }

    /// Adds a record as of this version, in place of the one with the same key, if any. Versions must rise.
    pub fn put(&mut self, version: Version, entry: Entry) {
        self.take_out(entry.kind, entry.id);
        self.version = self.version.max(version);
        let Entry { kind, scope, id, at, words, trace, code, vector, facts } = entry;
        let name = (kind, scope);
        let number = match self.names.get(&name) {
            Some(number) => *number,
            None => {
                let number = self.free.pop().unwrap_or_else(|| {
                    self.scopes.push(ScopeIndex::default());
                    number_of(self.scopes.len() - 1)
                });
                self.scopes[number as usize].name = Some(name.clone());
                self.names.insert(name, number);
                number
            }
        };
        let scope = &mut self.scopes[number as usize];
        let document = number_of(scope.documents.len());
        scope.documents.push(Document { id, version, at, vector });
        scope.live.push(true);
        scope.words.push(document, &words);
        scope.trace.push(document, &trace);
        scope.codes.push(code);
        scope.facts.push(document, facts);
        self.places.insert((kind, id), Place { scope: number, document });
    }

    /// Removes a record, if it is there, as of this version.
    pub fn remove(&mut self, version: Version, key: &Key) {
        self.version = self.version.max(version);
        if let Some((kind, id)) = searched(key) {
            self.take_out(kind, id);
        }
    }

    fn take_out(&mut self, kind: Searched, id: Uuid) {
        let Some(Place { scope: number, document }) = self.places.remove(&(kind, id)) else { return };
        let scope = &mut self.scopes[number as usize];
        scope.live.clear(document);
        scope.removed += 1;
        scope.words.forget(document);
        scope.trace.forget(document);
        if scope.removed == scope.documents.len() {
            if let Some(name) = std::mem::take(scope).name {
                self.names.remove(&name);
            }
            self.free.push(number);
        } else if scope.removed > MOST_REMOVED.max(scope.documents.len() / 8) {
            scope.compact();
            for (document, one) in scope.documents.iter().enumerate() {
                self.places.insert((kind, one.id), Place { scope: number, document: number_of(document) });
            }
        }
    }

    /// What [`MemoryStore::search`](crate::MemoryStore::search) answers, for a search that was
    /// [validated](Search::validate). `vector_of` reads the vector of a record that was added
    /// [without](Entry::without_vector), or came from a snapshot.
    ///
    /// By vector, the nearest 150 + 5 k by their codes are compared in full, half as many again for each tenfold of 10,000
    /// records in the scope, and all of them where no more pass the filters. Measured recall of the best ten, on 384 dimensions
    /// in 200 clusters (`recall-table` of memory-benches): 1.000 of 10,000 records, 0.995 of 100,000, 0.962 of a million.
    pub fn search(&self, search: &Search, vector_of: impl Fn(&Key) -> Option<Vector>) -> Vec<Hit> {
        let Some(number) = self.names.get(&(search.kind, search.scope.clone())) else { return Vec::new() };
        let mut scratch = self.scratch().pop().unwrap_or_default();
        let hits = self.scopes[*number as usize].search(search, &mut scratch, vector_of);
        self.scratch().push(scratch);
        hits
    }

    fn scratch(&self) -> std::sync::MutexGuard<'_, Vec<Scratch>> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removed documents take place until there are this many, or an eighth of all.
const MOST_REMOVED: usize = 256;

/// The number of a document or a scope. There is not the memory for more.
fn number_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl ScopeIndex {
    fn search(&self, search: &Search, scratch: &mut Scratch, vector_of: impl Fn(&Key) -> Option<Vector>) -> Vec<Hit> {
        let accepted = &self.accepted(search);
        let query = Terms::of(search.text.as_deref().unwrap_or_default());
        let asked = Asked { query: &query, accepted, exact: search.exact, k: search.k };
        let words = self.words.find(&asked, self, &mut scratch.words);
        let nothing = Terms::default();
        let in_trace = Asked { query: if search.trace { &query } else { &nothing }, ..asked };
        let trace = self.trace.find(&in_trace, self, &mut scratch.trace);

        let direction = search.direction();
        let cosine = |document: u32| {
            let (query, document) = (direction?, &self.documents[document as usize]);
            match &document.vector {
                Some(own) => Some(query.cosine(own)),
                None => {
                    let own = vector_of(&key_of(search.kind, document.id))?;
                    (own.norm() > 0.0).then(|| query.cosine(&own))
                }
            }
        };
        let near = match direction {
            Some(query) => self.codes.nearest(&Code::of(query), accepted, self.depth(search), &mut scratch.distances),
            None => Vec::new(),
        };
        let compared = near.into_iter().filter_map(|document| Some((cosine(document)?, document)));
        let mut compared: Vec<(f64, u32)> = compared.collect();
        self.keep_best(&mut compared, search.k);
        let by_words = words.best.iter().chain(&trace.best).map(|document| (cosine(*document), *document));
        let compared = compared.into_iter().map(|(cosine, document)| (Some(cosine), document));
        let candidates = by_words.chain(compared).map(|(cosine, document)| {
            let Document { id, version, at, .. } = self.documents[document as usize];
            let key = key_of(search.kind, id);
            let (words, trace) = (words.score(document), trace.score(document));
            Candidate { hit: Hit { key, version, words, trace, vector: cosine.unwrap_or_default() }, at }
        });
        ordered(candidates.collect())
    }

    /// How many documents are compared by their full vectors.
    fn depth(&self, search: &Search) -> usize {
        if search.exact {
            return usize::MAX;
        }
        let tens = (self.documents.len() as f64 / 10_000.0).log10().max(0.0);
        let depth = (150 + 5 * search.k) as f64 * 1.5_f64.powf(tens);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 200 to a few thousand")]
        let depth = depth as usize;
        depth
    }

    /// Keeps the best `k` by their scores, in no order; between equal ones as [`ranking`](crate::ranking) does. What decides between
    /// those is read for the documents at the edge alone.
    fn keep_best(&self, scored: &mut Vec<(f64, u32)>, k: usize) {
        if k >= scored.len() {
            return;
        }
        let mut scores: Vec<f64> = scored.iter().map(|(score, _)| *score).collect();
        let (_, edge, _) = scores.select_nth_unstable_by(k.saturating_sub(1), |a, b| b.total_cmp(a));
        let edge = *edge;
        let mut at_edge = Vec::new();
        scored.retain(|(score, document)| {
            at_edge.extend(score.total_cmp(&edge).is_eq().then_some(*document));
            score.total_cmp(&edge).is_gt()
        });
        let room = k - scored.len();
        if room < at_edge.len() {
            at_edge.select_nth_unstable_by_key(room, |document| self.tie(*document));
            at_edge.truncate(room);
        }
        scored.extend(at_edge.into_iter().map(|document| (edge, document)));
    }

    /// Smaller comes first between documents of equal scores: the later, then the one with the smaller id.
    fn tie(&self, document: u32) -> (Reverse<DateTime<Utc>>, Uuid) {
        let Document { id, at, .. } = self.documents[document as usize];
        (Reverse(at), id)
    }

    /// The documents that pass the filters.
    fn accepted(&self, search: &Search) -> Bits {
        let mut accepted = self.live.clone();
        match search.kind {
            Searched::Episodes => {
                self.facts.keep(&search.filter, &mut accepted);
                let Filter { completed_from: from, completed_before: before, .. } = search.filter;
                if from.is_some() || before.is_some() {
                    accepted.retain(|document| {
                        let at = self.documents[document as usize].at;
                        from.is_none_or(|from| at >= from) && before.is_none_or(|before| at < before)
                    });
                }
            }
            Searched::Notes => self.facts.keep_notes(&search.notes, &mut accepted),
        }
        accepted
    }

    /// Makes room: the documents that were removed go, the others are numbered anew.
    fn compact(&mut self) {
        let mut next = 0;
        let numbers: Vec<Option<u32>> = (0..self.documents.len())
            .map(|document| {
                let live = self.live.contains(number_of(document));
                live.then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let mut kept = numbers.iter();
        self.documents.retain(|_| kept.next().is_some_and(Option::is_some));
        self.words.renumber(&numbers);
        self.trace.renumber(&numbers);
        self.codes.keep(&numbers);
        self.facts.renumber(&numbers);
        self.live = Bits::ones(self.documents.len());
        self.removed = 0;
    }

    fn bytes(&self) -> u64 {
        let own = self.documents.capacity() * size_of::<Document>() + size_of::<Self>();
        let parts = [self.live.bytes(), self.words.bytes(), self.trace.bytes(), self.codes.bytes(), self.facts.bytes()];
        (own + parts.iter().sum::<usize>()) as u64
    }
}

impl fmt::Debug for HybridIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridIndex").field("version", &self.version).field("stats", &self.stats()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::testkit::samples::{self, logged, logged_with, noted, vector};
    use crate::{ErrorKind, NoteFilter};

    const WORDS: [&str; 6] = ["login", "test", "deploy", "query", "report", "token"];

    /// Episode or note `n`, with what `seed` decides: scope, words, step, vector.
    fn record(n: u32, seed: u32) -> Record {
        let pick = |shift: u32| WORDS[(seed >> shift) as usize % WORDS.len()];
        let text = format!("{} {} {}", pick(0), pick(3), pick(6));
        let scope = if seed & 512 == 0 { Scope::default() } else { samples::scope("default/other") };
        let near =
            vector(&[1.0, f32::from(u8::try_from(seed % 7).unwrap()), f32::from(u8::try_from(seed % 5).unwrap())]);
        if n.is_multiple_of(3) {
            let mut note = samples::note(n, &text);
            (note.scope, note.expires_at) = (scope, seed.is_multiple_of(4).then(|| samples::time(9)));
            return noted(note);
        }
        let mut episode = samples::episode(n, &text);
        (episode.scope, episode.task.domain) = (scope, Some(pick(9).to_owned()));
        episode.steps = vec![crate::Step::new(pick(12)).ok(pick(15))];
        if seed & 1_024 == 0 { logged_with(episode, near) } else { logged(episode) }
    }

    fn built(records: impl IntoIterator<Item = (u64, Record)>) -> HybridIndex {
        let mut index = HybridIndex::new();
        for (version, record) in records {
            index.put(Version(version), Entry::of(&record).unwrap());
        }
        index
    }

    /// All kinds of searches.
    fn searches() -> Vec<Search> {
        let mut searches = Vec::new();
        for scope in [Scope::default(), samples::scope("default/other"), samples::scope("nobody")] {
            let any = || Search::new(scope.clone()).text("login token report").vector(Some(vector(&[1.0, 2.0, 3.0])));
            searches.extend([
                any().trace(true),
                any().k(2).filter(Filter::default().domain("deploy")),
                any().for_notes(NoteFilter::default().alive_at(samples::time(10))),
            ]);
        }
        searches
    }

    fn answers(index: &HybridIndex, vectors: &HashMap<Key, Vector>) -> Vec<Vec<Hit>> {
        searches().iter().map(|search| index.search(search, |key| vectors.get(key).cloned())).collect()
    }

    proptest! {
        /// Whatever was put, replaced and removed: an index is what one of the rest alone is, and its snapshot is, too.
        #[test]
        fn an_index_is_what_is_left(
            changes in vec((0..40_u32, prop::option::weighted(0.7, any::<u32>())), 0..120),
        ) {
            let mut index = HybridIndex::new();
            let mut left = std::collections::BTreeMap::new();
            for (version, (n, change)) in (1..).zip(changes) {
                match change.map(|seed| record(n, seed)) {
                    Some(record) => {
                        index.put(Version(version), Entry::of(&record).unwrap());
                        left.insert(n, (version, record));
                    }
                    None => {
                        let any = record(n, 0);
                        index.remove(Version(version), &any.key());
                        left.remove(&n);
                    }
                }
            }
            let mut rest: Vec<(u64, Record)> = left.into_values().collect();
            rest.sort_by_key(|(version, _)| *version);
            let vectors = rest.iter().filter_map(|(_, record)| Some((record.key(), record.searchable()?.vector?.clone())));
            let vectors: HashMap<Key, Vector> = vectors.collect();
            let expected = answers(&built(rest.clone()), &HashMap::new());
            prop_assert_eq!(&answers(&index, &HashMap::new()), &expected);
            prop_assert_eq!(index.stats().documents, rest.len() as u64);
            let mut again = HybridIndex::from_bytes(&index.to_bytes()).unwrap();
            prop_assert_eq!(again.version(), index.version());
            prop_assert_eq!(&answers(&again, &vectors), &expected);
            // It goes on from there.
            let more = (1_000..1_020).map(|n| record(n, n * 7_919));
            for (version, record) in (1_000..).zip(more) {
                let entry = Entry::of(&record).unwrap();
                again.put(Version(version), entry.clone());
                index.put(Version(version), entry);
            }
            prop_assert_eq!(answers(&again, &vectors), answers(&index, &HashMap::new()));
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused() {
        let mut index = built((1..).zip((0..9).map(|n| record(n, n * 31))));
        index.remove(Version(99), &record(4, 0).key());
        let bytes = index.to_bytes();
        assert!(HybridIndex::from_bytes(&bytes).is_ok());
        let refused = |bytes: &[u8]| HybridIndex::from_bytes(bytes).unwrap_err().kind() == ErrorKind::Corrupt;
        for place in 0..bytes.len() {
            assert!(refused(&bytes[..place]), "cut at {place}");
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            assert!(refused(&flipped), "flipped at {place}");
            // As if by someone who knows of the checksum: an error or another index, and no panic.
            if place >= 16 {
                let checksum = xxhash_rust::xxh3::xxh3_64(&flipped[16..]);
                flipped[8..16].copy_from_slice(&checksum.to_ne_bytes());
                match HybridIndex::from_bytes(&flipped) {
                    Ok(index) => drop(answers(&index, &HashMap::new())),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
                }
            }
        }
        assert!(refused(&[bytes, vec![0]].concat()), "something behind it");
        assert!(refused(b"") && refused(&[7; 1_000]));
    }

    #[test]
    fn what_was_removed_makes_room() {
        let mut index = built((1..).zip((0..3_000).map(|n| record(n, n * 7_919))));
        let full = index.stats();
        assert_eq!((full.documents, full.removed), (3_000, 0));
        assert!(full.terms > 0 && full.postings > 3_000 && full.bytes > 100_000, "{full:?}");
        for n in (0..3_000).filter(|n| n % 10 != 0) {
            index.remove(Version(4_000 + u64::from(n)), &record(n, 0).key());
        }
        let rest = index.stats();
        assert_eq!(rest.documents, 300);
        assert!(rest.removed <= 4 * (MOST_REMOVED as u64 + 1) && rest.postings < full.postings / 2, "{rest:?}");
        let left = (1..).zip((0..3_000).map(|n| record(n, n * 7_919))).filter(|(version, _)| version % 10 == 1);
        assert_eq!(answers(&index, &HashMap::new()), answers(&built(left), &HashMap::new()));
        for n in (0..3_000).step_by(10) {
            index.remove(Version(9_000), &record(n, 0).key());
        }
        assert_eq!((index.stats().documents, index.stats().postings), (0, 0));
        assert_eq!(index.scopes.len(), 4, "two scopes of two kinds");
        index.put(Version(9_001), Entry::of(&record(1, 1)).unwrap());
        assert_eq!(index.scopes.len(), 4, "empty ones are used again");
    }

    #[test]
    fn a_vector_that_only_the_store_has_is_asked_for() {
        let record = logged_with(samples::episode(1, "login"), vector(&[0.0, 2.0, 0.0]));
        let mut index = HybridIndex::new();
        index.put(Version(1), Entry::of(&record).unwrap().without_vector());
        let near = |dimensions: &[f32]| Search::new(Scope::default()).vector(Some(vector(dimensions)));
        let known = |key: &Key| (*key == record.key()).then(|| vector(&[0.0, 2.0, 0.0]));
        assert_eq!(index.search(&near(&[0.0, 1.0, 0.0]), known)[0].vector, 1.0);
        assert_eq!(index.search(&near(&[0.0, 1.0, 0.0]), |_| None), []);
        let wide = vec![1.0; 5_000];
        assert_eq!(index.search(&near(&wide), known), [], "of another length than all that is there");
    }
}
