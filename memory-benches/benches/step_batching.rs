//! What an episode of 100 steps costs from `Memory::start` to `OpenEpisode::complete`, in wall time: each step durable when it is
//! acknowledged, in batches of 50 or 5 s, and all of them with the completion.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory_benches::{StoreChoice, Workload, by_wall_time};
use memory_core::{Memory, Recording, StepDurability};
use tokio::runtime::Runtime;

const STEPS: usize = 100;

fn step_batching(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let ways = [
        ("each", StepDurability::Each),
        ("batched", StepDurability::batched()),
        ("at completion", StepDurability::AtCompletion),
    ];
    for (way, durability) in ways {
        let folder = tempfile::tempdir().unwrap();
        let mut group = criterion.benchmark_group(format!("step_batching/{way}"));
        group.throughput(Throughput::Elements(STEPS as u64));
        for (name, choice) in StoreChoice::each(folder.path()) {
            let mut workload = Workload::new(1);
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|turns| runtime.block_on(living(&choice, durability, &mut workload, turns)));
            });
        }
    }
}

/// The time that so many episodes take, one after the other.
async fn living(choice: &StoreChoice, durability: StepDurability, workload: &mut Workload, turns: u64) -> Duration {
    let builder = Memory::builder().store(choice.open().await.unwrap()).seed(1);
    let memory = builder.step_durability(durability).build().await.unwrap();
    let mut spent = Duration::ZERO;
    for _ in 0..turns {
        let Recording { task, steps, outcome, .. } = workload.episode(STEPS);
        let begun = Instant::now();
        let mut episode = memory.start(task).await.unwrap();
        for step in steps {
            episode.step(step).await.unwrap();
        }
        episode.complete(outcome).await.unwrap();
        spent += begun.elapsed();
    }
    memory.close().await.unwrap();
    spent
}

criterion_group! { name = benches; config = by_wall_time(); targets = step_batching }
criterion_main!(benches);
