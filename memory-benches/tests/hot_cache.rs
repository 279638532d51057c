//! The contract of stores and the invariants of learning over a hot cache before a libSQL file: the crates of both know only
//! memory-core.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use memory_storage_redb::HotCache;
use memory_storage_turso::TursoStore;
use tempfile::TempDir;

async fn fresh() -> (HotCache<TursoStore>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = TursoStore::open(folder.path().join("memory.db")).await.unwrap();
    (HotCache::open(store, folder.path().join("cache.redb")).await.unwrap(), folder)
}

mod store {
    memory_core::contract_tests!(super::fresh);
}

mod invariants {
    memory_core::invariant_tests!(4, super::fresh);
}
