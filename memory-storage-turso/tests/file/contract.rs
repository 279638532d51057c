//! The contract of stores and the invariants of learning, over a database file.

use memory_core::MemoryStore;
use memory_storage_turso::TursoStore;
use tempfile::TempDir;

async fn fresh() -> (TursoStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (TursoStore::open(folder.path().join("memory.db")).await.unwrap(), folder)
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
