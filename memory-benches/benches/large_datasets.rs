//! What it costs to record, to recall and to open when 10,000 and 100,000 episodes are stored, in wall time, over each store.
//!
//! A store is filled when the first benchmark of it runs: 100,000 take a minute or so.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use memory_benches::{Corpus, Form, StoreChoice, by_wall_time, record_at_once};
use memory_core::{Memory, Recording, Task};
use tokio::runtime::Runtime;

/// How many are recorded at the same time while a store is filled.
const TOGETHER: usize = 1_000;
/// How many are recalled.
const K: usize = 10;

/// Makes what is stored and what is looked for.
struct Made {
    corpus: Corpus,
    tasks: Vec<Task>,
}

impl Made {
    fn new() -> Self {
        let corpus = Corpus::new(1);
        let tasks = corpus.queries().iter().map(|query| Task::new(&query.text)).collect();
        Self { corpus, tasks }
    }

    fn recording(&self, place: u32) -> Recording {
        Recording::from(&*self.corpus.episode(place, Form::Whole).episode)
    }
}

fn large_datasets(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let made: LazyCell<Made> = LazyCell::new(Made::new);
    for size in [10_000, 100_000] {
        let folder = tempfile::tempdir().unwrap();
        for (name, choice) in StoreChoice::each(folder.path()) {
            measure(criterion, &runtime, &made, size, name, &choice);
        }
    }
}

fn measure(
    criterion: &mut Criterion,
    runtime: &Runtime,
    made: &LazyCell<Made>,
    size: u32,
    name: &str,
    choice: &StoreChoice,
) {
    let mut group = criterion.benchmark_group(format!("large_datasets/{size} stored/{name}"));
    let filled = LazyCell::new(|| runtime.block_on(fill(choice, made, size)));
    if choice.file().is_some() {
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.bench_function("open and recall", |bencher| {
            LazyCell::force(&filled);
            bencher.iter_custom(|turns| (0..turns).map(|_| runtime.block_on(opening(choice, &made.tasks[0]))).sum());
        });
        group.sample_size(20).sampling_mode(SamplingMode::Auto);
    }
    let memory = LazyCell::new(|| match &*filled {
        Some(memory) => memory.clone(),
        None => runtime.block_on(build(choice)),
    });
    let mut tasks = (0..).map(|turn: usize| &made.tasks[turn % made.tasks.len()]);
    group.bench_function("recall", |bencher| {
        bencher.iter(|| black_box(runtime.block_on(memory.recall(tasks.next().unwrap(), K)).unwrap()));
    });
    let mut next = (size..).map(|place| made.recording(place));
    group.bench_function("record", |bencher| {
        let next = || next.next().unwrap();
        bencher.iter_batched(next, |recording| runtime.block_on(record(&memory, recording)), BatchSize::SmallInput);
    });
}

/// Fills a new store, and closes it if it is in a file.
async fn fill(choice: &StoreChoice, made: &Made, size: u32) -> Option<Memory> {
    let memory = build(choice).await;
    let places: Vec<u32> = (0..size).collect();
    for places in places.chunks(TOGETHER) {
        record_at_once(&memory, places.iter().map(|place| made.recording(*place))).await.unwrap();
    }
    memory.project().await.unwrap();
    if choice.file().is_none() {
        return Some(memory);
    }
    memory.close().await.unwrap();
    None
}

async fn build(choice: &StoreChoice) -> Memory {
    Memory::builder().store(choice.open().await.unwrap()).seed(1).build().await.unwrap()
}

/// From the closed file to what is recalled from it.
async fn opening(choice: &StoreChoice, task: &Task) -> Duration {
    let begun = Instant::now();
    let memory = build(choice).await;
    black_box(memory.recall(task, K).await.unwrap());
    let took = begun.elapsed();
    memory.close().await.unwrap();
    took
}

/// Until it is learned from.
async fn record(memory: &Memory, recording: Recording) {
    memory.record(recording).await.unwrap();
    memory.project().await.unwrap();
}

criterion_group! { name = benches; config = by_wall_time(); targets = large_datasets }
criterion_main!(benches);
