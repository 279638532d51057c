//! What several tests need.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::panic,
    reason = "not every test needs everything, and tests may panic"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) use memory_core::testkit::generated::*;
use memory_core::{
    Batch, Hit, InMemoryStore, MemoryStore, MemoryStoreExt, NoteFilter, RecordKind, Scan, Scope, Search,
};
use memory_storage_redb::{Check, RedbConfig, RedbStore};
use tempfile::TempDir;

/// A folder that goes with the test, and a path in it.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.redb");
    (folder, path)
}

/// Checks the whole file as redb does, and that what is searched is what is stored: the same searches in memory, over what the
/// scans give, find the same.
pub(crate) async fn assert_sound(path: &Path) {
    let store = RedbStore::open_with(path, RedbConfig::default().with_check(Check::Always)).await.unwrap();
    let memory = InMemoryStore::new();
    put_space(&memory).await;
    let mut stored = store.scan_all(Scan::new(RecordKind::Episode)).await.unwrap();
    stored.extend(store.scan_all(Scan::new(RecordKind::Note)).await.unwrap());
    stored.sort_by_key(|stored| stored.version);
    let scopes: BTreeSet<Scope> = stored.iter().filter_map(|stored| stored.record.scope().cloned()).collect();
    let batch = stored.into_iter().fold(Batch::new(), |batch, stored| batch.put(stored.record));
    memory.commit(&batch).await.unwrap();
    for scope in scopes {
        for query in [WORDS.join(" "), "login test".to_owned(), "E0425".to_owned()] {
            let search = Search::new(scope.clone()).vector(Some(vector(&query).await)).text(query).trace(true).k(100);
            for search in [search.clone(), search.for_notes(NoteFilter::default())] {
                let [expected, found] = [memory.search(&search).await.unwrap(), store.search(&search).await.unwrap()];
                let scores = |hits: Vec<Hit>| -> Vec<_> {
                    hits.into_iter()
                        .map(|hit| (hit.key, [hit.words, hit.trace, hit.vector].map(f64::to_bits)))
                        .collect()
                };
                assert_eq!(scores(found), scores(expected), "{search:?}");
            }
        }
    }
    store.close().await.unwrap();
}
