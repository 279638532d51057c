//! What an episode of 1,000 steps costs, in CPU time, over each store: recording it and learning from it, and reading it.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::cell::LazyCell;

use criterion::{Criterion, criterion_group, criterion_main};
use memory_benches::{CpuTime, Experienced, StoreChoice, Workload, by_cpu_time};
use memory_core::Recording;

const STEPS: usize = 1_000;
/// Episodes that were learned from before, and their steps.
const STORED: usize = 1_000;
const STORED_STEPS: usize = 8;

fn large_episodes(criterion: &mut Criterion<CpuTime>) {
    let folder = tempfile::tempdir().unwrap();
    let mut workload = Workload::new(1);
    let stored: Vec<Recording> = (0..STORED).map(|_| workload.episode(STORED_STEPS)).collect();
    let episodes: Vec<Recording> = (0..4).map(|_| workload.episode(STEPS)).collect();
    for (name, choice) in StoreChoice::each(folder.path()) {
        let store = async || choice.open().await.unwrap();
        let experienced = LazyCell::new(|| Experienced::new(store, stored.iter().cloned()).unwrap());
        criterion.benchmark_group("large_episodes/record and learn").bench_function(name, |bencher| {
            bencher.iter_custom(|turns| experienced.learning(&episodes, turns).unwrap());
        });
        criterion.benchmark_group("large_episodes/read").bench_function(name, |bencher| {
            bencher.iter_custom(|turns| experienced.reading(&episodes, turns).unwrap());
        });
    }
}

criterion_group! { name = benches; config = by_cpu_time(); targets = large_episodes }
criterion_main!(benches);
