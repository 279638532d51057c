//! What the tests of the cache share.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::testkit::samples::{
    self, episode, episode_id, logged, logged_with, note, note_id, noted, noted_with, vector,
};
use memory_core::{
    Batch, Changes, Commit, Filter, Hit, InMemoryStore, Key, MemoryStore, NoteFilter, Page, Record, Result, Scan,
    Scope, Search, Step, StoreHealth, StoreInfo, Stored, Version,
};
use memory_storage_redb::{CacheConfig, CacheMode, CacheStats, HotCache};
use tempfile::TempDir;

/// Pseudo-random numbers, the same for the same seed (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % below
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

const WORDS: [&str; 8] = ["login", "test", "deploy", "query", "report", "token", "server", "cache"];

pub(crate) const DIMENSIONS: usize = 3;

/// An episode, or for every third number a note, with random words, scope, domain and vector.
pub(crate) fn random_record(n: u32, dice: &mut Dice) -> Record {
    let text = format!("{} {} {} number{n}", dice.pick(&WORDS), dice.pick(&WORDS), dice.pick(&WORDS));
    let scope = samples::scope(dice.pick(&["default", "default", "default/other"]));
    let components =
        [0; DIMENSIONS].map(|_| u8::try_from(dice.roll(9)).unwrap()).map(|component| f32::from(component) - 4.0);
    let near = (dice.roll(4) > 0).then(|| vector(&components));
    if n.is_multiple_of(3) {
        let mut note = note(n, &text);
        note.scope = scope;
        return near.map_or_else(|| noted(note.clone()), |near| noted_with(note.clone(), near));
    }
    let mut episode = episode(n, &text);
    (episode.scope, episode.task.domain) = (scope, Some(dice.pick(&WORDS).to_owned()));
    episode.steps = vec![Step::new(dice.pick(&WORDS)).ok(dice.pick(&WORDS))];
    near.map_or_else(|| logged(episode.clone()), |near| logged_with(episode.clone(), near))
}

pub(crate) fn key(n: u32) -> Key {
    if n.is_multiple_of(3) { Key::Note(note_id(n)) } else { Key::Episode(episode_id(n)) }
}

/// Searches of all kinds that a few records answer in the same way everywhere.
pub(crate) fn searches() -> Vec<Search> {
    let near = |components: &[f32]| Some(vector(components));
    let mut searches = Vec::new();
    for scope in ["default", "default/other"] {
        let any = || Search::new(samples::scope(scope)).text("login token report server");
        searches.extend([
            any().trace(true),
            any().vector(near(&[1.0, 2.0, -3.0])).k(4),
            any().vector(near(&[0.5, -1.0, 2.0])).filter(Filter::default().domain("deploy")).exact(),
            any().vector(near(&[-1.0, 0.0, 1.0])).for_notes(NoteFilter::default()),
        ]);
    }
    searches
}

/// Everything that can be read of these records is the same through a cache as from its primary.
pub(crate) async fn assert_same<P: MemoryStore>(
    cache: &HotCache<P>,
    primary: &dyn MemoryStore,
    keys: &[Key],
    why: &str,
) {
    let expected = primary.get(keys).await.unwrap();
    let found = cache.get(keys).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (place, key) in keys.iter().enumerate() {
        assert_eq!(found[place], expected[place], "{why}: {key:?}");
        if place.is_multiple_of(7) {
            assert_eq!(cache.get(std::slice::from_ref(key)).await.unwrap(), expected[place..=place], "{why}: alone");
        }
    }
    for search in searches() {
        assert_eq!(cache.search(&search).await.unwrap(), primary.search(&search).await.unwrap(), "{why}: {search:?}");
    }
}

/// A primary that others use, too: it stays open when a cache before it is closed.
#[derive(Debug)]
pub(crate) struct Shared<S>(pub(crate) Arc<S>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Shared<S> {
    pub(crate) fn new(store: S) -> Self {
        Self(Arc::new(store))
    }
}

impl<S: fmt::Display> fmt::Display for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[async_trait]
impl<S: MemoryStore> MemoryStore for Shared<S> {
    fn info(&self) -> StoreInfo {
        self.0.info()
    }
    async fn commit(&self, batch: &Batch) -> Result<Commit> {
        self.0.commit(batch).await
    }
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>> {
        self.0.get(keys).await
    }
    async fn scan(&self, scan: &Scan) -> Result<Page> {
        self.0.scan(scan).await
    }
    async fn search(&self, search: &Search) -> Result<Vec<Hit>> {
        self.0.search(search).await
    }
    async fn changes(&self, since: Version, limit: usize) -> Result<Changes> {
        self.0.changes(since, limit).await
    }
    async fn health(&self) -> Result<StoreHealth> {
        self.0.health().await
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

pub(crate) async fn put(store: &dyn MemoryStore, records: impl IntoIterator<Item = Record>) -> Version {
    let batch = records.into_iter().fold(Batch::new(), Batch::put);
    store.commit(&batch).await.unwrap().version
}

/// A store in memory with the space of the samples.
pub(crate) async fn primary() -> Shared<InMemoryStore> {
    let primary = Shared::new(InMemoryStore::new());
    put(&primary, [Record::Space(samples::space(DIMENSIONS))]).await;
    primary
}

/// The same with the records of these numbers, by this seed.
pub(crate) async fn primary_with(numbers: std::ops::Range<u32>, seed: u64) -> Shared<InMemoryStore> {
    let primary = primary().await;
    let mut dice = Dice::new(seed);
    for n in numbers {
        put(&primary, [random_record(n, &mut dice)]).await;
    }
    primary
}

pub(crate) fn keys(numbers: std::ops::Range<u32>) -> Vec<Key> {
    numbers.map(key).chain([Key::Space]).collect()
}

/// A folder for a cache, and the path of its file.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.redb");
    (folder, path)
}

pub(crate) async fn in_memory<P: MemoryStore>(primary: P) -> HotCache<P> {
    HotCache::in_memory(primary, CacheConfig::default()).await.unwrap()
}

pub(crate) fn is_persistent(stats: &CacheStats) -> bool {
    matches!(stats.mode, CacheMode::Persistent)
}

/// A search that finds the record of this number by a word of its own.
pub(crate) fn only(n: u32) -> Search {
    let search = Search::new(Scope::default()).text(format!("number{n}"));
    if n.is_multiple_of(3) { search.for_notes(NoteFilter::default()) } else { search }
}
