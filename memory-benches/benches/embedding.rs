//! What the wrappers of embedders cost and bring, in wall time: a vector that the cache has, of a short and of a long text; and texts
//! a second from an embedder that is 20 ms away, asked one by one, and by 32 callers through batching.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory_benches::by_wall_time;
use memory_core::{Embedder, HashEmbedder, Result, Role, Vector, VectorSpace};
use memory_embed::{BatchingConfig, BatchingEmbedder, CacheConfig, CachedEmbedder};
use tokio::runtime::{Builder, Runtime};

/// An embedder that takes 20 ms for any number of texts.
#[derive(Debug)]
struct Distant(HashEmbedder, Vector);

impl Distant {
    fn new() -> Self {
        Self(HashEmbedder::new(), Vector::new(vec![0.5; HashEmbedder::DIMENSIONS]).unwrap())
    }
}

impl fmt::Display for Distant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distant")
    }
}

#[async_trait]
impl Embedder for Distant {
    fn space(&self) -> &VectorSpace {
        self.0.space()
    }

    async fn embed(&self, _role: Role, texts: &[&str]) -> Result<Vec<Vector>> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(vec![self.1.clone(); texts.len()])
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }
}

fn cached(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let embedder = CachedEmbedder::new(HashEmbedder::new(), CacheConfig::default()).unwrap();
    let mut group = criterion.benchmark_group("embedding/cached hit");
    for length in [50, 1_500] {
        let text = "word ".repeat(length / 5);
        group.bench_function(format!("{length} bytes"), |bencher| {
            bencher.iter(|| runtime.block_on(embedder.embed(Role::Query, &[&text])).unwrap());
        });
    }
}

fn batching(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let alone: Arc<dyn Embedder> = Arc::new(Distant::new());
    let batching: Arc<dyn Embedder> =
        Arc::new(BatchingEmbedder::new(Distant::new(), BatchingConfig::default()).unwrap());
    let mut group = criterion.benchmark_group("embedding/20 ms away");
    group.sample_size(10).throughput(Throughput::Elements(1));
    group.bench_function("one by one", |bencher| bencher.iter_custom(|texts| asking(&runtime, &alone, 1, texts)));
    group.bench_function("32 callers, batching", |bencher| {
        bencher.iter_custom(|texts| asking(&runtime, &batching, 32, texts));
    });
}

/// The time that so many texts take, shared by so many callers.
fn asking(runtime: &Runtime, embedder: &Arc<dyn Embedder>, callers: u64, texts: u64) -> Duration {
    let begun = Instant::now();
    runtime.block_on(async {
        let callers: Vec<_> = (0..callers.min(texts))
            .map(|caller| {
                let embedder = Arc::clone(embedder);
                tokio::spawn(async move {
                    for text in (caller..texts).step_by(usize::try_from(callers).unwrap()) {
                        embedder.embed(Role::Query, &[&format!("text {text}")]).await.unwrap();
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
    begun.elapsed()
}

criterion_group! { name = benches; config = by_wall_time(); targets = cached, batching }
criterion_main!(benches);
