//! Searches by words: texts of records, and after the last NUL the query.

use std::sync::LazyLock;

use memory_core::ranking::Terms;
use memory_core::testkit::samples;
use memory_core::{Batch, InMemoryStore, Key, MemoryStore, NoteFilter, Record, Scope, Search, Step};
use memory_storage_turso::TursoStore;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::runtime;

/// One file for all inputs: each leaves it empty.
static STORE: LazyLock<(Runtime, TempDir, TursoStore)> = LazyLock::new(|| {
    let (runtime, folder) = (runtime(), tempfile::tempdir().unwrap());
    let store = runtime.block_on(TursoStore::open(folder.path().join("fuzz.db"))).unwrap();
    (runtime, folder, store)
});

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (texts, query) = text.rsplit_once('\0').unwrap_or((&text, &text));
    let (runtime, _, store) = &*STORE;
    runtime.block_on(compare(store, &records(texts), query));
}

/// An episode and a note of each of the first texts.
fn records(texts: &str) -> Vec<Record> {
    let of_text = |(n, text): (u32, &str)| {
        let mut episode = samples::episode(n, text);
        episode.steps = vec![Step::new("run").input(text).ok("")];
        [samples::logged(episode), samples::noted(samples::note(n, text))]
    };
    (1..5).zip(texts.split('\0')).flat_map(of_text).collect()
}

/// The store answers as the reference does, and finds each record by its own words.
async fn compare(store: &TursoStore, records: &[Record], query: &str) {
    let reference = InMemoryStore::new();
    let batch = records.iter().cloned().fold(Batch::new(), Batch::put);
    store.commit(&batch).await.unwrap();
    reference.commit(&batch).await.unwrap();
    for search in searches(query) {
        let (hits, expected) = (store.search(&search).await.unwrap(), reference.search(&search).await.unwrap());
        assert_eq!(hits.len(), expected.len(), "{search:?}");
        for (hit, expected) in hits.iter().zip(&expected) {
            assert_eq!(hit.key, expected.key, "{search:?}");
            let apart = (hit.words - expected.words).abs() + (hit.trace - expected.trace).abs();
            assert!(apart < 1e-9, "{hit:?} is not {expected:?}");
        }
    }
    for record in records {
        let searchable = record.searchable().unwrap();
        let (key, words) = (record.key(), searchable.words());
        for (term, _) in words.iter().take(8).filter(|(term, _)| Terms::of(term).frequency(term) > 0) {
            let search = searches(term).into_iter().find(|search| search.kind == searchable.kind).unwrap();
            let hits = store.search(&search).await.unwrap();
            assert!(hits.iter().any(|hit| hit.key == key && hit.words > 0.0), "{key:?} is not found by {term:?}");
        }
    }
    let keys: Vec<Key> = records.iter().map(Record::key).collect();
    store.commit(&keys.into_iter().fold(Batch::new(), Batch::delete)).await.unwrap();
    for search in searches(query) {
        assert_eq!(store.search(&search).await.unwrap(), [], "nothing is there any more");
    }
}

fn searches(query: &str) -> [Search; 2] {
    let search = || Search::new(Scope::default()).text(query).k(Search::MAX_K).exact();
    [search().trace(true), search().for_notes(NoteFilter::default())]
}
