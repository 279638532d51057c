//! How long 1,000 `Memory::record` at the same time take in an empty store, in wall time until the last is acknowledged.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use memory_benches::{Corpus, Form, StoreChoice, by_wall_time, record_at_once};
use memory_core::{Memory, Recording};
use tokio::runtime::Runtime;

const EPISODES: u32 = 1_000;

fn concurrent_episodes(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let corpus = Corpus::new(1);
    let recordings: Vec<Recording> =
        (0..EPISODES).map(|place| Recording::from(&*corpus.episode(place, Form::Whole).episode)).collect();
    let mut group = criterion.benchmark_group("concurrent_episodes");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(u64::from(EPISODES)));
    for (name, _) in StoreChoice::each("".as_ref()) {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|turns| (0..turns).map(|_| runtime.block_on(burst(name, &recordings))).sum());
        });
    }
}

/// The time that one burst takes, in a new store of this name.
async fn burst(name: &str, recordings: &[Recording]) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let (_, choice) = StoreChoice::each(folder.path()).into_iter().find(|(known, _)| *known == name).unwrap();
    let memory = Memory::builder().store(choice.open().await.unwrap()).seed(1).build().await.unwrap();
    let recordings = recordings.to_vec();
    let begun = Instant::now();
    record_at_once(&memory, recordings).await.unwrap();
    let took = begun.elapsed();
    memory.close().await.unwrap();
    took
}

criterion_group! { name = benches; config = by_wall_time(); targets = concurrent_episodes }
criterion_main!(benches);
