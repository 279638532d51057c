//! What it costs to derive heuristics, in CPU time, by how many rows of habits there are.

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use memory_benches::{CpuTime, Experienced, Workload};
use memory_core::{InMemoryStore, MemoryStore, Recording, Task};

/// Runs of each task: there is one row of habits for each task.
const RUNS: usize = 4;

/// `Memory::heuristics` after one more episode, with 1,000 and with 10,000 tasks that were run four times each.
fn derive(criterion: &mut Criterion<CpuTime>) {
    let store = async || Box::new(InMemoryStore::new()) as Box<dyn MemoryStore>;
    let mut group = criterion.benchmark_group("derive");
    for rows in [1_000, 10_000] {
        let mut workload = Workload::new(2);
        let tasks: Vec<Task> = (0..rows).map(|_| workload.new_task()).collect();
        let mut run = |task: &Task| workload.run(task.clone(), 8);
        let more: Vec<Recording> = tasks.iter().take(16).map(&mut run).collect();
        let episodes: Vec<Recording> = (0..RUNS).flat_map(|_| &tasks).map(run).collect();
        let experienced = LazyCell::new(|| Experienced::new(store, episodes.iter().cloned()));
        group.bench_function(BenchmarkId::new("rows", rows), |bencher| {
            bencher.iter_custom(|turns| experienced.deriving(&more, turns));
        });
    }
}

fn by_cpu_time() -> Criterion<CpuTime> {
    Criterion::default().with_measurement(CpuTime).sample_size(10).measurement_time(Duration::from_secs(5))
}

criterion_group! { name = benches; config = by_cpu_time(); targets = derive }
criterion_main!(benches);
