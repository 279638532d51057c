//! The contract of stores and the invariants of learning, through a cache.

use std::sync::Arc;

use memory_core::testkit::FaultyStore;
use memory_core::{InMemoryStore, MemoryStore};
use memory_storage_redb::{CacheConfig, HotCache};
use tempfile::TempDir;

async fn persistent<P: MemoryStore>(primary: P) -> (HotCache<P>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (HotCache::open(primary, folder.path().join("cache.redb")).await.unwrap(), folder)
}

mod in_a_file {
    use super::*;
    memory_core::contract_tests!(async || persistent(InMemoryStore::new()).await);
}

/// Next to nothing fits in: almost all is asked of the primary, in part.
mod in_memory_and_too_small {
    use super::*;
    memory_core::contract_tests!(async || {
        let config = CacheConfig::default().with_episodes(2).with_vector_bytes(1_000);
        (HotCache::in_memory(InMemoryStore::new(), config).await.unwrap(), ())
    });
}

mod over_any_store {
    use super::*;
    memory_core::contract_tests!(async || {
        let primary: Arc<dyn MemoryStore> = Arc::new(FaultyStore::new(InMemoryStore::new()));
        let (cache, guard) = persistent(primary).await;
        (Arc::new(cache) as Arc<dyn MemoryStore>, guard)
    });
}

mod invariants {
    use super::*;
    memory_core::invariant_tests!(8, async || persistent(InMemoryStore::new()).await);
}
