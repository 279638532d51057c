//! The contract kits over what memory-core itself has of stores and embedders.

use std::sync::Arc;

use memory_core::testkit::FaultyStore;
use memory_core::{HashEmbedder, InMemoryStore, MemoryStore, Quota, QuotaStore};

mod in_memory {
    use super::*;
    memory_core::contract_tests!(async || (InMemoryStore::new(), ()));
}

mod shared {
    use super::*;
    memory_core::contract_tests!(async || (Arc::new(InMemoryStore::new()) as Arc<dyn MemoryStore>, ()));
}

mod boxed {
    use super::*;
    memory_core::contract_tests!(async || (Box::new(InMemoryStore::new()) as Box<dyn MemoryStore>, ()));
}

mod faulty_without_a_script {
    use super::*;
    memory_core::contract_tests!(async || (FaultyStore::new(InMemoryStore::new()), ()));
}

mod without_quotas {
    use super::*;
    memory_core::contract_tests!(async || (QuotaStore::new(InMemoryStore::new(), Quota::new()), ()));
}

mod within_quotas {
    use super::*;

    const PLENTY: u64 = 1 << 40;

    memory_core::contract_tests!(async || {
        let quota = Quota::new().episodes(PLENTY).notes(PLENTY).bytes(PLENTY);
        (QuotaStore::new(InMemoryStore::new(), quota), ())
    });
}

mod hash_embedder {
    use super::*;
    memory_core::embedder_contract_tests!(async || HashEmbedder::new());
}
