//! The contract of stores and the invariants of learning, over a database file.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use memory_core::MemoryStore;
use memory_storage_redb::RedbStore;
use tempfile::TempDir;

async fn fresh() -> (RedbStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (RedbStore::open(folder.path().join("memory.redb")).await.unwrap(), folder)
}

mod store {
    memory_core::contract_tests!(super::fresh);
}

mod shared_pointer {
    use super::*;
    memory_core::contract_tests!(async || {
        let (store, guard) = fresh().await;
        (std::sync::Arc::new(store) as std::sync::Arc<dyn MemoryStore>, guard)
    });
}

mod invariants {
    memory_core::invariant_tests!(24, super::fresh);
}
