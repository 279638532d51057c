//! What the hot cache brings, in wall time, over a database file of 2,000 episodes: reading one that it holds, and one that it does
//! not, beside reading from the file; and searching by words and vector through it and in the file.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use memory_benches::{Corpus, Form, Kind, by_wall_time, record_at_once};
use memory_core::{Key, Memory, MemoryStore, Recording, Search};
use memory_storage_redb::{CacheConfig, HotCache};
use memory_storage_turso::TursoStore;
use tokio::runtime::Runtime;

const EPISODES: u32 = 2_000;

/// What is read and looked for, around and around.
struct Asked {
    keys: Vec<Key>,
    searches: Vec<Search>,
}

fn cache_performance(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let asked = runtime.block_on(fill(&folder.path().join("memory.db")));
    let turso = || TursoStore::open(folder.path().join("memory.db"));
    let cache = async |name: &str, config| {
        let cache = HotCache::open_with(turso().await.unwrap(), folder.path().join(name), config).await.unwrap();
        cache.warm_up().await.unwrap();
        cache
    };
    let store = runtime.block_on(turso()).unwrap();
    reading(criterion, &runtime, "turso", &store, &asked.keys);
    searching(criterion, &runtime, "turso", &store, &asked.searches);

    let large = runtime.block_on(cache("large.redb", CacheConfig::default()));
    let stats = || runtime.block_on(large.stats());
    runtime.block_on(hold(&large, &asked.keys));
    let before = stats();
    reading(criterion, &runtime, "hit", &large, &asked.keys);
    assert_eq!(before.misses, stats().misses, "a hit was a miss");
    searching(criterion, &runtime, "cache", &large, &asked.searches);
    assert_eq!(before.passed_on, stats().passed_on, "the cache did not answer");

    let small = runtime.block_on(cache("small.redb", CacheConfig::default().with_episodes(1)));
    let stats = || runtime.block_on(small.stats());
    let before = stats();
    reading(criterion, &runtime, "miss", &small, &asked.keys);
    assert_eq!(before.hits, stats().hits, "a miss was a hit");
}

/// Reads all of these until the cache has them: it keeps what was read when there is time.
async fn hold(cache: &HotCache<TursoStore>, keys: &[Key]) {
    loop {
        let before = cache.stats().await.misses;
        for keys in keys.chunks(100) {
            cache.get(keys).await.unwrap();
        }
        if cache.stats().await.misses == before {
            return;
        }
    }
}

async fn fill(file: &Path) -> Asked {
    let corpus = Corpus::new(1);
    let memory = Memory::builder().store(TursoStore::open(file).await.unwrap()).seed(1).build().await.unwrap();
    let episodes: Vec<_> = (0..EPISODES).map(|place| corpus.episode(place, Form::Whole).episode).collect();
    record_at_once(&memory, episodes.iter().map(|episode| Recording::from(&**episode))).await.unwrap();
    memory.close().await.unwrap();
    let keys = episodes.iter().map(|episode| Key::Episode(episode.id)).collect();
    Asked { keys, searches: corpus.queries().iter().filter_map(|query| Kind::Words.search(query)).collect() }
}

fn reading(criterion: &mut Criterion, runtime: &Runtime, name: &str, store: &dyn MemoryStore, keys: &[Key]) {
    let mut keys = keys.chunks(1).cycle();
    criterion.benchmark_group("cache_performance/get").bench_function(name, |bencher| {
        bencher.iter(|| {
            let found = runtime.block_on(store.get(keys.next().unwrap_or_default())).unwrap();
            assert!(matches!(black_box(found)[..], [Some(_)]));
        });
    });
}

fn searching(criterion: &mut Criterion, runtime: &Runtime, name: &str, store: &dyn MemoryStore, searches: &[Search]) {
    let mut searches = searches.iter().cycle();
    criterion.benchmark_group("cache_performance/search by words").bench_function(name, |bencher| {
        bencher.iter(|| {
            let found = searches.next().map(|search| runtime.block_on(store.search(search)).unwrap());
            assert!(black_box(found).is_some_and(|hits| !hits.is_empty()));
        });
    });
}

criterion_group! { name = benches; config = by_wall_time(); targets = cache_performance }
criterion_main!(benches);
