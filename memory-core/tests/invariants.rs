//! The invariants of learning over the in-memory store.

memory_core::invariant_tests!(64, async || (memory_core::InMemoryStore::new(), ()));
