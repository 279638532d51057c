//! What it costs to learn, in CPU time: observing an episode and adding what it shows, without a store; recording one and learning
//! from it, over each store; and deriving heuristics, by how many rows of habits there are.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::cell::LazyCell;
use std::collections::HashMap;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use memory_benches::{CpuTime, Experienced, StoreChoice, Workload, by_cpu_time};
use memory_core::{Episode, Learner, Pattern, PatternId, Recording, Task};

/// Steps of an episode, and how many different ones take turns.
const EPISODES: [(usize, usize); 2] = [(8, 64), (1_000, 4)];
/// Episodes that were learned from before, and their steps.
const STORED: usize = 1_000;
const STEPS: usize = 8;
/// Runs of each task when heuristics are derived: there is one row of habits for each task.
const RUNS: usize = 4;

type Sum = HashMap<PatternId, Pattern>;

/// `Learner::observe`, and adding what it returns to the sum of 1,000 episodes.
fn fold(criterion: &mut Criterion<CpuTime>) {
    let learner = Learner::default();
    let mut workload = Workload::new(1);
    let mut sum = Sum::new();
    (0..STORED).for_each(|_| add(&mut sum, &learner.observe(&workload.completed(STEPS))));
    let mut group = criterion.benchmark_group("heuristic_learning/fold");
    for (steps, count) in EPISODES {
        let episodes: Vec<Episode> = (0..count).map(|_| workload.completed(steps)).collect();
        group.bench_function(BenchmarkId::new("steps", steps), |bencher| {
            bencher.iter_custom(|turns| folding(&learner, &mut sum, &episodes, turns));
        });
    }
}

/// What each turn adds is taken away again, unmeasured.
fn folding(learner: &Learner, sum: &mut Sum, episodes: &[Episode], turns: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for (episode, _) in episodes.iter().cycle().zip(0..turns) {
        let start = CpuTime::now();
        let observed = learner.observe(episode);
        add(sum, &observed);
        spent += CpuTime::now() - start;
        for pattern in &observed {
            sum.get_mut(&pattern.id).unwrap().subtract(pattern).unwrap();
        }
    }
    spent
}

fn add(sum: &mut Sum, observed: &[Pattern]) {
    for pattern in observed {
        match sum.get_mut(&pattern.id) {
            Some(known) => known.add(pattern),
            None => drop(sum.insert(pattern.id, pattern.clone())),
        }
    }
}

/// `Memory::record` and `Memory::project` of an episode of eight steps.
fn record_and_learn(criterion: &mut Criterion<CpuTime>) {
    let folder = tempfile::tempdir().unwrap();
    let mut workload = Workload::new(1);
    let stored: Vec<Recording> = (0..STORED).map(|_| workload.episode(STEPS)).collect();
    let episodes: Vec<Recording> = (0..64).map(|_| workload.episode(STEPS)).collect();
    let mut group = criterion.benchmark_group("heuristic_learning/record and learn");
    for (name, choice) in StoreChoice::each(folder.path()) {
        let store = async || choice.open().await.unwrap();
        let experienced = LazyCell::new(|| Experienced::new(store, stored.iter().cloned()).unwrap());
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|turns| experienced.learning(&episodes, turns).unwrap())
        });
    }
}

/// `Memory::heuristics` after one more episode, with 1,000 and with 10,000 tasks that were run four times each.
fn derive(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("heuristic_learning/derive");
    group.sample_size(10);
    for rows in [1_000, 10_000] {
        let mut workload = Workload::new(2);
        let tasks: Vec<Task> = (0..rows).map(|_| workload.new_task()).collect();
        let mut run = |task: &Task| workload.run(task.clone(), STEPS);
        let more: Vec<Recording> = tasks.iter().take(16).map(&mut run).collect();
        let episodes: Vec<Recording> = (0..RUNS).flat_map(|_| &tasks).map(run).collect();
        let store = async || StoreChoice::Memory.open().await.unwrap();
        let experienced = LazyCell::new(|| Experienced::new(store, episodes.iter().cloned()).unwrap());
        group.bench_function(BenchmarkId::new("rows", rows), |bencher| {
            bencher.iter_custom(|turns| experienced.deriving(&more, turns).unwrap());
        });
    }
}

criterion_group! { name = benches; config = by_cpu_time(); targets = fold, record_and_learn, derive }
criterion_main!(benches);
