//! The contract of stores and the invariants of learning, over a local copy of a server's database.

use crate::common::sqld::{Fresh, Sqld};
use memory_core::{InMemoryStore, MemoryStore};
use memory_storage_turso::{ReplicaConfig, TursoStore};
use tempfile::TempDir;

/// A store over a copy of a server of its own. Where a test cannot be made over one, it is made over memory, and this is said.
async fn fresh() -> (Box<dyn MemoryStore>, Option<(Sqld, TempDir)>) {
    let Fresh::Server(server) = Fresh::for_contract() else { return (Box::new(InMemoryStore::new()), None) };
    let (folder, path) = crate::common::place();
    let store = TursoStore::open_replica(path, &server.url(), ReplicaConfig::default()).await.unwrap();
    (Box::new(store), Some((server, folder)))
}

mod store {
    memory_core::contract_tests!(super::fresh);
}

mod invariants {
    memory_core::invariant_tests!(2, super::fresh);
}
