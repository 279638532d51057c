//! What the encryption of a database file costs, in wall time: the same calls without a key and with one.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use criterion::{Criterion, criterion_group, criterion_main};
use memory_benches::{Corpus, Form, Kind, Query, by_wall_time};
use memory_core::{Batch, MemoryStore, Record, Search};
use memory_storage_turso::{EncryptionKey, TursoConfig, TursoStore};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const EPISODES: u32 = 10_000;
/// How many are put in one commit.
const TOGETHER: u32 = 500;

/// A file with episodes.
struct Filled {
    store: TursoStore,
    folder: TempDir,
}

fn episodes(corpus: &Corpus, places: std::ops::Range<u32>) -> Batch {
    places.fold(Batch::new(), |batch, place| batch.put(Record::Episode(corpus.episode(place, Form::Whole))))
}

impl Filled {
    async fn new(corpus: &Corpus, config: TursoConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = TursoStore::open_with(folder.path().join("memory.db"), config).await.unwrap();
        store.commit(&Batch::new().put(Record::Space(Corpus::space()))).await.unwrap();
        for first in (0..EPISODES).step_by(TOGETHER as usize) {
            store.commit(&episodes(corpus, first..first + TOGETHER)).await.unwrap();
        }
        Self { store, folder }
    }
}

fn encryption(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (corpus, key) = (Corpus::new(1), EncryptionKey::new([7; 32]));
    let queries = corpus.queries();
    for (name, config) in
        [("plain", TursoConfig::default()), ("encrypted", TursoConfig::default().with_encryption_key(key))]
    {
        let filled = runtime.block_on(Filled::new(&corpus, config));
        let store = &filled.store;
        let mut group = criterion.benchmark_group(format!("encryption/{name}"));
        for kind in [Kind::Words, Kind::Vector] {
            let searches = || queries.iter().filter_map(|query: &Query| kind.search(query));
            let mut next = searches().collect::<Vec<Search>>().into_iter().cycle();
            group.bench_function(format!("search by {}", kind.as_str()), |bencher| {
                bencher.iter(|| runtime.block_on(store.search(&next.next().unwrap())).unwrap());
            });
        }
        let mut place = EPISODES;
        group.bench_function("commit of one", |bencher| {
            bencher.iter(|| {
                place += 1;
                runtime.block_on(store.commit(&episodes(&corpus, place..place + 1))).unwrap()
            });
        });
        let mut copies = 0;
        group.bench_function("backup", |bencher| {
            bencher.iter(|| {
                copies += 1;
                runtime.block_on(store.backup(filled.folder.path().join(format!("{copies}.backup")))).unwrap()
            });
        });
        group.finish();
        runtime.block_on(store.close()).unwrap();
    }
}

criterion_group! { name = benches; config = by_wall_time(); targets = encryption }
criterion_main!(benches);
