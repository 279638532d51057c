//! What it costs to learn from one episode, in CPU time, and whether that depends on what is stored already.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::cell::LazyCell;
use std::collections::HashMap;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use memory_benches::{CpuTime, Experienced, Workload};
use memory_core::{Episode, InMemoryStore, Learner, MemoryStore, Pattern, PatternId, Recording};
use memory_storage_turso::TursoStore;

/// Steps of an episode, and how many different ones take turns.
const EPISODES: [(usize, usize); 2] = [(8, 64), (1_000, 4)];
/// Steps of the episodes that are stored.
const STORED_STEPS: usize = 8;

type Sum = HashMap<PatternId, Pattern>;

/// `Learner::observe`, and adding what it returns to the sum of 1,000 episodes: learning without a store.
fn fold(criterion: &mut Criterion<CpuTime>) {
    let learner = Learner::default();
    let mut workload = Workload::new(1);
    let mut sum = Sum::new();
    (0..1_000).for_each(|_| add(&mut sum, &learner.observe(&workload.completed(STORED_STEPS))));
    let mut group = criterion.benchmark_group("fold");
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

/// `Memory::record` and `Memory::project`, with 1,000 and with 100,000 episodes in memory.
fn in_memory(criterion: &mut Criterion<CpuTime>) {
    let store = async || Box::new(InMemoryStore::new()) as Box<dyn MemoryStore>;
    for stored in [1_000, 100_000] {
        let experienced = LazyCell::new(|| Experienced::new(store, stored_episodes(stored)));
        learning(criterion, "in-memory", stored, || &experienced);
    }
}

/// The same with 1,000 and with 20,000 episodes in a file.
fn turso(criterion: &mut Criterion<CpuTime>) {
    for stored in [1_000, 20_000] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let store = async || Box::new(TursoStore::open(path).await.unwrap()) as Box<dyn MemoryStore>;
        let experienced = LazyCell::new(|| Experienced::new(store, stored_episodes(stored)));
        learning(criterion, "turso", stored, || &experienced);
    }
}

fn stored_episodes(count: usize) -> impl Iterator<Item = Recording> {
    let mut workload = Workload::new(1);
    (0..count).map(move |_| workload.episode(STORED_STEPS))
}

/// Measures turns of a memory, which is not made before it is needed: making it takes long.
fn learning<'a>(
    criterion: &mut Criterion<CpuTime>,
    store: &str,
    stored: usize,
    experienced: impl Fn() -> &'a Experienced,
) {
    let mut group = criterion.benchmark_group(format!("{store}/{stored} stored"));
    for (steps, count) in EPISODES {
        // Episodes that come after those that are stored.
        let mut workload = Workload::new(1);
        (0..stored).for_each(|_| drop(workload.episode(STORED_STEPS)));
        let episodes: Vec<Recording> = (0..count).map(|_| workload.episode(steps)).collect();
        group.bench_function(BenchmarkId::new("steps", steps), |bencher| {
            bencher.iter_custom(|turns| experienced().learning(&episodes, turns));
        });
    }
}

fn by_cpu_time() -> Criterion<CpuTime> {
    Criterion::default().with_measurement(CpuTime).sample_size(20).measurement_time(Duration::from_secs(4))
}

criterion_group! { name = benches; config = by_cpu_time(); targets = fold, in_memory, turso }
criterion_main!(benches);
