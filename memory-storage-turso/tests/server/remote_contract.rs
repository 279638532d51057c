//! The contract of stores and the invariants of learning, over a server.

use crate::common::sqld::{Fresh, Sqld};
use memory_core::{InMemoryStore, MemoryStore};
use memory_storage_turso::{RemoteConfig, TursoStore};

/// A store over a server of its own. Where a test cannot be made over one, it is made over memory, and this is said.
async fn fresh() -> (Box<dyn MemoryStore>, Option<Sqld>) {
    let Fresh::Server(server) = Fresh::for_contract() else { return (Box::new(InMemoryStore::new()), None) };
    let store = TursoStore::open_remote(&server.url(), RemoteConfig::default()).await.unwrap();
    (Box::new(store), Some(server))
}

mod store {
    memory_core::contract_tests!(super::fresh);
}

mod invariants {
    memory_core::invariant_tests!(3, super::fresh);
}
