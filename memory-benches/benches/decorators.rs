//! What decorators add to a call, in CPU time: reading one record of the store in memory, bare, through each decorator, and through
//! five of them.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use memory_benches::{CpuTime, by_cpu_time};
use memory_core::{Batch, InMemoryStore, Key, LearnerId, MemoryStore, Record, Version, Watermark};
use memory_resilience::{
    BulkheadConfig, CircuitBreakerConfig, RateLimitConfig, ResilienceExt, RetryConfig, TimeoutConfig,
};
use tokio::runtime::Runtime;

fn key() -> Key {
    Key::Watermark(LearnerId::new(uuid::Uuid::from_u128(1)))
}

async fn store() -> InMemoryStore {
    let store = InMemoryStore::new();
    let Key::Watermark(learner) = key() else { return store };
    let record = Record::Watermark(Watermark { learner, position: Version(1) });
    store.commit(&Batch::new().put(record)).await.unwrap();
    store
}

/// More than can be asked for.
fn unlimited() -> RateLimitConfig {
    RateLimitConfig::default().with_calls(1_000_000, Duration::from_millis(1)).with_burst(1_000_000)
}

/// The time that so many reads take, one after the other.
fn reading(runtime: &Runtime, store: &dyn MemoryStore, turns: u64) -> Duration {
    runtime.block_on(async {
        let keys = [key()];
        let begun = CpuTime::now();
        for _ in 0..turns {
            black_box(store.get(&keys).await.unwrap());
        }
        CpuTime::now() - begun
    })
}

fn decorators(criterion: &mut Criterion<CpuTime>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let bare = || runtime.block_on(store());
    let five = bare().timeout(TimeoutConfig::default()).unwrap();
    let five = five.circuit_breaker(CircuitBreakerConfig::default()).unwrap().rate_limit(unlimited()).unwrap();
    let five = five.retry(RetryConfig::default()).unwrap().bulkhead(BulkheadConfig::default()).unwrap();
    let stores: [(&str, Box<dyn MemoryStore>); 7] = [
        ("bare", Box::new(bare())),
        ("timeout", Box::new(bare().timeout(TimeoutConfig::default()).unwrap())),
        ("circuit breaker", Box::new(bare().circuit_breaker(CircuitBreakerConfig::default()).unwrap())),
        ("rate limit", Box::new(bare().rate_limit(unlimited()).unwrap())),
        ("retry", Box::new(bare().retry(RetryConfig::default()).unwrap())),
        ("bulkhead", Box::new(bare().bulkhead(BulkheadConfig::default()).unwrap())),
        ("all five", Box::new(five)),
    ];
    let mut group = criterion.benchmark_group("decorators/get");
    for (name, store) in stores {
        group.bench_function(name, |bencher| bencher.iter_custom(|turns| reading(&runtime, &*store, turns)));
    }
}

criterion_group! { name = benches; config = by_cpu_time(); targets = decorators }
criterion_main!(benches);
