//! The contract of stores and the invariants of learning, through a hot cache before each store: the crates of these know only
//! memory-core.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "replica")]
#[path = "../../memory-storage-turso/tests/common/sqld.rs"]
#[allow(dead_code, clippy::panic, reason = "not every test needs everything, and tests may panic")]
mod sqld;

use std::path::Path;
use std::sync::Arc;

use memory_core::MemoryStore;
use memory_storage_redb::{HotCache, RedbStore};
use memory_storage_turso::TursoStore;
use tempfile::TempDir;

async fn cached<P: MemoryStore>(primary: P, folder: &Path) -> HotCache<P> {
    HotCache::open(primary, folder.join("cache.redb")).await.unwrap()
}

async fn over_a_file() -> (HotCache<TursoStore>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = TursoStore::open(folder.path().join("memory.db")).await.unwrap();
    (cached(store, folder.path()).await, folder)
}

async fn over_redb() -> (Arc<dyn MemoryStore>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn MemoryStore> = Arc::new(RedbStore::open(folder.path().join("memory.redb")).await.unwrap());
    (Arc::new(cached(store, folder.path()).await), folder)
}

mod turso {
    memory_core::contract_tests!(super::over_a_file);

    mod invariants {
        memory_core::invariant_tests!(4, super::super::over_a_file);
    }
}

mod redb {
    memory_core::contract_tests!(super::over_redb);

    mod invariants {
        memory_core::invariant_tests!(4, super::super::over_redb);
    }
}

#[cfg(feature = "replica")]
mod over_a_server {
    use memory_core::InMemoryStore;
    use memory_storage_turso::{RemoteConfig, ReplicaConfig};

    use super::sqld::{Fresh, Sqld};
    use super::*;

    type Guard = (Option<Sqld>, TempDir);

    /// Where a test cannot be made over a server, it is made over memory, and this is said.
    async fn remote() -> (HotCache<Box<dyn MemoryStore>>, Guard) {
        let folder = tempfile::tempdir().unwrap();
        let (store, server): (Box<dyn MemoryStore>, _) = match Fresh::for_contract() {
            Fresh::Server(server) => {
                (Box::new(TursoStore::open_remote(&server.url(), RemoteConfig::default()).await.unwrap()), Some(server))
            }
            Fresh::None => (Box::new(InMemoryStore::new()), None),
        };
        (cached(store, folder.path()).await, (server, folder))
    }

    async fn replica() -> (HotCache<Box<dyn MemoryStore>>, Guard) {
        let folder = tempfile::tempdir().unwrap();
        let (store, server): (Box<dyn MemoryStore>, _) = match Fresh::for_contract() {
            Fresh::Server(server) => {
                let (path, config) = (folder.path().join("memory.db"), ReplicaConfig::default());
                (Box::new(TursoStore::open_replica(path, &server.url(), config).await.unwrap()), Some(server))
            }
            Fresh::None => (Box::new(InMemoryStore::new()), None),
        };
        (cached(store, folder.path()).await, (server, folder))
    }

    mod store {
        memory_core::contract_tests!(super::remote);

        mod invariants {
            memory_core::invariant_tests!(2, super::super::remote);
        }
    }

    mod copy {
        memory_core::contract_tests!(super::replica);

        mod invariants {
            memory_core::invariant_tests!(2, super::super::replica);
        }
    }
}
