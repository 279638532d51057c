//! The contract kits through each decorator, through stacks of them, and through pointers to these.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use memory_core::{Embedder, HashEmbedder, InMemoryStore, MemoryStore};
use memory_resilience::{
    Bulkhead, BulkheadConfig, CircuitBreaker, CircuitBreakerConfig, Failover, RateLimit, RateLimitConfig,
    ResilienceExt, Retry, RetryConfig, Timeout, TimeoutConfig, presets,
};

const PAUSE: Duration = Duration::from_secs(1);

/// More than any contract asks for.
fn plenty() -> RateLimitConfig {
    RateLimitConfig::default().with_burst(1_000_000)
}

fn full<S: ResilienceExt>(inner: S) -> Bulkhead<Retry<RateLimit<CircuitBreaker<Timeout<S>>>>> {
    let breaking = inner.timeout(TimeoutConfig::default()).unwrap().circuit_breaker(CircuitBreakerConfig::default());
    let limited = breaking.unwrap().rate_limit(plenty()).unwrap();
    limited.retry(RetryConfig::default()).unwrap().bulkhead(BulkheadConfig::default()).unwrap()
}

macro_rules! contracts {
    ($($name:ident: $decorate:expr;)*) => {
        $(
            mod $name {
                use super::*;

                mod store {
                    use super::*;
                    memory_core::contract_tests!(async || {
                        let inner = InMemoryStore::new();
                        (($decorate)(inner), ())
                    });
                }

                mod embedder {
                    use super::*;
                    memory_core::embedder_contract_tests!(async || {
                        let inner = HashEmbedder::new();
                        ($decorate)(inner)
                    });
                }
            }
        )*
    };
}

contracts! {
    retry: |inner| Retry::new(inner, RetryConfig::default()).unwrap();
    circuit_breaker: |inner| CircuitBreaker::new(inner, CircuitBreakerConfig::default()).unwrap();
    timeout: |inner| Timeout::new(inner, TimeoutConfig::default()).unwrap();
    rate_limit: |inner| RateLimit::new(inner, plenty()).unwrap();
    bulkhead: |inner| Bulkhead::new(inner, BulkheadConfig::default()).unwrap();
    stack: full;
}

mod shared_stack {
    use super::*;
    memory_core::contract_tests!(async || (Arc::new(full(InMemoryStore::new())) as Arc<dyn MemoryStore>, ()));

    mod embedder {
        use super::*;
        memory_core::embedder_contract_tests!(async || Arc::new(full(HashEmbedder::new())) as Arc<dyn Embedder>);
    }
}

mod stack_around_a_shared_store {
    use super::*;
    memory_core::contract_tests!(async || (full(Arc::new(InMemoryStore::new()) as Arc<dyn MemoryStore>), ()));
}

mod failover {
    use super::*;
    // Its copy is the same store: what a copy of another one answers is not the contract's.
    memory_core::contract_tests!(async || {
        let store = Arc::new(InMemoryStore::new());
        (Failover::over_copy(Arc::clone(&store), store, PAUSE).unwrap(), ())
    });
}

mod preset_for_files {
    use super::*;
    memory_core::contract_tests!(async || (presets::local_file(InMemoryStore::new()).unwrap(), ()));
}

mod preset_for_servers {
    use super::*;
    memory_core::contract_tests!(async || (presets::remote_server(InMemoryStore::new(), "server").unwrap(), ()));

    mod embedder {
        use super::*;
        memory_core::embedder_contract_tests!(async || presets::embedder(HashEmbedder::new(), "model").unwrap());
    }
}
