//! Every promise of an embedder, through each wrapper, all of them, and a shared pointer.

use std::sync::Arc;

use memory_core::{Embedder, HashEmbedder, embedder_contract_tests};
use memory_embed::{BatchingConfig, BatchingEmbedder, CacheConfig, CachedEmbedder, Fallback, FallbackConfig};

fn cached<E: Embedder>(inner: E) -> CachedEmbedder<E> {
    CachedEmbedder::new(inner, CacheConfig::default()).unwrap()
}

fn batching<E: Embedder>(inner: E) -> BatchingEmbedder<E> {
    BatchingEmbedder::new(inner, BatchingConfig::default()).unwrap()
}

async fn fallback() -> Fallback {
    let both: Vec<Arc<dyn Embedder>> = vec![Arc::new(HashEmbedder::new()), Arc::new(HashEmbedder::new())];
    Fallback::between(both, FallbackConfig::default()).await.unwrap()
}

async fn stack() -> Arc<dyn Embedder> {
    Arc::new(cached(batching(fallback().await)))
}

mod through_cached {
    use super::*;
    embedder_contract_tests!(async || cached(HashEmbedder::new()));
}

/// A cache that is full all the time.
mod through_cached_of_one {
    use super::*;
    embedder_contract_tests!(
        async || CachedEmbedder::new(HashEmbedder::new(), CacheConfig::default().with_entries(1)).unwrap()
    );
}

mod through_batching {
    use super::*;
    embedder_contract_tests!(async || batching(HashEmbedder::new()));
}

mod through_fallback {
    use super::*;
    embedder_contract_tests!(fallback);
}

mod through_all {
    use super::*;
    embedder_contract_tests!(stack);
}

#[tokio::test]
async fn a_stack_says_what_it_is() {
    assert_eq!(
        stack().await.to_string(),
        "CachedEmbedder(BatchingEmbedder(Fallback(answering: HashEmbedder, HashEmbedder), 5ms))"
    );
}
